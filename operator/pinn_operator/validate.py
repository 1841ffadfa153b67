"""`pinn-operator validate`: reads manifests and says of each, without a cluster, whether an API server would accept it.

YAML is read as kubectl reads it, not as Python would: what is a string, a number or a boolean there is the same here.
"""

import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import yaml

from pinn_operator.api.check import is_ours, problems
from pinn_operator.api.names import GROUP, KIND

SUFFIXES: Final = (".yaml", ".yml", ".json")


class Verdict(IntEnum):
    """What came out of it; the worst one is the exit code."""

    ACCEPTED = 0
    REFUSED = 1
    UNREADABLE = 2


@dataclass(frozen=True)
class Line:
    """One line of the output, and what it means for the exit code."""

    text: str
    verdict: Verdict = Verdict.ACCEPTED
    is_note: bool = False
    """Of what need not have been there: for standard error."""


@dataclass(frozen=True)
class Source:
    """Where documents come from, by the name in each line, and what to say of some. Nothing on standard input is the mistake of
    what was to write there; a file may be empty. Somebody named a file, nobody all that lies in a folder."""

    name: str
    if_empty: Verdict = Verdict.ACCEPTED
    in_folder: bool = False


def validate(paths: Iterable[str]) -> Iterator[Line]:
    """One line for each problem, each accepted object and each document skipped."""
    for path in paths:
        yield from _of_path(path)


def _of_path(path: str) -> Iterator[Line]:
    if path == "-":
        yield from _of_bytes(Source("standard input", Verdict.UNREADABLE), sys.stdin.buffer.read)
    elif Path(path).is_dir():
        yield from _of_folder(Path(path))
    else:
        yield from _of_bytes(Source(str(Path(path))), Path(path).read_bytes)


def _of_folder(folder: Path) -> Iterator[Line]:
    found = sorted(file for file in folder.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    if not found:
        yield Line(f"{folder}: no manifest in this folder ({', '.join(SUFFIXES)})", Verdict.UNREADABLE)
    for file in found:
        yield from _of_bytes(Source(str(file), in_folder=True), file.read_bytes)


def _of_bytes(source: Source, read: Callable[[], bytes]) -> Iterator[Line]:
    try:
        text = read().decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        yield Line(f"{source.name}: cannot be read: {reason}", Verdict.UNREADABLE)
        return
    yield from _of_text(source, text)


def _of_text(source: Source, text: str) -> Iterator[Line]:
    try:
        found = documents(text)
    except yaml.YAMLError as error:
        yield Line(f"{source.name}: no YAML: {' '.join(str(error).split())}", Verdict.UNREADABLE)
        return
    if not found:
        yield Line(f"{source.name}: no document in it, nothing to validate", source.if_empty)
    for document in found:
        try:
            yield from _of_document(source, document)
        except RecursionError:
            yield Line(f"{source.name}: a document holds itself or is nested beyond reading", Verdict.UNREADABLE)


def documents(text: str) -> list[Any]:
    """What a file holds, read as kubectl reads it. Raises yaml.YAMLError."""
    try:
        return list(_unlisted(document for document in yaml.load_all(text, _Loader) if document is not None))
    except RecursionError:
        raise yaml.YAMLError("nested beyond reading") from None


def _unlisted(listed_too: Iterable[Any]) -> Iterator[Any]:
    """The documents, with the items of each List in its place."""
    for document in listed_too:
        listed = isinstance(document, dict) and document.get("kind") == "List" and document.get("apiVersion") == "v1"
        yield from document.get("items") or () if listed else (document,)


def _of_document(source: Source, document: Any) -> Iterator[Line]:
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        yield _no_object(source, document)
        return
    where = f"{source.name}: {document['kind']}/{_name(document)}"
    if not is_ours(document):
        yield _other(where, document)
        return
    found = problems(document)
    yield from (Line(f"{where}: {problem}", Verdict.REFUSED) for problem in found)
    if not found:
        generated = "" if document["metadata"].get("name") else ", to be created: apply needs a name"
        yield Line(f"{where}: ok{generated}")


def _no_object(source: Source, document: Any) -> Line:
    """Of a folder only what says that it is ours is missed."""
    said = document if isinstance(document, dict) else {}
    if source.in_folder and said.get("kind") is None and not _is_of_our_group(said):
        return Line(f"{source.name}: skipped, a document without a kind", is_note=True)
    return Line(f"{source.name}: a document is no Kubernetes object; it needs apiVersion and kind", Verdict.REFUSED)


def _is_of_our_group(document: dict[str, Any]) -> bool:
    return str(document.get("apiVersion")).startswith(f"{GROUP}/")


def _other(where: str, document: dict[str, Any]) -> Line:
    if _is_of_our_group(document):
        return Line(f"{where}: kind: {GROUP} has no such kind; did you mean {KIND}?", Verdict.REFUSED)
    return Line(f"{where}: skipped, not a {KIND}")


def _name(document: dict[str, Any]) -> str:
    metadata = document.get("metadata")
    said = metadata if isinstance(metadata, dict) else {}
    return str(said.get("name") or said.get("generateName") or "(no name)")


class BoundedAliases(yaml.composer.Composer):
    """Refuses aliases that stand for too much: ten of ten of ten are soon more than can be walked through."""

    MOST: Final = 100_000
    _sizes: dict[int, int]
    _nodes = _aliased = 0

    def compose_document(self) -> yaml.Node | None:
        self._sizes = {}
        return super().compose_document()

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Counts each node as often as it is told: a node that is known already is told by an alias. An alias within what it
        stands for counts as one: such a document holds itself."""
        before = self._nodes
        node = super().compose_node(parent, index)
        if node is None or id(node) not in self._sizes:
            self._nodes += 1
            self._sizes[id(node)] = self._nodes - before
            return node
        self._nodes += self._sizes[id(node)]
        self._aliased += self._sizes[id(node)]
        if self._aliased > self.MOST:
            said = f"aliases stand for more than {self.MOST:,} values; write out what is meant"
            raise yaml.composer.ComposerError(None, None, said, node.start_mark)
        return node


class _Loader(BoundedAliases, yaml.SafeLoader):
    """YAML in kubectl's reading: 1e3 is a number, 2.0 an integer, y a boolean, 1:30 and 2026-01-01 are strings."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":float", ":int"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    bool_values = yaml.SafeLoader.bool_values | {"y": True, "n": False}

    def construct_yaml_number(self, node: yaml.ScalarNode) -> int | float | str:
        """A float that is whole is written to JSON without a point, so the server sees an integer."""
        number = float(node.value)
        if math.isinf(number):
            return str(node.value)
        return int(number) if number.is_integer() and abs(number) < 1e21 else number

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuses a key that stands twice: one of the two would be lost silently. Keys are strings, as in JSON."""
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for name in (name for name in names if names.count(name) > 1):
            raise yaml.constructor.ConstructorError(None, None, f'key "{name}" is there twice', node.start_mark)
        return {_as_key(key): value for key, value in super().construct_mapping(node, deep).items()}


def _as_key(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(key, default=str)


_INTEGER: Final = re.compile(r"^[-+]?(0b[01_]+|0[0-7_]+|0o[0-7_]+|(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F_]+)$")
_FLOAT: Final = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_BOOLEAN: Final = re.compile(r"^[yYnN]$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOLEAN, list("yYnN"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_number)
