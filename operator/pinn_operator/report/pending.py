"""Fields of the spec that are accepted and not acted upon yet. Said in the status, so that nobody relies on them unawares.

The list shrinks as they are built; a field leaves it in the change that acts upon it.
"""

from __future__ import annotations

from pinn_operator.api.resource import PinnDeployment

PENDING = (
    "model.credentials",
    "cache",
    "gpu",
    "fallback",
    "limits",
    "rollout.steps",
    "rollout.maxHold",
    "rollout.whenUndecided",
    "rollout.rollbackWithin",
    "rollout.retainStable",
    "sla",
    "traffic",
    "metrics",
    "autoscaling",
)


def not_yet_acted_upon(resource: PinnDeployment) -> tuple[str, ...]:
    """Those of them that the spec has, its defaults included: a default that does nothing is not acted upon either."""
    spec = resource.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return tuple(f"spec.{path}" for path in PENDING if _has(spec, path.split(".")))


def _has(node: object, path: list[str]) -> bool:
    for name in path:
        if not isinstance(node, dict) or name not in node:
            return False
        node = node[name]
    return True
