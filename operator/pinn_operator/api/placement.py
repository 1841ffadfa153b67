"""Where the servers of a revision run, on CPUs or on GPUs: as it is seen (Place), and as it is decided (Placed)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from pinn_operator.api.names import GROUP

Placement = Literal["GPU", "CPU"]

ON_GPUS: Final = "-gpu"
"""What the name of the Deployment of a revision's GPU servers ends in, and the tag of the server image for GPUs."""

SERVERS: Final = f"{GROUP}/servers"
"""The annotation of both Deployments of a revision that has two: what was counted; empty where `replicas` alone says it."""


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


@dataclass(frozen=True, slots=True)
class Counted:
    """How many servers a revision with two Deployments is to have in all, and since when: where the spec has bounds, and no
    autoscaler could count both. Their replicas do not tell: they hold the probe for a GPU, and who stands in for whom."""

    servers: int
    since: datetime

    def __str__(self) -> str:
        return f"{self.servers}@{int(self.since.timestamp())}"

    @classmethod
    def read(cls, text: str) -> Counted | None:
        """From an annotation; None where it says nothing, or nothing of ours."""
        found = re.fullmatch(r"([0-9]{1,6})@([0-9]{1,10})", text)
        return cls(int(found[1]), datetime.fromtimestamp(int(found[2]), UTC)) if found else None
