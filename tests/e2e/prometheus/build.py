"""Prometheus' image, from its Go module and without the clouds' client libraries: they are most of what it would compile."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.cluster import go
from tests.e2e.cluster.cache import Cache
from tests.e2e.cluster.images import Request

HERE = Path(__file__).resolve().parent
VERSION = "v0.310.0"
TAG = "docker.io/prom/prometheus:v3.10.0"
PROGRAM = "github.com/prometheus/prometheus/cmd/prometheus"
ONLY_KUBERNETES = "-tags=remove_all_sd,enable_kubernetes_sd"
EXPECTED_SECONDS = 6 * 60.0


def program(cache: Cache) -> Path:
    """The folder that holds the program; minutes the first time, at once when the module has not changed."""
    version = f"-s -w -X github.com/prometheus/common/version.Version={TAG.rpartition(':v')[2]}"
    return go.build(cache, "prometheus", str(HERE), [ONLY_KUBERNETES, PROGRAM], version, EXPECTED_SECONDS)


def request(cache: Cache) -> Request:
    return Request(HERE / "Dockerfile", TAG, program(cache))
