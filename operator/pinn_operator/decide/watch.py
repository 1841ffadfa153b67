"""From what the servers said in a pass to evidence: one tick, in which the counters of both arms are taken together.

What a rollout measures next, and when, is decided here too and stored, so that a pass that observes needs no opinion.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from pinn_operator.api.codec import dump, load
from pinn_operator.api.journal import MOST_MINUTES, Journal, Measurement, Minute
from pinn_operator.api.observed import Observed
from pinn_operator.api.placement import Placement
from pinn_operator.api.readings import Checked, Measured, PodMetrics
from pinn_operator.api.spec import Spec
from pinn_operator.api.units import seconds
from pinn_operator.decide.evidence import Ledger, Reading, Rules, Sample, take, until
from pinn_operator.decide.evidence.counters import LIVE, Counts, advance, user_counter
from pinn_operator.decide.evidence.counters import Arm as Role
from pinn_operator.decide.evidence.gates import as_read

RETRY_SECONDS: Final = 5.0
FEW: Final = 5
"""Requests of users in an interval that are next to none."""
AWAY_SECONDS: Final = 60.0
"""How long a server that is not ready is waited for since it was read last: by then Kubernetes has called a node lost."""

PHYSICS: Final = ("checked", "violations")
"""Counted by the operator's own questions, not by the servers."""


def now_of(seen: Observed) -> float:
    """Seconds since 1970."""
    return seen.now.timestamp()


def interval_of(spec: Spec) -> float:
    """Seconds between two readings as the spec asks."""
    return seconds(spec.metrics.interval)


def ledger_of(seen: Observed) -> Ledger:
    """The evidence as stored; none, where it is lost or cannot be read: then it is gathered anew."""
    stored = seen.memory.ledger if seen.memory else {}
    try:
        ledger = load(Ledger, stored) if stored else Ledger()
    except (TypeError, ValueError):
        return Ledger()
    return until(ledger, now_of(seen), interval_of(seen.resource.spec))


def dumped(ledger: Ledger) -> Mapping[str, object]:
    """As it is stored."""
    found: Mapping[str, object] = dump(ledger)
    return found


def to_measure(journal: Journal, what: Measurement, at: float) -> Journal:
    """With what the pass at that time, or the first one after it, has to measure."""
    return replace(journal, measure=what, measure_at=at)


def next_tick(journal: Journal, seen: Observed) -> Journal:
    """The next reading of the counters: soon after a weight has risen, by and by at the interval of the spec."""
    now = now_of(seen)
    return to_measure(journal, "tick", now + journal.pause(now, interval_of(seen.resource.spec)))


def with_checks(journal: Journal, measured: Measured) -> Journal:
    """With the physics checks of this pass added up."""
    if not measured.shadow:
        return journal
    shadow = dict(journal.shadow)
    for revision, checked in measured.shadow.items():
        shadow[revision] = shadow.get(revision, Checked()) + checked
    return replace(journal, shadow=shadow)


def tick(seen: Observed, journal: Journal, ledger: Ledger, rules: Rules) -> tuple[Journal, Ledger]:
    """One reading more. Without one, what the API server says still counts."""
    measured = replace(seen.measured or Measured(), pods=awaited(seen, _arms(journal), ledger))
    seen = replace(seen, measured=measured)
    journal = _with_live(seen, with_checks(_with_off(seen, journal), measured), measured)
    samples = _samples(seen, journal, measured, rules)
    if not samples:
        return journal, take(ledger, rules, reading(seen, journal, (), {}))
    interval = interval_of(seen.resource.spec)
    _, found = advance(ledger.counters, samples, rules.counters, now_of(seen), interval)
    if not isinstance(found, str):
        journal = _in_minutes(journal, now_of(seen), found.canary, found.stable)
    memory = {
        pod.process: pod.memory
        for pod in measured.pods
        if pod.revision == journal.canary.revision and pod.memory is not None
    }
    return journal, take(ledger, rules, reading(seen, journal, samples, memory))


def _with_off(seen: Observed, journal: Journal) -> Journal:
    """With when spec.replicas was 0 last. Servers that are asked for again have as long to come as they had at first."""
    spec, now = seen.resource.spec, now_of(seen)
    if spec.replicas == 0:
        return replace(journal, off_at=now)
    late = journal.off_at is not None and now - journal.off_at > seconds(spec.rollout.progress_deadline)
    return replace(journal, off_at=None) if late or seen.workload(journal.canary.revision).ready else journal


def _with_live(seen: Observed, journal: Journal, measured: Measured) -> Journal:
    """Whether users ask the canary anything: where they do not, requests of our own may stand in."""
    canary = [pod for pod in measured.pods if pod.revision == journal.canary.revision and pod.counts is not None]
    if not canary:
        return journal
    live = sum(pod.live for pod in canary)
    interval = interval_of(seen.resource.spec)
    few = FEW * journal.pause(now_of(seen), interval) / interval
    return replace(journal, live=live, quiet=live - journal.live < few)


def reading(seen: Observed, journal: Journal, samples: tuple[Sample, ...], memory: Mapping[str, float]) -> Reading:
    """What one tick delivers; readiness and restarts are the API server's."""
    canary, stable = journal.canary.revision, journal.stable.revision
    restarts = {server.pod: server.restarts for server in seen.servers if server.revision == canary}
    spec = seen.resource.spec
    off = journal.off_at is not None  # then nobody is missed
    let_go = spec.rollout.retain_stable == "None" and journal.step >= len(spec.rollout.steps)
    ready: dict[Role, bool] = {
        "canary": off or seen.workload(canary).ready > 0,
        "stable": off or let_go or seen.workload(stable).ready > 0,
    }
    return Reading(
        now_of(seen),
        interval_of(seen.resource.spec),
        samples,
        restarts,
        ready,
        memory,
        alike=_alike(seen.placements(canary), seen.placements(stable)),
        gpu=_gpus(seen, journal),
        users=_users(seen, journal),
    )


def _alike(canary: frozenset[Placement], stable: frozenset[Placement]) -> bool:
    """Whether both arms run on GPUs, or both on CPUs. Of one without a ready server, or where no GPUs are about, nothing speaks
    against it."""
    return not canary or not stable or (canary == stable and len(canary) == 1)


def _gpus(seen: Observed, journal: Journal) -> Mapping[Role, float]:
    """How busy the GPUs of each arm are, on average over those of its servers that have any."""
    roles: list[tuple[Role, str]] = [("canary", journal.canary.revision), ("stable", journal.stable.revision)]
    pods = seen.measured.pods if seen.measured else ()
    told = {
        role: [pod.gpu for pod in pods if pod.revision == revision and pod.gpu is not None] for role, revision in roles
    }
    return {role: sum(shares) / len(shares) for role, shares in told.items() if shares}


def _users(seen: Observed, journal: Journal) -> tuple[Sample, ...]:
    """What stable's servers say of the answers to users."""
    pods, started = seen.measured.pods if seen.measured else (), _starts(seen)
    return tuple(
        Sample("stable", pod.process, pod.at, pod.users, started.get(pod.process))
        for pod in pods
        if pod.revision == journal.stable.revision
    )


def _starts(seen: Observed) -> Mapping[str, float | None]:
    return {server.process: server.started for server in seen.servers}


def away(seen: Observed, revision: str, ledger: Ledger) -> frozenset[str]:
    """The servers that run, are not ready, and have not been read for a minute, or never."""
    known, now = ledger.counters.pods, now_of(seen)
    return frozenset(
        server.process
        for server in seen.servers
        if server.revision == revision
        and not server.ready
        and server.container
        and (server.process not in known or now - known[server.process].at > AWAY_SECONDS)
    )


def awaited(seen: Observed, revisions: Collection[str], ledger: Ledger) -> tuple[PodMetrics, ...]:
    """The pods without whose counters nothing is counted. One of these revisions that is away is like one that is gone: it keeps
    its sum. To wait for it would leave the canary unwatched."""
    absent = {process for revision in revisions for process in away(seen, revision, ledger)}
    pods = seen.measured.pods if seen.measured else ()
    return tuple(pod for pod in pods if pod.counts is not None or pod.process not in absent)


def _arms(journal: Journal) -> tuple[str, str]:
    return journal.canary.revision, journal.stable.revision


def _samples(seen: Observed, journal: Journal, measured: Measured, rules: Rules) -> tuple[Sample, ...]:
    """The counters by arm; what the operator counted itself is one more pod of each."""
    started, now = _starts(seen), now_of(seen)
    roles: dict[str, Role] = {journal.canary.revision: "canary", journal.stable.revision: "stable"}
    pods = [pod for pod in measured.pods if pod.revision in roles]
    if not pods:
        return ()
    found = [
        Sample(
            roles[pod.revision],
            pod.process,
            pod.at,
            None if pod.counts is None else _told(pod, pod.counts, rules),
            started.get(pod.process),
        )
        for pod in pods
    ]
    own = [
        Sample(
            role,
            f"shadow/{role}",
            now,
            {**dict.fromkeys(rules.counters, 0.0), **_counts(journal.shadow.get(revision))},
            own=True,
        )
        for revision, role in roles.items()
    ]
    return (*found, *own)


def _told(pod: PodMetrics, counts: Counts, rules: Rules) -> Counts:
    """Under the names that rules have for them: users' requests too, and gates of one's own by their very queries. Of a server
    that does not tell users apart all requests are theirs."""
    users = counts if pod.users is None else {**counts, **pod.users}
    found = {**dict.fromkeys(PHYSICS, 0.0), **counts, **{user_counter(name): users[name] for name in counts}}
    found[LIVE] = pod.live
    return {**found, **{name: found[as_read(name)] for name in rules.counters if as_read(name) in found}}


def _counts(checked: Checked | None) -> Counts:
    one = checked or Checked()
    return {"checked": float(one.checked), "violations": float(one.violations + one.wrong)}


def _in_minutes(journal: Journal, now: float, canary: Counts, stable: Counts) -> Journal:
    """With what was counted since the last reading, in the minute that is running."""
    at = now // 60 * 60
    last = journal.minutes[-1] if journal.minutes and journal.minutes[-1].at == at else Minute(at)
    kept = journal.minutes[:-1] if last in journal.minutes[-1:] else journal.minutes
    minute = Minute(at, _sum(last.canary, canary), _sum(last.stable, stable))
    return replace(journal, minutes=(*kept, minute)[-MOST_MINUTES:])


def _sum(before: Counts, more: Counts) -> Counts:
    """Zeros are left out: most counters of a good minute are."""
    names = sorted(before.keys() | more.keys())
    return {name: value for name in names if (value := before.get(name, 0.0) + more.get(name, 0.0))}
