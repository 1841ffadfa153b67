"""Callers that do not keep to HTTP, or take their time: they are refused, cut off, or answered; the others notice nothing."""

import json
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .. import process  # noqa: TID252 - as below
from ..process import ServerProcess, eventually  # noqa: TID252 - the tests are no package with a name of its own
from .client import SHARE, Client, raw
from .conftest import Target

BODY = json.dumps({"spot": 100, "strike": 105, "maturity": 0.5, "rate": 0.03, "volatility": 0.2}).encode()
HEAD = b"POST /predict HTTP/1.1\r\nhost: pinn\r\n"
CLOSE = b"connection: close\r\n"
FULL = HEAD + CLOSE + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = HEAD + CLOSE + b"transfer-encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def port(target: Target) -> int:
    return target.server.port


@pytest.fixture
def kept(port: int) -> int:
    """The port, once answers keep their connections: for some seconds after a `/connections/renew` of another test none does."""
    eventually(lambda: raw(port, FULL.replace(CLOSE, b"") + FULL).count(b" 200 OK\r\n") == 2, seconds=30)
    return port


@pytest.fixture(autouse=True)
def others_are_answered(target: Target) -> Iterator[None]:
    """After every one of these a plain question is answered."""
    yield
    assert Client(target.server.port).predict(BODY).status == 200


def status(answer: bytes) -> int:
    """Of the first answer; 0 for a connection closed without a word."""
    return int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") or answer.startswith(b"HTTP/1.0 ") else 0


GOOD = {
    "plain": FULL,
    "chunked": CHUNKED + b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n",
    "chunks of one byte": CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n",
    "chunk extensions and trailers": CHUNKED + b"%x;a=b\r\n" % len(BODY) + BODY + b"\r\n0\r\nx: y\r\n\r\n",
    "expecting 100": FULL.replace(CLOSE, CLOSE + b"expect: 100-continue\r\n"),
    "http/1.0": FULL.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "absolute": FULL.replace(b"/predict", b"http://elsewhere/predict"),
    "odd header bytes": FULL.replace(
        CLOSE, CLOSE + b"x-request-id: \xff\xfe\r\ntraceparent: \xe9\r\npinn-source: \xff\r\n"
    ),
    "a websocket asked for": FULL.replace(CLOSE, b"connection: close, upgrade\r\nupgrade: websocket\r\n"),
    "fifty headers": FULL.replace(CLOSE, CLOSE + b"".join(b"x-%d: y\r\n" % i for i in range(50))),
}


@pytest.mark.parametrize("sent", GOOD.values(), ids=GOOD.keys())
def test_what_http_allows_is_answered(port: int, sent: bytes) -> None:
    assert b" 200 OK\r\n" in raw(port, sent)


BAD = {
    "no http": b"hello\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 40,
    "http/9": FULL.replace(b"HTTP/1.1", b"HTTP/9.9"),
    "length below zero": HEAD + b"content-length: -1\r\n\r\n" + BODY,
    "length in words": HEAD + b"content-length: ten\r\n\r\n" + BODY,
    "length with a sign": HEAD + b"content-length: +10\r\n\r\n" + BODY,
    "length beyond any": HEAD + b"content-length: 99999999999999999999999999\r\n\r\n" + BODY,
    "length in other digits": HEAD + "content-length: ٣\r\n\r\n".encode() + BODY,
    "two lengths": HEAD + b"content-length: 3\r\ncontent-length: 4\r\n\r\n" + BODY,
    "length too large": HEAD + CLOSE + b"content-length: 99999999\r\n\r\n",
    "length too small": HEAD + CLOSE + b"content-length: 5\r\n\r\n" + BODY,
    "chunk of no length": CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",
    "chunk beyond any": CHUNKED + b"ffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "chunk that is longer than said": CHUNKED + b"1\r\n{}\r\n0\r\n\r\n",
    "chunks without end": CHUNKED + b"fffff\r\n" + b" " * 0xFFFFF + b"\r\nfffff\r\n" + b" " * 0xFFFFF + b"\r\n",
    "another transfer encoding": HEAD + CLOSE + b"transfer-encoding: gzip\r\n\r\n" + BODY,
    "headers without end": HEAD + b"x: " + b"y" * 1_000_000,
    "a thousand headers": HEAD + b"".join(b"x-%d: y\r\n" % i for i in range(1000)) + b"\r\n",
    "a line without end": b"GET /" + b"a" * 1_000_000,
    "header without a name": HEAD + b": x\r\n\r\n",
    "header with a space": HEAD + b"a b: x\r\n\r\n",
    "header over lines": HEAD + b"a: x\r\n y\r\n\r\n",
    "nul in a header": HEAD + b"a: \0\r\n\r\n",
    "raw bytes in the path": b"GET /\xff\xfe HTTP/1.1\r\nhost: pinn\r\n\r\n",
    "line feeds only": b"GET /x HTTP/1.1\nhost: pinn\nconnection: close\n\n",
    "connect": b"CONNECT pinn:1 HTTP/1.1\r\nhost: pinn\r\n\r\n",
    "trace": b"TRACE /predict HTTP/1.1\r\nhost: pinn\r\nconnection: close\r\n\r\n",
    "method of symbols": b"!#$ /predict HTTP/1.1\r\nhost: pinn\r\nconnection: close\r\n\r\n",
    "path that climbs": b"GET /../../etc/passwd HTTP/1.1\r\nhost: pinn\r\nconnection: close\r\n\r\n",
    "path in percents": b"GET /%2e%2e%2f%00%0d%0aset-cookie:x HTTP/1.1\r\nhost: pinn\r\nconnection: close\r\n\r\n",
    "path of bad percents": b"GET /%zz%f HTTP/1.1\r\nhost: pinn\r\nconnection: close\r\n\r\n",
}


@pytest.mark.parametrize("sent", BAD.values(), ids=BAD.keys())
def test_what_http_forbids_is_refused_or_cut_off(port: int, sent: bytes) -> None:
    answer = raw(port, sent, half_close=True)
    assert status(answer) == 0 or 400 <= status(answer) < 500, answer[:300]
    assert b"set-cookie" not in answer.split(b"\r\n\r\n")[0]


@pytest.mark.parametrize("cut", [1, 20, len(FULL) - len(BODY) - 1, len(FULL) - len(BODY), len(FULL) - 1])
def test_a_request_that_breaks_off_is_no_question(port: int, cut: int) -> None:
    assert status(raw(port, FULL[:cut], half_close=True)) in (0, 400)


def test_one_question_after_the_other_without_waiting_is_answered_in_order(kept: int) -> None:
    plain = [FULL.replace(CLOSE, b"").replace(b"100,", b"%d," % spot) for spot in range(101, 131)]
    answers = raw(kept, b"".join(plain) + FULL)
    assert answers.count(b"HTTP/1.1 200 OK") == 31
    prices = [float(price) for price in re.findall(rb'\r\n\r\n\{"price":([^,]+),', answers)]
    assert len(prices) == 31
    assert prices[:30] == sorted(prices[:30])


def test_a_second_request_hidden_in_the_body_of_the_first_is_not_answered(port: int) -> None:
    """Both a length and chunks are stated: a proxy that believes the one and a server that believes the other are two servers."""
    hidden = b"0\r\n\r\nGET /health HTTP/1.1\r\nhost: pinn\r\n\r\n"
    both = HEAD + b"content-length: %d\r\ntransfer-encoding: chunked\r\n\r\n" % len(hidden) + hidden
    assert raw(port, both, half_close=True).count(b"HTTP/1.1 ") <= 1


def test_head_and_options_are_answered_without_a_body(port: int) -> None:
    head = raw(port, b"HEAD /health HTTP/1.1\r\nhost: pinn\r\nconnection: close\r\n\r\n")
    assert status(head) == 200
    assert head.endswith(b"\r\n\r\n")
    options = raw(port, b"OPTIONS /predict HTTP/1.1\r\nhost: pinn\r\nconnection: close\r\n\r\n")
    assert status(options) == 204
    assert b"allow: POST, OPTIONS\r\n" in options
    assert status(raw(port, b"OPTIONS * HTTP/1.1\r\nhost: pinn\r\nconnection: close\r\n\r\n")) in (204, 404)


@settings(max_examples=SHARE, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_request_damaged_anywhere(port: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(FULL)))
    end = data.draw(st.integers(start, min(len(FULL), start + 10)))
    answer = raw(port, FULL[:start] + data.draw(st.binary(max_size=6)) + FULL[end:], half_close=True)
    assert status(answer) < 500, answer[:300]


IMPATIENT = "from pinn_inference import cli, server; server.IDLE = 1.0; cli.main()"


@pytest.fixture(scope="module")
def impatient() -> Iterator[ServerProcess]:
    """A server that waits half a second for a body, and one for a head."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "command", lambda *arguments: [sys.executable, "-c", IMPATIENT, *arguments])
        server = ServerProcess.started(timeout="500ms", drain="0")
    with server:
        yield server


SLOW = {
    "nothing at all": (b"", 0),
    "half a line": (b"POST /pre", 0),
    "half a head": (HEAD, 0),
    "no body": (HEAD + b"content-length: 10\r\n\r\n", 408),
    "half a body": (HEAD + b"content-length: 10\r\n\r\n{", 408),
    "half a long body": (HEAD + b"content-length: 100000\r\n\r\n{", 408),
    "half a chunk": (HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\n{", 408),
    "an answer, and then nothing": (FULL.replace(CLOSE, b""), 200),
}


@pytest.mark.parametrize(("sent", "expected"), SLOW.values(), ids=SLOW.keys())
def test_who_stops_sending_is_cut_off(impatient: ServerProcess, sent: bytes, expected: int) -> None:
    assert status(raw(impatient.port, sent, patience=15)) == expected  # the library's own limit is 30


def test_who_sends_a_byte_now_and_then_is_cut_off_too(impatient: ServerProcess) -> None:
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        while not over.wait(0.1):
            try:
                connection.sendall(b" ")
            except OSError:
                return

    with socket.create_connection(("127.0.0.1", impatient.port), timeout=30) as connection:
        connection.sendall(HEAD + b"content-length: 1000\r\n\r\n")
        dripping = threading.Thread(target=drip, args=(connection,))
        dripping.start()
        try:
            assert connection.recv(100).startswith(b"HTTP/1.1 408")
        finally:
            over.set()
            dripping.join()


def test_many_who_never_finish_keep_nobody_else_out(impatient: ServerProcess) -> None:
    with ExitStack() as stack:
        for _ in range(400):  # more than are worked on and wait together
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", impatient.port), timeout=30))
            slow.sendall(HEAD + b"content-length: 1000\r\n\r\n{")
        client = Client(impatient.port)
        assert client.predict(BODY).status == 200
        assert client.send("GET", "/v2/health/ready").status == 200


def test_who_asks_and_never_reads_fills_nobodys_memory(target: Target) -> None:
    """The answers wait in the connection until it is full, and then no further question is read from it."""
    before = target.server.resident_mib()
    many = (
        HEAD + b"content-length: %d\r\n\r\n" % (len(BODY) * 100 + 101) + b"[" + b",".join([BODY] * 100) + b"]"
    ) * 1500
    with ExitStack() as stack:
        for _ in range(4):
            deaf = stack.enter_context(socket.create_connection(("127.0.0.1", target.server.port), timeout=0.7))
            with suppress(TimeoutError):
                deaf.sendall(many)
        assert Client(target.server.port).predict(BODY).status == 200
        assert target.server.resident_mib() < before + 60


def test_health_answers_while_everything_else_is_full() -> None:
    long = b"[" + b",".join([BODY] * 10_000) + b"]"
    work = HEAD + CLOSE + b"content-length: %d\r\n\r\n" % len(long) + long
    with ServerProcess.started(timeout="20s", concurrency="1", queue="2", drain="0") as server, ExitStack() as stack:
        client = Client(server.port)
        busy = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(9)]
        for connection in busy:
            stack.enter_context(connection).sendall(work[:-1])
        for connection in busy:  # all are complete at once
            connection.sendall(work[-1:])
        process.eventually(lambda: server.metrics()['pinn_requests_total{outcome="overloaded",source="live"}'] >= 1)
        for path in ("/health", "/v2/health/live", "/v2/health/ready"):
            assert client.send("GET", path).status == 200
        answers = [connection.makefile("rb").read() for connection in busy]
        assert {status(answer) for answer in answers} == {200, 429}
        assert any(b"busy with 3 requests" in answer for answer in answers)
