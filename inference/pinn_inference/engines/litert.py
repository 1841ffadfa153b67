"""LiteRT: the fused float32 graph on the CPU, one thread; the fastest engine there is for small batches.

Two interpreters with fixed batch sizes share one flatbuffer: resizing tensors for every call would cost more than the
evaluation, and memory could not be bounded. A batch is cut into chunks, the last one padded.
"""

from typing import Any, Final

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from pinn_inference.engines import Array, Jet
from pinn_inference.errors import ModelError

CHUNK: Final = 256


class LiteRtEngine:
    """Evaluates a model.tflite whose input is (n, 2) and whose output is (n, 4), both float32."""

    name = "litert"

    def __init__(self, model: bytes) -> None:
        try:
            self._one = _Graph(model, 1)
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
        out = np.empty((4, len(points)))
        for start in range(0, len(points), CHUNK):
            chunk = points[start : start + CHUNK]
            self._many.input()[: len(chunk)] = chunk
            self._many.invoke()
            out[:, start : start + CHUNK] = self._many.output()[: len(chunk)].T
        return out


class _Graph:
    """One interpreter with its tensors allocated for a fixed batch. Views must not outlive a call: see Interpreter.tensor."""

    def __init__(self, model: bytes, batch: int) -> None:
        # Without the default delegate: XNNPACK gains nothing on a network this small, and announces itself on stderr.
        interpreter: Any = Interpreter(
            model_content=model,
            num_threads=1,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        source = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(source, [batch, 2])
        interpreter.allocate_tensors()
        self.invoke = interpreter.invoke
        self.input = interpreter.tensor(source)
        self.output = interpreter.tensor(interpreter.get_output_details()[0]["index"])
        self.input()[:] = 0.5
        self.invoke()
