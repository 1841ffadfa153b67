"""The monitoring kit on a cluster: an API server with the Prometheus operator's definitions takes it, and a Prometheus that is
configured by its files reads both programs and evaluates every rule."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.monitoring import rules
from tests.e2e.cluster.cache import Cache
from tests.e2e.kubectl import (
    MANIFESTS,
    ROOT,
    SYSTEM,
    apply,
    eventually,
    find,
    get,
    items,
    kubectl,
    pinn,
    running,
    wait_ready,
)
from tests.e2e.prometheus.build import crds
from tests.e2e.prometheus.install import Prometheus

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("operator")]

KIT = str(MANIFESTS / "monitoring")
RUNBOOKS = sorted((ROOT / "docs/runbooks").glob("PINN*.md"))
NO_COMPLAINT = ("Metrics API not available", "No resources found")
"""What is said of a cluster without metrics-server, and where there is nothing to list."""


@pytest.fixture
def kit() -> Iterator[None]:
    """Installed as a user does; every field is one that the definitions know. Those stay: a cluster may have had them before."""
    if find("crd", "podmonitors.monitoring.coreos.com", SYSTEM) is None:
        definitions = str(crds(Cache()))
        kubectl("apply", "--server-side", "-f", definitions)
        kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", definitions)
    kubectl("apply", "--server-side", "--force-conflicts", "--validate=strict", "-k", KIT)
    yield
    kubectl("delete", "-k", KIT, "--ignore-not-found", "--timeout=60s")


@pytest.mark.usefixtures("kit")
def test_the_kit_is_taken_as_it_is_and_its_selectors_find_what_they_are_to_find() -> None:
    kinds = "servicemonitors,podmonitors,prometheusrules"
    assert len(json.loads(kubectl("-n", SYSTEM, "get", kinds, "-o", "json"))["items"]) == 3
    boards = get("configmap", "pinn-operator-dashboards", SYSTEM)
    assert boards["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert {json.loads(text)["uid"] for text in boards["data"].values()} == {"pinn-server", "pinn-operator"}

    def addresses() -> int:
        slices = items("endpointslices", SYSTEM, "kubernetes.io/service-name=pinn-operator-metrics")
        return sum(len(one["endpoints"] or ()) for one in slices)

    eventually(lambda: addresses() >= 2, 120)
    monitor = get("servicemonitor", "pinn-operator", SYSTEM)["spec"]
    service = get("service", "pinn-operator-metrics", SYSTEM)
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert {one["port"] for one in monitor["endpoints"]} <= {one["name"] for one in service["spec"]["ports"]}


def test_prometheus_reads_both_programs_and_evaluates_every_rule(namespace: str, prometheus: Prometheus) -> None:
    apply(pinn(), namespace)
    revision = wait_ready(namespace)["status"]["stable"]["revision"]
    of = f'namespace="{namespace}",pinndeployment="pricer"'

    def found(expression: str) -> list[Any]:
        return eventually(
            lambda: prometheus.query(expression), 120, why=lambda: prometheus.asked("targets")["activeTargets"]
        )

    (server,) = found(f'pinn_model_info{{job="pinn-server",{of}}}')
    assert server["metric"]["revision"] == revision
    assert server["metric"]["pod"].startswith("pricer-")
    assert found(f'pinn_operator_object_condition{{job="pinn-operator",condition="Ready",{of}}} == 1')
    assert found('up{job="pinn-operator"} == 1')

    def states() -> list[tuple[str, str, str]]:
        groups = prometheus.asked("rules")["groups"]
        return [
            (rule["name"], rule["health"], rule.get("lastError", "")) for group in groups for rule in group["rules"]
        ]

    def evaluated() -> bool:
        return all(health != "unknown" for _, health, _ in states())

    eventually(evaluated, 120, why=states)
    assert len(states()) == sum(len(group["rules"]) for group in rules())
    assert [state for state in states() if state[1] != "ok"] == []


@pytest.mark.full
@pytest.mark.usefixtures("kit")
def test_the_first_look_of_every_runbook_can_be_typed_as_it_stands(namespace: str) -> None:
    apply(pinn(), namespace)
    revision = wait_ready(namespace)["status"]["stable"]["revision"]
    (pod,) = running(namespace)
    names = {"NS": namespace, "NAME": "pricer", "POD": pod["metadata"]["name"], "REVISION": revision}
    complaints = {page.stem: complaint for page in RUNBOOKS if (complaint := typed(first_look(page), names))}
    assert complaints == {}


def first_look(page: Path) -> str:
    """The commands of that part, without their prompts and without the lines that give the names their example values."""
    part = page.read_text().partition("## First look")[2].partition("## Causes")[0]
    block = part.partition("```console\n")[2].partition("```")[0]
    lines = [line.removeprefix("$ ") for line in block.splitlines()]
    return "\n".join(line for line in lines if not line.startswith(("NS=", "POD=")))


def typed(commands: str, names: dict[str, str]) -> str:
    """What a shell has to complain about; names that stand there in capitals are a person's to fill in."""
    filled = re.sub(r"(?<![$A-Z])\b(POD|REVISION)\b", lambda found: names[found[0]], commands)
    done = subprocess.run(["bash", "-c", filled], env=os.environ | names, capture_output=True, text=True, timeout=120)
    said = done.stderr.splitlines()
    return "\n".join(line for line in said if not any(one in line for one in NO_COMPLAINT))
