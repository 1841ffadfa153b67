"""Whole passes against an API server in a dict, some of whose writes a policy, a role or a webhook is in the way of."""

from typing import Any

import pytest
from pinn_operator.act.children import act
from pinn_operator.api.journal import Arm, Entry, Journal
from pinn_operator.api.memory import Memory
from pinn_operator.api.names import API_VERSION, FINALIZER, KIND, LABEL_OBJECT, LABEL_REVISION, LABEL_SERVING
from pinn_operator.api.observed import Key
from pinn_operator.api.plan import Phase, Plan, Run, Traffic
from pinn_operator.build import build
from pinn_operator.errors import Conflict, Refused
from pinn_operator.observe import observe
from pinn_operator.reconcile import Context, Pass, reconcile
from tests.fake_kube import FakeKube
from tests.given import ALL_OFF, GATEWAY, IMAGE, NOW, UID, revision, spec_of

Object = dict[str, Any]

KEY = Key("demo", "pricer")
ONE, TWO = revision("1.0.0", 1), revision("2.0.0", 2)
ASKED = f"{TWO.name}@1"
MEMORY, POD_LABEL, FINALIZERS = ("apply", "ConfigMap"), ("patch", "Pod"), ("patch", KIND)


async def _rolling(weight: int = 10, **spec: Any) -> FakeKube:
    """1.0.0 serves beside 2.0.0, which has this share and is in the first step."""
    steps = [{"weight": weight, "hold": "1h"}, {"weight": 100, "hold": "1h"}]
    metadata = {"name": "pricer", "namespace": "demo", "uid": UID, "generation": 1, "finalizers": [FINALIZER]}
    wanted = spec_of("2.0.0", rollout={"steps": steps}, sla=ALL_OFF, **spec)
    kube = FakeKube({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": wanted})
    kube.put(_pod("a", ONE.name))
    kube.put(_pod("b", TWO.name))
    kube.put(_endpoints(f"pricer-{ONE.name}", "a"))
    kube.put(_endpoints(f"pricer-{TWO.name}", "b"))
    kube.put(_endpoints("pricer", "a"))
    journal = Journal(
        Arm(TWO.name, "2.0.0"), Arm(ONE.name, "1.0.0"), NOW.timestamp(), step=1, weight=weight,
        timeline=(Entry(NOW.timestamp(), "Began", "it begins"),),
    )  # fmt: skip
    shares = {ONE.name: 100 - weight, TWO.name: weight} if "traffic" in spec else {ONE.name: 100}
    plan = Plan(
        Phase.STEPPING, "because", TWO.name, run=(Run(ONE, 1), Run(TWO, 1)), stable=ONE, canary=TWO,
        traffic=Traffic(shares, ONE.name), memory=Memory(journal),
    )  # fmt: skip
    seen = await observe(kube, KEY, now=NOW, server_image=IMAGE)
    assert seen is not None
    await act(kube, plan, build(plan, seen), seen)
    _edit(kube, status={"stable": {"revision": ONE.name}, "canary": {"revision": TWO.name}})
    return kube


def _pod(name: str, of: str) -> Object:
    metadata = {"name": name, "namespace": "demo", "labels": {LABEL_OBJECT: "pricer", LABEL_REVISION: of}}
    return {"kind": "Pod", "metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}


def _endpoints(service: str, pod: str) -> Object:
    labels = {LABEL_OBJECT: "pricer", "kubernetes.io/service-name": service}
    endpoints = [{"targetRef": {"name": pod}, "conditions": {"ready": True}}]
    metadata = {"name": service, "namespace": "demo", "labels": labels}
    return {"kind": "EndpointSlice", "metadata": metadata, "endpoints": endpoints}


def _object(kube: FakeKube) -> Object:
    return kube.peek(KIND, "pricer") or {}


def _edit(kube: FakeKube, *, annotations: dict[str, str] | None = None, **parts: Any) -> None:
    """As a person would."""
    live = _object(kube)
    kube.put({**live, **parts, "metadata": {**live["metadata"], "annotations": annotations or {}}})


def _refuse(kube: FakeKube, *what: tuple[str, str]) -> None:
    async def before(verb: str, kind: str, _name: str) -> None:
        if (verb, kind) in what:
            raise Refused(403, "Forbidden", "a policy is in the way")

    kube.before = before


async def _pass(kube: FakeKube) -> Pass:
    finished = await reconcile(Context(kube, IMAGE, "test"), KEY)
    assert finished is not None
    return finished


def _ready(kube: FakeKube) -> Object:
    conditions = _object(kube)["status"]["conditions"]
    return next(one for one in conditions if one["type"] == "Ready")


def _handled(kube: FakeKube) -> Object:
    return dict(_object(kube)["status"].get("lastHandled", {}))


def _told(kube: FakeKube, reason: str) -> int:
    return sum(kind == "Event" and event["reason"] == reason for (kind, _, _), event in kube.objects.items())


def _reports(kube: FakeKube) -> list[str]:
    return [name for kind, _, name in kube.objects if kind == "ConfigMap" and name != "pricer-rollout"]


async def _canary_share(kube: FakeKube) -> int:
    seen = await observe(kube, KEY, now=NOW, server_image=IMAGE)
    return seen.route.weights.get(TWO.name, 0) if seen and seen.route else 0


async def test_an_abort_that_could_not_be_stored_is_asked_for_again_by_every_pass_until_it_is() -> None:
    kube = await _rolling(traffic=GATEWAY)
    _edit(kube, annotations={"pinn.dev/abort": ASKED})
    _refuse(kube, MEMORY)
    for _ in range(3):
        finished = await _pass(kube)
        assert finished.plan.phase is Phase.ROLLING_BACK
        assert await _canary_share(kube) == 0
        assert _handled(kube) == {}
        assert "rejected" not in _object(kube)["status"]
        assert "ConfigMap/pricer-rollout was refused" in _ready(kube)["message"]
    kube.before = None
    assert (await _pass(kube)).plan.phase is Phase.ROLLING_BACK
    assert _handled(kube) == {"abort": ASKED}
    assert [one["revision"] for one in _object(kube)["status"]["rejected"]] == [TWO.name]


async def test_a_rollback_that_could_not_be_stored_is_told_once_when_it_is() -> None:
    """Passes follow each other within a second: an Event of each would bury all others."""
    kube = await _rolling(traffic=GATEWAY)
    _edit(kube, annotations={"pinn.dev/abort": ASKED})
    _refuse(kube, MEMORY)
    for _ in range(3):
        await _pass(kube)
    assert _told(kube, "RolledBack") == 0
    kube.before = None
    await _pass(kube)
    await _pass(kube)
    assert _told(kube, "RolledBack") == 1


async def test_a_promote_that_could_not_be_stored_is_not_taken_for_done() -> None:
    kube = await _rolling(traffic=GATEWAY)
    _edit(kube, annotations={"pinn.dev/promote": ASKED})
    _refuse(kube, MEMORY)
    for _ in range(2):
        await _pass(kube)
        assert _handled(kube) == {}
    kube.before = None
    await _pass(kube)
    assert _handled(kube) == {"promote": ASKED}


async def test_a_rollout_whose_end_could_not_be_stored_is_reported_once_when_it_is() -> None:
    kube = await _rolling(traffic=GATEWAY)
    _edit(kube, spec=spec_of("1.0.0", traffic=GATEWAY))
    _refuse(kube, MEMORY)
    for _ in range(3):
        finished = await _pass(kube)
        assert finished.plan.finished is None
        assert "history" not in _object(kube)["status"]
        assert _reports(kube) == []
    kube.before = None
    for _ in range(3):
        await _pass(kube)
    assert [one["outcome"] for one in _object(kube)["status"]["history"]] == ["Superseded"]
    assert _reports(kube) == [_object(kube)["status"]["history"][0]["report"]]


async def test_an_abort_is_not_taken_for_done_by_a_pass_that_may_write_nothing() -> None:
    kube = await _rolling(traffic=GATEWAY)
    _edit(kube, annotations={"pinn.dev/abort": ASKED})
    _object(kube)["metadata"]["finalizers"] = []
    _refuse(kube, FINALIZERS)
    await _pass(kube)
    assert _handled(kube) == {}
    kube.before = None
    await _pass(kube)
    assert (_handled(kube), await _canary_share(kube)) == ({"abort": ASKED}, 0)


async def test_a_refused_finalizer_is_said_in_the_status_and_in_one_event() -> None:
    kube = await _rolling(traffic=GATEWAY)
    _object(kube)["metadata"]["finalizers"] = []
    _refuse(kube, FINALIZERS)
    assert (await _pass(kube)).look_again is not None
    await _pass(kube)
    assert _ready(kube)["reason"] == "ChildRefused"
    assert "PinnDeployment/pricer was refused (Forbidden): a policy is in the way" in _ready(kube)["message"]
    assert _told(kube, "ChildRefused") == 1


@pytest.mark.parametrize("passes", [1, 2])
async def test_a_refused_label_is_said_in_the_status_and_in_one_event_and_no_share_rises(passes: int) -> None:
    kube = await _rolling(50)
    _refuse(kube, POD_LABEL)
    for _ in range(passes):
        await _pass(kube)
    assert _ready(kube)["reason"] == "ChildRefused"
    assert "Pod/a was refused (Forbidden): a policy is in the way" in _ready(kube)["message"]
    assert _told(kube, "ChildRefused") == 1
    selector = (kube.peek("Service", "pricer") or {})["spec"]["selector"]
    assert selector == {LABEL_OBJECT: "pricer", LABEL_REVISION: ONE.name}


async def test_once_the_labels_may_be_written_the_share_is_made() -> None:
    kube = await _rolling(50)
    _refuse(kube, POD_LABEL)
    await _pass(kube)
    kube.before = None
    await _pass(kube)
    selector = (kube.peek("Service", "pricer") or {})["spec"]["selector"]
    assert selector == {LABEL_OBJECT: "pricer", LABEL_SERVING: "true"}
    assert "ChildRefused" not in _ready(kube)["reason"]


def _unreached(*others: Object) -> FakeKube:
    """An object that asks for 1.0.0 for the first time."""
    metadata = {"name": "pricer", "namespace": "demo", "uid": UID, "generation": 1, "finalizers": [FINALIZER]}
    return FakeKube({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec_of("1.0.0")}, *others)


def _ask_for_the_next(kube: FakeKube) -> None:
    live = _object(kube)
    kube.put({**live, "spec": spec_of("2.0.0"), "metadata": {**live["metadata"], "generation": 2}})


def _refuse_the_service(kube: FakeKube) -> None:
    async def before(verb: str, kind: str, name: str) -> None:
        if (verb, kind, name) == ("apply", "Service", "pricer"):
            raise Refused(403, "Forbidden", "exceeded quota")

    kube.before = before


def _theirs(selector: dict[str, str]) -> Object:
    """A Service of the name that is somebody else's."""
    return {"kind": "Service", "metadata": {"name": "pricer", "namespace": "demo"}, "spec": {"selector": selector}}


@pytest.mark.parametrize("taken_by", [{"app": "x"}, {LABEL_REVISION: "0123456789"}, None])
async def test_a_service_that_is_not_to_be_had_is_said_and_keeps_no_old_servers(
    taken_by: dict[str, str] | None,
) -> None:
    kube = _unreached(*[_theirs(taken_by)] if taken_by else [])
    if not taken_by:
        _refuse_the_service(kube)
    await _pass(kube)
    assert kube.peek("Deployment", f"pricer-{ONE.name}") is not None
    _ask_for_the_next(kube)
    await _pass(kube)
    assert kube.peek("Deployment", f"pricer-{ONE.name}") is None
    assert kube.peek("Deployment", f"pricer-{TWO.name}") is not None
    assert (_ready(kube)["status"], _ready(kube)["reason"]) == ("False", "ChildRefused")
    assert f"Service/pricer was refused ({'NameTaken' if taken_by else 'Forbidden'})" in _ready(kube)["message"]
    assert _object(kube)["status"]["observedGeneration"] == 2


async def test_what_a_service_that_may_not_be_moved_leads_to_stays_though_it_is_not_ready() -> None:
    """It may be ready again in a moment, and callers are sent to nobody else."""
    kube = _unreached()
    await _pass(kube)
    _ask_for_the_next(kube)
    _refuse_the_service(kube)
    await _pass(kube)
    assert _object(kube)["status"]["observedGeneration"] == 2
    assert kube.peek("Deployment", f"pricer-{ONE.name}") is not None
    kube.before = None
    await _pass(kube)
    assert kube.peek("Deployment", f"pricer-{ONE.name}") is None


async def test_what_a_service_was_turned_to_meanwhile_by_others_is_not_removed() -> None:
    """`kubectl pinn migrate` takes the name over for the first version while a pass is at work on the second."""
    theirs = _theirs({"app": "x"})
    kube = _unreached(theirs)
    await _pass(kube)
    _ask_for_the_next(kube)
    owner = [{"kind": KIND, "apiVersion": API_VERSION, "name": "pricer", "uid": UID, "controller": True}]

    async def before(verb: str, kind: str, name: str) -> None:
        if (verb, kind, name) == ("get", KIND, "pricer") and kube.peek("Deployment", f"pricer-{TWO.name}"):
            turned = {**theirs["metadata"], "ownerReferences": owner}
            kube.put({**theirs, "metadata": turned, "spec": {"selector": {LABEL_REVISION: ONE.name}}})

    kube.before = before
    with pytest.raises(Conflict):
        await _pass(kube)
    assert kube.peek("Deployment", f"pricer-{ONE.name}") is not None


def _conflict_over_the_status(kube: FakeKube) -> None:
    """Somebody writes the object between the first read of a pass and its status."""

    async def before(verb: str, _kind: str, _name: str) -> None:
        if verb == "apply_status":
            raise Conflict(409, "Conflict", "the object has been modified")

    kube.before = before


async def test_a_rollback_is_told_once_though_its_status_could_not_be_written() -> None:
    kube = await _rolling(traffic=GATEWAY)
    _edit(kube, annotations={"pinn.dev/abort": ASKED})
    _conflict_over_the_status(kube)
    for _ in range(2):
        with pytest.raises(Conflict):
            await _pass(kube)
    assert _told(kube, "RolledBack") == 1
    kube.before = None
    await _pass(kube)
    assert _told(kube, "RolledBack") == 1


async def test_a_child_that_was_put_right_is_told_though_the_status_could_not_be_written() -> None:
    kube = await _rolling(traffic=GATEWAY)
    await _pass(kube)
    service = kube.peek("Service", f"pricer-{ONE.name}") or {}
    theirs = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:selector": {"f:app": {}}}}}
    metadata = {**service["metadata"], "managedFields": [*service["metadata"]["managedFields"], theirs]}
    selector = {**service["spec"]["selector"], "app": "another"}
    kube.put({**service, "metadata": metadata, "spec": {**service["spec"], "selector": selector}})
    _conflict_over_the_status(kube)
    _edit(kube, annotations={"pinn.dev/promote": ASKED})
    with pytest.raises(Conflict):
        await _pass(kube)
    assert _told(kube, "ChildHealed") == 1


async def test_what_is_a_change_of_the_status_is_told_when_that_is_written() -> None:
    kube = await _rolling(traffic=GATEWAY)
    _edit(kube, status={"stable": {"revision": ONE.name}})
    _conflict_over_the_status(kube)
    with pytest.raises(Conflict):
        await _pass(kube)
    assert _told(kube, "RolloutStarted") == 0
    kube.before = None
    await _pass(kube)
    assert _told(kube, "RolloutStarted") == 1


def _roles(kube: FakeKube) -> dict[str, tuple[str, int]]:
    status = _object(kube)["status"]
    return {
        role: (status[role]["revision"], status[role].get("weight", 0))
        for role in ("stable", "canary")
        if role in status
    }


async def test_a_step_that_could_not_be_stored_is_not_in_the_status() -> None:
    kube = await _rolling(traffic=GATEWAY)
    _edit(kube, annotations={"pinn.dev/promote": ASKED})
    _refuse(kube, MEMORY)
    finished = await _pass(kube)
    assert finished.plan.traffic is not None
    assert _roles(kube) == {"stable": (ONE.name, 90), "canary": (TWO.name, 10)}
    assert _object(kube)["status"].get("rollout") is None
    kube.before = None
    await _pass(kube)
    assert _roles(kube) == {"stable": (ONE.name, 0), "canary": (TWO.name, 100)}


async def test_a_promotion_that_could_not_be_stored_is_not_in_the_status() -> None:
    kube = await _rolling(traffic=GATEWAY)
    _edit(kube, annotations={"pinn.dev/promote": ASKED})
    await _pass(kube)
    _edit(kube, annotations={"pinn.dev/promote": f"{TWO.name}@2"})
    _refuse(kube, MEMORY)
    await _pass(kube)
    assert _roles(kube) == {"stable": (ONE.name, 0), "canary": (TWO.name, 100)}
    kube.before = None
    await _pass(kube)
    assert _roles(kube) == {"stable": (TWO.name, 100)}


async def test_a_rollout_whose_beginning_could_not_be_stored_is_not_told() -> None:
    kube = await _rolling(traffic=GATEWAY)
    _edit(kube, status={"stable": {"revision": ONE.name}})
    _refuse(kube, MEMORY)
    for _ in range(2):
        await _pass(kube)
    assert (_told(kube, "RolloutStarted"), "canary" in _object(kube)["status"]) == (0, False)
    kube.before = None
    await _pass(kube)
    assert (_told(kube, "RolloutStarted"), "canary" in _object(kube)["status"]) == (1, True)
