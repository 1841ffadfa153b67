"""Models from far away: out of a real registry, bucket and web server, with credentials; and what is said when it fails."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.kubectl import (
    Object,
    apply,
    condition,
    delete,
    eventually,
    holds,
    kubectl,
    load_report,
    patch,
    pinn,
    read,
    revision_of,
    running,
    start_load,
    wait_ready,
)
from tests.e2e.stores.install import MODELS, REGISTRY, Stores, install

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("operator"), pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def stores() -> Stores:
    return install()


def digest_of(version: str) -> str:
    return str(json.loads((MODELS / version / "manifest.json").read_text())["digest"])


def model(uri: str, version: str = "1.0.0", opened_by: str | None = "models", digest: str = "") -> Object:
    found: Object = {"name": "black-scholes", "version": version, "uri": uri, "digest": digest or digest_of(version)}
    return found | ({"credentials": {"secretName": opened_by}} if opened_by else {})


def pricer(uri: str, version: str = "1.0.0", **more: Any) -> Object:
    obj = pinn(version=version)
    obj["spec"]["model"] = model(uri, version, **more)
    return obj


def digest_served(namespace: str, pod: Object) -> str:
    """By the server's own metrics."""
    name = pod["metadata"]["name"]
    metrics = kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods/{name}:8081/proxy/metrics")
    (line,) = [line for line in metrics.splitlines() if line.startswith("pinn_model_info{")]
    return line.split('digest="')[1].split('"')[0]


def expect_trouble(namespace: str, *fragments: str, seconds: float = 120.0) -> None:
    """Not Ready since pods do not start, in words that name the cause."""

    def said() -> bool:
        ready = condition(read(namespace), "Ready") or {}
        return ready.get("reason") == "PodsNotStarting" and all(part in ready["message"] for part in fragments)

    eventually(said, seconds, why=lambda: (read(namespace) or {}).get("status"))


@pytest.mark.parametrize(
    ("scheme", "version"),
    [("oci", "1.0.0"), pytest.param("s3", "1.0.0", marks=pytest.mark.full), ("s3", "2.0.0"), ("https", "1.0.0")],
)
def test_a_private_model_is_served_and_only_the_container_that_fetches_has_the_key(
    namespace: str, stores: Stores, scheme: str, version: str
) -> None:
    stores.secret(scheme, namespace)
    apply(pricer(stores.uri(scheme, version), version), namespace)
    wait_ready(namespace, version=version, seconds=150)
    (pod,) = running(namespace)
    assert digest_served(namespace, pod) == digest_of(version)
    (fetcher,), (server,) = pod["spec"]["initContainers"], pod["spec"]["containers"]
    mounts = {one["name"]: {mount["mountPath"] for mount in one["volumeMounts"]} for one in (fetcher, server)}
    assert mounts == {"model": {f"/mnt/{scheme}", "/mnt/credentials"}, "server": {f"/mnt/{scheme}"}}
    start_load(namespace, rate=20, seconds=2)
    assert load_report(namespace)["failed"] == 0


@pytest.mark.full
def test_a_new_version_is_rolled_out_of_the_registry_and_no_request_is_lost(namespace: str, stores: Stores) -> None:
    stores.secret("oci", namespace)
    apply(pricer(stores.uri("oci")), namespace)
    first = revision_of(wait_ready(namespace, seconds=150))
    start_load(namespace, rate=20, seconds=40)
    patch("pinndeployment", "pricer", namespace, {"spec": {"model": model(stores.uri("oci", "2.0.0"), "2.0.0")}})
    obj = wait_ready(namespace, version="2.0.0", seconds=150)
    assert revision_of(obj) != first
    assert obj["status"]["stable"]["modelDigest"] == digest_of("2.0.0")
    assert load_report(namespace)["failed"] == 0
    assert {digest_served(namespace, pod) for pod in running(namespace, f"pinn.dev/revision={revision_of(obj)}")} == {
        digest_of("2.0.0")
    }


def test_another_model_than_the_one_asked_for_is_never_served(namespace: str, stores: Stores) -> None:
    stores.secret("oci", namespace)
    apply(pricer(stores.uri("oci"), digest=digest_of("2.0.0")), namespace)
    said = (
        f"the model from {stores.uri('oci')} has the digest {digest_of('1.0.0')}, not {digest_of('2.0.0')} as asked for"
    )
    expect_trouble(namespace, "container model exited with code 1", said)
    apply(pricer(stores.uri("oci")), namespace)
    wait_ready(namespace, seconds=150)


def test_a_tag_that_now_names_another_model_reaches_nobody(namespace: str, stores: Stores) -> None:
    """The tag is moved while a server of the old model runs; who starts afterwards refuses it, and the server goes on."""
    stores.secret("oci", namespace)
    apply(pricer(stores.uri("oci")), namespace)
    first = revision_of(wait_ready(namespace, seconds=150))
    changed = model(stores.uri("oci", "2.0.0"), "1.0.0")
    patch("pinndeployment", "pricer", namespace, {"spec": {"model": changed}})
    expect_trouble(namespace, f"has the digest {digest_of('2.0.0')}, not {digest_of('1.0.0')} as asked for")
    obj = read(namespace)
    assert obj is not None
    assert holds(obj, "Available")
    assert revision_of(obj) == first


@pytest.mark.parametrize(
    ("scheme", "said"),
    [
        ("oci", f"https://{REGISTRY}/v2/models/black-scholes/manifests/1.0.0 answers 401"),
        pytest.param("s3", "answers 403 (SignatureDoesNotMatch): not allowed", marks=pytest.mark.full),
        pytest.param("https", "/black-scholes-1.0.0.zip answers 401", marks=pytest.mark.full),
    ],
)
def test_a_wrong_password_is_said_without_being_shown_and_heals_with_the_secret(
    namespace: str, stores: Stores, scheme: str, said: str
) -> None:
    stores.secret(scheme, namespace, password="rabbit-hole")
    apply(pricer(stores.uri(scheme)), namespace)
    expect_trouble(namespace, "container model exited with code 1", said, "spec.model.credentials")
    assert "rabbit-hole" not in json.dumps(read(namespace))
    stores.secret(scheme, namespace)
    kubectl(
        "-n", namespace, "delete", "pods", "-l", "pinn.dev/deployment=pricer"
    )  # else the kubelet's pause is waited for
    wait_ready(namespace, seconds=150)


@pytest.mark.full
def test_a_secret_that_is_missing_is_said_and_heals_when_it_is_made(namespace: str, stores: Stores) -> None:
    apply(pricer(stores.uri("oci")), namespace)
    expect_trouble(namespace, "FailedMount", 'secret "models" not found')
    stores.secret("oci", namespace)
    wait_ready(namespace, seconds=240)  # the kubelet's pause between two tries grows to two minutes


def test_a_tag_that_is_not_there_and_a_certificate_that_nobody_vouches_for_are_said(
    namespace: str, stores: Stores
) -> None:
    stores.secret("oci", namespace)
    apply(pricer(stores.uri("oci").replace(":1.0.0", ":9.9.9")), namespace)
    expect_trouble(namespace, "answers 404 (MANIFEST_UNKNOWN): there is nothing; correct spec.model.uri")
    delete("pinndeployment", "pricer", namespace, wait=True)
    apply(pricer(stores.uri("https"), opened_by=None), namespace)
    expect_trouble(namespace, "the certificate of web.stores is not trusted", "ca.crt")


def test_an_artefact_without_a_tag_makes_nothing(namespace: str) -> None:
    apply(pricer(f"oci://{REGISTRY}/models/black-scholes"), namespace)

    def refused() -> bool:
        said = condition(read(namespace), "Stalled") or {}
        return said.get("reason") == "NotSupported" and "named by its tag or its digest" in said["message"]

    eventually(refused, why=lambda: (read(namespace) or {}).get("status"))
    assert not running(namespace)
