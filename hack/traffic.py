"""Callers, for as long as the demo looks on: runs in a pod, as text after `python -c`, and prints a line of JSON twice a second.

    python traffic.py TEXT_OF_LOAD_PY URL RATE HOST

The requests are those of the tests' load.py, which tells of them at the end only.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from types import ModuleType
from typing import Any

import aiohttp

TOLD_SECONDS = 0.5


async def main(load: Any, url: str, rate: float, host: str) -> None:
    limits = aiohttp.TCPConnector(limit=load.CONNECTIONS)
    timeout = aiohttp.ClientTimeout(total=load.DEADLINE_SECONDS)
    session = aiohttp.ClientSession(connector=limits, timeout=timeout, headers={"Host": host})
    async with session, asyncio.TaskGroup() as group:
        await load.reached(session, url)
        tally, began = load.Tally(), time.monotonic()
        group.create_task(told(tally))
        for number in itertools.count():
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            group.create_task(load.once(session, url, tally))


async def told(tally: Any) -> None:
    while True:
        await asyncio.sleep(TOLD_SECONDS)
        print(json.dumps(so_far(tally)), flush=True)


def so_far(tally: Any) -> dict[str, Any]:
    """All since the beginning; `first` and `last` are when a version was first and last heard from, in seconds since 1970."""
    return {
        "sent": tally.sent,
        "failed": sum(tally.failures.values()),
        "failures": tally.first_failures,
        "versions": tally.versions,
        "first": tally.first,
        "last": tally.last,
    }


if __name__ == "__main__":
    text, address, each_second, name = sys.argv[1:]
    module = ModuleType("load")
    exec(text, module.__dict__)  # noqa: S102 - our own file: a pod has no other way to it
    asyncio.run(main(module, address, float(each_second), name))
