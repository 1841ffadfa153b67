"""HTTP/2 as a caller sees it who writes its frames by hand: what is read, what waits for a window, and who is cut off."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple, cast

import pytest
from hpack import Decoder, Encoder
from pinn_inference.api import http2, wire
from pinn_inference.api.http import ProtocolClosed
from pinn_inference.api.http2 import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME,
    GOAWAY,
    HEAD,
    HEADERS,
    NO_ERROR,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_AT_FIRST,
    WINDOW_UPDATE,
    Connection,
    Stream,
    block,
    frame,
)
from pinn_inference.api.wire import Listener

from .test_wire import PATIENCE, until

MOST = 200_000
FIELDS = [(":method", "POST"), (":scheme", "http"), (":path", "/echo"), ("content-type", "application/grpc")]
OK = block([(":status", "200")])
DONE = block([("grpc-status", "0")])
WHOLE = END_HEADERS | END_STREAM
INITIAL_WINDOW, MAX_FRAME = 4, 5


class Echo:
    """Answers each request with its path and its body, once it may."""

    most = MOST

    def __init__(self) -> None:
        self.begun: list[Stream] = []
        self.left: list[int] = []
        self.may = asyncio.Event()
        self.may.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, stream: Stream) -> None:
        self.begun.append(stream)
        stream.left = lambda: self.left.append(stream.number)
        task = asyncio.create_task(self._answer(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, stream: Stream) -> None:
        try:
            while not stream.complete:
                await stream.more()
        except ProtocolClosed:
            return
        await self.may.wait()
        stream.answer(OK, stream.path.encode() + b" " + stream.body, DONE)


class Frame(NamedTuple):
    """One that came."""

    kind: int
    flags: int
    number: int
    payload: bytes

    @property
    def word(self) -> int:
        """Its last four bytes that are a number: an error code, an increment."""
        return int.from_bytes(self.payload[4:8] if self.kind == GOAWAY else self.payload[:4], "big")


class Caller:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.encoder, self.decoder = Encoder(), Decoder()

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    def head(self, number: int, *more: tuple[str, str], flags: int = END_HEADERS) -> bytes:
        return frame(HEADERS, flags, number, self.encoder.encode([*FIELDS, *more]))

    def ask(self, number: int, body: bytes = b"") -> None:
        """A whole request."""
        self.send(self.head(number), frame(DATA, END_STREAM, number, body))

    async def read(self) -> Frame:
        """The next frame. Raises IncompleteReadError at the end of the connection."""
        async with asyncio.timeout(PATIENCE):
            start = await self.reader.readexactly(9)
            payload = await self.reader.readexactly(int.from_bytes(start[:3], "big"))
        return Frame(start[3], start[4], int.from_bytes(start[5:], "big"), payload)

    async def wanted(self, *kinds: int) -> Frame:
        """The next of these kinds."""
        while (found := await self.read()).kind not in kinds:
            pass
        return found

    async def answer(self, number: int) -> tuple[dict[str, str], bytes]:
        """All fields and the body of an answer, of which nothing has been read."""
        fields, body = dict[str, str](), b""
        while True:
            found = await self.wanted(DATA, HEADERS, RST_STREAM, GOAWAY)
            if found.number != number:
                continue
            assert found.kind in (DATA, HEADERS), found
            if found.kind == DATA:
                body += found.payload
            else:
                fields |= {str(name): str(value) for name, value in self.decoder.decode(found.payload)}
            if found.flags & END_STREAM:
                return fields, body

    async def to_the_end(self) -> list[Frame]:
        """All frames until the server closes."""
        found = []
        try:
            while True:
                found.append(await self.read())
        except asyncio.IncompleteReadError:
            return found

    async def broken(self) -> tuple[int, str]:
        """Why the connection ends: the code and the sentence."""
        last = (await self.to_the_end())[-1]
        assert last.kind == GOAWAY, last
        return last.word, last.payload[8:].decode()


@asynccontextmanager
async def listening(
    answers: Echo | None = None, age: float = 100.0, grace: float = 100.0, idle: float = 100.0, most: int = 100
) -> AsyncIterator[tuple[Listener, int]]:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    connection = partial(Connection, answers=answers or Echo(), age=age, grace=grace)
    listener = await Listener.open(connection, bound, backlog=10, idle=idle, most=most)
    try:
        yield listener, bound.getsockname()[1]
    finally:
        await listener.close(0.0)


@asynccontextmanager
async def calling(port: int, *settings: tuple[int, int]) -> AsyncIterator[Caller]:
    """A connection that has said what it must."""
    caller = Caller(*await asyncio.open_connection("127.0.0.1", port))
    told = b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in settings)
    caller.send(PREFACE, frame(SETTINGS, 0, 0, told))
    try:
        yield caller
    finally:
        caller.writer.close()


@asynccontextmanager
async def called(*settings: tuple[int, int], answers: Echo | None = None, **how: Any) -> AsyncIterator[Caller]:
    """The same, of a server for it alone."""
    async with listening(answers, **how) as (_, port), calling(port, *settings) as caller:
        yield caller


def connections(listener: Listener) -> set[Connection]:
    return cast(set[Connection], listener._connections)


# --------------------------------------------------------------------------------------------- what is read


async def test_a_request_is_answered_with_fields_behind_the_body() -> None:
    async with called() as caller:
        caller.ask(1, b"abc")
        assert await caller.answer(1) == ({":status": "200", "grpc-status": "0"}, b"/echo abc")


async def test_a_request_is_the_same_in_whatever_pieces_it_comes() -> None:
    async with listening() as (_, port):
        for step in (1, 7, 10_000):
            caller = Caller(*await asyncio.open_connection("127.0.0.1", port))
            head = caller.encoder.encode(FIELDS)
            whole = b"".join(
                (
                    PREFACE,
                    frame(SETTINGS, 0, 0),
                    frame(HEADERS, 0, 1, head[:5]),
                    frame(CONTINUATION, 0, 1, b""),
                    frame(CONTINUATION, END_HEADERS, 1, head[5:]),
                    frame(DATA, 0, 1, b"ab"),
                    frame(DATA, END_STREAM, 1, b"c"),
                )
            )
            for start in range(0, len(whole), step):
                caller.writer.write(whole[start : start + step])
                await caller.writer.drain()
                await asyncio.sleep(0)
            assert (await caller.answer(1))[1] == b"/echo abc"
            caller.writer.close()


async def test_padding_priorities_and_unknown_frames_change_nothing() -> None:
    async with called() as caller:
        head = caller.encoder.encode(FIELDS)
        caller.send(
            frame(77, 0xFF, 1, b"whatever"),
            frame(PRIORITY, 0, 9, b"\0\0\0\3\1"),
            frame(HEADERS, END_HEADERS | PADDED | PRIORITIZED, 1, b"\2\0\0\0\3\1" + head + b"\0\0"),
            frame(DATA, END_STREAM | PADDED, 1, b"\3abc\0\0\0"),
        )
        assert (await caller.answer(1))[1] == b"/echo abc"


async def test_fields_behind_the_body_of_a_request_say_nothing() -> None:
    answers = Echo()
    async with called(answers=answers) as caller:
        caller.send(caller.head(1), frame(DATA, 0, 1, b"abc"))
        caller.send(frame(HEADERS, WHOLE, 1, caller.encoder.encode([("content-type", "late"), ("late", "x")])))
        assert (await caller.answer(1))[1] == b"/echo abc"
        assert answers.begun[0].headers == dict(FIELDS)


async def test_the_first_field_of_a_name_counts() -> None:
    answers = Echo()
    async with called(answers=answers) as caller:
        caller.send(caller.head(1, ("said", "a"), ("said", "b"), flags=WHOLE))
        await caller.answer(1)
        assert answers.begun[0].headers["said"] == "a"


async def test_a_head_that_is_remembered_means_what_it_says_now() -> None:
    """The same bytes are an entry of a table, which moves whenever something is put before it."""
    answers = Echo()
    async with called(answers=answers) as caller:
        plain = b"".join((b"\x83\x86", b"\x04\x05/echo"))  # POST, http, a path, none of them kept
        first, second = b"\x40\x04said\x01a", b"\x40\x04said\x01b"
        newest = b"\xbe"  # the first entry after those that every table has
        heads = [plain + first, plain + newest, plain + newest, plain + second, plain + newest, plain + b"\xbf"]
        for number, head in enumerate(heads):
            caller.send(frame(HEADERS, WHOLE, 2 * number + 1, head))
        await caller.answer(11)
        assert [stream.headers["said"] for stream in answers.begun] == ["a", "a", "a", "b", "b", "a"]


async def test_fields_behind_a_body_change_what_a_remembered_head_means() -> None:
    answers = Echo()
    async with called(answers=answers) as caller:
        plain, newest = b"\x83\x86\x04\x05/echo", b"\xbe"
        caller.send(frame(HEADERS, WHOLE, 1, plain + b"\x40\x04said\x01a"), frame(HEADERS, WHOLE, 3, plain + newest))
        caller.send(frame(HEADERS, END_HEADERS, 5, plain), frame(HEADERS, WHOLE, 5, b"\x40\x04said\x01b"))
        caller.send(frame(HEADERS, WHOLE, 7, plain + newest))
        await caller.answer(7)
        assert [stream.headers.get("said") for stream in answers.begun] == ["a", "a", None, "b"]


async def test_only_so_many_heads_are_remembered_and_no_long_ones() -> None:
    async with listening() as (listener, port), calling(port) as caller:
        plain = b"".join((b"\x83\x86", b"\x04\x05/echo"))
        for number in range(http2.KNOWN + 10):
            caller.send(frame(HEADERS, WHOLE, 2 * number + 1, plain + b"\x00\x04said\x02%02d" % number))
        await caller.answer(2 * number + 1)
        (connection,) = connections(listener)
        assert len(connection._known) == http2.KNOWN
        connection._known.clear()
        kept = plain + b"\x40\x04said\x7f\x81\x03" + b"x" * 512
        short, long = plain + b"\xbe", plain + b"\x00\x04said\x7f\x81\x03" + b"x" * 512
        for number, head in ((991, kept), (993, short), (995, long), (997, plain)):
            caller.send(frame(HEADERS, WHOLE, number, head))
        await caller.answer(997)
        assert set(connection._known) == {plain}, "neither what is long nor what is long when it is read"


# ------------------------------------------------------------------------------------------ what is refused


MALFORMED: dict[str, Sequence[tuple[str, str]]] = {
    "no path": [(":method", "POST"), (":scheme", "http")],
    "an empty path": [(":method", "POST"), (":scheme", "http"), (":path", "")],
    "two paths": [*FIELDS[:3], (":path", "/other")],
    "a pseudo-field behind others": [*FIELDS[:2], ("said", "x"), FIELDS[2]],
    "a pseudo-field of answers": [*FIELDS, (":status", "200")],
    "upper case": [*FIELDS, ("Said", "x")],
    "a field of a connection": [*FIELDS, ("connection", "close")],
    "chunks": [*FIELDS, ("transfer-encoding", "chunked")],
    "another te": [*FIELDS, ("te", "gzip")],
    "a line's end": [*FIELDS, ("said", "x\r\nother: y")],
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_head_costs_its_request_and_no_other(fields: Sequence[tuple[str, str]]) -> None:
    answers = Echo()
    async with called(answers=answers) as caller:
        caller.send(frame(HEADERS, WHOLE, 1, caller.encoder.encode(fields)))
        refused = await caller.wanted(RST_STREAM)
        assert (refused.number, refused.word) == (1, PROTOCOL_ERROR)
        caller.ask(3)
        assert (await caller.answer(3))[1] == b"/echo "
        assert [stream.number for stream in answers.begun] == [3]


@pytest.mark.parametrize("stated", ["2", "4", "x"])
async def test_a_body_of_another_length_than_stated_is_refused(stated: str) -> None:
    async with called() as caller:
        caller.send(caller.head(1, ("content-length", stated)), frame(DATA, END_STREAM, 1, b"abc"))
        assert (await caller.wanted(RST_STREAM, DATA))[:3] == (RST_STREAM, 0, 1)


async def test_a_body_for_what_was_answered_is_refused() -> None:
    async with called() as caller:
        caller.ask(1)
        await caller.answer(1)
        caller.send(frame(DATA, END_STREAM, 1, b"more"))
        refused = await caller.wanted(RST_STREAM)
        assert (refused.number, refused.word) == (1, STREAM_CLOSED)
        caller.ask(3)
        await caller.answer(3)


class Hasty(Echo):
    """Refuses a request of which not all has come."""

    def begin(self, stream: Stream) -> None:
        if stream.complete:
            super().begin(stream)
        else:
            stream.refuse(DONE)


class Long(Echo):
    """Answers at length, and at once."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def begin(self, stream: Stream) -> None:
        stream.answer(OK, b"x" * self.size, DONE)


async def test_what_was_on_its_way_to_what_is_answered_already_is_ignored() -> None:
    answers = Hasty()
    async with called(answers=answers) as caller:
        caller.send(caller.head(1))
        await caller.wanted(RST_STREAM)
        caller.send(frame(DATA, 0, 1, b"abc"))
        caller.send(frame(HEADERS, WHOLE, 1, caller.encoder.encode([("late", "x")])), frame(DATA, END_STREAM, 1))
        caller.send(caller.head(3, ("late", "x"), flags=WHOLE))
        found = await caller.wanted(HEADERS, RST_STREAM, GOAWAY)
        assert (found.kind, found.number) == (HEADERS, 3)
        assert answers.begun[0].headers["late"] == "x"


async def test_only_so_many_of_those_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "ENDED", 3)
    async with listening(Hasty()) as (listener, port), calling(port) as caller:
        for number in range(1, 21, 2):
            caller.send(caller.head(number))
        while (await caller.wanted(RST_STREAM)).number < 19:
            pass
        (connection,) = connections(listener)
        assert list(connection._ended) == [15, 17, 19]


async def test_a_caller_may_send_what_everybody_may_before_it_knows_how_much_is_taken() -> None:
    answers = Echo()
    answers.most = 10
    async with called(answers=answers) as caller:
        caller.send(caller.head(1), *[frame(DATA, 0, 1, b"x" * 16_000)] * 4, frame(DATA, END_STREAM, 1))
        assert (await caller.wanted(HEADERS, RST_STREAM)).kind == HEADERS


async def test_more_requests_at_a_time_than_are_taken_may_be_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "STREAMS", 2)
    answers = Echo()
    answers.may.clear()
    async with called(answers=answers) as caller:
        for number in (1, 3, 5):
            caller.ask(number)
        refused = await caller.wanted(RST_STREAM)
        assert (refused.number, refused.word) == (5, REFUSED_STREAM)
        answers.may.set()
        assert (await caller.answer(3))[1] == b"/echo "


def flood(_: Caller) -> bytes:
    return frame(PING, 0, 0, b"12345678") * (http2.NOISE + 1)


def taken_back(caller: Caller) -> bytes:
    each = [
        (caller.head(number), frame(RST_STREAM, 0, number, b"\0\0\0\x08")) for number in range(1, http2.NOISE // 4, 2)
    ]
    return b"".join(part for parts in each for part in parts)


def malformed(_: Caller) -> bytes:
    return b"".join(frame(HEADERS, WHOLE, number, b"\x83") for number in range(1, 2 * http2.NOISE + 4, 2))


def many_settings(_: Caller) -> bytes:
    return frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0" * 2700) * 4


def endless_head(caller: Caller) -> bytes:
    begun = frame(HEADERS, 0, 1, caller.encoder.encode(FIELDS))
    return begun + frame(CONTINUATION, 0, 1, b"\x00\x04said\x02xx" * 1000) * 3


def many_parts(caller: Caller) -> bytes:
    return frame(HEADERS, 0, 1, caller.encoder.encode(FIELDS)) + frame(CONTINUATION, 0, 1) * (http2.NOISE + 1)


def crumbs(caller: Caller) -> bytes:
    return caller.head(1) + frame(DATA, 0, 1, b"x") * (http2.NOISE + 1)


def inflated(caller: Caller) -> bytes:
    """Two hundred bytes that are a megabyte of fields."""
    kept = b"\x40\x04said\x7f\x81\x1e" + b"x" * 3968
    return frame(HEADERS, WHOLE, 1, caller.encoder.encode(FIELDS) + kept + b"\xbe" * 250)


FORBIDDEN: dict[str, tuple[Callable[[Caller], bytes], int, str]] = {
    "pings": (flood, ENHANCE_YOUR_CALM, "too many frames carry neither a request nor a body"),
    "requests taken back": (taken_back, ENHANCE_YOUR_CALM, "too many frames carry neither a request nor a body"),
    "heads that are none": (malformed, ENHANCE_YOUR_CALM, "too many frames carry neither a request nor a body"),
    "settings": (many_settings, ENHANCE_YOUR_CALM, "too many frames carry neither a request nor a body"),
    "a head without an end": (endless_head, ENHANCE_YOUR_CALM, f"a head is longer than {HEAD} bytes"),
    "a head of empty parts": (many_parts, ENHANCE_YOUR_CALM, "too many frames carry neither a request nor a body"),
    "a body in crumbs": (crumbs, ENHANCE_YOUR_CALM, "too many frames carry neither a request nor a body"),
    "fields that swell": (inflated, http2.COMPRESSION_ERROR, "a head cannot be decompressed, or is too long"),
    "a long frame": (
        lambda _: frame(DATA, 0, 1, b"x" * (FRAME + 1)), http2.FRAME_SIZE_ERROR, f"a frame is longer than {FRAME} bytes"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "code", "words"), FORBIDDEN.values(), ids=FORBIDDEN.keys())
async def test_who_wants_something_else_is_told_and_cut_off(
    sent: Callable[[Caller], bytes], code: int, words: str
) -> None:
    async with listening() as (listener, port), calling(port) as caller:
        caller.send(sent(caller))
        assert await caller.broken() == (code, words)
        caller.writer.close()
        await until(lambda: not listener._connections)
        async with calling(port) as other:
            other.ask(1)
            await other.answer(1)


async def test_who_asks_and_is_answered_may_send_as_much_of_that_as_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "NOISE", 20)
    async with called() as caller:
        for number in range(1, 101, 2):
            caller.send(frame(PING, 0, 0, b"12345678"), frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"))
            caller.ask(number)
            await caller.answer(number)


async def test_more_than_the_connections_window_has_room_for_is_an_error() -> None:
    async with listening() as (listener, port), calling(port) as caller:
        await caller.wanted(SETTINGS)
        (connection,) = connections(listener)
        heads = [caller.head(number) for number in range(1, 100, 2)]
        bodies = [frame(DATA, 0, number, b"x" * FRAME) for number in range(1, 100, 2)] * 2
        connection.data_received(b"".join(heads + bodies))  # at once: nobody has said yet that there is more room
        assert await caller.broken() == (FLOW_CONTROL_ERROR, "more is sent than the connection's window has room for")


async def test_a_body_longer_than_its_window_costs_its_request() -> None:
    async with called() as caller:
        caller.send(caller.head(1), *[frame(DATA, 0, 1, b"x" * FRAME)] * (MOST // FRAME + 4))
        refused = await caller.wanted(RST_STREAM)
        assert (refused.number, refused.word) == (1, FLOW_CONTROL_ERROR)
        caller.ask(3)
        await caller.answer(3)


async def test_the_connections_window_grows_by_what_was_read() -> None:
    """A caller who keeps to it is never held up, however much it sends in all."""
    async with called() as caller:
        window, number = WINDOW_AT_FIRST, 1
        body = b"x" * FRAME
        for number in range(1, 401, 2):
            while window < FRAME:
                window += (await caller.wanted(WINDOW_UPDATE)).word
            window -= FRAME
            caller.send(caller.head(number), frame(DATA, END_STREAM, number, body))
            caller.send(frame(WINDOW_UPDATE, 0, 0, (FRAME + 10).to_bytes(4, "big")))
        await caller.answer(number)


async def test_what_is_no_http2_is_told_so_where_it_can_read_that() -> None:
    async with listening() as (_, port):
        for sent, answer in (
            (b"GET /v2 HTTP/1.1\r\nhost: pinn\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
            (b"\x16\x03\x01", frame(SETTINGS, 0, 0, b"x" * 18)[:5]),  # TLS: it is told in HTTP/2 what is amiss
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            async with asyncio.timeout(PATIENCE):
                told = await reader.read()
            assert told.startswith(answer)
            assert b"this port speaks" in told
            writer.close()


# ------------------------------------------------------------------------------------ what waits for a window


async def test_an_answer_goes_as_far_as_there_is_room_and_on_when_there_is_more() -> None:
    async with called((INITIAL_WINDOW, 10)) as caller:
        caller.ask(1, b"x" * 30)
        await caller.wanted(HEADERS)
        assert (await caller.wanted(DATA)).payload == b"/echo xxxx"
        caller.send(frame(WINDOW_UPDATE, 0, 1, (5).to_bytes(4, "big")))
        assert (await caller.wanted(DATA)).payload == b"x" * 5
        caller.send(frame(SETTINGS, 0, 0, b"\0\4\0\0\0\x0f"))
        assert (await caller.wanted(DATA)).payload == b"x" * 5
        caller.send(frame(WINDOW_UPDATE, 0, 1, (1000).to_bytes(4, "big")))
        assert (await caller.wanted(DATA)).payload == b"x" * 16
        assert (await caller.wanted(HEADERS)).flags & END_STREAM


async def test_a_window_may_shrink_below_nothing() -> None:
    async with called((INITIAL_WINDOW, 10)) as caller:
        caller.ask(1, b"x" * 14)
        assert len((await caller.wanted(DATA)).payload) == 10
        caller.send(frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0"), frame(WINDOW_UPDATE, 0, 1, (10).to_bytes(4, "big")))
        caller.send(frame(PING, 0, 0, b"12345678"))
        assert (await caller.wanted(DATA, PING)).kind == PING
        caller.send(frame(WINDOW_UPDATE, 0, 1, (10).to_bytes(4, "big")))
        assert len((await caller.wanted(DATA)).payload) == 10


async def test_the_connections_window_holds_for_all_answers_together() -> None:
    async with called((INITIAL_WINDOW, 2**31 - 1)) as caller:
        long = b"x" * FRAME
        for number in (1, 3):
            caller.send(caller.head(number), frame(DATA, 0, number, long), frame(DATA, 0, number, long))
            caller.send(frame(DATA, END_STREAM, number, long))
        came = 0
        while came < WINDOW_AT_FIRST:
            came += len((await caller.wanted(DATA)).payload)
        assert came == WINDOW_AT_FIRST
        caller.send(frame(WINDOW_UPDATE, 0, 0, (10 * FRAME).to_bytes(4, "big")))
        while came < 6 * FRAME + 12:
            came += len((await caller.wanted(DATA)).payload)
        assert came == 6 * FRAME + 12


async def test_no_frame_is_longer_than_the_caller_takes() -> None:
    for longest, lengths in ((FRAME, [FRAME, FRAME, 6]), (2 * FRAME, [2 * FRAME, 6])):
        async with called((INITIAL_WINDOW, 2**20), (MAX_FRAME, longest)) as caller:
            caller.send(frame(WINDOW_UPDATE, 0, 0, (2**20).to_bytes(4, "big")))
            caller.send(caller.head(1), frame(DATA, 0, 1, b"x" * FRAME), frame(DATA, END_STREAM, 1, b"x" * FRAME))
            found = [len((await caller.wanted(DATA)).payload) for _ in lengths]
            assert found == lengths


async def test_a_caller_may_keep_no_fields_of_ours() -> None:
    """It must be told with the next head that none are kept, or it must end the connection (RFC 7541, 4.2)."""
    async with called((1, 0)) as caller:
        caller.decoder.max_allowed_table_size = 0
        for number in (1, 3):
            caller.ask(number)
            assert (await caller.answer(number))[0] == {":status": "200", "grpc-status": "0"}


async def test_windows_that_open_are_looked_through_once_for_all_that_came_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked, pump = list[int](), Connection._pump

    def counted(self: Connection) -> None:
        looked.append(len(self._waiting))
        pump(self)

    monkeypatch.setattr(Connection, "_pump", counted)
    async with listening() as (listener, port), calling(port, (INITIAL_WINDOW, 0)) as caller:
        for number in range(1, 101, 2):
            caller.ask(number)
        await until(lambda: bool(connections(listener)))
        (connection,) = connections(listener)
        await until(lambda: len(connection._shut) == 50)
        looked.clear()
        connection.data_received(frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 500)
        assert looked == [0], "none of them has room of its own"
        connection.data_received(b"".join(frame(WINDOW_UPDATE, 0, number, b"\0\0\0\1") for number in (1, 3, 5)))
        assert looked == [0, 3]
        assert connection._rest == 50 * len(b"/echo ") - 3


async def test_an_answer_that_waits_and_is_taken_back_counts_no_more() -> None:
    async with listening() as (listener, port), calling(port, (INITIAL_WINDOW, 0)) as caller:
        caller.ask(1, b"x" * FRAME)
        await until(lambda: listener._unsent_bytes > FRAME)
        caller.send(frame(RST_STREAM, 0, 1, CANCEL.to_bytes(4, "big")))
        await until(lambda: listener._unsent_bytes == 0)
        (connection,) = connections(listener)
        assert connection._rest == 0


async def test_one_answer_that_waits_holds_up_no_other() -> None:
    async with called() as caller:
        caller.send(frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0"))
        caller.ask(1, b"one")
        caller.ask(3, b"three")
        caller.send(frame(WINDOW_UPDATE, 0, 3, (100).to_bytes(4, "big")))
        found = await caller.wanted(DATA)
        assert (found.number, found.payload) == (3, b"/echo three")


@pytest.mark.parametrize("number", [0, 1])
async def test_a_window_too_large_is_an_error(number: int) -> None:
    answers = Echo()
    answers.may.clear()
    async with called(answers=answers) as caller:
        caller.ask(1)
        caller.send(frame(WINDOW_UPDATE, 0, number, (2**31 - 1).to_bytes(4, "big")))
        assert (await caller.wanted(RST_STREAM, GOAWAY)).word == FLOW_CONTROL_ERROR


async def test_who_makes_no_room_for_its_answers_is_cut_off_where_too_much_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "UNSENT", 3 * FRAME)
    async with listening() as (listener, port), calling(port, (INITIAL_WINDOW, 0)) as first:
        first.ask(1, b"x" * FRAME)
        await until(lambda: sum(listener._unsent.values()) > FRAME)
        async with calling(port, (INITIAL_WINDOW, 0)) as second:
            for number in (1, 3):
                second.ask(number, b"x" * FRAME)
            await until(lambda: len(listener._connections) == 1)
            second.send(frame(WINDOW_UPDATE, 0, 1, (2 * FRAME).to_bytes(4, "big")))
            second.send(frame(WINDOW_UPDATE, 0, 3, (2 * FRAME).to_bytes(4, "big")))
            await second.answer(3)
            await until(lambda: not listener._unsent)
        assert listener._unsent_bytes == 0


async def test_who_makes_no_room_for_a_great_deal_is_cut_off_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "UNSENT", 8 * FRAME)
    monkeypatch.setattr(http2, "UNSENT", 4 * FRAME)
    async with listening() as (listener, port), calling(port, (INITIAL_WINDOW, 0)) as patient:
        patient.ask(1, b"x" * FRAME)
        await until(lambda: len(listener._unsent) == 1)
        async with calling(port, (INITIAL_WINDOW, 0)) as greedy:
            for number in range(1, 11, 2):
                greedy.ask(number, b"x" * FRAME)
            await greedy.to_the_end()
        patient.send(frame(WINDOW_UPDATE, 0, 1, (2 * FRAME).to_bytes(4, "big")))
        assert len((await patient.answer(1))[1]) == FRAME + 6


async def test_what_is_answered_while_a_caller_does_not_read_counts_too() -> None:
    answers, asked, settings = Echo(), 100, ((INITIAL_WINDOW, 2**31 - 1), (MAX_FRAME, 2**24 - 1))
    answers.may.clear()
    async with listening(answers) as (listener, port), calling(port, *settings) as caller:
        caller.send(frame(WINDOW_UPDATE, 0, 0, (2**30).to_bytes(4, "big")))
        for number in range(1, 2 * asked, 2):
            caller.ask(number)
        await until(lambda: len(answers.begun) == asked)
        (connection,) = connections(listener)
        for stream in answers.begun:  # one in each turn: what the connection says last is not what it said first
            stream.answer(OK, b"x" * 300_000, DONE)
            await asyncio.sleep(0)
        await until(lambda: connection._deaf and not connection._out)
        assert listener._unsent[connection] >= connection._unsent() > asked * 100_000


async def test_who_does_not_read_is_read_no_further() -> None:
    async with listening() as (listener, port), calling(port, (INITIAL_WINDOW, 2**31 - 1)) as caller:
        caller.send(frame(WINDOW_UPDATE, 0, 0, (2**30).to_bytes(4, "big")))
        number = 1
        while not any(connection._deaf for connection in connections(listener)):
            caller.send(caller.head(number), *[frame(DATA, 0, number, b"x" * FRAME)] * 10, frame(DATA, 1, number))
            number += 2
            await asyncio.sleep(0)
        (connection,) = connections(listener)
        assert connection in listener._unsent
        last = number - 2
        assert len((await caller.answer(last))[1]) == 10 * FRAME + 6
        await until(lambda: not listener._unsent)


# --------------------------------------------------------------------------------------------- who leaves


async def test_who_answers_hears_of_a_caller_who_takes_its_request_back() -> None:
    answers = Echo()
    answers.may.clear()
    async with called(answers=answers) as caller:
        caller.ask(1)
        await until(lambda: len(answers.begun) == 1)
        caller.send(frame(RST_STREAM, 0, 1, CANCEL.to_bytes(4, "big")))
        await until(lambda: answers.left == [1])
        answers.may.set()
        caller.ask(3)
        assert (await caller.answer(3))[1] == b"/echo "


async def test_who_answers_hears_of_a_connection_that_is_gone() -> None:
    answers = Echo()
    answers.may.clear()
    async with listening(answers) as (listener, port):
        async with calling(port) as caller:
            caller.ask(1)
            caller.send(caller.head(3))
            await until(lambda: len(answers.begun) == 2)
        await until(lambda: answers.left == [1, 3])
        await until(lambda: not listener._connections)


async def test_what_is_taken_back_at_once_is_not_begun() -> None:
    answers = Echo()
    async with listening(answers) as (listener, port), calling(port) as caller:
        await caller.wanted(SETTINGS)
        (connection,) = connections(listener)
        connection.data_received(caller.head(1) + frame(RST_STREAM, 0, 1, CANCEL.to_bytes(4, "big")))
        caller.ask(3)
        await caller.answer(3)
        assert [stream.number for stream in answers.begun] == [3]


async def test_an_answered_request_holds_nothing() -> None:
    answers = Echo()
    async with called((INITIAL_WINDOW, 10), answers=answers) as caller:
        caller.ask(1)
        caller.ask(3, b"more than there is room for")
        caller.send(frame(WINDOW_UPDATE, 0, 3, (1000).to_bytes(4, "big")))
        await caller.answer(3)
        assert [stream.left for stream in answers.begun] == [None, None]


async def test_an_answer_before_all_was_sent_ends_the_request() -> None:
    async with called(answers=Hasty()) as caller:
        caller.send(caller.head(1))
        assert (await caller.wanted(HEADERS)).flags == WHOLE
        ended = await caller.wanted(RST_STREAM)
        assert (ended.number, ended.word) == (1, NO_ERROR)


# ----------------------------------------------------------------------------------------- who is to leave


async def test_an_old_connection_loses_no_request_when_it_ends() -> None:
    """It is told first; what came before it knew is answered, what comes after that may be asked elsewhere."""
    answers = Echo()
    async with called(answers=answers, age=0.05) as caller:
        told = await caller.wanted(GOAWAY)
        assert (int.from_bytes(told.payload[:4], "big"), told.word) == (2**31 - 1, NO_ERROR)
        ping = await caller.wanted(PING)
        answers.may.clear()
        caller.ask(1, b"on its way")
        caller.send(frame(PING, ACK, 0, ping.payload))
        told = await caller.wanted(GOAWAY)
        assert (int.from_bytes(told.payload[:4], "big"), told.word) == (1, NO_ERROR)
        caller.ask(3, b"too late")
        refused = await caller.wanted(RST_STREAM)
        assert (refused.number, refused.word) == (3, REFUSED_STREAM)
        answers.may.set()
        assert (await caller.answer(1))[1] == b"/echo on its way"
        assert await caller.to_the_end() == []


async def test_a_caller_who_sends_while_it_reads_its_last_answer_gets_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Closed on bytes that nobody read, a connection is torn down, and with it what was on its way to the caller."""
    monkeypatch.setattr(http2, "FAREWELL", 0.0)
    size = 20_000_000
    async with called((INITIAL_WINDOW, 2**31 - 1), answers=Long(size), age=0.01) as caller:
        caller.send(frame(WINDOW_UPDATE, 0, 0, (2**30).to_bytes(4, "big")))
        caller.ask(1)
        came = 0
        while (found := await caller.read()).kind != HEADERS or not found.flags & END_STREAM:
            if found.kind == DATA:
                came += len(found.payload)
                caller.send(frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"))
            elif found.kind == PING:
                caller.send(frame(PING, ACK, 0, found.payload))
        assert came == size


async def test_a_slow_reader_of_a_last_answer_is_not_cut_while_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "LINGER", 0.5)
    monkeypatch.setattr(http2, "FAREWELL", 0.0)
    async with called(answers=Long(100 * FRAME), age=0.01, grace=0.5, idle=2.0) as caller:  # looked at by others, too
        caller.ask(1)
        came = 0
        while (found := await caller.read()).kind != HEADERS or not found.flags & END_STREAM:
            if found.kind == DATA:
                came += len(found.payload)
                for number in (0, 1):
                    caller.send(frame(WINDOW_UPDATE, 0, number, len(found.payload).to_bytes(4, "big")))
                await asyncio.sleep(0.02)  # so slow it is: several times the time to linger
        assert came == 100 * FRAME


async def test_who_does_not_confirm_is_left_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "FAREWELL", 0.01)
    async with called(age=0.01) as caller:
        assert (await caller.to_the_end())[-1].kind == GOAWAY


async def test_who_is_answered_after_its_time_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "FAREWELL", 0.01)
    answers = Echo()
    answers.may.clear()
    async with called(answers=answers, age=0.01, grace=0.05) as caller:
        caller.ask(1)
        await caller.to_the_end()
        await until(lambda: answers.left == [1])


async def test_a_port_that_closes_finishes_what_was_asked() -> None:
    answers = Echo()
    answers.may.clear()
    async with listening(answers) as (listener, port), calling(port) as busy, calling(port) as idle:
        busy.ask(1, b"abc")
        await until(lambda: len(answers.begun) == 1)
        closing = asyncio.create_task(listener.close(PATIENCE))
        for caller in (busy, idle):
            caller.send(frame(PING, ACK, 0, (await caller.wanted(PING)).payload))
        assert (await idle.to_the_end())[-1].kind == GOAWAY
        answers.may.set()
        assert (await busy.answer(1))[1] == b"/echo abc"
        assert await closing


async def test_who_says_nothing_is_cut_off() -> None:
    async with listening(idle=0.1) as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == b""
        writer.close()
        await until(lambda: not listener._connections)


async def test_who_has_said_nothing_yet_is_told_in_order_that_it_is_over() -> None:
    async with listening(age=0.01) as (_, port):
        caller = Caller(*await asyncio.open_connection("127.0.0.1", port))
        found = [each.kind for each in await caller.to_the_end()]
        assert found == [SETTINGS, WINDOW_UPDATE, GOAWAY, PING, GOAWAY]
        caller.writer.close()


async def test_more_connections_than_are_taken_are_told() -> None:
    async with listening(most=1) as (listener, port), calling(port) as first:
        first.ask(1)
        await first.answer(1)
        async with calling(port) as second:
            assert await second.broken() == (ENHANCE_YOUR_CALM, "too many connections are open already")
        await until(lambda: not listener._refused)
        first.ask(3)
        await first.answer(3)


async def test_a_call_that_is_being_answered_is_not_cut_to_make_room_and_an_idle_connection_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "IDLE_IN_A_CROWD", 0.0)
    echo = Echo()
    echo.may.clear()
    async with listening(echo, most=2) as (listener, port), calling(port) as busy, calling(port) as idle:
        busy.ask(1, b"slow")
        await until(lambda: bool(echo.begun) and len(listener._connections) == 2)
        async with calling(port) as third:
            await third.broken()
        await idle.to_the_end()
        echo.may.set()
        assert (await busy.answer(1))[1].endswith(b"slow")
