"""From what the counters of the pods say to what happened since the last tick, for canary and stable over the same span.

Raw readings are differenced, series by series: `rate()` extrapolates, and evidence must neither lose nor invent an event. The
last readings are part of the evidence and outlive the operator, so that a restart neither erases nor counts twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Final, Literal

Arm = Literal["canary", "stable"]
Counts = Mapping[str, float]

STALE_AFTER: Final = 2.5
"""Intervals after which a sample is no news: one may be missed, not two."""
CUSTOM: Final = "custom/"
"""How the counters of a user's own gates begin."""
LIVE: Final = "live"
"""The requests of users alone, and how the other counters of those begin: those without it count replayed requests as well."""
CLOCK_SECONDS: Final = 2.0
"""Kubernetes tells the start of a container in whole seconds, by another clock."""
KEPT_GONE: Final = 100
"""Readings kept of pods that vanished: one that comes back is not counted again."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The counters of one pod that should be readable, and when they were read; None: they could not be. `pod` had better name
    the container too: a restart is then seen even where the new process has counted beyond the old one. `started` is since when
    the process runs; None where not known. `own` is no pod, but what the operator counted itself."""

    arm: Arm
    pod: str
    at: float
    counts: Counts | None
    started: float | None = None
    own: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """What a pod said last. `waiting` are gates of one's own of which a counter is below the most it has said."""

    at: float
    counts: Counts
    waiting: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Counters:
    """The readings that have been counted already; `at` is the last tick that counted."""

    at: float | None = None
    pods: Mapping[str, Known] = field(default_factory=dict)

    def until(self, now: float, interval: float) -> Counters:
        """With readings that a clock has dated which was ahead taken for those of now, or none would be newer until then. What is
        ahead by less may be of a Prometheus, by its clock: then an older reading by another way must stay an older one."""
        latest = now + STALE_AFTER * interval
        pods = {pod: replace(known, at=now) if known.at > latest else known for pod, known in self.pods.items()}
        return Counters(now if self.at is not None and self.at > latest else self.at, pods)


@dataclass(frozen=True, slots=True)
class Increments:
    """What was counted since the last tick that counted, by arm."""

    seconds: float
    canary: Counts
    stable: Counts


def advance(
    before: Counters, samples: Collection[Sample], names: Collection[str], now: float, interval: float
) -> tuple[Counters, Increments | str]:
    """The increments of all names, or the reason there are none: then nothing is counted for either arm, and the next good
    tick brings it all. The first reading of all is where counting begins: take it before the canary gets traffic."""
    for sample in samples:
        if trouble := trouble_with(sample, names, now, interval):
            return before, trouble
    return _advanced(before, samples, names, now)


def advance_by_some(
    before: Counters, samples: Collection[Sample], names: Collection[str], now: float, interval: float, span: float
) -> tuple[Counters, Increments, tuple[Arm, ...]]:
    """The increments of what can be read, and of which arms nothing can be. A pod that was not read for longer than the span
    begins where it stands: when that happened is not known. Of the readings before, nothing is kept but these names."""
    told = [
        replace(sample, counts=None) if trouble_with(sample, names, now, interval) else sample for sample in samples
    ]
    pods = {
        pod: Known(known.at, {name: known.counts[name] for name in names if name in known.counts})
        for pod, known in before.pods.items()
    }
    for sample in told:
        last = pods.get(sample.pod)
        since = last.at if last else sample.started
        if sample.counts is not None and since is not None and sample.at - since > span:
            pods[sample.pod] = Known(since, sample.counts)
    counters, found = _advanced(replace(before, pods=pods), told, names, now)
    arms = {sample.arm for sample in told if not sample.own}
    heard = {sample.arm for sample in told if not sample.own and sample.counts is not None}
    return counters, found, tuple(sorted(arms - heard))


def _advanced(
    before: Counters, samples: Collection[Sample], names: Collection[str], now: float
) -> tuple[Counters, Increments]:
    """With the samples that have counts."""
    sums: dict[Arm, dict[str, float]] = {"canary": dict.fromkeys(names, 0.0), "stable": dict.fromkeys(names, 0.0)}
    pods = dict(before.pods)
    for sample in samples:
        if sample.counts is None:
            continue
        counts = {name: float(sample.counts[name]) for name in names}
        last = pods.get(sample.pod)
        if last is not None and sample.at <= last.at:
            continue  # the same reading again, or an older one by another way
        fallen = _fallen(last, counts)
        pods[sample.pod] = Known(sample.at, {**counts, **_highest(last, counts)}, fallen)
        if before.at is not None and (last is not None or _is_new(sample, before.at)):
            silent = {*fallen, *(last.waiting if last else ())}
            for name, more in increments(last.counts if last else dict.fromkeys(names, 0.0), counts).items():
                sums[sample.arm][name] += 0.0 if own_gate(name) in silent else more
    seconds = 0.0 if before.at is None else max(0.0, now - before.at)
    return Counters(now, bounded(pods, {sample.pod for sample in samples})), Increments(
        seconds, sums["canary"], sums["stable"]
    )


def trouble_with(sample: Sample, names: Collection[str], now: float, interval: float) -> str | None:
    """Why a sample is no news, in a sentence."""
    if sample.counts is None:
        return f"the metrics of pod {sample.pod} cannot be read"
    if now - sample.at > STALE_AFTER * interval:
        return f"the metrics of pod {sample.pod} are {now - sample.at:.0f} s old"
    for name in names:
        value = sample.counts.get(name)
        if value is None:
            return f"the metrics of pod {sample.pod} lack {name}"
        if not isfinite(value) or value < 0:
            return f"the metrics of pod {sample.pod} say {name} is {value}"
    return None


def increments(before: Counts, now: Counts) -> Counts:
    """A pod of whose counters any has fallen counts from zero: its process is a new one. A counter that was not asked for before
    begins where it stands. A series of one's own may be missing for a while, or a part of it: that it falls says nothing, and
    adds nothing."""
    began_anew = any(now[name] < before.get(name, 0.0) for name in now if not name.startswith(CUSTOM))

    def more(name: str, value: float) -> float:
        if name not in before:
            return 0.0
        return value if began_anew and not name.startswith(CUSTOM) else max(0.0, value - before[name])

    return {name: more(name, value) for name, value in now.items()}


def _is_new(sample: Sample, since: float) -> bool:
    """Whether a pod not known yet counts from zero: a canary, which had nothing to count before, and who began since the last
    reading. What another did before was not in this rollout."""
    return sample.arm == "canary" or (sample.started is not None and sample.started >= since - CLOCK_SECONDS)


def _highest(last: Known | None, counts: Counts) -> Counts:
    """Of the series of one's own, the most that each has ever said: one that fell is a sum of which a part could not be read, and
    when that is back it is not counted again."""
    own = (name for name in counts if name.startswith(CUSTOM))
    return {name: max(counts[name], last.counts.get(name, 0.0)) for name in own} if last else {}


def _fallen(last: Known | None, counts: Counts) -> tuple[str, ...]:
    """The gates of one's own of which either counter is below the most it has said. Its two are one: were one of them to go on
    alone, events would count without their bad ones. Nor does the reading count at which both are back: one may bring all that
    was missed where the other has gone on."""
    known = last.counts if last else {}
    own = {own_gate(name) for name in counts if name.startswith(CUSTOM) and counts[name] < known.get(name, 0.0)}
    return tuple(sorted(own))


def own_gate(counter: str) -> str:
    """What the two counters of a gate of one's own have in common."""
    return counter.rpartition("/")[0]


def user_counter(name: str) -> str:
    """The counter of the same among the requests of users alone."""
    return LIVE if name == "requests" else f"{LIVE}/{name}"


def of_users(counts: Counts) -> Counts:
    """The same counters of users alone. What is not told apart, as a gate of one's own, stays what it is."""
    return {name: counts.get(user_counter(name), count) for name, count in counts.items()}


def bounded(pods: Mapping[str, Known], present: Collection[str]) -> Mapping[str, Known]:
    """The readings of the pods that are there, and the newest of those that are gone."""
    gone = sorted(pods.keys() - set(present), key=lambda pod: (pods[pod].at, pod), reverse=True)
    dropped = frozenset(gone[KEPT_GONE:])
    return {pod: known for pod, known in pods.items() if pod not in dropped}
