"""What the operator says about itself: Prometheus metrics, and whether it is alive and leading."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from pinn_operator.api.observed import Key
from pinn_operator.errors import Conflict, Unavailable
from pinn_operator.reconcile import Pass

CONTROLLER = "pinndeployment"


class Monitoring:
    """Counters of the passes and one set of gauges an object."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._passes = Counter(
            "pinn_operator_reconcile", "Passes by result: success, again (busy or out of date), error.",
            ["controller", "result"], registry=self.registry,
        )  # fmt: skip
        self._errors = Counter(
            "pinn_operator_reconcile_errors", "Passes that ended with an error.", ["controller"], registry=self.registry
        )
        self._time = Histogram(
            "pinn_operator_reconcile_time_seconds", "Length of a pass.", ["controller"], registry=self.registry,
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
        )  # fmt: skip
        self._condition = Gauge(
            "pinn_operator_object_condition", "1 where a condition of an object is True.",
            ["namespace", "name", "condition"], registry=self.registry,
        )  # fmt: skip
        self._weight = Gauge(
            "pinn_operator_object_weight", "Percentage of the traffic meant for a role.",
            ["namespace", "name", "role"], registry=self.registry,
        )  # fmt: skip
        self._leader = Gauge("pinn_operator_leader", "1 on the replica that holds the Lease.", registry=self.registry)
        self._errors.labels(CONTROLLER)
        for result in ("success", "again", "error"):
            self._passes.labels(CONTROLLER, result)

    @contextmanager
    def timed(self, key: Key) -> Iterator[None]:
        """Count and time one pass by how it ends."""
        started = time.monotonic()
        result = "error"
        try:
            yield
            result = "success"
        except (Conflict, Unavailable):
            result = "again"
            raise
        finally:
            self._passes.labels(CONTROLLER, result).inc()
            self._time.labels(CONTROLLER).observe(time.monotonic() - started)
            if result == "error":
                self._errors.labels(CONTROLLER).inc()

    def note(self, finished: Pass) -> None:
        """The gauges of an object, as its status said when the pass began."""
        key, status = finished.observed.key, finished.observed.resource.status
        for condition in status.conditions:
            self._condition.labels(*key, condition.type).set(condition.status == "True")
        held = {condition.type for condition in status.conditions}
        for absent in {"Reconciling", "Stalled", "Progressing"} - held:
            self._condition.labels(*key, absent).set(0)
        self._weight.labels(*key, "stable").set((status.stable.weight or 0) if status.stable else 0)
        self._weight.labels(*key, "canary").set((status.canary.weight or 0) if status.canary else 0)

    def forget(self, key: Key) -> None:
        """An object that is gone leaves no series behind."""
        for gauge in (self._condition, self._weight):
            gauge.remove_by_labels({"namespace": key.namespace, "name": key.name})

    def leading(self, leads: bool) -> None:
        self._leader.set(leads)


@asynccontextmanager
async def served(monitoring: Monitoring, port: int) -> AsyncIterator[None]:
    """/metrics, /healthz and /readyz while the block runs. That they answer says that the event loop turns."""

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(monitoring.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthy(_request: web.Request) -> web.Response:
        return web.json_response({"status": "healthy"})

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthy), web.get("/readyz", healthy)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, None, port).start()
        yield
    finally:
        await runner.cleanup()
