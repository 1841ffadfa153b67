"""Requests at a fixed rate against one URL, from inside a cluster: `python load.py URL RATE SECONDS [--host NAME] ...`.

Open loop: a request is sent when it is due, however the ones before it fare, so a server that stalls is not spared. Connections
are kept alive as real clients keep them, and nothing is retried: every answer but 200 is a failure. SIGTERM ends it early.
Says `reached` when the first answer has come, and prints one JSON object at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import aiohttp

OPTION: dict[str, Any] = {
    "spot": 100,
    "strike": 105,
    "maturity": 0.5,
    "rate": 0.03,
    "dividend_yield": 0.01,
    "volatility": 0.2,
    "kind": "call",
}
DEADLINE_SECONDS = 5.0
CONNECTIONS = 50
TOLD_FAILURES = 20
NOISE = float(os.environ.get("NOISE", "0"))
"""By what share rate and volatility vary at most: caches are for questions that are nearly the same."""
REACHED = "reached"
REACHED_SECONDS = 30.0
POLL_SECONDS = 0.05
TOLD_CHARACTERS = 300
UNKNOWN = ""


class Refused(Exception):
    """The answer was another than 200."""


class Tally:
    """What the requests came to."""

    def __init__(self, refused_first: Sequence[str] = ()) -> None:
        self.refused_first = list(refused_first[:TOLD_FAILURES])
        self.began = time.time()
        self.sent = 0
        self.versions: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.first_failures: list[str] = []
        self.answered: Counter[tuple[int, str]] = Counter()
        self.not_answered: Counter[int] = Counter()
        self.first: dict[str, float] = {}
        self.last: dict[str, float] = {}

    def succeeded(self, began: float, version: str) -> None:
        """Count it in the second in which its answer came: until then a version is what clients are exposed to."""
        now = time.time()
        self.seconds.append(time.monotonic() - began)
        self.versions[version] += 1
        self.answered[self._second(now), version] += 1
        self.first.setdefault(version, now)
        self.last[version] = now

    def failed(self, began: float, why: str) -> None:
        """Count it; the first few are told with the time of day, to be laid beside the cluster's Events."""
        self.failures[why] += 1
        self.not_answered[self._second(time.time())] += 1
        if len(self.first_failures) < TOLD_FAILURES:
            took = time.monotonic() - began
            sent = datetime.now(UTC) - timedelta(seconds=took)
            self.first_failures.append(f"sent {sent:%H:%M:%S.%f}, after {took:.3f} s: {why}")

    def _second(self, now: float) -> int:
        return int(now - self.began)

    def by_second(self) -> list[list[Any]]:
        """[second, version, answered, failed]: as many as the seconds times the versions. Whose a failure was nobody knows."""
        answered = [[second, version, count, 0] for (second, version), count in self.answered.items()]
        failed = [[second, UNKNOWN, 0, count] for second, count in self.not_answered.items()]
        return sorted([*answered, *failed])

    def report(self) -> dict[str, Any]:
        ordered = sorted(self.seconds) or [0.0]
        return {
            "began": self.began,
            "sent": self.sent,
            "failed": sum(self.failures.values()),
            "failures": dict(self.failures),
            "first_failures": self.first_failures,
            "refused_first": self.refused_first,
            "versions": dict(self.versions),
            "first_answer": self.first,
            "last_answer": self.last,
            "by_second": self.by_second(),
            "p50_ms": round(1000 * ordered[len(ordered) // 2], 1),
            "p99_ms": round(1000 * ordered[len(ordered) * 99 // 100], 1),
        }


async def once(session: aiohttp.ClientSession, url: str, tally: Tally) -> None:
    tally.sent += 1
    began = time.monotonic()
    try:
        tally.succeeded(began, await ask(session, url))
    except Refused as error:
        tally.failed(began, str(error))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
        cause = getattr(error, "os_error", None) or error.__cause__
        tally.failed(began, f"{type(error).__name__}: {error}" + (f" ({cause!r})" if cause else ""))


async def reached(session: aiohttp.ClientSession, url: str) -> list[str]:
    """Wait for the first answer. A node's kube-proxy learns of a new Service up to a second after its endpoints are there, and
    refuses until then: nobody was served yet, so nobody is let down. What was refused is told all the same."""
    refused: list[str] = []
    end = time.monotonic() + REACHED_SECONDS
    while True:
        try:
            await ask(session, url)
            return refused
        except (Refused, aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
            refused.append(f"{datetime.now(UTC):%H:%M:%S.%f} {type(error).__name__}: {error}")
            if time.monotonic() > end:
                return refused
        await asyncio.sleep(POLL_SECONDS)


def option() -> dict[str, Any]:
    """What is asked; with NOISE no two ask quite the same."""
    noisy = {name: OPTION[name] * (1 + random.uniform(-NOISE, NOISE)) for name in ("rate", "volatility")}
    return OPTION | (noisy if NOISE else {})


async def ask(session: aiohttp.ClientSession, url: str) -> str:
    """The version of the model that answered. Raises Refused with the answer's own words: a gateway's are no JSON."""
    async with session.post(url, json=option()) as answer:
        text = await answer.text()
    if answer.status != 200:
        raise Refused(f"{answer.status}: {text.strip()[:TOLD_CHARACTERS]}")
    return str(json.loads(text)["model"]["version"])


async def load(
    url: str,
    rate: float,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    begins: Callable[[], None] = lambda: None,
) -> Tally:
    limits = aiohttp.TCPConnector(limit=CONNECTIONS, force_close=False)
    timeout = aiohttp.ClientTimeout(total=DEADLINE_SECONDS)
    session = aiohttp.ClientSession(connector=limits, timeout=timeout, headers=headers)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with session, asyncio.TaskGroup() as group:
        refused_first = await reached(session, url)
        begins()
        tally, began = Tally(refused_first), time.monotonic()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            if stop.is_set():
                break
            group.create_task(once(session, url, tally))
    return tally


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("rate", type=float)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--host", help="the name that a gateway's route knows the service by")
    parser.add_argument("--header", action="append", default=[], metavar="NAME:VALUE")
    return parser.parse_args()


def headers_of(given: argparse.Namespace) -> dict[str, str]:
    pairs = (text.partition(":") for text in given.header)
    return {name.strip(): value.strip() for name, _, value in pairs} | ({"Host": given.host} if given.host else {})


if __name__ == "__main__":
    asked = arguments()
    begins = partial(print, REACHED, flush=True)
    print(json.dumps(asyncio.run(load(asked.url, asked.rate, asked.seconds, headers_of(asked), begins)).report()))
