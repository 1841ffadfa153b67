"""The path of one question, with an engine that says what the test wants."""

import asyncio
import math
from typing import Any

import numpy as np
import pytest
from pinn_inference.engines import Array, Jet
from pinn_inference.errors import InvalidInput, PredictionError
from pinn_inference.predictor import CHUNK, Predictor
from pinn_inference.problems.black_scholes import INPUTS, INVARIANTS

OPTION: dict[str, Any] = {"spot": 100, "strike": 105, "maturity": 0.5, "rate": 0.03, "volatility": 0.2}


class Fixed:
    """Answers the same jet everywhere."""

    name = "fixed"

    def __init__(self, jet: Jet = (-0.04, 0.0, 0.0, 0.0)) -> None:
        self._jet = jet

    def jet(self, z: float, s: float) -> Jet:
        return self._jet

    def jets(self, points: Array) -> Array:
        return np.tile(np.array(self._jet)[:, None], (1, len(points)))


def _predictor(engine: Fixed, tolerance: float = 1.0) -> tuple[Predictor, dict[str, int]]:
    seen: dict[str, int] = {}
    tolerances = dict.fromkeys(INVARIANTS, tolerance)
    return Predictor(engine, INPUTS, tolerances, lambda name, n: seen.update({name: seen.get(name, 0) + n})), seen


def test_an_answer_within_tolerance_counts_no_violation() -> None:
    predictor, seen = _predictor(Fixed())
    predictor.one(OPTION)
    assert seen == {}


def test_each_broken_invariant_is_counted_for_one_and_for_many() -> None:
    predictor, seen = _predictor(Fixed((50.0, 0.0, -900.0, 0.0)), tolerance=1e-6)
    predictor.one(OPTION)
    alone = dict(seen)
    assert {"pde_residual", "gamma_sign"} <= set(alone)
    seen.clear()
    asyncio.run(predictor.many([OPTION] * 7))
    assert seen == {name: 7 * count for name, count in alone.items()}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_answer_that_is_no_number_is_an_error_and_never_sent(bad: float) -> None:
    predictor, _ = _predictor(Fixed((0.0, 0.0, bad, 0.0)))
    with pytest.raises(PredictionError) as caught:
        predictor.one(OPTION)
    assert caught.value.error_type == "non_finite"
    with pytest.raises(PredictionError):
        asyncio.run(predictor.many([OPTION]))


def test_a_bad_item_is_named_by_its_place_beyond_the_first_chunk_too() -> None:
    predictor, _ = _predictor(Fixed())
    with pytest.raises(InvalidInput, match=f"^item {CHUNK + 3}: maturity is missing"):
        asyncio.run(predictor.many([OPTION] * (CHUNK + 3) + [{k: v for k, v in OPTION.items() if k != "maturity"}]))


def test_a_long_list_gives_way_to_others() -> None:
    async def both() -> list[str]:
        order: list[str] = []

        async def long() -> None:
            await _predictor(Fixed())[0].many([OPTION] * (4 * CHUNK))
            order.append("long")

        async def short() -> None:
            order.append("short")

        await asyncio.gather(long(), short())
        return order

    assert asyncio.run(both()) == ["short", "long"]
