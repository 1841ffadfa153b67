"""The page of a finished rollout. In the golden files look at what a tired person reads first, and whether it is enough."""

from dataclasses import replace
from pathlib import Path

import pytest
from pinn_operator.api.journal import Entry, Journal, Minute
from pinn_operator.api.readings import Checked
from tests.golden import assert_golden
from tests.report.finished import BEGAN, asked, certified, gate, promoted, rolled_back

GOLDEN = Path(__file__).parent / "golden"
COMMANDS = ("    kubectl", "       kubectl", "    {")


def page(journal: Journal) -> str:
    return certified(journal).markdown


def test_a_rollback_reads_as_an_incident_report() -> None:
    assert_golden(GOLDEN / "rolled-back.md", page(rolled_back()))


def test_a_promotion_reads_as_a_certificate() -> None:
    assert_golden(GOLDEN / "promoted.md", page(promoted()))


@pytest.mark.parametrize("journal", [rolled_back(), promoted()])
def test_nothing_but_commands_and_logs_is_wider_than_a_terminal(journal: Journal) -> None:
    wide = [gate(name, limit="500ms for 95%", observed=0.1234567, stable=1e-9, events=1e9) for name in "ab" * 99]
    wide.append(gate("x" * 63, "NoMetrics", limit="a very long limit, a very long limit", observed=None))
    minutes = [Minute(BEGAN + 60 * n, dict.fromkeys(("requests", "errors"), 1e11)) for n in range(60)]
    steps = [Entry(BEGAN + n, "Step", "weights " * 99, n % 101) for n in range(200)]
    long = replace(journal, gates=tuple(wide), minutes=tuple(minutes), timeline=tuple(steps), reason="R" * 99)
    lines = page(long).splitlines()
    assert "## The last 10 minutes with traffic" in lines
    assert sum(line.startswith("03:") or line.startswith("04:") for line in lines) == 10
    for line in lines:
        assert len(line) <= 80 or line.startswith(COMMANDS), line


def test_a_version_stopped_before_its_first_user_says_that_nobody_was_exposed() -> None:
    shadow = {"0a1b2c3d4e": Checked(200, 150, 20, 9, "gamma < 0 at S=100"), "6f1e0c2b9d": Checked(200)}
    text = page(rolled_back(timeline=rolled_back().timeline[::2], gates=(), minutes=(), shadow=shadow))
    assert "none: it never got a share of the traffic" in text
    assert "No gate had anything to judge yet." in text
    assert "- gamma < 0 at S=100" in text
    assert "2.0.0   | 200     | 150        | 20       | 9" in text


def facts(text: str) -> dict[str, str]:
    """The rows of tables of two columns."""
    return {line.partition(" | ")[0].strip(): line.partition(" | ")[2] for line in text.splitlines() if " | " in line}


def test_what_users_asked_is_told_apart_from_what_was_judged() -> None:
    """Where they ask little, most of what is judged are requests that the operator replayed itself."""
    rows = facts(page(rolled_back()))
    assert rows["their requests"] == "110 in the last hour, 34 failed"
    assert rows["those to the old one"] == "6,190 in the last hour, 24 failed"
    assert rows["requests judged"] == "160 in the last hour, 50 failed"


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"requests": 100, "errors": 9, "live": 40}, "50 in the last hour"),
        ({"requests": 40, "errors": 9, "live": 40}, "50 in the last hour, 10 failed"),
        ({"requests": 100, "live": 40}, "50 in the last hour, 1 failed"),
        ({"requests": 100, "errors": 9}, "10 in the last hour, 1 failed"),
    ],
)
def test_what_failed_of_users_is_not_said_where_a_minute_does_not_tell(counts: dict[str, float], said: str) -> None:
    """One that the version before wrote: it counted what failed of all requests only."""
    minutes = (Minute(BEGAN, counts, counts), Minute(BEGAN + 60, *[asked(60, 4, 10, 1)] * 2))
    assert facts(page(rolled_back(minutes=minutes)))["their requests"] == said


def test_a_version_that_is_not_blamed_is_not_said_to_be_refused() -> None:
    text = page(rolled_back(blamed=False))
    assert "not held to be at fault" in text
    assert "not tried again" not in text


def test_a_rollout_given_up_for_another_version_is_no_incident() -> None:
    text = page(rolled_back(ending="Superseded", blamed=False, reason="SpecChanged"))
    assert text.startswith("# Given up for another version: demo/pricer, version 2.0.0\n\nCertificate of the rollout")
    assert "What to do" not in text


def test_what_was_cut_is_said() -> None:
    text = certified(rolled_back(), {"pod": "a line\n" * 100_000}).markdown
    assert "Cut, to stay within 512 KiB: logs (32,767 of 700,000)." in text
