"""Everything that users are given to apply is what Kubernetes takes, in every release that we say we run on. Needs no cluster."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from pinn_operator.api import names
from pinn_operator.api.generate import crd

from tests.e2e.chart import CHART, MONITORING, helm
from tests.e2e.cluster.cache import Cache
from tests.e2e.kubectl import MANIFESTS
from tests.e2e.tools import build

pytestmark = pytest.mark.e2e

KUBERNETES = ["1.31.0", "1.32.0", "1.33.0", "1.34.0", "1.35.0", "1.36.0", "1.37.0"]
NOT_OURS = "PodMonitor,ServiceMonitor,PrometheusRule"
"""Kinds of other projects, whose schemas are not at hand."""


def sources() -> dict[str, str]:
    """What a user may apply, by where it comes from."""
    folders = {folder.parent for folder in MANIFESTS.rglob("kustomization.yaml")}
    found = {
        str(folder.relative_to(MANIFESTS)): subprocess.check_output(["kubectl", "kustomize", folder], text=True)
        for folder in sorted(folders)
        if yaml.safe_load((folder / "kustomization.yaml").read_text())["kind"] == "Kustomization"
    }
    found |= {file.name: file.read_text() for file in sorted((MANIFESTS / "samples").glob("*.yaml"))}
    found["the chart"] = helm("template", "pinn-operator", str(CHART), "--namespace", "pinn-system")
    options = ("--set", "namespaces={a,b}", "--set", "port=9090", *MONITORING)
    found["the chart with options"] = helm("template", "other", str(CHART), "--namespace", "other", *options)
    return found


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the schema of a PinnDeployment under the name by which kubeconform looks for it."""
    folder = tmp_path_factory.mktemp("schemas")
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    group = names.GROUP.partition(".")[0]
    (folder / f"{names.KIND.lower()}-{group}-{names.VERSION}.json").write_text(json.dumps(schema))
    return folder


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered")
    for name, text in sources().items():
        (folder / f"{name.replace('/', '-').strip('.') or 'manifests'}.yaml").write_text(text)
    return folder


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field_of_every_manifest(version: str, ours: Path, rendered: Path) -> None:
    theirs = build.schemas(Cache())
    places = [
        f"{theirs}/{{{{.NormalizedKubernetesVersion}}}}-local{{{{.StrictSuffix}}}}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
        f"{ours}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
    ]
    command = [str(build.programs(Cache()) / "kubeconform"), "-strict", "-summary", "-kubernetes-version", version]
    command += [option for place in places for option in ("-schema-location", place)]
    done = subprocess.run(
        [*command, "-skip", NOT_OURS, str(rendered)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Invalid: 0, Errors: 0" in done.stdout
