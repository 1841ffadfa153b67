"""What a person should be able to read afterwards, told once: changes of the status, and writes that were not routine."""

from __future__ import annotations

from collections.abc import Iterable

from pinn_operator.api.observed import Observed
from pinn_operator.api.outcome import Happening, Outcome
from pinn_operator.api.plan import Phase, Plan
from pinn_operator.report.conditions import HELD, contest_of, gpu_satisfied, trouble_of


def happenings(seen: Observed, plan: Plan, outcome: Outcome) -> tuple[Happening, ...]:
    """Events of this pass. Derived from a difference between what was and what is, so a repeated pass repeats none."""
    return (
        *_of_writes(seen, outcome),
        *_of_roles(seen, plan),
        *_of_rollout(seen, plan),
        *_of_trouble(seen, plan, outcome),
        *_of_gpus(seen, plan),
    )


def _of_rollout(seen: Observed, plan: Plan) -> Iterable[Happening]:
    """What the journal has that was not stored before; and how a rollout that is over was reported."""
    journal = plan.memory.journal if plan.memory else None
    if journal is None:
        return
    before = seen.memory.journal if seen.memory else None
    known = before.timeline if before and before.began == journal.began else ()
    for entry in journal.timeline:
        if entry not in known and entry.what != "Began":
            yield Happening(entry.what, "Roll", entry.sentence, warning=entry.what == "RolledBack", is_done=True)
    held = {c.type: c for c in seen.resource.status.conditions}.get("Progressing")
    if plan.phase in HELD and (held is None or held.reason != plan.phase.value):
        yield Happening(plan.phase.value, "Hold", plan.sentence)


def _of_writes(seen: Observed, outcome: Outcome) -> Iterable[Happening]:
    """Where somebody undoes every mending, the condition says so, and not an event a mending for as long as that goes on."""
    fought = contest_of(seen, outcome) is not None
    for write in outcome.writes:
        if write.verb == "Created" and write.child.kind == "ControllerRevision":
            yield Happening("RevisionCreated", "Create", f"{write.child.name} is new", is_done=True)
        elif write.verb == "Healed" and not fought:
            said = f"{write.child} was put right: {write.why}"
            yield Happening("ChildHealed", "Heal", said, warning=True, is_done=True)


def _of_roles(seen: Observed, plan: Plan) -> Iterable[Happening]:
    stable = seen.resource.status.stable
    before = stable.revision if stable else None
    if plan.phase is Phase.DELETING:
        return
    if plan.stable is not None and before is None:
        yield Happening("Started", "Switch", plan.sentence)
    canary = seen.resource.status.canary
    if plan.canary is not None and plan.canary.name != (canary.revision if canary else None):
        yield Happening("RolloutStarted", "Roll", plan.sentence)


def _of_trouble(seen: Observed, plan: Plan, outcome: Outcome) -> Iterable[Happening]:
    trouble = trouble_of(seen, plan, outcome)
    ready = {c.type: c for c in seen.resource.status.conditions}
    said = ready.get("Ready")
    if trouble is not None and (said is None or said.reason != trouble.reason):
        yield Happening(trouble.reason, "Write", trouble.message, warning=True)
    contest = contest_of(seen, outcome)
    if contest is not None and "Contested" not in ready:
        yield Happening("Contested", "Heal", contest.message, warning=True)
    if plan.phase is Phase.NOT_SUPPORTED and (said is None or said.message != plan.sentence):
        yield Happening("NotSupported", "Refuse", plan.sentence, warning=True)


def _of_gpus(seen: Observed, plan: Plan) -> Iterable[Happening]:
    """That GPUs are short, that CPUs stand in, that every server has its GPU; not that servers start."""
    before = {c.type: c for c in seen.resource.status.conditions}.get("GpuSatisfied")
    for now in gpu_satisfied(plan):
        if now.reason != "Starting" and (before is None or before.reason != now.reason):
            yield Happening(now.reason, "Place", now.message, warning=not now.holds)
