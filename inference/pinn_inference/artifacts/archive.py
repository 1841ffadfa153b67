"""Unpacks an archive that somebody else made: plain files under plain names, up to a limit, into a new folder and nowhere else.

The model's digest is that of its files, so an archive has to be opened before anything is proven. Nothing in it is believed: not
its names, not its sizes, not its count. It is a model, not a backup: links, devices, owners and modes have no business in it.
"""

import io
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from gzip import BadGzipFile, GzipFile
from pathlib import Path
from typing import IO, Final, cast

from pinn_inference.errors import ModelError

MOST_ENTRIES: Final = 1000
"""Files and folders of an archive; a model has a handful, in a larger format some dozens."""

DEEPEST: Final = 8
LONGEST: Final = 200
"""Folders within folders, and bytes of a name: what every file system takes."""

HEADERS: Final = 1024 * 1024
"""Bytes that may be read to find the next entry: a tar archive can have headers of any size, a zip archive such a directory."""

CHUNK: Final = 64 * 1024

_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_TAR, _TAR_AT = b"ustar", 257

_DAMAGE: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    BadGzipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    LookupError,
    ArithmeticError,
    RuntimeError,  # of zipfile: an entry that is encrypted, or compressed in a way it does not know
)


class Refused(ModelError):
    """What is wrong with an archive, and after it what helps who packed a model's folder."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason


def unpack(archive: Path, room: "Room") -> None:
    """Writes the files of a .tar, .tar.gz or .zip into the folder of `room`, as far as there is room left.

    Which of the three it is its first bytes say. Raises ModelError, "holds ..." or "is ...", for all that is not simply a folder
    of files; OSError when they cannot be written.
    """
    try:
        with archive.open("rb") as file:
            start = file.read(512)
            file.seek(0)
            _reader(start)(file, room)
    except _DAMAGE as error:
        raise ModelError(f"is damaged, or packed in a way this server does not know: {error}") from None


def place(name: str) -> Path | None:
    """Where an entry of this name goes, relative to the folder; None for the folder itself.

    Raises ModelError for a name that leads elsewhere, or that some system does not take.
    """
    shown = repr(name[:LONGEST])
    if not name.isprintable() or "\\" in name:
        raise ModelError(f"holds {shown}: a name has printable characters, and / between folders")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise Refused(f"holds {shown}, which leads out of the model's folder", "pack the folder's own files")
    if len(parts) > DEEPEST or any(len(part.encode()) > LONGEST for part in parts):
        raise ModelError(f"holds {shown}: folders may be {DEEPEST} deep and a name {LONGEST} bytes long")
    return Path(*parts) if parts else None


def contents(packed: bytes, most: int) -> dict[str, bytes]:
    """The same of a .zip in memory: its files by name, nothing written anywhere.

    Raises ModelError as `unpack` does, without the remedy: what is read here is no model's folder, and its limit is no setting.
    """
    shelf = _Shelf(most)
    try:
        if not packed.startswith(_ZIP):
            raise ModelError("is no .zip")
        _zip(io.BytesIO(packed), shelf)
    except Refused as error:
        raise ModelError(error.reason) from None
    except _DAMAGE as error:
        raise ModelError(f"is damaged, or packed in a way this server does not know: {error}") from None
    return shelf.files


class _Counted:
    """What may still come out of an archive."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._left = most
        self._entries = MOST_ENTRIES

    def _enters(self) -> None:
        self._entries -= 1
        if self._entries < 0:
            raise Refused(f"holds more than {MOST_ENTRIES} files and folders", "pack the model's folder alone")

    def _takes(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise too_large(self.most)


class _Shelf(_Counted):
    """Files in memory."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.files: dict[str, bytes] = {}

    def folder(self, name: str) -> None:
        """Is only looked at."""
        self._enters()
        place(name)

    def file(self, name: str, content: IO[bytes]) -> None:
        """Keeps a file that is not there yet."""
        self._enters()
        path = place(name)
        if path is None or path.as_posix() in self.files:
            raise ModelError(f"holds {name[:LONGEST]!r} twice, or without a name")
        found = bytearray()
        while chunk := content.read(CHUNK):
            self._takes(len(chunk))
            found += chunk
        self.files[path.as_posix()] = bytes(found)


class Room(_Counted):
    """A folder that exists and is filled: `most` bytes at most, and MOST_ENTRIES, of all archives together."""

    def __init__(self, folder: Path, most: int) -> None:
        super().__init__(most)
        self._folder = folder

    def folder(self, name: str) -> None:
        """Makes a folder, unless it is there."""
        self._enters()
        if path := place(name):
            with _refusal(name):
                (self._folder / path).mkdir(parents=True, exist_ok=True)

    def file(self, name: str, content: IO[bytes]) -> None:
        """Writes a file that is not there yet."""
        self._enters()
        path = place(name)
        if path is None:
            raise Refused(f"holds a file called {name!r}", "pack the folder's own files")
        with _refusal(name):
            (self._folder / path).parent.mkdir(parents=True, exist_ok=True)
            target = os.open(self._folder / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        with os.fdopen(target, "wb") as file:
            while chunk := content.read(CHUNK):
                self._takes(len(chunk))
                file.write(chunk)


class _Careful:
    """A file in which a library looks for entries: it may read only so much before it has found the next one.

    Seeking is bounded too: a compressed file is decompressed up to there.
    """

    def __init__(self, file: IO[bytes], room: _Counted) -> None:
        self._file = file
        self._most = room.most
        self._longest = room.most + MOST_ENTRIES * HEADERS
        self._left: int | None = HEADERS

    def looks(self) -> None:
        """For the next entry."""
        self._left = HEADERS

    def reads(self) -> None:
        """The content of an entry, in pieces; who writes them counts them."""
        self._left = None

    def read(self, count: int = -1) -> bytes:
        """As a file does, up to the limit."""
        if self._left is None:
            return self._file.read(count)
        found = self._file.read(self._left + 1 if count < 0 else count if count <= self._left else 0)
        if count > self._left or len(found) > self._left:
            raise Refused(f"has headers of more than {HEADERS} bytes", "pack the model's folder anew")
        self._left -= len(found)
        return found

    def seek(self, to: int, whence: int = os.SEEK_SET) -> int:
        """As a file does, up to the limit."""
        if to > self._longest:
            raise too_large(self._most)
        if to < 0 and whence == os.SEEK_SET:
            raise EOFError("an entry before its start")
        return self._file.seek(to, whence)

    def tell(self) -> int:
        """As a file does."""
        return self._file.tell()

    def seekable(self) -> bool:
        """It is."""
        return True


def too_large(most: int) -> Refused:
    """What is said of more than `most` bytes."""
    return Refused(f"has more than {most} bytes unpacked", "the setting PINN_SERVER_MODEL_MAX_BYTES may allow more")


def _reader(start: bytes) -> Callable[[IO[bytes], Room], None]:
    if start.startswith(_ZIP):
        return _zip
    if start.startswith(_GZIP):
        return _tar_gz
    if start[_TAR_AT:].startswith(_TAR):
        return _tar
    page = ", but a page for people: does the address want a login?" if start.lstrip()[:1] == b"<" else ""
    raise ModelError(f"is neither .tar, .tar.gz nor .zip{page}")


def _tar_gz(file: IO[bytes], room: Room) -> None:
    with GzipFile(fileobj=file) as plain:
        _tar(cast(IO[bytes], plain), room)


def _tar(file: IO[bytes], room: Room) -> None:
    careful = _Careful(file, room)
    with tarfile.open(fileobj=cast(IO[bytes], careful), mode="r:") as tar:
        member = tar.next()
        while member is not None:
            careful.reads()
            _tar_member(tar, member, room)
            careful.looks()
            member = tar.next()


def _tar_member(tar: tarfile.TarFile, member: tarfile.TarInfo, room: Room) -> None:
    content = tar.extractfile(member) if member.isreg() and not member.issparse() else None
    if content is not None:
        room.file(member.name, content)
    elif member.isdir():
        room.folder(member.name)
    else:
        raise _no_file(member.name)


def _zip(file: IO[bytes], room: Room | _Shelf) -> None:
    careful = _Careful(file, room)
    with zipfile.ZipFile(cast(IO[bytes], careful)) as packed:
        careful.reads()
        for member in packed.infolist():
            _zip_member(packed, member, room)


def _zip_member(packed: zipfile.ZipFile, member: zipfile.ZipInfo, room: Room | _Shelf) -> None:
    kind, name = stat.S_IFMT(member.external_attr >> 16), member.filename[:LONGEST]
    if member.is_dir():
        room.folder(member.filename)
    elif kind not in (0, stat.S_IFREG):
        raise _no_file(member.filename)
    elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refused(f"holds {name!r} compressed by a method other than deflate", "pack it by plain zip")
    else:
        with packed.open(member) as content:
            room.file(member.filename, content)


def _no_file(name: str) -> Refused:
    said = f"holds {name[:LONGEST]!r}, which is a link, a device or a sparse file"
    return Refused(said, "pack plain files and folders")


@contextmanager
def _refusal(name: str) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise ModelError(f"holds {name[:LONGEST]!r} twice, or a file where a folder is") from None
