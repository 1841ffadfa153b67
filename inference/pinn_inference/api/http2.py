"""HTTP/2 on the server's own event loop, as far as gRPC needs it (RFC 9113): a request, one answer, and fields behind it.

No upgrade from HTTP/1.1, no TLS, no push; priorities are read and ignored. Header fields are decompressed by a library; frames
and flow control are here, since every call goes through them (docs/decisions/0015-grpc-on-the-event-loop.md).

What a caller can have held here is bounded: a frame, a head and its fields, streams, bytes that come ahead of being read, frames
that carry nothing. Whoever goes beyond loses its connection, and nobody else's, and is told by which rule.
"""

import asyncio
import random
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from hpack import Decoder, Encoder, HPACKError
from hpack.struct import NeverIndexedHeaderTuple

from pinn_inference.api.http import ProtocolClosed
from pinn_inference.api.wire import LINGER, Listener

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

FRAME: Final = 16_384
"""Bytes of the longest frame that is taken: the least that may be said, so that little lies here until the rest of one comes."""

HEAD: Final = 16 * 1024
"""Bytes a head may have, as it comes and as its fields are counted (RFC 9113, 6.5.2)."""

STREAMS: Final = 256
"""Requests of one connection at a time; a client's library has further ones wait."""

ENDED: Final = 1024
"""Requests of a connection that were answered or refused before all of them had come, and are remembered: the rest is ignored."""

WINDOW: Final = 1024 * 1024
"""Bytes of all bodies of a connection that may be on their way at once. Bodies are bounded where they are read, and a connection
is not held up by one that waits."""

WINDOW_AT_FIRST: Final = 65_535
LARGEST: Final = 2**31 - 1
"""The largest window, stream number and increment there are."""

NOISE: Final = 10_000
"""Frames that carry neither a request nor a body, beyond ten for each answer and four for each frame of one: who sends more wants
something else."""

TINY: Final = 256
"""Bytes below which a part of a body that is not the last counts as such a frame."""

RESETS: Final = 10
"""So many of them a request counts as that is taken back: it has cost more than a frame."""

KNOWN: Final = 64
"""Heads of a connection that are remembered as they came: most requests have the same."""

SHORT_HEAD: Final = 512
"""Bytes of the longest head that is remembered, as it comes and as it is read."""

UNSENT: Final = 32 * 1024 * 1024
"""Bytes of answers that one caller who does not read them may leave here: half of what all may together (wire.UNSENT)."""

FAREWELL: Final = 1.0
"""Seconds for a caller to confirm that it has been told to send no further requests."""

_HEAD_OF_FRAME: Final = struct.Struct(">HBBBL")
_WORD: Final = struct.Struct(">L")
_SETTING: Final = struct.Struct(">HL")

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20
(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, _, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL,
 COMPRESSION_ERROR, _, ENHANCE_YOUR_CALM) = range(12)  # fmt: skip
_TABLE_SIZE, _PUSH, _STREAMS, _INITIAL_WINDOW, _FRAME_SIZE, _LIST_SIZE = 0x1, 0x2, 0x3, 0x4, 0x5, 0x6
_NO_TABLE: Final = b"\x20"
"""Says before a head that none is kept for later ones: true of all we send, and never more than a caller allows."""


_OF_A_CONNECTION: Final = frozenset(("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"))
_PSEUDO: Final = frozenset((":method", ":scheme", ":path", ":authority"))
_ONLY_HTTP2: Final = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\nthis port speaks gRPC, over HTTP/2 alone\n"


_Bytes = TypeVar("_Bytes", bytes, memoryview)


class _Broken(Exception):
    """The connection cannot go on: an error code, and a sentence for the caller's log."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class _StreamBroken(Exception):
    """One request cannot go on."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


def block(fields: Sequence[tuple[str, str]]) -> bytes:
    """Header fields for any answer on any connection: nothing in it goes by what was sent before."""
    told = [NeverIndexedHeaderTuple(name.encode(), value.encode("latin-1")) for name, value in fields]
    return bytes(Encoder().encode(told, huffman=False))


def frame(kind: int, flags: int, number: int, payload: bytes = b"") -> bytes:
    """A frame of a stream, 0 for the connection."""
    return _HEAD_OF_FRAME.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, number) + payload


class Stream:
    """A request and its answer."""

    __slots__ = (
        "_connection",
        "_received",
        "_waiter",
        "body",
        "complete",
        "end",
        "gone",
        "headers",
        "left",
        "number",
        "rest",
        "window",
    )

    def __init__(self, connection: "Connection", number: int, headers: dict[str, str], window: int) -> None:
        self._connection, self.number, self.headers, self.window = connection, number, headers, window
        self._waiter: asyncio.Future[None] | None = None
        self._received = 0
        self.body = bytearray()
        """What has come of it."""
        self.complete = False
        self.gone = False
        """Whether its caller has left, or broke a rule: an answer goes nowhere."""
        self.left: Callable[[], None] | None = None
        """What is to be done when that happens before it is answered."""
        self.rest: memoryview | None = None
        """What is left to send of an answer, for want of a window."""
        self.end = b""

    # ---------------------------------------------------------------------------- for who is to answer it

    @property
    def path(self) -> str:
        """Its target."""
        return self.headers[":path"]

    async def more(self) -> None:
        """Waits until more of the body has come, or all of it. Raises ProtocolClosed when the caller leaves before."""
        self._raise_if_gone()
        if self.complete:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter
        self._raise_if_gone()

    def answer(self, head: bytes, body: bytes, end: bytes) -> None:
        """The answer, its fields as `block` makes them: before the body and, if there are any, behind it."""
        self._connection.send(self, head, body, end)

    def refuse(self, head: bytes) -> None:
        """An answer that is nothing but its fields."""
        self._connection.send(self, head, None, b"")

    def abort(self) -> None:
        """It will have no answer."""
        self._connection.reset(self, INTERNAL_ERROR)

    # -------------------------------------------------------------------------- what the connection tells it

    def feed(self, piece: bytes | memoryview) -> None:
        """More of the body."""
        self.body += piece
        self._wake()

    def count(self, size: int, most: int) -> None:
        """So much of its window is used. Raises _StreamBroken when there was not so much."""
        self._received += size
        if self._received > most:
            raise _StreamBroken(FLOW_CONTROL_ERROR)

    def finish(self) -> None:
        """That was all of the body. Raises _StreamBroken where another length was stated."""
        stated = self.headers.get("content-length")
        if stated is not None and stated != str(len(self.body)):
            raise _StreamBroken(PROTOCOL_ERROR)
        self.complete = True
        self._wake()

    def leave(self) -> None:
        """Its caller is gone."""
        self.gone = True
        self._wake()
        left, self.left = self.left, None
        if left is not None:
            left()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _raise_if_gone(self) -> None:
        if self.gone:
            raise ProtocolClosed


class Answers(Protocol):
    """Who answers requests."""

    @property
    def most(self) -> int:
        """Bytes of the longest body that is taken."""
        ...

    def begin(self, stream: Stream) -> None:
        """A request has come, its body perhaps not yet. It is answered or refused in time, whatever its caller does."""
        ...


class Connection(asyncio.Protocol):
    """One caller's connection. It is told to end after `age` seconds; what is asked until it knows has `grace` seconds to come
    and as many to be answered, and more where its caller reads."""

    def __init__(self, listener: Listener, answers: Answers, age: float, grace: float) -> None:
        self._listener, self._answers, self._age, self._grace = listener, answers, age, grace
        self._transport: Any = None
        self._prefaced = self._settled = self._begun = False  # the caller's first bytes, our first frame, the caller's
        self._told = self._leaving = self._over = False  # to ask no more; that it knows; nothing is read any more
        self._deaf = False
        self._until = 0.0
        self._in = b""
        self._out: list[bytes | memoryview] = []
        self._timers: list[asyncio.TimerHandle] = []
        self._looks: asyncio.TimerHandle | None = None
        self._since, self._unread = 0.0, 0  # `_unread` is the listener's memory, `_seen` is of the end
        self._seen = 0
        # Requests
        self._streams: dict[int, Stream] = {}
        self._fresh: list[Stream] = []
        self._last = 0
        self._decoder = Decoder(max_header_list_size=HEAD)
        self._known: dict[bytes, dict[str, str]] = {}
        self._moved = False  # whether the last head changed what others mean
        self._block: tuple[int, int, bytearray] | None = None  # a head of which more is to come
        self._noise, self._calm = 0, NOISE
        self._body = min(max(answers.most + 2 * FRAME, WINDOW_AT_FIRST), LARGEST)
        self._granted, self._used = WINDOW, 0
        # Answers
        self._window = self._initial = WINDOW_AT_FIRST
        self._longest, self._resized = FRAME, b""
        self._waiting: dict[int, Stream] = {}  # for the connection's window
        self._shut: dict[int, Stream] = {}  # for their own
        self._rest = 0
        self._opened = False  # whether there may be room since they were looked through
        self._ended: dict[int, None] = {}

    # ------------------------------------------------------------------------------------ what asyncio calls

    def connection_made(self, transport: Any) -> None:
        """It is open."""
        self._transport = transport
        self._since = time.monotonic()
        if not self._listener.enter(self):
            self._break(ENHANCE_YOUR_CALM, "too many connections are open already")
            if self._listener.is_crowded():
                self._transport.close()
            return
        self._later(self._age * random.uniform(0.9, 1.1), self.leave)  # noqa: S311 - a spread, no secret: not all come again at once

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._over:
            return
        self._since = time.monotonic()
        data = self._in + data if self._in else data
        try:
            self._in = data[self._read(data) :]
        except _Broken as error:
            self._break(error.code, str(error))
        self._begin()
        if self._opened:
            self._opened = False
            self._pump()
        if self._used > WINDOW // 2 and not self._over:
            self._write(frame(WINDOW_UPDATE, 0, 0, _WORD.pack(self._used)))
            self._granted, self._used = self._granted + self._used, 0

    def eof_received(self) -> bool:
        """Nothing more will come: no caller of this protocol leaves like that while it waits. The connection closes."""
        self._flush()
        self._over = True
        self._linger()
        return False

    def connection_lost(self, _: Exception | None) -> None:
        """It is closed."""
        self._over = True
        for timer in (*self._timers, self._looks):
            if timer is not None:
                timer.cancel()
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.leave()
        for kept in (self._fresh, self._waiting, self._shut, self._known):
            kept.clear()
        self._in, self._out, self._block = b"", [], None
        self._listener.leave(self)

    def pause_writing(self) -> None:
        """The caller does not read its answers: nothing more is read from it until it does."""
        self._deaf = True
        if not self._over:
            self._transport.pause_reading()
        self._hold()

    def resume_writing(self) -> None:
        """It reads again."""
        self._deaf = False
        self._transport.resume_reading()
        self._hold()

    # ------------------------------------------------------------------------------------------- frames

    def _read(self, data: bytes) -> int:
        """Takes all whole frames; returns where they end. Raises _Broken."""
        at = 0
        if not self._prefaced:
            at = self._preface(data)
            if not self._prefaced:
                return at
        end, view = len(data), memoryview(data)
        while end - at >= 9:
            high, low, kind, flags, number = _HEAD_OF_FRAME.unpack_from(data, at)
            size = high << 8 | low
            if size > FRAME:
                raise _Broken(FRAME_SIZE_ERROR, f"a frame is longer than {FRAME} bytes")
            if at + 9 + size > end:
                break
            payload, number = view[at + 9 : at + 9 + size], number & LARGEST
            at += 9 + size
            try:
                self._take(kind, flags, number, payload)
            except _StreamBroken as error:
                self._refuse(number, error.code)
        return at

    def _preface(self, data: bytes) -> int:
        head = data[: len(PREFACE)]
        if head == PREFACE:
            self._prefaced = True
            self._settle()
            return len(PREFACE)
        if not PREFACE.startswith(head):
            if b" HTTP/1." in data[:FRAME].partition(b"\r\n")[0]:
                self._write(_ONLY_HTTP2)
                self._settled = self._told = True
            raise _Broken(PROTOCOL_ERROR, "this port speaks HTTP/2, and the connection begins otherwise")
        return 0

    def _settle(self) -> None:
        """What is said first, whatever else is to be said."""
        if self._settled:
            return
        self._settled = True
        settings = ((_STREAMS, STREAMS), (_INITIAL_WINDOW, self._body), (_LIST_SIZE, HEAD))
        self._write(frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*setting) for setting in settings)))
        self._write(frame(WINDOW_UPDATE, 0, 0, _WORD.pack(WINDOW - WINDOW_AT_FIRST)))

    def _take(self, kind: int, flags: int, number: int, payload: memoryview) -> None:
        if self._block is not None and (kind != CONTINUATION or number != self._block[0]):
            raise _Broken(PROTOCOL_ERROR, "a head is not followed by the rest of it")
        if not self._begun:
            self._begun = True
            if kind != SETTINGS or flags & ACK:
                raise _Broken(PROTOCOL_ERROR, "the first frame is no SETTINGS")
        if kind == DATA:
            self._data(flags, number, payload)
            return
        if kind == HEADERS:
            self._headers(flags, number, bytes(payload))
            return
        self._noisy(1)
        if kind in _FRAMES:
            _FRAMES[kind](self, flags, number, bytes(payload))

    def _noisy(self, count: int) -> None:
        self._noise += count
        if self._noise > self._calm:
            raise _Broken(ENHANCE_YOUR_CALM, "too many frames carry neither a request nor a body")

    def _data(self, flags: int, number: int, payload: memoryview) -> None:
        size = len(payload)
        self._granted -= size
        self._used += size
        if self._granted < 0:
            raise _Broken(FLOW_CONTROL_ERROR, "more is sent than the connection's window has room for")
        if size < TINY and not flags & END_STREAM:
            self._noisy(1)
        if number == 0 or number > self._last:
            raise _Broken(PROTOCOL_ERROR, "a body comes without a head")
        stream = self._streams.get(number)
        if stream is None and number in self._ended:
            self._noisy(1 if size < TINY else 0)
            return
        if stream is None or stream.complete:
            raise _StreamBroken(STREAM_CLOSED)
        stream.count(size, self._body)
        if flags & PADDED:
            payload = _unpadded(payload)
        if payload:
            stream.feed(payload)
        if flags & END_STREAM:
            stream.finish()

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        if flags & PADDED:
            payload = _unpadded(payload)
        own = False
        if flags & PRIORITIZED:
            own, payload = _depends_on_itself(number, payload), payload[5:]
        if not number & 1:
            raise _Broken(PROTOCOL_ERROR, "a caller's streams have odd numbers")
        if flags & END_HEADERS:
            self._head(flags, number, payload)
        else:
            self._block = (number, flags, bytearray(payload))
        if own:
            raise _StreamBroken(PROTOCOL_ERROR)

    def _continuation(self, flags: int, _: int, payload: bytes) -> None:
        if self._block is None:
            raise _Broken(PROTOCOL_ERROR, "the rest of a head comes without its beginning")
        number, first, head = self._block
        head += payload
        if len(head) > HEAD:
            raise _Broken(ENHANCE_YOUR_CALM, f"a head is longer than {HEAD} bytes")
        if flags & END_HEADERS:
            self._block = None
            self._head(first, number, bytes(head))

    def _head(self, flags: int, number: int, head: bytes) -> None:
        """All of a head. It is decoded in any case: later ones go by what is in it."""
        stream = self._streams.get(number)
        if stream is not None:
            self._trailers(stream, flags, head)
            return
        if number in self._ended:
            self._fields(head)
            self._noisy(1)
            return
        if number <= self._last:
            raise _Broken(STREAM_CLOSED, "a head comes on a stream that was used before")
        self._last = number
        headers = self._known.get(head) or self._decoded(head)
        if len(self._streams) >= STREAMS or self._leaving:
            raise _StreamBroken(REFUSED_STREAM)
        stream = Stream(self, number, headers, self._initial)
        self._streams[number] = stream
        if flags & END_STREAM:
            stream.finish()
        self._fresh.append(stream)

    def _trailers(self, stream: Stream, flags: int, head: bytes) -> None:
        """Fields behind a body say nothing here."""
        fields = self._fields(head)
        if stream.complete:
            raise _StreamBroken(STREAM_CLOSED)
        if not flags & END_STREAM or any(name.startswith(b":") for name, _ in fields):
            raise _StreamBroken(PROTOCOL_ERROR)
        stream.finish()

    def _fields(self, head: bytes) -> Sequence[tuple[bytes, bytes]]:
        newest, *size = self._table()
        try:
            fields: Sequence[tuple[bytes, bytes]] = tuple(self._decoder.decode(head, raw=True))
        except (HPACKError, IndexError, ValueError):
            raise _Broken(COMPRESSION_ERROR, "a head cannot be decompressed, or is too long") from None
        newest_now, *size_now = self._table()
        if newest_now is not newest or size_now != size:
            self._known.clear()  # what the same bytes mean has changed
            self._moved = True
        return fields

    def _table(self) -> tuple[object, int, int]:
        """What changes whenever the decoder's table does: entries come in front and leave at the end."""
        table = self._decoder.header_table
        entries = table.dynamic_entries
        return (entries[0] if entries else None, len(entries), table.maxsize)

    def _decoded(self, head: bytes) -> dict[str, str]:
        """Its fields, the first of a name counting. Raises _Broken, or _StreamBroken where HTTP/2 does not allow them."""
        self._moved = False
        headers = _read(self._fields(head))
        if not self._moved and len(head) <= SHORT_HEAD and len(self._known) < KNOWN and _size(headers) <= SHORT_HEAD:
            self._known[head] = headers
        return headers

    def _priority(self, _: int, number: int, payload: bytes) -> None:
        if number == 0:
            raise _Broken(PROTOCOL_ERROR, "PRIORITY is of a stream")
        if len(payload) != 5:
            raise _StreamBroken(FRAME_SIZE_ERROR)
        if _depends_on_itself(number, payload):
            raise _StreamBroken(PROTOCOL_ERROR)

    def _rst_stream(self, _: int, number: int, payload: bytes) -> None:
        self._of_a_stream(number, payload, "RST_STREAM")
        self._noisy(RESETS)
        if stream := self._streams.get(number):
            self._drop(stream)

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise _Broken(PROTOCOL_ERROR, "SETTINGS is of the connection")
        if len(payload) % 6 or (flags & ACK and payload):
            raise _Broken(FRAME_SIZE_ERROR, "SETTINGS has another length than it may")
        if flags & ACK:
            return
        told = dict(_SETTING.iter_unpack(payload))
        self._noisy(len(payload) // 6)
        for name, value in told.items():
            self._setting(name, value)
        self._write(frame(SETTINGS, ACK, 0))

    def _setting(self, name: int, value: int) -> None:
        if name == _TABLE_SIZE:
            self._resized = _NO_TABLE
        if name == _PUSH and value > 1:
            raise _Broken(PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        if name == _FRAME_SIZE:
            if not FRAME <= value < 2**24:
                raise _Broken(PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of range")
            self._longest = value
        if name == _INITIAL_WINDOW:
            if value > LARGEST:
                raise _Broken(FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large")
            more, self._initial = value - self._initial, value
            for stream in self._streams.values():
                self._widen(stream, more)
                if stream.window > LARGEST:
                    raise _Broken(FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE makes a window too large")

    def _widen(self, stream: Stream, more: int) -> None:
        stream.window += more
        if stream.window > 0 and stream.number in self._shut:
            self._waiting[stream.number] = self._shut.pop(stream.number)
            self._opened = True

    def _push_promise(self, *_: Any) -> None:
        raise _Broken(PROTOCOL_ERROR, "a caller promises nothing")

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise _Broken(PROTOCOL_ERROR, "PING is of the connection")
        if len(payload) != 8:
            raise _Broken(FRAME_SIZE_ERROR, "PING has another length than 8 bytes")
        if not flags & ACK:
            self._write(frame(PING, ACK, 0, payload))
        elif self._told:
            self._part()

    def _goaway(self, _: int, number: int, __: bytes) -> None:
        if number:
            raise _Broken(PROTOCOL_ERROR, "GOAWAY is of the connection")

    def _window_update(self, _: int, number: int, payload: bytes) -> None:
        self._of_a_stream(number or self._last, payload, "WINDOW_UPDATE")
        more = _WORD.unpack(payload)[0] & LARGEST
        if number == 0:
            if not more:
                raise _Broken(PROTOCOL_ERROR, "a window grows by nothing")
            self._window += more
            self._opened = True
            if self._window > LARGEST:
                raise _Broken(FLOW_CONTROL_ERROR, "the connection's window is too large")
            return
        if not more:
            raise _StreamBroken(PROTOCOL_ERROR)
        if stream := self._streams.get(number):
            self._widen(stream, more)
            if stream.window > LARGEST:
                raise _StreamBroken(FLOW_CONTROL_ERROR)

    def _of_a_stream(self, number: int, payload: bytes, name: str) -> None:
        if len(payload) != 4:
            raise _Broken(FRAME_SIZE_ERROR, f"{name} has another length than 4 bytes")
        if number > self._last or (number == 0 and name == "RST_STREAM"):
            raise _Broken(PROTOCOL_ERROR, f"{name} is of a stream that was not begun")

    # ---------------------------------------------------------------------------------------------- answers

    def _begin(self) -> None:
        """Hands over what has come: a short request is complete by now."""
        fresh, self._fresh = self._fresh, []
        for stream in fresh:
            if not stream.gone:
                self._answers.begin(stream)

    def send(self, stream: Stream, head: bytes, body: bytes | None, end: bytes) -> None:
        """An answer. As much of it as the caller has room for; the rest when it says that there is more."""
        number = stream.number
        if self._streams.get(number) is not stream:
            return
        self._calm += 10
        if self._resized:
            head, self._resized = self._resized + head, b""
        if body is None:
            self._write(frame(HEADERS, END_HEADERS | END_STREAM, number, head))
            self._done(stream)
            return
        size = len(body)
        ended = frame(HEADERS, END_HEADERS | END_STREAM, number, end) if end else frame(DATA, END_STREAM, number)
        if size <= self._window and size <= stream.window and size <= self._longest and not self._waiting:
            self._window -= size
            self._write(frame(HEADERS, END_HEADERS, number, head) + frame(DATA, 0, number, body) + ended)
            self._done(stream)
            return
        self._write(frame(HEADERS, END_HEADERS, number, head))
        stream.rest, stream.end = memoryview(body), ended
        stream.body.clear()
        self._rest += size
        self._waiting[number] = stream
        self._pump()

    def _pump(self) -> None:
        """Sends what waits for a window, as far as there is one."""
        for stream in tuple(self._waiting.values()):
            rest = stream.rest
            while rest and (room := min(self._window, stream.window, self._longest, len(rest))) > 0:
                self._window -= room
                stream.window -= room
                self._rest -= room
                self._calm += 4 if room >= TINY else 0
                self._write(_HEAD_OF_FRAME.pack(room >> 8, room & 0xFF, DATA, 0, stream.number), rest[:room])
                rest = stream.rest = rest[room:]
            if not rest:
                self._write(stream.end)
                self._done(stream)
            elif stream.window <= 0:
                self._shut[stream.number] = self._waiting.pop(stream.number)
            else:
                break
        self._hold()

    def _done(self, stream: Stream) -> None:
        """It has been answered."""
        stream.left = None  # it may hold what holds the request, until the collector comes
        if not stream.complete:
            self._write(frame(RST_STREAM, 0, stream.number, _WORD.pack(NO_ERROR)))  # what still comes is not wanted
            self._ignore(stream.number)
        self._forget(stream)
        self._since = time.monotonic()

    def reset(self, stream: Stream, code: int) -> None:
        """It will have no answer, for a reason of ours."""
        if self._streams.get(stream.number) is stream:
            self._write(frame(RST_STREAM, 0, stream.number, _WORD.pack(code)))
            self._ignore(stream.number)
            self._drop(stream)

    def _refuse(self, number: int, code: int) -> None:
        """A request breaks a rule. Raises _Broken for the last of too many."""
        self._write(frame(RST_STREAM, 0, number, _WORD.pack(code)))
        self._ignore(number)
        stream = self._streams.get(number)
        if stream is not None:
            self._drop(stream)
        if code != REFUSED_STREAM:
            self._noisy(RESETS if stream is not None else 1)

    def _ignore(self, number: int) -> None:
        """What still comes of it was sent before its caller knew."""
        if number <= self._last:
            self._ended[number] = None
        if len(self._ended) > ENDED:
            del self._ended[next(iter(self._ended))]

    def _drop(self, stream: Stream) -> None:
        self._forget(stream)
        stream.leave()
        self._hold()

    def _forget(self, stream: Stream) -> None:
        number = stream.number
        self._streams.pop(number, None)
        if stream.rest is not None:
            self._waiting.pop(number, None)
            self._shut.pop(number, None)
            self._rest -= len(stream.rest)
            stream.rest = None
        if self._leaving and not self._streams:
            self._later(0, self._close)

    def _write(self, *parts: bytes | memoryview) -> None:
        """All that is written in one turn of the loop goes in one go."""
        if self._over:
            return
        if not self._out:
            self._listener.loop.call_soon(self._flush)
        self._out += parts

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            out, self._out = self._out, []
            self._transport.writelines(out)
            if self._deaf:
                self._hold()

    def _hold(self) -> None:
        """Says how much lies here unread; a caller who leaves too much of it loses the connection."""
        if not self._deaf and not self._rest:
            self._listener.forget_unsent(self)
            return
        size = self._unsent()
        self._unread, self._seen = max(self._unread, size), max(self._seen, size)
        self._listener.keep_unsent(self, size)
        if size > UNSENT:
            self._listener.cut(self)

    def _unsent(self) -> int:
        return int(self._transport.get_write_buffer_size()) + self._rest

    # ----------------------------------------------------------------------------------------------- ending

    def leave(self) -> None:
        """Tells the caller to send no further requests, and ends when those are answered that came before it knew."""
        if self._told or self._over:
            return
        self._told = True
        self._settle()
        self._write(frame(GOAWAY, 0, 0, _WORD.pack(LARGEST) + _WORD.pack(NO_ERROR)), frame(PING, 0, 0, b"farewell"))
        self._later(FAREWELL, self._part)

    def _part(self) -> None:
        """It knows, or has had time to: what comes from now on is refused, and may be asked elsewhere."""
        if self._leaving or self._over:
            return
        self._leaving = True
        self._write(frame(GOAWAY, 0, 0, _WORD.pack(self._last) + _WORD.pack(NO_ERROR)))
        self._seen = self._unsent()
        self._until = time.monotonic() + max(self._listener.idle, 2 * self._grace)
        self._look_in(2 * self._grace)
        if not self._streams:
            self._later(0, self._close)

    def _break(self, code: int, sentence: str) -> None:
        """The caller is told why."""
        if not self._told or self._prefaced:
            self._settle()
            self._write(frame(GOAWAY, 0, 0, _WORD.pack(self._last) + _WORD.pack(code) + sentence.encode()))
        for stream in tuple(self._streams.values()):
            self._drop(stream)
        self._close()

    def _close(self) -> None:
        """What was said last is read first: closed on bytes that nobody reads, a connection loses it. So these are read on."""
        if self._over:
            return
        self._flush()
        self._over = True
        self._in, self._block = b"", None
        if self._deaf:
            self._transport.resume_reading()
        self._transport.write_eof()
        self._linger()

    def _linger(self) -> None:
        """Time for the caller to read what was said last: more of it where some is not on its way yet."""
        self._seen = self._unsent()
        self._until = self._until or time.monotonic() + self._listener.idle
        self._look_in(max(LINGER, 2 * self._grace) if self._seen else LINGER)

    def _look_in(self, seconds: float) -> None:
        if self._looks is not None:
            self._looks.cancel()
        self._looks = self._listener.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """It has had its time: longer where its caller still reads, but not for ever."""
        before, self._seen = self._seen, self._unsent()
        if self._seen < before and time.monotonic() < self._until:
            self._look_in(max(LINGER, 2 * self._grace))
        else:
            self.abort()

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        self._timers.append(self._listener.loop.call_later(seconds, do))

    def abort(self) -> None:
        """At once, whatever is under way."""
        self._over, self._out = True, []
        self._transport.abort()

    def reads(self) -> bool:
        """Whether the caller has read anything of its answers since this was asked last."""
        before, self._unread = self._unread, self._unsent()
        return self._unread < before

    def waited(self) -> float:
        """Seconds since the caller has done anything."""
        return time.monotonic() - self._since

    def end_if_idle_since(self, moment: float) -> None:
        """Ends it where the caller has done nothing since then."""
        if self._since < moment:
            self.abort()

    def end_if_unused_since(self, moment: float) -> None:
        """The same, and only where nothing is asked, nor an answer still to be read."""
        if not self._streams and not self._unsent():
            self.end_if_idle_since(moment)


_FRAMES: Final[Mapping[int, Callable[[Connection, int, int, bytes], None]]] = {
    PRIORITY: Connection._priority,
    RST_STREAM: Connection._rst_stream,
    SETTINGS: Connection._settings,
    PUSH_PROMISE: Connection._push_promise,
    PING: Connection._ping,
    GOAWAY: Connection._goaway,
    WINDOW_UPDATE: Connection._window_update,
    CONTINUATION: Connection._continuation,
}


def _size(headers: Mapping[str, str]) -> int:
    return sum(len(name) + len(value) for name, value in headers.items())


def _unpadded(payload: _Bytes) -> _Bytes:
    if not payload or payload[0] >= len(payload):
        raise _Broken(PROTOCOL_ERROR, "a frame is padded with more than it has")
    return payload[1 : len(payload) - payload[0]]


def _depends_on_itself(number: int, payload: bytes) -> bool:
    if len(payload) < 5:
        raise _Broken(FRAME_SIZE_ERROR, "a priority is shorter than 5 bytes")
    return bool(_WORD.unpack_from(payload)[0] & LARGEST == number)


def _read(fields: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """The fields of a request by name (RFC 9113, 8.2 and 8.3). Raises _StreamBroken."""
    found: dict[str, str] = {}
    plain = False
    for name, value in fields:
        field, text = name.decode("latin-1"), value.decode("latin-1")
        if field[:1] == ":":
            if plain or field in found or field not in _PSEUDO:
                raise _StreamBroken(PROTOCOL_ERROR)
        else:
            plain = True
            if field != field.lower() or field in _OF_A_CONNECTION or (field == "te" and text != "trailers"):
                raise _StreamBroken(PROTOCOL_ERROR)
        if any(each in text for each in "\0\r\n") or any(each in field for each in "\0\r\n "):
            raise _StreamBroken(PROTOCOL_ERROR)
        found.setdefault(field, text)
    if not (found.get(":method") and found.get(":scheme") and found.get(":path")):
        raise _StreamBroken(PROTOCOL_ERROR)
    return found
