"""The operator's roles hold what it uses and nothing else. Its passes run here under those very roles."""

from __future__ import annotations

import json

import pytest
from kubernetes.aio import client as k8s
from pinn_operator.api.observed import Key
from pinn_operator.kube import HTTP_ROUTE, PINN_DEPLOYMENT, POD, WRITTEN
from pinn_operator.lease import Lease, Terms
from pinn_operator.uninstall import Installed, give_up_authority, hold_authority

from tests.e2e.gateway.install import Gateway
from tests.e2e.inprocess import COLD, RecordingKube, as_operator, one_pass, settle
from tests.e2e.kubectl import SYSTEM, KubectlError, apply, delete, eventually, get, items, kubectl, patch, pinn, read

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("no_operator")]

Used = set[tuple[str, str, str]]

WATCHED: Used = {
    (verb, kind.group, kind.plural)
    for kind in (PINN_DEPLOYMENT, *WRITTEN, POD, HTTP_ROUTE)
    for verb in ("list", "watch")
} | {(verb, "apiextensions.k8s.io", "customresourcedefinitions") for verb in ("list", "watch")}
"""What kopf asks for, by itself; test_the_operator_logs_no_forbidden sees that it is enough."""

KEPT = {
    ("list", "", "namespaces"): "kopf asks for them where PINN_OPERATOR_NAMESPACES names some",
    ("watch", "", "namespaces"): "kopf asks for them where PINN_OPERATOR_NAMESPACES names some",
    ("list", "events.k8s.io", "events"): "read only of a pod that waits for its volumes, see observe/mounts.py",
    ("get", "", "pods/log"): "sent past the recorder, see Kube.logs",
    ("patch", "rbac.authorization.k8s.io", "clusterroles"): "sent past the recorder, see Kube.patch_once_allowed",
    (
        "patch",
        "rbac.authorization.k8s.io",
        "clusterrolebindings",
    ): "sent past the recorder, see Kube.patch_once_allowed",
}
"""Rules that the run below need not use, each with the reason why it is there."""


def granted() -> Used:
    roles = [get("clusterrole", name, "default") for name in ("pinn-operator", "pinn-operator-discovery")]
    roles.append(get("role", "pinn-operator", SYSTEM))
    return {
        (verb, group, resource)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


async def autoscale(kube: RecordingKube, key: Key, namespace: str) -> None:
    """An autoscaler comes, is disturbed, and goes. It has no reason to change the two servers: nothing is to be waited for."""
    for scaling in ({"minReplicas": 2, "maxReplicas": 3}, None):
        patch("pinndeployment", "pricer", namespace, {"spec": {"autoscaling": scaling}})
        await settle(kube, key, "1.0.0")
        if scaling:
            await disturb(kube, key, namespace, "horizontalpodautoscaler")


async def share_traffic(kube: RecordingKube, key: Key, namespace: str, gateway: Gateway) -> None:
    """There and back by a share without a gateway, then a route that comes and goes."""
    steps = [{"weight": 50, "hold": "0s"}, {"weight": 100, "hold": "0s"}]
    for version in ("2.0.0", "1.0.0"):
        change = {"model": {"version": version}, "rollout": {"steps": steps}}
        patch("pinndeployment", "pricer", namespace, {"spec": change})
        await settle(kube, key, version)
    for traffic in ({"gateway": {"parentRefs": [gateway.parent()]}}, None):
        patch("pinndeployment", "pricer", namespace, {"spec": {"traffic": traffic}})
        await settle(kube, key, "1.0.0")


async def use_everything(api: k8s.ApiClient, namespace: str, gateway: Gateway) -> Used:
    """One life of an object with everything that can happen to it, and what the program does beside."""
    kube, key = RecordingKube(api), Key(namespace, "pricer")
    installed = Installed("pinn-operator", SYSTEM)
    apply(pinn(replicas=2, cache=COLD), namespace)
    await hold_authority(kube, installed)
    await settle(kube, key, "1.0.0")
    for kind in ("deployment", "service", "serviceaccount", "poddisruptionbudget", "controllerrevision"):
        await disturb(kube, key, namespace, kind)
    await autoscale(kube, key, namespace)
    await share_traffic(kube, key, namespace, gateway)
    for number in range(11):  # more versions than are kept, so that a record is deleted
        patch("pinndeployment", "pricer", namespace, {"spec": {"limits": {"queue": number}, "replicas": 0}})
        await settle(kube, key, "1.0.0")
    delete("pinndeployment", "pricer", namespace)
    while await one_pass(kube, key) is not None:
        pass
    await give_up_authority(kube, installed)
    lease = Lease(kube, Terms("pinn-operator", SYSTEM, "test", 15))
    delete("lease", "pinn-operator", SYSTEM)
    await lease.acquire()
    await lease.release()
    return set(kube.requests)


async def disturb(kube: RecordingKube, key: Key, namespace: str, kind: str) -> None:
    """A label taken away, a field added and a deletion: found by name, replaced, made again."""
    (child, *_) = [c["metadata"]["name"] for c in items(f"{kind}s", namespace, "pinn.dev/deployment")]
    patch(kind, child, namespace, {"metadata": {"labels": {"pinn.dev/deployment": None}}})
    await settle(kube, key, "1.0.0")
    if kind == "deployment":
        patch(kind, child, namespace, {"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}})
    if kind == "service":
        patch(kind, child, namespace, {"spec": {"selector": {"a": "b"}}})
    if kind == "poddisruptionbudget":
        patch(kind, child, namespace, {"spec": {"selector": {"matchLabels": {"a": "b"}}}})
    await settle(kube, key, "1.0.0")
    delete(kind, child, namespace)
    await settle(kube, key, "1.0.0")


async def test_every_rule_is_used_or_says_why_it_is_kept(namespace: str, gateway: Gateway) -> None:
    async with as_operator() as api:
        used = await use_everything(api, namespace, gateway) | WATCHED
    roles = granted()
    assert used <= roles, f"used and not granted: {used - roles}"
    assert roles - used <= set(KEPT), f"granted and not used: {roles - used - set(KEPT)}"
    assert set(KEPT) <= roles, f"explained and not granted: {set(KEPT) - roles}"


def test_the_operator_logs_no_forbidden(namespace: str) -> None:
    kubectl("-n", SYSTEM, "scale", "deployment/pinn-operator", "--replicas=2")
    kubectl("-n", SYSTEM, "rollout", "status", "deployment/pinn-operator", "--timeout=120s")
    apply(pinn(replicas=2), namespace)
    eventually(lambda: (read(namespace) or {}).get("status", {}).get("readyReplicas") == 2)
    patch("pinndeployment", "pricer", namespace, {"spec": {"model": {"version": "2.0.0"}}})
    eventually(lambda: (read(namespace) or {})["status"]["stable"]["modelVersion"] == "2.0.0")
    kubectl("-n", namespace, "delete", "pinndeployment", "pricer", "--timeout=60s")
    logs = kubectl("-n", SYSTEM, "logs", "deployment/pinn-operator", "--all-pods", "--prefix")
    lines = [line for line in logs.splitlines() if "orbidden" in line or '"level": "error"' in line]
    assert not lines, lines
    assert json.loads(kubectl("-n", SYSTEM, "get", "lease", "pinn-operator", "-o", "json"))["spec"]["holderIdentity"]


READ = {"get pinndeployments", "list pinndeployments", "watch pinndeployments", "get pinndeployments/status"}
WRITE = {f"{verb} pinndeployments" for verb in ("create", "update", "patch", "delete")} | {
    "patch pinndeployments/scale"
}
NEVER = {"patch pinndeployments/status", "update pinndeployments/finalizers"}


def may(role: str, namespace: str) -> set[str]:
    """What somebody with one of Kubernetes' own roles in a namespace may do with PinnDeployments there."""

    def allowed(asked: str) -> bool:
        verb, resource = asked.split()
        kind, _, sub = resource.partition("/")
        command = ["auth", "can-i", verb, f"{kind}.pinn.dev", f"--as=system:serviceaccount:{namespace}:{role}"]
        try:
            return kubectl("-n", namespace, *command, *([f"--subresource={sub}"] if sub else [])).strip() == "yes"
        except KubectlError:
            return False

    return {asked for asked in READ | WRITE | NEVER if allowed(asked)}


def test_who_may_read_or_write_in_a_namespace_may_do_so_with_its_pinndeployments(namespace: str) -> None:
    for role in ("view", "edit", "admin", "nobody"):
        kubectl("-n", namespace, "create", "serviceaccount", role)
        if role != "nobody":
            whom = f"--serviceaccount={namespace}:{role}"
            kubectl("-n", namespace, "create", "rolebinding", role, f"--clusterrole={role}", whom)
    eventually(
        lambda: may("admin", namespace) == READ | WRITE
    )  # Kubernetes puts its roles together in a moment of its own
    assert may("edit", namespace) == READ | WRITE
    assert may("view", namespace) == READ
    assert may("nobody", namespace) == set()


def test_who_may_edit_a_namespace_applies_scales_and_promotes_as_itself(namespace: str) -> None:
    kubectl("-n", namespace, "create", "serviceaccount", "engineer")
    kubectl(
        "-n",
        namespace,
        "create",
        "rolebinding",
        "engineer",
        "--clusterrole=edit",
        f"--serviceaccount={namespace}:engineer",
    )
    as_engineer = ("-n", namespace, f"--as=system:serviceaccount:{namespace}:engineer")
    eventually(lambda: "create pinndeployments" in may("engineer", namespace))
    kubectl(*as_engineer, "apply", "--server-side", "-f", "-", stdin=json.dumps(pinn(replicas=0)))
    kubectl(*as_engineer, "scale", "pinndeployment", "pricer", "--replicas=2")
    kubectl(*as_engineer, "annotate", "pinndeployment", "pricer", "pinn.dev/promote=true")
    found = read(namespace)
    assert found is not None
    assert found["spec"]["replicas"] == 2
    with pytest.raises(KubectlError, match="orbidden"):
        kubectl(*as_engineer, "patch", "pinndeployment", "pricer", "--subresource=status", "--type=merge", "-p", "{}")
    kubectl(*as_engineer, "delete", "pinndeployment", "pricer", "--wait=false")
