"""The monitoring kit: one source for rules and dashboards, a runbook and two cases for each alert, metrics that are exported."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from pinn_inference.monitoring import Metrics
from pinn_operator.api.plan import Phase
from pinn_operator.api.status import Verdict
from pinn_operator.monitoring import Monitoring
from prometheus_client import CollectorRegistry

from hack import monitoring
from hack.dashboards import EVERY, Dashboard, rendered

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs/runbooks"
GUIDE = ROOT / "docs/how-to/monitor.md"
GUIDES = {"README", "async-debugging", "gpu-faults", "restoring", "stuck-rollout"}
"""Pages that no alert points to: those that do lead on to them."""
CASES = ROOT / "tests/monitoring/rules_test.yaml"
PROMISED = {
    "PINNErrorRateCritical": (0.10, "5m"),
    "PINNMemoryLeakCritical": (10e6, "1h"),
    "PINNServiceDown": (None, "2m"),
    "PINNCacheHitRateLow": (0.70, "10m"),
    "PINNLatencyP95High": (2, "5m"),
    "PINNFallbackRateHigh": (0.20, "10m"),
    "PINNPhysicsViolations": (None, None),
    "PINNEventLoopLagHigh": (None, None),
    "PINNRolloutStuck": (None, None),
    "PINNRolledBack": (None, None),
    "PINNOperatorDown": (None, None),
}
"""Limit and time of each alert that users were told of; None: it is ours to choose."""
FROM_PROMETHEUS = {
    "up",
    "ALERTS",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_cpu_seconds_total",
}

RULES = [rule for group in monitoring.rules() for rule in group["rules"]]
ALERTS: dict[str, Any] = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
LINES = [line for board in EVERY for panel in board.panels for line in panel.lines]
"""What is asked for each line of a panel, and what the line is called."""
ASKED = [*(rule["expr"] for rule in RULES), *(expression for expression, _ in LINES)]


def test_what_is_generated_is_up_to_date() -> None:
    differing = [file.name for file, text in monitoring.files().items() if file.read_text() != text]
    assert not differing, f"{differing}: run `make generate`"


def test_the_rules_are_the_same_with_the_prometheus_operator_and_without() -> None:
    plain = yaml.safe_load((monitoring.KIT / "rules.yaml").read_text())
    theirs = yaml.safe_load((monitoring.KIT / "prometheusrule.yaml").read_text())
    assert theirs["spec"] == plain


def test_all_of_the_kit_lies_in_the_namespace_of_the_operator() -> None:
    kit = yaml.safe_load((monitoring.KIT / "kustomization.yaml").read_text())
    objects = [yaml.safe_load((monitoring.KIT / file).read_text())["metadata"] for file in kit["resources"]]
    assert {one["namespace"] for one in (*objects, *kit["configMapGenerator"])} == {"pinn-system"}


@pytest.mark.parametrize("name", PROMISED)
def test_an_alert_that_was_promised_has_its_limit_and_its_time(name: str) -> None:
    limit, time = PROMISED[name]
    rule = ALERTS[name]
    if limit is not None:
        compared = re.search(r"[<>] ([0-9.e]+)\s*$", rule["expr"])
        assert compared, rule["expr"]
        assert float(compared[1]) == limit
    if time is not None:
        assert rule["for"] == time


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_what_happened_and_where_to_read_on(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert (ROOT / rule["annotations"]["runbook_url"]).samefile(RUNBOOKS / f"{name}.md")


def test_every_runbook_has_its_alert() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} - GUIDES == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_a_runbook_answers_the_five_questions_of_three_in_the_morning(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    places = [
        text.find(f"\n## {title}\n") for title in ("What it means", "First look", "Causes", "What to do", "Escalate")
    ]
    assert all(before < after for before, after in pairwise([0, *places])), places
    assert "```console" in text, "a first look is a command"


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_tried_firing_and_quiet(name: str) -> None:
    tests = yaml.safe_load(CASES.read_text())["tests"]
    tried = [case["exp_alerts"] for test in tests for case in test["alert_rule_test"] if case["alertname"] == name]
    assert any(tried), "it is never expected to fire"
    assert not all(tried), "it is never expected to be quiet"


@pytest.mark.parametrize("expression", ASKED)
def test_what_is_asked_is_exported_or_recorded(expression: str) -> None:
    server = Metrics()
    server.gauges.model = lambda: ("black-scholes", "2.0.0", "sha256:0")
    known = _exported(server._registry) | _exported(Monitoring().registry) | RECORDED | FROM_PROMETHEUS
    asked = _names(expression)
    assert asked, "it asks for nothing"
    assert asked <= known


def test_a_word_that_a_rule_waits_for_is_one_that_the_operator_says() -> None:
    words = {"phase": {one.value for one in Phase}, "verdict": set(_words(Verdict))}
    asked = [(label, value) for text in ASKED for label, value in re.findall(r'\b(phase|verdict)=~?"([^"]*)"', text)]
    assert asked
    for label, values in asked:
        assert set(values.split("|")) <= words[label], values


@pytest.mark.parametrize("board", EVERY, ids=lambda board: board.uid)
def test_a_dashboard_is_whole(board: Dashboard) -> None:
    drawn = rendered(board)
    titles = [panel["title"] for panel in drawn["panels"]]
    assert len(titles) >= 8
    assert len(set(titles)) == len(titles)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in drawn["panels"]}
    assert len(places) == len(titles), "two panels lie on each other"
    assert drawn["uid"] == board.uid
    assert "${" not in json.dumps(drawn), "Flux would replace it"


def test_the_server_dashboard_has_what_was_promised() -> None:
    titles = {panel.title for panel in EVERY[0].panels}
    assert titles >= {
        "Cache hit rate",
        "Cache size",
        "Latency percentiles by method",
        "Errors",
        "Fallbacks by reason",
        "Memory by pod",
        "Methods",
        "Hits against misses",
    }


@pytest.mark.parametrize(("expression", "legend"), LINES)
def test_objects_of_one_name_in_two_namespaces_are_two_lines_with_two_names(expression: str, legend: str) -> None:
    for labels in re.findall(r"by \(([^)]*)\)", expression):
        by = set(labels.split(", "))
        assert "namespace" in by or not by & {"pinndeployment", "revision"}
    assert "{{namespace}}" in legend or not re.search(r"{{(pinndeployment|revision)}}", legend)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_does_not_mind_what_the_jobs_are_called_nor_that_two_read_the_same(rule: dict[str, Any]) -> None:
    assert not re.search(r"\bjob\b", rule["expr"])


@pytest.mark.parametrize("expression", [expression for expression, _ in LINES if "pinn_operator_" in expression])
def test_the_operator_is_counted_once_though_two_jobs_read_it(expression: str) -> None:
    if expression.startswith(("sum", "count")):
        assert "max by (namespace, " in expression


def test_an_installation_asks_for_no_second_scrape_by_default() -> None:
    deployment, *_ = yaml.safe_load_all((ROOT / "manifests/base/operator.yaml").read_text())
    assert "annotations" not in deployment["spec"]["template"]["metadata"]
    values = yaml.safe_load((ROOT / "charts/pinn-operator/values.yaml").read_text())
    assert values["monitoring"]["scrapeAnnotations"] is False


def test_both_ways_to_scrape_give_the_labels_that_rules_group_by() -> None:
    plain = yaml.safe_load((monitoring.KIT / "scrape-config.yaml").read_text())["scrape_configs"]
    jobs = {job["job_name"]: {one.get("target_label") for one in job["relabel_configs"]} for job in plain}
    assert jobs["pinn-server"] >= {"namespace", "pod", "pinndeployment", "revision"}
    assert jobs["pinn-operator"] >= {"namespace", "pod"}
    (discovery,) = next(job for job in plain if job.get("honor_labels"))["kubernetes_sd_configs"]
    assert discovery["namespaces"] == {"names": ["pinn-system"]}  # others' pods could speak for any namespace
    (endpoint,) = yaml.safe_load((monitoring.KIT / "podmonitor.yaml").read_text())["spec"]["podMetricsEndpoints"]
    assert {one["targetLabel"] for one in endpoint["relabelings"]} == {"pinndeployment", "revision"}


def test_the_examples_of_notifications_name_what_they_have() -> None:
    found = [
        one
        for text in re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
        for one in yaml.safe_load_all(text)
    ]
    objects = {
        one["kind"]: one for one in found if "kind" in one and one["kind"] not in ("Kustomization", "NetworkPolicy")
    }
    assert set(objects) == {"ConfigMap", "Application", "Provider", "Alert"}
    argo = objects["ConfigMap"]["data"]
    (trigger,) = yaml.safe_load(argo["trigger.on-pinn-degraded"])
    assert {f"template.{one}" for one in trigger["send"]} <= set(argo)
    assert (
        "notifications.argoproj.io/subscribe.on-pinn-degraded.slack"
        in objects["Application"]["metadata"]["annotations"]
    )
    assert objects["Alert"]["spec"]["providerRef"]["name"] == objects["Provider"]["metadata"]["name"]


def _exported(registry: CollectorRegistry) -> set[str]:
    """Names of series, those of families that have none yet included."""
    names = set()
    for family in registry.collect():
        total = {f"{family.name}_total"} if family.type == "counter" else {family.name}
        names |= total | {f"{family.name}_bucket"} if family.type == "histogram" else total
    return names


def _names(expression: str) -> set[str]:
    """The metrics that an expression names."""
    bare = re.sub(r'"[^"]*"', "", expression)  # what stands in quotes is a value
    found = re.findall(r"(?<![\w:$])((?:pinn|pod|pinndeployment|process)[:_][\w:]+|up|ALERTS)(?=[\s{\[)]|$)", bare)
    return set(found)


def _words(literal: Any) -> tuple[str, ...]:
    return tuple(literal.__args__)
