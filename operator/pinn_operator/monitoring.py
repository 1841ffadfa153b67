"""What the operator says about itself: Prometheus metrics, and whether it is alive and leading."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import get_args

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
from pinn_operator.api.plan import Phase, Plan
from pinn_operator.api.status import Side, Status, Verdict
from pinn_operator.decide.shares import in_force
from pinn_operator.errors import Conflict, Unavailable
from pinn_operator.reconcile import Pass
from pinn_operator.report.not_understood import SAYS

CONTROLLER = "pinndeployment"
CONDITIONS = ("Ready", "Available", "Reconciling", "Stalled", "Progressing")
OUTCOMES = ("Promoted", "RolledBack", "Superseded")
OBJECT = ("namespace", "pinndeployment")
"""The labels of whatever is said of one object."""


class Monitoring:
    """Counters of the passes and one set of gauges an object."""

    def __init__(self) -> None:
        self.not_ready: str | None = "PinnDeployments have not been listed yet"
        """Why /readyz says no: this replica has not seen yet that it could serve an object."""
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
        self._objects = _Objects(self.registry)
        self._leads = False
        leader = Gauge(
            "pinn_operator_leader", "1 on the replica that holds the Lease and is ready.", registry=self.registry
        )
        leader.set_function(lambda: self._leads and self.not_ready is None)
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
        except Exception as error:
            result = "again" if isinstance(error, Conflict | Unavailable) else "error"
            self._objects.failing(key)
            raise
        finally:
            self._passes.labels(CONTROLLER, result).inc()
            self._time.labels(CONTROLLER).observe(time.monotonic() - started)
            if result == "error":
                self._errors.labels(CONTROLLER).inc()

    def note(self, finished: Pass) -> None:
        """The series of an object: what its status said when the pass began, and what the pass decided."""
        self._objects.note(finished)

    def not_understood(self, key: Key) -> None:
        """An object that cannot be read is not Ready, whatever was last known of it."""
        self._objects.not_understood(key)

    def forget(self, key: Key) -> None:
        """An object that is gone leaves no series behind."""
        self._objects.forget(key)

    def leading(self, leads: bool) -> None:
        self._leads = leads


class _Objects:
    """What is said of each object. What is not known has no series; a word that could be said has one, 1 where it holds."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"pinn_operator_object_{name}", text, (*OBJECT, *labels), registry=registry)

        self._condition = gauge("condition", "1 where a condition of an object is True.", "condition")
        self._phase = gauge("phase", "1 for the phase an object is in.", "phase")
        self._verdict = gauge("verdict", "1 for how the step of a rollout stands; all 0 outside one.", "verdict")
        self._weight = gauge("weight", "Percentage of the traffic meant for a role.", "role")
        self._actual = gauge("actual_weight", "Percentage of the traffic a role had in the last minute.", "role")
        self._replicas = gauge("replicas", "Servers of all revisions.")
        self._ready = gauge("ready_replicas", "Servers of all revisions that are ready.")
        self._step = gauge("step", "The step a rollout is in, from 1; 0 outside one and before its first.")
        self._steps = gauge("steps", "How many steps the rollout has; 0 outside one.")
        self._began = gauge("step_started_timestamp_seconds", "When the traffic of the step was in place.")
        self._hold = gauge("promote_not_before_timestamp_seconds", "When the hold of the step is over.")
        self._expected = gauge("verdict_expected_timestamp_seconds", "When the evidence should do, at this traffic.")
        self._back = gauge(
            "breach_to_stable_seconds", "Of the last rollback: from its decision to all traffic on stable."
        )
        self._rollouts = Counter(
            "pinn_operator_object_rollouts",
            "Rollouts that are over, by outcome.",
            (*OBJECT, "outcome"),
            registry=registry,
        )
        self._failing = gauge(
            "failing_since_timestamp_seconds", "When the first of its passes failed after which none was finished."
        )
        self._failing_now: set[Key] = set()
        self._back_since: dict[Key, float] = {}

    def failing(self, key: Key) -> None:
        if key not in self._failing_now:
            self._failing_now.add(key)
            self._failing.labels(*key).set(time.time())

    def _finished(self, key: Key) -> None:
        self._failing_now.discard(key)
        self._failing.remove_by_labels(_of(key))

    def note(self, finished: Pass) -> None:
        key, status = finished.observed.key, finished.observed.resource.status
        self._finished(key)
        held = {condition.type: condition.status == "True" for condition in status.conditions}
        self._condition.remove_by_labels(_of(key))  # of those that only some objects have, and not for ever
        for condition in (*CONDITIONS, *(held.keys() - set(CONDITIONS))):
            self._condition.labels(*key, condition).set(held.get(condition, False))
        for phase in Phase:
            self._phase.labels(*key, phase.value).set(phase is finished.plan.phase)
        self._replicas.labels(*key).set(status.replicas or 0)
        self._ready.labels(*key).set(status.ready_replicas or 0)
        self._share(key, "stable", status.stable)
        self._share(key, "canary", status.canary)
        self._progress(key, status)
        for outcome in OUTCOMES:
            self._rollouts.labels(*key, outcome).inc(_ended(finished.plan) == outcome)
        self._way_back(finished)

    def not_understood(self, key: Key) -> None:
        for condition, status in SAYS.items():
            self._condition.labels(*key, condition).set(status == "True")

    def forget(self, key: Key) -> None:
        self._back_since.pop(key, None)
        self._finished(key)
        every = (self._condition, self._phase, self._verdict, self._weight, self._actual, self._replicas, self._ready)
        rollout = (self._step, self._steps, self._began, self._hold, self._expected, self._back, self._rollouts)
        for metric in (*every, *rollout):
            metric.remove_by_labels(_of(key))

    def _share(self, key: Key, role: str, side: Side | None) -> None:
        self._weight.labels(*key, role).set((side.weight or 0) if side else 0)
        if side is None or side.actual_weight is None:
            self._actual.remove_by_labels(_of(key) | {"role": role})
        else:
            self._actual.labels(*key, role).set(side.actual_weight)

    def _progress(self, key: Key, status: Status) -> None:
        rollout = status.rollout
        for verdict in get_args(Verdict):
            self._verdict.labels(*key, verdict).set(rollout is not None and rollout.verdict == verdict)
        number, _, of = ((rollout.step if rollout else None) or "0/0").partition("/")
        self._step.labels(*key).set(int(number))
        self._steps.labels(*key).set(int(of))
        _set_time(self._began, key, rollout.step_started_at if rollout else None)
        _set_time(self._hold, key, rollout.promote_not_before if rollout else None)
        _set_time(self._expected, key, rollout.verdict_expected_at if rollout else None)

    def _way_back(self, finished: Pass) -> None:
        """Timed once a rollback, by the first pass that sees all of the traffic on stable. Without a share there was no way."""
        seen, plan = finished.observed, finished.plan
        journal = plan.memory.journal if plan.memory else None
        if plan.phase is not Phase.ROLLING_BACK or journal is None or journal.ended is None or plan.traffic is None:
            return
        if journal.weight and self._back_since.get(seen.key) != journal.ended and in_force(seen, plan.traffic):
            self._back_since[seen.key] = journal.ended
            self._back.labels(*seen.key).set(seen.now.timestamp() - journal.ended)


def _of(key: Key) -> dict[str, str]:
    return dict(zip(OBJECT, key, strict=True))


def _ended(plan: Plan) -> str:
    return plan.finished.ending if plan.finished else ""


def _set_time(gauge: Gauge, key: Key, at: datetime | None) -> None:
    if at is None:
        gauge.remove_by_labels(_of(key))
    else:
        gauge.labels(*key).set(at.timestamp())


@asynccontextmanager
async def served(monitoring: Monitoring, port: int) -> AsyncIterator[None]:
    """/metrics, /healthz and /readyz while the block runs. That they answer says that the event loop turns; /readyz says too
    whether the API server lets this replica list what it is there for."""

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(monitoring.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthy(_request: web.Request) -> web.Response:
        return web.json_response({"status": "healthy"})

    async def ready(_request: web.Request) -> web.Response:
        reason = monitoring.not_ready
        said = {"status": "ready"} if reason is None else {"status": "not ready", "reason": reason}
        return web.json_response(said, status=200 if reason is None else 503)

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthy), web.get("/readyz", ready)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, None, port).start()
        yield
    finally:
        await runner.cleanup()
