"""The images, built from this checkout and loaded into a cluster; and kubectl where the cluster is reachable.

Shared by the demo and the end-to-end tests, so that both run what a user would run.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.cluster import images
from tests.e2e.cluster.cache import Cache
from tests.e2e.cluster.cluster import Cluster
from tests.e2e.cluster.ways import Way

ROOT = Path(__file__).resolve().parent.parent
IMAGES = {
    "Dockerfile.operator": "pinn-operator/operator:0.1.0",
    "Dockerfile.inference": "pinn-operator/inference:0.1.0",
}


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    say(what)
    began = time.monotonic()
    yield
    say(f"  done in {time.monotonic() - began:.0f} s")


def say(text: str) -> None:
    print(f"==> {text}", file=sys.stderr, flush=True)


def bring_up(cluster: Cluster, nodes: int = 1, others: Callable[[Cache], list[images.Request]] = lambda _: []) -> None:
    """A running cluster that knows both images, and the others."""
    with step(
        "a Kubernetes cluster (the first time on a machine without a container engine this builds one: 15 minutes)"
    ):
        cluster.up(nodes)
    archives = [
        built(cluster, images.Request(ROOT / dockerfile, tag, ROOT, (), None)) for dockerfile, tag in IMAGES.items()
    ]
    if cluster.way is Way.GIVEN and not os.environ.get("E2E_LOAD"):
        say("your cluster is expected to have or pull the images; E2E_LOAD='command' would load their archives")
        return
    archives += [built(cluster, request) for request in others(cluster.cache)]
    with step("images into the cluster"):
        cluster.load(*archives)


def built(cluster: Cluster, request: images.Request) -> Path:
    with step(f"image {request.tag} from {request.dockerfile.relative_to(ROOT)}"):
        return images.build(cluster.cache, request)


def kubectl(cluster: Cluster, *arguments: str, stdin: str | None = None, limit: float = 120.0) -> str:
    """Run kubectl and return what it printed. Raises SystemExit with its own words when it fails."""
    done = cluster.run(
        [cluster.kubectl(), *arguments], input=stdin, capture_output=True, text=True, timeout=limit, check=False
    )
    if done.returncode:
        raise SystemExit(f"error: kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return str(done.stdout)
