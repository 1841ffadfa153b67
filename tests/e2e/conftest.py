"""The operator installed as a user installs it, and a namespace of its own for every test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.e2e.gateway.install import Gateway
from tests.e2e.gateway.install import install as install_gateway
from tests.e2e.kubectl import MANIFESTS, SYSTEM, apply, eventually, items, kubectl
from tests.e2e.prometheus.install import Prometheus
from tests.e2e.prometheus.install import install as install_prometheus


@pytest.fixture(scope="session")
def _installed_once() -> Iterator[None]:
    yield
    kubectl("delete", "-k", str(MANIFESTS), "--ignore-not-found", "--timeout=90s")


@pytest.fixture(scope="module")
def operator(_installed_once: None) -> None:
    """The operator of this checkout, running with its two replicas; a module that took it away is followed by a new one."""
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(MANIFESTS))
    kubectl("-n", SYSTEM, "rollout", "status", "deployment/pinn-operator", "--timeout=120s")


@pytest.fixture
def no_operator(operator: None) -> Iterator[None]:
    """The roles of an installation, without a running operator: the test's own passes take its place."""
    kubectl("-n", SYSTEM, "scale", "deployment/pinn-operator", "--replicas=0")
    eventually(lambda: not items("pods", SYSTEM, "app.kubernetes.io/name=pinn-operator"))
    yield
    kubectl("-n", SYSTEM, "scale", "deployment/pinn-operator", "--replicas=2")
    kubectl("-n", SYSTEM, "rollout", "status", "deployment/pinn-operator", "--timeout=120s")


@pytest.fixture
def namespace() -> Iterator[str]:
    """Empty, with Pod Security `restricted` enforced, and gone afterwards."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}, "default")
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def gateway() -> Gateway:
    """A gateway that takes routes from every namespace. It stays, as Prometheus does: they belong to the cluster."""
    return install_gateway()


@pytest.fixture(scope="session")
def prometheus() -> Prometheus:
    """Prometheus, asking every server pod each two seconds."""
    return install_prometheus()
