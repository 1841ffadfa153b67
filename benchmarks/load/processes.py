"""A program under test: started on a core of its own, known to be ready, measured with all its children, and ended by its id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

ROOT: Final = Path(__file__).parents[2]
READY_SECONDS: Final = 60.0
END_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Memory:
    """Of a program and its children. Resident counts what they share once for each; proportional shares it out."""

    resident_mib: float
    proportional_mib: float


@dataclass(frozen=True)
class Program:
    """One that runs."""

    process: subprocess.Popen[bytes]
    log: IO[bytes]

    @property
    def pid(self) -> int:
        """Of the first process."""
        return self.process.pid

    def said(self) -> str:
        """The end of what it logged."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-3000:]

    def memory(self) -> Memory:
        """Now."""
        rows = [_rollup(pid) for pid in family(self.pid)]
        return Memory(sum(row["Rss"] for row in rows) / 1024, sum(row["Pss"] for row in rows) / 1024)

    def cpu_seconds(self) -> float:
        """User and system time so far, of those that still live."""
        return sum(_cpu_seconds(pid) for pid in family(self.pid))

    def end(self) -> int:
        """SIGTERM to the first process; SIGKILL to whatever of its group is left in the end. Returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(END_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self.process.wait(END_SECONDS)


@contextmanager
def started(
    command: Sequence[str | Path], log: IO[bytes], core: int | None = None, env: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """Runs a command in a process group of its own, on one core when that is given, until the block ends."""
    pinned = ["taskset", "--cpu-list", str(core)] if core is not None else []
    process = subprocess.Popen(
        [*pinned, *map(str, command)],
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    program = Program(process, log)
    try:
        yield program
    finally:
        program.end()


def pinn_server(port: int, admin: int, **settings: str) -> tuple[list[str], dict[str, str]]:
    """The command and the environment of this checkout's server, everything on but what `settings` says."""
    command = [sys.executable, "-m", "pinn_inference", "serve", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--admin-port", str(admin)]
    own = {f"PINN_SERVER_{name.upper()}": value for name, value in settings.items()}
    return command, {"PYTHONPATH": str(ROOT / "inference"), "PINN_SERVER_LOG_FORMAT": "json", **own}


def wait_until_ready(url: str, program: Program, seconds: float = READY_SECONDS) -> float:
    """Seconds until `url` answers 200. Raises RuntimeError with the program's log when it does not."""
    began = time.monotonic()
    while time.monotonic() - began < seconds and program.process.poll() is None:
        if get(url, 1.0)[0] == 200:
            return time.monotonic() - began
        time.sleep(0.02)
    raise RuntimeError(f"{url} did not become ready; the program said:\n{program.said()}")


def get(url: str, seconds: float = 5.0) -> tuple[int, str]:
    """Status and text; status 0 when nobody answers."""
    return _ask(urllib.request.Request(url), seconds)


def post(url: str, document: bytes, seconds: float = 5.0, token: str = "") -> tuple[int, str]:
    """The same for a JSON document, with a bearer token when one is given."""
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    return _ask(urllib.request.Request(url, document, headers), seconds)


def samples(admin: str) -> dict[str, float]:
    """Every sample of /metrics by its name and labels as written; empty when it cannot be had."""
    status, text = get(f"{admin}/metrics")
    rows = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in rows} if status == 200 else {}


def family(pid: int) -> list[int]:
    """A process and all that descend from it, whichever of its threads started them."""
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # gone in between
            found += [descendant for child in path.read_text().split() for descendant in family(int(child))]
    return found


def free_port() -> int:
    """One nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ask(request: Any, seconds: float) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=seconds) as answer:
            return int(answer.status), answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError:
        return 0, ""


def _rollup(pid: int) -> dict[str, int]:
    """KiB by name; zeros for a process that has gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {"Rss": 0, "Pss": 0}
    return {name: int(rest.split()[0]) for name, rest in (line.split(":", 1) for line in lines)}


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
