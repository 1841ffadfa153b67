"""From types to the structural schema an API server accepts: no $ref, no anyOf with null, defaults throughout.

Pure. The schema keeps its rules as objects, so that `pinn-operator validate` walks the very tree the API server gets.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from pinn_operator.api.base import Part
from pinn_operator.api.rules import RULES, Rule

Schema = dict[str, Any]

VALIDATIONS: Final = "x-kubernetes-validations"
DEFAULTS_OF_FIELDS: Final = "Absent: the defaults of its fields."
UNSEEN: Final[Schema] = {"observedGeneration": -1}
"""The status of an object that no operator has looked at. Without it kstatus (Flux, Helm) takes it for finished."""
_DROPPED: Final = ("title", "$defs", "$ref", "examples")
_METADATA: Final[Schema] = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 253}}}


def schema_of(root: type[Part]) -> Schema:
    """The schema of the whole resource, with its rules as objects under `RULES`."""
    generated = root.model_json_schema(by_alias=True, schema_generator=_Structural)
    schema = _inlined(generated, generated["$defs"])
    schema["properties"]["metadata"] = _METADATA
    schema["required"] = ["spec"]
    for name in ("apiVersion", "kind", "status"):
        schema["properties"][name] = _as_written(schema["properties"][name])
    described = _described(schema)
    described["properties"]["status"]["default"] = UNSEEN
    return described


def rendered(node: Any) -> Any:
    """The schema as the API server reads it: rules become CEL."""
    if isinstance(node, list):
        return [rendered(item) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {key: rendered(value) for key, value in node.items() if key != RULES}
    return plain | ({VALIDATIONS: [rule.rendered() for rule in rules_of(node)]} if RULES in node else {})


def rules_of(node: Mapping[str, Any]) -> tuple[Rule, ...]:
    """The rules on one node."""
    rules: tuple[Rule, ...] = node.get(RULES, ())
    return rules


def as_words(value: Any) -> str:
    """A default as a user would write it in YAML's short form."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {as_words(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_words, value)) + "]"
    return value if isinstance(value, str) and value else json.dumps(value)


class _Structural(GenerateJsonSchema):
    """JSON Schema without what a structural schema excludes."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        return {"type": "string", "enum": list(schema["expected"])}

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        node = super().default_schema(schema)
        return {key: value for key, value in node.items() if (key, value) != ("default", None)}

    def encode_default(self, dft: Any) -> Any:
        return _without_none(super().encode_default(dft))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def _inlined(node: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """The node with its $ref replaced by what it names; what stands beside the $ref wins."""
    if "$ref" in node:
        node = {**definitions[node["$ref"].rpartition("/")[2]], **node}
    out = {key: value for key, value in node.items() if key not in _DROPPED}
    if "properties" in out:
        out["properties"] = {name: _inlined(child, definitions) for name, child in out["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(out.get(key), dict):
            out[key] = _inlined(out[key], definitions)
    return out if out.get("type") != "array" else {"x-kubernetes-list-type": "atomic"} | out


def _as_written(node: Schema) -> Schema:
    """The node without defaults: the API server fills in what a user leaves out, not what the operator does."""
    out = {key: value for key, value in node.items() if key != "default"}
    if "properties" in out:
        out["properties"] = {name: _as_written(child) for name, child in out["properties"].items()}
    return out


def _described(node: Schema) -> Schema:
    """The node with the default of each field said in its description."""
    out = dict(node)
    if "properties" in out:
        out["properties"] = {name: _described(_with_default(child)) for name, child in out["properties"].items()}
    if isinstance(out.get("items"), dict):
        out["items"] = _described(out["items"])
    return out


def _with_default(node: Schema) -> Schema:
    if "default" not in node:
        return node
    if "properties" in node and node["default"]:
        return node | {"description": f"{node['description']} {DEFAULTS_OF_FIELDS}"}
    return node | {"description": f"{node['description']} Default: {as_words(node['default'])}."}
