"""Why a pod that has a node has no containers yet: a ConfigMap or claim that is missing, say.

The kubelet tells this in Events alone; the pod's status says ContainerCreating for ever. Events are read for such a pod only.
Whether the ConfigMap exists is not looked up: that would take the right to read every ConfigMap there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from pinn_operator.errors import ApiError
from pinn_operator.kube import EVENT, Kube

Object = dict[str, Any]

PATIENCE = timedelta(seconds=5)
"""As long as mounting takes when nothing is wrong, and longer."""

REASONS = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox"})
AT_ONCE = 3
"""The pods of a revision fail alike: one is quoted, and a few are asked about in case one has no Event yet."""

SUMMARY = "Unable to attach or mount volumes"
"""How the kubelet begins its own summary, which names volumes and no cause."""


async def mount_troubles(kube: Kube, pods: Iterable[Object], now: datetime) -> dict[str, str]:
    """By the uid of a pod that waits for its volumes or its sandbox: what the kubelet says about that."""
    waiting = [pod for pod in pods if _waits(pod, now)][:AT_ONCE]
    said = await asyncio.gather(*(_said(kube, pod) for pod in waiting))
    return {pod["metadata"]["uid"]: words for pod, words in zip(waiting, said, strict=True) if words}


def _waits(pod: Object, now: datetime) -> bool:
    """On a node for some time, with nothing running and no sandbox to run it in."""
    status = pod.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    scheduled = conditions.get("PodScheduled", {})
    if status.get("phase") != "Pending" or scheduled.get("status") != "True":
        return False
    if conditions.get("PodReadyToStartContainers", {}).get("status") == "True":
        return False
    return now - datetime.fromisoformat(scheduled["lastTransitionTime"]) > PATIENCE


async def _said(kube: Kube, pod: Object) -> str | None:
    """The latest cause that the kubelet gave. An installation whose role does without Events gets no explanation."""
    metadata = pod["metadata"]
    try:
        events = await kube.list_all(EVENT, metadata["namespace"], fields=f"regarding.uid={metadata['uid']}")
    except ApiError:
        return None
    told = [event for event in events if event.get("reason") in REASONS and event.get("type") == "Warning"]
    latest = max(told, key=lambda event: (not event.get("note", "").startswith(SUMMARY), _time_of(event)), default=None)
    return f"{latest['reason']}: {latest.get('note', '')}".strip(": ") if latest else None


def _time_of(event: Mapping[str, Any]) -> str:
    """When it was last seen, as text that sorts; the kubelet counts repetitions in the fields of the older API."""
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime")
        or event.get("deprecatedLastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp", "")
    )
