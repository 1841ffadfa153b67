"""What a problem of somebody's own says about its inputs and outputs is taken by name, or refused with a sentence."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import pytest
from pinn_inference.errors import InvalidInput
from pinn_inference.problems import Input
from pinn_inference.problems.jets import Jets
from pinn_inference.problems.ranged import Ranged


class Rod(Ranged):
    """As little as a problem can be."""

    name = "rod"
    domain = (Input("x", "m", 0.0, 1.0), Input("t", "s", 0.0, 2.0))
    units = MappingProxyType({"u": "K"})
    invariants = ()
    jets = Jets("xt", ("",))

    def coordinates(self, point: Any) -> tuple[Any, ...]:
        """The point itself."""
        return point.x, point.t

    def answer(self, _: Any, jet: Any) -> Sequence[Any]:
        """The network."""
        return (jet[0],)

    def excesses(self, _: Any, __: Any) -> dict[str, Any]:
        """Nothing must hold."""
        return {}

    def solve(self, _: Any) -> tuple[Sequence[Any], Sequence[Any]]:
        """Nothing is known."""
        return (0.0,), (1.0,)


def rod(**said: Any) -> Ranged:
    made: Any = type("Other", (Rod,), said)
    problem: Ranged = made(said.get("domain", Rod.domain), None)
    return problem


def test_ranges_of_the_solver_go_by_name_in_whatever_order() -> None:
    problem = rod(solver_ranges=(Input("t", "s", 0.0, 100.0), Input("x", "m", 0.0, 1.0)))
    problem.solvable(problem.Point(x=0.5, t=99.0))
    with pytest.raises(InvalidInput, match=r"^x is 7\.0, which the reference solver does not take"):
        problem.solvable(problem.Point(x=7.0, t=1.0))


@pytest.mark.parametrize("ranges", [(), (Input("t", "s", 0.0, 100.0),)])
def test_a_solver_that_says_nothing_of_an_input_answers_where_the_model_was_trained(ranges: tuple[Input, ...]) -> None:
    problem = rod(solver_ranges=ranges)
    problem.solvable(problem.Point(x=1.0, t=2.0))
    with pytest.raises(InvalidInput, match=r"^x is -5\.0, .*allowed: 0 to 1 m"):
        problem.solvable(problem.Point(x=-5.0, t=1.0))


def test_a_range_of_the_solver_for_what_is_no_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^solver_ranges names 'time'; the inputs are x, t$"):
        rod(solver_ranges=(Input("time", "s", 0.0, 1.0),))


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"units": {"delta T": "K"}}, "the output 'delta T' is no name"),
        ({"units": {"class": "K"}}, "the output 'class' is no name"),
        ({"units": {"engine": "K"}}, "the output 'engine' has a name that is taken"),
        ({"units": {"error_bound": "K"}}, "the output 'error_bound' has a name that is taken"),
        ({"domain": (Input("exact", "", 0.0, 1.0),)}, "the input 'exact' has a name that is taken"),
        ({"domain": (Input("x-y", "", 0.0, 1.0),)}, "the input 'x-y' is no name"),
    ],
)
def test_a_name_that_no_question_or_answer_can_have_is_refused(said: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}"):
        rod(**said)
