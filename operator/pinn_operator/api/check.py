"""Says offline what an API server would say of a manifest: the same verdict, the same field, the same sentence.

It goes the server's way: unknown fields, defaults, the schema, then the rules, which run only when every value has its type.
"""

import copy
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pinn_operator.api.base import PRESERVE
from pinn_operator.api.names import API_VERSION, KIND
from pinn_operator.api.resource import PinnDeployment
from pinn_operator.api.rules import LABEL_NAME, LABEL_VALUE, OBJECT_NAME, Rule
from pinn_operator.api.schema import Schema, as_words, rules_of, schema_of

ANY_OBJECT: Final[Schema] = {"type": "object", PRESERVE: True}
WORDS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
OWNER: Final[Schema] = {
    "type": "object",
    "properties": {
        **{name: {"type": "string", "minLength": 1} for name in ("apiVersion", "kind", "name", "uid")},
        **{name: {"type": "boolean"} for name in ("controller", "blockOwnerDeletion")},
    },
    "required": ["apiVersion", "kind", "name", "uid"],
}
OBJECT_META: Final[dict[str, Schema]] = {
    **{
        name: {"type": "string"} for name in ("name", "generateName", "namespace", "uid", "resourceVersion", "selfLink")
    },
    **{name: {"type": "string"} for name in ("creationTimestamp", "deletionTimestamp")},
    **{name: {"type": "integer"} for name in ("generation", "deletionGracePeriodSeconds")},
    **dict.fromkeys(("labels", "annotations"), WORDS),
    "finalizers": {"type": "array", "items": {"type": "string"}},
    "ownerReferences": {"type": "array", "items": OWNER},
    "managedFields": {"type": "array", "items": ANY_OBJECT},
}
METADATA: Final[Schema] = {"type": "object", "properties": OBJECT_META}
ANNOTATIONS_BYTES: Final = 256 * 1024
GENERATED: Final = "xxxxx"
"""What an API server adds to generateName, drawn by chance."""
LONGEST_GENERATED: Final = 63
LONGEST_DOMAIN: Final = 253


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
    wanted = as_stored({key: value for key, value in manifest.items() if key != "status"})
    shape = [*_unknown(manifest, schema, ""), *_shape(wanted, schema, ""), *_metadata(wanted.get("metadata"))]
    ruled = [] if any(problem.blocking for problem in shape) else list(_ruled(wanted, schema, ""))
    return sorted({problem.path + problem.message: problem for problem in [*shape, *ruled]}.values(), key=str)


@cache
def whole_schema() -> Schema:
    """The schema of the resource with all of an object's metadata, which every API server knows."""
    schema = schema_of(PinnDeployment)
    return schema | {"properties": schema["properties"] | {"metadata": METADATA}, "required": ["spec", "metadata"]}


def as_stored(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest as the server stores it: with defaults, and with a name such as it makes of generateName."""
    wanted: dict[str, Any] = with_defaults(dict(manifest), whole_schema())
    metadata = wanted.get("metadata")
    given = metadata if isinstance(metadata, dict) else {}
    begins = given.get("generateName")
    if given.get("name") or not begins or not isinstance(begins, str):
        return wanted
    return wanted | {"metadata": given | {"name": begins[: LONGEST_GENERATED - len(GENERATED)] + GENERATED}}


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


# --- The metadata ----------------------------------------------------------------------------------------------------


def _metadata(metadata: Any) -> Iterator[Problem]:
    """What an API server asks of any object's metadata, as ValidateObjectMeta of k8s.io/apimachinery does; of the name a rule of
    ours asks more. What is of the wrong type is told by the schema."""
    if not isinstance(metadata, dict):
        return
    if not metadata.get("name"):
        yield Problem("metadata.name", "required; give the object a name", blocking=True)
    if any(_shape(metadata, METADATA, "")):
        return
    if (namespace := metadata.get("namespace")) and not LABEL_NAME.holds(namespace):
        yield Problem("metadata.namespace", LABEL_NAME.said_of(namespace))
    yield from _labels(metadata.get("labels", {}))
    yield from _annotations(metadata.get("annotations", {}))
    yield from _owners(metadata.get("ownerReferences", []))
    yield from _finalizers(metadata.get("finalizers", []))


def _labels(labels: Mapping[str, str]) -> Iterator[Problem]:
    yield from _unqualified("metadata.labels", labels)
    for key, value in labels.items():
        if value and not LABEL_VALUE.holds(value):
            form = 'at most 63 letters, digits, ".", "_" and "-", with a letter or digit at both ends'
            yield Problem("metadata.labels", f'"{value}" is no value of a label ({key}); use {form}')


def _annotations(annotations: Mapping[str, str]) -> Iterator[Problem]:
    yield from _unqualified("metadata.annotations", annotations, str.lower)
    size = sum(len(text.encode(errors="surrogatepass")) for entry in annotations.items() for text in entry)
    if size > ANNOTATIONS_BYTES:
        said = f"{size} bytes are too many; all keys and values together may have {ANNOTATIONS_BYTES}"
        yield Problem("metadata.annotations", said, blocking=True)


def _owners(owners: list[dict[str, Any]]) -> Iterator[Problem]:
    for index, owner in enumerate(owners):
        version = owner["apiVersion"].rpartition("/")[2]
        if not version or owner["apiVersion"].count("/") > 1:
            said = f'"{owner["apiVersion"]}" is no version of an API; write e.g. "v1" or "apps/v1"'
            yield Problem(f"metadata.ownerReferences[{index}].apiVersion", said)
    if sum(owner.get("controller") is True for owner in owners) > 1:
        yield Problem("metadata.ownerReferences", "more than one says controller: true; only one can be the controller")


def _finalizers(finalizers: list[str]) -> Iterator[Problem]:
    """One without a domain is accepted, and the server warns of it."""
    yield from _unqualified("metadata.finalizers", finalizers)
    if {"orphan", "foregroundDeletion"} <= set(finalizers):
        yield Problem("metadata.finalizers", "orphan and foregroundDeletion exclude each other; remove one")


def _unqualified(path: str, names: Iterable[str], read: Callable[[str], str] = str) -> Iterator[Problem]:
    """Problems with names that are none such as "tier" or "example.com/tier"."""
    form = 'at most 63 letters, digits, ".", "_" and "-", where wanted after a domain, e.g. "example.com/tier"'
    yield from (
        Problem(path, f'"{name}" is no qualified name; use {form}') for name in names if not _is_qualified(read(name))
    )


def _is_qualified(name: str) -> bool:
    domain, slash, last = name.rpartition("/")
    return LABEL_VALUE.holds(last) and (not slash or (OBJECT_NAME.holds(domain) and len(domain) <= LONGEST_DOMAIN))


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
