"""What a collector is sent by a real server: spans of its callers' traces, and the metrics of /metrics under the same names."""

import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pinn_inference import tracing

from .process import ENVIRONMENT, ServerProcess, eventually, run

QUESTION = {"spot": 100, "strike": 105, "maturity": 0.5, "rate": 0.03, "volatility": 0.2, "kind": "put"}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@dataclass
class Collector:
    """Keeps what it is sent, uncompressed, over OTLP/HTTP."""

    url: str = ""
    spans: list[Any] = field(default_factory=list)
    metrics: list[Any] = field(default_factory=list)
    resource: dict[str, str] = field(default_factory=dict)

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resource = _attributes(resource.resource.attributes)
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        else:
            for each in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.metrics = [metric for scope in each.scope_metrics for metric in scope.metrics]

    def span(self, name: str) -> Any:
        return next((span for span in self.spans if span.name == name), None)


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@pytest.fixture
def collector() -> Iterator[Collector]:
    kept = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.take(self.path, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield kept
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def observed(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    for name, value in {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "OTEL_SERVICE_NAME": "option-pricer",
    }.items():
        monkeypatch.setitem(ENVIRONMENT, name, value)
    with ServerProcess.started(drain="0s") as server:
        yield server


def test_a_call_is_a_span_of_the_trace_that_its_caller_began(collector: Collector, observed: ServerProcess) -> None:
    with observed.client() as client:
        answer = client.post("/predict", json=QUESTION, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert answer.status_code == 200
    eventually(lambda: collector.span("POST /predict"), 30)
    span = collector.span("POST /predict")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    told = _attributes(span.attributes)
    assert told["http.response.status_code"] == 200
    assert told["pinn.method"] == "model"
    assert (told["pinn.model.name"], told["pinn.model.version"]) == ("black-scholes", "2.0.0")
    assert collector.resource["service.name"] == "option-pricer"
    assert collector.resource["service.version"]


def test_a_callers_mistake_is_no_error_of_the_server(collector: Collector, observed: ServerProcess) -> None:
    with observed.client() as client:
        assert client.post("/predict", json={"spot": -1}).status_code == 400
    eventually(lambda: collector.span("POST /predict"), 30)
    span = collector.span("POST /predict")
    assert span.status.code == 0
    assert _attributes(span.attributes)["http.response.status_code"] == 400


def test_the_metrics_are_those_of_the_admin_port(collector: Collector, observed: ServerProcess) -> None:
    with observed.client() as client:
        for _ in range(3):
            client.post("/predict", json=QUESTION)

    def live() -> float:
        points: list[float] = [
            point.as_double
            for metric in collector.metrics
            if metric.name == "pinn_requests"
            for point in metric.sum.data_points
            if _attributes(point.attributes) == {"outcome": "ok", "source": "live"}
        ]
        return sum(points)

    eventually(lambda: live() == 3, 30)
    told = {metric.name: metric for metric in collector.metrics}
    there = {name.partition("{")[0] for name in observed.metrics()}
    assert {name for name, metric in told.items() if metric.WhichOneof("data") == "gauge"} <= there
    assert {f"{name}_bucket" for name, metric in told.items() if metric.WhichOneof("data") == "histogram"} <= there
    latency = [
        point
        for point in told["pinn_prediction_latency_seconds"].histogram.data_points
        if _attributes(point.attributes)["source"] == "live"
    ]
    assert sum(point.count for point in latency) == 3
    assert all(sum(point.bucket_counts) == point.count for point in latency)
    assert all(len(point.bucket_counts) == len(point.explicit_bounds) + 1 for point in latency)


def test_what_is_left_is_sent_when_the_server_ends(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENT, "OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setitem(ENVIRONMENT, "OTEL_BSP_SCHEDULE_DELAY", "600000")
    with ServerProcess.started(drain="0s") as server:
        with server.client() as client:
            client.post("/predict", json=QUESTION)
        assert collector.span("POST /predict") is None
        server.terminate()
        assert server.wait() == 0
    assert collector.span("POST /predict")
    assert collector.metrics


def test_calls_are_answered_while_the_collector_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENT, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(ENVIRONMENT, "OTEL_METRIC_EXPORT_INTERVAL", "100")
    with ServerProcess.started(drain="0s") as server:
        with server.client() as client:
            assert all(client.post("/predict", json=QUESTION).status_code == 200 for _ in range(20))
        server.terminate()
        assert server.wait() == 0


def test_a_collector_that_never_answers_does_not_hold_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setitem(ENVIRONMENT, "OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with ServerProcess.started(drain="0s") as server:
            with server.client() as client:
                assert all(client.post("/predict", json=QUESTION).status_code == 200 for _ in range(3))
            server.terminate()
            assert server.wait(6) == 0


@pytest.mark.parametrize(
    ("environment", "traces", "metrics"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector:4318/v1/metrics"}, False, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_METRICS_EXPORTER": "none"}, True, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False, False),
        ({}, False, False),
    ],
)
def test_what_no_collector_is_named_for_is_not_sent(
    environment: dict[str, str], traces: bool, metrics: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library would send it to this machine, in vain and for ever."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (tracing.collected("TRACES"), tracing.collected("METRICS")) == (traces, metrics)


def test_metrics_alone_are_sent_without_a_span_a_call(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENT, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{collector.url}/v1/metrics")
    monkeypatch.setitem(ENVIRONMENT, "OTEL_METRIC_EXPORT_INTERVAL", "50")
    with ServerProcess.started(drain="0s") as server:
        with server.client() as client:
            assert client.post("/predict", json=QUESTION).status_code == 200
        eventually(lambda: collector.metrics, 30)
        server.terminate()
        assert server.wait() == 0
    assert collector.span("POST /predict") is None


def test_a_span_names_the_model_in_use_after_a_reload(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, models: Path, tmp_path: Path
) -> None:
    monkeypatch.setitem(ENVIRONMENT, "OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setitem(ENVIRONMENT, "OTEL_BSP_SCHEDULE_DELAY", "50")
    coarse, fine = (models / "black-scholes" / version for version in ("1.0.0", "2.0.0"))
    folder = shutil.copytree(coarse, tmp_path / "model")
    with ServerProcess.started(model_uri=f"file://{folder}", admin_token="sesame") as server:
        with server.client() as client:
            client.post("/predict", json=QUESTION)
            shutil.copytree(fine, folder, dirs_exist_ok=True)
            httpx.post(f"{server.admin}/reload", headers={"authorization": "Bearer sesame"}, timeout=10)
            client.post("/predict", json=QUESTION)
        eventually(lambda: len(collector.spans) == 2, 30)
    told = [_attributes(span.attributes)["pinn.model.digest"] for span in collector.spans]
    assert told == [json.loads((model / "manifest.json").read_text())["digest"] for model in (coarse, fine)]


def test_a_server_without_a_collector_has_not_imported_the_library() -> None:
    said = (
        "import sys, pinn_inference.service; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", said], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("interval", ["1m", "nan", "inf"])
def test_an_interval_that_is_none_is_one_sentence_at_the_start(interval: str) -> None:
    said = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_METRIC_EXPORT_INTERVAL": interval}
    done = run("serve", "--host", "127.0.0.1", "--port", "0", "--admin-port", "0", **said)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    sentence = f"OTEL_METRIC_EXPORT_INTERVAL is {interval!r}: must be a number of milliseconds such as 60000"
    assert json.loads(line)["event"] == sentence
