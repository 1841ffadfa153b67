"""How a network is evaluated, one file each behind one protocol: points in, value and derivatives out."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Jet = tuple[float, float, float, float]


class Engine(Protocol):
    """Evaluates one network. Not for use by two threads at once."""

    name: str

    def jet(self, z: float, s: float) -> Jet:
        """(N, N_z, N_zz, N_s) at one point."""
        ...

    def jets(self, points: Array) -> Array:
        """The same at `points` (n, 2): shape (4, n)."""
        ...
