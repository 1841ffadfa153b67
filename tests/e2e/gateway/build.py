"""What the gateway is made of: Traefik's image, and the Gateway API's resources from the Go module that its authors publish."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.cluster import go
from tests.e2e.cluster.cache import Cache
from tests.e2e.cluster.images import Request

HERE = Path(__file__).resolve().parent
API = "sigs.k8s.io/gateway-api"
CHANNEL = "config/crd/standard/*.yaml"
TAG = "docker.io/library/traefik:v3.7.15"


def crds(cache: Cache) -> Path:
    """A folder with the definitions of the standard channel."""
    return go.module_files(cache, "gateway-api", HERE / "crds", API, CHANNEL)


def request() -> Request:
    return Request(HERE / "Dockerfile", TAG, HERE)
