"""A Service that runs is taken over by a PinnDeployment while users ask it, and given back: nobody notices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.kubectl import Object, apply, client_pod, eventually, find, get, kubectl, wait_ready
from tests.e2e.steps import Load

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.full]

OLD = """
import http.server, json
class Handler(http.server.BaseHTTPRequestHandler):
    def _answer(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = json.dumps({"price": 1.0, "model": {"version": "old"}}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = _answer
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", 5000), Handler).serve_forever()
"""
"""What a team has before: a server of its own making, on a port of its own choice."""


def _old(namespace: str) -> None:
    pod = client_pod("unused", "-c", OLD)["spec"]
    del pod["restartPolicy"]
    pod["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/", "port": 5000}, "periodSeconds": 1}
    labels = {"app": "old-pricer"}
    deployment: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "old-pricer"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    ports = [{"name": "web", "port": 8000, "targetPort": 5000}]
    service: Object = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "pricer"},
        "spec": {"selector": labels, "ports": ports},
    }
    apply(deployment, namespace)
    apply(service, namespace)
    kubectl("-n", namespace, "rollout", "status", "deployment/old-pricer", "--timeout=120s")


def _migrate(namespace: str, *options: str) -> str:
    program = Path(sys.executable).parent / "kubectl-pinn"
    command = [str(program), "migrate", "pricer", "-n", namespace, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_service_is_taken_over_and_given_back_without_a_failed_request(namespace: str) -> None:
    _old(namespace)
    before = get("service", "pricer", namespace)["spec"]
    load = Load(namespace)
    load.starts("http://pricer:8000/predict", 50, 500)
    try:
        _migrate(namespace, "--model", "black-scholes", "--version", "2.0.0")
        wait_ready(namespace, version="2.0.0", seconds=180)
        service = get("service", "pricer", namespace)
        assert service["spec"]["clusterIP"] == before["clusterIP"]
        assert {port["port"]: port["name"] for port in service["spec"]["ports"]}[8000] == "web"
        kubectl("-n", namespace, "scale", "deployment/old-pricer", "--replicas=0")
        kubectl("-n", namespace, "wait", "pod", "-l", "app=old-pricer", "--for=delete", "--timeout=120s")
        kubectl("-n", namespace, "scale", "deployment/old-pricer", "--replicas=2")
        kubectl("-n", namespace, "rollout", "status", "deployment/old-pricer", "--timeout=120s")
        _migrate(namespace, "--undo")
        eventually(lambda: find("pinndeployment", "pricer", namespace) is None, 120)
    finally:
        load.finishes()
    assert load.failed == 0, load.report
    assert load.answered("2.0.0") > 0
    after = get("service", "pricer", namespace)
    assert after["spec"]["selector"] == before["selector"]
    assert after["spec"]["ports"] == before["ports"]
    assert not after["metadata"].get("ownerReferences")
