"""Trains the two networks of the American put on its equation: first the exercise boundary, then the premium above it.

The boundary on smooth pasting, written as an integral equation along the boundary itself; the premium on the differential
equation, with the boundary that was found. Neither sees a price, and the reference solver's answers are not used.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from pinn_inference import network as networks
from pinn_inference.network import Array, Feature, Network
from pinn_inference.problems import american_put as problem
from pinn_inference.problems.american_put_solver import density, probability, quarter_circle, zeta
from pinn_inference.training.recipes import Recipe
from pinn_inference.training.ssbfgs import minimize

FEATURES: Final = (Feature("linear", 0, 1.15, 1.35), Feature("linear", 1, 0.43), Feature("linear", 2, 3.4, 1.2))
"""Of (v, s, chi), see problems.american_put."""

BOUNDARY_FEATURES: Final = (Feature("linear", 0, 0.43), Feature("linear", 1, 3.4, 1.2))
"""Of (s, chi)."""

EARLIER: Final = 32
"""Gauss points of the boundary's past in its equation."""

CHUNK: Final = 250
"""Points evaluated at a time: what travels through the network then stays in the core's cache."""


BOUNDARY: Final = Recipe("The exercise boundary, whatever the premium's recipe.", (16, 16), 800, 1000)


@dataclass(frozen=True)
class Networks:
    """What a model consists of. `boundary`: of (s, chi); `premium`: of (v, s, chi)."""

    premium: Network
    boundary: Network


@dataclass(frozen=True)
class Progress:
    """Where training stands: steps of the premium, root mean square of the weighted residual, and the networks."""

    iteration: int
    residual: float
    network: Networks


def train(recipe: Recipe, seed: int) -> Iterator[Progress]:
    """Yields after every step. The same recipe and seed on the same machine and libraries give the same weights."""
    rng = np.random.default_rng(seed)
    boundary = networks.initial(rng, BOUNDARY.hidden, BOUNDARY_FEATURES)
    premium = networks.initial(rng, recipe.hidden, FEATURES)
    pasting = SmoothPasting(boundary, *sample(rng, BOUNDARY.points))
    for step in minimize(pasting, boundary.flat(), BOUNDARY.iterations):
        boundary = boundary.with_flat(step.at)
        yield Progress(0, math.exp(step.value / 2), Networks(premium, boundary))
    equation = Equation(Networks(premium, boundary), candidates(rng, recipe.points))
    for step in minimize(equation, premium.flat(), recipe.iterations):
        network = Networks(premium.with_flat(step.at), boundary)
        yield Progress(step.iteration, math.exp(step.value / 2), network)


def candidates(rng: np.random.Generator, count: int) -> Array:
    """Points (3, count) of s, rho, and the share in (0, 1) of the way from the boundary."""
    return np.stack([*sample(rng, count), rng.random(count)])


def sample(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """s and rho of `count` puts, (count,) each: of every maturity up to the longest, and a little beyond the other ranges.

    Crowded towards the ends of the ranges, where a network has nothing beyond to learn from; half of the rates are small, half of
    the volatilities are drawn by their logarithm.
    """
    late, dear, wild = 0.5 - 0.5 * np.cos(np.pi * rng.random((3, count)))
    root = math.sqrt(2.1) * np.sqrt(late)
    rate = 0.105 * dear ** rng.choice([1.0, 3.0], count)
    low, high = 0.048, 0.63
    volatility = np.where(rng.random(count) < 0.5, low * (high / low) ** wild, low + (high - low) * wild)
    return volatility * root, np.maximum(rate * root / volatility, problem.RHO_LEAST)


class SmoothPasting:
    """log of the mean squared mismatch of the boundary's equation, relative to its sides, and its gradient."""

    def __init__(self, template: Network, s: Array, rho: Array) -> None:
        self._template = template
        self._sine, self._cosine, self._weights = quarter_circle(EARLIER)
        self._s, self._rho = s, rho
        all_s, all_rho = (np.concatenate([a, np.outer(a, self._cosine).ravel()]) for a in (s, rho))
        self._zeta = zeta(all_rho)
        points = np.stack([all_s, problem.chi(all_rho, self._zeta)], axis=1)
        self._features = networks.features(points, BOUNDARY_FEATURES)[0]

    def __call__(self, vector: Array) -> tuple[float, Array]:
        network, s, rho = self._template.with_flat(vector), self._s, self._rho
        layers = _values(network, self._features)
        places = -self._zeta * np.exp(layers[-1][:, 0])
        own, earlier = places[: len(s)], places[len(s) :].reshape(len(s), -1)
        d = (own[:, None] - self._cosine * earlier) / self._sine + (rho - 0.5 * s)[:, None] * self._sine
        parts = np.exp(-(s * rho)[:, None] * self._sine**2) * density(d) * 2 * self._cosine * self._weights
        whole = parts.sum(axis=1)
        d1 = own + rho + 0.5 * s
        below = probability(d1)
        mismatch = s * own + np.log(below) - np.log(rho * whole)
        square = float(mismatch @ mismatch)
        by = 2 * mismatch / square
        pull = parts * d / whole[:, None] / self._sine
        by_own = by * (s + density(d1) / below + pull.sum(axis=1))
        by_earlier = -by[:, None] * pull * self._cosine
        by_places = np.concatenate([by_own, by_earlier.ravel()]) * places
        return math.log(square / len(s)), _gradient(network, layers, by_places)


def _values(network: Network, features: Array) -> list[Array]:
    """What enters each layer, and what comes out: values without derivatives."""
    layers = [features]
    for w, b in zip(network.weights[:-1], network.biases[:-1], strict=True):
        layers.append(np.tanh(layers[-1] @ w + b))
    return [*layers, layers[-1] @ network.weights[-1] + network.biases[-1]]


def _gradient(network: Network, layers: list[Array], by: Array) -> Array:
    """The gradient of a function whose derivative by the network's values is `by` (n,)."""
    g, parts = by[:, None], []
    for place in range(len(network.weights) - 1, -1, -1):
        parts += [g.sum(axis=0), (layers[place].T @ g).ravel()]
        g = (g @ network.weights[place].T) * (1 - layers[place] ** 2)
    return np.concatenate(parts[::-1])


class Equation:
    """log of the mean squared residual of the premium's equation, which is linear in the network's jet; and its gradient.

    `points` (3, n): for each pair s, rho a place between the boundary and FAR, by a share of the way; more places are near the
    boundary. Weighted by the square root of what multiplies the network in the price.
    """

    def __init__(self, network: Networks, points: Array) -> None:
        self._template = network.premium
        self._count = points.shape[1]
        self._parts = [_Part(network.boundary, *points[:, i : i + CHUNK]) for i in range(0, self._count, CHUNK)]

    def __call__(self, vector: Array) -> tuple[float, Array]:
        network = self._template.with_flat(vector)
        square, gradient = 0.0, np.zeros_like(vector)
        for part in self._parts:
            residual, tape = part.residual(network)
            square += float(residual @ residual)
            gradient += networks.backward(network, tape, part.coefficients * (2 * residual))
        return math.log(square / self._count), gradient / square


class _Part:
    """The equation at some of the points."""

    def __init__(self, boundary: Network, s: Array, rho: Array, share: Array) -> None:
        high = zeta(rho)
        place, outwards = _with_outward_slope(boundary, s, rho, high)
        known = problem.edge(s, rho, place)
        d_level, d_tilt, d_edge = problem.edge_slope(known, s, rho, outwards)
        y = (problem.FAR - known.d) * share**1.5
        d = known.d + y
        h1, h2 = problem.ramps(y)
        upper = probability(-d)
        drift, decay = d - 2 * density(d) / upper, 2 + known.mills * d_edge

        def applied(h: tuple[Array, Array, Array]) -> Array:
            found: Array = h[2] + (drift + d_edge) * h[1] - decay * h[0]
            return found

        weight = np.sqrt(upper / known.upper * s * rho)
        self.coefficients = weight * np.stack([applied(h2), 2 * h2[1] + drift * h2[0], h2[0], -h2[0]])
        self._source = weight * (-decay * known.level - d_level + known.tilt * applied(h1) - d_tilt * h1[0])
        self._rows = _outward_features(d, s, rho, high)

    def residual(self, network: Network) -> tuple[Array, networks.Tape]:
        """What is left of the equation, weighted, and what `backward` needs."""
        jet, tape = networks.forward(network, self._rows)
        residual: Array = np.einsum("kn,kn->n", self.coefficients, jet) + self._source
        return residual, tape


def _with_outward_slope(boundary: Network, s: Array, rho: Array, high: Array) -> tuple[Array, Array]:
    """z_b, and its derivative as s and rho grow in proportion, as they do with sqrt(T)."""
    m, m_s, _, m_chi = networks.jet(boundary, np.stack([s, problem.chi(rho, high)], axis=1))
    zeta_rho = problem.zeta_slope(rho, high)
    place = -high * np.exp(m)
    by_rho = m_chi * problem.chi_slope(rho, zeta_rho) + zeta_rho / high
    return place, place * (s * m_s + rho * by_rho)


def _outward_features(d: Array, s: Array, rho: Array, high: Array) -> Array:
    """The features' jets by d, twice, and by s and rho growing in proportion: shape (4, n, 3)."""
    zeta_rho = problem.zeta_slope(rho, high)
    v, by_d, by_dd, by_rho = problem.entering(d - rho + 0.5 * s + high, rho)
    v_scale, s_scale, chi_scale = (feature.scale for feature in FEATURES)
    rows = np.zeros((4, len(d), 3))
    rows[0] = networks.features(np.stack([v, s, problem.chi(rho, high)], axis=1), FEATURES)[0]
    rows[1, :, 0], rows[2, :, 0] = by_d / v_scale, by_dd / v_scale
    rows[3, :, 0] = (by_d * (0.5 * s - rho + rho * zeta_rho) + by_rho * rho) / v_scale
    rows[3, :, 1], rows[3, :, 2] = s / s_scale, rho * problem.chi_slope(rho, zeta_rho) / chi_scale
    return rows
