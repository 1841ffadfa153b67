"""What is taken at once, what waits, what is told to come back, and who is cut off."""

import asyncio
import gc
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

from pinn_inference import tracing
from pinn_inference.api.http import Answer, App, Request, State, ok
from pinn_inference.api.limits import STALL, Deadlines, Limiter, Limits, guarded

from .wire import Scope, Wire, ask


class Desk:
    """An endpoint that works until it is told to go on, and remembers in which order it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go_on = asyncio.Event()

    async def __call__(self, request: Request) -> Answer:
        self.asked.append((await request.body()).decode())
        await self.go_on.wait()
        return ok("done")


def app(endpoint: Callable[[Request], Awaitable[Answer]], limits: Limits, limiter: Limiter | None = None) -> App:
    return App(guarded({"/echo": {"POST": endpoint}}, limits, limiter=limiter), State(ready=True))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_no_more_are_worked_on_at_once_than_the_concurrency() -> None:
    desk, limiter = Desk(), Limiter(2, 10)
    server = app(desk, Limits(), limiter)
    asking = [asyncio.create_task(ask(server, wire=Wire(b"%d" % i))) for i in range(5)]
    await until(lambda: limiter.inside == 5 and len(desk.asked) == 2)
    desk.go_on.set()
    assert [wire.status for wire in await asyncio.gather(*asking)] == [200] * 5
    assert (limiter.inside, limiter.working) == (0, 0)


async def test_who_waited_longest_is_next() -> None:
    desk = Desk()
    server = app(desk, Limits(concurrency=1))
    asking = [asyncio.create_task(ask(server, wire=Wire(b"%d" % i))) for i in range(6)]
    await until(lambda: desk.asked == ["0"])
    desk.go_on.set()
    await asyncio.gather(*asking)
    assert desk.asked == list("012345")


async def test_a_full_queue_answers_429_with_retry_after() -> None:
    desk, limiter = Desk(), Limiter(1, 2)
    server = app(desk, Limits(), limiter)
    asking = [asyncio.create_task(ask(server)) for _ in range(3)]
    await until(lambda: limiter.inside == 3)
    refused = await ask(server)
    assert refused.status == 429
    assert refused.headers["retry-after"] == "1"
    assert "busy with 3 requests" in refused.json["error"]
    desk.go_on.set()
    await asyncio.gather(*asking)
    assert (await ask(server)).status == 200


async def test_a_queue_of_nothing_takes_exactly_the_concurrency() -> None:
    desk = Desk()
    server = app(desk, Limits(concurrency=1, queue=0))
    first = asyncio.create_task(ask(server))
    await until(lambda: len(desk.asked) == 1)
    assert (await ask(server)).status == 429
    desk.go_on.set()
    assert (await first).status == 200


async def test_a_body_that_does_not_arrive_is_cut_off_with_408_and_kept_no_turn() -> None:
    desk, limiter = Desk(), Limiter(1, 5)
    desk.go_on.set()
    server = app(desk, Limits(timeout=0.2), limiter)
    slow = asyncio.create_task(ask(server, wire=Wire(b"never", arrived=asyncio.Event())))
    await until(lambda: limiter.sending == 1)
    assert (await ask(server, wire=Wire(b"quick"))).status == 200
    late = await slow
    assert late.status == 408
    assert "body did not arrive within 0.2 s" in late.json["error"]
    assert desk.asked == ["quick"]
    assert (limiter.sending, limiter.inside, limiter.working) == (0, 0, 0)


async def test_who_has_not_finished_asking_takes_nobodys_place() -> None:
    desk, limiter = Desk(), Limiter(1, 1)
    desk.go_on.set()
    server = app(desk, Limits(), limiter)
    arrived = asyncio.Event()
    slow = [asyncio.create_task(ask(server, wire=Wire(b"slow", arrived=arrived))) for _ in range(10)]
    await until(lambda: limiter.sending == 10)
    assert (await ask(server, wire=Wire(b"quick"))).status == 200
    arrived.set()
    assert (await slow[0]).status == 200
    await asyncio.gather(*slow)
    assert (limiter.sending, limiter.inside) == (0, 0)


async def test_more_senders_than_memory_is_planned_for_are_told_to_come_back() -> None:
    limiter, arrived = Limiter(1, 1, senders=2), asyncio.Event()
    desk = Desk()
    desk.go_on.set()
    server = app(desk, Limits(), limiter)
    slow = [asyncio.create_task(ask(server, wire=Wire(b"slow", arrived=arrived))) for _ in range(2)]
    await until(lambda: limiter.sending == 2)
    refused = await ask(server)
    assert refused.status == 429
    assert "2 requests are being sent" in refused.json["error"]
    arrived.set()
    assert [wire.status for wire in await asyncio.gather(*slow)] == [200, 200]
    assert (await ask(server)).status == 200


async def test_the_time_for_an_answer_begins_when_its_question_is_complete() -> None:
    """Else a caller who sends slowly could have the server miss its own limit."""
    arrived, desk = asyncio.Event(), Desk()
    asking = asyncio.create_task(ask(app(desk, Limits(timeout=0.3)), wire=Wire(b"slow", arrived=arrived)))
    await asyncio.sleep(0.2)
    arrived.set()
    await until(lambda: desk.asked == ["slow"])
    complete = time.perf_counter()
    assert (await asking).status == 504
    assert time.perf_counter() - complete > 0.25


async def test_an_answer_that_takes_too_long_is_504() -> None:
    limiter = Limiter(1, 5)
    late = await ask(app(Desk(), Limits(timeout=0.05), limiter))
    assert late.status == 504
    assert "no answer within 0.05 s" in late.json["error"]
    assert (limiter.inside, limiter.working) == (0, 0)


async def test_whoever_ran_out_of_time_while_waiting_gives_the_place_up() -> None:
    desk, limiter = Desk(), Limiter(1, 5)
    server = app(desk, Limits(timeout=0.1), limiter)
    assert [w.status for w in await asyncio.gather(*(ask(server) for _ in range(4)))] == [504] * 4
    assert len(desk.asked) < 4
    assert (limiter.inside, limiter.working) == (0, 0)
    desk.go_on.set()
    assert (await ask(server)).status == 200


async def test_each_has_its_own_time_though_one_timer_serves_all() -> None:
    """The second begins later and must not be cut off with the first."""
    desk = Desk()
    server = app(desk, Limits(timeout=0.3))
    first = asyncio.create_task(ask(server))
    await until(lambda: len(desk.asked) == 1)
    await asyncio.sleep(0.15)
    second = asyncio.create_task(ask(server))
    assert (await first).status == 504
    assert not second.done()
    assert (await second).status == 504


async def test_a_process_that_stood_still_does_not_hold_that_against_its_callers() -> None:
    """Its time is up when the process wakes, and so is its body there: it is answered, not cut off."""
    arrived, desk = asyncio.Event(), Desk()
    desk.go_on.set()
    asking = asyncio.create_task(ask(app(desk, Limits(timeout=0.2)), wire=Wire(b"late", arrived=arrived)))
    await asyncio.sleep(0)
    time.sleep(0.2 + 2 * STALL)  # noqa: ASYNC251 - standing still is what this is about
    asyncio.get_running_loop().call_later(STALL / 2, arrived.set)
    assert (await asking).status == 200


async def test_a_process_that_stands_still_all_the_time_cuts_off_all_the_same() -> None:
    asking = asyncio.create_task(ask(app(Desk(), Limits(timeout=0.05))))
    stops = 0
    while not asking.done():
        await asyncio.sleep(0)
        time.sleep(0.05 + 2 * STALL)  # noqa: ASYNC251
        stops += 1
    assert (await asking).status == 504
    assert stops < 10


async def test_who_stops_waiting_is_no_timeout() -> None:
    limiter = Limiter(1, 5)
    server = app(Desk(), Limits(), limiter)
    asking = [asyncio.create_task(ask(server)) for _ in range(3)]
    await until(lambda: limiter.inside == 3)
    for task in asking:
        task.cancel()
    assert all(isinstance(r, asyncio.CancelledError) for r in await asyncio.gather(*asking, return_exceptions=True))
    assert (limiter.inside, limiter.working) == (0, 0)


async def test_a_turn_that_comes_as_one_gives_up_goes_to_the_next() -> None:
    limiter = Limiter(1, 5)
    assert limiter.take()
    leaving, staying = asyncio.create_task(limiter.turn()), asyncio.create_task(limiter.turn())
    await asyncio.sleep(0)
    limiter.done()  # handed to the first
    leaving.cancel()  # which leaves in the same instant
    await staying
    assert limiter.working == 1
    limiter.done()
    assert limiter.working == 0


async def test_a_mistake_or_a_bug_gives_the_place_back() -> None:
    async def broken(request: Request) -> Answer:
        raise ZeroDivisionError

    limiter = Limiter(1, 0)
    server = app(broken, Limits(), limiter)
    assert [(await ask(server)).status for _ in range(3)] == [500] * 3
    assert (limiter.inside, limiter.working) == (0, 0)


async def test_a_second_cancellation_finds_nothing_left_of_the_first() -> None:
    """The deadline's own cancel must not leave the task marked: the answer is still to be written in it."""
    left: list[int] = []

    async def one() -> Any:
        wire = await ask(app(Desk(), Limits(timeout=0.05)), Scope(headers={"content-length": "0"}))
        task = asyncio.current_task()
        left.append(task.cancelling() if task else -1)
        return wire

    assert (await asyncio.create_task(one())).status == 504
    assert left == [0]


class Asked:
    """A request, as log lines see it."""

    trace: dict[str, str] | None = None
    headers: Any = None


async def test_the_one_timer_does_not_keep_the_request_that_had_it_set() -> None:
    deadlines = Deadlines(3600.0)

    async def one() -> "weakref.ref[Asked]":
        asked = Asked()
        tracing.current.set(asked)
        deadlines.met(deadlines.watch())
        return weakref.ref(asked)

    asked = await asyncio.create_task(one())
    await asyncio.sleep(0)  # the loop itself holds the task until then
    gc.collect()
    assert deadlines._timer is not None
    assert asked() is None
    deadlines._timer.cancel()
