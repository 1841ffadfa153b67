"""An error table holds for what is served from it: jets that were moved, however narrow a front is, and against the truth."""

import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from pinn_inference.problems import Input
from pinn_inference.problems.error_table import ErrorTable
from pinn_inference.problems.jets import Jets
from pinn_inference.problems.ranged import Ranged
from pinn_inference.training import measured
from pinn_inference.training.measured import Cells

CELL = 0.1


class Front(Ranged):
    """u = N(x), and its slope; solved by a scheme that knows how coarse it is."""

    name = "front"
    domain = (Input("x", "", 0.0, 1.0),)
    units = MappingProxyType({"u": "", "u_x": ""})
    invariants = ()
    jets = Jets("x", ("", "x", "xx"))
    worst = MappingProxyType({"u": 1.0, "u_x": 10.0})
    coarse = 0.0

    def coordinates(self, point: Any) -> tuple[Any, ...]:
        """The point itself."""
        return (point.x,)

    def answer(self, _: Any, jet: Any) -> Sequence[Any]:
        """The network."""
        return jet[0], jet[1]

    def excesses(self, _: Any, __: Any) -> dict[str, Any]:
        """Nothing must hold."""
        return {}

    def solve(self, point: Any) -> tuple[Sequence[Any], Sequence[Any]]:
        """What the network says, as well as this scheme knows it."""
        jet = NARROW.jets(np.stack([point.x], axis=1))
        return (jet[0], jet[1]), (np.full_like(jet[0], self.coarse), np.full_like(jet[0], self.coarse))


class Network:
    """Of one number, whose jet is known."""

    name = "exact"
    shape = (1, 3)

    def __init__(self, jet: Any) -> None:
        self._jet = jet

    def jet(self, *at: float) -> Any:
        raise NotImplementedError

    def jets(self, points: Any) -> Any:
        return np.stack(self._jet(points[:, 0]))


def _front(x: Any) -> Any:
    """tanh((x - 0.47)/w), narrower than the places where derivatives are looked at."""
    w = 0.004
    u = np.tanh((x - 0.47) / w)
    slope = (1 - u * u) / w
    return u, slope, -2 * u * slope / w


def _kink(x: Any) -> Any:
    return np.maximum(0.0, x - 0.461), (x > 0.461).astype(float), np.zeros_like(x)


NARROW = Network(_front)


@pytest.mark.parametrize("network", [NARROW, Network(_kink)], ids=["front", "kink"])
def test_no_answer_that_was_moved_is_farther_off_than_its_bound(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "NARROW", network)
    table = measured.error_table(Front(Front.domain, None), network, network, Cells((CELL,)))
    problem = Front(Front.domain, table)
    rng = np.random.default_rng(8)
    x = rng.uniform(0.3, 0.7, 20_000)
    at = x + rng.uniform(-0.5, 0.5, len(x)) * CELL
    moved, bounds = problem.near(problem.Point(x), (at,), network.jets(at[:, None]))
    assert bounds is not None
    for value, bound, true in zip(moved, bounds, network.jets(x[:, None])[:2], strict=True):
        assert (np.abs(value - true) <= bound).all()


def test_where_nothing_is_steep_the_table_stays_what_the_derivatives_say() -> None:
    wave = Network(lambda x: (np.sin(x), np.cos(x), -np.sin(x)))
    table = measured.error_table(Front(Front.domain, None), wave, wave, Cells((CELL,)))
    assert table.values[2].max() <= 1.01 * measured.MARGIN * math.cos(0.0)


def test_what_the_solver_says_of_itself_is_in_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Front, "coarse", 0.05)
    table: ErrorTable = measured.error_table(Front(Front.domain, None), NARROW, NARROW, Cells((CELL,)))
    assert (table.values[:2] >= 0.05).all()


class Coarse(Front):
    """Solvers state their errors as they like: one number for all points, and infinity where they do not know."""

    bounds: tuple[Any, ...] = (1e-12, 1e-12)

    def solve(self, point: Any) -> tuple[Sequence[Any], Sequence[Any]]:
        """With those."""
        return super().solve(point)[0], self.bounds


@pytest.mark.parametrize("bounds", [(1e-12, 1e-12), (math.inf, 0.0)])
def test_what_a_solver_does_not_know_makes_no_table_useless(
    bounds: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Coarse, "bounds", bounds)
    table = measured.error_table(Coarse(Coarse.domain, None), NARROW, NARROW, Cells((CELL,)))
    assert np.isfinite(table.values).all()


def test_a_problem_that_is_made_by_a_function_is_tried_as_it_is() -> None:
    class Made(Front):
        def __init__(self, order: int) -> None:
            super().__init__(Front.domain, None)
            assert order == 4

    assert measured.error_table(Made(4), NARROW, NARROW, Cells((CELL,))).steps == (CELL,)
