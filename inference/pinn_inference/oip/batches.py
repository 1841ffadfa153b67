"""Long batches past the cache, as columns from the wire to the wire: an object for each item would take ten times as long.

What a batch answers is what `predictor.many` answers for it, item by item; a test holds both together.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pinn_inference.errors import EngineError, InvalidInput, OutOfDomain, PinnError
from pinn_inference.evaluation import Answer
from pinn_inference.fallback import giving_way
from pinn_inference.oip.datatypes import Chosen
from pinn_inference.oip.tensors import Array, Asked, Items
from pinn_inference.predictor import Predictor
from pinn_inference.problems import Formulation, Input

PART: Final = 5000
"""Items whose formulas are evaluated before other requests get their turn: a millisecond of work."""


async def answered(predictor: Predictor, asked: Asked, bounded: bool = True) -> Items:
    """The answers to a batch of questions, with their bounds where these are asked for. One bad item refuses all.

    Raises as `predictor.many` does.
    """
    work = _Work(predictor, asked, bounded)
    places = await work.inside()
    if len(places):
        await work.evaluated(places)
    return work.items()


class _Work:
    """Fills in the answers of one batch."""

    def __init__(self, predictor: Predictor, asked: Asked, bounded: bool) -> None:
        self._predictor, self._asked = predictor, asked
        shape = (len(predictor.problem.outputs), asked.count)
        self.values, self.bounds = np.empty(shape), np.full(shape, np.nan) if bounded else None
        self._model: Answer | None = None
        self._solved: dict[int, Answer] = {}

    def items(self) -> Items:
        """When all are answered."""
        count, solved, model = self._asked.count, self._solved, self._model
        if model is None or len(solved) == count:
            answers = [solved[place] for place in range(count)]
            return Items(answers, answers, 1, self.values, self.bounds)
        answers = [model] * count
        for place, answer in solved.items():
            answers[place] = answer
        return Items(answers, [model, *solved.values()], count - len(solved), self.values, self.bounds)

    async def inside(self) -> NDArray[np.intp]:
        """The places of the items within the trained domain; the others are solved on the way."""
        problem = self._predictor.problem
        self._columns = _numbers(problem, self._asked)
        within = _within(problem.inputs, self._columns)
        async for place in giving_way(np.flatnonzero(~within).tolist()):
            try:
                problem.point(self._asked.at(place))
                within[place] = True
            except OutOfDomain as error:
                await self._solve(place, error.point, "out_of_domain", error)
            except InvalidInput as error:
                raise InvalidInput(f"item {place}: {error}") from None
        return np.flatnonzero(within)

    async def evaluated(self, places: NDArray[np.intp]) -> None:
        """By the model, as far as it can; what it cannot answer is solved."""
        evaluation = self._predictor.evaluation
        points = self._points(places)
        at = np.stack(evaluation.problem.coordinates(points), axis=1)
        try:
            done = await evaluation.engines.jets(at, evaluation.timeout)
        except EngineError as error:
            async for i in giving_way(range(len(places))):
                await self._solve(int(places[i]), _item(points, i), error.reason, error)
            return
        self._model = Answer((), None, "model", done.engine, done.reason)
        for start in range(0, len(places), PART):
            part = slice(start, start + PART)
            sub = type(points)._make(column[part] for column in points)
            await self._finish(places[part], sub, at[part], done.jets[:, part])
            await asyncio.sleep(0)

    async def _finish(self, places: NDArray[np.intp], points: Any, at: Array, jets: Array) -> None:
        evaluation, where = self._predictor.evaluation, _run(places)
        with np.errstate(invalid="ignore"):
            if self.bounds is None:
                values, bounds = evaluation.problem.answer(points, jets), None
            else:
                values, bounds = evaluation.problem.near(points, tuple(at.T), jets)
        _put(values, self.values, where)
        if self.bounds is not None and bounds is not None:
            _put(bounds, self.bounds, where)
        faults: dict[int, Any] = evaluation._faults(points, values)
        async for i in giving_way(list(faults)):
            cause = EngineError(f"the model has no answer that may be sent: {faults[i]}", faults[i])
            await self._solve(int(places[i]), _item(points, i), faults[i], cause)

    async def _solve(self, place: int, point: Any, reason: str, cause: PinnError) -> None:
        try:
            values, bounds = await self._predictor.fallback(point, reason, cause)
        except InvalidInput as refused:
            raise InvalidInput(f"item {place}: {refused}") from None
        self.values[:, place] = values
        if self.bounds is not None:
            self.bounds[:, place] = bounds
        self._solved[place] = Answer((), None, "solver", "reference", reason)

    def _points(self, places: NDArray[np.intp]) -> Any:
        """The points of these items as a batch. What is no input of a point comes of its choices, alike where they are."""
        problem, asked = self._predictor.problem, self._asked
        numbers = [column[_run(places)] for column in self._columns]
        kinds = _Kinds.of(asked, places)
        few = [problem.any_point(asked.at(int(place))) for place in kinds.first]
        rest = np.array([point[len(numbers) :] for point in few], dtype=np.float64).T
        return type(few[0])._make([*numbers, *(values[kinds.which] for values in rest)])


class _Kinds(NamedTuple):
    """Items that agree in all their choices are of one kind: of each item which, and of each kind the first item's place."""

    which: NDArray[np.intp]
    first: list[int]

    @classmethod
    def of(cls, asked: Asked, places: NDArray[np.intp]) -> "_Kinds":
        which, first = np.zeros(len(places), dtype=np.intp), np.zeros(1, dtype=np.intp)
        for values in asked.columns.values():
            if not _numeric(values):
                words, own = _words_of(values)
                which, first = _numbered(which * words + own[_run(places)], len(first) * words)
        return cls(which, places[first].tolist())


def _numbered(codes: NDArray[np.intp], most: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The different ones of codes below `most` by numbers from 0 on, (n,), and the place of the first of each.

    As np.unique finds them by sorting, in a tenth of its time for a few.
    """
    first = np.full(most, -1)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # of places that are written to twice the last counts
    found = np.flatnonzero(first >= 0)
    number = np.empty(most, dtype=np.intp)
    number[found] = np.arange(len(found))
    return number[codes], first[found]


def _words_of(values: Chosen | list[str]) -> tuple[int, NDArray[Any]]:
    """Of strings, how many words there are, and of each string which."""
    if isinstance(values, Chosen):
        return len(values.words), values.which
    number = {word: i for i, word in enumerate(dict.fromkeys(values))}
    return len(number), np.fromiter(map(number.__getitem__, values), np.intp, len(values))


def _numeric(values: Any) -> bool:
    return isinstance(values, np.ndarray) or not isinstance(values[0], str)


def _numbers(problem: Formulation, asked: Asked) -> list[Array]:
    """Every input that is a number, in the problem's order."""
    given = asked.columns
    return [
        np.asarray(given[field.name], dtype=np.float64)
        if field.name in given
        else np.full(asked.count, field.default, dtype=np.float64)
        for field in problem.inputs
    ]


def _within(inputs: Sequence[Input], columns: Sequence[Array]) -> NDArray[np.bool_]:
    """Of each item, whether all its numbers are within the ranges the model was trained on; NaN is not."""
    by_name = {field.name: column for field, column in zip(inputs, columns, strict=True)}
    within = np.ones(len(columns[0]), dtype=np.bool_)
    for field, column in zip(inputs, columns, strict=True):
        if field.per is None and field.low <= column.min() and column.max() <= field.high:
            continue  # all of them, as a rule
        unit: Any = by_name[field.per] if field.per else 1.0
        with np.errstate(over="ignore", invalid="ignore"):
            within &= (field.low * unit <= column) & (column <= field.high * unit)
    return within


def _run(places: NDArray[np.intp]) -> Any:
    """The same places, as a slice where they follow one another: what is indexed by it is not copied."""
    first, last = int(places[0]), int(places[-1])
    return slice(first, last + 1) if last - first + 1 == len(places) else places


def _put(columns: Sequence[Array], into: Array, where: Any) -> None:
    """Columns as rows, each copied once: as one array they would be put together first."""
    for row, column in zip(into, columns, strict=True):
        row[where] = column


def _item(points: Any, i: int) -> Any:
    """One point of a batch."""
    return type(points)._make(float(column[i]) for column in points)
