"""A special function that NumPy lacks."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FEW: Final = 1000
"""Elements below which `math`, one after the other, is faster."""

END: Final = 26.5
"""Held here: beyond, erfc is below 3e-307 and soon no normal float64."""

POLE: Final = 3.25
SHIFT: Final = 2 * (END + POLE) / END - 1
SCALE: Final = 2 * POLE * (END + POLE) / END
"""u = SHIFT - SCALE/(x + POLE) takes x in (0, END) to (-1, 1)."""

COEFFICIENTS: Final = (
    1.2621636125482751,
    -0.11389869222636136,
    -0.05895581167694767,
    0.12444605527986717,
    -0.10692215556225398,
    0.05995436158075836,
    -0.022307462630666946,
    0.004363679475012267,
    0.00040169423870865676,
    -0.00047459369831805224,
    5.504455342805578e-05,
    3.8667486132439026e-05,
    -9.764760380672818e-06,
    -3.5926564127134633e-06,
    1.2306521229792456e-06,
    4.287251318396351e-07,
    -1.3940410662924705e-07,
    -6.100385784584476e-08,
    1.3348950465139965e-08,
    8.242278141393778e-09,
    -8.021094447241969e-10,
    -6.992104181028334e-10,
)
"""Of the polynomial in u that is (1 + 2x) exp(x^2) erfc(x) to 4e-17: its interpolation at 80 Chebyshev points in 60 digits."""


def erfc(x: Array) -> Array:
    """The complementary error function at x of any shape, to 1e-15; above 1 to 1e-15 (1 + x^2) of itself.

    The form is that of M. M. Shepherd and J. G. Laframboise, Mathematics of Computation 36 (1981): without its decay and its
    pole the function is so smooth in u that one polynomial does for all x.
    """
    if x.size < FEW:
        return np.fromiter(map(math.erfc, x.ravel().tolist()), np.float64, x.size).reshape(x.shape)
    size = np.minimum(np.abs(x), END)
    u = SHIFT - SCALE / (size + POLE)
    smooth = np.full_like(u, COEFFICIENTS[-1])
    for coefficient in reversed(COEFFICIENTS[:-1]):
        smooth *= u
        smooth += coefficient
    upper = smooth * np.exp(-size * size) / (1 + 2 * size)
    found: Array = np.where(x < 0, 2 - upper, upper)
    return found
