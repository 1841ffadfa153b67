"""TensorFlow/XLA: the fused float32 graph compiled for one device, for batches large enough to pay for the way there.

Only a worker process makes one: TensorFlow takes seconds and half a gigabyte to import, and a CUDA error can end a process.
Batch sizes are few and fixed, all compiled before the first question, so that nothing is traced or compiled under a request.
"""

import os
from collections.abc import Iterator
from typing import Any, Final, Literal

import numpy as np

from pinn_inference.engines import Array, taylor
from pinn_inference.engines.float64 import Float64Engine

Device = Literal["cpu", "gpu"]
SIZES: Final[dict[Device, tuple[int, ...]]] = {"cpu": (256, 1024, 4096), "gpu": (256, 1024, 4096, 16384)}
"""A CPU pays for every padded row, so a batch is cut; a GPU pays for every launch, so it is padded to the next size."""


class XlaEngine:
    """Evaluates the weights of a weights.npz on one device. Raises OSError when there is no such device."""

    def __init__(self, weights: bytes, device: Device) -> None:
        network = Float64Engine(weights).network
        self.shape = network.shape
        self._tf = _tensorflow(device)
        self._where = f"/{device.upper()}:0"
        self.description = _description(self._tf, device)
        self._device: Device = device
        self._graphs = {size: self._compiled(network, size) for size in SIZES[device]}

    def jets(self, points: Array) -> Array:
        """Jets (k, n) at `points` (n, d)."""
        out = np.empty((self.shape[1], len(points)))
        for start, count, size in pieces(len(points), self._device):
            out[:, start : start + count] = self._evaluate(points[start : start + count], size)[:count].T
        return out

    def _evaluate(self, points: Array, size: int) -> Any:
        padded = np.full((size, self.shape[0]), 0.5, np.float32)
        padded[: len(points)] = points
        with self._tf.device(self._where):
            return self._graphs[size](self._tf.constant(padded)).numpy()

    def _compiled(self, network: Any, size: int) -> Any:
        tf = self._tf
        with tf.device(self._where):
            graph = tf.function(lambda points: taylor.jets(tf, network, points), jit_compile=True)
            concrete = graph.get_concrete_function(tf.TensorSpec([size, self.shape[0]], tf.float32))
            concrete(tf.constant(np.full((size, self.shape[0]), 0.5, np.float32))).numpy()
        return concrete


def pieces(count: int, device: Device) -> Iterator[tuple[int, int, int]]:
    """How a batch is cut: (start, points, compiled size they are padded to)."""
    sizes, start = SIZES[device], 0
    while start < count:
        left = count - start
        fitting = next((size for size in sizes if size >= left), sizes[-1])
        smaller = max((size for size in sizes if size <= left), default=fitting)
        size = smaller if device == "cpu" and 2 * left < fitting else fitting
        yield start, min(left, size), size
        start += min(left, size)


def is_out_of_memory(error: Exception) -> bool:
    """XLA reports it under several classes; the words are always there."""
    text = f"{type(error).__name__} {error}".lower()
    return any(sign in text for sign in ("resourceexhausted", "resource_exhausted", "out of memory", "out_of_memory"))


def _tensorflow(device: Device) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1" if device == "gpu" else "2")  # a missing library is a warning
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # else it takes the whole device
    import tensorflow as tf

    if device == "gpu":
        _fail_at_once(tf)
        tf.config.set_soft_device_placement(False)  # else the CPU would do in silence what the GPU does not
    tf.config.experimental.enable_tensor_float_32_execution(False)  # TF32 keeps 10 bits of 23: errors of 1e-3
    tf.config.threading.set_inter_op_parallelism_threads(1)
    # A physical one may be of no use to TensorFlow. From here on nothing can be set any more.
    if device == "gpu" and not tf.config.list_logical_devices("GPU"):
        raise OSError("TensorFlow sees no GPU: is it built with CUDA, and does the driver show the device?")
    return tf


def _fail_at_once(tf: Any) -> None:
    """Has an allocation that finds no memory on the GPU fail, rather than wait ten seconds for somebody to free some.

    One graph runs at a time and its sizes are fixed, so nobody here will. Waiting would make a timeout of every `gpu_oom`, and
    the process would be replaced for it. There is no variable for this; `TF_GPU_ALLOCATOR=cuda_malloc_async` does not wait
    either, but ends the process on devices without memory pools. TensorFlow takes such options only as eager mode begins.
    """
    config = tf.compat.v1.ConfigProto()
    config.gpu_options.experimental.disallow_retry_on_allocation_failure = True
    tf.compat.v1.disable_eager_execution()
    tf.compat.v1.enable_eager_execution(config=config)


def _description(tf: Any, device: Device) -> str:
    if device == "cpu":
        return f"CPU, TensorFlow {tf.__version__}"
    details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
    return f"{details.get('device_name', 'GPU')}, TensorFlow {tf.__version__}"
