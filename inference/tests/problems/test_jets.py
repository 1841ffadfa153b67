"""A jet is moved by the terms there are, and never farther from the truth than its remainder says."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinn_inference.problems.jets import Jets

PARABOLIC = Jets("ytl", ("", "y", "yy", "t", "l"))


def _wave(letters: str, at: tuple[float, ...]) -> float:
    """The derivative named by `letters` of sin(y + 2 t - l + 0.3)."""
    slopes = {"y": 1.0, "t": 2.0, "l": -1.0}
    phase = sum(slope * c for slope, c in zip(slopes.values(), at, strict=True)) + 0.3
    size = math.prod(slopes[letter] for letter in letters)
    return size * math.sin(phase + 0.5 * math.pi * len(letters))


def test_what_lies_beyond_the_rows_is_named() -> None:
    assert set(PARABOLIC.beyond) == {"yyy", "yyt", "yyl", "yt", "yl", "tt", "tl", "ll"}
    assert Jets("x", ("", "x")).beyond == ("xx",)
    assert Jets("xy", ("",)).beyond == ("x", "y")


def test_a_polynomial_that_the_rows_hold_whole_is_moved_without_error() -> None:
    """1 + 2y + 3y^2 + 4t + 5l, from the origin to (0.3, -0.2, 0.7)."""
    y, t, l = 0.3, -0.2, 0.7  # noqa: E741 - the coordinate's name
    moved = PARABOLIC.moved([1.0, 2.0, 6.0, 4.0, 5.0], [y, t, l])
    assert moved == pytest.approx([1 + 2 * y + 3 * y * y + 4 * t + 5 * l, 2 + 6 * y, 6.0, 4.0, 5.0])


@given(st.tuples(*[st.floats(-1, 1)] * 3), st.tuples(*[st.floats(-0.5, 0.5)] * 3))
def test_no_row_is_moved_farther_from_the_truth_than_its_remainder(
    start: tuple[float, ...], by: tuple[float, ...]
) -> None:
    end = tuple(a + b for a, b in zip(start, by, strict=True))
    moved = PARABOLIC.moved([_wave(row, start) for row in PARABOLIC.rows], by)
    largest = [2.0 ** name.count("t") for name in PARABOLIC.beyond]
    rest = PARABOLIC.remainders([abs(d) for d in by], largest)
    for row, value, room in zip(PARABOLIC.rows, moved, rest, strict=True):
        assert abs(value - _wave(row, end)) <= room + 1e-12, row


def test_a_batch_is_moved_as_each_of_it_is() -> None:
    rng = np.random.default_rng(0)
    jet, by = rng.random((5, 4)), rng.random((3, 4))
    together = PARABOLIC.moved(jet, list(by))
    for i in range(4):
        assert [float(row[i]) for row in together] == pytest.approx(PARABOLIC.moved(jet[:, i], by[:, i]))


@pytest.mark.parametrize(
    ("rows", "words"),
    [(("", "z"), "'z' in the rows of a jet is no coordinate"), (("x",), "the value"), (("", "x", "x"), "each once")],
)
def test_rows_that_are_none_are_refused(rows: tuple[str, ...], words: str) -> None:
    def jets() -> Any:
        return Jets("xy", rows)

    with pytest.raises(ValueError, match=words):
        jets()
