"""What the servers are asked in a pass: what the journal of the rollout says, when its time has come, and nothing else."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pinn_operator.api.journal import Journal
from pinn_operator.api.observed import Observed
from pinn_operator.api.readings import Measured, PodMetrics, Server
from pinn_operator.api.spec import Prometheus
from pinn_operator.api.units import OFF, seconds
from pinn_operator.errors import ApiError
from pinn_operator.kube import SECRET, Kube
from pinn_operator.observe import prometheus
from pinn_operator.observe.metrics import scrape
from pinn_operator.observe.trial import check, preflight, renew, replay, smoke
from pinn_operator.servers import Servers

RENEWAL_SECONDS = 5.0
EARLY = 0.05
"""Seconds by which a pass may come before its time."""
FURTHEST = 10.0
"""Seconds beyond an interval. Nothing is put off for longer, but by a clock that was ahead."""
FEWEST_SOLVED = 10
"""Answers of the reference solver in a trial below which it is not asked again: what nobody waits for goes on at a server."""
REPLAYED = 50
"""Requests sent to each arm in an interval, while users send none: enough for a verdict on 1 % in ten of them."""


async def measure(servers: Servers, seen: Observed, token: str, kube: Kube | None = None) -> Measured | None:
    """What was asked for; None when nothing was, or not yet. `kube` is for the token of a Prometheus that wants one."""
    journal = seen.memory.journal if seen.memory else None
    now = seen.now.timestamp()
    if journal is None or not journal.measure or not _is_due(seen, journal):
        return None
    canary = [server for server in seen.servers if server.revision == journal.canary.revision]
    stable = [server for server in seen.servers if server.revision == journal.stable.revision]
    seed = int(now)
    match journal.measure:
        case "preflight":
            keys = _keys(seen)
            tried = await preflight(servers, stable, canary, token, keys=keys, seed=seed, physics=_judges_physics(seen))
            return replace(tried, pods=(await _read(servers, seen, [*stable, *canary], kube)).pods)
        case "smoke":
            return Measured(smoke=await smoke(servers, stable, token))
        case _:
            return await _tick(servers, seen, journal, stable, canary, token, seed, kube)


def _is_due(seen: Observed, journal: Journal) -> bool:
    """Its time has come, or is one that a clock has set which was put right since."""
    ahead = journal.measure_at - seen.now.timestamp()
    return ahead <= EARLY or ahead > seconds(seen.resource.spec.metrics.interval) + FURTHEST


async def _tick(
    servers: Servers,
    seen: Observed,
    journal: Journal,
    stable: list[Server],
    canary: list[Server],
    token: str,
    seed: int,
    kube: Kube | None,
) -> Measured:
    """One reading of the counters; once in an interval a check of the physics too, and requests of our own if users send none."""
    asks, sla = is_first_in_interval(seen, journal), seen.resource.spec.sla
    checked, replayed = Measured(), ""
    if asks and _judges_physics(seen):
        checked = await check(servers, stable, canary, token, seed=seed, solver=_solver_is_quick(journal))
    if asks and sla.evidence == "LiveOrShadow" and _users_are_few(seen, journal):
        replayed = await replay(servers, stable, canary, token, requests=REPLAYED, seed=seed)
    renewed = await renew(servers, stable, token) if _has_just_given_up_a_share(seen, journal) else ""
    read = await _read(servers, seen, [*stable, *canary], kube)
    trouble = "; ".join(filter(None, (checked.trouble, replayed, renewed)))
    return replace(read, shadow=checked.shadow, trouble=trouble)


def _judges_physics(seen: Observed) -> bool:
    return seen.resource.spec.sla.promote.physics_violation_rate != OFF


def _solver_is_quick(journal: Journal) -> bool:
    """As the trial has found; where there was none, as when the gate was off, nothing speaks against it."""
    tried = journal.shadow.get(journal.canary.revision)
    return tried is None or tried.compared >= FEWEST_SOLVED


def _users_are_few(seen: Observed, journal: Journal) -> bool:
    """Known an interval after the share has risen: before that a slow canary has answered nobody, and requests replayed to it
    would hold up the readings that show it."""
    interval = seconds(seen.resource.spec.metrics.interval)
    return journal.quiet and seen.now.timestamp() - journal.rose_at >= interval


def is_first_in_interval(seen: Observed, journal: Journal) -> bool:
    """Right after a weight has risen there are several readings in an interval, and no time for a thousand questions in each."""
    now, interval = seen.now.timestamp(), seconds(seen.resource.spec.metrics.interval)
    return now % interval < journal.pause(now, interval)


def _has_just_given_up_a_share(seen: Observed, journal: Journal) -> bool:
    """Without a gateway a share reaches nobody who keeps a connection to stable: for a moment stable closes them."""
    traffic, began = seen.resource.spec.traffic, journal.step_began
    if traffic.gateway is not None or traffic.route_ref is not None or began is None:
        return False
    return seen.now.timestamp() - began < RENEWAL_SECONDS


async def _read(servers: Servers, seen: Observed, of: list[Server], kube: Kube | None) -> Measured:
    shadow_counts = seen.resource.spec.sla.evidence == "LiveOrShadow"
    if seen.resource.spec.metrics.source == "Prometheus":
        return Measured(pods=await _ask_prometheus(seen, of, kube, shadow_counts))
    return Measured(pods=await scrape(servers, of, time.time, shadow_counts=shadow_counts))


async def _ask_prometheus(
    seen: Observed, of: list[Server], kube: Kube | None, shadow_counts: bool
) -> tuple[PodMetrics, ...]:
    metrics = seen.resource.spec.metrics
    told = metrics.prometheus or Prometheus()
    try:
        token = await _bearer(kube, seen, told.bearer_token_secret) if told.bearer_token_secret else ""
    except ValueError as error:
        return prometheus.unread(of, time.time(), str(error))
    source = prometheus.Source(
        url=told.url or "",
        token=token,
        namespace=seen.key.namespace,
        interval=seconds(metrics.interval),
        shadow_counts=shadow_counts,
        gates=seen.resource.spec.sla.custom,
    )
    return await prometheus.ask(source, of, time.time)


async def _bearer(kube: Kube | None, seen: Observed, name: str) -> str:
    """The token for Prometheus. Raises ValueError with a sentence, which does not hold any of it."""
    said = f"Secret {name} of spec.metrics.prometheus.bearerTokenSecret"
    try:
        secret = await kube.get(SECRET, name, seen.key.namespace) if kube else None
    except ApiError as error:
        raise ValueError(f"{said} cannot be read: {error}") from None
    if secret is None:
        raise ValueError(f"{said} does not exist")
    token = token_of(secret).strip()
    if not token or not token.isascii() or not token.isprintable():
        raise ValueError(f"{said} has no key `token` that can be sent in a header")
    return token


def token_of(secret: Mapping[str, Any]) -> str:
    """What a Secret has under the key `token`; empty where there is none, or none that can be read."""
    try:
        return base64.b64decode((secret.get("data") or {}).get("token") or "", validate=True).decode()
    except ValueError:
        return ""


def _keys(seen: Observed) -> int:
    """How many of stable's hottest keys the canary is warmed with."""
    warm_up = seen.resource.spec.cache.warm_up
    return warm_up.keys if warm_up.from_ == "Stable" else 0
