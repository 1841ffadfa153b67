"""The load test from inside a cluster: a PinnDeployment as its defaults make it, and Locust in a pod that asks its Service.

Both in a namespace of their own under Pod Security `restricted`. The cluster has to know the project's images: `KEEP=1 make e2e`
leaves one that does. The operator is installed in it, and stays.
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.e2e.cluster import images
from tests.e2e.cluster.cluster import Cluster
from tests.e2e.kubectl import (
    MANIFESTS,
    SYSTEM,
    KubectlError,
    Object,
    apply,
    client_pod,
    create,
    eventually,
    get,
    kubectl,
    wait_ready,
)

HERE: Final = Path(__file__).resolve().parent
IMAGE: Final = "pinn-operator/locust:2.47.0"
NAME: Final = "pricer"
START_SECONDS: Final = 120
FIGURES: Final = "/dev/termination-log"
"""Where a pod leaves a few words for its status: there they can be read when it is over, whatever else it printed."""

Figures = dict[str, Any]


def measure(name: str, users: int, seconds: int) -> Figures:
    """Build Locust's image, load it into the cluster of that name, and run the test there.

    Raises RuntimeError, with the remedy, when there are no figures."""
    cluster = Cluster(name)
    if not cluster.status().running:
        raise RuntimeError(f"no cluster {name} is up: bring one up with `KEEP=1 make e2e K=test_gateway`")
    cluster.load(images.build(cluster.cache, images.Request(HERE / "Dockerfile", IMAGE, HERE)))
    command = [sys.executable, "-m", "benchmarks.locust.in_cluster", str(users), str(seconds)]
    limit = seconds + 3 * START_SECONDS
    done = cluster.run(command, check=False, stdout=subprocess.PIPE, text=True, timeout=limit)
    if done.returncode:
        raise RuntimeError(f"the load test in {name} ended without figures; what it said is above")
    return dict(json.loads(done.stdout))


def inside(users: int, seconds: int) -> Figures:
    """The run, where the cluster is reachable."""
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(MANIFESTS))
    kubectl("-n", SYSTEM, "rollout", "status", "deployment/pinn-operator", "--timeout=120s", limit=START_SECONDS + 10)
    with namespace() as own:
        apply(service_under_test(), own)
        wait_ready(own, NAME, seconds=START_SECONDS)
        create(locust(users, seconds), own)
        ended = eventually(
            lambda: terminated(own), START_SECONDS + seconds, why=lambda: get("pod", "locust", own)["status"]
        )
        print(kubectl("-n", own, "logs", "locust"), file=sys.stderr)
        servers = get("pinndeployment", NAME, own)["status"]["readyReplicas"]
        return {"users": users, "seconds": seconds, "servers": servers, **json.loads(ended["message"])}


@contextmanager
def namespace() -> Iterator[str]:
    """One that admits only what Pod Security `restricted` does, and that is gone afterwards."""
    name = f"locust-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}, "default")
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


def service_under_test() -> Object:
    """What somebody gets who says no more than which model."""
    spec = {"model": {"name": "black-scholes", "version": "2.0.0"}}
    return {"apiVersion": "pinn.dev/v1alpha1", "kind": "PinnDeployment", "metadata": {"name": NAME}, "spec": spec}


def locust(users: int, seconds: int) -> Object:
    """The pod that asks the Service."""
    arguments = ["--host", f"http://{NAME}", "--figures", FIGURES, "--run-time", f"{seconds}s"]
    arguments += ["--users", str(users), "--spawn-rate", str(max(10, users // 2))]
    pod = client_pod("locust")
    container = pod["spec"]["containers"][0]
    del container["command"]
    container |= {"image": IMAGE, "args": arguments}
    return pod


def terminated(namespace: str) -> Object | None:
    """How the pod ended, once it has."""
    found = get("pod", "locust", namespace)["status"].get("containerStatuses") or [{}]
    ended: Object | None = found[0].get("state", {}).get("terminated")
    return ended


if __name__ == "__main__":
    try:
        print(json.dumps(inside(int(sys.argv[1]), int(sys.argv[2]))))
    except (AssertionError, KubectlError, KeyError, ValueError) as error:
        sys.exit(f"error: {error}")
