"""The shipped network for Burgers' equation as a Keras file, with its manifest: a model in a foreign format.

The file is written by hand, layer by layer, as Keras 3 writes it: whoever uses this need not import TensorFlow.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pinn_inference.artifacts.digest import MANIFEST, digest, stated
from pinn_inference.engines.float64 import Float64Engine

ROOT = Path(__file__).resolve().parent.parent
WHOLE = ROOT / "models/burgers/1.0.0"
Files = dict[str, bytes]
Layer = dict[str, Any]
Numbers = Sequence[NDArray[Any]]


def burgers(version: str, off: float = 1.0) -> Files:
    """The files of the model, by name; where one weight of its last layer is `off`, its mathematics alone is wrong."""
    said = json.loads((WHOLE / MANIFEST).read_text())
    files = {"model.keras": network(off), "errors.npz": (WHOLE / "errors.npz").read_bytes()}
    files[MANIFEST] = json.dumps({**said, "version": version, "files": {}}, indent=2).encode()
    return files | {MANIFEST: stated(files[MANIFEST], digest(files))}


def network(off: float = 1.0) -> bytes:
    """(y, t, l) -> N, each a number of its own, with the features of the shipped model."""
    shipped = Float64Engine((WHOLE / "weights.npz").read_bytes()).network
    kept = [(w.astype(np.float32), b.astype(np.float32)) for w, b in zip(shipped.weights, shipped.biases, strict=True)]
    kept[-1][0][0] *= off
    inputs = [layer("InputLayer", name, batch_shape=[None, 1], dtype="float32", of=[]) for name in "ytl"]
    layers, entering = [*inputs], []
    for place, feature in enumerate(shipped.features):
        name = "ytl"[feature.coordinate]
        if feature.kind == "square":
            layers.append(layer("Multiply", f"square_{place}", of=[name, name]))
            name = f"square_{place}"
        scale = layer("Rescaling", f"feature_{place}", scale=1 / feature.scale, offset=-feature.offset, of=[name])
        layers.append(scale)
        entering.append(f"feature_{place}")
    layers.append(layer("Concatenate", "features", axis=-1, of=entering))
    last, arrays = "features", {}
    for place, (w, b) in enumerate(kept):
        activation = "linear" if place == len(kept) - 1 else "tanh"
        dense = layer("Dense", f"layer_{place}", units=w.shape[1], activation=activation, use_bias=True, of=[last])
        layers.append(dense)
        last, arrays["dense" if not place else f"dense_{place}"] = f"layer_{place}", [w, b]
    ends = {"input_layers": [[name, 0, 0] for name in "ytl"], "output_layers": [last, 0, 0]}
    return packed(
        {"module": FUNCTIONAL, "class_name": "Functional", "config": {"name": "n", "layers": layers, **ends}}, arrays
    )


FUNCTIONAL = "keras.src.models.functional"


def layer(kind: str, name: str, *, of: Sequence[str] | None = None, **config: Any) -> Layer:
    """One layer, called with the layers `of` which it takes; of a Sequential model without."""
    found: Layer = {
        "module": "keras.layers",
        "class_name": kind,
        "config": {"name": name, **config},
        "registered_name": None,
    }
    if of is None:
        return found
    shape = {"shape": [None, None], "dtype": "float32"}
    tensors = [{"class_name": "__keras_tensor__", "config": {**shape, "keras_history": [one, 0, 0]}} for one in of]
    nodes = [{"args": [tensors if len(tensors) > 1 else tensors[0]], "kwargs": {}}] if tensors else []
    return {**found, "name": name, "inbound_nodes": nodes}


def packed(model: Mapping[str, Any], arrays: Mapping[str, Numbers]) -> bytes:
    """The zip: `arrays` are the variables of layers, by what the layers are called in the h5 file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, content in parts(model, arrays).items():
            file.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), content)
    return out.getvalue()


def parts(model: Mapping[str, Any], arrays: Mapping[str, Numbers]) -> dict[str, bytes]:
    """What is in the zip."""
    whole = {"registered_name": None, "compile_config": {"loss": "mse"}, **model}
    about = {"keras_version": "3.15.1", "date_saved": "2026-11-30@00:00:00"}
    return {
        "metadata.json": json.dumps(about).encode(),
        "config.json": json.dumps(whole).encode(),
        "model.weights.h5": h5(arrays),
    }


def h5(arrays: Mapping[str, Numbers]) -> bytes:
    """The variables as Keras stores them."""
    import h5py

    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        for name, found in arrays.items():
            for place, array in enumerate(found):
                file[f"layers/{name}/vars/{place}"] = array
    return out.getvalue()
