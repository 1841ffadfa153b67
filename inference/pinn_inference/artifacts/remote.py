"""Fetches a model from far away into a folder that a server reads: https, s3 and oci.

A container of its own does this, before the server starts and without its token; it alone sees credentials. The folder appears
when it is whole and its digest is the one asked for, under its name and at once: a server never sees half a model.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pinn_inference.artifacts import archive, oci, s3
from pinn_inference.artifacts import digest as digests
from pinn_inference.artifacts import folder as folders
from pinn_inference.artifacts import manifest as manifests
from pinn_inference.artifacts.address import shown
from pinn_inference.artifacts.credentials import Credentials
from pinn_inference.artifacts.download import Anonymous, Client, Limits, Question
from pinn_inference.errors import ModelError

Get = Callable[[str, Path, Client, Credentials], None]

FOLDERS_DEEP: Final = 2
"""An archive of the folder's files, of the folder, or of what it lies in."""

LOOKS: Final = 0.1
"""Seconds between two looks whether another fetch into the same folder has ended."""


@dataclass(frozen=True)
class Wish:
    """What to fetch, with which digest, opened by what, within which limits."""

    uri: str
    digest: str | None
    credentials: Path | None
    limits: Limits


@dataclass(frozen=True)
class Fetched:
    """The digest of a model that is there, and whether it was brought just now."""

    digest: str
    anew: bool


@dataclass(frozen=True)
class _Authorization:
    value: str

    def headers(self, url: str) -> dict[str, str]:
        return {"authorization": self.value}

    def challenged(self, header: str) -> bool:
        return False


def fetch(wish: Wish, to: Path) -> Fetched:
    """Makes the folder `to` with the model that is wished for, unless it was there already.

    Raises ModelError in one sentence that names the address and the remedy, and never a secret.
    """
    try:
        if there := _there(wish, to):
            return there
        with _alone(wish, to) as work:
            return _there(wish, to) or _fetched(wish, to, work)
    except OSError as error:
        said = f"{error.strerror or error} ({error.filename or to})"
        raise ModelError(f"the model from {shown(wish.uri)} cannot be written: {said}") from None


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


def _there(wish: Wish, to: Path) -> Fetched | None:
    """From before the container was started again, when the registry need not be there any more; or by who was waited for."""
    with suppress(OSError, ModelError):
        if wish.digest is not None and digests.digest(folders.read(to)) == wish.digest:
            return Fetched(wish.digest, anew=False)
    return None


def _fetched(wish: Wish, to: Path, work: Path) -> Fetched:
    if to.is_file() or (to.is_dir() and any(to.iterdir())):
        raise ModelError(f"{to} is there and is not the model asked for; remove it, or name another folder")
    folder, digest = _brought(wish, work)
    _publish(folder, to)
    return Fetched(digest, anew=True)


@contextmanager
def _alone(wish: Wish, to: Path) -> Iterator[Path]:
    """An empty folder beside `to`, of this fetch alone while it lasts. What one that was killed has left in it is removed."""
    work = to.parent / f".{to.name}.fetching"
    ends = time.monotonic() + wish.limits.seconds
    while (held := _held(work)) is None:
        if time.monotonic() >= ends:
            said = f"another fetch into {to} has not ended within {wish.limits.seconds:g} s"
            raise ModelError(f"the model from {shown(wish.uri)} is not fetched: {said}; name another folder")
        time.sleep(LOOKS)
    try:
        for left in work.iterdir():
            shutil.rmtree(left)
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)  # before it is let go: who comes next makes it anew
        os.close(held)


def _held(work: Path) -> int | None:
    """A descriptor by which the folder is held, which ends with the process at the latest; None where another holds it."""
    with suppress(FileExistsError):
        work.mkdir(parents=True)
    with suppress(BlockingIOError, FileNotFoundError), ExitStack() as opened:  # the other has it, or was done just now
        descriptor = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        opened.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), work.stat()):
            opened.pop_all()
            return descriptor
    return None


def _publish(folder: Path, to: Path) -> None:
    """Under its name it is whole, though the machine loses its power: what a rename names must have been written before."""
    for path in folder.rglob("*"):
        if not path.is_dir():
            _written(path)
    with suppress(OSError):  # some file systems do not do this for folders
        _written(folder)
    folder.rename(to)
    with suppress(OSError):
        _written(to.parent)


def _written(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _brought(wish: Wish, work: Path) -> tuple[Path, str]:
    """The model's folder and its digest."""
    get, credentials = getter(wish.uri), Credentials.read(wish.credentials)
    come = work / "come"
    come.mkdir()
    with closing(Client(wish.limits, credentials.authority)) as client:
        get(wish.uri, come, client, credentials)
    folder = _model_in(_opened(wish, come), shown(wish.uri))
    return folder, _proven(wish, folder)


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


def _proven(wish: Wish, folder: Path) -> str:
    """The digest: the one asked for, or else the one its manifest states, which shows that nothing is missing."""
    try:
        files = folders.read(folder)
    except OSError as error:
        missing = Path(error.filename or folder).name
        raise ModelError(f"the model from {shown(wish.uri)} cannot be read: {missing}: {error.strerror}") from None
    actual = digests.digest(files)
    if wish.digest is not None and actual != wish.digest:
        raise ModelError(f"the model from {shown(wish.uri)} has the digest {actual}, not {wish.digest} as asked for")
    if wish.digest is None and actual != (stated := manifests.parse(files[digests.MANIFEST]).digest):
        said = f"its digest is {actual}, its manifest says {stated}"
        raise ModelError(f"the model from {shown(wish.uri)} is damaged: {said}")
    return actual
