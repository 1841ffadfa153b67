"""What the servers are asked in a pass: what the journal of the rollout says, when its time has come, and nothing else."""

from __future__ import annotations

import time
from dataclasses import replace

from pinn_operator.api.journal import Journal
from pinn_operator.api.observed import Observed
from pinn_operator.api.readings import Measured, Server
from pinn_operator.api.units import OFF
from pinn_operator.observe.metrics import scrape
from pinn_operator.observe.trial import check, preflight, replay, smoke
from pinn_operator.servers import Servers

EARLY = 0.05
"""Seconds by which a pass may come before its time."""
REPLAYED = 50
"""Requests sent to each arm in a reading, while users send none: enough for a verdict on 1 % in ten readings."""


async def measure(servers: Servers, seen: Observed, token: str) -> Measured | None:
    """What was asked for; None when nothing was, or not yet."""
    journal = seen.memory.journal if seen.memory else None
    now = seen.now.timestamp()
    if journal is None or not journal.measure or now < journal.measure_at - EARLY:
        return None
    canary = [server for server in seen.servers if server.revision == journal.canary.revision]
    stable = [server for server in seen.servers if server.revision == journal.stable.revision]
    seed = int(now)
    match journal.measure:
        case "preflight":
            keys = _keys(seen)
            tried = await preflight(servers, stable, canary, token, keys=keys, seed=seed)
            return replace(tried, pods=(await _read(servers, seen, [*stable, *canary])).pods)
        case "smoke":
            return Measured(smoke=await smoke(servers, stable, token))
        case _:
            return await _tick(servers, seen, journal, stable, canary, token, seed)


async def _tick(
    servers: Servers,
    seen: Observed,
    journal: Journal,
    stable: list[Server],
    canary: list[Server],
    token: str,
    seed: int,
) -> Measured:
    """One reading of the counters; at its own pace also a check of the physics, and requests of our own where users send none."""
    eager = seen.now.timestamp() < journal.eager_until
    sla = seen.resource.spec.sla
    checked = Measured()
    if not eager and sla.promote.physics_violation_rate != OFF:
        checked = await check(servers, stable, canary, token, seed=seed)
    if not eager and journal.quiet and sla.evidence == "LiveOrShadow":
        await replay(servers, stable, canary, token, requests=REPLAYED, seed=seed)
    return replace(await _read(servers, seen, [*stable, *canary]), shadow=checked.shadow)


async def _read(servers: Servers, seen: Observed, of: list[Server]) -> Measured:
    shadow_counts = seen.resource.spec.sla.evidence == "LiveOrShadow"
    return Measured(pods=await scrape(servers, of, time.time, shadow_counts=shadow_counts))


def _keys(seen: Observed) -> int:
    """How many of stable's hottest keys the canary is warmed with."""
    warm_up = seen.resource.spec.cache.warm_up
    return warm_up.keys if warm_up.from_ == "Stable" else 0
