"""A model from far away: who fetches it, who sees the credentials, and what the server is told."""

from typing import Any

import pytest
from pinn_operator.build.pod import render
from tests.given import resource, revision

DIGEST = "sha256:" + "a" * 64
FAR = {
    "https": "https://models.example.com/bs.tar.gz?version=1",
    "s3": "s3://models/bs/1.0.0/",
    "oci": "oci://registry.example.com/models/bs:1.0.0",
}
each = pytest.mark.parametrize(("scheme", "uri"), FAR.items(), ids=FAR)


def pod(uri: str, secret: str = "", **spec: Any) -> dict[str, Any]:
    model: dict[str, Any] = {"name": "black-scholes", "version": "1.0.0", "uri": uri, "digest": DIGEST}
    if secret:
        model["credentials"] = {"secretName": secret}
    of = resource("1.0.0", model=model, **spec)
    template = render(revision("1.0.0", written_down=False, model=model, **spec), "pricer", of.spec).template
    assert template is not None
    return dict(template["spec"])


def fetcher(of: dict[str, Any]) -> dict[str, Any]:
    (found,) = of["initContainers"]
    return dict(found)


def server(of: dict[str, Any]) -> dict[str, Any]:
    (found,) = of["containers"]
    return dict(found)


def told(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


@each
def test_a_container_before_the_servers_fetches_it_with_the_same_image(scheme: str, uri: str) -> None:
    found = fetcher(pod(uri))
    assert (found["name"], found["image"]) == ("model", server(pod(uri))["image"])
    assert found["args"] == ["models", "fetch", "--to", f"/mnt/{scheme}/model"]
    assert told(found)["PINN_SERVER_MODEL_URI"] == uri
    assert told(found)["PINN_SERVER_MODEL_DIGEST"] == DIGEST


@each
def test_the_server_reads_what_was_fetched_and_cannot_write_there(scheme: str, uri: str) -> None:
    of = pod(uri)
    (volume,), (reads,), (writes,) = of["volumes"], server(of)["volumeMounts"], fetcher(of)["volumeMounts"]
    assert volume == {"name": "pinn-model", "emptyDir": {"sizeLimit": "3Gi"}}
    assert reads == {"name": "pinn-model", "mountPath": f"/mnt/{scheme}", "readOnly": True}
    assert writes == {"name": "pinn-model", "mountPath": f"/mnt/{scheme}"}
    assert told(server(of))["PINN_SERVER_MODEL_URI"] == f"file:///mnt/{scheme}/model"
    assert told(server(of))["PINN_SERVER_MODEL_DIGEST"] == DIGEST


@each
def test_credentials_are_mounted_where_it_is_fetched_and_nowhere_else(scheme: str, uri: str) -> None:
    of = pod(uri, secret="key")
    (volume,) = [one for one in of["volumes"] if "secret" in one]
    assert volume["secret"] == {"secretName": "key", "defaultMode": 0o440}
    mounts = {mount["name"]: mount for mount in fetcher(of)["volumeMounts"]}
    assert mounts[volume["name"]] == {"name": volume["name"], "mountPath": "/mnt/credentials", "readOnly": True}
    assert told(fetcher(of))["PINN_SERVER_MODEL_CREDENTIALS"] == "/mnt/credentials"
    assert volume["name"] not in [mount["name"] for mount in server(of)["volumeMounts"]]
    assert not [name for name in told(server(of)) if "CREDENTIALS" in name]
    assert of["automountServiceAccountToken"] is False


def test_the_container_that_fetches_meets_the_restricted_pod_security_standard_and_asks_for_no_more() -> None:
    of = pod(FAR["oci"], resources={"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}})
    for key in ("securityContext", "resources", "imagePullPolicy", "terminationMessagePolicy"):
        assert fetcher(of)[key] == server(of)[key]
    assert fetcher(of)["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("uri", ["builtin://", "file:///srv/m", "configmap://bs", "pvc://models/bs"])
def test_what_the_pod_has_is_not_fetched_and_no_secret_is_mounted_for_it(uri: str) -> None:
    of = pod(uri, secret="key")
    assert "initContainers" not in of
    assert not [volume for volume in of.get("volumes", ()) if "secret" in volume]


def test_a_template_adds_to_the_container_that_fetches_by_its_name() -> None:
    proxy = {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}
    of = pod(FAR["https"], template={"spec": {"initContainers": [{"name": "model", "env": [proxy]}]}})
    assert proxy in fetcher(of)["env"]
    assert told(fetcher(of))["PINN_SERVER_MODEL_URI"] == FAR["https"]
