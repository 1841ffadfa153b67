"""One autoscaler a revision, and nobody else who says how many servers there are. No metrics are needed: what an autoscaler does
within its bounds is Kubernetes' business, and is done here by `kubectl scale deployment`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.kubectl import (
    KubectlError,
    apply,
    condition,
    delete,
    eventually,
    find,
    get,
    kubectl,
    patch,
    pinn,
    read,
    revision_of,
    wait_ready,
)

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("operator")]

Object = dict[str, Any]
LONG = 180.0
"""An autoscaler looks every 15 s, on a machine that is busy with other things."""
SCALER, HAND = "horizontalpodautoscaler", "pinn-operator"


def bounds(namespace: str, name: str) -> tuple[int, int] | None:
    spec = (find(SCALER, name, namespace) or {}).get("spec")
    return (spec["minReplicas"], spec["maxReplicas"]) if spec else None


def size(namespace: str, name: str) -> int:
    return int(get("deployment", name, namespace)["spec"]["replicas"])


def owners(namespace: str, name: str) -> set[str]:
    """Who says how many servers there are."""
    fields = get("deployment", name, namespace)["metadata"]["managedFields"]
    return {entry["manager"] for entry in fields if "f:replicas" in entry["fieldsV1"].get("f:spec", {})}


def ready_servers(namespace: str) -> int:
    return int((read(namespace) or {}).get("status", {}).get("readyReplicas", 0))


def story(namespace: str) -> object:
    return (read(namespace) or {}).get("status"), kubectl("-n", namespace, "get", "hpa,deployments,pods")


def has_metrics_of_pods() -> bool:
    try:
        return bool(kubectl("get", "--raw", "/apis/custom.metrics.k8s.io"))
    except KubectlError:
        return False


def test_the_number_of_servers_is_left_to_the_autoscaler_whatever_becomes_of_it(namespace: str) -> None:
    apply(pinn(autoscaling={"minReplicas": 1, "maxReplicas": 4}), namespace)
    obj = wait_ready(namespace, seconds=LONG)
    name = f"pricer-{revision_of(obj)}"
    eventually(lambda: bounds(namespace, name) == (1, 4), LONG)
    waits = "spec.autoscaling.targetInFlight" in obj["status"].get("notYetActedUpon", ())
    assert waits is not has_metrics_of_pods()
    eventually(lambda: HAND not in owners(namespace, name), LONG, why=lambda: owners(namespace, name))
    assert size(namespace, name) == 1

    kubectl("-n", namespace, "scale", f"deployment/{name}", "--replicas=3")
    eventually(lambda: ready_servers(namespace) == 3, LONG, why=lambda: story(namespace))
    patch(SCALER, name, namespace, {"spec": {"maxReplicas": 9}})
    eventually(lambda: bounds(namespace, name) == (1, 4), LONG, why=lambda: story(namespace))
    uid = get(SCALER, name, namespace)["metadata"]["uid"]
    delete(SCALER, name, namespace)
    eventually(lambda: (find(SCALER, name, namespace) or {"metadata": {"uid": uid}})["metadata"]["uid"] != uid, LONG)
    assert (size(namespace, name), HAND in owners(namespace, name)) == (3, False)

    kubectl("-n", namespace, "scale", "pinndeployment", "pricer", "--replicas=0")
    eventually(lambda: size(namespace, name) == 0 and bounds(namespace, name) is None, LONG)
    kubectl("-n", namespace, "scale", "pinndeployment", "pricer", "--replicas=2")
    eventually(lambda: ready_servers(namespace) == 2, LONG, why=lambda: story(namespace))
    eventually(lambda: bounds(namespace, name) == (1, 4), LONG)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_without_autoscaling_any_more_servers_go_one_by_one_down_to_what_the_spec_says(namespace: str) -> None:
    apply(pinn(replicas=2, autoscaling={"minReplicas": 1, "maxReplicas": 4}), namespace)
    name = f"pricer-{revision_of(wait_ready(namespace, seconds=LONG))}"
    eventually(lambda: HAND not in owners(namespace, name), LONG)
    kubectl("-n", namespace, "scale", f"deployment/{name}", "--replicas=4")
    eventually(lambda: ready_servers(namespace) == 4, LONG, why=lambda: story(namespace))
    patch("pinndeployment", "pricer", namespace, {"spec": {"autoscaling": None}})
    sizes: list[int] = []

    def over() -> bool:
        sizes.append(size(namespace, name))
        return find(SCALER, name, namespace) is None

    eventually(over, 2 * LONG, why=lambda: (sizes, story(namespace)))
    assert list(dict.fromkeys(sizes)) in ([4, 3, 2], [4, 3]), "the last size may be seen later than its autoscaler goes"
    assert size(namespace, name) == 2
    wait_ready(namespace, seconds=LONG)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_a_canary_has_the_servers_of_its_share_and_stable_keeps_its_own(namespace: str) -> None:
    steps = [{"weight": weight, "hold": "0s", "approval": "Required"} for weight in (50, 100)]
    scaled: Object = {"replicas": 2, "autoscaling": {"minReplicas": 1, "maxReplicas": 4}}
    apply(pinn(rollout={"steps": steps}, traffic={"allowCoarse": True}, **scaled), namespace)
    stable = f"pricer-{revision_of(wait_ready(namespace, seconds=LONG))}"
    eventually(lambda: bounds(namespace, stable) == (1, 4), LONG)
    patch("pinndeployment", "pricer", namespace, {"spec": {"model": {"version": "2.0.0"}}})

    approve(namespace, "1/2")
    canary = f"pricer-{(read(namespace) or {})['status']['canary']['revision']}"
    approve(namespace, "2/2", lambda: (bounds(namespace, canary), bounds(namespace, stable)) == ((2, 4), (2, 4)))
    wait_ready(namespace, version="2.0.0", seconds=LONG)
    assert size(namespace, canary) == 2


def approve(namespace: str, step: str, seen: Any = lambda: True) -> None:
    """Wait until a step waits for a person, with what must hold then, and be that person."""

    def waits() -> bool:
        obj = read(namespace) or {}
        progressing = condition(obj, "Progressing") or {}
        there = obj["status"].get("rollout", {}).get("step") == step
        return there and progressing.get("reason") == "WaitingForApproval"

    eventually(waits, LONG, why=lambda: story(namespace))
    assert seen(), story(namespace)
    canary = (read(namespace) or {})["status"]["canary"]["revision"]
    request = {"metadata": {"annotations": {"pinn.dev/promote": f"{canary}@{step}"}}}
    patch("pinndeployment", "pricer", namespace, request)
