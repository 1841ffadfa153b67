# A container engine of our own: Debian's dockerd, not installed but unpacked, in network, mount and pid
# namespaces without an uplink. Killing the namespaces' first process ends everything in them, so that
# nothing can be left running; only cgroups and files remain to be removed.
from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from . import debian
from .cache import Cache
from .errors import ClusterError
from .proc import output_of, run_logged, say, succeeds, wait_until

PACKAGES = ["docker.io", "containerd", "runc", "iptables"]
# All of it within 198.18.0.0/15, which is set aside for tests: it can hide no real network.
BRIDGE_ADDRESS = "198.18.192.1"
BRIDGE = f"{BRIDGE_ADDRESS}/24"
ADDRESS_POOL = "base=198.18.128.0/18,size=24"
KIND_NETWORK = "198.18.128.0/24"
CAP_SYS_RESOURCE = 24
LONGEST_SOCKET_PATH = 100
CGROUPS = Path("/sys/fs/cgroup")
MINUTE = 60.0

# Becomes the first process of the new namespaces. /run is the engine's own there, so that it meets no
# engine of the machine's; sysctls under net/ belong to the new network namespace.
START_SCRIPT = """
set -eu
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
ip link set lo up
sysctl -qw net.ipv4.ip_forward=1
exec dockerd "$@"
"""

RUNC_WRAPPER = """#!/bin/bash
# Root on this machine lacks CAP_SYS_RESOURCE, and runc fails when it is to grant it, as dockerd asks for
# every privileged container: strike it from the request.
previous=
for argument in "$@"; do
  case $previous in
    --bundle | -b) request=$argument/config.json ;;
    --process | -p) request=$argument ;;
    *) request= ;;
  esac
  if [ -n "$request" ] && [ -f "$request" ]; then
    sed -i -e 's/"CAP_SYS_RESOURCE",//g' -e 's/,"CAP_SYS_RESOURCE"//g' "$request"
  fi
  previous=$argument
done
exec "{runc}" "$@"
"""

RESOLVER_CONFIG = f"""
.:53 {{
  bind {BRIDGE_ADDRESS}
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
"""


def has_capability(status: str, number: int) -> bool:
    """Whether /proc/PID/status grants a capability."""
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


@dataclass(frozen=True)
class Init:
    """The first process of the engine's namespaces, told from a later process of the same number by its start."""

    pid: int
    started: str

    def alive(self) -> bool:
        return start_time(self.pid) == self.started


def start_time(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


class Engine:
    def __init__(self, cache: Cache, state: Path, name: str) -> None:
        self.cache = cache
        self.state = state
        self.cgroup = f"{name}-e2e"
        self.socket = state / "docker.sock"
        self.data = state / "docker"
        self.log = state / "dockerd.log"
        self.record = state / "engine.json"

    def tools(self) -> Path:
        """dockerd, containerd, runc and iptables, unpacked from Debian's packages."""
        return debian.unpacked(self.cache, "engine", PACKAGES)

    def init(self) -> Init | None:
        """The running engine's first process; None when it does not run."""
        try:
            recorded = json.loads(self.record.read_text())
        except (FileNotFoundError, ValueError):
            return None
        init = Init(recorded["pid"], recorded["started"])
        return init if init.alive() else None

    def answers(self) -> bool:
        return self.init() is not None and succeeds(["docker", "version"], env=self.env())

    def env(self) -> dict[str, str]:
        """For clients: the docker command of the machine or ours, talking to this engine."""
        env = dict(os.environ)
        for name in ("DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
            env.pop(name, None)
        env["DOCKER_HOST"] = f"unix://{self.socket}"
        env["DOCKER_CONFIG"] = str(self.state / "docker-config")
        if shutil.which("docker") is None:
            env["PATH"] = f"{env.get('PATH', '')}:{self.tools() / 'usr/bin'}"
        return env

    def inside(self, argv: Iterable[str | Path]) -> list[str]:
        """The command line that runs `argv` in the engine's network namespace."""
        init = self.init()
        if init is None:
            raise ClusterError("the engine does not run; start it with `up`")
        return ["nsenter", f"--net=/proc/{init.pid}/ns/net", "--", *map(str, argv)]

    def start(self, coredns: Path) -> None:
        if self.answers():
            return
        self.stop()  # what an interrupted start or a crash has left
        if len(str(self.socket)) > LONGEST_SOCKET_PATH:
            raise ClusterError(f"{self.socket}: too long for a socket's path; set PINN_CACHE_DIR to a shorter folder")
        self.state.mkdir(parents=True, exist_ok=True)
        self.log.unlink(missing_ok=True)
        self._launch(self._dockerd_environment())
        wait_until(self.answers, what="starting the engine", log=self.log, limit=MINUTE, expected=3)
        self._start_resolver(coredns)
        self._make_network()

    def _dockerd_environment(self) -> dict[str, str]:
        tools = self.tools()
        env = debian.tools_environment(tools)
        if not has_capability(Path("/proc/self/status").read_text(), CAP_SYS_RESOURCE):
            runc = shutil.which("runc", path=env["PATH"])
            if runc is None:
                raise ClusterError(f"no runc in {tools} nor on PATH")
            wrapper = self.state / "bin" / "runc"
            wrapper.parent.mkdir(exist_ok=True)
            wrapper.write_text(RUNC_WRAPPER.replace("{runc}", runc))
            wrapper.chmod(0o755)
            env["PATH"] = f"{wrapper.parent}:{env['PATH']}"
        return env

    def _launch(self, env: dict[str, str]) -> None:
        options = ["--data-root", self.data, "--exec-root", "/run/docker", "--pidfile", "/run/docker.pid"]
        options += ["--host", f"unix://{self.socket}", "--bip", BRIDGE, "--default-address-pool", ADDRESS_POOL]
        options += ["--dns", BRIDGE_ADDRESS, "--cgroup-parent", f"/{self.cgroup}", "--config-file", self._config()]
        options += ["--exec-opt", "native.cgroupdriver=cgroupfs", "--oom-score-adjust", "0"]
        command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
        command += ["sh", "-c", START_SCRIPT, "dockerd", *map(str, options)]
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal that started it is not meant for it.
            launcher = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd="/", start_new_session=True
            )
        deadline = time.monotonic() + 10
        while (child := first_child(launcher.pid)) is None:
            if launcher.poll() is not None or time.monotonic() > deadline:
                raise ClusterError(f"the engine's namespaces could not be made; log: {self.log}")
            time.sleep(0.05)
        self._write_record(child)

    def _config(self) -> Path:
        """An empty configuration: the machine's /etc/docker/daemon.json is for another engine."""
        config = self.state / "daemon.json"
        config.write_text("{}\n")
        return config

    def _write_record(self, pid: int) -> None:
        temporary = self.record.with_suffix(".tmp")
        temporary.write_text(json.dumps({"pid": pid, "started": start_time(pid)}))
        temporary.rename(self.record)

    def _start_resolver(self, coredns: Path) -> None:
        """Answer every name with NXDOMAIN on the bridge: without it each look-up would wait for a time-out."""
        init = self.init()
        if init is None:
            raise ClusterError(f"the engine stopped; log: {self.log}")
        config = self.state / "resolver.conf"
        config.write_text(RESOLVER_CONFIG)
        with (self.state / "resolver.log").open("wb") as log:
            subprocess.Popen(
                ["nsenter", f"--target={init.pid}", "--net", "--pid", "--", coredns, "-conf", config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )

    def _make_network(self) -> None:
        """kind's network, made beforehand because kind would add IPv6 addresses of its own choice."""
        name = ["docker", "network", "inspect", "kind"]
        if not succeeds(name, env=self.env()):
            output_of(["docker", "network", "create", "--subnet", KIND_NETWORK, "kind"], env=self.env())

    def load(self, archive: Path, image: str) -> None:
        if succeeds(["docker", "image", "inspect", image], env=self.env()):
            return
        run_logged(
            ["docker", "load", "--input", archive],
            what="loading the node image into the engine",
            log=self.state / "load.log",
            limit=10 * MINUTE,
            expected=15,
            env=self.env(),
        )

    def stop(self) -> None:
        """End everything in the namespaces and remove what outlives them. Safe to call at any time."""
        if not self.state.exists():
            return
        for pid in self._processes():
            say(f"stopping the engine (process {pid})")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # unshare and a namespace's first process ignore gentler ones
        deadline = time.monotonic() + 30
        while self._processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        if left := self._processes():
            raise ClusterError(f"the engine's processes {left} do not end")
        remove_cgroups(CGROUPS, self.cgroup)
        run_logged(
            ["rm", "-rf", "--one-file-system", self.data],
            what="removing the engine's data",
            log=self.cache.logs / "engine.log",
            limit=10 * MINUTE,
            expected=10,
        )
        self.socket.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    def _processes(self) -> list[int]:
        """Launchers and daemons of this engine, known by its data folder: also those of which no record was made."""
        return processes_with_argument(Path("/proc"), str(self.data))


def processes_with_argument(proc: Path, argument: str) -> list[int]:
    found = []
    for folder in proc.glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it may end while we look
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            if argument.encode() in arguments:
                found.append(int(folder.name))
    return sorted(found)


def first_child(pid: int) -> int | None:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(children[0]) if children else None


def remove_cgroups(root: Path, name: str) -> None:
    """Remove a cgroup with all below it, from every v1 hierarchy or from the one of v2."""
    for top in [root / name, *root.glob(f"*/{name}")]:
        if top.is_dir():
            remove_cgroup(top)


def remove_cgroup(top: Path) -> None:
    folders = [Path(folder) for folder, _, _ in os.walk(top, topdown=False)]
    for folder in folders:
        deadline = time.monotonic() + 10
        while True:
            try:
                folder.rmdir()
                break
            except OSError as error:  # busy while its last processes are still ending
                if time.monotonic() > deadline:
                    raise ClusterError(f"{folder}: {error}") from error
                time.sleep(0.1)
