"""LiteRT: the fused float32 graph on the CPU, one thread; the fastest engine there is for small batches.

Two interpreters with fixed batch sizes share one flatbuffer: resizing tensors for every call would cost more than the
evaluation, and memory could not be bounded. A batch is cut into chunks, the last one padded.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from pinn_inference.engines import Array, Jet
from pinn_inference.errors import ModelError

CHUNK: Final = 256
SMALL: Final = 16


class LiteRtEngine:
    """Evaluates a model.tflite whose input is (n, 2) and whose output is (n, 4), both float32."""

    name = "litert"

    def __init__(self, model: bytes) -> None:
        try:
            with _quiet():
                self._one = _Graph(model, 1)
                self._few = _Graph(model, SMALL)
                self._many = _Graph(model, CHUNK)
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"LiteRT cannot load the model: {str(error).splitlines()[0]}") from None

    def jet(self, z: float, s: float) -> Jet:
        """(N, N_z, N_zz, N_s) at one point."""
        graph = self._one
        view = graph.input()
        view[0, 0] = z
        view[0, 1] = s
        del view
        graph.invoke()
        jet: Jet = tuple(graph.output()[0].tolist())
        return jet

    def jets(self, points: Array) -> Array:
        """The same at `points` (n, 2): shape (4, n)."""
        graph, size = (self._few, SMALL) if len(points) <= SMALL else (self._many, CHUNK)
        out = np.empty((4, len(points)))
        for start in range(0, len(points), size):
            chunk = points[start : start + size]
            graph.input()[: len(chunk)] = chunk
            graph.invoke()
            out[:, start : start + size] = graph.output()[: len(chunk)].T
        return out


class _Graph:
    """One interpreter with its tensors allocated for a fixed batch. Views must not outlive a call: see Interpreter.tensor."""

    def __init__(self, model: bytes, batch: int) -> None:
        interpreter: Any = Interpreter(model_content=model, num_threads=1)
        source = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(source, [batch, 2])
        interpreter.allocate_tensors()
        self.invoke = interpreter.invoke
        self.input = interpreter.tensor(source)
        self.output = interpreter.tensor(interpreter.get_output_details()[0]["index"])
        self.input()[:] = 0.5
        self.invoke()


@contextmanager
def _quiet() -> Iterator[None]:
    """LiteRT announces its delegate on the stderr of the process, past any logging: not a line of our log."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
