"""What the server counts. The names are a contract with the operator, the alerts and the dashboard."""

from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from pinn_inference.artifacts.source import Artifact

Outcome = Literal["ok", "refused", "error"]
Source = Literal["live", "shadow", "probe", "warmup"]
SOURCES: Final[tuple[Source, ...]] = ("live", "shadow", "probe", "warmup")
BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.6, 1.0, 2.0, 5.0)


class Metrics:
    """A registry of its own, so that two servers in one process (in tests) do not share counts."""

    def __init__(self, artifact: Artifact) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "pinn_requests",
            "Calls of /predict, however many items each carries: ok, refused (the caller's mistake, 4xx) or error (5xx)",
            ("outcome", "source"),
            registry=self.registry,
        )
        self.latency = Histogram(
            "pinn_prediction_latency_seconds",
            "From the parsed head of a /predict call to its answer, by how the answer was made",
            ("method",),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.errors = Counter(
            "pinn_prediction_errors", "Valid questions left without an answer", ("error_type",), registry=self.registry
        )
        self.violations = Counter(
            "pinn_physics_violations",
            "Answers beyond the tolerance the model's manifest states, by invariant",
            ("invariant",),
            registry=self.registry,
        )
        info = Gauge(
            "pinn_model_info", "The model served, always 1", ("name", "version", "digest"), registry=self.registry
        )
        info.labels(artifact.name, artifact.version, artifact.digest).set(1)
        self._start_at_zero(tuple(artifact.manifest.tolerances))

    def count(self, outcome: Outcome, source: Source) -> None:
        """One call of /predict."""
        self._requests[outcome, source].inc()

    def observe(self, seconds: float) -> None:
        """The latency of one answered call."""
        self._model_latency.observe(seconds)

    def text(self) -> bytes:
        """The exposition in Prometheus' text format."""
        return generate_latest(self.registry)

    def _start_at_zero(self, invariants: tuple[str, ...]) -> None:
        """A series that appears with its first event hides that event from rate(): so all exist from the start."""
        outcomes: tuple[Outcome, ...] = ("ok", "refused", "error")
        self._requests = {(o, s): self.requests.labels(o, s) for o in outcomes for s in SOURCES}
        self._model_latency = self.latency.labels("model")
        for error_type in ("non_finite", "internal"):
            self.errors.labels(error_type)
        for invariant in invariants:
            self.violations.labels(invariant)
