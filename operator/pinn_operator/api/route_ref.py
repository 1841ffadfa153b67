"""A route that the user owns, in which the operator moves two weights: those of the Services NAME and NAME-canary.

Which rules those are and what may be written in them is said here once, for who reads the route and for who writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Object = dict[str, Any]


class Weights(NamedTuple):
    """Of the backend NAME, and of NAME-canary."""

    stable: int
    canary: int

    @property
    def share(self) -> int:
        """What NAME-canary gets of the two, in percent, rounded up: a little is not nothing."""
        return -(-100 * self.canary // max(1, self.stable + self.canary))


ALL_TO_STABLE = Weights(100, 0)
ALL_TO_CANARY = Weights(0, 100)


def canary_service_name(name: str) -> str:
    """The Service through which such a route reaches the canary."""
    return f"{name}-canary"


def weights_in(route: Mapping[str, Any], name: str) -> list[Weights]:
    """The weights in each rule that has both backends. One without a weight has one part, as the Gateway API has it."""
    found = []
    for rule in _rules(route):
        weights = {str(one["name"]): int(one.get("weight", 1)) for one in _services(rule, route)}
        if {name, canary_service_name(name)} <= weights.keys():
            found.append(Weights(weights[name], weights[canary_service_name(name)]))
    return found


def with_weights(route: Mapping[str, Any], name: str, wanted: Weights) -> list[Object]:
    """The rules of the route, with these weights in each that has both backends; nothing else is changed."""
    both = {name: wanted.stable, canary_service_name(name): wanted.canary}
    return [_weighed(rule, both, route) for rule in _rules(route)]


def complaint_about_rules(route: Mapping[str, Any], name: str) -> str:
    """Why shares cannot be made in this route, in a sentence; nothing where they can."""
    called, pair = f"HTTPRoute {route['metadata']['name']}", f"{name} and {canary_service_name(name)}"
    if not weights_in(route, name):
        return f"{called} has no rule with the two Services {pair} as backends"
    for rule in _rules(route):
        names = {str(one["name"]) for one in _services(rule, route)}
        if {name, canary_service_name(name)} <= names and len(rule["backendRefs"]) > 2:
            return f"{called} has a rule with more backends than {pair}; give the others a rule of their own"
    return ""


def _rules(route: Mapping[str, Any]) -> list[Object]:
    return list(route.get("spec", {}).get("rules") or ())


def _services(rule: Mapping[str, Any], route: Mapping[str, Any]) -> list[Object]:
    return [one for one in rule.get("backendRefs") or () if _is_service(one, route)]


def _is_service(backend: Mapping[str, Any], route: Mapping[str, Any]) -> bool:
    here = backend.get("namespace") in (None, route["metadata"].get("namespace"))
    return here and backend.get("kind", "Service") == "Service" and not backend.get("group")


def _weighed(rule: Object, both: Mapping[str, int], route: Mapping[str, Any]) -> Object:
    if not both.keys() <= {one["name"] for one in _services(rule, route)}:
        return rule
    backends = [
        {**one, "weight": both[one["name"]]} if one["name"] in both and _is_service(one, route) else one
        for one in rule["backendRefs"]
    ]
    return {**rule, "backendRefs": backends}
