"""Whether the rule that decides rollouts keeps its promises: thousands of seeded rollouts of canaries good and bad.

A numpy twin of the operator's detectors runs them all at once; before it is believed, some of its rollouts are decided by the
operator's own code, tick by tick, and must come out the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import exp, log
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pinn_operator.api.journal import Arm, Journal
from pinn_operator.api.spec import Spec
from pinn_operator.decide.evidence import Ledger, Reading, Sample, begin_step, judge, rules_of, take
from pinn_operator.decide.evidence.eprocess import APART_BETS, BETS, CEILING, ODDS, PSI, STARTS
from pinn_operator.decide.evidence.gates import ERRORS
from pinn_operator.decide.evidence.ledger import BURSTY, SICK

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rates = Callable[[np.random.Generator, int, tuple[int, int]], tuple[Array, Array]]
"""(generator, first tick, (ticks, rollouts)) -> error rates of canary and stable."""

SEED = 5
ROLLOUTS = 3_000
HOURS_24 = 24 * 3600
RULES = replace(rules_of(Spec.model_validate({"model": {"name": "black-scholes", "version": "1.0.0"}})), hard=())
"""The defaults, without the hard limits: those are plain thresholds."""
JOURNAL = Journal(Arm("canary", ""), Arm("stable", ""), 0.0)
"""Of a rollout whose weight rose at 0."""
LIMIT, ABORT, ALPHA = 0.01, 0.05, RULES.alpha(ERRORS)
BLOCK = 60


def measure() -> dict[str, Any]:
    figures: dict[str, Any] = {"seed": SEED, "rollouts": ROLLOUTS, "alpha_of_errors": ALPHA}
    figures["twin_differs_from_operator"] = differences()
    for part in (false_aborts, detection, turning, bake, incidents, sick_apart, passing):
        print(f"    {part.__name__}", file=sys.stderr, flush=True)
        figures |= part()
    return figures


# --- What rollouts are made of ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """One kind of rollout: events a second to the canary, its share of the traffic, seconds of a tick and of the whole.

    `paced`: ticks as the operator makes them after a weight has risen, a second at first and `interval` by and by.
    """

    canary: float
    share: float
    interval: float
    seconds: float
    steps: int = 1
    bake: bool = False
    paced: bool = False

    @cached_property
    def ticks(self) -> Array:
        """Their lengths in seconds, shape (ticks,)."""
        if not self.paced:
            return np.full(round(self.seconds / self.interval), float(self.interval))
        at, found = 0.0, list[float]()
        while at < self.seconds:
            found.append(JOURNAL.pause(at, self.interval))
            at += found[-1]
        return np.array(found)

    @property
    def events(self) -> tuple[float, float]:
        """Events a second, on average, of canary and stable."""
        return self.canary, self.canary * (1 - self.share) / self.share


def steady(canary: float, stable: float) -> Rates:
    """Every request fails on its own."""
    return lambda rng, first, size: (np.full(size, canary), np.full(size, stable))


def bursts(mean: float, height: float, *, together: bool = False) -> Rates:
    """Nothing fails, but in some ticks so many of an arm's requests do: of each arm on its own, or of both at once."""

    def rates(rng: np.random.Generator, first: int, size: tuple[int, int]) -> tuple[Array, Array]:
        canary = np.where(rng.random(size) < mean / height, height, 0.0)
        return canary, canary if together else np.where(rng.random(size) < mean / height, height, 0.0)

    return rates


def bursts_of(seconds: float, setting: Setting, mean: float, height: float) -> Rates:
    """Bursts of such a length, which may span several ticks: nothing that the evidence allows for."""
    of = ((np.cumsum(setting.ticks) - setting.ticks / 2) // seconds).astype(int)

    def rates(rng: np.random.Generator, first: int, size: tuple[int, int]) -> tuple[Array, Array]:
        canary, stable = (np.empty(size) for _ in range(2))
        for arm, seed in ((canary, 1), (stable, 2)):
            # One burst falls alike in every tick that it spans.
            for row, number in enumerate(of[first : first + size[0]]):
                chance = np.random.default_rng((SEED, seed, number)).random(size[1])
                arm[row] = np.where(chance < mean / height, height, 0.0)
        return canary, stable

    return rates


def turned(at: int, rate: float) -> Rates:
    """Both arms at 0.5 %, from some tick on the canary at another rate."""

    def rates(rng: np.random.Generator, first: int, size: tuple[int, int]) -> tuple[Array, Array]:
        late = first + np.arange(size[0])[:, None] >= at
        return np.broadcast_to(np.where(late, rate, 0.005), size), np.full(size, 0.005)

    return rates


def incident(begins: int, ends: int, rate: float, wobble: float) -> Rates:
    """Both arms at 0.5 %, between two ticks at another rate, which may differ by some share in each arm and tick."""

    def rates(rng: np.random.Generator, first: int, size: tuple[int, int]) -> tuple[Array, Array]:
        tick = first + np.arange(size[0])[:, None]
        inside = (tick >= begins) & (tick < ends)
        noise = (np.exp(rng.normal(-(wobble**2) / 2, wobble, size)) if wobble else 1.0 for _ in range(2))
        canary, stable = (np.clip(np.where(inside, rate * one, 0.005), 0, 1) for one in noise)
        return canary, stable

    return rates


def blocks(setting: Setting, rates: Rates, rollouts: int, seed: int) -> Iterator[tuple[Array, Array, Array, Array]]:
    """Tick by tick: events and failures of the canary, events and failures of stable, for every rollout."""
    rng = np.random.default_rng(seed)
    for first in range(0, len(setting.ticks), BLOCK):
        lengths = setting.ticks[first : first + BLOCK, None]
        size = (len(lengths), rollouts)
        chances = rates(rng, first, size)
        counted = []
        for mean, chance in zip(setting.events, chances, strict=True):
            events = rng.poisson(mean * lengths, size)
            counted += [events, rng.binomial(events, chance)]
        yield from zip(*(one.astype(float) for one in counted), strict=True)


# --- The twin --------------------------------------------------------------------------------------------------------


class Twin:
    """The detectors of the errors gate for many rollouts at once; not in logarithms, as no sum here reaches 1e300."""

    def __init__(self, setting: Setting, rollouts: int) -> None:
        self.setting, self.rollouts = setting, rollouts
        self.mass = 1 / (1 + setting.steps)
        self.values: dict[str, Array] = {}
        self.sums, self.stable_events = np.zeros((4, rollouts)), np.zeros(rollouts)
        self.ticks: dict[str, Array] = {}

    def bet(self, name: str, seen: Mask, factors: Array) -> None:
        """One tick more for those rollouts in which it tells something."""
        before = self.values.get(name, np.zeros_like(factors))
        tick = self.ticks.setdefault(name, np.zeros(self.rollouts))
        start = self.mass / ((tick + 1) * (tick + 2))
        self.values[name] = np.where(seen, (before + start) * factors, before)
        self.ticks[name] = tick + seen

    def watch(self, name: str, seen: Mask, factors: Array) -> Mask:
        """The same for stable; where it has recovered."""
        was_sick, before = self.is_sick(name), self.values.get(name, np.zeros_like(factors))
        self.values[name] = np.where(seen, np.minimum((before + STARTS) * factors, exp(CEILING)), before)
        recovered: Mask = was_sick & ~self.is_sick(name)
        return recovered

    def is_sick(self, name: str) -> Mask:
        found: Mask = self.evidence(name) > exp(SICK)
        return found

    def in_bursts(self, m: Array, x: Array) -> Mask:
        """Whether the canary's failures scatter more than independent ones would."""
        self.sums += np.stack([m, x, m > 0, x**2 / np.maximum(m, 1)])
        events, bad, ticks, squares = self.sums
        rate = bad / np.maximum(events, 1)
        spread = (ticks - 1) * rate * (1 - rate)
        found: Mask = (spread > 0) & (squares - rate * bad > BURSTY * spread)
        return found

    def evidence(self, name: str) -> Array:
        found = self.values.get(name)
        return np.zeros(self.rollouts) if found is None else found.mean(axis=0)

    def tick(self, m: Array, x: Array, n: Array, y: Array) -> Mask:
        """Which rollouts fail at this tick."""
        for name, limit in (("promote", LIMIT), ("abort", ABORT)):
            self.bet(name, m > 0, against(limit, m, x))
            self.values[name][:, self.watch(f"{name}/stable", n > 0, against(limit, n, y))] = 0.0
        self.compare(m, x, n, y)
        bursts, alarm = self.in_bursts(m, x), 1 / ALPHA
        sick = {name: self.is_sick(f"{name}/stable") for name in ("promote", "abort")}
        together, apart = self.evidence("together"), self.evidence("apart")
        worse = (together >= alarm) & ((apart >= alarm) | ~(sick["promote"] | bursts))
        self.stable_events += n
        looks_worse = (together > exp(SICK)) | (self.stable_events == 0)
        if self.setting.bake:
            worse, looks_worse = ~sick["promote"], ~sick["abort"]
        aborts = (self.evidence("abort") >= alarm) & ~sick["abort"] & looks_worse
        failed: Mask = aborts | ((self.evidence("promote") >= alarm) & worse)
        return failed

    def compare(self, m: Array, x: Array, n: Array, y: Array) -> None:
        """Canary against stable."""
        seen = (m > 0) & (n > 0) & (x + y > 0)
        if not seen.any():
            return
        total = np.where(seen, x + y, 1.0)
        theta = PSI * m / np.maximum(PSI * m + n, 1)
        odds = np.array(ODDS)[:, None]
        with np.errstate(over="ignore", invalid="ignore"):
            self.bet("together", seen, np.exp(x * np.log(odds) - (x + y) * np.log1p(theta * (odds - 1))))
        ratio = PSI * m / np.maximum(n, 1)
        fair = x / np.maximum(x + np.minimum(ratio, 1) * y, 1e-300)
        observed = np.where(ratio > 1, x / total, fair) / np.where(ratio > 1, theta, 0.5)
        self.bet("apart", seen, 1 + np.array(APART_BETS)[:, None] * (np.where(seen, observed, 1.0) - 1))


def against(limit: float, events: Array, bad: Array) -> Array:
    """The bets against a limit, by bet."""
    bets = np.array(BETS)[:, None]
    factors: Array = 1 + bets * (bad / np.maximum(events, 1) / limit - 1)
    return factors


def first_failures(setting: Setting, rates: Rates, rollouts: int = ROLLOUTS, seed: int = SEED) -> Array:
    """Seconds until each rollout fails; inf where it does not."""
    twin, found = Twin(setting, rollouts), np.full(rollouts, np.inf)
    for now, counted in zip(np.cumsum(setting.ticks), blocks(setting, rates, rollouts, seed), strict=True):
        failed = twin.tick(*counted) & np.isinf(found)
        found[failed] = now
        if not np.isinf(found).any():
            break
    return found


def operators_failures(setting: Setting, rates: Rates, rollouts: int, seed: int = SEED) -> list[float]:
    """The same by the operator's code, through counters of pods and all."""
    counted = np.array(list(blocks(setting, rates, rollouts, seed)))
    return [decided(setting, counted[:, :, place]) for place in range(rollouts)]


def decided(setting: Setting, ticks: Array) -> float:
    """Seconds until the operator fails the rollout."""
    ledger = begin_step(Ledger(), RULES, 0.0, setting.steps, bake=setting.bake)
    totals = [0.0, 0.0, 0.0, 0.0]
    ledger = take(ledger, RULES, reading(setting, 0.0, totals))
    for now, counted in zip(np.cumsum(setting.ticks).tolist(), ticks, strict=True):
        totals = [old + float(new) for old, new in zip(totals, counted, strict=True)]
        ledger = take(ledger, RULES, reading(setting, now, totals))
        if judge(ledger, RULES, now, setting.interval).verdict == "Failing":
            return float(now)
    return float("inf")


def reading(setting: Setting, now: float, totals: list[float]) -> Reading:
    """Counters as two pods would say them; but for errors all is quiet."""
    quiet = dict.fromkeys(RULES.counters, 0.0)
    canary = Sample("canary", "c", now, {**quiet, "requests": totals[0], "errors": totals[1]})
    stable = Sample("stable", "s", now, {**quiet, "requests": totals[2], "errors": totals[3]})
    return Reading(now, setting.interval, (canary, stable))


def differences(rollouts: int = 20) -> int:
    """How many of some rollouts of every kind the twin and the operator's code end at different ticks."""
    minutes = 600
    tried: list[tuple[Setting, Rates]] = [
        *((Setting(rate, 0.1, 5, minutes, 3), steady(0.05, 0.005)) for rate in (1, 10, 100)),
        (Setting(10, 0.1, 15, minutes, 3, paced=True), steady(0.05, 0.005)),
        (Setting(10, 0.5, 5, minutes, 3), bursts(0.03, 0.5)),
        (Setting(10, 0.9, 5, minutes), bursts(0.05, 0.5)),
        (Setting(1, 0.5, 5, 2 * minutes), incident(20, 80, 0.15, 0.5)),
        (Setting(10, 1.0, 5, minutes, 3, bake=True), steady(0.03, 0.0)),
    ]
    different = 0
    for setting, rates in tried:
        ours, theirs = first_failures(setting, rates, rollouts), operators_failures(setting, rates, rollouts)
        different += sum(a != b for a, b in zip(ours.tolist(), theirs, strict=True))
    if different:
        raise RuntimeError(f"the twin decides {different} rollouts otherwise than the operator: see differences()")
    return different


# --- The table -------------------------------------------------------------------------------------------------------


def false_aborts() -> dict[str, Any]:
    """Both arms equally good at 0.5 % errors, for a day: how many rollouts are aborted all the same, in per cent."""
    kinds = {"independent": steady(0.005, 0.005), "bursty": bursts(0.005, 0.5)}
    found: dict[str, Any] = {}
    for rate in (1, 10, 100):
        paced = Setting(rate, 0.1, 10, HOURS_24, paced=True)
        failed = first_failures(paced, bursts_of(10.0, paced, 0.005, 0.5))
        found |= share_of(f"false_aborts_as_read_bursts_of_10_s_{rate}_per_s", np.isfinite(failed))
    for kind, rates in kinds.items():
        for rate in (1, 10, 100):
            setting = Setting(rate, 0.1, 10, HOURS_24)
            found |= share_of(f"false_aborts_{kind}_{rate}_per_s", np.isfinite(first_failures(setting, rates)))
            bake = replace(setting, share=1.0, bake=True)
            found |= share_of(f"false_aborts_bake_{kind}_{rate}_per_s", np.isfinite(first_failures(bake, rates)))
            if kind == "independent":
                found[f"window_rule_aborts_{rate}_per_s_percent"] = window_rule(setting, rates)
                found[f"window_rule_aborts_{rate}_per_s_looking_once_a_minute_percent"] = window_rule(setting, rates, 6)
    return found


def window_rule(setting: Setting, rates: Rates, every: int = 1, rollouts: int = 1000) -> float:
    """What is commonly done: abort when more than 1 % of the last five minutes failed. In per cent of rollouts."""
    width = round(300 / setting.interval)
    kept = np.zeros((2, width, rollouts))
    aborted = np.zeros(rollouts, bool)
    for tick, (events, bad, _, _) in enumerate(blocks(replace(setting, share=1.0), rates, rollouts, SEED)):
        kept[:, tick % width] = events, bad
        if tick >= width - 1 and tick % every == 0:
            aborted |= kept[1].sum(axis=0) > LIMIT * kept[0].sum(axis=0)
    return round(100 * float(aborted.mean()), 1)


def detection() -> dict[str, Any]:
    """The canary at 5 % errors from its first request, the first of three steps: seconds until it fails."""
    found: dict[str, Any] = {}
    for rate, seconds in ((1, 3600), (10, 600), (100, 300)):
        for share, interval in ((0.1, 5), (0.5, 5), (0.1, 1)):
            times = first_failures(Setting(rate, share, interval, seconds, 3), steady(0.05, 0.005), 2000)
            name = f"rollback_at_5_percent_{rate}_per_s_weight_{100 * share:.0f}_every_{interval}_s"
            found |= {f"{name}_median_s": float(np.median(times)), f"{name}_p95_s": float(np.quantile(times, 0.95))}
    for rate, seconds in ((1, 3600), (10, 600), (100, 300)):
        for interval in (5, 15):
            setting = Setting(rate, 0.1, interval, seconds, 3, paced=True)
            times = first_failures(setting, steady(0.05, 0.005), 2000)
            name = f"rollback_at_5_percent_{rate}_per_s_as_read_interval_{interval}_s"
            found |= {f"{name}_median_s": float(np.median(times)), f"{name}_p95_s": float(np.quantile(times, 0.95))}
    return found


def turning() -> dict[str, Any]:
    """The canary good for 20 minutes, then at 5 % or 30 % errors, 10 requests a second: seconds from there until it fails."""
    found: dict[str, Any] = {}
    for rate in (0.05, 0.3):
        times = first_failures(Setting(10, 0.1, 5, 3600, 3), turned(240, rate), 2000)
        name = f"rollback_when_turned_to_{100 * rate:.0f}_percent"
        found |= {
            f"{name}_median_s": float(np.median(times)) - 1200,
            f"{name}_p95_s": float(np.quantile(times, 0.95)) - 1200,
        }
    return found


def bake() -> dict[str, Any]:
    """The canary at 3 % errors from the beginning of the bake, 10 requests a second."""
    found: dict[str, Any] = {}
    for interval in (5, 1):
        setting = Setting(10, 1.0, interval, 900, 3, bake=True)
        times = first_failures(setting, steady(0.03, 0.0), 2000)
        name = f"bake_at_3_percent_every_{interval}_s"
        found |= {f"{name}_median_s": float(np.median(times)), f"{name}_p99_s": float(np.quantile(times, 0.99))}
        found |= share_of(f"{name}_within_2_min", times <= 120)
    return found


def incidents() -> dict[str, Any]:
    """Both arms at 15 % errors for five minutes, otherwise at 0.5 %: how often the canary is blamed, during it or after."""
    found: dict[str, Any] = {}
    for kind, begins, wobble in (("", 60, 0.0), ("at_once_", 0, 0.0), ("uneven_", 60, 0.4)):
        for rate in (1, 10, 100):
            for share in (0.1, 0.5, 0.9):
                failed = first_failures(
                    Setting(rate, share, 10, 3600), incident(begins, begins + 30, 0.15, wobble), 2000
                )
                found |= share_of(f"blamed_{kind}{rate}_per_s_weight_{100 * share:.0f}", np.isfinite(failed))
    return found


def sick_apart() -> dict[str, Any]:
    """Both arms at 3 % errors, each in bursts of its own: how often the canary is blamed within six hours."""
    found: dict[str, Any] = {}
    for rate, share in ((1, 0.1), (10, 0.1), (100, 0.1), (10, 0.5), (10, 0.9)):
        failed = first_failures(Setting(rate, share, 10, 6 * 3600), bursts(0.03, 0.3), 2000)
        found |= share_of(f"blamed_sick_apart_{rate}_per_s_weight_{100 * share:.0f}", np.isfinite(failed))
    return found


def share_of(name: str, hits: Mask) -> dict[str, float]:
    """The share in per cent, and the upper limit of the 95 % interval (Clopper and Pearson)."""
    from scipy.stats import beta

    count, total = int(hits.sum()), len(hits)
    low = float(beta.ppf(0.025, count, total - count + 1)) if count else 0.0
    high = float(beta.ppf(0.975, count + 1, total - count)) if count < total else 1.0
    return {
        f"{name}_percent": round(100 * count / total, 2),
        f"{name}_from_percent": round(100 * low, 2),
        f"{name}_to_percent": round(100 * high, 2),
    }


# --- What passing costs ----------------------------------------------------------------------------------------------

EXAMPLES = (
    (0.01, 0.0), (0.01, 0.001), (0.01, 0.005), (0.2, 0.15), (0.1, 0.05), (0.05, 0.02), (0.001, 0.0),
)  # fmt: skip


def passing(rollouts: int = 2000) -> dict[str, Any]:
    """Median events to the canary until a gate passes, 12 a tick, by limit and true rate."""
    return {
        f"events_to_pass_{100 * limit:g}_percent_at_{100 * rate:g}_percent": median_to_pass(limit, rate, rollouts)
        for limit, rate in EXAMPLES
    }


def median_to_pass(limit: float, rate: float, rollouts: int, events: int = 12) -> float:
    """By the operator's formula for one event, which is all that passing is made of."""
    from pinn_operator.decide.evidence.eprocess import BETTER, log_absolute
    from pinn_operator.decide.evidence.verdict import PASSES

    rng = np.random.default_rng(SEED)
    gains = np.array([[log_absolute(bad, 1.0, limit, limit * part) for part in BETTER] for bad in (0.0, 1.0)])[
        ..., None
    ]
    logs, counted, found = np.full((len(BETTER), rollouts), -np.inf), np.zeros(rollouts), np.full(rollouts, np.inf)
    for tick in range(20_000):
        m = rng.poisson(events, rollouts)
        x = rng.binomial(m, rate)
        counted += m
        logs = np.logaddexp(logs, -log((tick + 1) * (tick + 2))) + (m - x) * gains[0] + x * gains[1]
        high = logs.max(axis=0)
        now = (high + np.log(np.exp(logs - high).mean(axis=0)) >= PASSES) & np.isinf(found)
        found[now] = counted[now]
        if not np.isinf(found).any():
            break
    return float(np.median(found))
