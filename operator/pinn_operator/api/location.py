"""Where a model lies, as spec.model.uri says it: what has to be mounted or fetched, and what is wrong with the address."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

FETCHED = ("https", "s3", "oci")
"""By a container that runs before the server's."""

SUPPORTED = ("builtin", "file", "configmap", "pvc", *FETCHED)


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
        said = ", ".join(f"{scheme}://" for scheme in SUPPORTED)
        return f"this release serves models from {said}, not from {location.scheme}://"
    if location.scheme == "https":
        return _about_https(location.path)
    if location.scheme == "oci":
        return _about_oci(location.path)
    if {"?", "#"} & set(location.path):
        return "a path has no ? and no #; write %3F and %23"
    if location.scheme == "pvc" and ".." in unquote(location.path).split("/"):
        return "the path leads out of the claim; write it without .."
    return None


def _about_https(path: str) -> str | None:
    if "@" in path.partition("/")[0]:
        return "user and password have no place in an address; put them into a Secret and name it in model.credentials"
    return "an address to fetch has no #; write %23" if "#" in path else None


def _about_oci(path: str) -> str | None:
    named = path.rpartition("/")[2]
    if ":" in named.partition("@")[0] or "@sha256:" in named:
        return None
    return "an artefact is named by its tag or its digest; write oci://HOST/REPOSITORY:TAG or oci://HOST/REPOSITORY@sha256:..."
