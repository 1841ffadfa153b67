"""The operator on a real cluster: apply to Ready, a change of version under load, its memory, and what an idle object costs.

Runs on the cluster of `make demo`, with the operator installed, in a namespace of its own.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hack.install import ROOT, kubectl, say
from tests.e2e.cluster.cluster import Cluster
from tests.e2e.kubectl import client_pod, report_in

NAMESPACE = "pinn-bench"
RUNS = 5
RATE, SECONDS = 200, 30
IDLE_OBJECTS = int(os.environ.get("BENCH_IDLE_OBJECTS", "200"))
IDLE_SECONDS = int(os.environ.get("BENCH_IDLE_SECONDS", "620"))
"""A full list is made every ten minutes: in less there may be none."""
SETTLE_SECONDS = 20
OURS = (
    "pinndeployments",
    "deployments",
    "services",
    "serviceaccounts",
    "poddisruptionbudgets",
    "controllerrevisions",
    "pods",
)


def measure() -> dict[str, Any]:
    cluster = Cluster()
    with namespace(cluster):
        seconds = [apply_to_ready(cluster, f"ready-{run}") for run in range(RUNS)]
        load = switch_under_load(cluster)
        return {
            "apply_to_ready_s_median": round(statistics.median(seconds), 1),
            "apply_to_ready_s_median_all": [round(one, 1) for one in seconds],
            "apply_to_ready_s_max": round(max(seconds), 1),
            "switch_under_load_sent": load["sent"],
            "switch_under_load_failed": load["failed"],
            "switch_under_load_p99_ms": load["p99_ms"],
            "switch_under_load_answered_by": json.dumps(load["versions"]),
            "operator_resident_MiB": resident_mib(cluster),
        }


def measure_idle() -> dict[str, Any]:
    """API requests while nothing happens, by verb, for all of the kinds the operator watches; once with and once without it,
    because the cluster's own controllers ask for the same kinds."""
    cluster = Cluster()
    with namespace(cluster):
        objects = [manifest(f"idle-{number}", replicas=0) for number in range(IDLE_OBJECTS)]
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        kubectl(cluster, "-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps(listed), limit=600)
        kubectl(cluster, "-n", NAMESPACE, "wait", "pinn", "--all", "--for=condition=Ready", "--timeout=600s", limit=630)
        time.sleep(SETTLE_SECONDS)
        with_it = requests_during(cluster, IDLE_SECONDS)
        memory = resident_mib(cluster)
        kubectl(cluster, "-n", "pinn-system", "scale", "deployment/pinn-operator", "--replicas=0")
        kubectl(cluster, "-n", "pinn-system", "wait", "pod", "--all", "--for=delete", "--timeout=60s")
        try:
            without = requests_during(cluster, IDLE_SECONDS)
        finally:
            kubectl(cluster, "-n", "pinn-system", "scale", "deployment/pinn-operator", "--replicas=2")
            kubectl(cluster, "-n", "pinn-system", "rollout", "status", "deployment/pinn-operator", limit=150)
        return {
            "objects": IDLE_OBJECTS,
            "seconds": IDLE_SECONDS,
            "requests_a_minute": round((asked(with_it) - asked(without)) * 60 / IDLE_SECONDS, 1),
            "with_operator": json.dumps(with_it),
            "without_operator": json.dumps(without),
            "operator_resident_MiB": memory,
        }


@contextmanager
def namespace(cluster: Cluster) -> Iterator[None]:
    kubectl(cluster, "create", "namespace", NAMESPACE)
    try:
        yield
    finally:
        kubectl(cluster, "delete", "namespace", NAMESPACE, limit=180)


def asked(counts: Mapping[str, int]) -> int:
    """All of them but watches, which last for minutes."""
    return sum(count for key, count in counts.items() if not key.startswith("WATCH"))


def apply(cluster: Cluster, name: str, replicas: int = 1, version: str = "1.0.0") -> None:
    obj = manifest(name, replicas, version)
    kubectl(cluster, "-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps(obj))


def manifest(name: str, replicas: int = 1, version: str = "1.0.0") -> dict[str, Any]:
    spec = {"replicas": replicas, "model": {"name": "black-scholes", "version": version}}
    return {"apiVersion": "pinn.dev/v1alpha1", "kind": "PinnDeployment", "metadata": {"name": name}, "spec": spec}


def apply_to_ready(cluster: Cluster, name: str) -> float:
    began = time.monotonic()
    apply(cluster, name)
    kubectl(cluster, "-n", NAMESPACE, "wait", f"pinn/{name}", "--for=condition=Ready", "--timeout=60s")
    seconds = time.monotonic() - began
    kubectl(cluster, "-n", NAMESPACE, "delete", "pinn", name, limit=60)
    return seconds


def switch_under_load(cluster: Cluster) -> dict[str, Any]:
    apply(cluster, "pricer")
    kubectl(cluster, "-n", NAMESPACE, "wait", "pinn/pricer", "--for=condition=Ready", "--timeout=60s")
    script = (ROOT / "tests/e2e/load.py").read_text()
    pod = client_pod("load", "-c", script, "http://pricer/predict", str(RATE), str(SECONDS))
    kubectl(cluster, "-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps(pod))
    kubectl(cluster, "-n", NAMESPACE, "wait", "pod/load", "--for=condition=Ready", "--timeout=60s")
    apply(cluster, "pricer", version="2.0.0")
    done = "--for=jsonpath={.status.phase}=Succeeded"
    kubectl(cluster, "-n", NAMESPACE, "wait", "pod/load", done, "--timeout=90s")
    return report_in(kubectl(cluster, "-n", NAMESPACE, "logs", "load"))


def resident_mib(cluster: Cluster) -> float:
    """Of the replica that leads."""
    leader = kubectl(
        cluster, "-n", "pinn-system", "get", "lease", "pinn-operator", "-o", "jsonpath={.spec.holderIdentity}"
    )
    path = f"/api/v1/namespaces/pinn-system/pods/{leader}:8080/proxy/metrics"
    text = kubectl(cluster, "get", "--raw", path)
    found = re.search(r"^process_resident_memory_bytes (\S+)", text, re.MULTILINE)
    assert found is not None, "the operator exports no process_resident_memory_bytes"
    return round(float(found[1]) / 2**20, 1)


def requests_during(cluster: Cluster, seconds: float) -> dict[str, int]:
    """How many requests of each verb and kind the API server counted."""
    before = request_counts(cluster)
    for passed in range(0, int(seconds), 60):
        say(f"idle: {passed} of {seconds:.0f} s")
        time.sleep(min(60.0, seconds - passed))
    after = request_counts(cluster)
    return {key: count - before[key] for key, count in sorted(after.items()) if count > before[key]}


def request_counts(cluster: Cluster) -> Counter[str]:
    counts: Counter[str] = Counter()
    for line in kubectl(cluster, "get", "--raw", "/metrics").splitlines():
        if line.startswith("apiserver_request_total{"):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
            if labels["resource"] in OURS:
                counts[f"{labels['verb']} {labels['resource']}"] += int(float(line.rsplit(" ", 1)[1]))
    return counts
