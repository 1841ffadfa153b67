"""A stalled loop is told, once, with its full length."""

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

    async def next(self) -> float:
        self.more.clear()
        await self.more.wait()
        return self[-1]


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    told = Told()
    task = asyncio.create_task(looplag.watch(told.tell, EVERY))
    yield told
    task.cancel()


async def test_a_stall_is_told_with_its_length(told: Told) -> None:
    await told.next()
    time.sleep(0.3)  # noqa: ASYNC251 - the stall itself
    assert await told.next() >= 0.3 - EVERY


async def test_a_stall_is_told_once_and_its_missed_looks_are_not_made_up_for(told: Told) -> None:
    await told.next()
    before = len(told)
    time.sleep(0.3)  # noqa: ASYNC251 - the stall itself
    await told.next()
    assert len(told) == before + 1


@pytest.mark.looptime
async def test_a_loop_that_wakes_in_time_has_no_lag() -> None:
    lags: list[float] = []
    task = asyncio.create_task(looplag.watch(lags.append))
    await asyncio.sleep(10.1)
    task.cancel()
    assert len(lags) == 40
    assert max(lags) < 1e-6
