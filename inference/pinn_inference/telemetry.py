"""Traces and metrics for an OpenTelemetry collector: an option, and nothing of it is imported where no collector is named.

It is set up as every OpenTelemetry program is, by OTEL_EXPORTER_OTLP_ENDPOINT and its like; OTEL_TRACES_SAMPLER says how many
calls are traced. A call is one span, of the trace that its caller began. The metrics are those of /metrics, under the same
names: who counts once cannot count differently.
"""

import asyncio
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Metric as Family

from pinn_inference import __version__, tracing
from pinn_inference.api.http import Answer, Endpoint, Request, Routes
from pinn_inference.errors import RequestError, SettingsError
from pinn_inference.monitoring import Metrics

SCOPE: Final = InstrumentationScope("pinn_inference", __version__)
INTERVAL: Final = "OTEL_METRIC_EXPORT_INTERVAL"
EVERY_MS: Final = "60000"
"""Between two exports of the metrics, where INTERVAL does not say: the specification's default."""

CLOSING: Final = 2.0
"""Seconds that the last spans and metrics may take when the server ends; a collector that is away must not hold it."""

THREADS: Final = 3
"""For metrics that are on their way when the server ends, and for the last ones and the last spans."""

_PROPAGATOR: Final = TraceContextTextMapPropagator()


class Telemetry:
    """What is sent to a collector. Calls never wait for it: spans beyond a bounded queue are dropped.

    Traces, metrics or both, by what the environment names a collector for. `label` says which model is in use. Sending has
    threads of its own: whoever ends a loop waits for the loop's.
    """

    def __init__(
        self, metrics: Metrics, label: Callable[[], Mapping[str, str]], spans: SpanProcessor | None = None
    ) -> None:
        """Raises SettingsError where the environment says no interval."""
        self._every = _interval(os.environ.get(INTERVAL) or EVERY_MS)
        ours = Resource({"service.name": "pinn-server", "service.version": __version__})
        self._resource = ours.merge(
            OTELResourceDetector().detect()
        )  # what OTEL_SERVICE_NAME and the like say comes first
        self.traces = tracing.collected("TRACES")
        self._provider = TracerProvider(resource=self._resource, shutdown_on_exit=False)
        if self.traces:
            self._provider.add_span_processor(spans or BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(SCOPE.name, SCOPE.version)
        self._metrics, self._label = metrics, label
        self._began = time.time_ns()
        self._exporter = OTLPMetricExporter() if tracing.collected("METRICS") else None
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="telemetry")

    def traced(self, routes: Routes) -> Routes:
        """The same routes, each call a span."""
        if not self.traces:
            return routes
        return {
            path: {method: self._spanned(f"{method} {path}", method, path, inner) for method, inner in methods.items()}
            for path, methods in routes.items()
        }

    async def watch(self) -> None:
        """Sends the metrics again and again, without end where there is somebody to send them to."""
        while self._exporter is not None:
            await asyncio.sleep(self._every)
            await self.send_metrics()

    async def send_metrics(self) -> None:
        """Sends them once: read on the loop's thread, sent from another. The library logs what fails."""
        if self._exporter is not None:
            await self._in_thread(partial(self._exporter.export, self.data()))

    async def close(self) -> None:
        """Sends what is left, for a moment at most; nobody waits for a thread that waits for the collector."""
        flush = partial(self._provider.force_flush, int(CLOSING * 1000))
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                await asyncio.gather(self.send_metrics(), self._in_thread(flush))
        self._threads.shutdown(wait=False, cancel_futures=True)

    def data(self) -> MetricsData:
        """The metrics as they are now."""
        now = time.time_ns()
        found = [one for family in self._metrics.families() for one in _converted(family, self._began, now)]
        scope = ScopeMetrics(SCOPE, found, schema_url="")
        return MetricsData([ResourceMetrics(self._resource, [scope], schema_url="")])

    async def _in_thread(self, work: Callable[[], object]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _spanned(self, name: str, method: str, path: str, inner: Endpoint) -> Endpoint:
        route = {"http.request.method": method, "http.route": path}

        async def endpoint(request: Request) -> Answer:
            attributes = {**route, **{f"pinn.model.{key}": value for key, value in self._label().items()}}
            with self._tracer.start_as_current_span(
                name,
                _callers(request),
                SpanKind.SERVER,
                attributes,
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                _note(request, span)
                try:
                    answer = await inner(request)
                except Exception as error:
                    _failed(span, error)
                    raise
                span.set_attribute("http.response.status_code", answer.status)
                if answer.made:
                    span.set_attribute("pinn.method", answer.made)
                return answer

        return endpoint


def _interval(said: str) -> float:
    """Seconds of so many milliseconds, a tenth at least. Raises SettingsError."""
    try:
        milliseconds = float(said)
    except ValueError:
        milliseconds = math.nan
    if not math.isfinite(milliseconds):
        raise SettingsError(f"{INTERVAL} is {said!r}: must be a number of milliseconds such as {EVERY_MS}")
    return max(milliseconds / 1000, 0.1)


def _callers(request: Request) -> Context:
    """The trace that the caller began; a new one where it began none."""
    stated = {name: value for name in ("traceparent", "tracestate") if (value := request.headers.get(name))}
    return _PROPAGATOR.extract(stated)


def _note(request: Request, span: Span) -> None:
    """Log lines of this call name its span."""
    if isinstance(request, tracing.Traced):
        context = span.get_span_context()
        request.trace = tracing.of_span(request.headers, f"{context.trace_id:032x}", f"{context.span_id:016x}")


def _failed(span: Span, error: Exception) -> None:
    """A caller's mistake is an answer, not a failure of the server."""
    if isinstance(error, RequestError):
        span.set_attribute("http.response.status_code", error.status)
        return
    span.set_attribute("http.response.status_code", getattr(error, "status", 500))
    span.set_attribute("error.type", getattr(error, "error_type", type(error).__name__))
    span.set_status(Status(StatusCode.ERROR, str(error)))


def _converted(family: Family, began: int, now: int) -> Iterable[Metric]:
    """A family of prometheus_client as OpenTelemetry has it; nothing of one without a sample."""
    if family.type == "histogram":
        points: Any = _histograms(family, began, now)
        data: Any = Histogram(points, AggregationTemporality.CUMULATIVE)
    elif family.type == "counter":
        points = [
            NumberDataPoint(dict(sample.labels), began, now, float(sample.value))
            for sample in family.samples
            if sample.name.endswith("_total")
        ]
        data = Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)
    else:
        points = [NumberDataPoint(dict(sample.labels), now, now, float(sample.value)) for sample in family.samples]
        data = Gauge(points)
    if points:
        yield Metric(family.name, family.documentation, family.unit, data)


def _histograms(family: Family, began: int, now: int) -> list[HistogramDataPoint]:
    found: dict[frozenset[tuple[str, str]], _Buckets] = {}
    for sample in family.samples:
        labels = {key: value for key, value in sample.labels.items() if key != "le"}
        buckets = found.setdefault(frozenset(labels.items()), _Buckets(labels, [], []))
        if sample.name.endswith("_bucket"):
            buckets.bounds.append(float(sample.labels["le"]))
            buckets.cumulative.append(int(sample.value))
        elif sample.name.endswith("_sum"):
            buckets.total = sample.value
    return [buckets.point(began, now) for buckets in found.values()]


@dataclass
class _Buckets:
    """One histogram, counted as Prometheus does: each bucket has those below it, too."""

    labels: dict[str, str]
    bounds: list[float]
    cumulative: list[int]
    total: float = 0.0

    def point(self, began: int, now: int) -> HistogramDataPoint:
        counts = [after - before for before, after in pairwise([0, *self.cumulative])]
        return HistogramDataPoint(
            self.labels,
            began,
            now,
            self.cumulative[-1],
            self.total,
            counts,
            self.bounds[:-1],
            min=None,  # type: ignore[arg-type]  # nobody kept them; the wire has room for that, the type has not
            max=None,  # type: ignore[arg-type]
        )
