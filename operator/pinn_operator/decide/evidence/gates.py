"""Which service levels gate a rollout, each as a proportion of bad events: the limits, and the counters they are judged on.

The names of the counters are what the metric sources deliver, whatever the series are called there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pinn_operator.api.spec import CustomGate, Spec
from pinn_operator.api.units import fraction, seconds, unless_off
from pinn_operator.decide.evidence.counters import CUSTOM, user_counter
from pinn_operator.decide.evidence.eprocess import SMALLEST_LIMIT, SMALLEST_PROVEN

ALPHA: Final = 0.01
"""Chance that a whole rollout of a good canary is aborted, all gates together."""
BAKE_DOUBT: Final = 0.001
"""Part of it: that stable's rate over the steps was above the bound the bake goes by."""
BETA: Final = 0.05
"""Chance that a step lets a canary pass whose rate is at the limit."""
ERRORS: Final = "errorRate"
CHECKED: Final = "checked"
"""What the operator asks itself: no traffic to the canary is needed for it."""
OWN_QUESTIONS: Final = "answers of the canary to the operator's own questions"
QUERIES: Final = re.compile("@[0-9a-f]+/")
"""By what the counters of a gate of one's own are told apart when its queries were changed and its name was not."""
BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.6, 1.0, 2.0, 5.0)
"""Bounds of the server's latency histogram, in seconds."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The largest share of bad events, and the counters of those that are surely bad and of those that may be.

    They differ where a latency lies between two bounds of the histogram. None as `surely`: none can be told; None as
    `maybe`: any event.
    """

    share: float
    surely: str | None
    maybe: str | None
    text: str

    @property
    def to_prove(self) -> float:
        """The share that a passing canary is proven to be within."""
        return max(self.share, SMALLEST_PROVEN)

    @property
    def exact(self) -> bool:
        """Whether every event is one or the other."""
        return self.surely == self.maybe


@dataclass(frozen=True, slots=True)
class Gate:
    """One service level. `of` and `what` complete "3 % of 100 ... ..."."""

    name: str
    what: str
    total: str
    promote: Limit | None
    abort: Limit | None = None
    of: str = "requests to the canary"
    hardware: bool = False
    """Whether it depends on the hardware, so that arms on unlike hardware cannot be compared."""
    users_first: bool = False
    """Whether replayed requests tell of it only while users ask little: they are drawn from what the cache holds already."""
    told_apart: bool = True
    """Whether users' requests are counted apart, as others are replayed where they ask little."""

    @property
    def counters(self) -> frozenset[str]:
        limits = [limit for limit in (self.promote, self.abort) if limit]
        names = {self.total, *(name for limit in limits for name in (limit.surely, limit.maybe) if name)}
        apart = self.told_apart and self.total != CHECKED and not self.total.startswith(CUSTOM)
        return frozenset(names | {user_counter(name) for name in names} if apart else names)


def gates_of(spec: Spec, bounds: Sequence[float] = BUCKETS) -> tuple[Gate, ...]:
    """The gates of an object. One that is off, or that nothing could break, is absent."""
    apart = spec.sla.evidence == "LiveOrShadow"
    return tuple(replace(gate, told_apart=apart) for gate in _all_gates(spec, bounds) if gate.promote or gate.abort)


def _all_gates(spec: Spec, bounds: Sequence[float]) -> Iterator[Gate]:
    promote, abort = spec.sla.promote, spec.sla.abort
    yield Gate(ERRORS, "failed", "requests", share("errors", promote.error_rate), share("errors", abort.error_rate))
    fallbacks = share("fallbacks", promote.fallback_rate)
    yield Gate("fallbackRate", "were answered by a fallback", "requests", fallbacks, users_first=True)
    if spec.cache.size > 0:
        missed = misses(promote.cache_hit_rate)
        yield Gate("cacheHitRate", "missed the cache", "lookups", missed, users_first=True)
    p95, p99, p95_abort = promote.latency_p95, promote.latency_p99, abort.latency_p95
    yield Gate(
        "latencyP95", "were too slow", "timed", slow(0.05, p95, bounds), slow(0.05, p95_abort, bounds), hardware=True
    )
    yield Gate("latencyP99", "were too slow", "timed", slow(0.01, p99, bounds), hardware=True)
    physics = share("violations", promote.physics_violation_rate)
    yield Gate("physicsViolationRate", "broke the equation or an invariant", CHECKED, physics, of=OWN_QUESTIONS)
    yield from (_custom(gate) for gate in spec.sla.custom)


def _custom(gate: CustomGate) -> Gate:
    queries = hashlib.sha256(f"{gate.bad}\0{gate.total}".encode()).hexdigest()[:8]
    bad, total = (f"{CUSTOM}{gate.name}@{queries}/{what}" for what in ("bad", "total"))
    return Gate(gate.name, "were bad", total, share(bad, gate.promote), share(bad, gate.abort))


def as_read(counter: str) -> str:
    """A counter as sources of metrics call it: they know one set of queries, those of the spec."""
    return QUERIES.sub("/", counter)


def share(counter: str, limit: str | None) -> Limit | None:
    """A limit on the share of the events that the counter counts."""
    return _limit(unless_off(fraction, limit), counter, counter, f"{limit}")


def misses(hit_rate: str) -> Limit | None:
    """The smallest share of hits as a limit on misses."""
    hits = unless_off(fraction, hit_rate)
    return _limit(None if hits is None else round(1 - hits, 12), "misses", "misses", f"{hit_rate} hits")


def slow(above: float, latency: str, bounds: Sequence[float] = BUCKETS) -> Limit | None:
    """ "p95 < L" is "fewer than 5 % slower than L": exact at a bound of the histogram. Between two, only what exceeds the
    higher one is surely slower, and whatever exceeds the lower one may be."""
    limit = unless_off(seconds, latency)
    if limit is None:
        return None
    surely = next((slower_than(bound) for bound in sorted(bounds) if bound >= limit), None)
    maybe = next((slower_than(bound) for bound in sorted(bounds, reverse=True) if bound <= limit), None)
    return _limit(above, surely, maybe, f"{latency} for {1 - above:.0%}")


def slower_than(bound: float) -> str:
    """The counter of answers slower than a bound of the histogram, in seconds."""
    return f"slower_than_{bound:g}"


def _limit(value: float | None, surely: str | None, maybe: str | None, text: str) -> Limit | None:
    """None where there is no limit, and where everything is within it."""
    return None if value is None or value >= 1 else Limit(max(value, SMALLEST_LIMIT), surely, maybe, text)
