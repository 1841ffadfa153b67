"""As much of a cluster as a rollout needs, driven by `decide` alone: five kinds of writes, in the order in which act/ does them.

A pass can be cut off after any of them, or lose some. Between passes pods become ready and the endpoints follow the Service.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from pinn_operator.api.observed import ChildId, Observed, Workload
from pinn_operator.api.plan import Plan
from pinn_operator.api.revision import Revision
from pinn_operator.decide import decide
from tests.given import NOW, observed, ready, resource

WRITES = ("records", "workloads", "service", "removals", "status")


@dataclass
class TinyCluster:
    """What the API server keeps of one object. `versions` gives revisions their readable names."""

    version: str
    replicas: int = 2
    paused: bool = False
    deleted_for: int | None = None
    broken: frozenset[str] = frozenset()
    records: dict[str, Revision] = field(default_factory=dict)
    pods: dict[str, int] = field(default_factory=dict)
    selected: str | None = None
    endpoints: frozenset[str] = frozenset()
    lingering: frozenset[str] = frozenset()
    behind: dict[str, int] = field(default_factory=dict)
    stable: str | None = None
    finalizer: bool = True
    passes: int = 0

    def observe(self) -> Observed:
        deleted = {} if self.deleted_for is None else {"deletionTimestamp": NOW - timedelta(seconds=self.deleted_for)}
        return observed(
            resource(
                self.version,
                replicas=self.replicas,
                rollout={"paused": self.paused},
                status={"stable": {"revision": self.stable}} if self.stable else {},
                metadata=deleted,
            ),
            revisions=self.records.values(),
            workloads={name: self._workload(name) for name in self.pods},
            selected=self.selected,
            endpoints=self.endpoints,
            behind=self.behind,
            children={ChildId("Deployment", name): {} for name in self.pods},
        )

    def _workload(self, name: str) -> Workload:
        trouble = "ImagePullBackOff: no such image" if self.versions.get(name) in self.broken else None
        return ready(self.pods[name], self.replicas, not_starting=trouble)

    @property
    def versions(self) -> dict[str, str]:
        return {name: record.model_version for name, record in self.records.items()}

    def reconcile(self, lost: Collection[str] = ()) -> tuple[Observed, Plan]:
        """One pass, of which some writes are lost. After a lost one that is not the last, a real pass would have ended."""
        seen = self.observe()
        plan = decide(seen)
        steps: dict[str, Callable[[Plan], None]] = {
            "records": self._write_records,
            "workloads": self._write_workloads,
            "service": self._write_service,
            "removals": self._remove,
            "status": self._write_status,
        }
        for name, write in steps.items():
            if name not in lost:
                write(plan)
        self.passes += 1
        return seen, plan

    def _write_records(self, plan: Plan) -> None:
        for run in plan.run:
            rendered = run.revision if run.revision.template else replace(run.revision, template={"rendered": True})
            self.records.setdefault(run.revision.name, rendered)

    def _write_workloads(self, plan: Plan) -> None:
        for run in plan.run:
            self.pods.setdefault(run.revision.name, 0)

    def _write_service(self, plan: Plan) -> None:
        self.selected = None if plan.teardown else plan.serving or self.selected

    def _remove(self, plan: Plan) -> None:
        kept = {run.revision.name for run in plan.run}
        self.pods = {name: count for name, count in self.pods.items() if name in kept}
        for name in plan.forget:
            del self.records[name]

    def _write_status(self, plan: Plan) -> None:
        self.stable = plan.stable.name if plan.stable else None
        self.finalizer = self.finalizer and not plan.release

    def kubelet(self) -> None:
        """Endpoints follow the Services, and the old ones go one round later; pods get ready, but those of a broken version."""
        chosen = frozenset(name for name, count in self.pods.items() if name == self.selected and count)
        self.endpoints = chosen | (self.lingering & self.pods.keys())
        self.lingering = chosen
        self.behind = dict(self.pods)
        for name in self.pods:
            self.pods[name] = 0 if self.versions.get(name) in self.broken else self.replicas

    def settle(self, losing: Iterable[Collection[str]] = ()) -> tuple[int, Plan]:
        """Passes until nothing is to be done, and at least as long as writes are lost; how many it took."""
        losses = list(losing)
        for number in range(1, 40):
            before = self.state()
            _, plan = self.reconcile(losses[number - 1] if number <= len(losses) else ())
            self.kubelet()
            if number > len(losses) and self.state() == before and plan.look_again != 1.0:
                return number, plan
        raise AssertionError(f"it does not come to rest: {self.state()}")

    def state(self) -> dict[str, Any]:
        return {
            "records": sorted(self.versions.values()),
            "pods": {self.versions[name]: count for name, count in sorted(self.pods.items())},
            "selected": self.versions.get(self.selected or ""),
            "stable": self.versions.get(self.stable or ""),
            "endpoints": sorted(self.versions.get(name, "?") for name in self.endpoints),
        }
