"""From the passes of a simulated rollout to what a person wants to know: when it got which share, and how it ended."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pinn_operator.api.names import GROUP
from pinn_operator.api.plan import Phase, Plan
from pinn_operator.api.resource import PinnDeployment
from pinn_operator.api.spec import Step
from pinn_operator.api.units import seconds
from pinn_operator.simulate.scenario import Source
from pinn_operator.simulate.world import World

Outcome = Literal["Promoted", "RolledBack", "Undecided", "Paused", "WaitingForApproval", "Held", "NotOver"]
WAITS: Final[dict[Phase, Outcome]] = {
    Phase.PAUSED: "Paused",
    Phase.APPROVAL: "WaitingForApproval",
    Phase.TOO_COARSE: "Held",
    Phase.NOT_SUPPORTED: "Held",
}
"""Where a rollout stays until a person does something. Undecided it is no such place: it goes on when the gates pass."""
MAX_HOLDS: Final = 4
PATIENCE: Final = 86400.0
"""How long an undecided step is followed: so many seconds of it are half a minute of computing."""
EARLY: Final = ("NoTraffic", "Undecided")


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of the time line. `what` is an entry of the journal, or the verdict that the step has from now on."""

    at: float
    step: int
    weight: int
    what: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Row:
    """One step. `proven` is since when every gate has passed, without a break; `requests` are users' own, to the new version."""

    number: int
    weight: int
    began: float | None = None
    proven: float | None = None
    ended: float | None = None
    requests: int = 0
    errors: int = 0
    then: str = "not reached"
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Story:
    """What would have happened. `reason` is one word; `sentence` the operator's own."""

    name: str
    version: str
    source: str
    outcome: Outcome
    reason: str
    sentence: str
    ended: float
    exposed: float
    requests: int
    errors: int
    steps: tuple[Row, ...]
    timeline: tuple[Happening, ...] = field(default=())


def story_of(
    resource: PinnDeployment, source: Source, *, seed: int = 0, approve: bool = False, previous: str = "stable"
) -> Story:
    """The rollout of that object, to its end, to where it waits for a person, or until nothing comes of it."""
    world = World(resource, source, seed, previous)
    teller = _Teller(world)
    for _, plan in world.passes():
        if teller.hears(plan):
            break
        if plan.phase in WAITS:
            if plan.phase is not Phase.APPROVAL or not approve:
                return teller.story(WAITS[plan.phase], plan.phase.value, plan.sentence)
            world.annotate(f"{GROUP}/promote", f"{plan.wanted}@{teller.step}")
        if teller.gives_up():
            return teller.without_an_ending("NotOver", plan.sentence)
    else:
        return teller.without_an_ending("RecordingEnded", f"the recording ends here; {teller.last}")
    journal = teller.journal
    return teller.story("Promoted" if journal.ending == "Promoted" else "RolledBack", journal.reason, journal.sentence)


class _Teller:
    """Listens to the passes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.steps = world.resource.spec.rollout.steps
        self.rows = [Row(number, step.weight) for number, step in enumerate(self.steps, 1)]
        self.timeline: list[Happening] = []
        self.step = 0
        self.entries = 0
        self.verdict = ""
        self.last = ""
        self.at_step = (0.0, 0.0)
        self.undecided: float | None = None
        self.latest = (
            3600.0 + seconds(world.resource.spec.rollout.progress_deadline) + sum(map(self._longest, self.steps))
        )

    def _longest(self, step: Step) -> float:
        stated = step.max_hold or self.world.resource.spec.rollout.max_hold
        return max(seconds(step.hold), seconds(stated) if stated else MAX_HOLDS * seconds(step.hold))

    def hears(self, plan: Plan) -> bool:
        """One pass more; whether the rollout is over."""
        self.last = plan.sentence
        if plan.memory is None or plan.memory.journal is None:
            return False
        self.journal = journal = plan.memory.journal
        for entry in journal.timeline[self.entries :]:
            self._note(entry.what, entry.sentence, entry.weight, journal.step if entry.what == "Step" else self.step)
            if entry.what == "Step":
                self._begins(journal.step)
        self.entries = len(journal.timeline)
        verdict = plan.rollout.verdict if plan.rollout else None
        if verdict and not journal.ending:
            self._judged(verdict, plan.sentence)
        self._waits_for_evidence(plan)
        if journal.ending and self.step:
            self._ends("promoted" if journal.ending == "Promoted" else "rolled back", journal.sentence)
        return bool(journal.ending)

    def gives_up(self) -> bool:
        """It has taken longer than a rollout may, or nothing has come of it for a day."""
        return self.world.at > min(self.latest, self.latest if self.undecided is None else self.undecided + PATIENCE)

    def _waits_for_evidence(self, plan: Plan) -> None:
        """Note that the time of a step is over without a verdict, once."""
        if plan.phase is not Phase.UNDECIDED:
            self.undecided = None
        elif self.undecided is None:
            self.undecided = self.world.at
            self._note("Undecided", plan.sentence, self.world.weight, self.step)

    def _begins(self, number: int) -> None:
        if self.step:
            self._ends("passed", self.rows[self.step - 1].sentence)
        self.step, self.verdict = number, ""
        self.at_step = (self.world.users["requests"], self.world.users["errors"])
        self._row(began=self.world.at, then="waits")

    def _judged(self, verdict: str, sentence: str) -> None:
        row = self.rows[self.step - 1]
        proven = (row.proven if row.proven is not None else self.world.at) if verdict == "Passing" else None
        self._row(proven=proven, sentence=readable(sentence))
        if verdict == self.verdict or (verdict in EARLY and self._is_early()):
            return
        self.verdict = verdict
        self._note(verdict, sentence, self.world.weight, self.step)

    def _is_early(self) -> bool:
        """In the first interval of a step nothing is known, and everybody knows that."""
        began = self.rows[self.step - 1].began or 0.0
        return self.world.at - began < seconds(self.world.resource.spec.metrics.interval)

    def _ends(self, then: str, sentence: str) -> None:
        requests, errors = (round(self.world.users[name]) for name in ("requests", "errors"))
        if then in ("passed", "promoted"):
            self._row(proven=self.rows[self.step - 1].proven or self.world.at)
        self._row(
            ended=self.world.at,
            then=then,
            sentence=readable(sentence),
            requests=requests - round(self.at_step[0]),
            errors=errors - round(self.at_step[1]),
        )

    def _row(self, **more: object) -> None:
        self.rows[self.step - 1] = replace(self.rows[self.step - 1], **more)  # type: ignore[arg-type]  # names of fields

    def _note(self, what: str, sentence: str, weight: int, step: int) -> None:
        self.timeline.append(Happening(self.world.at, step, weight, what, readable(sentence)))

    def without_an_ending(self, reason: str, sentence: str) -> Story:
        """Not over, or undecided still."""
        if self.undecided is None:
            return self.story("NotOver", reason, sentence)
        return self.story("Undecided", "Undecided", sentence)

    def story(self, outcome: Outcome, reason: str, sentence: str) -> Story:
        """All of it, as of now."""
        world = self.world
        if self.step and self.rows[self.step - 1].ended is None:
            self._ends("waits", sentence)
        return Story(
            name=world.resource.metadata.name,
            version=world.canary.revision.model_version,
            source=world.source.name,
            outcome=outcome,
            reason=reason,
            sentence=readable(sentence),
            ended=world.at,
            exposed=0.0 if world.first_request is None else world.at - world.first_request,
            requests=round(world.users["requests"]),
            errors=round(world.users["errors"]),
            steps=tuple(self.rows),
            timeline=tuple(self.timeline),
        )


def readable(sentence: str) -> str:
    """Without the names of revisions, which mean nothing here, and the step, which stands beside it."""
    return re.sub(r"^step [0-9]+/[0-9]+: | \(revision [0-9a-f]{10}\)", "", sentence)
