"""The status of an object, and the Events about it: written last, from what report/ made of the pass."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import structlog

from pinn_operator.api.names import API_VERSION, KIND
from pinn_operator.api.observed import Observed
from pinn_operator.api.outcome import Happening
from pinn_operator.errors import ApiError
from pinn_operator.kube import Kube

log = structlog.get_logger()

REPORTER = "pinn.dev/pinn-operator"
NOTE_LIMIT = 1024
"""Bytes, not characters: the API server refuses an Event whose note is longer."""


async def write_status(kube: Kube, status: Mapping[str, Any], seen: Observed, version: str) -> None:
    """Write it when it differs from what was read. Raises Conflict when the object has changed since this resourceVersion."""
    if status == seen.resource.status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True):
        return
    named = {"name": seen.key.name, "namespace": seen.key.namespace, "resourceVersion": version}
    await kube.apply_status({"apiVersion": API_VERSION, "kind": KIND, "metadata": named, "status": status})


async def write_not_understood(kube: Kube, status: Mapping[str, Any], live: Mapping[str, Any]) -> None:
    """The same of an object that cannot be read: its status as it is, but for what `status` says otherwise."""
    if status == live.get("status"):
        return
    metadata = live["metadata"]
    named = {name: metadata[name] for name in ("name", "namespace", "resourceVersion")}
    await kube.apply_status({"apiVersion": API_VERSION, "kind": KIND, "metadata": named, "status": status})


async def announce(kube: Kube, happenings: Iterable[Happening], seen: Observed, instance: str) -> None:
    """Events for people. One that cannot be written is logged and costs nothing else."""
    for happening in happenings:
        try:
            await kube.create(_event(happening, seen, instance))
        except ApiError as error:
            log.warning("event_not_written", object=str(seen.key), reason=happening.reason, error=str(error))


def _event(happening: Happening, seen: Observed, instance: str) -> dict[str, Any]:
    metadata = seen.resource.metadata
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata.name}.{secrets.token_hex(8)}", "namespace": metadata.namespace},
        "eventTime": _micro(seen.now),
        "reportingController": REPORTER,
        "reportingInstance": instance[:128],
        "action": happening.action,
        "reason": happening.reason,
        "type": "Warning" if happening.warning else "Normal",
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": metadata.name,
            "namespace": metadata.namespace,
            "uid": metadata.uid,
            "resourceVersion": metadata.resource_version,
        },
        "note": happening.note.encode()[:NOTE_LIMIT].decode(errors="ignore"),
    }


def _micro(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
