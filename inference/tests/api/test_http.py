"""From a request's bytes to an answer's: routing, bodies, headers, and what is said when it goes wrong."""

import logging
from collections.abc import AsyncIterator

import pytest
from pinn_inference.api import http
from pinn_inference.api.http import SHORT, Answer, App, ProtocolClosed, Request, Routes, State, failure, ok

from .wire import Scope, Wire, ask


async def echo(request: Request) -> Answer:
    return ok([len(await request.body()), request.query])


async def nothing(_: Request) -> Answer:
    return ok(None)


ROUTES: Routes = {"/echo": {"POST": echo}, "/here": {"GET": nothing}}


def app(**options: object) -> App:
    return App(ROUTES, State(ready=True), **options)  # type: ignore[arg-type]


async def test_the_query_is_the_endpoints_to_read() -> None:
    assert (await ask(app(), query_string="keys=3")).json == [0, "keys=3"]


async def test_options_says_what_a_path_takes() -> None:
    answer = await ask(app(), method="OPTIONS", path="/here")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    assert (await ask(app(), method="OPTIONS")).headers["allow"] == "POST, OPTIONS"


async def test_head_is_get_without_the_body() -> None:
    answer = await ask(app(), method="HEAD", path="/here")
    assert (answer.status, answer.body) == (200, b"")
    assert (await ask(app(), method="HEAD")).status == 405


async def test_another_method_is_refused_with_those_that_are_taken() -> None:
    answer = await ask(app(), method="DELETE", path="/here")
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    assert answer.json == {"error": "/here takes GET, HEAD, OPTIONS, not DELETE"}


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip"])
async def test_a_compressed_body_is_refused_without_being_read(encoding: str) -> None:
    class Unread(Wire):
        async def __call__(self) -> bytes:
            raise AssertionError("it was read")

    answer = await ask(app(), wire=Unread(b"\x1f\x8b"), headers={"content-encoding": encoding})
    assert answer.status == 415
    assert "without compression" in answer.json["error"]


async def test_an_encoding_that_is_none_is_none() -> None:
    assert (await ask(app(), wire=Wire(b"{}"), headers={"content-encoding": "identity"})).status == 200


@pytest.mark.parametrize(("size", "status"), [(0, 200), (100, 200), (101, 413)])
async def test_a_body_may_be_as_long_as_the_limit(size: int, status: int) -> None:
    assert (await ask(app(max_body=100), wire=Wire(b"x" * size))).status == status


async def test_a_body_of_unknown_length_is_read_until_the_limit() -> None:
    taken = await ask(app(max_body=100), Scope(), Wire(b"x" * 60, b"x" * 40))
    refused = await ask(app(max_body=100), Scope(), Wire(b"x" * 60, b"x" * 40, b"x"))
    assert (taken.status, refused.status) == (200, 413)


async def test_a_body_that_ends_early_is_the_callers_mistake() -> None:
    class Cut(Wire):
        async def __call__(self) -> bytes:
            raise ProtocolClosed

    answer = await ask(app(), wire=Cut(b"x"))
    assert answer.status == 400
    assert "before it is complete" in answer.json["error"]


async def test_long_bodies_together_are_bounded_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one long body is held another is told to come back; once it is answered there is room again."""
    monkeypatch.setattr(http, "HELD", 3 * SHORT)
    inside: list[Wire] = []

    async def nested(request: Request) -> Answer:
        await request.body()
        if not inside:
            inside.append(Wire(b"x" * 2 * SHORT))
            await ask(server, wire=inside[0])
        return ok("done")

    server = App({"/echo": {"POST": nested}}, State(), 4 * SHORT)
    assert (await ask(server, wire=Wire(b"x" * 2 * SHORT))).status == 200
    assert inside[0].status == 429
    assert (await ask(server, wire=Wire(b"x" * 2 * SHORT))).status == 200


async def test_a_body_is_read_once() -> None:
    async def twice(request: Request) -> Answer:
        return ok([len(await request.body()), len(await request.body())])

    class Once(Wire):
        async def __call__(self) -> bytes:
            return b"".join(self._pieces.pop() for _ in [0])

    assert (await ask(App({"/echo": {"POST": twice}}, State()), wire=Once(b"abc"))).json == [3, 3]


async def test_a_bug_is_a_500_that_says_nothing_and_a_log_that_says_all(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: Request) -> Answer:
        raise ZeroDivisionError("secret")

    answer = await ask(App({"/echo": {"POST": broken}}, State()))
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert "ZeroDivisionError: secret" in caplog.text


async def test_half_a_surrogate_pair_in_a_refusal_is_written_out() -> None:
    assert failure(400, "'\ud800' is not an input").body == b'{"error":"\'\\\\ud800\' is not an input"}'


async def test_a_refusal_is_logged_with_its_sentence(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        await ask(app(), path="/nowhere")
        await ask(app(), path="/here", method="GET")
    (line,) = caplog.records
    assert "there is no /nowhere here" in line.message
    assert vars(line)["fields"] == {"method": "POST", "path": "/nowhere", "status": 404}


async def test_every_answer_is_logged_when_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        await ask(app(access_log=True), wire=Wire(b"{}"))
    (line,) = caplog.records
    fields = vars(line)["fields"]
    assert fields.pop("ms") >= 0
    assert fields == {"method": "POST", "path": "/echo", "status": 200}


async def test_a_draining_server_asks_to_close_whatever_it_answers() -> None:
    server = App(ROUTES, State(draining=True, parting=True))
    for method, path in (("GET", "/here"), ("POST", "/nowhere"), ("OPTIONS", "/echo")):
        assert (await ask(server, method=method, path=path)).headers["connection"] == "close"


async def test_pieces_are_not_asked_for_after_the_limit() -> None:
    """A body without an end is not read to its end."""

    class Endless(Wire):
        read = 0

        async def pieces(self) -> AsyncIterator[bytes]:
            while True:
                self.read += 10
                yield b"x" * 10

        def __aiter__(self) -> AsyncIterator[bytes]:  # type: ignore[override]
            return self.pieces()

    wire = Endless()
    assert (await ask(app(max_body=100), Scope(), wire)).status == 413
    assert wire.read == 110
