"""What a model must show before anybody is answered by it: that it keeps its own word, at the corners of its ranges and within.

A network that was damaged, or mixed up with another, gives finite numbers too. The reference solver tells, and so do the
equation's invariants; of the weights that workers evaluate, the network that is served here does. A hundred points take a few
milliseconds, so every start can afford it.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, Final

import msgspec
import numpy as np

from pinn_inference.artifacts.manifest import Manifest
from pinn_inference.engines import Array, Engine
from pinn_inference.errors import EngineError, ModelError
from pinn_inference.evaluation import Answer, Evaluation, Silent
from pinn_inference.problems import Formulation
from pinn_inference.problems.questions import WISHES

POINTS: Final = 64
"""At random, beside as many corners at most."""

BEYOND: Final = 2.0
"""How far beyond the largest error that was measured somewhere else a point of the trial may be."""

ALIKE, NOTHING = 1e-3, 1e-6
"""How far jets of one network may be apart, of the largest number in their row and of the largest value: rounding in float32,
with room. Of shipped networks it is a hundredth of that; a row of zeros has the value alone to be measured by."""

ROUNDING: Final = 1e-6
"""Manifests state errors with few digits; those of a network in float32 are never below this."""

SOLVING: Final = 10.0
"""Seconds in which points are compared with the solver. A slow one must not keep a server from ever being ready."""

FIRST: Final = 30.0
"""Seconds for the first answers of a worker."""

ANOTHER: Final = "weights.npz is of another network than model.tflite"


def promises(manifest: Manifest, problem: Formulation) -> None:
    """Raises ModelError where the manifest does not fit its problem."""
    if missing := set(problem.invariants) - manifest.tolerances.keys():
        raise ModelError(f"the model's manifest states no tolerance for {', '.join(sorted(missing))}")
    stated = [field.name for field in manifest.outputs]
    if sorted(stated) != sorted(problem.outputs):
        said = ", ".join(stated) or "none"
        raise ModelError(f"the model's manifest has the outputs {said}; they must be {', '.join(problem.outputs)}")
    known = {field.name for field in msgspec.structs.fields(problem.Question)} - WISHES
    if unknown := [field.name for field in manifest.inputs if field.name not in known]:
        raise ModelError(f"the model's manifest has the input {unknown[0]}; the problem has {', '.join(sorted(known))}")


def passed(evaluation: Evaluation, stated: Mapping[str, float], weights: Engine | None = None) -> None:
    """Asks at corners and at random points. Raises ModelError where an answer is none, or not as close as the model says.

    That it says by its error table, or, where it has none, by `stated`, the largest errors of its manifest; these are for one
    scale where some inputs are multiples of another, and then say nothing here. `weights` evaluates weights.npz, by which
    workers answer large batches: they must be those of the same network.
    """
    problem, quiet = evaluation.problem, unobserved(evaluation)
    points, ends = list(_points(problem)), time.monotonic() + SOLVING
    for point in points:
        try:
            answer = quiet.fresh(point)
        except EngineError as error:
            raise _failed(problem, point, error) from None
        if time.monotonic() < ends:
            _compare(problem, point, answer, stated)
    _speaks_of_all(problem, points[0], evaluation.engines.jet(*problem.coordinates(points[0])))
    if weights is not None:
        places = np.array([problem.coordinates(point) for point in points])
        one_network(places, evaluation.engines.few(places), weights)


async def passed_far(evaluation: Evaluation, stated: Mapping[str, float]) -> None:
    """The same of a model that another process evaluates, all points at once; however long that takes the first time."""
    problem, quiet = evaluation.problem, replace(unobserved(evaluation), timeout=FIRST)
    points = list(_points(problem))
    try:
        answers = await quiet.many(points, True)
        first = await _jet(quiet, points[0])
    except EngineError as error:
        raise _failed(problem, points[0], error) from None
    _speaks_of_all(problem, points[0], first)
    ends = time.monotonic() + SOLVING
    for point, answer in zip(points, answers, strict=True):
        if isinstance(answer, EngineError):
            answer = await _explained(quiet, point)
        if time.monotonic() < ends:
            _compare(problem, point, answer, stated)


async def _explained(quiet: Evaluation, point: Any) -> Answer:
    """Asks again alone, which finds the sentence. Raises ModelError with it."""
    values, bounds = quiet.problem.near(point, quiet.problem.coordinates(point), await _jet(quiet, point))
    try:
        quiet._check(point, values)
    except EngineError as error:
        raise _failed(quiet.problem, point, error) from None
    return Answer(values, bounds, "model", quiet.engines.name)


async def _jet(quiet: Evaluation, point: Any) -> list[float]:
    done = await quiet.engines.jets(np.array([quiet.problem.coordinates(point)]), FIRST)
    jet: list[float] = done.jets[:, 0].tolist()
    return jet


def one_network(points: Array, served: Array, weights: Engine) -> None:
    """Raises ModelError where `weights` evaluates another network than that with the jets `served` (k, n) at `points` (n, d)."""
    (d, k), (coordinates, rows) = weights.shape, (points.shape[1], len(served))
    if (d, k) != (coordinates, rows):
        raise ModelError(f"{ANOTHER}: it takes {d} numbers a point and gives {k}, not {coordinates} and {rows}")
    jets = weights.jets(points)
    if (found := apart(served, jets)) is not None:
        row, at = found
        said = f"number {row + 1} of its jet at ({', '.join(f'{c:.6g}' for c in points[at])}) is {jets[row, at]:.9g}"
        raise ModelError(
            f"{ANOTHER}: {said}, not {served[row, at]:.9g}; leave it out if that one is rounded (quantised)"
        )


def apart(one: Array, other: Array) -> tuple[int, int] | None:
    """The first row and point where jets (k, n) are further apart than those of one network can be; None where nowhere."""
    largest = np.abs(other).max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # what is no number, or infinite, is apart from all others
        alike = (one == other) | (np.abs(one - other) < ALIKE * largest + NOTHING * largest[0])
    found = np.argwhere(~alike)
    return (int(found[0][0]), int(found[0][1])) if len(found) else None


def _speaks_of_all(problem: Formulation, point: Any, jet: Sequence[float]) -> None:
    """Of an invariant that is not there no tolerance would ever be exceeded; one point tells, as it is the same at all."""
    excesses = problem.excesses(point, problem.answer(point, jet))
    if missing := [name for name in problem.invariants if name not in excesses]:
        raise ModelError(f"the problem {problem.name} says nothing of its invariant {missing[0]}: excesses lacks it")


def _failed(problem: Formulation, point: Any, error: EngineError) -> ModelError:
    return ModelError(f"the model failed its trial at {described(problem, point)}: {error}")


def unobserved(evaluation: Evaluation) -> Evaluation:
    """The same, past the cache and with nobody told of violations: for what no caller asked."""
    return replace(evaluation, observer=Silent(), cache=None)


def _compare(problem: Formulation, point: Any, answer: Answer, stated: Mapping[str, float]) -> None:
    allowed = answer.bounds
    if allowed is None:
        if any(field.per for field in problem.inputs):
            return
        allowed = [BEYOND * stated[name] + ROUNDING if name in stated else math.inf for name in problem.outputs]
    if not any(map(math.isfinite, allowed)):
        return
    solved, rounding = problem.solve(point)
    for name, value, bound, true, room in zip(problem.outputs, answer.values, allowed, solved, rounding, strict=True):
        if not abs(value - true) <= bound + room:
            said = f"{name} is {value:.9g}, by its own word within {bound:.2g} of the truth, and the solver finds {true:.9g}"
            raise ModelError(f"the model failed its trial at {described(problem, point)}: {said}")


def _points(problem: Formulation) -> Iterator[Any]:
    sampled = problem.sample(POINTS, np.random.default_rng(0))
    yield from sampled
    corners = product(*((field.low, field.high) for field in problem.inputs))
    places = [field.name for field in problem.inputs]
    for corner, like in zip(corners, sampled, strict=False):
        scales = [corner[places.index(field.per)] if field.per else 1.0 for field in problem.inputs]
        yield problem.at([value * scale for value, scale in zip(corner, scales, strict=True)], like)


def described(problem: Formulation, point: Any) -> str:
    """A point, as a sentence names it."""
    return ", ".join(f"{field.name} {value:.6g}" for field, value in zip(problem.inputs, point, strict=False))
