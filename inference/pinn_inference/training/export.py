"""Writes a trained network as files: float64 weights, and one fused LiteRT graph of value and derivatives together."""

import io
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from pinn_inference.network import S_SCALE, Z_SCALE, Array, Network


def weights_npz(network: Network) -> bytes:
    """The weights, layer by layer: w0, b0, w1, ..."""
    layers = enumerate(zip(network.weights, network.biases, strict=True))
    return npz({f"{name}{i}": array for i, (w, b) in layers for name, array in (("w", w), ("b", b))})


def npz(arrays: Mapping[str, Array]) -> bytes:
    """An uncompressed .npz with fixed time stamps: equal arrays give equal bytes. No pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, _npy(array))
    return out.getvalue()


def litert(network: Network) -> bytes:
    """The float32 flatbuffer: input (n, 2) of (z, s), output (n, 4) of (N, N_z, N_zz, N_s); n is resizable."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf

    module = tf.Module()
    module.jet = tf.function(lambda points: _jet(tf, network, points))
    concrete = module.jet.get_concrete_function(tf.TensorSpec([None, 2], tf.float32, name="points"))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    return bytes(converter.convert())


def _jet(tf: Any, network: Network, points: Any) -> Any:
    """The arithmetic of network.forward, in float32 TensorFlow: four tensors (n, width) a layer instead of one of rank 3."""
    rows = _features(tf, points)
    layers = list(zip(network.weights, network.biases, strict=True))
    for w, b in layers[:-1]:
        p, p_z, p_zz, p_s = _linear(tf, rows, w, b)
        t = tf.tanh(p)
        d1 = 1.0 - t * t
        rows = [t, d1 * p_z, d1 * (p_zz - 2.0 * t * p_z * p_z), d1 * p_s]
    return tf.concat(_linear(tf, rows, *layers[-1]), axis=1)


def _linear(tf: Any, rows: list[Any], w: Any, b: Any) -> list[Any]:
    weights = tf.constant(w, tf.float32)
    value, *derivatives = (tf.matmul(row, weights) for row in rows)
    return [value + tf.constant(b, tf.float32), *derivatives]


def _features(tf: Any, points: Any) -> list[Any]:
    z, s = points[:, 0:1], points[:, 1:2]
    zero = tf.zeros_like(z)
    d = 1.0 / (Z_SCALE + z * z)
    return [
        tf.concat([2.0 * z * z * d - 1.0, s / S_SCALE - 1.0], 1),
        tf.concat([4.0 * Z_SCALE * z * d * d, zero], 1),
        tf.concat([4.0 * Z_SCALE * d * d * (1.0 - 4.0 * z * z * d), zero], 1),
        tf.concat([zero, zero + 1.0 / S_SCALE], 1),
    ]


def _npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.ascontiguousarray(array, dtype="<f8"), allow_pickle=False)
    return out.getvalue()
