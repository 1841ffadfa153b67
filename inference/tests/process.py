"""A real pinn-server in a child process, on free loopback ports."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pinn_inference", *arguments]


@dataclass
class ServerProcess:
    """Ended, at the latest, when the block ends."""

    process: subprocess.Popen[str]
    url: str
    admin: str
    log: list[dict[str, Any]]
    cpu_at_start: float = 0.0

    @classmethod
    def started(cls, *arguments: str, **settings: str) -> Self:
        """Starts a server and reads its log until it says that it serves."""
        process = subprocess.Popen(
            command("serve", "--host", "127.0.0.1", "--port", "0", "--admin-port", "0", *arguments),
            env={**ENVIRONMENT, **{f"PINN_SERVER_{k.upper()}": v for k, v in settings.items()}},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            log = _read_until_serving(process)
        except BaseException:
            process.kill()
            process.wait()
            raise
        server = cls(process, log[-1]["url"], log[-1]["admin"], log)
        server.cpu_at_start = server.cpu_seconds()
        return server

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=10)

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its name and labels as written."""
        text = httpx.get(f"{self.admin}/metrics", trust_env=False).text
        rows = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in rows}

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = 20) -> int:
        return self.process.wait(seconds)

    def resident_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stderr:
            self.process.stderr.close()


def _read_until_serving(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    log: list[dict[str, Any]] = []
    while not (log and log[-1]["event"] == "serving"):
        line = process.stderr.readline() if process.stderr else ""
        if not line:
            raise AssertionError(f"the server ended with {process.wait()} after saying {log}")
        log.append(json.loads(line))
    return log


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(
        command(*arguments),
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def eventually(condition: Any, seconds: float = 10) -> None:
    """Waits until the condition holds; fails when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
