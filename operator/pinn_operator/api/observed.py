"""What one pass knows: everything that was read, at one time, and nothing that was remembered.

Frozen, so that a decision can be replayed from it; with the time in it, so that deciding needs no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from pinn_operator.api.memory import Memory
from pinn_operator.api.names import FINALIZER
from pinn_operator.api.placement import NOWHERE, Counted, Place, Placement
from pinn_operator.api.readings import Measured, Server
from pinn_operator.api.resource import PinnDeployment
from pinn_operator.api.revision import Revision


class Key(NamedTuple):
    """Which PinnDeployment."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class ChildId(NamedTuple):
    """Which child, within the object's namespace."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Workload:
    """How the pods of one revision are. `ready` counts pods that the API server says are ready and that are not leaving; `asked`
    is how many its Deployment asks for; with two, as many as were `counted` for both, or else both of them."""

    pods: int
    ready: int
    deadline_exceeded: bool = False
    not_created: str | None = None
    not_starting: str | None = None
    asked: int = 0
    counted: Counted | None = None


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """What the autoscaler of a revision has found: how many servers there should be, None before its first look, and when it last
    changed their number."""

    desired: int | None = None
    changed: datetime | None = None


NO_WORKLOAD = Workload(pods=0, ready=0)


@dataclass(frozen=True, slots=True)
class Route:
    """The shares that a gateway was told, by revision, and whether it has taken them: Accepted with ResolvedRefs, for this very
    generation. `trouble` says what it has against them.

    The rest is of a route that the user owns: the route as it was read, the revision that the Service NAME-canary selects, and
    those among its endpoints.
    """

    weights: Mapping[str, int]
    in_force: bool = False
    trouble: str = ""
    theirs: Mapping[str, Any] | None = None
    canary: str | None = None
    behind_canary: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Observed:
    """One reading of an object and of all that belongs to it.

    `selected` is the revision that the Service of the object's name selects, None also while it selects `servers` by their
    label; `endpoints` are the revisions whose pods it still sends requests to, with how many pods each. `behind` counts the
    ready endpoints of each revision's own Service: pods are ready a little before they are endpoints, and who is sent
    requests in between is refused. `places` says of each revision how its servers on CPUs and on GPUs are. `memory` is what
    was stored, None when nothing is; `measured` what the servers said in this pass, None when nothing was asked.
    `autoscalers` are those of the revisions that have one; `pod_metrics` says whether the cluster serves metrics of pods to
    autoscalers, None where that was not asked.
    """

    now: datetime
    resource: PinnDeployment
    server_image: str
    revisions: Mapping[str, Revision] = field(default_factory=dict)
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    selected: str | None = None
    endpoints: Mapping[str, int] = field(default_factory=dict)
    behind: Mapping[str, int] = field(default_factory=dict)
    places: Mapping[str, Mapping[Placement, Place]] = field(default_factory=dict)
    servers: tuple[Server, ...] = ()
    route: Route | None = None
    split: bool = False
    memory: Memory | None = None
    measured: Measured | None = None
    autoscalers: Mapping[str, Autoscaler] = field(default_factory=dict)
    pod_metrics: bool | None = None
    children: Mapping[ChildId, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return Key(self.resource.metadata.namespace, self.resource.metadata.name)

    @property
    def uid(self) -> str:
        return self.resource.metadata.uid

    @property
    def deleted_at(self) -> datetime | None:
        return self.resource.metadata.deletion_timestamp

    @property
    def has_finalizer(self) -> bool:
        return FINALIZER in self.resource.metadata.finalizers

    def workload(self, revision: str | None) -> Workload:
        return self.workloads.get(revision or "", NO_WORKLOAD)

    def place(self, revision: str, placement: Placement) -> Place:
        return self.places.get(revision, {}).get(placement, NOWHERE)

    def placements(self, revision: str) -> frozenset[Placement]:
        """Where its ready servers run."""
        return frozenset(where for where, place in self.places.get(revision, {}).items() if place.ready)
