"""As much of a cluster as a rollout needs, driven by `decide` alone: its writes, in the order in which act/ does them.

A pass can be cut off after any of them. Between passes pods become ready, endpoints follow, the gateway takes the route, users
send requests and the servers count them; what is measured is what observe/ would bring.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pinn_operator.api.codec import dump, load
from pinn_operator.api.memory import Memory
from pinn_operator.api.observed import Autoscaler, ChildId, Observed, Route, Workload
from pinn_operator.api.plan import Plan
from pinn_operator.api.readings import Checked, Measured, PodMetrics, Server
from pinn_operator.api.revision import Revision
from pinn_operator.decide import decide
from tests.given import GATEWAY, NOW, OWNED, observed, only, ready, resource

WRITES = ("records", "workloads", "memory", "labels", "route", "service", "removals", "report", "status")
STEPS = [{"weight": 10, "hold": "30s"}, {"weight": 50, "hold": "30s"}, {"weight": 100, "hold": "60s"}]
RESIDENT = 1e8
"""Bytes of a server."""
COUNTED = ("requests", "errors", "timed", "slower_than_5")


@dataclass
class Pod:
    """One server. `container` goes up with each restart. One that is ill is not ready, and nobody can read it."""

    name: str
    ready: bool = False
    ill: bool = False
    restarts: int = 0
    serving: bool = False
    counts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0.0))

    def restart(self) -> None:
        """It dies, comes back, and has forgotten what it counted."""
        self.restarts += 1
        self.ready = False
        self.counts = dict.fromkeys(COUNTED, 0.0)


@dataclass
class TinyCluster:
    """What the API server keeps of one object, and its servers. By version: which never start, and of how many requests each
    fails. `rate` is the users' requests a second, `spec` the rest of the spec, `no_gateway` why none takes the route."""

    version: str
    replicas: int = 2
    paused: bool = False
    steps: list[dict[str, Any]] = field(default_factory=lambda: list(STEPS))
    traffic: dict[str, Any] = field(default_factory=lambda: dict(GATEWAY))
    sla: dict[str, Any] = field(default_factory=lambda: only(errorRate="1%"))
    rollout: dict[str, Any] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()
    refused: str | None = None
    bad: dict[str, float] = field(default_factory=dict)
    violating: dict[str, float] = field(default_factory=dict)
    rate: float = 100.0
    no_metrics: str = ""
    no_gateway: str = ""
    deleted_for: int | None = None
    autoscaling: dict[str, Any] | None = None
    cache: dict[str, Any] = field(default_factory=dict)

    at: float = 0.0
    records: dict[str, Revision] = field(default_factory=dict)
    pods: dict[str, list[Pod]] = field(default_factory=dict)
    selected: str | None = None
    split: bool = False
    endpoints: dict[str, int] = field(default_factory=dict)
    lingering: dict[str, int] = field(default_factory=dict)
    behind: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    bounds: dict[str, tuple[int, int]] = field(default_factory=dict)
    scaled_at: dict[str, float] = field(default_factory=dict)
    weights: dict[str, int] | None = None
    taken: dict[str, int] = field(default_factory=dict)
    memory: str | None = None
    status: dict[str, Any] = field(default_factory=dict)
    finalizer: bool = True
    passes: int = 0
    made: int = 0

    # --- What is read ---

    @property
    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.at)

    @property
    def remembered(self) -> Memory | None:
        return None if self.memory is None else load(Memory, json.loads(self.memory))

    @property
    def has_gateway(self) -> bool:
        return "gateway" in self.traffic

    def observe(self) -> Observed:
        seen = observed(
            resource(
                self.version,
                replicas=self.replicas,
                rollout={"paused": self.paused, "steps": self.steps, **self.rollout},
                traffic=self.traffic,
                sla=self.sla,
                autoscaling=self.autoscaling,
                cache=self.cache,
                status=self.status,
                metadata={"annotations": self.annotations, **self._deletion()},
            ),
            now=self.now,
            revisions=self.records.values(),
            workloads={name: self._workload(name) for name in self.pods},
            selected=self.selected,
            endpoints=self.endpoints,
            behind=self.behind,
            servers=tuple(self._server(name, pod) for name, pods in sorted(self.pods.items()) for pod in pods),
            route=self._route(),
            split=self.split,
            memory=self.remembered,
            autoscalers={name: self._autoscaler(name) for name in self.bounds},
            children={ChildId("Deployment", name): OWNED for name in self.pods},
        )
        return replace(seen, measured=self._measured(seen))

    def _deletion(self) -> dict[str, Any]:
        if self.deleted_for is None:
            return {}
        return {"deletionTimestamp": self.now - timedelta(seconds=self.deleted_for)}

    def _workload(self, name: str) -> Workload:
        broken = self.versions[name] in self.broken
        return ready(
            sum(pod.ready for pod in self.pods[name]),
            len(self.pods[name]),
            not_starting="ImagePullBackOff: no such image" if broken else None,
            not_created=None if len(self.pods[name]) >= self.replicas else self.refused,
            asked=self.sizes.get(name, len(self.pods[name])),
        )

    def _autoscaler(self, name: str) -> Autoscaler:
        at = self.scaled_at.get(name)
        return Autoscaler(self.sizes.get(name), None if at is None else NOW + timedelta(seconds=at))

    def _server(self, name: str, pod: Pod) -> Server:
        container = f"containerd://{pod.restarts:012}"
        return Server(name, pod.name, container, "10.0.0.1", pod.ready, pod.restarts, pod.serving)

    def _route(self) -> Route | None:
        if not self.has_gateway or self.weights is None:
            return None
        return Route(self.weights, self.weights == self.taken, trouble=self.no_gateway)

    def _measured(self, seen: Observed) -> Measured | None:
        """As observe/measure.py: what the journal asks for, when its time has come."""
        journal = seen.memory.journal if seen.memory else None
        if journal is None or not journal.measure or self.at + NOW.timestamp() < journal.measure_at - 0.05:
            return None
        arms = (journal.canary.revision, journal.stable.revision)
        if journal.measure == "smoke":
            up = any(pod.ready for pod in self.pods.get(journal.stable.revision, ()))
            return Measured(smoke=(up, "8 of 8 questions answered" if up else "no server of stable is ready"))
        pods = tuple(self._read(seen, server) for server in seen.servers if server.revision in arms)
        physics = "physicsViolationRate" in self.sla["promote"] and self.sla["promote"]["physicsViolationRate"] != "Off"
        shadow = {name: self._checked(name, 1000) for name in arms} if physics else None
        if journal.measure == "preflight":
            return Measured(pods, shadow, warmed=200, trouble=self.no_metrics)
        return Measured(pods, shadow)

    def _read(self, seen: Observed, server: Server) -> PodMetrics:
        pod = next(pod for pod in self.pods[server.revision] if pod.name == server.pod)
        if self.no_metrics or not pod.ready:
            return PodMetrics(server.revision, server.process, seen.now.timestamp(), None, trouble=self.no_metrics)
        counts = dict(pod.counts)
        now, live = seen.now.timestamp(), counts["requests"]
        return PodMetrics(server.revision, server.process, now, counts, live=live, memory=RESIDENT)

    def _checked(self, name: str, count: int) -> Checked:
        share = self.violating.get(self.versions.get(name, ""), 0.0)
        return Checked(count, round(count * share), said="gamma is below 0" if share else "")

    @property
    def versions(self) -> dict[str, str]:
        return {name: record.model_version for name, record in self.records.items()}

    def named(self, version: str) -> str:
        """The name of the revision of that version."""
        return next(name for name, one in self.versions.items() if one == version)

    # --- What is written ---

    def reconcile(self, writes: Collection[str] = WRITES) -> tuple[Observed, Plan]:
        """One pass, of which only these writes are done."""
        seen = self.observe()
        plan = decide(seen)
        for name in WRITES:
            if name in writes:
                getattr(self, f"_write_{name}")(plan)
        self.passes += 1
        return seen, plan

    def cut_off_after(self, write: str | None) -> tuple[Observed, Plan]:
        """A pass whose operator is killed after this write; None: before its first."""
        return self.reconcile(WRITES[: 0 if write is None else WRITES.index(write) + 1])

    def _write_records(self, plan: Plan) -> None:
        for run in plan.run:
            rendered = run.revision if run.revision.template else replace(run.revision, template={"rendered": True})
            self.records.setdefault(run.revision.name, replace(rendered, created=rendered.created or self.now))

    def _write_workloads(self, plan: Plan) -> None:
        for run in plan.run:
            name = run.revision.name
            if run.scale is None:
                self.scale(name, run.replicas)
            elif not (self.sizes.get(name) and name in self.bounds):
                self.scale(name, self.sizes.get(name) or run.scale.begin)
            if run.scale is not None:
                self.bounds[name] = (run.scale.fewest, run.scale.most)

    def scale(self, name: str, size: int) -> None:
        """As whoever says how many servers a Deployment has."""
        self.sizes[name] = size
        pods = self.pods.setdefault(name, [])
        del pods[size:]
        while len(pods) < size and not self.refused:
            self.made += 1
            pods.append(Pod(f"pod-{self.made}"))

    def autoscale(self) -> None:
        """The autoscalers keep to their bounds; they see no load."""
        for name, (fewest, most) in self.bounds.items():
            size = min(most, max(fewest, self.sizes[name]))
            if self.sizes[name] and size != self.sizes[name]:
                self.scale(name, size)
                self.scaled_at[name] = self.at

    def _write_memory(self, plan: Plan) -> None:
        if plan.memory is not None:
            self.memory = json.dumps(dump(plan.memory), allow_nan=False)

    def _write_labels(self, plan: Plan) -> None:
        if plan.traffic and plan.traffic.selected is None:
            for name in plan.traffic.weights:
                for pod in self.pods.get(name, []):
                    pod.serving = pod.name in plan.traffic.labelled

    def _write_route(self, plan: Plan) -> None:
        if plan.traffic and self.has_gateway:
            self.weights = dict(plan.traffic.weights)

    def _write_service(self, plan: Plan) -> None:
        if plan.traffic:
            self.selected, self.split = plan.traffic.selected, plan.traffic.selected is None

    def _write_removals(self, plan: Plan) -> None:
        kept = {run.revision.name for run in plan.run}
        self.pods = {name: pods for name, pods in self.pods.items() if name in kept}
        self.sizes = {name: size for name, size in self.sizes.items() if name in kept}
        scaled = {run.revision.name for run in plan.run if run.scale}
        self.bounds = {name: bounds for name, bounds in self.bounds.items() if name in scaled}
        for name in plan.forget:
            del self.records[name]
        if plan.teardown:
            self.selected, self.weights, self.memory = None, None, None

    def _write_report(self, plan: Plan) -> None:
        """Filed under a name of its own: nothing that `decide` would see."""

    def _write_status(self, plan: Plan) -> None:
        journal, history = plan.finished, list(self.status.get("history", ()))
        if journal is not None:
            at = datetime.fromtimestamp(int(journal.ended or 0), UTC).isoformat()
            history.append({"revision": journal.canary.revision, "outcome": journal.ending, "at": at})
        self.status = {
            "stable": {"revision": plan.stable.name} if plan.stable else None,
            "canary": {"revision": plan.canary.name} if plan.canary else None,
            "rejected": [one.model_dump(mode="json", by_alias=True) for one in plan.rejected or ()],
            "history": history[-10:],
            "lastHandled": plan.handled.model_dump(mode="json", by_alias=True),
        }
        self.finalizer = self.finalizer and not plan.release

    # --- What happens by itself ---

    def settle_down(self) -> None:
        """Endpoints follow the Services, and the old ones go one round later; pods get ready, but those of a broken version."""
        chosen = {
            name: count
            for name, pods in self.pods.items()
            if (count := sum(pod.ready and (self.selected == name or (self.split and pod.serving)) for pod in pods))
        }
        self.endpoints = chosen | {name: count for name, count in self.lingering.items() if name in self.pods}
        self.lingering = chosen
        self.autoscale()
        self.behind = {name: sum(pod.ready for pod in pods) for name, pods in self.pods.items()}
        self.taken = self.taken if self.no_gateway else dict(self.weights or {})
        for name, pods in self.pods.items():
            for pod in pods:
                pod.ready = self.versions[name] not in self.broken and not pod.ill

    def shares(self) -> dict[str, float]:
        """Where the next request goes, by revision, as the gateway or the Service has it; they sum to 1 or are empty."""
        if self.has_gateway:
            of: dict[str, float] = {name: float(weight) for name, weight in self.taken.items()}
        else:
            of = {name: float(count) for name, count in self.endpoints.items()}
        return {name: share / sum(of.values()) for name, share in of.items()} if of else {}

    def serve(self, seconds: float) -> None:
        """Users send requests, and the ready servers of a revision share what it gets."""
        for name, share in self.shares().items():
            pods = [pod for pod in self.pods.get(name, []) if pod.ready]
            for pod in pods:
                events = round(self.rate * seconds * share / len(pods))
                failed = round(events * self.bad.get(self.versions[name], 0.0))
                for counter, more in zip(COUNTED, (events, failed, events, 0), strict=True):
                    pod.counts[counter] += more

    def wait(self, seconds: float) -> None:
        """Time passes, and users send requests."""
        self.serve(seconds)
        self.at += seconds

    def go_on(self, seconds: float | None = None) -> Plan:
        """One pass, what follows from it by itself, and the time until the next one."""
        _, plan = self.reconcile()
        self.settle_down()
        pause = min(30.0, 30.0 if plan.look_again is None else plan.look_again)
        self.wait(max(0.1, pause) if seconds is None else seconds)
        return plan

    def until(self, done: Any, passes: int = 200) -> Plan:
        """Passes until the plan of one is as asked for."""
        last = ""
        for _ in range(passes):
            plan = self.go_on()
            if done(plan):
                return plan
            last = f"{plan.phase.value}: {plan.sentence}"
        raise AssertionError(f"it never came to that; at last {last}")

    @property
    def share(self) -> int:
        """Percent of the traffic that the canary, the revision that the spec asks for, was given."""
        if self.has_gateway:
            return (self.weights or {}).get(self.wanted, 0)
        return 100 if self.selected == self.wanted else 0

    @property
    def wanted(self) -> str:
        return next((name for name, version in self.versions.items() if version == self.version), "")

    def state(self) -> dict[str, Any]:
        return {
            "records": sorted(self.versions.values()),
            "pods": {self.versions[name]: len(pods) for name, pods in sorted(self.pods.items())},
            "selected": self.versions.get(self.selected or ""),
            "weights": {self.versions[name]: weight for name, weight in (self.weights or {}).items()},
            "stable": self.versions.get((self.status.get("stable") or {}).get("revision", "")),
        }


def serving(version: str = "1.0.0", **more: Any) -> TinyCluster:
    """A cluster in which that version serves."""
    cluster = TinyCluster(version, **more)
    for _ in range(4):
        cluster.go_on()
    return cluster


def rolling(version: str = "2.0.0", step: int = 1, **more: Any) -> TinyCluster:
    """1.0.0 serves and the other version is in that step, whose traffic is in place."""
    cluster = serving(**more)
    cluster.version = version
    cluster.until(lambda plan: has_begun(plan, step))
    return cluster


def has_begun(plan: Plan, step: int) -> bool:
    """The step's time runs."""
    journal = plan.memory.journal if plan.memory else None
    return journal is not None and journal.step == step and journal.step_began is not None
