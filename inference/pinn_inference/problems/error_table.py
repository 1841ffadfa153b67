"""How wrong a network is, cell by cell over its coordinates: measured once when it is trained, looked up with every answer.

A single largest error would be true and useless: float32 rounding alone differs by a factor of a hundred between cells. What the
numbers of a cell mean is the problem's business.
"""

import io
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Cell = tuple[float, ...]

FILE: Final = "errors.npz"


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
        object.__setattr__(self, "_cells", [tuple(cell) for cell in flat.T.tolist()])
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
    try:
        found = _arrays(content)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{FILE} is no file of arrays: {error}") from None
    if set(found) != {"steps", "values"}:
        raise ValueError(f"{FILE} has {', '.join(sorted(found)) or 'nothing'}, not steps and values")
    steps, values = (np.asarray(found[name], np.float64) for name in ("steps", "values"))
    if values.ndim < 2 or not values.size or not (np.isfinite(values).all() and (values >= 0).all()):
        raise ValueError(f"{FILE} holds no table of finite, non-negative numbers")
    if steps.shape != (values.ndim - 1,) or not (np.isfinite(steps).all() and (steps > 0).all()):
        raise ValueError(f"{FILE} holds no size of a cell: steps are {values.ndim - 1} positive numbers")
    return ErrorTable(tuple(steps.tolist()), values)


def _arrays(content: bytes) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise ValueError("it is one array, not steps and values")
        return dict(arrays)
