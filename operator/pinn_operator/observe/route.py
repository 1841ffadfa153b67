"""What a gateway was told and what it says: the shares in an HTTPRoute, and whether they are in force."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from pinn_operator.api.names import LABEL_REVISION
from pinn_operator.api.observed import ChildId, Route
from pinn_operator.api.resource import PinnDeployment
from pinn_operator.api.route_ref import Weights, canary_service_name, complaint_about_rules, weights_in
from pinn_operator.kube import HTTP_ROUTE, Kube, Object

CONDITIONS = ("Accepted", "ResolvedRefs")


def route_of(live: Mapping[str, Any] | None, name: str, resource: PinnDeployment) -> Route | None:
    """The route of an object as it is; None where there is none."""
    if live is None or resource.spec.traffic.gateway is None:
        return None
    rules = live.get("spec", {}).get("rules") or [{}]
    backends = rules[-1].get("backendRefs") or ()  # a rule for previews comes before it
    weights = {str(one["name"]).removeprefix(f"{name}-"): int(one.get("weight", 1)) for one in backends}
    parents = [ref.model_dump(by_alias=True) for ref in resource.spec.traffic.gateway.parent_refs]
    trouble = _trouble(live, parents, resource)
    return Route({revision: weight for revision, weight in weights.items() if weight}, not trouble, trouble)


async def read_referred(kube: Kube, resource: PinnDeployment) -> Object | None:
    """The route that spec.traffic.routeRef names; None where none is named, or there is none."""
    ref = resource.spec.traffic.route_ref
    return await kube.get(HTTP_ROUTE, ref.name, resource.metadata.namespace) if ref else None


def referred_route(
    live: Mapping[str, Any] | None,
    resource: PinnDeployment,
    children: Mapping[ChildId, Mapping[str, Any]],
    behind_canary: Collection[str],
) -> Route | None:
    """A route that the user owns, as shares of revisions: by what its two Services select. `behind_canary` are the revisions
    among the endpoints of NAME-canary. None where the spec names no route."""
    ref, name = resource.spec.traffic.route_ref, resource.metadata.name
    if ref is None:
        return None
    stable, canary = (_selects(children, service) for service in (name, canary_service_name(name)))
    behind = frozenset(behind_canary)
    if live is None:
        said = f"HTTPRoute {ref.name}, which spec.traffic.routeRef names, does not exist"
        return Route({}, trouble=said, canary=canary, behind_canary=behind)
    found = weights_in(live, name)
    most = max(found, key=lambda one: one.share, default=Weights(0, 0))
    parents = live.get("spec", {}).get("parentRefs") or ()
    trouble = complaint_about_rules(live, name) or _trouble(live, parents, resource)
    alike = len({one.share for one in found}) == 1
    return Route(_by_revision(most, stable, canary), alike and not trouble, trouble, live, canary, behind)


def _selects(children: Mapping[ChildId, Mapping[str, Any]], service: str) -> str | None:
    found = children.get(ChildId("Service", service), {})
    return (found.get("spec", {}).get("selector") or {}).get(LABEL_REVISION)


def _by_revision(weights: Weights, stable: str | None, canary: str | None) -> dict[str, int]:
    """In percent. A Service that is not there yet leads to nobody."""
    shares: Counter[str] = Counter()
    if sum(weights):
        shares[canary or ""] += weights.share
        shares[stable or ""] += 100 - weights.share
    return {revision: share for revision, share in shares.items() if share and revision}


def _trouble(live: Mapping[str, Any], parents: Collection[Mapping[str, Any]], resource: PinnDeployment) -> str:
    """What keeps the route from being in force at one of its gateways."""
    if not parents:
        return f"HTTPRoute {live['metadata']['name']} names no Gateway"
    return next(filter(None, (_trouble_at(live, parent, resource) for parent in parents)), "")


def _trouble_at(live: Mapping[str, Any], parent: Mapping[str, Any], resource: PinnDeployment) -> str:
    """By what a controller reports for this generation; nothing when one has taken it. One that was replaced may have left its
    word behind."""
    generation, wanted = live["metadata"].get("generation", 0), _listener(parent, resource)
    reports = [
        one for one in live.get("status", {}).get("parents", ()) if _listener(one["parentRef"], resource) == wanted
    ]
    if not reports:
        return f"Gateway {parent['name']} has not taken the HTTPRoute yet"
    said = [_complaint(parent["name"], report, generation) for report in reports]
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
