"""Every state that the operator reports, as an object of the cluster, and what Argo CD and Flux must make of it.

The states are those of the table of conditions in docs/concepts/revisions.md, made by the operator's own code from the rows of
operator/tests/report/test_conditions.py: a new row without a verdict here fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pinn_operator.api.check import whole_schema, with_defaults
from pinn_operator.api.names import API_VERSION, KIND
from pinn_operator.api.observed import Observed
from pinn_operator.api.outcome import Outcome
from pinn_operator.api.plan import Phase, Plan
from pinn_operator.decide import decide
from pinn_operator.report import status_of
from tests.given import spec_of
from tests.report import test_conditions as table

Object = dict[str, Any]

VERDICTS = {
    # state                                                   Argo CD        kstatus (Flux, helm --wait)
    "no operator has seen it": ("Progressing", "InProgress"),
    "the spec has changed since the operator saw it": ("Progressing", "InProgress"),
    "first start": ("Progressing", "InProgress"),
    "serving": ("Healthy", "Current"),
    "serving, fewer ready than asked for": ("Progressing", "InProgress"),
    "serving, none asked for": ("Healthy", "Current"),
    "new revision beside": ("Progressing", "InProgress"),
    "the traffic is changing over": ("Progressing", "InProgress"),
    "new revision ready and held": ("Suspended", "Current"),
    "no pod of stable is ready": ("Progressing", "InProgress"),
    "pods are refused": ("Progressing", "InProgress"),
    "pods do not start": ("Progressing", "InProgress"),
    "the first revision is not ready within the deadline": ("Degraded", "Failed"),
    "new revision not ready within the deadline": ("Progressing", "InProgress"),
    "spec asks for what this release cannot do": ("Degraded", "Failed"),
    "being deleted": ("Progressing", "Terminating"),
    Phase.STEPPING: ("Progressing", "InProgress"),
    Phase.BAKING: ("Healthy", "Current"),
    Phase.PAUSED: ("Suspended", "Current"),
    Phase.UNDECIDED: ("Suspended", "Current"),
    Phase.APPROVAL: ("Suspended", "Current"),
    Phase.TOO_COARSE: ("Suspended", "Current"),
    Phase.ROLLING_BACK: ("Progressing", "InProgress"),
    Phase.ROLLED_BACK: ("Degraded", "Failed"),
    "paused, and no pod of stable is ready": ("Degraded", "InProgress"),
}


def as_text() -> str:
    """All of it for programs that are not Python: state, verdicts, object."""
    told = {
        f"rollout: {name.value}" if isinstance(name, Phase) else name: {
            "argocd": VERDICTS[name][0],
            "kstatus": VERDICTS[name][1],
            "object": obj,
        }
        for name, obj in states().items()
    }
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def states() -> dict[str | Phase, Object]:
    """The objects by the name of their state."""
    return dict(_states())


def _states() -> Iterator[tuple[str | Phase, Object]]:
    # What an API server stores of a new object is tried in tests/e2e/test_crd.py: the default of the whole status.
    unseen = with_defaults({"apiVersion": API_VERSION, "kind": KIND, "spec": spec_of("1.0.0")}, whole_schema())
    yield "no operator has seen it", unseen | {"metadata": {"name": "pricer", "generation": 1}}
    for name, (seen, _) in table.TABLE.items():
        yield name, reported(seen, decide(seen))
    up = {table.ONE.name: table.UP, table.TWO.name: table.UP}
    for phase in table.PHASES:
        yield phase, reported(table._seen("2.0.0", up), table._plan(phase))
    down = up | {table.ONE.name: table.DOWN}
    yield "paused, and no pod of stable is ready", reported(table._seen("2.0.0", down), table._plan(Phase.PAUSED))
    serving = reported(table.TABLE["serving"][0], decide(table.TABLE["serving"][0]))
    serving["metadata"]["generation"] += 1
    yield "the spec has changed since the operator saw it", serving


def reported(seen: Observed, plan: Plan) -> Object:
    """The object with the status that the operator writes after that pass."""
    said = seen.resource.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {"apiVersion": API_VERSION, "kind": KIND} | said | {"status": status_of(seen, plan, Outcome())}
