"""Reads a model's folder: each file once, all of one moment, before anything in them is trusted.

The folder may be a ConfigMap's volume, whose files are links that change over together, or a claim that somebody writes to: what
was read counts only if nothing has changed meanwhile. Endless files and links out of the folder are refused.
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from pinn_inference import formats
from pinn_inference.artifacts.digest import MANIFEST
from pinn_inference.errors import ModelError

LITERT: Final = "model.tflite"
NETWORKS: Final = (LITERT, formats.KERAS, formats.SAVED_MODEL)
"""One of them is there: a model has one network."""

OPTIONAL: Final = (*NETWORKS, "weights.npz", "errors.npz")
FILES: Final = (MANIFEST, *OPTIONAL)

MIB: Final = 1024 * 1024
LARGEST_FILE: Final = 512 * MIB
LARGEST_FOLDER: Final = 1024 * MIB

ATTEMPTS: Final = 5
"""A ConfigMap changes over in one step, so the second reading is whole; what is still written to after five is not finished."""

State = tuple[tuple[int, ...], ...]


def read(folder: Path) -> dict[str, bytes]:
    """The files of the model in `folder`, by name. Raises OSError when one is missing, ModelError for what is refused."""
    for _ in range(ATTEMPTS):
        before = _state(folder)
        try:
            files = dict(_contents(folder))
        except FileNotFoundError:
            if _state(folder) == before:
                raise
            continue
        if _state(folder) == before:
            return _with_a_network(folder, files)
    raise ModelError(
        f"{folder} is being written to; put the model there under another name and rename it when it is whole"
    )


def strangers(folder: Path) -> list[str]:
    """Files beside the model's own: neither read nor covered by the digest. Hidden ones are a volume's bookkeeping."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.name not in FILES and not e.name.startswith(".") and e.is_file())


def _with_a_network(folder: Path, files: dict[str, bytes]) -> dict[str, bytes]:
    networks = [name for name in NETWORKS if name in files]
    if len(networks) > 1:
        raise ModelError(f"{folder} holds {' and '.join(networks)}; a model has one network, so remove the others")
    if not networks:
        for refused in filter(None, map(formats.refused_name, strangers(folder))):
            raise ModelError(f"{folder}: {refused}")
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder / LITERT))
    return files


def _contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    left = LARGEST_FOLDER
    for name in FILES:
        if name in OPTIONAL and not os.path.lexists(folder / name):
            continue
        content = _content(folder, name, min(left, LARGEST_FILE))
        left -= len(content)
        yield name, content


def _content(folder: Path, name: str, most: int) -> bytes:
    with _opened(folder, name) as file:
        content = file.read(most + 1) if os.fstat(file.fileno()).st_size <= most else None
    if content is None or len(content) > most:
        raise ModelError(
            f"{folder / name} is too large: a file may have {LARGEST_FILE} bytes, a model {LARGEST_FOLDER}"
        )
    return content


def _opened(folder: Path, name: str) -> BinaryIO:
    """Without following a link any further, and without waiting for the other end of a pipe."""
    path = Path(os.path.realpath(folder / name, strict=True))
    if not path.is_relative_to(os.path.realpath(folder)):
        raise ModelError(f"{folder / name} is a link out of the model's folder, to {path}; put the file itself there")
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise ModelError(f"{folder / name} is no regular file")


def _state(folder: Path) -> State:
    """What changes when a file is replaced or written to, through every link on the way to it."""
    return tuple(_identity(folder / name) for name in FILES)


def _identity(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
