"""Two rollouts that are over: 1.0.0 to 2.0.0 rolled back for errors after 12 seconds of users, and promoted after a minute."""

from dataclasses import replace
from typing import Any

from pinn_operator.api.journal import Arm, Entry, GateRecord, Journal, Minute
from pinn_operator.api.memory import Memory
from pinn_operator.api.observed import Observed
from pinn_operator.api.readings import Checked
from pinn_operator.report.certificate import Certificate, certificate
from tests.given import NOW, observed, resource

BEGAN = NOW.timestamp()
DIGEST = "sha256:" + "9f86d081884c7d659a2feaa0c55ad015" * 2
STABLE = Arm("6f1e0c2b9d", "1.0.0", None, "pinn-operator/inference:0.1.0")
CANARY = Arm("0a1b2c3d4e", "2.0.0", DIGEST, "pinn-operator/inference:0.1.0")
STEPS = [{"weight": 10, "hold": "20s"}, {"weight": 100, "hold": "30s"}]
ERRORS = (
    "errorRate: 31.2 % of the last 160 requests to the canary failed (limit 1%, stable 0.4 %); "
    "chance does that in at most one of 222 rollouts"
)
LOGS = {
    "pricer-0a1b2c3d4e-x7k2p": '{"event": "serving", "model": "black-scholes", "version": "2.0.0"}\n'
    'Authorization: Bearer abcdef0123456789\n{"event": "engine failed", "error": "no kernel for this shape"}\n'
}


def answers(quick: float, slow: float) -> dict[str, float]:
    """So many within 5 ms, so many between 10 and 25 ms."""
    bounds = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.6, 1, 2, 5)
    slower = [quick * (bound < 0.005) + slow * (bound < 0.025) for bound in bounds]
    return {
        "timed": quick + slow,
        **{f"slower_than_{bound:g}": count for bound, count in zip(bounds, slower, strict=True)},
    }


def asked(requests: float, errors: float = 0.0, live: float | None = None, failed: float = 0.0) -> dict[str, float]:
    """All requests that count and those of users; all are theirs unless it is said how many."""
    users = {"live": requests, "live/errors": errors} if live is None else {"live": live, "live/errors": failed}
    return {name: count for name, count in {"requests": requests, "errors": errors, **users}.items() if count}


NEIGHBOURS = {"before": answers(49_000, 3_000), "during": answers(1_350, 90)}
"""What stable's users had, before the rollout and in it."""


def seen(**more: Any) -> Observed:
    remembered = {"memory": Memory(ledger={"neighbours": NEIGHBOURS})}
    return observed(resource("2.0.0", rollout={"steps": STEPS}), **(remembered | more))


def gate(name: str, verdict: str = "Passing", **more: Any) -> GateRecord:
    """A gate of the first step with numbers that fit its verdict."""
    numbers: dict[str, Any] = {"step": 1, "limit": "1%", "observed": 0.002, "stable": 0.004, "events": 160.0}
    numbers |= {"evidence": 31.5, "needed": 20.0, "sentence": f"{name}: 0.2 % of 160 requests; it is within the limit"}
    return GateRecord(name=name, verdict=verdict, **(numbers | more))


def rolled_back(**more: Any) -> Journal:
    """Noticed 12 seconds after the first request of a user."""
    journal = Journal(
        canary=CANARY,
        stable=STABLE,
        began=BEGAN,
        step=1,
        step_began=BEGAN + 41.5,
        warmed=1000,
        shadow={CANARY.revision: Checked(200, 0, 20, 0), STABLE.revision: Checked(200, 0, 20, 0)},
        ending="RolledBack",
        ended=BEGAN + 52.75,
        reason="ErrorRate",
        sentence=f"version 2.0.0 (revision 0a1b2c3d4e) is rolled back: {ERRORS}",
        blamed=True,
        smoke="version 1.0.0 answered 5 of 5 requests, as the reference solver does",
        timeline=(
            Entry(BEGAN, "Began", "version 2.0.0 (revision 0a1b2c3d4e) is to take over from version 1.0.0"),
            Entry(BEGAN + 40.75, "Step", "step 1/2: 10 % of the traffic to version 2.0.0 (revision 0a1b2c3d4e)", 10),
            Entry(BEGAN + 52.75, "RolledBack", f"version 2.0.0 (revision 0a1b2c3d4e) is rolled back: {ERRORS}"),
        ),
        minutes=(
            Minute(BEGAN - 5 + 0, {"requests": 0.0}, asked(4800.0, 19.0)),
            Minute(BEGAN + 55, {**asked(160.0, 50.0, 110.0, 34.0), "fallbacks": 2.0}, asked(1440.0, 6.0, 1390.0, 5.0)),
        ),
        gates=(
            gate("fallbackRate", "Undecided", evidence=1.25, limit="10%", observed=0.0125, stable=0.0),
            gate("errorRate", "Failing", observed=0.3125, evidence=51234.5, needed=222.0, sentence=ERRORS),
            gate("cacheHitRate", limit="80% hits", observed=0.12, stable=0.1),
            gate("latencyP95", "Undecided", evidence=3.5, limit="500ms for 95%", observed=0.0, stable=0.00002),
            gate("memoryGrowthPerHour", limit="10 MiB an hour", observed=1234567.0, stable=None, events=0.0),
        ),
    )
    return replace(journal, **more)


def promoted(**more: Any) -> Journal:
    """Through both steps, every gate passed."""
    said = "version 2.0.0 (revision 0a1b2c3d4e) is promoted: every gate has passed (errorRate, latencyP95)"
    journal = replace(
        rolled_back(),
        step=2,
        ending="Promoted",
        ended=BEGAN + 92.25,
        reason="Promoted",
        sentence=said,
        blamed=False,
        smoke="",
        minutes=(Minute(BEGAN + 55, asked(160.0), asked(1440.0, 6.0)),),
        timeline=(
            *rolled_back().timeline[:2],
            Entry(BEGAN + 61.5, "Step", "step 2/2: 100 % of the traffic to version 2.0.0 (revision 0a1b2c3d4e)", 100),
            Entry(BEGAN + 92.25, "Promoted", said, 100),
        ),
        gates=tuple(
            gate(name, step=step, limit=limit, observed=0.0)
            for step in (1, 2)
            for name, limit in (("errorRate", "1%"), ("latencyP95", "500ms for 95%"))
        ),
    )
    return replace(journal, **more)


def certified(journal: Journal, logs: dict[str, str] | None = None) -> Certificate:
    return certificate(seen(), journal, LOGS if logs is None else logs, release="0.1.0")
