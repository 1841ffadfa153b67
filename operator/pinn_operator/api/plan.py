"""What a pass decided, as data: what should exist, who serves, and what to say about it. Never how.

The sentence is the one a person would say; it goes to the condition, the Event and the log alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from pinn_operator.api.journal import Journal
from pinn_operator.api.memory import Memory
from pinn_operator.api.observed import ChildId
from pinn_operator.api.placement import Counted, Placed
from pinn_operator.api.revision import Revision
from pinn_operator.api.status import LastHandled, Rejected, RolloutStatus


class Phase(Enum):
    """Where an object stands. One of these at a time."""

    STARTING = "Starting"
    STEPPING = "Step"
    BAKING = "Baking"
    DRAINING = "Draining"
    PAUSED = "Paused"
    UNDECIDED = "Undecided"
    APPROVAL = "WaitingForApproval"
    TOO_COARSE = "TooCoarse"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"
    SERVING = "Serving"
    NOT_SUPPORTED = "NotSupported"
    DELETING = "Deleting"


@dataclass(frozen=True, slots=True)
class Scale:
    """The bounds between which an autoscaler sets the number of servers, and what it goes by: percent of the CPU asked for, and
    requests at work in each server; None: not by that. `begin` is how many there are where nobody has set a number yet."""

    fewest: int
    most: int
    begin: int
    cpu: int | None = None
    in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A revision that should have its workload, and with how many replicas: so many, or with `scale` at least so many.

    `nudge` is a time, rounded down, while Kubernetes is not allowed to create the pods: it backs off for up to a quarter of an
    hour, and a new value in an annotation makes it try at once. `placed` is where the servers run, for a revision that may run on
    GPUs; `counted` what is to be noted of their number, where the operator is the one who counts.
    """

    revision: Revision
    replicas: int
    nudge: str | None = None
    scale: Scale | None = None
    placed: Placed | None = None
    counted: Counted | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """Who gets which share. `weights` are percentages by revision, sum to 100 and name no revision with 0.

    `selected` is the revision that the Service of the object's name selects; None: it selects the pods in `labelled`, which is
    how shares are made without a gateway.
    """

    weights: Mapping[str, int]
    selected: str | None
    labelled: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if sum(self.weights.values()) != 100 or any(weight <= 0 for weight in self.weights.values()):
            raise ValueError(f"weights must be above 0 and sum to 100, not {dict(self.weights)}")


@dataclass(frozen=True, slots=True)
class Plan:
    """The decision of one pass.

    `stable` is the revision that the status names so, `canary` the one on its way. What is not in `run` is removed, what is in
    `forget` is no longer undone to. `memory` is what to store before any share changes; None: leave it. `finished` is a rollout
    that is over and whose report is still to be written. `spared` are children that outlive the object.
    """

    phase: Phase
    sentence: str
    wanted: str
    run: tuple[Run, ...] = ()
    stable: Revision | None = None
    canary: Revision | None = None
    traffic: Traffic | None = None
    memory: Memory | None = None
    rollout: RolloutStatus | None = None
    rejected: tuple[Rejected, ...] | None = None
    finished: Journal | None = None
    handled: LastHandled = field(default_factory=LastHandled)
    forget: frozenset[str] = frozenset()
    teardown: bool = False
    release: bool = False
    spared: frozenset[ChildId] = frozenset()
    look_again: float | None = None

    def weight_of(self, revision: str) -> int:
        """Its share of the traffic."""
        return self.traffic.weights.get(revision, 0) if self.traffic else 0
