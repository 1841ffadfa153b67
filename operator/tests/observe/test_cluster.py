"""One reading: what counts as ready, as behind the Service, as ours, and which words of the kubelet are passed on."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pinn_operator.api.codec import dump
from pinn_operator.api.journal import Arm, Entry, Journal, Minute
from pinn_operator.api.memory import Memory, written
from pinn_operator.api.names import FINALIZER, LABEL_OBJECT, LABEL_REVISION, LABEL_SERVING
from pinn_operator.api.observed import Autoscaler, ChildId, Key, Observed
from pinn_operator.api.readings import Measured, Server
from pinn_operator.api.revision import stored
from pinn_operator.errors import NotUnderstood, Unavailable
from pinn_operator.kube import CUSTOM_METRICS, NAMED, WRITTEN
from pinn_operator.observe import observe
from tests.fake_kube import FakeKube
from tests.given import IMAGE, NOW, UID, revision, spec_of

Object = dict[str, Any]
ONE, TWO = revision("1.0.0", 1), revision("2.0.0", 2)


def _child(kind: str, name: str, of: str | None = ONE.name, uid: str = UID, **fields: Any) -> Object:
    labels = {LABEL_OBJECT: "pricer", **({LABEL_REVISION: of} if of else {})}
    owner = {
        "apiVersion": "pinn.dev/v1alpha1",
        "kind": "PinnDeployment",
        "name": "pricer",
        "uid": uid,
        "controller": True,
    }
    metadata = {"name": name, "namespace": "demo", "labels": labels, "ownerReferences": [owner]}
    return {"kind": kind, "metadata": metadata, **fields}


def _deployment(of: str = ONE.name, conditions: tuple[Object, ...] = ()) -> Object:
    labels = {LABEL_REVISION: of, "app.kubernetes.io/version": "1.0.0"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "server", "image": IMAGE}]}}
    return _child(
        "Deployment", f"pricer-{of}", of, spec={"template": template}, status={"conditions": list(conditions)}
    )


def _pod(name: str, of: str = ONE.name, is_ready: bool = True, leaving: bool = False, **status: Any) -> Object:
    pod = _child("Pod", name, of, status={"conditions": [{"type": "Ready", "status": str(is_ready)}], **status})
    if leaving:
        pod["metadata"] |= {"deletionTimestamp": "2026-01-02T03:04:00Z", "finalizers": ["kept"]}
    return pod


def _slice(*pods: str, service: str = "pricer") -> Object:
    endpoints = [{"targetRef": {"kind": "Pod", "name": pod}} for pod in pods]
    child = _child("EndpointSlice", f"{service}-x", None, endpoints=endpoints)
    child["metadata"]["labels"]["kubernetes.io/service-name"] = service
    return child


def _record(of: Any = ONE, **change: Any) -> Object:
    return _child("ControllerRevision", f"pricer-{of.name}", of.name, revision=of.number, data=stored(of)) | change


def _kube(*children: Object) -> FakeKube:
    metadata = {"name": "pricer", "namespace": "demo", "uid": UID, "finalizers": [FINALIZER]}
    return FakeKube({"kind": "PinnDeployment", "metadata": metadata, "spec": spec_of("1.0.0")}, *children)


async def _seen(*children: Object) -> Observed:
    seen = await observe(_kube(*children), Key("demo", "pricer"), now=NOW, server_image=IMAGE)
    assert seen is not None
    return seen


async def test_an_object_that_is_gone_is_not_observed() -> None:
    assert await observe(FakeKube(), Key("demo", "pricer"), now=NOW, server_image=IMAGE) is None


async def test_what_cannot_be_read_ends_the_pass_rather_than_give_half_a_picture() -> None:
    kube = _kube(_deployment(), _pod("a"))

    async def before(_verb: str, kind: str, _name: str) -> None:
        if kind == "EndpointSlice":
            raise Unavailable(503, "Busy", "busy")

    kube.before = before
    with pytest.raises(Unavailable):
        await observe(kube, Key("demo", "pricer"), now=NOW, server_image=IMAGE)


async def test_every_kind_that_is_written_is_read() -> None:
    kube = _kube()
    await observe(kube, Key("demo", "pricer"), now=NOW, server_image=IMAGE)
    read = {kind for verb, kind, _ in kube.requests if verb == "list_all"}
    assert read == {kind.kind for kind in WRITTEN} | {"Pod", "EndpointSlice"}
    named = {(kind, name) for verb, kind, name in kube.requests if verb == "get" and kind != "PinnDeployment"}
    assert named == {("ConfigMap", "pricer-rollout"), ("Secret", "pricer-admin"), ("HTTPRoute", "pricer")}
    assert {kind for kind, _ in named} == {kind.kind for kind in NAMED}


async def test_a_pod_that_leaves_is_neither_counted_nor_ready() -> None:
    seen = await _seen(_deployment(), _pod("a"), _pod("b", is_ready=False), _pod("c", leaving=True))
    assert (seen.workload(ONE.name).pods, seen.workload(ONE.name).ready) == (2, 1)


async def test_a_deployment_says_how_many_servers_it_asks_for_and_an_autoscaler_what_it_has_found() -> None:
    deployment = _deployment()
    deployment["spec"]["replicas"] = 6
    status = {"desiredReplicas": 6, "lastScaleTime": "2026-01-02T03:04:00Z"}
    seen = await _seen(
        deployment,
        _child("HorizontalPodAutoscaler", f"pricer-{ONE.name}", status=status),
        _child("HorizontalPodAutoscaler", f"pricer-{TWO.name}", TWO.name, status={"desiredReplicas": 0}),
    )
    assert seen.workload(ONE.name).asked == 6
    assert seen.autoscalers == {
        ONE.name: Autoscaler(6, datetime(2026, 1, 2, 3, 4, tzinfo=UTC)),
        TWO.name: Autoscaler(None, None),
    }


@pytest.mark.parametrize(
    ("spec", "groups", "metrics"),
    [
        ({"autoscaling": {}}, {CUSTOM_METRICS}, True),
        ({"autoscaling": {}}, set(), False),
        ({"autoscaling": {"targetInFlight": 0}}, set(), None),
        ({"autoscaling": {}, "replicas": 0}, set(), None),
        ({}, {CUSTOM_METRICS}, None),
    ],
)
async def test_whether_there_are_metrics_of_pods_is_asked_where_it_matters(
    spec: Object, groups: set[str], metrics: bool | None
) -> None:
    metadata = {"name": "pricer", "namespace": "demo", "uid": UID}
    kube = FakeKube({"kind": "PinnDeployment", "metadata": metadata, "spec": spec_of("1.0.0", **spec)})
    kube.groups = groups
    seen = await observe(kube, Key("demo", "pricer"), now=NOW, server_image=IMAGE)
    assert seen is not None
    assert seen.pod_metrics is metrics
    assert [verb for verb, *_ in kube.requests].count("serves") == (0 if metrics is None else 1)


async def test_pods_count_for_their_own_revision() -> None:
    seen = await _seen(_deployment(), _deployment(TWO.name), _pod("a"), _pod("b", TWO.name), _pod("c", TWO.name))
    assert {name: workload.ready for name, workload in seen.workloads.items()} == {ONE.name: 1, TWO.name: 2}


async def test_the_service_of_the_objects_name_says_which_revision_is_selected() -> None:
    chosen = {"selector": {LABEL_OBJECT: "pricer", LABEL_REVISION: TWO.name}}
    assert (await _seen(_child("Service", "pricer", None, spec=chosen))).selected == TWO.name
    assert (await _seen(_child("Service", f"pricer-{TWO.name}", spec=chosen))).selected is None
    assert (await _seen(_child("Service", "pricer", None, spec={"selector": None}))).selected is None


async def test_endpoints_are_the_revisions_of_the_pods_behind_the_service_callers_know() -> None:
    """The pod that leaves still counts: connections to it are open."""
    pods = [_pod("a"), _pod("b", TWO.name, leaving=True), _pod("c", "0123456789")]
    seen = await _seen(*pods, _slice("a", "b", "gone"), _slice("c", service="pricer-other"))
    assert seen.endpoints == {ONE.name: 1, TWO.name: 1}


async def test_a_slice_without_endpoints_has_none() -> None:
    empty = _slice() | {"endpoints": None}
    assert (await _seen(empty)).endpoints == {}


async def test_children_of_a_deleted_namesake_are_not_ours() -> None:
    seen = await _seen(_child("Service", "pricer", uid="another", spec={}), _child("ServiceAccount", "pricer-server"))
    assert set(seen.children) == {ChildId("ServiceAccount", "pricer-server")}


@pytest.mark.parametrize(
    ("pod", "deployment", "counts"),
    [
        ("02:59:59", "03:01:00", False),
        ("02:59:59", None, False),
        ("02:59:58", "02:59:57", True),
        ("03:00:00", None, True),
    ],
)
async def test_pods_of_a_deleted_namesake_that_still_run_are_no_servers_of_this_one(
    pod: str, deployment: str | None, counts: bool
) -> None:
    """Its revisions of the same content were called the same. A Deployment that was orphaned and taken over is older as well."""

    def made(obj: Object, at: str) -> Object:
        obj["metadata"]["creationTimestamp"] = f"2026-01-02T{at}Z"
        return obj

    seen = await _seen(
        *[made(_deployment(), deployment)] if deployment else [],
        _record(),
        made(_pod("a"), pod),
        _slice("a"),
        _slice("a", service=f"pricer-{ONE.name}"),
    )
    assert [server.pod for server in seen.servers] == (["a"] if counts else [])
    assert (bool(seen.endpoints), bool(seen.behind[ONE.name])) == (counts, counts)
    assert seen.workload(ONE.name).ready == bool(counts and deployment)


async def test_records_are_read_back() -> None:
    seen = await _seen(_record(ONE), _record(TWO))
    assert {name: known.number for name, known in seen.revisions.items()} == {ONE.name: 1, TWO.name: 2}
    assert seen.revisions[ONE.name].template == ONE.template


@pytest.mark.parametrize("data", [None, {}, {"content": {}}])
async def test_a_record_that_cannot_be_read_and_runs_nowhere_is_as_good_as_lost(data: Any) -> None:
    assert (await _seen(_record(data=data))).revisions == {}


async def test_a_lost_record_is_recovered_from_its_deployment() -> None:
    seen = await _seen(_deployment())
    assert seen.revisions[ONE.name].image == IMAGE
    assert seen.revisions[ONE.name].template == _deployment()["spec"]["template"]


async def test_the_deadline_and_a_refusal_are_read_from_the_deployment() -> None:
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    refused = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
    workload = (await _seen(_deployment(conditions=(late, refused)))).workload(ONE.name)
    assert (workload.deadline_exceeded, workload.not_created) == (True, "exceeded quota")
    over = refused | {"status": "False"}
    assert (await _seen(_deployment(conditions=(over,)))).workload(ONE.name).not_created is None


def _waiting(reason: str, message: str = "") -> Object:
    return {"name": "server", "state": {"waiting": {"reason": reason, "message": message}}}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"containerStatuses": [_waiting("ContainerCreating")]}, None),
        ({"initContainerStatuses": [_waiting("PodInitializing")]}, None),
        ({"containerStatuses": [{"name": "server", "state": {"running": {}}}]}, None),
        ({"containerStatuses": [_waiting("ImagePullBackOff", "no such image")]}, "ImagePullBackOff: no such image"),
        ({"initContainerStatuses": [_waiting("CreateContainerError")]}, "CreateContainerError"),
        (
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
                ]
            },
            "Unschedulable: 0/1 nodes",
        ),
    ],
)
async def test_why_a_pod_does_not_start_is_said_in_the_words_of_the_cluster(status: Object, said: str | None) -> None:
    pod = _pod("a", is_ready=False)
    pod["status"] |= status
    assert (await _seen(_deployment(), pod)).workload(ONE.name).not_starting == said


async def test_why_a_volume_is_not_mounted_is_said_in_the_words_of_the_kubelet() -> None:
    pod = _pod("a", is_ready=False, phase="Pending", containerStatuses=[_waiting("ContainerCreating")])
    pod["metadata"]["uid"] = "uid-of-a"
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-02T03:00:00Z"}
    pod["status"]["conditions"].append(scheduled)
    event = _child("Event", "a.1", None, reason="FailedMount", type="Warning", note='configmap "bs" not found')
    event["regarding"] = {"uid": "uid-of-a"}
    workload = (await _seen(_deployment(), pod, event)).workload(ONE.name)
    assert workload.not_starting == 'FailedMount: configmap "bs" not found'


async def test_no_events_are_read_of_a_pod_that_leaves() -> None:
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-02T03:00:00Z"}
    pod = _pod("a", leaving=True, phase="Pending", conditions=[scheduled])
    kube = _kube(_deployment(), pod)
    await observe(kube, Key("demo", "pricer"), now=NOW, server_image=IMAGE)
    assert "Event" not in {kind for _, kind, _ in kube.requests}


async def test_a_crash_loop_is_told_in_the_same_words_while_it_waits_and_while_it_tries_again() -> None:
    last = {"terminated": {"exitCode": 1, "message": "digest differs\n"}}
    crashed = {"name": "server", "ready": False, "restartCount": 2, "lastState": last}
    waiting = crashed | {"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}}}
    running = crashed | {"state": {"running": {"startedAt": "2026-01-02T03:04:00Z"}}}
    for container in (waiting, running):
        seen = await _seen(_deployment(), _pod("a", is_ready=False, containerStatuses=[container]))
        said = "CrashLoop: container server exited with code 1: digest differs"
        assert seen.workload(ONE.name).not_starting == said


async def test_a_server_that_restarted_once_and_is_ready_is_no_trouble() -> None:
    container = {"name": "server", "ready": True, "restartCount": 1, "state": {"running": {}}}
    assert (await _seen(_deployment(), _pod("a", containerStatuses=[container]))).workload(
        ONE.name
    ).not_starting is None


async def test_a_pod_that_leaves_is_no_trouble_either() -> None:
    pod = _pod("a", is_ready=False, leaving=True, containerStatuses=[_waiting("ImagePullBackOff")])
    assert (await _seen(_deployment(), pod)).workload(ONE.name).not_starting is None


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
async def test_a_pod_that_is_over_counts_for_nothing_and_troubles_nobody(phase: str) -> None:
    """An evicted pod lies about until the garbage collector's threshold, long after another has taken its place."""
    crashed = [{"name": "server", "ready": False, "restartCount": 1, "state": {"terminated": {"exitCode": 137}}}]
    seen = await _seen(_deployment(), _pod("a"), _pod("b", is_ready=False, phase=phase, containerStatuses=crashed))
    assert (seen.workload(ONE.name).pods, seen.workload(ONE.name).ready) == (1, 1)
    assert seen.workload(ONE.name).not_starting is None


async def test_an_object_that_a_newer_release_wrote_can_still_be_deleted() -> None:
    newer = {"status": {"stable": {"placement": "TPU"}}}
    metadata = {"name": "pricer", "namespace": "demo", "uid": UID, "finalizers": [FINALIZER]}
    obj = {"kind": "PinnDeployment", "metadata": metadata, "spec": spec_of("1.0.0"), **newer}
    with pytest.raises(NotUnderstood, match=r"status\.stable\.placement"):
        await observe(FakeKube(obj), Key("demo", "pricer"), now=NOW, server_image=IMAGE)
    leaving = {**obj, "metadata": {**metadata, "deletionTimestamp": "2026-01-02T03:04:00Z"}}
    seen = await observe(FakeKube(leaving), Key("demo", "pricer"), now=NOW, server_image=IMAGE)
    assert seen is not None
    assert seen.deleted_at is not None


async def test_each_revision_has_as_many_ready_endpoints_as_its_own_service_says() -> None:
    """The operator sees a pod ready before the endpoints controller does: a Service that is turned there refuses everybody."""
    not_yet = {"targetRef": {"kind": "Pod", "name": "c"}, "conditions": {"ready": False}}
    slices = [_slice("a", "b", service=f"pricer-{ONE.name}"), _slice(service=f"pricer-{TWO.name}")]
    slices[1]["endpoints"].append(not_yet)
    seen = await _seen(_record(), _record(TWO), *slices, _pod("a"), _pod("b"), _pod("c", TWO.name))
    assert seen.behind == {ONE.name: 2, TWO.name: 0}


# --- Shares, and what is known about them ----------------------------------------------------------------------------


async def test_a_service_that_selects_servers_by_their_label_selects_no_revision() -> None:
    chosen = {"selector": {LABEL_OBJECT: "pricer", LABEL_SERVING: "true"}}
    seen = await _seen(_child("Service", "pricer", None, spec=chosen))
    assert (seen.split, seen.selected) == (True, None)
    by_revision = {"selector": {LABEL_OBJECT: "pricer", LABEL_REVISION: ONE.name}}
    assert not (await _seen(_child("Service", "pricer", None, spec=by_revision))).split
    assert not (await _seen(_child("Service", f"pricer-{ONE.name}", spec=chosen))).split


async def test_so_many_pods_of_each_revision_are_behind_the_service() -> None:
    """A pod in two slices, as while one is being moved, is one pod; one that is not ready gets no requests."""
    not_ready = {"targetRef": {"kind": "Pod", "name": "d"}, "conditions": {"ready": False}}
    slices = [_slice("a", "b", "c"), _slice("c")]
    slices[1]["metadata"]["name"] = "pricer-y"
    slices[1]["endpoints"].append(not_ready)
    seen = await _seen(*slices, _pod("a"), _pod("b", TWO.name), _pod("c", TWO.name), _pod("d"))
    assert seen.endpoints == {ONE.name: 1, TWO.name: 2}


async def test_a_server_is_seen_with_its_process_its_address_its_restarts_and_its_label() -> None:
    sidecar = {"name": "proxy", "containerID": "containerd://other", "restartCount": 9, "ready": True}
    container = {"name": "server", "containerID": "containerd://0123456789abcdef", "restartCount": 1, "ready": True}
    pod = _pod("a", podIP="10.0.0.7", containerStatuses=[sidecar, container])
    pod["metadata"]["labels"][LABEL_SERVING] = "true"
    (server,) = (await _seen(pod)).servers
    assert server == Server(
        ONE.name, "a", "containerd://0123456789abcdef", "10.0.0.7", ready=True, restarts=1, serving=True
    )
    assert server.process == "a/456789abcdef"


async def test_a_server_tells_how_long_it_took_to_be_ready() -> None:
    pod = _pod("a")
    pod["metadata"]["creationTimestamp"] = "2026-01-02T03:04:05Z"
    pod["status"]["conditions"] = [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:04:47Z"}]
    (server,) = (await _seen(pod)).servers
    assert server.took == 42


async def test_a_pod_that_has_only_been_scheduled_is_a_server_without_process_and_address() -> None:
    (server,) = (await _seen(_pod("a", is_ready=False))).servers
    assert server == Server(ONE.name, "a", "", None, ready=False)


async def test_a_pod_that_leaves_or_is_over_is_no_server() -> None:
    assert (await _seen(_pod("a", leaving=True), _pod("b", is_ready=False, phase="Failed"))).servers == ()


def _stored(memory: Any) -> Object:
    return _child("ConfigMap", "pricer-rollout", None, data={"memory.json": json.dumps(memory)})


KNOWN = Memory(
    Journal(
        Arm(TWO.name, "2.0.0", "sha256:x", "i:2"), Arm(ONE.name, "1.0.0"), 1.5, step=2, timeline=(Entry(1.0, "A", "b"),)
    ),
    {"since": 1.0},
    {"promote": "x@1"},
)


async def test_what_was_stored_is_known_again() -> None:
    assert (await _seen(_stored(dump(KNOWN)))).memory == KNOWN


async def test_what_was_stored_in_less_space_is_known_again() -> None:
    known = replace(KNOWN, former={"promote": tuple(f"x@{number}" for number in range(50_000))})
    text = written(known)
    assert len(text) < len(json.dumps(dump(known))) / 2
    assert (await _seen(_child("ConfigMap", "pricer-rollout", None, data={"memory.json": text}))).memory == known


async def test_what_a_newer_operator_stored_beside_it_is_left_out() -> None:
    newer = dump(KNOWN)
    newer |= {"forecast": [1, 2]}
    newer["journal"] |= {"mood": "good"}
    newer["journal"]["canary"] |= {"colour": "green"}
    assert (await _seen(_stored(newer))).memory == KNOWN


async def test_what_an_older_operator_stored_has_defaults_for_the_rest() -> None:
    older = {
        "journal": {"canary": dump(KNOWN)["journal"]["canary"], "stable": dump(KNOWN)["journal"]["stable"], "began": 1}
    }
    assert KNOWN.journal is not None
    assert (await _seen(_stored(older))).memory == Memory(Journal(KNOWN.journal.canary, KNOWN.journal.stable, 1.0))


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"memory.json": ""},
        {"memory.json": "{"},
        {"memory.json": "null"},
        {"memory.json": "[]"},
        {"memory.json": '{"journal": 7}'},
        {"memory.json": '{"journal": {"began": 1}}'},
        {"memory.json": '{"journal": {"canary": {}, "stable": {}, "began": 1}}'},
        {"memory.json": '{"journal": {"canary": {"revision": 1}}}'},
        {"memory.json": '{"handled": []}'},
        {"memory.json": '{"former": {"promote": "x@1"}}'},
        {"memory.json": '{"gzip": 7}'},
        {"memory.json": '{"gzip": "H4sI"}'},
        {"memory.json": "[" * 100_000},
        {"memory.json": '{"journal": {"shadow": {"a": {"checked": "many"}}}}'},
    ],
)
async def test_what_is_damaged_is_as_good_as_lost_and_the_object_is_observed_all_the_same(data: Any) -> None:
    assert (await _seen(_child("ConfigMap", "pricer-rollout", None, data=data))).memory is None


async def test_what_a_clock_that_was_ahead_has_stored_has_happened_by_now() -> None:
    """Else the limits of a step would not begin to count for an hour, and the certificate would not be in order."""
    at, late = NOW.timestamp(), NOW.timestamp() + 3600
    assert KNOWN.journal is not None
    ahead = replace(
        KNOWN.journal, began=late, step_began=late, rose_at=late, lost_at=late, waits_since=late, short_since=late,
        off_at=late, timeline=(Entry(1.0, "A", "b"), Entry(late, "C", "d")), minutes=(Minute(60.0), Minute(late)),
    )  # fmt: skip
    found = (await _seen(_stored(dump(replace(KNOWN, journal=ahead))))).memory
    by_now = replace(
        KNOWN.journal, began=at, step_began=at, rose_at=at, lost_at=at, waits_since=at, short_since=at, off_at=at,
        timeline=(Entry(1.0, "A", "b"), Entry(at, "C", "d")), minutes=(Minute(60.0), Minute(at // 60 * 60)),
    )  # fmt: skip
    assert found == replace(KNOWN, journal=by_now)


async def test_when_a_rollout_was_over_stays_as_it_was_stored() -> None:
    """By that time it is found again in the history, or it would be reported twice."""
    late = NOW.timestamp() + 3600
    assert KNOWN.journal is not None
    over = replace(KNOWN, journal=replace(KNOWN.journal, began=late, ending="Promoted", ended=late + 60))
    assert (await _seen(_stored(dump(over)))).memory == over


async def test_what_is_known_about_somebody_elses_object_is_not_known_about_this_one() -> None:
    """A namesake that was deleted: its rollout must not go on under the same name."""
    stored = _stored(dump(KNOWN))
    stored["metadata"]["ownerReferences"][0]["uid"] = "another"
    assert (await _seen(stored)).memory is None


async def test_the_route_of_an_object_behind_a_gateway_is_seen() -> None:
    rules = [{"backendRefs": [{"name": f"pricer-{ONE.name}", "weight": 100}]}]
    kube = _kube(_child("HTTPRoute", "pricer", None, spec={"rules": rules}))
    obj = kube.peek("PinnDeployment", "pricer") or {}
    kube.put({**obj, "spec": spec_of("1.0.0", traffic={"gateway": {"parentRefs": [{"name": "gw"}]}})})
    seen = await observe(kube, Key("demo", "pricer"), now=NOW, server_image=IMAGE)
    assert seen is not None
    assert seen.route is not None
    assert seen.route.weights == {ONE.name: 100}


# --- The token of the servers ----------------------------------------------------------------------------------------

TOKEN = "a-token-that-nobody-should-see"


def _secret(**fields: Any) -> Object:
    return _child("Secret", "pricer-admin", None, type="Opaque", **fields)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def test_the_token_is_handed_to_what_asks_servers_and_is_nowhere_in_what_was_observed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Observations are logged, stored and replayed."""
    handed: list[str] = []

    async def asking(_servers: object, seen: Observed, token: str, _kube: object) -> Measured:
        handed.append(token)
        assert TOKEN not in repr(seen)
        return Measured()

    monkeypatch.setattr("pinn_operator.observe.cluster.measure", asking)
    kube = _kube(_secret(data={"token": _encoded(TOKEN)}, stringData={"token": TOKEN}))
    servers: Any = object()
    seen = await observe(kube, Key("demo", "pricer"), now=NOW, server_image=IMAGE, servers=servers)
    assert handed == [TOKEN]
    assert ChildId("Secret", "pricer-admin") in (seen.children if seen else {})
    assert TOKEN not in repr(seen)
    assert _encoded(TOKEN) not in repr(seen)


@pytest.mark.parametrize("data", [{}, {"token": "%%%"}, {"token": _encoded("x")[:-1]}, {"token": "/w=="}, None])
async def test_a_token_that_cannot_be_read_is_none_and_costs_no_pass(
    data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None: a Secret that somebody emptied has no `data` at all."""
    handed: list[str] = []

    async def asking(_servers: object, _seen: Observed, token: str, _kube: object) -> None:
        handed.append(token)

    monkeypatch.setattr("pinn_operator.observe.cluster.measure", asking)
    servers: Any = object()
    await observe(
        _kube(_secret(**({} if data is None else {"data": data}))),
        Key("demo", "pricer"),
        now=NOW,
        server_image=IMAGE,
        servers=servers,
    )
    assert handed == [""]


async def test_without_a_client_for_servers_nothing_is_measured() -> None:
    assert (await _seen(_secret(), _stored(dump(KNOWN)))).measured is None


def _service(name: str, of: str) -> Object:
    return _child("Service", name, None, spec={"selector": {LABEL_OBJECT: "pricer", LABEL_REVISION: of}})


async def test_a_route_that_the_user_owns_is_read_by_its_name_and_told_by_where_its_two_services_lead() -> None:
    backends = [{"name": "pricer", "weight": 4}, {"name": "pricer-canary", "weight": 1}]
    route = {
        "kind": "HTTPRoute",
        "metadata": {"name": "mine", "namespace": "demo"},
        "spec": {"rules": [{"backendRefs": backends}]},
    }
    kube = _kube(
        route, _service("pricer", ONE.name), _service("pricer-canary", TWO.name), _pod("b", TWO.name),
        _slice("b", service="pricer-canary"),
    )  # fmt: skip
    kube.objects["PinnDeployment", "demo", "pricer"]["spec"]["traffic"] = {"routeRef": {"name": "mine"}}
    seen = await observe(kube, Key("demo", "pricer"), now=NOW, server_image=IMAGE)
    assert seen is not None
    assert seen.route is not None
    assert seen.route.weights == {ONE.name: 80, TWO.name: 20}
    assert (seen.route.canary, seen.route.behind_canary) == (TWO.name, frozenset({TWO.name}))
    assert seen.route.theirs == kube.peek("HTTPRoute", "mine")
    assert ChildId("HTTPRoute", "mine") not in seen.children, "what is among the children and not wanted is deleted"


async def test_it_is_told_since_when_a_server_runs() -> None:
    running = {"name": "server", "state": {"running": {"startedAt": "2026-01-02T03:04:00Z"}}}
    for statuses, started in (([running], NOW.timestamp() - 5), ([{"name": "server"}], None), ([], None)):
        seen = await _seen(_pod("a", containerStatuses=statuses))
        assert seen.servers[0].started == started
