"""The network of Burgers is trained on its equation alone, again to the same bytes; what is measured of a network is true."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pinn_inference import network as networks
from pinn_inference.artifacts import manifest as manifests
from pinn_inference.engines.float64 import Float64Engine
from pinn_inference.network import Network
from pinn_inference.problems import burgers
from pinn_inference.problems.burgers import Burgers
from pinn_inference.training import burgers as training
from pinn_inference.training import export, measured
from pinn_inference.training.measured import Cells
from pinn_inference.training.recipes import BURGERS, Recipe

TINY = Recipe("A tiny one for tests.", (8, 8), 300, 60)


def _trained(seed: int = 3) -> tuple[Network, float]:
    *_, last = training.train(TINY, seed)
    return last.network, last.residual


def _engine(network: Network) -> Float64Engine:
    return Float64Engine(export.weights_npz(network))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first, second, other = (export.weights_npz(_trained(seed)[0]) for seed in (3, 3, 4))
    assert first == second
    assert first != other


def test_the_wave_is_learnt_from_the_equation_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "DRAWN_EVERY", 20)
    monkeypatch.setattr(burgers, "solve", None)  # not even reachable while it trains
    *_, last = training.train(TINY, 3)
    monkeypatch.undo()
    assert last.iteration == TINY.iterations
    problem = Burgers(Burgers.domain, None)
    start = networks.initial(np.random.default_rng(3), TINY.hidden, training.FEATURES)
    part = [problem.stack(problem.sample(500, np.random.default_rng(1)))]
    before, after = (measured.errors(problem, _engine(network), part) for network in (start, last.network))
    assert after.largest["u"] < 0.3 * before.largest["u"]


def test_the_gradient_by_hand_is_the_gradient() -> None:
    rng = np.random.default_rng(0)
    network = networks.initial(rng, (5, 4), training.FEATURES)
    loss = training._LogMeanSquare(network, training.candidates(rng, 2 * training.CHUNK + 7))
    at = network.flat()
    _, gradient = loss(at)
    for i in rng.choice(at.size, 15, replace=False):
        step = np.zeros_like(at)
        step[i] = 1e-6
        assert gradient[i] == pytest.approx((loss(at + step)[0] - loss(at - step)[0]) / 2e-6, rel=1e-4, abs=1e-7)


def test_points_are_drawn_where_the_residual_is_large() -> None:
    rng = np.random.default_rng(0)
    network = networks.initial(rng, (8, 8), training.FEATURES)

    def typical(points: Any) -> float:
        return float(np.mean([np.mean(np.abs(part.weighted(network))) for part in training._parts(points)]))

    assert typical(training.drawn(rng, network, 2000)) > 1.15 * typical(training.candidates(rng, 2000))


def test_the_shipped_recipes_are_the_shipped_versions(models: Path) -> None:
    assert sorted(BURGERS) == sorted(p.name for p in (models / "burgers").iterdir())
    for version, recipe in BURGERS.items():
        said = manifests.parse((models / "burgers" / version / "manifest.json").read_bytes()).training
        assert (said["iterations"], said["points"]) == (recipe.iterations, recipe.points)


# --------------------------------------------------------------------------------------------- what is measured


def test_in_no_cell_is_an_answer_worse_than_the_table_says() -> None:
    problem = Burgers(Burgers.domain, None)
    engine = _engine(_trained()[0])
    table = measured.error_table(problem, engine, engine, Cells((0.25, 0.25, 0.9), samples=600))
    points = problem.stack(problem.sample(3000, np.random.default_rng(9)))
    coordinates = problem.coordinates(points)
    answer = np.stack(problem.answer(points, engine.jets(np.stack(coordinates, axis=1))))
    wrong = np.abs(answer - np.stack(problem.solve(points)[0]))
    assert (wrong <= table.at_all(*coordinates)[:4]).all()


def test_the_derivatives_of_the_table_are_those_of_the_network() -> None:
    """N_yt by a difference of N_y elsewhere than the table looked, in a cell each."""
    problem = Burgers(Burgers.domain, None)
    engine = _engine(_trained()[0])
    table = measured.error_table(problem, engine, engine, Cells((0.25, 0.25, 0.9), samples=10))
    points = np.random.default_rng(2).random((200, 3)) * np.array([1.0, 1.0, 3.5])
    step = np.array([0.0, 1e-4, 0.0])
    slope = (engine.jets(points + step)[1] - engine.jets(points - step)[1]) / 2e-4
    row = len(problem.outputs) + problem.jets.beyond.index("yt")
    assert (np.abs(slope) <= table.at_all(*points.T)[row]).all()


def test_a_table_read_point_by_point_is_the_one_read_at_once() -> None:
    problem = Burgers(Burgers.domain, None)
    engine = _engine(_trained()[0])
    table = measured.error_table(problem, engine, engine, Cells((0.3, 0.4, 1.1), samples=5))
    points = np.random.default_rng(4).random((50, 3)) * np.array([2.4, 1.2, 4.0]) - np.array([1.2, 0.0, 0.0])
    together = table.at_all(*points.T)
    assert all(table.at(*point) == tuple(column) for point, column in zip(points, together.T, strict=True))
