"""How wrong a network is, cell by cell over its two coordinates: measured once when it is trained, looked up with every answer.

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
    """Cells of size `z_step` by `s_step` from (0, 0); beyond the last one its numbers hold. `values`: (k, nz, ns)."""

    z_step: float
    s_step: float
    values: Array
    _cells: list[list[Cell]] = field(init=False, repr=False, compare=False)
    _last: tuple[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rows = [[tuple(self.values[:, i, j].tolist()) for j in range(self._ns)] for i in range(self._nz)]
        object.__setattr__(self, "_cells", rows)
        object.__setattr__(self, "_last", (self._nz - 1, self._ns - 1))

    @property
    def _nz(self) -> int:
        return int(self.values.shape[1])

    @property
    def _ns(self) -> int:
        return int(self.values.shape[2])

    def at(self, z: float, s: float) -> Cell:
        """The numbers of the cell of one point; `z` counts by its size."""
        i, j = int(abs(z) / self.z_step), int(s / self.s_step)
        last_i, last_j = self._last
        return self._cells[i if i < last_i else last_i][j if j < last_j else last_j]

    def at_all(self, z: Array, s: Array) -> Array:
        """The same for n points: shape (k, n)."""
        i = np.minimum((np.abs(z) / self.z_step).astype(np.intp), self._nz - 1)
        j = np.minimum((s / self.s_step).astype(np.intp), self._ns - 1)
        found: Array = self.values[:, i, j]
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
    if values.ndim != 3 or not values.size or not (np.isfinite(values).all() and (values >= 0).all()):
        raise ValueError(f"{FILE} holds no table of finite, non-negative numbers")
    if steps.shape != (2,) or not (np.isfinite(steps).all() and (steps > 0).all()):
        raise ValueError(f"{FILE} holds no size of a cell: steps are two positive numbers")
    return ErrorTable(float(steps[0]), float(steps[1]), values)


def _arrays(content: bytes) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise ValueError("it is one array, not steps and values")
        return dict(arrays)
