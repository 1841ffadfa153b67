"""The objects that divide the traffic: the Service that callers know, and the HTTPRoute of an object behind a gateway."""

from __future__ import annotations

from typing import Any

from pinn_operator.api.names import LABEL_OBJECT, LABEL_REVISION, LABEL_SERVING
from pinn_operator.api.observed import Observed
from pinn_operator.api.plan import Plan, Traffic
from pinn_operator.build.metadata import metadata_of

Object = dict[str, Any]

SERVICE_PORT = 80
PREVIEW_VALUE = "canary"


def service(traffic: Traffic, seen: Observed) -> Object:
    """The Service that callers know. It selects a revision, or, while a share is made without a gateway, the servers that carry a
    label: who serves alone is served without the operator."""
    chosen = {LABEL_SERVING: "true"} if traffic.selected is None else {LABEL_REVISION: traffic.selected}
    return service_object(metadata_of(seen, seen.key.name, "server"), {LABEL_OBJECT: seen.key.name, **chosen})


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
