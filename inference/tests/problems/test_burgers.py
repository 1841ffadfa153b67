"""Burgers: the solver against a series that shares nothing with it, the ansatz, the invariants, and the shipped model."""

import math
from collections.abc import Iterator
from decimal import Decimal, localcontext
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinn_inference.errors import InvalidInput, OutOfDomain
from pinn_inference.problems import burgers
from pinn_inference.problems.burgers import Burgers, Wave

PROBLEM = Burgers(Burgers.domain, None)
CRITICAL = 0.01 / math.pi
"""The viscosity this problem is usually posed with."""

DIGITS = 350
"""The series cancels all but one part in exp(1/(pi nu)): 1e138 at the smallest viscosity."""

xs, ts, viscosities = st.floats(-1, 1), st.floats(0, 1), st.floats(0.003, 0.1)
jets = st.tuples(*[st.floats(-3, 3)] * 5)


def _point(x: float, t: float, viscosity: float) -> Any:
    return PROBLEM.Point(x, t, viscosity)


# ------------------------------------------------------------------------------------------------- the solver


def _pi() -> Decimal:
    """By Machin's formula."""

    def arctangent_of_one_over(number: int) -> Decimal:
        power = total = 1 / Decimal(number)
        n = 1
        while abs(power) > Decimal(10) ** -DIGITS:
            power /= -number * number
            n += 2
            total += power / n
        return total

    return 4 * (4 * arctangent_of_one_over(5) - arctangent_of_one_over(239))


def _sine_and_cosine(x: Decimal) -> tuple[Decimal, Decimal]:
    term, sums, n = Decimal(1), [Decimal(0), Decimal(0)], 0
    while abs(term) > Decimal(10) ** -DIGITS:
        sums[n % 2] += term * (-1) ** (n // 2)
        n += 1
        term = term * x / n
    return sums[1], sums[0]


def _bessel(z: Decimal, count: int) -> list[Decimal]:
    """I_0(z), I_1(z), ... by the recurrence downwards, their sum being exp(z)."""
    found = [Decimal(0), Decimal(1)]
    for n in range(count + 150, 0, -1):
        found.append(found[-2] + 2 * n / z * found[-1])
    found.reverse()
    scale = z.exp() / (found[0] + 2 * sum(found[1:]))
    return [value * scale for value in found[:count]]


def _exact(x: float, t: float, viscosity: float, pi: Decimal) -> tuple[Decimal, ...]:
    """By the Fourier series of the heat equation's solution f, whose coefficients are Bessel functions: u = -2 nu f_x/f."""
    nu = Decimal(viscosity)
    coefficients = _bessel(1 / (2 * pi * nu), int(0.5 / viscosity) + 80)
    sums = [Decimal(0)] * 4
    sine, cosine = Decimal(0), Decimal(1)
    by_sine, by_cosine = _sine_and_cosine(pi * Decimal(x))
    for n, coefficient in enumerate(coefficients):
        k = n * pi
        share = coefficient * (2 if n else 1) * (-1) ** n * (-k * k * nu * Decimal(t)).exp()
        for order, value in enumerate((cosine, -k * sine, -k * k * cosine, k**3 * sine)):
            sums[order] += share * value
        sine, cosine = sine * by_cosine + cosine * by_sine, cosine * by_cosine - sine * by_sine
    first, second, third = (value / sums[0] for value in sums[1:])
    u, u_x = -2 * nu * first, -2 * nu * (second - first**2)
    u_xx = -2 * nu * (third - 3 * first * second + 2 * first**3)
    return u, u_x, u_xx, nu * u_xx - u * u_x


def _places() -> Iterator[tuple[float, float, float]]:
    """Corners of what the solver takes, the front, and the time at which the wave breaks."""
    yield from product((0.0, 0.9), (0.0, 10.0), (1e-3, 10.0))
    yield from (
        (0.001, 0.5, 1e-3),
        (0.004, 0.3, 1e-3),
        (-0.01, 1.0, CRITICAL),
        (0.1, 1 / math.pi, 0.02),
        (1.0, 1.0, 0.1),
    )
    yield from ((0.3, 1e-6, 0.003), (-0.3, 0.05, 10.0), (0.5, 10.0, 1.0), (0.002, 0.6, 0.003), (0.7, 0.6, 0.03))


def test_the_solver_is_as_close_to_the_truth_as_it_says() -> None:
    beyond = []
    with localcontext(prec=DIGITS):
        pi = _pi()
        for place in _places():
            found, bounds = PROBLEM.solve(_point(*place))
            truth = _exact(*place, pi)
            named = zip(PROBLEM.units, found, truth, bounds, strict=True)
            beyond += [(name, place) for name, value, true, bound in named if abs(Decimal(value) - true) > bound]
    assert beyond == []


def test_the_solver_says_that_next_to_nothing_is_uncertain_in_the_usual_problem() -> None:
    _, bounds = PROBLEM.solve(_point(0.01, 0.6, CRITICAL))
    assert bounds.u < 1e-12
    assert bounds.u_x < 1e-9


def test_one_point_and_a_batch_are_solved_alike() -> None:
    places = [place for place in _places() if place[2] < 1]
    together, _ = PROBLEM.solve(PROBLEM.stack(places))
    for i, place in enumerate(places):
        alone, _ = PROBLEM.solve(_point(*place))
        assert [float(row[i]) for row in together] == pytest.approx(alone, rel=1e-9, abs=1e-9)


def test_a_long_batch_is_solved_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    points = PROBLEM.stack(PROBLEM.sample(50, np.random.default_rng(0)))
    whole, _ = PROBLEM.solve(points)
    monkeypatch.setattr(burgers, "PORTION", 1000)
    parts, _ = PROBLEM.solve(points)
    assert np.stack(parts) == pytest.approx(np.stack(whole), rel=1e-12)


# ------------------------------------------------------------------------------------------------- the ansatz


@given(xs, viscosities, jets)
def test_the_wave_starts_as_a_sine_and_is_still_at_the_ends_whatever_the_network_says(
    x: float, viscosity: float, jet: tuple[float, ...]
) -> None:
    start = PROBLEM.answer(_point(x, 0.0, viscosity), jet)
    assert start.u == pytest.approx(-math.sin(math.pi * x), abs=1e-15)
    for end in (-1.0, 1.0):
        assert PROBLEM.answer(_point(end, 0.7, viscosity), jet).u == pytest.approx(0, abs=1e-15)


@given(xs, ts, viscosities, jets)
def test_a_wave_seen_in_the_mirror_is_its_negative(
    x: float, t: float, viscosity: float, jet: tuple[float, ...]
) -> None:
    """The network sees y squared, so its slope changes sign with y, and nothing else does."""
    n, n_y, n_yy, n_t, n_l = jet
    here, there = (
        PROBLEM.answer(_point(side * x, t, viscosity), (n, side * n_y, n_yy, n_t, n_l)) for side in (1.0, -1.0)
    )
    assert here == pytest.approx(Wave(-there.u, there.u_x, -there.u_xx, -there.u_t), rel=1e-9, abs=1e-9)


@given(st.floats(-0.99, 0.99), st.floats(0.01, 0.99), st.floats(0.0035, 0.09))
def test_what_is_called_a_derivative_is_one(x: float, t: float, viscosity: float) -> None:
    """Central differences through a smooth network of known jet."""

    def at(x: float, t: float) -> Wave:
        point = _point(x, t, viscosity)
        y, _, log = PROBLEM.coordinates(point)
        jet = (math.cos(2 * y) + t * t + log, -2 * math.sin(2 * y), -4 * math.cos(2 * y), 2 * t, 1.0)
        found: Wave = PROBLEM.answer(point, jet)
        return found

    h, here = 1e-2 * viscosity, at(x, t)
    left, right, before, after = at(x - h, t), at(x + h, t), at(x, t - 1e-5), at(x, t + 1e-5)
    assert (right.u - left.u) / (2 * h) == pytest.approx(here.u_x, rel=1e-3, abs=1e-3)
    assert (right.u_x - left.u_x) / (2 * h) == pytest.approx(here.u_xx, rel=1e-2, abs=1e-2 / viscosity)
    assert (after.u - before.u) / 2e-5 == pytest.approx(here.u_t, rel=1e-6, abs=1e-6)


@given(xs, ts, viscosities)
def test_the_stretched_coordinate_leads_back(x: float, t: float, viscosity: float) -> None:
    y, _, log = PROBLEM.coordinates(_point(x, t, viscosity))
    assert burgers.unstretched(np.array([y]), np.array([viscosity]))[0] == pytest.approx(x, rel=1e-12, abs=1e-15)
    assert burgers.LEAST * math.exp(log) == pytest.approx(viscosity)
    assert abs(y) <= 1 + 1e-12


# ------------------------------------------------------------------------------------------------ invariants


@given(xs, ts, viscosities)
def test_the_exact_solution_keeps_every_invariant(x: float, t: float, viscosity: float) -> None:
    point = _point(x, t, viscosity)
    solved, _ = PROBLEM.solve(point)
    assert max(PROBLEM.excesses(point, solved).values()) < 1e-8


@pytest.mark.parametrize(
    ("change", "invariant"),
    [
        ({"u_t": 0.5}, "pde_residual"),
        ({"u_xx": 1e3}, "pde_residual"),
        ({"u": -1.01}, "largest_speed"),
        ({"u": 0.1}, "sign"),
        ({"u_x": 3.0}, "steepening"),
    ],
)
def test_a_broken_answer_is_seen_by_the_invariant_it_breaks(change: dict[str, float], invariant: str) -> None:
    point = _point(0.2, 0.4, 0.01)
    solved, _ = PROBLEM.solve(point)
    assert PROBLEM.excesses(point, solved._replace(**change))[invariant] > 1e-3


# ------------------------------------------------------------------------------------------------- questions


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (
            {"x": 1.5, "t": 0.5, "viscosity": 0.01},
            r"^x is 1\.5, outside the range the model was trained on \(allowed: -1 to 1",
        ),
        ({"x": 0.5, "t": 0.5, "viscosity": 0.0}, r"^viscosity is 0\.0, outside the range"),
        ({"x": 0.5, "t": 0.5}, r"^viscosity is missing \(allowed: 0\.003 to 0\.1"),
        ({"x": True, "t": 0.5, "viscosity": 0.01}, r"^x must be a number, not a boolean"),
        ({"x": 0.5, "t": math.nan, "viscosity": 0.01}, r"^t is nan, which is not finite"),
        (
            {"x": 0.5, "t": 0.5, "viscosity": 0.01, "strike": 1},
            r"^'strike' is not an input; the inputs are x, t, viscosity",
        ),
        ([1, 2], r"^a question is a JSON object with x, t, viscosity, not a list"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(item: object, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        PROBLEM.parse(item)


def test_out_of_the_trained_range_the_point_comes_with_the_refusal() -> None:
    with pytest.raises(OutOfDomain) as caught:
        PROBLEM.point(PROBLEM.Question(x=0.5, t=2.0, viscosity=0.01))
    assert caught.value.point == (0.5, 2.0, 0.01)


def test_beyond_the_ends_not_even_the_solver_answers() -> None:
    with pytest.raises(InvalidInput, match=r"^x is 1\.5, which the reference solver does not take either"):
        PROBLEM.solvable(_point(1.5, 0.5, 0.01))
