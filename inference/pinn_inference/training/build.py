"""Turns a trained network into a model folder: files, measured errors, manifest, digest."""

import platform
from typing import Any

import numpy as np

from pinn_inference.artifacts import digest as digests
from pinn_inference.artifacts.manifest import Field, Manifest
from pinn_inference.engines.float64 import Float64Engine
from pinn_inference.engines.litert import LiteRtEngine
from pinn_inference.network import Network
from pinn_inference.problems import black_scholes, error_table
from pinn_inference.training import export, measure
from pinn_inference.training.folder import sealed, tolerance, versions
from pinn_inference.training.recipes import Recipe


def folder_files(network: Network, model_version: str, recipe: Recipe, training: dict[str, Any]) -> dict[str, bytes]:
    """Every file of the model, by name. `training` is what the training run knows about itself."""
    files = {"weights.npz": export.weights_npz(network), "model.tflite": export.litert(network)}
    served, float64 = LiteRtEngine(files["model.tflite"]), Float64Engine(files["weights.npz"])
    accuracy, excesses = measure.accuracy(served, float64)
    table = measure.error_table(served, float64)
    files[error_table.FILE] = export.npz({"steps": np.array(table.steps), "values": table.values.astype(np.float64)})
    manifest = Manifest(
        schema=1,
        name=black_scholes.NAME,
        version=model_version,
        description=f"European call or put under Black-Scholes with a dividend yield. {recipe.description}",
        problem=black_scholes.NAME,
        digest="sha256:" + "0" * 64,
        precision={"network": "float32", "formulas around it": "float64"},
        accuracy=accuracy,
        tolerances={name: tolerance(value) for name, value in excesses.items()},
        inputs=(
            *(Field(i.name, i.unit, i.low, i.high, i.per, i.default) for i in black_scholes.INPUTS),
            Field("kind", "call or put", choices=tuple(black_scholes.KINDS)),
        ),
        outputs=tuple(Field(name, black_scholes.OUTPUT_UNITS[name]) for name in black_scholes.OUTPUTS),
        architecture={
            "coordinates": ["z = ln(F/K)/(sigma sqrt(T))", "s = sigma sqrt(T)"],
            "features": ["2 z^2/(6 + z^2) - 1", "s/0.43 - 1"],
            "hidden": list(recipe.hidden),
            "activation": "tanh",
            "parameters": network.parameters,
            "graph": "model.tflite: (n, 2) of (z, s) to (n, 4) of N, N_z, N_zz, N_s; float32; Taylor mode",
        },
        training={**training, "python": platform.python_version(), "libraries": versions()},
        files={name: f"sha256:{digests.file_digest(content)}" for name, content in sorted(files.items())},
    )
    return sealed(files, manifest)
