"""The protocol's messages, made from inference.proto when they are first needed: the file that clients generate theirs from.

Nothing is generated ahead, so there is no second copy to keep, and no tie to a version of a generator. They live in a pool of
their own: another program's messages of the same names, in the same process, are no conflict.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FILE: Final = Path(__file__).with_name("inference.proto")
Bytes = bytes | memoryview

_LENGTH_DELIMITED: Final = 2
_TOKEN: Final = re.compile(r'\s+|//[^\n]*|([\w.]+|"[^"]*"|[{}()<>=;,])')
_FIELD: Final = descriptor_pb2.FieldDescriptorProto
_SCALARS: Final = {
    name: _FIELD.Type.Value(f"TYPE_{name.upper()}")
    for name in ("bool", "int32", "int64", "uint32", "uint64", "float", "double", "string", "bytes")
}


def described(text: str) -> Any:
    """The FileDescriptorProto of a file as written here: messages, nested ones, maps, oneofs; services are passed over."""
    tokens = _Tokens(text)
    file = descriptor_pb2.FileDescriptorProto(name=FILE.name, syntax="proto3")
    for word in tokens:
        if word == "package":
            file.package = next(tokens)
        elif word == "message":
            _message(tokens, file.message_type.add(), f".{file.package}")
        elif word == "service":
            tokens.skip_to("}")
    return file


class _Tokens(Iterator[str]):
    """The words and signs of a file. Raises ValueError for what is none."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def __next__(self) -> str:
        while self._at < len(self._text):
            match = _TOKEN.match(self._text, self._at)
            if match is None:
                raise ValueError(f"{FILE.name} cannot be read from character {self._at} on")
            self._at = match.end()
            if match[1]:
                return match[1]
        raise StopIteration

    def skip_to(self, last: str) -> None:
        """Passes over everything up to a token, and that too."""
        while next(self) != last:
            pass


def _message(tokens: _Tokens, message: Any, within: str) -> None:
    """What follows the word message."""
    message.name = next(tokens)
    next(tokens)
    for word in tokens:
        if word == "}":
            return
        if word == "message":
            _message(tokens, message.nested_type.add(), f"{within}.{message.name}")
        elif word == "oneof":
            _oneof(tokens, message)
        else:
            _field(tokens, message, word, f"{within}.{message.name}")


def _oneof(tokens: _Tokens, message: Any) -> None:
    message.oneof_decl.add(name=next(tokens))
    next(tokens)
    for word in tokens:
        if word == "}":
            return
        _field(tokens, message, word, "").oneof_index = len(message.oneof_decl) - 1


def _field(tokens: _Tokens, message: Any, word: str, within: str) -> Any:
    """What begins with a type, `repeated` or `map`."""
    field = message.field.add(label=_FIELD.LABEL_REPEATED if word in ("repeated", "map") else _FIELD.LABEL_OPTIONAL)
    if word == "map":
        _map(tokens, message, field, within)
    else:
        _typed(field, next(tokens) if word == "repeated" else word)
        field.name = next(tokens)
    next(tokens)
    field.number = int(next(tokens))
    next(tokens)
    return field


def _map(tokens: _Tokens, message: Any, field: Any, within: str) -> None:
    """A repeated message of a key and a value, as protobuf has maps on the wire."""
    _, key, _, value, _, field.name = (next(tokens) for _ in range(6))
    entry = message.nested_type.add(name=f"{field.name.title().replace('_', '')}Entry")
    entry.options.map_entry = True
    for number, (name, kind) in enumerate((("key", key), ("value", value)), start=1):
        _typed(entry.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL), kind)
    field.type, field.type_name = _FIELD.TYPE_MESSAGE, f"{within}.{entry.name}"


def _typed(field: Any, kind: str) -> None:
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:  # found by its name, from here outwards
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, kind


_POOL: Final = descriptor_pool.DescriptorPool()
_PACKAGE: Final = _POOL.AddSerializedFile(described(FILE.read_text(encoding="utf-8")).SerializeToString())


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"inference.{name}"))


ServerLiveRequest: Final = _class("ServerLiveRequest")
ServerLiveResponse: Final = _class("ServerLiveResponse")
ServerReadyRequest: Final = _class("ServerReadyRequest")
ServerReadyResponse: Final = _class("ServerReadyResponse")
ModelReadyRequest: Final = _class("ModelReadyRequest")
ModelReadyResponse: Final = _class("ModelReadyResponse")
ServerMetadataRequest: Final = _class("ServerMetadataRequest")
ServerMetadataResponse: Final = _class("ServerMetadataResponse")
ModelMetadataRequest: Final = _class("ModelMetadataRequest")
ModelMetadataResponse: Final = _class("ModelMetadataResponse")
ModelInferRequest: Final = _class("ModelInferRequest")
ModelInferResponse: Final = _class("ModelInferResponse")

RAW_OUTPUT_CONTENTS: Final[int] = ModelInferResponse.DESCRIPTOR.fields_by_name["raw_output_contents"].number
"""The last of its fields."""


def elements(number: int, contents: Iterable[Bytes]) -> Iterator[Bytes]:
    """Elements of a repeated field of bytes as they stand behind a message on the wire, none of them copied.

    A message may be put together so: https://protobuf.dev/programming-guides/encoding/ (last one wins, and merging).
    """
    for content in contents:
        yield _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(content))
        yield content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*found, value))
