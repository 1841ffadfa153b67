"""`pinn-server bench`: is a server as fast, as well cached, as calm under concurrency and as steady in memory as promised?

Four scenarios against a running server, or against one started for the purpose. Calls carry `pinn-source: probe`, so that they do
not count as live traffic, and only the standard library is between the clock and the socket.
"""

import argparse
import http.client
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import IO, Any, Final
from urllib.parse import urlsplit

from pinn_inference.drawing import Drawing, Question
from pinn_inference.errors import PinnError

SCHEMA: Final = 1
WORKERS: Final = 10
CALLS: Final = 10
PREDICTIONS: Final = 1000
LEAST_ITERATIONS: Final = 100
REGRESSION: Final = 0.2
START_SECONDS: Final = 30.0
CALL_SECONDS: Final = 10.0
ALL: Final = (50, 90, 95, 99)

Say = Callable[[str], None]


class BenchError(PinnError):
    """Nothing could be measured: no server, a failed call, or a file that cannot be read."""


@dataclass(frozen=True)
class Limit:
    """What a figure must stay under, or, with `least`, reach."""

    name: str
    bound: float
    least: bool = False

    def broken_by(self, value: float) -> str | None:
        """A sentence, when it is."""
        if (value >= self.bound) if self.least else (value < self.bound):
            return None
        return f"{self.name} is {value:g}, {'at least' if self.least else 'under'} {self.bound:g} is asked for"


@dataclass(frozen=True)
class Scenario:
    """What one came to. Skipped when nothing could be judged: then `passed` is None and the reason says why."""

    figures: Mapping[str, Any]
    limits: Mapping[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    skipped: bool = False

    @property
    def passed(self) -> bool | None:
        """Within every limit?"""
        return None if self.skipped else not self.reasons

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"passed": self.passed, "reasons": list(self.reasons), "limits": dict(self.limits), **self.figures}


@dataclass(frozen=True)
class Target:
    """A server: where it answers, and, when that is known, where its metrics are."""

    url: str
    admin: str | None
    started_here: bool = False


# ----------------------------------------------------------------------------------------------- the command


def run(arguments: argparse.Namespace) -> int:
    """0 when every scenario passed and nothing regressed, else 1."""
    # Else a SIGTERM would end this process at once, and leave the server it started behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        earlier = _earlier(arguments.compare) if arguments.compare else None
        with _target(arguments) as target:
            document = measure(target, arguments.iterations, _progress)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    if earlier is not None:
        document["regressions"] = regressions(earlier, document)
        document["passed"] = document["passed"] and not document["regressions"]
    print(json.dumps(document, indent=2) if arguments.json else table(document))
    return 0 if document["passed"] else 1


def measure(target: Target, iterations: int, say: Say = lambda _: None) -> dict[str, Any]:
    """All four scenarios as the JSON document. Raises BenchError when a call fails, or memory cannot be read."""
    scenarios = {}
    with closing(Client(target.url)) as client:
        drawing = client.drawing()
        origin = client.predict(next(questions(drawing, seed=0))).answer.get("model")
        _resident(target)  # what cannot be read is found out now, not after minutes
        for number, (name, (title, scenario)) in enumerate(SCENARIOS.items(), start=1):
            say(f"{number}/{len(SCENARIOS)} {title}")
            scenarios[name] = scenario(client, target, drawing, iterations).document()
    return {
        "schema": SCHEMA,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "server": {"url": target.url, "started_here": target.started_here, "model": origin},
        "iterations": iterations,
        "passed": all(scenario["passed"] is not False for scenario in scenarios.values()),
        "scenarios": scenarios,
    }


# --------------------------------------------------------------------------------------------- the scenarios


def hit_against_miss(client: "Client", _: Target, drawing: Drawing, iterations: int) -> Scenario:
    """Each question twice in a row; what was a hit is what the answer says, not what was hoped for."""
    first, again = [], []
    for question in islice(questions(drawing, seed=1), iterations):
        first.append(client.predict(question))
        again.append(client.predict(question))
    calls = [*first, *again]
    hits = [call.seconds for call in calls if call.cached]
    misses = [call.seconds for call in calls if not call.cached]
    share = sum(call.cached for call in again) / len(again)
    figures = {"hit_ms": percentiles(hits), "miss_ms": percentiles(misses), "repeats_from_cache": round(share, 4)}
    return _judged(
        figures,
        (Limit("hit_p95_ms", 50), _figure(figures, "hit_ms", "p95")),
        (Limit("miss_p95_ms", 600), _figure(figures, "miss_ms", "p95")),
        (Limit("repeats_from_cache", 0.8, least=True), share),
    )


def hit_rate(client: "Client", _: Target, drawing: Drawing, iterations: int) -> Scenario:
    """One question, over and over, while its inputs move as the model says (a rate by 1 %); the cache starts without it."""
    calls = [client.predict(question) for question in islice(moving(drawing, seed=2), iterations)]
    rate = sum(call.cached for call in calls) / len(calls)
    figures = {"hit_rate": round(rate, 4), "latency_ms": percentiles([call.seconds for call in calls])}
    return _judged(figures, (Limit("hit_rate", 0.8, least=True), rate))


def concurrency(client: "Client", target: Target, drawing: Drawing, iterations: int) -> Scenario:
    """Ten workers with ten calls each, at once; as often as it takes to make `iterations` calls."""
    drawn = questions(drawing, seed=3)
    calls: list[Call] = []
    seconds = 0.0
    for _ in range(max(1, iterations // (WORKERS * CALLS))):
        shares = [list(islice(drawn, CALLS)) for _ in range(WORKERS)]
        began = perf_counter()
        with ThreadPoolExecutor(WORKERS) as pool:
            calls += [call for done in pool.map(lambda share: _ask_all(target.url, share), shares) for call in done]
        seconds += perf_counter() - began
    throughput, latency = len(calls) / seconds, percentiles([call.seconds for call in calls])
    figures = {"workers": WORKERS, "calls": len(calls), "throughput_per_s": round(throughput, 1), "latency_ms": latency}
    return _judged(
        figures,
        (Limit("throughput_per_s", 50, least=True), throughput),
        (Limit("latency_p95_ms", 100), _figure(figures, "latency_ms", "p95")),
    )


def memory(client: "Client", target: Target, drawing: Drawing, iterations: int) -> Scenario:
    """Resident memory over 1,000 predictions or more, each of another question: what the cache keeps of them is counted too."""
    drawn = questions(drawing, seed=4)
    for question in islice(drawn, PREDICTIONS // 10):
        client.predict(question)
    before = _resident(target)
    count = max(PREDICTIONS, iterations)
    for question in islice(drawn, count):
        client.predict(question)
    after = _resident(target)
    if before is None or after is None:
        reason = (
            f"no process_resident_memory_bytes at {target.admin}" if target.admin else "give --admin-url to judge it"
        )
        return Scenario({"predictions": count}, reasons=(reason,), skipped=True)
    growth = after - before
    figures = {
        "predictions": count,
        "before_MiB": round(before, 2),
        "after_MiB": round(after, 2),
        "growth_MiB": round(growth, 2),
    }
    return _judged(figures, (Limit("growth_MiB", 50), growth))


def _resident(target: Target) -> float | None:
    """None where nobody said where to ask, and of a server that was started here on a system that does not tell it."""
    if not target.admin:
        return None
    try:
        return resident_mib(target.admin)
    except BenchError:
        if target.started_here:
            return None
        raise


SCENARIOS: Final[dict[str, tuple[str, Callable[["Client", Target, Drawing, int], Scenario]]]] = {
    "cache": ("cache hit against miss", hit_against_miss),
    "hit_rate": ("hit rate while inputs move a little", hit_rate),
    "concurrency": (f"{WORKERS} workers, {CALLS} calls each, at once", concurrency),
    "memory": (f"memory over {PREDICTIONS:,} predictions", memory),
}


def _judged(figures: Mapping[str, Any], *checks: tuple[Limit, float | None]) -> Scenario:
    limits = {limit.name: limit.bound for limit, _ in checks}
    missing = [f"{limit.name} is missing: no answer was of that kind" for limit, value in checks if value is None]
    broken = [limit.broken_by(value) for limit, value in checks if value is not None]
    return Scenario(figures, limits, tuple(missing + [sentence for sentence in broken if sentence]))


def _figure(figures: Mapping[str, Any], *path: str) -> float | None:
    """One figure by its place; None where there is none."""
    value: Any = figures
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) else None


# --------------------------------------------------------------------------------------- questions and answers


def questions(drawing: Drawing, seed: int) -> Iterator[Question]:
    """Questions without end, well inside the trained ranges, no two alike; other ones on every run, as a cache remembers."""
    draw = random.Random(f"{seed} {time.time_ns()}")  # noqa: S311 - questions, not secrets
    while True:
        yield drawing.question(draw)


def moving(drawing: Drawing, seed: int) -> Iterator[Question]:
    """One question while its inputs move as far as the model says that they do."""
    draw = random.Random(f"{seed} {time.time_ns()}")  # noqa: S311 - questions, not secrets
    question = drawing.question(draw)
    while True:
        yield drawing.moved(question, draw)


@dataclass(frozen=True)
class Call:
    """One answered call."""

    seconds: float
    answer: Mapping[str, Any]

    @property
    def cached(self) -> bool:
        """Whether the server answered from its cache."""
        return self.answer.get("method") == "cache"


class Client:
    """One kept connection."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._connection, self._base = _connection_to(url, "http://127.0.0.1:8080")

    def drawing(self) -> Drawing:
        """What may be asked. Raises BenchError where the server does not say."""
        _, text = self._called("GET", "/openapi.json")
        try:
            return Drawing(_object(text, f"{self._url}/openapi.json"))
        except ValueError as error:
            raise BenchError(f"{self._url}/openapi.json cannot be used: {error}") from None

    def predict(self, question: Question) -> Call:
        """Raises BenchError for any answer but 200."""
        seconds, text = self._called("POST", "/predict", json.dumps(question))
        return Call(seconds, _object(text, self._url))

    def _called(self, method: str, path: str, body: str | None = None) -> tuple[float, bytes]:
        headers = {"content-type": "application/json", "pinn-source": "probe"}
        began = perf_counter()
        try:
            self._connection.request(method, self._base + path, body, headers)
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise BenchError(f"{self._url} does not answer: {str(error) or type(error).__name__}") from None
        seconds = perf_counter() - began
        if response.status != 200:
            raise BenchError(f"{self._url} answers {response.status}: {text[:500].decode(errors='replace')}")
        return seconds, text

    def close(self) -> None:
        """Lets the connection go."""
        self._connection.close()


def _connection_to(url: str, such_as: str) -> tuple[http.client.HTTPConnection, str]:
    """A connection that is not open yet, and the path before every other. Raises BenchError for what is no address."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("http or https, and a host")
        connection = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return connection(parts.hostname, parts.port, timeout=CALL_SECONDS), parts.path.rstrip("/")
    except (ValueError, http.client.HTTPException) as error:
        raise BenchError(f"{url!r} is no address ({error}); give one such as {such_as}") from None


def _ask_all(url: str, asked: Sequence[Question]) -> list[Call]:
    with closing(Client(url)) as client:
        return [client.predict(question) for question in asked]


def _object(text: bytes, source: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise BenchError(f"{source} holds no JSON object")
    return value


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p90, p95, p99 (the nearest rank), max and mean in milliseconds, and their count; only the count of nothing."""
    if not seconds:
        return {"count": 0}
    ordered = sorted(second * 1000 for second in seconds)
    ranks = {f"p{percent}": ordered[math.ceil(len(ordered) * percent / 100) - 1] for percent in ALL}
    figures = {**ranks, "max": ordered[-1], "mean": sum(ordered) / len(ordered)}
    return {"count": len(ordered), **{name: round(value, 4) for name, value in figures.items()}}


def resident_mib(admin: str) -> float:
    """What the server says of its own memory. Raises BenchError with the remedy when it does not."""
    source = f"{admin.rstrip('/')}/metrics"
    remedy = "give --admin-url the server's admin port, such as http://127.0.0.1:8081, without a path, or leave it out"
    connection, base = _connection_to(admin, "http://127.0.0.1:8081")
    with closing(connection):
        try:
            connection.request("GET", base + "/metrics")
            response = connection.getresponse()
            lines = response.read().decode(errors="replace").splitlines()
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise BenchError(f"{source} does not answer: {str(error) or type(error).__name__}; {remedy}") from None
    if response.status != 200:
        raise BenchError(f"{source} answers {response.status}; {remedy}")
    values = [line.split()[-1] for line in lines if line.startswith("process_resident_memory_bytes ")]
    try:
        return float(values[0]) / 2**20
    except (IndexError, ValueError):
        raise BenchError(f"{source} tells no process_resident_memory_bytes; {remedy}") from None


# ------------------------------------------------------------------------------------------------- the server


@contextmanager
def _target(arguments: argparse.Namespace) -> Iterator[Target]:
    if arguments.url:
        yield Target(arguments.url, arguments.admin_url)
        return
    with _own_server() as target:
        yield target


@contextmanager
def _own_server() -> Iterator[Target]:
    """A server with the settings of the environment, on free ports, gone when the block ends."""
    command = [
        sys.executable,
        "-m",
        "pinn_inference",
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--admin-port",
        "0",
    ]
    env = {**os.environ, "PINN_SERVER_DRAIN": "0s", "PINN_SERVER_LOG_LEVEL": "info"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*command, "--log-format", "json"], stdin=subprocess.DEVNULL, stderr=log, env=env)
        try:
            yield _wait_until_serving(process, log)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_serving(process: subprocess.Popen[bytes], log: IO[bytes]) -> Target:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        events = _events(log)
        serving = next((event for event in events if event.get("event") == "serving"), None)
        if serving:
            return Target(serving["url"], serving["admin"], started_here=True)
        if process.poll() is not None:
            said = events[-1].get("event") if events else f"exit code {process.returncode}"
            raise BenchError(f"the server did not start: {said}")
        time.sleep(0.02)
    raise BenchError(f"the server was not ready within {START_SECONDS:.0f} s")


def _events(log: IO[bytes]) -> list[dict[str, Any]]:
    """The whole lines of its log, those that are JSON objects. Read without moving the place where the server writes on."""
    size = os.fstat(log.fileno()).st_size
    lines = os.pread(log.fileno(), size, 0).split(b"\n")[:-1]
    return [json.loads(line) for line in lines if line.startswith(b"{")]


# --------------------------------------------------------------------------------------------- what is printed

WATCHED: Final = (
    ("cache hit p50", False, ("cache", "hit_ms", "p50")),
    ("cache hit p95", False, ("cache", "hit_ms", "p95")),
    ("cache miss p50", False, ("cache", "miss_ms", "p50")),
    ("cache miss p95", False, ("cache", "miss_ms", "p95")),
    ("hit rate", True, ("hit_rate", "hit_rate")),
    ("concurrent throughput", True, ("concurrency", "throughput_per_s")),
    ("concurrent p50", False, ("concurrency", "latency_ms", "p50")),
    ("concurrent p95", False, ("concurrency", "latency_ms", "p95")),
    ("resident memory", False, ("memory", "after_MiB")),
)
"""What is compared with an earlier run: its name, whether more is better, its place. The highest percentiles are too noisy."""


def regressions(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A sentence for each watched figure more than a fifth worse than before; what either run lacks is not compared."""
    found = []
    for name, more_is_better, path in WATCHED:
        before, after = _figure(earlier["scenarios"], *path), _figure(now["scenarios"], *path)
        if before and after is not None:
            change = after / before - 1
            if (-change if more_is_better else change) > REGRESSION:
                found.append(f"{name} is {after:g}, was {before:g} ({change:+.0%})")
    return found


def _earlier(path: Path) -> dict[str, Any]:
    try:
        document = _object(path.read_bytes(), str(path))
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror}") from None
    if document.get("schema") != SCHEMA or not isinstance(document.get("scenarios"), dict):
        raise BenchError(f"{path} is no result of this benchmark: save one with --json")
    return document


def table(document: Mapping[str, Any]) -> str:
    """For a person."""
    scenarios = document["scenarios"]
    model = document["server"]["model"] or {}
    lines = [f"{document['server']['url']}  {model.get('name', '')} {model.get('version', '')}".rstrip(), ""]
    for name, (title, _) in SCENARIOS.items():
        scenario = scenarios[name]
        verdict = {True: "passed", False: "FAILED", None: "skipped"}[scenario["passed"]]
        lines.append(f"{verdict:8} {title}")
        lines += [f"           {line}" for line in (*_rows(scenario), *scenario["reasons"])]
    if "regressions" in document:
        lines += ["", *(f"worse    {sentence}" for sentence in document["regressions"])]
        lines += [] if document["regressions"] else ["no worse than the earlier run by a fifth or more"]
    return "\n".join([*lines, "", "passed" if document["passed"] else "FAILED"])


def _rows(scenario: Mapping[str, Any]) -> list[str]:
    """Latencies a line each, the other figures on one."""
    plain = [
        f"{key} {value:g}" for key, value in scenario.items() if isinstance(value, int | float) and key != "passed"
    ]
    rows = ["  ".join(plain)] if plain else []
    for key, value in scenario.items():
        if isinstance(value, Mapping) and key != "limits":
            rows.append(f"{key:11}" + "  ".join(f"{name} {number:g}" for name, number in value.items()))
    return rows


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def iterations(text: str) -> int:
    """For the command line: a whole number, large enough for percentiles to mean something."""
    count = int(text) if text.isdecimal() else 0
    if count < LEAST_ITERATIONS:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {LEAST_ITERATIONS}")
    return count
