"""What is written before and with a share: what is known, the labels of live servers, the route, the Service; in that order."""

import json
from dataclasses import replace
from typing import Any

import pytest
from pinn_operator.act.children import act
from pinn_operator.act.shares import mark
from pinn_operator.api.journal import Arm, Journal
from pinn_operator.api.memory import Memory
from pinn_operator.api.names import FINALIZER, LABEL_OBJECT, LABEL_REVISION, LABEL_SERVING
from pinn_operator.api.observed import ChildId, Key, Observed
from pinn_operator.api.outcome import Outcome, Refusal
from pinn_operator.api.plan import Phase, Plan, Run, Traffic
from pinn_operator.api.readings import Server
from pinn_operator.build import build
from pinn_operator.errors import Conflict, Refused, Unavailable
from pinn_operator.observe import observe
from tests.fake_kube import FakeKube, Request
from tests.given import IMAGE, NOW, UID, observed, revision, spec_of

Object = dict[str, Any]

KEY = Key("demo", "pricer")
ONE, TWO, OLD = revision("1.0.0", 2), revision("2.0.0", 3), revision("0.9.0", 1)
GATEWAY = {"gateway": {"parentRefs": [{"name": "gw"}]}}


def _pod(name: str, of: str, serving: bool = False) -> Object:
    labels = {LABEL_OBJECT: "pricer", LABEL_REVISION: of, **({LABEL_SERVING: "true"} if serving else {})}
    metadata = {"name": name, "namespace": "demo", "labels": labels}
    return {"kind": "Pod", "metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}


def _kube(*more: Object, **spec: Any) -> FakeKube:
    metadata = {"name": "pricer", "namespace": "demo", "uid": UID, "generation": 1, "finalizers": [FINALIZER]}
    return FakeKube({"kind": "PinnDeployment", "metadata": metadata, "spec": spec_of("2.0.0", **spec)}, *more)


def _memory(began: float = 1.0, **more: Any) -> Memory:
    return Memory(Journal(Arm(TWO.name, "2.0.0"), Arm(ONE.name, "1.0.0"), began, **more))


def _plan(weight: int, selected: str | None = ONE.name, labelled: tuple[str, ...] = (), **more: Any) -> Plan:
    """A step of a rollout, at so much of the traffic."""
    shares = {name: share for name, share in {ONE.name: 100 - weight, TWO.name: weight}.items() if share}
    return Plan(**{
        "phase": Phase.STEPPING, "sentence": "because", "wanted": TWO.name, "run": (Run(ONE, 1), Run(TWO, 1)),
        "stable": ONE, "canary": TWO, "traffic": Traffic(shares, selected, frozenset(labelled)), "memory": _memory(),
        **more,
    })  # fmt: skip


async def _seen(kube: FakeKube) -> Observed:
    seen = await observe(kube, KEY, now=NOW, server_image=IMAGE)
    assert seen is not None
    return seen


async def _act(kube: FakeKube, plan: Plan) -> Outcome:
    seen = await _seen(kube)
    kube.requests.clear()
    return await act(kube, plan, build(plan, seen), seen)


def _shared(kube: FakeKube) -> list[Request]:
    """The writes that tell of shares, and the removals."""
    of_shares = ("Pod", "ConfigMap", "HTTPRoute")
    return [w for w in kube.writes() if w[0] == "delete" or w[1] in of_shares or w[1:] == ("Service", "pricer")]


async def test_what_is_known_is_stored_before_the_labels_and_those_before_the_service() -> None:
    kube = _kube(_pod("a", ONE.name), _pod("b", TWO.name))
    await _act(kube, _plan(0, run=(Run(OLD, 1), Run(ONE, 1), Run(TWO, 1))))
    await _act(kube, _plan(50, None, ("a", "b"), memory=_memory(2.0)))
    name = f"pricer-{OLD.name}"
    assert _shared(kube) == [
        ("apply", "ConfigMap", "pricer-rollout"),
        ("patch", "Pod", "a"),
        ("patch", "Pod", "b"),
        ("apply", "Service", "pricer"),
        ("delete", "Deployment", name),
        ("delete", "Service", name),
    ]


async def test_behind_a_gateway_what_is_known_is_stored_before_the_route_and_the_service_comes_last() -> None:
    kube = _kube(traffic=GATEWAY)
    await _act(kube, _plan(10))
    assert _shared(kube) == [
        ("apply", "ConfigMap", "pricer-rollout"),
        ("apply", "HTTPRoute", "pricer"),
        ("apply", "Service", "pricer"),
    ]


async def test_workloads_are_there_before_anything_of_a_share_is_written() -> None:
    kube = _kube(traffic=GATEWAY)
    await _act(kube, _plan(10))
    kinds = [kind for _, kind, _ in kube.writes()]
    last_workload = max(at for at, kind in enumerate(kinds) if kind == "Deployment")
    assert last_workload < kinds.index("ConfigMap") < kinds.index("HTTPRoute")


@pytest.mark.parametrize("traffic", [{}, GATEWAY], ids=["labels", "route"])
async def test_no_share_changes_when_somebody_else_has_stored_what_is_known(traffic: Any) -> None:
    """Two leaders may overlap for a moment: the one with the older picture must not move the traffic."""
    kube = _kube(_pod("a", ONE.name), _pod("b", TWO.name), traffic=traffic)
    await _act(kube, _plan(0))
    seen = await _seen(kube)
    kube.put(kube.peek("ConfigMap", "pricer-rollout") or {})
    kube.requests.clear()
    plan = _plan(50, memory=_memory(2.0)) if traffic else _plan(50, None, ("a", "b"), memory=_memory(2.0))
    with pytest.raises(Conflict):
        await act(kube, plan, build(plan, seen), seen)
    assert _shared(kube) == [("apply", "ConfigMap", "pricer-rollout")]


async def test_no_share_rises_when_what_is_known_may_not_be_stored() -> None:
    """A quota or a role that is in the way: the operator would not know of the step that it began."""
    kube = _kube(traffic=GATEWAY)
    await _act(kube, _plan(10))

    async def refuse(verb: str, kind: str, _name: str) -> None:
        if (verb, kind) == ("apply", "ConfigMap"):
            raise Refused(403, "Forbidden", "exceeded quota")

    kube.before = refuse
    outcome = await _act(kube, _plan(50, memory=_memory(2.0)))
    assert [refusal.child for refusal in outcome.refusals] == [ChildId("ConfigMap", "pricer-rollout")]
    assert _shared(kube) == []
    assert _weights(kube)[f"pricer-{TWO.name}"] == 10


async def test_the_traffic_returns_to_stable_even_when_that_may_not_be_stored() -> None:
    kube = _kube(traffic=GATEWAY)
    await _act(kube, _plan(10))

    async def refuse(verb: str, kind: str, _name: str) -> None:
        if (verb, kind) == ("apply", "ConfigMap"):
            raise Refused(403, "Forbidden", "exceeded quota")

    kube.before = refuse
    await _act(kube, _plan(0, phase=Phase.ROLLING_BACK, memory=_memory(2.0)))
    assert _weights(kube) == {f"pricer-{ONE.name}": 100}


def _weights(kube: FakeKube) -> dict[str, int]:
    rules = (kube.peek("HTTPRoute", "pricer") or {})["spec"]["rules"]
    return {backend["name"]: backend["weight"] for backend in rules[-1]["backendRefs"]}


@pytest.mark.parametrize("kind", ["HTTPRoute", "ConfigMap"])
async def test_the_route_and_what_is_known_are_changed_only_as_they_were_read(kind: str) -> None:
    kube = _kube(traffic=GATEWAY)
    await _act(kube, _plan(10))
    seen = await _seen(kube)
    plan = _plan(50, memory=_memory(2.0))
    (live,) = [obj for (of, _, _), obj in kube.objects.items() if of == kind]
    kube.put(live)
    with pytest.raises(Conflict):
        await act(kube, plan, build(plan, seen), seen)
    assert _weights(kube)[f"pricer-{TWO.name}"] == 10


async def test_a_share_that_rises_is_an_update_and_no_healing() -> None:
    kube = _kube(traffic=GATEWAY)
    await _act(kube, _plan(10))
    outcome = await _act(kube, _plan(50, memory=_memory(2.0)))
    assert {(write.verb, write.child.kind) for write in outcome.writes} == {
        ("Updated", "ConfigMap"),
        ("Updated", "HTTPRoute"),
    }


async def test_a_share_that_somebody_else_changed_is_put_right() -> None:
    kube = _kube(traffic=GATEWAY)
    await _act(kube, _plan(10))
    live = kube.peek("HTTPRoute", "pricer") or {}
    live["spec"]["rules"][0]["backendRefs"][0]["weight"] = 1
    live["metadata"]["managedFields"] = [
        {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:rules": {}}}}
    ]
    kube.put(live)
    outcome = await _act(kube, _plan(10))
    assert [(write.verb, write.child.kind) for write in outcome.writes] == [("Healed", "HTTPRoute")]
    assert sorted(_weights(kube).values()) == [10, 90]


async def test_a_second_pass_over_the_same_step_writes_nothing() -> None:
    kube = _kube(_pod("a", ONE.name), _pod("b", TWO.name))
    await _act(kube, _plan(50, None, ("a", "b")))
    outcome = await _act(kube, _plan(50, None, ("a", "b")))
    assert (outcome, kube.writes()) == (Outcome(), [])


async def test_what_is_known_can_be_read_again_by_the_next_pass() -> None:
    kube = _kube()
    known = replace(_memory(step=2, measure="tick"), ledger={"since": 3.5}, handled={"promote": "x@1"})
    await _act(kube, _plan(10, memory=known))
    assert (await _seen(kube)).memory == known
    assert json.loads((kube.peek("ConfigMap", "pricer-rollout") or {})["data"]["memory.json"])["journal"]["step"] == 2


# --- Labels on live servers ------------------------------------------------------------------------------------------


def _server(name: str, of: str, serving: bool = False) -> Server:
    return Server(of, name, "containerd://x", "10.0.0.1", ready=True, serving=serving)


async def _marked(kube: FakeKube, servers: list[Server], plan: Plan) -> list[str]:
    await mark(kube, plan, observed(servers=tuple(servers)))
    return [name for verb, kind, name in kube.writes() if (verb, kind) == ("patch", "Pod")]


def _carries(kube: FakeKube, name: str) -> bool:
    return LABEL_SERVING in (kube.peek("Pod", name) or {})["metadata"]["labels"]


async def test_labels_are_given_before_any_is_taken_off() -> None:
    """Else there would be a moment in which the Service has nobody."""
    servers = [
        _server("a", ONE.name, True),
        _server("b", ONE.name),
        _server("c", TWO.name, True),
        _server("d", TWO.name),
    ]
    kube = FakeKube(*(_pod(one.pod, one.revision, one.serving) for one in servers))
    assert await _marked(kube, servers, _plan(50, None, ("b", "d"))) == ["b", "d", "a", "c"]
    assert {name: _carries(kube, name) for name in "abcd"} == {"a": False, "b": True, "c": False, "d": True}


async def test_servers_that_are_labelled_as_they_should_be_are_left_alone() -> None:
    servers = [_server("a", ONE.name, True), _server("b", TWO.name)]
    assert await _marked(FakeKube(), servers, _plan(50, None, ("a",))) == []


async def test_a_server_that_vanished_meanwhile_is_no_error_and_the_others_get_their_labels() -> None:
    servers = [_server("a", ONE.name), _server("b", TWO.name), _server("c", ONE.name, True)]
    kube = FakeKube(_pod("b", TWO.name))
    await mark(kube, _plan(50, None, ("a", "b")), observed(servers=tuple(servers)))
    assert _carries(kube, "b")


async def test_a_server_of_neither_revision_loses_a_label_that_it_still_carries() -> None:
    """Else the Service would go on sending it requests, and it would be kept because it is sent some."""
    kube = FakeKube(_pod("x", OLD.name, True), _pod("a", ONE.name))
    servers = [_server("x", OLD.name, True), _server("a", ONE.name)]
    assert await _marked(kube, servers, _plan(50, None, ("a",))) == ["a", "x"]
    assert not _carries(kube, "x")


@pytest.mark.parametrize("plan", [_plan(50), _plan(50, traffic=None)], ids=["selected by revision", "no traffic"])
async def test_no_server_is_labelled_where_the_service_selects_a_revision(plan: Plan) -> None:
    """Whoever serves alone is served without the operator, and so are servers that come up while it is away."""
    servers = [_server("a", ONE.name), _server("b", TWO.name, True)]
    assert await _marked(FakeKube(), servers, plan) == []


async def test_a_busy_api_server_ends_the_pass_before_the_service_is_turned() -> None:
    kube = _kube(_pod("a", ONE.name), _pod("b", TWO.name))
    await _act(kube, _plan(0))

    async def busy(_verb: str, kind: str, _name: str) -> None:
        if kind == "Pod" and _verb == "patch":
            raise Unavailable(503, "Busy", "busy")

    kube.before = busy
    with pytest.raises(Unavailable):
        await _act(kube, _plan(50, None, ("a", "b"), memory=_memory(2.0)))
    assert (kube.peek("Service", "pricer") or {})["spec"]["selector"].get(LABEL_REVISION) == ONE.name


REFUSALS = [
    Refused(403, "Forbidden", "a role"),
    Refused(422, "Invalid", "a policy"),
    Refused(500, "InternalError", "failed calling webhook"),
]


def _refuse_to_label(kube: FakeKube, pod: str, error: Refused) -> None:
    async def refuse(verb: str, kind: str, name: str) -> None:
        if (verb, kind, name) == ("patch", "Pod", pod):
            raise error

    kube.before = refuse


@pytest.mark.parametrize("error", REFUSALS, ids=str)
async def test_a_refused_label_is_reported_and_neither_turns_the_service_nor_removes_anything(error: Refused) -> None:
    """The Service would select by labels that are not there, and what is removed may be what still serves."""
    kube = _kube(_pod("a", ONE.name), _pod("b", TWO.name))
    await _act(kube, _plan(0, run=(Run(OLD, 1), Run(ONE, 1), Run(TWO, 1))))
    _refuse_to_label(kube, "b", error)
    outcome = await _act(kube, _plan(50, None, ("a", "b"), memory=_memory(2.0)))
    assert outcome.refusals == (Refusal(ChildId("Pod", "b"), error.reason, error.message),)
    assert [(write.verb, write.child.kind) for write in outcome.writes] == [("Updated", "ConfigMap")]
    assert _shared(kube) == [("apply", "ConfigMap", "pricer-rollout"), ("patch", "Pod", "a")]
    assert (kube.peek("Service", "pricer") or {})["spec"]["selector"].get(LABEL_REVISION) == ONE.name


async def test_after_a_refused_label_none_is_taken_off() -> None:
    """Else the Service might have nobody."""
    servers = [_server("a", ONE.name, True), _server("b", ONE.name), _server("c", TWO.name)]
    kube = FakeKube(*(_pod(one.pod, one.revision, one.serving) for one in servers))
    _refuse_to_label(kube, "b", REFUSALS[0])
    assert await _marked(kube, servers, _plan(50, None, ("b", "c"))) == []
    assert _carries(kube, "a")


@pytest.mark.parametrize("error", REFUSALS, ids=str)
async def test_a_label_that_may_not_be_written_does_not_keep_the_traffic_from_stable(error: Refused) -> None:
    kube = _kube(_pod("a", ONE.name), _pod("b", TWO.name))
    await _act(kube, _plan(50, None, ("a", "b")))
    _refuse_to_label(kube, "b", error)
    outcome = await _act(kube, _plan(0, phase=Phase.ROLLING_BACK, memory=_memory(2.0)))
    assert outcome.refusals == ()
    assert (kube.peek("Service", "pricer") or {})["spec"]["selector"].get(LABEL_REVISION) == ONE.name
