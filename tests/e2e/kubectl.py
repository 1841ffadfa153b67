"""The cluster as a user sees it: kubectl, and waiting for what it shows with a limit and a reason."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Object = dict[str, Any]
T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"
SAMPLE = MANIFESTS / "samples/option-pricer.yaml"
OPERATOR_IMAGE = "pinn-operator/operator:0.1.0"
SYSTEM = "pinn-system"
POLL_SECONDS = 0.2


class KubectlError(Exception):
    """kubectl said no; the message is its own."""


def kubectl(*arguments: str, stdin: str | None = None, limit: float = 120.0) -> str:
    """Run it and return what it printed."""
    done = subprocess.run(
        ["kubectl", *arguments], input=stdin, capture_output=True, text=True, timeout=limit, check=False, env=os.environ
    )
    if done.returncode:
        raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def apply(obj: Object, namespace: str) -> None:
    kubectl("-n", namespace, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(obj))


def create(obj: Object, namespace: str) -> None:
    kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(obj))


def find(kind: str, name: str, namespace: str) -> Object | None:
    """The object, or None when there is none."""
    text = kubectl("-n", namespace, "get", kind, name, "--ignore-not-found", "-o", "json", "--show-managed-fields")
    return dict(json.loads(text)) if text.strip() else None


def get(kind: str, name: str, namespace: str) -> Object:
    found = find(kind, name, namespace)
    assert found is not None, f"there is no {kind} {name} in {namespace}"
    return found


def items(kind: str, namespace: str, selector: str = "") -> list[Object]:
    options = ["-l", selector] if selector else []
    return list(json.loads(kubectl("-n", namespace, "get", kind, *options, "-o", "json"))["items"])


def patch(kind: str, name: str, namespace: str, body: Object | list[Object]) -> None:
    how = "json" if isinstance(body, list) else "merge"
    kubectl("-n", namespace, "patch", kind, name, f"--type={how}", "-p", json.dumps(body))


def delete(kind: str, name: str, namespace: str, *, wait: bool = False) -> None:
    kubectl("-n", namespace, "delete", kind, name, f"--wait={str(wait).lower()}", "--ignore-not-found")


def eventually(look: Callable[[], T | None], seconds: float = 60.0, *, why: Callable[[], object] | None = None) -> T:
    """What `look` returns as soon as it is true. Fails at the limit, with what `why` has to say."""
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s; {why() if why else ''}")
        time.sleep(POLL_SECONDS)
    return found


def condition(obj: Object | None, kind: str) -> Object | None:
    conditions = (obj or {}).get("status", {}).get("conditions", ())
    return next((c for c in conditions if c["type"] == kind), None)


def holds(obj: Object | None, kind: str, reason: str = "") -> bool:
    """Whether a condition is True for the generation that the object has now."""
    found = condition(obj, kind)
    if obj is None or found is None or found.get("observedGeneration") != obj["metadata"]["generation"]:
        return False
    return found["status"] == "True" and (not reason or found["reason"] == reason)


GATES = (
    "errorRate",
    "cacheHitRate",
    "fallbackRate",
    "latencyP95",
    "latencyP99",
    "memoryGrowthPerHour",
    "gpuUtilization",
    "physicsViolationRate",
)
NO_GATES: Object = {"promote": dict.fromkeys(GATES, "Off"), "abort": {"errorRate": "Off", "latencyP95": "Off"}}
AT_ONCE: Object = {"rollout": {"steps": [{"weight": 100, "hold": "0s"}]}, "sla": NO_GATES}
"""A new version takes over as soon as it is ready: for tests of what has nothing to do with steps and evidence."""


def pinn(name: str = "pricer", version: str = "1.0.0", **spec: Any) -> Object:
    """A PinnDeployment, the smallest there is and what is given; it asks for less than the default, as many share a test node.
    A new version of it takes over at once, unless `rollout` and `sla` say how."""
    rollout = {**AT_ONCE["rollout"], **spec.pop("rollout", {})}
    spec = {"sla": AT_ONCE["sla"], **spec, "rollout": rollout}
    small = {"requests": {"cpu": "25m", "memory": "96Mi"}}
    return {
        "apiVersion": "pinn.dev/v1alpha1",
        "kind": "PinnDeployment",
        "metadata": {"name": name},
        "spec": {"model": {"name": "black-scholes", "version": version}, "resources": small, **spec},
    }


def read(namespace: str, name: str = "pricer") -> Object | None:
    return find("pinndeployment", name, namespace)


def wait_ready(namespace: str, name: str = "pricer", version: str | None = None, seconds: float = 90.0) -> Object:
    """Wait until it is Ready with this version stable and nothing is left to do; the object."""

    def settled() -> Object | None:
        obj = read(namespace, name)
        stable = (obj or {}).get("status", {}).get("stable", {})
        right = version is None or stable.get("modelVersion") == version
        done = holds(obj, "Ready") and condition(obj, "Reconciling") is None
        return obj if right and done else None

    return eventually(settled, seconds, why=lambda: (read(namespace, name) or {}).get("status"))


def revision_of(obj: Object) -> str:
    return str(obj["status"]["stable"]["revision"])


def events(namespace: str, reason: str) -> list[str]:
    """The notes of the operator's Events with this reason."""
    found = items("events.events.k8s.io", namespace)
    return [
        e["note"] for e in found if e["reason"] == reason and e.get("reportingController") == "pinn.dev/pinn-operator"
    ]


def running(namespace: str, selector: str = "pinn.dev/deployment") -> list[Object]:
    """The server pods that are not on their way out."""
    return [pod for pod in items("pods", namespace, selector) if "deletionTimestamp" not in pod["metadata"]]


def client_pod(name: str, *arguments: str) -> Object:
    """A pod that runs Python in the operator's image, fit for Pod Security `restricted`."""
    container = {
        "name": "client",
        "image": OPERATOR_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/venv/bin/python", *arguments],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def start_load(namespace: str, rate: int, seconds: int, url: str = "http://pricer/predict") -> None:
    """Requests against the Service, from a pod; returns when the first has been answered."""
    script = (Path(__file__).parent / "load.py").read_text()
    create(client_pod("load", "-c", script, url, str(rate), str(seconds)), namespace)
    kubectl("-n", namespace, "wait", "pod/load", "--for=condition=Ready", "--timeout=60s")
    eventually(lambda: "reached" in kubectl("-n", namespace, "logs", "load"))


def load_report(namespace: str, seconds: float = 120.0) -> Object:
    """What the requests came to, once they are over."""
    over = ["--for=jsonpath={.status.phase}=Succeeded", f"--timeout={seconds:.0f}s"]
    kubectl("-n", namespace, "wait", "pod/load", *over, limit=seconds + 10)
    return report_in(kubectl("-n", namespace, "logs", "load"))


def report_in(log: str) -> Object:
    """The report in the log of a pod that sent requests. A kubelet may add why a log ends: it finds the container no more."""
    (line,) = [line for line in log.splitlines() if line.startswith("{")]
    return dict(json.loads(line))
