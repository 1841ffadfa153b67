"""From which batch size on a worker is worth the way there: measured where it runs, never assumed."""

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


async def time_there(ask: Callable[[Array], Awaitable[object]], shape: Shape) -> dict[int, float]:
    """The same for the round trip to a worker."""
    seconds = {}
    for size in SIZES:
        points = points_of(size, shape)
        seconds[size] = min([await _once(ask, points) for _ in range(ROUNDS)])
    return seconds


async def _once(ask: Callable[[Array], Awaitable[object]], points: Array) -> float:
    began = time.perf_counter()
    await ask(points)
    return time.perf_counter() - began


def _best(engine: Engine, size: int) -> float:
    points, seconds = points_of(size, engine.shape), []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        engine.jets(points)
        seconds.append(time.perf_counter() - began)
    return min(seconds)
