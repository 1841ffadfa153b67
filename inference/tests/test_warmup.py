"""A cache is warmed by whom it can be, and nothing another server says or does keeps this one from serving."""

import json
import logging
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from pinn_inference import settings, warmup
from pinn_inference.api.http import State
from pinn_inference.predictor import Predictor
from pinn_inference.service import Service

from .process import ENVIRONMENT, ServerProcess, command, eventually
from .turns import Turns, each_turn

OPTION: dict[str, Any] = {"spot": 100.0, "strike": 105.0, "maturity": 0.5, "rate": 0.03, "volatility": 0.2}


class _Strange:
    """Says the same to everybody, then hangs up; or says nothing and holds on."""

    def __init__(self, reply: bytes | None) -> None:
        self.asked: list[bytes] = []
        self._held: list[socket.socket] = []
        self._reply = reply
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.asked.append(connection.recv(4096))
            if self._reply is None:
                self._held.append(connection)
                continue
            with closing(connection):
                connection.sendall(self._reply)


@pytest.fixture
def peer() -> Iterator[Callable[[bytes | None], _Strange]]:
    peers = []

    def start(reply: bytes | None) -> _Strange:
        peers.append(_Strange(reply))
        return peers[-1]

    yield start
    for one in peers:
        one.socket.close()


def _json(value: object) -> bytes:
    body = json.dumps(value).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


async def _service(**chosen: Any) -> Service:
    return await Service.open(settings.load(**{"admin_token": "sesame", "timeout": 0.01, **chosen}), State())


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"",
        b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n40\r\n{"keys"',
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{",
        b"HTTP/1.1 403 Forbidden\r\ncontent-length: 1000\r\n\r\nclosed",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        _json([]),
        _json({"keys": 3}),
        b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n" + b"[" * 200_000,
    ],
)
async def test_a_peer_that_is_no_model_server_leaves_the_cache_cold_with_a_warning(
    peer: Callable[[bytes | None], _Strange], caplog: pytest.LogCaptureFixture, reply: bytes
) -> None:
    service = await _service(warm_up=peer(reply).url)
    with caplog.at_level(logging.WARNING):
        await service.warm_up()
    await service.close()
    assert "the cache starts cold" in caplog.text


async def test_an_address_that_is_none_leaves_the_cache_cold_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    service = await _service(warm_up="http://127.0.0.1:80x/")
    await service.warm_up()
    await service.close()
    assert "the cache starts cold: http://127.0.0.1:80x/cache/hottest?keys=1000 cannot be asked" in caplog.text


async def test_a_mistake_of_our_own_leaves_the_cache_cold_with_a_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> int:
        raise ZeroDivisionError("nobody foresaw it")

    monkeypatch.setattr(warmup, "run", fails)
    service = await _service(warm_up="synthetic")
    await service.warm_up()
    await service.close()
    assert "the cache starts cold: ZeroDivisionError('nobody foresaw it')" in caplog.text


async def test_what_is_no_question_is_left_out_and_the_others_are_asked(
    peer: Callable[[bytes | None], _Strange],
) -> None:
    strange = [[], [[OPTION]], [OPTION], 3, None, {"x": 1}, {**OPTION, "maturity": "long"}, {**OPTION, "spot": 1e15}]
    service = await _service(warm_up=peer(_json({"keys": [*strange, OPTION]})).url)
    await service.warm_up()
    assert len(service.model.predictor.cache or ()) == 1
    await service.close()


async def test_the_token_does_not_follow_to_another_address(peer: Callable[[bytes | None], _Strange]) -> None:
    other = peer(_json({"keys": [OPTION]}))
    reply = b"HTTP/1.1 302 Found\r\nlocation: %s/x\r\ncontent-length: 0\r\n\r\n" % other.url.encode()
    first = peer(reply)
    service = await _service(warm_up=first.url)
    await service.warm_up()
    await service.close()
    assert b"sesame" in first.asked[0]
    assert other.asked == []


async def test_no_more_is_asked_for_than_is_given_in_one_request(peer: Callable[[bytes | None], _Strange]) -> None:
    other = peer(_json({"keys": []}))
    service = await _service(warm_up=other.url, warm_up_keys=1_000_000)
    await service.warm_up()
    await service.close()
    (asked,) = other.asked
    assert asked.startswith(b"GET /cache/hottest?keys=100000 ")


async def _asked_once(predictor: Predictor, item: dict[str, Any], service: Service) -> str:
    question = service.model.codec.questions(json.dumps(item).encode())
    return (await predictor.one(question)).method


@pytest.mark.parametrize("maturity", [2.0, 0.02, 1.0])
async def test_a_bin_at_the_end_of_a_range_is_warmed_too(maturity: float) -> None:
    stable, canary = await _service(), await _service()
    item = {**OPTION, "maturity": maturity, "spot": 210.0, "volatility": 0.6, "rate": 0.1}
    assert await _asked_once(stable.model.predictor, item, stable) == "model"
    (hottest,) = await warmup.hottest(stable.model.predictor, 10)
    assert 0.02 <= hottest["maturity"] <= 2.0
    await warmup._warm(canary.model.codec, hottest)
    assert await _asked_once(canary.model.predictor, item, canary) == "cache"
    await stable.close()
    await canary.close()


async def test_the_loop_gets_its_turn_while_the_hottest_of_many_are_sought() -> None:
    service = await _service()
    cache, bins = service.model.predictor.cache, service.model.predictor.evaluation.bins
    assert cache is not None
    for number in range(30_000):
        cache.put(bins.pack(number, number, 300, 0, 0, 300), b"")
    turns = Turns()
    async with each_turn(turns.take):
        found = await warmup.hottest(service.model.predictor, 30_000)
    await service.close()
    assert len(found) == 30_000
    assert turns.count > 30_000 / max(warmup.PORTION, 5000)


async def test_samples_are_questions_the_model_was_trained_for_and_the_same_for_the_same_seed() -> None:
    service = await _service(fallback_solver=False, timeout="60s")
    found = await service._samples(2100, 7)
    again, fewer, others = [await service._samples(n, seed) for n, seed in ((2100, 7), (30, 7), (2100, 8))]
    codec = service.model.codec
    answers = await codec.predictor.many(
        codec.converted(list[object](found))
    )  # without the solver: OutOfDomain would be raised
    await service.close()
    assert found == again
    assert found[:30] == fewer
    assert found != others
    assert {item["kind"] for item in found} == {"call", "put"}
    assert len({json.dumps(item) for item in found}) == 2100
    assert {answer.method for answer in answers} <= {"model", "cache"}


async def test_what_is_warmed_comes_from_the_cache_and_what_the_model_cannot_answer_is_left_out() -> None:
    service = await _service()
    strange = [
        [OPTION],
        3,
        None,
        {},
        {**OPTION, "spot": 1e15},
        {**OPTION, "rate": 10**400},
        {**OPTION, "maturity": 5.0},
    ]
    assert await service._warm([*strange, OPTION]) == 1
    assert await _asked_once(service.model.predictor, OPTION, service) == "cache"
    counts = service._metrics.requests.counts
    await service.close()
    assert (counts["ok", "warmup"], counts["ok", "live"]) == (1, 0)


async def test_without_a_cache_nothing_is_warmed() -> None:
    service = await _service(cache_size=0)
    assert await service._warm([OPTION]) == 0
    await service.close()


async def test_warming_ends_in_time_and_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    service = await _service()
    monkeypatch.setattr(warmup, "LIMIT", -1.0)
    assert await service._warm([OPTION]) == 0
    await service.close()


@pytest.mark.parametrize("good", [True, False])
async def test_the_loop_gets_its_turn_while_items_are_warmed(good: bool) -> None:
    service = await _service()
    items = await service._samples(1000, 1) if good else [{"x": 1}] * 1000
    turns = Turns()
    async with each_turn(turns.take):
        await service._warm(list(items))
    await service.close()
    assert turns.count >= 1000 // warmup.TURN


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_is_told_to_stop_during_warm_up_stops_at_once_and_was_never_ready(
    peer: Callable[[bytes | None], _Strange], number: signal.Signals
) -> None:
    silent = peer(None)
    process = subprocess.Popen(
        command("serve", "--host", "127.0.0.1", "--port", "0", "--admin-port", "0"),
        env={**ENVIRONMENT, "PINN_SERVER_WARM_UP": silent.url, "PINN_SERVER_DRAIN": "1h"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        eventually(lambda: silent.asked, 30)
        process.send_signal(number)
        _, said = process.communicate(timeout=warmup.LIMIT / 2 - 2)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert [json.loads(line)["event"] for line in said.splitlines()] == ["stopped"]


def test_a_server_whose_peer_is_strange_serves(peer: Callable[[bytes | None], _Strange]) -> None:
    with ServerProcess.started(warm_up=peer(b"SSH-2.0-OpenSSH\r\n").url) as server:
        assert "cold" in server.log[0]["event"]
