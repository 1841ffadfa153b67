"""Models that are not in the image: from a ConfigMap and from a claim, and what is said when there is none or another."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.e2e.kubectl import (
    ROOT,
    Object,
    apply,
    client_pod,
    condition,
    create,
    events,
    eventually,
    get,
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

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("operator")]

SAMPLE = ROOT / "manifests/samples/from-a-configmap.yaml"
MODELS = ROOT / "models/black-scholes"

FILL = """
import os, pathlib, sys
folder = pathlib.Path("/to", sys.argv[1])
folder.mkdir(parents=True)
for file in pathlib.Path("/from").iterdir():
    if file.is_file():
        (folder / file.name).write_bytes(file.read_bytes())
os.chmod("/to", 0o755)
"""


def digest_of(version: str) -> str:
    return str(json.loads((MODELS / version / "manifest.json").read_text())["digest"])


def config_map(name: str, version: str, namespace: str) -> None:
    """As the how-to says it: kubectl itself decides what is binary."""
    kubectl("-n", namespace, "create", "configmap", name, f"--from-file={MODELS / version}")


def pricer(uri: str, version: str = "1.0.0", digest: str = "") -> Object:
    obj = pinn(version=version)
    obj["spec"]["model"] |= {"uri": uri, "digest": digest or digest_of(version)}
    return obj


def digest_served(namespace: str, pod: Object) -> str:
    """By the server's own metrics."""
    name = pod["metadata"]["name"]
    metrics = kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods/{name}:8081/proxy/metrics")
    (line,) = [line for line in metrics.splitlines() if line.startswith("pinn_model_info{")]
    return line.split('digest="')[1].split('"')[0]


def expect_trouble(namespace: str, *fragments: str, seconds: float = 90.0) -> None:
    """Not Ready since pods do not start, in words that name the cause, with an Event."""

    def said() -> bool:
        ready = condition(read(namespace), "Ready")
        if ready is None or (ready["status"], ready["reason"]) != ("False", "PodsNotStarting"):
            return False
        return all(fragment in ready["message"] for fragment in fragments)

    eventually(said, seconds, why=lambda: (read(namespace) or {}).get("status"))
    eventually(lambda: events(namespace, "PodsNotStarting"), 10)


def test_the_sample_is_served_from_its_config_map(namespace: str) -> None:
    sample = yaml.safe_load(SAMPLE.read_text())
    name, model = sample["metadata"]["name"], sample["spec"]["model"]
    config_map(model["uri"].removeprefix("configmap://"), model["version"], namespace)
    assert {"model.tflite", "weights.npz"} <= get("configmap", "black-scholes-1.0.0", namespace)["binaryData"].keys()
    kubectl("-n", namespace, "apply", "-f", str(SAMPLE))
    obj = wait_ready(namespace, name)
    assert obj["status"]["stable"]["modelDigest"] == model["digest"]
    (pod,) = running(namespace)
    assert digest_served(namespace, pod) == model["digest"]
    start_load(namespace, rate=20, seconds=2, url=f"http://{name}/predict")
    assert load_report(namespace)["failed"] == 0


def test_a_model_is_served_from_a_claim(namespace: str) -> None:
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }  # fmt: skip
    create(claim, namespace)
    config_map("packed", "2.0.0", namespace)
    fill(namespace, "models", "black-scholes/2.0.0", "packed")
    apply(pricer("pvc://models/black-scholes/2.0.0", "2.0.0"), namespace)
    obj = wait_ready(namespace)
    (pod,) = running(namespace)
    assert digest_served(namespace, pod) == obj["status"]["stable"]["modelDigest"] == digest_of("2.0.0")
    (mount,) = [m for m in pod["spec"]["containers"][0]["volumeMounts"] if m["mountPath"].startswith("/mnt/")]
    assert mount["readOnly"] is True
    start_load(namespace, rate=20, seconds=2)
    assert load_report(namespace)["failed"] == 0


def fill(namespace: str, claim: str, path: str, packed: str) -> None:
    """Copies a ConfigMap into the claim. A volume that was just made belongs to root, so this pod has to be root for once."""
    enforce(namespace, "baseline")
    pod = client_pod("fill", "-c", FILL, path)
    pod["spec"]["securityContext"] = {"runAsUser": 0}
    pod["spec"]["volumes"] = [
        {"name": "from", "configMap": {"name": packed}},
        {"name": "to", "persistentVolumeClaim": {"claimName": claim}},
    ]
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": n, "mountPath": f"/{n}"} for n in ("from", "to")]
    create(pod, namespace)
    done = "--for=jsonpath={.status.phase}=Succeeded"
    kubectl("-n", namespace, "wait", "pod/fill", done, "--timeout=90s")
    enforce(namespace, "restricted")


def enforce(namespace: str, level: str) -> None:
    kubectl("label", "namespace", namespace, f"pod-security.kubernetes.io/enforce={level}", "--overwrite")


def test_another_model_than_the_one_asked_for_is_refused_with_both_digests_and_heals_with_the_spec(
    namespace: str,
) -> None:
    config_map("bs", "1.0.0", namespace)
    apply(pricer("configmap://bs", digest=digest_of("2.0.0")), namespace)
    there, asked_for = digest_of("1.0.0"), digest_of("2.0.0")
    expect_trouble(namespace, f"/mnt/configmap/bs has the digest {there}, not {asked_for} as asked for")
    apply(pricer("configmap://bs"), namespace)
    wait_ready(namespace)


def test_a_config_map_changed_in_place_reaches_nobody(namespace: str) -> None:
    """What serves has the old model in memory; what starts finds another than its digest names, and does not serve."""
    config_map("bs", "1.0.0", namespace)
    apply(pricer("configmap://bs"), namespace)
    first = revision_of(wait_ready(namespace))
    kubectl("-n", namespace, "delete", "configmap", "bs")
    config_map("bs", "2.0.0", namespace)
    patch("pinndeployment", "pricer", namespace, {"spec": {"limits": {"queue": 7}}})
    expect_trouble(namespace, f"has the digest {digest_of('2.0.0')}, not {digest_of('1.0.0')} as asked for")
    obj = read(namespace)
    assert obj is not None
    assert holds(obj, "Available")
    assert revision_of(obj) == first
    (serving,) = running(namespace, f"pinn.dev/revision={first}")
    assert digest_served(namespace, serving) == digest_of("1.0.0")


@pytest.mark.full
def test_a_missing_config_map_is_said_in_the_words_of_the_kubelet_and_heals_when_it_is_made(namespace: str) -> None:
    apply(pricer("configmap://bs"), namespace)
    expect_trouble(namespace, "FailedMount", 'configmap "bs" not found')
    config_map("bs", "1.0.0", namespace)
    wait_ready(namespace, seconds=180)  # the kubelet's pause between two tries grows to two minutes


def test_a_missing_claim_is_said_in_the_words_of_the_scheduler(namespace: str) -> None:
    apply(pricer("pvc://models/bs"), namespace)
    expect_trouble(namespace, "Unschedulable", 'persistentvolumeclaim "models" not found')


def test_a_wrong_path_in_a_config_map_or_claim_is_named(namespace: str) -> None:
    kubectl("-n", namespace, "create", "configmap", "bs", f"--from-file={MODELS / '1.0.0' / 'model.tflite'}")
    apply(pricer("configmap://bs"), namespace)
    expect_trouble(namespace, "cannot be read: No such file or directory (/mnt/configmap/bs/manifest.json)")


def test_an_address_that_leaves_its_claim_makes_nothing(namespace: str) -> None:
    apply(pricer("pvc://models/../other"), namespace)

    def refused() -> bool:
        said = condition(read(namespace), "Stalled")
        return said is not None and said["reason"] == "NotSupported" and "leads out of the claim" in said["message"]

    eventually(refused, why=lambda: (read(namespace) or {}).get("status"))
    assert not running(namespace)
