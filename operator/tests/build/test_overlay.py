"""A JSON merge patch that knows Kubernetes' lists. The cases of RFC 7396's appendix are those that do not need list merging."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinn_operator.build.overlay import overlay

NAMES = st.sampled_from(["a", "b", "env", "containers", "args"])
TREES = st.recursive(
    st.booleans() | st.integers(0, 3),
    lambda inner: st.dictionaries(NAMES, inner) | st.lists(inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("base", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ([1, 2], {"a": "b"}, {"a": "b"}),
    ],
)
def test_the_cases_of_the_rfc(base: Any, patch: Any, result: Any) -> None:
    assert overlay(base, patch) == result


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("containers", "name"),
        ("initContainers", "name"),
        ("env", "name"),
        ("volumes", "name"),
        ("imagePullSecrets", "name"),
        ("volumeMounts", "mountPath"),
        ("ports", "containerPort"),
    ],
)
def test_items_with_the_same_identity_are_the_same_item(field: str, key: str) -> None:
    base = {field: [{key: 1, "kept": "a", "changed": "b"}, {key: 2}]}
    patch = {field: [{key: 1, "changed": "c"}, {key: 3, "new": "d"}]}
    assert overlay(base, patch) == {field: [{key: 1, "kept": "a", "changed": "c"}, {key: 2}, {key: 3, "new": "d"}]}


def test_one_variable_more_takes_none_away() -> None:
    base = {"containers": [{"name": "server", "env": [{"name": "A", "value": "1"}]}]}
    patch = {"containers": [{"name": "server", "env": [{"name": "B", "value": "2"}]}]}
    env = overlay(base, patch)["containers"][0]["env"]
    assert env == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]


def test_null_in_an_item_removes_the_field_of_that_item() -> None:
    base = {"env": [{"name": "A", "value": "1"}]}
    patch = {"env": [{"name": "A", "value": None, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}
    assert overlay(base, patch)["env"] == [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]


@pytest.mark.parametrize("field", ["args", "tolerations", "topologySpreadConstraints"])
def test_other_lists_are_replaced_whole(field: str) -> None:
    assert overlay({field: [{"name": "a"}]}, {field: [{"name": "b"}]}) == {field: [{"name": "b"}]}


def test_a_list_of_things_without_a_name_is_replaced_whole() -> None:
    assert overlay({"env": [{"name": "a"}]}, {"env": ["odd"]}) == {"env": ["odd"]}


@given(base=TREES, patch=TREES)
def test_neither_side_is_changed_and_the_patch_wins_when_laid_over_again(base: Any, patch: Any) -> None:
    before = copy.deepcopy((base, patch))
    once = overlay(base, patch)
    assert (base, patch) == before
    assert overlay(once, patch) == once


@given(base=TREES)
def test_an_empty_patch_changes_nothing(base: Any) -> None:
    assert overlay(base, {}) == (base if isinstance(base, dict) else {})


def test_a_null_in_what_is_new_leaves_nothing_behind() -> None:
    """RFC 7396: null removes, and what was not there is not there afterwards."""
    assert overlay({}, {"spec": {"affinity": {"nodeAffinity": None, "podAffinity": {}}}}) == {
        "spec": {"affinity": {"podAffinity": {}}}
    }
