"""What the server counts. The names are a contract with the operator, the alerts and the dashboard.

Counts are plain integers on the event loop's thread and become metrics when they are read: a counter of the client library
costs a lock each time, and a request has ten of them. One call is one event, however many items it carries; gates count
`live` calls only.
"""

import ctypes
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from statistics import fmean
from typing import Any, Final, Literal

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from pinn_inference.engines import devices
from pinn_inference.fallback import REASONS
from pinn_inference.logs import event

Outcome = Literal["ok", "refused", "overloaded", "error"]
Source = Literal["live", "shadow", "probe", "warmup"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("ok", "refused", "overloaded", "error")
SOURCES: Final[tuple[Source, ...]] = ("live", "shadow", "probe", "warmup")
METHODS: Final = ("cache", "model", "solver")
"""How an item is made, the quickest first."""
ENDINGS: Final = (*METHODS, "none")
"""How a call's slowest item was made; none: no answer within the time limit."""
ERROR_TYPES: Final = ("internal", "non_finite", "physics_violation", "model_error", "gpu_error", "gpu_oom", "timeout")
BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.6, 1.0, 2.0, 5.0)
LAG_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

GPU_EVERY: Final = 1.0
"""Seconds between two looks at a GPU; NVML tells of a sixth of a second to a second before each."""
GPU_WINDOW: Final = 15.0
"""Seconds whose mean is told: what is read every ten or fifteen seconds misses nothing."""


class Tally:
    """Counts by label values; those that are known exist from the start, at zero: a series that appears with its first event
    hides that event from rate()."""

    def __init__(self, *known: tuple[str, ...]) -> None:
        self.counts: dict[tuple[str, ...], int] = dict.fromkeys(known, 0)

    def add(self, labels: tuple[str, ...], count: int = 1) -> None:
        """So many more events."""
        try:
            self.counts[labels] += count
        except KeyError:
            self.counts[labels] = count


class Distribution:
    """A histogram: how many observations up to each bound, and their sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """One observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def cumulative(self) -> tuple[list[tuple[str, float]], float]:
        """(bound, count up to it) as Prometheus counts, and the sum."""
        total, found = 0, []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found, self._sum


class Nvml:
    """NVIDIA's management library, as far as it says how busy a device is. OSError: it is missing, or has no answer."""

    def __init__(self, library: Any = None) -> None:
        self._library = library or ctypes.CDLL("libnvidia-ml.so.1")
        self._call("nvmlInit_v2")

    def busy(self, name: str) -> float:
        """The share of the last moment in which a kernel ran on the device, from 0 to 1. `name` is as CUDA has it: a UUID, or a
        number. A MIG slice has no such share."""
        handle, rates = ctypes.c_void_p(), (ctypes.c_uint * 2)()
        if name.isdecimal():
            self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(int(name)), ctypes.byref(handle))
        else:
            self._call("nvmlDeviceGetHandleByUUID", name.encode(), ctypes.byref(handle))
        self._call("nvmlDeviceGetUtilizationRates", handle, ctypes.byref(rates))
        return rates[0] / 100

    def _call(self, function: str, *arguments: Any) -> None:
        if code := getattr(self._library, function)(*arguments):
            raise OSError(f"{function} answers {code}")


class GpuUse:
    """How busy each GPU of this server was of late; nothing of one of which there is no news.

    Asked in a thread of its own, from the first reading on: a driver whose device has gone may never answer.
    """

    def __init__(
        self,
        names: Sequence[str],
        opened: Callable[[], Nvml] = Nvml,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._opened, self._now = opened, now
        self._looks: Mapping[str, deque[tuple[float, float]]] = {
            name: deque(maxlen=int(GPU_WINDOW / GPU_EVERY)) for name in names
        }
        self._thread: threading.Thread | None = None

    def shares(self) -> list[tuple[str, float]]:
        """(device, share of the time it was busy, from 0 to 1)."""
        if self._looks and self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="gpu-use", daemon=True)
            self._thread.start()
        since = self._now() - GPU_WINDOW
        looks = {name: [share for at, share in tuple(of) if at >= since] for name, of in self._looks.items()}
        return [(name, fmean(found)) for name, found in looks.items() if found]

    def _watch(self) -> None:
        try:
            nvml = self._opened()
        except (OSError, AttributeError) as error:
            event("how busy the GPUs are is not known", reason=str(error))
            return
        while True:
            self.look(nvml)
            time.sleep(GPU_EVERY)

    def look(self, nvml: Nvml) -> None:
        """One look at each device."""
        for name, looks in self._looks.items():
            with suppress(OSError, AttributeError):
                looks.append((self._now(), nvml.busy(name)))


class Gauges:
    """What is read when metrics are asked for. The server fills it in when a model is loaded."""

    def __init__(self) -> None:
        self.in_flight: Callable[[], int] = lambda: 0
        self.turned_away: Callable[[], int] = lambda: 0
        self.cache: Callable[[], tuple[int, int, int]] = lambda: (0, 0, 0)
        self.model: Callable[[], tuple[str, str, str] | None] = lambda: None
        self.model_cache: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self.reloads: Callable[[], Iterable[tuple[str, int]]] = lambda: ()
        self.gpus: Callable[[], Iterable[tuple[str, float]]] = GpuUse(devices.gpus()).shares


class Metrics:
    """Everything counted by one server. A registry of its own, so that two servers in one process do not share counts."""

    def __init__(self) -> None:
        self.gauges = Gauges()
        self.requests = Tally(*((o, s) for o in OUTCOMES for s in SOURCES))
        self.items = Tally(*((m, s) for m in METHODS for s in SOURCES))
        self.hits = Tally(*((s,) for s in SOURCES))
        self.misses = Tally(*((s,) for s in SOURCES))
        self.fallbacks = Tally(*((r, s) for r in REASONS for s in SOURCES))
        self.fallback_calls = Tally(*((s,) for s in SOURCES))
        self.errors = Tally(*((e, s) for e in ERROR_TYPES for s in SOURCES))
        self.violations = Tally()
        self.latency: Mapping[tuple[str, str], Distribution] = {
            (method, source): Distribution(BUCKETS) for method in ENDINGS for source in SOURCES
        }
        self.lag = Distribution(LAG_BUCKETS)
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def know(self, invariants: tuple[str, ...]) -> None:
        """The invariants of the model in use, counted from zero."""
        for invariant in invariants:
            self.violations.counts.setdefault((invariant,), 0)

    def violated(self, invariant: str, count: int) -> None:
        """Answers that break an invariant."""
        self.violations.add((invariant,), count)

    def families(self) -> Iterable[Metric]:
        """All of them as prometheus_client has them, the process's own too."""
        return self._registry.collect()

    def text(self) -> bytes:
        """The exposition in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks of a collector."""
        size, held, evictions = self.gauges.cache()
        loads, looked_up = self.gauges.model_cache()
        yield _counter(
            "pinn_requests",
            "Calls of /predict, however many items each carries: ok, refused (the caller's mistake, 4xx), overloaded (429) or "
            "error (5xx)",
            ("outcome", "source"),
            self.requests,
        )
        yield GaugeMetricFamily(
            "pinn_requests_in_flight", "Calls that are being answered or wait their turn", self.gauges.in_flight()
        )
        yield CounterMetricFamily(
            "pinn_connections_refused",
            "Connections turned away as too many were open: what they would have asked is no call",
            self.gauges.turned_away(),
        )
        yield _counter("pinn_predictions", "Items answered, by how", ("method", "source"), self.items)
        yield _counter(
            "pinn_cache_hits",
            "Calls with an item from a bin that was evaluated before, and none that had to be evaluated",
            ("source",),
            self.hits,
        )
        yield _counter(
            "pinn_cache_misses",
            "Calls with an item that had to be evaluated, though it might have been cached",
            ("source",),
            self.misses,
        )
        yield GaugeMetricFamily("pinn_cache_size", "Entries of the result cache", size)
        yield GaugeMetricFamily("pinn_cache_bytes", "Bytes the result cache holds, by its own account", held)
        yield CounterMetricFamily("pinn_cache_evictions", "Entries that had to go for newer ones", evictions)
        yield CounterMetricFamily("pinn_model_loads", "Models loaded", loads)
        reloads = CounterMetricFamily(
            "pinn_model_reloads", "Reloads asked for, by what came of them", labels=("result",)
        )
        for result, count in self.gauges.reloads():
            reloads.add_metric((result,), count)
        yield reloads
        yield CounterMetricFamily("pinn_model_cache_hits", "Models found loaded already", looked_up)
        yield _counter(
            "pinn_fallback",
            "Calls with an item that was answered by less than the first choice, by reason: once for each, so do not add them up",
            ("reason", "source"),
            self.fallbacks,
        )
        yield _counter(
            "pinn_fallback_calls",
            "Calls with an item that was answered by less than the first choice, whatever the reasons",
            ("source",),
            self.fallback_calls,
        )
        yield _counter(
            "pinn_prediction_errors", "Valid questions left without an answer", ("error_type", "source"), self.errors
        )
        yield _counter(
            "pinn_physics_violations",
            "Answers beyond the tolerance the model's manifest states, by invariant",
            ("invariant",),
            self.violations,
        )
        yield self._latency()
        lag = HistogramMetricFamily(
            "pinn_event_loop_lag_seconds", "How late the event loop wakes what it promised to wake"
        )
        lag.add_metric((), *self.lag.cumulative())
        yield lag
        if shares := tuple(self.gauges.gpus()):
            gpus = GaugeMetricFamily(
                "pinn_gpu_utilization_ratio",
                "Share of the last 15 s in which a GPU of this server was busy, by NVML; none without one",
                labels=("device",),
            )
            for device, share in shares:
                gpus.add_metric((device,), share)
            yield gpus
        if model := self.gauges.model():
            info = GaugeMetricFamily(
                "pinn_model_info", "The model served, always 1", labels=("name", "version", "digest")
            )
            info.add_metric(model, 1)
            yield info

    def _latency(self) -> Metric:
        family = HistogramMetricFamily(
            "pinn_prediction_latency_seconds",
            "From a complete question to its answer, the queue included, by how the slowest item was made (none: 504)",
            labels=("method", "source"),
        )
        for labels, distribution in self.latency.items():
            family.add_metric(labels, *distribution.cumulative())
        return family


def _counter(name: str, text: str, labels: tuple[str, ...], tally: Tally) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in tally.counts.items():
        family.add_metric(values, count)
    return family
