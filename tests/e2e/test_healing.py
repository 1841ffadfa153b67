"""What others change or delete of ours is put right within half a minute, with an Event; what is theirs is left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.kubectl import (
    KubectlError,
    apply,
    condition,
    create,
    delete,
    events,
    eventually,
    find,
    get,
    holds,
    items,
    kubectl,
    patch,
    pinn,
    read,
    revision_of,
    running,
    wait_ready,
)

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("operator")]

HALF_A_MINUTE = 30.0
Object = dict[str, Any]


@pytest.fixture
def child(namespace: str) -> str:
    """The name that the children of a ready revision carry."""
    apply(pinn(replicas=2), namespace)
    return f"pricer-{revision_of(wait_ready(namespace))}"


@pytest.mark.parametrize("kind", ["deployment", "service", "poddisruptionbudget", "controllerrevision"])
def test_a_deleted_child_is_made_again(namespace: str, child: str, kind: str) -> None:
    uid = get(kind, child, namespace)["metadata"]["uid"]
    delete(kind, child, namespace)
    eventually(
        lambda: (find(kind, child, namespace) or {"metadata": {"uid": uid}})["metadata"]["uid"] != uid, HALF_A_MINUTE
    )
    assert f"pricer-{revision_of(wait_ready(namespace))}" == child


@pytest.mark.parametrize(("kind", "name"), [("service", "pricer"), ("serviceaccount", "pricer-server")])
def test_a_deleted_child_of_the_object_itself_is_made_again(namespace: str, child: str, kind: str, name: str) -> None:
    delete(kind, name, namespace)
    eventually(lambda: find(kind, name, namespace), HALF_A_MINUTE)


VARIABLE = {"name": "X", "value": "1"}
ADDED = {"name": "miner", "image": "pinn-operator/operator:0.1.0"}
CONTAINERS = "/spec/template/spec/containers"


@pytest.mark.parametrize(
    ("kind", "name", "change", "right"),
    [
        pytest.param("deployment", "{child}", {"spec": {"replicas": 5}}, lambda o: o["spec"]["replicas"] == 2, id="replicas"),
        pytest.param(
            "deployment", "{child}", [{"op": "replace", "path": f"{CONTAINERS}/0/image", "value": "other:1"}],
            lambda o: o["spec"]["template"]["spec"]["containers"][0]["image"] == "pinn-operator/inference:0.1.0", id="image",
        ),
        pytest.param(
            "deployment", "{child}", [{"op": "add", "path": f"{CONTAINERS}/-", "value": ADDED}],
            lambda o: len(o["spec"]["template"]["spec"]["containers"]) == 1, id="a-container-added",
        ),
        pytest.param(
            "deployment", "{child}", [{"op": "add", "path": f"{CONTAINERS}/0/env/-", "value": VARIABLE}],
            lambda o: VARIABLE not in o["spec"]["template"]["spec"]["containers"][0]["env"], id="a-variable-added",
        ),
        pytest.param(
            "deployment", "{child}", {"metadata": {"labels": {"pinn.dev/deployment": None}}},
            lambda o: o["metadata"]["labels"].get("pinn.dev/deployment") == "pricer", id="label-stripped",
        ),
        pytest.param(
            "deployment", "{child}", {"metadata": {"ownerReferences": None}},
            lambda o: bool(o["metadata"].get("ownerReferences")), id="owner-stripped",
        ),
        pytest.param(
            "controllerrevision", "{child}", {"metadata": {"labels": {"pinn.dev/deployment": None, "pinn.dev/revision": None}}},
            lambda o: o["metadata"]["labels"].get("pinn.dev/deployment") == "pricer", id="record-stripped",
        ),
        pytest.param(
            "service", "pricer", {"spec": {"selector": {"pinn.dev/revision": "0000000000"}}},
            lambda o: o["spec"]["selector"]["pinn.dev/revision"] != "0000000000", id="selector-changed",
        ),
        pytest.param(
            "service", "pricer", {"spec": {"selector": {"stranger": "x"}}},
            lambda o: "stranger" not in o["spec"]["selector"], id="selector-narrowed",
        ),
        pytest.param(
            "poddisruptionbudget", "{child}", {"spec": {"maxUnavailable": 2}},
            lambda o: o["spec"]["maxUnavailable"] == 1, id="budget",
        ),
        pytest.param(
            "serviceaccount", "pricer-server", {"automountServiceAccountToken": True},
            lambda o: o["automountServiceAccountToken"] is False, id="token",
        ),
    ],
)  # fmt: skip
def test_an_edited_child_is_put_right(
    namespace: str, child: str, kind: str, name: str, change: Any, right: Callable[[Object], bool]
) -> None:
    name = name.format(child=child)
    patch(kind, name, namespace, change)
    eventually(lambda: right(get(kind, name, namespace)), HALF_A_MINUTE, why=lambda: get(kind, name, namespace))
    eventually(lambda: any(name in note for note in events(namespace, "ChildHealed")), 10)
    assert f"pricer-{revision_of(wait_ready(namespace))}" == child


def test_a_service_of_the_users_is_not_taken_over(namespace: str) -> None:
    theirs = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "pricer"},
        "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 80}]},
    }  # fmt: skip
    create(theirs, namespace)
    apply(pinn(), namespace)

    def refused() -> bool:
        ready = condition(read(namespace), "Ready")
        return ready is not None and ready["reason"] == "ChildRefused" and "Service/pricer" in ready["message"]

    eventually(refused, why=lambda: (read(namespace) or {}).get("status"))
    assert get("service", "pricer", namespace)["spec"]["selector"] == {"app": "theirs"}
    delete("service", "pricer", namespace)
    wait_ready(namespace)


def test_a_quota_on_pods_is_said_and_heals_when_it_is_raised(namespace: str) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    create(quota, namespace)
    eventually(lambda: "used" in get("resourcequota", "none", namespace).get("status", {}))
    apply(pinn(), namespace)
    _expect_trouble(namespace, "PodsRefused", "exceeded quota")
    delete("resourcequota", "none", namespace)
    wait_ready(namespace)


def test_a_quota_on_deployments_is_said_and_heals_when_it_is_raised(namespace: str) -> None:
    hard = {"count/deployments.apps": "0"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": hard}}
    create(quota, namespace)
    eventually(lambda: "used" in get("resourcequota", "none", namespace).get("status", {}))
    apply(pinn(), namespace)
    _expect_trouble(namespace, "ChildRefused", "exceeded quota")
    assert not items("controllerrevisions", namespace), "a revision was written down that cannot run"
    delete("resourcequota", "none", namespace)
    wait_ready(namespace)


def test_a_template_that_pod_security_refuses_is_said_and_heals_with_the_spec(namespace: str) -> None:
    server = {"name": "server", "securityContext": {"privileged": True, "allowPrivilegeEscalation": True}}
    apply(pinn(template={"spec": {"containers": [server]}}), namespace)
    _expect_trouble(namespace, "PodsRefused", "violates PodSecurity")
    patch("pinndeployment", "pricer", namespace, {"spec": {"template": None}})
    wait_ready(namespace)


def test_a_typo_in_the_template_is_refused_before_anything_is_made(namespace: str) -> None:
    apply(pinn(), namespace)
    first = revision_of(wait_ready(namespace))
    patch("pinndeployment", "pricer", namespace, {"spec": {"template": {"spec": {"nodeSelektor": {"a": "b"}}}}})
    _expect_trouble(namespace, "ChildRefused", "nodeSelektor")
    assert [c["metadata"]["name"] for c in items("controllerrevisions", namespace)] == [f"pricer-{first}"]
    assert holds(read(namespace), "Available")
    patch("pinndeployment", "pricer", namespace, {"spec": {"template": None}})
    assert revision_of(wait_ready(namespace)) == first


def test_a_template_is_laid_over_the_pod(namespace: str) -> None:
    server = {"name": "server", "env": [{"name": "PINN_SERVER_LOG_LEVEL", "value": "warning"}]}
    apply(pinn(template={"metadata": {"labels": {"team": "desk"}}, "spec": {"containers": [server]}}), namespace)
    wait_ready(namespace)
    (pod,) = running(namespace)
    assert pod["metadata"]["labels"]["team"] == "desk"
    names = {entry["name"] for entry in pod["spec"]["containers"][0]["env"]}
    assert {"PINN_SERVER_LOG_LEVEL", "PINN_SERVER_MODEL_NAME"} <= names


def test_an_image_that_cannot_be_pulled_is_said_and_heals_with_the_spec(namespace: str) -> None:
    apply(pinn(image="pinn-operator/no-such-image:1"), namespace)
    _expect_trouble(namespace, "PodsNotStarting", "image")
    patch("pinndeployment", "pricer", namespace, {"spec": {"image": None}})
    wait_ready(namespace)


def test_a_model_that_this_release_cannot_load_is_refused_with_the_field(namespace: str) -> None:
    model = {
        "name": "black-scholes",
        "version": "1.0.0",
        "uri": "oci://models.example/a",
        "digest": f"sha256:{'0' * 64}",
    }
    apply({**pinn(), "spec": {"model": model}}, namespace)

    def refused() -> bool:
        obj = read(namespace)
        said = condition(obj, "Stalled")
        return said is not None and said["reason"] == "NotSupported" and "spec.model.uri" in said["message"]

    eventually(refused, why=lambda: (read(namespace) or {}).get("status"))
    assert not items("deployments", namespace)


def test_a_missing_role_is_said_and_heals_when_it_is_back(namespace: str) -> None:
    role = get("clusterrole", "pinn-operator", "default")
    without = [r for r in role["rules"] if "poddisruptionbudgets" not in r["resources"]]
    reads = {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": ["get", "list", "watch"]}
    patch("clusterrole", "pinn-operator", "default", {"rules": [*without, reads]})
    try:
        apply(pinn(replicas=2), namespace)
        _expect_trouble(namespace, "ChildRefused", "poddisruptionbudgets")
    finally:
        patch("clusterrole", "pinn-operator", "default", {"rules": role["rules"]})
    wait_ready(namespace)
    assert find("poddisruptionbudget", f"pricer-{revision_of(read(namespace) or {})}", namespace)


def _expect_trouble(namespace: str, reason: str, fragment: str) -> None:
    """Within a minute: not Ready, for this reason, in words that name the cause, with an Event."""

    def said() -> bool:
        ready = condition(read(namespace), "Ready")
        return (
            ready is not None
            and (ready["status"], ready["reason"]) == ("False", reason)
            and fragment in ready["message"]
        )

    eventually(said, 60, why=lambda: (read(namespace) or {}).get("status"))
    eventually(lambda: events(namespace, reason), 10)


def test_kubectl_itself_refuses_a_typo_in_the_spec(namespace: str) -> None:
    with pytest.raises(KubectlError, match="replica"):
        kubectl("-n", namespace, "create", "-f", "-", stdin=str(pinn(replica=2)).replace("'", '"'))
