"""What a gateway was told and what it says: the shares in an HTTPRoute, and whether they are in force."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pinn_operator.api.observed import Route
from pinn_operator.api.resource import PinnDeployment

CONDITIONS = ("Accepted", "ResolvedRefs")


def route_of(live: Mapping[str, Any] | None, name: str, resource: PinnDeployment) -> Route | None:
    """The route of an object as it is; None where there is none."""
    if live is None or resource.spec.traffic.gateway is None:
        return None
    rules = live.get("spec", {}).get("rules") or [{}]
    backends = rules[-1].get("backendRefs") or ()  # a rule for previews comes before it
    weights = {str(one["name"]).removeprefix(f"{name}-"): int(one.get("weight", 1)) for one in backends}
    trouble = _trouble(live, [ref.name for ref in resource.spec.traffic.gateway.parent_refs])
    return Route({revision: weight for revision, weight in weights.items() if weight}, trouble is None, trouble or "")


def _trouble(live: Mapping[str, Any], parents: Iterable[str]) -> str | None:
    """What keeps the route from being in force at one of its gateways, by what their controllers report for this generation."""
    generation = live["metadata"].get("generation", 0)
    reported = {one["parentRef"]["name"]: one for one in live.get("status", {}).get("parents", ())}
    for parent in parents:
        if parent not in reported:
            return f"Gateway {parent} has not taken the HTTPRoute yet"
        conditions = {one["type"]: one for one in reported[parent].get("conditions", ())}
        for name in CONDITIONS:
            found = conditions.get(name, {})
            if found.get("observedGeneration", generation) < generation:
                return f"Gateway {parent} has not seen the change of the HTTPRoute yet"
            if found.get("status") != "True":
                return f"Gateway {parent} says {name} is {found.get('status', 'unknown')}: {found.get('message', 'no reason')}"
    return None
