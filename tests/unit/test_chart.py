"""What can be said of the chart's values without Helm: they fit their schema, and every setting of the operator is among them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pinn_operator.settings import RELEASE, Settings
from pydantic.alias_generators import to_camel

CHART = Path(__file__).parents[2] / "charts/pinn-operator"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
ELSEWHERE = {
    "namespaces": "values.namespaces",
    "server_image": "values.serverImage",
    "port": "values.port",
    "namespace": "the pod says it",
    "identity": "the pod says it",
    "name": "the release's name",
}
"""Settings of the operator that are no entry of values.settings, and where they come from."""
OF_AN_UMBRELLA = {"global", "enabled"}
"""Values that come from a chart of which this one is a part: Helm hands over the one, a condition is the other."""


def _nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from _nodes(child, f"{path}.{name}".lstrip("."))


def test_the_values_fit_their_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(VALUES, SCHEMA)


@pytest.mark.parametrize(
    "values",
    [
        {"resources": {"limit": {"memory": "1Gi"}}},
        {"tolerations": [{"keyy": "a"}]},
        {"affinity": {"nodeAfinity": {}}},
        {"extraEnv": [{"name": "X", "valeu": "1"}]},
        {"image": {"repository": "registry.example.com:5000/pinn:1.0"}},
        {"podDisruptionBudget": {"maxUnavailable": "500%"}},
        {"fullnameOverride": "123"},
    ],
)
def test_a_value_that_would_do_nothing_or_be_refused_later_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, SCHEMA)


def test_values_that_people_give_are_taken() -> None:
    values = {
        "resources": {"limits": {"memory": "1Gi"}, "requests": {"cpu": "100m"}},
        "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "ops", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}},
        "extraEnv": [
            {"name": "X", "value": "1"},
            {"name": "Y", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}},
        ],
        "image": {"repository": "registry.example.com:5000/pinn/operator"},
        "podDisruptionBudget": {"maxUnavailable": "50%"},
        "fullnameOverride": "pinn-two",
    }
    jsonschema.validate(values, SCHEMA)


def test_the_block_that_the_notes_give_can_be_pasted() -> None:
    """A here-document ends where its last word stands at the beginning of a line."""
    lines = (CHART / "templates/NOTES.txt").read_text().splitlines()
    assert "EOF" in lines


def test_every_value_has_a_schema_and_every_schema_a_value() -> None:
    assert SCHEMA["properties"].keys() - OF_AN_UMBRELLA == VALUES.keys()
    for name in ("image", "serverImage", "crds", "podDisruptionBudget", "monitoring"):
        assert SCHEMA["properties"][name]["properties"].keys() == VALUES[name].keys(), name


def test_every_value_is_described() -> None:
    assert [path for path, node in _nodes(SCHEMA) if path and not node.get("description", "").endswith(".")] == []


def test_every_setting_of_the_operator_can_be_set() -> None:
    settable = {name: to_camel(name) for name in Settings.model_fields if name not in ELSEWHERE}
    assert set(settable.values()) == SCHEMA["properties"]["settings"]["properties"].keys()


def test_the_chart_is_of_this_release() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (about["version"], about["appVersion"]) == (RELEASE, RELEASE)
