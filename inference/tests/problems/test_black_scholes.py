"""What is asked is checked to the last digit, and the formulas around the network are right whatever the network says."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinn_inference.errors import InvalidInput
from pinn_inference.problems import black_scholes
from pinn_inference.problems.black_scholes import INPUTS, Greeks, Option

OPTION: dict[str, Any] = {"spot": 100, "strike": 105.0, "maturity": 0.5, "rate": 0.03, "volatility": 0.2}
NAMES = [i.name for i in INPUTS]

numbers = st.fixed_dictionaries({i.name: st.floats(i.low, i.high) for i in INPUTS if i.name != "spot"})
in_range = st.builds(
    lambda item, ratio, kind: {**item, "spot": ratio * item["strike"], "kind": kind},
    numbers.map(lambda item: {**item, "strike": 10 ** (item["strike"] % 6)}),
    st.floats(0.501, 1.999),
    st.sampled_from(["call", "put"]),
)
jets = st.tuples(*[st.floats(-0.2, 0.2)] * 4)


@given(in_range)
def test_every_option_in_range_is_taken_as_it_is(item: dict[str, Any]) -> None:
    option = black_scholes.parse(item)
    assert option[:6] == tuple(item[name] for name in NAMES)
    assert option.sign == (1.0 if item["kind"] == "call" else -1.0)


def test_kind_and_dividend_yield_have_defaults_and_integers_are_numbers() -> None:
    assert black_scholes.parse(OPTION) == Option(100.0, 105.0, 0.5, 0.03, 0.0, 0.2, 1.0)


@given(st.sampled_from(NAMES), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_number_that_is_none_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InvalidInput, match=rf"^{name} is (nan|-?inf), which is not finite \(allowed: .+ to .+\)$"):
        black_scholes.parse({**OPTION, name: value})


@given(
    st.sampled_from(NAMES),
    st.one_of(st.booleans(), st.none(), st.text(), st.lists(st.floats()), st.dictionaries(st.text(), st.integers())),
)
def test_what_is_not_a_number_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=f"^{name} must be a number, not a|^{name} must be a number, not null"):
        black_scholes.parse({**OPTION, name: value})


@given(st.sampled_from(NAMES), st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_outside_the_range_is_refused_and_inside_is_not(name: str, value: float) -> None:
    field = next(i for i in INPUTS if i.name == name)
    unit = 105.0 if field.per else 1.0
    item = {**OPTION, name: value}
    if name == "strike":
        item["spot"] = value  # the spot's range moves with the strike
    if field.low * unit <= value <= field.high * unit:
        black_scholes.parse(item)
    else:
        with pytest.raises(InvalidInput, match=rf"^(spot|{name}) is .*(allowed: .* to .*)"):
            black_scholes.parse(item)


@given(st.sampled_from(["spot", "strike", "maturity", "rate", "volatility"]))
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{name} is missing"):
        black_scholes.parse({k: v for k, v in OPTION.items() if k != name})


@given(st.text(min_size=1).filter(lambda name: name not in {*NAMES, "kind"}))
def test_an_unknown_field_is_refused_whether_or_not_defaults_fill_the_rest(name: str) -> None:
    for item in (OPTION, {**OPTION, "dividend_yield": 0.0}, {**OPTION, "dividend_yield": 0.0, "kind": "put"}):
        with pytest.raises(InvalidInput, match="is not an input"):
            black_scholes.parse({**item, name: 1.0})


@given(st.one_of(st.text().filter(lambda k: k not in {"call", "put"}), st.integers(), st.none(), st.booleans()))
def test_a_kind_other_than_call_or_put_is_refused(kind: object) -> None:
    with pytest.raises(InvalidInput, match=r"^kind must be"):
        black_scholes.parse({**OPTION, "kind": kind})


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_whatever_is_sent_is_taken_or_refused_never_an_accident(document: object) -> None:
    with pytest.raises(InvalidInput):
        black_scholes.parse(document)


def test_an_integer_beyond_floats_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^strike is too large"):
        black_scholes.parse({**OPTION, "strike": 10**400})


@given(in_range, jets)
def test_put_call_parity_holds_whatever_the_network_says(item: dict[str, Any], jet: tuple[float, ...]) -> None:
    call, put = (_greeks({**item, "kind": kind}, jet) for kind in ("call", "put"))
    o = black_scholes.parse(item)
    carry, discount = math.exp(-o.dividend_yield * o.maturity), math.exp(-o.rate * o.maturity)
    scale = o.spot + o.strike
    assert call.price - put.price == pytest.approx(o.spot * carry - o.strike * discount, abs=1e-13 * scale)
    assert call.delta - put.delta == pytest.approx(carry, abs=1e-12)
    assert call.gamma == pytest.approx(put.gamma, abs=1e-9 / scale, rel=1e-9)
    assert call.vega == pytest.approx(put.vega, abs=1e-12 * scale)


@given(in_range, jets)
def test_one_option_and_a_batch_are_the_same_arithmetic(item: dict[str, Any], jet: tuple[float, ...]) -> None:
    option = black_scholes.parse(item)
    alone = _greeks(item, jet)
    batch = black_scholes.stack([option, option])
    together = black_scholes.greeks(batch, black_scholes.reduce(batch), [np.array([j, j]) for j in jet])
    scale = 1e-9 * (option.strike + 1 / option.strike)
    assert [float(v[1]) for v in together] == pytest.approx(list(alone), rel=1e-9, abs=scale)


@given(in_range)
def test_greeks_are_the_derivatives_of_the_price(item: dict[str, Any]) -> None:
    """Central differences of the price through a smooth network of known jet; strike 1."""
    item = {**item, "strike": 1.0, "spot": item["spot"] / item["strike"]}
    exact = _with_smooth_network(item)
    for name, greek, sign, tolerance in (
        ("spot", "delta", 1, 1e-6),
        ("volatility", "vega", 1, 1e-5),
        ("maturity", "theta", -1, 1e-5),
        ("rate", "rho", 1, 1e-6),
    ):
        h = 1e-5 * item[name] + 1e-7
        up, down = (_with_smooth_network({**item, name: item[name] + s * h}).price for s in (1, -1))
        assert sign * (up - down) / (2 * h) == pytest.approx(getattr(exact, greek), abs=tolerance, rel=2e-4), greek
    h = 1e-5 * item["spot"]
    up, down = (_with_smooth_network({**item, "spot": item["spot"] + s * h}).delta for s in (1, -1))
    assert (up - down) / (2 * h) == pytest.approx(exact.gamma, abs=1e-5, rel=1e-3)


def test_a_broken_answer_is_seen_by_the_invariant_it_breaks() -> None:
    option = black_scholes.parse(OPTION)
    good = Greeks(4.2, 0.43, 0.027, 27.0, -6.0, 19.5)
    for change, invariant in (
        ({"theta": -5.0}, "pde_residual"),
        ({"price": -0.1}, "price_bounds"),
        ({"price": 100.1}, "price_bounds"),
        ({"delta": 1.001}, "delta_bounds"),
        ({"delta": -0.001}, "delta_bounds"),
        ({"gamma": -0.001}, "gamma_sign"),
        ({"vega": -0.1}, "vega_sign"),
    ):
        assert black_scholes.excesses(option, good._replace(**change))[invariant] > 1e-4, change


def test_the_equation_for_the_network_is_the_one_the_exact_solution_meets() -> None:
    """At s = 0 the exact N is (z^2 - 1)/24."""
    z = np.linspace(0, 5, 50)
    coefficients, source = black_scholes.residual(np.stack([z, np.zeros_like(z)], axis=1))
    jet = np.stack([(z * z - 1) / 24, z / 12, np.full_like(z, 1 / 12), np.zeros_like(z)])
    assert np.max(np.abs((coefficients * jet).sum(axis=0) + source)) < 1e-14


def _greeks(item: dict[str, Any], jet: tuple[float, ...]) -> Greeks:
    option = black_scholes.parse(item)
    return black_scholes.greeks(option, black_scholes.reduce(option), jet)


def _with_smooth_network(item: dict[str, Any]) -> Greeks:
    """N = cos(z)/10 + sin(s)/5, without the range check, whose edge a difference may cross."""
    numbers = [float(item[name]) for name in NAMES]
    option = Option(*numbers, sign=1.0 if item["kind"] == "call" else -1.0)  # type: ignore[misc]  # six numbers, by the line above
    reduced = black_scholes.reduce(option)
    z, s = reduced.z, reduced.s
    jet = (math.cos(z) / 10 + math.sin(s) / 5, -math.sin(z) / 10, -math.cos(z) / 10, math.cos(s) / 5)
    return black_scholes.greeks(option, reduced, jet)


def test_refusals_can_be_sent_as_json() -> None:
    with pytest.raises(InvalidInput) as caught:
        black_scholes.parse({**OPTION, "\ud800": 1})
    assert json.dumps(str(caught.value))
