"""Where models are kept far away: the CNCF's registry, the ORAS client that fills it, Versity's S3 gateway, from Go modules."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.cluster import go
from tests.e2e.cluster.cache import Cache
from tests.e2e.cluster.images import Request

HERE = Path(__file__).resolve().parent
TAG = "docker.io/pinn-operator/e2e-stores:1"
PACKAGES = ["./registry", "./s3", "oras.land/oras/cmd/oras"]
EXPECTED_SECONDS = 4 * 60.0


def request(cache: Cache) -> Request:
    """The image; minutes the first time, at once when the module has not changed."""
    programs = go.build(cache, "stores", str(HERE), PACKAGES, "-s -w", EXPECTED_SECONDS)
    return Request(HERE / "Dockerfile", TAG, programs)
