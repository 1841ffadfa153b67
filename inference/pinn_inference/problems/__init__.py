"""What a PINN solves, one file each behind one protocol. Everything specific to an equation is there and nowhere else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Jet = tuple[float, ...]


@dataclass(frozen=True)
class Input:
    """One input of a problem: its unit and the closed range the model was trained on."""

    name: str
    unit: str
    low: float
    high: float
    per: str | None = None
    default: float | None = None


@dataclass(frozen=True)
class Width:
    """The width of a cache bin: `relative` to max(|x|, scale), or absolute where scale is None."""

    relative: float
    scale: float | None


class Formulation(Protocol):
    """A problem with one model's ranges: what the predictor asks, for one point or for a batch of n (arrays of shape (n,)).

    A point is a NamedTuple whose first fields are the inputs, in their order. Outputs and bounds are NamedTuples in the order of
    `outputs`. `Question` is what a request's object decodes into.
    """

    @property
    def name(self) -> str: ...

    @property
    def inputs(self) -> tuple[Input, ...]: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...

    @property
    def invariants(self) -> tuple[str, ...]: ...

    @property
    def bins(self) -> Mapping[str, Width]: ...

    @property
    def Question(self) -> type[Any]: ...

    def point(self, question: Any) -> Any:
        """Raises InvalidInput, or OutOfDomain with the point."""
        ...

    def any_point(self, question: Any) -> Any:
        """The point of a question, be it within the trained domain or not."""
        ...

    def parse(self, item: object) -> Any:
        """The same of a JSON value that `Question` refused: finds the sentence."""
        ...

    def sample(self, count: int, rng: np.random.Generator) -> list[Any]:
        """So many points at random within the trained ranges."""
        ...

    def stack(self, points: Sequence[Any]) -> Any: ...

    def at(self, values: Sequence[Any], like: Any) -> Any: ...

    def coordinates(self, point: Any) -> tuple[Any, Any]: ...

    def answer(self, point: Any, jet: Any) -> Any: ...

    def near(self, point: Any, at: tuple[Any, Any], jet: Any) -> tuple[Any, Any]: ...

    def usable(self, point: Any, bound: Any) -> Any: ...

    def finite(self, answer: Any) -> bool: ...

    def excesses(self, point: Any, answer: Any) -> dict[str, Any]: ...

    def solvable(self, point: Any) -> None: ...

    def solve(self, point: Any) -> tuple[Any, Any]: ...
