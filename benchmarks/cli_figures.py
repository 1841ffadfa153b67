"""`kubectl pinn status`: how long a person waits for it, with 100 objects in the middle of rollouts, and with one.

The API server is that of the tests, on this machine: what is measured is the command and kubectl, not a network.
"""

from __future__ import annotations

import copy
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from tests.plugin.fake_api import serving
from tests.plugin.given_pinn import stepping

RUNS: Final = int(os.environ.get("BENCH_ROUNDS", "15"))
OBJECTS: Final = 100
BIN: Final = Path(sys.executable).parent


def measure() -> dict[str, Any]:
    with serving() as api, tempfile.TemporaryDirectory() as folder:
        for number in range(OBJECTS):
            obj = copy.deepcopy(stepping())
            obj["metadata"]["name"] = f"pricer-{number:03}"
            api.pinn(obj)
        environment = {
            **os.environ,
            "KUBECONFIG": str(api.kubeconfig(Path(folder))),
            "KUBECACHEDIR": folder,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        }
        found = {
            "status_100_objects": timed(["kubectl-pinn", "status"], environment),
            "status_one": timed(["kubectl-pinn", "status", "pricer-000"], environment),
            "kubectl_alone": timed(["kubectl", "get", "--raw", "/version"], environment),
        }
    return {f"{name}_{what}": value for name, figures in found.items() for what, value in figures.items()}


def timed(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Seconds of the clock, and of processors: on a machine that is shared the second says more."""
    walls, processors = [], []
    for _ in range(RUNS):
        before, began = used(), time.monotonic()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        walls.append(time.monotonic() - began)
        processors.append(used() - before)
    return {
        "s_median": round(statistics.median(walls), 3),
        "s_min": round(min(walls), 3),
        "cpu_s_median": round(statistics.median(processors), 3),
    }


def used() -> float:
    """Seconds of processors that children have used."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime
