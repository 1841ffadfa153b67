"""What was measured at the servers in one pass: their counters, and what came of requests that the operator sent itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Server:
    """One pod of a revision. `container` is the id of its running process: a restart makes another one of it. `started` is since
    when it runs (seconds since 1970), `took` the seconds from the pod's creation until it was ready; None where not known."""

    revision: str
    pod: str
    container: str
    address: str | None
    ready: bool
    restarts: int = 0
    serving: bool = False
    started: float | None = None
    took: float | None = None

    @property
    def process(self) -> str:
        """The name under which its counters are kept."""
        return f"{self.pod}/{self.container[-12:]}"


@dataclass(frozen=True, slots=True)
class PodMetrics:
    """The counters of one server, by the names of decide/evidence/gates.py, and when they were read (seconds since 1970).

    `counts` is None where they could not be read, and `trouble` says why. `memory` is resident bytes without the cache's own.
    `live` counts the requests of users alone. `gpu` is the mean share of the time that its GPUs are busy, from 0 to 1; None
    without any. `users` are the same counters of users' requests alone.
    """

    revision: str
    process: str
    at: float
    counts: Mapping[str, float] | None
    memory: float | None = None
    live: float = 0.0
    trouble: str = ""
    gpu: float | None = None
    users: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """The same inputs through a revision past its cache: how many were distinct, how many broke the equation or an invariant,
    how many were compared with the reference solver and how many of those lay further from it than the answer's own bound."""

    checked: int = 0
    violations: int = 0
    compared: int = 0
    wrong: int = 0
    said: str = ""

    def __add__(self, more: Checked) -> Checked:
        return Checked(
            self.checked + more.checked,
            self.violations + more.violations,
            self.compared + more.compared,
            self.wrong + more.wrong,
            self.said or more.said,
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """All of a pass. `trouble` says why something that was asked for could not be measured; empty when all was.

    `shadow` is by revision. `warmed` counts the keys that the canary was given. `smoke` says whether the stable revision answers
    rightly after a rollback, and in which words.
    """

    pods: tuple[PodMetrics, ...] = ()
    shadow: Mapping[str, Checked] | None = None
    warmed: int | None = None
    smoke: tuple[bool, str] | None = None
    trouble: str = ""
