"""Shares of the traffic: which ones there are now, which ones can be made, and whether those asked for are in force.

A gateway makes any share. Without one a share is made by how many servers of each revision stand behind the Service, so it is one
of few; and only then does the Service select servers by a label: who serves alone is selected by name, and needs no operator.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

from pinn_operator.api.observed import Observed
from pinn_operator.api.plan import Traffic
from pinn_operator.api.readings import Server
from pinn_operator.api.revision import Revision


def has_route(seen: Observed) -> bool:
    """Whether a gateway divides the traffic."""
    traffic = seen.resource.spec.traffic
    return traffic.gateway is not None or traffic.route_ref is not None


def all_to(revision: Revision) -> Traffic:
    """Everything to one revision."""
    return Traffic({revision.name: 100}, revision.name)


def divided(seen: Observed, stable: Revision, canary: Revision, weight: int) -> Traffic:
    """So much to the canary and the rest to stable. From the whole on, the Service selects the canary too."""
    if weight <= 0:
        return all_to(stable)
    if weight >= 100:
        return all_to(canary)
    weights = {stable.name: 100 - weight, canary.name: weight}
    if has_route(seen):
        return Traffic(weights, stable.name)
    return Traffic(weights, None, _labelled(seen, stable, canary, weight))


def reachable_share(seen: Observed, stable: Revision, canary: Revision, weight: int) -> Fraction:
    """The share, from 0 to 1, that so many servers can make without a gateway and that is nearest to the one asked for."""
    counts = _counts(seen, stable, canary, weight)
    return Fraction(counts[1], sum(counts)) if sum(counts) else Fraction(0)


def is_too_coarse(seen: Observed, stable: Revision, canary: Revision, weight: int) -> bool:
    """Without a gateway the nearest share is more than twice the one asked for, and nobody said that this is all right."""
    if has_route(seen) or weight >= 100 or seen.resource.spec.traffic.allow_coarse:
        return False
    return reachable_share(seen, stable, canary, weight) > Fraction(2 * weight, 100)


def current(seen: Observed, canary: Revision) -> int:
    """The canary's share as it is now, in percent. Servers of the others count though they are not ready: what falls must not
    raise it."""
    if has_route(seen) and seen.route is not None and seen.route.weights:
        return seen.route.weights.get(canary.name, 0)
    if not seen.split:
        return 100 if seen.selected == canary.name else 0
    own = [server for server in _ready(seen, canary) if server.serving]
    others = [server for server in seen.servers if server.serving and server.revision != canary.name]
    return 100 * len(own) // (len(own) + len(others)) if own else 0


def in_force(seen: Observed, wanted: Traffic) -> bool:
    """Whether the traffic is divided so already, as far as the API server and the gateway tell."""
    if has_route(seen):
        return (
            seen.route is not None
            and seen.route.in_force
            and dict(seen.route.weights) == dict(wanted.weights)
            and seen.selected == wanted.selected
        )
    if wanted.selected is not None:
        return seen.selected == wanted.selected and set(seen.endpoints) <= {wanted.selected}
    marked = frozenset(server.pod for server in seen.servers if server.serving)
    return seen.split and marked == wanted.labelled and set(seen.endpoints) == set(wanted.weights)


def _counts(seen: Observed, stable: Revision, canary: Revision, weight: int) -> tuple[int, int]:
    """How many servers of stable and of the canary make the nearest share; at least one of each, and as many as possible."""
    asked = Fraction(weight, 100)
    most = len(_of(seen, stable))
    options = [
        (min(most, max(1, beside)), count)
        for count in range(1, len(_ready(seen, canary)) + 1)
        for beside in (floor(count * (1 - asked) / asked), ceil(count * (1 - asked) / asked))
    ]
    return min(options, key=lambda one: (abs(Fraction(one[1], sum(one)) - asked), -sum(one)), default=(most, 0))


def _labelled(seen: Observed, stable: Revision, canary: Revision, weight: int) -> frozenset[str]:
    """Which servers carry the label. Those of stable count though they are not ready: what falls must not raise the canary's
    share for longer than it takes them to come back."""
    from_stable, from_canary = _counts(seen, stable, canary, weight)
    chosen = _first(_of(seen, stable), from_stable) + _first(_ready(seen, canary), from_canary)
    return frozenset(server.pod for server in chosen)


def _first(servers: list[Server], count: int) -> list[Server]:
    """The ready ones before the others, and those that carry the label before those that would have to get it."""
    return sorted(servers, key=lambda server: (not server.ready, not server.serving, server.pod))[:count]


def _of(seen: Observed, revision: Revision) -> list[Server]:
    return [server for server in seen.servers if server.revision == revision.name]


def _ready(seen: Observed, revision: Revision) -> list[Server]:
    return [server for server in _of(seen, revision) if server.ready]
