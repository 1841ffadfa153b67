"""Prometheus' image and promtool, from their Go module and without the clouds' client libraries: most of what they would compile.

One build makes both, as they are mostly the same packages.
"""

from __future__ import annotations

from pathlib import Path

from tests.e2e.cluster import go
from tests.e2e.cluster.cache import Cache
from tests.e2e.cluster.images import Request

HERE = Path(__file__).resolve().parent
VERSION = "v0.310.0"
TAG = "docker.io/prom/prometheus:v3.10.0"
PROGRAMS = ("github.com/prometheus/prometheus/cmd/prometheus", "github.com/prometheus/prometheus/cmd/promtool")
ONLY_KUBERNETES = "-tags=remove_all_sd,enable_kubernetes_sd"
OPERATOR = "github.com/prometheus-operator/prometheus-operator"
DEFINITIONS = tuple(
    f"example/prometheus-operator-crd/monitoring.coreos.com_{plural}.yaml"
    for plural in ("servicemonitors", "podmonitors", "prometheusrules")
)
EXPECTED_SECONDS = 6.5 * 60.0


def programs(cache: Cache) -> Path:
    """The folder that holds both; minutes the first time, at once when the module has not changed."""
    version = f"-s -w -X github.com/prometheus/common/version.Version={TAG.rpartition(':v')[2]}"
    return go.build(
        cache, "prometheus-and-promtool", str(HERE), [ONLY_KUBERNETES, *PROGRAMS], version, EXPECTED_SECONDS
    )


def promtool(cache: Cache) -> Path:
    """The program that checks and tries rules."""
    return programs(cache) / "promtool"


def crds(cache: Cache) -> Path:
    """A folder with those of the Prometheus operator's definitions that the monitoring kit has objects of."""
    return go.module_files(cache, "prometheus-operator", HERE / "crds", OPERATOR, *DEFINITIONS)


def request(cache: Cache) -> Request:
    return Request(HERE / "Dockerfile", TAG, programs(cache))
