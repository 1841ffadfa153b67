"""Every engine gives the same answer. The yardstick is the same network in float64.

A jet, whose entries stay below 2.5, may be off by 2^-24, the rounding of float32, times AMPLIFICATION: what three layers and sums
of 32 terms make of it. Largest seen over 40,000 points on x86-64: LiteRT 61, XLA 54; four times that is allowed, since
processors round differently. N enters the price times s^3 phi(z) <= 0.26 of the strike: 4e-6 of it at the worst.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
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


@pytest.fixture(autouse=True)
def _paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker gets our environment: it must find the package wherever these tests run."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))


def error(found: Array, model: Model, points: Array) -> float:
    return float(np.max(np.abs(found - model.exact(points))))


@pytest.mark.parametrize("count", [1, 2, 16, 17, 32, 33, 100, 128, 300, 512, 513, COUNT])
def test_litert_keeps_the_tolerance_however_a_batch_is_cut(model: Model, count: int) -> None:
    points = some_points(count, seed=count)
    assert error(LiteRtEngine(model.tflite).jets(points), model, points) < TOLERANCE


def test_litert_gives_one_point_as_it_gives_many(model: Model) -> None:
    engine, points = LiteRtEngine(model.tflite), some_points(50)
    one = np.array([engine.jet(*point) for point in points.tolist()]).T
    assert np.max(np.abs(one - engine.jets(points))) < TOLERANCE


@pytest.mark.tensorflow
async def test_a_real_xla_worker_on_the_cpu_keeps_it_too(model: Model) -> None:
    async with _ready(model, Options(engine="xla", from_batch=2, free_memory=lambda: 1 << 40)) as engines:
        await _agrees(engines, model, "xla")


@pytest.mark.tensorflow
async def test_a_network_of_three_coordinates_keeps_it_in_a_worker_too(models: Path) -> None:
    """Each row of its jet measured by its largest entry: those of Burgers' front are in the hundreds."""
    folder = models / "burgers/1.0.0"
    model = Model((folder / "model.tflite").read_bytes(), (folder / "weights.npz").read_bytes())
    async with _ready(model, Options(engine="xla", from_batch=2, free_memory=lambda: 1 << 40)) as engines:
        points = np.random.default_rng(1).random((2000, 3)) * np.array([1.0, 1.0, 3.5])
        done, exact = await engines.jets(points, 60), model.exact(points)
    assert (engines.shape, done.engine) == ((3, 5), "xla")
    assert np.max(np.abs(done.jets - exact).max(axis=1) / np.abs(exact).max(axis=1)) < TOLERANCE


@pytest.mark.gpu
async def test_a_real_gpu_worker_keeps_it_too(model: Model) -> None:
    async with _ready(model, Options(engine="gpu", policy="require", from_batch=2)) as engines:
        assert engines.complaint() is None
        await _agrees(engines, model, "gpu")


@pytest.mark.gpu
async def test_two_workers_share_a_real_gpu_and_one_that_is_killed_loses_no_call(model: Model) -> None:
    async with _ready(model, Options(engine="gpu", policy="prefer", from_batch=2, gpus=("0", "0"))) as engines:
        points = some_points(1000)
        calls = [asyncio.create_task(engines.jets(points, 60)) for _ in range(50)]
        os.kill(_children()[0], signal.SIGKILL)
        for done in await asyncio.gather(*calls):
            assert (done.engine, done.reason) in {("gpu", None), ("litert", "gpu_error")}
            assert error(done.jets, model, points) < TOLERANCE
        await until(lambda: sum(w["restarts"] for w in engines.state()["gpu"]["workers"]) == 1, 240)
        await until(lambda: _all_ready(engines), 240)
        await _agrees(engines, model, "gpu")


@asynccontextmanager
async def _ready(model: Model, options: Options) -> AsyncIterator[Engines]:
    engines = Engines(model.tflite, model.weights, options)
    await engines.start()
    try:
        await until(lambda: _all_ready(engines), 240)
        yield engines
    finally:
        await engines.close()


async def _agrees(engines: Engines, model: Model, name: str) -> None:
    for count in (2, 300, COUNT):
        points = some_points(count, seed=count)
        done = await engines.jets(points, 60)
        assert (done.engine, done.reason) == (name, None)
        assert error(done.jets, model, points) < TOLERANCE


def _all_ready(engines: Engines) -> bool:
    workers = [worker for said in engines.state().values() for worker in said.get("workers", ())]
    return bool(workers) and all(worker["status"] == "ready" for worker in workers)


def _children() -> list[int]:
    """Processes this one started, oldest first."""
    lists = (path.read_text().split() for path in Path("/proc/self/task").glob("*/children"))
    return sorted(int(pid) for pids in lists for pid in pids)
