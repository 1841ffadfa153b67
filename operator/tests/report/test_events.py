"""What is told once: a change of roles, a healing, a trouble; and not again by the next pass."""

from typing import Any

from pinn_operator.api.observed import ChildId, Observed
from pinn_operator.api.outcome import Outcome, Refusal, Write
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
    model = {"name": "m", "version": "3.0.0", "uri": "s3://b/k", "digest": "sha256:" + "0" * 64}
    assert _told(_seen("3.0.0", STABLE, model=model)) == [("NotSupported", True)]
    assert _told_twice(_seen("3.0.0", STABLE, model=model)) == []


def test_a_healing_is_a_warning_that_says_what_was_put_right_and_why() -> None:
    outcome = Outcome(writes=(Write("Healed", ChildId("Service", "pricer"), "somebody had changed it"),))
    seen = _seen("1.0.0", STABLE)
    (told,) = happenings(seen, decide(seen), outcome)
    assert (told.reason, told.warning) == ("ChildHealed", True)
    assert told.note == "Service/pricer was put right: somebody had changed it"


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
