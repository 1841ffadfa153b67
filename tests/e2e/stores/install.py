"""The stores in the cluster, filled; and the Secrets by which a model is read from them."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.kubectl import ROOT, Object, apply, create, delete, kubectl
from tests.e2e.stores.build import TAG

HERE = Path(__file__).resolve().parent
NAMESPACE = "stores"
MODELS = ROOT / "models/black-scholes"
VERSIONS = ("1.0.0", "2.0.0")
USER, PASSWORD = "alice", "wonderland"
REGISTRY = f"registry.{NAMESPACE}:5000"


@dataclass(frozen=True)
class Stores:
    """`authority` is the certificate (PEM) of the registry and the web server."""

    authority: str

    def uri(self, scheme: str, version: str = "1.0.0") -> str:
        """Where a model lies; not every version lies everywhere."""
        return {
            ("oci", "1.0.0"): f"oci://{REGISTRY}/models/black-scholes:1.0.0",
            ("oci", "2.0.0"): f"oci://{REGISTRY}/models/black-scholes:2.0.0",
            ("s3", "1.0.0"): "s3://models/black-scholes/1.0.0/",
            ("s3", "2.0.0"): "s3://models/black-scholes-2.0.0.tar.gz",
            ("https", "1.0.0"): f"https://web.{NAMESPACE}/black-scholes-1.0.0.zip",
        }[scheme, version]

    def secret(self, scheme: str, namespace: str, name: str = "models", password: str = PASSWORD) -> None:
        """Makes the Secret that opens the store, or overwrites it."""
        data = {
            "oci": {".dockerconfigjson": docker_config(password)},
            "s3": {
                "accessKeyId": USER,
                "secretAccessKey": password,
                "region": "eu-west-1",
                "endpoint": f"http://s3.{NAMESPACE}:7070",
            },
            "https": {"token": password},
        }[scheme] | {"ca.crt": self.authority}
        kind = "kubernetes.io/dockerconfigjson" if scheme == "oci" else "Opaque"
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "stringData": data}
        apply(secret, namespace)


def docker_config(password: str) -> str:
    return json.dumps({"auths": {REGISTRY: {"username": USER, "password": password}}})


def install() -> Stores:
    """The stores, ready and filled. They stay: they belong to the cluster."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}, "default")
    authority = _certified()
    for version in VERSIONS:
        _config_map(f"black-scholes-{version}", MODELS / version)
    _config_map("scripts", HERE / "scripts")
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(HERE / "stores.yaml"))
    kubectl("-n", NAMESPACE, "rollout", "restart", "deployment/stores")
    kubectl("-n", NAMESPACE, "rollout", "status", "deployment/stores", "--timeout=110s")
    for version in VERSIONS:
        _push(version)
    return Stores(authority)


def _certified() -> str:
    """A certificate for the two servers that have TLS, which is its own authority, as a Secret."""
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = Path(folder, "tls.key"), Path(folder, "tls.crt")
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        names = f"subjectAltName=DNS:registry.{NAMESPACE},DNS:web.{NAMESPACE}"
        about = ["-subj", "/CN=e2e stores", "-addext", names]
        command = ["openssl", "req", "-x509", *kind, *about, "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True)
        data = {"tls.key": key.read_text(), "tls.crt": certificate.read_text()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls"}, "type": "kubernetes.io/tls"}
    apply({**secret, "stringData": data}, NAMESPACE)
    return data["tls.crt"]


def _config_map(name: str, folder: Path) -> None:
    made = kubectl("create", "configmap", name, f"--from-file={folder}", "--dry-run=client", "-o", "json")
    apply(json.loads(made), NAMESPACE)


def _push(version: str) -> None:
    """As the how-to says it, by ORAS itself."""
    name = f"push-{version}"
    delete("pod", name, NAMESPACE, wait=True)
    create(_pushing(name, version), NAMESPACE)
    over = ["--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s"]
    kubectl("-n", NAMESPACE, "wait", f"pod/{name}", *over)


def _pushing(name: str, version: str) -> Object:
    files = sorted(path.name for path in (MODELS / version).iterdir() if path.is_file())
    login = ["--username", USER, "--password", PASSWORD, "--ca-file", "/tls/tls.crt"]
    container = {
        "name": "oras",
        "image": TAG,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/oras", "push", *login, f"{REGISTRY}/models/black-scholes:{version}", *files],
        "workingDir": "/model",
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 - it looks for a docker configuration there
        "volumeMounts": [{"name": "model", "mountPath": "/model"}, {"name": "tls", "mountPath": "/tls"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec = {
        "restartPolicy": "OnFailure",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "model", "configMap": {"name": f"black-scholes-{version}"}},
            {"name": "tls", "secret": {"secretName": "tls", "items": [{"key": "tls.crt", "path": "tls.crt"}]}},
        ],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
