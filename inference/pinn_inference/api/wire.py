"""HTTP/1.1 on the server's own event loop: llhttp reads (the parser of Node.js and of uvicorn), asyncio writes.

A request is read where it is answered: a front of threads costs more than the prediction behind it, and hands requests over one
by one, where those that came together should be evaluated together. A connection's requests are answered one after the other,
and no more is read than is to be answered next.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import unquote

import httptools

from pinn_inference.api.http import Answer, App, ProtocolClosed, failure, stated_length
from pinn_inference.logs import Sparing

HEAD: Final = 64 * 1024
"""Bytes a head may have, or what comes between or behind the chunks of a body; and of a body that may lie here unread."""

FIELDS: Final = 100
"""Fields a head may have: each takes more room than it is long."""

LONG_HEADS: Final = 256
"""Heads longer than a slice that may be on their way at once: nobody has asked anything yet, so no other limit holds."""

SLICE: Final = 8192
"""Bytes parsed at a time: a caller may send many questions without waiting, and each takes more room parsed than sent."""

LINGER: Final = 2.0
"""Seconds for a caller to read a refusal while it still sends: what is cut off before that may be lost with it."""

LINGERING: Final = 32
"""Connections too many that are given that time at once: each takes a file, and files are what may be short."""

LOOKS: Final = 20
"""So many times in the time a connection may be idle it is looked for those that were."""

IDLE_IN_A_CROWD: Final = 10.0
"""Seconds after which a connection that asks nothing ends where there is no room for another: as long as a probe waits."""

ROOM_EVERY: Final = 1.0
"""Seconds between two looks for such connections, as each goes through all of them."""


UNSENT: Final = 64 * 1024 * 1024
"""Bytes of answers that callers who do not read them may leave here together: a bound on memory, whoever asks."""

_CHUNKS: Final = "transfer-encoding"
_FRAMES: Final = ("content-length", _CHUNKS)
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\ndate: " for status in HTTPStatus}

Headers = Sequence[tuple[str, str]]


class _TooManyFields(Exception):
    """A head has more of them than it may."""


class Exchange:
    """A request and its answer: what an App is handed as the scope and as the protocol of RSGI."""

    __slots__ = (
        "_connection",
        "_invited",
        "_pieces",
        "_waiter",
        "broken",
        "came",
        "complete",
        "headers",
        "keep",
        "last",
        "method",
        "old",
        "path",
        "query_string",
        "unread",
    )
    proto: Final = "http"

    def __init__(self, connection: "Connection", method: str, target: str, headers: dict[str, str], keep: bool) -> None:
        self._connection = connection
        self.method, self.headers, self.keep = method, headers, keep
        self.path, self.query_string = target, ""
        if "?" in target:
            self.path, _, self.query_string = target.partition("?")
        if "%" in self.path:
            self.path = unquote(self.path)
        self._pieces: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._invited = False
        self.came = self.unread = 0
        self.complete = self.broken = False
        self.old = False
        """Whether it is of HTTP/1.0, which has to be told that its connection is kept, and knows no 100 Continue."""
        self.last: bool | None = None
        """Whether the connection ends with the answer; None while there is none."""

    # ------------------------------------------------------------------------------- what the App asks of it

    async def __call__(self) -> bytes:
        """All of the body. Raises ProtocolClosed when it ends early."""
        while not self.complete:
            await self._more()
        return self._taken()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises ProtocolClosed when it ends early."""
        while self._pieces or not self.complete:
            if self._pieces:
                yield self._taken()
            else:
                await self._more()

    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None:
        """The answer."""
        self._connection.send(self, status, headers, body)

    def response_empty(self, status: int, headers: Headers) -> None:
        """An answer that has no body by its kind."""
        self._connection.send(self, status, headers, None)

    # -------------------------------------------------------------------------- what the connection tells it

    def feed(self, piece: bytes) -> None:
        """More of the body."""
        self._pieces.append(piece)
        self.came += len(piece)
        self.unread += len(piece)
        self._wake()

    def wants(self) -> int:
        """Bytes to parse next: as many as are its own and may lie here, where its head says how many there are."""
        own = 0 if _CHUNKS in self.headers else (stated_length(self.headers) or 0) - self.came
        return max(SLICE, min(own, HEAD - self.unread))

    def end(self) -> None:
        """That was all of it."""
        self.complete = True
        self._wake()

    def break_off(self) -> None:
        """The rest will never come, and what has come is of no use."""
        self.broken = not self.complete
        if self.broken:
            self._pieces.clear()
            self.unread = 0
        self._wake()

    # ------------------------------------------------------------------- what is answered together asks of it

    def abort(self) -> None:
        """It will have no answer: its connection ends."""
        self._connection.abort()

    def body(self) -> bytes:
        """All of a body that has come; it stays to be read."""
        self._pieces[:] = [b"".join(self._pieces)]
        return self._pieces[0]

    def answered(self, answer: Answer) -> None:
        """This is the answer."""
        self._connection.send(self, answer.status, self._connection.app.headers(answer, self.headers), answer.body)
        self._connection.done(self)

    def as_usual(self) -> None:
        """It is answered by a task of its own."""
        self._connection.as_usual(self)

    async def _more(self) -> None:
        if self.broken:
            raise ProtocolClosed
        if not self._invited and not self.old and self.headers.get("expect", "").lower() == "100-continue":
            self._connection.invite()
        self._invited = True
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _taken(self) -> bytes:
        taken = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        full, self.unread = self.unread > HEAD, 0
        if full:
            self._connection.read_on()
        return taken


class Connection(asyncio.Protocol):
    """One caller's connection."""

    def __init__(self, listener: "Listener", app: App) -> None:
        self._listener, self.app = listener, app
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._target, self._fields = b"", dict[str, str]()
        self._incoming: Exchange | None = None
        self._asked: deque[Exchange] = deque()
        self._task: asyncio.Task[None] | None = None
        self._rest = b""
        self._head = 0  # bytes since the last of a body: a head, or what chunks and their end are wrapped in
        self._bodied: Exchange | None = None
        self._busy = False
        self._over = self._ended = self._deaf = self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0
        self._unread = 0

    # ------------------------------------------------------------------------------------ what asyncio calls

    def connection_made(self, transport: Any) -> None:
        """It is open."""
        self._transport = transport
        self._since = time.monotonic()
        if not self._listener.enter(self):
            self._refuse(429, "too many connections are open already; come back in a second", (("retry-after", "1"),))
            if self._listener.is_crowded():
                self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._timer is None:
            self._rest = self._rest + data if self._rest else data
            self.read_on()

    def eof_received(self) -> bool:
        """Nothing more will come; what was asked before is answered. Whether the connection stays open for that."""
        if self._timer is not None or not self._asked:
            return False
        self._over = self._ended = True
        if self._incoming is not None:
            self._incoming.break_off()
        return True

    def connection_lost(self, _: Exception | None) -> None:
        """It is closed."""
        if self._timer is not None:
            self._timer.cancel()
        for exchange in self._asked:
            exchange.break_off()
        # What holds this object would be kept with it until the collector comes.
        self._parser = self._incoming = self._bodied = None
        if not self._busy:
            self._asked.clear()
        self._rest = b""
        self._listener.leave(self)

    def pause_writing(self) -> None:
        """The caller does not read its answers: it gets no further ones until it does."""
        self._deaf, self._since = True, time.monotonic()
        self._unread = self._transport.get_write_buffer_size()
        self._listener.keep_unsent(self, self._unread)

    def resume_writing(self) -> None:
        """It reads again."""
        self._deaf = False
        self._listener.forget_unsent(self)
        self.read_on()

    # --------------------------------------------------------------------------------- what the parser calls

    def on_message_begin(self) -> None:
        """A request begins."""
        self._target, self._fields = b"", {}

    def on_url(self, part: bytes) -> None:
        """Its target, or a part of it."""
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of its head; the first of a name counts. Those behind a body in chunks count for nothing."""
        if self._incoming is None:
            if len(self._fields) >= FIELDS:
                raise _TooManyFields
            self._fields.setdefault(name.lower().decode("latin-1"), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        """Its head is complete."""
        self._head = 0
        self._listener.long_heads.discard(self)
        if self._bodied is not None:
            self._incoming, self._bodied = self._bodied, None
            return
        parser, fields = self._parser, self._fields
        target = self._target.decode("latin-1")
        if target[:1] != "/":
            target = _path(target)
        method = parser.get_method().decode("ascii")
        old = parser.get_http_version() == "1.0"
        keep = parser.should_keep_alive() and not (old and _CHUNKS in fields)  # which is none of its time
        self._incoming = exchange = Exchange(self, method, target, fields, keep)
        self._asked.append(exchange)
        exchange.old = old
        if parser.should_upgrade() and any(name in fields for name in _FRAMES):
            self._bodied = exchange

    def on_body(self, piece: bytes) -> None:
        """More of its body."""
        assert self._incoming is not None  # noqa: S101 - a body follows a head
        self._incoming.feed(piece)
        self._head = 0

    def on_message_complete(self) -> None:
        """It is complete."""
        assert self._incoming is not None  # noqa: S101 - as above
        if self._bodied is None:
            self._incoming.end()
        self._incoming = None
        self._head = 0
        self._listener.long_heads.discard(self)

    # ---------------------------------------------------------------------------------------------- reading

    def read_on(self) -> None:
        """Parses what has come until a request waits behind another, and begins with the first."""
        if self._parser is None:
            return
        while self._rest and len(self._asked) < 2 and not self._over and not self._is_full():
            size = SLICE if self._incoming is None or len(self._rest) <= SLICE else self._incoming.wants()
            piece, self._rest = self._rest[:size], self._rest[size:]
            self._feed(piece)
        if self._asked and not self._busy and not self._deaf:
            self._begin()
        if self._rest or self._deaf or self._is_full():
            self._paused = True
            self._transport.pause_reading()
        elif self._paused:
            self._paused = False
            self._transport.resume_reading()

    def _is_full(self) -> bool:
        return self._incoming is not None and self._incoming.unread > HEAD

    def _feed(self, piece: bytes) -> None:
        self._head += len(piece)
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:  # another protocol is asked for; the answer is HTTP all the same
            self._rest = piece[upgrade.args[0] :] + self._rest
            if self._bodied is not None:
                self._stay(self._bodied)
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _TooManyFields):
                raise  # ours, not the caller's
            self._break(f"the request has more than {FIELDS} fields", 431)
            return
        except httptools.HttpParserError:
            self._break("the request is not HTTP as the standard has it", 400)
            return
        if self._head > HEAD:
            self._break(f"the head of the request is longer than {HEAD} bytes", 431)
        elif self._head > SLICE and not self._listener.has_room_for_head(self):
            self._break(f"too many requests with a head of more than {SLICE} bytes are on their way", 431)

    def _stay(self, exchange: Exchange) -> None:
        """The parser leaves all that follows such a head to the other protocol: a new one is told what there is of a body."""
        stated = exchange.headers
        framing = "".join(f"{name}: {stated[name]}\r\n" for name in _FRAMES if name in stated)
        self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(f"POST / HTTP/1.1\r\n{framing}\r\n".encode("latin-1"))
        except httptools.HttpParserError:
            self._over, self._rest = True, b""
            exchange.break_off()

    def _break(self, sentence: str, status: int) -> None:
        """Nothing can be made of the rest: what was asked before is answered, and the connection ends."""
        self._over, self._rest = True, b""
        if self._incoming is not None:
            self._incoming.break_off()
        elif not self._asked:
            self._refuse(status, sentence)

    def _begin(self) -> None:
        exchange = self._asked[0]
        self._busy = True
        if not exchange.complete:
            self._since = time.monotonic()
        elif self.app.takes(exchange):
            return
        self.as_usual(exchange)

    def as_usual(self, exchange: Exchange) -> None:
        """A task of its own answers."""
        self._task = self._listener.loop.create_task(self._answer(exchange))

    # ---------------------------------------------------------------------------------------------- writing

    async def _answer(self, exchange: Exchange) -> None:
        try:
            await self.app.__rsgi__(exchange, exchange)
        finally:
            self._task = None
            self.done(exchange)

    def done(self, exchange: Exchange) -> None:
        """It has been answered: the next one, or the end."""
        self._busy, self._since = False, time.monotonic()
        self._asked.popleft()
        if self._parser is None:
            self._asked.clear()
            return
        if exchange.last is None:
            self._transport.abort()
        elif not exchange.last:
            self.read_on()
        else:
            self._end(exchange)

    def _end(self, exchange: Exchange) -> None:
        """That was the last answer: what was asked behind it gets none."""
        self._asked.clear()
        self._rest, self._incoming = b"", None
        if self._ended or (exchange.complete and not self._over):
            self._transport.close()
        else:
            self._part()

    def invite(self) -> None:
        """The body that waits for a word may come."""
        if self._parser is not None:
            self._transport.write(CONTINUE)

    def send(self, exchange: Exchange, status: int, headers: Headers, body: bytes | None) -> None:
        """An answer, to be followed by the end of the connection where that is due; nothing when nobody is there."""
        if self._parser is None:
            return
        over = self._over and len(self._asked) == 1
        last = over or not exchange.keep or not exchange.complete or self._listener.closing
        lines, told = [_LINES[status], self._listener.date(), "\r\n"], False
        for name, value in headers:
            lines += (name, ": ", value, "\r\n")
            told = told or name == "connection"
        if told:
            last = True
        elif last:
            lines.append("connection: close\r\n")
        elif exchange.old:
            lines.append("connection: keep-alive\r\n")
        exchange.last = last
        if body is None:
            lines.append("\r\n")
            self._transport.write("".join(lines).encode("latin-1"))
            return
        lines += ("content-length: ", str(len(body)), "\r\n\r\n")
        self._transport.writelines(("".join(lines).encode("latin-1"), body))

    # ----------------------------------------------------------------------------------------------- ending

    def leave(self) -> None:
        """The server ends: at once where nothing is asked, else with the answer."""
        if not self._asked and not self._head and self._timer is None:
            self._transport.close()

    def abort(self) -> None:
        """At once, whatever is under way."""
        self._transport.abort()

    def reads(self) -> bool:
        """Whether the caller has read anything of its answer since this was asked last."""
        before, self._unread = self._unread, self._transport.get_write_buffer_size()
        return self._unread < before

    def waited(self) -> float:
        """Seconds since the caller has had its turn."""
        return time.monotonic() - self._since

    def end_if_idle_since(self, moment: float) -> None:
        """Ends it where the caller has had its turn since then: to send a head or the rest of a body, or to read an answer."""
        waits = not self._busy or self._deaf or (self._incoming is not None and not self._incoming.complete)
        if waits and self._since < moment and self._timer is None:
            self._transport.abort()

    def end_if_unused_since(self, moment: float) -> None:
        """Ends it where nothing is asked, nor an answer still to be read."""
        if not self._asked and not self._transport.get_write_buffer_size():
            self.end_if_idle_since(moment)

    def _refuse(self, status: int, sentence: str, headers: Headers = ()) -> None:
        """What can be handed to no App."""
        answer: Answer = failure(status, sentence)
        exchange = Exchange(self, "", "", {}, keep=False)
        self.send(exchange, status, [("content-type", answer.media_type), *headers], answer.body)
        self._part()

    def _part(self) -> None:
        """Says that nothing more will be answered, and lets the caller finish: closed on unread bytes, a connection loses the
        answer."""
        self._rest, self._since = b"", time.monotonic()
        self._transport.resume_reading()
        self._transport.write_eof()
        self._timer = self._listener.loop.call_later(LINGER, self._parted)

    def _parted(self) -> None:
        """It has had its time: longer where it still reads an answer, but no longer than a connection may be idle."""
        if self._transport.get_write_buffer_size() and time.monotonic() - self._since < self._listener.idle:
            self._timer = self._listener.loop.call_later(LINGER, self._parted)
        else:
            self._transport.abort()


class Peer(Protocol):
    """A caller's connection, in whichever version of HTTP."""

    def leave(self) -> None:
        """The server ends: at once where nothing is asked, else with the answer."""
        ...

    def abort(self) -> None:
        """At once, whatever is under way."""
        ...

    def reads(self) -> bool:
        """Whether the caller has read anything of its answer since this was asked last."""
        ...

    def waited(self) -> float:
        """Seconds since the caller has had its turn."""
        ...

    def end_if_idle_since(self, moment: float) -> None:
        """Ends it where the caller has had its turn since then."""
        ...

    def end_if_unused_since(self, moment: float) -> None:
        """The same, and only where nothing is asked, nor an answer still to be read."""
        ...


class Listener:
    """Takes connections until it is closed."""

    def __init__(self, idle: float, most: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.closing = False
        self.idle, self._most = idle, most
        self._connections: set[Peer] = set()
        self._refused: set[Peer] = set()
        self.long_heads: set[Peer] = set()
        """Those whose callers are in the midst of one."""
        self._unsent: dict[Peer, int] = {}  # of those that are behind, the one that is for longest first
        self._unsent_bytes = 0
        self._cuts, self._refusals = Sparing(), Sparing()
        self.turned_away = 0
        self._made_room = -math.inf
        self._port = 0
        self._empty = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._date, self._second = "", 0
        self._look()

    @classmethod
    async def open(
        cls,
        connection: Callable[["Listener"], asyncio.Protocol],
        sock: Any,
        *,
        backlog: int,
        idle: float,
        most: int,
    ) -> "Listener":
        """Listens on a bound socket. Connections end that are `idle` for so many seconds; beyond `most` they are refused."""
        listener = cls(idle, most)
        listener._port = sock.getsockname()[1]
        listener._server = await listener.loop.create_server(lambda: connection(listener), sock=sock, backlog=backlog)
        return listener

    async def close(self, seconds: float) -> bool:
        """Takes no more connections, ends idle ones, and finishes what is in flight; False when it had to be cut after all."""
        self.closing = True
        self._timer.cancel()
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.leave()
        try:
            if self._connections or self._refused:
                await asyncio.wait_for(self._empty.wait(), seconds)
        except TimeoutError:
            for connection in (*self._connections, *self._refused):
                connection.abort()
            return False
        return True

    def enter(self, connection: Peer) -> bool:
        """Whether there is room for one more; one that is refused takes none while it reads why."""
        room = len(self._connections) < self._most
        (self._connections if room else self._refused).add(connection)
        if not room:
            self.turned_away += 1
            self._refusals.event("a connection is turned away: too many are open", logging.WARNING, port=self._port)
            self._make_room()
        return room

    def _make_room(self) -> None:
        """For those that come next: who holds connections and asks nothing must not keep out health checks."""
        now = time.monotonic()
        if now - self._made_room >= ROOM_EVERY:
            self._made_room = now
            for connection in tuple(self._connections):
                connection.end_if_unused_since(now - min(self.idle, IDLE_IN_A_CROWD))

    def has_room_for_head(self, connection: Peer) -> bool:
        """Whether one more long head may be on its way, or is already."""
        if len(self.long_heads) < LONG_HEADS:
            self.long_heads.add(connection)
        return connection in self.long_heads

    def is_crowded(self) -> bool:
        """Whether too many that were refused are still here."""
        return len(self._refused) > LINGERING

    def leave(self, connection: Peer) -> None:
        """It is closed."""
        self._connections.discard(connection)
        self._refused.discard(connection)
        self.long_heads.discard(connection)
        self.forget_unsent(connection)
        if self.closing and not self._connections and not self._refused:
            self._empty.set()

    def keep_unsent(self, connection: Peer, size: int) -> None:
        """It does not read so many bytes. Those that have read nothing for longest are cut off to make room for them, and only
        then those that read.

        They count in full until the last is read: so long an answer lies here whole.
        """
        self._unsent_bytes += size - self._unsent.get(connection, 0)
        self._unsent[connection] = size
        if self._unsent_bytes > UNSENT:
            others = [one for one in self._unsent if one is not connection]
            for other in sorted(others, key=lambda other: other.reads()):
                if self._unsent_bytes > UNSENT:
                    self.cut(other)

    def forget_unsent(self, connection: Peer) -> None:
        """It has read all, or is closed."""
        self._unsent_bytes -= self._unsent.pop(connection, 0)

    def cut(self, connection: Peer) -> None:
        """It is one of those that do not read, and ends."""
        said = "a connection is cut: its caller does not read its answer, and too much lies unread already"
        size, waited = self._unsent[connection], round(connection.waited(), 3)
        self._cuts.event(said, logging.WARNING, port=self._port, waited=waited, bytes=size)
        self.forget_unsent(connection)
        connection.abort()

    def date(self) -> str:
        """The time as HTTP writes it."""
        second = int(time.time())
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True)
        return self._date

    def _look(self) -> None:
        self._timer = self.loop.call_later(self.idle / LOOKS, self._look)
        moment = time.monotonic() - self.idle
        for connection in tuple(self._connections):
            connection.end_if_idle_since(moment)
        for connection in self._unsent:
            connection.reads()  # from here on: what the kernel took at first, nobody has read


def _path(target: str) -> str:
    """Without a scheme and a host, which a proxy's request has before it."""
    if target.startswith(("http://", "https://")):
        _, slash, rest = target.partition("://")[2].partition("/")
        return slash + rest or "/"
    return target
