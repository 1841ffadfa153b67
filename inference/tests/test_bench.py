"""`pinn-server bench` against a server double whose cache, speed and memory the test decides, and against a real server."""

import itertools
import json
import random
import signal
import socket
import subprocess
import sys
import threading
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pinn_inference import bench
from pinn_inference.drawing import Drawing

from .process import ENVIRONMENT, eventually


@dataclass
class Double:
    """Answers like a server. Rounded rate and volatility stand for bins, each remembered when `caches`."""

    caches: bool = True
    status: int = 200
    grows_mib: float = 0.0
    seen: set[tuple[float, ...]] = field(default_factory=set)
    sources: set[str | None] = field(default_factory=set)
    asked: int = 0
    describes: bool = True
    tells: str = "process_resident_memory_bytes"

    def described(self) -> dict[str, Any]:
        """Two numbers, a multiple and a choice, as a server would say it."""
        numbers = {"strike": [1e-6, 1e9], "rate": [0.0, 0.1], "volatility": [0.05, 0.6]}
        properties: dict[str, Any] = {name: {"x-trained": ends} for name, ends in numbers.items()}
        properties["rate"]["x-moves"], properties["volatility"]["x-moves"] = 0.01, 0.02
        properties["spot"] = {"x-trained": [0.5, 2.0], "x-trained-per": "strike"}
        properties["kind"] = {"enum": ["call", "put"]}
        return {"components": {"schemas": {"Question": {"properties": properties if self.describes else {}}}}}

    def predict(self, option: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        key = (round(option["spot"]), round(option["strike"]), round(option["rate"], 3), round(option["volatility"], 2))
        method = "cache" if self.caches and key in self.seen else "model"
        self.seen.add(key)
        return {"price": 1.0, "method": method, "model": {"name": "double", "version": "1"}}

    def metrics(self) -> str:
        resident = 80 * 2**20 + self.grows_mib * 2**20 * self.asked / 1000
        return f"# TYPE {self.tells} gauge\n{self.tells} {resident}\n"


@contextmanager
def served(double: Double) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            option = json.loads(self.rfile.read(int(self.headers["content-length"])))
            double.sources.add(self.headers["pinn-source"])
            self._answer(double.status, json.dumps(double.predict(option)))

        def do_GET(self) -> None:
            if self.path == "/openapi.json":
                self._answer(200, json.dumps(double.described()))
            elif self.path == "/metrics":
                self._answer(200, double.metrics())
            else:
                self._answer(404, "Not Found")

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def measured(double: Double, admin: bool = True) -> dict[str, Any]:
    with served(double) as url:
        return bench.measure(bench.Target(url, url if admin else None), 100)


def arguments(url: str | None, **given: Any) -> Namespace:
    return Namespace(**{"url": url, "admin_url": url, "iterations": 100, "json": True, "compare": None, **given})


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> "Clock":
    """A tenth of a millisecond passes with each look at the clock, however busy the machine is."""
    clock = Clock()
    monkeypatch.setattr(bench, "perf_counter", clock)
    return clock


@dataclass
class Clock:
    step: float = 0.0001
    looks: Iterator[int] = field(default_factory=itertools.count)

    def __call__(self) -> float:
        return next(self.looks) * self.step


@pytest.fixture(autouse=True)
def _keep_the_signal_handlers() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_server_that_caches_and_stays_small_passes_all_four_scenarios() -> None:
    document = measured(double := Double())
    assert document["passed"] is True
    assert {name: s["passed"] for name, s in document["scenarios"].items()} == dict.fromkeys(bench.SCENARIOS, True)
    assert document["server"]["model"] == {"name": "double", "version": "1"}
    assert double.sources == {"probe"}


def test_the_document_has_the_figures_that_are_documented() -> None:
    scenarios = measured(Double())["scenarios"]
    spread = {"count", "p50", "p90", "p95", "p99", "max", "mean"}
    assert scenarios["cache"]["hit_ms"].keys() == scenarios["cache"]["miss_ms"].keys() == spread
    assert scenarios["hit_rate"]["latency_ms"].keys() == scenarios["concurrency"]["latency_ms"].keys() == spread
    assert scenarios["concurrency"]["calls"] == 100
    assert scenarios["memory"]["predictions"] == 1000


def test_a_server_without_a_cache_fails_and_says_that_no_answer_was_a_hit() -> None:
    scenarios = measured(Double(caches=False))["scenarios"]
    assert scenarios["cache"]["passed"] is False
    assert scenarios["cache"]["hit_ms"] == {"count": 0}
    assert "hit_p95_ms is missing: no answer was of that kind" in scenarios["cache"]["reasons"]
    assert scenarios["hit_rate"]["reasons"] == ["hit_rate is 0, at least 0.8 is asked for"]


def test_memory_that_grows_by_more_than_fifty_mib_fails() -> None:
    memory = measured(Double(grows_mib=60))["scenarios"]["memory"]
    assert memory["growth_MiB"] == pytest.approx(60, abs=0.1)
    assert memory["reasons"] == ["growth_MiB is 60, under 50 is asked for"]


def test_without_an_admin_port_memory_is_skipped_and_fails_nothing() -> None:
    document = measured(Double(), admin=False)
    assert document["passed"] is True
    assert document["scenarios"]["memory"]["passed"] is None
    assert document["scenarios"]["memory"]["reasons"] == ["give --admin-url to judge it"]


@pytest.mark.parametrize(
    ("admin", "said"),
    [
        ("http://127.0.0.1:1", "http://127.0.0.1:1/metrics does not answer"),
        ("{url}/metrics", "{url}/metrics/metrics answers 404"),
        ("127.0.0.1:8081", "'127.0.0.1:8081' is no address"),
        ("http://127.0.0.1:99999", "'http://127.0.0.1:99999' is no address (Port out of range"),
    ],
)
def test_an_admin_url_at_which_nothing_can_be_read_is_a_sentence_with_the_remedy_and_1(
    admin: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(double := Double()) as url:
        assert bench.run(arguments(url, admin_url=admin.format(url=url))) == 1
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith(said.format(url=url))
        assert "such as http://127.0.0.1:8081" in told.err
    assert double.asked == 1, "before minutes of measuring"


def test_an_admin_url_of_something_else_is_a_sentence_with_the_remedy_and_1(capsys: pytest.CaptureFixture[str]) -> None:
    with served(Double(tells="go_goroutines")) as url:
        assert bench.run(arguments(url)) == 1
    assert f"{url}/metrics tells no process_resident_memory_bytes; give --admin-url" in capsys.readouterr().err


def test_a_server_started_here_that_does_not_tell_its_memory_is_skipped() -> None:
    """Not every system has it."""
    with served(Double(tells="go_goroutines")) as url:
        memory = bench.measure(bench.Target(url, url, started_here=True), 100)["scenarios"]["memory"]
    assert (memory["passed"], memory["reasons"]) == (None, [f"no process_resident_memory_bytes at {url}"])


def test_a_slow_server_fails_on_its_latencies(clock: Clock) -> None:
    clock.step = 1.0
    scenarios = measured(Double())["scenarios"]
    broken = [reason.split(" is ")[0] for scenario in scenarios.values() for reason in scenario["reasons"]]
    assert broken == ["hit_p95_ms", "miss_p95_ms", "throughput_per_s", "latency_p95_ms"]


@pytest.mark.parametrize(("caches", "code"), [(True, 0), (False, 1)])
def test_the_exit_code_is_0_only_when_all_passed(caches: bool, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with served(Double(caches=caches)) as url:
        assert bench.run(arguments(url)) == code
    assert json.loads(capsys.readouterr().out)["passed"] is caches


def test_a_refused_call_ends_the_run_with_a_sentence_and_1(capsys: pytest.CaptureFixture[str]) -> None:
    with served(Double(status=429)) as url:
        assert bench.run(arguments(url)) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"{url} answers 429")


def test_a_server_that_does_not_say_what_may_be_asked_is_a_sentence_and_1(capsys: pytest.CaptureFixture[str]) -> None:
    with served(Double(describes=False)) as url:
        assert bench.run(arguments(url)) == 1
    assert f"{url}/openapi.json cannot be used: it describes no inputs" in capsys.readouterr().err


def test_questions_lie_well_inside_the_ranges_and_move_no_farther_than_is_said() -> None:
    drawing, draw = Drawing(Double().described()), random.Random(1)
    for _ in range(200):
        question = drawing.question(draw)
        assert 0.7 <= question["spot"] / question["strike"] <= 1.8
        assert 10 <= question["strike"] <= 1000
        assert 0.015 <= question["rate"] <= 0.085
        assert question["kind"] in {"call", "put"}
        moved = drawing.moved(question, draw)
        assert abs(moved.pop("rate") / question.pop("rate") - 1) <= 0.01
        assert abs(moved.pop("volatility") / question.pop("volatility") - 1) <= 0.02
        assert moved == question


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x",
        "nonsense",
        "http://127.0.0.1:1",
        "http://h:99999",
        "http://h:abc",
        "http://[::1",
        "http://" + "h" * 70,
    ],
)
def test_no_server_is_a_sentence_and_1(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.run(arguments(url)) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_percentiles_are_nearest_ranks_in_milliseconds() -> None:
    spread = bench.percentiles([i / 1000 for i in range(1, 201)])
    assert spread == {"count": 200, "p50": 100, "p90": 180, "p95": 190, "p99": 198, "max": 200, "mean": 100.5}
    assert bench.percentiles([]) == {"count": 0}
    assert bench.percentiles([0.001, 0.002, 0.007])["p50"] == 2


def scaled(document: dict[str, Any], change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(document))
    change(copy["scenarios"])
    return copy


def test_a_figure_more_than_a_fifth_worse_is_a_regression_in_either_direction() -> None:
    now = measured(Double())

    def change(scenarios: dict[str, Any]) -> None:
        scenarios["cache"]["hit_ms"]["p95"] /= 1.3
        scenarios["cache"]["miss_ms"]["p50"] /= 1.1
        scenarios["concurrency"]["throughput_per_s"] *= 1.4
        scenarios["hit_rate"]["hit_rate"] = 0.1

    found = bench.regressions(scaled(now, change), now)
    assert [sentence.split(" is ")[0] for sentence in found] == ["cache hit p95", "concurrent throughput"]


def test_what_one_of_two_runs_did_not_measure_is_not_compared() -> None:
    now = measured(Double(), admin=False)
    before = scaled(now, lambda scenarios: scenarios.update(memory={"passed": True, "after_MiB": 1.0}))
    assert bench.regressions(before, now) == []


def test_compare_prints_what_is_worse_and_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier = tmp_path / "earlier.json"
    with served(Double()) as url:
        assert bench.run(arguments(url)) == 0
        document = json.loads(capsys.readouterr().out)
        document["scenarios"]["memory"]["after_MiB"] /= 2
        document["scenarios"] = {"memory": document["scenarios"]["memory"]}
        earlier.write_text(json.dumps(document))
        assert bench.run(arguments(url, json=False, compare=earlier)) == 1
        lines = capsys.readouterr().out.splitlines()
        assert bench.run(arguments(url, compare=earlier)) == 1
        document = json.loads(capsys.readouterr().out)
    assert "worse    resident memory is 80, was 40 (+100%)" in lines
    assert lines[-1] == "FAILED"
    assert (document["passed"], len(document["regressions"])) == (False, 1)


@pytest.mark.parametrize("content", ["[]", "{}", '{"schema": 2, "scenarios": {}}', "no JSON", None])
def test_a_file_that_is_no_result_is_refused_before_anything_is_measured(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "earlier.json"
    if content is not None:
        path.write_text(content)
    double = Double()
    with served(double) as url:
        assert bench.run(arguments(url, compare=path)) == 1
    assert str(path) in capsys.readouterr().err
    assert double.asked == 0


def test_the_table_names_each_scenario_with_its_verdict() -> None:
    text = bench.table(measured(Double(caches=False), admin=False))
    assert "FAILED   cache hit against miss" in text
    assert "passed   10 workers, 10 calls each, at once" in text
    assert "skipped  memory over 1,000 predictions" in text
    assert text.splitlines()[-1] == "FAILED"


def test_fewer_than_a_hundred_iterations_are_refused() -> None:
    assert bench.iterations("100") == 100
    for text in ("99", "-5", "1.5", "many"):
        with pytest.raises(ArgumentTypeError, match="at least 100"):
            bench.iterations(text)


def test_without_a_url_it_starts_a_server_and_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    bench.run(arguments(None))
    document = json.loads(capsys.readouterr().out)
    assert document["server"]["started_here"] is True
    assert document["scenarios"]["concurrency"]["calls"] == 100
    assert document["scenarios"]["memory"]["growth_MiB"] is not None
    port = int(document["server"]["url"].rsplit(":", 1)[1])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_server_that_cannot_start_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PINN_SERVER_MODEL_VERSION", "9.9.9")
    assert bench.run(arguments(None)) == 1
    assert "the server did not start: model black-scholes 9.9.9" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_cut_short_leaves_no_server_behind(number: signal.Signals) -> None:
    code = (
        "import signal, sys; from argparse import Namespace; from pinn_inference import bench\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background inherits that it is ignored\n"
        "given = Namespace(url=None, admin_url=None, iterations=1000000, json=True, compare=None)\n"
        "sys.exit(bench.run(given))"
    )
    run = subprocess.Popen([sys.executable, "-c", code], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    try:
        assert run.stderr is not None
        assert run.stderr.readline().startswith("1/4")
        (server,) = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        run.send_signal(number)
        assert run.wait(20) != 0
        eventually(lambda: not Path(f"/proc/{server}").exists())
    finally:
        run.kill()
        run.wait()
        assert run.stderr is not None
        run.stderr.close()
