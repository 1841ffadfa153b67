"""What is stored of a rollout, as it is read by an operator that knows more, or whose clock is another."""

import json
from dataclasses import fields, replace
from typing import Any

from pinn_operator.api.codec import dump, load
from pinn_operator.api.journal import Arm, Journal
from pinn_operator.api.memory import Memory

NOW = 1_767_323_045.0
JOURNAL = Journal(Arm("new", "2.0.0"), Arm("old", "1.0.0"), NOW - 100, step=1)
TIMES = ("step_began", "lost_at", "waits_since", "short_since", "off_at", "timed_from", "idle_since", "looked_at")


def _at(at: float) -> Journal:
    """With that as each of its times."""
    times: dict[str, Any] = dict.fromkeys(TIMES, at)
    return replace(JOURNAL, **times)


def test_one_that_an_older_operator_has_stored_lacks_what_that_did_not_know() -> None:
    stored = dump(Memory(JOURNAL))
    for name in ("untried", "timed_from", "idle_since", "looked_at"):
        del stored["journal"][name]
    assert load(Memory, json.loads(json.dumps(stored))).journal == JOURNAL


def test_times_that_are_yet_to_come_have_come_by_now() -> None:
    assert _at(NOW + 3600).until(NOW) == _at(NOW)
    assert _at(NOW - 7).until(NOW) == _at(NOW - 7)


def test_no_time_that_may_be_yet_to_come_is_left_out_of_that() -> None:
    """Of those that need not be there: `ended` names the rollout, `let_go_at` only changes what is stored."""
    assert {one.name for one in fields(Journal) if one.type == "float | None"} == {*TIMES, "ended", "let_go_at"}
