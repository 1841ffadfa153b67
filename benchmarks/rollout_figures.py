"""Rollouts on a real cluster behind a real gateway: how long users meet a bad version, and what a crash or a lost operator costs.

Runs on the cluster pinn-e2e, or the one that PINN_CLUSTER names, with the operator installed (`KEEP=1 make e2e` leaves the
cluster up and takes the operator away). Numbers are by the answers that clients got.
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
from tests.e2e.prometheus.install import NAMESPACE as MONITORING
from tests.e2e.prometheus.install import install as install_prometheus
from tests.e2e.steps import Load, Service, only

RATE = 100
RUNS = int(os.environ.get("BENCH_ROUNDS", "3"))
STEPS = [{"weight": 10, "hold": "2m"}, {"weight": 100, "hold": "2m"}]
LIMIT = 1800.0
NAME = os.environ.get("PINN_CLUSTER", "pinn-e2e")

BUSY = 200
"""Requests a second while everything that can happen to a rollout happens."""
QUICK = [{"weight": 20, "hold": "5s"}, {"weight": 100, "hold": "5s"}]
AWAY = 60
"""Seconds without metrics."""

Figures = dict[str, Any]
Case = Callable[[Service], Figures]


def measure() -> Figures:
    """How long users meet a bad version."""
    return reached("exposure")


def measure_operations() -> Figures:
    """What users notice of everything that is done to a rollout, and how it goes on without metrics and without traffic."""
    return reached("operations")


def reached(which: str) -> Figures:
    """Run the cases where the cluster is reachable."""
    done = Cluster(NAME).run(
        [sys.executable, "-m", "benchmarks.rollout_figures", which],
        check=False,
        stdout=subprocess.PIPE,
        text=True,
        timeout=LIMIT,
    )
    if done.returncode:
        raise RuntimeError(f"no rollout could be measured: it takes the cluster {NAME}, with the operator installed")
    return dict(json.loads(done.stdout))


def inside(which: str) -> Figures:
    cases = exposure_cases() if which == "exposure" else OPERATIONS
    return {name: repeated(name, case) for name, case in cases.items()}


def exposure_cases() -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for interval in ("5s", "15s"):
        for share in (0.3, 0.05):
            cases[f"errors_{share:.0%}_interval_{interval}"] = exposure_to(f"errors:{share}", interval)
    cases["crash_every_50_requests"] = crashing
    cases["leader_lost_as_a_bad_canary_starts"] = without_leader
    cases["operator_away_for_20s_at_10_percent"] = operator_away
    return cases


def repeated(name: str, case: Case) -> Figures:
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


def exposure_to(fault: str, interval: str) -> Case:
    """From the first to the last answer of a version that is bad from its first request; weight 10 of 100 requests/s."""

    def case(service: Service) -> Figures:
        service.starts(metrics={"interval": interval}, rollout={"steps": STEPS}, sla=only(errorRate="1%"))
        # One in twenty at 5 % takes a minute and a half: evidence is chance.
        with service.under_load(RATE, 300) as load:
            service.rolls_out("2.0.0", template=broken(fault))
            service.until_rolled_back(300)
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


# --- What users notice of what is done -------------------------------------------------------------------------------


class Windows:
    """What was done when, to be laid beside the seconds in which requests failed."""

    def __init__(self) -> None:
        self.spans: dict[str, tuple[float, float]] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        began = time.time()
        yield
        self.spans[name] = (began, time.time())

    def failed(self, load: Load) -> Figures:
        """Requests that failed while it was done or within five seconds of it, by what was done; and how long it took."""
        at = load.report["began"]
        by_second = [(at + row[0], row[3]) for row in load.report["by_second"]]
        return {
            f"{part}_{name}": value
            for name, (began, ended) in self.spans.items()
            for part, value in (
                ("failed", sum(count for second, count in by_second if began - 1 <= second <= ended + 5)),
                ("took_s", round(ended - began, 1)),
            )
        }


def everything(service: Service) -> Figures:
    """Promote, pause, abort, roll back, take the canary's Deployment away, restart the operator: at 200 requests/s."""
    service.starts(
        metrics={"interval": "2s"}, rollout={"steps": QUICK}, sla=only(errorRate="5%", latencyP95="250ms"), replicas=2
    )
    windows = Windows()
    with service.under_load(BUSY, 600) as load:
        with windows.of("promote"):
            service.change(cache={"size": 90_000})
            eventually(lambda: len(service.history()) == 1, 180, why=lambda: service.status)
        with windows.of("pause"):
            service.change(cache={"size": 80_000})
            service.until_weight(20, 180)
            service.change(rollout={"paused": True})
            service.until_said("paused", 120)
            time.sleep(5)
        with windows.of("abort"):
            service.says("abort")
            service.until_rolled_back(180)
            service.change(rollout={"paused": False})
        with windows.of("rollback"):
            service.change(cache={"size": 70_000}, template=broken("slow:0.4"))
            eventually(lambda: len(service.history()) == 3, 240, why=lambda: service.status)
        with windows.of("canary_deleted"):
            service.change(cache={"size": 60_000}, template=None, rollout={"steps": STEPS})
            service.until_weight(10, 180)
            canary = service.status["canary"]["revision"]
            kubectl("-n", service.namespace, "delete", "deployment", f"{service.name}-{canary}", "--wait=false")
            time.sleep(20)
        with windows.of("spec_set_back"):
            service.change(cache={"size": 90_000})
            eventually(lambda: "canary" not in service.status, 180, why=lambda: service.status)
        with windows.of("operator_restarted"):
            kubectl("-n", SYSTEM, "rollout", "restart", "deployment/pinn-operator")
            kubectl("-n", SYSTEM, "rollout", "status", "deployment/pinn-operator", "--timeout=180s")
    told = {"requests": load.report["sent"], "failed": load.failed, "p99_ms": load.report["p99_ms"]}
    print(load.report["first_failures"], file=sys.stderr, flush=True)
    return {**told, **windows.failed(load)}


def without_metrics(service: Service) -> Figures:
    """A good version at 20 %; its Prometheus is gone for a minute. Whether the weight stays, is said, and goes on afterwards."""
    asked = {"source": "Prometheus", "interval": "3s", "prometheus": {"url": install_prometheus().url}}
    steps = [{"weight": 20, "hold": "15s"}, {"weight": 100, "hold": "5s"}]
    service.starts(metrics=asked, sla=only(errorRate="5%"), rollout={"steps": steps, "maxHold": "10m"})
    with service.under_load(RATE, 400) as load:
        service.rolls_out("2.0.0")
        service.until_weight(20, 180)
        kubectl("-n", MONITORING, "scale", "deployment/prometheus", "--replicas=0")
        gone = time.monotonic()
        try:
            eventually(lambda: service.status["rollout"].get("verdict") == "NoMetrics", 60, why=lambda: service.status)
            said, moved = time.monotonic() - gone, 0
            while time.monotonic() - gone < AWAY:
                moved += service.status["canary"]["weight"] != 20
        finally:
            kubectl("-n", MONITORING, "scale", "deployment/prometheus", "--replicas=1")
        kubectl("-n", MONITORING, "rollout", "status", "deployment/prometheus", "--timeout=180s")
        back = time.monotonic()
        service.until_promoted("2.0.0", 240)
        promoted = time.monotonic() - back
    return {
        "said_after_s": round(said, 1),
        "moved": moved,
        "promoted_after_s": round(promoted, 1),
        "failed": load.failed,
    }


def without_traffic(version: str, template: Figures) -> Case:
    """Nobody asks. Judged by replayed requests."""

    def case(service: Service) -> Figures:
        service.starts(metrics={"interval": "5s"}, rollout={"steps": QUICK}, sla=only(errorRate="1%"))
        began = time.monotonic()
        service.rolls_out(version, **template)
        eventually(lambda: service.history(), 400, why=lambda: service.status)
        outcome = service.history()[-1][1]
        return {"verdict_after_s": round(time.monotonic() - began, 1), "promoted": int(outcome == "Promoted")}

    return case


OPERATIONS: dict[str, Case] = {
    "everything_at_200_requests_per_s": everything,
    "metrics_gone_for_60s": without_metrics,
    "no_traffic_good": without_traffic("2.0.0", {}),
    "no_traffic_errors_30%": without_traffic("2.0.0", {"template": broken("errors:0.3")}),
}


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
    print(json.dumps(inside(sys.argv[1])))
