"""What is written when a Service that runs is taken over, and that the way back restores it to the letter."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pinn_operator.api.names import LABEL_OBJECT, LABEL_REVISION
from pinn_operator.api.ownership import Owner, owner_of
from pinn_operator.plugin.kubectl import Trouble
from pinn_operator.plugin.migrate import BEFORE, complaint_about, given_back, turned

OBJECT = {"metadata": {"name": "pricer", "uid": "u-1"}}


def _service(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "pricer",
            "namespace": "desk",
            "resourceVersion": "7",
            "labels": {"team": "rates"},
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:selector": {}}}}],
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "198.18.0.9",
            "selector": {"app": "old"},
            "ports": [{"port": 8000, "protocol": "TCP", "targetPort": 5000}],
            **spec,
        },
        "status": {"loadBalancer": {}},
    }


def test_the_service_leads_to_the_revision_belongs_to_the_object_and_keeps_its_address_and_ports() -> None:
    service = turned(_service(), OBJECT, "abc")
    assert service["spec"]["selector"] == {LABEL_OBJECT: "pricer", LABEL_REVISION: "abc"}
    assert service["spec"]["clusterIP"] == "198.18.0.9"
    assert service["spec"]["ports"] == [
        {"name": "migrated-8000", "port": 8000, "protocol": "TCP", "targetPort": "http"}
    ]
    assert service["metadata"]["resourceVersion"] == "7", "a change since it was read must not be overwritten"
    assert service["metadata"]["labels"]["team"] == "rates"
    assert owner_of(service, "u-1") is Owner.OURS


def test_a_port_keeps_the_name_that_callers_know() -> None:
    named = [{"name": "web", "port": 80, "protocol": "TCP", "targetPort": 5000}]
    assert turned(_service(ports=named), OBJECT, "abc")["spec"]["ports"][0]["name"] == "web"


def test_what_is_given_back_is_what_was_there_and_nobodys() -> None:
    before = _service()
    after = given_back(turned(copy.deepcopy(before), OBJECT, "abc"))
    assert after["spec"] == before["spec"]
    assert after["metadata"]["labels"] == {"team": "rates"}
    assert BEFORE not in after["metadata"]["annotations"]
    assert owner_of(after, "u-1") is Owner.OTHER


def test_labels_that_were_written_over_come_back() -> None:
    before = _service()
    before["metadata"]["labels"] = {
        "app.kubernetes.io/managed-by": "Helm",
        "app.kubernetes.io/name": "old",
        "team": "rates",
    }
    assert (
        given_back(turned(copy.deepcopy(before), OBJECT, "abc"))["metadata"]["labels"] == before["metadata"]["labels"]
    )


def test_an_operator_that_has_applied_it_meanwhile_does_not_take_it_for_its_own_once_it_is_given_back() -> None:
    service = turned(_service(), OBJECT, "abc")
    service["metadata"]["managedFields"] = [{"manager": "pinn-operator", "operation": "Apply", "fieldsV1": {}}]
    assert owner_of(given_back(service), "u-1") is Owner.OTHER


def test_a_service_that_nobody_took_over_is_not_given_back() -> None:
    with pytest.raises(Trouble, match="was not taken over"):
        given_back(_service())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": "LoadBalancer"}, "of type LoadBalancer"),
        ({"selector": None}, "selects no pods"),
        ({"type": "ExternalName", "selector": None}, "selects no pods"),
        ({"clusterIP": "None"}, "headless"),
        ({"ports": [{"port": 53, "protocol": "UDP"}]}, "UDP"),
    ],
)
def test_a_service_that_cannot_be_taken_over_is_refused_with_the_reason(change: dict[str, Any], said: str) -> None:
    assert said in (complaint_about(_service(**change), "-n desk") or "")


def test_a_service_of_somebody_else_or_taken_over_already_is_refused() -> None:
    assert complaint_about(_service(), "-n desk") is None
    taken = complaint_about(turned(_service(), OBJECT, "abc"), "-n desk --context prod") or ""
    assert "taken over already; kubectl pinn migrate pricer -n desk --context prod --undo" in taken
    owned = _service()
    owned["metadata"]["ownerReferences"] = [{"kind": "Rollout", "name": "r", "uid": "x", "controller": True}]
    assert "belongs to Rollout/r" in (complaint_about(owned, "-n desk") or "")
    long = _service()
    long["metadata"]["name"] = "x" * 46
    assert "45 characters" in (complaint_about(long, "-n desk") or "")
