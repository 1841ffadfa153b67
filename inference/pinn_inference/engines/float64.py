"""NumPy, float64: the yardstick the float32 engines are measured against. Needs nothing but NumPy, and is slower."""

from typing import Final

import numpy as np

from pinn_inference import formats, network
from pinn_inference.engines import Array, Jet
from pinn_inference.formats import npz

FILE: Final = "weights.npz"
MOST_FEATURES: Final = 1000
"""A network has as many as its first layer has inputs; each becomes an object of Python."""


class Float64Engine:
    """Evaluates the weights of a model's weights.npz. Raises ValueError where they are no network of network.py."""

    name = "numpy-float64"

    def __init__(self, weights: bytes) -> None:
        self.network = _network(npz.arrays(FILE, weights, formats.MOST))

    @property
    def shape(self) -> tuple[int, int]:
        """Coordinates of a point, and rows of its jet."""
        return self.network.shape

    def jet(self, *at: float) -> Jet:
        """(N, N_z, N_zz, N_s, ...) at one point."""
        return tuple(self.jets(np.array([at]))[:, 0].tolist())

    def jets(self, points: Array) -> Array:
        """The same at `points` (n, d): shape (k, n)."""
        return network.jet(self.network, points)


def _network(arrays: dict[str, Array]) -> network.Network:
    """Layer by layer w0, b0, w1, ...; `features` where they are not the first ones."""
    said = arrays.pop("features", None)
    if said is not None and said.size > 4 * MOST_FEATURES:
        raise ValueError(f"{FILE} has more than {MOST_FEATURES} features")
    features = network.FIRST_FEATURES if said is None else tuple(_feature(row) for row in said.tolist())
    layers = range(len(arrays) // 2)
    if not arrays or arrays.keys() != {f"{part}{i}" for part in "wb" for i in layers}:
        raise ValueError(f"{FILE} has {', '.join(arrays) or 'nothing'}, not w0, b0, w1, b1, ...")
    return network.Network(tuple(arrays[f"w{i}"] for i in layers), tuple(arrays[f"b{i}"] for i in layers), features)


def _feature(row: list[float]) -> network.Feature:
    kind, coordinate, scale, offset = row
    return network.Feature(network.KINDS[int(kind)], int(coordinate), scale, offset)
