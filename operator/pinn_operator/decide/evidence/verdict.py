"""What follows from the evidence: for each gate, and for the step, with the numbers and the sentence a person would write.

Failing needs evidence, passing needs evidence, and silence is neither: it is Undecided, NoTraffic or NoMetrics, and holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, log
from typing import Final

from pinn_operator.api.status import Verdict
from pinn_operator.decide.evidence import eprocess as e
from pinn_operator.decide.evidence.counters import STALE_AFTER
from pinn_operator.decide.evidence.gates import BETA, CHECKED, Gate, Limit
from pinn_operator.decide.evidence.hard import FEWEST_EVENTS, Window
from pinn_operator.decide.evidence.ledger import SICK, Breach, Known, Ledger, Sum, window_of
from pinn_operator.decide.evidence.resources import resource_gates
from pinn_operator.decide.evidence.rules import Rules, Sustained
from pinn_operator.decide.evidence.standing import GateVerdict, mib, percent, span

PASSES: Final = -log(BETA)
WORST_FIRST: Final[tuple[Verdict, ...]] = ("Failing", "NoMetrics", "Frozen", "NoTraffic", "Undecided", "Passing")
TOO_MANY_RESTARTS: Final = 2


@dataclass(frozen=True, slots=True)
class StepVerdict:
    """How the step stands. `blamed`: whether the canary is at fault, so that it enters `rejected` when it fails."""

    verdict: Verdict
    sentence: str
    gates: tuple[GateVerdict, ...] = ()
    blamed: bool = False
    seconds_to_go: float | None = None


def judge(ledger: Ledger, rules: Rules, now: float, interval: float, step_ends: float | None = None) -> StepVerdict:
    """The verdict of the step as of now. The worst gate decides; what fails at once is looked at first."""
    found = tuple(_judged(ledger, rules, gate, now, interval) for gate in rules.gates)
    found += resource_gates(ledger, rules, now, interval, step_ends)
    if breach := _breach(ledger, rules, now):
        return StepVerdict("Failing", breach[0], found, blamed=breach[1])
    if not found:
        return StepVerdict("Passing", "every gate is off", ())
    worst = min(found, key=lambda gate: WORST_FIRST.index(gate.verdict))
    if worst.verdict != "Passing":
        return StepVerdict(worst.verdict, worst.sentence, found, worst.verdict == "Failing", _slowest(found))
    if ledger.restarts.in_step:
        said = "every gate has passed, but a server of the canary restarted in this step: what it counted is lost"
        return StepVerdict("Undecided", said, found)
    return StepVerdict("Passing", f"every gate has passed ({', '.join(gate.name for gate in found)})", found)


def _slowest(found: Sequence[GateVerdict]) -> float | None:
    """When all that is undecided should be decided; None as long as one is not in sight."""
    waiting = [gate.seconds_to_go for gate in found if gate.verdict in ("Undecided", "NoTraffic")]
    return max((one for one in waiting if one is not None), default=None) if None not in waiting else None


# --- One gate --------------------------------------------------------------------------------------------------------


def _judged(ledger: Ledger, rules: Rules, gate: Gate, now: float, interval: float) -> GateVerdict:
    known = ledger.gates.get(gate.name, Known())
    alarm = -log(rules.alpha(gate.name))
    breach = known.promote or known.abort
    limit = gate.promote or gate.abort
    if breach is None or limit is None:
        return GateVerdict(gate.name, "NoMetrics", f"{gate.name}: nothing was counted yet")
    verdict, why = _gate_verdict(ledger, gate, known, alarm, now, interval)
    if why is known.abort and known.abort and gate.abort:
        breach, limit = known.abort, gate.abort
    weight = _passing(known) if verdict in ("Passing", "Undecided", "NoTraffic") else breach.canary.log_evidence
    events = _events_to_go(known, gate.promote) if verdict in ("Undecided", "NoTraffic") else None
    return GateVerdict(
        name=gate.name,
        verdict=verdict,
        sentence=_sentence(ledger, gate, known, breach, limit, verdict, alarm, events),
        limit=limit.text,
        observed=_rate(breach.canary_sum),
        stable=_rate(breach.stable_sum),
        events=breach.canary_sum.events,
        evidence=_factor(weight),
        needed=_factor(PASSES if verdict in ("Passing", "Undecided", "NoTraffic") else alarm),
        events_to_go=events,
        seconds_to_go=_seconds(ledger, breach.canary_sum, events),
    )


def _gate_verdict(
    ledger: Ledger, gate: Gate, known: Known, alarm: float, now: float, interval: float
) -> tuple[Verdict, Breach | None]:
    """The verdict and the limit it is about. Evidence that suffices to fail stands, whether or not metrics are read now."""
    aborting, failing = _aborting(ledger, gate, known, alarm), _failing(ledger, gate, known, alarm)
    if "Failing" in (aborting, failing):
        return "Failing", known.promote if failing == "Failing" else known.abort
    if not _is_fresh(ledger, now, interval):
        return "NoMetrics", None
    if "Frozen" in (aborting, failing):
        return "Frozen", known.abort if aborting == "Frozen" else known.promote
    breach = known.promote or known.abort
    if breach is None or breach.canary_sum.events == 0:
        return ("Undecided" if gate.total == CHECKED else "NoTraffic"), None
    return ("Passing" if _has_passed(ledger, gate, known) else "Undecided"), None


def _aborting(ledger: Ledger, gate: Gate, known: Known, alarm: float) -> Verdict:
    """The canary breaks the abort limit, stable does not, and where the two can be compared the canary does look worse: in a
    shared incident it is often the canary that is seen to break the limit first."""
    breach = known.abort
    if breach is None or breach.canary.log_evidence < alarm:
        return "Undecided"
    if breach.stable_is_sick:
        return "Frozen"
    alone = ledger.bake or breach.stable_sum.events == 0 or not _are_comparable(ledger, gate)
    return "Failing" if alone or breach.together.log_evidence > SICK else "Undecided"


def _failing(ledger: Ledger, gate: Gate, known: Known, alarm: float) -> Verdict:
    """The canary breaks the promote limit and is worse than stable. In the bake there is no stable to compare with: the limit in
    force was raised to what stable did in the steps."""
    breach = known.promote
    if breach is None or breach.canary.log_evidence < alarm:
        return "Undecided"
    if ledger.bake:
        return "Frozen" if breach.stable_is_sick else "Failing"
    if _are_comparable(ledger, gate) and _is_worse(known, breach, alarm):
        return "Failing"
    return "Frozen" if breach.stable_is_sick else "Undecided"


def _are_comparable(ledger: Ledger, gate: Gate) -> bool:
    return ledger.alike or not gate.hardware


def _is_worse(known: Known, breach: Breach, alarm: float) -> bool:
    """The canary is worse than stable. Where its bad events come in bursts, or stable breaks the limit as well, it must be so
    even if each arm has bursts of its own."""
    apart_too = breach.stable_is_sick or breach.in_bursts
    return breach.together.log_evidence >= alarm and (known.apart.log_evidence >= alarm or not apart_too)


def _has_passed(ledger: Ledger, gate: Gate, known: Known) -> bool:
    """Proven to be within the promote limit, and under no suspicion of being beyond a limit. What users had counts while they
    ask: else a few of them, long gone, would hold it for ever."""
    breaches = [one for one in (known.promote, known.abort) if one is not None]
    suspicious = any(one.is_suspicious or ledger.complain(gate, one) for one in breaches)
    return not suspicious and (known.promote is None or _passing(known) >= PASSES)


def _passing(known: Known) -> float:
    return known.passing.log_evidence if known.promote else PASSES


def _is_fresh(ledger: Ledger, now: float, interval: float) -> bool:
    """One tick without metrics is nothing; more are."""
    at = ledger.counters.at
    return at is not None and now - at <= STALE_AFTER * interval


# --- How long still --------------------------------------------------------------------------------------------------


def _events_to_go(known: Known, limit: Limit | None) -> float | None:
    """Events of the canary until it passes, if its rate stays what it is; None when the limit is too near for that."""
    if limit is None or known.promote is None:
        return None
    seen = known.promote.canary_sum
    rate = (seen.maybe + 0.5) / (seen.events + 1) if seen.maybe else 0.0
    share, logs = limit.to_prove, known.passing.logs or (log(0.5),) * len(e.BETTER)
    enough = PASSES + log(len(e.BETTER))
    waits = []
    for part, sofar in zip(e.BETTER, logs, strict=True):
        gain = e.log_absolute(rate, 1.0, share, share * part)
        waits.append(max(0.0, enough - sofar) / gain if gain > 0 else inf)
    return None if min(waits) == inf else min(waits)


def _seconds(ledger: Ledger, seen: Sum, events: float | None) -> float | None:
    """At the canary's present rate of events."""
    if events is None or seen.events <= 0 or ledger.counted <= 0:
        return None
    return events * ledger.counted / seen.events


# --- What fails at once ----------------------------------------------------------------------------------------------


def _breach(ledger: Ledger, rules: Rules, now: float) -> tuple[str, bool] | None:
    """(why the traffic must return to stable, whether the canary is to blame)."""
    if ledger.restarts.in_step >= TOO_MANY_RESTARTS:
        return f"servers of the canary restarted {ledger.restarts.in_step} times in this step", True
    since = ledger.unready.get("canary")
    if rules.unavailable is not None and since is not None and now - since >= rules.unavailable:
        shared = ledger.unready.get("stable") is not None
        return _shared(f"no server of the canary has been ready for {span(now - since)}", shared)
    for limit in rules.hard:
        if "canary" not in ledger.silent and _above(ledger, limit, now):
            return _beyond(ledger, rules, limit, now)
    if rules.memory.growth and (grown := ledger.memory.grown(rules.memory.growth[1])) > rules.memory.growth[0]:
        return f"the memory of a server grew by {mib(grown)} within {span(rules.memory.growth[1])}", True
    return None


def _above(ledger: Ledger, limit: Sustained, now: float) -> bool:
    window = ledger.windows.get(window_of(limit, "canary"))
    return window is not None and window.breached(now, limit.span, limit.share)


def _beyond(ledger: Ledger, rules: Rules, limit: Sustained, now: float) -> tuple[str, bool]:
    """In words, and whether the canary is to blame: not where nothing is known of stable."""
    said = f"{limit.name}: worse than {limit.text} for {span(limit.span)}"
    if ledger.heard:
        said = f"{said}, by the servers that can be read ({ledger.trouble})"
    if "stable" in ledger.silent:
        return f"{said}; nothing is known of stable, so the revision is not rejected", False
    return _shared(said, _shares(ledger, rules, limit, now))


def _shares(ledger: Ledger, rules: Rules, limit: Sustained, now: float) -> bool:
    """Whether stable is in trouble too. What it did well before counts less than what it does now: it had more of the requests
    in the steps before, and would be seen to break the limit when the canary is blamed already. On all requests where users'
    are meant, and the other way round, it takes as many events as a limit does: one user's say nothing of all."""
    alike = [(one, 0 if one == limit else FEWEST_EVENTS) for one in rules.hard if one.name == limit.name]
    windows = [(ledger.windows.get(window_of(one, "stable"), Window()), fewest) for one, fewest in alike]
    return any(window.lately(now, limit.span, limit.share, fewest) for window, fewest in windows)


def _shared(said: str, shared: bool) -> tuple[str, bool]:
    """A hard limit returns the traffic to stable in a shared incident too, but then nobody is to blame."""
    return (f"{said}; stable is no better, so the revision is not rejected", False) if shared else (said, True)


# --- Words -----------------------------------------------------------------------------------------------------------


def _sentence(
    ledger: Ledger,
    gate: Gate,
    known: Known,
    breach: Breach,
    limit: Limit,
    verdict: Verdict,
    alarm: float,
    events: float | None,
) -> str:
    acute = verdict in ("Failing", "Frozen") and breach.canary_lately.events > 0
    seen, others = (breach.canary_lately, breach.stable_lately) if acute else (breach.canary_sum, breach.stable_sum)
    which = "the last " if seen != breach.canary_sum else ""
    counted = f"{_rate_text(seen)} of {which}{seen.events:.0f} {gate.of} {gate.what}"
    against = f"limit {limit.text}"
    stable = f", stable {_rate_text(others)}" if others.events else ""
    match verdict:
        case "Failing":
            raised = f", here {percent(breach.share)} by what stable did before" if breach.share > limit.share else ""
            chance = f"chance does that in at most one of {_factor(alarm):.0f} rollouts"
            return f"{gate.name}: {counted} ({against}{raised}{stable}); {chance}"
        case "Frozen":
            same = f"stable is no better ({_rate_text(others)}): nobody is blamed"
            return f"{gate.name}: {counted} ({against}), but {same}"
        case "NoMetrics":
            return f"{gate.name}: no metrics, {ledger.trouble or 'nothing was read yet'}; the weight stays"
        case "NoTraffic":
            return f"{gate.name}: the canary has had no requests in this step; the weight stays"
        case "Passing" if known.promote is None:
            return f"{gate.name}: {counted}, within the limit that aborts ({limit.text})"
        case "Passing":
            return f"{gate.name}: {counted} ({against}{stable}); it is within the limit"
        case _:
            return f"{gate.name}: {counted} ({against}{stable}); {_outlook(ledger, gate, known, breach, limit, events)}"


def _outlook(ledger: Ledger, gate: Gate, known: Known, breach: Breach, limit: Limit, events: float | None) -> str:
    """What an undecided gate waits for."""
    if breach.canary.log_evidence > SICK:
        return "that looks worse than the limit, not surely enough to fail"
    if ledger.complain(gate, breach):
        users = breach.users_sum
        return f"of the {users.events:.0f} of users {_rate_text(users)} did, which looks worse than the limit"
    if events is None:
        return "too near the limit for a verdict"
    if events < 1:
        return "one more tick should do"
    wait = _seconds(ledger, breach.canary_sum, events)
    within = f", in about {span(wait)}" if wait is not None else ""
    return f"a verdict takes about {events:.0f} more requests{within}"


def _rate(seen: Sum) -> float | None:
    return seen.bad / seen.events if seen.events else None


def _rate_text(seen: Sum) -> str:
    rate = _rate(seen)
    return "no rate" if rate is None else percent(rate)


def _factor(logarithm: float) -> float:
    """The evidence itself, kept within what JSON can say."""
    return 0.0 if logarithm == -inf else exp(min(logarithm, 700.0))
