"""Who says how many servers there are changes hands without their number changing."""

from __future__ import annotations

from typing import Any

import pytest
from pinn_operator.act.children import act
from pinn_operator.api.names import FIELD_MANAGER, FINALIZER, SCALING_MANAGER
from pinn_operator.api.observed import Key
from pinn_operator.api.outcome import Outcome
from pinn_operator.build import build
from pinn_operator.decide import decide
from pinn_operator.errors import Conflict
from pinn_operator.kube import AUTOSCALER
from pinn_operator.observe import observe
from tests.fake_kube import FakeKube
from tests.given import IMAGE, NOW, UID, spec_of

Object = dict[str, Any]
BETWEEN = {"minReplicas": 2, "maxReplicas": 10, "targetInFlight": 0}


def _kube(**spec: Any) -> FakeKube:
    metadata = {"name": "pricer", "namespace": "demo", "uid": UID, "generation": 1, "finalizers": [FINALIZER]}
    return FakeKube({"kind": "PinnDeployment", "metadata": metadata, "spec": spec_of("1.0.0", **spec)})


async def _pass(kube: FakeKube) -> Outcome:
    seen = await observe(kube, Key("demo", "pricer"), now=NOW, server_image=IMAGE)
    assert seen is not None
    plan = decide(seen)
    kube.requests.clear()
    return await act(kube, plan, build(plan, seen), seen)


def _change(kube: FakeKube, **spec: Any) -> None:
    live = kube.peek("PinnDeployment", "pricer") or {}
    kube.put({**live, "spec": spec_of("1.0.0", **spec)})


def _of(kube: FakeKube, kind: str) -> Object:
    (found,) = [obj for obj in kube.objects.values() if obj["kind"] == kind]
    return found


def _scaled_by_hand(kube: FakeKube, replicas: int) -> None:
    """As the scale subresource does it, for an autoscaler or for `kubectl scale deployment`: the owner is who wrote last."""
    live = _of(kube, "Deployment")
    fields = [_without_replicas(entry) for entry in live["metadata"]["managedFields"]]
    scaler = {"manager": "kube-controller-manager", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    metadata = {**live["metadata"], "managedFields": [*fields, scaler]}
    kube.put({**live, "metadata": metadata, "spec": {**live["spec"], "replicas": replicas}})


def _without_replicas(entry: Object) -> Object:
    spec = {name: value for name, value in entry["fieldsV1"].get("f:spec", {}).items() if name != "f:replicas"}
    return {**entry, "fieldsV1": {**entry["fieldsV1"], "f:spec": spec}}


def _owners(kube: FakeKube) -> set[str]:
    fields = _of(kube, "Deployment")["metadata"]["managedFields"]
    return {entry["manager"] for entry in fields if "f:replicas" in entry["fieldsV1"].get("f:spec", {})}


async def test_the_number_has_another_owner_before_the_operator_leaves_it_out() -> None:
    """Else it would return to one, which the stand-in does as a real server does."""
    kube = _kube(replicas=4, autoscaling=BETWEEN)
    await _pass(kube)
    assert (_of(kube, "Deployment")["spec"]["replicas"], _owners(kube)) == (4, {FIELD_MANAGER})
    outcome = await _pass(kube)
    assert (_of(kube, "Deployment")["spec"]["replicas"], _owners(kube)) == (4, {SCALING_MANAGER})
    assert outcome == Outcome(), "who says it has changed, and nothing that anybody would see"
    again = await _pass(kube)
    assert (again, kube.writes()) == (Outcome(), [])


async def test_what_an_autoscaler_sets_is_left_alone() -> None:
    kube = _kube(autoscaling=BETWEEN)
    for _ in range(3):
        await _pass(kube)
    _scaled_by_hand(kube, 7)
    assert (await _pass(kube), kube.writes()) == (Outcome(), [])
    assert _of(kube, "Deployment")["spec"]["replicas"] == 7


async def test_a_number_that_changes_while_it_changes_hands_is_not_set_back() -> None:
    kube = _kube(replicas=4, autoscaling=BETWEEN)
    await _pass(kube)

    async def before(verb: str, kind: str, _name: str) -> None:
        if (verb, kind) == ("apply", "Deployment"):
            kube.before = None
            _scaled_by_hand(kube, 9)

    kube.before = before
    with pytest.raises(Conflict):
        await _pass(kube)
    await _pass(kube)
    assert _of(kube, "Deployment")["spec"]["replicas"] == 9


async def test_what_a_stranger_added_is_removed_and_the_number_stays() -> None:
    kube = _kube(autoscaling=BETWEEN)
    for _ in range(2):
        await _pass(kube)
    _scaled_by_hand(kube, 7)
    live = _of(kube, "Deployment")
    added = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:template": {"f:spec": {}}}}}
    fields = [*live["metadata"]["managedFields"], added]
    pod = {**live["spec"]["template"]["spec"], "hostNetwork": True}
    template = {**live["spec"]["template"], "spec": pod}
    kube.put(
        {
            **live,
            "metadata": {**live["metadata"], "managedFields": fields},
            "spec": {**live["spec"], "template": template},
        }
    )
    outcome = await _pass(kube)
    assert [write.verb for write in outcome.writes] == ["Healed"]
    assert "hostNetwork" not in _of(kube, "Deployment")["spec"]["template"]["spec"]
    assert _of(kube, "Deployment")["spec"]["replicas"] == 7


async def test_an_autoscaler_that_was_deleted_or_edited_is_put_right_and_the_number_stays() -> None:
    kube = _kube(autoscaling=BETWEEN)
    for _ in range(2):
        await _pass(kube)
    _scaled_by_hand(kube, 7)
    scaler = _of(kube, "HorizontalPodAutoscaler")
    await kube.delete(AUTOSCALER, scaler["metadata"]["name"], "demo", scaler["metadata"]["uid"])
    outcome = await _pass(kube)
    assert [(write.verb, write.child.kind) for write in outcome.writes] == [("Created", "HorizontalPodAutoscaler")]
    scaler = _of(kube, "HorizontalPodAutoscaler")
    kube.put({**scaler, "spec": {**scaler["spec"], "maxReplicas": 99}})
    await _pass(kube)
    assert _of(kube, "HorizontalPodAutoscaler")["spec"]["maxReplicas"] == 10
    assert _of(kube, "Deployment")["spec"]["replicas"] == 7


async def test_without_autoscaling_any_more_the_number_is_never_set_to_one_at_once() -> None:
    kube = _kube(autoscaling=BETWEEN)
    for _ in range(2):
        await _pass(kube)
    _scaled_by_hand(kube, 7)
    _change(kube, replicas=1)
    await _pass(kube)
    assert _of(kube, "Deployment")["spec"]["replicas"] == 7, "its autoscaler is told to take one away"
    scaler = _of(kube, "HorizontalPodAutoscaler")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (6, 6)
    _change(kube, replicas=7)
    await _pass(kube)
    assert not [obj for obj in kube.objects.values() if obj["kind"] == "HorizontalPodAutoscaler"]
    _scaled_by_hand(kube, 3)
    await _pass(kube)
    assert (_of(kube, "Deployment")["spec"]["replicas"], _owners(kube)) == (
        7,
        {FIELD_MANAGER, "kube-controller-manager"},
    )


async def test_switched_off_it_has_no_servers_and_no_autoscaler() -> None:
    kube = _kube(autoscaling=BETWEEN)
    for _ in range(2):
        await _pass(kube)
    _scaled_by_hand(kube, 7)
    _change(kube, replicas=0, autoscaling=BETWEEN)
    outcome = await _pass(kube)
    assert "Healed" not in {write.verb for write in outcome.writes}, "nobody has done anything wrong"
    assert _of(kube, "Deployment")["spec"]["replicas"] == 0
    assert not [obj for obj in kube.objects.values() if obj["kind"] == "HorizontalPodAutoscaler"]
    _change(kube, replicas=3, autoscaling=BETWEEN)
    await _pass(kube)
    assert _of(kube, "Deployment")["spec"]["replicas"] == 3
