"""A connection as its caller sees it: what is kept, what is closed, what waits, and how a request is read off it."""

import asyncio
import gc
import logging
import socket
import struct
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import cast

import pytest
from pinn_inference.api import wire
from pinn_inference.api.http import Answer, App, Request, State, ok
from pinn_inference.api.wire import HEAD, Listener

GET = b"GET /here HTTP/1.1\r\nhost: pinn\r\n"
POST = b"POST /echo HTTP/1.1\r\nhost: pinn\r\n"
PATIENCE = 120.0
LONG = 20_000_000
"""Bytes that do not fit on the way: who is to get them has to read."""

Endpoint = Callable[[Request], Awaitable[Answer]]


async def echo(request: Request) -> Answer:
    return ok([(await request.body()).decode(), request.query, request.headers.get("x-said")])


async def here(_: Request) -> Answer:
    return ok("here")


@asynccontextmanager
async def listening(
    post: Endpoint = echo, idle: float = 100.0, most: int = 100, limit: int = 10_000_000, state: State | None = None
) -> AsyncIterator[tuple[Listener, int]]:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    app = App({"/here": {"GET": here}, "/echo": {"POST": post}}, state or State(ready=True), limit)
    listener = await Listener.open(partial(wire.Connection, app=app), bound, backlog=10, idle=idle, most=most)
    try:
        yield listener, bound.getsockname()[1]
    finally:
        await listener.close(0.0)


async def said(port: int, *pieces: bytes) -> bytes:
    """All that is answered until the server closes."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        found = await reader.read()
        writer.close()
        return found


def connections(listener: Listener) -> set[wire.Connection]:
    """Those that are open, none of them refused."""
    return cast(set[wire.Connection], listener._connections)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def long_answer(_: Request) -> Answer:
    return Answer(200, b"x" * LONG)


async def lingers(listener: Listener) -> None:
    """An answer has been written that its caller does not read, some turns of the loop ago."""
    await until(lambda: any(connection._deaf for connection in connections(listener)))
    for _ in range(10):
        await asyncio.sleep(0.01)


async def length(reader: asyncio.StreamReader) -> int:
    """Bytes that come until the end."""
    async with asyncio.timeout(PATIENCE):
        return len(await reader.read())


async def test_a_request_is_the_same_in_whatever_pieces_it_comes() -> None:
    whole = POST + b"x-said: a\r\nx-said: b\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc"
    async with listening() as (_, port):
        for pieces in ([whole], [bytes([byte]) for byte in whole]):
            assert (await said(port, *pieces)).endswith(b'\r\n\r\n["abc","","a"]')


async def test_the_path_is_read_without_host_percents_and_query() -> None:
    async with listening() as (_, port):
        for target in (b"/e%63ho?a=%20b", b"http://elsewhere:80/echo?a=%20b"):
            answer = await said(
                port, POST.replace(b"/echo", target) + b"connection: close\r\ncontent-length: 0\r\n\r\n"
            )
            assert answer.endswith(b'["","a=%20b",null]')


async def test_a_field_behind_the_body_does_not_count() -> None:
    chunked = b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-said: late\r\n\r\n"
    async with listening() as (_, port):
        assert (await said(port, POST + chunked)).endswith(b'["abc","",null]')


async def test_who_offers_another_protocol_is_answered_in_http_and_may_go_on() -> None:
    """Java's client offers HTTP/2 with its first request, body and all."""
    offer = POST + b"connection: upgrade\r\nupgrade: h2c\r\n"
    bodies = (b"content-length: 3\r\n\r\nabc", b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    async with listening() as (_, port):
        for body in bodies:
            answer = await said(port, offer + body + GET + b"connection: close\r\n\r\n")
            assert answer.count(b" 200 OK\r\n") == 2
            assert b'["abc","",null]' in answer
            assert answer.endswith(b'"here"')


async def test_an_offer_whose_body_has_no_end_is_refused() -> None:
    offer = POST + b"connection: upgrade\r\nupgrade: h2c\r\ntransfer-encoding: gzip\r\n\r\nabc"
    async with listening() as (_, port):
        assert b" 400 Bad Request\r\n" in await said(port, offer)


async def test_an_older_client_is_told_that_its_connection_is_kept() -> None:
    asked = GET.replace(b"1.1", b"1.0")
    async with listening() as (_, port):
        answer = await said(port, asked + b"connection: keep-alive\r\n\r\n" + asked + b"\r\n")
    assert answer.count(b"connection: keep-alive\r\n") == 1
    assert answer.count(b"connection: close\r\n") == 1


async def test_a_head_of_more_fields_than_a_person_would_send_is_refused() -> None:
    fields = [b"f%d: x\r\n" % i for i in range(wire.FIELDS)]
    async with listening() as (_, port):
        for enough, status in ((wire.FIELDS - 2, b"200 OK"), (wire.FIELDS - 1, b"431 Request Header")):
            answer = await said(port, GET + b"connection: close\r\n" + b"".join(fields[:enough]) + b"\r\n")
            assert answer.startswith(b"HTTP/1.1 " + status)


async def test_heads_without_an_end_take_a_bounded_share_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LONG_HEADS", 2)
    long = GET + b"x: " + b"x" * (2 * wire.SLICE)
    async with listening() as (listener, port):
        writers = []
        for _ in range(2):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(long)
            writers.append(writer)
            await until(lambda: len(listener.long_heads) == len(writers))
        assert b" 431 " in await said(port, long)
        assert b" 200 OK\r\n" in await said(port, GET + b"connection: close\r\n\r\n")
        writers[0].write(b"\r\n\r\n")  # the first is complete
        await until(lambda: len(listener.long_heads) == 1)
        writers[1].transport.abort()
        await until(lambda: not listener.long_heads)
        assert b" 200 OK\r\n" in await said(port, long + b"\r\nconnection: close\r\n\r\n")
        writers[0].close()


async def test_a_long_body_is_not_read_ahead_of_who_wants_it() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Answer:
        begun.set()
        await go_on.wait()
        return ok(len(await request.body()))

    size = 8_000_000
    async with listening(slow) as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"connection: close\r\ncontent-length: %d\r\n\r\n" % size)
        await begun.wait()
        writer.write(b"x" * size)
        (connection,) = connections(listener)
        await until(lambda: connection._paused)
        assert connection._incoming is not None
        assert connection._incoming.unread <= HEAD + wire.SLICE
        go_on.set()
        async with asyncio.timeout(PATIENCE):
            assert (await reader.read()).endswith(b"8000000")
        writer.close()


async def test_what_is_asked_behind_a_long_body_is_parsed_a_slice_at_a_time() -> None:
    begun, go_on, size, count = asyncio.Event(), asyncio.Event(), 20_000, 2_000

    async def slow(request: Request) -> Answer:
        body = await request.body()
        begun.set()
        await go_on.wait()
        return ok(len(body))

    last = GET + b"connection: close\r\n\r\n"
    async with listening(slow) as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"content-length: %d\r\n\r\n" % size + b"x" * size + (GET + b"\r\n") * count + last)
        await begun.wait()
        (connection,) = connections(listener)
        assert len(connection._asked) <= 1 + wire.SLICE / len(GET)
        go_on.set()
        async with asyncio.timeout(PATIENCE):
            answers = await reader.read()
        writer.close()
    assert answers.count(b" 200 OK\r\n") == 1 + count + 1


async def test_a_refusal_reaches_who_still_sends() -> None:
    async with listening(limit=10) as (_, port):
        answer = await said(port, POST + b"content-length: 3000000\r\n\r\n", b"x" * 3_000_000)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close\r\n" in answer


async def test_what_is_asked_before_nonsense_is_answered() -> None:
    async with listening() as (_, port):
        answer = await said(port, GET + b"\r\n" + b"nonsense\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.endswith(b'"here"')


@pytest.mark.parametrize("endless", [b"1\r\nx\r\n0\r\nx-a: ", b"1;"], ids=["trailer", "extension"])
async def test_what_surrounds_a_body_in_chunks_has_an_end(endless: bytes) -> None:
    async with listening() as (_, port):
        answer = await said(port, POST + b"transfer-encoding: chunked\r\n\r\n" + endless, b"a" * 3 * HEAD)
    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_a_body_may_be_longer_than_what_surrounds_it() -> None:
    chunks = b"1;a=b\r\nx\r\n" * HEAD + b"%x\r\n%s\r\n0\r\n\r\n" % (2 * HEAD, b"x" * 2 * HEAD)
    async with listening() as (_, port):
        answer = await said(port, POST + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n", chunks)
    assert answer.endswith(b'["' + b"x" * 3 * HEAD + b'","",null]')


async def test_a_head_that_is_too_long_and_wrong_is_refused_once() -> None:
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    async with listening() as (_, port):
        answer = await said(port, GET + b"x: " + b"a" * (HEAD + 500) + b"\r\nwrong field\r\n\r\n")
    assert answer.count(b"HTTP/1.1 4") == 1
    assert not raised


async def test_nobody_answers_what_follows_the_last_answer() -> None:
    """Not even when the caller reads late, and what followed lies here already."""
    asked = 0

    async def long(request: Request) -> Answer:
        nonlocal asked
        asked += 1
        return await long_answer(request)

    question = POST + b"content-length: 0\r\n\r\n"
    async with listening(long, state=State(ready=True, parting=True)) as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(question + question + b"nonsense\r\n\r\n")
        await until(lambda: any(connection._deaf for connection in connections(listener)))
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        writer.close()
        await until(lambda: not connections(listener))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert asked == 1


async def test_who_has_sent_all_gets_a_long_answer_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LINGER", 0.001)
    go_on = asyncio.Event()

    async def long(request: Request) -> Answer:
        await go_on.wait()
        return await long_answer(request)

    async with listening(long) as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"content-length: 0\r\n\r\n")
        await until(lambda: any(connection._asked for connection in connections(listener)))
        writer.write_eof()
        await until(lambda: any(connection._over for connection in connections(listener)))
        go_on.set()
        await lingers(listener)
        assert await length(reader) > LONG
        writer.close()


async def test_an_answer_before_nonsense_is_not_cut_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LINGER", 0.001)
    async with listening(long_answer) as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"content-length: 0\r\n\r\nnonsense\r\n\r\n")
        await lingers(listener)
        assert await length(reader) > LONG
        writer.close()


async def test_who_never_reads_such_an_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LINGER", 0.001)
    async with listening(long_answer) as (listener, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"content-length: 0\r\n\r\nnonsense\r\n\r\n")
        await lingers(listener)
        listener.idle = 0.0  # it has been silent for so long now
        await until(lambda: not connections(listener))
        writer.close()


def unsent(listener: Listener) -> int:
    """Bytes of answers that lie there unread."""
    return sum(connection._transport.get_write_buffer_size() for connection in connections(listener))


async def deaf(listener: Listener, port: int) -> tuple[wire.Connection, asyncio.StreamWriter]:
    """The connection of a caller who asks for a long answer and does not read it, and the caller's end of it."""
    before = set(connections(listener))
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(POST + b"content-length: 0\r\n\r\n")
    await until(lambda: any(connection._deaf for connection in connections(listener) - before))
    (found,) = connections(listener) - before
    return found, writer


async def test_who_has_not_read_for_longest_is_cut_off_where_too_much_lies_unread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wire, "UNSENT", 3 * LONG)
    caplog.set_level(logging.WARNING)
    async with listening(long_answer) as (listener, port):
        callers = []
        for _ in range(6):
            callers.append(await deaf(listener, port))
            await until(lambda: unsent(listener) <= wire.UNSENT)
            await lingers(listener)  # until the kernel has taken what it takes
            for one in listener._unsent:
                one.reads()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(POST + b"connection: close\r\ncontent-length: 0\r\n\r\n")
            assert await length(reader) > LONG
            writer.close()
        left = [connection in connections(listener) for connection, _ in callers]
        assert left == sorted(left)  # those that came first are cut
        assert 2 <= sum(left) <= 3
        for _, writer in callers:
            writer.close()
    cuts = [record for record in caplog.records if "does not read its answer" in record.getMessage()]
    assert [record.__dict__["fields"]["port"] for record in cuts] == [port] * left.count(False)


async def test_an_answer_of_which_a_rest_is_unread_counts_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies in memory whole until all of it is on its way."""
    async with listening(long_answer) as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        writer.write(POST + b"content-length: 0\r\n\r\n")
        await lingers(listener)
        (first,) = connections(listener)
        written = unsent(listener)
        while unsent(listener) > written // 2:
            await reader.read(100_000)
        monkeypatch.setattr(wire, "UNSENT", unsent(listener) + LONG)
        second, other = await deaf(listener, port)
        await until(lambda: first not in connections(listener))
        assert connections(listener) == {second}
        other.close()
        writer.close()


async def test_who_reads_an_answer_slowly_is_not_cut_off_before_those_who_read_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with listening(long_answer) as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        writer.write(POST + b"connection: close\r\ncontent-length: 0\r\n\r\n")
        await lingers(listener)
        (first,), written = connections(listener), unsent(listener)
        second, other = await deaf(listener, port)
        monkeypatch.setattr(wire, "UNSENT", unsent(listener) + LONG // 2)
        before = unsent(listener)
        while unsent(listener) > before - written // 4:
            await reader.read(100_000)
        _, third = await deaf(listener, port)
        await until(lambda: not {first, second} <= connections(listener))
        assert first in connections(listener)
        assert await length(reader) > LONG // 4
        assert reader.at_eof()
        for one in (other, third, writer):
            one.close()


async def test_who_has_read_all_or_is_gone_takes_no_room_and_a_single_answer_may_take_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "UNSENT", 1)
    async with listening(long_answer) as (listener, port):
        for _ in range(3):
            answer = await said(port, POST + b"connection: close\r\ncontent-length: 0\r\n\r\n")
            assert len(answer) > LONG
            await until(lambda: not connections(listener))
            _, writer = await deaf(listener, port)
            writer.close()
            await until(lambda: not connections(listener))
            assert not listener._unsent_bytes


async def test_a_connection_too_many_is_told_to_come_back() -> None:
    async with listening(most=1) as (listener, port):
        _, first = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: len(connections(listener)) == 1)
        answer = await said(port, b"")
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 1\r\n" in answer
        first.close()


async def test_who_is_turned_away_is_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    async with listening(most=1) as (listener, port):
        _, first = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: len(connections(listener)) == 1)
        for _ in range(3):
            await said(port, b"")
        assert listener.turned_away == 3
        assert "a connection is turned away: too many are open" in caplog.messages
        assert connections(listener), "it has not been idle for long"
        first.close()


async def test_idle_connections_do_not_keep_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe that is turned away comes again, and finds room."""
    monkeypatch.setattr(wire, "IDLE_IN_A_CROWD", 0.0)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> Answer:
        begun.set()
        await go_on.wait()
        return ok("done")

    async with listening(slow, most=2) as (_, port):
        idle, idler = await asyncio.open_connection("127.0.0.1", port)
        busy, asker = await asyncio.open_connection("127.0.0.1", port)
        asker.write(POST + b"content-length: 0\r\nconnection: close\r\n\r\n")
        await begun.wait()
        assert (await said(port, b"")).startswith(b"HTTP/1.1 429 ")
        async with asyncio.timeout(PATIENCE):
            assert await idle.read() == b"", "it is ended"
        assert (await said(port, b"GET /here HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).startswith(
            b"HTTP/1.1 200 "
        )
        go_on.set()
        assert (await busy.read()).startswith(b"HTTP/1.1 200 "), "who waits for an answer is not idle"
        for writer in (idler, asker):
            writer.close()


async def test_who_reads_a_long_answer_is_not_cut_to_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "IDLE_IN_A_CROWD", 0.0)
    long = b"x" * 8_000_000

    async def much(_: Request) -> Answer:
        return Answer(200, long)

    async with listening(much, most=1) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"content-length: 0\r\nconnection: close\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        assert (await said(port, b"")).startswith(b"HTTP/1.1 429 ")
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == long
        writer.close()


async def test_who_is_refused_in_a_crowd_is_told_so_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each that lingers takes a file, and these are kept for others."""
    monkeypatch.setattr(wire, "LINGER", 10 * PATIENCE)
    monkeypatch.setattr(wire, "LINGERING", 2)
    async with listening(most=1) as (listener, port):
        _, first = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: len(connections(listener)) == 1)
        others = [await asyncio.open_connection("127.0.0.1", port) for _ in range(6)]
        async with asyncio.timeout(PATIENCE):
            for reader, _ in others:
                assert (await reader.read()).startswith(b"HTTP/1.1 429 ")
        await until(lambda: len(listener._refused) == 2)
        for writer in (first, *(writer for _, writer in others)):
            writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        POST + b"content-length: 9\r\n\r\nabc",
        POST + b"content-length: 3\r\n\r\nabc" + POST + b"content-length: 9\r\n\r\nabc",
        POST + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 9\r\n\r\nabc",
    ],
    ids=["in its body", "in the next one's body", "in the body of an offer"],
)
async def test_a_connection_that_is_lost_is_gone_at_once_with_what_it_sent(sent: bytes) -> None:
    """Not only when the collector comes, which may be hours later."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Answer:
        begun.set()
        await request.body()
        await go_on.wait()
        return ok("done")

    async with listening(slow) as (listener, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        async with asyncio.timeout(PATIENCE):
            await begun.wait()
        (connection,) = (weakref.ref(connection) for connection in connections(listener))
        gc.collect()
        gc.disable()
        try:
            reset = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            writer.transport.abort()
            await until(lambda: not connections(listener))
            go_on.set()
            await until(lambda: connection() is None)
        finally:
            gc.enable()


async def test_a_refused_connection_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LINGER", 10 * PATIENCE)
    async with listening(most=1) as (listener, port):
        _, first = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: len(connections(listener)) == 1)
        reader, refused = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(PATIENCE):
            assert (await reader.readline()).startswith(b"HTTP/1.1 429 ")
        for _ in range(3):  # the refused one has not gone
            first.close()
            await until(lambda: not connections(listener))
            reader, first = await asyncio.open_connection("127.0.0.1", port)
            first.write(GET + b"\r\n")
            async with asyncio.timeout(PATIENCE):
                assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        first.close()
        refused.close()


@pytest.mark.parametrize(
    ("length", "status"), [(b"0" * 5000 + b"3", b"200"), (b"0" * 5000, b"200"), (b"0" * 5000 + b"9" * 19, b"413")]
)
async def test_a_length_may_have_zeros_before_it(length: bytes, status: bytes) -> None:
    head = POST + b"connection: close\r\ncontent-length: " + length + b"\r\n\r\n"
    async with listening() as (_, port):
        answer = await said(port, head, b"abc" if length.endswith(b"3") else b"")
    assert answer.startswith(b"HTTP/1.1 " + status)


async def test_an_older_client_is_not_told_to_go_on() -> None:
    head = POST.replace(b"1.1", b"1.0") + b"expect: 100-continue\r\ncontent-length: 3\r\n\r\n"
    async with listening() as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        await until(lambda: any(connection._busy for connection in connections(listener)))
        await asyncio.sleep(0)
        writer.write(b"abc")
        async with asyncio.timeout(PATIENCE):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_chunks_from_an_older_client_end_its_connection() -> None:
    head = POST.replace(b"1.1", b"1.0") + b"connection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n"
    async with listening() as (_, port):
        answer = await said(port, head + b"3\r\nabc\r\n0\r\n\r\n")
    assert b"connection: close\r\n" in answer
    assert answer.endswith(b'["abc","",null]')


async def test_a_silent_connection_is_closed_and_one_whose_answer_takes_long_is_not() -> None:
    over = asyncio.Event()

    async def long(_: Request) -> Answer:
        await over.wait()
        return ok("at last")

    async with listening(long, idle=0.2) as (listener, port):
        asking = asyncio.create_task(said(port, POST + b"connection: close\r\ncontent-length: 0\r\n\r\n"))
        await until(lambda: any(connection._busy for connection in connections(listener)))
        assert await said(port, b"POST /ec") == b""
        assert await said(port, GET + b"\r\n") != b""  # answered, and closed when nothing followed
        over.set()
        assert (await asking).endswith(b'"at last"')


async def test_closing_waits_for_an_answer_and_for_nothing_else() -> None:
    begun, over = asyncio.Event(), asyncio.Event()

    async def long(_: Request) -> Answer:
        begun.set()
        await over.wait()
        return ok("at last")

    async with listening(long) as (listener, port):
        idle, _ = await asyncio.open_connection("127.0.0.1", port)
        asking = asyncio.create_task(said(port, POST + b"content-length: 0\r\n\r\n"))
        await begun.wait()
        closing = asyncio.create_task(listener.close(PATIENCE))
        async with asyncio.timeout(PATIENCE):
            assert await idle.read() == b""
        assert not closing.done()
        over.set()
        answer = await asking
        assert await closing
    assert b"connection: close\r\n" in answer
    assert answer.endswith(b'"at last"')


async def test_closing_does_not_wait_for_who_has_been_answered_and_keeps_the_connection() -> None:
    """Head and body come apart, as many clients send them."""
    async with listening() as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"content-length: 3\r\n\r\n")
        await until(lambda: any(connection._busy for connection in connections(listener)))
        writer.write(b"abc")
        async with asyncio.timeout(PATIENCE / 2):
            assert (await reader.readuntil(b'["abc","",null]')).startswith(b"HTTP/1.1 200 OK\r\n")
            assert await listener.close(PATIENCE)
            assert await reader.read() == b""
        writer.close()


async def test_who_is_cut_off_in_the_end_is_counted_as_that() -> None:
    async with listening() as (listener, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /e")
        await until(lambda: any(connection._head for connection in connections(listener)))
        assert not await listener.close(0.01)
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
