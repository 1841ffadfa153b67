"""LiteRT: the fused float32 graph on the CPU, one thread; the fastest engine there is for small batches.

A few interpreters with fixed batch sizes share one flatbuffer: resizing tensors for every call would cost more than the
evaluation, and memory could not be bounded. A batch is cut into pieces of these sizes, the last one padded. The largest size
is the one whose intermediate values still fit the core's second cache.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from pinn_inference.engines import Array, Jet, Shape
from pinn_inference.errors import ModelError

SIZES: Final = (16, 32, 128, 512)

Rows = NDArray[np.float32]


class LiteRtEngine:
    """Evaluates a model.tflite: points (n, d) in, jets (n, k) out, both float32. Raises ModelError where it is something else."""

    name = "litert"
    shape: Shape

    def __init__(self, model: bytes) -> None:
        try:
            with _quiet():
                self._one = _Graph(model, 1)
                self.shape = self._one.shape
                self._graphs = {size: _Graph(model, size) for size in SIZES}
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"LiteRT cannot load the model: {str(error).splitlines()[0]}") from None

    def jet(self, *at: float) -> Jet:
        """The jet at one point."""
        graph = self._one
        graph.input()[0] = at
        graph.invoke()
        jet: Jet = tuple(graph.output()[0].tolist())
        return jet

    def jets(self, points: Array) -> Array:
        """The same at `points` (n, d): shape (k, n)."""
        rows = self.rows(len(points))
        self.fill(rows, points)
        return columns(rows)

    def rows(self, count: int) -> Rows:
        """Room for as many jets, (n, k)."""
        return np.empty((count, self.shape[1]), np.float32)

    def fill(self, rows: Rows, points: Array) -> None:
        """Writes the jets at `points` (n, d) into `rows` (n, k)."""
        inputs = points.astype(np.float32)
        for start, count, size in pieces(len(points)):
            graph = self._graphs[size]
            graph.input()[:count] = inputs[start : start + count]
            graph.invoke()
            rows[start : start + count] = graph.output()[:count]


def columns(rows: Rows) -> Array:
    """Jets (n, k) as they are asked for: (k, n)."""
    return rows.T.astype(np.float64, order="C")


def pieces(count: int) -> Iterator[tuple[int, int, int]]:
    """How a batch is cut: (start, points, size of the graph they are padded to). At most two fifths of a graph is padding."""
    start = 0
    while start < count:
        left = count - start
        size = next((size for size in reversed(SIZES) if 5 * left >= 3 * size), SIZES[0])
        yield start, min(left, size), size
        start += min(left, size)


class _Graph:
    """One interpreter with its tensors allocated for a fixed batch. Views must not outlive a call: see Interpreter.tensor."""

    def __init__(self, model: bytes, batch: int) -> None:
        interpreter: Any = Interpreter(model_content=model, num_threads=1)
        source = _only("input", interpreter.get_input_details())
        interpreter.resize_tensor_input(source["index"], [batch, int(source["shape"][1])])
        interpreter.allocate_tensors()
        answer = _only("output", interpreter.get_output_details())
        self.shape = int(source["shape"][1]), int(answer["shape"][1])
        self.invoke = interpreter.invoke
        self.input = interpreter.tensor(source["index"])
        self.output = interpreter.tensor(answer["index"])
        self.input()[:] = 0.5
        self.invoke()
        if self.output().shape != (batch, self.shape[1]):
            raise ValueError(f"{batch} points in give an output of shape {self.output().shape}")


def _only(what: str, tensors: list[dict[str, Any]]) -> dict[str, Any]:
    """The one tensor there may be: float32, (n, something)."""
    said = ", ".join(f"{tensor['dtype'].__name__} {tuple(tensor['shape'].tolist())}" for tensor in tensors)
    if len(tensors) != 1 or tensors[0]["dtype"] is not np.float32 or len(tensors[0]["shape"]) != 2:
        raise ValueError(
            f"its {what} is {said or 'nothing'}; it must be one tensor of float32, (points, numbers of each)"
        )
    return tensors[0]


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
