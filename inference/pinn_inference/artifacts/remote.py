"""Fetches a model from far away into a folder that a server reads: https, s3 and oci.

A container of its own does this, before the server starts and without its token; it alone sees credentials. The folder appears
when it is whole and its digest is the one asked for, under its name and at once: a server never sees half a model.
"""

import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pinn_inference.artifacts import archive, oci, s3
from pinn_inference.artifacts import digest as digests
from pinn_inference.artifacts import folder as folders
from pinn_inference.artifacts.address import shown
from pinn_inference.artifacts.credentials import Credentials
from pinn_inference.artifacts.download import Anonymous, Client, Limits, Question
from pinn_inference.errors import ModelError

Get = Callable[[str, Path, Client, Credentials], None]

FOLDERS_DEEP: Final = 2
"""An archive of the folder's files, of the folder, or of what it lies in."""


@dataclass(frozen=True)
class Wish:
    """What to fetch, with which digest, opened by what, within which limits."""

    uri: str
    digest: str | None
    credentials: Path | None
    limits: Limits


@dataclass(frozen=True)
class _Authorization:
    value: str

    def headers(self, url: str) -> dict[str, str]:
        return {"authorization": self.value}

    def challenged(self, header: str) -> bool:
        return False


def fetch(wish: Wish, to: Path) -> bool:
    """Makes the folder `to` with the model that is wished for; False when it was there already.

    Raises ModelError in one sentence that names the address and the remedy, and never a secret.
    """
    if _is_there(wish, to):
        return False
    if to.is_file() or (to.is_dir() and any(to.iterdir())):
        raise ModelError(f"{to} is there and is not the model asked for; remove it, or name another folder")
    work = to.parent / f".{to.name}.fetching"
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        _brought(wish, work).rename(to)
    except OSError as error:
        said = f"{error.strerror or error} ({error.filename or to})"
        raise ModelError(f"the model from {shown(wish.uri)} cannot be written: {said}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return True


def getter(uri: str) -> Get:
    """What fetches from such an address. Raises ModelError when nothing does."""
    scheme = uri.partition("://")[0]
    if scheme not in SCHEMES:
        said = ", ".join(f"{name}://" for name in SCHEMES)
        raise ModelError(f"{shown(uri)!r} is not fetched; {said} are")
    return SCHEMES[scheme]


def _web(uri: str, into: Path, client: Client, credentials: Credentials) -> None:
    url = uri.partition("#")[0]
    if "@" in url.removeprefix("https://").partition("/")[0]:
        raise ModelError(f"{shown(uri)!r}: user and password belong into a Secret; name it in spec.model.credentials")
    value = credentials.authorization()
    client.save(Question(url, _Authorization(value) if value else Anonymous()), into / "archive")


SCHEMES: Final[dict[str, Get]] = {"https": _web, "s3": s3.fetch, "oci": oci.fetch}


def _is_there(wish: Wish, to: Path) -> bool:
    """From before the container was started again: then the registry need not be there any more."""
    try:
        return wish.digest is not None and digests.digest(folders.read(to)) == wish.digest
    except (OSError, ModelError):
        return False


def _brought(wish: Wish, work: Path) -> Path:
    get, credentials = getter(wish.uri), Credentials.read(wish.credentials)
    come = work / "come"
    come.mkdir()
    with closing(Client(wish.limits, credentials.authority)) as client:
        get(wish.uri, come, client, credentials)
    folder = _model_in(_opened(wish, come), shown(wish.uri))
    _prove(wish, folder)
    return folder


def _opened(wish: Wish, come: Path) -> Path:
    """What came, or, where that is one archive, what is in it."""
    files = [path for path in come.rglob("*") if not path.is_dir()]
    if len(files) != 1 or files[0].name == digests.MANIFEST:
        return come
    unpacked = come.parent / "unpacked"
    unpacked.mkdir()
    try:
        archive.unpack(files[0], archive.Room(unpacked, wish.limits.most))
    except ModelError as error:
        raise ModelError(f"what lies at {shown(wish.uri)} {error}") from None
    return unpacked


def _model_in(folder: Path, said: str) -> Path:
    """The one folder with a manifest."""
    found = [
        path.parent
        for path in folder.rglob(digests.MANIFEST)
        if len(path.relative_to(folder).parts) <= 1 + FOLDERS_DEEP
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise ModelError(f"{said} holds {len(found)} models; pack the folder of one")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    raise ModelError(f"{said} holds no {digests.MANIFEST}; it holds {', '.join(files[:5]) or 'nothing'}")


def _prove(wish: Wish, folder: Path) -> None:
    try:
        actual = digests.digest(folders.read(folder))
    except OSError as error:
        missing = Path(error.filename or folder).name
        raise ModelError(f"the model from {shown(wish.uri)} cannot be read: {missing}: {error.strerror}") from None
    if wish.digest is not None and actual != wish.digest:
        raise ModelError(f"the model from {shown(wish.uri)} has the digest {actual}, not {wish.digest} as asked for")
