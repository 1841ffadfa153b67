"""Bins are integers, the same for one as for many, and a centre is never farther than half a width."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pinn_inference.bins import Bins, chosen
from pinn_inference.errors import SettingsError
from pinn_inference.problems import Input, Width
from pinn_inference.problems.black_scholes import BINS, INPUTS

RELATIVE, ABSOLUTE = Width(0.01, 0.05), Width(0.25, None)
numbers = st.floats(-1e8, 1e8)


@given(numbers)
@example(0.05)
@example(-0.05)
@example(0.0)
def test_a_centre_is_within_half_a_width(x: float) -> None:
    bins = Bins([RELATIVE, ABSOLUTE])
    near, plain = bins.centre(bins.index([x, x]))
    assert abs(near - x) <= 0.5001 * 0.01 * max(abs(x), 0.05) * 1.01
    assert abs(plain - x) <= 0.125 + 1e-7


@given(numbers)
def test_the_centre_lies_in_its_own_bin(x: float) -> None:
    bins = Bins([RELATIVE, ABSOLUTE])
    index = bins.index([x, x])
    assert bins.index(bins.centre(index)) == index


@given(st.lists(numbers, min_size=1, max_size=20))
def test_many_fall_into_the_bins_that_each_falls_into(values: list[float]) -> None:
    bins = Bins([RELATIVE, ABSOLUTE])
    together = bins.indices(np.array([values, values]).T)
    alone = [bins.index([x, x]) for x in values]
    assert (
        np.abs(together - np.array(alone)).max() <= 1
    )  # a logarithm may differ in its last bit, at the border of two bins
    for centre, one in zip(bins.centres(np.array(alone)), alone, strict=True):
        assert centre.tolist() == pytest.approx(bins.centre(one), rel=1e-12)


def test_a_rate_of_zero_has_a_bin_and_small_changes_stay_in_it() -> None:
    bins = Bins([Width(0.01, 0.01)])
    assert bins.index([0.0]) == bins.index([4e-5]) == bins.index([-4e-5]) == [0]
    assert bins.index([6e-5]) == [1]


def test_every_input_of_the_problem_has_a_default() -> None:
    assert [width.relative for width in chosen(INPUTS, BINS, {})] == [BINS[field.name].relative for field in INPUTS]


def test_a_wished_width_replaces_the_default() -> None:
    widths = chosen(INPUTS, BINS, {"volatility": (0.02, True), "rate": (0.001, False)})
    assert widths[5] == Width(0.02, BINS["volatility"].scale)
    assert widths[3] == Width(0.001, None)


def test_the_largest_strike_and_spot_have_bins_of_the_smallest_width_that_is_taken() -> None:
    widths = chosen(INPUTS, BINS, {"strike": (1.0, False), "spot": (1e-6, True)})
    bins = Bins(widths)
    values = [2e9, 1e9, 2.0, 0.1, 0.1, 0.6]
    assert bins.unpack(bins.pack(*bins.index(values))) == tuple(bins.index(values))
    assert bins.indices(np.array([values]))[0].tolist() == pytest.approx(bins.index(values), abs=1)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"vol": (0.01, True)}, "'vol', which is no input"),
        ({"volatility": (0.0, True)}, "volatility must be above 0"),
        ({"volatility": (-1.0, False)}, "volatility must be above 0"),
        ({"volatility": (1.0, True)}, "below 100%"),
        ({"strike": (math.inf, False)}, "strike must be above 0"),
        ({"strike": (1e-12, False)}, "too small to tell bins apart"),
        ({"spot": (1e-3, False)}, "the width of spot is too small"),  # its range is a multiple of the strike's
        ({"rate": (1e-10, True)}, "the width of rate is too small"),
    ],
)
def test_a_width_that_makes_no_bins_is_refused_by_name(wish: dict[str, tuple[float, bool]], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        chosen(INPUTS, BINS, wish)


def test_a_relative_width_of_an_input_that_has_none_of_its_own_is_of_the_largest_number() -> None:
    inputs = [Input("t", "s", 0.0, 500.0)]
    (width,) = chosen(inputs, {"t": Width(5.0, None)}, {"t": (0.01, True)})
    bins = Bins([width])
    assert bins.index([500.0]) == bins.index([500.02]), "1 % of 500 are 5 s"
    assert bins.index([450.0]) != bins.index([440.0])
