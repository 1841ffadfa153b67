"""Whose a live object is: never taken from somebody else by its name, never lost for a stripped reference."""

from typing import Any

import pytest
from pinn_operator.api.names import API_VERSION, KIND
from pinn_operator.api.ownership import Owner, owner_of

APPLIED = {"manager": "pinn-operator", "operation": "Apply"}


def _live(*owners: dict[str, Any], managers: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {"metadata": {"name": "x", "ownerReferences": list(owners), "managedFields": list(managers)}}


def _owner(uid: str, kind: str = KIND, api_version: str = API_VERSION, controller: bool = True) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "name": "pricer", "uid": uid, "controller": controller}


def test_a_child_with_our_uid_is_ours() -> None:
    assert owner_of(_live(_owner("u1")), "u1") is Owner.OURS


def test_a_child_of_a_deleted_object_of_the_same_name_is_a_namesakes() -> None:
    assert owner_of(_live(_owner("u0"), managers=(APPLIED,)), "u1", "pricer") is Owner.NAMESAKE


def test_a_child_of_a_living_neighbour_whose_name_leads_to_the_same_one_is_somebody_elses() -> None:
    assert owner_of(_live(_owner("u0"), managers=(APPLIED,)), "u1", "pri") is Owner.OTHER
    assert owner_of(_live(_owner("u0"), managers=(APPLIED,)), "u1") is Owner.OTHER


def test_a_child_of_a_namesake_of_another_version_of_the_resource_is_a_namesakes() -> None:
    assert owner_of(_live(_owner("u0", api_version="pinn.dev/v1")), "u1", "pricer") is Owner.NAMESAKE


@pytest.mark.parametrize(
    ("kind", "version"), [("ReplicaSet", "apps/v1"), (KIND, "pinn.development/v1"), ("Job", API_VERSION)]
)
def test_a_child_of_another_controller_is_somebody_elses_though_we_applied_it(kind: str, version: str) -> None:
    assert owner_of(_live(_owner("u0", kind, version), managers=(APPLIED,)), "u1", "pricer") is Owner.OTHER


def test_an_object_without_an_owner_is_ours_only_when_we_applied_it() -> None:
    assert owner_of(_live(managers=(APPLIED,)), "u1") is Owner.OURS
    assert owner_of(_live(), "u1") is Owner.OTHER
    assert owner_of({"metadata": {"name": "x"}}, "u1") is Owner.OTHER


@pytest.mark.parametrize("entry", [{**APPLIED, "operation": "Update"}, {**APPLIED, "manager": "kubectl"}])
def test_a_user_or_a_plain_update_makes_no_object_ours(entry: dict[str, Any]) -> None:
    assert owner_of(_live(managers=(entry,)), "u1") is Owner.OTHER


def test_an_owner_that_is_no_controller_does_not_count() -> None:
    assert owner_of(_live(_owner("u1", controller=False)), "u1") is Owner.OTHER
    assert owner_of(_live(_owner("u0", controller=False), managers=(APPLIED,)), "u1") is Owner.OURS
