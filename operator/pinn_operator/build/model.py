"""How a model gets into the pod: it is mounted read-only, from a ConfigMap or a claim, or from where it was fetched to before.

What is far away another container fetches, with the server's image and before the server: credentials are mounted there and
nowhere else, and the server starts from a folder whatever the address was.
"""

from __future__ import annotations

from typing import Any

from pinn_operator.api.location import FETCHED, Location, location_of
from pinn_operator.api.spec import Model

Object = dict[str, Any]

VOLUME = "pinn-model"
CREDENTIALS = "pinn-model-credentials"
CREDENTIALS_PATH = "/mnt/credentials"

FETCHER = "model"
"""The name of the container that fetches: users add to it by this name."""

FOLDER = "model"
"""Within the volume that a model is fetched to: the folder appears when it is whole."""

ROOM = "3Gi"
"""For an archive, what comes out of it, and as much again: the server's own limit is 1Gi for either."""

READABLE_BY_GROUP = 0o440
"""The pod's group, which is the server's user: a Secret's files belong to root."""


def server_uri(location: Location) -> str:
    """The address that the server is given. It knows nothing of what its folders are mounted from."""
    if _source(location) is None:
        return f"{location.scheme}://{location.path}"
    path = FOLDER if location.scheme in FETCHED else location.path
    return f"file://{_mount_path(location)}/{path}".rstrip("/")


def volumes(model: Model) -> Object:
    """The part of a pod's spec that names the volumes; nothing for a model that the image has."""
    location = location_of(model.uri)
    source = _source(location)
    if source is None:
        return {}
    secret = _secret_of(model)
    credentials = {"name": CREDENTIALS, "secret": {"secretName": secret, "defaultMode": READABLE_BY_GROUP}}
    return {"volumes": [{"name": VOLUME, **source}, *([credentials] if secret else [])]}


def volume_mounts(location: Location) -> Object:
    """The part of the container that mounts it. Whole, without subPath: a link within a claim leads where it did outside."""
    mount = {"name": VOLUME, "mountPath": _mount_path(location), "readOnly": True}
    return {"volumeMounts": [mount]} if _source(location) else {}


def init_containers(model: Model, like: Object) -> Object:
    """The part of a pod's spec that names the container which fetches the model; nothing where there is nothing to fetch.

    `like` is what it has in common with the server's: image, resources, security context. With the server's resources the pod
    asks for no more than it does anyway.
    """
    location = location_of(model.uri)
    if location.scheme not in FETCHED:
        return {}
    mounts: list[Object] = [{"name": VOLUME, "mountPath": _mount_path(location)}]
    env = [("PINN_SERVER_MODEL_URI", model.uri), ("PINN_SERVER_MODEL_DIGEST", model.digest or "")]
    if _secret_of(model):
        mounts += [{"name": CREDENTIALS, "mountPath": CREDENTIALS_PATH, "readOnly": True}]
        env += [("PINN_SERVER_MODEL_CREDENTIALS", CREDENTIALS_PATH)]
    env += [("PINN_SERVER_LOG_FORMAT", "json")]
    container = {
        **like,
        "name": FETCHER,
        "args": ["models", "fetch", "--to", f"{_mount_path(location)}/{FOLDER}"],
        "env": [{"name": name, "value": value} for name, value in env],
        "volumeMounts": mounts,
    }
    return {"initContainers": [container]}


def _secret_of(model: Model) -> str | None:
    fetched = location_of(model.uri).scheme in FETCHED
    return model.credentials.secret_name if fetched and model.credentials else None


def _source(location: Location) -> Object | None:
    """Read-only at the source too: else fsGroup would have the kubelet change the owner of every file in the claim."""
    if location.scheme == "configmap":
        return {"configMap": {"name": location.name}}
    if location.scheme == "pvc":
        return {"persistentVolumeClaim": {"claimName": location.name, "readOnly": True}}
    return {"emptyDir": {"sizeLimit": ROOM}} if location.scheme in FETCHED else None


def _mount_path(location: Location) -> str:
    """It says what is mounted there, since the server's messages name the path."""
    return f"/mnt/{location.scheme}/{location.name}".rstrip("/")
