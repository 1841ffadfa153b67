"""The fused graph in TensorFlow's terms: value and derivatives forward together, one pass, no tapes.

Written so that little is left beside the matrix products of the hidden layers: derivatives by the first coordinate carry a factor
sqrt(2), which saves the 2 in tanh'' = -2 tanh tanh'; the first layer, each of whose features depends on one coordinate alone, is
products with few columns, or none where a derivative is constant; the last, with one output, is a sum, since a matrix product
would be padded to a whole register of outputs. TensorFlow comes as an argument: nothing here imports it.
"""

import math
from typing import Any, Final

from pinn_inference.network import Feature, Network

ROOT: Final = math.sqrt(2.0)


def jets(tf: Any, network: Network, points: Any) -> Any:
    """(n, k) of N, N_z, N_zz, N_s, ... at `points` (n, d) of (z, s, ...), float32; the weights become constants of the graph."""
    layers = list(zip(network.weights, network.biases, strict=True))
    rows = _first(tf, network, points, *layers[0])
    for w, b in layers[1:-1]:
        rows = _linear(tf, _through_tanh(tf, rows), w, b)
    n, n_z, n_zz, *others = _last(tf, rows, *layers[-1])
    return tf.concat([n, n_z * (1 / ROOT), n_zz, *others], axis=1)


def _first(tf: Any, network: Network, points: Any, w: Any, b: Any) -> list[Any]:
    """The features of network.features and the first layer in one."""
    columns = [points[:, i : i + 1] for i in range(network.shape[0])]
    entering = [_Entering(feature, columns[feature.coordinate]) for feature in network.features]
    values = tf.concat([one.value() for one in entering], 1)
    own = [_constant(tf, w[i : i + 1]) for i in range(len(entering))]
    by = [[i for i, f in enumerate(network.features) if f.coordinate == c] for c in range(len(columns))]
    return [
        tf.matmul(values, _constant(tf, w)) + _constant(tf, b),
        _products(tf, [(entering[i].slope(ROOT), own[i]) for i in by[0]]),
        _products(tf, [(entering[i].curve(), own[i]) for i in by[0]]),
        *(_products(tf, [(entering[i].slope(1.0), own[i]) for i in places]) for places in by[1:]),
    ]


class _Entering:
    """A feature and its derivatives by its own coordinate `c`, as tensors; a float where one is the same everywhere."""

    def __init__(self, feature: Feature, c: Any) -> None:
        self._kind, self._scale, self._offset, self._c = feature.kind, feature.scale, feature.offset, c
        self._d = 1.0 / (feature.scale + c * c) if feature.kind == "bounded" else None

    def value(self) -> Any:
        c, d = self._c, self._d
        if self._kind == "linear":
            return c / self._scale - self._offset
        return (2.0 * c * c * d if d is not None else c * c / self._scale) - self._offset

    def slope(self, factor: float) -> Any:
        c, d = self._c, self._d
        if self._kind == "linear":
            return factor / self._scale
        return (4.0 * factor * self._scale) * c * d * d if d is not None else (2.0 * factor / self._scale) * c

    def curve(self) -> Any:
        c, d = self._c, self._d
        if self._kind == "linear":
            return 0.0
        return 4.0 * self._scale * d * d * (1.0 - 4.0 * c * c * d) if d is not None else 2.0 / self._scale


def _products(tf: Any, factors: list[tuple[Any, Any]]) -> Any:
    """The sum of derivatives times rows of weights: (n, width), or (1, width) where nothing depends on the point."""
    parts = [
        weights * factor if isinstance(factor, float) else tf.matmul(factor, weights) for factor, weights in factors
    ]
    return sum(parts[1:], parts[0])


def _linear(tf: Any, rows: list[Any], w: Any, b: Any) -> list[Any]:
    weights = _constant(tf, w)
    value, *derivatives = (tf.matmul(row, weights) for row in rows)
    return [value + _constant(tf, b), *derivatives]


def _last(tf: Any, rows: list[Any], w: Any, b: Any) -> list[Any]:
    """The last tanh and the last layer in one: its weights go into the slope, which all rows but one share."""
    value, *derivatives = (tf.reduce_sum(row, 1, keepdims=True) for row in _through_tanh(tf, rows, w[:, 0]))
    return [value + _constant(tf, b), *derivatives]


def _through_tanh(tf: Any, rows: list[Any], weights: Any = None) -> list[Any]:
    p, p_z, p_zz, *others = rows
    t = tf.tanh(p)
    slope = 1.0 - tf.square(t)
    value = t
    if weights is not None:
        value, slope = t * _constant(tf, weights), slope * _constant(tf, weights)
    return [value, slope * p_z, slope * (p_zz - t * tf.square(p_z)), *(slope * row for row in others)]


def _constant(tf: Any, values: Any) -> Any:
    return tf.constant(values, tf.float32)
