"""Times, spans and bars."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pinn_operator.plugin.words import bar, share_of, span, until

NOW = datetime(2026, 1, 2, 23, 59, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-3, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (91_800, "25 h 30 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_a_span_is_said_in_its_two_largest_units(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_a_time_of_another_day_says_which() -> None:
    assert until(NOW + timedelta(seconds=30), NOW) == "23:59:30 UTC (in 30 s)"
    assert until(NOW + timedelta(minutes=2), NOW) == "2026-01-03 00:01 UTC (in 2 min)"
    assert until(NOW, NOW) == "23:59:00 UTC (now due)"


@pytest.mark.parametrize(
    ("evidence", "share"),
    [
        ("20 of 20", 1.0), ("4.4721 of 20", 0.5), ("1 of 20", 0.0), ("0.2 of 20", 0.0), ("0 of 20", 0.0), ("1e+99 of 20", 1.0),
        ("0 of 0", None), ("", None), (None, None), ("much", None), ("nan of 20", None),
    ],
)  # fmt: skip
def test_evidence_adds_up_by_its_logarithm(evidence: str | None, share: float | None) -> None:
    found = share_of(evidence)
    assert found == (share if share is None else pytest.approx(share, abs=1e-4))


def test_a_bar_is_full_only_when_the_evidence_suffices() -> None:
    assert bar(1.0) == "█" * 12
    assert bar(0.999) == "█" * 11 + "░"
    assert bar(0.0) == "░" * 12
