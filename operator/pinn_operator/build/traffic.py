"""The objects that divide the traffic: the Service that callers know, and the HTTPRoute of an object behind a gateway."""

from __future__ import annotations

from typing import Any

from pinn_operator.api.names import LABEL_OBJECT, LABEL_REVISION, LABEL_SERVING
from pinn_operator.api.observed import ChildId, Observed
from pinn_operator.api.plan import Phase, Plan, Traffic
from pinn_operator.api.route_ref import canary_service_name, weights_in
from pinn_operator.build.metadata import metadata_of

Object = dict[str, Any]

SERVICE_PORT = 80
OTHER_NAME = "pinn-http"
"""Of our port on a Service that has another one called http."""
PREVIEW_VALUE = "canary"


def service(traffic: Traffic, seen: Observed) -> Object:
    """The Service that callers know. It selects a revision, or, while a share is made without a gateway, the servers that carry a
    label: who serves alone is served without the operator."""
    chosen = {LABEL_SERVING: "true"} if traffic.selected is None else {LABEL_REVISION: traffic.selected}
    made = service_object(metadata_of(seen, seen.key.name, "server"), {LABEL_OBJECT: seen.key.name, **chosen})
    made["spec"]["ports"] = _with_those_there(made["spec"]["ports"][0], seen)
    return made


def _with_those_there(ours: Object, seen: Observed) -> list[Object]:
    """Our port at its place among those that the Service has: one that was taken over keeps the ports and names its callers know.
    Of several ports each has a name, and no two the same."""
    live = seen.children.get(ChildId("Service", seen.key.name), {}).get("spec", {}).get("ports", ())
    found: list[Object] = [
        {"name": f"port-{port['port']}", **port} if _key(port) != _key(ours) else dict(port) for port in live
    ]
    place = next((number for number, port in enumerate(found) if _key(port) == _key(ours)), None)
    if place is None:
        found, place = [dict(ours), *found], 0
    taken = {port.get("name") for number, port in enumerate(found) if number != place}
    wished = (found[place].get("name"), ours["name"], OTHER_NAME, f"{OTHER_NAME}-{SERVICE_PORT}")
    found[place] = {**ours, "name": next(name for name in wished if name and name not in taken)}
    return found


def _key(port: Object) -> tuple[int, str]:
    return port["port"], port.get("protocol", "TCP")


def canary_service(plan: Plan, traffic: Traffic, seen: Observed) -> Object | None:
    """The Service NAME-canary, through which a route that the user owns reaches the canary; None without such a route.

    It leads to stable while there is no canary that could answer, so that any weight is right; it turns to a canary only
    while the gateway sends nothing through it (docs/concepts/traffic.md).
    """
    if seen.resource.spec.traffic.route_ref is None:
        return None
    chosen = {LABEL_OBJECT: seen.key.name, LABEL_REVISION: _through_canary(plan, traffic, seen)}
    return service_object(metadata_of(seen, canary_service_name(seen.key.name), "server"), chosen)


def _through_canary(plan: Plan, traffic: Traffic, seen: Observed) -> str:
    """The revision that NAME-canary selects from now on."""
    home = plan.stable.name if plan.stable else traffic.selected or plan.wanted
    canary = plan.canary.name if plan.canary and plan.phase is not Phase.ROLLING_BACK else home
    now = seen.route.canary if seen.route else None
    if canary == home or not seen.behind.get(canary):
        return home
    if now == canary or set(traffic.weights) == {canary}:
        return canary
    return canary if seen.selected == home and _is_quiet(seen) else home


def _is_quiet(seen: Observed) -> bool:
    """Whether the gateway has taken it that NAME-canary gets nothing."""
    route = seen.route
    if route is None or route.theirs is None or not route.in_force:
        return False
    return all(weights.canary == 0 for weights in weights_in(route.theirs, seen.key.name))


def service_object(metadata: Object, selector: dict[str, str]) -> Object:
    """A Service of the servers that these labels select."""
    port = {"name": "http", "port": SERVICE_PORT, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"type": "ClusterIP", "selector": selector, "ports": [port]},
    }


def route(plan: Plan, traffic: Traffic, seen: Observed) -> Object | None:
    """The HTTPRoute of the object's name, with one backend for each revision that gets a share; None without a gateway."""
    gateway = seen.resource.spec.traffic.gateway
    if gateway is None:
        return None
    rules = [{"backendRefs": [_backend(seen, name, weight) for name, weight in sorted(traffic.weights.items())]}]
    if gateway.preview and plan.canary and seen.behind.get(plan.canary.name):
        header = {"type": "Exact", "name": gateway.preview.header, "value": PREVIEW_VALUE}
        preview = {"matches": [{"headers": [header]}], "backendRefs": [_backend(seen, plan.canary.name, 1)]}
        rules = [preview, *rules]
    spec: Object = {"parentRefs": [ref.model_dump(by_alias=True, exclude_none=True) for ref in gateway.parent_refs]}
    if gateway.hostnames:
        spec["hostnames"] = list(gateway.hostnames)
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": metadata_of(seen, seen.key.name, "route"),
        "spec": {**spec, "rules": rules},
    }


def _backend(seen: Observed, revision: str, weight: int) -> Object:
    return {"name": f"{seen.key.name}-{revision}", "port": SERVICE_PORT, "weight": weight}
