"""The status of an object: who is stable, who is on the way, and what the conditions say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pinn_operator.api.journal import Journal
from pinn_operator.api.names import LABEL_OBJECT
from pinn_operator.api.observed import Observed
from pinn_operator.api.outcome import Filed, Outcome
from pinn_operator.api.placement import Placement
from pinn_operator.api.plan import Plan
from pinn_operator.api.revision import Revision
from pinn_operator.api.status import Finished, LastHandled, Side, Status
from pinn_operator.report.certificate import KEPT
from pinn_operator.report.conditions import conditions_of
from pinn_operator.report.pending import not_yet_acted_upon


def status_of(seen: Observed, plan: Plan, outcome: Outcome, filed: Filed | None = None) -> dict[str, Any]:
    """The whole status in JSON's names; what an earlier pass recorded and this one knows nothing of is kept. `filed` is the
    report of a rollout that is over."""
    old = seen.resource.status
    actual = _actual(seen, plan)
    status = Status(
        observed_generation=seen.resource.metadata.generation,
        conditions=conditions_of(seen, plan, outcome),
        replicas=sum(workload.pods for workload in seen.workloads.values()),
        ready_replicas=sum(workload.ready for workload in seen.workloads.values()),
        selector=f"{LABEL_OBJECT}={seen.key.name}",
        not_yet_acted_upon=not_yet_acted_upon(seen),
        stable=_side(seen, plan, plan.stable, actual) if plan.stable else old.stable if plan.teardown else None,
        canary=_side(seen, plan, plan.canary, actual) if plan.canary else None,
        rollout=plan.rollout,
        rejected=old.rejected if plan.rejected is None else plan.rejected,
        history=history_with(old.history, plan.finished, filed)[-KEPT:],
        last_handled=old.last_handled if plan.teardown or plan.handled == LastHandled() else plan.handled,
    )
    return status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)


def history_with(history: tuple[Finished, ...], journal: Journal | None, filed: Filed | None) -> tuple[Finished, ...]:
    """The history, with the rollout that has just ended; the first one may be one too many."""
    if journal is None:
        return history
    ended = Finished(
        revision=journal.canary.revision,
        model_version=journal.canary.model_version,
        outcome=journal.ending,
        at=journal.ended_at,
        report=filed.name if filed else None,
        sha256=filed.sha256 if filed else None,
    )
    return (*history, ended)


def _actual(seen: Observed, plan: Plan) -> dict[str, int]:
    """The shares that users' requests had in the last minute, by revision."""
    journal = plan.memory.journal if plan.memory else None
    if journal is None or journal.ending or not journal.minutes:
        return {}
    last = journal.minutes[-1]
    counts = {
        journal.canary.revision: last.canary.get("live", 0.0),
        journal.stable.revision: last.stable.get("live", 0.0),
    }
    every = sum(counts.values())
    return {name: round(100 * count / every) for name, count in counts.items()} if every else {}


def _placement(seen: Observed, revision: Revision) -> Placement:
    """GPU where each of its ready servers has one; of a revision without any, where they are to come up."""
    ready = seen.placements(revision.name)
    coming = "GPU" in revision.runs_on and not seen.place(revision.name, "CPU").asked
    return "GPU" if ready == {"GPU"} or (not ready and coming) else "CPU"


def _side(seen: Observed, plan: Plan, revision: Revision, actual: Mapping[str, int]) -> Side:
    return Side(
        revision=revision.name,
        model_version=revision.model_version,
        model_digest=revision.model_digest,
        weight=plan.weight_of(revision.name),
        actual_weight=actual.get(revision.name),
        ready_replicas=seen.workload(revision.name).ready,
        placement=_placement(seen, revision),
    )
