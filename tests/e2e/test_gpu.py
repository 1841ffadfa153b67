"""GPUs that come and go, by the scheduler's own account: the nodes have as many as a test says, though there is none inside.

The servers find no device, so where a GPU is required they are told to prefer one: else they would not become ready.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.inprocess import SERVER_IMAGE
from tests.e2e.kubectl import (
    Object,
    apply,
    condition,
    events,
    eventually,
    holds,
    items,
    kubectl,
    patch,
    pinn,
    read,
    wait_ready,
)
from tests.e2e.steps import Load

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(900), pytest.mark.usefixtures("operator")]

LONG = 240.0
RESOURCE = "nvidia.com/gpu"
LACKING = f"Insufficient {RESOURCE}"
Gpus = Callable[[int], None]


@pytest.fixture
def gpus() -> Iterator[Gpus]:
    """Says how many GPUs the cluster has: all of them on one node that takes pods."""
    (node, *_) = [one["metadata"]["name"] for one in items("nodes", "default") if not one["spec"].get("taints")]

    def have(count: int) -> None:
        path = RESOURCE.replace("/", "~1")
        operations = [
            {"op": "add", "path": f"/status/{part}/{path}", "value": str(count)} for part in ("capacity", "allocatable")
        ]
        kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(operations))

    have(0)
    yield have
    have(0)


def with_gpu(policy: str, patience: str = "2m", **spec: Any) -> Object:
    """The operator's image for GPUs is not built here: the one there is serves on both."""
    gpu = {"policy": policy, "patience": patience}
    required: dict[str, Any] = {
        "fallback": {"cpu": False},
        "template": {
            "spec": {"containers": [{"name": "server", "env": [{"name": "PINN_SERVER_GPU_POLICY", "value": "prefer"}]}]}
        },
    }
    return pinn(gpu=gpu, image=SERVER_IMAGE, **(required if policy == "Require" else {}), **spec)


def said(namespace: str, kind: str = "GpuSatisfied") -> tuple[str, str]:
    found = condition(read(namespace), kind) or {}
    return str(found.get("reason", "")), str(found.get("message", ""))


def until(namespace: str, reason: str, *words: str, kind: str = "GpuSatisfied") -> None:
    def so() -> bool:
        found, message = said(namespace, kind)
        return found == reason and all(word in message for word in words)

    eventually(so, LONG, why=lambda: (read(namespace) or {}).get("status"))


def placement(namespace: str, arm: str = "stable") -> str:
    return str((read(namespace) or {})["status"][arm]["placement"])


def servers(namespace: str, where: str) -> list[str]:
    """The phases of the server pods on CPUs or on GPUs, but for those that leave."""
    pods = items("pods", namespace, f"pinn.dev/placement={where}")
    return sorted(pod["status"]["phase"] for pod in pods if "deletionTimestamp" not in pod["metadata"])


def test_a_gpu_that_is_required_and_not_there_is_said_and_the_object_heals_when_there_is_one(
    namespace: str, gpus: Gpus
) -> None:
    apply(with_gpu("Require"), namespace)
    until(namespace, "Unschedulable", LACKING)
    obj = read(namespace)
    assert LACKING in said(namespace, "Ready")[1]
    assert not holds(obj, "Available")
    assert servers(namespace, "cpu") == []

    gpus(1)
    wait_ready(namespace, seconds=LONG)
    until(namespace, "OnGpus")
    assert placement(namespace) == "GPU"
    assert servers(namespace, "gpu") == ["Running"]


def test_cpus_stand_in_until_gpus_are_free_and_no_request_fails(namespace: str, gpus: Gpus) -> None:
    apply(with_gpu("Prefer", replicas=2, patience="2s"), namespace)
    wait_ready(namespace, seconds=LONG)
    until(namespace, "OnCpus", "0 of 2", LACKING)
    assert placement(namespace) == "CPU"
    eventually(lambda: servers(namespace, "gpu") == ["Pending"], LONG)

    load = Load(namespace)
    load.starts("http://pricer/predict", 20, 800)
    try:
        gpus(1)
        until(namespace, "OnCpus", "1 of 2", LACKING)
        eventually(lambda: servers(namespace, "cpu") == ["Running"], LONG)
        gpus(2)
        until(namespace, "OnGpus")
        eventually(lambda: not items("pods", namespace, "pinn.dev/placement=cpu"), LONG)
    finally:
        load.finishes()
    assert load.answered("1.0.0") > 0
    assert load.failed == 0, load.report
    assert placement(namespace) == "GPU"
    assert servers(namespace, "gpu") == ["Running", "Running"]
    assert events(namespace, "OnGpus")


def test_a_rollout_that_finds_no_gpu_beside_stable_is_refused_and_can_be_tried_again(
    namespace: str, gpus: Gpus
) -> None:
    gpus(1)
    apply(with_gpu("Require"), namespace)
    first = wait_ready(namespace, seconds=LONG)
    hasty = {"spec": {"model": {"version": "2.0.0"}, "rollout": {"progressDeadline": "30s"}}}
    patch("pinndeployment", "pricer", namespace, hasty)
    until(namespace, "RolledBack", LACKING, "set spec.gpu.policy: Prefer", kind="Stalled")
    obj = read(namespace) or {}
    assert [(one["modelVersion"], one["outcome"]) for one in obj["status"]["history"]] == [("2.0.0", "RolledBack")]
    assert not obj["status"].get("rejected")
    assert obj["status"]["stable"]["revision"] == first["status"]["stable"]["revision"]
    assert any(LACKING in note for note in events(namespace, "RolledBack"))
    eventually(lambda: servers(namespace, "gpu") == ["Running"], LONG)
    until(namespace, "OnGpus")

    gpus(2)
    patch("pinndeployment", "pricer", namespace, {"spec": {"rollout": {"progressDeadline": "10m"}}})
    newest = max(items("controllerrevisions", namespace), key=lambda one: int(one["revision"]))
    revision = newest["metadata"]["name"].rpartition("-")[2]
    kubectl("-n", namespace, "annotate", "pinn", "pricer", f"pinn.dev/retry={revision}@once")
    wait_ready(namespace, version="2.0.0", seconds=LONG)
    assert placement(namespace) == "GPU"


def test_a_rollout_beside_a_stable_that_has_the_only_gpu_goes_on_with_cpus_and_takes_the_gpu_over(
    namespace: str, gpus: Gpus
) -> None:
    gpus(1)
    apply(with_gpu("Prefer", patience="5s"), namespace)
    wait_ready(namespace, seconds=LONG)
    until(namespace, "OnGpus")
    load = Load(namespace)
    load.starts("http://pricer/predict", 20, 800)
    try:
        patch("pinndeployment", "pricer", namespace, {"spec": {"model": {"version": "2.0.0"}}})
        wait_ready(namespace, version="2.0.0", seconds=LONG)
        until(namespace, "OnGpus", "2.0.0")
        eventually(lambda: not items("pods", namespace, "pinn.dev/placement=cpu"), LONG)
    finally:
        load.finishes()
    assert load.failed == 0, load.report
    assert load.answered("2.0.0") > 0
    assert placement(namespace) == "GPU"
    assert any("2.0.0" in note and LACKING in note for note in events(namespace, "OnCpus"))
