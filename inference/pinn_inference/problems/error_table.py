"""How wrong a network is, cell by cell over its coordinates: measured once when it is trained, looked up with every answer.

A single largest error would be true and useless: float32 rounding alone differs by a factor of a hundred between cells. What the
numbers of a cell mean is the problem's business.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pinn_inference.formats import npz

Array = NDArray[np.float64]
Cell = tuple[float, ...]

FILE: Final = "errors.npz"
MOST: Final = 16 * 1024 * 1024
"""Bytes of a table: the largest that is shipped has 0.1 MiB. Its numbers become Python's, up to twelve times as large."""


@dataclass(frozen=True)
class ErrorTable:
    """Cells of size `steps` (d,) from the origin on, each coordinate counted by its size; beyond the last cell its numbers hold.

    `values`: (k, n1, ..., nd), k numbers for each cell.
    """

    steps: tuple[float, ...]
    values: Array
    _cells: list[Cell] = field(init=False, repr=False, compare=False)
    _axes: tuple[tuple[float, int, int], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        counts = self.values.shape[1:]
        strides = [int(np.prod(counts[i + 1 :])) for i in range(len(counts))]
        axes = zip(self.steps, (count - 1 for count in counts), strides, strict=True)
        flat = self.values.reshape(len(self.values), -1)
        object.__setattr__(self, "_cells", [tuple(cell.tolist()) for cell in flat.T])
        object.__setattr__(self, "_axes", tuple(axes))

    def expect(self, rows: int, coordinates: int) -> None:
        """Raises ValueError where a cell has another number of rows, or the table is of other coordinates."""
        if len(self.values) != rows:
            raise ValueError(f"the error table has {len(self.values)} rows, not {rows}")
        if len(self.steps) != coordinates:
            raise ValueError(f"the error table has cells of {len(self.steps)} coordinates, not {coordinates}")

    def at(self, *at: float) -> Cell:
        """The numbers of the cell of one point."""
        place = 0
        for c, (step, last, stride) in zip(at, self._axes, strict=True):
            i = int(abs(c) / step)
            place += (i if i < last else last) * stride
        return self._cells[place]

    def at_all(self, *at: Array) -> Array:
        """The same for n points, each coordinate (n,): shape (k, n)."""
        axes = zip(at, self._axes, strict=True)
        cells = [np.minimum((np.abs(c) / step).astype(np.intp), last) for c, (step, last, _) in axes]
        where: Any = (slice(None), *cells)
        found: Array = self.values[where]
        return found


def parse(content: bytes) -> ErrorTable:
    """Of the bytes of errors.npz. Raises ValueError when they are none."""
    found = npz.arrays(FILE, content, MOST)
    if set(found) != {"steps", "values"}:
        raise ValueError(f"{FILE} has {', '.join(sorted(found)) or 'nothing'}, not steps and values")
    steps, values = (np.asarray(found[name], np.float64) for name in ("steps", "values"))
    if values.nbytes > MOST:
        raise ValueError(f"{FILE} holds more than {MOST // values.itemsize} numbers")
    if values.ndim < 2 or not values.size or not (np.isfinite(values).all() and (values >= 0).all()):
        raise ValueError(f"{FILE} holds no table of finite, non-negative numbers")
    if steps.shape != (values.ndim - 1,) or not (np.isfinite(steps).all() and (steps > 0).all()):
        raise ValueError(f"{FILE} holds no size of a cell: steps are {values.ndim - 1} positive numbers")
    return ErrorTable(tuple(steps.tolist()), values)
