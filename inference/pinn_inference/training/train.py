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
    loss = _LogMeanSquare(start, black_scholes.collocation(rng, recipe.points))
    for step in minimize(loss, start.flat(), recipe.iterations):
        yield Progress(step.iteration, float(np.exp(step.value / 2)), start.with_flat(step.at))


class _LogMeanSquare:
    """log of the mean squared residual and its gradient. The logarithm keeps curvature alive while the loss falls by 1e16."""

    def __init__(self, template: Network, points: Array) -> None:
        self._template = template
        self._rows = networks.features(points)
        self._coefficients, self._source = black_scholes.residual(points)

    def __call__(self, vector: Array) -> tuple[float, Array]:
        network = self._template.with_flat(vector)
        jet, tape = networks.forward(network, self._rows)
        residual = np.einsum("kn,kn->n", self._coefficients, jet) + self._source
        square = float(residual @ residual)
        gradient = networks.backward(network, tape, self._coefficients * (2 / square * residual))
        return float(np.log(square / len(residual))), gradient
