"""What became of a plan: what was written, and what the API server refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pinn_operator.api.names import KIND
from pinn_operator.api.observed import ChildId

Verb = Literal["Created", "Updated", "Healed", "Deleted"]


@dataclass(frozen=True, slots=True)
class Write:
    """One write that went through. Healed: somebody had changed what is ours, `by` whom, as far as managedFields tell. `why` is
    for people."""

    verb: Verb
    child: ChildId
    why: str
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """One write that a person has to make possible: quota, Pod Security, RBAC, a name that is taken, a wrong template."""

    child: ChildId
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """All of a pass. `resource_version` is the object's own, after what the pass changed of its metadata; `contested` says that
    somebody has undone so many mendings of late that they are rationed."""

    writes: tuple[Write, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    resource_version: str = field(default="", compare=False)
    contested: bool = False

    @property
    def is_stored(self) -> bool:
        """Whether the next pass will know what this one decided: not when the rollout's memory was refused, nor when the
        finalizer was, before which nothing is written."""
        return all(refusal.child.kind not in ("ConfigMap", KIND) for refusal in self.refusals)


@dataclass(frozen=True, slots=True)
class Filed:
    """A report that was written: the ConfigMap's name, and the hash of what is in it."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Happening:
    """Something a person should be able to read later with `kubectl describe`: it becomes an Event and a line in the log.

    `is_done` says that it was written or stored already, so that no later pass tells it; else it is a change of the status."""

    reason: str
    action: str
    note: str
    warning: bool = False
    is_done: bool = False
