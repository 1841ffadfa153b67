"""Where a model lies, as spec.model.uri says it: what has to be mounted, and what is wrong with the address."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

SUPPORTED = ("builtin", "file", "configmap", "pvc")


@dataclass(frozen=True, slots=True)
class Location:
    """`name` is that of the ConfigMap or the claim, `path` the rest, percent-encoded as the user wrote it."""

    scheme: str
    name: str = ""
    path: str = ""


def location_of(uri: str) -> Location:
    """The parts of an address that the schema's pattern has let through."""
    scheme, _, rest = uri.partition("://")
    if scheme not in ("configmap", "pvc"):
        return Location(scheme, path=rest)
    name, _, path = rest.partition("/")
    return Location(scheme, name, path)


def complaint_about(location: Location) -> str | None:
    """Why this release cannot take a model from there, in a sentence; None when it can."""
    if location.scheme not in SUPPORTED:
        return (
            "this release serves models from builtin://, file://, configmap:// and pvc://, "
            f"not from {location.scheme}://; copy the model into a claim and write pvc://CLAIM/PATH"
        )
    if {"?", "#"} & set(location.path):
        return "a path has no ? and no #; write %3F and %23"
    if location.scheme == "pvc" and ".." in unquote(location.path).split("/"):
        return "the path leads out of the claim; write it without .."
    return None
