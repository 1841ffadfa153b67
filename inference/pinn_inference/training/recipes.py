"""How each shipped version is trained. A recipe and a seed decide every weight."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Recipe:
    """Layer widths, points where the equation is imposed, and how many steps the optimizer may take."""

    description: str
    hidden: tuple[int, ...]
    points: int
    iterations: int


BURGERS: Final = {
    "1.0.0": Recipe("Three layers of 24 over 33 times of viscosity, front and all.", (24, 24, 24), 5000, 15_000),
}

AMERICAN_PUT: Final = {
    "1.0.0": Recipe(
        "Three layers of 24 for the premium, two of 16 for the exercise boundary.", (24, 24, 24), 6000, 2500
    ),
}
"""Of the premium; the boundary's is training.american_put.BOUNDARY."""

BLACK_SCHOLES: Final = {
    "1.0.0": Recipe("A first, coarse network: two layers of 8, stopped early.", (8, 8), 400, 100),
    "2.0.0": Recipe("The accurate one: three layers of 32, trained to rounding level.", (32, 32, 32), 1500, 4000),
}
