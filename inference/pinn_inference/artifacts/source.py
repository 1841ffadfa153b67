"""Finds a model by its URI and proves it is the one asked for before a byte of it is parsed.

The server reads folders. What configmap:// and pvc:// name the operator mounts into the pod, what https://, s3:// and oci:// name
it has fetched before the server starts (remote.py); both it passes on as file://.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from pinn_inference.artifacts import digest as digests
from pinn_inference.artifacts import folder as folders
from pinn_inference.artifacts import manifest as manifests
from pinn_inference.artifacts.address import shown
from pinn_inference.artifacts.manifest import Manifest
from pinn_inference.errors import ModelError

BUILTIN: Final = "builtin://"
MOUNTED: Final = ("configmap", "pvc")
FETCHED: Final = ("https", "s3", "oci")
"""Beforehand, by another process: the one that serves has no credentials, and starts without the network."""


@dataclass(frozen=True)
class Artifact:
    """A verified model: the label it is served under, its manifest, its files."""

    name: str
    version: str
    digest: str
    manifest: Manifest
    files: Mapping[str, bytes]


def fetch(uri: str, name: str, version: str, models: Path, expected_digest: str | None) -> Artifact:
    """The model at `uri`: builtin:// (NAME/VERSION under `models`) or file:///path of its folder.

    Raises ModelError, in one sentence, when it is missing, damaged, or not the one `expected_digest` names.
    """
    folder = locate(uri, name, version, models)
    files = _read(folder, name, version, models if uri == BUILTIN else None)
    actual = digests.digest(files)
    if expected_digest and actual != expected_digest:
        said = f"has the digest {actual}, not {expected_digest} as asked for"
        raise ModelError(f"the model at {folder} {said}{_uncounted(folder)}")
    manifest = manifests.parse(files[digests.MANIFEST])
    if actual != manifest.digest:
        said = f"its digest is {actual}, its manifest says {manifest.digest}"
        raise ModelError(f"the model at {folder} is damaged: {said}{_layout(files)}{_uncounted(folder)}")
    return Artifact(name, version, actual, manifest, files)


def locate(uri: str, name: str, version: str, models: Path) -> Path:
    """The folder a URI names. Raises ModelError for one that this server does not read."""
    if uri == BUILTIN:
        if not _plain(name) or not _plain(version):
            raise ModelError(f"{name!r} version {version!r} is no name of a built-in model")
        return models / name / version
    parts = _parts(uri)
    if parts.scheme == "file":
        return _local(uri, parts)
    if parts.scheme in MOUNTED:
        raise ModelError(
            f"{shown(uri)!r} is for the operator, which mounts it; give this server file:///path of the folder"
        )
    if parts.scheme in FETCHED:
        said = (
            "`pinn-server models fetch` with it and --to FOLDER first, and give this server file:///path of that folder"
        )
        raise ModelError(f"{shown(uri)!r} is not read directly: run {said}")
    raise ModelError(f"{shown(uri)!r} has a scheme this server does not read; it reads builtin:// and file:///path")


def available(models: Path) -> tuple[list[Manifest], list[str]]:
    """The manifests of the built-in models, by name and version, and a sentence for each that cannot be read.

    A folder without one is left out.
    """
    found, complaints = [], []
    for path in sorted(models.glob(f"*/*/{digests.MANIFEST}")):
        try:
            found.append(manifests.parse(path.read_bytes()))
        except ModelError as error:
            complaints.append(f"{path}: {error}")
        except OSError as error:
            complaints.append(f"{path}: {error.strerror or error}")
    return found, complaints


def _parts(uri: str) -> SplitResult:
    try:
        return urlsplit(uri)
    except ValueError:
        raise ModelError(f"{shown(uri)!r} is no address; this server reads builtin:// and file:///path") from None


def _local(uri: str, parts: SplitResult) -> Path:
    if parts.netloc or not parts.path:
        raise ModelError(f"{shown(uri)!r} must have three slashes and a path, as in file:///models/black-scholes/2.0.0")
    if parts.query or parts.fragment:
        raise ModelError(f"{uri!r}: write a question mark in a path as %3F and a number sign as %23")
    path = unquote(parts.path)
    if "\0" in path:
        raise ModelError(f"{uri!r} has a zero byte (%00) in its path, which no file has in its name")
    return Path(path)


def _read(folder: Path, name: str, version: str, models: Path | None) -> dict[str, bytes]:
    try:
        return folders.read(folder)
    except OSError as error:
        said = f"{error.strerror or error} ({error.filename})"
        raise ModelError(f"model {name} {version} cannot be read: {said}{_hint(error, models)}") from None


def _hint(error: OSError, models: Path | None) -> str:
    if isinstance(error, PermissionError):
        return f"; this server runs as user {os.getuid()}: make its files readable and its folder searchable for it"
    known = [f"{m.name} {m.version}" for m in available(models)[0]] if models else []
    return f"; there are: {', '.join(known)}" if known else ""


def _layout(files: Mapping[str, bytes]) -> str:
    known = digests.states_one(files[digests.MANIFEST])
    return "" if known else f"; write {digests.MANIFEST} with a field a line, two spaces before it"


def _uncounted(folder: Path) -> str:
    """Of a later release's model, files may be missing from the digest; of any other, a stranger does no harm."""
    names = folders.strangers(folder)
    return f"; this server does not know and did not count {', '.join(names[:5])}" if names else ""


def _plain(part: str) -> bool:
    return bool(part) and part not in {".", ".."} and not {"/", "\\", "\0"} & set(part)
