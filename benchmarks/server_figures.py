"""One server process on this machine: how long from its start to ready, and how much memory with the model loaded."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

STARTS = 5
LIMIT_SECONDS = 30.0


def measure() -> dict[str, Any]:
    runs = [start_once() for _ in range(STARTS)]
    seconds, memory = [run[0] for run in runs], [run[1] for run in runs]
    return {
        "starts": STARTS,
        "start_to_ready_s_median": round(statistics.median(seconds), 2),
        "start_to_ready_s_median_all": [round(one, 2) for one in seconds],
        "start_to_ready_s_max": round(max(seconds), 2),
        "resident_MiB_max": round(max(memory), 1),
    }


def start_once() -> tuple[float, float]:
    """Seconds to the first 200 on the readiness probe, and resident MiB then."""
    port, admin = free_port(), free_port()
    command = [sys.executable, "-m", "pinn_inference", "serve", "--port", str(port)]
    env = os.environ | {"PINN_SERVER_ADMIN_PORT": str(admin), "PINN_SERVER_DRAIN": "0s"}
    began = time.monotonic()
    server = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_ready(port)
        return time.monotonic() - began, resident_mib(server.pid)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(LIMIT_SECONDS)


def wait_ready(port: int) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=1) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.005)
    raise TimeoutError(f"not ready within {LIMIT_SECONDS:.0f} s")


def resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
