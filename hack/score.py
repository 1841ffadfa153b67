"""`make score`: what kube-score says to the manifests and to the chart, but for what docs/reference/manifests.md explains.

Not a part of `make test`: another program to compile, for manifests that seldom change.
"""

from __future__ import annotations

import subprocess
import sys

from hack.install import ROOT
from tests.e2e.chart import CHART, helm
from tests.e2e.cluster.cache import Cache
from tests.e2e.tools import build

EXPLAINED = (
    "container-image-pull-policy",
    "container-ephemeral-storage-request-and-limit",
    "deployment-has-host-podantiaffinity",
    "pod-networkpolicy",
)
"""Checks that are not made, as CPU limits are not asked for: docs/reference/manifests.md says why of each."""


def main() -> int:
    program = build.score(Cache()) / "kube-score"
    ignored = ["--ignore-container-cpu-limit", *(option for check in EXPLAINED for option in ("--ignore-test", check))]
    worst = 0
    for name, text in manifests().items():
        print(f"==> {name}", flush=True)
        done = subprocess.run(
            [program, "score", *ignored, "--output-format", "ci", "-"], input=text, text=True, check=False
        )
        worst = max(worst, done.returncode)
    return worst


def manifests() -> dict[str, str]:
    folders = {"manifests": ROOT / "manifests", "manifests/namespaced": ROOT / "manifests/namespaced"}
    found = {
        name: subprocess.check_output(["kubectl", "kustomize", folder], text=True) for name, folder in folders.items()
    }
    return found | {"charts/pinn-operator": helm("template", "pinn-operator", str(CHART), "--namespace", "pinn-system")}


if __name__ == "__main__":
    sys.exit(main())
