"""NumPy, float64: the yardstick the float32 engines are measured against. Needs nothing but NumPy, and is slower."""

import io

import numpy as np

from pinn_inference import network
from pinn_inference.engines import Array, Jet


class Float64Engine:
    """Evaluates the weights of a model's weights.npz."""

    name = "numpy-float64"

    def __init__(self, weights: bytes) -> None:
        with np.load(io.BytesIO(weights), allow_pickle=False) as arrays:
            layers = range(len(arrays.files) // 2)
            self.network = network.Network(
                tuple(arrays[f"w{i}"] for i in layers), tuple(arrays[f"b{i}"] for i in layers)
            )

    def jet(self, z: float, s: float) -> Jet:
        """(N, N_z, N_zz, N_s) at one point."""
        jet: Jet = tuple(self.jets(np.array([[z, s]]))[:, 0].tolist())
        return jet

    def jets(self, points: Array) -> Array:
        """The same at `points` (n, 2): shape (4, n)."""
        return network.jet(self.network, points)
