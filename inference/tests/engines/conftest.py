"""What the engines' tests share: a model's bytes, a recipe for the worker's double, and the two markers."""

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pinn_inference.engines import Array
from pinn_inference.engines.float64 import Float64Engine
from pinn_inference.engines.supervisor import Recipe

DOUBLE = str(Path(__file__).with_name("double.py"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "tensorflow: starts a real worker with TensorFlow (seconds)")
    config.addinivalue_line("markers", "gpu: needs a GPU (make test-gpu)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests for a GPU are no part of `make test`."""
    if os.environ.get("PINN_TEST_GPU"):
        return
    unwanted = [item for item in items if item.get_closest_marker("gpu")]
    config.hook.pytest_deselected(items=unwanted)
    items[:] = [item for item in items if item not in unwanted]


@dataclass(frozen=True)
class Model:
    """The accurate model's files."""

    tflite: bytes
    weights: bytes

    def exact(self, points: Array) -> Array:
        return Float64Engine(self.weights).jets(points)


@pytest.fixture(scope="session")
def model(models: Path) -> Model:
    folder = models / "black-scholes/2.0.0"
    return Model((folder / "model.tflite").read_bytes(), (folder / "weights.npz").read_bytes())


def double(folder: Path, start: str = "") -> tuple[str, ...]:
    return (sys.executable, DOUBLE, "--folder", str(folder), *(("--start", start) if start else ()))


def recipe(folder: Path, model: Model, *, start: str = "", device: str = "gpu:0", **more: float) -> Recipe:
    """A worker that fails on request, in no time at all between two tries."""
    settings: dict[str, float] = {"start_limit": 60.0, "patience": 0.1, "first_pause": 0.001, **more}
    return Recipe(
        command=(*double(folder, start), "--device", "gpu"),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        weights=model.weights,
        device=device,
        reason="gpu_error",
        shape=(2, 4),
        **settings,  # type: ignore[arg-type]  # waiting and capacity are whole numbers where given
    )


def some_points(count: int, seed: int = 0) -> Array:
    points: Array = np.random.default_rng(seed).random((count, 2)) * np.array([6.5, 0.8]) + np.array([0.0, 0.05])
    return points


def close(found: Array, exact: Array) -> bool:
    """Equal but for how a matrix product of another size rounds."""
    return bool(np.allclose(found, exact, rtol=1e-12, atol=1e-13))


def faulty(fault: float) -> Array:
    return np.array([[float(fault), 0.5]])


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Waits for what another process brings about."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
