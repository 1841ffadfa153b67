"""A small language for rollouts: apply, send traffic, change the version, wait until, expect.

A test reads as what a person would do and see; how it is looked up is here, once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.gateway.install import Gateway
from tests.e2e.kubectl import (
    NO_GATES,
    Object,
    apply,
    client_pod,
    condition,
    create,
    delete,
    events,
    eventually,
    find,
    items,
    kubectl,
    patch,
    pinn,
    read,
    report_in,
    revision_of,
    wait_ready,
)

LOAD = (Path(__file__).parent / "load.py").read_text()

END_SECONDS = 15

QUICK = [{"weight": 20, "hold": "10s"}, {"weight": 60, "hold": "10s"}, {"weight": 100, "hold": "10s"}]
"""Steps that a test has the time for."""


def only(**promote: str) -> Object:
    """The service levels with these promotion gates and no others."""
    return {**NO_GATES, "promote": {**NO_GATES["promote"], **promote}}


@dataclass(frozen=True)
class Service:
    """One object behind the gateway, under a host name of its own."""

    namespace: str
    gateway: Gateway
    name: str = "pricer"

    @property
    def host(self) -> str:
        return f"{self.name}.{self.namespace}.example"

    # --- What a person does ---

    def starts(self, version: str = "1.0.0", **spec: Any) -> str:
        """Apply it and wait until it serves; the name of its first revision."""
        traffic = {"gateway": {"parentRefs": [self.gateway.parent()], "hostnames": [self.host]}}
        metrics = {"interval": "2s"}
        wanted = {"traffic": traffic, "metrics": metrics, "rollout": {"steps": QUICK}, **spec}
        apply(pinn(self.name, version, **wanted), self.namespace)
        return revision_of(wait_ready(self.namespace, self.name))

    def change(self, **spec: Any) -> None:
        """A merge patch of the spec."""
        patch("pinndeployment", self.name, self.namespace, {"spec": spec})

    def rolls_out(self, version: str, **spec: Any) -> None:
        self.change(model={"version": version}, **spec)

    def says(self, verb: str, which: str = "once") -> None:
        """Annotate it with a person's request about the revision on its way, or the one that was sent back."""
        status = self.status
        about = status.get("canary", {}).get("revision") or status["rejected"][-1]["revision"]
        kubectl("-n", self.namespace, "annotate", "--overwrite", "pinn", self.name, f"pinn.dev/{verb}={about}@{which}")

    @contextmanager
    def under_load(self, rate: int, seconds: int, *options: str, noise: float = 0.0) -> Iterator[Load]:
        """Requests through the gateway while the block runs, at most for so long; their report is there after it."""
        load = Load(self.namespace, noise)
        load.starts(self.gateway.url(), rate, seconds, "--host", self.host, *options)
        try:
            yield load
        finally:
            load.finishes()

    # --- What a person sees ---

    @property
    def obj(self) -> Object:
        return read(self.namespace, self.name) or {}

    @property
    def status(self) -> Object:
        return dict(self.obj.get("status", {}))

    def progressing(self) -> str:
        """The reason of the condition, and the sentence."""
        found = condition(self.obj, "Progressing") or {}
        return f"{found.get('reason', '')}: {found.get('message', '')}"

    def until_weight(self, weight: int, seconds: float = 90) -> None:
        eventually(lambda: self.status.get("canary", {}).get("weight") == weight, seconds, why=lambda: self.status)

    def until_said(self, text: str, seconds: float = 60) -> str:
        """Wait until the condition Progressing says so."""

        def said() -> str | None:
            found = self.progressing()
            return found if text in found else None

        return eventually(said, seconds, why=lambda: self.status)

    def until_promoted(self, version: str, seconds: float = 180) -> Object:
        return wait_ready(self.namespace, self.name, version, seconds)

    def until_rolled_back(self, seconds: float = 120) -> str:
        """Wait for it; the sentence about it."""

        def stalled() -> str | None:
            found = condition(self.obj, "Stalled")
            return str(found["message"]) if found and found["reason"] == "RolledBack" else None

        return eventually(stalled, seconds, why=lambda: self.status)

    def weights(self) -> dict[str, int]:
        """What the gateway was told, by backend."""
        route = find("httproute", self.name, self.namespace) or {}
        rules = route.get("spec", {}).get("rules") or [{}]
        return {one["name"]: one["weight"] for one in rules[-1].get("backendRefs", ())}

    def pods(self, revision: str) -> set[str]:
        return {pod["metadata"]["uid"] for pod in items("pods", self.namespace, f"pinn.dev/revision={revision}")}

    def history(self) -> list[tuple[str, str]]:
        return [(one["modelVersion"], one["outcome"]) for one in self.status.get("history", ())]

    def report(self) -> Object:
        """The certificate of the last rollout, which must pass the check that a user would make."""
        name = self.status["history"][-1]["report"]
        found = find("configmap", name, self.namespace)
        assert found is not None, f"there is no report {name}"
        assert found["immutable"]
        command = [sys.executable, "-m", "pinn_operator", "verify", "-"]
        subprocess.run(command, input=json.dumps(found), text=True, check=True, capture_output=True)
        return dict(json.loads(found["data"]["certificate.json"]))

    def told(self, reason: str) -> list[str]:
        return events(self.namespace, reason)


class Load:
    """Requests from a pod."""

    def __init__(self, namespace: str, noise: float = 0.0) -> None:
        self.namespace = namespace
        self.noise = noise
        self.report: Object = {}
        self.printed: subprocess.Popen[str] | None = None

    def starts(self, url: str, rate: int, seconds: int, *options: str) -> None:
        delete("pod", "load", self.namespace, wait=True)
        pod = client_pod("load", "-c", LOAD, url, str(rate), str(seconds), *options)
        pod["spec"]["containers"][0]["env"] = [{"name": "NOISE", "value": str(self.noise)}]
        create(pod, self.namespace)
        kubectl("-n", self.namespace, "wait", "pod/load", "--for=condition=Ready", "--timeout=60s")
        logs = ["kubectl", "-n", self.namespace, "logs", "-f", "load"]
        self.printed = subprocess.Popen(logs, stdout=subprocess.PIPE, text=True)

    def finishes(self) -> None:
        """End it, unless its time is over already, and read what it came to."""
        assert self.printed is not None
        kubectl("-n", self.namespace, "delete", "pod", "load", "--wait=false", f"--grace-period={END_SECONDS}")
        text, _ = self.printed.communicate(timeout=2 * END_SECONDS)
        self.report = report_in(text)

    @property
    def failed(self) -> int:
        return int(self.report["failed"])

    def answered(self, version: str) -> int:
        return int(self.report["versions"].get(version, 0))
