"""Fields of the spec that are accepted and not acted upon yet. Said in the status, so that nobody relies on them unawares.

The list shrinks as they are built; a field leaves it in the change that acts upon it.
"""

from __future__ import annotations

from pinn_operator.api.observed import Observed
from pinn_operator.api.units import OFF

PENDING: tuple[str, ...] = ()

IN_FLIGHT = "autoscaling.targetInFlight"
"""Acted upon where the cluster has somebody to tell how many requests are in flight."""

NOTHING: tuple[object, ...] = (None, OFF)
"""What asks for nothing."""


def not_yet_acted_upon(seen: Observed) -> tuple[str, ...]:
    """Those of them that the spec has, its defaults included: a default that does nothing is not acted upon either."""
    spec = seen.resource.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    pending = (*PENDING, IN_FLIGHT) if seen.pod_metrics is False else PENDING
    return tuple(f"spec.{path}" for path in pending if _at(spec, path) not in NOTHING)


def _at(node: object, path: str) -> object:
    for name in path.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node
