"""The engines alone on one core, one thread: microseconds a call, and how close a large batch comes to the core's own limit.

The limit is the time of the network's float32 matrix products alone, four rows a point (value, z, zz, s): for each layer the
fastest of OpenBLAS (either layout, several shapes) and XNNPACK. No engine reaches it: tanh and its derivatives come on top.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

MODEL = Path(__file__).parents[1] / "models/black-scholes/2.0.0"
ALONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
SIZES = (1, 100, 10_000)
POINTS = 10_000
ROWS = 4 * POINTS
SHAPES = (1000, 4000, 10_000)
SECONDS = 1.0


def measure() -> dict[str, Any]:
    """In a process of its own, so that the number of threads can be set before anything is loaded."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.engine_figures"], env=os.environ | ALONE, stdout=subprocess.PIPE, check=True
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def figures() -> dict[str, Any]:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    engines = _engines()
    asked = {size: points(size) for size in SIZES}
    microseconds = {
        f"{name}_{size}_us": best(partial(engine.jets, asked[size]))
        for name, engine in engines.items()
        for size in SIZES
    }
    microseconds["litert_single_us"] = best(lambda: engines["litert"].jet(0.3, 0.2))
    layers = [fastest_product(*shape) for shape in layer_shapes()]
    limit, blas = sum(min(found.values()) for found in layers), sum(found["openblas"] for found in layers)
    return {
        **{name: round(value, 1) for name, value in microseconds.items()},
        "matrix_products_us": round(limit),
        "matrix_products_openblas_us": round(blas),
        **{f"{name}_share_of_limit": f"{100 * limit / microseconds[f'{name}_{POINTS}_us']:.0f} %" for name in engines},
        "litert_share_of_openblas": f"{100 * blas / microseconds[f'litert_{POINTS}_us']:.0f} %",
        "fastest_by_layer": [min(found, key=lambda name: found[name]) for found in layers],
    }


def _engines() -> dict[str, Any]:
    from pinn_inference.engines.litert import LiteRtEngine
    from pinn_inference.engines.xla import XlaEngine

    return {
        "litert": LiteRtEngine((MODEL / "model.tflite").read_bytes()),
        "xla": XlaEngine((MODEL / "weights.npz").read_bytes(), "cpu"),
    }


def layer_shapes() -> list[tuple[int, int]]:
    """Inputs and outputs of each layer."""
    with np.load(MODEL / "weights.npz", allow_pickle=False) as arrays:
        return [arrays[name].shape for name in sorted(arrays.files) if name.startswith("w")]


def points(count: int) -> Any:
    return np.random.default_rng(count).random((count, 2)) * np.array([3.0, 0.8]) + np.array([0.0, 0.05])


def fastest_product(fan_in: int, fan_out: int) -> dict[str, float]:
    """Microseconds for one layer's product of all rows, by library, each at its best shape."""
    blas = [ROWS / rows * t for rows in SHAPES for t in _openblas(rows, fan_in, fan_out)]
    xnnpack = [ROWS / rows * best(_xnnpack(rows, fan_in, fan_out)) for rows in SHAPES]
    return {"openblas": min(blas), "xnnpack": min(xnnpack)}


def _openblas(rows: int, fan_in: int, fan_out: int) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    x, w = (rng.random(shape, dtype=np.float32) for shape in ((rows, fan_in), (fan_in, fan_out)))
    x_t, w_t = np.ascontiguousarray(x.T), np.ascontiguousarray(w.T)
    out, out_t = np.empty((rows, fan_out), np.float32), np.empty((fan_out, rows), np.float32)
    return best(lambda: np.matmul(x, w, out=out)), best(lambda: np.matmul(w_t, x_t, out=out_t))


def _xnnpack(rows: int, fan_in: int, fan_out: int) -> Callable[[], object]:
    """The one product as a LiteRT graph."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    weights = tf.constant(np.random.default_rng(0).random((fan_in, fan_out)), tf.float32)
    module = tf.Module()
    module.product = tf.function(lambda x: tf.matmul(x, weights))
    concrete = module.product.get_concrete_function(tf.TensorSpec([rows, fan_in], tf.float32))
    model = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module).convert()
    interpreter = Interpreter(model_content=bytes(model), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.tensor(interpreter.get_input_details()[0]["index"])()[:] = 0.5
    return lambda: interpreter.invoke()


def best(call: Callable[[], object]) -> float:
    """Microseconds, the best of a second's tries: what the core can do when nothing disturbs it."""
    call()
    found, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        began = time.perf_counter()
        call()
        found = min(found, time.perf_counter() - began)
    return 1e6 * found


if __name__ == "__main__":
    print(json.dumps(figures()))
