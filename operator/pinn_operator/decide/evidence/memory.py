"""How much memory servers hold, and whether it grows: a slope that outliers do not move, looked at rarely enough to be believed.

Resident bytes without the cache's own, minima of five-minute blocks (what garbage collection leaves), Theil-Sen slope, Sen's
limits for it, widened because neighbouring blocks are alike. Looks at 15 min, 30 min, 1 h and so on; look j spends
1/((j+1)(j+2)) of the chance of error, so that all looks together spend it once. A ceiling needs no chance: minima tell.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import inf, isinf, sqrt
from statistics import NormalDist, fmean, median
from typing import Final, Literal

BLOCK: Final = 300.0
FIRST_LOOK: Final = 900.0
LONGEST_SPAN: Final = 86_400.0
LATE_BLOCKS: Final = 2
"""By so many a block may be older than the span that growth is asked for."""
KEPT_BLOCKS: Final = 1 + LATE_BLOCKS + int(LONGEST_SPAN / BLOCK)
"""A day of them, beside the one that is being filled."""
KEPT_PODS: Final = 8
"""Pods watched: those seen first, and others where they are gone. A leak is in the program, not in a pod."""
FEWEST_READINGS: Final = 3
"""For a minimum to mean something: a single one may fall into the middle of a large request."""
HOUR: Final = 3600.0

Growth = Literal["Grows", "Steady", "Undecided"]


@dataclass(frozen=True, slots=True)
class Block:
    """The smallest amount of memory within five minutes, in bytes; `at` counts blocks since 1970."""

    at: int
    least: float


@dataclass(frozen=True, slots=True)
class Look:
    """What the last look found, in bytes an hour, of the pod that grows most; `lows` are the lower limits of all for which there
    is one."""

    number: int
    slope: float
    low: float
    high: float
    verdict: Growth
    lows: Mapping[str, float] = field(default_factory=dict)

    @property
    def tells_nothing(self) -> bool:
        """So few blocks cannot exclude any slope."""
        return self.verdict == "Undecided" and isinf(self.high)


@dataclass(frozen=True, slots=True)
class Floor:
    """The smallest amount of memory of a pod in this step, in bytes: between the first reading and the last, and of how many."""

    since: float
    at: float
    least: float
    readings: int = 1

    def after(self, now: float, amount: float) -> Floor:
        """With one more reading."""
        return Floor(self.since, now, min(self.least, amount), self.readings + 1)


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of the canary's memory since a moment. `floors` are of this step, for pods of which there are blocks."""

    since: float | None = None
    looks: int = 0
    pods: Mapping[str, tuple[Block, ...]] = field(default_factory=dict)
    look: Look | None = None
    floors: Mapping[str, Floor] = field(default_factory=dict)

    def after(self, now: float, bytes_by_pod: Mapping[str, float]) -> Memory:
        """With one more reading, of at least one pod. Those that are gone make room for new ones."""
        if not bytes_by_pod:
            return self
        pods, floors = dict(self.pods), dict(self.floors)
        for pod, amount in bytes_by_pod.items():
            if pod not in pods and len(pods) >= KEPT_PODS:
                _drop_one(pods, bytes_by_pod)
            if pod in pods or len(pods) < KEPT_PODS:
                pods[pod] = with_block(pods.get(pod, ()), int(now // BLOCK), amount)
                floors[pod] = floors[pod].after(now, amount) if pod in floors else Floor(now, now, amount)
        kept = {pod: floor for pod, floor in floors.items() if pod in pods}
        return replace(self, since=now if self.since is None else self.since, pods=pods, floors=kept)

    def until(self, now: float) -> Memory:
        """Without what a clock that was ahead has dated: of two blocks of one time there is no slope."""
        past = {pod: tuple(block for block in blocks if block.at <= now // BLOCK) for pod, blocks in self.pods.items()}
        floors = {
            pod: replace(floor, since=min(floor.since, now), at=min(floor.at, now))
            for pod, floor in self.floors.items()
            if past[pod]
        }
        since = None if self.since is None else min(self.since, now)
        return replace(self, since=since, pods={pod: blocks for pod, blocks in past.items() if blocks}, floors=floors)

    def at_a_new_step(self) -> Memory:
        """The blocks go on, the floors begin anew."""
        return replace(self, floors={})

    def level(self, pod: str, watched: float) -> float | None:
        """Bytes that a pod holds at least: in the last whole block of this step, or, before there is one, in all of the step once
        it was watched for so many seconds. None before that."""
        floor = self.floors[pod]
        whole = [block for block in finished(self.pods[pod], floor.at) if block.at * BLOCK >= floor.since]
        if whole:
            return whole[-1].least
        return floor.least if floor.at - floor.since >= watched and floor.readings >= FEWEST_READINGS else None

    def looked(self, now: float, allowed: float, alpha: float, beta: float) -> Memory:
        """With a look, where one is due. `allowed` is in bytes an hour; alpha and beta are the chances of a false alarm and of a
        false pass in all looks together."""
        if self.since is None or now - self.since < FIRST_LOOK * 2**self.looks:
            return self
        while now - self.since >= FIRST_LOOK * 2 ** (self.looks + 1):
            self = replace(self, looks=self.looks + 1)  # looks missed while nobody looked are not made up for
        spent = 1 / ((self.looks + 1) * (self.looks + 2) * max(1, len(self.pods)))
        found = {
            pod: self._look(finished(blocks, now), allowed, alpha * spent, beta * spent)
            for pod, blocks in self._there(now).items()
        }
        lows = {pod: look.low for pod, look in found.items() if look.low > -inf}
        worst = max(found.values(), key=_alarming, default=self.look)
        return replace(self, looks=self.looks + 1, look=replace(worst, lows=lows) if found and worst else self.look)

    def _there(self, now: float) -> Mapping[str, tuple[Block, ...]]:
        """The blocks of the pods that were read in this one or in the one before."""
        return {pod: blocks for pod, blocks in self.pods.items() if blocks[-1].at >= int(now // BLOCK) - 1}

    def _look(self, blocks: Sequence[Block], allowed: float, alpha: float, beta: float) -> Look:
        slope, low = slope_and_low(blocks, alpha)
        high = -slope_and_low([replace(block, least=-block.least) for block in blocks], beta)[1]
        verdict: Growth = "Grows" if low > allowed else "Steady" if high < allowed else "Undecided"
        return Look(self.looks, slope, low, high, verdict)

    def grown(self, span: float) -> float:
        """By how many bytes the memory of a pod grew within the span, at most over pods; 0 before the span was watched."""
        return max((growth(blocks, span) for blocks in self.pods.values()), default=0.0)

    def projected(self, now: float, until: float) -> float | None:
        """Bytes that the pod will surely have reached by then that has most, each by its own lower limit of the last look; None
        where there is none of a pod that is still there."""
        lows, hours = self.look.lows if self.look else {}, max(0.0, until - now) / HOUR
        reached = (
            blocks[-1].least + max(0.0, lows[pod]) * hours for pod, blocks in self._there(now).items() if pod in lows
        )
        return max(reached, default=None)


def _drop_one(pods: dict[str, tuple[Block, ...]], present: Collection[str]) -> None:
    """The pod that has been gone longest, if one is."""
    gone = [pod for pod in pods if pod not in present]
    if gone:
        del pods[min(gone, key=lambda pod: (pods[pod][-1].at, pod))]


def with_block(blocks: tuple[Block, ...], at: int, amount: float) -> tuple[Block, ...]:
    """The blocks with one more reading in the latest."""
    if blocks and blocks[-1].at == at:
        return (*blocks[:-1], Block(at, min(blocks[-1].least, amount)))
    return (*blocks, Block(at, amount))[-KEPT_BLOCKS:]


def finished(blocks: Sequence[Block], now: float) -> Sequence[Block]:
    """Without the block that is still being filled."""
    return [block for block in blocks if block.at < int(now // BLOCK)]


def growth(blocks: Sequence[Block], span: float) -> float:
    """The last whole block against the one a span before it; 0 where there is none of about that age. A span is a day at most."""
    whole = blocks[:-1]  # the last one is still being filled
    if not whole:
        return 0.0
    at = whole[-1].at - min(span, LONGEST_SPAN) / BLOCK
    before = [block for block in whole if at - LATE_BLOCKS <= block.at <= at]
    return whole[-1].least - before[-1].least if before else 0.0


def slope_and_low(blocks: Sequence[Block], doubt: float) -> tuple[float, float]:
    """The Theil-Sen slope in bytes an hour, and a limit it is below with a probability of at most `doubt`.

    Sen (1968): under no trend Kendall's S has the variance n(n-1)(2n+5)/18; here times (1+r)/(1-r), r the correlation of
    neighbouring residuals. -inf where so few blocks cannot exclude any slope.
    """
    count = len(blocks)
    slopes = sorted(
        (later.least - earlier.least) / ((later.at - earlier.at) * BLOCK / HOUR)
        for place, earlier in enumerate(blocks)
        for later in blocks[place + 1 :]
    )
    if not slopes:
        return 0.0, -inf
    slope = median(slopes)
    widened = count * (count - 1) * (2 * count + 5) / 18 * alikeness(blocks, slope)
    rank = (len(slopes) - NormalDist().inv_cdf(1 - doubt) * sqrt(widened)) / 2
    return slope, slopes[int(rank) - 1] if rank >= 1 else -inf


def alikeness(blocks: Sequence[Block], slope: float) -> float:
    """(1+r)/(1-r), at least 1: by how much the variance grows when neighbours are alike. r is corrected for being estimated
    from few blocks, after Kendall: such estimates are too low by (1+4r)/n."""
    residuals = [block.least - slope * block.at * BLOCK / HOUR for block in blocks]
    middle, count = fmean(residuals), len(residuals)
    spread = sum((one - middle) ** 2 for one in residuals)
    if spread <= 0:
        return 1.0
    r = sum((a - middle) * (b - middle) for a, b in pairwise(residuals)) / spread
    r += (1 + 4 * r) / count
    return (1 + min(max(r, 0.0), 0.95)) / (1 - min(max(r, 0.0), 0.95))


def _alarming(look: Look) -> tuple[int, float]:
    """The look that counts among those at several pods: the worst of those that tell anything."""
    return 0 if look.tells_nothing else 1 + ("Steady", "Undecided", "Grows").index(look.verdict), look.slope
