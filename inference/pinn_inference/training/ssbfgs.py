"""Self-scaled BFGS: quasi-Newton with the whole inverse Hessian, scaled down by tau <= 1 before each update.

M. Al-Baali, Numerical Algorithms 18 (1998); J. F. Urban, P. Stefanou, J. A. Pons, "Unveiling the optimization process of
physics informed neural networks", J. Computational Physics 523 (2025): for the ill-conditioned, noise-free losses of small
PINNs it reaches accuracies that Adam and L-BFGS do not.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsymv, dsyr, dsyr2
from scipy.optimize import line_search

Array = NDArray[np.float64]
Objective = Callable[[Array], tuple[float, Array]]


@dataclass(frozen=True)
class Step:
    """A point of the descent: parameters, value and gradient there, and the inverse Hessian so far (its lower triangle).

    The next step overwrites the inverse Hessian.
    """

    iteration: int
    at: Array
    value: float
    gradient: Array
    inverse_hessian: Array


def minimize(
    objective: Objective, start: Array, iterations: int, inverse_hessian: Array | None = None
) -> Iterator[Step]:
    """Yields each accepted step; ends after `iterations`, or when no descent direction is left at rounding level.

    `inverse_hessian` is that of an objective much like this one, such as the same equation at other points; it is overwritten.
    Deterministic: the same objective and start give the same steps.
    """
    evaluate = _remembering(objective)
    value, gradient = evaluate(start)
    fresh = inverse_hessian is None
    inverse_hessian = _scaled_identity(gradient) if inverse_hessian is None else inverse_hessian
    step = Step(0, start, value, gradient, inverse_hessian)
    previous: float | None = None
    while step.iteration < iterations:
        direction = -dsymv(1.0, inverse_hessian, step.gradient, lower=1)
        length = _search(evaluate, step, direction, previous)
        if length is None:
            if fresh:
                return
            inverse_hessian, previous, fresh = _scaled_identity(step.gradient), None, True
            continue
        move = length * direction
        value, gradient = evaluate(step.at + move)
        inverse_hessian = _updated(
            inverse_hessian, move, gradient - step.gradient, -length * float(move @ step.gradient)
        )
        previous, fresh = step.value, False
        step = Step(step.iteration + 1, step.at + move, value, gradient, inverse_hessian)
        yield step


def _updated(h: Array, s: Array, y: Array, s_b_s: float) -> Array:
    """H <- (H - (s (Hy)' + (Hy) s')/y's + (y'Hy) s s'/(y's)^2)/tau + s s'/y's, tau = min(1, y's/s'Bs); lower triangle."""
    ys = float(y @ s)
    if ys <= 0:
        return h
    hy = dsymv(1.0, h, y, lower=1)
    h = dsyr2(-1.0 / ys, s, hy, a=h, lower=1, overwrite_a=1)
    h = dsyr(float(y @ hy) / ys**2, s, a=h, lower=1, overwrite_a=1)
    tau = min(1.0, ys / s_b_s)
    if tau < 1:
        h /= tau
    return dsyr(1.0 / ys, s, a=h, lower=1, overwrite_a=1)


def _scaled_identity(gradient: Array) -> Array:
    return np.eye(gradient.size, order="F") * (1e-2 / np.linalg.norm(gradient))


def _search(evaluate: Objective, step: Step, direction: Array, previous: float | None) -> float | None:
    """A step length that meets the strong Wolfe conditions, or None."""

    def value(v: Array) -> float:
        return evaluate(v)[0]

    def gradient(v: Array) -> Array:
        return evaluate(v)[1]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = line_search(
            value,
            gradient,
            step.at,
            direction,
            step.gradient,
            step.value,
            previous,
            c1=1e-4,
            c2=0.9,
            maxiter=20,
        )
    return None if found[0] is None else float(found[0])


def _remembering(objective: Objective) -> Objective:
    """The line search asks for value and gradient of one point in two calls: compute them once."""
    last: tuple[bytes, tuple[float, Array]] | None = None

    def evaluate(v: Array) -> tuple[float, Array]:
        nonlocal last
        key = v.tobytes()
        if last is None or last[0] != key:
            last = (key, objective(v))
        return last[1]

    return evaluate
