"""One reading: what counts as ready, as behind the Service, as ours, and which words of the kubelet are passed on."""

from typing import Any

import pytest
from pinn_operator.api.names import FINALIZER, LABEL_OBJECT, LABEL_REVISION
from pinn_operator.api.observed import ChildId, Key, Observed
from pinn_operator.api.revision import stored
from pinn_operator.errors import Unavailable
from pinn_operator.kube import WRITTEN
from pinn_operator.observe import observe
from pydantic import ValidationError
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


async def test_a_pod_that_leaves_is_neither_counted_nor_ready() -> None:
    seen = await _seen(_deployment(), _pod("a"), _pod("b", is_ready=False), _pod("c", leaving=True))
    assert (seen.workload(ONE.name).pods, seen.workload(ONE.name).ready) == (2, 1)


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
    with pytest.raises(ValidationError):
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
