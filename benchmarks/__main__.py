"""`python -m benchmarks [NAME ...]`: run the named measurements (all by default), print them and keep them in results/."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import operator_figures, peer_figures, server_figures

RESULTS = Path(__file__).parent / "results"
MEASUREMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "server": server_figures.measure,
    "peers": peer_figures.measure,
    "operator": operator_figures.measure,
    "idle": operator_figures.measure_idle,
}


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - MEASUREMENTS.keys())
    if unknown:
        print(f"no measurement called {', '.join(unknown)}; there are: {', '.join(MEASUREMENTS)}", file=sys.stderr)
        return 2
    RESULTS.mkdir(exist_ok=True)
    for name in names or MEASUREMENTS:
        print(f"==> {name}", file=sys.stderr, flush=True)
        figures = machine() | MEASUREMENTS[name]()
        (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
        for key, value in figures.items():
            if not isinstance(value, dict):
                print(f"  {key:42} {value}")
    return 0


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
