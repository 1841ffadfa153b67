"""A small tanh network of two coordinates, its derivatives forward by Taylor mode, and the gradient of both by hand.

The jet of a point (z, s) is (N, N_z, N_zz, N_s). Four rows travel through each layer together, so that value and derivatives
cost one forward pass, and one reverse pass gives the gradient of any function of them. NumPy, float64.
The network is even in z because it sees z only through z^2/(6 + z^2), which also keeps it bounded far from the strike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Z_SCALE: Final = 6.0
S_SCALE: Final = 0.43


@dataclass(frozen=True)
class Network:
    """Weights (fan_in, fan_out) and biases (fan_out,) layer by layer; the last layer is linear with one output."""

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]

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
        return Network(tuple(weights), tuple(biases))


def initial(rng: np.random.Generator, hidden: Sequence[int]) -> Network:
    """Glorot-normal weights, zero biases."""
    sizes = [2, *hidden, 1]
    shapes = list(pairwise(sizes))
    weights = tuple(rng.standard_normal(shape) * np.sqrt(2.0 / sum(shape)) for shape in shapes)
    return Network(weights, tuple(np.zeros(fan_out) for _, fan_out in shapes))


def features(points: Array) -> Array:
    """The jets of the two features at `points` (n, 2): shape (4, n, 2)."""
    z, s = points.T
    out = np.zeros((4, len(z), 2))
    d = 1.0 / (Z_SCALE + z * z)
    out[0, :, 0] = 2 * z * z * d - 1
    out[1, :, 0] = 4 * Z_SCALE * z * d**2
    out[2, :, 0] = 4 * Z_SCALE * d**2 * (1 - 4 * z * z * d)
    out[0, :, 1] = s / S_SCALE - 1
    out[3, :, 1] = 1 / S_SCALE
    return out


def jet(network: Network, points: Array) -> Array:
    """(N, N_z, N_zz, N_s) at `points` (n, 2): shape (4, n)."""
    return forward(network, features(points))[0]


Tape = list[tuple[Array, Array, Array, Array]]


def forward(network: Network, rows: Array) -> tuple[Array, Tape]:
    """The jet (4, n) of the network on feature jets (4, n, 2), and what `backward` needs."""
    tape: Tape = []
    for w, b in zip(network.weights[:-1], network.biases[:-1], strict=True):
        p = rows @ w
        p[0] += b
        t = np.tanh(p[0])
        d1 = 1 - t * t
        d2 = -2 * t * d1
        tape.append((rows, p, t, d1))
        rows = np.stack([t, d1 * p[1], d1 * p[2] + d2 * p[1] ** 2, d1 * p[3]])
    out = (rows @ network.weights[-1])[..., 0]
    out[0] += network.biases[-1]
    tape.append((rows, out, out, out))
    return out, tape


def backward(network: Network, tape: Tape, g: Array) -> Array:
    """The gradient, as a flat vector, of a function whose derivative by the jet is `g` (4, n)."""
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
            g[0] * d1 + d2 * (g[1] * p[1] + g[2] * p[2] + g[3] * p[3]) + d3 * g[2] * p[1] ** 2,
            g[1] * d1 + 2 * d2 * p[1] * g[2],
            g[2] * d1,
            g[3] * d1,
        ]
    )


def _outer(rows: Array, g: Array) -> Array:
    return rows.reshape(-1, rows.shape[2]).T @ g.reshape(-1, g.shape[2])
