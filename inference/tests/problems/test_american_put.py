"""The solver of the American put is as close to the truth as it says, and its formulas are right whatever the networks say."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinn_inference.errors import InvalidInput, OutOfDomain
from pinn_inference.problems import american_put, american_put_solver, black_scholes
from pinn_inference.problems.american_put import INPUTS, SOLVABLE, Formulation, Put, reduce
from pinn_inference.problems.black_scholes import Greeks, Option

from .binomial import american_put as by_tree

PUT = Put(0.95, 1.0, 0.5, 0.04, 0.2)

in_range = st.builds(Put, st.floats(0.5, 2), st.just(1.0), *(st.floats(i.low, i.high) for i in INPUTS[2:]))
jets = st.tuples(*[st.floats(-0.3, 0.3)] * 5, *[st.floats(-0.1, 0.1)] * 3)


# ----------------------------------------------------------------------------------------------------- the solver


@pytest.mark.parametrize(
    "put",
    [
        Put(0.95, 1.0, 0.5, 0.04, 0.2),
        Put(1.0, 1.0, 2.0, 0.1, 0.05),
        Put(0.6, 1.0, 2.0, 0.1, 0.6),
        Put(1.4, 1.0, 1.0, 0.05, 0.4),
        Put(1.0, 1.0, 0.05, 0.001, 0.3),
        Put(40.0, 50.0, 1.5, 0.02, 0.5),
        Put(100.0, 100.0, 4.0, 0.08, 0.5),
    ],
)
def test_the_solver_agrees_with_a_binomial_tree(put: Put) -> None:
    assert _solved(put).price == pytest.approx(by_tree(*put, steps=2000), abs=2e-6 * put.strike)


def test_the_solvers_bounds_hold_against_twice_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    puts = _batch(_corners())
    found, bounds = american_put.solve(puts), american_put.solver_bounds(puts)
    finer = american_put_solver.Boundary(40, 128, 256)
    monkeypatch.setattr(american_put, "_solver", lambda: finer)
    for name, value, true, bound in zip(Greeks._fields, found, american_put.solve(puts), bounds, strict=True):
        assert np.all(np.abs(value - true) <= bound), name


def _corners() -> list[Put]:
    """Of what the solver takes, near the strike and near the boundary; and in the trained ranges."""
    wide = product(*((field.low, field.high) for field in SOLVABLE[2:]), (-1.0, -0.2, 0.0, 1.0))
    usual = product((0.1, 2.0), (0.01, 0.1), (0.1, 0.6), (-1.0, -0.2, 0.0, 1.0))
    return [
        Put(math.exp(deviations * volatility * math.sqrt(maturity)), 1.0, maturity, rate, volatility)
        for maturity, rate, volatility, deviations in (*wide, *usual)
    ]


def test_the_boundary_satisfies_value_matching_which_it_was_not_solved_for() -> None:
    """1 - S = P at the boundary: the solver imposes the slope there, so the value tells how well."""
    puts = _batch(
        [Put(1.0, 1.0, t, r, v) for t, r, v in product((0.02, 0.5, 2.0), (0.001, 0.02, 0.1), (0.05, 0.2, 0.6))]
    )
    boundary = american_put.exercise_boundary(puts)
    above = american_put.solve(puts._replace(spot=boundary * (1 + 1e-9)))
    assert above.price == pytest.approx(1 - boundary, abs=2e-8)
    assert above.gamma.min() > 0  # not yet exercised


def test_the_boundary_tends_to_that_of_the_perpetual_put() -> None:
    """S = K k/(1 + k), k = 2r/sigma^2 (R. C. Merton, Bell Journal of Economics 4, 1973)."""
    k = 2 * 0.3 / 0.09
    found = american_put.exercise_boundary(_batch([Put(1.0, 1.0, 30.0, 0.3, 0.3)]))
    assert found[0] == pytest.approx(k / (1 + k), rel=1e-5)


@pytest.mark.parametrize("rate", [0.0, -0.05])
def test_without_interest_to_gain_it_is_the_european_put(rate: float) -> None:
    put = PUT._replace(rate=rate)
    assert _solved(put) == black_scholes.solve(_european(put))


def test_where_it_pays_to_exercise_it_is_the_payoff() -> None:
    assert _solved(Put(60.0, 100.0, 1.0, 0.1, 0.2)) == Greeks(40.0, -1.0, 0.0, 0.0, 0.0, 0.0)


def test_the_solver_names_what_it_does_not_take() -> None:
    problem = Formulation(INPUTS, None)
    with pytest.raises(InvalidInput, match=r"^volatility is 4\.0, which the reference solver does not take"):
        problem.solvable(PUT._replace(volatility=4.0))


# --------------------------------------------------------------------------------------------------- the formulas


@given(in_range.filter(lambda put: reduce(put).rho > american_put.RHO_LEAST), jets)
def test_value_and_slope_are_those_of_the_payoff_at_the_boundary_whatever_the_networks_say(
    put: Put, jet: tuple[float, ...]
) -> None:
    edge = _edge(put, jet)
    exercised, held = (american_put.greeks(put._replace(spot=edge * (1 + side)), jet) for side in (-1e-9, 1e-9))
    assert exercised == Greeks(1 - edge * (1 - 1e-9), -1.0, 0.0, 0.0, 0.0, 0.0)
    steep = 1 / (put.volatility * math.sqrt(put.maturity))
    assert held.price == pytest.approx(1 - edge, abs=3e-9)
    assert held.delta == pytest.approx(-1.0, abs=2e-8 * steep * (1 + steep))


@given(in_range.filter(lambda put: put.rate * math.sqrt(put.maturity) > 2e-3 * put.volatility), jets)
def test_greeks_are_the_derivatives_of_the_price(put: Put, jet: tuple[float, ...]) -> None:
    """Central differences through networks that are polynomials with this jet at the put; away from the boundary's kink."""
    at = Formulation(INPUTS, None).coordinates(put)
    edge = _edge(put, jet)
    if abs(put.spot / edge - 1) < 0.01 or reduce(put).d > american_put.FAR - 0.1:
        return

    def along(**moves: float) -> Greeks:
        moved = put._replace(**{name: getattr(put, name) + move for name, move in moves.items()})
        return american_put.greeks(moved, _polynomial(jet, at, moved))

    exact = along()
    s = put.volatility * math.sqrt(put.maturity)
    for name, greek, sign in (
        ("spot", "delta", 1),
        ("volatility", "vega", 1),
        ("maturity", "theta", -1),
        ("rate", "rho", 1),
    ):
        h = 1e-4 * s * getattr(put, name)
        slope = sign * (along(**{name: h}).price - along(**{name: -h}).price) / (2 * h)
        assert slope == pytest.approx(
            getattr(exact, greek), rel=1e-3, abs=2e-4 * (1 + abs(exact.delta) + abs(exact.vega))
        ), greek
    h = 1e-4 * s * put.spot
    curve = (along(spot=h).delta - along(spot=-h).delta) / (2 * h)
    assert curve == pytest.approx(exact.gamma, rel=1e-3, abs=1e-3 * (1 + exact.gamma))


@given(in_range, jets)
def test_one_put_and_a_batch_are_the_same_arithmetic(put: Put, jet: tuple[float, ...]) -> None:
    alone = american_put.greeks(put, jet)
    together = american_put.greeks(_batch([put, put]), [np.array([j, j]) for j in jet])
    assert [float(v[1]) for v in together] == pytest.approx(list(alone), rel=1e-9, abs=1e-9)


def test_a_broken_answer_is_seen_by_the_invariant_it_breaks() -> None:
    good = _solved(PUT)
    assert max(american_put.excesses(PUT, good).values()) < 1e-12
    for change, invariant in (
        ({"theta": good.theta - 0.01}, "complementarity"),
        ({"price": good.price + 0.01}, "complementarity"),
        ({"price": 0.04}, "price_bounds"),
        ({"price": 1.01}, "price_bounds"),
        ({"delta": -1.01}, "delta_bounds"),
        ({"delta": 0.01}, "delta_bounds"),
        ({"gamma": -0.01}, "gamma_sign"),
        ({"vega": -0.01}, "vega_sign"),
        ({"rho": 0.01}, "rho_sign"),
    ):
        assert american_put.excesses(PUT, good._replace(**change))[invariant] > 1e-4, (change, invariant)


def test_a_put_that_should_be_exercised_and_is_held_is_seen() -> None:
    put = Put(0.7, 1.0, 1.0, 0.1, 0.2)
    held = black_scholes.solve(_european(put))
    assert american_put.excesses(put, held)["complementarity"] > 0.01


# -------------------------------------------------------------------------------------------------- the questions


def test_what_is_asked_is_taken_or_refused_by_name() -> None:
    problem = Formulation(INPUTS, None)
    item = {"spot": 95.0, "strike": 100, "maturity": 0.5, "rate": 0.04, "volatility": 0.2}
    assert tuple(problem.parse(item)) == (95.0, 100.0, 0.5, 0.04, 0.2)
    with pytest.raises(OutOfDomain, match=r"^spot is 49\.0, outside the range .*0\.5 to 2 times strike"):
        problem.parse({**item, "spot": 49.0})
    with pytest.raises(InvalidInput, match=r"^'dividend_yield' is not an input"):
        problem.parse({**item, "dividend_yield": 0.01})


@given(in_range)
def test_the_networks_are_asked_only_where_they_were_trained(put: Put) -> None:
    v, s, chi = Formulation(INPUTS, None).coordinates(put)
    assert 0.1 < v < 3
    assert 0 < s <= 0.6 * math.sqrt(2) + 1e-12
    assert 0.7 < chi <= 7.6


def _batch(puts: list[Put]) -> Put:
    return Put(*np.array(puts).T)


def _solved(put: Put) -> Greeks:
    return Formulation(INPUTS, None).solve(put)[0]


def _european(put: Put) -> Option:
    return Option(*put[:4], 0.0, put.volatility, -1.0)


def _edge(put: Put, jet: tuple[float, ...]) -> float:
    reduced = reduce(put)
    return math.exp(-reduced.s * reduced.zeta * math.exp(jet[5]))


def _polynomial(jet: tuple[float, ...], at: tuple[float, ...], put: Put) -> tuple[float, ...]:
    """The jet at `put` of the polynomials whose jet at the coordinates `at` is `jet`."""
    n, n_v, n_vv, n_s, n_chi, m, m_s, m_chi = jet
    v, s, chi = (here - there for here, there in zip(Formulation(INPUTS, None).coordinates(put), at, strict=True))
    value = n + v * n_v + 0.5 * v * v * n_vv + s * n_s + chi * n_chi
    return (value, n_v + v * n_vv, n_vv, n_s, n_chi, m + s * m_s + chi * m_chi, m_s, m_chi)
