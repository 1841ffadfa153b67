"""A stalled loop is told with its full length, and by every look that fell into the stall."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from pinn_inference import looplag

EVERY = 0.01


class Told(list[float]):
    def __init__(self) -> None:
        super().__init__()
        self.more = asyncio.Event()

    def tell(self, lag: float) -> None:
        self.append(lag)
        self.more.set()

    async def next(self) -> list[float]:
        """What is told at the next look."""
        self.more.clear()
        before = len(self)
        await self.more.wait()
        return self[before:]


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    told = Told()
    task = asyncio.create_task(looplag.watch(told.tell, EVERY))
    yield told
    task.cancel()


async def test_a_stall_is_told_with_its_length_and_by_each_look_that_fell_into_it(told: Told) -> None:
    await told.next()
    time.sleep(0.3)  # noqa: ASYNC251 - the stall itself
    first, *others = await told.next()
    assert first >= 0.3 - EVERY
    assert len(others) == int(first / EVERY)
    assert others == pytest.approx([first - EVERY * (i + 1) for i in range(len(others))])


async def test_what_stood_still_for_hours_is_told_by_a_bounded_number_of_looks(
    monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    monkeypatch.setattr(looplag, "MOST", 5)
    await told.next()
    time.sleep(0.3)  # noqa: ASYNC251 - the stall itself
    assert len(await told.next()) == 6


@pytest.mark.looptime
async def test_a_loop_that_wakes_in_time_has_no_lag() -> None:
    lags: list[float] = []
    task = asyncio.create_task(looplag.watch(lags.append))
    await asyncio.sleep(10.1)
    task.cancel()
    assert len(lags) == 40
    assert max(lags) < 1e-6
