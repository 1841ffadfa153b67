"""The reference solver is as close to the truth as it says, against the same formulas in decimals of sixty digits."""

import math
from collections.abc import Iterator
from decimal import Decimal, localcontext
from itertools import product

import numpy as np
import pytest
from pinn_inference.problems import black_scholes
from pinn_inference.problems.black_scholes import OUTPUTS, SOLVABLE, Option

PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
NEAR = (-3.0, -1.0, -0.1, 0.0, 0.7, 3.0)
"""Forwards so many standard deviations from the strike: there the normal distribution is steep and the density curved."""


def _probability(x: Decimal) -> Decimal:
    """The normal distribution, by its series; beyond nine deviations it is 0 or 1 to eighteen digits."""
    if abs(x) > 9:
        return Decimal(int(x > 0))
    term = total = x
    n = 1
    while abs(term) > Decimal("1e-50"):
        n += 2
        term = term * x * x / n
        total += term
    return Decimal("0.5") + total * (-x * x / 2).exp() / (2 * PI).sqrt()


def _exact(option: Option) -> tuple[Decimal, ...]:
    spot, strike, maturity, rate, dividend_yield, volatility, sign = map(Decimal, option)
    root = maturity.sqrt()
    s = volatility * root
    d1 = ((spot / strike).ln() + (rate - dividend_yield + volatility * volatility / 2) * maturity) / s
    d2 = d1 - s
    carry, density = (-dividend_yield * maturity).exp(), (-d1 * d1 / 2).exp() / (2 * PI).sqrt()
    n1, n2 = _probability(sign * d1), _probability(sign * d2)
    asset, cash = spot * carry * n1, strike * (-rate * maturity).exp() * n2
    return (
        sign * (asset - cash),
        sign * carry * n1,
        carry * density / (spot * s),
        spot * carry * density * root,
        sign * (dividend_yield * asset - rate * cash) - spot * carry * density * volatility / (2 * root),
        sign * maturity * cash,
    )


def _options() -> Iterator[Option]:
    """Every corner of what the solver takes, and near the money at every corner of the others."""
    spots, strikes, *others = ((field.low, field.high) for field in SOLVABLE)
    for values in product(spots, strikes, *others, (1.0, -1.0)):
        yield Option(*values)
    for deviations, strike, maturity, rate, dividend_yield, volatility, sign in product(
        NEAR, (1e-5, 100.0, 1e10), *others, (1.0, -1.0)
    ):
        spot = strike * math.exp(deviations * volatility * math.sqrt(maturity) - (rate - dividend_yield) * maturity)
        if spots[0] <= spot <= spots[1]:
            yield Option(spot, strike, maturity, rate, dividend_yield, volatility, sign)


def test_the_solvers_bounds_hold_at_every_corner_of_what_it_takes() -> None:
    beyond = []
    with localcontext(prec=60):
        for option in _options():
            exact, bounds = _exact(option), black_scholes.solver_bounds(option)
            found = zip(OUTPUTS, black_scholes.solve(option), exact, bounds, strict=True)
            beyond += [(name, option) for name, value, true, bound in found if abs(Decimal(value) - true) > bound]
    assert beyond == []


def test_the_solvers_bounds_say_next_to_nothing_of_an_ordinary_option() -> None:
    ordinary = black_scholes.solver_bounds(Option(100.0, 105.0, 0.5, 0.03, 0.0, 0.2, 1.0))
    assert max(ordinary) < 1e-9


def test_bounds_of_one_and_of_many_are_the_same() -> None:
    options = list(_options())
    alone = np.array([black_scholes.solver_bounds(option) for option in options])
    together = np.stack(black_scholes.solver_bounds(black_scholes.stack(options)), axis=1)
    assert together == pytest.approx(alone, rel=1e-6)
