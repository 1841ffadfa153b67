"""The description is made from the manifest, exact enough to check questions by, and ordinary OpenAPI 3.1."""

from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from pinn_inference.api import openapi
from pinn_inference.api.openapi import Offered
from pinn_inference.artifacts import manifest as manifests
from pinn_inference.artifacts.manifest import Field, Manifest
from pinn_inference.problems import Input

HEAT = (
    Field("x", "metres", 0.0, 1.0),
    Field("t", "seconds", 0.001, 1000.0),
    Field("width", "metres, as a multiple of x", 0.5, 4.0, per="x"),
    Field("viscosity", "m2/s", -0.1, 0.1, default=0.01),
    Field("edge", "fixed or free", choices=("fixed", "free")),
)


@pytest.fixture
def shipped(models: Path) -> Manifest:
    return manifests.parse((models / "black-scholes/2.0.0/manifest.json").read_bytes())


@pytest.fixture
def heat(shipped: Manifest) -> Manifest:
    """A problem that has nothing to do with options."""
    return msgspec.structs.replace(shipped, name="heat", inputs=HEAT, outputs=(Field("u", "kelvin"),))


def valid(manifest: Manifest, item: object, offered: Offered | None = None) -> bool:
    schema = openapi.question(manifest, offered or Offered())
    return bool(jsonschema_rs.is_valid(schema, item))


def test_inputs_carry_their_unit_range_and_default(heat: Manifest) -> None:
    schema = openapi.question(heat, Offered())
    assert schema["required"] == ["x", "t", "width"]
    assert schema["properties"]["t"] == {
        "type": "number", "description": "seconds; trained on 0.001 to 1000", "minimum": 0.001, "maximum": 1000.0,
        "x-unit": "seconds", "x-trained": [0.001, 1000.0],
    }  # fmt: skip
    assert schema["properties"]["viscosity"]["default"] == 0.01
    assert schema["properties"]["width"]["maximum"] == 4.0
    assert schema["properties"]["width"]["x-trained-per"] == "x"
    assert schema["properties"]["edge"] == {
        "enum": ["fixed", "free"],
        "default": "fixed",
        "description": "fixed or free",
    }


def test_the_example_is_a_question_the_schema_takes(heat: Manifest, shipped: Manifest) -> None:
    assert openapi.example(heat) == {"x": 0.3, "t": 1.0, "width": 0.3, "viscosity": 0.01, "edge": "fixed"}
    for manifest in (heat, shipped):
        assert valid(manifest, openapi.example(manifest))


@pytest.mark.parametrize(
    "change",
    [{"t": "1"}, {"t": True}, {"t": None}, {"t": 1001}, {"edge": "loose"}, {"edge": None}, {"more": 1}, {"outputs": []},
     {"outputs": ["v"]}, {"exact": 1}],
)  # fmt: skip
def test_a_mistake_is_one_by_the_schema_too(heat: Manifest, change: dict[str, object]) -> None:
    assert not valid(heat, {**openapi.example(heat), **change})


def test_what_the_reference_solver_takes_is_allowed_and_the_trained_range_still_said(heat: Manifest) -> None:
    question = {**openapi.example(heat), "t": 5000}
    solver = Offered(solver=(Input("t", "seconds", 1e-6, 1e6),))
    assert not valid(heat, question)
    assert valid(heat, question, solver)
    assert openapi.question(heat, solver)["properties"]["t"]["x-trained"] == [0.001, 1000.0]


def test_the_limits_and_the_measured_errors_are_in_it(shipped: Manifest) -> None:
    found = openapi.document(shipped, Offered(max_batch=77, timeout=2.5, concurrency=3, queue=9))
    listed = found["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]["anyOf"][1]
    assert listed["maxItems"] == 77
    for words in ("2.5 s", "3 requests", "9 more"):
        assert words in found["info"]["description"]
    assert found["x-model"]["largest-error"] == dict(shipped.accuracy.served.largest)
    assert found["x-model"]["digest"] == shipped.digest


def references(node: Any) -> set[str]:
    """Every $ref in a document."""
    if isinstance(node, dict):
        return {v for k, v in node.items() if k == "$ref"}.union(*map(references, node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


def test_every_reference_in_either_document_leads_somewhere(shipped: Manifest) -> None:
    for found in (openapi.document(shipped, Offered()), openapi.admin_document(shipped, Offered())):
        refs = references(found)
        assert refs
        for ref in refs:
            node: Any = found
            for part in ref.removeprefix("#/").split("/"):
                node = node[part]


def test_every_operation_has_a_name_of_its_own_and_every_schema_is_one(shipped: Manifest) -> None:
    for found in (openapi.document(shipped, Offered()), openapi.admin_document(shipped, Offered())):
        names = [op["operationId"] for path in found["paths"].values() for op in path.values()]
        assert len(names) == len(set(names))
        for schema in found["components"]["schemas"].values():
            jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_nothing_of_it_knows_what_is_served(heat: Manifest) -> None:
    """Apart from the words of the manifest itself."""
    plain = msgspec.structs.replace(
        heat, description="", problem="heat", tolerances={}, digest="", accuracy=heat.accuracy
    )
    text = msgspec.json.encode(openapi.document(plain, Offered())["paths"]).decode().lower()
    for word in ("option", "strike", "price", "greek", "black"):
        assert word not in text
