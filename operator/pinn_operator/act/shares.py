"""The label by which a share is made without a gateway, on live pods: never in a template, or a new share would re-roll them."""

from __future__ import annotations

from pinn_operator.api.names import LABEL_SERVING
from pinn_operator.api.observed import Observed
from pinn_operator.api.plan import Plan
from pinn_operator.errors import ApiError
from pinn_operator.kube import POD, Kube

PATH = f"/metadata/labels/{LABEL_SERVING.replace('/', '~1')}"


async def mark(kube: Kube, plan: Plan, seen: Observed) -> None:
    """Give the label to the servers that are to serve, then take it off the others. A pod that has gone meanwhile is no error."""
    if plan.traffic is None or plan.traffic.selected is not None:
        return
    changed = [server for server in seen.servers if server.serving != (server.pod in plan.traffic.labelled)]
    for server in sorted(changed, key=lambda one: one.serving):
        operation = {"op": "remove", "path": PATH} if server.serving else {"op": "add", "path": PATH, "value": "true"}
        try:
            await kube.patch(POD, server.pod, seen.key.namespace, [operation])
        except ApiError as error:
            if error.status != 404:
                raise
