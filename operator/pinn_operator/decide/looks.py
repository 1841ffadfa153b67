"""How the revisions of an object are doing, in the words that plans use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from pinn_operator.api.observed import Observed, Workload
from pinn_operator.api.plan import Run
from pinn_operator.api.revision import Revision
from pinn_operator.decide.scaling import needed, sized

LINGER_SECONDS: Final = 3.0
"""How long servers stay after their share was taken away."""


def is_ready(seen: Observed, revision: Revision, servers: int | None = None) -> bool:
    """Every replica asked for is ready, by the pods themselves; none asked for is ready too."""
    asked = needed(seen) if servers is None else servers
    return revision.name in seen.revisions and seen.workload(revision.name).ready >= asked


def is_behind(seen: Observed, revision: Revision, servers: int | None = None) -> bool:
    """Every replica asked for is an endpoint of the revision's own Service: pods are ready a little before that."""
    return seen.behind.get(revision.name, 0) >= (needed(seen) if servers is None else servers)


def is_reachable(seen: Observed, revision: Revision) -> bool:
    """The Service of the object's name has it among its endpoints."""
    return revision.name in seen.endpoints or seen.resource.spec.replicas == 0


def progress(seen: Observed, revision: Revision, servers: int | None = None) -> str:
    """How many of its replicas are ready, and what keeps the others."""
    workload: Workload = seen.workload(revision.name)
    count = f"{workload.ready} of {needed(seen) if servers is None else servers} replicas ready"
    trouble = workload.not_created or workload.not_starting or seen.place(revision.name, "GPU").lacking
    return f"{count}: {trouble}" if trouble else count


def called(revision: Revision) -> str:
    """A revision as people speak of it."""
    return f"version {revision.model_version} (revision {revision.name})"


def runs(seen: Observed, revisions: Iterable[Revision], fewest: Mapping[str, int] | None = None) -> tuple[Run, ...]:
    """Each of them once, with the replicas that the spec asks for; `fewest` is what a rollout needs of an autoscaled one."""
    unique = {revision.name: revision for revision in revisions}
    needs = fewest or {}
    return tuple(sized(seen, one, _nudge(seen, one), needs.get(one.name)) for one in unique.values())


def still_served(seen: Observed, *others: Revision) -> list[Revision]:
    """Revisions that are none of the others, and that a route or the Service still sends requests to. While the gateway has not
    taken the route, that may be any that runs; and for a moment after it says that it has, those that have just had a share."""
    reached = set(seen.endpoints) | set(seen.route.weights if seen.route else ()) | _just_relieved(seen)
    if seen.route and not seen.route.in_force:
        reached |= set(seen.workloads)
    names = reached - {revision.name for revision in others}
    return [seen.revisions[name] for name in sorted(names) if name in seen.revisions]


def _just_relieved(seen: Observed) -> set[str]:
    """The canary of a rollout that was given up a moment ago: a gateway says that it has taken a route before it has (Traefik: up
    to 1.2 s). One that is rolled back stays longer anyway, until it is reported."""
    journal = seen.memory.journal if seen.memory else None
    if seen.route is None or journal is None or journal.ended is None or journal.ending != "Superseded":
        return set()
    return {journal.canary.revision} if seen.now.timestamp() - journal.ended <= LINGER_SECONDS else set()


def _nudge(seen: Observed, revision: Revision) -> str | None:
    """The running half minute, while pods of the revision are refused: one more try in each of them, not one a pass."""
    if seen.workload(revision.name).not_created is None:
        return None
    return half_minute(seen)


def half_minute(seen: Observed) -> str:
    """The one that is running."""
    return seen.now.replace(second=seen.now.second // 30 * 30, microsecond=0).isoformat()
