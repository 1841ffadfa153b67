"""Which revision serves, which comes up beside it, and which goes.

A new revision comes up beside the old one; when every replica is ready the Service of the object's name changes over in one
write; when the old pods get no new connections they are removed and drain. Each pass decides from what is seen alone, so an
operator killed between any two writes continues where the cluster is, not where it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from pinn_operator.api.location import complaint_about, location_of
from pinn_operator.api.observed import Observed, Workload
from pinn_operator.api.plan import Phase, Plan, Run
from pinn_operator.api.revision import Revision, content_of, name_of

KEPT_REVISIONS = 10
"""As many as a Deployment keeps: enough to undo to, few enough to read."""

TEARDOWN = timedelta(seconds=20)
"""How long the finalizer waits for the children; after that the garbage collector goes on alone."""

SOON, LATER = 1.0, 30.0


def decide(seen: Observed) -> Plan:
    """What should be, given what is."""
    wanted = wanted_revision(seen)
    if seen.deleted_at is not None:
        return _tear_down(seen, wanted, seen.now - seen.deleted_at)
    stable = stable_revision(seen, wanted)
    if wanted.template is None and (complaint := not_supported(seen)):
        return _complete(seen, _keep(seen, wanted, stable, complaint))
    plan = _start(seen, wanted) if stable is None else _advance(seen, wanted, stable)
    return _complete(seen, plan)


def wanted_revision(seen: Observed) -> Revision:
    """The revision that the spec asks for: the one on record under that name, or a new one."""
    spec = seen.resource.spec
    content = content_of(spec)
    name = name_of(content)
    number = max((revision.number for revision in seen.revisions.values()), default=0) + 1
    if known := seen.revisions.get(name):
        return known if known.created else replace(known, content=content)  # a recovered one knows less than the spec
    return Revision(name, number, content, image=spec.image or seen.server_image)


def stable_revision(seen: Observed, wanted: Revision) -> Revision | None:
    """The revision that answers callers now.

    The status says so. A pass that was cut off between the change of the Service and that of the status is recognised by the
    Service, but only where it points at the wanted revision and reaches it: then it was our write and not somebody else's.
    """
    if seen.selected == wanted.name and _is_ready(seen, wanted) and _is_reachable(seen, wanted):
        return wanted
    status = seen.resource.status
    named = status.stable.revision if status and status.stable else None
    stable, selected = seen.revisions.get(named or ""), seen.revisions.get(seen.selected or "")
    if stable is not None and seen.workload(stable.name).ready:
        return stable
    if selected is not None and selected.name != wanted.name and seen.workload(selected.name).ready:
        return selected  # nobody wrote it down yet, but it answers callers
    return stable


def not_supported(seen: Observed) -> str | None:
    """Why a new revision cannot be served by this release, in a sentence; None when it can."""
    spec = seen.resource.spec
    if complaint := complaint_about(location_of(spec.model.uri)):
        return f"spec.model.uri: {complaint}"
    if strange := sorted(name for name in spec.cache.bin_widths if not name.isidentifier()):
        return f'spec.cache.binWidths: "{strange[0]}" is no name of an input; write e.g. volatility: 1%'
    return None


def _tear_down(seen: Observed, wanted: Revision, so_far: timedelta) -> Plan:
    """Everything goes; the finalizer goes last, and never later than the limit."""
    return Plan(
        phase=Phase.DELETING,
        sentence=f"removing {len(seen.children)} children" if seen.children else "everything is removed",
        wanted=wanted.name,
        teardown=True,
        release=not seen.children or so_far > TEARDOWN,
        look_again=SOON if seen.has_finalizer else None,
    )


def _keep(seen: Observed, wanted: Revision, stable: Revision | None, complaint: str) -> Plan:
    """The spec asks for what this release cannot do: what serves goes on serving, and nothing new is made."""
    return Plan(
        phase=Phase.NOT_SUPPORTED,
        sentence=complaint,
        wanted=wanted.name,
        run=_runs(seen, [stable, *_drained(seen, stable)] if stable else []),
        stable=stable,
        serving=stable.name if stable else None,
    )


def _start(seen: Observed, wanted: Revision) -> Plan:
    """The first revision of an object has nothing to be compared with: it is stable when a caller of the Service reaches it."""
    ready = _is_ready(seen, wanted)
    serves = ready and _is_reachable(seen, wanted)
    said = f"is starting, {_progress(seen, wanted)}" if not ready else "is ready and not yet behind the Service"
    return Plan(
        phase=Phase.SERVING if serves else Phase.STARTING,
        sentence=f"{_called(wanted)} {'serves' if serves else said}",
        wanted=wanted.name,
        run=_runs(seen, [wanted, *_drained(seen, wanted)]),
        stable=wanted if serves else None,
        serving=wanted.name,
        look_again=None if serves else SOON if ready else LATER,
    )


def _advance(seen: Observed, wanted: Revision, stable: Revision) -> Plan:
    if wanted.name == stable.name:
        return _settle(seen, wanted)
    if not _is_ready(seen, wanted):
        return _beside(
            seen, wanted, stable, Phase.STEPPING, f"{_called(wanted)} comes up, {_progress(seen, wanted)}", LATER
        )
    if seen.behind.get(wanted.name, 0) < seen.resource.spec.replicas:
        said = f"{_called(wanted)} is ready and not yet behind its Service"
        return _beside(seen, wanted, stable, Phase.STEPPING, said, SOON)
    if seen.resource.spec.rollout.paused:
        said = f"{_called(wanted)} is ready and held: spec.rollout.paused is true; {_called(stable)} serves"
        return _beside(seen, wanted, stable, Phase.PAUSED, said, None)
    return Plan(
        phase=Phase.SWITCHING,
        sentence=f"{_called(wanted)} is ready and takes over from {_called(stable)}",
        wanted=wanted.name,
        run=_runs(seen, [wanted, stable, *_drained(seen, wanted, stable)]),
        stable=wanted,
        serving=wanted.name,
        look_again=SOON,
    )


def _settle(seen: Observed, stable: Revision) -> Plan:
    """The wanted revision serves. Older ones stay until the Service sends them nothing more."""
    leaving = _drained(seen, stable)
    if seen.selected == stable.name and not leaving:
        said, phase = f"{_called(stable)} serves", Phase.SERVING
        again = None if _is_ready(seen, stable) else LATER
    else:
        said, phase, again = f"{_called(stable)} serves; the Service is changing over", Phase.DRAINING, SOON
    return Plan(
        phase=phase,
        sentence=said,
        wanted=stable.name,
        run=_runs(seen, [stable, *leaving]),
        stable=stable,
        serving=stable.name,
        look_again=again,
    )


def _beside(seen: Observed, wanted: Revision, stable: Revision, phase: Phase, said: str, again: float | None) -> Plan:
    return Plan(
        phase=phase,
        sentence=said,
        wanted=wanted.name,
        run=_runs(seen, [stable, wanted, *_drained(seen, stable, wanted)]),
        stable=stable,
        canary=wanted,
        serving=stable.name,
        look_again=again,
    )


def _drained(seen: Observed, *others: Revision) -> list[Revision]:
    """Revisions that are neither of the others, and to which the Service still sends requests."""
    names = seen.endpoints - {revision.name for revision in others}
    return [seen.revisions[name] for name in sorted(names) if name in seen.revisions]


def _runs(seen: Observed, revisions: Iterable[Revision]) -> tuple[Run, ...]:
    return tuple(Run(revision, seen.resource.spec.replicas, _nudge(seen, revision)) for revision in revisions)


def _nudge(seen: Observed, revision: Revision) -> str | None:
    """The running half minute, while pods of the revision are refused: one more try in each of them, not one a pass."""
    if seen.workload(revision.name).not_created is None:
        return None
    return seen.now.replace(second=seen.now.second // 30 * 30, microsecond=0).isoformat()


def _is_ready(seen: Observed, revision: Revision) -> bool:
    """Every replica asked for is ready, by the pods themselves; none asked for is ready too."""
    return revision.name in seen.revisions and seen.workload(revision.name).ready >= seen.resource.spec.replicas


def _is_reachable(seen: Observed, revision: Revision) -> bool:
    """The Service of the object's name has it among its endpoints: pods are ready a little before that."""
    return revision.name in seen.endpoints or seen.resource.spec.replicas == 0


def _progress(seen: Observed, revision: Revision) -> str:
    workload: Workload = seen.workload(revision.name)
    count = f"{workload.ready} of {seen.resource.spec.replicas} replicas ready"
    trouble = workload.not_created or workload.not_starting
    return f"{count}: {trouble}" if trouble else count


def _called(revision: Revision) -> str:
    return f"version {revision.model_version} (revision {revision.name})"


def _complete(seen: Observed, plan: Plan) -> Plan:
    """What every plan but a teardown has: the records it lets go, and a next look while a nudge is wanted."""
    nudging = any(run.nudge for run in plan.run)
    return replace(plan, forget=_forgotten(seen, plan), look_again=plan.look_again or (LATER if nudging else None))


def _forgotten(seen: Observed, plan: Plan) -> frozenset[str]:
    """Records beyond the newest ten that nothing runs from."""
    running = {run.revision.name for run in plan.run}
    newest_first = sorted(seen.revisions.values(), key=lambda revision: -revision.number)
    return frozenset(r.name for r in newest_first[KEPT_REVISIONS:] if r.name not in running)
