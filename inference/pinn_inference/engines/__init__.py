"""How a network is evaluated, one file each behind one protocol: points in, value and derivatives out."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Jet = tuple[float, ...]
"""A network's value at one point, and its derivatives there, in the order that the problem says."""

Shape = tuple[int, int]
"""Coordinates of a point, and rows of its jet."""


class Engine(Protocol):
    """Evaluates one network. Not for use by two threads at once."""

    name: str

    @property
    def shape(self) -> Shape: ...

    def jet(self, *at: float) -> Jet:
        """The jet at one point."""
        ...

    def jets(self, points: Array) -> Array:
        """The same at `points` (n, d): shape (k, n)."""
        ...
