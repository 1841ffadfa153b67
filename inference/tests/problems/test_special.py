"""The complementary error function of many numbers, against the one of `math`."""

import math
from typing import Any

import numpy as np
import pytest
from pinn_inference.problems.special import END, FEW, erfc

EVERYWHERE = np.concatenate(
    [np.linspace(-7, END, 40_001), np.random.default_rng(3).normal(0, 1, 20_000), [0.0, -0.0, 1e-300, -1e300, 1e300]]
)


def wanted(x: Any) -> Any:
    return np.array([math.erfc(value) for value in x.ravel().tolist()]).reshape(x.shape)


def test_is_as_exact_as_stated_everywhere() -> None:
    error = np.abs(erfc(EVERYWHERE) - wanted(EVERYWHERE))
    assert error.max() < 1e-15


def test_keeps_its_digits_in_the_tail_where_almost_nothing_is_left() -> None:
    x = np.linspace(1, 26, 5000)
    assert np.all(np.abs(erfc(x) / wanted(x) - 1) < 1e-15 * (1 + x * x))


@pytest.mark.parametrize("count", [FEW - 1, FEW], ids=["few", "many"])
def test_answers_what_is_no_ordinary_number_as_math_does(count: int) -> None:
    x = np.resize([math.inf, -math.inf, math.nan, 1.0], count)
    np.testing.assert_allclose(erfc(x), wanted(x), rtol=1e-15, atol=1e-300)


def test_keeps_the_shape() -> None:
    x = np.linspace(-3, 3, 2 * FEW).reshape(2, FEW // 10, 10)
    np.testing.assert_allclose(erfc(x), wanted(x), rtol=0, atol=1e-15)
    np.testing.assert_array_equal(erfc(x[:1, :2]), wanted(x[:1, :2]))
