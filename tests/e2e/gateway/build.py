"""What the gateway is made of: Traefik's image, and the Gateway API's resources from the Go module that its authors publish."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from tests.e2e.cluster import go
from tests.e2e.cluster.cache import Cache, digest, tree_digest
from tests.e2e.cluster.images import Request
from tests.e2e.cluster.proc import output_of

HERE = Path(__file__).resolve().parent
MODULE = HERE / "crds"
API = "sigs.k8s.io/gateway-api"
CHANNEL = Path("config/crd/standard")
TAG = "docker.io/library/traefik:v3.7.15"
DOWNLOAD_SECONDS = 300.0


def crds(cache: Cache) -> Path:
    """A folder with the definitions of the standard channel; go.sum says what they must be, wherever they come from."""
    program = go.go_program(cache)
    key = digest([tree_digest([MODULE / "go.mod", MODULE / "go.sum"], MODULE)])

    def fetch(place: Path) -> None:
        env = os.environ | {"GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local", "GOWORK": "off"}
        told = output_of([program, "-C", MODULE, "mod", "download", "-json", API], limit=DOWNLOAD_SECONDS, env=env)
        for source in (Path(json.loads(told)["Dir"]) / CHANNEL).glob("*.yaml"):
            shutil.copyfile(source, place / source.name)  # without the module cache's read-only mode

    return cache.artefact("gateway-api", key, fetch, lock="gateway-api")


def request() -> Request:
    return Request(HERE / "Dockerfile", TAG, HERE)
