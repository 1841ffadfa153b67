"""Networks in the formats of others, read without running anything of theirs: what is not on a list here is refused by its name.

The process that serves looks at a file's structure alone; its numbers are read, and TensorFlow is imported, in processes of their
own that can be limited and can die (engines/worker.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from pinn_inference.errors import ModelError

KERAS: Final = "model.keras"
SAVED_MODEL: Final = "saved_model.zip"

MOST: Final = 48 * 1024 * 1024
"""Bytes of a network, unpacked: beyond, it is none that answers in milliseconds, and a worker is sent it in one piece."""

NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises for what is no JSON, or, as msgspec.ValidationError, for JSON other than was wanted."""

Format = Literal["keras", "saved-model"]


class Parcel(msgspec.Struct, frozen=True):
    """What a worker is sent: the parts of a network, and which derivatives are wanted of it, as problems/jets.py names them."""

    format: Format
    parts: dict[str, bytes]
    coordinates: str
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Network:
    """A network that was looked at: `parts` are what a worker needs of it, `takes` how many numbers a point has."""

    format: Format
    parts: Mapping[str, bytes]
    takes: int

    def parcel(self, coordinates: str, rows: tuple[str, ...]) -> bytes:
        """As it travels. Raises ModelError where the network takes another number of coordinates."""
        if self.takes != len(coordinates):
            said = f"its points have {self.takes} numbers; the problem's have {len(coordinates)}"
            raise ModelError(f"the network does not fit its problem: {said}")
        return msgspec.msgpack.encode(Parcel(self.format, dict(self.parts), coordinates, rows))


def words(text: str) -> frozenset[str]:
    """A list of names, as it is easy to read."""
    return frozenset(text.split())


def opened(parcel: bytes) -> Parcel:
    """In the worker."""
    return msgspec.msgpack.decode(parcel, type=Parcel)


def read(name: str, content: bytes) -> Network:
    """The network in the file of a model's folder that is called so. Raises ModelError, with the file's name and the reason."""
    from pinn_inference.formats import keras_file, saved_model

    try:
        return keras_file.read(content) if name == KERAS else saved_model.read(content)
    except ModelError as error:
        raise ModelError(f"{name} {error}") from None


ENDINGS: Final = {
    ".pkl": "a pickle, which is a program that runs as it is read",
    ".pickle": "a pickle, which is a program that runs as it is read",
    ".joblib": "a pickle, which is a program that runs as it is read",
    ".pt": "PyTorch's, a pickle, which is a program that runs as it is read",
    ".pth": "PyTorch's, a pickle, which is a program that runs as it is read",
    ".h5": "Keras' older one, which may hold code",
    ".hdf5": "Keras' older one, which may hold code",
    ".pb": "a graph without its variables",
    ".onnx": "one this server does not evaluate",
}
REMEDY: Final = "save it by model.save('model.keras') or model.export(FOLDER) and run `pinn-server models convert`"

_STARTS: Final = (
    (b"\x89HDF\r\n\x1a\n", ENDINGS[".h5"]),
    (b"\x80\x02", ENDINGS[".pkl"]),
    (b"\x80\x03", ENDINGS[".pkl"]),
    (b"\x80\x04", ENDINGS[".pkl"]),
    (b"\x80\x05", ENDINGS[".pkl"]),
)


def refused_name(name: str) -> str | None:
    """Why a file of this name is never read, or None."""
    return next(
        (f"{name} has a format that is {why}; {REMEDY}" for end, why in ENDINGS.items() if name.endswith(end)), None
    )


def disguised(content: bytes) -> str | None:
    """What a file is by its first bytes, where it is one that is never read."""
    return next((f"has a format that is {why}; {REMEDY}" for start, why in _STARTS if content.startswith(start)), None)
