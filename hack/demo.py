"""`make demo`: from nothing to a priced option on a cluster, and new model versions rolled out under load.

Every step is one that a user would take, with the manifests that users get. The cluster is left up to look around in.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from contextlib import suppress
from statistics import NormalDist
from typing import Any

from hack.install import ROOT, bring_up, kubectl, say, step
from tests.e2e.cluster.cache import Cache
from tests.e2e.cluster.cluster import Cluster
from tests.e2e.cluster.errors import ClusterError
from tests.e2e.cluster.images import Request
from tests.e2e.gateway import build as gateway_build
from tests.e2e.kubectl import client_pod

NAMESPACE = "pinn-demo"
INTERRUPTED = 130
URL = "http://option-pricer/predict"
OPTIONS = [
    {"spot": spot, "strike": 100.0, "maturity": maturity, "rate": 0.03, "volatility": 0.2, "kind": kind}
    for spot, maturity, kind in [(90.0, 0.5, "call"), (100.0, 1.0, "call"), (110.0, 1.0, "call"), (100.0, 1.0, "put")]
]


def main() -> int:
    began = time.monotonic()
    cluster = Cluster()
    try:
        bring_up(cluster, others=gateway)
        install(cluster)
        ready = apply_sample(cluster, began)
        price(cluster)
        code = roll_out(cluster)
        if code == 0:
            print("Not Ready, for the spec still names the version that was sent back; callers have version 2.0.0.\n")
        what_next(cluster, ready)
        return code
    except (ClusterError, subprocess.TimeoutExpired) as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    except KeyboardInterrupt:
        print("interrupted; `make demo` goes on from here, `make clean` removes everything", file=sys.stderr)
        return 130


def gateway(cache: Cache) -> list[Request]:
    """What the second half puts beside the operator. All that needs a network is fetched here."""
    with step("the Gateway API's definitions"):
        gateway_build.crds(cache)
    return [gateway_build.request()]


def install(cluster: Cluster) -> None:
    with step("operator: kubectl apply -k manifests/"):
        kubectl(cluster, "apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "manifests"))
        wait(cluster, "deployment/pinn-operator", "pinn-system", "rollout", "status")


def apply_sample(cluster: Cluster, began: float) -> float:
    """Seconds from the beginning of the demo to Ready. A sample left by an earlier demo starts afresh."""
    kubectl(cluster, "apply", "-f", "-", stdin=json.dumps(namespace()))
    kubectl(cluster, "-n", NAMESPACE, "delete", "pinn", "option-pricer", "--ignore-not-found", "--wait", limit=60)
    with step("sample: kubectl apply -f manifests/samples/option-pricer.yaml, and wait for Ready"):
        kubectl(cluster, "-n", NAMESPACE, "apply", "-f", str(ROOT / "manifests/samples/option-pricer.yaml"))
        kubectl(cluster, "-n", NAMESPACE, "wait", "pinn/option-pricer", "--for=condition=Ready", "--timeout=100s")
    return time.monotonic() - began


def price(cluster: Cluster) -> None:
    """A few options through the Service, beside what the closed formula says."""
    with step("four options, priced through the Service"):
        said = client(cluster, "pricer", "-c", ASK, URL, json.dumps(OPTIONS))
        answers = json.loads(said.splitlines()[-1])  # before it stand the attempts that reached nobody yet
    print(f"\n  {'option':34}{'PINN':>12}{'closed formula':>17}{'difference':>14}")
    for option, answer in zip(OPTIONS, answers, strict=True):
        exact = black_scholes(option)
        named = f"{option['kind']:5} spot {option['spot']:.0f} strike 100 T {option['maturity']}"
        print(f"  {named:34}{answer['price']:12.6f}{exact:17.6f}{answer['price'] - exact:14.1e}")
    print(flush=True)


def roll_out(cluster: Cluster) -> int:
    """New versions, looked at from where the cluster is reachable; 0 when each ended as it should and no request failed."""
    began = time.monotonic()
    try:
        code = cluster.run([sys.executable, "-m", "hack.rollouts"], check=False, cwd=ROOT).returncode
    finally:
        without_callers(cluster)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    say(f"gateway and rollouts: {time.monotonic() - began:.0f} s; {'all' if code == 0 else 'NOT all'} as it should be")
    return code


def without_callers(cluster: Cluster) -> None:
    """Requests that nobody looks at any more. A cluster that is not there, or does not answer, has none."""
    with suppress(SystemExit, ClusterError, subprocess.TimeoutExpired):
        kubectl(cluster, "-n", NAMESPACE, "delete", "pod", "load", "--ignore-not-found", "--now", limit=10)


def what_next(cluster: Cluster, ready: float) -> None:
    print(kubectl(cluster, "-n", NAMESPACE, "get", "pinn,pods"))
    say(f"first Ready {ready:.0f} s after the beginning. The cluster is up. Try:")
    report = "get cm NAME -o jsonpath={.data.report\\.md}"
    for line in (
        f"make kubectl ARGS='-n {NAMESPACE} {report}'   one of the reports above",
        f"make kubectl ARGS='-n {NAMESPACE} describe pinn option-pricer'                  conditions and events",
        "make kubectl ARGS='explain pinn.spec.rollout'                               the resource, field by field",
        "docs/how-to/rollout.md                                                      approve, abort, retry",
        "make clean                                                                  remove it all",
    ):
        print(f"    {line}")


def client(cluster: Cluster, name: str, *arguments: str) -> str:
    start_client(cluster, name, *arguments)
    return finish_client(cluster, name)


def start_client(cluster: Cluster, name: str, *arguments: str) -> None:
    """A pod that runs Python in the operator's image: it has an HTTP client, and the image is there already."""
    kubectl(cluster, "-n", NAMESPACE, "delete", "pod", name, "--ignore-not-found", "--now", limit=60)
    kubectl(cluster, "-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps(client_pod(name, *arguments)))


def finish_client(cluster: Cluster, name: str) -> str:
    try:
        wait(cluster, f"pod/{name}", NAMESPACE, "wait", "--for=jsonpath={.status.phase}=Succeeded")
    except SystemExit as error:
        raise SystemExit(f"{error}\n{kubectl(cluster, '-n', NAMESPACE, 'logs', name)}") from None
    printed = kubectl(cluster, "-n", NAMESPACE, "logs", name)
    kubectl(cluster, "-n", NAMESPACE, "delete", "pod", name, "--now", limit=60)
    return printed


def wait(cluster: Cluster, what: str, namespace: str, *verb: str) -> None:
    kubectl(cluster, "-n", namespace, *verb, what, "--timeout=150s", limit=180)


def namespace() -> dict[str, Any]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


ASK = """
import sys, time, urllib.error, urllib.request
request = urllib.request.Request(sys.argv[1], sys.argv[2].encode(), {"Content-Type": "application/json"})
end = time.monotonic() + 60
while True:  # a node learns of new endpoints, and a fresh cluster's DNS answers, a little after Ready
    try:
        print(urllib.request.urlopen(request, timeout=10).read().decode())
        break
    except urllib.error.HTTPError:
        raise
    except OSError as error:
        print(error, file=sys.stderr)
        if time.monotonic() > end:
            raise
        time.sleep(0.5)
"""


def black_scholes(option: dict[str, Any]) -> float:
    """The closed formula (Black and Scholes 1973), without dividends."""
    spot, strike, years = option["spot"], option["strike"], option["maturity"]
    rate, sigma, normal = option["rate"], option["volatility"], NormalDist()
    d1 = (math.log(spot / strike) + (rate + sigma**2 / 2) * years) / (sigma * math.sqrt(years))
    d2 = d1 - sigma * math.sqrt(years)
    call: float = spot * normal.cdf(d1) - strike * math.exp(-rate * years) * normal.cdf(d2)
    put: float = call - spot + strike * math.exp(-rate * years)
    return call if option["kind"] == "call" else put


if __name__ == "__main__":
    sys.exit(main())
