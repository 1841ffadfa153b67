"""A model of another problem in a format that is not ours, rolled out; and a worse one sent back by its own physics."""

from __future__ import annotations

import json

import pytest

from hack import broken_model, keras_model
from tests.e2e.gateway.install import Gateway
from tests.e2e.kubectl import AT_ONCE, Object, apply, eventually, kubectl, running
from tests.e2e.steps import QUICK, Service, only

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.usefixtures("operator"), pytest.mark.timeout(1200)]

NAME = "burgers"


def model(version: str, config_map: str, files: keras_model.Files) -> Object:
    """What `spec.model` has to say of a model in a ConfigMap, which is made."""
    digest = str(json.loads(files["manifest.json"])["digest"])
    return {"name": NAME, "version": version, "uri": f"configmap://{config_map}", "digest": digest}


def served(service: Service, revision: str) -> Object:
    """By the server's admin port: which model, and what evaluates it."""
    pod = running(service.namespace, f"pinn.dev/revision={revision}")[0]["metadata"]["name"]
    path = f"/api/v1/namespaces/{service.namespace}/pods/{pod}:8081/proxy/model"
    return dict(json.loads(kubectl("get", "--raw", path)))


def test_a_keras_file_takes_over_and_a_worse_one_is_sent_back_by_its_own_physics(
    namespace: str, gateway: Gateway
) -> None:
    service = Service(namespace, gateway)
    service.starts(model={"name": NAME, "version": "1.0.0"}, **AT_ONCE)

    right = keras_model.burgers("1.1.0")
    apply(broken_model.config_map("right", right), namespace)
    service.change(model=model("1.1.0", "right", right))
    stable = service.until_promoted("1.1.0", 400)["status"]["stable"]["revision"]
    assert served(service, stable)["engines"]["tensorflow"]["workers"][0]["status"] == "ready"

    wrong = keras_model.burgers("1.2.0", off=1.2)
    apply(broken_model.config_map("wrong", wrong), namespace)
    gates = {"sla": only(physicsViolationRate="0.1%"), "rollout": {"steps": QUICK}}
    service.change(model=model("1.2.0", "wrong", wrong), template=broken_model.untried(), **gates)
    said = service.until_rolled_back(400)
    assert "further from the solver" in said or "break the equation" in said
    assert service.status["stable"]["revision"] == stable
    assert served(service, stable)["version"] == "1.1.0"
    eventually(lambda: not service.pods(service.status["rejected"][-1]["revision"]), why=lambda: service.status)
