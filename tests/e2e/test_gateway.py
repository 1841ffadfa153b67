"""What the operator may rely on in a gateway and in Prometheus, without the operator: two servers that only tell their name."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.gateway.install import Gateway
from tests.e2e.kubectl import (
    Object,
    apply,
    client_pod,
    create,
    delete,
    eventually,
    find,
    get,
    kubectl,
    load_report,
    patch,
)
from tests.e2e.prometheus.install import Prometheus

pytestmark = pytest.mark.e2e

LOAD = (Path(__file__).parent / "load.py").read_text()
INFERENCE_IMAGE = "pinn-operator/inference:0.1.0"
PORT = 8080

TELL_NAME = """
import sys
from aiohttp import web

async def tell(request):
    await request.read()
    return web.json_response({"model": {"version": sys.argv[1]}})

app = web.Application()
app.router.add_post("/predict", tell)
web.run_app(app, port=8080, access_log=None, keepalive_timeout=75)
"""


def server(name: str) -> Object:
    pod = client_pod(name, "-c", TELL_NAME, name)
    pod["metadata"]["labels"] = {"app": name}
    pod["spec"]["containers"][0] |= {
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1},
    }
    return pod


def service(name: str) -> Object:
    spec = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": PORT}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def backends(**weights: int) -> list[Object]:
    return [{"name": name, "port": 80, "weight": weight} for name, weight in weights.items()]


def host(namespace: str) -> str:
    """A name of its own: of two routes for one name the older is served, and both are told that they are accepted."""
    return f"{namespace}.example"


def route(namespace: str, gateway: Gateway, *rules: Object) -> Object:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "pricer"},
        "spec": {"parentRefs": [gateway.parent()], "hostnames": [host(namespace)], "rules": list(rules)},
    }


def answered_for(namespace: str) -> set[str]:
    """The conditions that the gateway says are True of the route's present generation."""
    found = find("httproute", "pricer", namespace)
    if found is None:
        return set()
    conditions = [c for parent in found.get("status", {}).get("parents", ()) for c in parent["conditions"]]
    now = found["metadata"]["generation"]
    return {c["type"] for c in conditions if c["status"] == "True" and c["observedGeneration"] == now}


def in_effect(namespace: str) -> bool:
    return answered_for(namespace) >= {"Accepted", "ResolvedRefs"}


def start(namespace: str, gateway: Gateway, rate: int, seconds: int, *options: str) -> None:
    arguments = ("-c", LOAD, gateway.url(), str(rate), str(seconds), "--host", host(namespace), *options)
    delete("pod", "load", namespace, wait=True)
    create(client_pod("load", *arguments), namespace)
    kubectl("-n", namespace, "wait", "pod/load", "--for=condition=Ready", "--timeout=60s")


@pytest.fixture(scope="module")
def two(gateway: Gateway) -> Iterator[str]:
    """A namespace with the servers `old` and `new`, each behind a Service of its name."""
    name = f"e2e-gateway-{time.time_ns() % 10**8}"
    kubectl("create", "namespace", name)
    for each in ("old", "new"):
        apply(server(each), name)
        apply(service(each), name)
    kubectl("-n", name, "wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s")
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def test_requests_are_shared_by_the_weights_of_the_route(two: str, gateway: Gateway) -> None:
    apply(route(two, gateway, {"backendRefs": backends(old=90, new=10)}), two)
    eventually(lambda: in_effect(two))
    start(two, gateway, 200, 10)
    report = load_report(two)
    assert report["failed"] == 0, report["failures"]
    assert abs(report["versions"]["new"] / 2000 - 0.10) < 0.03, report["versions"]


def test_a_header_leads_to_the_second_whatever_the_weights(two: str, gateway: Gateway) -> None:
    preview = {"matches": [{"headers": [{"name": "x-preview", "value": "new"}]}], "backendRefs": backends(new=100)}
    apply(route(two, gateway, preview, {"backendRefs": backends(old=100)}), two)
    eventually(lambda: in_effect(two))
    start(two, gateway, 50, 2, "--header", "x-preview: new")
    assert load_report(two)["versions"] == {"new": 100}
    start(two, gateway, 50, 2)
    assert load_report(two)["versions"] == {"old": 100}


def test_weights_that_change_under_load_lose_no_request(two: str, gateway: Gateway) -> None:
    apply(route(two, gateway, {"backendRefs": backends(old=90, new=10)}), two)
    eventually(lambda: in_effect(two))
    start(two, gateway, 100, 8)
    time.sleep(2)  # so that both have answered for a while: it is load under which nothing may happen
    asked = time.time()
    patch(
        "httproute",
        "pricer",
        two,
        [{"op": "replace", "path": "/spec/rules/0/backendRefs", "value": backends(old=0, new=100)}],
    )
    written = time.time()
    eventually(lambda: in_effect(two))
    report = load_report(two)
    last = report["last_answer"]["old"]
    print(
        f"the last answer of the old came {_ms(asked, last)} after the write began, {_ms(written, last)} after it had ended"
    )
    assert report["failed"] == 0, report["failures"]
    ended = report["began"] + 8
    assert last < ended - 1, "the old one still answered at the end"


def test_the_route_says_which_of_its_generations_was_taken(two: str, gateway: Gateway) -> None:
    apply(route(two, gateway, {"backendRefs": backends(old=100)}), two)
    eventually(lambda: in_effect(two))
    apply(route(two, gateway, {"backendRefs": backends(old=50, gone=50)}), two)
    eventually(lambda: answered_for(two) == {"Accepted"})
    apply(route(two, gateway, {"backendRefs": backends(old=50, new=50)}), two)
    eventually(lambda: in_effect(two), why=lambda: get("httproute", "pricer", two)["status"])


def test_prometheus_has_the_counters_of_a_server_with_the_name_of_its_pod(
    namespace: str, prometheus: Prometheus
) -> None:
    apply(model_server(), namespace)
    kubectl("-n", namespace, "wait", "pod/pricer", "--for=condition=Ready", "--timeout=60s")
    create(
        client_pod("load", "-c", LOAD, f"http://{address_of('pricer', namespace)}:8080/predict", "20", "1"), namespace
    )
    assert load_report(namespace)["failed"] == 0
    wanted = f'sum by (namespace, pod) (pinn_requests_total{{namespace="{namespace}"}})'

    def counted() -> list[Object]:
        return [series for series in prometheus.query(wanted) if float(series["value"][1]) >= 20]

    (series,) = eventually(counted, why=lambda: json.dumps(prometheus.query(wanted)))
    assert series["metric"] == {"namespace": namespace, "pod": "pricer"}


def model_server() -> Object:
    pod = client_pod("pricer")
    pod["metadata"]["labels"] = {"app.kubernetes.io/name": "pinn-server"}
    pod["spec"]["containers"][0] |= {
        "image": INFERENCE_IMAGE,
        "command": None,
        "ports": [{"name": "http", "containerPort": PORT}, {"name": "admin", "containerPort": 8081}],
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": "http"}, "periodSeconds": 1},
    }
    return pod


def address_of(pod: str, namespace: str) -> str:
    return str(get("pod", pod, namespace)["status"]["podIP"])


def _ms(since: float, until: float) -> str:
    return f"{1000 * (until - since):.0f} ms"
