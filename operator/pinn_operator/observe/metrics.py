"""What servers counted, read from their own metrics, under the names that gates are judged by.

Read with distrust: half a text would look like a restart, and a family that is missing like a service without faults.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from pinn_operator.api.readings import PodMetrics, Server
from pinn_operator.errors import ServerTrouble
from pinn_operator.servers import Servers

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.6, 1.0, 2.0, 5.0)
"""Bounds of the server's latency histogram, in seconds."""
SLOWER: Final = {f"slower_than_{bound:g}": bound for bound in BUCKETS}
"""What is counted by them."""
LONGEST_SERIES: Final = 1024
"""Characters of a name with its labels: far more than ours have. What is kept of a server that says more has no bound."""
LINES: Final = 10_000
"""Of one server's text, ten times as many as ours have: nothing else goes on while they are read."""
KNOWN_SERIES: Final = 4096
"""Names with their labels that need not be read again: many more than one server has."""
AT_ONCE: Final = 16
"""Pods of one object read at a time."""
READING_SECONDS: Final = 5.0
"""For all pods of one object together, as for one answer of Prometheus: other objects wait for their turn meanwhile."""

REQUESTS: Final = "pinn_requests_total"
FALLBACKS: Final = "pinn_fallback_calls_total"
HITS: Final = "pinn_cache_hits_total"
MISSES: Final = "pinn_cache_misses_total"
LATENCY: Final = "pinn_prediction_latency_seconds"
RESIDENT: Final = "process_resident_memory_bytes"
CACHED: Final = "pinn_cache_bytes"
GPU_USE: Final = "pinn_gpu_utilization_ratio"
"""By device, on servers that have one."""
USERS: Final = ("live",)
"""The source that users' requests are counted under."""
FAILED: Final = ("error", "overloaded")
"""Outcomes that are errors. One that is refused is the caller's own."""

Labels = frozenset[tuple[str, str]]


async def scrape(
    servers: Servers, of: Sequence[Server], now: Callable[[], float], *, shadow_counts: bool
) -> tuple[PodMetrics, ...]:
    """The counters of each server that may have counted something; of one that cannot be read, or not in time, why."""
    turns = asyncio.Semaphore(AT_ONCE)
    over = asyncio.get_running_loop().time() + READING_SECONDS

    async def read(server: Server) -> PodMetrics:
        try:
            async with asyncio.timeout_at(over), turns:
                return await _read(servers, server, now, shadow_counts)
        except TimeoutError:
            said = f"pod {server.pod} was not read within the {READING_SECONDS:g} s that there are for all pods"
            return PodMetrics(server.revision, server.process, now(), None, trouble=said)

    return tuple(await asyncio.gather(*(read(server) for server in of if may_have_counted(server))))


def parse(text: str, *, shadow_counts: bool) -> tuple[dict[str, float], float | None, float]:
    """The counts by name, resident bytes without the cache's own, and the requests of users alone.

    Raises ValueError with a sentence where the text is not whole, or says what cannot be.
    """
    return counted(told(text), shadow_counts=shadow_counts)


def counted(found: Told, *, shadow_counts: bool) -> tuple[dict[str, float], float | None, float]:
    """The same of series that came by another way. Raises ValueError where they are not complete."""
    counts = _counts(found, (*USERS, "shadow") if shadow_counts else USERS)
    return {**counts, "checked": 0.0, "violations": 0.0}, _memory(found), found.sum(REQUESTS, USERS)


def _counts(found: Told, sources: Collection[str]) -> dict[str, float]:
    misses = found.sum(MISSES, sources)
    return {
        "requests": found.sum(REQUESTS, sources),
        "errors": found.sum(REQUESTS, sources, FAILED),
        "fallbacks": found.sum(FALLBACKS, sources),
        "lookups": found.sum(HITS, sources) + misses,
        "misses": misses,
        **_latencies(found, sources),
    }


def busy(found: Told) -> float | None:
    """The mean share of the time that the GPUs of a server are busy; None without any. Raises ValueError above 1."""
    shares = found.of(GPU_USE).values()
    if most := [share for share in shares if share > 1]:
        raise ValueError(f"{GPU_USE} is {most[0]:g}")
    return sum(shares) / len(shares) if shares else None


def of_users(found: Told) -> dict[str, float]:
    """The same counts of users' requests alone. Raises ValueError where they are not complete."""
    return _counts(found, USERS)


@dataclass(frozen=True, slots=True)
class Told:
    """The series of a server by their name, and which families it has, be they empty."""

    series: Mapping[str, Mapping[Labels, float]]
    families: Collection[str]

    def of(self, name: str) -> Mapping[Labels, float]:
        return self.series.get(name, {})

    def sum(self, name: str, sources: Collection[str], outcomes: Collection[str] | None = None) -> float:
        """All series of a counter from these sources, and with these outcomes."""
        return sum(
            value
            for labels, value in self.of(name).items()
            if dict(labels).get("source") in sources and (outcomes is None or dict(labels).get("outcome") in outcomes)
        )


async def _read(servers: Servers, server: Server, now: Callable[[], float], shadow_counts: bool) -> PodMetrics:
    at = now()
    try:
        found = told(await servers.metrics(server))
        (counts, memory, live), gpu = counted(found, shadow_counts=shadow_counts), busy(found)
        users = of_users(found)
    except ServerTrouble as error:
        return PodMetrics(server.revision, server.process, at, None, trouble=str(error))
    except ValueError as error:
        said = f"the metrics of pod {server.pod} cannot be used: {error}"
        return PodMetrics(server.revision, server.process, at, None, trouble=said)
    return PodMetrics(server.revision, server.process, at, counts, memory, live, gpu=gpu, users=users)


def may_have_counted(server: Server) -> bool:
    """One that is not ready and has no address, or no process yet, was never asked anything."""
    return server.ready or (server.address is not None and bool(server.container))


def told(text: str) -> Told:
    """The series of a server's text. Raises ValueError where it is not whole."""
    if not text.endswith("\n"):
        raise ValueError("they end in the middle of a line")
    if text.count("\n") > LINES:
        raise ValueError(f"they have more than {LINES} lines: no model server has as many")
    series: dict[str, dict[Labels, float]] = defaultdict(dict)
    families = set()
    for line in map(str.strip, text.split("\n")):
        if line.startswith(("# HELP ", "# TYPE ")):
            families.update(line.split()[2:3])
        elif line and not line.startswith("#"):
            name, labels, value = _sample(line)
            if labels in series[name]:
                raise ValueError(f"{name} is there twice")
            series[name][labels] = possible(name, value)
    families |= series.keys()
    for name in (REQUESTS, FALLBACKS, HITS, MISSES, LATENCY):
        if not families & {name, name.removesuffix("_total")}:
            raise ValueError(f"{name} is missing: this is no model server's text, or one of another release")
    return Told(series, families)


def _sample(line: str) -> tuple[str, Labels, float]:
    """Of one line. Raises ValueError where it is none."""
    series, _, value = line.rpartition(" ")
    if len(series) > LONGEST_SERIES:
        raise ValueError(f"{series[:64]}... is longer than any series of a model server")
    try:
        name, labels = _named(series or value)
        return name, labels, float(value if "_" not in value else "")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(str(error)[:200] or "they are not in Prometheus' text format") from None


@lru_cache(KNOWN_SERIES)
def _named(series: str) -> tuple[str, Labels]:
    """The name and the labels of a series. Servers have much the same ones, and to read them takes most of the time."""
    ((sample,),) = (family.samples for family in text_string_to_metric_families(f"{series} 0\n"))
    if sample.timestamp is not None:
        raise ValueError(f"{sample.name} has a time of its own")
    return sample.name, frozenset(sample.labels.items())


def possible(name: str, value: float) -> float:
    """The value of a sample. Raises ValueError where no counter has such a one."""
    if name.startswith(("pinn_", RESIDENT)) and not (isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {value}")
    return float(value)


def _latencies(told: Told, sources: Collection[str]) -> dict[str, float]:
    """How many answers there were, and how many were slower than each bound, whatever they were made by."""
    found = {"timed": 0.0, **dict.fromkeys(SLOWER, 0.0)}
    buckets: dict[Labels, dict[float, float]] = defaultdict(dict)
    for labels, value in told.of(f"{LATENCY}_bucket").items():
        without, bound = _of_bucket(labels)
        buckets[without][bound] = value
    counted = told.of(f"{LATENCY}_count")
    for labels in {*buckets, *counted}:
        if dict(labels).get("source") not in sources:
            continue
        if labels not in counted or not buckets[labels].keys() >= {*BUCKETS}:
            raise ValueError(f"{LATENCY} is not complete")
        found["timed"] += counted[labels]
        for name, bound in SLOWER.items():
            found[name] += _beyond(counted[labels], buckets[labels][bound])
    return found


@lru_cache(KNOWN_SERIES)
def _of_bucket(labels: Labels) -> tuple[Labels, float]:
    """The labels of its histogram, and its bound."""
    return frozenset(label for label in labels if label[0] != "le"), float(dict(labels).get("le", "nan"))


def _beyond(count: float, within: float) -> float:
    if within > count:
        raise ValueError(f"{LATENCY} counts {within:g} answers within a bound, and {count:g} in all")
    return count - within


def _memory(told: Told) -> float | None:
    resident = sum(told.of(RESIDENT).values())
    return max(0.0, resident - sum(told.of(CACHED).values())) if told.of(RESIDENT) else None
