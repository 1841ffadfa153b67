"""Trains the network of the Burgers equation on its residual, measures it against the exact solution, and makes its folder.

No solution is in the loss. Where the residual is large more points are drawn, anew every so many steps; the optimizer keeps what
it has learnt of the curvature meanwhile.
"""

import platform
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from pinn_inference import network as networks
from pinn_inference.network import Array, Feature, Network
from pinn_inference.problems import burgers
from pinn_inference.problems.burgers import LEAST, Burgers, Form
from pinn_inference.training import export, folder, measured
from pinn_inference.training.folder import Told
from pinn_inference.training.measured import Cells
from pinn_inference.training.recipes import Recipe
from pinn_inference.training.ssbfgs import Step, minimize
from pinn_inference.training.train import Progress

RANGE: Final = float(np.log(Burgers.domain[2].high / LEAST))
"""The third coordinate's, ln(nu/LEAST), from 0 on."""

BEYOND: Final = 0.04
"""Share of that range by which training goes beyond its ends: at an edge a network is less exact than within."""

FEATURES: Final = (Feature("square", 0, 0.5), Feature("linear", 1, 0.5), Feature("linear", 2, RANGE / 2))

DRAWN_EVERY: Final = 1500
"""Steps between two draws of points."""

CANDIDATES: Final = 8
"""Points that are looked at for each that is drawn."""

CHUNK: Final = 250
"""Points evaluated at a time: what travels through the network then stays in the core's cache."""

CELLS: Final = Cells((0.1, 0.1, 0.35))
VISCOSITIES: Final = 12
REFERENCE: Final = "transformation of Hopf and Cole, integrals summed over equidistant nodes, float64"
SAMPLING: Final = (
    "for each of 12 viscosities, equidistant in their logarithm and both ends among them, a grid of 401 x and 51 t over the "
    "whole domain and 1,666 random t with x as often in the front as beside it (seed 20261124); relative L2 is that of the "
    "worst viscosity"
)


def train(recipe: Recipe, seed: int) -> Iterator[Progress]:
    """Yields after every step. The same recipe and seed on the same machine and libraries give the same weights."""
    rng = np.random.default_rng(seed)
    network, hessian, done = networks.initial(rng, recipe.hidden, FEATURES), None, 0
    points = candidates(rng, recipe.points)
    while done < recipe.iterations:
        step: Step | None = None
        steps = min(DRAWN_EVERY, recipe.iterations - done)
        for step in minimize(_LogMeanSquare(network, points), network.flat(), steps, hessian):
            yield Progress(done + step.iteration, float(np.exp(step.value / 2)), network.with_flat(step.at))
        if step is None:
            return
        network, hessian, done = network.with_flat(step.at), step.inverse_hessian, done + step.iteration
        points = drawn(rng, network, recipe.points)


def candidates(rng: np.random.Generator, count: int) -> Array:
    """Points (count, 3) of the coordinates, uniform over half the domain: the solution is odd. A little beyond in viscosity."""
    points: Array = rng.random((count, 3)) * np.array([1, 1, RANGE * (1 + 2 * BEYOND)]) - np.array(
        [0, 0, RANGE * BEYOND]
    )
    return points


def drawn(rng: np.random.Generator, network: Network, count: int) -> Array:
    """Points (count, 3) out of CANDIDATES times as many, one likelier by its residual over the mean, plus 1.

    C. Wu, M. Zhu, Q. Tan, Y. Kartha, L. Lu, Computer Methods in Applied Mechanics and Engineering 403 (2023).
    """
    points = candidates(rng, CANDIDATES * count)
    size = np.abs(np.concatenate([part.weighted(network) for part in _parts(points)]))
    chance = size / size.mean() + 1
    return points[rng.choice(len(points), count, replace=False, p=chance / chance.sum())]


class _Evaluated(NamedTuple):
    """The equation's left side less its right, u_x, what `residual` changes by with the jet (4, n), and what `backward` needs."""

    residual: Array
    u_x: Array
    slopes: Array
    tape: networks.Tape


class _Part:
    """The equation at some of the points."""

    def __init__(self, points: Array) -> None:
        y, t, _ = points.T
        self._nu = LEAST * np.exp(points[:, 2])
        self._at = burgers.form(burgers.unstretched(y, self._nu), t, self._nu)
        self._rows = networks.features(points, FEATURES)[:4]  # nothing is asked of the derivative by viscosity

    def evaluated(self, network: Network) -> _Evaluated:
        jet, tape = networks.forward(network, self._rows)
        u, u_x, u_xx, u_t = burgers.wave(self._at, jet)
        return _Evaluated(u_t + u * u_x - self._nu * u_xx, u_x, _slopes(self._at, u, u_x, self._nu), tape)

    def weight(self, network: Network) -> Array:
        """1/(1 + |u_x|): in the front the terms are as large as 1/nu, and it is as narrow as nu; nothing else would be learnt."""
        weight: Array = 1 / (1 + np.abs(self.evaluated(network).u_x))
        return weight

    def weighted(self, network: Network) -> Array:
        """The residual as it counts."""
        found = self.evaluated(network)
        weighted: Array = found.residual / (1 + np.abs(found.u_x))
        return weighted


def _slopes(at: Form, u: Array, u_x: Array, nu: Array) -> Array:
    """The derivatives of the equation's left side by (N, N_y, N_yy, N_t): shape (4, n)."""
    by_n = at.shape * at.rise_t + at.rise * (at.shape * u_x + u * at.shape_x - nu * at.shape_xx)
    by_n_x, by_n_xx = at.rise * (u * at.shape - 2 * nu * at.shape_x), -at.rise * nu * at.shape
    return np.stack([by_n, by_n_x * at.y_x + by_n_xx * at.y_xx, by_n_xx * at.y_x**2, at.shape * at.rise])


def _parts(points: Array) -> list[_Part]:
    return [_Part(points[start : start + CHUNK]) for start in range(0, len(points), CHUNK)]


class _LogMeanSquare:
    """log of the mean squared residual and its gradient. The weights are those of the network it starts from, and stay."""

    def __init__(self, start: Network, points: Array) -> None:
        self._template, self._parts, self._count = start, _parts(points), len(points)
        self._weights = [part.weight(start) for part in self._parts]

    def __call__(self, vector: Array) -> tuple[float, Array]:
        network = self._template.with_flat(vector)
        square, gradient = 0.0, np.zeros_like(vector)
        for part, weight in zip(self._parts, self._weights, strict=True):
            found = part.evaluated(network)
            residual = found.residual * weight
            square += float(residual @ residual)
            gradient += networks.backward(network, found.tape, 2 * residual * weight * found.slopes)
        return float(np.log(square / self._count)), gradient / square


# --------------------------------------------------------------------------------------------- the model's folder


def folder_files(network: Network, model_version: str, recipe: Recipe, training: dict[str, Any]) -> dict[str, bytes]:
    """Every file of the model, by name. `training` is what the training run knows about itself."""
    files = {"weights.npz": export.weights_npz(network), "model.tflite": export.litert(network)}
    problem = Burgers(Burgers.domain, None)
    told = Told(
        version=model_version,
        description=f"The viscous Burgers equation from a sine wave, its front included. {recipe.description}",
        reference=REFERENCE,
        sampling=SAMPLING,
        precision={"network": "float32", "formulas around it": "float64"},
        architecture={
            "coordinates": ["y = arsinh(x/d)/arsinh(1/d), d = 2.5 viscosity", "t", "l = ln(viscosity/0.003)"],
            "features": ["2 y^2 - 1", "2 t - 1", f"l/{RANGE / 2:.5g} - 1"],
            "hidden": list(recipe.hidden),
            "activation": "tanh",
            "parameters": network.parameters,
            "graph": "model.tflite: (n, 3) of (y, t, l) to (n, 5) of N, N_y, N_yy, N_t, N_l; float32; Taylor mode",
        },
        training={**training, "python": platform.python_version(), "libraries": folder.versions()},
    )
    return folder.files(problem, files, told, CELLS, parts(problem), _somewhere(problem))


def parts(problem: Burgers) -> list[Any]:
    """Where the model is measured, a batch for each of VISCOSITIES: see SAMPLING."""
    low, high = problem.inputs[2].low, problem.inputs[2].high
    rng = np.random.default_rng(20261124)
    x, t = (a.ravel() for a in np.meshgrid(np.linspace(-1, 1, 401), np.linspace(0, 1, 51), indexing="ij"))
    found = []
    for nu in np.geomspace(low, high, VISCOSITIES):
        y, late = rng.random((2, 20_000 // VISCOSITIES))
        both = np.concatenate([x, burgers.unstretched(y, np.full_like(y, nu))]), np.concatenate([t, late])
        found.append(problem.Point(*both, np.clip(np.full_like(both[0], nu), low, high)))
    return found


def _somewhere(problem: Burgers) -> measured.Draw:
    """Points as training draws them, within the ranges of the model."""

    def draw(count: int, rng: np.random.Generator) -> Any:
        y, t, share = rng.random((3, count))
        nu = LEAST * np.exp(RANGE * share)
        point = problem.Point(burgers.unstretched(y, nu), t, nu)
        return problem.at(point, point)

    return draw
