"""Evidence that may be looked at on every tick without being fooled by looking often: e-values, and detectors made of them.

An e-value is a number that is at most 1 on average while all is well; a product of them that reaches 1/alpha happens by chance
in at most alpha of all rollouts, however often one looks (Ville's inequality). Everything is kept as logarithms: one bad night
is a factor of e^1000. Which assumption each form rests on is said in docs/concepts/evidence.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, inf, log, log1p
from typing import Final

PSI: Final = 1.5
"""How much worse than stable a canary may be before that counts: no two sets of requests are quite alike."""

BETS: Final = (0.04, 0.12, 0.35, 0.9)
"""Share of the stake in a tick. Small ones suit ticks of one request, large ones ticks of hundreds."""
ODDS: Final = (1.7, 3.0, 6.0, 15.0)
"""How many times as many bad events of the canary, against stable's, the relative form looks for."""
APART_BETS: Final = (0.25, 0.5, 0.9)
BETTER: Final = (0.05, 0.25, 0.5, 0.75, 0.9)
"""Rates that a passing canary may have, as shares of the limit."""
SMALLEST_LIMIT: Final = 1e-300
"""What a limit of 0 % means: so small that the first bad event breaks it, after however many good ones."""
SMALLEST_PROVEN: Final = 1e-6
"""What is proven of a limit of 0 %: of less nobody lives to see it."""


def log_absolute(bad: float, events: float, limit: float, rate: float) -> float:
    """How much better a rate explains the events than the limit does, were they independent.

    At most 1 on average when the true rate is at or beyond the limit, seen from `rate`.
    """
    return bad * log(rate / limit) + (events - bad) * (log1p(-rate) - log1p(-limit))


def log_relative(bad: tuple[float, float], events: tuple[float, float], odds: float, psi: float = PSI) -> float:
    """How much better `odds` explains who the bad events belong to, (canary, stable), than psi does.

    Wald's ratio for the share of the canary, theta = psi m_c / (psi m_c + m_s). At most 1 on average while the canary's rate in
    this tick is at most psi times stable's, whatever that is and however the weight moves. Without traffic to stable it is 1.
    """
    theta = psi * events[0] / (psi * events[0] + events[1])
    return bad[0] * log(odds) - (bad[0] + bad[1]) * log1p(theta * (odds - 1))


def log_tick(observed: float, expected: float, bet: float) -> float:
    """A bet on one number of the tick: at most 1 on average while the mean of `observed` >= 0 is at most `expected`.

    It takes the whole tick for one observation, so events of a tick may fail together as much as they like.
    """
    return log1p(bet * (observed / expected - 1))


def apart(bad: tuple[float, float], events: tuple[float, float], psi: float = PSI) -> tuple[float, float]:
    """(observed, expected) share of the canary when each arm may have bursts of its own. Not for a tick without bad events.

    Where only one arm bursts at a time it is the canary's turn every other time, whatever its weight: an expectation of theta
    would call that guilt. So rates are compared, not counts, for an even chance; where the canary has more traffic than stable,
    whose few bad events then say little, counts for theta.
    """
    ratio = psi * events[0] / events[1]
    if ratio > 1:
        return bad[0] / (bad[0] + bad[1]), ratio / (1 + ratio)
    return bad[0] / (bad[0] + ratio * bad[1]), 0.5


@dataclass(frozen=True, slots=True)
class Detector:
    """The sum, over all ticks at which trouble may have begun, of the evidence since; one for each point of a grid.

    Tick t of a step gets the share mass / ((t+1)(t+2)) of the whole: the shares of a rollout add up to 1 at most, so the
    evidence does not exceed 1 on average. A step has a mass of its own, as trouble likes to begin where the weight rises.
    """

    logs: tuple[float, ...] = ()
    ticks: int = 0
    mass: float = 1.0

    def after(self, evidence: Sequence[float]) -> Detector:
        """With the log-evidence of one more tick, by grid point."""
        start = log(self.mass / ((self.ticks + 1) * (self.ticks + 2))) if self.mass > 0 else -inf
        before = self.logs or (-inf,) * len(evidence)
        logs = tuple(add(m, start) + e for m, e in zip(before, evidence, strict=True))
        return replace(self, logs=logs if max(logs) > -inf else (), ticks=self.ticks + 1)

    def at_a_new_step(self, mass: float) -> Detector:
        """What is known stays; the ticks of the new step share its mass."""
        return replace(self, ticks=0, mass=mass)

    def emptied(self) -> Detector:
        """Without the evidence so far. That can only weaken it, so it is always allowed."""
        return replace(self, logs=())

    @property
    def log_evidence(self) -> float:
        """The mean over the grid."""
        return mean(self.logs) if self.logs else -inf


STARTS: Final = 0.05
"""Chance that a watch gives to trouble beginning at any tick."""
CEILING: Final = log(1000)
"""Where a watch stops counting, so that it is soon over when the trouble is."""


@dataclass(frozen=True, slots=True)
class Watch:
    """A detector that is quick instead of careful (Shiryaev and Roberts): trouble may begin at any tick with the same chance, so
    it is never too late to notice. In a long time it cries wolf, so nothing may hang on it but caution."""

    logs: tuple[float, ...] = ()

    def after(self, evidence: Sequence[float]) -> Watch:
        """With the log-evidence of one more tick, by grid point."""
        before = self.logs or (-inf,) * len(evidence)
        return Watch(tuple(min(add(m, log(STARTS)) + e, CEILING) for m, e in zip(before, evidence, strict=True)))

    @property
    def log_evidence(self) -> float:
        """The mean over the grid."""
        return mean(self.logs) if self.logs else -inf


def add(a: float, b: float) -> float:
    """log(e^a + e^b)."""
    high, low = (a, b) if a > b else (b, a)
    return high if low == -inf else high + log1p(exp(low - high))


def mean(logs: Sequence[float]) -> float:
    """log of the mean of e^log."""
    high = max(logs)
    return high + log(sum(exp(one - high) for one in logs) / len(logs))


def upper_bound(bad: float, events: float, doubt: float) -> float:
    """A rate that the true one exceeds with a probability of at most `doubt`, after Chernoff: e^(-m KL(x/m, u)) = doubt."""
    if events <= 0:
        return 1.0
    seen, low, high = bad / events, bad / events, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if events * divergence(seen, middle) < -log(doubt) else (low, middle)
    return high


def divergence(p: float, q: float) -> float:
    """Kullback-Leibler divergence of two rates, in nats per event."""
    if q >= 1:
        return 0.0 if p >= 1 else inf
    ones = p * log(p / q) if p > 0 else 0.0
    zeros = (1 - p) * (log1p(-p) - log1p(-q)) if p < 1 else 0.0
    return ones + zeros
