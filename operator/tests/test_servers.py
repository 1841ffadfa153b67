"""Whatever a pod does, a call ends in time with an answer or with a sentence that names the pod."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from pinn_operator.build import pod as rendered
from pinn_operator.errors import OperatorError, ServerTrouble
from pinn_operator.servers import ADMIN_PORT, CALL_SECONDS, LARGEST, METRICS_SECONDS, PORT, Servers
from pinn_operator.untrusted import VALUES
from tests.pods import TOKEN, Model, Town, pod

POD = pod("pricer-1")
ITEMS = [{"x": 1.0}, {"x": 2.0}]

Call = Callable[[Servers], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "/metrics": lambda servers: servers.metrics(POD),
    "/cache/hottest": lambda servers: servers.hottest(POD, TOKEN, 2),
    "/samples": lambda servers: servers.samples(POD, TOKEN, 2, 7),
    "/connections/renew": lambda servers: servers.renew(POD, TOKEN),
    "/cache/warm": lambda servers: servers.warm(POD, TOKEN, ITEMS),
    "/shadow": lambda servers: servers.shadow(POD, TOKEN, ITEMS, True),
    "/predict": lambda servers: servers.predict(POD, ITEMS[0], "probe"),
}
each_call = pytest.mark.parametrize("path", CALLS)


@pytest.fixture
async def town() -> AsyncIterator[tuple[Town, Servers]]:
    async with Town.founded() as founded:
        yield founded


def http(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{more}content-length: {len(body)}\r\n\r\n".encode() + body


async def trouble(path: str, servers: Servers) -> str:
    with pytest.raises(ServerTrouble) as raised:
        await CALLS[path](servers)
    said = str(raised.value)
    assert said.startswith("pod pricer-1 ")
    assert TOKEN not in said
    return said


def test_the_ports_are_those_that_pods_are_given() -> None:
    assert (PORT, ADMIN_PORT) == (rendered.PORT, rendered.ADMIN_PORT)


def test_trouble_with_a_server_is_on_the_operators_tree_of_errors() -> None:
    assert issubclass(ServerTrouble, OperatorError)
    assert ServerTrouble("p", "is gone").pod == "p"


async def test_a_server_is_asked_as_it_wants_to_be_asked(town: tuple[Town, Servers]) -> None:
    model = Model(1.0, 2.0, 3.0)
    await town[0].settle("pricer-1", model.app())
    servers = town[1]
    assert await servers.hottest(POD, TOKEN, 2) == [{"x": 1.0}, {"x": 2.0}]
    assert await servers.samples(POD, TOKEN, 3, 5) == await servers.samples(POD, TOKEN, 3, 5 + 2**32)
    assert await servers.warm(POD, TOKEN, ITEMS) == 2
    said = await servers.shadow(POD, TOKEN, ITEMS, False)
    assert ([answer["u"] for answer in said["answers"]], said["solver"], said["violations"]) == ([1.0, 2.0], None, [])
    assert (await servers.shadow(POD, TOKEN, ITEMS, True))["solver"][1]["u"] == 2.0
    status, answer, seconds = await servers.predict(POD, {"x": 4.0}, "probe")
    assert (status, (answer or {})["u"], model.predicted) == (200, 4.0, [(4.0, "probe")])
    assert 0 <= seconds < CALL_SECONDS


async def test_the_token_goes_only_where_it_is_needed(town: tuple[Town, Servers]) -> None:
    heard = await town[0].says("pricer-1", http(b"m 1\n"))
    assert await town[1].metrics(POD) == "m 1\n"
    await town[1].predict(POD, {"x": 1.0}, "shadow")
    assert len(heard) == 2
    assert not any(b"uthorization" in request for request in heard)


async def test_a_wrong_token_is_said_in_the_servers_own_words(town: tuple[Town, Servers]) -> None:
    await town[0].settle("pricer-1", Model().app())
    with pytest.raises(ServerTrouble) as raised:
        await town[1].hottest(POD, "wrong", 3)
    assert str(raised.value) == (
        "pod pricer-1 answers /cache/hottest with 401: send the header authorization: Bearer TOKEN"
    )


async def test_a_pod_without_an_address_is_said_with_its_name(town: tuple[Town, Servers]) -> None:
    with pytest.raises(ServerTrouble, match="pod pricer-1 has no address yet"):
        await town[1].metrics(pod("pricer-1", address=None))


@each_call
async def test_a_server_that_nobody_listens_for_is_said_with_its_name(path: str, town: tuple[Town, Servers]) -> None:
    town[0].ports["pricer-1", PORT] = town[0].ports["pricer-1", ADMIN_PORT] = 1
    assert await trouble(path, town[1]) == "pod pricer-1 cannot be reached: connection refused"


@each_call
@pytest.mark.looptime
async def test_a_server_that_does_not_answer_is_said_with_its_name(path: str, town: tuple[Town, Servers]) -> None:
    await town[0].says("pricer-1", None)
    began = asyncio.get_running_loop().time()
    limit = METRICS_SECONDS if path == "/metrics" else CALL_SECONDS
    assert await trouble(path, town[1]) == f"pod pricer-1 does not answer {path} within {limit:g} s"
    assert asyncio.get_running_loop().time() - began == pytest.approx(limit, abs=0.5)


@each_call
async def test_a_server_that_sends_without_end_is_cut_off(path: str, town: tuple[Town, Servers]) -> None:
    async def pour(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b" " * 65536)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", pour)
    await town[0].settle("pricer-1", app)
    assert await trouble(path, town[1]) == f"pod pricer-1 answers {path} with more than 8 MiB"


@pytest.mark.parametrize(("more", "taken"), [(0, True), (1, False)])
async def test_as_much_as_the_limit_is_taken(more: int, taken: bool, town: tuple[Town, Servers]) -> None:
    await town[0].says("pricer-1", http(b" " * (LARGEST + more)))
    if taken:
        assert len(await town[1].metrics(POD)) == LARGEST
    else:
        assert "more than 8 MiB" in await trouble("/metrics", town[1])


@each_call
async def test_a_redirect_is_not_followed(path: str, town: tuple[Town, Servers]) -> None:
    elsewhere = await town[0].says("elsewhere", http(b"{}"))
    reply = http(b"", "302 Found", f"location: http://elsewhere.test:{ADMIN_PORT}/metrics\r\n")
    await town[0].says("pricer-1", reply)
    if path == "/predict":
        assert (await town[1].predict(POD, {"x": 1.0}, "probe"))[:2] == (302, None)
    else:
        assert await trouble(path, town[1]) == f"pod pricer-1 answers {path} with 302: without a word"
    assert elsewhere == []


@each_call
async def test_a_proxy_of_the_environment_is_not_asked(
    path: str, town: tuple[Town, Servers], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await town[0].says("proxy", http(b"{}"))
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{town[0].ports['proxy', PORT]}")
    await town[0].says("pricer-1", http(b"", "503 Service Unavailable"))
    if path == "/predict":
        assert (await town[1].predict(POD, {"x": 1.0}, "probe"))[0] == 503
    else:
        await trouble(path, town[1])
    assert proxy == []


@each_call
@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "cannot be read"),
        (b"", "breaks off its answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{", "breaks off its answer"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n40\r\n{", "breaks off its answer"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", "cannot be read"),
    ],
)
async def test_what_is_no_http_is_said_with_the_path(
    path: str, town: tuple[Town, Servers], reply: bytes, words: str
) -> None:
    await town[0].says("pricer-1", reply)
    said = await trouble(path, town[1])
    assert words in said
    assert path in said
    assert len(said) < 400


@pytest.mark.parametrize("path", [path for path in CALLS if path not in ("/metrics", "/predict")])
@pytest.mark.parametrize(
    "body",
    [
        b"<html>busy</html>", b"[]", b"null", b"{}", b"\xff", b"", b"[" * 200_000, b'{"keys": 3, "warmed": "3", "answers": 3}',
        b'{"keys": [1], "warmed": true, "answers": [1, 2]}', b'{"keys": [{"x": NaN}], "warmed": NaN, "answers": [{"u": NaN}]}',
        b'{"keys": [%b{}], "answers": [{}], "warmed": 1, "seconds": 1}' % (b"{}," * VALUES),
        b'{"answers": [{}], "solver": [{}]}', b'{"answers": [{}, {}], "solver": [{}]}', b'{"answers": [{}, {}], "solver": null}',
    ],
)  # fmt: skip
async def test_an_answer_that_is_another_than_asked_for_is_no_answer(
    path: str, town: tuple[Town, Servers], body: bytes
) -> None:
    await town[0].says("pricer-1", http(body))
    assert "something else than" in await trouble(path, town[1])


async def test_more_keys_than_were_asked_for_are_left_out(town: tuple[Town, Servers]) -> None:
    await town[0].says("pricer-1", http(json.dumps({"keys": [{"x": 1.0}] * 9}).encode()))
    assert len(await town[1].hottest(POD, TOKEN, 2)) == 2


async def test_a_prediction_that_is_refused_is_an_answer_too(town: tuple[Town, Servers]) -> None:
    await town[0].says("pricer-1", http(b'{"error": "spot is missing"}', "400 Bad Request"))
    status, answer, _ = await town[1].predict(POD, {"x": 1.0}, "probe")
    assert (status, answer) == (400, {"error": "spot is missing"})


async def test_a_pods_own_words_are_passed_on_in_short_and_on_one_line(town: tuple[Town, Servers]) -> None:
    await town[0].says("pricer-1", http(b"a\n b\t\xff" + b"c" * 10_000, "500 Internal Server Error"))
    said = await trouble("/samples", town[1])
    assert said.startswith("pod pricer-1 answers /samples with 500: a b \ufffdccc")
    assert len(said) < 300


async def test_an_answer_that_is_compressed_is_not_inflated(town: tuple[Town, Servers]) -> None:
    await town[0].says("pricer-1", http(gzip.compress(b"m 1\n"), more="content-encoding: gzip\r\n"))
    assert await trouble("/metrics", town[1]) == "pod pricer-1 answers /metrics with something else than text"


async def test_an_address_of_the_newer_kind_is_written_as_urls_want_it() -> None:
    asked: list[str] = []

    class Session:
        def request(self, _method: str, url: str, **_: Any) -> Any:
            asked.append(url)
            raise ConnectionResetError

    servers = Servers(Session())  # type: ignore[arg-type]
    with pytest.raises(ServerTrouble, match="breaks off"):
        await servers.metrics(pod("pricer-1", address="fd00::7"))
    assert asked == ["http://[fd00::7]:8081/metrics"]
