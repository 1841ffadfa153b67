"""A life with the chart: installed, upgraded from the one before, uninstalled with live objects, taken over from kustomize."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.chart import CHART, NAMESPACE, RELEASE, helm
from tests.e2e.kubectl import (
    MANIFESTS,
    ROOT,
    KubectlError,
    apply,
    eventually,
    find,
    get,
    items,
    kubectl,
    patch,
    pinn,
    read,
    revision_of,
    running,
    wait_ready,
)

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(900)]

SECONDS = 180.0
CRD = "pinndeployments.pinn.dev"


@pytest.fixture
def clean(_installed_once: None) -> Iterator[None]:
    """A cluster without an operator, and none left behind."""
    kubectl("delete", "-k", str(MANIFESTS), "--ignore-not-found", "--timeout=120s", limit=150)
    yield
    helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found")
    kubectl("delete", "-k", str(MANIFESTS), "--ignore-not-found", "--timeout=120s", limit=150)


def previous(folder: Path) -> Path:
    """The chart of the release before this one, as it was packaged; before there is one, this one under an older number."""
    recorded = sorted((ROOT / "tests/manifests/releases").glob("*/pinn-operator-*.tgz"))
    if recorded:
        return recorded[-1]
    helm("package", str(CHART), "--version", "0.0.1", "--destination", str(folder))
    return folder / "pinn-operator-0.0.1.tgz"


def install(chart: Path, *options: str) -> None:
    command = ["upgrade", "--install", RELEASE, str(chart), "--namespace", NAMESPACE, "--create-namespace"]
    helm(*command, *options)
    kubectl(
        "-n", NAMESPACE, "rollout", "status", f"deployment/{RELEASE}", f"--timeout={SECONDS:.0f}s", limit=SECONDS + 30
    )


def authority() -> list[str]:
    """What is left of the operator's account and roles."""
    cluster = kubectl("get", "clusterroles,clusterrolebindings", "-o", "name").split()
    try:
        own = kubectl("-n", NAMESPACE, "get", "serviceaccounts,deployments", "-o", "name").split()
    except KubectlError:
        own = []
    return [name for name in [*cluster, *own] if "pinn-operator" in name]


def servers(namespace: str) -> set[tuple[str, int]]:
    """Each server pod by its uid, with how often it was restarted."""
    return {
        (pod["metadata"]["uid"], sum(one["restartCount"] for one in pod["status"].get("containerStatuses", ())))
        for pod in running(namespace)
    }


@pytest.mark.usefixtures("clean")
def test_an_upgrade_restarts_no_server_and_an_uninstallation_ends_and_keeps_them(
    namespace: str, tmp_path: Path
) -> None:
    install(previous(tmp_path))
    apply(pinn(replicas=2), namespace)
    before = revision_of(wait_ready(namespace, seconds=SECONDS))
    old = servers(namespace)

    # Another setting, so that the operator's own pods are replaced for certain.
    install(CHART, "--set", "settings.passes=4")
    patch("pinndeployment", "pricer", namespace, {"spec": {"replicas": 3}})
    eventually(lambda: len(running(namespace)) == 3, SECONDS, why=lambda: read(namespace))
    assert revision_of(wait_ready(namespace, seconds=SECONDS)) == before
    assert old < servers(namespace), "a server was restarted"

    old = servers(namespace)
    helm("uninstall", RELEASE, "--namespace", NAMESPACE)
    eventually(lambda: not authority(), SECONDS, why=authority)
    assert "finalizers" not in get("pinndeployment", "pricer", namespace)["metadata"]
    assert servers(namespace) == old

    # Installed again, it takes the object up; this time the definition goes along, and with it the object and its servers.
    install(CHART, "--set", "crds.keep=false")
    eventually(lambda: "finalizers" in (read(namespace) or {})["metadata"], SECONDS, why=lambda: read(namespace))
    assert servers(namespace) == old
    helm("uninstall", RELEASE, "--namespace", NAMESPACE)
    eventually(lambda: not authority() and find("crd", CRD, "default") is None, SECONDS, why=authority)
    eventually(lambda: not items("pods,deployments,services", namespace, "pinn.dev/deployment"), SECONDS)


@pytest.mark.usefixtures("clean")
def test_what_kustomize_installed_is_taken_over_without_a_restart(namespace: str) -> None:
    kubectl("apply", "--server-side", "-k", str(MANIFESTS))
    kubectl(
        "-n", NAMESPACE, "rollout", "status", f"deployment/{RELEASE}", f"--timeout={SECONDS:.0f}s", limit=SECONDS + 30
    )
    apply(pinn(), namespace)
    wait_ready(namespace, seconds=SECONDS)
    old = servers(namespace)
    install(CHART, "--take-ownership", "--force-conflicts")
    wait_ready(namespace, seconds=SECONDS)
    assert servers(namespace) == old
    assert get("deployment", RELEASE, NAMESPACE)["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
