"""What a server may take, as gates: memory and GPUs. Nothing here is a share of requests, and only the growth needs statistics.

A ceiling is judged by what was held all the time: the least amount over five minutes, or over the hold where that is shorter. A
single large request, or a collection that is due, needs more for a moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pinn_operator.api.status import Verdict
from pinn_operator.decide.evidence.counters import STALE_AFTER
from pinn_operator.decide.evidence.gpu import GpuUse
from pinn_operator.decide.evidence.ledger import Ledger
from pinn_operator.decide.evidence.memory import BLOCK, Floor, Look
from pinn_operator.decide.evidence.rules import GPU, LEVEL, MEMORY, Ceiling, Rules
from pinn_operator.decide.evidence.standing import GateVerdict, mib, percent, span


def resource_gates(
    ledger: Ledger, rules: Rules, now: float, interval: float, step_ends: float | None = None
) -> tuple[GateVerdict, ...]:
    """Those of them that are on."""
    found = [
        _growth_gate(ledger, rules, now, step_ends),
        _level_gate(ledger, rules, now, interval, step_ends),
        _gpu_gate(ledger, rules, now, interval, step_ends),
    ]
    return tuple(gate for gate in found if gate)


# --- How fast memory grows -------------------------------------------------------------------------------------------


def _growth_gate(ledger: Ledger, rules: Rules, now: float, step_ends: float | None) -> GateVerdict | None:
    """Growth gates the bake, as ten minutes cannot tell 10 MB/h; a leak that will fill the container before the step is over
    fails in any step."""
    allowed, container = rules.memory.growth_per_hour, rules.memory.container
    if allowed is None:
        return None
    look = ledger.memory.look
    if step_ends is not None and container is not None:
        reached = ledger.memory.projected(now, step_ends)
        if reached is not None and reached > container:
            said = f"{MEMORY}: a server will fill its {mib(container)} before the step is over"
            return GateVerdict(MEMORY, "Failing", said, mib(allowed), unit="bytes")
    verdict, said = _growth(look, allowed, ledger.bake)
    observed = look.slope if look else None
    return GateVerdict(MEMORY, verdict, f"{MEMORY}: {said}", f"{mib(allowed)} an hour", observed, unit="bytes")


def _growth(look: Look | None, allowed: float, bake: bool) -> tuple[Verdict, str]:
    if look is None:
        return "Undecided" if bake else "Passing", "the first look is after 15 minutes"
    said = f"memory grows by {mib(look.slope)} an hour, limit {mib(allowed)}"
    if look.verdict == "Grows":
        return "Failing", f"{said}: surely by more than {mib(look.low)}"
    if look.verdict == "Steady":
        return "Passing", f"{said}: surely by less than {mib(look.high)}"
    return "Undecided" if bake else "Passing", f"{said}: too early to tell"


# --- How much memory is held -----------------------------------------------------------------------------------------


def _level_gate(
    ledger: Ledger, rules: Rules, now: float, interval: float, step_ends: float | None
) -> GateVerdict | None:
    """The server that holds most decides; where none says anything the weight stays, as with every gate."""
    limit, memory = rules.memory.level, ledger.memory
    if limit is None:
        return None
    fresh = [pod for pod, floor in memory.floors.items() if now - floor.at <= STALE_AFTER * interval]
    if not fresh:
        return _unread(ledger, limit, now, interval)
    needed = _watch(ledger, step_ends)
    levels = [memory.level(pod, needed - interval) for pod in fresh]
    known = [level for level in levels if level is not None]
    if known and max(known) > limit.most:
        return _held("Failing", limit, max(known), needed)
    if len(known) == len(levels):
        return _held("Passing", limit, max(known), needed)
    return _early(limit, [memory.floors[pod] for pod in fresh], needed)


def _held(verdict: Verdict, limit: Ceiling, least: float, needed: float) -> GateVerdict:
    """The least amount of the server that has most."""
    against = f"its cache aside (limit {mib(limit.most)})"
    if verdict == "Failing":
        return _level(verdict, f"a server never held less than {mib(least)} in {span(needed)}, {against}", limit, least)
    said = f"at its least in {span(needed)} the largest server held {mib(least)}, {against}; it is within the limit"
    return _level(verdict, said, limit, least)


def _early(limit: Ceiling, floors: Sequence[Floor], needed: float) -> GateVerdict:
    """Seconds are as of the last reading: a sentence that changed with every pass would wake the next one."""
    least, seen = max(floor.least for floor in floors), min(floor.at - floor.since for floor in floors)
    left = max(1.0, needed - seen)
    said = f"a server holds {mib(least)}, its cache aside (limit {mib(limit.most)}); a verdict takes {span(left)} more"
    return replace(_level("Undecided", said, limit, least), seconds_to_go=left)


def _unread(ledger: Ledger, limit: Ceiling, now: float, interval: float) -> GateVerdict:
    if now - ledger.step_began <= STALE_AFTER * interval:
        return _level("Undecided", "nothing was read in this step yet", limit)
    return _level("NoMetrics", "no server of the canary says how much it holds; the weight stays", limit)


def _level(verdict: Verdict, said: str, limit: Ceiling, observed: float | None = None) -> GateVerdict:
    return GateVerdict(LEVEL, verdict, f"{LEVEL}: {said}", limit.text, observed, unit="bytes")


# --- How busy GPUs are -----------------------------------------------------------------------------------------------


def _gpu_gate(ledger: Ledger, rules: Rules, now: float, interval: float, step_ends: float | None) -> GateVerdict | None:
    """The mean over the step so far. Without a GPU there is no such gate; where stable's are as busy, nobody is to blame."""
    limit, use = rules.gpu, ledger.gpu
    if limit is None or not use.there:
        return None
    if now - (ledger.step_began if use.at is None else use.at) > STALE_AFTER * interval:
        return _gpu("NoMetrics", "no server of the canary says how busy its GPU is; the weight stays", limit, use)
    needed, seen = _watch(ledger, step_ends), use.canary.seconds
    if not seen or seen + interval < needed:
        left = max(1.0, needed - seen)
        return replace(
            _gpu("Undecided", f"{_busy(use, limit)}; a verdict takes {span(left)} more", limit, use), seconds_to_go=left
        )
    if use.canary.mean <= limit.most:
        return _gpu("Passing", f"{_busy(use, limit)}; it is within the limit", limit, use)
    if use.stable.mean > limit.most:
        same = f"stable's are no less busy ({percent(use.stable.mean)}): nobody is blamed"
        return _gpu("Frozen", f"{_busy(use, limit)}, but {same}", limit, use)
    return _gpu("Failing", _busy(use, limit), limit, use)


def _busy(use: GpuUse, limit: Ceiling) -> str:
    if not use.canary.seconds:
        return f"how busy the GPUs of the canary are is not known in this step yet (limit {limit.text})"
    mean, seen = percent(use.canary.mean), span(use.canary.seconds)
    return f"the GPUs of the canary were busy for {mean} of {seen} (limit {limit.text})"


def _gpu(verdict: Verdict, said: str, limit: Ceiling, use: GpuUse) -> GateVerdict:
    observed = use.canary.mean if use.canary.seconds else None
    stable = use.stable.mean if use.stable.seconds else None
    return GateVerdict(GPU, verdict, f"{GPU}: {said}", limit.text, observed, stable)


def _watch(ledger: Ledger, step_ends: float | None) -> float:
    """Seconds that something must have been seen for: a block, or the hold of a shorter step."""
    return BLOCK if step_ends is None else min(BLOCK, max(0.0, step_ends - ledger.step_began))
