"""How a model gets into the pod: a ConfigMap or a claim is mounted read-only, and the server reads the folder."""

from __future__ import annotations

from typing import Any

from pinn_operator.api.location import Location

Object = dict[str, Any]

VOLUME = "pinn-model"


def server_uri(location: Location) -> str:
    """The address that the server is given. It knows nothing of what its folders are mounted from."""
    if _source(location) is None:
        return f"{location.scheme}://{location.path}"
    return f"file://{_mount_path(location)}/{location.path}".rstrip("/")


def volumes(location: Location) -> Object:
    """The part of a pod's spec that names the volume; nothing for a model that the image has."""
    source = _source(location)
    return {"volumes": [{"name": VOLUME, **source}]} if source else {}


def volume_mounts(location: Location) -> Object:
    """The part of the container that mounts it. Whole, without subPath: a link within a claim leads where it did outside."""
    mount = {"name": VOLUME, "mountPath": _mount_path(location), "readOnly": True}
    return {"volumeMounts": [mount]} if _source(location) else {}


def _source(location: Location) -> Object | None:
    """Read-only at the source too: else fsGroup would have the kubelet change the owner of every file in the claim."""
    if location.scheme == "configmap":
        return {"configMap": {"name": location.name}}
    if location.scheme == "pvc":
        return {"persistentVolumeClaim": {"claimName": location.name, "readOnly": True}}
    return None


def _mount_path(location: Location) -> str:
    """It says what is mounted there, since the server's messages name the path."""
    return f"/mnt/{location.scheme}/{location.name}"
