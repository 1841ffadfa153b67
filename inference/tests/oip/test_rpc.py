"""What becomes of failures that a server process cannot be brought to on purpose, and what is logged."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from pinn_inference.api.http import Answer, Request, State
from pinn_inference.errors import PredictionError, Timeout, TooLarge
from pinn_inference.oip import rpc
from pinn_inference.oip.rpc import Options, Rpc

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
    return Rpc(infer, lambda: None, State(ready=True), Options(1000, access_log))  # type: ignore[arg-type, return-value]


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
