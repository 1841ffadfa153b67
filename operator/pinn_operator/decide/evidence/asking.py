"""Whether users ask the canary, and whether they ask enough to be what a gate is judged by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp
from typing import Final

from pinn_operator.api.journal import past

ASKED_FOR: Final = 12
"""Intervals for which users are taken to ask since they last did. Few who ask now and then are not none."""
SOON: Final = 600.0
TELLING: Final = 5.0
"""Bad events that users alone would have within SOON seconds at the limit, where they are judged alone: then a good canary passes
within about a quarter of an hour. Replayed requests stand in where that would take hours."""


@dataclass(frozen=True, slots=True)
class Asking:
    """How users ask for what one gate is about: when last, how much in the time that is not forgotten, and whether they still do.
    The older it is the less a second counts, and what was asked in it: ASKED_FOR intervals or so are remembered."""

    at: float | None = None
    seconds: float = 0.0
    events: float = 0.0
    lasts: bool = False

    def after(self, now: float, interval: float, seconds: float, events: float) -> Asking:
        """With so many events of users in so many seconds more."""
        at, kept = now if events else self.at, exp(-seconds / (ASKED_FOR * interval))
        lasts = at is not None and now - at <= ASKED_FOR * interval
        return Asking(at, self.seconds * kept + seconds, self.events * kept + events, lasts)

    def until(self, now: float) -> Asking:
        """Without a time that is yet to come."""
        return replace(self, at=past(self.at, now))

    def tells(self, share: float) -> bool:
        """Whether users alone tell soon that a canary is within a limit."""
        return self.events * share * SOON >= TELLING * self.seconds
