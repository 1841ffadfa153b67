"""The status of an object: who is stable, who is on the way, and what the conditions say."""

from __future__ import annotations

from typing import Any

from pinn_operator.api.names import LABEL_OBJECT
from pinn_operator.api.observed import Observed
from pinn_operator.api.outcome import Outcome
from pinn_operator.api.plan import Plan
from pinn_operator.api.revision import Revision
from pinn_operator.api.status import Side, Status
from pinn_operator.report.conditions import conditions_of
from pinn_operator.report.pending import not_yet_acted_upon


def status_of(seen: Observed, plan: Plan, outcome: Outcome) -> dict[str, Any]:
    """The whole status in JSON's names; what an earlier pass recorded and this one knows nothing of is kept."""
    old = seen.resource.status
    status = Status(
        observed_generation=seen.resource.metadata.generation,
        conditions=conditions_of(seen, plan, outcome),
        replicas=sum(workload.pods for workload in seen.workloads.values()),
        ready_replicas=sum(workload.ready for workload in seen.workloads.values()),
        selector=f"{LABEL_OBJECT}={seen.key.name}",
        not_yet_acted_upon=not_yet_acted_upon(seen.resource),
        stable=_side(seen, plan.stable, 100) if plan.stable else old.stable if plan.teardown else None,
        canary=_side(seen, plan.canary, 0) if plan.canary else None,
        rejected=old.rejected,
        history=old.history,
        last_handled=old.last_handled,
    )
    return status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)


def _side(seen: Observed, revision: Revision, weight: int) -> Side:
    return Side(
        revision=revision.name,
        model_version=revision.model_version,
        model_digest=revision.model_digest,
        weight=weight,
        ready_replicas=seen.workload(revision.name).ready,
        placement="CPU",
    )
