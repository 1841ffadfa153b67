"""Writes what follows from rules.yaml and dashboards.py: PrometheusRule and Grafana JSON of the kit, and the chart's copies.

`python -m hack.monitoring` writes them, `--check` says which are out of date. Neither is edited by hand.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from hack.dashboards import EVERY, rendered

ROOT: Final = Path(__file__).resolve().parent.parent
KIT: Final = ROOT / "manifests/components/monitoring"
CHART: Final = ROOT / "charts/pinn-operator/files"
RULES: Final = KIT / "rules.yaml"
HEAD: Final = "# Generated from rules.yaml by `make generate`: do not edit.\n"


class _Dumper(yaml.SafeDumper):
    """Queries of several lines stay readable."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def rules() -> list[dict[str, Any]]:
    """The groups of rules.yaml."""
    return list(yaml.safe_load(RULES.read_text())["groups"])


def prometheus_rule() -> dict[str, Any]:
    """The same groups as the Prometheus operator takes them."""
    labels = {"app.kubernetes.io/name": "pinn-operator", "app.kubernetes.io/part-of": "pinn-operator"}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "pinn-operator", "namespace": "pinn-system", "labels": labels},
        "spec": {"groups": rules()},
    }


def files() -> dict[Path, str]:
    """What each generated file should hold."""
    rule = HEAD + yaml.dump(prometheus_rule(), Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)
    boards = {f"dashboards/{one.uid}.json": json.dumps(rendered(one), indent=1) + "\n" for one in EVERY}
    return {
        KIT / "prometheusrule.yaml": rule,
        CHART / "rules.yaml": RULES.read_text(),
        **{folder / name: text for folder in (KIT, CHART) for name, text in boards.items()},
    }


def main(arguments: list[str]) -> int:
    differing = {file: text for file, text in files().items() if not file.exists() or file.read_text() != text}
    for file, text in differing.items():
        print(f"{file.relative_to(ROOT)} {'is out of date: make generate' if '--check' in arguments else 'written'}")
        if "--check" not in arguments:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    return 1 if differing and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
