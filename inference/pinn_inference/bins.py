"""Which bin an input falls into, and where its centre is: integers out, so that equal bins are equal keys on every machine.

A relative width w counts from the input's scale c: up to c the bins are w c wide, beyond it they grow with x. So a rate of 0
has a bin, and 1 % of volatility means 1 % of it whatever it is.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pinn_inference.errors import SettingsError
from pinn_inference.problems import Input, Width

Array = NDArray[np.float64]
LARGEST: Final = 2**31 - 1
"""Bins from the middle to either end of a range: four bytes of a key."""


ENDLESS: Final = 1e300
"""The scale of an absolute width: no input is beyond it."""


class _Axis(NamedTuple):
    step: float
    """Width of a bin below the scale."""
    scale: float
    """Up to where bins are equally wide."""
    growth: float
    """ln(1 + w): beyond the scale, bins are equally wide in ln x."""
    whole: int
    """Bins from 0 to the scale."""


class Bins:
    """The bins of a problem's inputs, in their order."""

    def __init__(self, widths: Sequence[Width]) -> None:
        self._axes = tuple(_axis(width) for width in widths)
        self._columns = tuple(np.array(column, dtype=np.float64) for column in zip(*self._axes, strict=True))
        self.pack = struct.Struct(f"{len(self._axes)}i").pack
        self.unpack = struct.Struct(f"{len(self._axes)}i").unpack

    def index(self, values: Sequence[float]) -> list[int]:
        """The bin of each input."""
        found, floor, log = [], math.floor, math.log
        for x, (step, scale, growth, whole) in zip(values, self._axes, strict=False):
            if x > scale:
                found.append(whole + floor(log(x / scale) / growth + 0.5))
            elif x >= -scale:
                found.append(floor(x / step + 0.5))
            else:
                found.append(-whole - floor(log(-x / scale) / growth + 0.5))
        return found

    def centre(self, index: Sequence[int]) -> list[float]:
        """The centre of each bin."""
        found, exp = [], math.exp
        for i, (step, scale, growth, whole) in zip(index, self._axes, strict=False):
            if i > whole:
                found.append(scale * exp((i - whole) * growth))
            elif i >= -whole:
                found.append(i * step)
            else:
                found.append(-scale * exp((-i - whole) * growth))
        return found

    def indices(self, values: Array) -> NDArray[np.int32]:
        """The bins of n points: (n, inputs) of both."""
        step, scale, growth, whole = self._columns
        beyond = np.abs(values) > scale
        found = np.floor(values / step + 0.5)
        if beyond.any():
            far = whole + np.floor(np.log(np.maximum(np.abs(values) / scale, 1.0)) / growth + 0.5)
            found = np.where(beyond, np.copysign(far, values), found)
        return found.astype(np.int32)

    def centres(self, indices: NDArray[np.int32]) -> Array:
        """The centres of n bins: (n, inputs) of both."""
        step, scale, growth, whole = self._columns
        beyond = np.abs(indices) > whole
        found: Array = indices * step
        if beyond.any():
            far = scale * np.exp(np.where(beyond, np.abs(indices) - whole, 0.0) * growth)
            found = np.where(beyond, np.copysign(far, indices), found)
        return found


def chosen(inputs: Sequence[Input], own: Mapping[str, Width], wished: Mapping[str, tuple[float, bool]]) -> list[Width]:
    """The width of every input: as `wished` (a number, and whether it is relative), else the problem's own.

    Raises SettingsError for an input the problem does not have, or a width that makes no usable bins.
    """
    names = [field.name for field in inputs]
    if unknown := sorted(set(wished) - set(names)):
        raise SettingsError(
            f"PINN_SERVER_CACHE_BIN_WIDTHS names {unknown[0]!r}, which is no input of the model; it has {', '.join(names)}"
        )
    highs = {field.name: max(abs(field.low), abs(field.high)) for field in inputs}
    largest = {field.name: highs[field.name] * (highs[field.per] if field.per else 1.0) for field in inputs}
    return [_width(f, own[f.name], wished.get(f.name), largest[f.name]) for f in inputs]


def _width(field: Input, own: Width, wished: tuple[float, bool] | None, largest: float) -> Width:
    if wished is None:
        return own
    number, relative = wished
    if not number > 0 or not math.isfinite(number) or (relative and number >= 1):
        raise SettingsError(
            f"PINN_SERVER_CACHE_BIN_WIDTHS: the width of {field.name} must be above 0, and below 100% where it is relative"
        )
    width = Width(number, (own.scale or largest) if relative else None)
    if _count(_axis(width), largest) > LARGEST:
        raise SettingsError(f"PINN_SERVER_CACHE_BIN_WIDTHS: the width of {field.name} is too small to tell bins apart")
    return width


def _count(axis: _Axis, x: float) -> float:
    """Bins from 0 to x."""
    return x / axis.step if x <= axis.scale else axis.whole + math.log(x / axis.scale) / axis.growth


def _axis(width: Width) -> _Axis:
    if width.scale is None:
        return _Axis(width.relative, ENDLESS, 1.0, LARGEST)
    whole = round(1 / width.relative)
    return _Axis(width.scale / whole, width.scale, math.log1p(width.relative), whole)
