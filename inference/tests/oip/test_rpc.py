"""What becomes of failures that a server process cannot be brought to on purpose, and what is logged."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import grpc
import pytest
from pinn_inference.api.http import Answer, Request, State
from pinn_inference.api.limits import Limiter, Limits, guarded
from pinn_inference.api.predict import counted
from pinn_inference.errors import PredictionError, Timeout, TooLarge
from pinn_inference.monitoring import Metrics
from pinn_inference.oip import rpc
from pinn_inference.oip.rpc import Options, Rpc
from pinn_inference.oip.tensors import Tensors

STATUS = grpc.StatusCode


class Aborted(Exception):
    """As the library ends a method."""


class Context:
    """One call, made by hand."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)
        self.ended: tuple[Any, ...] = ()

    async def read(self) -> object:
        return self._pieces.pop(0) if self._pieces else grpc.aio.EOF

    async def abort(self, *how: Any) -> None:
        self.ended = how
        raise Aborted

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("x-request-id", "mine"),)


def service(infer: Callable[[Request], Awaitable[Answer]], access_log: bool = False) -> Rpc:
    return Rpc(infer, lambda: cast(Tensors, None), State(ready=True), Options(1000, 1.0, access_log))


async def asked(infer: Callable[[Request], Awaitable[Answer]], context: Context, access_log: bool = False) -> Any:
    return await service(infer, access_log)._infer(None, context)


def failing(error: Exception) -> Callable[[Request], Awaitable[Answer]]:
    async def infer(request: Request) -> Answer:
        await request.body()
        raise error

    return infer


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (PredictionError("no engine", "model_error"), STATUS.INTERNAL, "no engine"),
        (Timeout("no answer within 1 s"), STATUS.DEADLINE_EXCEEDED, "no answer within 1 s"),
        (TooLarge("too long"), STATUS.INVALID_ARGUMENT, "too long"),
        (KeyError("a bug"), STATUS.INTERNAL, "internal error; the server's log says more"),
        (TooLarge("half a pair \ud800"), STATUS.INVALID_ARGUMENT, "half a pair \\ud800"),
    ],
)
async def test_every_failure_is_a_status_and_a_sentence(error: Exception, code: object, words: str) -> None:
    context = Context(b"x")
    with pytest.raises(Aborted):
        await asked(failing(error), context)
    assert context.ended == (code, words, ())


async def test_a_call_that_is_read_when_the_port_has_closed_is_no_bug() -> None:
    class Closed(Context):
        async def read(self) -> object:
            raise grpc.aio.UsageError("Server already stopped.")

    context = Closed()
    with pytest.raises(Aborted):
        await asked(failing(KeyError("a bug")), context)
    assert context.ended == (STATUS.INVALID_ARGUMENT, "the call ends without a message", ())


async def test_a_bug_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Aborted):
        await asked(failing(KeyError("a bug")), Context(b"x"))
    assert "a call failed in a way nobody foresaw" in caplog.text
    assert "KeyError: 'a bug'" in caplog.text


async def test_who_holds_too_much_of_the_memory_is_told_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it has been answered a long message counts, and then no more."""
    monkeypatch.setattr(rpc, "HELD", 50_000)
    found = service(failing(TooLarge("too long")))
    for size, code in ((60_000, STATUS.RESOURCE_EXHAUSTED), (40_000, STATUS.INVALID_ARGUMENT)) * 3:
        context = Context(b"x" * size)
        with pytest.raises(Aborted):
            await found._infer(None, context)
        assert context.ended[0] is code


class Left:
    """A long call that its caller gives up once it is being worked on, within the limits and counted as in a server."""

    def __init__(self, timeout: float, concurrency: int = 64) -> None:
        self.metrics, self.over, self._begun = Metrics(), asyncio.Event(), asyncio.Event()
        self.limiter = Limiter(concurrency, queue=10)
        limited = guarded({"/": {"POST": self._work}}, Limits(timeout=timeout), self.limiter)
        self.service = service(counted(limited, self.metrics)["/"]["POST"])

    async def _work(self, request: Request) -> Answer:
        await request.body()
        self._begun.set()
        await self.over.wait()
        return Answer(200, b"", made="model")

    async def asked(self) -> None:
        call = asyncio.create_task(self.service._infer(None, Context(b"x" * 20_000)))
        await self._begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    def counts(self) -> dict[tuple[str, ...], float]:
        """What was counted, outcomes and latencies."""
        counts: dict[tuple[str, ...], float] = {**self.metrics.requests.counts}
        counts |= {labels: each.cumulative()[0][-1][1] for labels, each in self.metrics.latency.items()}
        return {labels: count for labels, count in counts.items() if count}


async def test_a_call_whose_caller_leaves_is_finished_and_counted() -> None:
    left = Left(timeout=30)
    await left.asked()
    assert left.service._memory.total == 20_000
    left.over.set()
    await left.service.finish(30)
    assert left.counts() == {("ok", "live"): 1, ("model", "live"): 1}
    assert left.service._memory.total == 0


async def test_a_call_whose_caller_leaves_has_no_more_time_than_others() -> None:
    left = Left(timeout=0.05)
    await left.asked()
    await left.service.finish(30)
    assert left.counts() == {("error", "live"): 1, ("none", "live"): 1}
    assert left.service._memory.total == 0


async def test_a_call_whose_caller_leaves_before_its_turn_keeps_no_place() -> None:
    left = Left(timeout=30, concurrency=1)
    await left.asked()
    waiting = asyncio.create_task(left.service._infer(None, Context(b"y" * 20_000)))
    while left.limiter.inside < 2:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    while left.limiter.inside > 1:
        await asyncio.sleep(0)
    assert left.service._memory.total == 20_000, "that of the one that is worked on"
    assert left.counts() == {("error", "live"): 1, ("none", "live"): 1}
    left.over.set()
    await left.service.finish(30)
    assert left.counts()["ok", "live"] == 1


async def test_what_nobody_waits_for_any_more_holds_the_end_no_longer_than_it_may() -> None:
    left = Left(timeout=30)
    await left.asked()
    await left.service.finish(0.01)
    assert left.counts() == {}
    left.over.set()
    await left.service.finish(30)


async def test_a_call_is_logged_where_that_is_wished(caplog: pytest.LogCaptureFixture) -> None:
    async def infer(request: Request) -> Answer:
        return Answer(200, await request.body())

    caplog.set_level("INFO")
    assert await asked(infer, Context(b"x")) == b"x"
    assert caplog.records == []
    await asked(infer, Context(b"x"), access_log=True)
    (line,) = caplog.records
    fields = line.__dict__["fields"]
    assert (fields["path"], fields["status"]) == ("/inference.GRPCInferenceService/ModelInfer", "OK")
