"""gRPC over HTTP/2: a message behind its length, and how a call ends behind that.

The wire is told by https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, the codes by doc/statuscodes.md beside it.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Final
from urllib.parse import quote

from pinn_inference.api.http2 import Stream, block
from pinn_inference.errors import InvalidInput, RequestError, TooLarge

PREFIX: Final = struct.Struct(">BL")
"""Before a message: whether it is compressed, and its bytes."""

SENTENCE: Final = 4000
"""Bytes of the longest sentence that goes beside a code: clients take eight thousand of such fields."""

CONTENT: Final = "application/grpc"

_PLAIN: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_CUT: Final = re.compile("%.?$")
_HEAD: Final = ((":status", "200"), ("content-type", CONTENT), ("grpc-accept-encoding", "identity"))

HEAD: Final = block(_HEAD)
"""Before a message."""

DONE: Final = block((("grpc-status", "0"),))
"""Behind it."""


class Code(IntEnum):
    """How a call ends."""

    OK = 0
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13


class TooLong(TooLarge):
    """A message longer than is taken."""


class Unimplemented(RequestError):
    """What this server does not do: another method, or compression."""


def ending(code: Code, sentence: str, more: Sequence[tuple[str, str]] = ()) -> bytes:
    """The fields of an answer that is nothing but a code and a sentence."""
    told = quote(sentence[:SENTENCE].encode("utf-8", "backslashreplace"), safe=_PLAIN)
    if len(told) > SENTENCE:
        told = _CUT.sub("", told[:SENTENCE])
    return block((*_HEAD, ("grpc-status", str(int(code))), ("grpc-message", told), *more))


def prefixed(*parts: bytes | memoryview) -> bytes:
    """A message, in parts, as it goes over the wire."""
    return b"".join((PREFIX.pack(0, sum(map(len, parts))), *parts))


def check(stream: Stream, most: int) -> None:
    """Holds what has come of a call against what it says of itself; anything that is wrong already is not waited for.

    Raises InvalidInput, TooLong for a message of more than `most` bytes, or Unimplemented for one that is compressed.
    """
    size = len(stream.body)
    if size < PREFIX.size:
        if stream.complete:
            raise InvalidInput("the call ends without a message")
        return
    packed, length = PREFIX.unpack_from(stream.body)
    if packed:
        raise Unimplemented("the message is compressed; send it as it is")
    if length > most:
        raise TooLong(f"the message is longer than {most} bytes; send fewer items at a time")
    if size > PREFIX.size + length:
        raise InvalidInput("the call has more than its message")
    if stream.complete and size < PREFIX.size + length:
        raise InvalidInput("the call ends within its message")


def is_whole(stream: Stream, most: int) -> bool:
    """Whether it is a call with one message, of at most so many bytes, and nothing wrong with its length."""
    size = len(stream.body) - PREFIX.size
    return stream.complete and 0 <= size <= most and PREFIX.unpack_from(stream.body) == (0, size)


def message(stream: Stream) -> bytes:
    """The message of a call that is complete and was checked."""
    return bytes(memoryview(stream.body)[PREFIX.size :])


def is_call(headers: Mapping[str, str]) -> bool:
    """Whether it is gRPC at all."""
    kind = headers.get("content-type", "")
    return headers[":method"] == "POST" and (kind == CONTENT or kind.startswith((f"{CONTENT}+", f"{CONTENT};")))


NO_CALL: Final = block(((":status", "415"), ("content-type", "text/plain")))
"""Before the sentence for what is none."""

ONLY_CALLS: Final = b"this port speaks gRPC: POST with the content-type application/grpc\n"
