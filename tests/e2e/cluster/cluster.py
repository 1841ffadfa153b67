# The cluster as the tests see it: up, down, a kubeconfig, commands that run where it is reachable, and
# images loaded into it. Which of the three ways it came by is decided here and hidden behind this.
from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import go, node_image
from .cache import Cache, remove_tree
from .engine import Engine
from .errors import ClusterError
from .kind import Kind
from .proc import output_of, run_logged, say, succeeds
from .ways import Way, choose, look

DEFAULT_NAME = os.environ.get("PINN_CLUSTER", "pinn")
MINUTE = 60.0


@dataclass(frozen=True)
class Status:
    way: Way
    running: bool
    nodes: int
    kubeconfig: Path
    detail: str


class Cluster:
    def __init__(self, name: str = DEFAULT_NAME, *, cache: Cache | None = None, way: Way | None = None) -> None:
        self.name = name
        self.cache = cache or Cache()
        self.state = self.cache.root / "state" / name
        self._way = way
        self.engine = Engine(self.cache, self.state, name)

    @property
    def way(self) -> Way:
        """A running engine of our own decides; else what is found on the machine."""
        if self._way is None:
            self._way = Way.OWN if self.engine.init() else choose(look())
        return self._way

    @property
    def kubeconfig(self) -> Path:
        if self.way is Way.GIVEN:
            return Path(os.environ["KUBECONFIG_E2E"])
        return self.state / "kubeconfig"

    # Life cycle

    def up(self, nodes: int = 1) -> None:
        """Bring the cluster up, or do nothing if it is: whatever state a crash has left."""
        if self.way is Way.GIVEN:
            self._check_given()
            return
        with self._locked():
            say(f"using {self.way.value}")
            if self._in_order(nodes):
                say(f"it is up already, with {nodes} node{'s' if nodes > 1 else ''}")
                return
            image = self._prepare_engine() if self.way is Way.OWN else os.environ.get("E2E_NODE_IMAGE")
            self._make_kind_cluster(nodes, image)
            self._remember(nodes)

    def down(self) -> None:
        """Remove everything but the cache; safe at any time and when nothing runs."""
        if os.environ.get("KUBECONFIG_E2E"):
            say("the cluster that KUBECONFIG_E2E names is not ours to remove")
            return
        with self._locked():
            self._delete_kind_cluster()
            self.engine.stop()
            if self.state.exists():
                remove_tree(self.state)

    def status(self) -> Status:
        if self.way is Way.GIVEN:
            running = succeeds([self.kubectl(), "--kubeconfig", self.kubeconfig, "get", "nodes"])
            return Status(self.way, running, 0, self.kubeconfig, "answers" if running else "does not answer")
        if self.way is Way.OWN and not self.engine.answers():
            return Status(self.way, False, 0, self.kubeconfig, "the engine does not run")
        if self._kind_if_built() is None:
            return Status(self.way, False, 0, self.kubeconfig, "kind was never built here")
        kind = self.kind()
        containers = kind.nodes()
        ready = kind.ready_nodes(self.kubectl()) if containers else 0
        running = bool(containers) and ready == len(containers)
        return Status(self.way, running, ready, self.kubeconfig, f"{ready} of {len(containers)} nodes are ready")

    def _locked(self) -> Any:
        return self.cache.lock(f"cluster-{self.name}")

    def _check_given(self) -> None:
        if not self.kubeconfig.is_file():
            raise ClusterError(f"KUBECONFIG_E2E={self.kubeconfig}: no such file")
        output_of([self.kubectl(), "--kubeconfig", self.kubeconfig, "get", "nodes", "--request-timeout=20s"])

    def _prepare_engine(self) -> str:
        tools = self.engine.tools()
        image, archive = node_image.node_archive(self.cache, tools)
        self.engine.start(go.coredns_program(self.cache))
        self.engine.load(archive, image)
        return image

    def _in_order(self, nodes: int) -> bool:
        """Whether the cluster asked for runs, found out without building anything."""
        if self.way is Way.OWN and not self.engine.answers():
            return False
        if not (self.state / "cluster.json").exists():
            return False  # never finished
        kind = self.kind()
        return len(kind.nodes()) == nodes == kind.ready_nodes(self.kubectl())

    def _make_kind_cluster(self, nodes: int, image: str | None) -> None:
        kind = self.kind()
        if there := kind.nodes():
            say(f"replacing a cluster of {len(there)}: not finished, not in order or not {nodes} as asked for")
            kind.delete()
        (self.state / "cluster.json").unlink(missing_ok=True)
        kind.create(nodes, image)
        self._wait_for_system_pods()

    def _wait_for_system_pods(self) -> None:
        """kind waits for the nodes; scheduling and name resolution need these as well."""
        command: list[str | Path] = [self.kubectl(), "--kubeconfig", self.kubeconfig, "--namespace", "kube-system"]
        run_logged(
            self.inside([*command, "wait", "--for=condition=Ready", "pods", "--all", "--timeout=180s"]),
            what="waiting for the system's pods",
            log=self.state / "kind.log",
            limit=4 * MINUTE,
            expected=10,
            env=self.env(),
        )

    def _delete_kind_cluster(self) -> None:
        """By kind where its engine answers. Our own engine takes everything along when it stops."""
        if not self._remembered() or self.engine.init():
            return
        if self.way is Way.ENGINE:
            self.kind().delete()

    def _remember(self, nodes: int) -> None:
        (self.state / "cluster.json").write_text(json.dumps({"way": self.way.name, "nodes": nodes}))

    def _remembered(self) -> bool:
        return self.state.exists()

    # Use

    def env(self) -> dict[str, str]:
        """For commands that use the cluster: KUBECONFIG, kubectl on PATH, and the engine if it is ours."""
        env = self.engine.env() if self.way is Way.OWN else dict(os.environ)
        env["KUBECONFIG"] = str(self.kubeconfig)
        kubectl = self.kubectl()
        if shutil.which("kubectl") != str(kubectl):
            env["PATH"] = f"{kubectl.parent}:{env.get('PATH', '')}"
        return env

    def inside(self, argv: Sequence[str | Path]) -> list[str]:
        """The command line by which `argv` runs where the cluster is reachable."""
        return self.engine.inside(argv) if self.way is Way.OWN else [str(a) for a in argv]

    def run(self, argv: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[Any]:
        """`subprocess.run` where the cluster is reachable; `env` adds to the environment."""
        env = self.env() | dict(options.pop("env", None) or {})
        options.setdefault("check", True)
        return subprocess.run(self.inside(argv), env=env, **options)

    def exec(self, argv: Sequence[str | Path]) -> None:
        """Become the command: its exit status and its signals are then this process's own."""
        command = self.inside(argv)
        env = self.env()
        try:
            os.execvpe(command[0], command, env)  # noqa: S606  # a shell would be one process too many
        except OSError as error:
            raise ClusterError(f"{command[0]}: {error.strerror}") from error

    def load(self, *archives: Path) -> None:
        """Make the images in archives known to the cluster's nodes."""
        for archive in archives:
            if not archive.is_file():
                raise ClusterError(f"{archive}: no such file")
        with self._locked():
            for archive in archives:
                if self.way is Way.GIVEN:
                    self._load_given(archive)
                else:
                    self.kind().load(archive.absolute())

    def _load_given(self, archive: Path) -> None:
        command = os.environ.get("E2E_LOAD")
        if not command:
            raise ClusterError(
                "KUBECONFIG_E2E names a cluster of yours: its nodes must be able to pull the images, "
                "or E2E_LOAD must name a command that loads the archive given as its argument"
            )
        log = self.cache.logs / "load.log"
        argv: list[str | Path] = [*shlex.split(command), archive]
        run_logged(argv, what=f"loading {archive.name} with E2E_LOAD", log=log, limit=15 * MINUTE, env=self.env())

    # Tools

    def kubectl(self) -> Path:
        """kubectl from PATH if it is recent enough, else the one built with the node's programs."""
        if on_path := go.kubectl_on_path():
            return on_path
        link = self.cache.root / "bin" / "kubectl"
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)  # it may point to a version that was replaced
            link.symlink_to(go.node_programs(self.cache) / "nodebin")
        return link

    def kind(self) -> Kind:
        self.state.mkdir(parents=True, exist_ok=True)
        env = self.engine.env() if self.way is Way.OWN else dict(os.environ)
        env["KIND_EXPERIMENTAL_PROVIDER"] = "docker"
        program = go.kind_program(self.cache)
        return Kind(program, self.name, self.state / "kubeconfig", self.state, env, self.inside)

    def _kind_if_built(self) -> Path | None:
        if on_path := shutil.which("kind"):
            return Path(on_path)
        built = sorted((self.cache.root / "artefacts").glob("kind-*/kind"))
        return built[0] if built else None


@contextmanager
def running(name: str = DEFAULT_NAME, nodes: int = 1) -> Iterator[Cluster]:
    """A cluster for the duration of a block; it stays up afterwards if it was up before."""
    cluster = Cluster(name)
    was_up = cluster.status().running
    cluster.up(nodes)
    try:
        yield cluster
    finally:
        if not was_up:
            cluster.down()
