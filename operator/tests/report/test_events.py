"""What is told once: a change of roles, a healing, a trouble; and not again by the next pass."""

from dataclasses import replace
from typing import Any

import pytest
from pinn_operator.api.journal import Arm, Entry, Journal
from pinn_operator.api.memory import Memory
from pinn_operator.api.names import ANNOTATION_ABORT
from pinn_operator.api.observed import ChildId, Observed
from pinn_operator.api.outcome import Happening, Outcome, Refusal, Write
from pinn_operator.api.plan import Phase, Plan, Traffic
from pinn_operator.decide import decide
from pinn_operator.report import happenings, status_of
from tests.given import NOW, observed, ready, resource, revision

ONE, TWO = revision("1.0.0", 1), revision("2.0.0", 2)
NOTHING = Outcome()
REFUSED = Outcome(refusals=(Refusal(ChildId("Deployment", "pricer-x"), "Forbidden", "exceeded quota"),))


def _seen(
    version: str, status: dict[str, Any] | None = None, two: int = 0, selected: str = ONE.name, **more: Any
) -> Observed:
    of = resource(version, status=status, **more)
    workloads = {ONE.name: ready(1), TWO.name: ready(two, 1)}
    return observed(of, revisions=[ONE, TWO], workloads=workloads, selected=selected, endpoints=[selected])


def _told(seen: Observed, outcome: Outcome = NOTHING) -> list[tuple[str, bool]]:
    return [(happening.reason, happening.warning) for happening in happenings(seen, decide(seen), outcome)]


def _told_twice(seen: Observed, outcome: Outcome = NOTHING) -> list[tuple[str, bool]]:
    """By a pass that sees the status that the first one wrote."""
    status = status_of(seen, decide(seen), outcome)
    of = seen.resource.model_validate({**seen.resource.model_dump(by_alias=True), "status": status})
    again = observed(
        of, revisions=[ONE, TWO], workloads=seen.workloads, selected=seen.selected, endpoints=seen.endpoints
    )
    return _told(again, outcome)


STABLE = {"stable": {"revision": ONE.name}}


def test_a_first_revision_that_is_ready_is_told_once() -> None:
    assert _told(_seen("1.0.0")) == [("Started", False)]
    assert _told_twice(_seen("1.0.0")) == []


def test_a_rollout_is_told_at_its_start_once() -> None:
    assert _told(_seen("2.0.0", STABLE)) == [("RolloutStarted", False)]
    assert _told_twice(_seen("2.0.0", STABLE)) == []


def test_a_rollout_to_a_third_version_is_told_anew() -> None:
    assert _told(_seen("3.0.0", STABLE | {"canary": {"revision": TWO.name}})) == [("RolloutStarted", False)]


def test_a_trouble_is_a_warning_told_once() -> None:
    assert _told(_seen("2.0.0", STABLE), REFUSED) == [("RolloutStarted", False), ("ChildRefused", True)]
    assert _told_twice(_seen("2.0.0", STABLE), REFUSED) == []


def test_what_cannot_be_served_is_a_warning_told_once() -> None:
    model = {"name": "m", "version": "3.0.0", "uri": "pvc://c/../p", "digest": "sha256:" + "0" * 64}
    assert _told(_seen("3.0.0", STABLE, model=model)) == [("NotSupported", True)]
    assert _told_twice(_seen("3.0.0", STABLE, model=model)) == []


def test_a_healing_is_a_warning_that_says_what_was_put_right_and_why() -> None:
    outcome = Outcome(writes=(Write("Healed", ChildId("Service", "pricer"), "somebody had changed it"),))
    seen = _seen("1.0.0", STABLE)
    (told,) = happenings(seen, decide(seen), outcome)
    assert (told.reason, told.warning) == ("ChildHealed", True)
    assert told.note == "Service/pricer was put right: somebody had changed it"


def test_a_fight_over_a_child_is_a_warning_told_once() -> None:
    writes = (
        Write("Healed", ChildId("Service", "pricer"), "argocd-controller had changed it", ("argocd-controller",)),
    )
    outcome = Outcome(writes=writes, contested=True)
    assert ("Contested", True) in _told(_seen("1.0.0", STABLE), outcome)
    assert ("Contested", True) not in _told_twice(_seen("1.0.0", STABLE), outcome)
    assert ("ChildHealed", True) not in _told(_seen("1.0.0", STABLE), outcome), (
        "six a minute, for as long as it goes on"
    )


def test_of_routine_writes_only_a_new_revision_is_told() -> None:
    child = ChildId("Service", "pricer")
    record = ChildId("ControllerRevision", "pricer-y")
    routine = [Write("Created", child, ""), Write("Updated", record, ""), Write("Deleted", record, "")]
    new = Write("Created", ChildId("ControllerRevision", "pricer-x"), "")
    assert _told(_seen("1.0.0", STABLE), Outcome(writes=(*routine, new))) == [("RevisionCreated", False)]


def test_an_object_that_goes_is_not_said_to_start_anything() -> None:
    assert _told(_seen("2.0.0", metadata={"deletionTimestamp": NOW})) == []


def test_the_note_is_the_sentence_of_the_decision() -> None:
    seen = _seen("2.0.0", STABLE)
    plan = decide(seen)
    assert [happening.note for happening in happenings(seen, plan, Outcome())] == [plan.sentence]


# --- A rollout, told from what was stored of it ----------------------------------------------------------------------

BEGAN = Entry(1.0, "Began", "2.0.0 is to take over")
STEP = Entry(2.0, "Step", "step 1/3: 10 %", 10)
ROLLING = STABLE | {"canary": {"revision": TWO.name}}


def _journal(*entries: Entry, began: float = 1.0) -> Journal:
    return Journal(Arm(TWO.name, "2.0.0"), Arm(ONE.name, "1.0.0"), began, step=1, timeline=entries)


def _plan(journal: Journal | None, phase: Phase = Phase.STEPPING) -> Plan:
    traffic = Traffic({ONE.name: 100}, ONE.name)
    memory = Memory(journal) if journal else None
    return Plan(phase, "because", TWO.name, stable=ONE, canary=TWO, traffic=traffic, memory=memory)


def _of(plan: Plan, before: Journal | None = None, progressing: str = "Step") -> list[Happening]:
    said = {"type": "Progressing", "status": "True", "reason": progressing, "message": "", "lastTransitionTime": NOW}
    seen = _seen("2.0.0", ROLLING | {"conditions": [said]})
    return list(happenings(replace(seen, memory=Memory(before) if before else None), plan, NOTHING))


@pytest.mark.parametrize(
    ("what", "warning"), [("Step", False), ("Promoted", False), ("RolledBack", True), ("Superseded", False)]
)
def test_what_the_journal_has_and_the_stored_one_has_not_is_told_in_its_words(what: str, warning: bool) -> None:
    before, after = _journal(BEGAN, STEP), _journal(BEGAN, STEP, Entry(9.0, what, "the sentence"))
    (told,) = _of(_plan(after), before)
    assert (told.reason, told.note, told.warning) == (what, "the sentence", warning)
    assert _of(_plan(after), after) == []


def test_two_steps_in_the_same_words_are_two_events() -> None:
    """A canary that lost its servers and came back."""
    again = replace(STEP, at=99.0)
    assert [told.reason for told in _of(_plan(_journal(BEGAN, STEP, again)), _journal(BEGAN, STEP))] == ["Step"]


def test_the_beginning_of_a_rollout_is_told_by_the_change_of_roles_alone() -> None:
    assert _of(_plan(_journal(BEGAN))) == []


def test_another_rollout_of_the_same_revision_tells_its_own_steps() -> None:
    """Somebody said retry: what is stored speaks of the attempt before."""
    again = _journal(BEGAN, STEP, began=50.0)
    assert [told.reason for told in _of(_plan(again), _journal(BEGAN, STEP))] == ["Step"]


def test_a_plan_that_leaves_what_is_stored_tells_nothing_of_it() -> None:
    assert _of(_plan(None), _journal(BEGAN, STEP)) == []


HELD = [Phase.PAUSED, Phase.UNDECIDED, Phase.APPROVAL, Phase.TOO_COARSE]


@pytest.mark.parametrize("phase", HELD, ids=lambda phase: phase.value)
def test_a_rollout_that_is_held_says_so_once_and_why(phase: Phase) -> None:
    journal = _journal(BEGAN, STEP)
    (told,) = _of(_plan(journal, phase), journal)
    assert (told.reason, told.note, told.warning) == (phase.value, "because", False)
    assert _of(_plan(journal, phase), journal, progressing=phase.value) == []


def test_a_rollout_that_is_held_for_another_reason_says_so_anew() -> None:
    journal = _journal(BEGAN, STEP)
    (told,) = _of(_plan(journal, Phase.UNDECIDED), journal, progressing="Paused")
    assert told.reason == "Undecided"


@pytest.mark.parametrize("phase", [Phase.STEPPING, Phase.BAKING], ids=lambda phase: phase.value)
def test_a_rollout_that_goes_on_as_before_tells_nothing(phase: Phase) -> None:
    journal = _journal(BEGAN, STEP)
    assert _of(_plan(journal, phase), journal) == []


def test_an_abort_by_a_person_is_a_warning_told_once() -> None:
    """From the annotation to the Event and no further, by the decisions of two passes."""
    asked = {"annotations": {ANNOTATION_ABORT: f"{TWO.name}@1"}}
    first = replace(_seen("2.0.0", ROLLING, two=1, metadata=asked), memory=Memory(_journal(BEGAN, STEP)))
    plan = decide(first)
    assert _told(first) == [("RolledBack", True)]
    status = status_of(first, plan, NOTHING)
    second = replace(_seen("2.0.0", status, two=1, metadata=asked), memory=plan.memory)
    assert _told(second) == []
