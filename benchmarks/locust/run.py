"""`python -m benchmarks locust [--url URL | --cluster [NAME]] [--users N] [--seconds S]`: the load test.

Against any server, one of its own, or a PinnDeployment in a cluster."""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.load.processes import free_port, pinn_server, started, wait_until_ready
from benchmarks.locust import in_cluster
from benchmarks.peers.environments import environment

FILE = Path(__file__).with_name("locustfile.py")
CLUSTER = "pinn-e2e"


def parser() -> argparse.ArgumentParser:
    """Its options."""
    options = argparse.ArgumentParser(prog="python -m benchmarks locust", description=__doc__)
    target = options.add_mutually_exclusive_group()
    target.add_argument("--url", help="of the service port; absent: a server started for the test")
    target.add_argument(
        "--cluster",
        nargs="?",
        const=CLUSTER,
        metavar="NAME",
        help=f"a PinnDeployment in this cluster, asked by a pod through its Service (default {CLUSTER})",
    )
    options.add_argument(
        "--users", type=int, default=100, help="at once; 10 and 100 are what is published (default 100)"
    )
    options.add_argument("--seconds", type=int, default=60, help="default 60")
    return options


def measure(arguments: list[str]) -> dict[str, Any]:
    """The figures, with `passed`."""
    given = parser().parse_args(arguments)
    if given.cluster:
        return in_cluster.measure(given.cluster, given.users, given.seconds)
    with target(given.url) as url:
        return load(url, given.users, given.seconds)


def load(url: str, users: int, seconds: int) -> dict[str, Any]:
    """One run of Locust, headless. Raises RuntimeError when it ends without figures."""
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        locust = environment("bench") / "bin" / "locust"
        command = [locust, "-f", FILE, "--headless", "--only-summary", "--host", url, "--figures", figures]
        command += ["--users", str(users), "--spawn-rate", str(max(10, users // 2)), "--run-time", f"{seconds}s"]
        done = subprocess.run(list(map(str, command)), timeout=seconds + 120, check=False)
        if not figures.exists():
            raise RuntimeError(f"Locust ended with {done.returncode} and left no figures")
        return {"users": users, "seconds": seconds, **json.loads(figures.read_text())}


@contextmanager
def target(url: str | None) -> Iterator[str]:
    """The server to load."""
    if url:
        yield url.rstrip("/")
        return
    port = free_port()
    command, env = pinn_server(port, free_port(), drain="0s")
    with tempfile.TemporaryFile() as log, started(command, log, env=env) as program:
        wait_until_ready(f"http://127.0.0.1:{port}/v2/health/ready", program)
        yield f"http://127.0.0.1:{port}"
