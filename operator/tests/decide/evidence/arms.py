"""Two arms to decide about: what their counters say, tick by tick, through the door that the operator uses."""

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from pinn_operator.api.spec import Spec
from pinn_operator.decide.evidence import Ledger, Reading, Rules, Sample, StepVerdict, begin_step, judge, rules_of, take
from pinn_operator.decide.evidence.counters import Arm, user_counter
from pinn_operator.decide.evidence.gates import ERRORS
from tests.given import spec_of

INTERVAL = 5.0
BEGIN = 1_000_000.0

Change = Callable[[Reading], Reading]


def rules(**spec: object) -> Rules:
    """The rules of an object with that spec."""
    return rules_of(Spec.model_validate(spec_of("1.0.0", **spec)))


def errors_only(**spec: object) -> Rules:
    """The same with nothing but the gate on errors, as strict as it is among the others."""
    every = rules(**spec)
    return replace(every, gates=tuple(gate for gate in every.gates if gate.name == ERRORS), hard=())


@dataclass
class Rollout:
    """A rollout under way. `totals` are the counters of one pod of each arm."""

    rules: Rules
    ledger: Ledger = field(default_factory=Ledger)
    now: float = BEGIN
    steps: int = 3
    bake: bool = False
    totals: dict[Arm, dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.totals = {arm: dict.fromkeys(self.rules.counters, 0.0) for arm in ("canary", "stable")}
        self.ledger = take(self.ledger, self.rules, self.reading())
        self.step(self.steps, bake=self.bake)

    def step(self, left: int, *, bake: bool = False) -> None:
        """The next step begins."""
        self.ledger = begin_step(self.ledger, self.rules, self.now, left, bake=bake)

    def reading(self) -> Reading:
        return Reading(self.now, INTERVAL, samples(self.now, self.totals))

    def tick(
        self,
        canary: tuple[float, float] = (0, 0),
        stable: tuple[float, float] = (0, 0),
        *,
        users: tuple[float, float] | None = None,
        bad: str = "errors",
        total: str = "requests",
        change: Change = lambda reading: reading,
    ) -> StepVerdict:
        """(events, bad ones) of each arm happen, and are read. All are of users, or so many of the canary's, and then none of
        stable's. `change` may tamper with the reading."""
        self.now += INTERVAL
        arms: list[tuple[Arm, tuple[float, float], tuple[float, float]]] = [
            ("canary", canary, canary if users is None else users),
            ("stable", stable, stable if users is None else (0, 0)),
        ]
        for arm, every, of_users in arms:
            for name, count, own in zip((total, bad), every, of_users, strict=True):
                self.totals[arm][name] += count
                self.totals[arm][user_counter(name)] = self.totals[arm].get(user_counter(name), 0.0) + own
        self.ledger = take(self.ledger, self.rules, change(self.reading()))
        return self.verdict()

    def verdict(self, step_ends: float | None = None) -> StepVerdict:
        return judge(self.ledger, self.rules, self.now, INTERVAL, step_ends)

    def all_else_is_well(self, events: float = 100_000) -> None:
        """So many good events of each arm, in every gate at once."""
        for counts in self.totals.values():
            for name in {gate.total for gate in self.rules.gates}:
                counts[name] += events
        self.tick()


def samples(at: float, totals: dict[Arm, dict[str, float]]) -> tuple[Sample, ...]:
    """One pod of each arm."""
    return tuple(Sample(arm, f"{arm}-0", at, dict(counts)) for arm, counts in totals.items())


def failures(rng: random.Random, events: int, rate: float) -> int:
    """How many of the events fail, each on its own."""
    return sum(rng.random() < rate for _ in range(events))


def first_failure(rollout: Rollout, ticks: Iterable[tuple[tuple[int, int], tuple[int, int]]]) -> float | None:
    """Seconds until the rollout fails; None when it does not."""
    for canary, stable in ticks:
        if rollout.tick(canary, stable).verdict == "Failing":
            return rollout.now - BEGIN
    return None


def size(stored: object) -> int:
    """Characters of it as JSON."""
    return len(json.dumps(stored))
