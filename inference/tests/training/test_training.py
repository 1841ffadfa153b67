"""Training is reproducible, its hand-written gradient is right, and it learns the equation without being told the price."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from pinn_inference import network as networks
from pinn_inference.engines.float64 import Float64Engine
from pinn_inference.engines.litert import LiteRtEngine
from pinn_inference.problems import black_scholes
from pinn_inference.training import build, export, folder, measure, ssbfgs
from pinn_inference.training.recipes import BLACK_SCHOLES, Recipe
from pinn_inference.training.train import Progress, train

TINY = Recipe("A tiny one for tests.", (6, 6), 100, 25)


def _trained(recipe: Recipe = TINY, seed: int = 3) -> Progress:
    *_, last = train(recipe, seed)
    return last


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first, second, other = (export.weights_npz(_trained(seed=seed).network) for seed in (3, 3, 4))
    assert first == second
    assert first != other


def test_the_same_seed_gives_the_same_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure.accuracy, "__defaults__", (500,))
    network = _trained().network
    first, second = (
        build.folder_files(network, "0.1.0", TINY, {"seed": 3, "seconds": seconds})["manifest.json"]
        for seconds in (1.5, 22.0)
    )
    assert first != second
    digests = [line for content in (first, second) for line in content.decode().splitlines() if '"digest"' in line]
    assert digests[0] == digests[1]


def test_the_gradient_by_hand_is_the_gradient() -> None:
    rng = np.random.default_rng(0)
    network = networks.initial(rng, (5, 4))
    rows = networks.features(black_scholes.collocation(rng, 20))
    weights = rng.standard_normal((4, 20))
    _, tape = networks.forward(network, rows)
    gradient = networks.backward(network, tape, weights)
    at = network.flat()
    for i in rng.choice(at.size, 25, replace=False):
        step = np.zeros_like(at)
        step[i] = 1e-6
        up, down = (networks.forward(network.with_flat(at + s * step), rows)[0] for s in (1, -1))
        assert gradient[i] == pytest.approx(float(np.sum(weights * (up - down))) / 2e-6, rel=1e-5, abs=1e-7)


def test_the_jet_is_the_value_and_its_derivatives() -> None:
    rng = np.random.default_rng(1)
    network = networks.initial(rng, (7, 7))
    points = black_scholes.collocation(rng, 30)
    h = 1e-4
    value, d_z, d_zz, d_s = networks.jet(network, points)
    up, down = (networks.jet(network, points + np.array([s * h, 0]))[0] for s in (1, -1))
    assert (up - down) / (2 * h) == pytest.approx(d_z, abs=1e-6)
    assert (up - 2 * value + down) / h**2 == pytest.approx(d_zz, abs=1e-5)
    up, down = (networks.jet(network, points + np.array([0, s * h]))[0] for s in (1, -1))
    assert (up - down) / (2 * h) == pytest.approx(d_s, abs=1e-6)


def test_the_price_is_learnt_from_the_equation_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(black_scholes, "solve", None)  # not even reachable while it trains
    engine = Float64Engine(export.weights_npz(_trained(dataclasses.replace(TINY, iterations=150)).network))
    monkeypatch.undo()
    accuracy, _ = measure.accuracy(engine, engine, 500)
    assert accuracy.float64.largest["price"] < 1e-3


def test_a_trained_network_survives_its_files() -> None:
    network = _trained().network
    points = black_scholes.collocation(np.random.default_rng(2), 700)
    direct = networks.jet(network, points)
    assert np.array_equal(Float64Engine(export.weights_npz(network)).jets(points), direct)
    assert LiteRtEngine(export.litert(network)).jets(points) == pytest.approx(direct, abs=1e-4)


def test_self_scaled_bfgs_finds_the_minimum_of_rosenbrock() -> None:
    def rosenbrock(v: networks.Array) -> tuple[float, networks.Array]:
        x, y = v
        return float((1 - x) ** 2 + 100 * (y - x * x) ** 2), np.array(
            [2 * (x - 1) - 400 * x * (y - x * x), 200 * (y - x * x)]
        )

    *_, last = ssbfgs.minimize(rosenbrock, np.array([-1.2, 1.0]), 200)
    assert last.at == pytest.approx([1.0, 1.0], abs=1e-6)


def test_a_folder_is_written_with_its_manifest_last(tmp_path: Path) -> None:
    files = {"manifest.json": b"{}", "weights.npz": b"w", "model.tflite": b"t"}
    folder.write(tmp_path / "new" / "folder", files)
    assert {p.name: p.read_bytes() for p in (tmp_path / "new/folder").iterdir()} == files


def test_the_shipped_recipes_are_the_shipped_versions(models: Path) -> None:
    assert sorted(BLACK_SCHOLES) == sorted(p.name for p in (models / "black-scholes").iterdir())
