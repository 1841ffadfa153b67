"""One pass over one object: observe -> decide -> build -> act -> report. Nothing else knows the order.

A pass may be cut off after any write and comes out the same when run again, for it keeps nothing that it could not observe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from pinn_operator.act import act, announce, file_report, write_not_understood, write_status
from pinn_operator.api.journal import Journal
from pinn_operator.api.observed import Key, Observed
from pinn_operator.api.outcome import Filed, Happening
from pinn_operator.api.plan import Plan, Traffic
from pinn_operator.api.status import LastHandled
from pinn_operator.build import build, metadata_of
from pinn_operator.decide import decide
from pinn_operator.decide.shares import current
from pinn_operator.errors import NotUnderstood
from pinn_operator.kube import Kube
from pinn_operator.observe import observe, read_logs
from pinn_operator.report import certificate, config_map, forgotten, happenings, history_with, not_understood, status_of
from pinn_operator.servers import Servers
from pinn_operator.settings import RELEASE

log = structlog.get_logger()

REFUSED_AGAIN = 30.0
"""Seconds until what was refused is tried again, so that it heals when the quota, the policy or the role is mended."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a pass is given beside the object: the clients, who is running, and whether objects get a finalizer. Without `servers`
    nothing is measured."""

    kube: Kube
    server_image: str
    instance: str
    finalizer: bool = True
    servers: Servers | None = None


@dataclass(frozen=True, slots=True)
class Pass:
    """A finished pass; in how many seconds to look again though nothing happens (None: never); whether it mended something, and
    whether a write was refused."""

    observed: Observed
    plan: Plan
    look_again: float | None
    healed: bool = False
    refused: bool = False


async def reconcile(context: Context, key: Key, contested: bool = False) -> Pass | None:
    """One pass; None when the object is gone. `contested` says that somebody undoes one mending after the other.

    Raises Conflict or Unavailable when it must be run again, after a pause, and NotUnderstood, once that is said, of an object
    that cannot be read.
    """
    now = datetime.now(UTC)
    try:
        seen = await observe(context.kube, key, now=now, server_image=context.server_image, servers=context.servers)
    except NotUnderstood as error:
        status = not_understood(error.live, error.field, error.said, now)
        await write_not_understood(context.kube, status, error.live)
        raise
    if seen is None:
        return None
    plan = decide(seen)
    outcome = await act(context.kube, plan, build(plan, seen), seen, finalizer=context.finalizer)
    outcome = replace(outcome, contested=contested)
    for write in outcome.writes:
        level = 10 if write.child.kind == "ConfigMap" else 20  # one a reading: what is in it is told elsewhere
        log.log(
            level, "wrote", object=str(key), verb=write.verb, child=str(write.child), why=write.why or plan.sentence
        )
    if not outcome.is_stored:
        plan = _as_stored(plan, seen)
    told = happenings(seen, plan, outcome)
    await _tell(context, [one for one in told if one.is_done], seen)
    filed = await _file(context.kube, seen, plan.finished) if plan.finished else None
    if not plan.release:
        await write_status(context.kube, status_of(seen, plan, outcome, filed), seen, outcome.resource_version)
    await _tell(context, [one for one in told if not one.is_done], seen)
    healed = any(write.verb == "Healed" for write in outcome.writes)
    refused = bool(outcome.refusals)
    return Pass(seen, plan, _soonest(plan.look_again, REFUSED_AGAIN if refused else None), healed, refused)


async def _tell(context: Context, told: Sequence[Happening], seen: Observed) -> None:
    """In the log, and in Events."""
    for happening in told:
        log.log(30 if happening.warning else 20, happening.reason, object=str(seen.key), note=happening.note)
    await announce(context.kube, told, seen, context.instance)


def _as_stored(plan: Plan, seen: Observed) -> Plan:
    """What the memory has not stored has not happened: the next pass decides it again, so it is not reported or told, and what a
    person asked for is not acted upon yet. Who is stable and who is on the way is as the status has it, the shares are as
    they were seen."""
    old = seen.resource.status
    plan = replace(plan, memory=seen.memory, finished=None, rejected=None, handled=LastHandled())
    stable, canary = (seen.revisions.get(side.revision or "") if side else None for side in (old.stable, old.canary))
    if stable is None or plan.teardown:
        return plan
    share = current(seen, canary) if canary else 0
    weights = {one.name: weight for one, weight in ((stable, 100 - share), (canary, share)) if one and weight}
    traffic = Traffic(weights, seen.selected)
    return replace(plan, stable=stable, canary=canary, rollout=old.rollout, traffic=traffic)


def _soonest(*waits: float | None) -> float | None:
    return min((wait for wait in waits if wait is not None), default=None)


async def _file(kube: Kube, seen: Observed, journal: Journal) -> Filed | None:
    """The report of a rollout that is over, with the last words of a canary that was sent back."""
    failed = [server for server in seen.servers if server.revision == journal.canary.revision]
    logs = await read_logs(kube, seen.key.namespace, failed) if journal.ending == "RolledBack" else {}
    made = certificate(seen, journal, logs, release=RELEASE)
    report = config_map(made, metadata_of(seen, made.name, "report"))
    history = history_with(seen.resource.status.history, journal, Filed(made.name, made.sha256))
    stored = await file_report(kube, report, forgotten(history))
    return Filed(made.name, stored["data"]["sha256"]) if stored else None
