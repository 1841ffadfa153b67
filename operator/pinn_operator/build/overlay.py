"""A user's `template` over the operator's pod: a JSON merge patch (RFC 7396) that matches listed things by name.

Plain merge patch replaces lists whole, and whoever adds one environment variable would take away the server's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

IDENTITY = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
}
"""By which key the items of a list are the same item, as in Kubernetes' own merge keys. Other lists are replaced."""


def overlay(base: Any, patch: Any, field: str = "") -> Any:
    """`patch` laid over `base`; null removes. Neither is changed."""
    if isinstance(patch, Mapping):
        return _mapping(base if isinstance(base, Mapping) else {}, patch)
    key = IDENTITY.get(field)
    if key and isinstance(base, list) and isinstance(patch, list) and all(_has(item, key) for item in (*base, *patch)):
        return _named(base, patch, key)
    return patch


def _has(item: Any, key: str) -> bool:
    return isinstance(item, Mapping) and key in item


def _mapping(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = overlay(merged.get(name), value, name)
    return merged


def _named(base: list[Any], patch: list[Any], key: str) -> list[Any]:
    merged = {item[key]: item for item in base}
    for item in patch:
        merged[item[key]] = overlay(merged.get(item[key], {}), item)
    return list(merged.values())
