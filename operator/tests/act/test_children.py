"""Writes of a pass: their order, what a refusal stops, what is taken back, and what is left to its owner."""

import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from pinn_operator.act.children import act, release
from pinn_operator.api.memory import Memory
from pinn_operator.api.names import FIELD_MANAGER, FINALIZER, LABEL_OBJECT, LABEL_REVISION
from pinn_operator.api.observed import ChildId, Key, Observed
from pinn_operator.api.outcome import Outcome, Refusal
from pinn_operator.api.plan import Plan, Traffic
from pinn_operator.build import build
from pinn_operator.decide import decide
from pinn_operator.errors import ApiError, Conflict, Refused, Unavailable
from pinn_operator.observe import observe
from tests.fake_kube import FakeKube
from tests.given import IMAGE, NOW, UID, spec_of

KEY = Key("demo", "pricer")
Object = dict[str, Any]


def _object(version: str = "1.0.0", *, finalizers: tuple[str, ...] = (FINALIZER,), **spec: Any) -> Object:
    metadata = {"name": "pricer", "namespace": "demo", "uid": UID, "generation": 1, "finalizers": list(finalizers)}
    return {"kind": "PinnDeployment", "metadata": metadata, "spec": spec_of(version, **spec)}


async def _seen(kube: FakeKube) -> Observed:
    seen = await observe(kube, KEY, now=NOW, server_image=IMAGE)
    assert seen is not None
    return seen


async def _pass(kube: FakeKube) -> tuple[Outcome, Plan]:
    seen = await _seen(kube)
    plan = decide(seen)
    kube.requests.clear()
    return await act(kube, plan, build(plan, seen), seen), plan


def _refuse(*what: tuple[str, str], error: ApiError | None = None) -> Callable[[str, str, str], Awaitable[None]]:
    async def before(verb: str, kind: str, _name: str) -> None:
        if (verb, kind) in what:
            raise error or Refused(403, "Forbidden", "exceeded quota")

    return before


def _verbs(outcome: Outcome) -> set[tuple[str, str]]:
    return {(write.verb, write.child.kind) for write in outcome.writes}


async def test_everything_is_made_in_the_safe_order_and_tried_before_it_is_recorded() -> None:
    kube = FakeKube(_object(finalizers=(), replicas=2))
    outcome, plan = await _pass(kube)
    name = f"pricer-{plan.wanted}"
    assert kube.writes() == [
        ("patch", "PinnDeployment", "pricer"),
        ("dry_run", "Deployment", name),
        ("apply", "ServiceAccount", "pricer-server"),
        ("apply", "Secret", "pricer-admin"),
        ("apply", "ControllerRevision", name),
        ("apply", "Deployment", name),
        ("apply", "Service", name),
        ("apply", "PodDisruptionBudget", name),
        ("apply", "Service", "pricer"),
    ]
    assert {write.verb for write in outcome.writes} == {"Created"}
    assert outcome.refusals == ()


async def test_a_second_pass_writes_nothing() -> None:
    kube = FakeKube(_object(replicas=2))
    await _pass(kube)
    outcome, _ = await _pass(kube)
    assert (outcome, kube.writes()) == (Outcome(), [])


@pytest.mark.parametrize("cut", range(1, 9))
async def test_a_pass_cut_off_after_any_write_is_finished_by_the_next(cut: int) -> None:
    whole, kube = FakeKube(_object(finalizers=(), replicas=2)), FakeKube(_object(finalizers=(), replicas=2))
    await _pass(whole)
    count = 0

    async def before(verb: str, _kind: str, _name: str) -> None:
        nonlocal count
        count += verb not in ("get", "list_all")
        if count > cut:
            raise Unavailable(0, "NoAnswer", "gone")

    kube.before = before
    with pytest.raises(Unavailable):
        await _pass(kube)
    kube.before = None
    await _pass(kube)
    assert kube.objects.keys() == whole.objects.keys()
    assert (await _pass(kube))[0] == Outcome()


async def test_a_template_that_the_server_refuses_leaves_no_record_and_no_workload() -> None:
    kube = FakeKube(_object())
    kube.before = _refuse(("dry_run", "Deployment"))
    outcome, plan = await _pass(kube)
    assert [refusal.child for refusal in outcome.refusals] == [ChildId("Deployment", f"pricer-{plan.wanted}")]
    assert "exceeded quota" in outcome.refusals[0].message
    assert kube.peek("ControllerRevision", f"pricer-{plan.wanted}") is None
    assert kube.peek("Deployment", f"pricer-{plan.wanted}") is None
    assert kube.peek("Service", "pricer") is not None


async def test_a_refused_record_holds_back_its_workload_and_nothing_else() -> None:
    kube = FakeKube(_object())
    kube.before = _refuse(("apply", "ControllerRevision"))
    outcome, plan = await _pass(kube)
    assert [refusal.child.kind for refusal in outcome.refusals] == ["ControllerRevision"]
    assert kube.peek("Deployment", f"pricer-{plan.wanted}") is None
    assert kube.peek("Service", "pricer") is not None


async def test_a_busy_server_ends_the_pass_before_the_next_write() -> None:
    kube = FakeKube(_object())
    kube.before = _refuse(("apply", "Deployment"), error=Unavailable(503, "Busy", "busy"))
    with pytest.raises(Unavailable):
        await _pass(kube)
    assert kube.writes()[-1][1] == "ControllerRevision"


async def test_what_somebody_deleted_is_made_again() -> None:
    kube = FakeKube(_object())
    _, plan = await _pass(kube)
    del kube.objects["Deployment", "demo", f"pricer-{plan.wanted}"]
    outcome, _ = await _pass(kube)
    assert _verbs(outcome) == {("Created", "Deployment")}


async def test_what_somebody_changed_is_put_right_and_said_to_be_healed() -> None:
    kube = FakeKube(_object())
    await _pass(kube)
    service = kube.peek("Service", "pricer")
    assert service is not None
    service["spec"]["ports"][0]["port"] = 8080
    kube.put(service)
    outcome, _ = await _pass(kube)
    assert [(write.verb, write.why) for write in outcome.writes] == [("Healed", "somebody had changed it")]
    assert (kube.peek("Service", "pricer") or {})["spec"]["ports"][0]["port"] == 80


async def test_what_somebody_added_is_taken_out_by_a_put() -> None:
    kube = FakeKube(_object())
    _, plan = await _pass(kube)
    deployment = kube.peek("Deployment", f"pricer-{plan.wanted}")
    assert deployment is not None
    deployment["spec"]["template"]["spec"]["nodeSelector"] = {"disk": "ssd"}
    stranger = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:template": {}}}}
    deployment["metadata"]["managedFields"].append(stranger)
    kube.put(deployment)
    outcome, _ = await _pass(kube)
    assert [(write.verb, write.why) for write in outcome.writes] == [("Healed", "removed what kubectl-edit had added")]
    assert kube.writes() == [("replace", "Deployment", f"pricer-{plan.wanted}")]
    assert "nodeSelector" not in (kube.peek("Deployment", f"pricer-{plan.wanted}") or {})["spec"]["template"]["spec"]


async def test_a_scale_by_the_spec_is_an_update_and_no_healing() -> None:
    kube = FakeKube(_object(replicas=2))
    await _pass(kube)
    kube.put({**(kube.peek("PinnDeployment", "pricer") or {}), "spec": spec_of("1.0.0", replicas=3)})
    outcome, _ = await _pass(kube)
    assert _verbs(outcome) == {("Updated", "Deployment")}


async def test_a_child_whose_labels_were_stripped_is_taken_back() -> None:
    kube = FakeKube(_object())
    await _pass(kube)
    service = kube.peek("Service", "pricer")
    assert service is not None
    service["metadata"]["labels"].clear()
    kube.put(service)
    outcome, _ = await _pass(kube)
    assert [(write.verb, write.child) for write in outcome.writes] == [("Healed", ChildId("Service", "pricer"))]
    assert (kube.peek("Service", "pricer") or {})["metadata"]["labels"][LABEL_OBJECT] == "pricer"


async def test_an_object_of_the_same_name_that_is_somebody_elses_is_never_overwritten() -> None:
    theirs = {
        "kind": "Service",
        "metadata": {"name": "pricer", "namespace": "demo"},
        "spec": {"selector": {"app": "x"}},
    }
    kube = FakeKube(_object(), theirs)
    outcome, _ = await _pass(kube)
    assert [(refusal.reason, refusal.child) for refusal in outcome.refusals] == [
        ("NameTaken", ChildId("Service", "pricer"))
    ]
    assert (kube.peek("Service", "pricer") or {})["spec"] == {"selector": {"app": "x"}}


async def test_a_child_of_a_deleted_namesake_is_waited_for() -> None:
    kube = FakeKube(_object())
    await _pass(kube)
    again = _object()
    again["metadata"]["uid"] = "another"
    kube.put(again)
    with pytest.raises(Unavailable, match="deleted namesake"):
        await _pass(kube)


async def test_the_service_of_a_living_neighbour_that_is_named_like_our_canarys_is_not_waited_for() -> None:
    """A PinnDeployment `pricer-canary` has a Service of its name, and `pricer` with a user's route wants one of that name."""
    neighbour = {**_object(), "metadata": {**_object()["metadata"], "name": "pricer-canary", "uid": "another"}}
    kube = FakeKube(_object(traffic={"routeRef": {"name": "mine"}}), neighbour)
    theirs = await observe(kube, Key("demo", "pricer-canary"), now=NOW, server_image=IMAGE)
    assert theirs is not None
    plan = decide(theirs)
    await act(kube, plan, build(plan, theirs), theirs)
    outcome, _ = await _pass(kube)
    assert [(refusal.reason, refusal.child) for refusal in outcome.refusals] == [
        ("NameTaken", ChildId("Service", "pricer-canary"))
    ]
    assert (kube.peek("Service", "pricer-canary") or {})["metadata"]["ownerReferences"][0]["uid"] == "another"


async def test_what_nothing_runs_from_is_removed_and_its_record_stays() -> None:
    kube = FakeKube(_object(replicas=2))
    _, first = await _pass(kube)
    kube.put({**(kube.peek("PinnDeployment", "pricer") or {}), "spec": spec_of("2.0.0")})
    await _pass(kube)
    kinds = {kind for kind, _, name in kube.objects if name == f"pricer-{first.wanted}"}
    assert kinds == {"ControllerRevision"}


async def test_removals_come_after_every_other_write() -> None:
    kube = FakeKube(_object())
    await _pass(kube)
    kube.put({**(kube.peek("PinnDeployment", "pricer") or {}), "spec": spec_of("2.0.0")})
    await _pass(kube)
    verbs = [verb for verb, _, _ in kube.writes()]
    assert verbs == sorted(verbs, key=lambda verb: verb == "delete")
    assert "delete" in verbs


async def test_a_child_that_is_being_deleted_already_is_not_deleted_again() -> None:
    kube = FakeKube(_object())
    await _pass(kube)
    obj = kube.peek("PinnDeployment", "pricer") or {}
    obj["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:00Z"
    kube.put(obj)
    service = kube.peek("Service", "pricer") or {}
    service["metadata"] |= {"deletionTimestamp": "2026-01-02T03:04:00Z", "finalizers": ["somebody/else"]}
    kube.put(service)
    await _pass(kube)
    assert ("delete", "Service", "pricer") not in kube.writes()
    assert {kind for kind, _, _ in kube.objects} == {"PinnDeployment", "Service"}


async def test_a_deleted_object_loses_its_children_and_then_its_finalizer() -> None:
    kube = FakeKube(_object())
    await _pass(kube)
    obj = kube.peek("PinnDeployment", "pricer") or {}
    obj["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:00Z"
    kube.put(obj)
    await _pass(kube)
    assert {kind for kind, _, _ in kube.objects} == {"PinnDeployment"}
    await _pass(kube)
    assert kube.objects == {}


def _delete(kube: FakeKube, *finalizers: str) -> None:
    """As a person would; the API server adds finalizers of its own."""
    obj = kube.peek("PinnDeployment", "pricer") or {}
    changed = {"deletionTimestamp": "2026-01-02T03:04:00Z", "finalizers": [FINALIZER, *finalizers]}
    kube.put({**obj, "metadata": {**obj["metadata"], **changed}})


async def test_where_the_children_are_to_stay_none_is_deleted_and_the_garbage_collector_has_the_rest() -> None:
    kube = FakeKube(_object(replicas=2))
    await _pass(kube)
    before = {key: live for key, live in kube.objects.items() if key[0] != "PinnDeployment"}
    _delete(kube, "orphan")
    await _pass(kube)
    assert kube.writes() == [("patch", "PinnDeployment", "pricer")]
    assert (kube.peek("PinnDeployment", "pricer") or {})["metadata"]["finalizers"] == ["orphan"]
    await _pass(kube)
    assert kube.writes() == []
    assert before.items() <= kube.objects.items()


async def test_children_that_the_garbage_collector_has_orphaned_before_we_looked_stay_and_serve_the_next_object() -> (
    None
):
    kube = FakeKube(_object(replicas=2))
    await _pass(kube)
    children = [live for (kind, _, _), live in kube.objects.items() if kind != "PinnDeployment"]
    for live in children:
        kube.put({**live, "metadata": {**live["metadata"], "ownerReferences": []}})
    _delete(kube)
    await _pass(kube)
    assert kube.writes() == [("patch", "PinnDeployment", "pricer")]
    assert len(kube.objects) == len(children)
    again = _object(replicas=2)
    kube.put({**again, "metadata": {**again["metadata"], "uid": "another"}})
    outcome, _ = await _pass(kube)
    assert {write.verb for write in outcome.writes} <= {"Healed", "Updated"}
    owned = [live for live in kube.objects.values() if live["kind"] not in ("PinnDeployment", "Secret")]
    assert {live["metadata"]["ownerReferences"][0]["uid"] for live in owned} == {"another"}


async def test_releasing_takes_off_our_finalizer_and_no_other() -> None:
    kube = FakeKube(_object(finalizers=("a/b", FINALIZER, "c/d")))
    live = kube.peek("PinnDeployment", "pricer") or {}
    await release(kube, KEY, live["metadata"]["resourceVersion"], live["metadata"]["finalizers"])
    assert (kube.peek("PinnDeployment", "pricer") or {})["metadata"]["finalizers"] == ["a/b", "c/d"]


async def test_the_finalizers_of_an_object_that_has_changed_are_left_alone() -> None:
    kube = FakeKube(_object(finalizers=("a/b",)))
    seen = await _seen(kube)
    changed = kube.peek("PinnDeployment", "pricer") or {}
    changed["metadata"]["finalizers"] = []
    kube.put(changed)
    plan = decide(seen)
    with pytest.raises(Conflict):
        await act(kube, plan, build(plan, seen), seen)
    assert (kube.peek("PinnDeployment", "pricer") or {})["metadata"]["finalizers"] == []
    assert kube.writes() == [("patch", "PinnDeployment", "pricer")]


async def test_where_the_finalizer_is_refused_it_is_reported_and_nothing_is_written() -> None:
    """A child of an object without it could outlive the object."""
    kube = FakeKube(_object(finalizers=("a/b",)))
    live = kube.peek("PinnDeployment", "pricer") or {}
    kube.before = _refuse(("patch", "PinnDeployment"), error=Refused(422, "Invalid", "a policy"))
    outcome, _ = await _pass(kube)
    assert outcome == Outcome(refusals=(Refusal(ChildId("PinnDeployment", "pricer"), "Invalid", "a policy"),))
    assert outcome.resource_version == live["metadata"]["resourceVersion"]
    assert kube.writes() == []


async def test_a_refused_removal_is_reported_and_the_others_go_on() -> None:
    kube = FakeKube(_object(replicas=2))
    _, first = await _pass(kube)
    kube.put({**(kube.peek("PinnDeployment", "pricer") or {}), "spec": spec_of("2.0.0")})
    kube.before = _refuse(("delete", "Service"))
    outcome, _ = await _pass(kube)
    assert [refusal.child for refusal in outcome.refusals] == [ChildId("Service", f"pricer-{first.wanted}")]
    assert ("Deleted", "Deployment") in _verbs(outcome)


async def test_a_revision_whose_record_somebody_deleted_is_recorded_again_from_what_runs() -> None:
    kube = FakeKube(_object())
    _, plan = await _pass(kube)
    name = f"pricer-{plan.wanted}"
    template = (kube.peek("Deployment", name) or {})["spec"]["template"]
    del kube.objects["ControllerRevision", "demo", name]
    outcome, _ = await _pass(kube)
    assert _verbs(outcome) == {("Created", "ControllerRevision")}
    record = kube.peek("ControllerRevision", name) or {}
    assert record["data"]["template"] == template
    assert record["metadata"]["labels"][LABEL_REVISION] == plan.wanted


@pytest.mark.parametrize("what", ["the spec", "the Service"])
async def test_nothing_is_removed_on_an_old_picture(what: str) -> None:
    """A pass held up for long: meanwhile the spec was changed, or another leader moved the Service."""
    kube = FakeKube(_object())
    await _pass(kube)
    kube.put({**(kube.peek("PinnDeployment", "pricer") or {}), "spec": spec_of("2.0.0")})
    seen = await _seen(kube)
    plan = decide(seen)
    before = set(kube.objects)

    async def meanwhile(verb: str, _kind: str, _name: str) -> None:
        if verb != "get":
            return
        kube.before = None
        if what == "the spec":
            obj = kube.peek("PinnDeployment", "pricer") or {}
            kube.put({**obj, "metadata": {**obj["metadata"], "generation": 2}})
        else:
            service = kube.peek("Service", "pricer") or {}
            service["spec"]["selector"][LABEL_REVISION] = "0123456789"
            kube.put(service)

    kube.before = meanwhile
    with pytest.raises(Conflict):
        await act(kube, plan, build(plan, seen), seen)
    assert before <= set(kube.objects)


async def test_the_service_is_moved_only_as_it_was_read() -> None:
    """Two leaders may overlap for a moment; the one with the older picture loses."""
    kube = FakeKube(_object())
    await _pass(kube)
    kube.put({**(kube.peek("PinnDeployment", "pricer") or {}), "spec": spec_of("2.0.0")})
    seen = await _seen(kube)
    plan = decide(seen)
    kube.put(kube.peek("Service", "pricer") or {})
    with pytest.raises(Conflict):
        await act(kube, plan, build(plan, seen), seen)
    assert (kube.peek("Service", "pricer") or {})["spec"]["selector"][LABEL_REVISION] != plan.wanted


async def test_a_quantity_that_the_server_writes_in_other_words_is_no_change() -> None:
    class Canonical(FakeKube):
        """Writes 1024Mi as 1Gi, as a real one does; what is in a record is no quantity to it."""

        async def apply(self, obj: Object, *, dry_run: bool = False, manager: str = FIELD_MANAGER) -> Object:
            if obj["kind"] == "Deployment":
                obj = json.loads(json.dumps(obj).replace("1024Mi", "1Gi"))
            return await super().apply(obj, dry_run=dry_run, manager=manager)

    kube = Canonical(_object(resources={"limits": {"memory": "1024Mi"}}))
    first, _ = await _pass(kube)
    again, _ = await _pass(kube)
    assert ("Created", "Deployment") in _verbs(first)
    assert again == Outcome()


def _token(kube: FakeKube) -> str:
    return base64.b64decode((kube.peek("Secret", "pricer-admin") or {})["data"]["token"]).decode()


async def test_every_object_gets_a_token_of_its_own_that_nobody_could_guess() -> None:
    first, second = FakeKube(_object()), FakeKube(_object())
    await _pass(first)
    await _pass(second)
    assert len(_token(first)) >= 32
    assert _token(first) != _token(second)


async def test_a_token_is_never_made_anew_whatever_became_of_its_secret() -> None:
    """Servers that run know the one they were started with."""
    kube = FakeKube(_object())
    await _pass(kube)
    before, secret = _token(kube), kube.peek("Secret", "pricer-admin") or {}
    secret["metadata"] |= {"labels": {}, "ownerReferences": []}
    kube.put(secret)
    await _pass(kube)
    assert _token(kube) == before
    assert ("apply", "Secret", "pricer-admin") not in kube.writes()


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap"])
async def test_what_another_leader_made_meanwhile_is_read_before_anything_is_written_over_it(kind: str) -> None:
    """Its token may be in the first servers already, and what it has learned of the rollout is newer."""
    kube = FakeKube(_object())
    seen = await _seen(kube)
    plan = replace(decide(seen), memory=Memory())
    objects = build(plan, seen)
    (theirs,) = [obj for obj in objects if obj["kind"] == kind]
    await kube.apply({**theirs, **({"stringData": {"token": "theirs"}} if kind == "Secret" else {})})
    live = kube.peek(kind, theirs["metadata"]["name"])
    with pytest.raises(Conflict):
        await act(kube, plan, objects, seen)
    assert kube.peek(kind, theirs["metadata"]["name"]) == live


async def test_the_secret_and_what_is_known_stay_until_the_object_goes() -> None:
    """Nothing in a plan asks for them once a rollout is over and nothing runs, and yet they are needed again."""
    kube = FakeKube(_object())
    _, plan = await _pass(kube)
    seen = await _seen(kube)
    await act(kube, replace(plan, memory=Memory()), build(replace(plan, memory=Memory()), seen), seen)
    idle = replace(plan, memory=None, run=())
    seen = await _seen(kube)
    await act(kube, idle, build(idle, seen), seen)
    assert kube.peek("Secret", "pricer-admin") is not None
    assert kube.peek("ConfigMap", "pricer-rollout") is not None


async def test_a_route_that_is_no_longer_wanted_is_removed() -> None:
    kube = FakeKube(_object(traffic={"gateway": {"parentRefs": [{"name": "gw"}]}}))
    _, plan = await _pass(kube)
    seen = await _seen(kube)
    served = replace(plan, traffic=Traffic({plan.wanted: 100}, plan.wanted))
    await act(kube, served, build(served, seen), seen)
    assert kube.peek("HTTPRoute", "pricer") is not None
    kube.put({**(kube.peek("PinnDeployment", "pricer") or {}), "spec": spec_of("1.0.0")})
    seen = await _seen(kube)
    outcome = await act(kube, served, build(served, seen), seen)
    assert ("Deleted", "HTTPRoute") in _verbs(outcome)
    assert kube.peek("Service", "pricer") is not None


async def test_without_finalizers_an_object_gets_none() -> None:
    kube = FakeKube(_object(finalizers=()))
    seen = await _seen(kube)
    plan = decide(seen)
    await act(kube, plan, build(plan, seen), seen, finalizer=False)
    assert (kube.peek("PinnDeployment", "pricer") or {})["metadata"]["finalizers"] == []
    assert kube.peek("Deployment", f"pricer-{plan.wanted}") is not None


async def test_the_outcome_knows_the_version_of_the_object_after_its_finalizer_was_added() -> None:
    kube = FakeKube(_object(finalizers=()))
    outcome, _ = await _pass(kube)
    live = kube.peek("PinnDeployment", "pricer") or {}
    assert outcome.resource_version == live["metadata"]["resourceVersion"]


async def test_a_record_whose_labels_were_stripped_is_taken_back_with_what_it_said() -> None:
    """The server would refuse any other: the data of a record cannot be changed."""
    kube = FakeKube(_object(cache={"size": 5}))
    _, plan = await _pass(kube)
    record = kube.peek("ControllerRevision", f"pricer-{plan.wanted}") or {}
    kube.put({**record, "metadata": {**record["metadata"], "labels": {}}})
    outcome, _ = await _pass(kube)
    assert _verbs(outcome) == {("Healed", "ControllerRevision")}
    again = kube.peek("ControllerRevision", f"pricer-{plan.wanted}") or {}
    assert (again["data"], again["revision"]) == (record["data"], record["revision"])
    assert again["metadata"]["labels"][LABEL_REVISION] == plan.wanted
