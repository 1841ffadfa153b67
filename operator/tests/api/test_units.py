"""Durations, percentages and quantities mean what Kubernetes and Go mean by them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity
from pinn_operator.api import rules, units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("0s", 0), ("1h30m", 5400), ("1.5s", 1.5), ("1d", 86400), ("2h0m1s1ms", 7201.001)],
)
def test_a_duration_is_read_as_go_reads_it_and_in_days(text: str, seconds: float) -> None:
    assert units.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "1w", "-5s", "1 h", "h", "1d12h", "1.5d", "5s ", "Off"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        units.seconds(text)


@pytest.mark.parametrize(("text", "share"), [("1%", 0.01), ("0.1%", 0.001), ("100%", 1), ("0%", 0), ("150%", 1.5)])
def test_a_percentage_is_a_share(text: str, share: float) -> None:
    assert units.fraction(text) == share


@pytest.mark.parametrize("text", ["1", "%", "-1%", "1 %", "Off", "1e2%"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no percentage"):
        units.fraction(text)


@given(
    st.integers(0, 10**9), st.sampled_from(["", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
)
def test_a_quantity_is_what_kubernetes_reads(number: int, suffix: str) -> None:
    assert units.quantity(f"{number}{suffix}") == parse_quantity(f"{number}{suffix}")


def test_an_integer_is_a_quantity_too() -> None:
    assert units.bytes_of(1024) == units.bytes_of("1Ki") == 1024


@pytest.mark.parametrize("text", ["", "10MB", "-1", "1e3", "Mi", "1 Gi", "90%"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        units.quantity(text)


def test_a_gate_that_is_off_or_absent_has_no_limit() -> None:
    assert units.unless_off(units.fraction, "Off") is None
    assert units.unless_off(units.bytes_of, None) is None
    assert units.unless_off(units.fraction, "2%") == 0.02


@given(st.from_regex(rules._DURATION, fullmatch=True))
def test_every_duration_the_schema_lets_through_can_be_read(text: str) -> None:
    assert units.seconds(text) >= 0


@given(st.from_regex(rules._PERCENTAGE, fullmatch=True))
def test_every_percentage_the_schema_lets_through_can_be_read(text: str) -> None:
    assert 0 <= units.fraction(text) <= 1


@given(st.from_regex(rules._QUANTITY, fullmatch=True))
def test_every_quantity_the_schema_lets_through_can_be_read(text: str) -> None:
    assert units.quantity(text) >= 0


@given(st.from_regex(rules._BYTES, fullmatch=True))
def test_every_amount_of_memory_the_schema_lets_through_can_be_read(text: str) -> None:
    assert units.bytes_of(text) >= 0
