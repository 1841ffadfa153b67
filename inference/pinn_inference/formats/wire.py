"""Protocol Buffers as they travel, walked field by field without their schema: enough to see what a message names.

A reader with the schema may join what is written in pieces; whoever checks must look at every piece, as `fields` gives them.
"""

from collections.abc import Iterator
from typing import Final

from pinn_inference.errors import ModelError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
LONGEST_VARINT: Final = 10


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field, in order: integers as they are, everything else as bytes. Raises ModelError."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        length = 8 if kind == FIXED64 else 4 if kind == FIXED32 else 0
        if kind == BYTES:
            length, at = _varint(message, at)
        elif not length:
            raise ModelError(f"is damaged: a field of kind {kind}")
        if at + length > len(message) or not number:
            raise ModelError("is damaged: a field ends after its message")
        yield number, message[at : at + length]
        at += length


def messages(message: bytes, *path: int) -> Iterator[bytes]:
    """Every message, or text, at the end of a path of field numbers. Raises ModelError where an integer is on the way."""
    if not path:
        yield message
        return
    for number, value in fields(message):
        if number == path[0]:
            if isinstance(value, int):
                raise ModelError(f"is damaged: field {number} is a number")
            yield from messages(value, *path[1:])


def texts(message: bytes, *path: int) -> list[str]:
    """The same, as texts."""
    try:
        return [found.decode() for found in messages(message, *path)]
    except UnicodeDecodeError:
        raise ModelError("is damaged: a name is no text") from None


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(LONGEST_VARINT):
        if at + place >= len(message):
            break
        byte = message[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ModelError("is damaged: a number does not end")
