"""Networks that Keras itself saved: evaluated as they are by a worker, and fused where they can be, they are what Keras says."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pinn_inference import formats
from pinn_inference.engines.far import FarEngines, Options
from pinn_inference.errors import ModelError
from pinn_inference.formats import fused, h5, keras_file
from pinn_inference.training import convert

from ..process import ENVIRONMENT  # noqa: TID252 - the tests are no package with a name of its own

pytestmark = pytest.mark.timeout(
    900
)  # TensorFlow is imported several times, in processes of its own, on whatever machine

ROWS = ("", "x", "xx", "t", "xt")
SECONDS = 120.0


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    script = Path(__file__).with_name("make_foreign.py")
    done = subprocess.run(
        [sys.executable, script, folder], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def known(foreign: Path) -> dict[str, Any]:
    with np.load(foreign / "known.npz") as arrays:
        return dict(arrays)


def network(foreign: Path, name: str) -> formats.Network:
    return formats.read(*convert.contents(foreign / name))


def far(found: formats.Network, options: Options | None = None) -> FarEngines:
    return FarEngines(found.parcel("xt", ROWS), (2, len(ROWS)), options or Options(starting=600))


def with_engines(engines: FarEngines, work: Callable[[FarEngines], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        try:
            await engines.ready()
            return await work(engines)
        finally:
            await engines.close()

    return asyncio.run(run())


@pytest.mark.parametrize(
    "name", ["waves.keras", "branched.keras", "gelu.keras", "ansatz.keras", "inverse.keras", "exported"]
)
def test_as_it_is_a_network_has_the_derivatives_that_keras_gives(
    foreign: Path, known: dict[str, Any], name: str
) -> None:
    points = known["points"].astype(np.float64)
    found = with_engines(far(network(foreign, name)), lambda engines: engines.jets(points, SECONDS))
    assert found.engine == "tensorflow"
    expected = known["plain" if name == "exported" else name.removesuffix(".keras")]
    np.testing.assert_allclose(found.jets, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["plain", "waves", "branched", "ansatz"])
def test_fused_it_has_them_too(foreign: Path, known: dict[str, Any], name: str) -> None:
    found = network(foreign, f"{name}.keras")
    config = found.parts[keras_file.CONFIG]
    arrays = h5.read_apart(found.parts[keras_file.WEIGHTS], fused.names(config))
    engine = fused.Engine(fused.network(config, arrays, "xt", ROWS))
    np.testing.assert_allclose(engine.jets(known["points"].astype(np.float64)), known[name], rtol=1e-4, atol=1e-5)


def test_a_number_over_the_network_stays_as_it_is(foreign: Path) -> None:
    found = network(foreign, "inverse.keras")
    config = found.parts[keras_file.CONFIG]
    arrays = h5.read_apart(found.parts[keras_file.WEIGHTS], fused.names(config))
    with pytest.raises(fused.NotFused, match="the operation TrueDivide"):
        fused.network(config, arrays, "xt", ROWS)


def test_a_lambda_of_keras_itself_is_refused(foreign: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.keras has a Lambda layer, which is code"):
        network(foreign, "lambda.keras")


def test_without_memory_for_tensorflow_the_model_is_refused_with_the_remedy(foreign: Path) -> None:
    engines = far(network(foreign, "gelu.keras"), Options(free_memory=lambda: 100 << 20))
    with pytest.raises(ModelError, match=r"needs 1 GiB .* and 100 MiB are free; convert it"):
        with_engines(engines, lambda engines: engines.jets(np.zeros((1, 2)), 1.0))


def test_a_worker_that_cannot_load_its_network_says_why(foreign: Path) -> None:
    found = network(foreign, "gelu.keras")
    broken = formats.Network("keras", {**found.parts, keras_file.WEIGHTS: b"\x89HDF\r\n\x1a\n" + bytes(500)}, 2)
    with pytest.raises(ModelError, match=r"cannot be loaded: ModelError: model\.weights\.h5 cannot be read"):
        with_engines(far(broken), lambda engines: engines.jets(np.zeros((1, 2)), 1.0))
