"""Hard limits: plain thresholds kept up for some time, for what nobody wants to argue about. And crashes, which lose counters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

FEWEST_EVENTS: Final = 20
SLOTS: Final = 10
"""Parts of a window: enough for its edge not to matter, few enough to store."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What one arm did in a part of the window; `at` counts parts since 1970."""

    at: int
    events: float = 0.0
    bad: float = 0.0


@dataclass(frozen=True, slots=True)
class Window:
    """The last parts of a sliding window, and since when there has been one."""

    since: float | None = None
    slots: tuple[Slot, ...] = ()

    def after(self, now: float, span: float, events: float, bad: float) -> Window:
        """With what happened until now."""
        at = part(now, span)
        kept = tuple(slot for slot in self.slots if at - SLOTS <= slot.at < at)
        here = next((slot for slot in self.slots if slot.at == at), Slot(at))
        here = Slot(at, here.events + events, here.bad + bad)
        return Window(now if self.since is None else self.since, (*kept, here))

    def breached(self, now: float, span: float, limit: float) -> bool:
        """The share of bad events was above the limit over the whole window, and in either half of it: one burst is not
        sustained. Never on fewer than twenty events, nor before a whole window was watched."""
        at = part(now, span)
        if self.since is None or now - self.since < span:
            return False
        whole = [slot for slot in self.slots if at - SLOTS <= slot.at <= at]
        older = [slot for slot in whole if slot.at < at - SLOTS // 2]
        newer = [slot for slot in whole if slot.at >= at - SLOTS // 2]
        enough = sum(slot.events for slot in whole) >= FEWEST_EVENTS
        return enough and all(exceeds(some, limit) for some in (whole, older, newer))

    def lately(self, now: float, span: float, limit: float, fewest: float = 0.0) -> bool:
        """The same of the newer half alone, however long it has been watched, on so many events at least."""
        newer = [slot for slot in self.slots if part(now, span) - SLOTS // 2 <= slot.at <= part(now, span)]
        return sum(slot.events for slot in newer) >= fewest and exceeds(newer, limit)


def part(now: float, span: float) -> int:
    """Which part of the windows of that length a moment lies in."""
    return int(now // (span / SLOTS))


def exceeds(slots: list[Slot], limit: float) -> bool:
    """Whether there were events and more than that share of them was bad."""
    events = sum(slot.events for slot in slots)
    return events > 0 and sum(slot.bad for slot in slots) > limit * events


@dataclass(frozen=True, slots=True)
class Restarts:
    """Restarts of the canary's containers within a step, by what the API server says: a dead process has no counters."""

    by_pod: Mapping[str, int] = field(default_factory=dict)
    known: bool = False
    in_step: int = 0

    def after(self, by_pod: Mapping[str, int]) -> Restarts:
        """With the restart counts as they are now. A pod not seen before counts from zero, but for the first look."""
        if not self.known:
            return Restarts(dict(by_pod), True, self.in_step)
        more = sum(max(0, count - self.by_pod.get(pod, 0)) for pod, count in by_pod.items())
        return Restarts({**self._kept(by_pod), **by_pod}, True, self.in_step + more)

    def _kept(self, by_pod: Mapping[str, int]) -> Mapping[str, int]:
        """Pods that are missing may come back; their number is bounded."""
        gone = [pod for pod in self.by_pod if pod not in by_pod]
        return {pod: self.by_pod[pod] for pod in gone[-100:]}

    def at_a_new_step(self) -> Restarts:
        """Counted afresh."""
        return replace(self, in_step=0)


def unready_since(before: float | None, now: float, ready: bool) -> float | None:
    """Since when no server has been ready; None while one is."""
    return None if ready else before if before is not None else now
