"""`make e2e`: the end-to-end tests on a kind cluster of their own, which ends with them (KEEP=1 keeps it, FULL=1 runs them all,
NODES=3 makes it one of three nodes).

Where no cluster can be had it says in one sentence what is missing and fails: end-to-end tests that did not run have not passed.
"""

from __future__ import annotations

import os
import sys

from hack.install import ROOT, bring_up, say, step
from tests.e2e.cluster.cache import Cache
from tests.e2e.cluster.cluster import Cluster
from tests.e2e.cluster.errors import ClusterError
from tests.e2e.cluster.images import Request
from tests.e2e.cluster.ways import Way
from tests.e2e.gateway import build as gateway_build
from tests.e2e.prometheus import build as prometheus_build
from tests.e2e.stores import build as stores_build
from tests.e2e.tools import build as tools_build

NAME = "pinn-e2e"


def main() -> int:
    cluster = Cluster(NAME)
    try:
        bring_up(cluster, int(os.environ.get("NODES") or 1), others=third_party)
        if cluster.way is Way.GIVEN:
            third_party(cluster.cache)  # its images are not loaded, but tests need programs and definitions too
        return run_tests(cluster)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        say("the end-to-end tests did not run")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    finally:
        if not os.environ.get("KEEP"):
            cluster.down()


def third_party(cache: Cache) -> list[Request]:
    """What the tests put beside the operator. All that needs a network is fetched here: the tests run where there may be none."""
    with step("the Gateway API's definitions"):
        gateway_build.crds(cache)
    with step("Prometheus and promtool (the first time they are compiled: 7 minutes)"):
        asking = prometheus_build.request(cache)
        prometheus_build.crds(cache)
    with step("a registry and an S3 server (the first time they are compiled: 4 minutes)"):
        stores = stores_build.request(cache)
    with step("Helm, kubeconform and kstatus (the first time they are compiled: 3 minutes)"):
        tools_build.programs(cache)
        tools_build.schemas(cache)
    return [gateway_build.request(), asking, stores]


def run_tests(cluster: Cluster) -> int:
    command = [sys.executable, "-m", "pytest", str(ROOT / "tests/e2e"), "-p", "no:cacheprovider", "--durations=10"]
    if not os.environ.get("FULL"):
        command += ["-m", "not full"]
    if chosen := os.environ.get("K"):
        command += ["-k", chosen]
    return cluster.run([*command, *sys.argv[1:]], check=False, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
