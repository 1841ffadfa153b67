"""How wrong a model is, measured against its problem's own solver: for any problem of plain numbers, and any network.

Nothing here trains. What is measured goes into the manifest, so that a server can be told from its model, and into the error
table, from which every answer gets its bound.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np

from pinn_inference import trial
from pinn_inference.artifacts.manifest import Errors
from pinn_inference.engines import Array, Engine
from pinn_inference.errors import ModelError
from pinn_inference.problems.error_table import ErrorTable
from pinn_inference.problems.ranged import Ranged

Draw = Callable[[int, np.random.Generator], Any]
"""A batch of so many points at random."""

MARGIN: Final = 1.5
"""What is served may meet a point that is a little worse than the worst of a cell's samples."""

WITHIN: Final = 4
"""Places along each side of a cell where derivatives are looked at."""

ROUNDS: Final = 12
"""Batches of moves by which a table is tried, at most: one that holds in a whole batch is done."""

ROOM: Final = 1.2
"""What a number of the table is raised by beyond what a move has shown."""

STEEPEST: Final = 100.0
"""By how much the derivatives of a cell are raised in a round at most. A kink has none that would do."""

PORTION: Final = 20_000
"""Points at a time: what a solver needs for them must fit into memory."""


@dataclass(frozen=True)
class Cells:
    """The cells of an error table: `steps` (d,), the coordinates' own units; `samples` points for each on average."""

    steps: tuple[float, ...]
    samples: int = 200


def errors(problem: Ranged, engine: Engine, parts: Sequence[Any]) -> Errors:
    """Largest errors over all `parts` (batches of points), where the first output is worst, and the worst part's relative L2.

    Raises ModelError where an answer is not finite.
    """
    found = [_compared(problem, engine, part) for part in parts]
    wrong = np.concatenate([np.abs(answer - exact) for answer, exact, _ in found], axis=1)
    relative = [np.linalg.norm(a - e, axis=1) / np.maximum(np.linalg.norm(e, axis=1), 1e-300) for a, e, _ in found]
    columns = np.concatenate([np.stack(part) for part in parts], axis=1)
    worst = columns[:, int(np.argmax(wrong[0]))]
    return Errors(
        largest=_by_name(problem.outputs, wrong.max(axis=1)),
        worst_at={field.name: round(float(x), 6) for field, x in zip(problem.inputs, worst, strict=True)},
        relative_l2=_by_name(problem.outputs, np.max(relative, axis=0)),
    )


def excesses(problem: Ranged, engine: Engine, parts: Sequence[Any]) -> dict[str, float]:
    """The largest excess of each invariant as served, dimensionless; at least 0. Raises ModelError where one is not finite."""
    found = dict.fromkeys(problem.invariants, 0.0)
    for part in parts:
        excesses = problem.excesses(part, _answers(problem, engine, part))
        _expect_finite(problem, part, excesses)
        for name, excess in excesses.items():
            found[name] = max(found[name], float(np.max(excess)))
    return found


def everywhere(problem: Ranged, count: int, seed: int = 20261122) -> list[Any]:
    """One part: every corner of the ranges, and so many points at random."""
    rng = np.random.default_rng(seed)
    corners = np.array(list(product(*((field.low, field.high) for field in problem.inputs)))).T
    inner = problem.stack(problem.sample(count, rng))
    joined = [np.concatenate(pair) for pair in zip(corners, inner, strict=True)]
    return [problem.at(joined, inner)]


def error_table(problem: Ranged, served: Engine, smooth: Engine, cells: Cells, draw: Draw | None = None) -> ErrorTable:
    """Rows as ranged.Ranged says: the worst error of each output in a cell, then the size of the derivatives beyond the jet.

    `smooth` is what derivatives are taken of: the network in float64, where there is one. A cell counts what its neighbours show
    too, since answers are moved across its sides; what was never met takes the largest of its neighbours. Then it is tried.
    """
    rng = np.random.default_rng(20261123)
    within = draw or (lambda count, rng: problem.stack(problem.sample(count, rng)))

    def batch(count: int, rng: np.random.Generator) -> Any:
        return _at_edges(problem, within(count, rng), rng)

    first = np.stack(problem.coordinates(batch(PORTION, rng)))
    counts = tuple(int(np.ceil(far / step)) for far, step in zip(np.abs(first).max(axis=1), cells.steps, strict=True))
    worst = np.zeros((len(problem.outputs), *counts))
    for _ in range(int(np.ceil(cells.samples * np.prod(counts) / PORTION))):
        part = batch(PORTION, rng)
        answer, exact, known = _compared(problem, served, part)
        off = np.abs(answer - exact) + known
        _raise(worst, _places(np.stack(problem.coordinates(part)), cells.steps, counts), off)
    both = np.concatenate([_filled(worst), _derivatives(problem, smooth, cells.steps, counts, first.min(axis=1) < 0)])
    table = ErrorTable(cells.steps, rounded_up(MARGIN * _with_neighbours(both)))
    return _tried(problem, smooth, table, lambda: (batch(PORTION, rng), batch(PORTION, rng)))


def _tried(problem: Ranged, engine: Engine, table: ErrorTable, pairs: Callable[[], tuple[Any, Any]]) -> ErrorTable:
    """The table, with its derivatives raised where a jet that was moved by up to a cell is farther from the truth than it says.

    They were looked at in places, and a front may be narrower than these are apart. What no derivative explains, as at a kink,
    counts as an error of the outputs there.
    """
    errors = len(problem.outputs)
    for left in reversed(range(ROUNDS)):
        cells, off, stated = _moves_that_break(problem.with_table(table), engine, table, pairs())
        if not off.size:
            return table
        values = table.values.copy()
        if left:
            scale = np.ones(values.shape[1:])
            lacking = off / np.maximum(stated, off / STEEPEST + 1e-300)
            np.maximum.at(scale, cells, ROOM * lacking.max(axis=0))
            values[errors:] *= scale
        else:
            _raise(values[:errors], cells, ROOM * off)
        table = ErrorTable(table.steps, rounded_up(values))
    return table


def _moves_that_break(
    problem: Ranged, engine: Engine, table: ErrorTable, pair: tuple[Any, Any]
) -> tuple[tuple[Any, ...], Array, Array]:
    """Of the moves whose bound does not hold: the cells moved from, and how far off each output is, and by its bound may be."""
    point, _ = pair
    here, there = (np.stack(problem.coordinates(one)) for one in pair)
    steps = np.array(table.steps)[:, None]
    at = here + np.clip(there - here, -steps, steps) * 0.999
    truth = np.stack(problem.answer(point, engine.jets(here.T)))
    moved, bounds = problem.near(point, tuple(at), engine.jets(at.T))
    stated = _columns(bounds or [np.inf] * len(moved), len(truth[0]))
    off = np.abs(np.stack(moved) - truth)
    wrong = (off > stated).any(axis=0)
    return _places(at[:, wrong], table.steps, table.values.shape[1:]), off[:, wrong], stated[:, wrong]


def _at_edges(problem: Ranged, batch: Any, rng: np.random.Generator) -> Any:
    """The same, a fifth of every input's values at the ends of its range: there a network is worst, and corners are few."""
    shares = rng.random((len(batch), len(batch[0])))
    pushed = [
        np.where(share < 0.1, -np.inf, np.where(share > 0.9, np.inf, values))
        for share, values in zip(shares, batch, strict=True)
    ]
    return problem.at(pushed, batch)


def _compared(problem: Ranged, engine: Engine, batch: Any) -> tuple[Array, Array, Array]:
    """(outputs, n) as served, as solved, and how far that can be from the truth; 0 where the solver does not know."""
    size = len(batch[0])
    parts = [type(batch)._make(c[i : i + PORTION] for c in batch) for i in range(0, size, PORTION)]
    solved = [problem.solve(part) for part in parts]
    exact, known = (
        np.concatenate([_columns(one[i], len(part[0])) for one, part in zip(solved, parts, strict=True)], axis=1)
        for i in range(2)
    )
    return np.stack(_answers(problem, engine, batch)), exact, np.where(np.isfinite(known), known, 0.0)


def _columns(numbers: Sequence[Any], count: int) -> Array:
    """(outputs, count), of one number for all points too."""
    return np.stack([np.broadcast_to(column, count) for column in numbers])


def _answers(problem: Ranged, engine: Engine, batch: Any) -> Sequence[Array]:
    found = problem.answer(batch, engine.jets(np.stack(problem.coordinates(batch), axis=1)))
    _expect_finite(problem, batch, dict(zip(problem.outputs, found, strict=True)))
    return found


def _expect_finite(problem: Ranged, batch: Any, columns: Mapping[str, Any]) -> None:
    """Raises ModelError with the first number that is none, and where: no comparison with it would ever be true."""
    for name, column in columns.items():
        values = np.broadcast_to(column, len(batch[0]))
        if len(wrong := np.flatnonzero(~np.isfinite(values))):
            place = trial.described(problem, [c[wrong[0]] for c in batch])
            said = "give it ranges in which it has finite values"
            raise ModelError(f"the network gives {name} {values[wrong[0]]:g} at {place}; {said}")


def _places(coordinates: Array, steps: Sequence[float], counts: Sequence[int]) -> tuple[Any, ...]:
    """The cell of each of n points (d, n), along every axis."""
    axes = zip(coordinates, steps, counts, strict=True)
    return tuple(np.minimum((np.abs(c) / step).astype(np.intp), count - 1) for c, step, count in axes)


def _raise(table: Array, places: tuple[Any, ...], values: Array) -> None:
    for row, value in zip(table, values, strict=True):
        np.maximum.at(row, places, value)


def _derivatives(
    problem: Ranged, engine: Engine, steps: Sequence[float], counts: Sequence[int], signed: Array
) -> Array:
    """The largest absolute value of each derivative beyond the jet in every cell, by central differences of a row of it."""
    jets, coordinates = problem.jets, problem.jets.coordinates
    inner = (np.arange(WITHIN) + 0.5) / WITHIN
    axes = [(np.arange(count)[:, None] + inner).ravel() * step for count, step in zip(counts, steps, strict=True)]
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)
    found = np.zeros((len(jets.beyond), *counts))
    for signs in product(*((1.0, -1.0) if both else (1.0,) for both in signed)):
        points = grid * np.array(signs)
        places = _places(points.T, steps, counts)
        for place, step in enumerate(steps):
            move = np.zeros(len(steps))
            move[place] = 0.05 * step
            slopes = (engine.jets(points + move) - engine.jets(points - move)) / (0.1 * step)
            for row, name in enumerate(jets.rows):
                one_more = "".join(sorted(name + coordinates[place], key=coordinates.index))
                if one_more in jets.beyond:
                    np.maximum.at(found[jets.beyond.index(one_more)], places, np.abs(slopes[row]))
    return found


def _neighbours(table: Array) -> Array:
    """Every cell's largest number among itself and those around it."""
    padded = np.pad(table, ((0, 0), *((1, 1) for _ in table.shape[1:])))
    shifts = product(range(3), repeat=table.ndim - 1)
    sides = table.shape[1:]
    parts = [
        padded[(slice(None), *(slice(at, at + n) for at, n in zip(shift, sides, strict=True)))] for shift in shifts
    ]
    largest: Array = np.maximum.reduce(parts)
    return largest


def _with_neighbours(table: Array) -> Array:
    return _neighbours(table)


def _filled(table: Array) -> Array:
    """Cells where nothing was met take the largest of their neighbours, round after round."""
    for _ in range(sum(table.shape[1:])):
        empty = table[0] == 0
        if not empty.any():
            break
        table = np.where(empty, _neighbours(table), table)
    return table


def rounded_up(values: Array) -> Array:
    """To three digits, so that the last bits of a library's arithmetic do not change a model's digest."""
    scale = 10.0 ** (np.floor(np.log10(np.maximum(values, 1e-30))) - 2)
    rounded: Array = np.ceil(values / scale) * scale
    return rounded


def _by_name(names: Sequence[str], values: Any) -> dict[str, float]:
    return {name: float(f"{value:.3g}") for name, value in zip(names, values, strict=True)}
