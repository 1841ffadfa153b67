"""What is seen of servers on GPUs and on CPUs: who waits, since when, who is reached, and whose trouble is told."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pinn_operator.api.names import LABEL_OBJECT, LABEL_PLACEMENT, LABEL_REVISION
from pinn_operator.api.observed import Key, Observed
from pinn_operator.api.placement import SERVERS, Counted, Place
from pinn_operator.observe import observe
from tests.fake_kube import FakeKube
from tests.given import IMAGE, NOW, UID, spec_of

Object = dict[str, Any]
REV = "0123456789"
SINCE = "2026-01-02T03:00:00Z"
WORDS = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": WORDS,
    "lastTransitionTime": SINCE,
}


def _child(kind: str, name: str, labels: Object, **fields: Any) -> Object:
    owner = {
        "apiVersion": "pinn.dev/v1alpha1",
        "kind": "PinnDeployment",
        "name": "pricer",
        "uid": UID,
        "controller": True,
    }
    labels = {LABEL_OBJECT: "pricer", LABEL_REVISION: REV, **labels}
    metadata = {"name": name, "namespace": "demo", "labels": labels, "ownerReferences": [owner]}
    return {"kind": kind, "metadata": metadata, **fields}


def deployment(where: str, replicas: int, *conditions: Object) -> Object:
    labels = {LABEL_REVISION: REV, "app.kubernetes.io/version": "1.0.0", LABEL_PLACEMENT: where}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "server", "image": where}]}}
    name = f"pricer-{REV}" + ("-gpu" if where == "gpu" else "")
    spec = {"replicas": replicas, "template": template}
    return _child("Deployment", name, {}, spec=spec, status={"conditions": list(conditions)})


def pod(name: str, where: str, *, node: bool = True, up: bool = True, **status: Any) -> Object:
    conditions = [{"type": "Ready", "status": str(up and node)}, *([] if node else [UNSCHEDULABLE])]
    spec = {"nodeName": "a"} if node else {}
    return _child("Pod", name, {LABEL_PLACEMENT: where}, spec=spec, status={"conditions": conditions, **status})


def service(name: str, *pods: str) -> Object:
    found = _child("EndpointSlice", f"{name}-x", {"kubernetes.io/service-name": name})
    return found | {"endpoints": [{"targetRef": {"kind": "Pod", "name": one}} for one in pods]}


async def seen_of(*children: Object) -> Observed:
    metadata = {"name": "pricer", "namespace": "demo", "uid": UID}
    kube = FakeKube({"kind": "PinnDeployment", "metadata": metadata, "spec": spec_of("1.0.0")}, *children)
    seen = await observe(kube, Key("demo", "pricer"), now=NOW, server_image=IMAGE)
    assert seen is not None
    return seen


async def test_servers_are_counted_where_they_run_and_one_without_a_node_says_why_and_since_when() -> None:
    seen = await seen_of(
        deployment("gpu", 2),
        deployment("cpu", 1),
        pod("g1", "gpu"),
        pod("g2", "gpu", node=False),
        pod("c1", "cpu", up=False),
        service(f"pricer-{REV}", "g1", "c1"),
    )
    since = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
    waits = f"Unschedulable: {WORDS}"
    assert seen.place(REV, "GPU") == Place(asked=2, on_nodes=1, ready=1, behind=1, lacking=waits, since=since)
    assert seen.place(REV, "CPU") == Place(asked=1, on_nodes=1)
    assert seen.placements(REV) == {"GPU"}


async def test_a_server_is_reached_when_it_is_behind_every_service_that_leads_to_its_revision() -> None:
    both = [deployment("gpu", 1), deployment("cpu", 1), pod("g", "gpu"), pod("c", "cpu")]
    own = service(f"pricer-{REV}", "g", "c")
    assert (await seen_of(*both, own)).place(REV, "GPU").behind == 1
    assert (await seen_of(*both, own, service("pricer", "c"))).place(REV, "GPU").behind == 0
    assert (await seen_of(*both, own, service("pricer", "c", "g"))).place(REV, "GPU").behind == 1
    assert (await seen_of(*both, own, service("pricer", "another"))).place(REV, "GPU").behind == 1
    assert (await seen_of(*both, own, service("pricer-canary", "c"))).place(REV, "GPU").behind == 0


async def test_a_server_that_waits_for_a_gpu_is_no_server_and_no_trouble_while_cpus_may_stand_in() -> None:
    seen = await seen_of(deployment("gpu", 1), deployment("cpu", 0), pod("g", "gpu", node=False))
    assert seen.servers == ()
    assert (seen.workload(REV).pods, seen.workload(REV).not_starting) == (0, None)


async def test_where_a_gpu_is_required_that_none_is_free_is_the_revision_s_trouble() -> None:
    seen = await seen_of(deployment("gpu", 1), pod("g", "gpu", node=False))
    assert (seen.workload(REV).pods, seen.workload(REV).not_starting) == (1, f"Unschedulable: {WORDS}")


async def test_what_a_server_on_a_gpu_dies_of_is_told_until_cpus_stand_in() -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    broken = pod("g", "gpu", up=False, containerStatuses=[{"name": "server", "state": waiting}])
    alone = await seen_of(deployment("gpu", 1), deployment("cpu", 0), broken)
    assert alone.workload(REV).not_starting == "ImagePullBackOff: no such image"
    beside = await seen_of(deployment("gpu", 1), deployment("cpu", 1), broken, pod("c", "cpu"))
    assert (beside.workload(REV).ready, beside.workload(REV).not_starting) == (1, None)
    assert beside.place(REV, "GPU").trouble == "ImagePullBackOff: no such image"


async def test_a_quota_on_gpus_is_a_lack_of_them_and_a_probe_past_its_deadline_is_none_of_the_revision() -> None:
    refused = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota", "lastTransitionTime": SINCE}
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    seen = await seen_of(deployment("gpu", 1, refused, late), deployment("cpu", 1))
    assert seen.place(REV, "GPU").lacking == "refused: exceeded quota"
    assert (seen.workload(REV).not_created, seen.workload(REV).deadline_exceeded) == (None, False)
    only = await seen_of(deployment("gpu", 1, refused, late))
    assert (only.workload(REV).not_created, only.workload(REV).deadline_exceeded) == ("exceeded quota", True)


def noted(where: str, replicas: int, note: str) -> Object:
    made = deployment(where, replicas)
    return {**made, "metadata": {**made["metadata"], "annotations": {SERVERS: note}}}


async def test_how_many_servers_were_counted_is_read_from_both_deployments_and_the_latest_holds() -> None:
    """A pass was cut off between its two writes."""
    seen = await seen_of(noted("gpu", 3, "4@1767323000"), noted("cpu", 2, "5@1767322000"))
    counted = Counted(4, datetime(2026, 1, 2, 3, 3, 20, tzinfo=UTC))
    assert (seen.workload(REV).asked, seen.workload(REV).counted) == (4, counted)
    assert Counted.read(str(counted)) == counted


@pytest.mark.parametrize("note", ["", "4", "many@1767323000", "4@2026-01-02T03:04:05Z", "4@99999999999"])
async def test_a_note_that_says_nothing_counts_for_none(note: str) -> None:
    seen = await seen_of(noted("gpu", 3, note), deployment("cpu", 2))
    assert (seen.workload(REV).asked, seen.workload(REV).counted) == (5, None)


async def test_a_revision_whose_record_is_lost_is_recovered_with_both_templates() -> None:
    both = (await seen_of(deployment("gpu", 1), deployment("cpu", 0))).revisions[REV]
    assert both.runs_on == ("GPU", "CPU")
    assert both.template
    assert both.gpu_template
    images = [one["spec"]["containers"][0]["image"] for one in (both.template, both.gpu_template)]
    assert images == ["cpu", "gpu"]
    only = (await seen_of(deployment("gpu", 1))).revisions[REV]
    assert (only.runs_on, only.image) == (("GPU",), "gpu")
