"""What a pass decided, as data: what should exist, who serves, and what to say about it. Never how.

The sentence is the one a person would say; it goes to the condition, the Event and the log alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pinn_operator.api.revision import Revision


class Phase(Enum):
    """Where an object stands. One of these at a time."""

    STARTING = "Starting"
    STEPPING = "Step"
    SWITCHING = "Switching"
    DRAINING = "Draining"
    PAUSED = "Paused"
    SERVING = "Serving"
    NOT_SUPPORTED = "NotSupported"
    DELETING = "Deleting"


@dataclass(frozen=True, slots=True)
class Run:
    """A revision that should have its workload, and with how many replicas.

    `nudge` is a time, rounded down, while Kubernetes is not allowed to create the pods: it backs off for up to a quarter of an
    hour, and a new value in an annotation makes it try at once.
    """

    revision: Revision
    replicas: int
    nudge: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The decision of one pass.

    `stable` is the revision that the status names so; `serving` the one that the Service of the object's name selects. They
    differ only before the first revision is ready. What is not in `run` is removed, what is in `forget` is no longer undone to.
    """

    phase: Phase
    sentence: str
    wanted: str
    run: tuple[Run, ...] = ()
    stable: Revision | None = None
    canary: Revision | None = None
    serving: str | None = None
    forget: frozenset[str] = frozenset()
    teardown: bool = False
    release: bool = False
    look_again: float | None = None
