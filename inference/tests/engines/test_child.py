"""One worker process as its server sees it: what its time is measured by, and when its time is up."""

import asyncio
import os
import select
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from pinn_inference.engines import child as child_module
from pinn_inference.engines.child import NUMBERS, Child, ChildLost
from pinn_inference.engines.frames import Frame, Kind

from ..turns import Turns, each_turn  # noqa: TID252 - the tests are no package with a name of their own
from .conftest import Model, close, double, faulty, recipe, some_points
from .double import Fault

Run = Callable[[Coroutine[Any, Any, None]], None]


@asynccontextmanager
async def begun(folder: Path, model: Model) -> AsyncIterator[Child]:
    given = recipe(folder, model)
    child = await Child.started(given.command, given.env, given.capacity, given.shape)
    try:
        await child.begin(model.weights, 60)
        yield child
    finally:
        await child.end()


def answered(child: Child) -> None:
    """Stands still until an answer lies in the socket."""
    assert select.select([child._channel], [], [], 60)[0]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_an_answer_that_lies_there_when_the_process_wakes_is_taken_though_its_time_is_up(
    tmp_path: Path, model: Model, run: Run
) -> None:
    limit, points = 0.05, some_points(10)

    async def life() -> None:
        async with begun(tmp_path, model) as child:
            os.kill(child.pid, signal.SIGSTOP)  # or the answer could be taken before this process stands still
            asking = asyncio.create_task(child.evaluate([points], limit))
            for _ in range(2):  # it is sent
                await asyncio.sleep(0)
            os.kill(child.pid, signal.SIGCONT)
            answered(child)
            time.sleep(2 * limit)  # noqa: ASYNC251 - standing still is what this is about
            (jets,) = await asking
            assert close(jets, model.exact(points))

    run(life())


async def test_a_worker_that_may_have_stood_still_with_the_server_gets_as_much_time_again(
    tmp_path: Path, model: Model
) -> None:
    async with begun(tmp_path, model) as child:
        child._send(child._question([faulty(Fault.WAIT)]))
        reading = asyncio.create_task(child._read_late(60.0, 60.0))
        await asyncio.sleep(0)
        (tmp_path / "go").touch()
        assert (await reading).kind is Kind.DONE


async def test_a_worker_that_does_not_answer_in_time_has_none_left(tmp_path: Path, model: Model) -> None:
    async with begun(tmp_path, model) as child:
        with pytest.raises(ChildLost, match=r"did not answer within 0\.05 s") as told:
            await child.evaluate([faulty(Fault.HANG)], 0.05)
        assert told.value.hung


async def test_who_is_cut_off_in_the_middle_of_an_answer_loses_nothing_of_it(tmp_path: Path, model: Model) -> None:
    said = Frame(Kind.MODEL_ERROR, 7, 1, "in two pieces")
    content = said.encode()
    async with begun(tmp_path, model) as child:
        child._reader = asyncio.StreamReader()
        child._reader.feed_data(content[:20])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await child._read()
        child._reader.feed_data(content[20:])
        assert await child._read() == said


async def test_the_numbers_of_batches_begin_anew_when_a_header_has_no_room_for_more(
    tmp_path: Path, model: Model
) -> None:
    points = some_points(3)
    async with begun(tmp_path, model) as child:
        child._number = NUMBERS - 2
        for _ in range(3):
            (jets,) = await child.evaluate([points], 60)
            assert close(jets, model.exact(points))
        assert child._number == 1


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_the_turns_of_the_loop_are_no_part_of_a_workers_time(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    """By a clock that only these move."""
    turns = Turns()

    async def life() -> None:
        async with begun(tmp_path, model) as child:
            monkeypatch.setattr(child_module, "time", SimpleNamespace(perf_counter=lambda: float(turns.count)))
            async with each_turn(turns.take):
                assert await child.timed(some_points(100), 60, 60.0) == 0.0
                assert turns.count > 0
            assert len(await child.evaluate([some_points(5)], 60)) == 1

    run(life())


async def test_a_worker_that_is_slower_than_the_loop_may_stand_still_is_waited_for(
    tmp_path: Path, model: Model
) -> None:
    async with begun(tmp_path, model) as child:
        timing = asyncio.create_task(child.timed(faulty(Fault.WAIT), 60, 0.001))
        await asyncio.sleep(0)
        (tmp_path / "go").touch()
        assert await timing > 0.0


async def test_a_worker_that_dies_is_lost_while_it_is_timed_too(tmp_path: Path, model: Model) -> None:
    async with begun(tmp_path, model) as child:
        os.kill(child.pid, signal.SIGKILL)
        await child.gone
        with pytest.raises(ChildLost, match="signal 9"):
            await child.timed(some_points(5), 60, 0.01)


async def test_a_process_that_does_not_load_is_lost(tmp_path: Path, model: Model) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    child = await Child.started((*double(tmp_path, "refuse"), "--device", "gpu"), environment, 16, (2, 4))
    try:
        with pytest.raises(ChildLost, match="no such device"):
            await child.begin(model.weights, 60)
    finally:
        await child.end()
    assert child.gone.done()


async def test_what_a_process_wrote_before_it_did_not_load_is_told_too(tmp_path: Path, model: Model) -> None:
    """The driver's own reason is there and nowhere else."""
    given = recipe(tmp_path, model, start="mutter")
    child = await Child.started(given.command, given.env, given.capacity, given.shape)
    try:
        with pytest.raises(ChildLost) as told:
            await child.begin(model.weights, 60)
    finally:
        await child.end()
    said = "OSError: no such device; its last words: E0000 failed call to cuInit: CUDA_ERROR_NO_DEVICE"
    assert str(told.value) == said
