"""What GitOps tools need of us: a status that they read rightly, and that what was applied compares equal for ever."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.e2e.cluster.cache import Cache
from tests.e2e.kubectl import ROOT, Object, eventually, holds, kubectl, pinn, read, wait_ready
from tests.e2e.tools import build

pytestmark = pytest.mark.e2e

STATES = json.loads((ROOT / "operator/tests/gitops/states.json").read_text())
"""Every state that the operator can report; operator/tests/gitops makes it by the operator's own code."""


def kstatus(objects: list[Object]) -> list[Object]:
    """What Flux and `helm --wait` make of them."""
    program = build.programs(Cache()) / "kstatus"
    done = subprocess.run([program], input=json.dumps(objects), capture_output=True, text=True, check=True, timeout=60)
    return list(json.loads(done.stdout))


def test_flux_reads_every_state_as_the_documents_say() -> None:
    verdicts = kstatus([state["object"] for state in STATES.values()])
    found = {name: verdict["status"] for name, verdict in zip(STATES, verdicts, strict=True)}
    assert found == {name: state["kstatus"] for name, state in STATES.items()}


def difference(file: Path, namespace: str, *options: str) -> str:
    """What `kubectl diff` shows: the live object against what it would be after an apply."""
    command = ["kubectl", "-n", namespace, "diff", *options, "-f", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


@pytest.mark.full
@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("how", [[], ["--server-side"]], ids=["client-side", "server-side"])
def test_what_was_applied_compares_equal_after_a_promotion_and_after_a_rollback(
    namespace: str, tmp_path: Path, how: list[str]
) -> None:
    file = tmp_path / "pricer.yaml"

    def applied(manifest: Object) -> None:
        file.write_text(yaml.safe_dump(manifest))
        kubectl("-n", namespace, "apply", *how, "-f", str(file))

    applied(pinn())
    wait_ready(namespace, seconds=180)
    assert not difference(file, namespace, *how)
    applied(pinn(version="2.0.0"))
    wait_ready(namespace, version="2.0.0", seconds=180)
    assert not difference(file, namespace, *how)
    applied(pinn(version="2.0.0", image="pinn-operator/no-such-image:1", rollout={"progressDeadline": "10s"}))
    eventually(lambda: holds(read(namespace), "Stalled", "RolledBack"), 240, why=lambda: read(namespace))
    assert not difference(file, namespace, *how)
