"""What is generated is what the types say, and says what a reader needs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pinn_operator.api import PinnDeployment, generate, names
from pinn_operator.api.rules import RULES
from pinn_operator.api.schema import rendered, rules_of, schema_of

from tests.manifests import cases

SCHEMA = schema_of(PinnDeployment)
SPEC = SCHEMA["properties"]["spec"]


def nodes(node: dict[str, Any], path: str = "spec") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for keyword in ("items", "additionalProperties"):
        if keyword in node:
            yield from nodes(node[keyword], f"{path}[]")


EVERY = dict(nodes(SPEC)) | dict(nodes(SCHEMA["properties"]["status"], "status"))
FIELDS = {
    path: node for path, node in EVERY.items() if not path.endswith("[]") and not path.startswith("spec.template.")
}


def test_the_generated_files_are_up_to_date() -> None:
    assert generate.stale() == [], f"run: {generate.AGAIN}"


def test_an_edited_file_is_called_out_of_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate.write(tmp_path)
    assert generate.stale(tmp_path) == []
    edited = tmp_path / generate.CRD_FILE
    edited.write_text(edited.read_text().replace("default: 1\n", "default: 2\n", 1))
    assert generate.stale(tmp_path) == [generate.CRD_FILE]


def test_the_schema_is_structural() -> None:
    """No reference, no alternative, no null, no float; a type everywhere but where a number may be a string."""
    assert [path for path, node in EVERY.items() if not is_structural(rendered(node))] == []


def is_structural(node: dict[str, Any]) -> bool:
    foreign = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "title", RULES} & node.keys()
    return not foreign and ("type" in node) != ("x-kubernetes-int-or-string" in node) and node.get("type") != "number"


def test_every_field_is_described() -> None:
    assert [path for path, node in FIELDS.items() if not node["description"].endswith((".", ")"))] == []


def test_every_description_of_a_field_says_what_its_absence_means() -> None:
    fields = [path for path in FIELDS if path.startswith("spec.")]
    assert [path for path in fields if not is_required(path) and not says_its_absence(path)] == []


def is_required(path: str) -> bool:
    parent, _, name = path.rpartition(".")
    return name in EVERY[parent].get("required", ())


def says_its_absence(path: str) -> bool:
    return re.search(r"Default: |Absent|Required ", FIELDS[path]["description"]) is not None


def test_what_a_rule_looks_at_is_bounded() -> None:
    """The API server estimates the cost of a rule from these bounds."""
    ruled = {
        path: node for path, node in EVERY.items() if rules_of(node) and node.get("type") not in ("object", "integer")
    }
    assert [path for path, node in ruled.items() if not {"maxLength", "maxItems"} & node.keys()] == []


def test_a_form_is_refused_by_a_sentence_and_not_by_a_pattern() -> None:
    assert [path for path, node in nodes(SPEC) if "pattern" in node] == []


def test_every_rule_names_a_remedy() -> None:
    rules = [rule for node in (SCHEMA, *EVERY.values()) for rule in rules_of(node)]
    remedy = re.compile(r"; .*\b(write|set|use|put|add|remove|lower|raise|leave|shorten|in metadata.name use)\b")
    assert [rule.message for rule in rules if not remedy.search(rule.message)] == []


def test_the_names_are_those_of_the_code() -> None:
    spec = yaml.safe_load(generate.crd_yaml())["spec"]
    assert (spec["group"], spec["versions"][0]["name"]) == (names.GROUP, names.VERSION)
    assert spec["names"]["plural"] == names.PLURAL


def test_the_reference_page_names_every_field() -> None:
    """Look at docs/reference/crd.md: one table for each part, one row for each field."""
    page = generate.docs()
    missing = [path for path in FIELDS if "." in path and f"| `{path.rpartition('.')[2]}` |" not in page]
    assert missing == []


def test_the_manifest_that_says_everything_says_every_field() -> None:
    """Making the wrong types fails when a field is in no valid manifest."""
    assert len(cases.wrong_types()) == len(EVERY) - len(dict(nodes(SCHEMA["properties"]["status"], "status")))
