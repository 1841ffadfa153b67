"""Every engine gives the same answer. The yardstick is the same network in float64.

A jet, whose entries stay below 2.5, may be off by 2^-24, the rounding of float32, times AMPLIFICATION: what three layers and sums
of 32 terms make of it. Largest seen over 40,000 points on x86-64: LiteRT 61, XLA 54; four times that is allowed, since
processors round differently. N enters the price times s^3 phi(z) <= 0.26 of the strike: 4e-6 of it at the worst.
"""

import os
import sys
from typing import Final

import numpy as np
import pytest
from pinn_inference.engines import Array
from pinn_inference.engines.choice import Engines, Options
from pinn_inference.engines.litert import LiteRtEngine

from .conftest import Model, some_points, until

AMPLIFICATION: Final = 256
TOLERANCE: Final = AMPLIFICATION * 2.0**-24
COUNT: Final = 20_000


def error(found: Array, model: Model, points: Array) -> float:
    return float(np.max(np.abs(found - model.exact(points))))


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 64, 100, 255, 256, 257, 300, COUNT])
def test_litert_keeps_the_tolerance_however_a_batch_is_cut(model: Model, count: int) -> None:
    points = some_points(count, seed=count)
    assert error(LiteRtEngine(model.tflite).jets(points), model, points) < TOLERANCE


def test_litert_gives_one_point_as_it_gives_many(model: Model) -> None:
    engine, points = LiteRtEngine(model.tflite), some_points(50)
    one = np.array([engine.jet(*point) for point in points.tolist()]).T
    assert np.max(np.abs(one - engine.jets(points))) < TOLERANCE


@pytest.mark.tensorflow
async def test_a_real_xla_worker_on_the_cpu_keeps_it_too(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    await _worker_agrees(model, Options(engine="xla", from_batch=2, free_memory=lambda: 1 << 40), "xla", monkeypatch)


@pytest.mark.gpu
async def test_a_real_gpu_worker_keeps_it_too(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    await _worker_agrees(model, Options(engine="gpu", policy="require", from_batch=2), "gpu", monkeypatch)


async def _worker_agrees(model: Model, options: Options, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
    engines = Engines(model.tflite, model.weights, options)
    await engines.start()
    try:
        await until(lambda: engines.state()[name]["workers"][0]["status"] == "ready", 240)
        for count in (2, 300, COUNT):
            points = some_points(count, seed=count)
            done = await engines.jets(points, 60)
            assert done.engine == name
            assert error(done.jets, model, points) < TOLERANCE
    finally:
        await engines.close()
