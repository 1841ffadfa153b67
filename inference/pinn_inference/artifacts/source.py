"""Fetches a model by URI and proves it is the one asked for before a byte of it is parsed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pinn_inference.artifacts import digest as digests
from pinn_inference.artifacts import manifest as manifests
from pinn_inference.artifacts.manifest import Manifest
from pinn_inference.errors import ModelError

BUILTIN = "builtin://"


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
        raise ModelError(f"the model at {folder} has the digest {actual}, not {expected_digest} as asked for")
    manifest = manifests.parse(files[digests.MANIFEST])
    if actual != manifest.digest:
        raise ModelError(
            f"the model at {folder} is damaged: its digest is {actual}, its manifest says {manifest.digest}"
        )
    return Artifact(name, version, actual, manifest, files)


def locate(uri: str, name: str, version: str, models: Path) -> Path:
    """The folder a URI names. Raises ModelError for a scheme this server does not read."""
    if uri == BUILTIN:
        if not _plain(name) or not _plain(version):
            raise ModelError(f"{name!r} version {version!r} is no name of a built-in model")
        return models / name / version
    parts = urlsplit(uri)
    if parts.scheme == "file" and not parts.netloc and parts.path:
        return Path(unquote(parts.path))
    if parts.scheme == "file":
        raise ModelError(f"{uri!r} must have three slashes and a path, as in file:///models/black-scholes/2.0.0")
    raise ModelError(f"{uri!r} has a scheme this server does not read; it reads builtin:// and file:///path")


def available(models: Path) -> list[Manifest]:
    """The manifests of the built-in models, by name and version. A folder without one is left out."""
    return [manifests.parse(path.read_bytes()) for path in sorted(models.glob(f"*/*/{digests.MANIFEST}"))]


def _read(folder: Path, name: str, version: str, models: Path | None) -> dict[str, bytes]:
    try:
        return digests.read_folder(folder)
    except OSError as error:
        known = [f"{m.name} {m.version}" for m in available(models)] if models else []
        hint = f"; there are: {', '.join(known)}" if known else ""
        raise ModelError(
            f"model {name} {version} cannot be read: {error.strerror or error} ({error.filename}){hint}"
        ) from None


def _plain(part: str) -> bool:
    return bool(part) and part not in {".", ".."} and not {"/", "\\", "\0"} & set(part)
