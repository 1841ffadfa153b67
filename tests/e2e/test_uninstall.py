"""`kubectl delete -k manifests/` with live objects ends within a minute and leaves nothing."""

from __future__ import annotations

import time

import pytest

from tests.e2e.kubectl import MANIFESTS, SYSTEM, apply, eventually, items, kubectl, pinn, wait_ready

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("operator")]

LABEL = "app.kubernetes.io/name=pinn-operator"


def say_not_ready() -> list[str]:
    """The replicas that run and log so."""
    pods = [pod for pod in items("pods", SYSTEM, LABEL) if "deletionTimestamp" not in pod["metadata"]]
    begun = [
        pod for pod in pods if any("running" in one["state"] for one in pod["status"].get("containerStatuses", ()))
    ]
    names = [pod["metadata"]["name"] for pod in begun]
    return [name for name in names if '"not_ready"' in kubectl("-n", SYSTEM, "logs", name)]


def test_an_operator_without_its_roles_is_not_taken_for_a_working_one() -> None:
    """As after an installation that came before the uninstallation was over: what is being deleted does not stay."""
    kubectl("delete", "clusterrolebinding", "pinn-operator")
    kubectl("-n", SYSTEM, "delete", "pods", "-l", LABEL)
    eventually(lambda: len(say_not_ready()) == 2)
    ready = [
        one for pod in items("pods", SYSTEM, LABEL) for one in pod["status"]["conditions"] if one["type"] == "Ready"
    ]
    assert [one["status"] for one in ready] == ["False", "False"]
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(MANIFESTS))
    kubectl("-n", SYSTEM, "rollout", "status", "deployment/pinn-operator", "--timeout=60s")


def test_uninstalling_with_live_objects_ends_and_leaves_nothing(namespace: str) -> None:
    apply(pinn("one", replicas=2), namespace)
    apply(pinn("two"), namespace)
    wait_ready(namespace, "one")
    wait_ready(namespace, "two")
    roles = kubectl("get", "clusterrole,clusterrolebinding", "-o", "name").split()
    began = time.monotonic()
    kubectl("delete", "-k", str(MANIFESTS), "--timeout=60s", limit=90)
    print(f"uninstalled in {time.monotonic() - began:.1f} s")
    eventually(lambda: not items("deployments,services,serviceaccounts,pods", namespace, "pinn.dev/deployment"), 60)
    left = kubectl("get", "clusterrole,clusterrolebinding,crd,namespace", "-o", "name").split()
    assert not [name for name in left if "pinn-operator" in name or "pinndeployments" in name or "pinn-system" in name]
    assert any("pinn-operator" in name for name in roles)


def test_an_installation_that_never_ran_can_be_taken_away(namespace: str) -> None:
    """The guard on the roles must not exist before there is an object: this one cannot even pull its image."""
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(MANIFESTS))
    kubectl("-n", "pinn-system", "set", "image", "deployment/pinn-operator", "operator=pinn-operator/no-such-image:1")
    kubectl("delete", "-k", str(MANIFESTS), "--timeout=60s", limit=90)
