"""Evidence and journals survive a restart of the operator to the last bit, and damage is noticed."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pinn_operator.api.journal import Arm, Entry, GateRecord, Journal, Minute
from pinn_operator.api.memory import Memory
from pinn_operator.api.readings import Checked
from pinn_operator.decide.evidence import Ledger, dump, load
from tests.decide.evidence.arms import Rollout, rules


def stored(ledger: Ledger) -> Ledger:
    return load(Ledger, json.loads(json.dumps(dump(ledger), allow_nan=False)))


Tick = tuple[int, int, int, int, bool, int, bool]
COUNT = st.integers(0, 200)
TICKS = st.lists(
    st.tuples(COUNT, COUNT, COUNT, COUNT, st.booleans(), st.integers(0, 3), st.booleans()), min_size=1, max_size=25
)


@settings(deadline=None, max_examples=60)
@given(TICKS)
def test_an_operator_restarted_at_any_tick_decides_as_if_it_had_not_been(ticks: list[Tick]) -> None:
    one, other = Rollout(rules()), Rollout(rules())
    for events, bad, others, others_bad, new_step, restarts, ready in ticks:
        other.ledger = stored(other.ledger)
        assert other.ledger == one.ledger
        for rollout in (one, other):
            if new_step:
                rollout.step(2, bake=restarts > 2)
            rollout.tick(
                (events + bad, bad),
                (others + others_bad, others_bad),
                change=lambda reading, restarts=restarts, ready=ready: _with(reading, restarts, ready),  # type: ignore[misc]
            )
        assert one.verdict() == other.verdict()
        json.dumps(dump(one.verdict()), allow_nan=False)


def _with(reading: Any, restarts: int, ready: bool) -> Any:
    memory = {"canary-0": 1e8 + restarts}
    return replace(reading, restarts={"canary-0": restarts}, ready={"canary": ready}, memory=memory)


def test_what_an_older_or_a_newer_operator_wrote_can_be_read() -> None:
    written = dump(Rollout(rules()).ledger)
    assert load(Ledger, {**written, "unheard_of": [1]}) == load(Ledger, written)
    del written["restarts"]
    assert load(Ledger, written).restarts == Ledger().restarts
    assert load(Ledger, {}) == Ledger()


@pytest.mark.parametrize(
    "damage",
    [{"mass": "half"}, {"mass": True}, {"gates": []}, {"counters": None}, {"gates": {"a": {"apart": 3}}}, 7],
)
def test_damaged_evidence_is_refused(damage: Any) -> None:
    with pytest.raises(ValueError, match="stored evidence is damaged"):
        load(Ledger, damage)


JOURNAL = Journal(
    canary=Arm("b", "2.0.0", "sha256:b", "i:2"),
    stable=Arm("a", "1.0.0", None, "i:1"),
    began=1.5,
    step=2,
    step_began=3.25,
    measure="tick",
    measure_at=4.0,
    rose_at=5.0,
    crashed=True,
    let_go_at=7.0,
    servers=4,
    lost_at=6.0,
    live=7.0,
    quiet=False,
    warmed=8,
    shadow={"b": Checked(9, 1, 2, 3, "said")},
    ending="RolledBack",
    ended=10.0,
    reason="errorRate",
    sentence="a sentence",
    blamed=True,
    smoke="8 of 8",
    timeline=(Entry(1.5, "Began", "x", 0), Entry(2.5, "Step", "y", 10)),
    minutes=(Minute(60.0, {"requests": 5.0}, {"requests": 50.0}),),
    gates=(GateRecord(1, "errorRate", "Failing", "1%", 0.3, None, 40.0, 200.0, 100.0, "z"),),
    weight=10,
    waits_since=11.0,
    short_since=12.0,
    waits_for=5,
    off=True,
    off_at=13.0,
    untried="refused",
    timed_from=14.0,
    idle_since=15.0,
    looked_at=16.0,
)
"""Nothing in it is as it would be without being said, so that a field that does not survive is missed."""


def test_what_a_rollout_has_been_through_survives_to_the_last_field() -> None:
    known = Memory(JOURNAL, dump(Rollout(rules()).ledger), {"promote": "b@1"}, {"promote": ("b@0", "a@1")})
    assert load(Memory, json.loads(json.dumps(dump(known), allow_nan=False))) == known
    blank = Journal(JOURNAL.canary, JOURNAL.stable, JOURNAL.began)
    fields = set(dump(JOURNAL)) - {"canary", "stable", "began"}
    assert {name for name in fields if getattr(blank, name) == getattr(JOURNAL, name)} == set()


@pytest.mark.parametrize(
    "damage",
    [
        {"journal": {**dump(JOURNAL), "canary": None, "began": "soon"}},
        {"journal": {**dump(JOURNAL), "timeline": [{"at": 1.0, "what": 7, "sentence": ""}]}},
        {"journal": {**dump(JOURNAL), "minutes": {"at": 60.0}}},
        {"handled": {"promote": 1}},
        {"former": {"promote": "b@1"}},
        {"former": {"promote": [1]}},
    ],
)
def test_a_damaged_journal_is_refused(damage: Any) -> None:
    with pytest.raises(ValueError, match="stored evidence is damaged"):
        load(Memory, damage)
