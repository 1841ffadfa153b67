"""An object that this release cannot read says so where `kubectl wait` and Flux look, and keeps the rest of its status."""

from collections.abc import Mapping
from typing import Any

import pytest
from pinn_operator.api.names import API_VERSION, KIND
from pinn_operator.api.observed import Key
from pinn_operator.errors import NotUnderstood
from pinn_operator.reconcile import Context, reconcile
from pinn_operator.report import not_understood
from tests.fake_kube import FakeKube
from tests.given import NOW, UID, spec_of

OLD = "2026-01-01T00:00:00Z"
STATUS = {
    "observedGeneration": 2,
    "stable": {"revision": "6f1e0c2b9d", "ofANewerRelease": 1},
    "conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": OLD, "reason": "Serving", "message": "serves"},
        {"type": "Reconciling", "status": "True", "lastTransitionTime": OLD, "reason": "Step", "message": "step 1/3"},
        {
            "type": "Available",
            "status": "True",
            "lastTransitionTime": OLD,
            "reason": "MinimumAvailable",
            "message": "1 of 1",
        },
    ],
}


def live(**more: Any) -> dict[str, Any]:
    """As a newer release may have written it: a policy that this one does not know."""
    metadata = {"name": "pricer", "namespace": "demo", "uid": UID, "generation": 3}
    spec = spec_of("1.0.0", gpu={"policy": "Share"})
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec, "status": STATUS, **more}


def conditions(status: Mapping[str, Any]) -> dict[str, Any]:
    return {one["type"]: one for one in status["conditions"]}


def test_ready_and_stalled_name_the_field_and_the_remedy() -> None:
    found = conditions(not_understood(live(), "spec.gpu.policy", "must be Never, Prefer or Require", NOW))
    assert {name: one["status"] for name, one in found.items()} == {
        "Ready": "False",
        "Stalled": "True",
        "Available": "True",
    }
    assert found["Ready"]["message"].startswith(
        "spec.gpu.policy: this release of the operator cannot read it (must be Never,"
    )
    assert "Upgrade the operator" in found["Stalled"]["message"]
    assert found["Ready"]["observedGeneration"] == 3


def test_the_rest_of_the_status_is_kept_as_it_was_read() -> None:
    found = not_understood(live(), "spec.gpu.policy", "", NOW)
    assert found["stable"] == STATUS["stable"]
    assert found["observedGeneration"] == 3
    assert conditions(found)["Available"] == STATUS["conditions"][2]  # type: ignore[index]


def test_said_again_it_is_the_same_to_the_second() -> None:
    once = not_understood(live(), "spec.gpu.policy", "", NOW)
    later = NOW.replace(year=2027)
    assert not_understood(live(status=once), "spec.gpu.policy", "", later) == once


def test_an_object_without_a_status_gets_one() -> None:
    assert set(conditions(not_understood(live(status=None), "spec", "", NOW))) == {"Ready", "Stalled"}


async def test_a_pass_says_it_once_and_writes_nothing_else() -> None:
    kube = FakeKube(live())
    context = Context(kube, "inference:1", "test")
    for _ in range(3):
        with pytest.raises(NotUnderstood, match=r"spec\.gpu\.policy"):
            await reconcile(context, Key("demo", "pricer"))
    assert kube.writes() == [("apply_status", KIND, "pricer")]


async def test_once_the_spec_can_be_read_the_status_is_the_operators_own_again() -> None:
    kube = FakeKube(live())
    context = Context(kube, "inference:1", "test")
    with pytest.raises(NotUnderstood):
        await reconcile(context, Key("demo", "pricer"))
    fixed = kube.peek(KIND, "pricer")
    assert fixed is not None
    fixed["spec"] = spec_of("1.0.0")
    kube.put(fixed)
    await reconcile(context, Key("demo", "pricer"))
    found = conditions((kube.peek(KIND, "pricer") or {})["status"])
    assert "Stalled" not in found
    assert found["Ready"]["reason"] != "NotUnderstood"
