"""A problem whose inputs are plain numbers: everything about it that is not its equation, so that a new one says only that.

Subclass `Ranged`, say what goes in and out, and write four methods: where the network is asked, what its jet means, what an
answer must satisfy, and how to solve without a network. Formulas are written once: they get floats for one point, or arrays for
many.
"""

import math
from abc import ABC, abstractmethod
from collections import namedtuple
from collections.abc import Mapping, Sequence
from copy import copy
from operator import attrgetter
from typing import Any, ClassVar, Final, Literal, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from pinn_inference.errors import InvalidInput
from pinn_inference.problems import Input, Width, questions
from pinn_inference.problems.error_table import ErrorTable
from pinn_inference.problems.jets import Jets

Array = NDArray[np.float64]
Real = Any  # a float, or an array of them

DECADES: Final = 1e4
"""A range that spans more is sampled by its logarithm."""


def functions(value: Real) -> Any:
    """`math` for a float, NumPy for an array: exp, sqrt, sin, asinh and so on have one name in both."""
    return np if isinstance(value, np.ndarray) else math


class Ranged(ABC):
    """A Formulation (see problems/__init__.py) of one model: its ranges, and its error table where it has one.

    Outputs must be affine in the jet for their bounds to hold: sums of its rows times what depends on the point alone. An error
    table's rows are the largest measured error of each output, then the largest absolute values of `jets.beyond`.
    """

    name: ClassVar[str]
    domain: ClassVar[tuple[Input, ...]]
    """The inputs, in the order of a point; a manifest states the ranges of its model under the same names."""
    units: ClassVar[Mapping[str, str]]
    """The outputs and their units, in the order of an answer."""
    invariants: tuple[str, ...]
    jets: ClassVar[Jets]
    """What the network is asked and what it answers."""
    widths: ClassVar[Mapping[str, Width]] = {}
    """Cache bins other than the usual: a hundredth of the largest number of the range."""
    worst: ClassVar[Mapping[str, float]] = {}
    """The largest bound with which each output may come from a bin; without one, none does."""
    moves: ClassVar[Mapping[str, float]] = {}
    solver_ranges: tuple[Input, ...] = ()
    """Where the solver may answer, by input; of one that is not named, where the model was trained."""
    solver_is_slow: bool = False

    def __init__(self, inputs: Sequence[Input], table: ErrorTable | None) -> None:
        """Raises ValueError, with a sentence, where ranges or table are not those of this problem."""
        self.inputs = questions.in_order(inputs, self.domain)
        self.outputs = tuple(self.units)
        questions.nameable([field.name for field in self.inputs], self.outputs)
        self.shape = self.jets.shape
        if table is not None:
            table.expect(len(self.outputs) + len(self.jets.beyond), self.shape[0])
        self._table = table
        names = [field.name for field in self.inputs]
        self.Point: Any = _point_type(names)
        self.Question = _question(self.inputs, self.outputs)
        self._fields = _getter(names)
        self._places = {name: place for place, name in enumerate(names)}
        self._solvable = self._all_solvable()
        self._worst = tuple(self.worst.get(name, -1.0) for name in self.outputs)

    def with_table(self, table: ErrorTable) -> Self:
        """The same problem with another error table, however it was made."""
        twin = copy(self)
        twin._table = table
        return twin

    # ------------------------------------------------------------------------------------------ the equation

    @abstractmethod
    def coordinates(self, point: Any) -> tuple[Real, ...]:
        """Where the network is asked for a point; each within the range it was trained on."""

    @abstractmethod
    def answer(self, point: Any, jet: Any) -> Sequence[Real]:
        """The outputs, from the network's jet (k,) or (k, n) at the coordinates of the point."""

    @abstractmethod
    def excesses(self, point: Any, answer: Any) -> dict[str, Real]:
        """How far an answer is from each invariant, dimensionless; relative to the terms compared."""

    @abstractmethod
    def solve(self, point: Any) -> tuple[Sequence[Real], Sequence[Real]]:
        """The outputs by a solver that shares nothing with the network, and how far each can be from the truth."""

    # --------------------------------------------------------------------------------------------- questions

    @property
    def bins(self) -> dict[str, Width]:
        """The width of a cache bin, by input."""
        usual = {field.name: Width(0.01, max(abs(field.low), abs(field.high))) for field in self.inputs}
        return {**usual, **self.widths}

    def point(self, question: Any) -> Any:
        """The point of a question that `Question` decoded. Raises InvalidInput or OutOfDomain as `parse` does."""
        point = self.Point._make(self._fields(question))
        if not self._inside(point):
            self.parse(point._asdict())
        return point

    def any_point(self, question: Any) -> Any:
        """The point of a question, be it within the trained domain or not."""
        return self.Point._make(self._fields(question))

    def parse(self, item: object) -> Any:
        """The same of a JSON value, read with care: this is the slow way that finds the sentence to refuse with."""
        known = questions.names(self.inputs)
        if not isinstance(item, dict):
            raise InvalidInput(f"a question is a JSON object with {known}, not {questions.described(item)}")
        values = {field.name: questions.number(item, field) for field in self.inputs}
        fields = questions.WISHES | self._places.keys()
        if not item.keys() <= fields:
            questions.refuse_unknown(item, known, frozenset(fields))
        point = self.Point(**values)
        for field in self.inputs:
            questions.in_range(field, values, point)
        return point

    def _inside(self, point: Any) -> bool:
        return all(low <= value <= high for value, (low, high) in zip(point, self._ranges(point), strict=True))

    def _ranges(self, values: Sequence[Real]) -> list[tuple[Real, Real]]:
        """The ends of each input's range, where some are multiples of another input."""
        units = [values[self._places[field.per]] if field.per else 1.0 for field in self.inputs]
        return [(field.low * unit, field.high * unit) for field, unit in zip(self.inputs, units, strict=True)]

    def sample(self, count: int, rng: np.random.Generator) -> list[Any]:
        """So many points at random within the trained ranges."""
        shares = rng.random((count, len(self.inputs)))
        plain = [_between(field, shares[:, place]) for place, field in enumerate(self.inputs)]
        columns = [
            values * plain[self._places[field.per]] if field.per else values
            for field, values in zip(self.inputs, plain, strict=True)
        ]
        return [self.Point._make(row) for row in np.stack(columns, axis=1).tolist()]

    def stack(self, points: Sequence[Any]) -> Any:
        """A batch of n points: each field an array of shape (n,)."""
        return self.Point._make(np.array(points, dtype=np.float64).T.copy())

    def at(self, values: Sequence[Real], like: Any) -> Any:
        """The point with these inputs, each held within the trained ranges."""
        held = list(values)
        for field in sorted(
            self.inputs, key=lambda field: field.per is not None
        ):  # what others are multiples of comes first
            place = self._places[field.name]
            low, high = self._ranges(held)[place]
            inside = np.clip(held[place], low, high)
            held[place] = inside if isinstance(held[place], np.ndarray) else float(inside)
        return self.Point._make(held)

    # ----------------------------------------------------------------------------------------------- answers

    def near(self, point: Any, at: tuple[Real, ...], jet: Any) -> tuple[Sequence[Real], Sequence[Real] | None]:
        """The outputs from a jet taken at the coordinates `at`, near the point's, and how far each can be from the truth.

        The bounds are None where the model came without an error table, infinite where `at` is more than a cell away.
        """
        by = [here - there for here, there in zip(self.coordinates(point), at, strict=True)]
        if not isinstance(by[0], np.ndarray) and not any(by):
            return self._plain(self.answer(point, jet)), self._known(at)
        moved = self.jets.moved(jet, by)
        answer = self._plain(self.answer(point, moved))
        if self._table is None:
            return answer, None
        return answer, self._plain(self._bounds(self._table, point, at, [abs(d) for d in by], moved, answer))

    def _known(self, at: tuple[Real, ...]) -> tuple[Real, ...] | None:
        """What is known of an answer from a jet at the point itself."""
        return None if self._table is None else self._table.at(*at)[: len(self.outputs)]

    def _bounds(
        self,
        table: ErrorTable,
        point: Any,
        at: tuple[Real, ...],
        by: list[Real],
        moved: list[Real],
        answer: Sequence[Real],
    ) -> list[Real]:
        """What was measured, which a move by a whole cell may double, and what the move leaves out."""
        cell = table.at_all(*at) if isinstance(by[0], np.ndarray) else table.at(*at)
        shares = [size / step for size, step in zip(by, table.steps, strict=True)]
        total = [(1 + sum(shares)) * error for error in cell[: len(self.outputs)]]
        rests = self.jets.remainders(by, cell[len(self.outputs) :])
        total = [a + b for a, b in zip(total, self.spread(point, moved, answer, rests), strict=True)]
        far: Any = sum(share > 1 for share in shares) > 0
        if isinstance(far, np.ndarray):
            return [np.where(far, np.inf, value) for value in total]
        return [math.inf] * len(total) if far else total

    def spread(self, point: Any, jet: Sequence[Real], answer: Sequence[Real], rests: Sequence[Real]) -> list[Real]:
        """How far each output can be off where each row of the jet is by at most `rests`. Override it where that is quicker."""
        total: list[Real] = [0.0] * len(answer)
        for place, rest in enumerate(rests):
            off = [*jet[:place], jet[place] + rest, *jet[place + 1 :]]
            total = [t + abs(b - a) for t, b, a in zip(total, self.answer(point, off), answer, strict=True)]
        return total

    def _plain(self, values: Sequence[Real]) -> tuple[Real, ...]:
        """Floats as JSON takes them, arrays as they are."""
        return tuple(value if isinstance(value, np.ndarray) else float(value) for value in values)

    @property
    def from_bins(self) -> bool:
        """Whether there is an answer that may be served from a bin."""
        return type(self).usable is not Ranged.usable or min(self._worst) >= 0

    def usable(self, point: Any, bound: Sequence[Real]) -> Any:
        """Whether an answer with these bounds may be served from a bin: a bool, or an array of them."""
        good: Any = True
        for value, worst in zip(bound, self._worst, strict=True):
            good = good & (value <= worst)
        return good

    def finite(self, answer: Sequence[Real]) -> bool:
        """Whether every number of an answer is one."""
        total = sum(answer)  # NaN and infinity survive a sum; opposite infinities make NaN
        return bool(np.isfinite(total).all())

    def solvable(self, point: Any) -> None:
        """Raises InvalidInput where the reference solver cannot answer either."""
        questions.solvable(self._solvable, point)

    def _all_solvable(self) -> tuple[Input, ...]:
        """Raises ValueError where the solver is said to take what is no input."""
        said = {field.name: field for field in self.solver_ranges}
        if unknown := said.keys() - self._places.keys():
            raise ValueError(f"solver_ranges names {min(unknown)!r}; the inputs are {questions.names(self.inputs)}")
        return tuple(said.get(field.name, field) for field in self.inputs)


def _between(field: Input, share: Array) -> Array:
    if field.low > 0 and field.high / field.low > DECADES:
        return np.clip(field.low * (field.high / field.low) ** share, field.low, field.high)
    return field.low + (field.high - field.low) * share


def _point_type(names: list[str]) -> Any:
    return namedtuple("Point", names)


def _getter(names: list[str]) -> Any:
    one = attrgetter(names[0])
    return attrgetter(*names) if len(names) > 1 else lambda question: (one(question),)


def _question(inputs: Sequence[Input], outputs: tuple[str, ...]) -> type[msgspec.Struct]:
    """What a request's object decodes into: the inputs, and the wishes."""
    required = [(field.name, float) for field in inputs if field.default is None]
    optional = [(field.name, float, field.default) for field in inputs if field.default is not None]
    wishes = [("outputs", list[Literal[outputs]] | None, None), ("exact", bool, False)]  # type: ignore[valid-type]  # known at run time
    return msgspec.defstruct("Question", [*required, *optional, *wishes], forbid_unknown_fields=True, gc=False)
