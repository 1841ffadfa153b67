"""The table of conditions in docs/concepts/revisions.md, row by row, and when a wait becomes a stall."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pinn_operator.api.observed import ChildId, Observed, Workload
from pinn_operator.api.outcome import Outcome, Refusal, Write
from pinn_operator.api.plan import Phase, Plan, Run, Traffic
from pinn_operator.decide import decide
from pinn_operator.report.conditions import MESSAGE_LIMIT, conditions_of, trouble_of
from tests.given import NOW, observed, ready, resource, revision

ONE, TWO = revision("1.0.0", 1), revision("2.0.0", 2)
NOTHING = Outcome()
REFUSED = Outcome(refusals=(Refusal(ChildId("Deployment", "pricer-x"), "Forbidden", "exceeded quota"),))
EARLIER = NOW - timedelta(minutes=1)
BROKEN = (("Ready", "False"), ("Reconciling", "True"))
"""What is said of a trouble as long as it is no stall."""


def _seen(version: str, workloads: dict[str, Workload], *, selected: str | None = ONE.name, **more: Any) -> Observed:
    """1.0.0 is stable and selected unless said otherwise."""
    status = {"stable": {"revision": ONE.name}, **more.pop("status", {})}
    metadata, endpoints = more.pop("metadata", {}), more.pop("endpoints", ())
    of = resource(version, status=status, metadata=metadata, **more)
    return observed(of, revisions=[ONE, TWO], workloads=workloads, selected=selected, endpoints=endpoints)


def _first(workload: Workload | None = None, **more: Any) -> Observed:
    return observed(resource("1.0.0", **more), revisions=[ONE], workloads={ONE.name: workload} if workload else {})


def _conditions(seen: Observed, outcome: Outcome = NOTHING) -> dict[str, str]:
    return {c.type: f"{c.status} {c.reason}" for c in conditions_of(seen, decide(seen), outcome)}


def _condition(
    type_: str, status: str = "True", reason: str = "Step", at: datetime = EARLIER, generation: int = 3
) -> Any:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": "as before",
        "lastTransitionTime": at,
        "observedGeneration": generation,
    }


UP, DOWN = ready(1), ready(0, 1)

TABLE = {
    "first start": (
        _first(),
        {
            "Ready": "False Starting",
            "Reconciling": "True Starting",
            "Available": "False NotYet",
            "Progressing": "True Step",
        },
    ),
    "serving": (_seen("1.0.0", {ONE.name: UP}), {"Ready": "True Serving", "Available": "True MinimumAvailable"}),
    "serving, fewer ready than asked for": (
        _seen("1.0.0", {ONE.name: UP}, replicas=2),
        {"Ready": "True Serving", "Reconciling": "True Serving", "Available": "True MinimumAvailable"},
    ),
    "serving, none asked for": (
        _seen("1.0.0", {ONE.name: ready(0)}, replicas=0),
        {"Ready": "True Serving", "Available": "True MinimumAvailable"},
    ),
    "new revision beside": (
        _seen("2.0.0", {ONE.name: UP, TWO.name: DOWN}),
        {
            "Ready": "True Serving",
            "Reconciling": "True Step",
            "Available": "True MinimumAvailable",
            "Progressing": "True Step",
        },
    ),
    "the traffic is changing over": (
        _seen("1.0.0", {ONE.name: UP, TWO.name: UP}, endpoints=[ONE.name, TWO.name]),
        {
            "Ready": "True Serving",
            "Reconciling": "True Draining",
            "Available": "True MinimumAvailable",
            "Progressing": "True Step",
        },
    ),
    "new revision ready and held": (
        _seen("2.0.0", {ONE.name: UP, TWO.name: UP}, rollout={"paused": True}),
        {"Ready": "True Serving", "Available": "True MinimumAvailable", "Progressing": "False Paused"},
    ),
    "no pod of stable is ready": (
        _seen("1.0.0", {ONE.name: DOWN}),
        {"Ready": "False Unavailable", "Reconciling": "True Serving", "Available": "False Unavailable"},
    ),
    "pods are refused": (
        _seen("2.0.0", {ONE.name: UP, TWO.name: ready(0, not_created="exceeded quota")}),
        {"Ready": "False PodsRefused", "Reconciling": "True PodsRefused", "Available": "True MinimumAvailable"},
    ),
    "pods do not start": (
        _seen("2.0.0", {ONE.name: UP, TWO.name: ready(0, 1, not_starting="ImagePullBackOff: no such image")}),
        {"Ready": "False PodsNotStarting", "Reconciling": "True PodsNotStarting", "Available": "True MinimumAvailable"},
    ),
    "the first revision is not ready within the deadline": (
        _first(ready(0, 1, deadline_exceeded=True)),
        {
            "Ready": "False ProgressDeadlineExceeded",
            "Stalled": "True ProgressDeadlineExceeded",
            "Available": "False NotYet",
        },
    ),
    "new revision not ready within the deadline": (
        _seen("2.0.0", {ONE.name: UP, TWO.name: ready(0, 1, deadline_exceeded=True)}),
        {
            "Ready": "True Serving",
            "Reconciling": "True RollingBack",
            "Available": "True MinimumAvailable",
            "Progressing": "False RollingBack",
        },
    ),
    "spec asks for what this release cannot do": (
        _seen(
            "3.0.0",
            {ONE.name: UP},
            model={"name": "m", "version": "3.0.0", "uri": "pvc://c/../p", "digest": "sha256:" + "0" * 64},
        ),
        {"Ready": "False NotSupported", "Stalled": "True NotSupported", "Available": "True MinimumAvailable"},
    ),
    "being deleted": (
        _seen("1.0.0", {ONE.name: UP}, metadata={"deletionTimestamp": NOW}),
        {"Ready": "False Deleting", "Reconciling": "True Deleting", "Available": "False Deleting"},
    ),
}


@pytest.mark.parametrize("row", TABLE)
def test_the_table_of_conditions(row: str) -> None:
    seen, expected = TABLE[row]
    assert _conditions(seen) == expected


def _plan(phase: Phase) -> Plan:
    """A rollout from 1.0.0 to 2.0.0 in this phase; when it is over only 1.0.0 is left."""
    over = phase is Phase.ROLLED_BACK
    return Plan(
        phase=phase,
        sentence="because",
        wanted=TWO.name,
        run=tuple(Run(one, 1) for one in ((ONE,) if over else (ONE, TWO))),
        stable=ONE,
        canary=None if over else TWO,
        traffic=Traffic({ONE.name: 100}, ONE.name),
    )


PHASES = {
    Phase.STEPPING: {"Ready": "True Serving", "Reconciling": "True Step", "Progressing": "True Step"},
    Phase.BAKING: {"Ready": "True Serving", "Progressing": "True Baking"},
    Phase.PAUSED: {"Ready": "True Serving", "Progressing": "False Paused"},
    Phase.UNDECIDED: {"Ready": "True Serving", "Progressing": "False Undecided"},
    Phase.APPROVAL: {"Ready": "True Serving", "Progressing": "False WaitingForApproval"},
    Phase.TOO_COARSE: {"Ready": "True Serving", "Progressing": "False TooCoarse"},
    Phase.ROLLING_BACK: {
        "Ready": "True Serving",
        "Reconciling": "True RollingBack",
        "Progressing": "False RollingBack",
    },
    Phase.ROLLED_BACK: {
        "Ready": "False RolledBack",
        "Stalled": "True RolledBack",
        "Progressing": "False RolledBack",
    },
}


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.value)
def test_the_conditions_of_each_phase_of_a_rollout_while_every_server_is_ready(phase: Phase) -> None:
    """Ready may be waited for: it is False where the spec asks for a revision that was sent back."""
    seen = _seen("2.0.0", {ONE.name: UP, TWO.name: UP})
    found = conditions_of(seen, _plan(phase), NOTHING)
    expected = PHASES[phase] | {"Available": "True MinimumAvailable"}
    assert {c.type: f"{c.status} {c.reason}" for c in found} == expected
    assert {c.message for c in found if c.type != "Available"} == {"because"}


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.value)
def test_in_no_phase_are_callers_served_when_no_server_of_stable_is_ready(phase: Phase) -> None:
    seen = _seen("2.0.0", {ONE.name: DOWN, TWO.name: UP})
    said = {c.type: c.status for c in conditions_of(seen, _plan(phase), NOTHING)}
    assert (said["Ready"], said["Available"]) == ("False", "False")


def test_a_bake_that_is_short_of_a_server_is_being_mended() -> None:
    seen = _seen("2.0.0", {ONE.name: UP, TWO.name: DOWN})
    said = {c.type: f"{c.status} {c.reason}" for c in conditions_of(seen, _plan(Phase.BAKING), NOTHING)}
    assert said["Reconciling"] == "True Baking"


@pytest.mark.parametrize("phase", [Phase.ROLLING_BACK, Phase.ROLLED_BACK], ids=lambda phase: phase.value)
def test_what_the_canary_that_was_sent_back_died_of_is_not_told_as_a_new_trouble(phase: Phase) -> None:
    """It is in the sentence already, and a Ready that flickers would wake people for it."""
    seen = _seen("2.0.0", {ONE.name: UP, TWO.name: ready(0, 1, not_starting="CrashLoop", deadline_exceeded=True)})
    said = {c.type: f"{c.status} {c.reason}" for c in conditions_of(seen, _plan(phase), NOTHING)}
    assert said["Ready"] == PHASES[phase]["Ready"]
    assert trouble_of(seen, _plan(phase), NOTHING) is None


def test_a_refused_child_shows_though_an_older_revision_answers() -> None:
    seen = _seen("2.0.0", {ONE.name: UP})
    assert _conditions(seen, REFUSED)["Ready"] == "False ChildRefused"
    assert _conditions(seen, REFUSED)["Available"] == "True MinimumAvailable"
    (message,) = [c.message for c in conditions_of(seen, decide(seen), REFUSED) if c.type == "Ready"]
    assert message == "Deployment/pricer-x was refused (Forbidden): exceeded quota"


@pytest.mark.parametrize("row", TABLE)
def test_stalled_and_reconciling_are_never_said_together(row: str) -> None:
    said = _conditions(TABLE[row][0], REFUSED)
    assert not {"Stalled", "Reconciling"} <= said.keys()


@pytest.mark.parametrize(("minutes", "stalled"), [(9, False), (10, False), (11, True)])
def test_a_refusal_is_a_stall_when_the_deadline_is_over(minutes: int, stalled: bool) -> None:
    at = NOW - timedelta(minutes=minutes)
    began = [_condition(type_, status, "ChildRefused", at) for type_, status in BROKEN]
    seen = _seen("2.0.0", {ONE.name: UP}, status={"conditions": began})
    assert ("Stalled" in _conditions(seen, REFUSED)) == stalled


@pytest.mark.parametrize(("minutes", "stalled"), [(None, False), (0, False), (10, False), (11, True)])
def test_a_trouble_in_a_rollout_is_a_stall_when_it_has_lasted_for_the_deadline_and_not_when_the_rollout_has(
    minutes: int | None, stalled: bool
) -> None:
    """A server of stable that restarts once in an hour's step is no failure of the object."""
    told = _condition("Ready", "True", "Serving", NOW - timedelta(hours=2))
    if minutes is not None:
        told = _condition("Ready", "False", "PodsNotStarting", NOW - timedelta(minutes=minutes))
    before = [told, _condition("Reconciling", at=NOW - timedelta(hours=1))]
    crashed = ready(1, 2, not_starting="CrashLoop: container server exited with code 137")
    seen = _seen("2.0.0", {ONE.name: crashed}, replicas=2, status={"conditions": before})
    said = _conditions(seen)
    assert said["Ready"] == "False PodsNotStarting"
    assert ("Stalled" in said) == stalled
    assert ("Reconciling" in said) == (not stalled)


def test_a_rollout_that_has_just_begun_is_no_stall_for_what_was_wrong_before_it() -> None:
    before = [
        _condition("Ready", "False", "RolledBack", NOW - timedelta(hours=1)),
        _condition("Reconciling", at=NOW - timedelta(minutes=1)),
    ]
    assert "Stalled" not in _conditions(_seen("2.0.0", {ONE.name: UP}, status={"conditions": before}), REFUSED)


def test_a_stall_lasts_as_long_as_its_trouble_and_the_spec_are_the_same() -> None:
    """Reconciling is gone then, so the wait cannot be measured by it any more."""
    stalled = _condition("Stalled", reason="ProgressDeadlineExceeded")
    seen = _seen("2.0.0", {ONE.name: UP}, status={"conditions": [stalled]})
    assert "Stalled" in _conditions(seen, REFUSED)
    assert "Stalled" not in _conditions(seen)


def test_a_new_spec_has_the_whole_deadline_before_it() -> None:
    long_ago = NOW - timedelta(hours=1)
    for old in (
        _condition("Reconciling", at=long_ago, generation=2),
        _condition("Stalled", reason="ProgressDeadlineExceeded", generation=2),
    ):
        seen = _seen("2.0.0", {ONE.name: UP}, status={"conditions": [old]})
        conditions = {c.type: c for c in conditions_of(seen, decide(seen), REFUSED)}
        assert "Stalled" not in conditions
        assert conditions["Reconciling"].last_transition_time == NOW


def test_a_deadline_that_stable_passed_while_it_serves_is_no_stall() -> None:
    """A Deployment says so too when one of its pods is replaced and does not come back."""
    seen = _seen("1.0.0", {ONE.name: ready(1, 2, deadline_exceeded=True)}, replicas=2)
    assert "Stalled" not in _conditions(seen)


def test_a_condition_keeps_its_time_as_long_as_its_status_is_the_same() -> None:
    before = [_condition("Ready", "True", "Serving"), _condition("Available", "False", "NotYet")]
    seen = _seen("1.0.0", {ONE.name: UP}, status={"conditions": before})
    times = {c.type: c.last_transition_time for c in conditions_of(seen, decide(seen), Outcome())}
    assert times == {"Ready": EARLIER, "Available": NOW}


def test_times_are_whole_seconds_and_generations_those_of_the_spec() -> None:
    of = resource("1.0.0", metadata={"generation": 9})
    seen = observed(of, now=datetime(2026, 1, 2, 3, 4, 5, 678, UTC))
    for condition in conditions_of(seen, decide(seen), Outcome()):
        assert condition.last_transition_time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        assert condition.observed_generation == 9


def test_a_message_that_is_too_long_is_cut() -> None:
    long = Outcome(refusals=(Refusal(ChildId("Deployment", "x"), "Invalid", "m" * 5000),))
    seen = _first()
    assert {len(c.message) for c in conditions_of(seen, decide(seen), long) if c.type == "Ready"} == {MESSAGE_LIMIT}


def _contested(*by: str, heals: bool = True, **status: Any) -> dict[str, Any]:
    """The conditions, as the status has them, in a pass in which somebody has undone one mending after the other."""
    child = ChildId("Service", "pricer")
    outcome = Outcome(writes=(Write("Healed", child, "", by),) if heals else (), contested=True)
    seen = _seen("1.0.0", {ONE.name: UP}, status=status)
    return {one.type: one.model_dump(mode="json", by_alias=True) for one in conditions_of(seen, decide(seen), outcome)}


def test_who_changes_a_child_again_and_again_is_named_and_the_object_is_as_ready_as_it_is() -> None:
    found = _contested("argocd-controller")
    assert (found["Contested"]["status"], found["Contested"]["reason"]) == ("True", "ChildChanged")
    assert "Service/pricer is changed again and again by argocd-controller" in found["Contested"]["message"]
    assert found["Ready"]["status"] == "True"


def test_where_nobody_is_named_that_is_said() -> None:
    assert "by somebody whom its managedFields do not name" in _contested()["Contested"]["message"]


def test_a_fight_is_told_as_before_in_a_pass_that_mends_nothing_and_no_more_when_it_is_over() -> None:
    told = [{**_condition("Contested", reason="ChildChanged"), "message": "by argocd-controller"}]
    assert _contested(heals=False, conditions=told)["Contested"]["message"] == "by argocd-controller"
    seen = _seen("1.0.0", {ONE.name: UP}, status={"conditions": told})
    assert "Contested" not in _conditions(seen)


def test_one_mending_is_no_fight() -> None:
    outcome = Outcome(writes=(Write("Healed", ChildId("Service", "pricer"), "", ("kubectl-edit",)),))
    assert "Contested" not in _conditions(_seen("1.0.0", {ONE.name: UP}), outcome)


def test_a_refusal_goes_before_what_pods_say() -> None:
    seen = _first(ready(0, not_created="exceeded quota"))
    first, second = trouble_of(seen, decide(seen), REFUSED), trouble_of(seen, decide(seen), Outcome())
    assert (first and first.reason, second and second.reason) == ("ChildRefused", "PodsRefused")
    assert trouble_of(_first(UP), decide(_first(UP)), Outcome()) is None
