"""The fused graph in TensorFlow's terms: value and derivatives forward together, one pass, no tapes.

Written so that little is left beside the matrix products of the hidden layers: z-derivatives carry a factor sqrt(2), which
saves the 2 in tanh'' = -2 tanh tanh'; the first layer, whose features depend on z or on s alone, is products with one column;
the last, with one output, is a sum, since a matrix product would be padded to a whole register of outputs. TensorFlow comes
as an argument: nothing here imports it.
"""

import math
from typing import Any, Final

from pinn_inference.network import S_SCALE, Z_SCALE, Network

ROOT: Final = math.sqrt(2.0)


def jets(tf: Any, network: Network, points: Any) -> Any:
    """(n, 4) of N, N_z, N_zz, N_s at `points` (n, 2) of (z, s), float32; the weights become constants of the graph."""
    layers = list(zip(network.weights, network.biases, strict=True))
    rows = _first(tf, points, *layers[0])
    for w, b in layers[1:-1]:
        rows = _linear(tf, _through_tanh(tf, rows), w, b)
    n, n_z, n_zz, n_s = _last(tf, rows, *layers[-1])
    return tf.concat([n, n_z * (1 / ROOT), n_zz, n_s], axis=1)


def _first(tf: Any, points: Any, w: Any, b: Any) -> list[Any]:
    """The features of network.features and the first layer in one."""
    z, s = points[:, 0:1], points[:, 1:2]
    d = 1.0 / (Z_SCALE + z * z)
    features = tf.concat([2.0 * z * z * d - 1.0, s / S_SCALE - 1.0], 1)
    by_z, by_s = (_constant(tf, w[i : i + 1]) for i in (0, 1))
    return [
        tf.matmul(features, _constant(tf, w)) + _constant(tf, b),
        tf.matmul((4.0 * ROOT * Z_SCALE) * z * d * d, by_z),
        tf.matmul(4.0 * Z_SCALE * d * d * (1.0 - 4.0 * z * z * d), by_z),
        by_s * (1.0 / S_SCALE),
    ]


def _linear(tf: Any, rows: list[Any], w: Any, b: Any) -> list[Any]:
    weights = _constant(tf, w)
    value, *derivatives = (tf.matmul(row, weights) for row in rows)
    return [value + _constant(tf, b), *derivatives]


def _last(tf: Any, rows: list[Any], w: Any, b: Any) -> list[Any]:
    """The last tanh and the last layer in one: its weights go into the slope, which three of the rows share."""
    value, *derivatives = (tf.reduce_sum(row, 1, keepdims=True) for row in _through_tanh(tf, rows, w[:, 0]))
    return [value + _constant(tf, b), *derivatives]


def _through_tanh(tf: Any, rows: list[Any], weights: Any = None) -> list[Any]:
    p, p_z, p_zz, p_s = rows
    t = tf.tanh(p)
    slope = 1.0 - tf.square(t)
    value = t
    if weights is not None:
        value, slope = t * _constant(tf, weights), slope * _constant(tf, weights)
    return [value, slope * p_z, slope * (p_zz - t * tf.square(p_z)), slope * p_s]


def _constant(tf: Any, values: Any) -> Any:
    return tf.constant(values, tf.float32)
