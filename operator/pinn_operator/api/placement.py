"""Where the servers of a revision run, on CPUs or on GPUs: as it is seen (Place), and as it is decided (Placed)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

Placement = Literal["GPU", "CPU"]

ON_GPUS: Final = "-gpu"
"""What the name of the Deployment of a revision's GPU servers ends in, and the tag of the server image for GPUs."""


@dataclass(frozen=True, slots=True)
class Place:
    """The servers of a revision in one of its Deployments: how many are asked for, have a node, and are ready. `behind` are the
    ready ones that are endpoints of every Service through which the revision is reached.

    `lacking` says, in Kubernetes' words, why one has no node or may not be created, and `since` since when; `trouble` why one
    that has a node does not start.
    """

    asked: int = 0
    on_nodes: int = 0
    ready: int = 0
    behind: int = 0
    lacking: str = ""
    since: datetime | None = None
    trouble: str = ""


NOWHERE: Final = Place()


@dataclass(frozen=True, slots=True)
class Placed:
    """How many servers of a revision are to run on CPUs and on GPUs; whether that is what its spec asks for, in a word and in a
    sentence."""

    cpu: int = 0
    gpu: int = 0
    satisfied: bool = True
    reason: str = ""
    said: str = ""
