"""Alerts, by promtool: each fires when it should, with the words a person reads, and is quiet at its limit. Needs no cluster, but
promtool, which is compiled with the Prometheus of these tests."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from hack.dashboards import EVERY
from hack.monitoring import RULES
from tests.e2e.cluster.cache import Cache
from tests.e2e.kubectl import ROOT
from tests.e2e.prometheus.build import promtool

pytestmark = pytest.mark.e2e

CASES = ROOT / "tests/monitoring/rules_test.yaml"
VARIABLES = {"$__rate_interval": "1m", "$__range": "1h"}


@pytest.fixture(scope="module")
def program() -> Path:
    return promtool(Cache())


def told(*command: str | Path) -> str:
    """What it says; the test fails when it is not content."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_alert_fires_beyond_its_limit_and_is_quiet_within(program: Path) -> None:
    assert "SUCCESS" in told(program, "test", "rules", CASES)


def test_the_rules_are_free_of_what_promtool_warns_of(program: Path) -> None:
    assert "SUCCESS" in told(program, "check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_the_example_of_a_scrape_configuration_is_one(program: Path) -> None:
    assert "SUCCESS" in told(program, "check", "config", "--syntax-only", RULES.parent / "scrape-config.yaml")


def test_what_the_dashboards_ask_can_be_parsed(program: Path, tmp_path: Path) -> None:
    """As rules, since those promtool checks."""
    asked = [expression for board in EVERY for panel in board.panels for expression, _ in panel.lines]
    for variable, value in VARIABLES.items():
        asked = [expression.replace(variable, value) for expression in asked]
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(asked)]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in told(program, "check", "rules", file), json.dumps(asked)
