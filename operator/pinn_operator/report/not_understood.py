"""What is said of an object that this release cannot read: in its conditions, where people and tools look.

The rest of its status is kept as it was read: it may be another release's, and what is in it is not known to be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

REASON: Final = "NotUnderstood"
SAYS: Final = {"Ready": "False", "Stalled": "True"}
SILENT: Final = ("Reconciling", "Progressing")
"""Conditions that claim that something goes on."""


def not_understood(live: Mapping[str, Any], field: str, said: str, now: datetime) -> dict[str, Any]:
    """The status that it should have."""
    before = live.get("status") or {}
    conditions = before.get("conditions") or []
    known = {one.get("type"): one for one in conditions}
    others = [one for one in conditions if one.get("type") not in (*SAYS, *SILENT)]
    message = (
        f"{field}: this release of the operator cannot read it ({said}). Upgrade the operator, or write what this release knows; "
        "what serves goes on as it is"
    )
    generation = live["metadata"].get("generation", 0)
    told = [
        {
            "type": name,
            "status": status,
            "observedGeneration": generation,
            "lastTransitionTime": _since(known.get(name), status, now),
            "reason": REASON,
            "message": message,
        }
        for name, status in SAYS.items()
    ]
    return {**before, "observedGeneration": generation, "conditions": [*told, *others]}


def _since(condition: Mapping[str, Any] | None, status: str, now: datetime) -> str:
    """A condition keeps its time as long as its status is the same."""
    if condition and condition.get("status") == status and condition.get("lastTransitionTime"):
        return str(condition["lastTransitionTime"])
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
