"""Where pods run, and what keeps them from a GPU: by the scheduler's word, and by that of whoever may not create them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pinn_operator.api.names import LABEL_PLACEMENT
from pinn_operator.api.placement import ON_GPUS, Placement

Object = dict[str, Any]
Deployments = dict[Placement, Mapping[str, Any]]
"""Those of one revision."""


def where_of(obj: Mapping[str, Any]) -> Placement:
    """Where a pod runs, by its label; the pods of a Deployment, by its name."""
    if obj["kind"] == "Deployment":
        return "GPU" if obj["metadata"]["name"].endswith(ON_GPUS) else "CPU"
    return "GPU" if obj["metadata"].get("labels", {}).get(LABEL_PLACEMENT) == "gpu" else "CPU"


def waits_for_a_gpu(pod: Object) -> bool:
    """It has no node, so it is no server yet, however long it stays so."""
    return where_of(pod) == "GPU" and is_unschedulable(pod)


def is_unschedulable(pod: Object) -> bool:
    """The scheduler has looked, and found no node."""
    return not has_node(pod) and _refusal(pod) is not None


def has_node(pod: Object) -> bool:
    return bool(pod.get("spec", {}).get("nodeName"))


def what_lacks(deployment: Mapping[str, Any], pods: Sequence[Object]) -> tuple[str, datetime | None]:
    """Why a pod of a Deployment has no node or may not be created, and since when; nothing where none lacks."""
    refused = [
        (_said("Unschedulable", one), _since(one)) for pod in pods if is_unschedulable(pod) and (one := _refusal(pod))
    ]
    failing = conditions_of(deployment).get("ReplicaFailure", {})
    if failing.get("status") == "True":
        refused.append((_said("refused", failing), _since(failing)))
    known = [since for _, since in refused if since is not None]
    return (refused[0][0], min(known, default=None)) if refused else ("", None)


def those_that_count(deployments: Deployments, pods: Sequence[Object]) -> list[Object]:
    """The pods whose troubles are the revision's. Where it may run on CPUs too, one that waits for a GPU troubles nobody, and
    none on GPUs does while CPUs stand in."""
    if len(deployments) == 1:
        return list(pods)
    standing_in = deployments["CPU"]["spec"].get("replicas", 0) > 0
    return [pod for pod in pods if where_of(pod) == "CPU" or not (standing_in or is_unschedulable(pod))]


def conditions_of(obj: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """By type."""
    return {one["type"]: one for one in obj.get("status", {}).get("conditions", ())}


def _refusal(pod: Object) -> Mapping[str, Any] | None:
    found = conditions_of(pod).get("PodScheduled", {})
    return found if found.get("reason") == "Unschedulable" and found.get("status") != "True" else None


def _said(what: str, condition: Mapping[str, Any]) -> str:
    return f"{what}: {condition.get('message', '')}".strip(": ")


def _since(condition: Mapping[str, Any]) -> datetime | None:
    at = condition.get("lastTransitionTime")
    return datetime.fromisoformat(at) if at else None
