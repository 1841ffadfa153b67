"""From which batch size on a worker is worth the way there: measured where it runs, never assumed.

What the event loop does besides is no part of it: under traffic its turns would pass for the worker's slowness.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import numpy as np

from pinn_inference.engines import Array, Engine, Shape

SIZES: Final = (64, 256, 1024, 4096, 10_000)
GAIN: Final = 0.9
"""A worker must take at most this share of the time: a tie is not worth a second process between question and answer."""

CHUNK: Final = 256
ROUNDS: Final = 5

HELD: Final = 0.02
"""Seconds for which the loop stands still, at most, while a worker is timed."""

Timed = Callable[[Array, float], Awaitable[float]]
"""The seconds of a round trip with a batch. The loop stands still for as many of them as the second argument says, at most."""


def crossover(here: Mapping[int, float], there: Mapping[int, float]) -> int | None:
    """The smallest size from which on every larger one, too, is at least 10 % faster there; None when there is none."""
    found = None
    for size in sorted(here, reverse=True):
        if there[size] > GAIN * here[size]:
            break
        found = size
    return found


def points_of(size: int, shape: Shape) -> Array:
    """Points (size, d); their values do not matter for time."""
    points: Array = 0.05 + 0.8 * np.random.default_rng(size).random((size, shape[0]))
    return points


def time_here(engine: Engine) -> dict[int, float]:
    """Seconds by size, the best of a few. Large sizes are the multiple of a chunk, so that the loop is held up for none."""
    return {size: _best(engine, min(size, CHUNK)) * max(1.0, size / CHUNK) for size in SIZES}


async def time_there(timed: Timed, here: Mapping[int, float], shape: Shape) -> dict[int, float]:
    """The same for the round trip to a worker. The loop waits no longer than LiteRT would take: what takes longer has lost."""
    seconds = {}
    for size, limit in here.items():
        points = points_of(size, shape)
        seconds[size] = min([await timed(points, min(limit, HELD)) for _ in range(ROUNDS)])
    return seconds


def _best(engine: Engine, size: int) -> float:
    points, seconds = points_of(size, engine.shape), []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        engine.jets(points)
        seconds.append(time.perf_counter() - began)
    return min(seconds)
