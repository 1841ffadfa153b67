"""Breadth-first search through everything that can happen to a rollout, driven by `decide` alone, with what must never happen
checked at every write and what must happen in the end checked from a sample of the states.

Real are `decide`, the journal, and how counters become increments; restarts and readiness are counted by the operator's code too.
A stand-in is what the increments are worth (`Tiny`, `take`, `judge`): one bad event fails a step, one good one passes it, instead
of hundreds; physics and memory have no stand-in and are off. Time goes in steps of ten seconds, and what is older than any limit
is as old as the limit. A pass that was held up acts on what it read before another pass: then what carries a resourceVersion
conflicts when it has changed, as in act/.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from unittest import mock

from pinn_operator.api.journal import Journal
from pinn_operator.api.memory import Memory
from pinn_operator.api.observed import Observed, Route, Workload
from pinn_operator.api.plan import Phase, Plan
from pinn_operator.api.readings import Measured, PodMetrics, Server
from pinn_operator.api.resource import PinnDeployment
from pinn_operator.api.revision import Revision
from pinn_operator.decide import canary, decide, watch
from pinn_operator.decide.evidence import Reading, Rules, StepVerdict, counters, rules_of
from pinn_operator.decide.evidence.hard import Restarts, unready_since
from pinn_operator.decide.requests import ANNOTATIONS
from tests.given import GATEWAY, NOW, only, resource, revision

VERSIONS: Final = (1, 2, 3)
REVISIONS: Final = {v: revision(f"{v}.0.0", v) for v in VERSIONS}
NAMES: Final = {v: one.name for v, one in REVISIONS.items()}
BY_NAME: Final = {name: v for v, name in NAMES.items()}
SECONDS: Final = 10
"""One step of time; the interval of readings and the hold of a step, too."""
OLDEST: Final = 50
"""Older than every limit of the model: way back 40 s, quiet and smoke 30 s, deadline, longest hold and away 20 s, stale 25 s,
absent 10 s."""
AT: Final = NOW.timestamp()
VERBS: Final = tuple(ANNOTATIONS)


class Violation(AssertionError):
    """Something that must never happen; the way to it is in `trail`."""


@dataclass(frozen=True)
class Setting:
    """What is explored: how shares are made, what happens without a verdict, how many edits and faults there may be, and from
    which step on, or from when stable's servers were let go: a search that begins in the middle of a rollout comes further."""

    gateway: bool = True
    when_undecided: str = "RollBack"
    replicas: int = 2
    edits: int = 2
    faults: int = 1
    step: int = 0
    retain_stable: str = "Full"
    gone: bool = False

    def spec(self, state: State) -> dict[str, Any]:
        return {
            "replicas": state.replicas,
            "rollout": {
                "steps": [{"weight": 50, "hold": "10s"}, {"weight": 100, "hold": "10s"}],
                "maxHold": "20s",
                "whenUndecided": self.when_undecided,
                "progressDeadline": "20s",
                "rollbackWithin": "40s",
                "paused": state.paused,
                "retainStable": self.retain_stable,
            },
            "sla": only(errorRate="1%"),
            "cache": {"warmUp": {"from": "None"}},
            "traffic": dict(GATEWAY) if self.gateway else {"allowCoarse": True},
            "metrics": {"interval": "10s"},
        }


class Pods(NamedTuple):
    """The servers of a revision: how many, of them the first so many ready, how often the first has restarted, and what it has
    counted since the reading that is stored: requests, and those that failed; `told` of them were in one that was stored."""

    size: int
    ready: int = 0
    restarts: int = 0
    requests: int = 0
    errors: int = 0
    told: int = 0


class State(NamedTuple):
    """All that the API server, the gateway and the servers know. Times within `memory` are as of now."""

    version: int = 1
    paused: bool = False
    replicas: int = 2
    asked: tuple[str, ...] = ("",) * len(VERBS)
    records: frozenset[int] = frozenset()
    pods: tuple[Pods | None, ...] = (None, None, None)
    behind: tuple[int, ...] = (0, 0, 0)
    endpoints: tuple[int, ...] = (0, 0, 0)
    selected: int | None = None
    split: bool = False
    labelled: frozenset[str] = frozenset()
    weights: tuple[int, ...] | None = None
    taken: tuple[int, ...] = (0, 0, 0)
    memory: Remembered | None = None
    stable: int | None = None
    rejected: frozenset[int] = frozenset()
    reported: bool = False
    handled: tuple[str, ...] = ("",) * len(VERBS)
    edits: int = 0
    faults: int = 0

    def share(self, version: int) -> int:
        """What it is meant to get, by what the gateway or the Service is told, in percent."""
        if self.weights is not None:
            return self.weights[version - 1]
        if self.split:
            own = sum(pod.startswith(f"{version}-") for pod in self.labelled)
            return 100 * own // len(self.labelled) if own else 0
        return 100 if self.selected == version else 0

    def is_sent_requests(self, version: int) -> bool:
        """By any means, and also by what the gateway or the endpoints still are."""
        reached = self.weights is None or self.taken[version - 1] == 0
        return self.share(version) > 0 or not reached or self.endpoints[version - 1] > 0

    def of(self, version: int) -> Pods | None:
        return self.pods[version - 1]

    def with_pods(self, version: int, pods: Pods | None) -> State:
        at = version - 1
        return self._replace(pods=(*self.pods[:at], pods, *self.pods[at + 1 :]))


# --- The stand-in for evidence ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tiny:
    """In place of the ledger. `good` and `bad` are the events of this step, `total` all that were counted since it was stored."""

    counters: counters.Counters = field(default_factory=counters.Counters)
    good: int = 0
    bad: int = 0
    sick: bool = False
    restarts: Restarts = field(default_factory=Restarts)
    unready: float | None = None
    total: int = 0
    step_began: float = 0.0


class Remembered(NamedTuple):
    """What is stored, in a form that can be compared: the journal without its stories, and the tiny ledger."""

    journal: Journal
    ledger: Tiny
    handled: tuple[str, ...]
    former: Frozen


def ledger_of(seen: Observed) -> Tiny:
    return seen.memory.ledger["it"] if seen.memory and seen.memory.ledger else Tiny()


def dumped(ledger: Tiny) -> Mapping[str, object]:
    return {"it": ledger}


def take(ledger: Tiny, rules: Rules, reading: Reading) -> Tiny:
    ledger = replace(
        ledger,
        restarts=ledger.restarts.after(reading.restarts),
        unready=unready_since(ledger.unready, reading.now, reading.ready["canary"]),
    )
    if not reading.samples:
        return ledger
    known, found = counters.advance(ledger.counters, reading.samples, rules.counters, reading.now, reading.interval)
    if isinstance(found, str):
        return ledger
    requests, bad = int(found.canary["requests"]), int(found.canary["errors"])
    return replace(
        ledger,
        counters=known,
        good=min(1, ledger.good + requests - bad),
        bad=min(1, ledger.bad + bad),
        sick=found.stable["errors"] > 0,
        total=ledger.total + requests,
    )


def begin_step(ledger: Tiny, rules: Rules, now: float, left: int, *, bake: bool = False) -> Tiny:
    return replace(ledger, good=0, bad=0, restarts=ledger.restarts.at_a_new_step(), step_began=1.0)


def judge(ledger: Tiny, rules: Rules, now: float, interval: float, step_ends: float | None = None) -> StepVerdict:
    LAST_VERDICT[0] = verdict = _judged(ledger, now, interval)
    return verdict


def _judged(ledger: Tiny, now: float, interval: float) -> StepVerdict:
    fresh = ledger.counters.at is not None and now - ledger.counters.at <= counters.STALE_AFTER * interval
    if ledger.restarts.in_step >= 2:
        return StepVerdict("Failing", "restarts", blamed=True)
    if ledger.unready is not None and now - ledger.unready >= 2 * SECONDS:
        return StepVerdict("Failing", "down", blamed=True)
    if ledger.bad and not ledger.sick:
        return StepVerdict("Failing", "errors", blamed=True)
    if not fresh:
        return StepVerdict("NoMetrics", "none")
    if ledger.bad:
        return StepVerdict("Frozen", "both")
    if not ledger.good:
        return StepVerdict("NoTraffic", "silence")
    return StepVerdict("Undecided", "one restart") if ledger.restarts.in_step else StepVerdict("Passing", "good")


LAST_VERDICT: list[StepVerdict | None] = [None]


@contextmanager
def stand_in() -> Iterator[None]:
    """Within it `decide` goes by the stand-in."""
    rules = rules_of(resource(sla=only(errorRate="1%"), cache={"warmUp": {"from": "None"}}).spec)
    few = Rules(gates=rules.gates)
    with (
        mock.patch.multiple(
            canary,
            ledger_of=ledger_of,
            dumped=dumped,
            begin_step=begin_step,
            judge=judge,
            Ledger=Tiny,
            rules_of=lambda _: few,
            ABSENT_SECONDS=SECONDS,
        ),
        mock.patch.object(watch, "take", take),
        mock.patch.object(watch, "AWAY_SECONDS", 2 * SECONDS),
        mock.patch("pinn_operator.decide.rollout.wanted_revision", _wanted),
    ):
        yield


def _wanted(seen: Observed) -> Revision:
    """The same, without hashing the spec in each of some million passes."""
    one = REVISIONS[int(seen.resource.spec.model.version[0])]
    return seen.revisions.get(one.name) or replace(one, template=None, created=None)


# --- Time ------------------------------------------------------------------------------------------------------------


def _aged(at: float | None, by: float) -> float | None:
    return None if at is None else max(AT - OLDEST, at - by)


def _later(memory: Remembered, by: float) -> Remembered:
    """As it looks when so much time has passed; with 0, in the form in which states are compared."""
    j, known = memory.journal, memory.ledger.counters
    journal = (
        replace(  # what _changes tells is always another moment when it is set, so it need not be kept to conflict
            j,
            began=_aged(j.began, by) or 0.0,
            ended=_aged(j.ended, by),
            **j.moments(lambda at: _aged(at, by)),
            untried="it could not be read" if j.untried else "",
            measure_at=AT + SECONDS if j.measure_at - by > AT else max(AT - 2 * SECONDS, j.measure_at - by),
            rose_at=0.0,
            let_go_at=None if j.let_go_at is None else AT - OLDEST,
            live=0.0,
            quiet=True,
            reason="",
            sentence="it ended" if j.ending else "",
            smoke="it was asked" if j.smoke else "",
            timeline=(),
            minutes=(),
            gates=(),
        )
    )
    pods = {name: counters.Known(_aged(one.at, by) or 0.0, one.counts) for name, one in known.pods.items()}
    ledger = replace(
        memory.ledger,
        counters=counters.Counters(_aged(known.at, by), Frozen(pods)),
        unready=_aged(memory.ledger.unready, by),
        restarts=replace(memory.ledger.restarts, by_pod=Frozen(memory.ledger.restarts.by_pod)),
    )
    return Remembered(replace(journal, shadow=Frozen(journal.shadow)), ledger, memory.handled, memory.former)


class Frozen(dict[Any, Any]):
    """A mapping that can be part of a state."""

    def __hash__(self) -> int:  # type: ignore[override]  # never changed once it is here
        return hash(tuple(sorted((key, repr(value)) for key, value in self.items())))


def settled(state: State) -> State:
    """Counts as differences to what is stored: only they matter, and there are few of them."""
    memory = state.memory
    if memory is None:
        return state
    ledger, pods = memory.ledger, dict(memory.ledger.counters.pods)
    for version in VERSIONS:
        own = state.of(version)
        name = _process(version, own.restarts) if own else ""
        if own is None or name not in pods:
            continue
        counted = pods[name].counts
        state = state.with_pods(
            version,
            own._replace(
                requests=max(0, own.requests - int(counted["requests"])),
                errors=max(0, own.errors - int(counted["errors"])),
                told=max(0, own.told - int(counted["requests"])),
            ),
        )
    here = {_process(v, one.restarts) for v in VERSIONS if (one := state.of(v))}
    kept = {
        name: counters.Known(one.at, Frozen(dict.fromkeys(one.counts, 0.0)))
        for name, one in pods.items()
        if name in here or name.startswith("shadow")
    }
    ledger = replace(ledger, counters=counters.Counters(ledger.counters.at, Frozen(kept)), total=0)
    return state._replace(memory=memory._replace(ledger=ledger))


def _process(version: int, restarts: int) -> str:
    return f"{version}-0/{restarts}"


# --- What a pass reads -----------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=200_000)
def _resource(setting: Setting, state: State, reported: tuple[str, float] | None) -> PinnDeployment:
    """`state` has nothing but what the object shows; `reported` is the rollout that its history ends with."""
    status: dict[str, Any] = {
        "rejected": [{"revision": NAMES[v], "reason": "it failed"} for v in sorted(state.rejected)]
    }
    if state.stable:
        status["stable"] = {"revision": NAMES[state.stable]}
    status["lastHandled"] = {verb: value for verb, value in zip(VERBS, state.handled, strict=True) if value}
    if reported:
        at = datetime.fromtimestamp(int(reported[1]), UTC).isoformat()
        status["history"] = [{"revision": reported[0], "at": at}]
    asked = {ANNOTATIONS[verb]: value for verb, value in zip(VERBS, state.asked, strict=True) if value}
    return resource(f"{state.version}.0.0", metadata={"annotations": asked}, status=status, **setting.spec(state))


def observe(setting: Setting, state: State, *, metrics: bool = True) -> Observed:
    shown = State(
        version=state.version,
        paused=state.paused,
        replicas=state.replicas,
        asked=state.asked,
        stable=state.stable,
        rejected=state.rejected,
        handled=state.handled,
    )
    ended = state.memory.journal if state.memory and state.reported else None
    reported = (ended.canary.revision, ended.ended or 0.0) if ended else None
    weights = state.weights
    seen = Observed(
        now=NOW,
        resource=_resource(setting, shown, reported),
        server_image="inference:1",
        revisions={NAMES[v]: REVISIONS[v] for v in sorted(state.records)},
        workloads={NAMES[v]: Workload(one.size, one.ready) for v in VERSIONS if (one := state.of(v))},
        selected=NAMES[state.selected] if state.selected else None,
        endpoints={NAMES[v]: count for v in VERSIONS if (count := state.endpoints[v - 1])},
        behind={NAMES[v]: state.behind[v - 1] for v in state.records},
        servers=tuple(_servers(state)),
        route=Route(_named(weights), weights == state.taken) if weights is not None else None,
        split=state.split,
        memory=_memory(state.memory),
    )
    return replace(seen, measured=_measured(state, seen, metrics))


def _named(weights: tuple[int, ...]) -> dict[str, int]:
    return {NAMES[v]: weights[v - 1] for v in VERSIONS if weights[v - 1]}


def _memory(stored: Remembered | None) -> Memory | None:
    if stored is None:
        return None
    done = {str(verb): value for verb, value in zip(VERBS, stored.handled, strict=True) if value}
    return Memory(stored.journal, {"it": stored.ledger}, done, stored.former)


def _servers(state: State) -> Iterator[Server]:
    for version in VERSIONS:
        own = state.of(version)
        for number in range(own.size if own else 0):
            assert own is not None
            name, restarts = f"{version}-{number}", 0 if number else own.restarts
            yield Server(
                NAMES[version], name, str(restarts), "10.0.0.1", number < own.ready, restarts, name in state.labelled
            )


def _measured(state: State, seen: Observed, metrics: bool) -> Measured | None:
    journal = state.memory.journal if state.memory else None
    if journal is None or not journal.measure or journal.measure_at > AT:
        return None
    if journal.measure == "smoke":
        stable = state.of(BY_NAME[journal.stable.revision])
        return Measured(smoke=(stable is not None and stable.ready > 0, "it was asked"))
    arms = (journal.canary.revision, journal.stable.revision)
    pods = []
    for server in seen.servers:
        if server.revision not in arms or not server.pod.endswith("-0"):
            continue
        own = state.of(BY_NAME[server.revision])
        readable = metrics and server.ready and own is not None
        counts = {"requests": float(own.requests), "errors": float(own.errors)} if own and readable else None
        pods.append(PodMetrics(server.revision, server.process, AT, counts))
    return Measured(tuple(pods))


# --- What a pass writes ----------------------------------------------------------------------------------------------


class Decision(NamedTuple):
    """A plan, and the verdict that it was made on."""

    plan: Plan
    verdict: StepVerdict | None


def decided(setting: Setting, state: State, *, metrics: bool = True) -> Decision:
    LAST_VERDICT[0] = None
    plan = decide(observe(setting, state, metrics=metrics))
    return Decision(plan, LAST_VERDICT[0])


class Conflict(Exception):
    """What a write wanted to change has changed since it was read."""


def pinned(read: object, live: object) -> None:
    """A write that carries the resourceVersion of what was read."""
    if read != live:
        raise Conflict


def written(setting: Setting, decision: Decision, read: State, live: State) -> Iterator[State]:
    """The states after each write of a pass that read `read`, in act's order. It ends with the first conflict."""
    plan = decision.plan
    latest = read.memory
    for write in (_workloads, _remember, _label, _route, _service, _remove, _status):
        try:
            after = write(setting, decision, read, live)
        except Conflict:
            return
        if after != live:
            latest = after.memory if write is _remember else latest
            check(setting, plan, read, live, after, latest)
            live = after
            yield live


def _workloads(setting: Setting, decision: Decision, read: State, live: State) -> State:
    for run in decision.plan.run:
        version = BY_NAME[run.revision.name]
        own = live.of(version) or Pods(0)
        own = own._replace(size=run.replicas, ready=min(own.ready, run.replicas))
        live = live._replace(records=live.records | {version}).with_pods(version, own)
    return live._replace(labelled=live.labelled & {server.pod for server in _servers(live)})


def _changes(journal: Journal) -> bool:
    """What is another moment whenever it is set."""
    return journal.rose_at >= AT or (journal.let_go_at or 0.0) >= AT


def _remember(setting: Setting, decision: Decision, read: State, live: State) -> State:
    plan = decision.plan
    if plan.memory is None or plan.memory.journal is None:
        return live
    done = tuple(plan.memory.handled.get(verb, "") for verb in VERBS)
    ledger = plan.memory.ledger.get("it", Tiny())
    new = Remembered(plan.memory.journal, ledger, done, Frozen(plan.memory.former))
    new, changes = _later(new, 0), _changes(plan.memory.journal)
    if new == read.memory and not changes:
        return live
    pinned(read.memory, live.memory)
    check_evidence(decision, read, new)
    old = live.memory.journal if live.memory else None
    same = old is not None and (old.canary, old.ended) == (new.journal.canary, new.journal.ended)
    return settled(_with_told(live, new)._replace(memory=new, reported=live.reported and same))


def _with_told(live: State, new: Remembered) -> State:
    """What the canary had counted is in what is stored now."""
    version = BY_NAME[new.journal.canary.revision]
    own = live.of(version)
    if own is None or not new.ledger.total:
        return live
    return live.with_pods(version, own._replace(told=min(own.requests, own.told + new.ledger.total)))


def _label(setting: Setting, decision: Decision, read: State, live: State) -> State:
    traffic = decision.plan.traffic
    if setting.gateway or traffic is None or traffic.selected is not None:
        return live
    of = {BY_NAME[name] for name in traffic.weights}
    given = traffic.labelled - read.labelled
    taken = {pod for pod in read.labelled - traffic.labelled if int(pod[0]) in of}
    there = {server.pod for server in _servers(live)}
    return live._replace(labelled=((live.labelled | given) - taken) & there)


def _route(setting: Setting, decision: Decision, read: State, live: State) -> State:
    traffic = decision.plan.traffic
    if not setting.gateway or traffic is None:
        return live
    new = tuple(traffic.weights.get(NAMES[v], 0) for v in VERSIONS)
    if new == read.weights:
        return live
    pinned(read.weights, live.weights)
    return live._replace(weights=new)


def _service(setting: Setting, decision: Decision, read: State, live: State) -> State:
    traffic = decision.plan.traffic
    if traffic is None:
        return live
    new = (BY_NAME[traffic.selected] if traffic.selected else None, traffic.selected is None)
    if new == (read.selected, read.split):
        return live
    pinned((read.selected, read.split), (live.selected, live.split))
    return live._replace(selected=new[0], split=new[1])


def _remove(setting: Setting, decision: Decision, read: State, live: State) -> State:
    """After a last look: the spec, and whom the Service selects, are as the plan has them."""
    plan = decision.plan
    kept = {BY_NAME[run.revision.name] for run in plan.run}
    gone = [v for v in VERSIONS if read.of(v) is not None and v not in kept]
    if not gone:
        return live
    pinned((read.version, read.paused, read.replicas), (live.version, live.paused, live.replicas))
    selected = NAMES[live.selected] if live.selected else None
    pinned(plan.traffic.selected if plan.traffic else selected, selected)
    for version in gone:
        live = live.with_pods(version, None)
        behind = tuple(0 if v == version else live.behind[v - 1] for v in VERSIONS)
        live = live._replace(
            behind=behind, labelled=frozenset(pod for pod in live.labelled if not pod.startswith(f"{version}-"))
        )
    return live


def _status(setting: Setting, decision: Decision, read: State, live: State) -> State:
    plan = decision.plan
    new = (
        BY_NAME[plan.stable.name] if plan.stable else None,
        frozenset(BY_NAME[one.revision] for one in plan.rejected or ()),
        tuple(getattr(plan.handled, verb) or "" for verb in VERBS),
    )
    if new == (read.stable, read.rejected, read.handled) and plan.finished is None:
        return live
    pinned(
        (read.version, read.paused, read.replicas, read.asked, read.stable, read.rejected, read.reported),
        (
            live.version,
            live.paused,
            live.replicas,
            live.asked,
            live.stable,
            live.rejected,
            live.reported and read.reported,
        ),
    )
    return live._replace(
        stable=new[0], rejected=new[1], handled=new[2], reported=live.reported or plan.finished is not None
    )


# --- What must never happen ------------------------------------------------------------------------------------------


def check(setting: Setting, plan: Plan, read: State, before: State, after: State, latest: Remembered | None) -> None:
    """At every write. `latest` is what this pass has read, or stored itself."""
    stable = BY_NAME[plan.stable.name] if plan.stable else None
    for version in VERSIONS:
        own = before.of(version)
        given = before.pods == after.pods  # shares by labels shift also when servers come and go
        if given and after.share(version) > before.share(version) and stable is not None and version != stable:
            seen = read.of(version)
            there = seen is not None and min(seen.ready, read.behind[version - 1]) >= read.replicas
            alone = had_it_all(read, version) and not read.behind[stable - 1] and read.behind[version - 1] > 0
            _demand(
                there or alone, f"the weight of {version} rises, and not every server is ready and behind its Service"
            )
            _demand(before.memory == latest, f"the weight of {version} rises, and somebody else knows more")
        if own is not None and after.of(version) is None:
            _demand(not before.is_sent_requests(version), f"{version} is removed while it is sent requests")
            others = any(read.behind[v - 1] for v in VERSIONS if v != version and before.share(v))
            alone = had_it_all(read, version) and not others and read.behind[version - 1] > 0
            _demand(not alone, f"{version} is removed while nobody else can answer")
    if after.weights is not None:
        _demand(sum(after.weights) == 100, "weights do not sum to 100")
    served = [v for v in VERSIONS if after.share(v)]
    if before.stable is not None and after.replicas:
        _demand(all(after.of(v) is not None for v in served), "who has a share has no servers")
        _demand(any(after.pods), "neither stable nor the canary has servers")
    if read.reported and after.reported and plan.finished is not None and before.memory == after.memory:
        _demand(not read.reported, "a rollout is reported twice")


def had_it_all(state: State, version: int) -> bool:
    """In a rollout that goes on, or is rolled back: not one that the spec has taken back."""
    journal = state.memory.journal if state.memory else None
    return (
        journal is not None
        and not state.reported
        and journal.ending in ("", "RolledBack")
        and journal.weight == 100
        and BY_NAME[journal.canary.revision] == version
    )


def check_evidence(decision: Decision, read: State, new: Remembered) -> None:
    """When something is stored."""
    old, journal = read.memory, new.journal
    version = BY_NAME[journal.canary.revision]
    same = old is not None and old.journal.canary == journal.canary and not old.journal.ending
    step = old.journal.step if old is not None and same else 0
    for verb, value, before in zip(VERBS, new.handled, old.handled if old else new.handled, strict=True):
        former = old.former.get(verb, ()) if old else ()
        _demand(value == before or value not in former, f"what was said by {verb} is acted upon twice")
    promote = VERBS.index("promote")
    by_person = old is not None and new.handled[promote] != old.handled[promote]
    verdict = decision.verdict.verdict if decision.verdict else ""
    if journal.step > step and not journal.ending:
        _demand(journal.step == step + 1, "a step is left out")
        _demand(step == 0 or verdict == "Passing" or by_person, "a step is taken without evidence")
    if journal.ending == "Promoted" and read.replicas and (old is None or not old.journal.ending):
        _demand(step == 2, "promoted from elsewhere than the bake")
        _demand(verdict == "Passing" or by_person, "promoted without evidence")
    own = read.of(version)
    _demand(new.ledger.total <= (own.requests - own.told if own else 0), "evidence is counted twice")


def _demand(holds: bool, said: str) -> None:
    if not holds:
        raise Violation(said)


# --- What happens by itself, and what people do ----------------------------------------------------------------------

Move = tuple[str, State]


def moves(setting: Setting, state: State) -> Iterator[Move]:
    """Everything that can happen next, but for the operator."""
    yield from _of_pods(state)
    yield "endpoints catch up", caught_up(state)
    if state.weights is not None:
        yield "the gateway takes the route", state._replace(taken=state.weights)
    yield "time passes", later(state)
    if state.edits:
        yield from ((said, after._replace(edits=state.edits - 1)) for said, after in _of_people(state))
    if state.faults:
        yield from ((said, after._replace(faults=state.faults - 1)) for said, after in _of_fate(state))


def _of_pods(state: State) -> Iterator[Move]:
    for version in VERSIONS:
        own = state.of(version)
        if own is None:
            continue
        if own.ready < own.size:
            yield f"a server of {version} becomes ready", state.with_pods(version, own._replace(ready=own.ready + 1))
        if own.ready:
            yield f"a server of {version} is not ready", state.with_pods(version, own._replace(ready=own.ready - 1))
            if own.restarts < 2:
                anew = own._replace(ready=own.ready - 1, restarts=own.restarts + 1, requests=0, errors=0, told=0)
                yield f"a server of {version} restarts", state.with_pods(version, anew)
        if own.ready and not own.requests and gets_requests(state, version):
            yield f"a good answer of {version}", state.with_pods(version, own._replace(requests=1))
            yield f"an error of {version}", state.with_pods(version, own._replace(requests=1, errors=1))


def gets_requests(state: State, version: int) -> bool:
    return bool(state.taken[version - 1] if state.weights is not None else state.endpoints[version - 1])


def _of_people(state: State) -> Iterator[Move]:
    for version in VERSIONS:
        if version != state.version:
            yield f"spec: {version}.0.0", state._replace(version=version)
    yield "spec: paused or not", state._replace(paused=not state.paused)
    yield "spec: scaled", state._replace(replicas=1 if state.replicas == 2 else 2)
    for at, verb in enumerate(VERBS):
        value = f"{NAMES[state.version]}@1"
        if state.asked[at] != value:
            yield f"annotated: {verb}", state._replace(asked=(*state.asked[:at], value, *state.asked[at + 1 :]))


def _of_fate(state: State) -> Iterator[Move]:
    if state.memory is not None:
        yield "what was stored is deleted", state._replace(memory=None, reported=False)
    if state.stable is not None and state.memory is not None:
        yield (
            "the status is lost",
            state._replace(stable=None, rejected=frozenset(), reported=False, handled=("",) * len(VERBS)),
        )


def caught_up(state: State) -> State:
    """Endpoints follow readiness and selectors."""
    behind = tuple(own.ready if (own := state.of(v)) else 0 for v in VERSIONS)
    chosen = []
    for version in VERSIONS:
        ready = [server for server in _servers(state) if server.revision == NAMES[version] and server.ready]
        marked = sum(server.serving for server in ready) if state.split else 0
        chosen.append(len(ready) if state.selected == version else marked)
    return state._replace(behind=behind, endpoints=tuple(chosen))


def later(state: State) -> State:
    return state._replace(memory=_later(state.memory, SECONDS)) if state.memory else state


# --- The operator ----------------------------------------------------------------------------------------------------


def passes(setting: Setting, state: State) -> Iterator[Move]:
    """A pass, cut off after each of its writes or complete; and one that acts on what it read before another one acted."""
    decision = decided(setting, state)
    whole = state
    for number, after in enumerate(written(setting, decision, state, state)):
        whole = after
        yield f"a pass, {number + 1} writes", after
    if state.memory and state.memory.journal.measure and state.memory.journal.measure_at <= AT:
        blind = decided(setting, state, metrics=False)
        for number, after in enumerate(written(setting, blind, state, state)):
            yield f"a pass without metrics, {number + 1} writes", after
    for said, moved in (("", whole), *_between(setting, state)):
        if moved != state:
            for number, after in enumerate(written(setting, decision, state, moved)):
                yield f"a pass that was held up{said}, {number + 1} writes", after


def _between(setting: Setting, state: State) -> Iterator[Move]:
    """Another pass, after something happened that may have changed its mind."""
    for said, moved in moves(setting, state):
        if said.startswith(("spec", "time", "the gateway")) or "not ready" in said:
            yield f" ({said})", run(setting, moved)


def run(setting: Setting, state: State) -> State:
    """A whole pass."""
    for after in written(setting, decided(setting, state), state, state):
        state = after
    return state


# --- The search ------------------------------------------------------------------------------------------------------


def start(setting: Setting) -> State:
    """1.0.0 serves, with all its servers, and the spec has just come to ask for 2.0.0; or it has come to that step, or so far
    that 1.0.0 has no servers any more."""
    state = State(replicas=setting.replicas, edits=setting.edits, faults=setting.faults)
    for _ in range(6):
        state = fair(setting, state)
    state = state._replace(version=2)
    while (state.memory.journal.step if state.memory else 0) < setting.step:
        state = fair(setting, state)
    while setting.gone and state.of(1):
        state = well(setting, state)
    return state


@dataclass
class Explored:
    """What a search went through. `origin` says of each state how it was reached."""

    setting: Setting
    origin: dict[State, Move | None] = field(default_factory=dict)
    transitions: int = 0
    finished: bool = False

    def trail(self, state: State) -> list[str]:
        """What happened until then."""
        said = []
        while origin := self.origin[state]:
            said.append(origin[0])
            state = origin[1]
        return said[::-1]


def explore(setting: Setting, most: int) -> Explored:
    """Breadth first, until there are so many states or no more. Raises Violation with the way to it."""
    first = start(setting)
    found, queue = Explored(setting, {first: None}), deque([first])
    while queue and len(found.origin) < most:
        state = queue.popleft()
        try:
            for said, after in (*passes(setting, state), *moves(setting, state)):
                found.transitions += 1
                if after not in found.origin:
                    found.origin[after] = (said, state)
                    queue.append(after)
        except Violation as violation:
            raise Violation(f"{violation}, after: {'; '.join(found.trail(state))}") from violation
    found.finished = not queue
    return found


# --- What must happen in the end -------------------------------------------------------------------------------------


def fair(setting: Setting, state: State) -> State:
    """Once more with everything well, and time passes."""
    return later(well(setting, state))


def well(setting: Setting, state: State) -> State:
    """A pass before which servers are ready, endpoints and gateway follow, and users are answered."""
    for version in VERSIONS:
        if own := state.of(version):
            asked = 1 if gets_requests(state, version) else own.requests
            state = state.with_pods(version, own._replace(ready=own.size, requests=max(asked, own.requests)))
    state = caught_up(state)
    if state.weights is not None:
        state = state._replace(taken=state.weights)
    return run(setting, state)


ENDS: Final = (Phase.SERVING, Phase.ROLLED_BACK, Phase.UNDECIDED)


def end_of(setting: Setting, state: State, most: int = 60) -> tuple[Phase, int]:
    """Where it comes to rest once nothing goes wrong any more, and after how many passes. Violation where it does not.

    A step that waits for a person, as a server restarted in it, is at rest too.
    """
    state = state._replace(paused=False, edits=0, faults=0)
    for number in range(most):
        after = fair(setting, state)
        plan = decided(setting, after).plan
        alike = after._replace(memory=None) == state._replace(memory=None) == run(setting, after)._replace(memory=None)
        if alike and plan.phase in ENDS:
            stable = BY_NAME[plan.stable.name] if plan.stable else 0
            held = plan.phase is Phase.UNDECIDED
            _demand(held or after.selected == stable, f"it rests with {after.selected} selected and {stable} stable")
            _demand(held or [v for v in VERSIONS if after.of(v)] == [stable], "it rests with servers nobody needs")
            return plan.phase, number
        state = after
    raise Violation(f"it does not come to rest: {plan.phase.value}: {plan.sentence}")


def ends(found: Explored, every: int) -> dict[str, int]:
    """How a sample of the states ends, and after how many passes at most."""
    counts: dict[str, int] = {"passes_at_most": 0}
    for state in list(found.origin)[::every]:
        try:
            phase, number = end_of(found.setting, state)
        except Violation as violation:
            raise Violation(f"{violation}, after: {'; '.join(found.trail(state))}") from violation
        counts[phase.value] = counts.get(phase.value, 0) + 1
        counts["passes_at_most"] = max(counts["passes_at_most"], number)
    return counts
