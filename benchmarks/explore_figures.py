"""How much of what can happen to a rollout has been gone through: states of a small model of its surroundings, breadth first.

In each of them every write of the operator is checked against what must never happen; from a sample of them it must come to rest
once nothing goes wrong any more. What is real in the model and what is a stand-in: operator/tests/decide/explore.py.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from tests.decide.explore import Setting, ends, explore, stand_in

SETTINGS = {
    "gateway": Setting(gateway=True, when_undecided="RollBack"),
    "service": Setting(gateway=False, when_undecided="Pause", step=1),
    "let go": Setting(when_undecided="Pause", replicas=1, step=2, edits=1, faults=0, retain_stable="None"),
    "bake": Setting(gateway=True, when_undecided="Pause", replicas=1, edits=3, faults=2, step=2),
}
MOST = 350_000
ENDED = 1_000
"""One of so many states is followed to its end."""


def measure() -> dict[str, Any]:
    began = time.monotonic()
    with ProcessPoolExecutor(min(len(SETTINGS), os.cpu_count() or 1)) as pool:
        found = dict(zip(SETTINGS, pool.map(_explored, SETTINGS.values()), strict=True))
    return {
        "states": sum(one["states"] for one in found.values()),
        "transitions": sum(one["transitions"] for one in found.values()),
        "violations": 0,  # the first one ends it all, with the way to it
        "seconds": round(time.monotonic() - began, 1),
        "passes_to_rest_at_most": max(one["passes_to_rest_at_most"] for one in found.values()),
        "settings": found,
    }


def _explored(setting: Setting) -> dict[str, Any]:
    began = time.monotonic()
    with stand_in():
        found = explore(setting, MOST)
        ended = ends(found, ENDED)
    return {
        "states": len(found.origin),
        "transitions": found.transitions,
        "every_state": found.finished,
        "moves_deep": max(len(found.trail(state)) for state in list(found.origin)[-1000:]),
        "passes_to_rest_at_most": ended.pop("passes_at_most"),
        "ends": ended,
        "seconds": round(time.monotonic() - began, 1),
    }
