"""What must not go wrong while something else does: every core busy, a server told to end, a model swapped under load.

Every answer is compared with the closed formula. Latencies are those of an open loop, beside the same load undisturbed.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.load.client import Clients, Tally
from benchmarks.load.processes import (
    END_SECONDS,
    ROOT,
    Program,
    free_port,
    pinn_server,
    post,
    started,
    wait_until_ready,
)

RATE: Final = 300.0
SECONDS: Final = float(os.environ.get("BENCH_SECONDS", "20"))
LOOPS_PER_CORE: Final = 2
TOKEN: Final = secrets.token_hex()
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
    """Two models in turns, one after the other every second, while questions are asked: POST /reload on the admin port."""

    async def run(target: Server, models: Models) -> tuple[Tally, Tally, list[str]]:
        outcomes = []
        async with Clients([target.port], RATE, seed=3) as clients:
            await clients.during(2)
            alone = await clients.during(SECONDS)
            window = asyncio.create_task(clients.during(SECONDS))
            while not window.done():
                outcomes.append(await asyncio.to_thread(reload, target, models))
                await asyncio.wait([window], timeout=1)
            await clients.during(0)
        return alone, window.result(), outcomes

    with tempfile.TemporaryDirectory() as folder:
        models = Models(Path(folder))
        with server(drain="0s", model_uri=models.uri, admin_token=TOKEN) as target:
            if (outcome := reload(target, models)) != "swapped":
                return {"swap": f"the server did not swap its model: {outcome}", "swap_passed": None}
            alone, disturbed, outcomes = asyncio.run(run(target, models))
    figures = compared("swap", alone, disturbed)
    swapped = outcomes.count("swapped")
    return {**figures, "swaps": swapped, "swap_passed": figures["swap_passed"] and swapped == len(outcomes)}


class Models:
    """A folder that is one model now and another a moment later, changed as Kubernetes changes a ConfigMap: by a link."""

    def __init__(self, folder: Path) -> None:
        self._link, self._versions = folder / "model", ["1.0.0", "2.0.0"]
        self.uri = f"file://{self._link}"
        self.change()

    def change(self) -> None:
        """To the other one, in one step."""
        self._versions.reverse()
        fresh = self._link.with_name("fresh")
        fresh.symlink_to(ROOT / "models" / "black-scholes" / self._versions[0])
        fresh.replace(self._link)


def reload(target: Server, models: Models) -> str:
    """Changes the model and has the server take it up; what it says came of it."""
    models.change()
    status, text = post(f"{target.admin}/reload", b"", 30.0, TOKEN)
    return str(json.loads(text).get("result")) if status == 200 else f"{status} {text[:200]}"


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
