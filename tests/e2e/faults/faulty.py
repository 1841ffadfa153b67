"""The model server with a fault, `FAULT=errors:0.3 python faulty.py`; runs in the server's image, as text after `python -c`.

Only calls of `/predict` meet it, the operator's replays too: start, health, warm-up, the trial of a canary and the probes of a
stable server go as ever. `fallback` alone is in the engine, which everybody asks. Faults sit where the server counts its calls,
so they are counted as real ones are.

    errors:SHARE               that share of calls is answered 500
    slow:SECONDS               so much is added to every call, beyond the server's own time limit too
    slow_share:SHARE:SECONDS   the same for that share of calls
    crash:COUNT                the COUNT-th call of a process ends it without a word
    leak:MIB                   every call leaves so much memory behind
    fallback                   the engine answers nothing, so the reference solver does
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

from pinn_inference import service
from pinn_inference.api.http import Answer, Endpoint, Request, Routes
from pinn_inference.api.predict import source_of
from pinn_inference.cli import main
from pinn_inference.engines.choice import Engines
from pinn_inference.engines.protocol import Evaluated
from pinn_inference.errors import EngineError, PredictionError

MIB = 1 << 20

Fault = Callable[[], Awaitable[None]]
chance = random.Random()


def errors(share: float) -> Fault:
    async def fault() -> None:
        if chance.random() < share:
            raise PredictionError("a fault of this server, made on purpose", "model_error")

    return fault


def slow(seconds: float) -> Fault:
    return slow_share(1.0, seconds)


def slow_share(share: float, seconds: float) -> Fault:
    async def fault() -> None:
        if chance.random() < share:
            await asyncio.sleep(seconds)

    return fault


def crash(count: float) -> Fault:
    calls = 0

    async def fault() -> None:
        nonlocal calls
        calls += 1
        if calls >= count:
            os._exit(1)

    return fault


def leak(mib: float) -> Fault:
    kept: list[bytes] = []

    async def fault() -> None:
        kept.append(b"\x01" * int(mib * MIB))  # zeros would not be resident

    return fault


AROUND_CALLS: Mapping[str, Callable[..., Fault]] = {
    "errors": errors,
    "slow": slow,
    "slow_share": slow_share,
    "crash": crash,
    "leak": leak,
}


def suffering(endpoint: Endpoint, fault: Fault) -> Endpoint:
    """The endpoint, with the fault once a call has its answer."""

    async def faulty(request: Request) -> Answer:
        answer = await endpoint(request)
        if source_of(request) != "probe":
            await fault()
        return answer

    return faulty


def around_calls(fault: Fault) -> None:
    """Outside the limits and inside the count: within the limits a slow answer would be a timeout, which is an error."""
    parts: Any = service
    whole = parts.guarded

    def guarded(routes: Routes, *limits: Any) -> Routes:
        return {
            path: {method: suffering(endpoint, fault) for method, endpoint in methods.items()}
            for path, methods in whole(routes, *limits).items()
        }

    parts.guarded = guarded
    parts.Service._together = lambda *_: None  # a short cut past the endpoint would be one past the fault


def without_engine() -> None:
    """From when the model has passed its trial."""

    def nothing(*_: object) -> NoReturn:
        raise EngineError("a fault of this engine, made on purpose", "model_error")

    async def never(*_: object) -> Evaluated:
        nothing()

    made: Any = Engines
    start = made.start

    async def started(engines: Any) -> None:
        await start(engines)
        engines.jet, engines.few, engines.jets = nothing, nothing, never

    made.start = started


def inject(fault: str) -> None:
    name, *numbers = fault.split(":")
    if name == "fallback":
        without_engine()
    else:
        around_calls(AROUND_CALLS[name](*map(float, numbers)))


if __name__ == "__main__":
    inject(os.environ["FAULT"])
    main(sys.argv[1:] or ["serve"])
