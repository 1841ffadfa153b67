"""A real process: starts, answers, refuses, counts, drains, and says clearly why it cannot start."""

import asyncio
import json
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import httpx
import pytest
from pinn_inference import assembly
from pinn_inference import server as server_module
from pinn_inference.api import wire
from pinn_inference.api.http import App, State
from pinn_inference.errors import ModelError
from pinn_inference.monitoring import Metrics
from pinn_inference.server import ADMIN_CONNECTIONS, CONNECTIONS, GRACE, OTHER_FILES, explain, grace
from pinn_inference.settings import Settings

from .drain_load import Clients, ready
from .process import ENVIRONMENT, ServerProcess, eventually, run

OPTION = {"spot": 100, "strike": 105, "maturity": 0.5, "rate": 0.03, "volatility": 0.2}
JSON = "application/json"


def test_an_option_is_priced_and_the_answer_says_how(server: ServerProcess) -> None:
    with server.client() as client:
        answer = client.post("/predict", json={**OPTION, "kind": "put"})
    assert answer.status_code == 200
    body = answer.json()
    assert body["price"] == pytest.approx(7.6150, abs=1e-4)
    outputs = {"price", "delta", "gamma", "vega", "theta", "rho"}
    assert set(body) == outputs | {"method", "engine", "reason", "error_bound", "model"}
    assert (body["method"], body["engine"], body["reason"]) == ("model", "litert", None)
    assert set(body["error_bound"]) == outputs
    assert all(0 < bound < 1e-5 for bound in body["error_bound"].values())
    assert body["model"] == {"name": "black-scholes", "version": "2.0.0"}


def test_a_list_is_answered_in_its_order(server: ServerProcess) -> None:
    spots = [80 + i / 10 for i in range(600)]
    with server.client() as client:
        together = client.post("/predict", json=[{**OPTION, "spot": s, "outputs": ["price"]} for s in spots]).json()
        alone = client.post("/predict", json={**OPTION, "spot": spots[417]}).json()
    prices = [item["price"] for item in together]
    assert prices == sorted(prices)
    assert prices[417] == pytest.approx(alone["price"], abs=1e-4)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/predict", "{", 400, "not JSON"),
        ("POST", "/predict", '{"spot": NaN}', 400, "NaN"),
        ("POST", "/predict", "[" * 5000, 400, "not JSON"),
        ("POST", "/predict", b"\xff\xfe", 400, "not JSON"),
        ("POST", "/predict", "[]", 400, "empty"),
        ("POST", "/predict", "3", 400, "object"),
        ("POST", "/predict", json.dumps([OPTION, {**OPTION, "volatility": 9}]), 400, "item 1: volatility is 9"),
        ("POST", "/predict", json.dumps({**OPTION, "outputs": ["vanna"]}), 400, "outputs"),
        ("POST", "/predict", " " * (4 * 1024 * 1024 + 1), 413, "larger"),
        ("POST", "/predict", json.dumps([OPTION] * 10_001), 413, "10001"),
        ("GET", "/predict", None, 405, "POST"),
        ("GET", "/nowhere", None, 404, "/nowhere"),
        ("GET", "/metrics", None, 404, "/metrics"),
    ],
)
def test_a_mistake_is_refused_with_a_sentence(
    server: ServerProcess, method: str, path: str, body: str | bytes | None, status: int, words: str
) -> None:
    with server.client() as client:
        answer = client.request(method, path, content=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == JSON
    assert words in answer.json()["error"]


def test_a_body_without_a_stated_length_is_limited_too(server: ServerProcess) -> None:
    with server.client() as client:
        small = client.post("/predict", content=iter([json.dumps(OPTION).encode()]))
        large = client.post("/predict", content=(b" " * 65536 for _ in range(80)))
    assert (small.status_code, large.status_code) == (200, 413)


def test_health_speaks_both_dialects_on_both_ports(server: ServerProcess) -> None:
    for base in (server.url, server.admin):
        assert httpx.get(f"{base}/health").json() == {"status": "healthy"}
        assert httpx.get(f"{base}/v2/health/live").status_code == 200
        assert httpx.get(f"{base}/v2/health/ready").status_code == 200


def test_one_call_is_one_event_however_many_items_it_carries(server: ServerProcess) -> None:
    def counted(outcome: str, source: str = "live") -> float:
        return server.metrics()[f'pinn_requests_total{{outcome="{outcome}",source="{source}"}}']

    before = counted("ok"), counted("refused"), counted("error"), counted("ok", "shadow")
    with server.client() as client:
        client.post("/predict", json=[OPTION] * 300)
        client.post("/predict", json={**OPTION, "spot": -1})
        client.post("/predict", json=OPTION, headers={"pinn-source": "shadow"})
    after = counted("ok"), counted("refused"), counted("error"), counted("ok", "shadow")
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 0, 1]


def test_the_metrics_have_the_names_others_rely_on(server: ServerProcess, models: Path) -> None:
    with server.client() as client:
        client.post("/predict", json=OPTION)
    metrics = server.metrics()
    digest = json.loads((models / "black-scholes/2.0.0/manifest.json").read_text())["digest"]
    assert metrics[f'pinn_model_info{{digest="{digest}",name="black-scholes",version="2.0.0"}}'] == 1
    assert metrics['pinn_prediction_latency_seconds_count{method="model",source="live"}'] >= 1
    for bound in ("0.01", "0.05", "0.1", "0.25", "0.5", "0.6", "1.0", "2.0", "5.0"):
        assert f'pinn_prediction_latency_seconds_bucket{{le="{bound}",method="model",source="live"}}' in metrics
    assert metrics['pinn_physics_violations_total{invariant="pde_residual"}'] == 0
    assert metrics['pinn_prediction_errors_total{error_type="non_finite",source="live"}'] == 0
    assert metrics["process_resident_memory_bytes"] > 1e7


def test_a_ready_server_is_small(server: ServerProcess) -> None:
    assert server.resident_mib() < 120


async def test_a_rolling_update_loses_no_request() -> None:
    with ServerProcess.started(drain="1s") as old, ServerProcess.started() as new:
        clients = Clients([old.port, new.port])
        running = asyncio.create_task(clients.run())
        await _until(lambda: clients.outcome.answered[old.port] > 100)
        old.terminate()
        assert await asyncio.to_thread(old.wait) == 0
        so_far = clients.outcome.sent
        await _until(lambda: clients.outcome.sent > so_far + 100)
        clients.stop.set()
        outcome = await running
    assert outcome.failures == []
    assert outcome.told_to_close >= clients.count / 2
    assert outcome.answered[new.port] > 100


async def test_what_is_in_flight_is_finished_even_without_a_drain() -> None:
    """Five hundred puts for the solver, a millisecond each, so that the signal comes while the first of them are being solved."""
    body = json.dumps([OPTION | {"volatility": 0.9 + i / 10_000} for i in range(500)]).encode()
    head = b"POST /predict HTTP/1.1\r\nhost: pinn\r\ncontent-length: %d\r\n\r\n" % len(body)
    put = ("--model-name", "american-put", "--model-version", "1.0.0")
    with ServerProcess.started(*put, drain="0", timeout="30s") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head + body)
        await writer.drain()
        await _until(lambda: server.cpu_seconds() > server.cpu_at_start + 0.05)
        server.terminate()
        answer = await reader.read()
        writer.close()
        assert server.wait() == 0
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"}]")


async def test_a_caller_who_never_finishes_asking_does_not_hold_the_process() -> None:
    with ServerProcess.started(drain="0") as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /predict HTTP/1.1\r\nhost: pinn\r\ncontent-length: 100\r\n\r\n{")
        await writer.drain()
        server.terminate()
        assert server.wait(GRACE + 5) == 0
        writer.close()


async def test_a_connection_that_outlasts_its_time_is_cut_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    listener = await server_module._Listener.open(server_module._http(App({}, State())), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"POST /")
    connections = cast(wire.Listener, listener.wire)._connections
    await _until(lambda: any(cast(wire.Connection, connection)._head for connection in connections))
    await listener.close(0.01)
    writer.close()
    assert "cut in the middle of a request" in caplog.text


def test_what_is_in_flight_has_as_long_as_a_request_may_take() -> None:
    assert (grace(0.5), grace(1.0), grace(30.0)) == (GRACE, GRACE, 31.0)


async def test_a_caller_whose_request_may_take_long_is_not_cut_short() -> None:
    """Longer than the least that is given: the body comes when that is over."""
    body = json.dumps(OPTION).encode()
    head = b"POST /predict HTTP/1.1\r\nhost: pinn\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(body)
    with ServerProcess.started(drain="0", timeout="30s") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head + body[:1])
        await writer.drain()
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        server.terminate()
        await asyncio.sleep(GRACE + 1)  # that this time passes is what is tested
        writer.write(body[1:])
        assert b"HTTP/1.1 200 OK" in await reader.read()
        writer.close()
        assert await asyncio.to_thread(server.wait) == 0


async def test_told_to_stop_while_its_model_loads_a_server_does_so_at_once_and_clears_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A network in another format waits for TensorFlow, for minutes on a busy machine."""
    begun, cleared = asyncio.Event(), asyncio.Event()

    async def prepared(*_: object) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleared.set()

    monkeypatch.setattr(assembly, "prepared", prepared)
    process = server_module._Process(Settings(port=0, admin_port=0, host="127.0.0.1"))
    running = asyncio.create_task(process.run())
    async with asyncio.timeout(60):
        await begun.wait()
        process._stop(signal.SIGTERM)
        assert await running == 0
    assert cleared.is_set()


async def test_a_model_that_cannot_be_loaded_is_said_whether_the_server_was_told_to_stop_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def prepared(*_: object) -> None:
        raise ModelError("the model is damaged")

    monkeypatch.setattr(assembly, "prepared", prepared)
    with pytest.raises(ModelError, match="is damaged"):
        await server_module._Process(Settings(port=0, admin_port=0, host="127.0.0.1")).run()


FILES = """
import resource, sys
from pinn_inference import server
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
server.raise_file_limit()
print(*resource.getrlimit(resource.RLIMIT_NOFILE), server.connections())
"""


@pytest.mark.parametrize(
    ("soft", "hard", "most"),
    [(256, 1024, 1024 - OTHER_FILES), (300, 300, 300 - OTHER_FILES), (64, 64, 32), (1024, 10_200, CONNECTIONS)],
)
def test_connections_leave_files_for_everything_else_of_as_many_as_the_process_may_have(
    soft: int, hard: int, most: int
) -> None:
    command = [sys.executable, "-c", FILES, str(soft), str(hard)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=60)
    assert [int(number) for number in done.stdout.split()] == [hard, hard, most]


def test_the_admin_port_takes_few_connections_and_none_of_the_service_ports() -> None:
    with ServerProcess.started() as server:
        admin = urlsplit(server.admin).port
        kept = [socket.create_connection(("127.0.0.1", admin)) for _ in range(ADMIN_CONNECTIONS)]
        with socket.create_connection(("127.0.0.1", admin), timeout=60) as refused:
            assert refused.recv(100).startswith(b"HTTP/1.1 429 ")
        with server.client() as client:
            assert client.get("/v2/health/live").status_code == 200
        for connection in kept:
            connection.close()
        eventually(lambda: httpx.get(f"{server.admin}/metrics", trust_env=False).status_code == 200, 30)


async def test_a_draining_server_answers_but_is_not_ready() -> None:
    with ServerProcess.started(drain="30s") as server:
        with server.client() as client:
            server.terminate()
            eventually(lambda: client.get("/v2/health/ready").status_code == 503)
            answer = client.post("/predict", json=OPTION)
            assert answer.status_code == 200
            assert answer.headers["connection"] == "close"
            assert client.get("/v2/health/live").status_code == 200
        assert not await ready(server.port)
        server.terminate()  # the second signal does not wait
        assert server.wait(5) == 128 + signal.SIGTERM


def test_no_exit_is_an_abort() -> None:
    """The HTTP library's threads outlive their work by a moment; one exit in six used to end in SIGABRT."""
    codes = []
    for _ in range(6):
        with ServerProcess.started(drain="10ms") as server, server.client() as client:
            for _ in range(5):
                client.post("/predict", json=OPTION)
            server.terminate()
            codes.append(server.wait())
    assert codes == [0] * 6


def test_many_idle_connections_do_not_keep_a_new_one_out(server: ServerProcess) -> None:
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(400)]
    with server.client() as client:
        assert client.get("/v2/health/ready").status_code == 200
    for connection in idle:
        connection.close()


def test_ctrl_c_stops_promptly_and_cleanly() -> None:
    with ServerProcess.started(drain="30s") as server:
        server.process.send_signal(signal.SIGINT)
        assert server.wait(5) == 0


def test_a_taken_port_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("serve", "--host", "127.0.0.1", "--port", str(port), "--admin-port", "0")
    assert done.returncode == 1
    assert _only_event(done.stderr) == f"cannot listen on 127.0.0.1:{port}: address already in use"


@pytest.mark.parametrize("host", ["::1", "localhost", "::"])
def test_a_host_may_be_a_name_or_of_either_family(host: str) -> None:
    with ServerProcess.started("--host", host) as server, server.client() as client:
        assert client.post("/predict", json=OPTION).status_code == 200
        done = run("serve", "--host", host, "--port", str(server.port), "--admin-port", "0")
    written = f"[{host}]" if ":" in host else host
    assert _only_event(done.stderr) == f"cannot listen on {written}:{server.port}: address already in use"


def test_a_host_that_is_none_is_one_sentence() -> None:
    done = run("serve", "--host", "nowhere.invalid", "--port", "0", "--admin-port", "0")
    assert done.returncode == 1
    assert _only_event(done.stderr).startswith("cannot listen on nowhere.invalid:0: ")


def test_a_second_server_does_not_share_the_first_ones_port(server: ServerProcess) -> None:
    done = run("serve", "--host", "127.0.0.1", "--port", str(server.port), "--admin-port", "0")
    assert done.returncode == 1
    assert "address already in use" in done.stderr


def test_a_model_that_is_not_there_is_one_sentence_that_names_those_that_are() -> None:
    done = run("serve", "--model-version", "9.9.9", "--port", "0", "--admin-port", "0")
    assert done.returncode == 1
    sentence = _only_event(done.stderr)
    assert "black-scholes 9.9.9 cannot be read" in sentence
    assert "black-scholes 2.0.0" in sentence


def test_a_digest_that_does_not_match_is_refused() -> None:
    done = run("serve", "--port", "0", "--admin-port", "0", PINN_SERVER_MODEL_DIGEST="sha256:" + "0" * 64)
    assert done.returncode == 1
    assert "not sha256:000" in _only_event(done.stderr)


def test_why_it_cannot_start_is_left_where_kubectl_describe_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "termination-log"
    monkeypatch.setattr(server_module, "TERMINATION_LOG", log)
    explain(ModelError("nobody asked for a file where there is none"))
    assert not log.exists()
    log.touch()
    explain(ModelError("the model is damaged"))
    assert log.read_text() == "the model is damaged\n"


def test_a_bad_setting_is_named_and_an_unknown_one_only_logged() -> None:
    done = run("serve", PINN_SERVER_PORT="eighty", PINN_SERVER_DRAIN="5")
    assert done.returncode == 1
    assert "PINN_SERVER_PORT is 'eighty'" in done.stderr
    assert "PINN_SERVER_DRAIN is '5'" in done.stderr
    with ServerProcess.started(colour="blue") as server:
        assert "PINN_SERVER_COLOUR" in server.log[0]["event"]


def test_the_log_holds_nothing_but_the_servers_own_lines() -> None:
    with ServerProcess.started(drain="0") as server:
        server.terminate()
        assert server.wait() == 0
        assert server.process.stderr is not None
        rest = [json.loads(line)["event"] for line in server.process.stderr]
    assert [line["event"] for line in server.log] == ["serving"]
    assert rest == ["stopped"]


def test_serving_imports_neither_tensorflow_nor_scipy() -> None:
    with ServerProcess.started() as server:
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "litert" in maps
    assert "site-packages/tensorflow" not in maps
    assert "site-packages/scipy/" not in maps


def test_a_model_in_a_folder_of_ones_own_is_served(tmp_path: Path, models: Path) -> None:
    shutil.copytree(models / "black-scholes/1.0.0", tmp_path / "mine")
    with (
        ServerProcess.started("--model-uri", f"file://{tmp_path}/mine", "--model-version", "blue") as server,
        server.client() as client,
    ):
        assert client.post("/predict", json=OPTION).json()["model"]["version"] == "blue"


async def _until(condition, seconds: float = 20) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def _only_event(log: str) -> str:
    (line,) = log.splitlines()
    return str(json.loads(line)["event"])


def test_a_server_for_people_says_how_to_ask_it_and_the_line_works(
    capsys: pytest.CaptureFixture[str], server: ServerProcess
) -> None:
    """Wherever its output goes: `make serve` may be read in a log."""
    settings = Settings(log_format="console", host="127.0.0.1")
    model = assembly.load(assembly.fetch(settings), settings, Metrics())
    server_module._announce(settings, model, server.port, server.port + 1)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "curl" in line]
    _curl, _silent, url, _data, body = shlex.split(line)
    problem = model.predictor.problem
    solved, _ = problem.solve(problem.parse(json.loads(body)))
    assert httpx.post(url, content=body).json()["price"] == pytest.approx(solved[0], abs=1e-4)
