"""The manifests that must be accepted and those that must be refused, for the offline check and for a real API server alike.

Beside the table in invalid.yaml there is a wrong type for every field, made by walking the schema: none can be forgotten.
"""

import copy
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pinn_operator.api.check import whole_schema

HERE: Final = Path(__file__).parent
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A manifest to be refused, the field to be named and words to be said."""

    title: str
    manifest: Manifest
    field: str
    says: str = ""
    path: tuple[str | int, ...] = ()


@functools.cache
def valid() -> Mapping[str, Manifest]:
    """The manifests to be accepted, by the name of the object."""
    files = sorted((HERE / "valid").glob("*.yaml"))
    documents = [document for file in files for document in yaml.safe_load_all(file.read_text())]
    return {document["metadata"]["name"]: document for document in documents}


@functools.cache
def released() -> Mapping[str, Manifest]:
    """The manifests that were valid in a release, and must stay so: by release, file and name of the object."""
    return {
        f"{file.parent.name}/{file.stem}/{document['metadata']['name']}": document
        for file in sorted((HERE / "releases").glob("*/*.yaml"))
        for document in yaml.safe_load_all(file.read_text())
    }


def minimal() -> Manifest:
    """A model's name and version, nothing else."""
    return copy.deepcopy(valid()["option-pricer"])


@functools.cache
def refused() -> tuple[Case, ...]:
    """The table."""
    rows = yaml.safe_load((HERE / "invalid.yaml").read_text())
    return tuple(
        Case(row["refused"], patched(minimal(), row["patch"]), row["field"], row.get("says", "")) for row in rows
    )


def patched(value: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    base = value if isinstance(value, dict) else {}
    kept = {key: item for key, item in base.items() if key not in patch}
    return kept | {key: patched(base.get(key), item) for key, item in patch.items() if item is not None}


# --- A wrong type for every field ------------------------------------------------------------------------------------

WRONG: Final[Mapping[str, Any]] = {
    "string": 7,
    "integer": "seven",
    "boolean": "perhaps",
    "array": "one",
    "object": "one",
    "integer or string": True,
}
Path_ = tuple[str | int, ...]


@functools.cache
def wrong_types() -> tuple[Case, ...]:
    """Each field of the spec with a value of the wrong type, everything else as in a manifest that says all."""
    spec = whole_schema()["properties"]["spec"]
    return tuple(_spoilt(path, node) for path, node in _nodes(spec, ("spec",)))


def _nodes(node: Mapping[str, Any], path: Path_) -> Iterator[tuple[Path_, Mapping[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from _nodes(child, (*path, name))
    if "items" in node:
        yield from _nodes(node["items"], (*path, 0))
    if "additionalProperties" in node:
        yield from _nodes(node["additionalProperties"], (*path, _first_key(path)))


def _first_key(path: Path_) -> str:
    return str(next(iter(_at(_said(path), path))))


def _at(value: Any, path: Path_) -> Any:
    for step in path:
        value = value[step]
    return value


def _said(path: Path_) -> Manifest:
    """A manifest that says the field at this path."""
    return valid()["on-my-route" if "routeRef" in path else "everything"]


def _spoilt(path: Path_, node: Mapping[str, Any]) -> Case:
    manifest = copy.deepcopy(_said(path))
    parent: Any = _at(manifest, path[:-1])
    kind = "integer or string" if "x-kubernetes-int-or-string" in node else node["type"]
    assert _at(parent, path[-1:]) is not None, f"no manifest says {dotted(path)}"
    parent[path[-1]] = WRONG[kind]
    return Case(f"{dotted(path)} that is no {kind}", manifest, dotted(path), path=path)


def put(manifest: Manifest, path: Path_, value: Any) -> None:
    """Sets a field, where the manifest has what it is part of."""
    try:
        parent = _at(manifest, path[:-1])
        parent[path[-1]] = value
    except (KeyError, IndexError, TypeError):
        return


def dotted(path: Path_) -> str:
    """The path as an API server writes it."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
