"""The protocol's datatypes, and tensors as bytes: little-endian numbers, and strings with their lengths before them.

A content that is not what the tensor says of itself is refused by the tensor's name; nothing is read beyond its end.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn, Protocol

import numpy as np

from pinn_inference.errors import InvalidInput

FP64: Final = "FP64"
BYTES: Final = "BYTES"
SHOWN: Final = 64
"""Characters of a caller's name that a sentence repeats."""

_LENGTH: Final = struct.Struct("<I")


class Datatype(NamedTuple):
    """A datatype of numbers: NumPy's code for it, whether it has integers only, and its field of gRPC's typed contents."""

    name: str
    code: str
    integer: bool
    contents: str | None


NUMBERS: Final = {
    datatype.name: datatype
    for datatype in (
        Datatype(FP64, "<f8", False, "fp64_contents"),
        Datatype("FP32", "<f4", False, "fp32_contents"),
        Datatype("FP16", "<f2", False, None),
        Datatype("INT64", "<i8", True, "int64_contents"),
        Datatype("INT32", "<i4", True, "int_contents"),
        Datatype("INT16", "<i2", True, "int_contents"),
        Datatype("INT8", "<i1", True, "int_contents"),
        Datatype("UINT64", "<u8", True, "uint64_contents"),
        Datatype("UINT32", "<u4", True, "uint_contents"),
        Datatype("UINT16", "<u2", True, "uint_contents"),
        Datatype("UINT8", "<u1", True, "uint_contents"),
    )
}


class Content(Protocol):
    """The elements of a tensor, on whatever wire they came. Both raise InvalidInput with the tensor's name."""

    def numbers(self, name: str, datatype: Datatype, shape: Sequence[int]) -> list[float]:
        """As many as the shape says."""
        ...

    def strings(self, name: str, shape: Sequence[int]) -> list[str]:
        """As many as the shape says."""
        ...


@dataclass(frozen=True, slots=True)
class Raw:
    """Elements as bytes, one after the other."""

    content: bytes

    def numbers(self, name: str, datatype: Datatype, shape: Sequence[int]) -> list[float]:
        """Little-endian."""
        code, count = np.dtype(datatype.code), shape[0]
        if len(self.content) != count * code.itemsize:
            wanted = f"{count} of {datatype.name} are {count * code.itemsize}"
            raise InvalidInput(f"{shown(name)} has {len(self.content)} bytes; {wanted}")
        found: list[float] = np.frombuffer(self.content, code).astype(np.float64).tolist()
        return found

    def strings(self, name: str, shape: Sequence[int]) -> list[str]:
        """Each after its length in bytes, four of them little-endian."""
        content, at = self.content, 0
        found: list[bytes] = []
        while at < len(content):
            end = at + _LENGTH.size
            if end > len(content):
                raise InvalidInput(f"{shown(name)} ends within the length of element {len(found)}")
            (length,) = _LENGTH.unpack_from(content, at)
            at = end + length
            if at > len(content):
                left = len(content) - end
                raise InvalidInput(f"{shown(name)}: element {len(found)} states {length} bytes, and {left} are left")
            found.append(content[end:at])
        return texts(name, found, shape)


def texts(name: str, elements: Sequence[bytes], shape: Sequence[int]) -> list[str]:
    """Elements of BYTES as text. Raises InvalidInput where they are not so many, or no UTF-8."""
    counted(name, len(elements), shape)
    try:
        return [element.decode() for element in elements]
    except UnicodeDecodeError:
        raise InvalidInput(f"{shown(name)} has an element that is no UTF-8 text") from None


def from_integers(name: str, datatype: Datatype, values: Sequence[int]) -> list[float]:
    """Integers as numbers. Raises InvalidInput for one that the datatype cannot have."""
    ends = np.iinfo(np.dtype(datatype.code))
    if values and not ends.min <= min(values) <= max(values) <= ends.max:
        raise InvalidInput(f"{shown(name)} has an integer outside {datatype.name}, {ends.min} to {ends.max}")
    return list(map(float, values))


def counted(name: str, found: int, shape: Sequence[int]) -> None:
    """Raises InvalidInput where a tensor has not as many elements as its shape says."""
    if found != shape[0]:
        raise InvalidInput(f"{shown(name)} has {found} elements; its shape is {list(shape)}")


def packed(datatype: str, values: Sequence[Any]) -> bytes:
    """A tensor's elements as bytes: float64, or strings with their lengths."""
    return _joined(values) if datatype == BYTES else struct.pack(f"<{len(values)}d", *values)


def _joined(values: Iterable[str]) -> bytes:
    parts = []
    for value in values:
        text = value.encode()
        parts += [_LENGTH.pack(len(text)), text]
    return b"".join(parts)


def known(name: str, datatype: str) -> Datatype:
    """The datatype of a tensor of numbers. Raises InvalidInput."""
    return NUMBERS.get(datatype) or _unknown(name, datatype)


def _unknown(name: str, datatype: str) -> NoReturn:
    taken = f"send {FP64} (taken too: {', '.join(other for other in NUMBERS if other != FP64)})"
    raise InvalidInput(f"{shown(name)} has the datatype {datatype[:SHOWN]!r}; {taken}")


def shown(name: str) -> str:
    """A caller's name as it stands in a sentence."""
    return name[:SHOWN] if name.isidentifier() else repr(name[:SHOWN])
