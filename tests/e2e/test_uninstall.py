"""`kubectl delete -k manifests/` with live objects ends within a minute and leaves nothing."""

from __future__ import annotations

import time

import pytest

from tests.e2e.kubectl import MANIFESTS, apply, eventually, items, kubectl, pinn, wait_ready

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("operator")]


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
