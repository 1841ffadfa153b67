"""Trains a network on the residual of its equation, and nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pinn_inference import network as networks
from pinn_inference.network import Array, Network
from pinn_inference.problems import black_scholes
from pinn_inference.training.recipes import Recipe
from pinn_inference.training.ssbfgs import minimize


@dataclass(frozen=True)
class Progress:
    """Where training stands: steps taken, root mean square of the weighted residual, and the network."""

    iteration: int
    residual: float
    network: Network


def train(recipe: Recipe, seed: int) -> Iterator[Progress]:
    """Yields after every step. The same recipe and seed on the same machine and libraries give the same weights."""
    rng = np.random.default_rng(seed)
    start = networks.initial(rng, recipe.hidden)
    points = black_scholes.collocation(rng, recipe.points)
    return linear(start, points, *black_scholes.residual(points), recipe.iterations)


def linear(start: Network, points: Array, coefficients: Array, source: Array, iterations: int) -> Iterator[Progress]:
    """The same for any equation that is linear in the network, imposed at `points` (n, d).

    Its residual is `coefficients` (k, n) times the rows of the jet (N, N_z, N_zz, N_s, ...), summed, plus `source` (n,).
    """
    loss = _LogMeanSquare(start, points, coefficients, source)
    for step in minimize(loss, start.flat(), iterations):
        yield Progress(step.iteration, float(np.exp(step.value / 2)), start.with_flat(step.at))


class _LogMeanSquare:
    """log of the mean squared residual and its gradient. The logarithm keeps curvature alive while the loss falls by 1e16."""

    def __init__(self, template: Network, points: Array, coefficients: Array, source: Array) -> None:
        self._template = template
        self._rows = networks.features(points, template.features)
        self._coefficients, self._source = coefficients, source

    def __call__(self, vector: Array) -> tuple[float, Array]:
        network = self._template.with_flat(vector)
        jet, tape = networks.forward(network, self._rows)
        residual = np.einsum("kn,kn->n", self._coefficients, jet) + self._source
        square = float(residual @ residual)
        gradient = networks.backward(network, tape, self._coefficients * (2 / square * residual))
        return float(np.log(square / len(residual))), gradient
