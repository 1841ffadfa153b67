"""How many servers a revision has: as many as the spec says, or as many as an autoscaler finds between two bounds.

The operator sets the bounds and never the number. What a rollout needs is in the lower one: the canary's servers before its share
rises, and stable's, so that they are still there when everything comes back. A revision with two Deployments has no autoscaler:
the operator counts its servers itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from math import ceil
from typing import Final

from pinn_operator.api.journal import Journal
from pinn_operator.api.observed import Observed
from pinn_operator.api.placement import Counted
from pinn_operator.api.plan import Run, Scale
from pinn_operator.api.revision import Revision
from pinn_operator.api.spec import Autoscaling
from pinn_operator.api.units import OFF, fraction, unless_off

STANDBY_SECONDS: Final = 300.0
"""How long the servers of both revisions stay after a rollout has ended. An autoscaler goes by the last five minutes, in which
stable may have had half of what has just come back to it."""

DOWN_SECONDS: Final = 30.0
DOWN_SHARE: Final = 10
"""Where nobody goes by load, or does any more, one server in ten goes, one at least, every so many seconds."""


def scaled(seen: Observed) -> Autoscaling | None:
    """What the spec says about autoscaling; None where it says nothing, or with `replicas: 0` that the object is switched off."""
    return seen.resource.spec.autoscaling if seen.resource.spec.replicas else None


def needed(seen: Observed) -> int:
    """The servers without which a revision is not ready, unless a rollout says otherwise."""
    scaling = scaled(seen)
    return scaling.min_replicas if scaling else seen.resource.spec.replicas


def whole(seen: Observed, stable: Revision, known: int = 0) -> int:
    """How many servers the whole of the traffic is worth: as many as stable has, or had when that was stored."""
    scaling = scaled(seen)
    if scaling is None:
        return seen.resource.spec.replicas
    return min(scaling.max_replicas, max(scaling.min_replicas, known or _has(seen, stable)))


def needed_for(seen: Observed, weight: int, of: int) -> int:
    """The servers that a canary has to have for this share, where the whole is worth `of`."""
    scaling = scaled(seen)
    if scaling is None:
        return seen.resource.spec.replicas
    return min(scaling.max_replicas, max(scaling.min_replicas, ceil(of * weight / 100)))


def sized(seen: Observed, revision: Revision, nudge: str | None, fewest: int | None = None) -> Run:
    """The revision, with the number that the spec asks for or the bounds of its autoscaler; `fewest` is what a rollout needs."""
    spec = seen.resource.spec
    scaling = scaled(seen)
    if len(revision.runs_on) > 1:
        return _counted(seen, revision, nudge, fewest)
    if scaling is None:
        scale = _way_back(seen, revision) if spec.replicas else None
        return Run(revision, scale.fewest if scale else spec.replicas, nudge, scale)
    least = _least(seen, revision, scaling, fewest)
    cpu = unless_off(fraction, scaling.target_cpu)
    scale = Scale(
        fewest=least,
        most=scaling.max_replicas,
        begin=_begin(seen, revision, least, scaling, is_canary=fewest is not None),
        cpu=None if cpu is None else round(100 * cpu),
        in_flight=scaling.target_in_flight if _by_in_flight(seen, scaling) else None,
    )
    return Run(revision, least, nudge, scale)


def remark(seen: Observed, runs: Iterable[Run]) -> str:
    """What a reader of the status would not expect."""
    replicas = seen.resource.spec.replicas
    if scaled(seen) is None:
        more = [_has(seen, run.revision) for run in runs if run.scale or run.counted]
        how = "raise spec.replicas to keep them" if any(count > replicas for count in more) else "more come up"
        return f"without autoscaling {max(more)} servers become {replicas} (spec.replicas), {how}" if more else ""
    if counted := [run for run in runs if run.counted]:
        said = "spec.autoscaling does not apply with spec.gpu.policy: Prefer, but for its bounds"
        falls = [f"{run.replicas} servers become {_goal(seen, run.revision)}" for run in counted if _falls(seen, run)]
        return f"{said}; {falls[0]}, raise spec.replicas within them to keep more" if falls else said
    if seen.pod_metrics is False:
        return "spec.autoscaling.targetInFlight waits for the metrics API custom.metrics.k8s.io"
    return ""


def look_again(seen: Observed, runs: Iterable[Run]) -> float | None:
    """Seconds until bounds have to be looked at though nothing happens: until stable need not stand by any more, or until the
    next server goes. None where nothing is to come."""
    runs = tuple(runs)
    if scaled(seen) is None:
        return DOWN_SECONDS if any(run.scale or run.counted for run in runs) else None
    if any(_falls(seen, run) for run in runs):
        return DOWN_SECONDS
    left = _standby_left(seen)
    above = any(run.replicas > needed(seen) for run in runs)
    return left if left and above else None


def _least(seen: Observed, revision: Revision, scaling: Autoscaling, fewest: int | None) -> int:
    """Its lower bound. Within a rollout nobody has fewer than it has: a pass that knows no next step must not end what has just
    been started."""
    least = _standby(seen, revision, scaling) if fewest is None else max(fewest, _has(seen, revision))
    return min(scaling.max_replicas, max(scaling.min_replicas, least))


def _counted(seen: Observed, revision: Revision, nudge: str | None, fewest: int | None) -> Run:
    """The revision with two Deployments. While there are bounds, or were and it still has more than `replicas` says, its number
    is noted: what it has must be known for it to become fewer by and by."""
    found, replicas = seen.workload(revision.name).counted, seen.resource.spec.replicas
    now, goal = _has(seen, revision), _goal(seen, revision, fewest)
    if scaled(seen) is None and (found is None or not replicas or now == goal):
        return Run(revision, replicas, nudge)
    count = _by_and_by(seen, now, goal, found.since if found else None)
    since = found.since if found and count == now else seen.now
    return Run(revision, count, nudge, counted=Counted(count, since))


def _goal(seen: Observed, revision: Revision, fewest: int | None = None) -> int:
    """What a revision with two Deployments comes to: what `replicas` says, within the bounds, or more that a rollout needs. Who
    begins or serves comes up to it; another, which may be leaving, has no more than it has."""
    scaling, replicas = scaled(seen), seen.resource.spec.replicas
    if scaling is None:
        return replicas
    now = _has(seen, revision)
    comes_up = seen.selected == revision.name or (fewest is None and not now)
    wished = replicas if comes_up else min(replicas, now)
    return max(_least(seen, revision, scaling, fewest), min(scaling.max_replicas, wished))


def _falls(seen: Observed, run: Run) -> bool:
    """Its servers are still more than they come to."""
    return run.counted is not None and run.replicas > _goal(seen, run.revision)


def _begin(seen: Observed, revision: Revision, least: int, scaling: Autoscaling, *, is_canary: bool) -> int:
    """Where there is no number yet: what an autoscaler has found, else what `replicas` says, or what a canary needs."""
    found = seen.autoscalers.get(revision.name)
    desired = found.desired if found and found.desired else None
    begin = desired or (least if is_canary else seen.resource.spec.replicas)
    return min(scaling.max_replicas, max(least, begin))


def _by_in_flight(seen: Observed, scaling: Autoscaling) -> bool:
    """An autoscaler that cannot read one of its metrics removes no server any more. So one that nobody serves is left out, unless
    it is the only one."""
    is_served = seen.pod_metrics is not False
    return scaling.target_in_flight > 0 and (is_served or scaling.target_cpu == OFF)


def _standby(seen: Observed, revision: Revision, scaling: Autoscaling) -> int:
    """Who takes part in a rollout, or has until a moment ago, keeps what it has. While one goes on, stable has no fewer than the
    canary: that one may have grown with the day's traffic, and a rollback brings all of it back at once."""
    journal = _journal(seen)
    takes_part = journal is not None and revision.name in (journal.stable.revision, journal.canary.revision)
    if journal is None or not takes_part or (journal.ending and not _standby_left(seen)):
        return scaling.min_replicas
    own = _has(seen, revision) or journal.servers
    canary = seen.revisions.get(journal.canary.revision)
    return own if journal.ending or canary is None else max(own, _has(seen, canary))


def _has(seen: Observed, revision: Revision) -> int:
    """The servers it has or starts. Of one with two Deployments that were not counted yet: those on CPUs stand in for all but the
    ones on GPUs that are reached, and beside those the Deployment on GPUs asks for a probe, which counts for nothing."""
    found = seen.workload(revision.name)
    if len(revision.runs_on) == 1 or found.counted:
        return found.asked
    gpu, cpu = seen.place(revision.name, "GPU"), seen.place(revision.name, "CPU")
    return cpu.asked + gpu.behind if cpu.asked else gpu.asked


def _standby_left(seen: Observed) -> float | None:
    """Seconds for which what took part in the last rollout still stands by; None: for none, or for as long as one goes on."""
    journal = _journal(seen)
    if journal is None or journal.ended is None:
        return None
    left = journal.ended + STANDBY_SECONDS - seen.now.timestamp()
    return left if left > 0 else None


def _way_back(seen: Observed, revision: Revision) -> Scale | None:
    """Autoscaling was taken out of the spec. Its autoscaler stays until the servers are as many as `replicas` says."""
    found, now = seen.autoscalers.get(revision.name), seen.workload(revision.name).asked
    target = seen.resource.spec.replicas
    if found is None or now in (0, target):
        return None
    target = _by_and_by(seen, now, target, found.changed)
    return Scale(target, target, target)


def _by_and_by(seen: Observed, now: int, goal: int, changed: datetime | None) -> int:
    """The next number on the way to the goal: more come at once, fewer by and by, since that may never have been meant for this
    traffic."""
    if now <= goal:
        return goal
    return now if _is_recent(changed, seen.now) else max(goal, now - max(1, now // DOWN_SHARE))


def _is_recent(at: datetime | None, now: datetime) -> bool:
    return at is not None and now - at < timedelta(seconds=DOWN_SECONDS)


def _journal(seen: Observed) -> Journal | None:
    return seen.memory.journal if seen.memory else None
