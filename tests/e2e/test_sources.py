"""Evidence from a Prometheus: it decides as the servers' own counters do, and while it is away nothing moves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.faults import broken
from tests.e2e.gateway.install import Gateway
from tests.e2e.kubectl import Object, eventually, items, kubectl
from tests.e2e.prometheus.install import NAMESPACE, Prometheus
from tests.e2e.steps import Service, only

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("operator"), pytest.mark.timeout(400)]

AWAY_SECONDS = 20


@pytest.fixture
def service(namespace: str, gateway: Gateway) -> Service:
    return Service(namespace, gateway)


@pytest.fixture
def asked(prometheus: Prometheus) -> Iterator[Object]:
    """`spec.metrics` that names the Prometheus; it is back when the test is over."""
    yield {"source": "Prometheus", "interval": "3s", "prometheus": {"url": prometheus.url}}
    scaled(1)


def scaled(replicas: int) -> None:
    kubectl("-n", NAMESPACE, "scale", "deployment/prometheus", f"--replicas={replicas}")
    if replicas:
        kubectl("-n", NAMESPACE, "rollout", "status", "deployment/prometheus", "--timeout=120s")
    else:
        eventually(lambda: not items("pods", NAMESPACE))


def gates(service: Service) -> dict[str, Any]:
    return {one["name"]: one for one in service.status.get("rollout", {}).get("gates", ())}


@pytest.mark.full
def test_a_version_is_judged_by_a_prometheus_and_by_a_gate_of_one_s_own(service: Service, asked: Object) -> None:
    of = f'namespace="{service.namespace}",pod=~"pricer-{{{{revision}}}}-.*",source="live"'
    gate = {
        "name": "refusals",
        "bad": f'sum by (pod) (pinn_requests_total{{{of},outcome="refused"}})',
        "total": f"sum by (pod) (pinn_requests_total{{{of}}})",
        "promote": "5%",
        "abort": "50%",
    }
    service.starts(metrics=asked, sla={**only(errorRate="5%"), "custom": [gate]})
    with service.under_load(100, 120) as load:
        service.rolls_out("2.0.0")
        service.until_weight(60)
        eventually(lambda: gates(service).get("refusals", {}).get("events", 0) > 0, why=lambda: service.status)
        service.until_promoted("2.0.0")
    assert load.failed == 0, load.report
    passed = {one["name"]: one["verdict"] for one in service.report()["evidence"]}
    assert passed == {"errorRate": "Passing", "refusals": "Passing"}


def test_a_bad_version_is_sent_back_on_the_word_of_a_prometheus(service: Service, asked: Object) -> None:
    service.starts(metrics=asked, sla=only(errorRate="1%"))
    with service.under_load(100, 90):
        service.rolls_out("2.0.0", template=broken("errors:0.3"))
        assert "errorRate" in service.until_rolled_back()


@pytest.mark.full
def test_while_prometheus_is_away_the_weight_stays_and_the_object_says_so(service: Service, asked: Object) -> None:
    steps = [{"weight": 20, "hold": "15s"}, {"weight": 100, "hold": "5s"}]
    service.starts(metrics=asked, sla=only(errorRate="5%"), rollout={"steps": steps, "maxHold": "5m"})
    with service.under_load(100, 180) as load:
        service.rolls_out("2.0.0")
        service.until_weight(20)
        scaled(0)
        eventually(lambda: service.status["rollout"].get("verdict") == "NoMetrics", 40, why=lambda: service.status)
        end = time.monotonic() + AWAY_SECONDS
        while time.monotonic() < end:
            assert service.status["canary"]["weight"] == 20
            assert service.status["rollout"]["verdict"] == "NoMetrics"
        scaled(1)
        service.until_promoted("2.0.0")
    assert load.failed == 0, load.report
