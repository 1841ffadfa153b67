"""Writes a trained network as files: float64 weights, and one fused LiteRT graph of value and derivatives together."""

import io
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from pinn_inference.engines import taylor
from pinn_inference.network import FIRST_FEATURES, KINDS, Array, Network


def weights_npz(network: Network) -> bytes:
    """The weights, layer by layer: w0, b0, w1, ...; and `features`, a row each, where they are not the first models'."""
    layers = enumerate(zip(network.weights, network.biases, strict=True))
    arrays = {f"{name}{i}": array for i, (w, b) in layers for name, array in (("w", w), ("b", b))}
    if network.features != FIRST_FEATURES:
        rows = [[KINDS.index(f.kind), f.coordinate, f.scale, f.offset] for f in network.features]
        arrays["features"] = np.array(rows, np.float64)
    return npz(arrays)


def npz(arrays: Mapping[str, Array]) -> bytes:
    """An uncompressed .npz with fixed time stamps: equal arrays give equal bytes. No pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, _npy(array))
    return out.getvalue()


def litert(network: Network) -> bytes:
    """The float32 flatbuffer: points (n, d) in, jets (n, k) of (N, N_z, N_zz, N_s, ...) out; n is resizable."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf

    module = tf.Module()
    module.jet = tf.function(lambda points: taylor.jets(tf, network, points))
    concrete = module.jet.get_concrete_function(tf.TensorSpec([None, network.shape[0]], tf.float32, name="points"))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    return bytes(converter.convert())


def _npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.ascontiguousarray(array, dtype="<f8"), allow_pickle=False)
    return out.getvalue()
