"""The protocol's datatypes, and tensors as bytes: little-endian numbers, and strings with their lengths before them.

A content that is not what the tensor says of itself is refused by the tensor's name; nothing is read beyond its end.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from pinn_inference.errors import InvalidInput

FP64: Final = "FP64"
BYTES: Final = "BYTES"
SHOWN: Final = 64
"""Characters of a caller's name that a sentence repeats."""

Numbers = list[float] | NDArray[np.float64]
"""The elements of a tensor of numbers: an array where they came as bytes."""

MANY: Final = 16
"""Elements from which on it pays to treat them together."""

_LENGTH: Final = struct.Struct("<I")
_CODES: Final = 255
"""Words that a byte tells apart from each other and from none of them."""

_LETTERS: Final = 32
"""The first byte that a letter may have, in ASCII as in UTF-8; a length below it is one of a short word."""


class Datatype(NamedTuple):
    """A datatype of numbers: NumPy's type for it, whether it has integers only, and its field of gRPC's typed contents."""

    name: str
    kind: np.dtype[Any]
    integer: bool
    contents: str | None


NUMBERS: Final = {
    datatype.name: datatype
    for datatype in (
        Datatype(FP64, np.dtype("<f8"), False, "fp64_contents"),
        Datatype("FP32", np.dtype("<f4"), False, "fp32_contents"),
        Datatype("FP16", np.dtype("<f2"), False, None),
        Datatype("INT64", np.dtype("<i8"), True, "int64_contents"),
        Datatype("INT32", np.dtype("<i4"), True, "int_contents"),
        Datatype("INT16", np.dtype("<i2"), True, "int_contents"),
        Datatype("INT8", np.dtype("<i1"), True, "int_contents"),
        Datatype("UINT64", np.dtype("<u8"), True, "uint64_contents"),
        Datatype("UINT32", np.dtype("<u4"), True, "uint_contents"),
        Datatype("UINT16", np.dtype("<u2"), True, "uint_contents"),
        Datatype("UINT8", np.dtype("<u1"), True, "uint_contents"),
    )
}


@dataclass(frozen=True, slots=True)
class Chosen:
    """Strings of which each is one of a few words: which of them, (n,)."""

    words: Sequence[str]
    which: NDArray[np.uint8]

    def __getitem__(self, place: int) -> str:
        return self.words[int(self.which[place])]

    def tolist(self) -> list[str]:
        """All of them."""
        return [self.words[word] for word in self.which.tolist()]


class Content(Protocol):
    """The elements of a tensor, on whatever wire they came. Both raise InvalidInput with the tensor's name."""

    def numbers(self, name: str, datatype: Datatype, shape: Sequence[int]) -> Numbers:
        """As many as the shape says."""
        ...

    def strings(self, name: str, shape: Sequence[int], words: Sequence[str]) -> list[str] | Chosen:
        """As many as the shape says; these words are what is expected, and what they are chosen from where that is known."""
        ...


@dataclass(frozen=True, slots=True)
class Raw:
    """Elements as bytes, one after the other."""

    content: bytes

    def numbers(self, name: str, datatype: Datatype, shape: Sequence[int]) -> Numbers:
        """Little-endian."""
        kind, count = datatype.kind, shape[0]
        if len(self.content) != count * kind.itemsize:
            wanted = f"{count} of {datatype.name} are {count * kind.itemsize}"
            raise InvalidInput(f"{shown(name)} has {len(self.content)} bytes; {wanted}")
        found = np.frombuffer(self.content, kind)
        return found.astype(np.float64, copy=False) if count >= MANY else list(map(float, found))

    def strings(self, name: str, shape: Sequence[int], words: Sequence[str]) -> list[str] | Chosen:
        """Each after its length in bytes, four of them little-endian."""
        found = self._chosen(words, shape[0]) if shape[0] >= MANY else None
        return texts(name, self._elements(name), shape) if found is None else found

    def _chosen(self, words: Sequence[str], count: int) -> Chosen | None:
        """The elements where they are so many of these words and nothing else: in a long batch that is found out at once.

        Where words are short and of letters, the first byte of a length is the only one that is small and not zero.
        """
        content, wanted = np.frombuffer(self.content, np.uint8), [word.encode() for word in words]
        if len(words) > _CODES or not all(0 < len(word) < _LETTERS <= min(word) for word in wanted):
            return None
        starts = np.flatnonzero(content - np.uint8(1) < _LETTERS - 1)
        if len(starts) != count or len(content) - np.count_nonzero(content) != 3 * count:
            return None
        lengths = content.take(starts)
        first = starts + _LENGTH.size
        ends = first + lengths
        if starts[0] != 0 or ends[-1] != len(content) or np.count_nonzero(starts[1:] != ends[:-1]):
            return None
        which = np.full(count, _CODES, np.uint8)
        letters = [content.take(first + at, mode="clip") for at in range(max(map(len, wanted)))]
        for code, word in enumerate(wanted):
            same = lengths == len(word)
            for letter, byte in zip(letters, word, strict=False):
                same &= letter == byte
            which -= same.view(np.uint8) * np.uint8(_CODES - code)
        return None if np.count_nonzero(which == _CODES) else Chosen(words, which)

    def _elements(self, name: str) -> list[bytes]:
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
        return found


def texts(name: str, elements: Sequence[bytes], shape: Sequence[int]) -> list[str]:
    """Elements of BYTES as text. Raises InvalidInput where they are not so many, or no UTF-8."""
    counted(name, len(elements), shape)
    try:
        return [element.decode() for element in elements]
    except UnicodeDecodeError:
        raise InvalidInput(f"{shown(name)} has an element that is no UTF-8 text") from None


def from_integers(name: str, datatype: Datatype, values: Sequence[int]) -> list[float]:
    """Integers as numbers. Raises InvalidInput for one that the datatype cannot have."""
    ends = np.iinfo(datatype.kind)
    if values and not ends.min <= min(values) <= max(values) <= ends.max:
        raise InvalidInput(f"{shown(name)} has an integer outside {datatype.name}, {ends.min} to {ends.max}")
    return list(map(float, values))


def counted(name: str, found: int, shape: Sequence[int]) -> None:
    """Raises InvalidInput where a tensor has not as many elements as its shape says."""
    if found != shape[0]:
        raise InvalidInput(f"{shown(name)} has {found} elements; its shape is {list(shape)}")


def packed(datatype: str, values: Any) -> bytes | memoryview:
    """A tensor's elements as bytes: float64, or strings with their lengths."""
    if isinstance(values, np.ndarray):
        return np.ascontiguousarray(values, "<f8").data.cast("B")
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
