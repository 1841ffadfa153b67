"""Which revision serves, which comes up beside it, and which goes.

A pass decides from what is seen and stored alone, so an operator killed between any two writes continues where the cluster is,
not where it was. What a rollout does step by step is in canary.py.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from math import ceil

from pinn_operator.api.journal import Entry, Journal
from pinn_operator.api.location import complaint_about, location_of
from pinn_operator.api.memory import Memory
from pinn_operator.api.observed import ChildId, Observed
from pinn_operator.api.ownership import controller_of
from pinn_operator.api.plan import Phase, Plan
from pinn_operator.api.revision import Revision, content_of, name_of
from pinn_operator.api.status import LastHandled, Rejected
from pinn_operator.api.units import seconds
from pinn_operator.decide import scaling
from pinn_operator.decide.canary import LATER, QUIET_SECONDS, SOON, entered, roll, superseded
from pinn_operator.decide.looks import called, is_reachable, is_ready, progress, runs, still_served
from pinn_operator.decide.placement import comes_back_after, with_places
from pinn_operator.decide.requests import asked, handled, is_for_step, left_over, promotion, step_of, with_requests
from pinn_operator.decide.shares import all_to, current, in_force
from pinn_operator.decide.watch import now_of, to_measure

KEPT_REVISIONS = 10
"""As many as a Deployment keeps: enough to undo to, few enough to read."""

TEARDOWN = timedelta(seconds=20)
"""How long the finalizer waits for the children; after that the garbage collector goes on alone."""

ORPHAN = "orphan"
"""The finalizer that `--cascade=orphan` puts on an object: its children are to stay."""

SMOKE_SECONDS = 30.0
"""How long the report of a rollback waits for the smoke test."""


MOST_OF_A_STEP = 20
"""Characters of what a person wrote in place of a step that are told."""
BACK_SECONDS = 10.0
"""One pass, and a gateway that follows: 1 to 3 s as measured, with room."""
ROUTE_SECONDS = 5.0
"""Between two looks at a route that is missing or refused: the user's to mend, and nothing wakes the operator when it is."""
START_SLACK = 1.5
"""Times that servers took to start: the next time the node may be busier."""
NOT_FAILED = ("Aborted", "Undecided")
"""Why a rollout is rolled back that has failed no gate and crossed no limit."""
AT_REST = (Phase.SERVING, Phase.ROLLED_BACK)
"""Phases in which nothing is asked of a rollout."""


def decide(seen: Observed) -> Plan:
    """What should be, given what is."""
    wanted = wanted_revision(seen)
    if seen.deleted_at is not None:
        return _tear_down(seen, wanted, seen.now - seen.deleted_at)
    return _complete(seen, _decided(seen, wanted))


def _decided(seen: Observed, wanted: Revision) -> Plan:
    stable = stable_revision(seen)
    journal = journal_of(seen, stable)
    if stable is not None and journal is not None:
        if not journal.ending and journal.canary.revision != wanted.name:
            return superseded(seen, journal, stable, wanted)
        if journal.ending == "RolledBack" and not is_reported(seen, journal):
            return _roll_back(seen, wanted, stable, journal)
        if journal.ending and wanted.name != stable.name and not is_reported(seen, journal):
            return _wait(seen, wanted, stable, "until the last rollout is reported")
    if not wanted.written and (complaint := not_supported(seen)):
        return _keep(seen, wanted, stable, complaint)
    if stable is None:
        return _start(seen, wanted)
    if wanted.name == stable.name:
        return _settle(seen, stable)
    if journal is not None and not journal.ending:
        return roll(seen, wanted, stable, journal, _slow_way_back(seen, stable))
    if said := _rejection(seen, wanted, journal):
        if not asked(seen, "retry", wanted.name):
            return _stay(seen, wanted, stable, said)
        if _has_servers(seen, wanted):
            return _wait(seen, wanted, stable, "until the servers of its last try have left")
    if complaint := _slow_way_back(seen, stable):
        return _keep(seen, wanted, stable, complaint)
    return roll(seen, wanted, stable, None)


def wanted_revision(seen: Observed) -> Revision:
    """The revision that the spec asks for: the one on record under that name, or a new one."""
    spec = seen.resource.spec
    content = content_of(spec)
    name = name_of(content)
    number = max((revision.number for revision in seen.revisions.values()), default=0) + 1
    if known := seen.revisions.get(name):
        return known if known.created else replace(known, content=content)  # a recovered one knows less than the spec
    return Revision(name, number, content, image=spec.image or seen.server_image)


def stable_revision(seen: Observed) -> Revision | None:
    """The revision that was promoted last, or the first one.

    The journal of the last rollout says so: it is stored before the status, which may never have been written. Where the status
    names a third one, the journal is not the last, and where it is lost, the status knows; without either, the Service of the
    object's name.
    """
    journal = seen.memory.journal if seen.memory else None
    named = seen.resource.status.stable.revision if seen.resource.status.stable else None
    arms = (journal.stable.revision, journal.canary.revision) if journal else ()
    if journal and (named in arms or named not in seen.revisions):
        named = journal.canary.revision if journal.ending == "Promoted" else journal.stable.revision
    stable, selected = seen.revisions.get(named or ""), seen.revisions.get(seen.selected or "")
    if stable is None and selected is not None and seen.workload(selected.name).ready:
        return selected  # nobody wrote it down, but it answers callers
    return stable


def journal_of(seen: Observed, stable: Revision | None) -> Journal | None:
    """The journal, unless it speaks of another stable revision than there is: then somebody has changed more than it knows."""
    journal = seen.memory.journal if seen.memory else None
    if journal is None or stable is None:
        return None
    speaks_of = journal.canary if journal.ending == "Promoted" else journal.stable
    return journal if speaks_of.revision == stable.name else None


def not_supported(seen: Observed) -> str | None:
    """Why a new revision cannot be served by this release, in a sentence; None when it can."""
    spec = seen.resource.spec
    if complaint := complaint_about(location_of(spec.model.uri)):
        return f"spec.model.uri: {complaint}"
    if strange := sorted(name for name in spec.cache.bin_widths if not name.isidentifier()):
        return f'spec.cache.binWidths: "{strange[0]}" is no name of an input; write e.g. volatility: 1%'
    return None


def _slow_way_back(seen: Observed, stable: Revision) -> str | None:
    """Why a rollback could take longer than the spec allows, with the remedy; None when it does not, or nothing tells."""
    rollout = seen.resource.spec.rollout
    within, deadline = seconds(rollout.rollback_within), seconds(rollout.progress_deadline)
    took = [server.took for server in seen.servers if server.revision == stable.name and server.took is not None]
    finds_a_place = comes_back_after(stable)
    if finds_a_place is None and rollout.retain_stable == "None":
        why = "with gpu.policy: Require stable may find no GPU when it has to come back"
        return f"spec.rollout.retainStable: None is refused: {why}; set spec.rollout.retainStable: Full"
    starts = START_SLACK * min((one for one in took if one <= deadline), default=0.0) + (finds_a_place or 0.0)
    needed = BACK_SECONDS + (starts if rollout.retain_stable == "None" else 0.0)
    if needed <= within:
        return None
    said = f"spec.rollout.rollbackWithin: all traffic cannot be back on stable within {rollout.rollback_within}"
    if needed - starts > within or rollout.retain_stable == "Full":
        return f"{said}: a gateway may need {BACK_SECONDS:.0f} s to follow; allow that much"
    how = f"set spec.rollout.retainStable: Full, or allow {needed:.0f}s"
    return f"{said}: without retained servers (retainStable: None) {called(stable)} has to start, in about {starts:.0f} s; {how}"


def is_reported(seen: Observed, journal: Journal) -> bool:
    """Whether the status' history has this rollout."""
    history = seen.resource.status.history
    return any(one.revision == journal.canary.revision and one.at == journal.ended_at for one in history)


def _rejection(seen: Observed, wanted: Revision, journal: Journal | None) -> str | None:
    """Why the revision asked for is not tried again unless a person says so; None when it may be tried."""
    if journal and journal.ending == "RolledBack" and journal.canary.revision == wanted.name:
        return journal.sentence
    rejected = {one.revision: one for one in seen.resource.status.rejected}
    if one := rejected.get(wanted.name):
        return f"{called(wanted)} was rolled back before: {one.reason}"
    return None


def _has_servers(seen: Observed, revision: Revision) -> bool:
    """Whether any are there yet: by those that failed a new try would fail at once."""
    return revision.name in seen.workloads or any(server.revision == revision.name for server in seen.servers)


def _leftovers(seen: Observed) -> dict[str, str]:
    """What is asked, at rest, of a revision whose rollout is over, by verb. What is said before the first one is for that, and
    what is said with the retry, or with the spec that asks for it again, or after it, is for the next."""
    tried = {one.revision for one in seen.resource.status.history}
    return {verb: value for revision in tried for verb, value in left_over(seen, revision).items()}


def _tear_down(seen: Observed, wanted: Revision, so_far: timedelta) -> Plan:
    """Everything goes but who is to outlive the object; the finalizer goes last, and never later than the limit."""
    spared = _orphans(seen)
    going = len(seen.children) - len(spared)
    left = f"{len(spared)} children stay" if spared else "everything is removed"
    return Plan(
        phase=Phase.DELETING,
        sentence=f"removing {going} children" if going else left,
        wanted=wanted.name,
        teardown=True,
        release=not going or so_far > TEARDOWN,
        spared=spared,
        look_again=SOON if seen.has_finalizer else None,
    )


def _orphans(seen: Observed) -> frozenset[ChildId]:
    """Who outlives the object: all where a person asked for that, and those that are nobody's already. The garbage collector may
    have been quicker, and then takes off the word that asked for it."""
    if ORPHAN in seen.resource.metadata.finalizers:
        return frozenset(seen.children)
    controllers = {child: controller_of(live) for child, live in seen.children.items()}
    return frozenset(child for child, one in controllers.items() if one is None or one["uid"] != seen.uid)


def _keep(seen: Observed, wanted: Revision, stable: Revision | None, complaint: str) -> Plan:
    """The spec asks for what this release cannot do: what serves goes on serving, and nothing new is made."""
    return Plan(
        phase=Phase.NOT_SUPPORTED,
        sentence=complaint,
        wanted=wanted.name,
        run=runs(seen, [stable, *still_served(seen, stable)] if stable else []),
        stable=stable,
        traffic=all_to(stable) if stable else None,
    )


def _start(seen: Observed, wanted: Revision) -> Plan:
    """The first revision of an object has nothing to be compared with: it is stable when a caller of the Service reaches it."""
    ready = is_ready(seen, wanted)
    serves = ready and is_reachable(seen, wanted)
    said = f"is starting, {progress(seen, wanted)}" if not ready else "is ready and not yet behind the Service"
    return Plan(
        phase=Phase.SERVING if serves else Phase.STARTING,
        sentence=f"{called(wanted)} {'serves' if serves else said}",
        wanted=wanted.name,
        run=runs(seen, [wanted, *still_served(seen, wanted)]),
        stable=wanted if serves else None,
        traffic=all_to(wanted),
        look_again=None if serves else SOON if ready else LATER,
    )


def _settle(seen: Observed, stable: Revision) -> Plan:
    """The wanted revision serves. Older ones stay until nothing sends them requests any more."""
    traffic, leaving = all_to(stable), still_served(seen, stable)
    if in_force(seen, traffic) and not leaving:
        said, phase = f"{called(stable)} serves", Phase.SERVING
        again = None if is_ready(seen, stable) else LATER
    else:
        trouble = seen.route.trouble if seen.route else ""
        said = f"{called(stable)} serves; the traffic is changing over{f': {trouble}' if trouble else ''}"
        phase, again = Phase.DRAINING, ROUTE_SECONDS if trouble and not leaving else SOON
    return Plan(
        phase=phase,
        sentence=said,
        wanted=stable.name,
        run=runs(seen, [stable, *leaving]),
        stable=stable,
        traffic=traffic,
        look_again=again,
    )


def _wait(seen: Observed, wanted: Revision, stable: Revision, until: str) -> Plan:
    """A rollout does not begin before the last one is reported, as it overwrites what is known of it, nor with its servers."""
    said = f"{called(stable)} serves; {called(wanted)} waits {until}"
    return replace(_settle(seen, stable), phase=Phase.DRAINING, sentence=said, wanted=wanted.name, look_again=SOON)


def _stay(seen: Observed, wanted: Revision, stable: Revision, said: str) -> Plan:
    """The revision asked for was rolled back: stable serves until the spec changes or a person says retry."""
    how = f"change the spec, or annotate it with pinn.dev/retry={wanted.name}@TOKEN"
    leaving = still_served(seen, stable)
    return Plan(
        phase=Phase.ROLLED_BACK,
        sentence=f"{said}; {how}",
        wanted=wanted.name,
        run=runs(seen, [stable, *leaving]),
        stable=stable,
        traffic=all_to(stable),
        look_again=SOON if leaving else None,
    )


def _roll_back(seen: Observed, wanted: Revision, stable: Revision, journal: Journal) -> Plan:
    """All traffic is on its way to stable, which is asked once whether it answers; when it is there the report is written.
    Until then the servers of the canary stay, for their logs. A stable without servers keeps no third version waiting."""
    traffic, now = all_to(stable), now_of(seen)
    answers, overdue = bool(seen.behind.get(stable.name)), now - (journal.ended or now) > SMOKE_SECONDS
    there = in_force(seen, traffic) and (answers or _stand_in(seen, journal) is None)
    if not answers and wanted.name not in (stable.name, journal.canary.revision):
        there = there or overdue
    trouble = "" if there or seen.route is None else seen.route.trouble
    smoke = seen.measured.smoke if seen.measured and journal.measure == "smoke" else None
    if smoke is None and overdue:
        smoke = (False, f"{called(stable)} could not be asked within {SMOKE_SECONDS:.0f} s")
    if smoke and not journal.smoke and (smoke[0] or there):  # without servers yet, or cut off, it may still answer
        journal = replace(journal, smoke=smoke[1], measure="")
    elif not journal.smoke and journal.measure != "smoke":
        journal = to_measure(journal, "smoke", now)
    said = (journal.sentence, journal.smoke, f"the traffic is not back yet: {trouble}" if trouble else "")
    canary = seen.revisions.get(journal.canary.revision)
    remains = [canary] if canary and canary.name in seen.workloads else []
    return Plan(
        phase=Phase.ROLLING_BACK,
        sentence="; ".join(filter(None, said)),
        wanted=wanted.name,
        run=runs(seen, [stable, *remains, *still_served(seen, stable)]),
        stable=stable,
        canary=canary,
        traffic=traffic,
        memory=Memory(journal, seen.memory.ledger if seen.memory else {}, handled(seen)),
        finished=journal if journal.smoke and there else None,
        look_again=ROUTE_SECONDS if trouble else 0.5,
    )


def _complete(seen: Observed, plan: Plan) -> Plan:
    """What every plan but a teardown has: the records it lets go, who was rejected, what persons asked for and was done."""
    plan = with_places(seen, _while_servers_come_back(seen, plan))
    if plan.phase is Phase.SERVING and (remark := scaling.remark(seen, plan.run)):
        plan = replace(plan, sentence=f"{plan.sentence}; {remark}")
    nudging = any(run.nudge for run in plan.run)
    waits = (
        plan.look_again,
        scaling.look_again(seen, plan.run),
        LATER if nudging and plan.look_again is None else None,
    )
    memory = _with_requests(seen, plan)
    done = memory.handled if memory else handled(seen)
    return replace(
        plan,
        memory=memory,
        forget=_forgotten(seen, plan),
        rejected=_rejected(seen, plan),
        handled=LastHandled(**{verb: value for verb, value in done.items() if verb in LastHandled.model_fields}),
        finished=plan.finished or _unreported(seen, plan),
        look_again=min((wait for wait in waits if wait is not None), default=None),
    )


def _while_servers_come_back(seen: Observed, plan: Plan) -> Plan:
    """Who can answer does, as long as those who are to get the traffic cannot: stable's servers were let go for the bake, or were
    lost. Who has all of it keeps it, and a canary that had it gets it back, for a while at least: with a stable that is well only
    while nobody asks the traffic would go to and fro."""
    weights = plan.traffic.weights if plan.traffic and plan.phase is not Phase.STARTING else {}
    stored = plan.memory or seen.memory
    journal = stored.journal if stored else None
    holder, stand_in = seen.revisions.get(seen.selected or ""), _stand_in(seen, journal)
    if holder and current(seen, holder) == 100 and (seen.behind.get(holder.name) or holder == stand_in):
        rests = _has_just_stood_in(seen, journal, holder)
        missing = [
            name
            for name, weight in weights.items()
            if name != holder.name and (rests or seen.behind.get(name, 0) < _enough(seen, journal, holder, weight))
        ]
        return _answered_by(seen, plan, holder, missing[0]) if missing else plan
    nobody_answers = bool(weights) and not any(seen.behind.get(name) for name in weights)
    if plan.memory and nobody_answers and stand_in and seen.behind.get(stand_in.name):
        return _answered_by(seen, plan, stand_in, min(weights))
    return plan


def _stand_in(seen: Observed, journal: Journal | None) -> Revision | None:
    """The canary, if it has had the whole traffic: one that has not is tried no further where stable is down. Without a server it
    may have one again in a moment; but stable may lack its place, so when all is over that is waited for no longer than for the
    smoke test."""
    if journal is None or journal.weight < 100 or not seen.resource.spec.replicas:
        return None
    name = journal.canary.revision
    overdue = journal.ended is not None and now_of(seen) - journal.ended > SMOKE_SECONDS
    return seen.revisions.get(name) if seen.behind.get(name) or (name in seen.workloads and not overdue) else None


def _has_just_stood_in(seen: Observed, journal: Journal | None, holder: Revision) -> bool:
    """Whether it has stood in for stable within this step, not long ago, and nothing has ended: its weight rose again after the
    step had begun."""
    if journal is None or journal.ended or holder.name != journal.canary.revision or not seen.behind.get(holder.name):
        return False
    again = journal.step_began is not None and journal.rose_at > journal.step_began
    return again and now_of(seen) - journal.rose_at < QUIET_SECONDS


def _enough(seen: Observed, journal: Journal | None, holder: Revision, weight: int) -> int:
    """The servers that it takes to relieve who answers now. One, but for a stable that was let go when all is over: as many as it
    relieves, or cold ones would meet more than they can do; half of them where a gate has failed, as then there is more to
    relieve callers of. Who never comes is not waited for longer than leaves time to be back within what a rollback may take."""
    if journal is None or holder.name == journal.stable.revision:
        return 1
    ended = journal.ended if journal.let_go_at is not None else None
    over = ended if journal.canary.revision == holder.name else journal.began  # the next rollout has begun
    within = seconds(seen.resource.spec.rollout.rollback_within) - BACK_SECONDS
    if over is None or now_of(seen) - over > within:
        return 1
    failed = journal.ending == "RolledBack" and journal.reason not in NOT_FAILED
    servers = seen.behind.get(holder.name, 0) * weight / 100
    return max(1, ceil(servers / 2 if failed else servers))


def _answered_by(seen: Observed, plan: Plan, revision: Revision, missing: str) -> Plan:
    """All traffic to this one until the missing one can answer. A weight that rises changes what is stored: see canary.py."""
    run = plan.run if revision.name in {one.revision.name for one in plan.run} else (*plan.run, *runs(seen, [revision]))
    does = "answers" if seen.behind.get(revision.name) else "has the traffic"
    said = f"{plan.sentence}; revision {missing} comes up first, {called(revision)} {does} until then"
    memory = plan.memory
    if memory and memory.journal and current(seen, revision) < 100:
        memory = replace(memory, journal=replace(memory.journal, rose_at=now_of(seen)))
    return replace(plan, traffic=all_to(revision), run=run, sentence=said, memory=memory, look_again=SOON)


def _unreported(seen: Observed, plan: Plan) -> Journal | None:
    """A rollout that is over and not in the history: the pass that ended it was cut off before its status was written."""
    journal = seen.memory.journal if seen.memory else None
    over = journal is not None and journal.ending in ("Promoted", "Superseded")
    return journal if journal and over and not is_reported(seen, journal) and plan.memory is None else None


def _with_requests(seen: Observed, plan: Plan) -> Memory | None:
    """With what persons asked for and is done. A rollout that begins, or goes on, has done what retry asked for; one that is over
    leaves nothing to the next, nor does a step."""
    if plan.memory is None:
        left = _leftovers(seen) if plan.phase in AT_REST else {}
        before = replace(seen.memory or Memory(), handled=handled(seen))
        return with_requests(seen, before, {}, left) if left else None
    journal = plan.memory.journal
    if journal is None:
        return plan.memory
    stored = seen.memory.journal if seen.memory else None
    begins = stored is None or stored.began != journal.began
    retry = asked(seen, "retry", plan.wanted) if begins or not journal.ending else None
    memory, let_go = plan.memory, left_over(seen, journal.canary.revision) if journal.ending else {}
    if value := _for_another_step(seen, memory, journal):
        memory = replace(memory, journal=_with_let_go(seen, journal, value))
        let_go = {"promote": value}
    return with_requests(seen, memory, {"retry": retry} if retry else {}, let_go)


def _for_another_step(seen: Observed, memory: Memory, journal: Journal) -> str | None:
    """The promote that names another step than the one that the rollout is in, unless it was acted upon in this pass. Before the
    first step it waits for that."""
    value = asked(seen, "promote", journal.canary.revision)
    if value is None or value == memory.handled.get("promote") or not journal.step or journal.ending:
        return None
    return None if is_for_step(value, journal.step) else value


def _with_let_go(seen: Observed, journal: Journal, value: str) -> Journal:
    """The journal with the entry, of which the Event is made, that a promote is not acted upon, and what to do instead."""
    revision, steps = journal.canary.revision, seen.resource.spec.rollout.steps
    now, at, named = now_of(seen), f"{journal.step}/{len(steps)}", step_of(value)[:MOST_OF_A_STEP]
    said = f"a promote for step {named} is not acted upon: revision {revision} is in step {at}"
    said = f"{said}; to leave that one annotate it with {promotion(revision, journal.step)}"
    return replace(journal, timeline=entered(journal, Entry(now, "PromoteLetGo", said, journal.weight)))


def _rejected(seen: Observed, plan: Plan) -> tuple[Rejected, ...]:
    """Those of the status, without one that is tried again, and with one that has just failed."""
    journal = plan.memory.journal if plan.memory else None
    before = seen.resource.status.rejected
    if journal is None:
        return before
    others = tuple(one for one in before if one.revision != journal.canary.revision)
    if not journal.ending:
        return others
    if journal.ending != "RolledBack" or not journal.blamed:
        return before
    failed = Rejected(
        revision=journal.canary.revision,
        model_version=journal.canary.model_version,
        reason=journal.sentence[:1000],
        at=journal.ended_at,
    )
    return (*others, failed)[-10:]


def _forgotten(seen: Observed, plan: Plan) -> frozenset[str]:
    """Records beyond the newest ten that nothing runs from and nobody goes back to: in the bake stable may have no servers. A
    rollout that is stored as under way counts as such until its end is stored."""
    journal = seen.memory.journal if seen.memory else None
    arms = (journal.stable.revision, journal.canary.revision) if journal and not journal.ending else ()
    named = [revision.name for revision in (plan.stable, plan.canary) if revision]
    kept = {plan.wanted, *arms, *named, *(run.revision.name for run in plan.run)}
    newest_first = sorted(seen.revisions.values(), key=lambda revision: -revision.number)
    return frozenset(r.name for r in newest_first[KEPT_REVISIONS:] if r.name not in kept)
