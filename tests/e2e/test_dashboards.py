"""Grafana's panels: after rollouts with traffic, errors and fallbacks none is empty, for whoever looks at the last half hour."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hack.dashboards import EVERY, Dashboard, Panel
from tests.e2e.faults import broken
from tests.e2e.gateway.install import Gateway
from tests.e2e.kubectl import ROOT, eventually, kubectl
from tests.e2e.load import OPTION
from tests.e2e.prometheus.install import Prometheus
from tests.e2e.steps import Service, only

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.usefixtures("operator"), pytest.mark.timeout(1200)]

STEP_SECONDS = 5
BEYOND = {**OPTION, "maturity": 5}
"""Of a maturity that the model was not trained on: the reference solver answers."""


RECORD = ROOT / "build/dashboards.json"
"""What the panels showed, for `hack/pictures.py`."""


def asked(namespace: str, panel: Panel) -> Iterator[tuple[str, str]]:
    """What a panel asks when a person has chosen this namespace and all objects, and what each of its lines is called."""
    values = {
        "$namespace": namespace,
        "$pinndeployment": ".*",
        "$__rate_interval": "30s",
        "$__range": "30m",
    }
    for expression, legend in panel.lines:
        for variable, value in values.items():
            expression = expression.replace(variable, value)
        yield expression, legend


def test_every_panel_shows_something_after_a_promotion_and_a_rollback(
    namespace: str, gateway: Gateway, prometheus: Prometheus
) -> None:
    service = Service(namespace, gateway)
    began = time.time()
    service.starts(sla=only(errorRate="1%"))
    with service.under_load(50, 300, noise=0.01):
        service.rolls_out("2.0.0")
        falls_back(service)
        service.until_promoted("2.0.0", 240)
        service.rolls_out("1.0.0", template=broken("errors:0.3"))
        service.until_rolled_back(240)

    left = [
        (f"{board.title}: {panel.title} ({legend})", expression)
        for board in EVERY
        for panel in board.panels
        for expression, legend in asked(namespace, panel)
    ]

    def all_drawn() -> bool:
        left[:] = [(title, expression) for title, expression in left if not shows(prometheus, expression, began)]
        return not left

    eventually(all_drawn, 240, why=lambda: json.dumps(left, indent=1))
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps({board.uid: shown(prometheus, namespace, board, began) for board in EVERY}))


def falls_back(service: Service) -> None:
    """A question beyond what the model was trained on, by way of the API server."""
    path = f"/api/v1/namespaces/{service.namespace}/services/{service.name}:80/proxy/predict"
    answer = json.loads(kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(BEYOND)))
    assert answer["method"] == "solver", answer


def shows(prometheus: Prometheus, expression: str, began: float) -> bool:
    """Whether the panel has a point to draw."""
    series = prometheus.query_range(expression, began, time.time(), STEP_SECONDS)
    return any(math.isfinite(float(text)) for one in series for _, text in one["values"])


def shown(prometheus: Prometheus, namespace: str, board: Dashboard, began: float) -> list[dict[str, Any]]:
    """Each panel with the points of its lines, (seconds since `began`, value)."""

    def points(one: dict[str, Any]) -> list[tuple[float, float]]:
        return [(at - began, float(text)) for at, text in one["values"] if math.isfinite(float(text))]

    def named(legend: str, labels: dict[str, str]) -> str:
        for label, value in labels.items():
            legend = legend.replace(f"{{{{{label}}}}}", value)
        return legend.replace(namespace, "desk")

    return [
        {
            "title": panel.title,
            "unit": panel.unit,
            "most": panel.most,
            "lines": [
                {"name": named(legend, one["metric"]), "points": points(one)}
                for expression, legend in asked(namespace, panel)
                for one in prometheus.query_range(expression, began, time.time(), STEP_SECONDS)
            ],
        }
        for panel in board.panels
    ]
