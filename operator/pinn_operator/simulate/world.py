"""What stands in for the cluster, the gateway and the servers while a rollout is simulated: as much as `decide` asks about.

Everything that is written is in force at once, servers are ready at once, and what users ask is drawn from a seed. So times are
those of the rule and of nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from math import floor, log
from typing import Final

from pinn_operator.api.journal import Journal
from pinn_operator.api.memory import Memory
from pinn_operator.api.observed import Observed, Route, Workload
from pinn_operator.api.plan import Plan, Run, Traffic
from pinn_operator.api.readings import Checked, Measured, PodMetrics, Server
from pinn_operator.api.resource import PinnDeployment
from pinn_operator.api.revision import Revision, content_of, name_of
from pinn_operator.api.status import Side, Status
from pinn_operator.decide import decide
from pinn_operator.decide.evidence.counters import CUSTOM
from pinn_operator.decide.evidence.rules import rules_of
from pinn_operator.observe.measure import REPLAYED, is_first_in_interval
from pinn_operator.simulate.recording import counted_among
from pinn_operator.simulate.scenario import Moment, Shares, Source

BEGINS: Final = datetime(2000, 1, 1, tzinfo=UTC)
CHECKED: Final = 1000
"""Questions of the operator's own in a trial, and in an interval."""
MEMORY: Final = 200.0 * 2**20
BACK_AFTER: Final = 3.0
"""Seconds until a server that died is back."""
LONGEST: Final = 30.0
SOON: Final = 1.0
MANY: Final = 500
"""From so many on their number is drawn, and the gaps between them are not counted."""


@dataclass
class Arm:
    """The servers of one version, taken together; `of_users` are those of its counts that users made, `since` counts the requests
    of the one that dies, `made` is whether there is a workload."""

    revision: Revision
    counts: dict[str, float] = field(default_factory=dict)
    of_users: dict[str, float] = field(default_factory=dict)
    restarts: int = 0
    since: float = 0.0
    gone_until: float = 0.0
    memory: float = MEMORY
    serving: frozenset[str] = frozenset()
    pods: int = 0
    made: bool = True


@dataclass
class World:
    """One object on its way from `stable` to the version that the spec names. `at` are seconds since it began."""

    resource: PinnDeployment
    source: Source
    seed: int = 0
    previous: str = "stable"
    at: float = 0.0
    first_request: float | None = None
    users: dict[str, float] = field(default_factory=lambda: {"requests": 0.0, "errors": 0.0})
    """What the new version did to users, in all."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311 - a simulation that can be repeated
        self.rules = rules_of(self.resource.spec)
        self.custom = {name: 1.0 for name in self.rules.counters if name.startswith(CUSTOM) and name.endswith("/total")}
        content = content_of(self.resource.spec)
        before = {**content, "model": {**content["model"], "version": self.previous, "name": content["model"]["name"]}}
        self.canary = Arm(Revision(name_of(content), 2, content, "", {}, BEGINS))
        self.stable = Arm(Revision(name_of(before), 1, before, "", {}, BEGINS))
        self.stable.pods, self.canary.pods = self._before()
        self.canary.made = self.canary.pods > 0  # where servers are asked for they are there at once
        self.traffic: Mapping[str, float] = {self.stable.revision.name: 100}
        self.selected: str | None = self.stable.revision.name
        self.memory: Memory | None = None
        self.owed = dict.fromkeys(("canary", "stable"), 0.0)
        status = Status(stable=Side(revision=self.stable.revision.name, model_version=self.previous))
        self.resource = self.resource.model_copy(update={"status": status})

    def passes(self) -> Iterator[tuple[Observed, Plan]]:
        """One after the other, for ever: who asks decides when it is enough. Ends where the source does."""
        while (moment := self.source.at(self._since())) is not None:
            seen = self._observe(moment)
            plan = decide(seen)
            yield seen, plan
            again = LONGEST if plan.look_again is None else plan.look_again
            self._wait(moment, min(SOON if self._write(plan) else LONGEST, max(0.1, again)))

    def annotate(self, name: str, value: str) -> None:
        """A person asks for something."""
        annotations = {**self.resource.metadata.annotations, name: value}
        metadata = self.resource.metadata.model_copy(update={"annotations": annotations})
        self.resource = self.resource.model_copy(update={"metadata": metadata})

    @property
    def journal(self) -> Journal | None:
        return self.memory.journal if self.memory else None

    def _before(self) -> tuple[int, int]:
        """The servers of stable and of the new version at first: autoscaled, that one has the fewest there may be."""
        spec = self.resource.spec
        scaling = spec.autoscaling if spec.replicas else None
        if scaling is None:
            return spec.replicas, spec.replicas
        return min(scaling.max_replicas, max(scaling.min_replicas, spec.replicas)), scaling.min_replicas

    def _since(self) -> float:
        return -1.0 if self.first_request is None else self.at - self.first_request

    # --- What is read ---

    def _observe(self, moment: Moment) -> Observed:
        arms = {arm.revision.name: arm for arm in (self.stable, self.canary)}
        workloads = {name: self._workload(arm, moment) for name, arm in arms.items() if arm.made}
        behind = {name: workload.ready for name, workload in workloads.items()}
        split = self.selected is None
        reached = {name: len(arm.serving) if split else behind.get(name, 0) for name, arm in arms.items()}
        seen = Observed(
            now=BEGINS + timedelta(seconds=self.at),
            resource=self.resource,
            server_image="",
            revisions={name: arm.revision for name, arm in arms.items()},
            workloads=workloads,
            selected=self.selected,
            endpoints={name: count for name, count in reached.items() if count and (split or name == self.selected)},
            behind=behind,
            servers=tuple(server for arm in arms.values() for server in self._servers(arm, moment)),
            route=Route({name: int(weight) for name, weight in self.traffic.items()}, True)
            if self._has_route
            else None,
            split=split,
            memory=self.memory,
        )
        measured = self._measured(seen, moment)
        return replace(seen, measured=measured)

    @property
    def _has_route(self) -> bool:
        traffic = self.resource.spec.traffic
        return traffic.gateway is not None or traffic.route_ref is not None

    def _workload(self, arm: Arm, moment: Moment) -> Workload:
        lost = arm.pods if arm is self.canary and not moment.comes_up else int(self.at < arm.gone_until)
        why = "its servers never say that they are ready" if lost and not moment.comes_up else None
        return Workload(pods=arm.pods, ready=max(0, arm.pods - lost), not_starting=why, asked=arm.pods)

    def _servers(self, arm: Arm, moment: Moment) -> Iterator[Server]:
        ready = self._workload(arm, moment).ready
        for number in range(arm.pods):
            pod, restarts = f"{arm.revision.name}-{number}", arm.restarts if number == 0 else 0
            up = number >= arm.pods - ready
            yield Server(arm.revision.name, pod, f"{restarts:012}", "", up, restarts, pod in arm.serving)

    def _measured(self, seen: Observed, moment: Moment) -> Measured | None:
        """What the journal asks for, when its time has come, as observe/measure.py has it."""
        journal = self.journal
        if journal is None or not journal.measure or seen.now.timestamp() < journal.measure_at - 0.05:
            return None
        if journal.measure == "smoke":
            return Measured(smoke=(True, ""))
        first, sla = is_first_in_interval(seen, journal), self.resource.spec.sla
        if journal.measure == "tick" and first and journal.quiet and sla.evidence == "LiveOrShadow":
            self._count(self.canary, REPLAYED, moment.canary)
            self._maybe_dies(self.canary, REPLAYED, moment.dies_after)
            self._count(self.stable, REPLAYED, moment.stable)
        pods = tuple(self._read(seen, arm, moment) for arm in (self.canary, self.stable))
        if journal.measure == "preflight":
            keys = self.resource.spec.cache.warm_up.keys
            return Measured(pods, self._checks(moment), warmed=keys, trouble=moment.trouble)
        asks = first and "physicsViolationRate" in {gate.name for gate in self.rules.gates}
        return Measured(pods, self._checks(moment) if asks and not moment.trouble else None, trouble=moment.trouble)

    def _read(self, seen: Observed, arm: Arm, moment: Moment) -> PodMetrics:
        name, process = arm.revision.name, f"{arm.revision.name}/{arm.restarts}"
        trouble = moment.trouble or ("connection refused" if not seen.workload(name).ready else "")
        if trouble:
            return PodMetrics(name, process, seen.now.timestamp(), None, trouble=trouble)
        counts = {**dict.fromkeys(self.rules.counters, 0.0), **arm.counts}
        users = {**dict.fromkeys(counts, 0.0), **arm.of_users}
        now, live = seen.now.timestamp(), users["requests"]
        return PodMetrics(name, process, now, counts, memory=arm.memory, live=live, users=users)

    def _checks(self, moment: Moment) -> dict[str, Checked]:
        told = ((self.canary, moment.canary), (self.stable, moment.stable))
        return {
            arm.revision.name: Checked(CHECKED, drawn(self.random, CHECKED, shares.get("violations", 0.0)))
            for arm, shares in told
        }

    # --- What is written ---

    def _write(self, plan: Plan) -> bool:
        """Whether servers came or went: then the operator looks at once."""
        self.memory = plan.memory or self.memory
        before = (self.canary.pods, self.stable.pods)
        for arm in (self.canary, self.stable):
            for run in plan.run:
                if run.revision.name == arm.revision.name:
                    arm.pods, arm.made = _asked(run, arm.pods), True
        if plan.traffic is not None:
            self._divide(plan.traffic)
        return before != (self.canary.pods, self.stable.pods)

    def _divide(self, traffic: Traffic) -> None:
        self.traffic, self.selected = traffic.weights, traffic.selected
        for arm in (self.canary, self.stable):
            own = (f"{arm.revision.name}-{number}" for number in range(arm.pods))
            arm.serving = frozenset(pod for pod in own if pod in traffic.labelled)
        if self.first_request is None and self.share > 0:
            self.first_request = self.at

    @property
    def share(self) -> float:
        """Of the new version, from 0 to 1: what the route says, or how many servers of each carry the label."""
        if self._has_route:
            return self.traffic.get(self.canary.revision.name, 0) / 100
        if self.selected is not None:
            return float(self.selected == self.canary.revision.name)
        return len(self.canary.serving) / max(1, len(self.canary.serving) + len(self.stable.serving))

    @property
    def weight(self) -> int:
        """The same in percent."""
        return round(100 * self.share)

    # --- What happens by itself ---

    def _wait(self, moment: Moment, seconds: float) -> None:
        """Time passes, and users send requests."""
        up = self.at >= self.canary.gone_until
        asked = {"canary": moment.rate * self.share * seconds * up, "stable": moment.rate * (1 - self.share) * seconds}
        for name, arm, shares in (("canary", self.canary, moment.canary), ("stable", self.stable, moment.stable)):
            self.owed[name] += asked[name]
            events = floor(self.owed[name])
            self.owed[name] -= events
            found = self._count(arm, events, shares)
            _add(arm.of_users, found)
            if arm is self.canary:
                self.users["requests"] += events
                self.users["errors"] += found.get("errors", 0.0)
                arm.memory += moment.grows * seconds / 3600
                self._maybe_dies(arm, events, moment.dies_after)
        self.at = round(self.at + seconds, 3)

    def _maybe_dies(self, arm: Arm, events: float, after: int | None) -> None:
        """What a process counted is lost with it."""
        arm.since += events
        if after is not None and arm.since >= after:
            arm.restarts, arm.since, arm.counts, arm.of_users, arm.memory = arm.restarts + 1, 0.0, {}, {}, MEMORY
            arm.gone_until = self.at + BACK_AFTER

    def _count(self, arm: Arm, events: int, shares: Shares) -> Mapping[str, float]:
        """The servers of an arm answer so many requests."""
        found: dict[str, float] = {"requests": float(events)}
        for name in sorted(self.custom.keys() | shares.keys() - {"violations"}, key=_order):
            among, share = counted_among(name), shares.get(name, self.custom.get(name, 0.0))
            if _bound(name):
                among, share = self._slower_than_before(name, shares, share)
            found[name] = float(drawn(self.random, int(found.get(among, events)), share))
        _add(arm.counts, found)
        return found

    @staticmethod
    def _slower_than_before(name: str, shares: Shares, share: float) -> tuple[str, float]:
        """What is slower than one bound is counted among those slower than the bound before it."""
        lower = [one for one in shares if 0 < _bound(one) < _bound(name)]
        if not lower:
            return "timed", share
        before = max(lower, key=_bound)
        return before, share / shares[before] if shares[before] else 0.0


def _add(counts: dict[str, float], more: Mapping[str, float]) -> None:
    for name, count in more.items():
        counts[name] = counts.get(name, 0.0) + count


def _asked(run: Run, now: int) -> int:
    """The servers that a plan asks for. An autoscaler has nothing to go by here and keeps those there are, within its bounds."""
    return run.replicas if run.scale is None else min(run.scale.most, max(run.scale.fewest, now))


@cache
def _order(counter: str) -> tuple[int, float, str]:
    """What others are counted among comes first; of slow answers, the less slow."""
    return (int(counted_among(counter) != "requests"), _bound(counter), counter)


@cache
def _bound(counter: str) -> float:
    """Of a counter of slow answers, in seconds; 0 for any other."""
    return float(counter.removeprefix("slower_than_")) if counter.startswith("slower_than_") else 0.0


def drawn(source: random.Random, events: int, share: float) -> int:
    """How many of so many events, each with that chance. Counts the gaps between them: few steps where few are."""
    if share <= 0 or events <= 0:
        return 0
    if share >= 1:
        return events
    if share > 0.5:
        return events - drawn(source, events, 1 - share)
    if events * share > MANY:
        return _halved(source, events, share)
    at, found, gap = 0, 0, log(1 - share)
    while True:
        at += floor(log(1.0 - source.random()) / gap) + 1
        if at > events:
            return found
        found += 1


def _halved(source: random.Random, events: int, share: float) -> int:
    """The same for many: each event is a number between 0 and 1, drawn if it is below the share. That in the middle of them in
    order is drawn first, and on which side of the share it falls settles half of them (Devroye, Non-Uniform Random Variate
    Generation, chapter X, recursive methods)."""
    middle = events // 2 + 1
    at = source.betavariate(middle, events + 1 - middle)
    if at > share:
        return drawn(source, middle - 1, share / at)
    return middle + drawn(source, events - middle, (share - at) / (1 - at))
