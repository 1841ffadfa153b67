"""What a PINN solves, one file each behind one protocol. Everything specific to an equation is there and nowhere else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pinn_inference.problems.error_table import ErrorTable

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Input:
    """One input of a problem: its unit and the closed range the model was trained on, in multiples of the input `per`, if any."""

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

    A point is a NamedTuple whose first fields are the inputs, in their order. Outputs and bounds are tuples in the order of
    `outputs`. A network is asked at `coordinates`, and answers a jet: its value and derivatives, of which the problem makes
    outputs. For plain numbers as inputs `ranged.Ranged` has most of this.
    """

    @property
    def name(self) -> str:
        """As manifests and entry points have it."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """How many coordinates the network has, and how many rows its jet."""
        ...

    @property
    def inputs(self) -> tuple[Input, ...]:
        """With the ranges of the model."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]: ...

    @property
    def invariants(self) -> tuple[str, ...]:
        """The names `excesses` has; a model's manifest has a tolerance for each."""
        ...

    @property
    def bins(self) -> Mapping[str, Width]:
        """The width of a cache bin, by input."""
        ...

    @property
    def moves(self) -> Mapping[str, float]:
        """By how much of itself an input moves between two calls that mean the same: what a benchmark tries the hit rate with."""
        ...

    @property
    def solver_ranges(self) -> tuple[Input, ...]:
        """In which ranges the reference solver answers."""
        ...

    @property
    def solver_is_slow(self) -> bool:
        """Whether a solution takes so long (milliseconds) that it belongs in a thread."""
        ...

    @property
    def Question(self) -> type[Any]:
        """The msgspec.Struct into which a request's object decodes: the inputs, `outputs` and `exact`."""
        ...

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

    def stack(self, points: Sequence[Any]) -> Any:
        """A batch of points: each field an array of shape (n,)."""
        ...

    def at(self, values: Sequence[Any], like: Any) -> Any:
        """The point with these inputs, each held within the trained ranges; what is no input is as in `like`."""
        ...

    def coordinates(self, point: Any) -> tuple[Any, ...]:
        """Where the network is asked for a point."""
        ...

    def answer(self, point: Any, jet: Any) -> Any:
        """The outputs from the jet at the point itself."""
        ...

    def near(self, point: Any, at: tuple[Any, ...], jet: Any) -> tuple[Any, Any]:
        """The outputs from a jet taken at the coordinates `at`, near the point's, and how far they can be from the truth.

        Bounds are None where nothing is known of them, and infinite where `at` is too far to say.
        """
        ...

    def usable(self, point: Any, bound: Any) -> Any:
        """Whether an answer with these bounds may be served from a bin."""
        ...

    def finite(self, answer: Any) -> bool:
        """Whether every number of an answer is one."""
        ...

    def excesses(self, point: Any, answer: Any) -> dict[str, Any]:
        """How far an answer is from each invariant, dimensionless; a violation is an excess above the manifest's tolerance."""
        ...

    def solvable(self, point: Any) -> None:
        """Raises InvalidInput where the reference solver cannot answer either."""
        ...

    def solve(self, point: Any) -> tuple[Any, Any]:
        """The reference solver's answer and its bounds."""
        ...


class Problem(Protocol):
    """What an entry point names: makes a Formulation, usually by being its class.

    Raises ValueError, with a sentence, where the inputs or the table are not those of the problem.
    """

    def __call__(self, inputs: Sequence[Input], table: "ErrorTable | None", /) -> Formulation: ...
