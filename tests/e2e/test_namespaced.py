"""An operator for named namespaces serves those and needs no right in any other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.kubectl import MANIFESTS, SYSTEM, apply, delete, eventually, kubectl, pinn, read, wait_ready

pytestmark = pytest.mark.e2e

SERVED = "default"


@pytest.fixture
def namespaced(_installed_once: None) -> Iterator[None]:
    kubectl("delete", "-k", str(MANIFESTS), "--ignore-not-found", "--timeout=90s")
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(MANIFESTS / "namespaced"))
    kubectl("-n", SYSTEM, "rollout", "status", "deployment/pinn-operator", "--timeout=120s")
    yield
    delete("pinndeployment", "pricer", SERVED, wait=True)
    kubectl("delete", "-k", str(MANIFESTS / "namespaced"), "--timeout=90s")


@pytest.mark.usefixtures("namespaced")
def test_only_the_named_namespace_is_served(namespace: str) -> None:
    apply(pinn(), namespace)
    apply(pinn(), SERVED)
    assert "finalizers" not in wait_ready(SERVED)["metadata"], "a namespace that is deleted would wait for it in vain"
    kubectl("-n", SERVED, "patch", "pinn", "pricer", "--type=merge", "-p", '{"spec":{"model":{"version":"2.0.0"}}}')
    wait_ready(SERVED, version="2.0.0")
    assert "conditions" not in (read(namespace) or {}).get("status", {})
    logs = kubectl("-n", SYSTEM, "logs", "deployment/pinn-operator", "--all-pods")
    assert not [line for line in logs.splitlines() if "orbidden" in line]
    delete("pinndeployment", "pricer", SERVED)
    eventually(lambda: read(SERVED) is None)
    delete("pinndeployment", "pricer", namespace)
