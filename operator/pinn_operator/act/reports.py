"""The report of a rollout that is over: written once, under a name that a repeated pass finds again; the oldest ones go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from pinn_operator.errors import ApiError, Conflict, Refused, Unavailable
from pinn_operator.kube import CONFIG_MAP, Kube

log = structlog.get_logger()


async def file_report(kube: Kube, report: Mapping[str, Any], forgotten: Iterable[str]) -> Mapping[str, Any] | None:
    """Remove those that are forgotten, as a quota may have no room but theirs, and write it. The report as it is stored: a pass
    that was cut off may have written it before, with fewer log lines. None when it is refused, by a quota say: the rollout is
    over all the same.

    Raises Conflict or Unavailable when the pass must be run again."""
    name, namespace = report["metadata"]["name"], report["metadata"]["namespace"]
    stored: Mapping[str, Any] | None = report
    for old in forgotten:
        await _remove(kube, old, namespace, report["metadata"]["ownerReferences"])
    try:
        await kube.create(dict(report))
    except Conflict:
        stored = await kube.get(CONFIG_MAP, name, namespace)
        if stored is None:
            raise  # nobody has the name: a quota was counted anew meanwhile, say
        if stored["metadata"].get("ownerReferences") != report["metadata"]["ownerReferences"]:
            log.warning("report_name_taken", name=name)
            return None
    except Refused as error:
        log.warning("report_refused", name=name, error=str(error))
        return None
    return stored


async def _remove(kube: Kube, name: str, namespace: str, owners: object) -> None:
    """One of ours, if it is there. That it may not be removed costs nothing but its space; a busy server is asked again, as the
    status is about to forget the name."""
    try:
        live = await kube.get(CONFIG_MAP, name, namespace)
        if live is not None and live["metadata"].get("ownerReferences") == owners:
            await kube.delete(CONFIG_MAP, name, namespace, live["metadata"]["uid"])
    except Unavailable:
        raise
    except ApiError as error:
        log.warning("report_not_removed", name=name, error=str(error))
