"""Pages of the documents, run on a cluster in the order and to the letter in which a reader would type them.

What only a reader knows is put in for them: the name of a report, say. Images are built beforehand, as a reader with a container
engine does by the first lines of the README.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.gateway.install import Gateway
from tests.e2e.kubectl import MANIFESTS, eventually, kubectl
from tests.e2e.steps import Load
from tests.unit.documents import ROOT, lines

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.full]

ELSEWHERE = ("docker ", "kind ")
"""Programs that this machine may not have; what they do was done when the cluster was made."""
GOES_ON = ("port-forward", "--watch")
"""What a reader leaves running in another terminal."""


class Terminal:
    """One shell that stays, as a reader's does, with kubectl in a namespace of its own."""

    def __init__(self, namespace: str, folder: Path) -> None:
        config = folder / "kubeconfig"
        shutil.copy(os.environ["KUBECONFIG"], config)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._env = os.environ | {"KUBECONFIG": str(config), "PATH": path}
        self._beside: list[subprocess.Popen[str]] = []
        self._variables = folder / "variables"
        self._variables.write_text("")
        self.types(f"kubectl config set-context --current --namespace={namespace}")

    def types(self, line: str, limit: float = 300) -> str:
        """Run a line to its end; what it printed. Variables that it sets are there for the next one."""
        if any(word in line for word in GOES_ON):
            self._leaves_running(line)
            return ""
        keep = f"declare -p | grep -E '^declare -- [a-z]+=' > {self._variables} || true"
        script = f"set -eu -o pipefail; . {self._variables}; {line}\n{keep}"
        done = subprocess.run(
            ["bash", "-c", script], env=self._env, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False
        )
        assert done.returncode == 0, f"$ {line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _leaves_running(self, line: str) -> None:
        command = ["bash", "-c", f"exec {line}"]
        beside = subprocess.Popen(
            command, env=self._env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._beside.append(beside)
        assert beside.stdout is not None
        assert beside.stdout.readline(), f"{line}: nothing was printed"

    def closes(self) -> None:
        for beside in self._beside:
            beside.send_signal(signal.SIGTERM)
            beside.communicate(timeout=30)


@pytest.fixture
def terminal(namespace: str, tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(namespace, tmp_path)
    yield opened
    opened.closes()


def _lines(page: str, begin: str = "", end: str = "\0") -> list[str]:
    """The lines of a page between two of its sentences, without those for programs that are elsewhere."""
    text = (ROOT / page).read_text()
    part = text[text.index(begin) :].split(end)[0]
    return [line for line in lines(part) if not line.startswith(ELSEWHERE)]


def test_the_readme_leads_a_newcomer_to_a_priced_option(terminal: Terminal) -> None:
    printed = {line: terminal.types(line) for line in _lines("README.md", "## On your own cluster", "Check a manifest")}
    answer = next(text for line, text in printed.items() if line.startswith("curl"))
    assert '"price":7.615058' in answer.replace(" ", "")
    assert "option-pricer" in next(text for line, text in printed.items() if line.strip() == "kubectl get pinn")


def test_the_page_about_rollouts_leads_from_the_first_version_to_the_report(
    terminal: Terminal, gateway: Gateway, namespace: str
) -> None:
    load = Load(namespace, noise=0.01)
    report = "$(kubectl get pinn option-pricer -o jsonpath='{.status.history[-1:].report}')"
    outcomes = "kubectl get pinn option-pricer -o jsonpath='{.status.history[*].outcome}'"
    printed: dict[str, str] = {}
    try:
        for line in _lines("docs/how-to/rollout.md"):
            if "ADDRESS" in line:  # of the gateway, which is asked from a pod here
                continue
            if line.startswith("kubectl pinn report"):
                eventually(lambda: "RolledBack" in terminal.types(outcomes), 120)
            typed = line.replace("REPORT", report).replace("pinn undo option-pricer", "pinn undo option-pricer --yes")
            printed[line] = terminal.types(typed)
            if line.startswith("kubectl wait") and not load.printed:
                load.starts(gateway.url(), 100, 280, "--host", "option-pricer.example")
    finally:
        load.finishes()
    assert load.failed == 0, load.report
    assert load.answered("2.0.0") > 0
    assert "Promoted" in next(text for line, text in printed.items() if ".status.history[*]" in line)
    assert ": ok" in next(text for line, text in printed.items() if "pinn-operator verify" in line)
    assert "9.9.9" in next(text for line, text in printed.items() if line.startswith("kubectl pinn report"))
    assert terminal.types("kubectl get pinn option-pricer -o jsonpath='{.spec.model.version}'") == "2.0.0"


def test_the_page_about_certificates_shows_a_report_and_proves_it(terminal: Terminal, namespace: str) -> None:
    kubectl("-n", namespace, "apply", "-f", str(MANIFESTS / "samples/option-pricer.yaml"))
    kubectl("-n", namespace, "wait", "pinn/option-pricer", "--for=condition=Ready", "--timeout=120s")
    at_once = '{"spec":{"model":{"version":"2.0.0"},"rollout":{"steps":[{"weight":100,"hold":"0s"}]}}}'
    kubectl("-n", namespace, "patch", "pinn", "option-pricer", "--type=merge", "-p", at_once)
    of = "kubectl get pinn option-pricer -o jsonpath="
    eventually(lambda: terminal.types(f"{of}'{{.status.canary.weight}}'") == "100", 120)
    terminal.types(f"kubectl annotate pinn option-pricer pinn.dev/promote=$({of}'{{.status.canary.revision}}')@docs")
    eventually(lambda: terminal.types(f"{of}'{{.status.history}}'"), 120)
    name = "$(kubectl get pinn option-pricer -o jsonpath='{.status.history[-1:].report}')"
    sha256 = "$(kubectl get pinn option-pricer -o jsonpath='{.status.history[-1:].sha256}')"
    printed = [
        terminal.types(line.replace("NAME", name).replace("HEX", sha256))
        for line in _lines("docs/concepts/certificates.md")
    ]
    assert "is the one asked for" in printed[-1]
