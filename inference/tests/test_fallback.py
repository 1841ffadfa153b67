"""The slow solver: how much of it waits, what becomes of what nobody waits for any more, and who is served by it after all."""

import asyncio
import math
import threading
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from pinn_inference.errors import EngineError, InvalidInput, PredictionError
from pinn_inference.fallback import SOLVERS, Fallback

CAUSE = EngineError("broken", "gpu_error")
Point = tuple[float, ...]


class Slow:
    """A solver that notes what it begins, and ends it when it is told to."""

    def __init__(self) -> None:
        self.begun: list[Point] = []
        self.fail: Exception | None = None
        self._go = threading.Event()
        self.fallback = Fallback(self._solve, lambda point: None, slow=True)

    def ask(self, number: float) -> "asyncio.Task[Any]":
        return asyncio.create_task(self.fallback((number,), "gpu_error", CAUSE))

    def go(self) -> None:
        """Whatever runs or follows."""
        self._go.set()

    async def begins(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.begun) < count:
                await asyncio.sleep(0.001)

    async def idle(self) -> None:
        async with asyncio.timeout(10):
            while self.fallback._running:
                await asyncio.sleep(0.001)

    def _solve(self, point: Point) -> Any:
        self.begun.append(point)
        assert self._go.wait(10)
        if self.fail:
            raise self.fail
        return point, (0.0,)


@pytest.fixture
async def slow() -> AsyncIterator[Slow]:
    found = Slow()
    yield found
    found.go()
    found.fallback.close()


async def leave(*asked: "asyncio.Task[Any]") -> None:
    """As callers do whose time is up."""
    for task in asked:
        task.cancel()
    await asyncio.wait(asked)


async def test_after_a_burst_of_callers_who_left_nothing_waits_and_nothing_more_is_begun(slow: Slow) -> None:
    burst = [slow.ask(float(i)) for i in range(100)]
    await slow.begins(SOLVERS)
    await leave(*burst)
    assert len(slow.fallback._running) == SOLVERS
    assert slow.fallback._threads is not None
    assert slow.fallback._threads._work_queue.empty()
    slow.go()
    await slow.idle()
    assert await slow.ask(500.0) == ((500.0,), (0.0,))
    assert slow.begun == [(0.0,), (1.0,), (500.0,)]


async def test_what_was_begun_for_a_caller_who_left_answers_the_next(slow: Slow) -> None:
    first = slow.ask(1.0)
    await slow.begins(1)
    await leave(first)
    slow.go()
    await slow.idle()
    assert await slow.ask(1.0) == ((1.0,), (0.0,))
    assert slow.begun == [(1.0,)]


async def test_who_asks_again_while_it_still_runs_gets_that_answer(slow: Slow) -> None:
    first = slow.ask(1.0)
    await slow.begins(1)
    await leave(first)
    again = slow.ask(1.0)
    await asyncio.sleep(0)
    slow.go()
    assert await again == ((1.0,), (0.0,))
    assert slow.begun == [(1.0,)]


async def test_one_of_several_who_leaves_takes_nothing_from_the_others(slow: Slow) -> None:
    busy = [slow.ask(-1.0 - i) for i in range(SOLVERS)]
    await slow.begins(SOLVERS)
    impatient, patient = slow.ask(1.0), slow.ask(1.0)
    await asyncio.sleep(0)
    await leave(impatient)
    slow.go()
    assert await patient == ((1.0,), (0.0,))
    await asyncio.gather(*busy)


async def test_who_asks_in_the_instant_in_which_the_last_one_leaves_is_answered(slow: Slow) -> None:
    busy = [slow.ask(-1.0 - i) for i in range(SOLVERS)]
    await slow.begins(SOLVERS)
    last = slow.ask(1.0)
    await asyncio.sleep(0)
    last.cancel()
    following = slow.ask(1.0)  # its turn comes before the cancelled solution is over
    await asyncio.sleep(0)
    slow.go()
    assert await following == ((1.0,), (0.0,))
    await asyncio.gather(*busy)
    assert last.cancelled()


async def test_a_solution_that_fails_is_told_and_not_kept(slow: Slow) -> None:
    slow.fail = PredictionError("does not converge", "model_error")
    slow.go()
    with pytest.raises(PredictionError, match="does not converge"):
        await slow.ask(1.0)
    slow.fail = None
    assert await slow.ask(1.0) == ((1.0,), (0.0,))


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(
    ("says", "error_type"),
    [
        (lambda _: ((math.nan,), (0.0,)), "non_finite"),
        (lambda _: ((1.0,), (math.nan,)), "non_finite"),
        (lambda _: ((1.0,), (-1.0,)), "non_finite"),
        (lambda _: 1 / 0, "model_error"),
        (lambda point: point["nothing"], "model_error"),
        (lambda _: (1.0,), "model_error"),
    ],
)
async def test_what_a_solver_of_somebody_elses_says_is_looked_at(says: Any, error_type: str, slow: bool) -> None:
    fallback = Fallback(says, lambda point: None, slow=slow)
    with pytest.raises(PredictionError, match=r"^the reference solver has no answer: ") as caught:
        await fallback((1.0,), "gpu_error", CAUSE)
    assert caught.value.error_type == error_type
    fallback.close()


async def test_a_solver_may_refuse_with_a_sentence_of_its_own() -> None:
    def refuses(_: object) -> Any:
        raise InvalidInput("x is on the boundary")

    with pytest.raises(InvalidInput, match=r"^x is on the boundary$"):
        await Fallback(refuses, lambda point: None)((1.0,), "out_of_domain", CAUSE)


async def test_numbers_of_numpy_become_plain_ones_as_json_takes_no_others() -> None:
    fallback = Fallback(lambda _: (np.array([1.5]), [np.float32(0.25)]), lambda point: None)
    assert await fallback((1.0,), "gpu_error", CAUSE) == ((1.5,), (0.25,))


async def test_closing_begins_nothing_that_waits(slow: Slow) -> None:
    asked = [slow.ask(float(i)) for i in range(SOLVERS + 2)]
    await slow.begins(SOLVERS)
    slow.fallback.close()
    slow.go()
    await asyncio.wait(asked)
    assert [task.cancelled() for task in asked] == [False] * SOLVERS + [True] * 2
    assert len(slow.begun) == SOLVERS
