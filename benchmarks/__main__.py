"""`python -m benchmarks [NAME ...]`: run the named measurements (all by default), print them and keep them in results/.

At the end it says what moved beyond the noise since the figures on record; BENCH_AGAINST names a git reference other than
HEAD, the last release for instance. `python -m benchmarks locust [--url URL] [--users N]` is the load test; its exit code is
its verdict.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import changes

RESULTS = Path(__file__).parent / "results"
MEASUREMENTS = {
    "server": "server_figures:measure",
    "engines": "engine_figures:measure",
    "peers": "peer_figures:measure",
    "rpc": "rpc_figures:measure",
    "bounds": "bounds_figures:measure",
    "growth": "growth_figures:measure",
    "stress": "stress_figures:measure",
    "evidence": "evidence_figures:measure",
    "explore": "explore_figures:measure",
    "cli": "cli_figures:measure",
    "operator": "operator_figures:measure",
    "idle": "operator_figures:measure_idle",
    "rollout": "rollout_figures:measure",
    "operations": "rollout_figures:measure_operations",
}
"""Where each is found: imported when it is asked for, as some need a cluster and others an environment of their own."""


def main(names: list[str]) -> int:
    if names[:1] == ["locust"]:
        from benchmarks.locust import run

        try:
            figures = run.measure(names[1:])
        except RuntimeError as error:
            print(f"locust: {error}", file=sys.stderr)
            return 2
        where = "-in-cluster" if "--cluster" in names else ""
        keep(f"locust-{figures['users']}{where}", figures)
        return 0 if figures["passed"] else 1
    unknown = sorted(set(names) - MEASUREMENTS.keys())
    if unknown:
        print(
            f"no measurement called {', '.join(unknown)}; there are: {', '.join(MEASUREMENTS)}, locust", file=sys.stderr
        )
        return 2
    failed, compared = [], []
    against = os.environ.get("BENCH_AGAINST", "HEAD")
    for name in names or MEASUREMENTS:
        print(f"==> {name}", file=sys.stderr, flush=True)
        try:
            figures = keep(name, measurement(name)())
            compared += changes.told(name, changes.on_record(name, against), figures, against)
        except RuntimeError as error:  # a sentence with the remedy; the others may still be measured
            print(f"{name}: {error}", file=sys.stderr)
            failed.append(name)
    say_what_moved(compared)
    return 1 if failed else 0


def say_what_moved(compared: list[str]) -> None:
    """On the terminal, and where a hosted workflow shows its summary."""
    for line in compared:
        print(f"[changes] {line}")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a") as file:
            file.write("".join(f"- {line}\n" for line in compared))


def measurement(name: str) -> Callable[[], dict[str, Any]]:
    """The function of that name."""
    module, function = MEASUREMENTS[name].split(":")
    found: Callable[[], dict[str, Any]] = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    return found


def keep(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    """Writes the figures, with the machine's, to results/ and prints them, but for what lies deeper."""
    figures = machine() | figures
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    for key, value in figures.items():
        if not isinstance(value, dict | list):
            print(f"  {key:42} {value}")
    return figures


def machine() -> dict[str, Any]:
    """Where and when: figures of two machines are not to be compared."""
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
