"""One rollout: a new revision comes up, is tried, gets more of the traffic step by step, and is promoted or sent back.

A weight rises on evidence and on readiness seen in this very pass; it falls at once and for free. Each pass goes on from what is
stored and seen, so an operator that was killed, or away, repeats at most a decision.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from pinn_operator.api.journal import MOST_ENTRIES, Arm, Ending, Entry, GateRecord, Journal
from pinn_operator.api.memory import Memory
from pinn_operator.api.observed import Observed
from pinn_operator.api.plan import Phase, Plan, Traffic
from pinn_operator.api.readings import Checked, Measured
from pinn_operator.api.revision import Revision
from pinn_operator.api.spec import Step
from pinn_operator.api.status import Gate, RolloutStatus
from pinn_operator.api.units import fraction, seconds, unless_off
from pinn_operator.decide.evidence import GateVerdict, Ledger, Rules, StepVerdict, begin_step, judge, rules_of
from pinn_operator.decide.looks import LINGER_SECONDS, called, is_behind, is_ready, progress, runs, still_served
from pinn_operator.decide.placement import comes_back_after, has_no_gpu, remedy, starves
from pinn_operator.decide.requests import asked, handled, is_for_step, promotion
from pinn_operator.decide.scaling import needed_for, whole
from pinn_operator.decide.shares import all_to, current, divided, in_force, is_too_coarse, reachable_share
from pinn_operator.decide.watch import (
    RETRY_SECONDS,
    awaited,
    away,
    dumped,
    interval_of,
    ledger_of,
    next_tick,
    now_of,
    tick,
    to_measure,
    with_checks,
)

SOON: Final = 1.0
LATER: Final = 30.0
TOO_MANY_RESTARTS: Final = 2
QUIET_SECONDS: Final = 30.0
"""How long a canary that had no server left, though none of them crashed, must be well before it is sent requests again."""
GROSS: Final = 10.0
"""Times the limit on violations beyond which a model is stopped before its first user."""
ABSENT_SECONDS: Final = 30.0
"""How late a reading may be; where it is later no operator was there."""
NOTED_SECONDS: Final = 10.0
"""Between two notes that somebody has looked: what a pass writes wakes the next."""
FEWEST_CHECKED: Final = 200
FEWEST_COMPARED: Final = 50
MAX_HOLDS: Final = 4
NO_GPU: Final = "Unschedulable"
"""Why a rollout ended that found no GPU beside those of stable: nobody's fault."""
NOBODYS: Final = ("NoTraffic", "NoMetrics", "Frozen")
"""Verdicts for which nobody is to blame: there was nothing to judge by."""


@dataclass(frozen=True, slots=True)
class Case:
    """What a pass over a rollout goes by. `coming` is the number of a step whose servers are waited for; `slow` says why a
    rollback could not be in time without stable's servers."""

    seen: Observed
    wanted: Revision
    stable: Revision
    journal: Journal
    ledger: Ledger
    rules: Rules
    coming: int = 0
    slow: str = ""

    @property
    def now(self) -> float:
        return now_of(self.seen)

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.seen.resource.spec.rollout.steps

    @property
    def number(self) -> int:
        """The step it is in, from 1; the last one where the spec has fewer by now."""
        return min(self.journal.step, len(self.steps))

    @property
    def step(self) -> Step:
        return self.steps[self.number - 1]

    @property
    def bakes(self) -> bool:
        return self.number == len(self.steps)

    @property
    def whole(self) -> int:
        """How many servers the whole of the traffic is worth: within a step what it was when its weight rose, so that a stable
        that grows takes no share away."""
        rising = self.coming or not self.journal.step
        return whole(self.seen, self.stable, 0 if rising else self.journal.servers)

    @property
    def needed(self) -> int:
        """The servers that the canary has to have: all, or as many as an autoscaled one needs for its share."""
        step = self.steps[(self.coming or max(1, self.number)) - 1]
        return needed_for(self.seen, step.weight, self.whole)


def roll(
    seen: Observed, wanted: Revision, stable: Revision, journal: Journal | None, slow_way_back: str | None = None
) -> Plan:
    """The plan of a pass while `wanted` is on its way to take over from `stable`. Without a journal the rollout begins."""
    fresh = journal is None
    ledger = Ledger() if fresh else ledger_of(seen)
    if journal and journal.step_began is not None and not ledger.step_began:
        journal = replace(journal, step_began=None)  # the evidence is lost: the step begins anew
    case = Case(
        seen=seen,
        wanted=wanted,
        stable=stable,
        journal=aligned(journal, seen.resource.spec.rollout.steps) if journal else begun(seen, wanted, stable),
        ledger=ledger,
        rules=rules_of(seen.resource.spec),
        slow=slow_way_back or "",
    )
    if request := asked(seen, "abort", wanted.name):
        return ended(
            case, "RolledBack", "Aborted", "a person asked for it (pinn.dev/abort)", request=("abort", request)
        )
    answers = seen.workload(stable.name).ready > 0 or not current(seen, wanted)  # who gets all of it must be there
    if not case.bakes and answers and (said := starves(seen, stable, wanted)):
        return ended(case, "RolledBack", NO_GPU, said, blamed=False)
    return _step(_with_reading(_timed_step(case))) if case.journal.step else _come_up(case)


def begun(seen: Observed, wanted: Revision, stable: Revision) -> Journal:
    """The journal of a rollout that begins now."""
    said = f"{called(wanted)} is to take over from {called(stable)}"
    now = now_of(seen)
    off = seen.resource.spec.replicas == 0 and wanted.name not in seen.workloads  # else its journal may have been lost
    return Journal(_arm(wanted), _arm(stable), now, timeline=(Entry(now, "Began", said),), off=off)


def aligned(journal: Journal, steps: tuple[Step, ...]) -> Journal:
    """The journal with its step among the steps as the spec has them by now: the last one that asks for no more than was decided,
    or none, and then the rollout is tried and begins anew. One of the same share goes on under its new number."""
    if not journal.step:
        return journal
    number = sum(step.weight <= journal.weight for step in steps)
    weight = steps[number - 1].weight if number else 0
    if weight == journal.weight:
        return replace(journal, step=number)
    return _awaiting_none(replace(journal, step=number, weight=weight, step_began=None))


def superseded(seen: Observed, journal: Journal, stable: Revision, wanted: Revision) -> Plan:
    """Another revision is asked for in the middle of a rollout: all traffic to stable at once."""
    returns = wanted.name == stable.name
    said = f"the spec {'returned to' if returns else 'now asks for'} {called(wanted)}; {called(stable)} serves"
    journal = _closed(journal, "Superseded", "SpecChanged", said, now_of(seen), blamed=False)
    return Plan(
        phase=Phase.DRAINING,
        sentence=said,
        wanted=wanted.name,
        run=runs(seen, [stable, *still_served(seen, stable)]),
        stable=stable,
        traffic=all_to(stable),
        memory=Memory(journal, {}, handled(seen)),
        finished=journal,
        look_again=SOON,
    )


# --- Coming up -------------------------------------------------------------------------------------------------------


def _come_up(case: Case) -> Plan:
    """Until every server is ready, behind its Service, warmed and tried: nothing of the traffic."""
    seen, wanted = case.seen, case.wanted
    case = _looked_at(_timed(case))
    case = replace(case, journal=replace(case.journal, off=case.journal.off and not _asks_for_servers(case)))
    if failure := _failed_to_start(case):
        return ended(case, "RolledBack", *failure, blamed=failure[0] != NO_GPU)
    if not is_ready(seen, wanted, case.needed):
        said = f"{called(wanted)} comes up, {progress(seen, wanted, case.needed)}"
        return _held(case, Phase.STEPPING, said, _until_deadline(case))
    if not _asks_for_servers(case):
        return _switched_off(case)
    if not is_behind(seen, wanted, case.needed):
        return _held(case, Phase.STEPPING, f"{called(wanted)} is ready and not yet behind its Service", SOON)
    if seen.resource.spec.rollout.paused:
        said = f"{called(wanted)} is ready and held: spec.rollout.paused is true; {called(case.stable)} serves"
        return _held(case, Phase.PAUSED, said, None)
    if others := sorted(set(seen.workloads) - {wanted.name, case.stable.name}):
        said = f"{called(wanted)} is ready and waits until revision {others[0]} has left"  # a label of a rollout before, say
        return _held(case, Phase.STEPPING, said, SOON)
    if coarse := _too_coarse(case, case.steps[0].weight):
        return coarse
    if _is_tried(case):
        return _to_step(case, 1)
    return _try(case)


def _switched_off(case: Case) -> Plan:
    """With nobody who serves there is nothing to try. Who finds it so takes over as it is; who began to come up before must not:
    when servers are asked for again it would have all of the traffic, untried, and no stable to go back to."""
    if case.seen.resource.spec.rollout.paused:
        said = f"{called(case.wanted)} is held: spec.rollout.paused is true; nothing serves, spec.replicas is 0"
        return _held(case, Phase.PAUSED, said, None)
    if not case.journal.off:
        said = f"{called(case.wanted)} has not been tried and waits until spec.replicas is above 0"
        return _held(case, Phase.STEPPING, said, LATER)
    return ended(case, "Promoted", "Promoted", "nothing serves, spec.replicas is 0", blamed=False)


def _awaits_more(case: Case, said: str) -> Plan:
    """A later step lacks servers: with an autoscaler it needs some that the first did not, else one was replaced. They have as
    long to come as the first ones had."""
    if _waited(case) <= _deadline(case):
        again = SOON if is_ready(case.seen, case.wanted, case.needed) else _until_deadline(case)
        return _held(case, Phase.STEPPING, said, again)
    rollout = case.seen.resource.spec.rollout
    said = f"{said}; not within spec.rollout.progressDeadline ({rollout.progress_deadline})"
    if case.seen.resource.spec.autoscaling is None and rollout.when_undecided == "Pause":
        how = f"it goes on when they are ready; to give up annotate it with pinn.dev/abort={case.wanted.name}@TOKEN"
        return _held(case, Phase.UNDECIDED, f"{said}; {how}", LATER)
    reason = NO_GPU if has_no_gpu(case.seen, case.wanted) else "ProgressDeadlineExceeded"
    return ended(case, "RolledBack", reason, said, blamed=False)


def _failed_to_start(case: Case) -> tuple[str, str] | None:
    """Why the canary will not come up, in a word and a sentence. What the cluster refuses to create is not its fault."""
    seen, workload = case.seen, case.seen.workload(case.wanted.name)
    restarts = sum(server.restarts for server in seen.servers if server.revision == case.wanted.name)
    if restarts >= TOO_MANY_RESTARTS:
        return (
            "CrashLoop",
            f"servers of {called(case.wanted)} restarted {restarts} times: {workload.not_starting or 'no reason is known'}",
        )
    never_excused = case.journal.waits_since == case.journal.began
    overdue = (workload.deadline_exceeded and never_excused) or _waited(case) > _deadline(case)
    if (
        overdue
        and workload.not_created is None
        and not is_ready(seen, case.wanted, case.needed)
        and case.wanted.name in seen.revisions
    ):
        limit = seen.resource.spec.rollout.progress_deadline
        said = f"not ready within spec.rollout.progressDeadline ({limit}); {progress(seen, case.wanted, case.needed)}"
        if has_no_gpu(seen, case.wanted):
            return NO_GPU, f"{called(case.wanted)} was {said}; {remedy(case.wanted)}"
        return "ProgressDeadlineExceeded", f"{called(case.wanted)} was {said}"
    return None


def _timed(case: Case) -> Case:
    """With the time it has been coming up, which is not that of a quota or a policy, nor that of a pause in which it was ready.
    When those have come that were needed, and more are, as stable has grown, these have all of the time too."""
    if is_ready(case.seen, case.wanted, case.needed) or _is_refused(case):
        return replace(case, journal=_awaiting_none(case.journal))
    since, known = case.journal.waits_since, case.journal.waits_for
    if since is None or (0 < known < case.needed and is_ready(case.seen, case.wanted, known)):
        since, known = case.now, case.needed
    return replace(case, journal=replace(case.journal, waits_since=since, waits_for=known))


def _looked_at(case: Case) -> Case:
    """With the time it has been coming up put off by that in which no operator looked: the nodes may have been away with it."""
    since, looked = case.journal.waits_since, case.journal.looked_at
    if since is None:
        return case
    if looked is not None and case.now - looked > LATER + ABSENT_SECONDS:
        since = _put_off(since, looked, case.now)
    if looked is None or case.now - looked >= NOTED_SECONDS:
        looked = case.now
    return replace(case, journal=replace(case.journal, waits_since=since, looked_at=looked))


def _is_refused(case: Case) -> bool:
    """Whether the cluster does not take its workload, which the first pass has yet to ask for, or its pods."""
    workload = case.seen.workloads.get(case.wanted.name)
    return case.now > case.journal.began if workload is None else workload.not_created is not None


def _awaiting_none(journal: Journal) -> Journal:
    return replace(journal, waits_since=None, waits_for=0, looked_at=None)


def _waited(case: Case) -> float:
    since = case.journal.waits_since
    return 0.0 if since is None else case.now - since


def _deadline(case: Case) -> float:
    return seconds(case.seen.resource.spec.rollout.progress_deadline)


def _until_deadline(case: Case) -> float:
    left = _deadline(case) - _waited(case)
    return min(LATER, max(SOON, left + SOON))


def _is_tried(case: Case) -> bool:
    """Warmed and checked, with counters from before its first request; or there is nothing to be tried by."""
    if not _needs_trial(case):
        return True
    measured, journal = case.seen.measured, case.journal
    return journal.measure == "preflight" and measured is not None and not _untried(case, measured)


def _untried(case: Case, measured: Measured) -> str:
    """What is missing of the trial: without counters from before its first request, what it does first would not count. Where
    nothing is judged there is only the warming, which is done as well as it can be."""
    if not case.rules.gates:
        return ""
    unread = [pod for pod in awaited(case.seen, [case.stable.name], case.ledger) if pod.counts is None]
    if measured.trouble or not measured.pods:
        return measured.trouble or "no server was read"
    return f"the metrics of pod {unread[0].process} cannot be read: {unread[0].trouble}" if unread else ""


def _needs_trial(case: Case) -> bool:
    spec = case.seen.resource.spec
    return bool(case.rules.gates) or spec.cache.warm_up.from_ == "Stable"


def _try(case: Case) -> Plan:
    """Ask for the trial, or say why it could not be made and ask again. Until that is due nothing changes, however many passes
    there are: what a pass writes wakes the next."""
    measured, journal = case.seen.measured, case.journal
    trouble, at = "", case.now
    if journal.measure == "preflight" and measured is not None:
        trouble, at = _untried(case, measured), case.now + RETRY_SECONDS
    elif journal.measure == "preflight" and journal.measure_at > case.now:
        trouble, at = journal.untried, journal.measure_at
    said = f"cannot be tried yet: {trouble}" if trouble else "is being warmed and tried"
    case = replace(case, journal=replace(to_measure(journal, "preflight", at), untried=trouble))
    plan = _held(case, Phase.STEPPING, f"{called(case.wanted)} {said}", at - case.now)
    verdict = "NoMetrics" if trouble else None
    return replace(plan, rollout=_row(case, None).model_copy(update={"verdict": verdict}))


def _gross(case: Case, journal: Journal) -> str | None:
    """Why the model is stopped before its first user. It is deterministic, so what it broke it breaks again."""
    limit = unless_off(fraction, case.seen.resource.spec.sla.promote.physics_violation_rate)
    canary = journal.shadow.get(journal.canary.revision, Checked())
    stable = journal.shadow.get(journal.stable.revision, Checked())
    if limit is None or canary.checked < FEWEST_CHECKED:
        return None
    for found, count, of, what in (
        (_broken, canary.violations, canary.checked, "answers break the equation or an invariant"),
        (_wrong, canary.wrong, canary.compared, "answers lie further from the solver than they say"),
    ):
        bad, others = found(canary), found(stable)
        if of >= FEWEST_COMPARED and bad > GROSS * limit and bad > 2 * others:
            said = f"{count} of {of} {what} (stable {100 * others:.3g} %)"
            return f"{said}: {canary.said}" if canary.said else said
    return None


def _broken(checked: Checked) -> float:
    return checked.violations / checked.checked if checked.checked else 0.0


def _wrong(checked: Checked) -> float:
    return checked.wrong / checked.compared if checked.compared else 0.0


# --- Stepping --------------------------------------------------------------------------------------------------------


def _with_reading(case: Case) -> Case:
    """With what was measured in this pass; the next reading is asked for when this one was made or has failed."""
    journal, ledger = tick(case.seen, case.journal, case.ledger, case.rules)
    if case.seen.measured is not None or journal.measure != "tick":
        journal = next_tick(journal, case.seen)
    return replace(case, journal=_lost(case, journal, ledger), ledger=ledger)


def _timed_step(case: Case) -> Case:
    """With the time of the step, which is not that in which nobody could come to a verdict: paused, without servers that are
    asked for, with a share that cannot be made, or without an operator to make the reading that was due."""
    journal, since = case.journal, case.journal.idle_since
    if since is None and case.now - journal.measure_at > ABSENT_SECONDS:
        since = journal.measure_at
    if _is_idle(case):
        return replace(case, journal=replace(journal, idle_since=case.now if since is None else since))
    if since is None:
        return case
    began = journal.step_began if journal.timed_from is None else journal.timed_from
    return replace(
        case,
        journal=replace(
            journal,
            idle_since=None,
            timed_from=_put_off(began, since, case.now),
            short_since=_put_off(journal.short_since, since, case.now),
            lost_at=_put_off(journal.lost_at, since, case.now) if journal.crashed else journal.lost_at,
        ),
    )


def _is_idle(case: Case) -> bool:
    spec = case.seen.resource.spec
    off = spec.replicas == 0 or case.journal.off_at is not None
    return spec.rollout.paused or off or _has_become_coarse(case)


def _put_off(at: float | None, since: float, now: float) -> float | None:
    """That time, later by as much of the time since then as came after it."""
    return None if at is None else at + now - max(at, since)


def _is_over(case: Case, since: float, limit: float) -> bool:
    """Whether so many seconds of the step have passed, but for those that do not count."""
    return case.journal.idle_since is None and case.now >= since + limit


def _lost(case: Case, journal: Journal, ledger: Ledger) -> Journal:
    """Note when the canary has no server that requests could be sent to, and whether it crashed: one of them restarts while they
    are gone, or just after. One that restarts at another time has not taken the others with it."""
    at = case.now if not _reachable_servers(case) and _asks_for_servers(case) else journal.lost_at
    gone = at is not None and case.now - at < QUIET_SECONDS
    restarts = ledger.restarts.in_step > case.ledger.restarts.in_step
    return replace(journal, lost_at=at, crashed=journal.crashed or (gone and restarts))


def _step(case: Case) -> Plan:
    """A pass within a step."""
    if failure := _gross(case, case.journal):
        return ended(case, "RolledBack", "Physics", failure)
    weight = _allowed(case)
    traffic = divided(case.seen, case.stable, case.wanted, weight)
    case = _in_place(case, traffic) if weight == case.step.weight else case
    case = _fallen_short(_rising(case, traffic, weight), weight)
    verdict = _heard_out(case, judge(case.ledger, case.rules, case.now, _interval(case), _step_ends(case)))
    if verdict.verdict == "Failing":
        return ended(case, "RolledBack", _reason(verdict), verdict.sentence, verdict=verdict, blamed=verdict.blamed)
    lacks_servers = case.bakes and weight < case.step.weight
    request = asked(case.seen, "promote", case.wanted.name)
    if request and is_for_step(request, case.number) and not lacks_servers:
        return _moved_on(case, verdict, ("promote", request))
    if _has_become_coarse(case) and (coarse := _too_coarse(case, _bearable(case))):
        return coarse
    return _waiting(case, traffic, verdict, weight)


def _fallen_short(case: Case, weight: int) -> Case:
    """With since when the share of the step has not been in force, apart from time that does not count."""
    short = weight < case.step.weight or case.journal.step_began is None
    at = case.now if case.journal.short_since is None else case.journal.short_since
    since = at if short and case.journal.idle_since is None else None
    return replace(case, journal=replace(case.journal, short_since=since))


def _heard_out(case: Case, verdict: StepVerdict) -> StepVerdict:
    """Without what every server of the canary counted it may fail, but not pass. One that was never read has yet to serve."""
    unheard = away(case.seen, case.wanted.name, case.ledger) & case.ledger.counters.pods.keys()
    if verdict.verdict != "Passing" or not unheard:
        return verdict
    said = f"{verdict.sentence}, but what server {min(unheard)} of the canary counted is not known: it is not ready"
    return replace(verdict, verdict="Undecided", sentence=said)


def _waiting(case: Case, traffic: Traffic, verdict: StepVerdict, weight: int) -> Plan:
    """Hold, or go on: the time of a step is over and every gate has passed."""
    paused = case.seen.resource.spec.rollout.paused
    began = case.journal.step_began
    if case.journal.crashed:
        return _withdrawn(case, traffic, verdict)
    if weight < case.step.weight or began is None:
        return _not_begun(case, traffic, verdict, weight)
    over = case.now >= began + seconds(case.step.hold)
    if verdict.verdict == "Passing" and over:
        if paused:
            return _on(case, traffic, verdict, Phase.PAUSED, f"{verdict.sentence}; held: spec.rollout.paused is true")
        if case.step.approval == "Required":
            how = f"annotate it with {promotion(case.wanted.name, case.number)}"
            return _on(
                case,
                traffic,
                verdict,
                Phase.APPROVAL,
                f"{verdict.sentence}; step {_of(case)} waits for a person: {how}",
            )
        return _moved_on(case, verdict)
    if paused:
        return _on(case, traffic, verdict, Phase.PAUSED, f"held: spec.rollout.paused is true; {verdict.sentence}")
    timed_from = began if case.journal.timed_from is None else case.journal.timed_from
    if verdict.verdict != "Passing" and _is_over(case, timed_from, _max_hold(case)):
        blamed = verdict.verdict not in NOBODYS
        return _without_verdict(case, traffic, verdict, verdict.sentence, _max_hold(case), blamed=blamed)
    return _on(case, traffic, verdict, _phase(case), _outlook(case, verdict))


def _not_begun(case: Case, traffic: Traffic, verdict: StepVerdict, weight: int) -> Plan:
    """The traffic of the step is not in force, for want of servers or of a gateway that takes the route: it has as long to come
    as the step has to end, and no less than servers have to start."""
    if weight < case.step.weight:
        count = f"{_reachable_servers(case)} of {case.needed} servers"
        said = f"{called(case.wanted)} has {count}: {weight} % of the traffic"
    else:
        trouble = case.seen.route.trouble if case.seen.route else ""
        said = f"{called(case.wanted)} is to get {weight} % of the traffic; not in force yet"
        said = f"{said}: {trouble}" if trouble else said
    short_since, limit = case.journal.short_since, max(_max_hold(case), _deadline(case))
    if short_since is None or case.now < short_since + limit:
        return _on(case, traffic, verdict, _phase(case), said)
    blamed = weight < case.step.weight and verdict.verdict not in NOBODYS
    return _without_verdict(case, traffic, verdict, said, limit, blamed=blamed)


def _withdrawn(case: Case, traffic: Traffic, verdict: StepVerdict) -> Plan:
    """All its servers were gone and one had crashed. It cannot pass in this step any more, so no user is sent to it again; what
    the operator sends it while users send nothing tells whether it crashes once more."""
    said = f"{called(case.wanted)} crashed: it gets none of the traffic in this step any more, and another crash is the end of it"
    if not _is_over(case, case.journal.lost_at or case.now, _max_hold(case)):
        return _on(case, traffic, verdict, _phase(case), said)
    return _without_verdict(case, traffic, verdict, said, _max_hold(case), blamed=True)


def _without_verdict(
    case: Case, traffic: Traffic, verdict: StepVerdict, why: str, limit: float, *, blamed: bool
) -> Plan:
    """The step had its time, so many seconds, and silence is no consent."""
    said = f"no verdict within {limit:.0f} s; {why}"
    if case.seen.resource.spec.rollout.when_undecided == "RollBack":
        return ended(case, "RolledBack", "Undecided", said, verdict=verdict, blamed=blamed)
    cannot_serve_all = case.bakes and (case.journal.crashed or _allowed(case) < case.step.weight)
    how = f"pinn.dev/abort={case.wanted.name}@TOKEN"
    how = how if cannot_serve_all else f"{promotion(case.wanted.name, case.number)} or {how}"
    return _on(case, traffic, verdict, Phase.UNDECIDED, f"{said}; annotate it with {how}")


def _moved_on(case: Case, verdict: StepVerdict, request: tuple[str, str] | None = None) -> Plan:
    """To the next step, or to the end of it all."""
    case = replace(case, journal=_with_gates(case.journal, case.number, verdict))
    if case.bakes:
        return ended(case, "Promoted", "Promoted", verdict.sentence, verdict=verdict, blamed=False, request=request)
    return _to_step(case, case.number + 1, request)


def _to_step(case: Case, number: int, request: tuple[str, str] | None = None) -> Plan:
    """Raise the weight: every server was seen ready in this pass, and what is known is stored before."""
    case = replace(case, coming=number)
    seen, step = case.seen, case.steps[number - 1]
    if number == 1 and case.seen.measured is not None:
        journal = with_checks(replace(case.journal, warmed=case.seen.measured.warmed), case.seen.measured)
        if failure := _gross(case, journal):
            return ended(replace(case, journal=journal), "RolledBack", "Physics", failure)
        case = replace(
            case, journal=case.journal if case.journal.warmed else replace(case.journal, warmed=journal.warmed)
        )
        case = _with_reading(case)
    if not (is_ready(seen, case.wanted, case.needed) and is_behind(seen, case.wanted, case.needed)):
        share = f"is to get {step.weight} % of the traffic when every server is ready"
        said = f"{called(case.wanted)} {share}, {progress(seen, case.wanted, case.needed)}"
        return _awaits_more(_timed(case), said)
    case = replace(case, journal=_awaiting_none(case.journal))
    if coarse := _too_coarse(case, step.weight):
        return coarse
    if number > 1 and not _are_warm(case):
        said = f"{called(case.wanted)} is to get {step.weight} % of the traffic when its new servers are warm"
        case = replace(case, journal=to_measure(case.journal, "preflight", case.now))
        return _held(case, Phase.STEPPING, said, 0.0)
    said = f"step {number}/{len(case.steps)}: {step.weight} % of the traffic to {called(case.wanted)}"
    journal = replace(
        case.journal,
        step=number,
        step_began=None,
        weight=step.weight,
        untried="",
        timed_from=None,
        short_since=None,
        rose_at=case.now,
        lost_at=None,
        crashed=False,
        servers=case.whole,
        timeline=entered(case.journal, Entry(case.now, "Step", said, step.weight)),
    )
    ledger = replace(case.ledger, restarts=case.ledger.restarts.at_a_new_step())
    case = replace(case, journal=to_measure(journal, "tick", case.now), ledger=ledger)
    phase = Phase.BAKING if number == len(case.steps) else Phase.STEPPING
    return _plan(case, phase, said, divided(seen, case.stable, case.wanted, step.weight), SOON, request=request)


def _are_warm(case: Case) -> bool:
    """Servers that an autoscaler adds for a step know nothing of what stable is asked most; they are told as those before them
    were, as well as it can be done."""
    seen = case.seen
    grows = seen.resource.spec.autoscaling is not None and case.needed > replace(case, coming=0).needed
    if not grows or seen.resource.spec.cache.warm_up.from_ != "Stable":
        return True
    stored = seen.memory.journal if seen.memory else None
    return stored is not None and stored.measure == "preflight" and seen.measured is not None


def _is_coarse(case: Case, weight: int) -> bool:
    """Whether such a share cannot be made."""
    return weight > 0 and is_too_coarse(case.seen, case.stable, case.wanted, weight)


def _has_become_coarse(case: Case) -> bool:
    """Whether the servers that are left make far more than the share of the step; in the bake nothing is more."""
    return not case.bakes and _is_coarse(case, _bearable(case))


def _too_coarse(case: Case, weight: int) -> Plan | None:
    """The plan that waits where a share cannot be made."""
    if not _is_coarse(case, weight):
        return None
    nearest = 100 * reachable_share(case.seen, case.stable, case.wanted, weight)
    more = "spec.autoscaling.minReplicas" if case.seen.resource.spec.autoscaling else "spec.replicas"
    how = f"name a gateway in spec.traffic, raise {more}, or set spec.traffic.allowCoarse"
    said = f"so few servers can make no share nearer to {weight} % than {float(nearest):.0f} %; {how}"
    return _held(case, Phase.TOO_COARSE, said, LATER)


def _rising(case: Case, traffic: Traffic, weight: int) -> Case:
    """A weight that rises changes what is stored: a pass that was held up then conflicts with one that has learned more, as when
    it has lost its servers meanwhile, before it writes a share."""
    if weight <= current(case.seen, case.wanted) or in_force(case.seen, traffic):
        return case
    return replace(case, journal=replace(case.journal, rose_at=case.now))


def _in_place(case: Case, traffic: Traffic) -> Case:
    """The step's time begins when its traffic is in place."""
    if case.journal.step_began is not None or not in_force(case.seen, traffic):
        return case
    left = len(case.steps) - case.number + 1
    return replace(
        case,
        journal=replace(case.journal, step_began=case.now, timed_from=case.now, rose_at=case.now),
        ledger=begin_step(case.ledger, case.rules, case.now, left, bake=case.bakes),
    )


def _allowed(case: Case) -> int:
    """The share that the canary may have now. Where so few servers are left that it would be far more than that, it has none as
    long as stable answers."""
    weight = _bearable(case)
    if not _has_become_coarse(case):
        return weight
    return 0 if case.seen.behind.get(case.stable.name) else min(weight, current(case.seen, case.wanted))


def _bearable(case: Case) -> int:
    """The weight of the step, or as much as the servers that are left can take: availability only ever lowers it. Servers that
    are asked for since the weight rose are not lost."""
    servers, whole = _reachable_servers(case), min(case.whole, case.journal.servers or case.whole)
    if not _asks_for_servers(case):
        return case.step.weight
    lost = case.journal.lost_at
    if servers == 0 or case.journal.crashed or (lost is not None and case.now - lost < QUIET_SECONDS):
        return 0
    most = max(1, min(case.step.weight, 100 * servers // whole))
    complete = is_ready(case.seen, case.wanted, case.needed) and is_behind(case.seen, case.wanted, case.needed)
    return most if complete else min(most, current(case.seen, case.wanted))


def _asks_for_servers(case: Case) -> bool:
    return case.seen.resource.spec.replicas > 0


def _reachable_servers(case: Case) -> int:
    """Ready by the pods themselves and behind the Service: what falls is seen at the first of the two."""
    return min(case.seen.behind.get(case.wanted.name, 0), case.seen.workload(case.wanted.name).ready)


# --- How it ends -----------------------------------------------------------------------------------------------------


def ended(
    case: Case,
    ending: Ending,
    reason: str,
    said: str,
    *,
    verdict: StepVerdict | None = None,
    blamed: bool = True,
    request: tuple[str, str] | None = None,
) -> Plan:
    """The rollout is over. Promoted: the names change and nothing else; rolled back: all traffic to stable in this pass."""
    journal = _with_gates(case.journal, case.number, verdict) if verdict and ending != "Promoted" else case.journal
    sentence = (
        f"{called(case.wanted)} is promoted: {said}"
        if ending == "Promoted"
        else f"{called(case.wanted)} is rolled back: {said}"
    )
    journal = _closed(journal, ending, reason, sentence, case.now, blamed=blamed)
    case = replace(case, journal=journal)
    if ending == "Promoted":
        return replace(
            _plan(case, Phase.DRAINING, sentence, all_to(case.wanted), SOON, request=request),
            stable=case.wanted,
            canary=None,
            rollout=None,
            finished=journal,
        )
    case = replace(case, journal=to_measure(journal, "smoke", case.now))
    return _plan(case, Phase.ROLLING_BACK, sentence, all_to(case.stable), 0.2, request=request)


def _closed(journal: Journal, ending: Ending, reason: str, said: str, now: float, *, blamed: bool) -> Journal:
    entry = Entry(now, ending, said, 100 if ending == "Promoted" else 0)
    timeline = entered(journal, entry)
    return replace(
        journal, ending=ending, ended=now, reason=reason, sentence=said, blamed=blamed, measure="", timeline=timeline
    )


def _reason(verdict: StepVerdict) -> str:
    """One word for it: the gate that failed, or that a hard limit was crossed."""
    failed = [gate.name for gate in verdict.gates if gate.verdict == "Failing"]
    return failed[0][0].upper() + failed[0][1:] if failed and failed[0] in verdict.sentence else "HardLimit"


def _with_gates(journal: Journal, number: int, verdict: StepVerdict) -> Journal:
    """With how the gates stood when the step was over."""
    kept = tuple(gate for gate in journal.gates if gate.step != number)
    return replace(journal, gates=(*kept, *(_record(number, gate) for gate in verdict.gates)))


def _record(number: int, gate: GateVerdict) -> GateRecord:
    return GateRecord(
        number, gate.name, gate.verdict, gate.limit, gate.observed, gate.stable, gate.events, gate.evidence, gate.needed,
        gate.sentence,
    )  # fmt: skip


# --- Plans -----------------------------------------------------------------------------------------------------------


def _held(case: Case, phase: Phase, said: str, again: float | None) -> Plan:
    """The canary stands by, with the share it has now or less: none before its first step. Within one its gates are read on."""
    if case.journal.step == 0:
        return _plan(case, phase, said, all_to(case.stable), again)
    weight = min(current(case.seen, case.wanted), _allowed(replace(case, coming=0)))
    due = max(0.2, case.journal.measure_at - case.now)
    again = due if again is None else min(again, due)
    return _plan(case, phase, said, divided(case.seen, case.stable, case.wanted, weight), again)


def _on(case: Case, traffic: Traffic, verdict: StepVerdict, phase: Phase, said: str) -> Plan:
    wait = max(0.2, case.journal.measure_at - case.now)
    wait = min(wait, SOON) if case.journal.step_began is None else wait
    case = case if _may_be_coming(case, verdict) else replace(case, journal=_awaiting_none(case.journal))
    plan = _plan(case, phase, said, traffic, wait)
    return replace(plan, rollout=_row(case, verdict))


def _may_be_coming(case: Case, verdict: StepVerdict) -> bool:
    """Whether a pass that stays in the step still waits for servers of the next one: only while they may be what cannot be read.
    A pause, or the time that a verdict takes, is not theirs."""
    if case.seen.resource.spec.rollout.paused or verdict.verdict != "NoMetrics":
        return False
    return not is_ready(case.seen, case.wanted, case.journal.waits_for)


def _plan(
    case: Case,
    phase: Phase,
    said: str,
    traffic: Traffic,
    again: float | None,
    *,
    request: tuple[str, str] | None = None,
) -> Plan:
    done = handled(case.seen) | (dict([request]) if request else {})
    leaving = still_served(case.seen, case.stable, case.wanted)
    lets_go = _lets_stable_go(case, traffic) or _has_let_stable_go(case)
    if lets_go and case.stable.name in case.seen.workloads:
        case = replace(case, journal=replace(case.journal, let_go_at=case.now))
    if again is None and case.seen.resource.spec.traffic.route_ref:
        again = LATER  # nothing wakes the operator when somebody else changes the weights in a route of theirs
    return Plan(
        phase=phase,
        sentence=f"{said}; {case.slow}" if case.slow and not case.journal.ending else said,
        wanted=case.wanted.name,
        run=runs(
            case.seen,
            [*([] if lets_go else [case.stable]), case.wanted, *leaving],
            {case.wanted.name: case.needed},
        ),
        stable=case.stable,
        canary=case.wanted,
        traffic=traffic,
        memory=Memory(case.journal, dumped(case.ledger), done),
        rollout=_row(case, None),
        look_again=again,
    )


def _lets_stable_go(case: Case, traffic: Traffic) -> bool:
    """In the bake, where the spec does not keep stable's servers and they would be back in time, once no request can be on its
    way to them. It changes what is stored: a pass that was held up then conflicts with one that has rolled back meanwhile, before
    it removes anything."""
    alone = dict(traffic.weights) == {case.wanted.name: 100} and in_force(case.seen, traffic)
    quiet = case.now - case.journal.rose_at >= LINGER_SECONDS and case.stable.name not in case.seen.endpoints
    none_left = comes_back_after(case.stable) is None  # they might find no GPU any more
    kept = case.seen.resource.spec.rollout.retain_stable == "Full" or none_left or bool(case.slow)
    return (
        not kept and not case.journal.ending and case.bakes and case.journal.step_began is not None and alone and quiet
    )


def _has_let_stable_go(case: Case) -> bool:
    """At the end of the bake: stable has no servers and nothing sends it requests, so none are made for the one pass."""
    gone = case.stable.name not in case.seen.workloads and case.stable not in still_served(case.seen, case.wanted)
    return gone and case.journal.ending == "Promoted"


def _row(case: Case, verdict: StepVerdict | None) -> RolloutStatus:
    """The rollout as the status shows it."""
    began = case.journal.step_began
    to_go = verdict.seconds_to_go if verdict else None
    return RolloutStatus(
        step=_of(case) if case.journal.step else f"0/{len(case.steps)}",
        step_started_at=_time(began),
        promote_not_before=_time(began + seconds(case.step.hold)) if began is not None else None,
        verdict_expected_at=_time(_told_at(case) + to_go) if to_go is not None and to_go < 1e8 else None,
        verdict=verdict.verdict if verdict else None,
        gates=tuple(_gate(gate) for gate in verdict.gates) if verdict else (),
    )


def _gate(gate: GateVerdict) -> Gate:
    return Gate(
        name=gate.name,
        limit=gate.limit,
        observed=gate.observed_text,
        events=int(gate.events),
        evidence=f"{gate.evidence:.3g} of {gate.needed:.3g}",
        verdict=gate.verdict,
    )


def _outlook(case: Case, verdict: StepVerdict) -> str:
    """What a step waits for: its time, or evidence."""
    left = _step_ends(case) - _told_at(case)
    if verdict.verdict == "Passing" and left > 0:
        return f"step {_of(case)}: {case.step.weight} % for another {left:.0f} s; {verdict.sentence}"
    return f"step {_of(case)}: {verdict.sentence}"


def _told_at(case: Case) -> float:
    """What is said about the time to come is as of the last reading: a sentence that changed with every pass would be written,
    and wake the next pass, for ever."""
    return case.ledger.counters.at or case.journal.step_began or case.journal.began


def _phase(case: Case) -> Phase:
    return Phase.BAKING if case.bakes else Phase.STEPPING


def _of(case: Case) -> str:
    return f"{case.number}/{len(case.steps)}"


def _interval(case: Case) -> float:
    return interval_of(case.seen.resource.spec)


def _max_hold(case: Case) -> float:
    stated = case.step.max_hold or case.seen.resource.spec.rollout.max_hold
    return seconds(stated) if stated else MAX_HOLDS * seconds(case.step.hold) or _deadline(case)


def _step_ends(case: Case) -> float:
    return (case.journal.step_began or case.now) + seconds(case.step.hold)


def entered(journal: Journal, entry: Entry) -> tuple[Entry, ...]:
    """The timeline with one thing more that happened."""
    return (*journal.timeline, entry)[-MOST_ENTRIES:]


def _arm(revision: Revision) -> Arm:
    return Arm(revision.name, revision.model_version, revision.model_digest, revision.image)


def _time(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)
