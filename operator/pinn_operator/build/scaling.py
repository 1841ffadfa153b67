"""The autoscaler of a revision, and who says how many servers its Deployment has.

One of the two: while an autoscaler is there the operator does not so much as mention the number.
"""

from __future__ import annotations

from typing import Any

from pinn_operator.api.observed import Observed
from pinn_operator.api.plan import Run, Scale

Object = dict[str, Any]

IN_FLIGHT = "pinn_requests_in_flight"
"""The servers' metric; an adapter has to serve it under its own name (docs/how-to/autoscale.md)."""

CONTAINER = "server"


def autoscaler(run: Run, metadata: Object, target: str) -> Object | None:
    """The HorizontalPodAutoscaler of the Deployment `target`; None where the spec says how many servers there are."""
    if run.scale is None:
        return None
    spec: Object = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
        "minReplicas": run.scale.fewest,
        "maxReplicas": run.scale.most,
    }
    metrics = _metrics(run.scale)
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata,
        "spec": spec | ({"metrics": metrics} if metrics else {}),
    }


def replicas(run: Run, seen: Observed) -> Object:
    """The part of a Deployment's spec that says how many servers there are: nothing, once an autoscaler says it. None of them
    leads an autoscaler nowhere, so whoever has set that number has it set right."""
    if run.scale is None:
        return {"replicas": run.replicas}
    now = seen.workload(run.revision.name).asked
    if now and run.revision.name in seen.autoscalers:
        return {}
    return {"replicas": now or run.scale.begin}


def _metrics(scale: Scale) -> list[Object]:
    """By the container that serves: what a mesh puts beside it asks for no CPU, and no share of that could be had."""
    metrics: list[Object] = []
    if scale.cpu is not None:
        target = {"type": "Utilization", "averageUtilization": scale.cpu}
        resource = {"name": "cpu", "container": CONTAINER, "target": target}
        metrics += [{"type": "ContainerResource", "containerResource": resource}]
    if scale.in_flight is not None:
        target = {"type": "AverageValue", "averageValue": _quantity(scale.in_flight)}
        metrics += [{"type": "Pods", "pods": {"metric": {"name": IN_FLIGHT}, "target": target}}]
    return metrics


def _quantity(count: int) -> str:
    """As the API server writes it back."""
    for suffix, size in (("M", 1_000_000), ("k", 1_000)):
        if count % size == 0:
            return f"{count // size}{suffix}"
    return str(count)
