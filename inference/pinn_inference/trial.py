"""What a model must show before anybody is answered by it: that it keeps its own word, at the corners of its ranges and within.

A network that was damaged, or mixed up with another, gives finite numbers too. The reference solver tells, and so do the
equation's invariants. A hundred points take a few milliseconds, so every start can afford it.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any, Final

import numpy as np

from pinn_inference.artifacts.manifest import Manifest
from pinn_inference.errors import EngineError, ModelError
from pinn_inference.evaluation import Answer, Evaluation, Silent
from pinn_inference.problems import Formulation

POINTS: Final = 64
"""At random, beside as many corners at most."""


def promises(manifest: Manifest, problem: Formulation) -> None:
    """Raises ModelError where the manifest does not fit its problem."""
    if missing := set(problem.invariants) - manifest.tolerances.keys():
        raise ModelError(f"the model's manifest states no tolerance for {', '.join(sorted(missing))}")
    stated = [field.name for field in manifest.outputs]
    if sorted(stated) != sorted(problem.outputs):
        said = ", ".join(stated) or "none"
        raise ModelError(f"the model's manifest has the outputs {said}; they must be {', '.join(problem.outputs)}")


def passed(evaluation: Evaluation) -> None:
    """Asks at corners and at random points. Raises ModelError where an answer is none, or not as close as it says."""
    problem, quiet = evaluation.problem, unobserved(evaluation)
    for point in _points(problem):
        try:
            answer = quiet.fresh(point)
        except EngineError as error:
            raise ModelError(f"the model failed its trial at {_said(problem, point)}: {error}") from None
        _compare(problem, point, answer)


def unobserved(evaluation: Evaluation) -> Evaluation:
    """The same, past the cache and with nobody told of violations: for what no caller asked."""
    return replace(evaluation, observer=Silent(), cache=None)


def _compare(problem: Formulation, point: Any, answer: Answer) -> None:
    if answer.bounds is None:
        return
    solved, rounding = problem.solve(point)
    for name, value, bound, true, room in zip(
        problem.outputs, answer.values, answer.bounds, solved, rounding, strict=True
    ):
        if not abs(value - true) <= bound + room:
            said = f"{name} is {value:.9g}, by its own word within {bound:.2g} of the truth, and the solver finds {true:.9g}"
            raise ModelError(f"the model failed its trial at {_said(problem, point)}: {said}")


def _points(problem: Formulation) -> Iterator[Any]:
    sampled = problem.sample(POINTS, np.random.default_rng(0))
    yield from sampled
    corners = product(*((field.low, field.high) for field in problem.inputs))
    places = [field.name for field in problem.inputs]
    for corner, like in zip(corners, sampled, strict=False):
        scales = [corner[places.index(field.per)] if field.per else 1.0 for field in problem.inputs]
        yield problem.at([value * scale for value, scale in zip(corner, scales, strict=True)], like)


def _said(problem: Formulation, point: Any) -> str:
    return ", ".join(f"{field.name} {value:.6g}" for field, value in zip(problem.inputs, point, strict=False))
