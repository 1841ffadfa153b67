"""Prometheus in the cluster, and questions to it: through the API server, as tests do not run in the pods' network.

It is configured as docs/how-to/monitor.md tells those without the Prometheus operator: the scrape configuration and the rules of
the monitoring kit, only quicker.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.e2e.cluster.cache import digest
from tests.e2e.kubectl import MANIFESTS, Object, kubectl

MANIFEST = Path(__file__).resolve().parent / "prometheus.yaml"
KIT = MANIFESTS / "components/monitoring"
NAMESPACE = "monitoring"
PROXY = f"/api/v1/namespaces/{NAMESPACE}/services/prometheus:9090/proxy/api/v1"
EVERY = {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "5s"}


@dataclass(frozen=True)
class Prometheus:
    """`url` is what `spec.metrics.prometheus.url` names."""

    url: str = f"http://prometheus.{NAMESPACE}:9090"

    def query(self, expression: str) -> list[Object]:
        """An instant vector: its series, each with `metric` (the labels) and `value` ([time, text])."""
        return list(self.asked("query", query=expression)["result"])

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Object]:
        """A matrix: its series, each with `metric` and `values` ([[time, text], ...])."""
        return list(self.asked("query_range", query=expression, start=start, end=end, step=step)["result"])

    def asked(self, what: str, **parameters: object) -> Any:
        """What the API answers."""
        answer = json.loads(kubectl("get", "--raw", f"{PROXY}/{what}?{urlencode(parameters)}"))
        assert answer["status"] == "success", answer
        return answer["data"]


def install() -> Prometheus:
    """Prometheus with this checkout's rules; one that is there from an earlier run is started anew where they differ."""
    config = _config_map()
    *others, deployment, service = yaml.safe_load_all(MANIFEST.read_text())
    of_config = {"pinn.dev/config": digest([json.dumps(config, sort_keys=True)])}
    deployment["spec"]["template"]["metadata"]["annotations"] = of_config
    whole = {"apiVersion": "v1", "kind": "List", "items": [*others, config, deployment, service]}
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(whole))
    kubectl("-n", NAMESPACE, "rollout", "status", "deployment/prometheus", "--timeout=110s")
    return Prometheus()


def _config_map() -> Object:
    scraped = yaml.safe_load((KIT / "scrape-config.yaml").read_text())
    whole = {"global": EVERY, "rule_files": ["/etc/prometheus/rules.yaml"], **scraped}
    data = {"prometheus.yml": yaml.safe_dump(whole), "rules.yaml": (KIT / "rules.yaml").read_text()}
    metadata = {"name": "prometheus", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
