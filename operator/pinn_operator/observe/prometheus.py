"""The same counters by way of a Prometheus, and those of a user's own gates, which nobody else has.

Raw samples with their own times: `rate()` extrapolates, and an instant value hides how old it is. Whatever a sick Prometheus
says has a limit in time and size and becomes a sentence.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any, Final

import aiohttp

from pinn_operator.api.readings import PodMetrics, Server
from pinn_operator.api.spec import CustomGate
from pinn_operator.observe.metrics import (
    CACHED,
    FALLBACKS,
    GPU_USE,
    HITS,
    LATENCY,
    MISSES,
    REQUESTS,
    RESIDENT,
    Labels,
    Told,
    busy,
    counted,
    may_have_counted,
    of_users,
    possible,
)
from pinn_operator.untrusted import TooLarge, bounded, decoded

READING_SECONDS: Final = 5.0
"""For all questions of a reading together."""
LARGEST: Final = 4 * 1024 * 1024
AT_ONCE: Final = 4
PODS_AT_ONCE: Final = 5
"""Pods in one question: an honest answer about them stays below the limit even where they are read each second or two."""
STALE_AFTER: Final = 2.5
"""Intervals after which a sample is no news, as evidence has it."""
SHORTEST_WINDOW, LONGEST_WINDOW = 15.0, 300.0
"""Seconds that are looked back: beyond what is too old, so that the age can be told, and not beyond what Prometheus does."""
QUOTED: Final = 200

COUNTED: Final = (REQUESTS, FALLBACKS, HITS, MISSES, f"{LATENCY}_bucket", f"{LATENCY}_count")
FAMILIES: Final = (*COUNTED, RESIDENT, CACHED, GPU_USE)
OWN: Final = frozenset({"__name__", "source", "outcome", "method", "le", "device"})
"""Labels that a server gives its series. The others are Prometheus' own, and say by which way it reads the server."""
REVISION: Final = "{{revision}}"

Series = dict[str, dict[Labels, tuple[float, float]]]
"""By name and labels: when, and how much."""


@dataclass(frozen=True, slots=True)
class Source:
    """Which Prometheus, and what it is asked."""

    url: str
    token: str
    namespace: str
    interval: float
    shadow_counts: bool
    gates: tuple[CustomGate, ...] = ()
    limit: float = READING_SECONDS

    @property
    def window(self) -> int:
        return ceil(min(LONGEST_WINDOW, max(SHORTEST_WINDOW, 3 * self.interval)))


class Sick(Exception):
    """What Prometheus did instead of answering, in a sentence."""


async def ask(source: Source, of: Sequence[Server], now: Callable[[], float]) -> tuple[PodMetrics, ...]:
    """The counters of each server that may have counted something; of one of which there is no news, why."""
    servers = [server for server in of if may_have_counted(server)]
    if not servers:
        return ()
    try:
        async with asyncio.timeout(source.limit), _connected(source) as client:
            series = await _series(client, source, servers)
            custom = await _custom(client, source, servers)
    except TimeoutError:
        return unread(servers, now(), f"Prometheus at {source.url} does not answer within {source.limit:g} s")
    except Sick as error:
        return unread(servers, now(), str(error))
    return tuple(_of_pod(source, one, series[one.pod], custom[one.pod], now()) for one in servers)


def unread(servers: Sequence[Server], at: float, said: str) -> tuple[PodMetrics, ...]:
    """No news of any of them, for one reason."""
    return tuple(
        PodMetrics(one.revision, one.process, at, None, trouble=said) for one in servers if may_have_counted(one)
    )


# --- One pod ---------------------------------------------------------------------------------------------------------


def _of_pod(
    source: Source, server: Server, found: Mapping[Labels, Series], custom: Mapping[str, float], now: float
) -> PodMetrics:
    try:
        told, at = _newest(source, server, found)
        _check_age(source, server, at, now)
        (counts, memory, live), gpu = counted(told, shadow_counts=source.shadow_counts), busy(told)
        users = of_users(told)
    except ValueError as error:
        return PodMetrics(server.revision, server.process, now, None, trouble=str(error))
    return PodMetrics(server.revision, server.process, at, {**counts, **custom}, memory, live, gpu=gpu, users=users)


def _newest(source: Source, server: Server, found: Mapping[Labels, Series]) -> tuple[Told, float]:
    """The last sample of each series, and the time of the oldest family. Where two ways lead to a server, the fresher one counts:
    both tell of the same process. Raises ValueError."""
    if not found:
        raise ValueError(
            f"Prometheus has nothing of pod {server.pod} from the last {source.window} s; "
            "it is to read the port `admin` and to set the labels namespace and pod"
        )
    lacking = {way: _lacking(series) for way, series in found.items()}
    whole = [(_at(series), series) for way, series in found.items() if not lacking[way]]
    if not whole:
        lacks = min(lacking.values(), key=len)
        raise ValueError(f'Prometheus has no {lacks[0]} of pod {server.pod} with the label source="live"')
    at, series = max(whole, key=lambda one: one[0])
    series = {name: samples for name, samples in series.items() if name != GPU_USE or _last(samples) >= at}
    newest = {name: _last_of(name, samples) for name, samples in series.items()}
    return Told(newest, frozenset({*newest, LATENCY})), at


def _lacking(series: Series) -> list[str]:
    """The families in which there is nothing of users' requests: each has, from the beginning of a server."""
    return [
        name for name in COUNTED if not any(dict(labels).get("source") == "live" for labels in series.get(name, ()))
    ]


def _at(series: Series) -> float:
    """A server may lose its GPU, and goes on; then the last that was said of it is no news, and the others are."""
    return min(_last(samples) for name, samples in series.items() if name != GPU_USE)


def _last(samples: Mapping[Labels, tuple[float, float]]) -> float:
    return max(at for at, _ in samples.values())


def _last_of(name: str, samples: Mapping[Labels, tuple[float, float]]) -> dict[Labels, float]:
    """The values of the family's last reading. A series that ended before it is of another time."""
    last = _last(samples)
    return {labels: possible(name, value) for labels, (at, value) in samples.items() if at == last}


def _check_age(source: Source, server: Server, at: float, now: float) -> None:
    """Raises ValueError where a sample is no news, or of the process before this one."""
    age, oldest = now - at, STALE_AFTER * source.interval
    if age > oldest:
        how = "have it read more often, or raise spec.metrics.interval"
        raise ValueError(f"Prometheus' last sample of pod {server.pod} is {age:.0f} s old, over {oldest:g} s; {how}")
    if age < -oldest:
        raise ValueError(
            f"Prometheus' last sample of pod {server.pod} is {-age:.0f} s in the future; are its clocks right?"
        )
    if server.started is not None and at < server.started + 1:
        raise ValueError(f"Prometheus has not read pod {server.pod} since its server restarted")


# --- All pods --------------------------------------------------------------------------------------------------------


async def _series(client: _Client, source: Source, servers: Sequence[Server]) -> Mapping[str, dict[Labels, Series]]:
    """By pod, and by the way it is read."""
    found: dict[str, dict[Labels, Series]] = defaultdict(dict)
    for result in await _all(client, [_selector(source, part) for part in _parts(servers)]):
        for metric, sample in _entries(result, "values"):
            own = frozenset((name, text) for name, text in metric.items() if name in OWN and name != "__name__")
            way = frozenset((name, text) for name, text in metric.items() if name not in OWN)
            by_name = found[metric.get("pod", "")].setdefault(way, {})
            by_name.setdefault(metric.get("__name__", ""), {})[own] = sample
    return found


def _parts(servers: Sequence[Server]) -> Iterator[Sequence[Server]]:
    return (servers[at : at + PODS_AT_ONCE] for at in range(0, len(servers), PODS_AT_ONCE))


def _selector(source: Source, servers: Sequence[Server]) -> str:
    """One question about all families, so that they come from the same reading of a server."""
    pods = "|".join(server.pod.replace(".", "[.]") for server in servers)
    names, sources = "|".join(FAMILIES), "live|shadow|"  # memory has no source
    labels = f'__name__=~"{names}",namespace="{source.namespace}",pod=~"{pods}",source=~"{sources}"'
    return f"{{{labels}}}[{source.window}s]"


# --- Gates of a user's own -------------------------------------------------------------------------------------------


async def _custom(client: _Client, source: Source, servers: Sequence[Server]) -> Mapping[str, dict[str, float]]:
    """By pod: the counters of every gate. One that Prometheus does not know is at zero: many exist from their first event on."""
    found: dict[str, dict[str, float]] = {server.pod: {} for server in servers}
    if not source.gates:
        return found
    _check_restarts(source, servers, at := await client.time())
    for gate in source.gates:
        for what, text in (("bad", gate.bad), ("total", gate.total)):
            try:
                values = await _by_pod(client, source, text, servers, at)
            except Sick as error:
                raise Sick(f"gate {gate.name}, {what}: {error}") from None
            for server in servers:
                found[server.pod][f"custom/{gate.name}/{what}"] = values.get(server.pod, 0.0)
    return found


def _check_restarts(source: Source, servers: Sequence[Server], at: float) -> None:
    """A gate's counters do not tell which process of a pod they are of."""
    for server in servers:
        if server.restarts and server.started is not None and at < server.started + source.window + 1:
            raise Sick(
                f"the server of pod {server.pod} has just restarted: sla.custom may still tell of the one before it"
            )


async def _by_pod(client: _Client, source: Source, text: str, servers: Sequence[Server], at: float) -> dict[str, float]:
    """The last value of a counter within the window for each pod, for the servers of each revision by its own question."""
    revisions = sorted({server.revision for server in servers})
    results = await _all(client, [_within(source, text, revision) for revision in revisions], at)
    found: dict[str, float] = {}
    for revision, result in zip(revisions, results, strict=True):
        values = _one_each(result)
        found |= {one.pod: values[one.pod] for one in servers if one.revision == revision and one.pod in values}
    return found


def _within(source: Source, text: str, revision: str) -> str:
    """Over a window, as a reading that failed would else look like a counter that fell to nothing."""
    step = max(1, int(source.interval / 4))
    return f"last_over_time(({text.replace(REVISION, revision)}\n)[{source.window}s:{step}s])"


def _one_each(result: Sequence[object]) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric, (_, value) in _entries(result, "value"):
        pod = metric.get("pod", "")
        if not pod:
            raise Sick("its answer has no label pod; write e.g. sum by (pod) (...)")
        if pod in found:
            raise Sick(f"its answer has several series of pod {pod}; write e.g. sum by (pod) (...)")
        if not (isfinite(value) and value >= 0):
            raise Sick(f"it is {value} for pod {pod}, which no counter is")
        found[pod] = value
    return found


# --- HTTP ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Client:
    """Questions to one Prometheus. Every method raises Sick, or TimeoutError with the limit of the reading."""

    session: aiohttp.ClientSession
    url: str
    turns: asyncio.Semaphore

    async def time(self) -> float:
        """Its own clock, so that several questions are about one moment."""
        found = _sample(await self._ask("time()", "scalar", {}))
        return found[0]

    async def query(self, expression: str, at: float | None = None) -> list[object]:
        """The series: a matrix of an expression that ends in a range, else a vector."""
        kind = "matrix" if expression.endswith("s]") else "vector"
        result = await self._ask(expression, kind, {} if at is None else {"time": f"{at:.3f}"})
        if not isinstance(result, list):
            raise Sick("Prometheus answers without a list of series")
        return result

    async def _ask(self, expression: str, kind: str, more: Mapping[str, str]) -> object:
        async with self.turns:
            try:
                async with self.session.post(
                    self.url, data={"query": expression, **more}, allow_redirects=False
                ) as answer:
                    return _result(answer.status, await bounded(answer, LARGEST), kind)
            except TooLarge:
                raise Sick(f"Prometheus answers with more than {LARGEST // 2**20} MiB") from None
            except aiohttp.ClientConnectorError as error:
                raise Sick(f"Prometheus cannot be reached: {_short(error)}") from None
            except (aiohttp.ClientError, OSError, ValueError) as error:
                if isinstance(error, TimeoutError):
                    raise
                raise Sick(f"Prometheus answers with what cannot be read: {_short(error)}") from None


@asynccontextmanager
async def _connected(source: Source) -> AsyncIterator[_Client]:
    """Directly, whatever proxies the environment names; no cookies, nothing compressed."""
    headers = {"accept-encoding": "identity"} | ({"authorization": f"Bearer {source.token}"} if source.token else {})
    async with aiohttp.ClientSession(
        trust_env=False, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(), headers=headers
    ) as session:
        yield _Client(session, f"{source.url.rstrip('/')}/api/v1/query", asyncio.Semaphore(AT_ONCE))


async def _all(client: _Client, expressions: Sequence[str], at: float | None = None) -> list[list[object]]:
    """The answers in turn. The first trouble ends them all."""
    tasks = [asyncio.create_task(client.query(expression, at)) for expression in expressions]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _result(status: int, content: bytes, kind: str) -> object:
    """What was asked for. Of anybody but a Prometheus no word is passed on: the address is a user's, and may be anybody's."""
    said: Any = decoded(content)
    if isinstance(said, dict) and said.get("status") == "error":
        raise Sick(f"Prometheus answers {status}: {_short(said.get('error') or said.get('errorType') or 'an error')}")
    if status != 200:
        raise Sick(f"Prometheus answers {status}")
    if not isinstance(said, dict) or said.get("status") != "success" or not isinstance(said.get("data"), dict):
        raise Sick("what answers there is no Prometheus")
    if said.get("warnings"):
        raise Sick(f"Prometheus warns that the answer may not be whole: {_short(said['warnings'])}")
    if said["data"].get("resultType") != kind:
        raise Sick(f"Prometheus answers with a {_short(said['data'].get('resultType'))} instead of a {kind}")
    return said["data"].get("result")


def _entries(result: Sequence[object], part: str) -> Iterator[tuple[dict[str, str], tuple[float, float]]]:
    """The labels of each series and its last sample. A native histogram has none."""
    for one in result:
        metric = one.get("metric") if isinstance(one, dict) else None
        samples = one.get(part) if isinstance(one, dict) else None
        if not isinstance(metric, dict) or not all(isinstance(text, str) for text in metric.values()):
            raise Sick("Prometheus answers with a series that has no labels")
        if part == "values":
            samples = samples[-1] if isinstance(samples, list) and samples else None
        if samples is not None:
            yield metric, _sample(samples)


def _sample(told: Any) -> tuple[float, float]:
    at, value = told if isinstance(told, list) and len(told) == 2 else ("", "")
    try:
        found = float(at), float(value)
    except (TypeError, ValueError, OverflowError):
        raise Sick("Prometheus answers with a sample that is none") from None
    if not isfinite(found[0]):
        raise Sick("Prometheus answers with a sample of no time")
    return found


def _short(said: object) -> str:
    return " ".join(str(said).split())[:QUOTED]
