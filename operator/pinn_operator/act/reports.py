"""The report of a rollout that is over: written once, under a name that a repeated pass finds again; the oldest ones go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from pinn_operator.errors import ApiError, Conflict, Refused
from pinn_operator.kube import CONFIG_MAP, Kube

log = structlog.get_logger()


async def file_report(kube: Kube, report: Mapping[str, Any], forgotten: Iterable[str]) -> bool:
    """Write it, and remove those that are forgotten. False when it is refused, by a quota say: the rollout is over all the same.

    Raises Unavailable when the pass must be run again."""
    namespace = report["metadata"]["namespace"]
    try:
        await kube.create(dict(report))
    except Conflict:
        pass  # written by a pass that was cut off after it
    except Refused as error:
        log.warning("report_refused", name=report["metadata"]["name"], error=str(error))
        return False
    for name in forgotten:
        await _remove(kube, name, namespace, report["metadata"]["ownerReferences"])
    return True


async def _remove(kube: Kube, name: str, namespace: str, owners: object) -> None:
    """One of ours, if it is there; that it cannot be removed costs nothing but its space."""
    try:
        live = await kube.get(CONFIG_MAP, name, namespace)
        if live is not None and live["metadata"].get("ownerReferences") == owners:
            await kube.delete(CONFIG_MAP, name, namespace, live["metadata"]["uid"])
    except ApiError as error:
        log.warning("report_not_removed", name=name, error=str(error))
