"""A model whose mathematics alone is wrong: version 2.0.0 with one weight of its last layer 5 % off, in a ConfigMap.

Every file is whole and every digest is right, so nothing but the equation, or a price that is known, can tell that it is wrong.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pinn_inference.artifacts.digest import MANIFEST, digest, stated
from pinn_inference.training.export import npz

ROOT = Path(__file__).resolve().parent.parent
WHOLE = ROOT / "models/black-scholes/2.0.0"
WEIGHT = 13
"""The heaviest of the 32 in the last layer."""
OFF = 1.05

Files = dict[str, bytes]


def broken(weight: int = WEIGHT, off: float = OFF) -> Files:
    """The files of the model, by name."""
    files = {path.name: path.read_bytes() for path in WHOLE.iterdir()}
    layers = _layers(files["weights.npz"])
    last = max(name for name in layers if name.startswith("w"))
    wrong = layers[last].copy()
    wrong[weight] *= off
    graph = _replaced(files["model.tflite"], _as_float32(layers[last]), _as_float32(wrong))
    return with_digest(files | {"weights.npz": npz(layers | {last: wrong}), "model.tflite": graph})


def measured_anew(files: Files) -> Files:
    """The same with an error table that fits what the wrong network answers: it promises no more than it keeps."""
    from pinn_inference.engines.float64 import Float64Engine
    from pinn_inference.engines.litert import LiteRtEngine
    from pinn_inference.training.measure import error_table

    table = error_table(LiteRtEngine(files["model.tflite"]), Float64Engine(files["weights.npz"]))
    return with_digest(files | {"errors.npz": npz({"steps": np.array(table.steps), "values": table.values})})


def untried() -> dict[str, Any]:
    """What `spec.template` has to say for servers that start without trying their model, as somebody else's may."""
    skipped = "import asyncio; from pinn_inference import cli, trial; trial.passed = lambda *_: None"
    skipped += "; trial.passed_far = lambda *_: asyncio.sleep(0); cli.main(['serve'])"
    return {"spec": {"containers": [{"name": "server", "command": ["/venv/bin/python", "-c", skipped]}]}}


def with_digest(files: Files) -> Files:
    """The same, with the digest in the manifest made right."""
    return files | {MANIFEST: stated(files[MANIFEST], digest(files))}


def config_map(name: str, files: Files) -> dict[str, Any]:
    """What `kubectl create configmap NAME --from-file=FOLDER` makes of them."""
    data = {file: base64.b64encode(content).decode() for file, content in files.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "binaryData": data}


def model(version: str, name: str, files: Files) -> dict[str, str]:
    """What `spec.model` has to say of it."""
    stated_digest = str(json.loads(files[MANIFEST])["digest"])
    return {"name": "black-scholes", "version": version, "uri": f"configmap://{name}", "digest": stated_digest}


def _layers(weights: bytes) -> dict[str, NDArray[np.float64]]:
    with np.load(io.BytesIO(weights), allow_pickle=False) as arrays:
        return dict(arrays)


def _as_float32(values: NDArray[np.float64]) -> bytes:
    return values.astype("<f4").tobytes()


def _replaced(content: bytes, right: bytes, wrong: bytes) -> bytes:
    """The layer lies in the graph in one piece, and once."""
    if content.count(right) != 1:
        raise ValueError(f"the last layer is there {content.count(right)} times")
    return content.replace(right, wrong)
