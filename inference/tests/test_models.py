"""The shipped models keep what their manifests claim, against an independent closed formula."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pinn_inference import network as networks
from pinn_inference.artifacts import digest as digests
from pinn_inference.artifacts import folder as folders
from pinn_inference.artifacts import manifest as manifests
from pinn_inference.artifacts.manifest import Manifest
from pinn_inference.engines import Engine
from pinn_inference.engines.float64 import Float64Engine
from pinn_inference.engines.litert import LiteRtEngine
from pinn_inference.problems import black_scholes
from pinn_inference.problems.black_scholes import INPUTS, OUTPUTS, Greeks, Option

from . import formula

VERSIONS = ("1.0.0", "2.0.0")


@pytest.fixture(params=VERSIONS)
def folder(request: pytest.FixtureRequest, models: Path) -> Path:
    return models / "black-scholes" / str(request.param)


def _manifest(folder: Path) -> Manifest:
    return manifests.parse((folder / "manifest.json").read_bytes())


def _options(random_points: int = 20_000) -> Option:
    """Every corner of the ranges, and random points that the training run did not measure at; calls and puts."""
    low = np.array([i.low for i in INPUTS if i.name != "strike"])
    high = np.array([i.high for i in INPUTS if i.name != "strike"])
    corners = low + (high - low) * np.array(list(np.ndindex(2, 2, 2, 2, 2)))
    points = np.concatenate([corners, low + (high - low) * np.random.default_rng(77).random((random_points, 5))])
    spot, maturity, rate, dividend_yield, volatility = np.tile(points, (2, 1)).T
    sign = np.repeat([1.0, -1.0], len(points))
    return Option(spot, np.ones_like(spot), maturity, rate, dividend_yield, volatility, sign)


def _answers(engine: Engine, option: Option) -> Greeks:
    reduced = black_scholes.reduce(option)
    jets = engine.jets(np.stack(black_scholes.network_point(reduced), axis=1))
    return black_scholes.greeks(option, reduced, jets)


def _errors(engine: Engine) -> dict[str, float]:
    option = _options()
    answer = _answers(engine, option)
    arguments = (*option[:6], option.sign > 0)
    exact = {"price": formula.price(*arguments), **formula.greeks(*arguments)}
    return {name: float(np.max(np.abs(getattr(answer, name) - exact[name]))) for name in OUTPUTS}


def test_the_accurate_model_is_within_a_millionth_of_the_strike_as_served(models: Path) -> None:
    assert _errors(_served(models / "black-scholes/2.0.0"))["price"] <= 1e-6


def test_the_accurate_model_is_within_a_hundred_millionth_in_float64(models: Path) -> None:
    assert _errors(_float64(models / "black-scholes/2.0.0"))["price"] <= 1e-8


def test_the_coarse_model_is_told_apart_from_the_accurate_one(models: Path) -> None:
    coarse = _errors(_served(models / "black-scholes/1.0.0"))["price"]
    assert 1e-5 <= coarse <= 1e-3


def test_every_error_claimed_holds_on_points_of_our_own(folder: Path) -> None:
    claimed = _manifest(folder).accuracy
    # float32 rounds differently on other processors; float64 does so far below these errors.
    for engine, claim, slack in ((_served(folder), claimed.served, 2.0), (_float64(folder), claimed.float64, 1.2)):
        measured = _errors(engine)
        assert {k: v for k, v in measured.items() if v > slack * claim.largest[k]} == {}


def test_no_answer_in_range_breaks_an_invariant(folder: Path) -> None:
    option = _options()
    tolerances = _manifest(folder).tolerances
    excesses = black_scholes.excesses(option, _answers(_served(folder), option))
    assert {k: float(np.max(v)) for k, v in excesses.items() if np.max(v) > tolerances[k]} == {}


def test_a_model_is_the_one_its_manifest_says(folder: Path) -> None:
    assert digests.digest(folders.read(folder)) == _manifest(folder).digest


def test_a_manifest_says_all_that_it_must(folder: Path) -> None:
    manifest = _manifest(folder)
    assert (manifest.name, manifest.version) == ("black-scholes", folder.name)
    assert [i.name for i in manifest.inputs] == [*(i.name for i in INPUTS), "kind"]
    assert tuple(o.name for o in manifest.outputs) == OUTPUTS
    assert manifest.ranges() == INPUTS
    assert set(manifest.tolerances) == set(black_scholes.INVARIANTS)
    assert {"seed", "recipe", "seconds", "iterations", "libraries", "command"} <= set(manifest.training)
    for name, stated in manifest.files.items():
        assert stated == f"sha256:{digests.file_digest((folder / name).read_bytes())}"
    assert json.loads((folder / "manifest.json").read_text())["accuracy"]["points"] > 100_000


def test_the_weights_hold_arrays_and_no_pickle(folder: Path) -> None:
    with zipfile.ZipFile(io.BytesIO((folder / "weights.npz").read_bytes())) as archive:
        for name in archive.namelist():
            assert np.load(io.BytesIO(archive.read(name)), allow_pickle=False).dtype == np.float64


def test_graph_and_weights_are_one_network(folder: Path) -> None:
    points = black_scholes.collocation(np.random.default_rng(5), 500)
    float64 = _float64(folder).jets(points)
    assert np.max(np.abs(_served(folder).jets(points) - float64)) < 1e-4 * np.max(np.abs(float64))


def test_the_network_is_even_so_that_parity_is_exact(folder: Path) -> None:
    points = black_scholes.collocation(np.random.default_rng(5), 50)
    here, there = (_float64(folder).jets(points * np.array([sign, 1.0])) for sign in (1.0, -1.0))
    assert np.array_equal(here[[0, 2, 3]], there[[0, 2, 3]])
    assert np.array_equal(here[1], -there[1])


def _served(folder: Path) -> LiteRtEngine:
    return LiteRtEngine((folder / "model.tflite").read_bytes())


def _float64(folder: Path) -> Float64Engine:
    engine = Float64Engine((folder / "weights.npz").read_bytes())
    assert isinstance(engine.network, networks.Network)
    return engine
