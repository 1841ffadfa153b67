"""What must never happen to a rollout does not, and what must happen in the end does: tens of thousands of states, breadth first.

`python -m benchmarks explore` goes through more than a million. Defects that are put in must be found.
"""

from collections.abc import Callable
from typing import Any

import pytest
from pinn_operator.api.plan import Phase
from pinn_operator.decide import canary, rollout
from pinn_operator.decide.evidence import counters
from tests.decide import explore as model
from tests.decide.explore import Setting, Violation, ends, explore, stand_in

GATEWAY, SERVICE = Setting(gateway=True), Setting(gateway=False, when_undecided="Pause")
LET_GO = Setting(when_undecided="Pause", replicas=1, step=2, edits=1, faults=0, retain_stable="None")
GONE = Setting(gateway=False, replicas=1, step=2, edits=1, faults=0, retain_stable="None", gone=True)
NARROW = [Setting(edits=0, faults=0), Setting(edits=1, faults=0, step=1)]
"""With less that may happen the search goes deeper."""
STATES = 10_000
FEWER = 3_000


@pytest.mark.parametrize("setting", [GATEWAY, SERVICE, LET_GO, GONE], ids=["gateway", "Service", "let go", "gone"])
def test_nothing_forbidden_happens_and_every_rollout_comes_to_rest_once_nothing_goes_wrong(setting: Setting) -> None:
    with stand_in():
        found = explore(setting, STATES)
        ended = ends(found, every=100)
    assert len(found.origin) >= STATES
    assert ended["Serving"] > 0
    assert ended["passes_at_most"] <= 15


def test_a_rollout_left_alone_is_promoted_in_the_model_too() -> None:
    with stand_in():
        assert model.end_of(GATEWAY, model.start(GATEWAY))[0] is Phase.SERVING


def _ready_whatever_is_seen(*_: Any) -> bool:
    return True


def _nobody(*_: Any) -> list[Any]:
    return []


def _forgotten(*_: Any) -> dict[str, Any]:
    return {}


def _no_conflict(read: object, live: object) -> None:
    """As without a resourceVersion."""


SEEDED: dict[str, tuple[list[tuple[Any, str]], Callable[..., Any], str]] = {
    "readiness is trusted without being seen": (
        [(canary, "is_ready")],
        _ready_whatever_is_seen,
        "not every server is ready",
    ),
    "a weight rises before the endpoints are there": (
        [(canary, "is_behind")],
        _ready_whatever_is_seen,
        "behind its Service",
    ),
    "a reading whose reply was lost is counted twice": (
        [(counters, "bounded")],
        _forgotten,
        "evidence is counted twice",
    ),
    "a canary is removed while it has a share": (
        [(canary, "still_served"), (rollout, "still_served")],
        _nobody,
        "is removed while it is sent requests",
    ),
    "a pass that was held up writes as if nothing had changed": (
        [(model, "pinned")],
        _no_conflict,
        "somebody else knows more",
    ),
    "every verdict lets a step pass": (
        [(canary, "_waiting")],
        lambda case, _, verdict, __: canary._moved_on(case, verdict),
        "without evidence",
    ),
}


@pytest.mark.parametrize("defect", SEEDED)
def test_a_defect_that_is_put_in_is_found(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, instead, said = SEEDED[defect]
    for module, name in where:
        monkeypatch.setattr(module, name, instead)
    with stand_in(), pytest.raises(Violation, match=said):
        _go_through_a_little()


def _go_through_a_little() -> None:
    for setting in NARROW:
        ends(explore(setting, FEWER), every=50)
