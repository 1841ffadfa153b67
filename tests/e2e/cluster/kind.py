# Drives kind: creates, deletes and loads images into its cluster, through an engine that is either the
# machine's (way 2) or our own (way 3). The difference is in the environment and in a prefix of the command.
from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .archive import images_in
from .errors import ClusterError
from .proc import output_of, run_logged, say, succeeds

MINUTE = 60.0
POD_SUBNET = "198.18.208.0/20"
SERVICE_SUBNET = "198.18.224.0/20"


def configuration(nodes: int) -> dict[str, Any]:
    """kind's configuration: one control plane, the rest workers. JSON, which is YAML too."""
    roles = ["control-plane", *["worker"] * (nodes - 1)]
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {"podSubnet": POD_SUBNET, "serviceSubnet": SERVICE_SUBNET, "ipFamily": "ipv4"},
        "nodes": [{"role": role} for role in roles],
    }


@dataclass(frozen=True)
class Kind:
    program: Path
    name: str
    kubeconfig: Path
    logs: Path
    env: Mapping[str, str]
    inside: Callable[[Sequence[str | Path]], list[str]]

    def _kind(self, *arguments: str | Path) -> list[str]:
        return self.inside([self.program, *arguments])

    def nodes(self) -> list[str]:
        """The cluster's node containers; none when there is no such cluster."""
        return output_of(self._kind("get", "nodes", "--name", self.name), env=self.env).split()

    def ready_nodes(self, kubectl: Path) -> int:
        """How many nodes the API server calls Ready; 0 when it does not answer."""
        template = '{range .items[*].status.conditions[?(@.type=="Ready")]}{.status} {end}'
        command: list[str | Path] = [
            kubectl,
            "--kubeconfig",
            self.kubeconfig,
            "get",
            "nodes",
            "--request-timeout=5s",
            "-o",
        ]
        wanted = self.inside([*command, f"jsonpath={template}"])
        if not self.kubeconfig.exists() or not succeeds(wanted, env=self.env):
            return 0
        return output_of(wanted, env=self.env).split().count("True")

    def create(self, nodes: int, image: str | None) -> None:
        config = self.logs / "kind.json"
        config.write_text(json.dumps(configuration(nodes), indent=2))
        arguments: list[str | Path] = ["create", "cluster", "--name", self.name, "--config", config]
        arguments += ["--kubeconfig", self.kubeconfig, "--wait", "180s", "--retain"]
        if image is not None:
            arguments += ["--image", image]
        run_logged(
            self._kind(*arguments),
            what=f"creating a cluster of {nodes} node{'s' if nodes > 1 else ''}",
            log=self.logs / "kind.log",
            limit=(10 if image is None else 6) * MINUTE,
            expected=30 + 5 * nodes,
            env=self.env,
        )

    def delete(self) -> None:
        run_logged(
            self._kind("delete", "cluster", "--name", self.name, "--kubeconfig", self.kubeconfig),
            what="deleting the cluster",
            log=self.logs / "kind.log",
            limit=3 * MINUTE,
            expected=5,
            env=self.env,
        )

    def has(self, node: str, name: str, image_id: str) -> bool:
        """Whether a node has just this image by that name."""
        try:
            told = output_of(["docker", "exec", node, "crictl", "inspecti", "-o", "json", name], env=self.env)
        except ClusterError:
            return False
        return bool(json.loads(told)["status"]["id"] == image_id)

    def load(self, archive: Path) -> None:
        """Load an archive, unless every node has all its images: some are gigabytes."""
        images = images_in(archive)
        if images and all(self.has(node, *image) for node in self.nodes() for image in images.items()):
            say(f"the nodes have {', '.join(images)} already")
            return
        run_logged(
            self._kind("load", "image-archive", "--name", self.name, archive),
            what=f"loading {', '.join(images) or archive.name} into the nodes",
            log=self.logs / "load.log",
            limit=10 * MINUTE,
            expected=5,
            env=self.env,
        )
