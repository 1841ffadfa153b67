"""What a rollout has been through: of its state what neither the cluster nor the spec tells, and what its report is made of.

Stored with the evidence before any weight is raised, so an operator that comes back goes on where the last one was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pinn_operator.api.readings import Checked

Measurement = Literal["", "preflight", "tick", "smoke"]
Ending = Literal["", "Promoted", "RolledBack", "Superseded"]

MOMENTS: Final = (
    "step_began",
    "lost_at",
    "waits_since",
    "short_since",
    "off_at",
    "timed_from",
    "idle_since",
    "looked_at",
)
"""Fields of a Journal that are a time within a step, or None."""

MOST_ENTRIES: Final = 200
MOST_MINUTES: Final = 60

SOONEST: Final = 1.0
"""Seconds between two readings when a weight has just risen: a bad canary shows in its first requests."""
PACE: Final = 0.15
"""Of the time since a weight rose, until the next reading. A tick is one observation, so many of them tell a bad canary sooner; a
burst of errors that spans several is taken for more than it is, so there are fewer as time goes on."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened, with the sentence that the Event had. `at` in seconds since 1970."""

    at: float
    what: str
    sentence: str
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Minute:
    """What each arm counted in one minute, by the names of the counters; `at` is its beginning in seconds since 1970."""

    at: float
    canary: Mapping[str, float] = field(default_factory=dict)
    stable: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GateRecord:
    """How a gate stood when the rollout, or a step of it, ended: the row of the status, and the sentence about it."""

    step: int
    name: str
    verdict: str
    limit: str = ""
    observed: float | None = None
    stable: float | None = None
    events: float = 0.0
    evidence: float = 0.0
    needed: float = 0.0
    sentence: str = ""


def past(at: float | None, now: float) -> float | None:
    """That time, or now where it is yet to come."""
    return None if at is None else min(at, now)


@dataclass(frozen=True, slots=True)
class Arm:
    """Who took part: the name of the revision and what it serves."""

    revision: str
    model_version: str
    model_digest: str | None = None
    image: str = ""


@dataclass(frozen=True, slots=True)
class Journal:
    """One rollout from `stable` to `canary`. Times are in seconds since 1970.

    `step` is 0 while the canary comes up and is tried, then counts from 1; `step_began` is when the step's traffic was in place.
    `measure` is what the next pass has to measure, from `measure_at` on. `lost_at` is when the canary last had no server to send
    requests to, in this step; `crashed` says that a server of it had restarted by then. `rose_at` is when its share last rose.
    `live` counts the users' requests that its servers have told of, `quiet` says that they were next to none at the
    last reading. `weight` is the share that was decided last: a spec whose
    steps have changed meanwhile does not raise it. `waits_since` is since when the canary has been coming up with nothing but
    itself in the way: None while it is ready, or while the cluster refuses its pods; `waits_for` is for how many servers,
    `looked_at` is when a pass last noted, before the first step, that it still was.
    `short_since` is since when the share of the step has not been in force; None while it is, and while paused. `let_go_at` is
    when stable's servers were last removed for the bake. `servers` is how many the whole of the traffic was worth when the share
    last rose. `off` says that spec.replicas was 0 when it began and has been since. `off_at`
    is when that was so last within a step; None again when a server of the canary is back, or has had its time to be.
    `untried` says why the last trial could not be made. `timed_from` is from when on the longest hold of the step counts:
    `step_began`, put off by the time that does not count; `idle_since` is since when none has been counting.
    """

    canary: Arm
    stable: Arm
    began: float
    step: int = 0
    step_began: float | None = None
    measure: Measurement = ""
    measure_at: float = 0.0
    rose_at: float = 0.0
    lost_at: float | None = None
    live: float = 0.0
    quiet: bool = True
    warmed: int | None = None
    shadow: Mapping[str, Checked] = field(default_factory=dict)
    ending: Ending = ""
    ended: float | None = None
    reason: str = ""
    sentence: str = ""
    blamed: bool = False
    smoke: str = ""
    timeline: tuple[Entry, ...] = ()
    minutes: tuple[Minute, ...] = ()
    gates: tuple[GateRecord, ...] = ()
    weight: int = 0
    waits_since: float | None = None
    short_since: float | None = None
    crashed: bool = False
    let_go_at: float | None = None
    servers: int = 0
    waits_for: int = 0
    off: bool = False
    off_at: float | None = None
    untried: str = ""
    timed_from: float | None = None
    idle_since: float | None = None
    looked_at: float | None = None

    def pause(self, now: float, interval: float) -> float:
        """Seconds from one reading of the servers to the next."""
        return min(interval, max(SOONEST, PACE * (now - self.rose_at)))

    def moments(self, moved: Callable[[float | None], float | None]) -> dict[str, Any]:
        """The times within a step, by field, each moved so."""
        return {name: moved(getattr(self, name)) for name in MOMENTS}

    def until(self, now: float) -> Journal:
        """Without times that are yet to come, by which nothing would happen until then: a clock stored them that was ahead and is
        not any more, so what they tell of has happened by now. When it was over stays as it is stored: see `ended_at`."""
        if self.ending:
            return self
        return replace(
            self,
            began=min(self.began, now),
            rose_at=min(self.rose_at, now),
            **self.moments(lambda at: past(at, now)),
            timeline=tuple(replace(entry, at=min(entry.at, now)) for entry in self.timeline),
            minutes=tuple(replace(minute, at=min(minute.at, now // 60 * 60)) for minute in self.minutes),
        )

    @property
    def ended_at(self) -> datetime:
        """When it ended, as the status keeps it: in whole seconds. By it a rollout is found again in the history."""
        return datetime.fromtimestamp(int(self.ended or 0), UTC)
