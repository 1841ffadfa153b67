"""Says offline what an API server would say of a manifest: the same verdict, the same field, the same sentence.

It goes the server's way: unknown fields, defaults, the schema, then the rules, which run only when every value has its type.
"""

import copy
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pinn_operator.api.base import PRESERVE
from pinn_operator.api.names import API_VERSION, KIND
from pinn_operator.api.resource import PinnDeployment
from pinn_operator.api.rules import Rule
from pinn_operator.api.schema import Schema, as_words, rules_of, schema_of

ANY_OBJECT: Final[Schema] = {"type": "object", PRESERVE: True}
WORDS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
OBJECT_META: Final[dict[str, Schema]] = {
    **{
        name: {"type": "string"} for name in ("name", "generateName", "namespace", "uid", "resourceVersion", "selfLink")
    },
    **{name: {"type": "string"} for name in ("creationTimestamp", "deletionTimestamp")},
    **{name: {"type": "integer"} for name in ("generation", "deletionGracePeriodSeconds")},
    **dict.fromkeys(("labels", "annotations"), WORDS),
    "finalizers": {"type": "array", "items": {"type": "string"}},
    **{name: {"type": "array", "items": ANY_OBJECT} for name in ("ownerReferences", "managedFields")},
}


@dataclass(frozen=True)
class Problem:
    """What is wrong with one field. A blocking problem keeps the rules from being tried, here as on the server."""

    path: str
    message: str
    blocking: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def problems(manifest: Mapping[str, Any]) -> list[Problem]:
    """All that an API server would refuse in a PinnDeployment; empty when it would be accepted."""
    if manifest.get("apiVersion") != API_VERSION:
        return [Problem("apiVersion", f'"{manifest.get("apiVersion")}" is not served; write {API_VERSION}')]
    schema = whole_schema()
    wanted = with_defaults({key: value for key, value in manifest.items() if key != "status"}, schema)
    shape = [*_unknown(manifest, schema, ""), *_shape(wanted, schema, ""), *_unnamed(wanted)]
    ruled = [] if any(problem.blocking for problem in shape) else list(_ruled(wanted, schema, ""))
    return sorted({problem.path + problem.message: problem for problem in [*shape, *ruled]}.values(), key=str)


@cache
def whole_schema() -> Schema:
    """The schema of the resource with all of an object's metadata, which every API server knows."""
    schema = schema_of(PinnDeployment)
    metadata = {"type": "object", "properties": OBJECT_META}
    return schema | {"properties": schema["properties"] | {"metadata": metadata}, "required": ["spec", "metadata"]}


def with_defaults(value: Any, schema: Schema) -> Any:
    """The value as the server stores it: what is left out or null has its default."""
    if isinstance(value, list) and "items" in schema:
        return [with_defaults(item, schema["items"]) for item in value]
    if not isinstance(value, dict):
        return value
    fields = schema.get("properties", {}).items()
    given = {key: item for key, item in value.items() if item is not None or not _child(schema, key)}
    defaults = {key: copy.deepcopy(child["default"]) for key, child in fields if "default" in child}
    return {key: with_defaults(item, _child(schema, key)) for key, item in (defaults | given).items()}


def _child(schema: Schema, key: str) -> Schema:
    child: Schema = schema.get("properties", {}).get(key) or schema.get("additionalProperties") or {}
    return child


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


# --- Unknown fields --------------------------------------------------------------------------------------------------


def _unknown(value: Any, schema: Schema, path: str) -> Iterator[Problem]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown(item, schema.get("items", {}), f"{path}[{index}]")
    if not isinstance(value, dict) or schema.get(PRESERVE):
        return
    for key, item in value.items():
        if "additionalProperties" in schema or key in schema.get("properties", {}):
            yield from _unknown(item, _child(schema, key), _joined(path, key))
        elif "properties" in schema:
            yield Problem(_joined(path, key), _suggestion(key, schema["properties"]))


def _suggestion(key: str, known: Mapping[str, Any]) -> str:
    folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(key.casefold(), folded, n=1, cutoff=0.6)
    meant = f"did you mean {folded[near[0]]}?" if near else f"here stand {', '.join(known)}"
    return f'unknown field "{key}"; {meant}'


# --- The schema ------------------------------------------------------------------------------------------------------


def _shape(value: Any, schema: Schema, path: str) -> Iterator[Problem]:
    """Problems of type, length, range and form, field by field."""
    wrong = _wrong_type(value, schema)
    if wrong:
        yield Problem(path, wrong, blocking=True)
        return
    yield from _bounds(value, schema, path)
    if isinstance(value, dict):
        for name in schema.get("required", ()):
            if name not in value:
                yield Problem(_joined(path, name), _missing(_child(schema, name)), blocking=True)
        for key, item in value.items():
            yield from _shape(item, _child(schema, key), _joined(path, key))
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _shape(item, schema.get("items", {}), f"{path}[{index}]")
        yield from _repeated(value, schema, path)


def _missing(schema: Schema) -> str:
    return f"required; {schema['description']}" if "description" in schema else "required"


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), type(value).__name__)


_ARTICLE: Final = {"integer": "an integer", "array": "a list", "object": "an object", "null": "null"}


def _wrong_type(value: Any, schema: Schema) -> str:
    wanted = ("integer", "string") if "x-kubernetes-int-or-string" in schema else (schema.get("type", ""),)
    kind = _kind(value)
    if wanted == ("",) or kind in wanted:
        return ""
    said = " or ".join(_ARTICLE.get(name, f"a {name}") for name in wanted)
    return f"must be {said}, not {_ARTICLE.get(kind, f'a {kind}')}{_remedy(value, wanted)}"


def _remedy(value: Any, wanted: tuple[str, ...]) -> str:
    if "string" in wanted and value is False:
        return '; if you mean "Off" or "No", write it in quotes: without them YAML reads a boolean'
    if "string" in wanted and isinstance(value, int | float):
        return "; put it in quotes"
    return "; write it without quotes" if isinstance(value, str) and {"integer", "boolean"} & set(wanted) else ""


def _bounds(value: Any, schema: Schema, path: str) -> Iterator[Problem]:
    if "enum" in schema and value not in schema["enum"]:
        yield Problem(path, f'"{value}" is none of {", ".join(schema["enum"])}', blocking=True)
    if isinstance(value, str | list | dict):
        yield from _sizes(value, schema, path)
    if isinstance(value, int) and "minimum" in schema and value < schema["minimum"]:
        yield Problem(path, f"{value} is too small; it must be at least {schema['minimum']}")
    if isinstance(value, int) and "maximum" in schema and value > schema["maximum"]:
        yield Problem(path, f"{value} is too large; it must be at most {schema['maximum']}")


_SIZES: Final = {str: ("Length", "characters"), list: ("Items", "items"), dict: ("Properties", "entries")}


def _sizes(value: str | list[Any] | dict[str, Any], schema: Schema, path: str) -> Iterator[Problem]:
    keyword, unit = _SIZES[type(value)]
    most, least = schema.get(f"max{keyword}"), schema.get(f"min{keyword}", 0)
    if most is not None and len(value) > most:
        yield Problem(path, f"{len(value)} {unit} are too many; at most {most} fit", blocking=True)
    if len(value) < least:
        yield Problem(path, f"{len(value)} {unit} are too few; at least {least} must be given")


def _repeated(value: list[Any], schema: Schema, path: str) -> Iterator[Problem]:
    """A list that is a map holds each key once."""
    keys = schema.get("x-kubernetes-list-map-keys", ())
    seen: list[Any] = []
    for index, item in enumerate(value if keys else ()):
        key = {name: item.get(name) for name in keys} if isinstance(item, dict) else None
        if key in seen:
            yield Problem(f"{path}[{index}]", f"{as_words(key)} is there twice; remove one or rename it")
        seen.append(key)


def _unnamed(wanted: Mapping[str, Any]) -> Iterator[Problem]:
    metadata = wanted.get("metadata")
    if isinstance(metadata, dict) and not metadata.get("name"):
        yield Problem("metadata.name", "required; give the object a name", blocking=True)


# --- The rules -------------------------------------------------------------------------------------------------------


def _ruled(value: Any, schema: Schema, path: str) -> Iterator[Problem]:
    """Problems with the rules on this node and below it."""
    yield from (
        Problem(path + _at(rule, path), rule.said_of(value)) for rule in rules_of(schema) if not rule.holds(value)
    )
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _ruled(item, _child(schema, key), _joined(path, key))
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _ruled(item, schema.get("items", {}), f"{path}[{index}]")


def _at(rule: Rule, path: str) -> str:
    return rule.field_path if path else rule.field_path.removeprefix(".")


def is_ours(document: Any) -> bool:
    """Whether a document says that it is a PinnDeployment, of whatever version."""
    return isinstance(document, dict) and document.get("kind") == KIND
