"""Servers that fail on purpose: the real one of the release, with one fault around its answers.

What the operator makes of a fault is only worth something where the fault is counted as a real one would be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

SCRIPT = (Path(__file__).parent / "faulty.py").read_text()


def broken(fault: str) -> dict[str, Any]:
    """What `spec.template` has to say for servers with this fault; faulty.py says which there are."""
    container = {
        "name": "server",
        "command": ["/venv/bin/python", "-c", SCRIPT],
        "env": [{"name": "FAULT", "value": fault}],
    }
    return {"spec": {"containers": [container]}}
