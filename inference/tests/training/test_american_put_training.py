"""The American put's two networks learn from their equations alone, by gradients that are right, and survive their files."""

import numpy as np
import pytest
from pinn_inference import network as networks
from pinn_inference.engines.litert import LiteRtEngine
from pinn_inference.network import Array
from pinn_inference.problems import american_put as problem
from pinn_inference.problems import american_put_solver
from pinn_inference.training import american_put as training
from pinn_inference.training import american_put_model as model
from pinn_inference.training.american_put import BOUNDARY_FEATURES, FEATURES, Equation, Networks, SmoothPasting
from pinn_inference.training.recipes import Recipe
from pinn_inference.training.ssbfgs import Objective

TINY = Recipe("A tiny one for tests.", (10, 10), 600, 200)


@pytest.fixture(scope="module")
def trained() -> Networks:
    """Of TINY and a boundary as small; the solver is out of reach meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "BOUNDARY", Recipe("As small.", (8, 8), 150, 150))
        patch.setattr(problem, "solve", None)
        patch.setattr(american_put_solver.Boundary, "solve", None)
        *_, last = training.train(TINY, 3)
    return last.network


def test_the_price_is_learnt_from_the_equations_alone(trained: Networks) -> None:
    assert _price_errors(trained).max() < 1e-3


def test_the_boundary_is_learnt_from_smooth_pasting_alone(trained: Networks) -> None:
    drawn = model.sample(np.random.default_rng(4), 200)
    puts = problem.Put(*(field[problem.reduce(drawn).rho > problem.RHO_LEAST] for field in drawn))
    reduced = problem.reduce(puts)
    m = networks.jet(trained.boundary, np.stack([reduced.s, reduced.chi], axis=1))[0]
    found = np.exp(-reduced.s * reduced.zeta * np.exp(m))
    assert found == pytest.approx(problem.exercise_boundary(puts), rel=1e-2)


def test_an_untrained_premium_would_be_seen(trained: Networks) -> None:
    """Without its training, the premium's network leaves errors that the tests above would see."""
    rng = np.random.default_rng(0)
    raw = Networks(networks.initial(rng, (10, 10), FEATURES), trained.boundary)
    assert _price_errors(raw).max() > 1e-2


@pytest.mark.parametrize("stage", ["boundary", "premium"])
def test_the_gradient_by_hand_is_the_gradient(stage: str) -> None:
    rng = np.random.default_rng(0)
    both = Networks(networks.initial(rng, (5, 4), FEATURES), networks.initial(rng, (5, 4), BOUNDARY_FEATURES))
    loss: Objective
    if stage == "boundary":
        loss, at = SmoothPasting(both.boundary, *training.sample(rng, 20)), both.boundary.flat()
    else:
        loss, at = Equation(both, training.candidates(rng, 20)), both.premium.flat()
    gradient = loss(at)[1]
    for i in range(at.size):
        step = np.zeros_like(at)
        step[i] = 1e-6
        assert gradient[i] == pytest.approx((loss(at + step)[0] - loss(at - step)[0]) / 2e-6, rel=1e-5, abs=1e-6)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "BOUNDARY", Recipe("A few steps.", (4, 4), 30, 5))
    weights = []
    for seed in (3, 3, 4):
        *_, last = training.train(Recipe("A few steps.", (5, 5), 60, 8), seed)
        weights.append(model.weights_npz(last.network))
    assert weights[0] == weights[1] != weights[2]


def test_trained_networks_survive_their_files(trained: Networks) -> None:
    points = _places(model.sample(np.random.default_rng(2), 700))
    direct = model.Both(trained).jets(points)
    assert np.array_equal(model.Both(model.read_weights(model.weights_npz(trained))).jets(points), direct)
    assert LiteRtEngine(model.litert(trained)).jets(points) == pytest.approx(direct, abs=1e-4)


def _places(puts: problem.Put) -> Array:
    return np.stack(problem.Formulation(problem.INPUTS, None).coordinates(puts), axis=1)


def _price_errors(network: Networks) -> Array:
    puts = model.sample(np.random.default_rng(5), 300)
    answer = problem.greeks(puts, model.Both(network).jets(_places(puts)))
    found: Array = np.abs(answer.price - problem.solve(puts).price)
    return found
