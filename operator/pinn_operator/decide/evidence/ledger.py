"""All that is known about a rollout, and what one more reading adds to it. It is stored, so it is plain data of bounded size.

A reading is counted once or not at all; what it adds is a product, so a restart of the operator loses nothing. Which detector
answers which question is said in docs/concepts/evidence.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import log
from typing import Final

from pinn_operator.api.journal import past
from pinn_operator.decide.evidence import eprocess as e
from pinn_operator.decide.evidence.asking import Asking
from pinn_operator.decide.evidence.counters import (
    STALE_AFTER,
    Arm,
    Counters,
    Counts,
    Increments,
    Sample,
    advance,
    advance_by_some,
    of_users,
)
from pinn_operator.decide.evidence.eprocess import Detector, Watch
from pinn_operator.decide.evidence.gates import BAKE_DOUBT, BETA, Gate, Limit
from pinn_operator.decide.evidence.gpu import GpuUse
from pinn_operator.decide.evidence.hard import Restarts, Window, unready_since
from pinn_operator.decide.evidence.memory import Memory
from pinn_operator.decide.evidence.neighbours import Neighbours
from pinn_operator.decide.evidence.rules import MEMORY, Rules, Sustained

SICK: Final = log(20)
"""Log-evidence above which an arm is taken to be in breach where no alarm hangs on it."""
SUSPICIOUS: Final = 2
"""Which of the bets tells since when the canary has been suspicious."""
ENOUGH: Final = 100
"""Events of stable after which a bound of 1 means that its rate is high, and not that nobody knows it."""
BURSTY: Final = 2.0
"""Scatter above which bad events are taken to come in bursts."""


@dataclass(frozen=True, slots=True)
class Sum:
    """Events, those that are surely bad, and those that may be; in how many ticks, and bad^2 / events summed over them."""

    events: float = 0.0
    bad: float = 0.0
    maybe: float = 0.0
    ticks: int = 0
    squares: float = 0.0

    def __add__(self, tick: Sum) -> Sum:
        """With the events of one more tick."""
        if tick.events <= 0:
            return self
        return Sum(
            self.events + tick.events,
            self.bad + tick.bad,
            self.maybe + tick.maybe,
            self.ticks + 1,
            self.squares + tick.bad**2 / tick.events,
        )

    @property
    def scatter(self) -> float:
        """How much the rate differs between ticks, over what it would if every event were bad on its own (Pearson)."""
        rate = self.bad / self.events if self.events else 0.0
        if self.ticks < 2 or not 0 < rate < 1:
            return 1.0
        return (self.squares - rate * self.bad) / ((self.ticks - 1) * rate * (1 - rate))


@dataclass(frozen=True, slots=True)
class Breach:
    """Whether each arm breaks one limit, and whether the canary is worse than stable by what it speaks of.

    `of` is the limit as it was when this began, `share` the one in force: in the bake stable's own rate may raise it, which is
    that of `stable_before`, all that it did in the steps. The other sums are of this step, those called lately since there has
    been any suspicion (Page's sum of one bet, cut off at 0). `users` is the canary in this step by the requests of users alone,
    which many replayed ones would drown; `users_sum` are those.
    """

    of: str
    share: float
    canary: Detector = field(default_factory=Detector)
    stable: Watch = field(default_factory=Watch)
    together: Detector = field(default_factory=Detector)
    canary_sum: Sum = Sum()
    stable_sum: Sum = Sum()
    canary_lately: Sum = Sum()
    stable_lately: Sum = Sum()
    suspicion: float = 0.0
    stable_before: Sum = Sum()
    users: Detector = field(default_factory=Detector)
    users_sum: Sum = Sum()

    @property
    def is_suspicious(self) -> bool:
        """Whether the canary looks beyond the limit by all requests, not surely enough to fail."""
        return self.canary.log_evidence > SICK

    @property
    def users_complain(self) -> bool:
        """The same by the requests of users in this step."""
        return self.users_sum.events > 0 and self.users.log_evidence > SICK

    @property
    def stable_is_sick(self) -> bool:
        return self.stable.log_evidence > SICK

    @property
    def in_bursts(self) -> bool:
        """Whether the canary's bad events come in bursts, so that those of stable may be still to come."""
        return self.canary_sum.scatter > BURSTY

    def at_a_new_step(self, mass: float, share: float, bake: bool) -> Breach:
        """The evidence goes on, unless the limit is another one now, or it is of users: a few of them would hold all the steps to
        come. The sums begin anew. What stable did before the bake is in the limit already."""
        canary = self.canary if share == self.share else self.canary.emptied()
        return Breach(
            self.of,
            share,
            canary.at_a_new_step(mass),
            Watch() if bake else self.stable,
            self.together.at_a_new_step(mass),
            stable_before=self.stable_before,
            users=Detector(mass=mass),
        )

    def after(self, canary: Sum, stable: Sum, users: Sum, *, comparable: bool, bake: bool) -> Breach:
        """With one more tick. When stable is well again, what was held against the canary meanwhile is void."""
        own = self.canary.after(bets(canary, self.share)) if canary.events else self.canary
        alone = self.users.after(bets(users, self.share)) if users.events else self.users
        others = self.stable.after(bets(stable, self.share)) if stable.events else self.stable
        recovered = self.stable_is_sick and others.log_evidence <= SICK
        own, alone = (one.emptied() if recovered else one for one in (own, alone))
        suspicion = max(0.0, self.suspicion + (bets(canary, self.share)[SUSPICIOUS] if canary.events else 0.0))
        return replace(
            self,
            canary=own,
            stable=others,
            together=compared(self.together, canary, stable) if comparable else self.together,
            canary_sum=self.canary_sum + canary,
            stable_sum=self.stable_sum + stable,
            canary_lately=self.canary_lately + canary if suspicion else Sum(),
            stable_lately=self.stable_lately + stable if suspicion else Sum(),
            suspicion=suspicion,
            stable_before=self.stable_before if bake else self.stable_before + stable,
            users=alone,
            users_sum=self.users_sum + users,
        )


@dataclass(frozen=True, slots=True)
class Known:
    """What is known about one gate. `apart` compares the arms where each has bursts of its own, `passing` is of this step only.
    `stable_before` is where the version before kept what stable did, by the promote limit."""

    promote: Breach | None = None
    abort: Breach | None = None
    apart: Detector = field(default_factory=lambda: Detector(mass=0.0))
    passing: Detector = field(default_factory=Detector)
    stable_before: Sum = Sum()


@dataclass(frozen=True, slots=True)
class Reading:
    """What one tick delivers. `restarts` are counts by pod of the canary, `ready` says whether an arm has a ready server,
    `memory` is resident bytes without the cache by pod of the canary, `alike` whether both arms run on like hardware, `gpu` the
    share of the time that the GPUs of an arm are busy, where it has any, `users` what stable's servers say of users' answers."""

    now: float
    interval: float
    samples: tuple[Sample, ...] = ()
    restarts: Mapping[str, int] = field(default_factory=dict)
    ready: Mapping[Arm, bool] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    alike: bool = True
    gpu: Mapping[Arm, float] = field(default_factory=dict)
    users: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class Ledger:
    """Everything that is stored. `mass` is what the steps to come may still spend of the detectors' mass, `counted` the seconds
    of this step that counters tell of, `trouble` why the last tick told nothing, `asking` how users ask the canary, by gate.
    `heard` are the readings that hard limits have counted since a server could not be read, None while all can; `silent` are the
    arms of which none could, at the last tick."""

    counters: Counters = field(default_factory=Counters)
    gates: Mapping[str, Known] = field(default_factory=dict)
    bake: bool = False
    mass: float = 1.0
    step_mass: float = 0.0
    step_began: float = 0.0
    counted: float = 0.0
    trouble: str | None = None
    heard: Counters | None = None
    silent: tuple[Arm, ...] = ()
    alike: bool = True
    windows: Mapping[str, Window] = field(default_factory=dict)
    restarts: Restarts = field(default_factory=Restarts)
    unready: Mapping[str, float | None] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    gpu: GpuUse = field(default_factory=GpuUse)
    neighbours: Neighbours = field(default_factory=Neighbours)
    asking: Mapping[str, Asking] = field(default_factory=dict)

    def complain(self, gate: Gate, breach: Breach) -> bool:
        """Whether users ask the canary for what the gate is about, and it looks beyond the limit by what they get."""
        return self.asking.get(gate.name, Asking()).lasts and breach.users_complain


def until(ledger: Ledger, now: float, interval: float) -> Ledger:
    """Without times that are yet to come, by which nothing would count until then: a clock stored them that was ahead and is not
    any more, so what they tell of has happened by now."""
    neighbours = replace(ledger.neighbours, counters=ledger.neighbours.counters.until(now, interval))
    return replace(
        ledger,
        counters=ledger.counters.until(now, interval),
        heard=ledger.heard.until(now, interval) if ledger.heard else None,
        step_began=min(ledger.step_began, now),
        unready={arm: past(since, now) for arm, since in ledger.unready.items()},
        windows={key: replace(one, since=past(one.since, now)) for key, one in ledger.windows.items()},
        memory=ledger.memory.until(now),
        gpu=replace(ledger.gpu, at=past(ledger.gpu.at, now)),
        neighbours=neighbours,
        asking={gate: one.until(now) for gate, one in ledger.asking.items()},
    )


def begin_step(ledger: Ledger, rules: Rules, now: float, steps_left: int, *, bake: bool = False) -> Ledger:
    """A step begins; `steps_left` counts it too. Passing is proven anew, evidence of failing goes on. The last step
    leaves a share as well: it begins again when somebody changes the steps."""
    share = ledger.mass / (1 + max(1, steps_left))
    ledger = replace(ledger, mass=ledger.mass - share, step_mass=share, bake=bake, step_began=now, counted=0.0)
    known = {gate.name: _at_a_new_step(ledger, gate, ledger.gates.get(gate.name, Known())) for gate in rules.gates}
    return replace(
        ledger,
        gates=known,
        restarts=ledger.restarts.at_a_new_step(),
        memory=ledger.memory.at_a_new_step(),
        gpu=ledger.gpu.at_a_new_step(),
    )


def _at_a_new_step(ledger: Ledger, gate: Gate, known: Known) -> Known:
    known = _with_limits(ledger, gate, known)
    return replace(
        known,
        promote=_raised(ledger, known.promote, gate.promote),
        abort=_raised(ledger, known.abort, gate.abort),
        apart=known.apart.at_a_new_step(ledger.step_mass),
        passing=Detector(),
    )


def _raised(ledger: Ledger, breach: Breach | None, limit: Limit | None) -> Breach | None:
    if breach is None or limit is None:
        return None
    return breach.at_a_new_step(ledger.step_mass, _in_force(ledger, breach.stable_before, limit), ledger.bake)


def _in_force(ledger: Ledger, before: Sum, limit: Limit) -> float:
    """The share that the limit allows; in the bake it makes room for what stable did in the steps, all the room there is where
    most of that was bad. That it was asked too little to tell makes none, nor does a bound that is wide although it was well."""
    near = ledger.bake and before.events > 0 and e.PSI * before.bad / before.events > limit.share
    bound = e.PSI * e.upper_bound(before.bad, before.events, BAKE_DOUBT) if near else 0.0
    told = bound < 1 or before.events >= ENOUGH
    return max(limit.share, min(1.0, bound)) if told else limit.share


def take(ledger: Ledger, rules: Rules, reading: Reading) -> Ledger:
    """One more reading. What the API server says counts even when the counters cannot be read, or are not read this time."""
    ledger = replace(
        ledger,
        restarts=ledger.restarts.after(reading.restarts),
        unready={arm: unready_since(ledger.unready.get(arm), reading.now, up) for arm, up in reading.ready.items()},
        memory=_looked(ledger.memory.after(reading.now, reading.memory), rules, reading.now),
        gpu=_watched_gpus(ledger.gpu, reading),
        neighbours=ledger.neighbours.after(reading.users, reading.now, reading.interval, in_step=ledger.step_began > 0),
        alike=reading.alike,
    )
    if not reading.samples:
        return ledger
    counters, found = advance(ledger.counters, reading.samples, rules.counters, reading.now, reading.interval)
    if isinstance(found, str):
        return replace(_heard(ledger, rules, reading), trouble=found)
    if ledger.heard:
        ledger = replace(_heard(ledger, rules, reading), heard=None, silent=())
    else:
        ledger = replace(ledger, windows=_watched(ledger, rules, reading.now, found))
    ledger = replace(ledger, asking=_asked(ledger, rules, reading, found))
    return replace(
        ledger,
        counters=counters,
        trouble=None,
        counted=ledger.counted + found.seconds,
        gates=_judged_on(ledger, rules, reading, found),
    )


def _heard(ledger: Ledger, rules: Rules, reading: Reading) -> Ledger:
    """With what the servers that can be read tell for the hard limits, which claim nothing of the others. Gates wait for all:
    which ones can be read is not drawn by chance."""
    if not rules.hard:
        return ledger
    before, span = ledger.heard or ledger.counters, min(limit.span for limit in rules.hard)
    heard, found, silent = advance_by_some(
        before, reading.samples, rules.hard_counters, reading.now, reading.interval, span
    )
    return replace(ledger, heard=heard, silent=silent, windows=_watched(ledger, rules, reading.now, found))


def _judged_on(ledger: Ledger, rules: Rules, reading: Reading, found: Increments) -> Mapping[str, Known]:
    """The gates with what counts for each: all requests, or those of users where they ask enough and others tell nothing."""
    users = Increments(found.seconds, of_users(found.canary), of_users(found.stable))

    def are_enough(gate: Gate) -> bool:
        asking = ledger.asking[gate.name]
        return gate.users_first and gate.promote is not None and asking.lasts and asking.tells(gate.promote.share)

    return {gate.name: _counted(ledger, gate, users if are_enough(gate) else found, users) for gate in rules.gates}


def _asked(ledger: Ledger, rules: Rules, reading: Reading, found: Increments) -> Mapping[str, Asking]:
    """How users ask for what each gate is about; before the first step there is nobody to ask."""
    users, seconds = of_users(found.canary), found.seconds if ledger.step_began else 0.0
    return {
        gate.name: ledger.asking.get(gate.name, Asking()).after(
            reading.now, reading.interval, seconds, users[gate.total]
        )
        for gate in rules.gates
    }


def _looked(memory: Memory, rules: Rules, now: float) -> Memory:
    """With a look at the growth, where one is due."""
    allowed = rules.memory.growth_per_hour
    return memory if allowed is None else memory.looked(now, allowed, rules.alpha(MEMORY), BETA)


def _watched_gpus(gpu: GpuUse, reading: Reading) -> GpuUse:
    """Where no server of the canary could be read, nothing says that it has no GPU."""
    was_read = any(sample.arm == "canary" and sample.counts is not None for sample in reading.samples)
    return gpu.after(reading.now, reading.gpu, STALE_AFTER * reading.interval) if was_read else gpu


def _watched(ledger: Ledger, rules: Rules, now: float, found: Increments) -> Mapping[str, Window]:
    """The windows of the hard limits with what was counted until now."""
    arms: list[tuple[Arm, Counts]] = [("canary", found.canary), ("stable", found.stable)]
    return {
        key: ledger.windows.get(key, Window()).after(now, limit.span, counts[limit.total], counts[limit.bad])
        for limit in rules.hard
        for arm, counts in arms
        for key in [window_of(limit, arm)]
    }


def window_of(limit: Sustained, arm: Arm) -> str:
    """The key under which a window is kept: what another counter counted, or in parts of another length, is none of it."""
    return f"{limit.name}/{limit.bad}/{limit.span:g}/{arm}"


def _counted(ledger: Ledger, gate: Gate, found: Increments, users: Increments) -> Known:
    """What the tick adds to a gate: what counts for it, and what users alone did."""
    known = _with_limits(ledger, gate, ledger.gates.get(gate.name, Known()))
    comparable = ledger.alike or not gate.hardware

    def with_tick(breach: Breach | None, limit: Limit | None) -> Breach | None:
        if breach is None or limit is None:
            return None
        canary, stable, alone = (sum_of(gate, limit, one) for one in (found.canary, found.stable, users.canary))
        return breach.after(canary, stable, alone, comparable=comparable, bake=ledger.bake)

    known = replace(known, promote=with_tick(known.promote, gate.promote), abort=with_tick(known.abort, gate.abort))
    if gate.promote is None:
        return known
    canary, stable = (sum_of(gate, gate.promote, counts) for counts in (found.canary, found.stable))
    return replace(
        known,
        apart=compared_apart(known.apart, canary, stable) if comparable else known.apart,
        passing=passing(known.passing, canary, gate.promote.to_prove),
    )


def _with_limits(ledger: Ledger, gate: Gate, known: Known) -> Known:
    """What is known about the limits as they are now: a limit that was changed is judged anew. What stable did stays known where
    it is counted alike."""
    known = _with_stable_before(known)
    promote, abort = _as_it_is(ledger, known.promote, gate.promote), _as_it_is(ledger, known.abort, gate.abort)
    if promote is not None and promote is not known.promote:
        known = Known(apart=Detector(mass=ledger.step_mass))
    return replace(known, promote=promote, abort=abort)


def _with_stable_before(known: Known) -> Known:
    """With what the version before has stored of stable where it is looked for now."""
    if known.promote is None or not known.stable_before.events:
        return known
    before = known.promote.stable_before + known.stable_before
    return replace(known, promote=replace(known.promote, stable_before=before), stable_before=Sum())


def _as_it_is(ledger: Ledger, old: Breach | None, limit: Limit | None) -> Breach | None:
    if limit is None:
        return None
    if old is not None and old.of == identity(limit):
        return old
    before = old.stable_before if old and old.of.startswith(f"{limit.surely} ") else Sum()
    fresh = Detector(mass=ledger.step_mass)
    share = max(_in_force(ledger, before, limit), _room(old) if ledger.bake and old and not before.events else 0.0)
    return Breach(identity(limit), share, fresh, together=fresh, users=fresh, stable_before=before)


def _room(old: Breach) -> float:
    """The share that the bake allowed by what stable did in the steps, where that is not known by what the limit counts now; 0
    where it made no room."""
    return 0.0 if old.of.endswith(f" <= {old.share:.6g}") else old.share


def identity(limit: Limit) -> str:
    """What makes two limits the same: failing rests on what is surely bad, passing on what may be. Of a gate of one's own the
    counters' names tell the queries apart."""
    counted = f"{limit.surely}" if limit.exact else f"{limit.surely} or {limit.maybe}"
    return f"{counted} <= {limit.share:.6g}"


def sum_of(gate: Gate, limit: Limit, counts: Counts) -> Sum:
    """The events of the tick that a limit speaks of. Two counters may be read a moment apart: none exceeds the total."""
    events = counts[gate.total]
    bad = min(events, counts[limit.surely]) if limit.surely else 0.0
    maybe = min(events, counts[limit.maybe]) if limit.maybe else events
    return Sum(events, bad, max(bad, maybe))


def bets(seen: Sum, share: float) -> list[float]:
    """Against "at most that share is bad"; nothing speaks against all of them."""
    if share >= 1:
        return [0.0] * len(e.BETS)
    return [e.log_tick(seen.bad / seen.events, share, bet) for bet in e.BETS]


def compared(together: Detector, canary: Sum, stable: Sum) -> Detector:
    """Against "at most psi times as often as stable". A tick without bad events does not say whose they are."""
    bad, events = (canary.bad, stable.bad), (canary.events, stable.events)
    if min(events) <= 0 or sum(bad) <= 0:
        return together
    return together.after([e.log_relative(bad, events, odds) for odds in e.ODDS])


def compared_apart(apart: Detector, canary: Sum, stable: Sum) -> Detector:
    """The same where each arm may have bursts of its own."""
    bad, events = (canary.bad, stable.bad), (canary.events, stable.events)
    if min(events) <= 0 or sum(bad) <= 0:
        return apart
    observed, expected = e.apart(bad, events)
    return apart.after([e.log_tick(observed, expected, bet) for bet in e.APART_BETS])


def passing(detector: Detector, seen: Sum, share: float) -> Detector:
    """Against "at least that share is bad"; what may be bad counts as bad."""
    if seen.events <= 0:
        return detector
    return detector.after([e.log_absolute(seen.maybe, seen.events, share, share * part) for part in e.BETTER])
