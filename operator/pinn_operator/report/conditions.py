"""The conditions of crd.md's table, in kstatus's terms: one that does not hold is absent, except Ready and Available.

`kubectl wait --for=condition=Ready`, Flux and Argo CD read Ready, Reconciling and Stalled and need nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple

from pinn_operator.api.observed import Observed
from pinn_operator.api.outcome import Outcome
from pinn_operator.api.plan import Phase, Plan
from pinn_operator.api.revision import Revision
from pinn_operator.api.status import Condition
from pinn_operator.api.units import seconds

MESSAGE_LIMIT = 2000

HELD = (Phase.PAUSED, Phase.UNDECIDED, Phase.APPROVAL, Phase.TOO_COARSE)
ENDED = (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
MOVING = (Phase.STARTING, Phase.STEPPING, Phase.BAKING, Phase.DRAINING)


class _Verdict(NamedTuple):
    type: str
    holds: bool
    reason: str
    message: str


class Trouble(NamedTuple):
    """What keeps a revision from running, in one word and in a sentence."""

    reason: str
    message: str


def conditions_of(seen: Observed, plan: Plan, outcome: Outcome) -> tuple[Condition, ...]:
    """Every condition that holds, and Ready and Available always; transition times are carried over from the old status."""
    before = {condition.type: condition for condition in seen.resource.status.conditions}
    return tuple(_dated(verdict, before, seen) for verdict in _verdicts(seen, plan, outcome))


def trouble_of(seen: Observed, plan: Plan, outcome: Outcome) -> Trouble | None:
    """A refused child, pods that may not be created, an image that cannot be pulled: what a person has to look at."""
    if outcome.refusals:
        first = outcome.refusals[0]
        return Trouble("ChildRefused", f"{first.child} was refused ({first.reason}): {first.message}")
    for run in plan.run if plan.phase not in ENDED else ():  # the canary's troubles are told already
        workload = seen.workload(run.revision.name)
        if workload.not_created:
            return Trouble("PodsRefused", f"pods of revision {run.revision.name} are refused: {workload.not_created}")
        if workload.not_starting:
            return Trouble("PodsNotStarting", f"a pod of revision {run.revision.name}: {workload.not_starting}")
    return Trouble("RollingBack", plan.sentence) if _is_late_to_go_back(seen, plan) else None


def _is_late_to_go_back(seen: Observed, plan: Plan) -> bool:
    """A rollback was decided and its traffic is still not on stable, as when no gateway takes the route."""
    journal = plan.memory.journal if plan.memory else None
    if plan.phase is not Phase.ROLLING_BACK or plan.finished or journal is None or journal.ended is None:
        return False
    return seen.now.timestamp() - journal.ended > seconds(seen.resource.spec.rollout.rollback_within)


def contest_of(seen: Observed, outcome: Outcome) -> Trouble | None:
    """Who changes a child again and again. In a pass that mends nothing it is as it was said before."""
    healed = sorted((write for write in outcome.writes if write.verb == "Healed"), key=lambda write: write.child)
    if not outcome.contested:
        return None
    if not healed:
        before = next((one for one in seen.resource.status.conditions if one.type == "Contested"), None)
        return Trouble(before.reason, before.message) if before else None
    who = ", ".join(healed[0].by) or "somebody whom its managedFields do not name"
    said = f"{healed[0].child} is changed again and again by {who}; it is put back, a few times a minute at most"
    return Trouble("ChildChanged", f"{said}. Let {who} leave it alone, or say in spec what it should be")


def _verdicts(seen: Observed, plan: Plan, outcome: Outcome) -> Iterable[_Verdict]:
    available = _is_available(seen, plan)
    trouble = trouble_of(seen, plan, outcome)
    overdue = _is_overdue(seen, plan, trouble)
    late = Trouble("ProgressDeadlineExceeded", _overdue_sentence(seen, plan, trouble)) if overdue else None
    yield _ready(plan, available, trouble or late)
    if plan.phase is Phase.NOT_SUPPORTED:
        yield _Verdict("Stalled", True, "NotSupported", plan.sentence)
    elif plan.phase is Phase.ROLLED_BACK:
        yield _Verdict("Stalled", True, "RolledBack", plan.sentence)
    elif overdue:
        yield _Verdict("Stalled", True, "ProgressDeadlineExceeded", _overdue_sentence(seen, plan, trouble))
    elif _is_moving(seen, plan, trouble):
        yield _Verdict("Reconciling", True, trouble.reason if trouble else plan.phase.value, _sentence(plan, trouble))
    yield _available(plan, available, seen)
    if plan.phase in HELD or plan.phase in ENDED:
        yield _Verdict("Progressing", False, plan.phase.value, plan.sentence)
    elif trouble is None and not overdue and plan.phase in MOVING:
        yield _Verdict("Progressing", True, "Baking" if plan.phase is Phase.BAKING else "Step", plan.sentence)
    if contest := contest_of(seen, outcome):
        yield _Verdict("Contested", True, contest.reason, contest.message)
    yield from gpu_satisfied(plan)


def gpu_satisfied(plan: Plan) -> Iterable[_Verdict]:
    """Of the revisions that may run on GPUs; the first that does not have all of its own speaks for the object."""
    told = [run.placed for run in plan.run if run.placed is not None and run.replicas]
    if told and not plan.teardown:
        one = next((placed for placed in told if not placed.satisfied), told[0])
        yield _Verdict("GpuSatisfied", one.satisfied, one.reason, one.said)


def _ready(plan: Plan, available: bool, trouble: Trouble | None) -> _Verdict:
    """A refusal shows here even while an older revision answers, and so does a revision that was sent back: the object is not
    what its spec asks for."""
    if trouble is not None:
        return _Verdict("Ready", False, trouble.reason, trouble.message)
    if plan.phase in (Phase.DELETING, Phase.NOT_SUPPORTED, Phase.ROLLED_BACK):
        return _Verdict("Ready", False, plan.phase.value, plan.sentence)
    if available:
        return _Verdict("Ready", True, "Serving", plan.sentence)
    return _Verdict("Ready", False, plan.phase.value if plan.stable is None else "Unavailable", plan.sentence)


def _available(plan: Plan, available: bool, seen: Observed) -> _Verdict:
    if plan.teardown:
        return _Verdict("Available", False, "Deleting", plan.sentence)
    if plan.stable is None:
        return _Verdict("Available", False, "NotYet", "no revision has been ready yet")
    answers = _who_answers(plan, plan.stable)
    workload, spec = seen.workload(answers), seen.resource.spec
    ready, asked = workload.ready, workload.asked if spec.autoscaling and spec.replicas else spec.replicas
    said = f"{ready} of {asked} replicas of revision {answers} are ready"
    lacking = seen.place(answers, "GPU").lacking if ready < asked else ""
    said = f"{said}; {lacking}" if lacking else said
    return _Verdict("Available", available, "MinimumAvailable" if available else "Unavailable", said)


def _is_available(seen: Observed, plan: Plan) -> bool:
    if plan.stable is None:
        return False
    return seen.resource.spec.replicas == 0 or seen.workload(_who_answers(plan, plan.stable)).ready > 0


def _who_answers(plan: Plan, stable: Revision) -> str:
    """Stable, or who has all of the traffic in its place."""
    return next(iter(plan.traffic.weights)) if plan.traffic and not plan.weight_of(stable.name) else stable.name


def _is_moving(seen: Observed, plan: Plan, trouble: Trouble | None) -> bool:
    if trouble is not None:
        return True
    if plan.phase in (*HELD, Phase.NOT_SUPPORTED, Phase.ROLLED_BACK):
        return False
    return plan.phase not in (Phase.SERVING, Phase.BAKING) or _is_short(seen, plan)


def _is_short(seen: Observed, plan: Plan) -> bool:
    """Fewer replicas than asked for: being scaled, or being mended."""
    return any(seen.workload(run.revision.name).ready < run.replicas for run in plan.run)


def _is_overdue(seen: Observed, plan: Plan, trouble: Trouble | None) -> bool:
    """Kubernetes keeps the deadline of a workload; that of any other trouble runs since the object is not Ready."""
    if plan.phase not in ENDED and any(
        seen.workload(run.revision.name).deadline_exceeded
        for run in plan.run
        if not _served(seen, plan, run.revision.name)
    ):
        return True
    if trouble is None or trouble.reason == "RollingBack":
        return False
    before = {condition.type: condition for condition in seen.resource.status.conditions}
    stalled, began = before.get("Stalled"), _began(before, seen)
    if stalled and stalled.reason == "ProgressDeadlineExceeded" and _is_current(stalled, seen):
        return True
    deadline = seconds(seen.resource.spec.rollout.progress_deadline)
    return began is not None and (seen.now - began).total_seconds() > deadline


def _began(before: dict[str, Condition], seen: Observed) -> datetime | None:
    """Since when the object is not Ready, counted from when this generation of the spec began to be reconciled: that alone may
    have gone well for long, as in a step. None where it was Ready until now."""
    ready, reconciling = before.get("Ready"), before.get("Reconciling")
    if ready is None or ready.status != "False" or reconciling is None or not _is_current(reconciling, seen):
        return None
    return max(ready.last_transition_time, reconciling.last_transition_time)


def _is_current(condition: Condition, seen: Observed) -> bool:
    return condition.observed_generation == seen.resource.metadata.generation


def _served(seen: Observed, plan: Plan, revision: str) -> bool:
    return plan.stable is not None and plan.stable.name == revision and seen.workload(revision).ready > 0


def _sentence(plan: Plan, trouble: Trouble | None) -> str:
    return trouble.message if trouble else plan.sentence


def _overdue_sentence(seen: Observed, plan: Plan, trouble: Trouble | None) -> str:
    deadline = seen.resource.spec.rollout.progress_deadline
    return f"not ready within spec.rollout.progressDeadline ({deadline}); {_sentence(plan, trouble)}"


def _dated(verdict: _Verdict, before: dict[str, Condition], seen: Observed) -> Condition:
    status: Literal["True", "False"] = "True" if verdict.holds else "False"
    old = before.get(verdict.type)
    carried = old is not None and old.status == status and (verdict.type != "Reconciling" or _is_current(old, seen))
    since = old.last_transition_time if old and carried else seen.now.replace(microsecond=0)
    return Condition(
        type=verdict.type,
        status=status,
        observed_generation=seen.resource.metadata.generation,
        last_transition_time=since,
        reason=verdict.reason,
        message=verdict.message[:MESSAGE_LIMIT],
    )
