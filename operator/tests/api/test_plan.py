"""What cannot be planned: shares that do not make a whole."""

from typing import Any

import pytest
from pinn_operator.api.plan import Phase, Plan, Traffic
from pinn_operator.api.readings import Checked, Server


@pytest.mark.parametrize("weights", [{}, {"a": 99}, {"a": 100, "b": 1}, {"a": 100, "b": 0}, {"a": 110, "b": -10}])
def test_shares_are_above_zero_and_sum_to_a_hundred(weights: Any) -> None:
    """Two backends at 0 would be answered with errors, and one at 0 is a backend that may be missing."""
    with pytest.raises(ValueError, match="sum to 100"):
        Traffic(weights, None)


def test_a_revision_that_is_not_named_in_the_shares_has_none() -> None:
    split = Plan(Phase.STEPPING, "", "b", traffic=Traffic({"a": 90, "b": 10}, "a"))
    assert [split.weight_of(name) for name in "abc"] == [90, 10, 0]
    assert Plan(Phase.STARTING, "", "b").weight_of("b") == 0


def test_checks_add_up_and_the_first_thing_that_was_said_stays() -> None:
    assert Checked(1, 2, 3, 4) + Checked(10, 20, 30, 40, "first") + Checked(said="second") == Checked(
        11, 22, 33, 44, "first"
    )


def test_a_restarted_server_counts_under_another_name() -> None:
    """Else its counters, which begin anew, would look like those of the process before."""
    before, after = (
        Server("r", "a", f"containerd://{digit * 64}", None, ready=True, restarts=int(digit)) for digit in "01"
    )
    assert before.process != after.process
    assert before.process.startswith("a/")
