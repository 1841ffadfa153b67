"""What must not go wrong while something else does: every core busy, a server told to end, a model swapped under load.

Every answer is compared with the closed formula. Latencies are those of an open loop, beside the same load undisturbed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.load.client import Clients, Tally
from benchmarks.load.processes import END_SECONDS, Program, free_port, pinn_server, post, started, wait_until_ready

RATE: Final = 300.0
SECONDS: Final = float(os.environ.get("BENCH_SECONDS", "20"))
LOOPS_PER_CORE: Final = 2
TOLERATED: Final = 2.0
"""A disturbed p99 may be this many times the undisturbed."""


def measure() -> dict[str, Any]:
    """All three."""
    return {**busy_cores(), **sigterm(), **swap()}


@dataclass(frozen=True)
class Server:
    """One, ready."""

    program: Program
    port: int
    admin: str


@contextmanager
def server(**settings: str) -> Iterator[Server]:
    """This checkout's, on free ports."""
    port, admin = free_port(), free_port()
    command, env = pinn_server(port, admin, **settings)
    with tempfile.TemporaryFile() as log, started(command, log, env=env) as program:
        wait_until_ready(f"http://127.0.0.1:{port}/v2/health/ready", program)
        yield Server(program, port, f"http://127.0.0.1:{admin}")


def busy_cores() -> dict[str, Any]:
    """Two loops a core, of the same priority as the server. Slower is allowed, wrong and lost are not."""

    async def run(port: int) -> tuple[Tally, Tally]:
        async with Clients([port], RATE, seed=1) as clients:
            await clients.during(2)
            alone = await clients.during(SECONDS)
            with busy_loops():
                crowded = await clients.during(SECONDS)
            await clients.during(0)
        return alone, crowded

    with server(drain="0s") as target:
        alone, crowded = asyncio.run(run(target.port))
    return {
        "stressed_loops": loops(),
        **alone.figures("unstressed"),
        **crowded.figures("stressed"),
        "stressed_passed": not (crowded.failures or crowded.wrong),
    }


def sigterm() -> dict[str, Any]:
    """Two servers behind clients that behave like a proxy; one is told to end, drains, and is gone."""

    async def run(leaving: Server, staying: Server) -> tuple[Tally, Tally]:
        async with Clients([leaving.port, staying.port], RATE, seed=2) as clients:
            await clients.during(2)
            alone = await clients.during(SECONDS)
            leaving.program.process.terminate()
            disturbed = await clients.during(SECONDS)
            await clients.during(0)
        return alone, disturbed

    with server() as leaving, server(drain="0s") as staying:
        alone, disturbed = asyncio.run(run(leaving, staying))
        code = leaving.program.process.wait(END_SECONDS)
    return {"sigterm_exit_code": code, **compared("sigterm", alone, disturbed)}


def swap() -> dict[str, Any]:
    """The model loaded anew every second, while questions are asked: POST /reload on the admin port."""

    async def run(target: Server) -> tuple[Tally, Tally, list[int]]:
        statuses = []
        async with Clients([target.port], RATE, seed=3) as clients:
            await clients.during(2)
            alone = await clients.during(SECONDS)
            window = asyncio.create_task(clients.during(SECONDS))
            while not window.done():
                statuses.append((await asyncio.to_thread(reload, target))[0])
                await asyncio.wait([window], timeout=1)
            await clients.during(0)
        return alone, window.result(), statuses

    with server(drain="0s") as target:
        status, text = reload(target)
        if status in (404, 405):
            return {"swap": "the server has no POST /reload on its admin port"}
        if status >= 300:
            return {"swap": f"POST /reload answers {status}: {text[:200]}", "swap_passed": False}
        alone, disturbed, statuses = asyncio.run(run(target))
    figures = compared("swap", alone, disturbed)
    failed = sum(status >= 300 for status in statuses)
    held = figures["swap_passed"] and not failed
    return {**figures, "swaps": len(statuses), "swaps_failed": failed, "swap_passed": held}


def reload(target: Server) -> tuple[int, str]:
    """Status and text."""
    return post(f"{target.admin}/reload", b"{}", 30.0)


def compared(name: str, alone: Tally, disturbed: Tally) -> dict[str, Any]:
    """Nothing lost, nothing wrong, and a p99 of at most twice the undisturbed."""
    figures = {**alone.figures(f"{name}_before"), **disturbed.figures(name)}
    before, after = figures[f"{name}_before_p99_ms"], figures[f"{name}_p99_ms"]
    ratio = round(after / before, 2) if before and after else None
    held = ratio is not None and ratio <= TOLERATED and not (disturbed.failures or disturbed.wrong)
    return {**figures, f"{name}_p99_times_the_undisturbed": ratio, f"{name}_passed": held}


def loops() -> int:
    """How many keep the machine busy."""
    return LOOPS_PER_CORE * (os.cpu_count() or 1)


@contextmanager
def busy_loops() -> Iterator[None]:
    """Until the block ends."""
    with ExitStack() as stack, Path(os.devnull).open("wb") as nowhere:
        for _ in range(loops()):
            stack.enter_context(started([sys.executable, "-c", "while True: pass"], nowhere))
        yield
