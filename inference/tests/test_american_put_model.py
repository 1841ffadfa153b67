"""The shipped American put keeps what its manifest claims: against the solver, against a tree, by its own bounds, as served."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from pinn_inference import assembly, settings
from pinn_inference.artifacts import manifest as manifests
from pinn_inference.engines import Array, Engine
from pinn_inference.engines.float64 import Float64Engine
from pinn_inference.engines.litert import LiteRtEngine
from pinn_inference.monitoring import Metrics
from pinn_inference.problems import american_put, error_table
from pinn_inference.problems.american_put import Formulation, Put
from pinn_inference.training import american_put_model
from pinn_inference.training.recipes import AMERICAN_PUT

from .problems.binomial import american_put as by_tree

MODEL = Path(__file__).parents[2] / "models/american-put/1.0.0"


@cache
def _problem() -> Formulation:
    manifest = manifests.parse((MODEL / "manifest.json").read_bytes())
    return Formulation(manifest.ranges(), error_table.parse((MODEL / "errors.npz").read_bytes()))


@cache
def _engine(precision: str) -> Engine:
    if precision == "float32":
        return LiteRtEngine((MODEL / "model.tflite").read_bytes())
    return american_put_model.Both(american_put_model.read_weights((MODEL / "weights.npz").read_bytes()))


@cache
def _puts() -> Put:
    """Random puts that the training run did not measure at: uniform, and near the strike and the boundary."""
    rng = np.random.default_rng(91)
    uniform = _problem().stack(
        [put._replace(spot=put.spot / put.strike, strike=1.0) for put in _problem().sample(800, rng)]
    )
    near = american_put_model.sample(rng, 1200)
    return Put(*(np.concatenate(pair) for pair in zip(uniform, near, strict=True)))


@cache
def _exact() -> Array:
    return np.stack(american_put.solve(_puts()))


def _jets(precision: str, puts: Put) -> Array:
    return _engine(precision).jets(np.stack(_problem().coordinates(puts), axis=1))


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_prices_are_within_1e_5_of_the_strike_and_1e_6_in_the_mean(precision: str) -> None:
    wrong = american_put.greeks(_puts(), _jets(precision, _puts())).price - _exact()[0]
    assert np.abs(wrong).max() <= 1e-5
    assert np.sqrt(np.mean(wrong**2)) <= 1e-6


def test_errors_are_those_of_the_manifest_give_or_take() -> None:
    stated = manifests.parse((MODEL / "manifest.json").read_bytes()).accuracy
    for precision, errors in (("float32", stated.served), ("float64", stated.float64)):
        wrong = np.abs(np.stack(american_put.greeks(_puts(), _jets(precision, _puts()))) - _exact()).max(axis=1)
        for name, value in zip(_problem().outputs, wrong, strict=True):
            assert value <= 2 * errors.largest[name], (precision, name)


@pytest.mark.parametrize(
    "put",
    [
        Put(0.9, 1.0, 1.0, 0.05, 0.3),
        Put(1.0, 1.0, 2.0, 0.1, 0.6),
        Put(1.1, 1.0, 0.25, 0.02, 0.5),
        Put(95.0, 100.0, 0.5, 0.08, 0.2),
    ],
)
def test_prices_are_those_of_a_binomial_tree(put: Put) -> None:
    answer = american_put.greeks(put, _engine("float32").jet(*_problem().coordinates(put)))
    assert answer.price == pytest.approx(by_tree(*put, steps=2000), abs=5e-6 * put.strike)


def test_every_answer_is_within_its_bounds() -> None:
    answer = american_put.greeks(_puts(), _jets("float32", _puts()))
    room = american_put.solver_bounds(_puts())
    for name, value, exact, bound, more in zip(
        _problem().outputs, answer, _exact(), _bounds(_puts(), _puts()), room, strict=True
    ):
        assert np.all(np.abs(value - exact) <= bound + more), name


def test_the_bounds_say_something() -> None:
    price, delta, *_ = _bounds(_puts(), _puts())
    assert np.median(price) < 2e-6
    assert np.median(delta) < 2e-5


def test_no_answer_comes_from_a_bin() -> None:
    """What is asked again is exact again; what is asked near by is evaluated anew."""
    near = _puts()._replace(volatility=_puts().volatility * 1.001)
    assert not _problem().usable(_puts(), _bounds(_puts(), near)).any()
    assert _problem().usable(near, _bounds(near, near)).all()


def test_bounds_of_one_and_of_many_are_the_same() -> None:
    together = _bounds(_puts(), _puts())
    for i in range(0, 2000, 100):
        put = Put(*(float(field[i]) for field in _puts()))
        place = _problem().coordinates(put)
        alone = _problem().near(put, place, _engine("float32").jet(*place))[1]
        assert alone == pytest.approx(together[:, i].tolist(), rel=1e-5)


def test_invariants_hold_within_the_manifests_tolerances() -> None:
    tolerances = manifests.parse((MODEL / "manifest.json").read_bytes()).tolerances
    answer = american_put.greeks(_puts(), _jets("float32", _puts()))
    for name, excess in _problem().excesses(_puts(), answer).items():
        assert excess.max() <= tolerances[name], name
    assert max(tolerances.values()) < 1e-3


def test_a_damaged_boundary_is_seen_by_the_invariants() -> None:
    jets = _jets("float32", _puts())
    jets[5] += 0.02
    tolerances = manifests.parse((MODEL / "manifest.json").read_bytes()).tolerances
    answer = american_put.greeks(_puts(), jets)
    assert any(e.max() > tolerances[k] for k, e in _problem().excesses(_puts(), answer).items())


def test_the_server_loads_it_and_answers_with_bounds() -> None:
    chosen = settings.load(model_uri=f"file://{MODEL}")
    model = assembly.load(assembly.fetch(chosen), chosen, Metrics())
    question = json.dumps({"spot": 95, "strike": 100, "maturity": 0.5, "rate": 0.08, "volatility": 0.2}).encode()
    point = model.predictor.problem.point(model.codec.questions(question))
    for answer in (model.predictor.evaluation.one(point), model.predictor.evaluation.fresh(point)):
        assert answer.values[0] == pytest.approx(by_tree(*point), abs=1e-3)
        assert answer.bounds is not None
        assert answer.bounds[0] < 1e-3


@pytest.mark.parametrize(
    ("name", "version", "cached"),
    [("american-put", "1.0.0", False), ("black-scholes", "2.0.0", True), ("burgers", "1.0.0", True)],
)
def test_a_cache_is_kept_only_where_a_bin_may_answer(
    name: str, version: str, cached: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Else every question would be evaluated twice."""
    caplog.set_level("INFO")
    chosen = settings.load(model_name=name, model_version=version)
    model = assembly.load(assembly.fetch(chosen), chosen, Metrics())
    assert (model.predictor.cache is not None) == cached
    assert ("the cache is off: no answer" in caplog.text) != cached


def test_no_single_network_is_taken_for_the_two() -> None:
    with pytest.raises(ValueError, match=r"^weights\.npz has .*, not w0, b0"):
        Float64Engine((MODEL / "weights.npz").read_bytes())


def test_the_recipes_are_the_shipped_versions() -> None:
    assert sorted(AMERICAN_PUT) == sorted(path.name for path in MODEL.parent.iterdir())


def _bounds(puts: Put, jets_of: Put) -> Array:
    """Of answers to `puts`, (6, n), from the jets of others."""
    bounds = _problem().near(puts, _problem().coordinates(jets_of), _jets("float32", jets_of))[1]
    assert bounds is not None
    return np.stack(bounds)
