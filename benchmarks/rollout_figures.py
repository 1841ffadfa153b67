"""Rollouts on a real cluster behind a real gateway: how long users meet a bad version, and what a crash or a lost operator costs.

Runs on the cluster pinn-e2e with the operator installed (`KEEP=1 make e2e` leaves the cluster up and takes the operator away).
Numbers are by the answers that clients got.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.e2e.cluster.cluster import Cluster
from tests.e2e.faults import broken
from tests.e2e.gateway.install import install as install_gateway
from tests.e2e.kubectl import SYSTEM, eventually, kubectl
from tests.e2e.steps import Load, Service, only

RATE = 100
RUNS = int(os.environ.get("BENCH_ROUNDS", "3"))
STEPS = [{"weight": 10, "hold": "2m"}, {"weight": 100, "hold": "2m"}]
LIMIT = 1800.0

Figures = dict[str, Any]


def measure() -> Figures:
    """Run the cases where the cluster is reachable."""
    done = Cluster("pinn-e2e").run(
        [sys.executable, "-m", "benchmarks.rollout_figures"],
        check=False,
        stdout=subprocess.PIPE,
        text=True,
        timeout=LIMIT,
    )
    if done.returncode:
        raise RuntimeError("no rollout could be measured: it takes the cluster pinn-e2e, with the operator installed")
    return dict(json.loads(done.stdout))


def inside() -> Figures:
    cases: dict[str, Callable[[Service], Figures]] = {}
    for interval in ("5s", "15s"):
        for share in (0.3, 0.05):
            cases[f"errors_{share:.0%}_interval_{interval}"] = exposure_to(f"errors:{share}", interval)
    cases["crash_every_50_requests"] = crashing
    cases["leader_lost_as_a_bad_canary_starts"] = without_leader
    cases["operator_away_for_20s_at_10_percent"] = operator_away
    return {name: repeated(name, case) for name, case in cases.items()}


def repeated(name: str, case: Callable[[Service], Figures]) -> Figures:
    """The median of each number, and all of them."""
    rows = []
    for run in range(RUNS):
        with service() as under_test:
            rows.append(case(under_test))
        print(f"{name} {run + 1}/{RUNS}: {rows[-1]}", file=sys.stderr, flush=True)
    return {
        key: {"median": statistics.median(row[key] for row in rows), "all": [row[key] for row in rows]}
        for key in rows[0]
    }


@contextmanager
def service() -> Iterator[Service]:
    """One object in a namespace of its own."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    try:
        yield Service(name, install_gateway())
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


def exposure_to(fault: str, interval: str) -> Callable[[Service], Figures]:
    """From the first to the last answer of a version that is bad from its first request; weight 10 of 100 requests/s."""

    def case(service: Service) -> Figures:
        service.starts(metrics={"interval": interval}, rollout={"steps": STEPS}, sla=only(errorRate="1%"))
        with service.under_load(RATE, 110) as load:
            service.rolls_out("2.0.0", template=broken(fault))
            service.until_rolled_back(110)
        return {"exposed_s": exposed(load), "failed": load.failed}

    return case


def crashing(service: Service) -> Figures:
    """Ready, then dead at every 50th request: requests failed in three minutes, and how often its weight came back."""
    service.starts(metrics={"interval": "5s"}, rollout={"steps": STEPS}, sla=only(errorRate="1%"))
    with service.under_load(RATE, 180) as load:
        service.rolls_out("2.0.0", template=broken("crash:50"))
        service.until_rolled_back(170)
    return {"failed": load.failed, "raised_again": max(0, bursts(load) - 1)}


def without_leader(service: Service) -> Figures:
    """The leader's pod is gone at once and for good as a version with 30 % errors gets its first requests."""
    service.starts(metrics={"interval": "5s"}, rollout={"steps": STEPS}, sla=only(errorRate="1%"))
    with service.under_load(RATE, 110) as load:
        service.rolls_out("2.0.0", template=broken("errors:0.3"))
        service.until_weight(10)
        lease = json.loads(kubectl("-n", SYSTEM, "get", "lease", "pinn-operator", "-o", "json"))
        kubectl("-n", SYSTEM, "delete", "pod", lease["spec"]["holderIdentity"], "--grace-period=0", "--force")
        service.until_rolled_back(110)
    return {"exposed_s": exposed(load), "failed": load.failed}


def operator_away(service: Service) -> Figures:
    """A good version at 10 %; no operator for 20 s. How long after it is back the rollout moves on, and what failed."""
    steps = [{"weight": 10, "hold": "15s"}, {"weight": 100, "hold": "5s"}]
    service.starts(metrics={"interval": "5s"}, rollout={"steps": steps}, sla=only(errorRate="5%"))
    with service.under_load(RATE, 110) as load:
        service.rolls_out("2.0.0")
        service.until_weight(10)
        kubectl("-n", SYSTEM, "scale", "deployment/pinn-operator", "--replicas=0")
        time.sleep(20)
        kubectl("-n", SYSTEM, "scale", "deployment/pinn-operator", "--replicas=2")
        eventually(lambda: ready_operators() > 0, 60)
        began = time.monotonic()
        service.until_weight(100, 80)
        moved = time.monotonic() - began
    return {"moves_on_after_s": round(moved, 1), "failed": load.failed}


def ready_operators() -> int:
    text = kubectl("-n", SYSTEM, "get", "deployment", "pinn-operator", "-o", "jsonpath={.status.readyReplicas}")
    return int(text or 0)


def exposed(load: Load) -> float:
    first, last = load.report["first_answer"], load.report["last_answer"]
    return round(last["2.0.0"] - first["2.0.0"], 1) if "2.0.0" in first else 0.0


def bursts(load: Load) -> int:
    """How many times the version began to answer, after five seconds or more in which it did not."""
    seconds = sorted(row[0] for row in load.report["by_second"] if row[1] == "2.0.0")
    return sum(1 for before, now in zip([-100, *seconds], seconds, strict=False) if now - before > 5)


if __name__ == "__main__":
    print(json.dumps(inside()))
