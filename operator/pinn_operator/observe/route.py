"""What a gateway was told and what it says: the shares in an HTTPRoute, and whether they are in force."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pinn_operator.api.observed import Route
from pinn_operator.api.resource import PinnDeployment
from pinn_operator.api.spec import ParentRef

CONDITIONS = ("Accepted", "ResolvedRefs")


def route_of(live: Mapping[str, Any] | None, name: str, resource: PinnDeployment) -> Route | None:
    """The route of an object as it is; None where there is none."""
    if live is None or resource.spec.traffic.gateway is None:
        return None
    rules = live.get("spec", {}).get("rules") or [{}]
    backends = rules[-1].get("backendRefs") or ()  # a rule for previews comes before it
    weights = {str(one["name"]).removeprefix(f"{name}-"): int(one.get("weight", 1)) for one in backends}
    troubles = [_trouble(live, parent, resource) for parent in resource.spec.traffic.gateway.parent_refs]
    trouble = next(filter(None, troubles), "")
    return Route({revision: weight for revision, weight in weights.items() if weight}, not trouble, trouble)


def _trouble(live: Mapping[str, Any], parent: ParentRef, resource: PinnDeployment) -> str:
    """What keeps the route from being in force at one of its gateways, by what a controller reports for this generation; nothing
    when one has taken it. One that was replaced may have left its word behind."""
    generation, wanted = live["metadata"].get("generation", 0), _listener(parent.model_dump(by_alias=True), resource)
    reports = [
        one for one in live.get("status", {}).get("parents", ()) if _listener(one["parentRef"], resource) == wanted
    ]
    if not reports:
        return f"Gateway {parent.name} has not taken the HTTPRoute yet"
    said = [_complaint(parent.name, report, generation) for report in reports]
    return "" if "" in said else said[-1]


def _listener(ref: Mapping[str, Any], resource: PinnDeployment) -> tuple[object, ...]:
    """Which listener of which Gateway; two listeners of one report apart."""
    namespace = ref.get("namespace") or resource.metadata.namespace
    return namespace, ref["name"], ref.get("sectionName"), ref.get("port")


def _complaint(gateway: str, report: Mapping[str, Any], generation: int) -> str:
    conditions = {one["type"]: one for one in report.get("conditions", ())}
    for name in CONDITIONS:
        found = conditions.get(name, {})
        if found.get("observedGeneration", generation) < generation:
            return f"Gateway {gateway} has not seen the change of the HTTPRoute yet"
        if found.get("status") != "True":
            return f"Gateway {gateway} says {name} is {found.get('status', 'unknown')}: {found.get('message', 'no reason')}"
    return ""
