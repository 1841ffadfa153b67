"""A small tanh network of a few coordinates, its derivatives forward by Taylor mode, and the gradient of both by hand.

The jet of a point (z, s, ...) is (N, N_z, N_zz, N_s, ...): two derivatives by the first coordinate, one by each other. Its rows
travel through each layer together, so that value and derivatives cost one forward pass, and one reverse pass gives the gradient
of any function of them. NumPy, float64. A network that sees a coordinate only through its square is even in it by construction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Kind = Literal["linear", "square", "bounded"]
KINDS: Final[tuple[Kind, ...]] = ("linear", "square", "bounded")


@dataclass(frozen=True)
class Feature:
    """How a coordinate c enters: c/scale - offset, c^2/scale - offset, or 2 c^2/(scale + c^2) - offset, which stays bounded."""

    kind: Kind
    coordinate: int
    scale: float
    offset: float = 1.0


Features = tuple[Feature, ...]
FIRST_FEATURES: Final = (Feature("bounded", 0, 6.0), Feature("linear", 1, 0.43))
"""Those of a network that does not say: the first models shipped do not."""


@dataclass(frozen=True)
class Network:
    """Weights (fan_in, fan_out) and biases (fan_out,) layer by layer; the last layer is linear with one output."""

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    features: Features = FIRST_FEATURES

    @property
    def shape(self) -> tuple[int, int]:
        """Coordinates of a point, and rows of its jet."""
        return shape(self.features)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Width of every layer, inputs and output included."""
        return (self.weights[0].shape[0], *(w.shape[1] for w in self.weights))

    @property
    def parameters(self) -> int:
        """How many numbers training chooses."""
        return sum(w.size for w in self.weights) + sum(b.size for b in self.biases)

    def flat(self) -> Array:
        """Every parameter in one vector."""
        return np.concatenate([a.ravel() for pair in zip(self.weights, self.biases, strict=True) for a in pair])

    def with_flat(self, vector: Array) -> "Network":
        """A network of the same shape with the parameters of `vector`."""
        weights, biases, at = [], [], 0
        for w, b in zip(self.weights, self.biases, strict=True):
            weights.append(vector[at : at + w.size].reshape(w.shape))
            biases.append(vector[at + w.size : at + w.size + b.size])
            at += w.size + b.size
        return Network(tuple(weights), tuple(biases), self.features)


def shape(features: Sequence[Feature]) -> tuple[int, int]:
    """Coordinates of a point, and rows of its jet."""
    coordinates = 1 + max(feature.coordinate for feature in features)
    return coordinates, coordinates + 2


def initial(rng: np.random.Generator, hidden: Sequence[int], features: Features = FIRST_FEATURES) -> Network:
    """Glorot-normal weights, zero biases."""
    sizes = [len(features), *hidden, 1]
    shapes = list(pairwise(sizes))
    weights = tuple(rng.standard_normal(shape) * np.sqrt(2.0 / sum(shape)) for shape in shapes)
    return Network(weights, tuple(np.zeros(fan_out) for _, fan_out in shapes), features)


def features(points: Array, which: Features = FIRST_FEATURES) -> Array:
    """The jets (k, n, f) of f features at `points` (n, d), k = d + 2."""
    out = np.zeros((shape(which)[1], len(points), len(which)))
    for place, feature in enumerate(which):
        value, first, second = _feature(feature, points[:, feature.coordinate])
        out[0, :, place] = value
        if feature.coordinate == 0:
            out[1, :, place], out[2, :, place] = first, second
        else:
            out[2 + feature.coordinate, :, place] = first
    return out


def _feature(feature: Feature, c: Array) -> tuple[Array, Array | float, Array | float]:
    scale, offset = feature.scale, feature.offset
    if feature.kind == "linear":
        return c / scale - offset, 1 / scale, 0.0
    if feature.kind == "square":
        return c * c / scale - offset, 2 * c / scale, 2 / scale
    d = 1.0 / (scale + c * c)
    return 2 * c * c * d - offset, 4 * scale * c * d**2, 4 * scale * d**2 * (1 - 4 * c * c * d)


def jet(network: Network, points: Array) -> Array:
    """(N, N_z, N_zz, N_s, ...) at `points` (n, d): shape (k, n)."""
    return forward(network, features(points, network.features))[0]


Tape = list[tuple[Array, Array, Array, Array]]


def forward(network: Network, rows: Array) -> tuple[Array, Tape]:
    """The jet (k, n) of the network on feature jets (k, n, f), and what `backward` needs."""
    tape: Tape = []
    for w, b in zip(network.weights[:-1], network.biases[:-1], strict=True):
        p = rows @ w
        p[0] += b
        t = np.tanh(p[0])
        d1 = 1 - t * t
        d2 = -2 * t * d1
        tape.append((rows, p, t, d1))
        rows = np.stack([t, d1 * p[1], d1 * p[2] + d2 * p[1] ** 2, *(d1 * row for row in p[3:])])
    out = (rows @ network.weights[-1])[..., 0]
    out[0] += network.biases[-1]
    tape.append((rows, out, out, out))
    return out, tape


def backward(network: Network, tape: Tape, g: Array) -> Array:
    """The gradient, as a flat vector, of a function whose derivative by the jet is `g` (k, n)."""
    g = g[:, :, None]
    parts: list[Array] = []
    for layer in range(len(tape) - 1, -1, -1):
        rows, p, t, d1 = tape[layer]
        if layer < len(tape) - 1:
            g = _through_tanh(g, p, t, d1)
        parts += [g[0].sum(axis=0), _outer(rows, g).ravel()]
        if layer:
            g = g @ network.weights[layer].T
    return np.concatenate(parts[::-1])


def _through_tanh(g: Array, p: Array, t: Array, d1: Array) -> Array:
    d2 = -2 * t * d1
    d3 = -2 * (d1 * d1 + t * d2)
    return np.stack(
        [
            g[0] * d1 + d2 * sum(a * b for a, b in zip(g[1:], p[1:], strict=True)) + d3 * g[2] * p[1] ** 2,
            g[1] * d1 + 2 * d2 * p[1] * g[2],
            *(row * d1 for row in g[2:]),
        ]
    )


def _outer(rows: Array, g: Array) -> Array:
    return rows.reshape(-1, rows.shape[2]).T @ g.reshape(-1, g.shape[2])
