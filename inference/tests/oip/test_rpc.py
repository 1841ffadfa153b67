"""What becomes of failures that a server process cannot be brought to on purpose, and what is logged."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import NamedTuple, cast
from urllib.parse import unquote

import pytest
from hpack import Decoder
from pinn_inference.api import grpc, http
from pinn_inference.api.grpc import Code
from pinn_inference.api.http import Answer, Request, State
from pinn_inference.api.http2 import Connection, Stream
from pinn_inference.api.limits import Limiter, Limits, guarded
from pinn_inference.api.predict import counted
from pinn_inference.errors import PredictionError, Timeout, TooLarge
from pinn_inference.monitoring import Metrics
from pinn_inference.oip import rpc
from pinn_inference.oip.rpc import Options, Rpc
from pinn_inference.oip.tensors import Tensors


class Ended(NamedTuple):
    """How a call ended."""

    code: Code
    sentence: str
    answer: bytes | None
    fields: dict[str, str]


class Wire:
    """What a connection is to one call made by hand."""

    def __init__(self) -> None:
        self.ended: Ended | None = None

    def send(self, _: Stream, head: bytes, body: bytes | None, end: bytes) -> None:
        fields = {str(name): str(value) for name, value in Decoder().decode(end or head)}
        code, sentence = Code(int(fields["grpc-status"])), unquote(fields.get("grpc-message", ""))
        self.ended = Ended(code, sentence, None if body is None else body[grpc.PREFIX.size :], fields)


def call(message: bytes | None = None, method: str = "ModelInfer") -> tuple[Wire, Stream]:
    """One call, its message complete or none of it there."""
    wire = Wire()
    headers = {":method": "POST", ":scheme": "http", ":path": f"/{rpc.SERVICE}/{method}", "x-request-id": "mine",
               "content-type": "application/grpc"}  # fmt: skip
    stream = Stream(cast(Connection, wire), 1, headers, 65_535)
    if message is not None:
        stream.feed(grpc.prefixed(message))
        stream.finish()
    return wire, stream


def service(infer: Callable[[Request], Awaitable[Answer]], access_log: bool = False) -> Rpc:
    return Rpc(infer, lambda: cast(Tensors, None), State(ready=True), Options(100_000, 1.0, access_log))


async def ended(found: Rpc, wire: Wire, stream: Stream) -> Ended:
    """How a call ends that the service begins with now."""
    found.begin(stream)
    await found.finish(30)
    assert wire.ended is not None
    return wire.ended


async def asked(infer: Callable[[Request], Awaitable[Answer]], message: bytes, access_log: bool = False) -> Ended:
    return await ended(service(infer, access_log), *call(message))


def failing(error: Exception) -> Callable[[Request], Awaitable[Answer]]:
    async def infer(request: Request) -> Answer:
        await request.body()
        raise error

    return infer


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (PredictionError("no engine", "model_error"), Code.INTERNAL, "no engine"),
        (Timeout("no answer within 1 s"), Code.DEADLINE_EXCEEDED, "no answer within 1 s"),
        (TooLarge("too long"), Code.INVALID_ARGUMENT, "too long"),
        (KeyError("a bug"), Code.INTERNAL, "internal error; the server's log says more"),
        (TooLarge("half a pair \ud800"), Code.INVALID_ARGUMENT, "half a pair \\ud800"),
    ],
)
async def test_every_failure_is_a_status_and_a_sentence(error: Exception, code: Code, words: str) -> None:
    found = await asked(failing(error), b"x")
    assert (found.code, found.sentence, found.answer) == (code, words, None)
    assert "retry-after" not in found.fields


async def test_a_sentence_goes_over_the_wire_whatever_is_in_it() -> None:
    said = "100 % of 'spot'\r\n\N{GREEK SMALL LETTER SIGMA}"
    found = await asked(failing(TooLarge(said)), b"x")
    assert found.fields["grpc-message"] == "100 %25 of 'spot'%0D%0A%CF%83"
    assert found.sentence == said


async def test_a_long_sentence_is_cut() -> None:
    for said in ("x" * 100_000, "x\N{GREEK SMALL LETTER SIGMA}" * 50_000):
        found = await asked(failing(TooLarge(said)), b"x")
        assert grpc.SENTENCE - 3 <= len(found.fields["grpc-message"]) <= grpc.SENTENCE
        assert said.startswith(found.sentence.rstrip("\ufffd"))  # a character may be cut, but no %XX


@pytest.mark.parametrize("kind", ["", "text/plain", "application/grpc-web", "application/grpcx"])
async def test_what_is_no_call_is_told_so(kind: str) -> None:
    stream = call(b"x")[1]
    stream.headers["content-type"] = kind
    assert not grpc.is_call(stream.headers)


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc; charset=utf-8"])
async def test_what_is_a_call_is_taken_for_one(kind: str) -> None:
    stream = call(b"x")[1]
    stream.headers["content-type"] = kind
    assert grpc.is_call(stream.headers)


async def test_a_method_belongs_to_its_service() -> None:
    wire, stream = call(b"x")
    stream.headers[":path"] = "/ModelInfer"
    assert (await ended(service(failing(KeyError("a bug"))), wire, stream)).code is Code.UNIMPLEMENTED


async def test_who_has_left_already_is_not_waited_for() -> None:
    """It was to be answered with others at the end of the turn, and was taken back within it."""
    _, stream = call(b"x")
    stream.leave()
    found = service(failing(TooLarge("too long")))
    found.as_usual(stream)
    assert stream.left is None
    await found.finish(30)


async def test_who_leaves_before_all_is_sent_is_refused_and_no_bug(caplog: pytest.LogCaptureFixture) -> None:
    wire, stream = call()
    found = service(failing(KeyError("a bug")))
    found.begin(stream)
    await asyncio.sleep(0)
    stream.leave()
    await found.finish(30)
    assert wire.ended is not None
    assert wire.ended[:2] == (Code.INVALID_ARGUMENT, "the call ends without a message")
    assert "nobody foresaw" not in caplog.text


WRONG: dict[str, tuple[bytes, Code, str]] = {
    "nothing": (b"", Code.INVALID_ARGUMENT, "the call ends without a message"),
    "half a length": (b"\0\0\0", Code.INVALID_ARGUMENT, "the call ends without a message"),
    "half a message": (b"\0\0\0\0\2x", Code.INVALID_ARGUMENT, "the call ends within its message"),
    "two messages": (b"\0\0\0\0\1x\0\0\0\0\1x", Code.INVALID_ARGUMENT, "the call has more than its message"),
    "compressed": (b"\1\0\0\0\1x", Code.UNIMPLEMENTED, "the message is compressed; send it as it is"),
    "too long": (b"\0\0\1\x86\xa1x", Code.RESOURCE_EXHAUSTED,
                 "the message is longer than 100000 bytes; send fewer items at a time"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "code", "words"), WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("method", ["ModelInfer", "ServerLive"])
async def test_a_message_that_is_not_as_it_says_is_refused(body: bytes, code: Code, words: str, method: str) -> None:
    wire, stream = call(method=method)
    stream.feed(body)
    stream.finish()
    found = await ended(service(failing(KeyError("a bug"))), wire, stream)
    assert (found.code, found.sentence) == (code, words)
    assert "grpc-retry-pushback-ms" not in found.fields, "the same message is refused again"


@pytest.mark.parametrize("body", [WRONG[each][0] for each in ("two messages", "compressed", "too long")])
async def test_what_is_wrong_already_is_not_waited_for(body: bytes) -> None:
    wire, stream = call()
    stream.feed(body)
    found = service(failing(KeyError("a bug")))
    found.begin(stream)
    await found.finish(30)
    assert wire.ended is not None
    assert not stream.complete
    assert found._memory.total == 0


async def test_what_has_come_of_a_long_message_counts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "HELD", 50_000)
    wire, stream = call()
    stream.feed(grpc.prefixed(b"x" * 90_000)[:60_000])
    found = service(failing(KeyError("a bug")))
    found.begin(stream)
    await found.finish(30)
    assert wire.ended is not None
    assert wire.ended.code is Code.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("leaves", [False, True])
async def test_nothing_of_a_call_is_left_when_it_is_over(leaves: bool) -> None:
    """A long message would lie there until the collector comes, which is seldom."""

    async def infer(request: Request) -> Answer:
        return Answer(200, grpc.prefixed(await request.body()))

    wire, stream = call(b"x" * 20_000)
    found, kept = service(infer), weakref.ref(wire)
    gc.disable()
    try:
        found.begin(stream)
        if leaves:
            stream.leave()
        await found.finish(30)
        if not leaves:
            stream.left = None  # as a connection does that has sent an answer
        del wire, stream
        assert kept() is None
    finally:
        gc.enable()


async def test_a_bug_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    await asked(failing(KeyError("a bug")), b"x")
    assert "a call failed in a way nobody foresaw" in caplog.text
    assert "KeyError: 'a bug'" in caplog.text


async def test_who_holds_too_much_of_the_memory_is_told_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it has been answered a long message counts, and then no more."""
    monkeypatch.setattr(http, "HELD", 50_000)
    found = service(failing(TooLarge("too long")))
    for size, code in ((60_000, Code.RESOURCE_EXHAUSTED), (40_000, Code.INVALID_ARGUMENT)) * 3:
        answer = await ended(found, *call(b"x" * size))
        assert answer.code is code
        assert ("retry-after" in answer.fields) is (code is Code.RESOURCE_EXHAUSTED)


async def test_more_calls_than_are_worked_on_are_told_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "SENDERS", 2)
    found = service(failing(KeyError("a bug")))
    pending = [call() for _ in range(2)]
    for _, stream in pending:
        found.begin(stream)
    wire, stream = call(b"x")
    found.begin(stream)
    assert wire.ended is not None
    assert wire.ended[:2] == (Code.RESOURCE_EXHAUSTED, "2 calls are being worked on already; come back in a second")
    wire, stream = call(b"", "ServerLive")
    found.begin(stream)
    while wire.ended is None:
        await asyncio.sleep(0)
    assert wire.ended.code is Code.OK, "who only asks how it is, and has asked, is told under any load"
    for _, stream in pending:
        stream.leave()
    await found.finish(30)


HELD = grpc.PREFIX.size + 20_000
"""Bytes that a call takes which is not answered."""


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
        _, stream = call(b"x" * 20_000)
        self.service.begin(stream)
        await self._begun.wait()
        stream.leave()

    def counts(self) -> dict[tuple[str, ...], float]:
        """What was counted, outcomes and latencies."""
        counts: dict[tuple[str, ...], float] = {**self.metrics.requests.counts}
        counts |= {labels: each.cumulative()[0][-1][1] for labels, each in self.metrics.latency.items()}
        return {labels: count for labels, count in counts.items() if count}


async def test_a_call_whose_caller_leaves_is_finished_and_counted() -> None:
    left = Left(timeout=30)
    await left.asked()
    assert left.service._memory.total == HELD
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
    _, stream = call(b"y" * 20_000)
    left.service.begin(stream)
    while left.limiter.inside < 2:
        await asyncio.sleep(0)
    stream.leave()
    while left.limiter.inside > 1:
        await asyncio.sleep(0)
    assert left.service._memory.total == HELD, "that of the one that is worked on"
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
        return Answer(200, grpc.prefixed(await request.body()))

    caplog.set_level("INFO")
    assert (await asked(infer, b"x")).answer == b"x"
    assert caplog.records == []
    await asked(infer, b"x", access_log=True)
    (line,) = caplog.records
    fields = line.__dict__["fields"]
    assert (fields["path"], fields["status"]) == ("/inference.GRPCInferenceService/ModelInfer", "OK")
