"""Prometheus in the cluster, and questions to it: through the API server, as tests do not run in the pods' network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests.e2e.kubectl import Object, kubectl

MANIFEST = Path(__file__).resolve().parent / "prometheus.yaml"
NAMESPACE = "monitoring"
PROXY = f"/api/v1/namespaces/{NAMESPACE}/services/prometheus:9090/proxy/api/v1/query?query="


@dataclass(frozen=True)
class Prometheus:
    """`url` is what `spec.metrics.prometheus.url` names."""

    url: str = f"http://prometheus.{NAMESPACE}:9090"

    def query(self, expression: str) -> list[Object]:
        """An instant vector: its series, each with `metric` (the labels) and `value` ([time, text])."""
        answer = json.loads(kubectl("get", "--raw", PROXY + quote(expression, safe="")))
        assert answer["status"] == "success", answer
        return list(answer["data"]["result"])


def install() -> Prometheus:
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(MANIFEST))
    kubectl("-n", NAMESPACE, "rollout", "status", "deployment/prometheus", "--timeout=110s")
    return Prometheus()
