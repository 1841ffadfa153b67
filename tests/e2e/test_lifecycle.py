"""An object from its first Ready to its last child: made, scaled, given a new version under load, deleted."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.e2e.kubectl import (
    SAMPLE,
    SYSTEM,
    apply,
    condition,
    delete,
    events,
    eventually,
    find,
    get,
    holds,
    items,
    kubectl,
    load_report,
    patch,
    pinn,
    read,
    revision_of,
    running,
    start_load,
    wait_ready,
)

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("operator")]

CHILDREN = "deployments,services,serviceaccounts,poddisruptionbudgets,controllerrevisions,pods"


def children(namespace: str) -> set[str]:
    found = items(CHILDREN, namespace, "pinn.dev/deployment")
    return {f"{obj['kind']}/{obj['metadata']['name']}" for obj in found if obj["kind"] != "Pod"}


def change_version(namespace: str, version: str) -> None:
    patch("pinndeployment", "pricer", namespace, {"spec": {"model": {"version": version}}})


def test_the_sample_becomes_ready_with_all_its_children(namespace: str) -> None:
    sample = yaml.safe_load(SAMPLE.read_text())
    kubectl("-n", namespace, "apply", "-f", str(SAMPLE))
    obj = wait_ready(namespace, sample["metadata"]["name"])

    name, revision = sample["metadata"]["name"], revision_of(obj)
    assert children(namespace) == {
        f"ServiceAccount/{name}-server",
        f"ControllerRevision/{name}-{revision}",
        f"Deployment/{name}-{revision}",
        f"Service/{name}-{revision}",
        f"Service/{name}",
    }
    assert obj["metadata"]["finalizers"] == ["pinn.dev/finalizer"]
    assert obj["status"]["observedGeneration"] == obj["metadata"]["generation"]
    assert holds(obj, "Available")
    assert condition(obj, "Progressing") is None
    assert obj["status"]["stable"]["modelVersion"] == sample["spec"]["model"]["version"]
    assert "spec.rollout.steps" not in obj["status"].get("notYetActedUpon", ())
    assert events(namespace, "Started")
    for child in items(CHILDREN, namespace, "pinn.dev/deployment"):
        assert child["kind"] == "Pod" or child["metadata"]["ownerReferences"][0]["uid"] == obj["metadata"]["uid"]


def test_a_ready_object_is_left_alone(namespace: str) -> None:
    """A pass that finds everything as it should be writes nothing, or two operators would never come to rest."""
    unusual = {"requests": {"cpu": "0.025", "memory": "0.125Gi"}, "limits": {"memory": "1024Mi"}}
    apply(pinn(replicas=2, resources=unusual), namespace)
    obj = wait_ready(namespace)
    before = {
        c["metadata"]["name"]: c["metadata"]["resourceVersion"]
        for c in items(CHILDREN, namespace, "pinn.dev/deployment")
    }
    kubectl("-n", SYSTEM, "rollout", "restart", "deployment/pinn-operator")
    kubectl("-n", SYSTEM, "rollout", "status", "deployment/pinn-operator", "--timeout=120s")
    patch(
        "pinndeployment",
        "pricer",
        namespace,
        {"metadata": {"annotations": {"wake": "up"}}, "spec": {"rollout": {"paused": True}}},
    )
    eventually(lambda: holds(read(namespace), "Ready"))
    after = {
        c["metadata"]["name"]: c["metadata"]["resourceVersion"]
        for c in items(CHILDREN, namespace, "pinn.dev/deployment")
    }
    assert after == before
    assert not events(namespace, "ChildHealed")
    assert revision_of(obj) == revision_of(read(namespace) or {})


def test_scaling_keeps_the_revision_and_brings_a_disruption_budget(namespace: str) -> None:
    apply(pinn(), namespace)
    obj = wait_ready(namespace)
    (first,) = running(namespace)
    kubectl("-n", namespace, "scale", "pinndeployment", "pricer", "--replicas=2")
    eventually(lambda: (read(namespace) or {})["status"].get("readyReplicas") == 2)
    scaled = wait_ready(namespace)
    assert revision_of(scaled) == revision_of(obj)
    assert first["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in running(namespace)}
    assert find("poddisruptionbudget", f"pricer-{revision_of(obj)}", namespace)
    kubectl("-n", namespace, "scale", "pinndeployment", "pricer", "--replicas=1")
    eventually(lambda: find("poddisruptionbudget", f"pricer-{revision_of(obj)}", namespace) is None)
    kubectl("-n", namespace, "scale", "pinndeployment", "pricer", "--replicas=0")
    eventually(lambda: not running(namespace))
    eventually(lambda: wait_ready(namespace)["status"].get("readyReplicas", 0) == 0)


def test_a_new_version_takes_over_without_a_failed_request(namespace: str) -> None:
    apply(pinn(replicas=2), namespace)
    old = revision_of(wait_ready(namespace))
    start_load(namespace, rate=200, seconds=25)
    change_version(namespace, "2.0.0")
    obj = wait_ready(namespace, version="2.0.0")
    report = load_report(namespace)

    assert report["failed"] == 0, report
    assert report["sent"] == 5000
    assert set(report["versions"]) == {"1.0.0", "2.0.0"}, "the change did not fall within the load"
    new = revision_of(obj)
    assert new != old
    assert get("service", "pricer", namespace)["spec"]["selector"]["pinn.dev/revision"] == new
    assert find("deployment", f"pricer-{old}", namespace) is None
    assert find("controllerrevision", f"pricer-{old}", namespace), "there is nothing to go back to"
    assert len(events(namespace, "Promoted")) == 1


def test_going_back_uses_the_old_record_and_restarts_nothing_else(namespace: str) -> None:
    apply(pinn(), namespace)
    first = revision_of(wait_ready(namespace))
    record = get("controllerrevision", f"pricer-{first}", namespace)["data"]
    change_version(namespace, "2.0.0")
    wait_ready(namespace, version="2.0.0")
    change_version(namespace, "1.0.0")
    assert revision_of(wait_ready(namespace, version="1.0.0")) == first
    assert get("controllerrevision", f"pricer-{first}", namespace)["data"] == record
    assert len(items("controllerrevisions", namespace)) == 2


def test_a_version_that_never_becomes_ready_leaves_the_old_one_serving(namespace: str) -> None:
    apply(pinn(rollout={"progressDeadline": "8s"}), namespace)
    first = revision_of(wait_ready(namespace))
    change_version(namespace, "9.9.9")

    def rolled_back() -> bool:
        return holds(read(namespace), "Stalled", "RolledBack")

    eventually(rolled_back, why=lambda: (read(namespace) or {}).get("status"))
    obj = read(namespace) or {}
    assert holds(obj, "Available")
    assert condition(obj, "Reconciling") is None
    assert revision_of(obj) == first
    assert [one["modelVersion"] for one in obj["status"]["rejected"]] == ["9.9.9"]
    assert "spec.rollout.progressDeadline (8s)" in obj["status"]["rejected"][0]["reason"]
    assert get("service", "pricer", namespace)["spec"]["selector"]["pinn.dev/revision"] == first

    change_version(namespace, "2.0.0")
    wait_ready(namespace, version="2.0.0")
    assert len(items("deployments", namespace)) == 1


def test_a_spec_that_returns_to_stable_ends_the_rollout_at_once(namespace: str) -> None:
    apply(pinn(), namespace)
    first = revision_of(wait_ready(namespace))
    (pod,) = running(namespace)
    change_version(namespace, "9.9.9")
    eventually(lambda: (read(namespace) or {})["status"].get("canary"))
    change_version(namespace, "1.0.0")
    assert revision_of(wait_ready(namespace, version="1.0.0")) == first
    eventually(lambda: len(items("deployments", namespace)) == 1)
    assert [p["metadata"]["uid"] for p in running(namespace)] == [pod["metadata"]["uid"]]


def test_a_paused_rollout_is_brought_up_and_held(namespace: str) -> None:
    apply(pinn(rollout={"paused": True}), namespace)
    first = revision_of(wait_ready(namespace))
    change_version(namespace, "2.0.0")

    def held() -> bool:
        said = condition(read(namespace), "Progressing")
        return said is not None and said["status"] == "False" and said["reason"] == "Paused"

    eventually(held, why=lambda: (read(namespace) or {}).get("status"))
    assert get("service", "pricer", namespace)["spec"]["selector"]["pinn.dev/revision"] == first
    patch("pinndeployment", "pricer", namespace, {"spec": {"rollout": {"paused": False}}})
    wait_ready(namespace, version="2.0.0")


def test_deletion_frees_everything(namespace: str) -> None:
    apply(pinn(replicas=2), namespace)
    wait_ready(namespace)
    kubectl("-n", namespace, "delete", "pinndeployment", "pricer", "--timeout=60s")
    eventually(lambda: not items(CHILDREN, namespace, "pinn.dev/deployment"), 60)


def test_deletion_while_the_operator_is_down_is_finished_when_it_is_back(namespace: str) -> None:
    apply(pinn(), namespace)
    wait_ready(namespace)
    kubectl("-n", SYSTEM, "scale", "deployment/pinn-operator", "--replicas=0")
    try:
        eventually(lambda: not items("pods", SYSTEM, "app.kubernetes.io/name=pinn-operator"))
        delete("pinndeployment", "pricer", namespace)
        assert read(namespace), "the finalizer should have kept it"
    finally:
        kubectl("-n", SYSTEM, "scale", "deployment/pinn-operator", "--replicas=2")
    eventually(lambda: read(namespace) is None, 60)
    eventually(lambda: not items(CHILDREN, namespace, "pinn.dev/deployment"), 60)


def test_an_object_made_again_under_the_same_name_gets_children_of_its_own(namespace: str) -> None:
    apply(pinn(), namespace)
    wait_ready(namespace)
    (old,) = running(namespace)
    delete("pinndeployment", "pricer", namespace, wait=True)
    apply(pinn(), namespace)
    obj = wait_ready(namespace)
    for child in items("deployments,services,serviceaccounts,controllerrevisions", namespace, "pinn.dev/deployment"):
        assert [ref["uid"] for ref in child["metadata"]["ownerReferences"]] == [obj["metadata"]["uid"]]
    assert old["metadata"]["uid"] not in {pod["metadata"]["uid"] for pod in running(namespace)}


def test_an_upgraded_operator_restarts_no_server(namespace: str) -> None:
    """A newer operator pins new revisions to a newer image; those on record keep theirs."""
    apply(pinn(), namespace)
    wait_ready(namespace)
    (before,) = running(namespace)
    image = "PINN_OPERATOR_SERVER_IMAGE"
    kubectl("-n", SYSTEM, "set", "env", "deployment/pinn-operator", f"{image}=pinn-operator/inference:9.9.9")
    try:
        kubectl("-n", SYSTEM, "rollout", "status", "deployment/pinn-operator", "--timeout=120s")
        kubectl("-n", namespace, "scale", "pinndeployment", "pricer", "--replicas=2")
        eventually(lambda: (read(namespace) or {})["status"].get("readyReplicas") == 2)
        assert before["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in running(namespace)}
        assert len(items("controllerrevisions", namespace)) == 1
    finally:
        kubectl("-n", SYSTEM, "set", "env", "deployment/pinn-operator", f"{image}=pinn-operator/inference:0.1.0")
        kubectl("-n", SYSTEM, "rollout", "status", "deployment/pinn-operator", "--timeout=120s")


def test_the_leader_may_be_killed_in_the_middle_of_a_change(namespace: str) -> None:
    apply(pinn(replicas=2), namespace)
    wait_ready(namespace)
    change_version(namespace, "2.0.0")
    lease = json.loads(kubectl("-n", SYSTEM, "get", "lease", "pinn-operator", "-o", "json"))
    leader = lease["spec"]["holderIdentity"]
    kubectl("-n", SYSTEM, "delete", "pod", leader, "--grace-period=0", "--force")
    wait_ready(namespace, version="2.0.0", seconds=120)
    after = json.loads(kubectl("-n", SYSTEM, "get", "lease", "pinn-operator", "-o", "json"))
    assert after["spec"]["holderIdentity"] != leader
    assert len(items("deployments", namespace)) == 1


def test_the_leader_exports_the_object_and_forgets_it(namespace: str) -> None:
    apply(pinn(), namespace)
    wait_ready(namespace)
    labels = f'condition="Ready",namespace="{namespace}",pinndeployment="pricer"'
    series = f"pinn_operator_object_condition{{{labels}}} 1.0"
    eventually(lambda: series in operator_metrics())
    assert "pinn_operator_leader 1.0" in operator_metrics()
    assert 'pinn_operator_reconcile_total{controller="pinndeployment",result="success"}' in operator_metrics()
    delete("pinndeployment", "pricer", namespace)
    eventually(lambda: f'namespace="{namespace}"' not in operator_metrics())


def operator_metrics() -> str:
    lease = json.loads(kubectl("-n", SYSTEM, "get", "lease", "pinn-operator", "-o", "json"))
    pod = lease["spec"]["holderIdentity"]
    return kubectl("get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{pod}:8080/proxy/metrics")


def test_a_server_pod_refuses_the_wrong_question_and_counts_the_right_one(namespace: str) -> None:
    """Through the Service, as callers do, and with the metrics on the admin port that is in no Service."""
    apply(pinn(), namespace)
    wait_ready(namespace)
    (pod,) = running(namespace)
    start_load(namespace, rate=20, seconds=2)
    assert load_report(namespace)["failed"] == 0
    name = pod["metadata"]["name"]
    metrics = kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods/{name}:8081/proxy/metrics")
    counted = 40 + 1  # the load asks once before it begins
    assert f'pinn_requests_total{{outcome="ok",source="live"}} {counted}.0' in metrics, metrics
    ports = {port["port"] for port in get("service", "pricer", namespace)["spec"]["ports"]}
    assert ports == {80}
