"""What a rollout is judged by, read from the spec: gates, hard limits, memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from pinn_operator.api.spec import Spec
from pinn_operator.api.units import bytes_of, fraction, seconds, unless_off
from pinn_operator.decide.evidence.counters import LIVE, user_counter
from pinn_operator.decide.evidence.gates import ALPHA, BAKE_DOUBT, ERRORS, Gate, gates_of, share, slow

MEMORY: Final = "memoryGrowthPerHour"
LEVEL: Final = "memory"
GPU: Final = "gpuUtilization"


@dataclass(frozen=True, slots=True)
class Sustained:
    """A hard limit on a counter: its share of the total, kept up for a span of seconds."""

    name: str
    bad: str
    total: str
    share: float
    span: float
    text: str


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What a server may take of something that needs no statistics, and the limit as the spec says it."""

    most: float
    text: str


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """What memory may do: bytes an hour, bytes within a span of seconds, the limit of the container, and bytes at any time. None:
    anything."""

    growth_per_hour: float | None = None
    growth: tuple[float, float] | None = None
    container: float | None = None
    level: Ceiling | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What a rollout is judged by. `unavailable` are the seconds that no server of the canary may be ready, `gpu` the share of
    the time that GPUs may be busy."""

    gates: tuple[Gate, ...]
    hard: tuple[Sustained, ...] = ()
    unavailable: float | None = None
    memory: MemoryLimits = MemoryLimits()
    gpu: Ceiling | None = None

    @property
    def counters(self) -> tuple[str, ...]:
        """Every counter that is needed, in order."""
        of_gates = {name for gate in self.gates for name in gate.counters} | {LIVE}
        return tuple(sorted(of_gates.union(self.hard_counters)))

    @property
    def hard_counters(self) -> tuple[str, ...]:
        """Those that the hard limits need, in order."""
        return tuple(sorted({name for limit in self.hard for name in (limit.bad, limit.total)}))

    def alpha(self, name: str) -> float:
        """A gate's share of the chance of a false alarm. Half is for errors, which nobody wants to see late; the others have
        equal parts of the rest."""
        names = {gate.name for gate in self.gates} | ({MEMORY} if self.memory.growth_per_hour is not None else set())
        whole, others = ALPHA - BAKE_DOUBT, len(names - {ERRORS})
        if not others or ERRORS not in names:
            return whole / max(1, len(names))
        return whole / 2 if name == ERRORS else whole / 2 / others


def rules_of(spec: Spec) -> Rules:
    """The rules that an object states."""
    rollback = spec.sla.rollback
    grown = unless_off(bytes_of, rollback.memory_growth.above)
    allowed = unless_off(bytes_of, spec.sla.promote.memory_growth_per_hour)
    container = spec.resources.limits.get("memory")
    level = unless_off(bytes_of, spec.sla.promote.memory)
    gpu = spec.sla.promote.gpu_utilization
    busiest = unless_off(fraction, gpu)
    return Rules(
        gates=gates_of(spec),
        hard=tuple(_hard_limits(spec)),
        unavailable=unless_off(seconds, rollback.unavailable.for_),
        memory=MemoryLimits(
            growth_per_hour=None if allowed is None else float(allowed),
            growth=None if grown is None else (float(grown), seconds(rollback.memory_growth.for_)),
            container=None if container is None else float(bytes_of(container)),
            level=None if level is None else Ceiling(float(level), f"{spec.sla.promote.memory}"),
        ),
        gpu=None if busiest is None or busiest >= 1 else Ceiling(busiest, gpu),
    )


def _hard_limits(spec: Spec) -> Iterator[Sustained]:
    """Each on all requests that count, and on those of users alone: what is replayed to a canary makes no user's errors fewer."""
    for limit in _limits_on_all(spec):
        yield limit
        if spec.sla.evidence == "LiveOrShadow":
            yield replace(limit, bad=user_counter(limit.bad), total=user_counter(limit.total))


def _limits_on_all(spec: Spec) -> Iterator[Sustained]:
    """A hard latency between two bounds of the histogram is judged by the higher one: it must be surely broken."""
    rollback = spec.sla.rollback
    shortest = 2 * seconds(spec.metrics.interval)  # a window of less never has events in both of its halves
    if limit := share("errors", rollback.error_rate.above):
        span = max(shortest, seconds(rollback.error_rate.for_))
        yield Sustained("rollback.errorRate", "errors", "requests", limit.share, span, limit.text)
    if (limit := slow(0.05, rollback.latency_p95.above)) and limit.surely:
        span = max(shortest, seconds(rollback.latency_p95.for_))
        yield Sustained("rollback.latencyP95", limit.surely, "timed", limit.share, span, limit.text)
