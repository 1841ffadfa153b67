"""The offline check refuses what an API server refuses, and names the field and the remedy."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from pinn_operator.api import PinnDeployment
from pinn_operator.api.check import problems, whole_schema, with_defaults
from pinn_operator.api.rules import Rule
from pinn_operator.api.schema import rules_of

from tests.manifests import cases

OWNER = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "desk", "uid": "0a1b"}


@pytest.mark.parametrize("name", cases.valid())
def test_a_right_manifest_is_accepted(name: str) -> None:
    assert problems(cases.valid()[name]) == []


@pytest.mark.parametrize("case", cases.refused(), ids=lambda case: case.title)
def test_a_wrong_manifest_is_refused_with_the_field_and_the_remedy(case: cases.Case) -> None:
    said = [problem.message for problem in problems(case.manifest) if problem.path == case.field]
    assert any(case.says in message for message in said), problems(case.manifest)


@pytest.mark.parametrize("case", cases.refused(), ids=lambda case: case.title)
def test_one_mistake_brings_one_complaint(case: cases.Case) -> None:
    assert len(problems(case.manifest)) == 1


@pytest.mark.parametrize("case", cases.wrong_types(), ids=lambda case: case.title)
def test_a_value_of_the_wrong_type_is_refused_by_name(case: cases.Case) -> None:
    found = problems(case.manifest)
    assert [problem.path for problem in found] == [case.field]
    assert found[0].message.startswith("must be ")


def test_every_rule_refuses_a_wrong_manifest_at_every_field_it_is_on() -> None:
    """A rule that no manifest breaks might as well not be there."""
    broken = {
        (anyhow(problem.path), problem.message) for case in cases.refused() for problem in problems(case.manifest)
    }
    silent = [
        (path, rule.message)
        for path, rule in placed(whole_schema(), "")
        if not any(path == at and could_say(rule.message, said) for at, said in broken)
    ]
    assert silent == []


def placed(node: Any, path: str) -> Iterator[tuple[str, Rule]]:
    """Every rule at every field, with the path its complaint would have."""
    yield from (((path + rule.field_path).removeprefix("."), rule) for rule in rules_of(node))
    for name, child in node.get("properties", {}).items():
        yield from placed(child, f"{path}.{name}")
    for keyword in ("items", "additionalProperties"):
        if keyword in node:
            yield from placed(node[keyword], f"{path}[]")


def anyhow(path: str) -> str:
    """The path with [] for whichever item and whichever key."""
    return re.sub(r"(binWidths|resources\.requests|resources\.limits)\.\w+|\[\d+\]", lambda m: f"{m[1] or ''}[]", path)


def could_say(template: str, message: str) -> bool:
    parts = re.split(r"\{self[^}]*\}", template)
    return re.fullmatch(".*".join(map(re.escape, parts)), message, re.DOTALL) is not None


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [("replica", "replicas"), ("Cache", "cache"), ("autoScaling", "autoscaling"), ("rollouts", "rollout")],
)
def test_an_unknown_field_brings_the_nearest_known_one(misspelt: str, meant: str) -> None:
    manifest = cases.patched(cases.minimal(), {"spec": {misspelt: {}}})
    assert [str(problem) for problem in problems(manifest)] == [
        f'spec.{misspelt}: unknown field "{misspelt}"; did you mean {meant}?'
    ]


def test_an_unknown_field_without_a_near_one_brings_all_there_are() -> None:
    manifest = cases.patched(cases.minimal(), {"spec": {"fallback": {"xyz": True}}})
    assert problems(manifest)[0].message == 'unknown field "xyz"; here stand cpu, solver'


def test_an_off_without_quotes_is_explained() -> None:
    manifest = cases.patched(cases.minimal(), {"spec": {"sla": {"promote": {"errorRate": False}}}})
    assert '"Off"' in problems(manifest)[0].message


def test_another_version_of_the_resource_is_refused_with_the_served_one() -> None:
    manifest = cases.minimal() | {"apiVersion": "pinn.dev/v1"}
    assert [str(problem) for problem in problems(manifest)] == [
        'apiVersion: "pinn.dev/v1" is not served; write pinn.dev/v1alpha1'
    ]


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"namespace": "Foo_"}, 'metadata.namespace: "Foo_" is no name; use 1 to 63 lower-case letters'),
        ({"namespace": "a.b"}, 'metadata.namespace: "a.b" is no name'),
        ({"namespace": "a" * 64}, "metadata.namespace: "),
        ({"labels": {"bad key!": "x"}}, 'metadata.labels: "bad key!" is no qualified name; use at most 63 letters'),
        ({"labels": {"Desk.example.com/tier": "x"}}, 'metadata.labels: "Desk.example.com/tier" is no qualified name'),
        ({"labels": {"/tier": "x"}}, 'metadata.labels: "/tier" is no qualified name'),
        ({"labels": {"a/b/c": "x"}}, 'metadata.labels: "a/b/c" is no qualified name'),
        ({"labels": {"a" * 254 + "/b": "x"}}, "metadata.labels: "),
        ({"labels": {"tier": "x y"}}, 'metadata.labels: "x y" is no value of a label (tier); use at most 63 letters'),
        ({"labels": {"tier": "x" * 64}}, "metadata.labels: "),
        ({"annotations": {"a b": "x"}}, 'metadata.annotations: "a b" is no qualified name'),
        ({"annotations": {"a": "ü" * 131_072}}, "metadata.annotations: 262145 bytes are too many"),
        ({"finalizers": ["a b"]}, 'metadata.finalizers: "a b" is no qualified name'),
        ({"finalizers": ["example.com/"]}, 'metadata.finalizers: "example.com/" is no qualified name'),
        (
            {"finalizers": ["orphan", "foregroundDeletion"]},
            "metadata.finalizers: orphan and foregroundDeletion exclude",
        ),
        ({"ownerReferences": [{**OWNER, "apiVersion": "a/b/c"}]}, 'metadata.ownerReferences[0].apiVersion: "a/b/c" is'),
        ({"ownerReferences": [{**OWNER, "apiVersion": "apps/"}]}, 'metadata.ownerReferences[0].apiVersion: "apps/" is'),
        ({"ownerReferences": [OWNER, {**OWNER, "uid": ""}]}, "metadata.ownerReferences[1].uid: 0 characters"),
        ({"ownerReferences": [{**OWNER, "controller": True}] * 2}, "metadata.ownerReferences: more than one says"),
        ({"ownerReferences": [{**OWNER, "nmae": "a"}]}, 'metadata.ownerReferences[0].nmae: unknown field "nmae"'),
        ({"generateName": "Desk-", "name": ""}, "metadata.name: a Service gets the same name"),
        ({"generateName": "d" * 41, "name": ""}, "metadata.name: the name is longer than 45 characters"),
        ({"generateName": "", "name": ""}, "metadata.name: required; give the object a name"),
    ],
)
def test_metadata_of_a_form_that_no_object_may_have_is_refused(metadata: dict[str, Any], said: str) -> None:
    found = [str(problem) for problem in problems(cases.patched(cases.minimal(), {"metadata": metadata}))]
    assert len(found) == 1
    assert found[0].startswith(said)


@pytest.mark.parametrize("field", ["apiVersion", "kind", "name", "uid"])
def test_an_owner_is_named_in_full(field: str) -> None:
    owner = {name: value for name, value in OWNER.items() if name != field}
    found = problems(cases.patched(cases.minimal(), {"metadata": {"ownerReferences": [owner]}}))
    assert [str(problem) for problem in found] == [f"metadata.ownerReferences[0].{field}: required"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"namespace": "0-desk"},
        {"labels": {"tier": "", "Tier_2.b": "A.b_c-1", "a.example.com/b": "7", "a" * 63: "x" * 63}},
        {"annotations": {"Desk.Example.com/Tier": "anything at all\n", "a": "x" * 262_000}},
        {"finalizers": ["example.com/Held_by", "orphan", "foo"]},
        {"ownerReferences": [{**OWNER, "controller": True}, {**OWNER, "apiVersion": "v1", "blockOwnerDeletion": True}]},
        {"generateName": "desk-", "name": None},
        {"generateName": "Not asked-for_", "name": "desk"},
    ],
)
def test_metadata_of_every_form_that_a_server_takes_is_accepted(metadata: dict[str, Any]) -> None:
    """It warns of a finalizer without a domain, and takes it."""
    assert problems(cases.patched(cases.minimal(), {"metadata": metadata})) == []


def test_what_a_template_holds_is_nobody_elses_business() -> None:
    manifest = cases.patched(cases.minimal(), {"spec": {"template": {"spec": {"containers": [{"nmae": 1}]}}}})
    assert problems(manifest) == []


def test_a_status_is_not_looked_at() -> None:
    assert problems(cases.minimal() | {"status": {"stable": {"revision": 7}}}) == []


def test_the_operator_reads_a_defaulted_manifest_as_it_reads_the_bare_one() -> None:
    bare = cases.minimal()
    read = PinnDeployment.model_validate(with_defaults(bare, whole_schema()))
    assert read.spec == PinnDeployment.model_validate(bare).spec


@pytest.mark.parametrize("name", cases.valid())
def test_defaults_are_filled_in_once(name: str) -> None:
    once = with_defaults(cases.valid()[name], whole_schema())
    assert with_defaults(once, whole_schema()) == once
