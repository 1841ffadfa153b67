"""How one gate stands, and the words for amounts: what all gates have in common, be they judged by evidence or by a ceiling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pinn_operator.api.status import Verdict


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """How one gate stands. `evidence` and `needed` are of what comes next, failing or passing, as factors; `events_to_go` are
    those of the canary that a verdict should still take, None when none is in sight. `observed` and `stable` are in `unit`:
    shares from 0 to 1, or bytes."""

    name: str
    verdict: Verdict
    sentence: str
    limit: str = ""
    observed: float | None = None
    stable: float | None = None
    events: float = 0.0
    evidence: float = 0.0
    needed: float = 0.0
    events_to_go: float | None = None
    seconds_to_go: float | None = None
    unit: Literal["share", "bytes"] = "share"

    @property
    def observed_text(self) -> str | None:
        """What was observed, as the status says it; None where nothing was."""
        if self.observed is None:
            return None
        return mib(self.observed) if self.unit == "bytes" else f"{100 * self.observed:.3g}%"


def percent(rate: float) -> str:
    """Of a share, in a sentence."""
    return f"{100 * rate:.3g} %"


def mib(amount: float) -> str:
    """Of bytes."""
    found = amount / 2**20
    return f"{found:.0f} MiB" if found >= 100 else f"{found:.3g} MiB"


def span(seconds: float) -> str:
    """Of a time, in the largest unit of which there are two."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"
