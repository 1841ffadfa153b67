"""`kubectl pinn` as a person uses it during a rollout: looking on, saying what to do, reading what was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.kubectl import apply, eventually, patch, pinn, read, wait_ready

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.usefixtures("operator"), pytest.mark.timeout(900)]

LONG_BAKE = {"steps": [{"weight": 100, "hold": "2h"}]}
"""A step that nothing leaves but a person."""
SECONDS = 180.0


@dataclass(frozen=True)
class Plugin:
    """The command, in one namespace."""

    namespace: str

    def run(self, *arguments: str, code: int | None = 0) -> str:
        """What it printed; it must end with this code, whatever None."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        command = ["kubectl", "pinn", *arguments, "-n", self.namespace]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=2 * SECONDS, check=False, env={**os.environ, "PATH": path}
        )
        assert code is None or done.returncode == code, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.run("status", "pricer", "-o", "json")))

    def until_baking(self) -> None:
        """Wait until the new version has all of the traffic and its step has begun."""

        def baking() -> bool:
            found = self.status()
            return found["step"] == "1/1" and bool(found["step_started_at"])

        eventually(baking, SECONDS, why=self.status)

    def until_explained(self, text: str) -> str:
        """Wait until `explain` says so; all that it says."""

        def said() -> str | None:
            found = self.run("explain", "pricer")
            return found if text in found else None

        return eventually(said, SECONDS, why=lambda: self.run("explain", "pricer"))


@pytest.fixture
def plugin(namespace: str) -> Plugin:
    apply(pinn("pricer", "1.0.0", rollout=LONG_BAKE), namespace)
    wait_ready(namespace, seconds=SECONDS)
    return Plugin(namespace)


def test_a_person_gives_a_rollout_up_and_reads_why(plugin: Plugin) -> None:
    patch("pinndeployment", "pricer", plugin.namespace, {"spec": {"model": {"version": "2.0.0"}}})
    eventually(lambda: any(arm["role"] == "canary" for arm in plugin.status()["arms"]), SECONDS, why=plugin.status)
    assert "2.0.0" in plugin.run("status", "pricer")
    plugin.run("abort", "pricer", "--timeout", f"{SECONDS:.0f}")
    assert "kubectl pinn undo pricer" in plugin.until_explained("Stalled: RolledBack")
    assert "Rolled back" in plugin.run("report", "pricer")
    plugin.run("report", "pricer", "latest", "--verify")


def test_a_person_pauses_goes_on_promotes_and_undoes(plugin: Plugin, tmp_path: Path) -> None:
    patch("pinndeployment", "pricer", plugin.namespace, {"spec": {"model": {"version": "2.0.0"}}})
    plugin.until_baking()
    plugin.run("pause", "pricer")
    assert "kubectl pinn resume pricer" in plugin.until_explained("not Progressing: Paused")
    plugin.run("resume", "pricer")
    plugin.until_explained("on its way: step 1/1")
    plugin.run("promote", "pricer", "--timeout", f"{SECONDS:.0f}")
    wait_ready(plugin.namespace, version="2.0.0", seconds=SECONDS)
    plugin.run("report", "pricer", "2.0.0", "--verify")
    for file in plugin.run("report", "pricer", "--output", str(tmp_path)).split():
        assert Path(file).is_file()

    assert "-    version: 2.0.0\n+    version: 1.0.0" in plugin.run("undo", "pricer", "--yes")
    plugin.until_baking()
    plugin.run("promote", "pricer", "--timeout", f"{SECONDS:.0f}")
    wait_ready(plugin.namespace, version="1.0.0", seconds=SECONDS)
    assert [one["version"] for one in plugin.status()["history"]] == ["2.0.0", "1.0.0"]

    said = plugin.run("golive", "pricer", code=1)
    assert "met      Certificates are genuine" in said
    assert "NOT MET  Two servers or more" in said
    assert "Assumed:" in plugin.run("cost", "pricer", "--price", "0.5")
    plugin.run("diagnose", "pricer", "-o", str(tmp_path / "out.tar.gz"))
    with tarfile.open(tmp_path / "out.tar.gz") as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"object.yaml", "events.txt", "children/pods.yaml", "children/deployments.yaml"} < names
    assert any(name.startswith("logs/pinn-operator") for name in names)
    assert any(name.startswith("logs/pricer-") for name in names)


def test_an_object_that_does_not_exist_is_answered_with_those_that_do(plugin: Plugin) -> None:
    assert 'no PinnDeployment "pricr"' in plugin.run("status", "pricr", code=1)
    assert read(plugin.namespace) is not None
