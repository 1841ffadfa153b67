"""SECURITY.md tells an administrator what the operator may do: all of it, and nothing else."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from pinn_operator.api.names import GROUP, PLURAL

from tests.unit.documents import ROOT

PAGE = (ROOT / "SECURITY.md").read_text()
RBAC: list[dict[str, Any]] = list(yaml.safe_load_all((ROOT / "manifests/base/rbac.yaml").read_text()))
USER_ROLES = ROOT / "manifests/base/user-roles.yaml"
ROW = re.compile(r"^\| (`[a-z/`, ]+`) \| ([a-z, ]+) \|", re.MULTILINE)
PLACES = {
    "ClusterRole/pinn-operator": "In the namespaces that it serves",
    "ClusterRole/pinn-operator-discovery": "In either case, in the whole cluster",
    "Role/pinn-operator": "And in its own namespace",
}
"""The roles that the operator is bound to, and under which words the page has each."""


def granted(role: str) -> dict[str, set[str]]:
    """The verbs of a role by resource."""
    kind, name = role.split("/")
    (found,) = [one for one in RBAC if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    verbs: dict[str, set[str]] = {}
    for rule in found["rules"]:
        for resource in rule["resources"]:
            verbs.setdefault(resource, set()).update(rule["verbs"])
    return verbs


def told(role: str) -> dict[str, set[str]]:
    """What the table under its words says."""
    _, _, rest = PAGE.partition("\n## What the operator may do\n")[2].partition(PLACES[role])
    table = rest.partition("\n\n|")[2].partition("\n\n")[0]
    rows = [(match[1], match[2]) for match in ROW.finditer(table)]
    return {resource: set(verbs.split(", ")) for names, verbs in rows for resource in re.findall("`([^`]+)`", names)}


@pytest.mark.parametrize("role", PLACES)
def test_the_page_has_every_right_of_the_operator_and_no_other(role: str) -> None:
    assert told(role) == granted(role)


def test_the_roles_for_people_let_them_read_or_write_our_objects_and_nothing_else() -> None:
    """Kubernetes adds them to its own by their labels; `edit` has what `view` has by itself."""
    roles = {one["metadata"]["name"]: one for one in yaml.safe_load_all(USER_ROLES.read_text())}
    assert {one["kind"] for one in roles.values()} == {"ClusterRole"}
    rules = [rule for one in roles.values() for rule in one["rules"]]
    assert {group for rule in rules for group in rule["apiGroups"]} == {GROUP}
    assert {name.partition("/")[0] for rule in rules for name in rule["resources"]} == {PLURAL}
    into = {
        name: {label.partition("aggregate-to-")[2] for label in one["metadata"]["labels"] if "aggregate-to-" in label}
        for name, one in roles.items()
    }
    assert into == {"pinn-operator-view": {"view", "edit", "admin"}, "pinn-operator-edit": {"edit", "admin"}}
    read = {verb for rule in roles["pinn-operator-view"]["rules"] for verb in rule["verbs"]}
    assert read == {"get", "list", "watch"}
    written = [rule for rule in roles["pinn-operator-edit"]["rules"] if f"{PLURAL}/status" in rule["resources"]]
    assert not written, "the status is the operator's to write"


def test_there_is_no_role_of_the_operator_that_the_page_leaves_out() -> None:
    bound = {
        f"{one['roleRef']['kind']}/{one['roleRef']['name']}"
        for one in RBAC
        if one["kind"].endswith("Binding")
        and {"kind": "ServiceAccount", "name": "pinn-operator"}.items() <= one["subjects"][0].items()
    }
    assert bound == set(PLACES)
