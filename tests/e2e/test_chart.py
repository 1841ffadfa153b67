"""The Helm chart sends what `kubectl apply -k` sends, field by field, and says no to nonsense. None of it needs a cluster;
what happens on one is in test_chart_on_a_cluster.py.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.chart import (
    CHART,
    KEEP,
    MONITORING,
    PARTS,
    HelmError,
    differences,
    helm,
    kustomize,
    template,
    without_helm,
)
from tests.e2e.kubectl import MANIFESTS

pytestmark = pytest.mark.e2e

NAMES = ("manifests/", "the chart")
WAYS = {"": (), "namespaced": ("--set", "namespaces={default}")}
NOT_IN_THE_CHART = {"Namespace/pinn-system"}
"""`helm install --create-namespace` makes it: a chart that held its own namespace would delete it with all that is in it."""


def compared(way: str, *options: str) -> list[str]:
    ours = {name: obj for name, obj in kustomize(MANIFESTS / way).items() if name not in NOT_IN_THE_CHART}
    charts = {name: without_helm(obj) for name, obj in template(*WAYS[way], *options).items()}
    return differences(ours, charts, NAMES)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way or "all namespaces")
def test_the_chart_installs_what_the_kustomization_installs(way: str) -> None:
    found = compared(way)
    assert not found, "change charts/pinn-operator/templates or manifests/:\n" + "\n".join(found)


def test_the_chart_watches_what_the_kit_watches() -> None:
    """Monitors, rules and dashboards; the headless Service beside them is all that the rest of the chart has more."""
    without, whole = template(), template(*MONITORING)
    charts = {name: without_helm(obj) for name, obj in whole.items() if name not in without}
    found = differences(kustomize(MANIFESTS / "monitoring"), charts, NAMES)
    assert not found, (
        "change charts/pinn-operator/templates/monitoring.yaml or manifests/components/monitoring:\n" + "\n".join(found)
    )


def test_the_runbooks_of_the_alerts_are_at_the_address_given() -> None:
    base = "https://git.example.com/pinn/blob/main/"
    found = template(*MONITORING, "--set", f"monitoring.prometheusRule.runbooks={base}")
    groups = found["PrometheusRule/pinn-system/pinn-operator"]["spec"]["groups"]
    pages = [rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"] if "alert" in rule]
    assert pages
    assert all(page.startswith(f"{base}docs/runbooks/PINN") for page in pages)


def test_a_difference_is_named_by_object_and_field() -> None:
    """The comparison itself: one field, one object more, one variable more."""
    changed = ("--set", "replicas=3", "--set", "settings.passes=4", "--set", "monitoring.podMonitor.enabled=true")
    assert [line for line in compared("", *changed) if line not in compared("")] == [
        "PodMonitor/pinn-system/pinn-operator-servers: only in the chart",
        "Deployment/pinn-system/pinn-operator: spec.replicas: 2 in manifests/, 3 in the chart",
        "Deployment/pinn-system/pinn-operator: spec.template.spec.containers.[operator].env.[PINN_OPERATOR_PASSES]: "
        "only in the chart: {'name': 'PINN_OPERATOR_PASSES', 'value': '4'}",
    ]


def test_the_chart_is_clean() -> None:
    helm("lint", "--strict", str(CHART))
    helm("lint", "--strict", str(CHART), "--set", "namespaces={desk-a,desk-b}")


NONSENSE = {
    "an unknown value": ("replicaCount=3", "replicaCount"),
    "an unknown setting": ("settings.resync=3", "resync"),
    "a log level that is none": ("settings.logLevel=loud", "/settings/logLevel"),
    "a word for a number": ("replicas=two", "/replicas"),
    "a port out of range": ("port=70000", "/port"),
    "a namespace that is no name": ("namespaces={Desk_A}", "/namespaces/0"),
    "a digest that is none": ("image.digest=latest", "/image/digest"),
    "a tag with a colon": ("serverImage.tag=a:b", "/serverImage/tag"),
    "a lease too short": ("settings.leaseSeconds=1", "/settings/leaseSeconds"),
    "a switch that is no boolean": ("crds.keep=perhaps", "/crds/keep"),
    "an address without a slash at its end": (
        "monitoring.prometheusRule.runbooks=https://x",
        "/prometheusRule/runbooks",
    ),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_is_refused_with_the_value_named(what: str) -> None:
    value, named = NONSENSE[what]
    with pytest.raises(HelmError) as refused:
        template("--set", value)
    assert named in str(refused.value)


def operator_of(*options: str) -> dict[str, Any]:
    found = template(*options)
    (deployment,) = [obj for name, obj in found.items() if name.startswith("Deployment/")]
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


def environment(*options: str) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in operator_of(*options)["containers"][0]["env"]}


def test_images_are_taken_by_digest_before_tag_and_by_tag_before_the_release() -> None:
    digest = "sha256:" + "a" * 64
    mirror = ("--set", "image.repository=registry.example/o", "--set", "serverImage.repository=registry.example/s")
    assert operator_of(*mirror)["containers"][0]["image"] == "registry.example/o:0.1.0"
    assert environment(*mirror)["PINN_OPERATOR_SERVER_IMAGE"] == "registry.example/s:0.1.0"
    pinned = (*mirror, "--set", f"image.digest={digest},serverImage.digest={digest}", "--set-string", "image.tag=1")
    assert operator_of(*pinned)["containers"][0]["image"] == f"registry.example/o@{digest}"
    assert environment(*pinned)["PINN_OPERATOR_SERVER_IMAGE"] == f"registry.example/s@{digest}"


def test_settings_become_the_operators_environment() -> None:
    options = ("--set", "settings.resyncSeconds=60,settings.logLevel=debug", "--set", "port=9090")
    told = environment(*options)
    said = {"PINN_OPERATOR_RESYNC_SECONDS": "60", "PINN_OPERATOR_LOG_LEVEL": "debug", "PINN_OPERATOR_PORT": "9090"}
    assert said.items() <= told.items()


def test_another_release_name_is_the_name_of_all_that_the_operator_must_find_again() -> None:
    """Lease, account and roles: it looks for them under PINN_OPERATOR_NAME, and its roles name what it may touch."""
    text = helm("template", "desk", str(CHART), "--namespace", "desk-system")
    found = [document for document in yaml.safe_load_all(text) if document]
    named = {obj["metadata"]["name"] for obj in found} - {"pinndeployments.pinn.dev"}
    of_people = {"desk-pinn-operator-view", "desk-pinn-operator-edit"}
    assert named == {"desk-pinn-operator", "desk-pinn-operator-discovery"} | of_people
    names = {name for obj in found for rule in obj.get("rules", ()) for name in rule.get("resourceNames", ())}
    assert names == {"desk-pinn-operator"}
    (deployment,) = [obj for obj in found if obj["kind"] == "Deployment"]
    env = {one["name"]: one.get("value") for one in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["PINN_OPERATOR_NAME"] == "desk-pinn-operator"


def test_the_roles_for_people_can_be_left_out() -> None:
    assert template().keys() - template("--set", "userRoles=false").keys() == {
        "ClusterRole/pinn-operator-view",
        "ClusterRole/pinn-operator-edit",
    }


@pytest.mark.parametrize("enabled", [True, False])
def test_it_may_be_a_part_of_another_chart_on_a_condition(tmp_path: Path, enabled: bool) -> None:
    """Helm hands the condition's value, and what is global, on to the part, whose schema has to know both."""
    part = {"name": "pinn-operator", "version": "0.1.0", "condition": "pinn-operator.enabled"}
    about = {"apiVersion": "v2", "name": "umbrella", "version": "1.0.0", "dependencies": [part]}
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(about))
    values = {"global": {"registry": "registry.example"}, "pinn-operator": {"enabled": enabled, "replicas": 1}}
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    shutil.copytree(CHART, tmp_path / "charts/pinn-operator")
    assert ("Deployment/pinn-system/pinn-operator" in template(chart=tmp_path)) is enabled


def test_the_operator_may_live_in_a_namespace_that_it_serves() -> None:
    text = helm("template", "pinn-operator", str(CHART), "--namespace", "desk-a", "--set", "namespaces={desk-a,desk-b}")
    bindings = [obj for obj in yaml.safe_load_all(text) if obj and obj["kind"] == "RoleBinding"]
    where = sorted((obj["metadata"]["namespace"], obj["metadata"]["name"]) for obj in bindings)
    ours, lease = "pinn-operator-objects", "pinn-operator"
    assert where == [("desk-a", lease), ("desk-a", ours), ("desk-b", ours)]


def test_the_definition_is_upgraded_with_the_chart_and_kept_when_it_goes() -> None:
    name = "CustomResourceDefinition/pinndeployments.pinn.dev"
    assert template()[name]["metadata"]["annotations"] == {KEEP: "keep"}
    assert "annotations" not in template("--set", "crds.keep=false")[name]["metadata"]
    assert name not in template("--set", "crds.enabled=false")


def test_the_notes_say_what_uninstalling_takes_along() -> None:
    def notes(*options: str) -> str:
        return helm("install", "pinn-operator", str(CHART), "-n", "pinn-system", "--dry-run=client", *options)

    assert "leaves the definition, every PinnDeployment and its servers" in notes()
    assert "EVERY PinnDeployment and its servers in all namespaces" in notes("--set", "crds.keep=false")
    assert "serves the namespaces desk-a, desk-b" in notes("--set", "namespaces={desk-a,desk-b}")


def test_everything_at_once_is_well_formed(tmp_path: Path) -> None:
    """Each optional part of the templates, so that none is rendered for the first time at a user's."""
    values = {
        "image": {"pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "registry"}],
        "namespaces": ["desk-a"],
        "settings": {"resyncSeconds": 60, "passes": 4, "leaseSeconds": 15, "logLevel": "debug", "logFormat": "console"},
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"}],
        "podDisruptionBudget": {"maxUnavailable": "50%"},
        "monitoring": {part: {"enabled": True, "labels": {"release": "kube-prometheus-stack"}} for part in PARTS},
        "annotations": {"a": "b"},
        "podAnnotations": {"c": "d"},
        "podLabels": {"e": "f"},
        "serviceAccount": {"annotations": {"g": "h"}},
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "control-plane", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [],
        "fullnameOverride": "physics",
    }
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    found = template("--values", str(file))
    pod = found["Deployment/pinn-system/physics"]["spec"]["template"]["spec"]
    for field in ("imagePullSecrets", "nodeSelector", "tolerations", "affinity", "priorityClassName"):
        assert pod[field] == values[field]
    assert "topologySpreadConstraints" not in pod
    assert {"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"} in pod["containers"][0]["env"]
    watching = ("ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap")
    labelled = [obj for obj in found.values() if obj["kind"] in watching]
    assert len(labelled) == len(PARTS)
    assert {obj["metadata"]["labels"]["release"] for obj in labelled} == {"kube-prometheus-stack"}
    assert found["PodMonitor/pinn-system/physics-servers"]["spec"]["namespaceSelector"] == {"matchNames": ["desk-a"]}
    assert found["PodDisruptionBudget/pinn-system/physics"]["spec"]["maxUnavailable"] == "50%"
