"""Shares that are written into what is not the operator's own: a label on live pods, and two weights in a user's route.

The label is never in a template, or a new share would re-roll the pods.
"""

from __future__ import annotations

from pinn_operator.api.names import LABEL_SERVING
from pinn_operator.api.observed import ChildId, Observed, Route
from pinn_operator.api.outcome import Outcome, Refusal, Write
from pinn_operator.api.plan import Plan, Traffic
from pinn_operator.api.route_ref import ALL_TO_CANARY, ALL_TO_STABLE, Weights, weights_in, with_weights
from pinn_operator.errors import ApiError, Conflict, Refused
from pinn_operator.kube import HTTP_ROUTE, POD, Kube

PATH = f"/metadata/labels/{LABEL_SERVING.replace('/', '~1')}"


async def mark(kube: Kube, plan: Plan, seen: Observed) -> Outcome:
    """Give the label to the servers that are to serve, then take it off the others: none is taken off after a refusal, or the
    Service might have nobody. A pod that has gone meanwhile is no error."""
    if plan.traffic is None or plan.traffic.selected is not None:
        return Outcome()
    changed = [server for server in seen.servers if server.serving != (server.pod in plan.traffic.labelled)]
    for server in sorted(changed, key=lambda one: one.serving):
        operation = {"op": "remove", "path": PATH} if server.serving else {"op": "add", "path": PATH, "value": "true"}
        try:
            await kube.patch(POD, server.pod, seen.key.namespace, [operation])
        except Refused as error:
            return Outcome(refusals=(Refusal(ChildId("Pod", server.pod), error.reason, error.message),))
        except ApiError as error:
            if error.status != 404:
                raise
    return Outcome()


async def weigh(kube: Kube, plan: Plan, seen: Observed) -> Outcome:
    """Write the shares into the route that the user owns, as it was read. A Conflict when it has changed since."""
    route, name = seen.route, seen.key.name
    if plan.traffic is None or route is None or route.theirs is None:
        return Outcome()
    wanted, now = _weights(plan.traffic, seen, route), weights_in(route.theirs, name)
    if wanted is None or all(one.share == wanted.share and sum(one) for one in now):
        return Outcome()
    metadata, rules = route.theirs["metadata"], with_weights(route.theirs, name, wanted)
    child = ChildId("HTTPRoute", metadata["name"])
    unchanged = {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]}
    change = {"op": "replace", "path": "/spec/rules", "value": rules}
    try:
        await kube.patch(HTTP_ROUTE, child.name, seen.key.namespace, [unchanged, change])
    except Refused as error:
        return Outcome(refusals=(Refusal(child, error.reason, error.message),))
    except ApiError as error:
        if error.status == 404:
            raise Conflict(409, "Conflict", f"{child} has just been deleted") from None
        raise
    return Outcome((Write("Updated", child, ""),))


def _weights(traffic: Traffic, seen: Observed, route: Route) -> Weights | None:
    """The weights that make these shares, by where the two Services lead now; None: leave them as they are."""
    share = max((one.share for one in weights_in(route.theirs or {}, seen.key.name)), default=0)
    through_canary = route.canary if route.behind_canary == {route.canary} else None
    if len(traffic.weights) == 1:
        return _whole(next(iter(traffic.weights)), seen, route, through_canary, share)
    ((canary, asked),) = ((name, weight) for name, weight in traffic.weights.items() if name != traffic.selected)
    if through_canary != canary:
        return ALL_TO_STABLE
    return None if asked > share and not route.in_force else Weights(100 - asked, asked)


def _whole(target: str, seen: Observed, route: Route, through_canary: str | None, share: int) -> Weights | None:
    """All to one revision: to a canary through NAME-canary first, and through NAME again when that leads to it, too, and the
    gateway has had time to see it; to stable at once."""
    if through_canary != target:
        return ALL_TO_STABLE
    if seen.selected != target:
        return ALL_TO_CANARY
    settled = set(seen.endpoints) == {target} and (route.in_force or share == 0)
    return ALL_TO_STABLE if settled else None
