"""Whether a live object is as it should be, on objects as a real API server (1.34) gave them back: see live/*.yaml.

Each file holds what was applied and what then was there, with the server's defaults and its managedFields.
"""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from pinn_operator.act.compare import GUARDED, additions, holds, meddlers, replacement, tampered

LIVE = Path(__file__).parent / "live"
KINDS = ("deployment", "service", "budget")
Object = dict[str, Any]


def _read(kind: str) -> tuple[Object, Object]:
    """The live object, and the one that was applied."""
    both = yaml.safe_load((LIVE / f"{kind}.yaml").read_text())
    return both["live"], both["wanted"]


def _by(manager: str, fields: Object, **more: Any) -> Object:
    """An entry of managedFields as the server writes it for another client."""
    return {"manager": manager, "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": fields, **more}


def _server(deployment: Object) -> Object:
    container: Object = deployment["spec"]["template"]["spec"]["containers"][0]
    return container


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_as_the_server_defaulted_it_needs_no_write(kind: str) -> None:
    live, wanted = _read(kind)
    assert holds(live, wanted)
    assert additions(live) == ()
    assert not tampered(live, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_each_field_that_was_applied_is_missed_when_it_goes(kind: str) -> None:
    live, wanted = _read(kind)
    for section in ("metadata", "spec"):
        for name in wanted[section]:
            less = copy.deepcopy(live)
            del less[section][name]
            assert not holds(less, wanted), name


@pytest.mark.parametrize(
    ("live", "wanted", "answer"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([{"a": 1, "b": 2}], [{"a": 1}], True),
        ([{"a": 1}, {"a": 2}], [{"a": 1}], False),
        ([{"a": 1}], [{"a": 1}, {"a": 2}], False),
        ([2, 1], [1, 2], False),
        ({}, {"a": {}}, False),
        ({"a": {"b": 1}}, {"a": {}}, True),
        ("1", 1, False),
    ],
)
def test_all_that_is_wanted_must_be_there_and_lists_match_item_by_item(live: Any, wanted: Any, answer: bool) -> None:
    assert holds(live, wanted) is answer


def test_a_container_added_by_hand_is_an_addition() -> None:
    live, _ = _read("deployment")
    live["spec"]["template"]["spec"]["containers"].append({"name": "debug", "image": "debug:1"})
    path: Object = {
        "f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"debug"}': {".": {}, "f:name": {}}}}}}
    }
    live["metadata"]["managedFields"].append(_by("kubectl-edit", path))
    assert additions(live) == ("kubectl-edit",)


def test_a_selector_key_added_to_the_service_is_an_addition() -> None:
    live, _ = _read("service")
    live["metadata"]["managedFields"].append(_by("kubectl-patch", {"f:spec": {"f:selector": {}}}))
    assert additions(live) == ("kubectl-patch",)


def test_what_controllers_write_beside_the_spec_is_no_addition() -> None:
    """The deployment controller owns status and an annotation; the autoscaler or a person may own replicas."""
    live, _ = _read("deployment")
    assert "kube-controller-manager" in {entry["manager"] for entry in live["metadata"]["managedFields"]}
    live["metadata"]["managedFields"].append(_by("kubectl", {"f:spec": {"f:replicas": {}}}, subresource="scale"))
    assert additions(live) == ()


def test_a_kind_without_a_guarded_part_has_no_additions() -> None:
    entry = _by("kubectl-edit", {"f:spec": {"f:template": {}, "f:selector": {}}})
    assert additions({"kind": "ServiceAccount", "metadata": {"managedFields": [entry]}}) == ()


def test_our_own_change_of_mind_is_no_tampering() -> None:
    """Replicas, and the selector at the change over: an apply by us alone is the last word on both."""
    live, wanted = _read("deployment")
    wanted["spec"]["replicas"] = 3
    assert not holds(live, wanted)
    assert not tampered(live, wanted)
    live, wanted = _read("service")
    wanted["spec"]["selector"]["pinn.dev/revision"] = "0123456789"
    assert not holds(live, wanted)
    assert not tampered(live, wanted)


def test_a_label_that_somebody_removed_is_tampering() -> None:
    live, wanted = _read("deployment")
    del live["metadata"]["labels"]["app.kubernetes.io/part-of"]
    del live["metadata"]["managedFields"][0]["fieldsV1"]["f:metadata"]["f:labels"]["f:app.kubernetes.io/part-of"]
    assert tampered(live, wanted)


def test_replicas_that_somebody_scaled_are_tampering() -> None:
    """The scale took the field over: it is no longer listed as ours."""
    live, wanted = _read("deployment")
    live["spec"]["replicas"] = 5
    del live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:replicas"]
    live["metadata"]["managedFields"].append(_by("kubectl", {"f:spec": {"f:replicas": {}}}, subresource="scale"))
    assert tampered(live, wanted)


def test_an_image_that_somebody_changed_is_tampering() -> None:
    live, wanted = _read("deployment")
    _server(live)["image"] = "other:1"
    assert not holds(live, wanted)
    assert tampered(live, wanted)


def test_a_lost_owner_is_tampering() -> None:
    live, wanted = _read("budget")
    del live["metadata"]["ownerReferences"]
    assert tampered(live, wanted)


def test_an_object_that_we_never_applied_is_tampered_with_wherever_it_differs() -> None:
    live, wanted = _read("service")
    live["metadata"]["managedFields"] = [_by("pinn-operator", {"f:spec": {"f:selector": {}}})]
    wanted["spec"]["selector"]["pinn.dev/revision"] = "0123456789"
    assert tampered(live, wanted)


def test_a_replacement_has_what_is_wanted_and_nothing_that_was_added() -> None:
    live, wanted = _read("deployment")
    live["spec"]["template"]["spec"]["containers"].append({"name": "debug", "image": "debug:1"})
    live["spec"]["template"]["spec"]["nodeSelector"] = {"disk": "ssd"}
    put = replacement(live, wanted)
    assert put["spec"] == wanted["spec"]
    assert put["metadata"].items() >= wanted["metadata"].items()


@pytest.mark.parametrize("kind", KINDS)
def test_a_replacement_is_conditional_on_what_was_read(kind: str) -> None:
    live, wanted = _read(kind)
    put = replacement(live, wanted)
    assert put["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]
    assert put["metadata"]["uid"] == live["metadata"]["uid"]
    assert "resourceVersion" not in wanted["metadata"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_replacement_keeps_the_metadata_of_others_and_ends_their_claim_to_the_spec(kind: str) -> None:
    """Else a tool that owns the template with our own values would have the object replaced on every pass, for ever."""
    live, wanted = _read(kind)
    guarded = GUARDED[live["kind"]]
    stranger = {"manager": "them", "operation": "Update", "fieldsV1": {"f:spec": {guarded: {}}}}
    live["metadata"]["managedFields"].append(stranger)
    live["metadata"].setdefault("annotations", {})["theirs"] = "kept"
    put = replacement(live, wanted)
    assert additions(live) == ("them",)
    assert additions({**put, "metadata": {**put["metadata"]}}) == ()
    assert put["metadata"]["annotations"]["theirs"] == "kept"
    assert [e for e in put["metadata"]["managedFields"] if e["manager"] == "pinn-operator"]


def test_a_replaced_service_keeps_its_address() -> None:
    live, wanted = _read("service")
    put = replacement(live, wanted)
    for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        assert put["spec"][field] == live["spec"][field]
    assert put["spec"]["selector"] == wanted["spec"]["selector"]
    assert "clusterIP" not in wanted["spec"]


# --- Who it was ------------------------------------------------------------------------------------------------------


def test_who_owns_what_is_not_as_wanted_is_named() -> None:
    live, wanted = _read("service")
    live["spec"]["ports"][0]["port"] = 9999
    live["metadata"]["managedFields"] += [
        _by("argocd-controller", {"f:spec": {"f:ports": {}}}, time="2026-01-01T00:00:00Z"),
        _by("kube-controller", {"f:metadata": {"f:annotations": {}}}, time="2026-01-02T00:00:00Z"),
    ]
    assert meddlers(live, wanted) == ("argocd-controller",)


def test_where_something_was_removed_who_wrote_last_is_named() -> None:
    live, wanted = _read("service")
    del live["metadata"]["labels"]
    live["metadata"]["managedFields"] += [
        _by("kubectl-edit", {}, time="2026-01-03T00:00:00Z"),
        _by("flux", {}, time="2026-01-02T00:00:00Z"),
        _by("kube-controller", {}, time="2026-01-04T00:00:00Z", subresource="status"),
        _by(
            "kube-controller-manager", {"f:spec": {"f:replicas": {}}}, time="2026-01-05T00:00:00Z", subresource="scale"
        ),
        _by("pinn-operator-scaling", {"f:spec": {"f:replicas": {}}}, time="2026-01-05T00:00:00Z"),
    ]
    assert meddlers(live, wanted) == ("kubectl-edit",)


def test_where_nobody_else_ever_wrote_nobody_is_named() -> None:
    live, wanted = _read("budget")
    live["metadata"]["managedFields"] = [
        one for one in live["metadata"]["managedFields"] if one["manager"] == "pinn-operator"
    ]
    live["spec"] = {}
    assert meddlers(live, wanted) == ()
