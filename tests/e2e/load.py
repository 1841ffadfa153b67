"""Requests at a fixed rate against one URL, from inside a cluster: `python load.py URL RATE SECONDS`.

Open loop: a request is sent when it is due, however the ones before it fare, so a server that stalls is not spared. Connections
are kept alive as real clients keep them, and nothing is retried: every answer but 200 is a failure. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

OPTION = {
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


class Tally:
    """What the requests came to."""

    def __init__(self) -> None:
        self.sent = 0
        self.versions: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.first_failures: list[str] = []

    def failed(self, began: float, why: str) -> None:
        """Count it; the first few are told with the time of day, to be laid beside the cluster's Events."""
        self.failures[why] += 1
        if len(self.first_failures) < TOLD_FAILURES:
            took = time.monotonic() - began
            sent = datetime.now(UTC) - timedelta(seconds=took)
            self.first_failures.append(f"sent {sent:%H:%M:%S.%f}, after {took:.3f} s: {why}")

    def report(self) -> dict[str, Any]:
        ordered = sorted(self.seconds) or [0.0]
        return {
            "sent": self.sent,
            "failed": sum(self.failures.values()),
            "failures": dict(self.failures),
            "first_failures": self.first_failures,
            "versions": dict(self.versions),
            "p50_ms": round(1000 * ordered[len(ordered) // 2], 1),
            "p99_ms": round(1000 * ordered[len(ordered) * 99 // 100], 1),
        }


async def once(session: aiohttp.ClientSession, url: str, tally: Tally) -> None:
    tally.sent += 1
    began = time.monotonic()
    try:
        async with session.post(url, json=OPTION) as answer:
            body = await answer.json()
        if answer.status != 200:
            tally.failed(began, f"{answer.status}: {body}")
            return
        tally.versions[str(body["model"]["version"])] += 1
        tally.seconds.append(time.monotonic() - began)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
        cause = getattr(error, "os_error", None) or error.__cause__
        tally.failed(began, f"{type(error).__name__}: {error}" + (f" ({cause!r})" if cause else ""))


async def load(url: str, rate: float, seconds: float) -> Tally:
    tally = Tally()
    limits = aiohttp.TCPConnector(limit=CONNECTIONS, force_close=False)
    timeout = aiohttp.ClientTimeout(total=DEADLINE_SECONDS)
    async with aiohttp.ClientSession(connector=limits, timeout=timeout) as session, asyncio.TaskGroup() as group:
        began = time.monotonic()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            group.create_task(once(session, url, tally))
    return tally


if __name__ == "__main__":
    print(json.dumps(asyncio.run(load(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))).report()))
