"""What a rollout does to those who stay with stable: how quickly their answers came before the canary had a share, and since.

Nothing is decided by it, it is reported. Users' own answers alone: what the operator replays is drawn from what is cached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from pinn_operator.decide.evidence.counters import Counters, Counts, Sample, advance
from pinn_operator.decide.evidence.gates import BUCKETS, slower_than

NAMES: Final = ("timed", *(slower_than(bound) for bound in BUCKETS))


@dataclass(frozen=True, slots=True)
class Neighbours:
    """How many answers stable gave its users, and how many of them were slower than each bound of the histogram. `before` is what
    its servers had counted when they were first read, since they started, and what came until the first step."""

    counters: Counters = field(default_factory=Counters)
    before: Counts = field(default_factory=dict)
    during: Counts = field(default_factory=dict)

    def after(self, samples: tuple[Sample, ...], now: float, interval: float, *, in_step: bool) -> Neighbours:
        """With a reading of stable's servers; one that is not whole adds nothing, and the next one brings it all."""
        if not samples:
            return self
        counters, found = advance(self.counters, samples, NAMES, now, interval)
        if isinstance(found, str):
            return self
        present = {sample.pod for sample in samples}
        counters = replace(counters, pods={pod: known for pod, known in counters.pods.items() if pod in present})
        if self.counters.at is None:
            return replace(self, counters=counters, before=_told(samples))
        if in_step:
            return replace(self, counters=counters, during=_sum(self.during, found.stable))
        return replace(self, counters=counters, before=_sum(self.before, found.stable))


def _told(samples: tuple[Sample, ...]) -> Counts:
    """All that the servers have counted."""
    found: Mapping[str, float] = {}
    for sample in samples:
        found = _sum(found, sample.counts or {})
    return found


def _sum(before: Counts, more: Counts) -> Counts:
    return {name: before.get(name, 0.0) + more.get(name, 0.0) for name in NAMES}
