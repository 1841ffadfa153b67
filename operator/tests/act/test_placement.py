"""Two Deployments of one revision: how they are made and put right, and that CPU servers go only as they were seen."""

import contextlib
from datetime import timedelta
from typing import Any

import pytest
from pinn_operator.act.children import act
from pinn_operator.api.names import FINALIZER
from pinn_operator.api.observed import Key, Observed
from pinn_operator.api.outcome import Outcome
from pinn_operator.build import build
from pinn_operator.decide import decide
from pinn_operator.errors import Conflict
from pinn_operator.observe import observe
from tests.fake_kube import FakeKube
from tests.given import IMAGE, NOW, UID, spec_of
from tests.observe.test_placement import UNSCHEDULABLE

KEY = Key("demo", "pricer")
PREFER = {"gpu": {"policy": "Prefer"}, "replicas": 2}


def cluster(**spec: Any) -> FakeKube:
    metadata = {"name": "pricer", "namespace": "demo", "uid": UID, "generation": 1, "finalizers": [FINALIZER]}
    return FakeKube({"kind": "PinnDeployment", "metadata": metadata, "spec": spec_of("1.0.0", **{**PREFER, **spec})})


def change(kube: FakeKube, **spec: Any) -> None:
    live = kube.objects["PinnDeployment", "demo", "pricer"]
    kube.put({**live, "spec": spec_of("1.0.0", **{**PREFER, **spec})})


async def look(kube: FakeKube, after: float = 0.0) -> Observed:
    seen = await observe(kube, KEY, now=NOW + timedelta(seconds=after), server_image=IMAGE)
    assert seen is not None
    return seen


async def run(kube: FakeKube, seen: Observed | None = None, after: float = 0.0) -> Outcome:
    seen = seen or await look(kube, after)
    plan = decide(seen)
    kube.requests.clear()
    return await act(kube, plan, build(plan, seen), seen)


def replicas(kube: FakeKube) -> dict[str, int]:
    found = {name: obj for (kind, _, name), obj in kube.objects.items() if kind == "Deployment"}
    return {"gpu" if name.endswith("-gpu") else "cpu": obj["spec"]["replicas"] for name, obj in found.items()}


def put_pods(kube: FakeKube, where: str, count: int, *, waits: bool = False) -> None:
    """As the Deployment would make them, all of them endpoints."""
    ends = "-gpu" if where == "gpu" else ""
    (made,) = [
        obj
        for (kind, _, name), obj in kube.objects.items()
        if kind == "Deployment" and name.endswith("-gpu") == bool(ends)
    ]
    labels = made["spec"]["template"]["metadata"]["labels"]
    revision = labels["pinn.dev/revision"]
    names = [f"{where}-{number}" for number in range(count)]
    for name in names:
        conditions = [UNSCHEDULABLE] if waits else [{"type": "Ready", "status": "True"}]
        spec = {} if waits else {"nodeName": "a"}
        metadata = {"name": name, "namespace": "demo", "labels": labels}
        kube.put({"kind": "Pod", "metadata": metadata, "spec": spec, "status": {"conditions": conditions}})
    for service in () if waits else ("pricer", f"pricer-{revision}"):
        slice_labels = {"pinn.dev/deployment": "pricer", "kubernetes.io/service-name": service}
        metadata = {"name": f"{service}-{where}", "namespace": "demo", "labels": slice_labels}
        endpoints = [{"targetRef": {"kind": "Pod", "name": name}} for name in names]
        kube.put({"kind": "EndpointSlice", "metadata": metadata, "endpoints": endpoints})


async def on_cpus() -> FakeKube:
    """1.0.0 is served on CPUs, and a server waits for a GPU."""
    kube = cluster()
    await run(kube)
    put_pods(kube, "gpu", 2, waits=True)
    await run(kube)
    put_pods(kube, "cpu", 2)
    return kube


async def test_both_deployments_are_made_and_tried_before_they_are_recorded_and_a_second_pass_writes_nothing() -> None:
    kube = cluster()
    await run(kube)
    verbs = [(verb, name.endswith("-gpu")) for verb, kind, name in kube.writes() if kind == "Deployment"]
    assert verbs == [("dry_run", True), ("dry_run", False), ("apply", True), ("apply", False)]
    assert replicas(kube) == {"gpu": 2, "cpu": 0}
    assert (await run(kube), kube.writes()) == (Outcome(), [])


async def test_cpus_stand_in_and_a_single_server_waits_for_a_gpu() -> None:
    kube = await on_cpus()
    assert replicas(kube) == {"gpu": 1, "cpu": 2}
    assert (await run(kube), kube.writes()) == (Outcome(), [])


async def test_when_gpus_are_back_the_servers_on_cpus_go_and_their_deployment_stays() -> None:
    kube = await on_cpus()
    put_pods(kube, "gpu", 2)
    await run(kube)
    assert replicas(kube) == {"gpu": 2, "cpu": 0}


async def test_a_pass_that_was_held_up_takes_no_cpu_server_away_that_somebody_has_asked_for_since() -> None:
    kube = await on_cpus()
    put_pods(kube, "gpu", 2)
    seen = await look(kube)
    (name,) = [name for kind, _, name in kube.objects if kind == "Deployment" and not name.endswith("-gpu")]
    live = kube.objects["Deployment", "demo", name]
    kube.put({**live, "metadata": {**live["metadata"], "resourceVersion": "999"}})
    with pytest.raises(Conflict):
        await run(kube, seen)
    assert replicas(kube)["cpu"] == 2


async def test_a_deployment_that_somebody_deletes_is_made_again_and_no_other_is_touched() -> None:
    kube = await on_cpus()
    (key,) = [key for key in kube.objects if key[0] == "Deployment" and key[2].endswith("-gpu")]
    del kube.objects[key]
    outcome = await run(kube)
    assert [(write.verb, write.child.name) for write in outcome.writes] == [("Created", key[2])]
    assert replicas(kube) == {"gpu": 1, "cpu": 2}


async def test_when_the_record_is_lost_too_it_is_written_anew_from_what_runs() -> None:
    kube = await on_cpus()
    (key,) = [key for key in kube.objects if key[0] == "ControllerRevision"]
    before = kube.objects.pop(key)
    await run(kube)
    after = kube.objects[key]["data"]
    assert (after["template"], after["gpuTemplate"]) == (before["data"]["template"], before["data"]["gpuTemplate"])
    assert replicas(kube) == {"gpu": 1, "cpu": 2}


async def on_eight_gpus(**spec: Any) -> FakeKube:
    kube = cluster(**spec)
    await run(kube)
    put_pods(kube, "gpu", 8)
    await run(kube)
    assert replicas(kube) == {"gpu": 8, "cpu": 0}
    return kube


async def test_bounds_that_come_take_no_server_away_and_what_they_are_is_noted_once() -> None:
    kube = await on_eight_gpus(replicas=8)
    change(kube, replicas=8, autoscaling={"maxReplicas": 20})
    await run(kube)
    assert replicas(kube) == {"gpu": 8, "cpu": 0}
    assert (await run(kube, after=600), kube.writes()) == (Outcome(), [])


async def test_bounds_that_go_take_one_server_in_ten_along_every_half_minute_whoever_deletes_a_deployment() -> None:
    kube = await on_eight_gpus(autoscaling={"minReplicas": 8, "maxReplicas": 20})
    change(kube, replicas=5)
    numbers = []
    for half_minutes in range(1, 6):
        await run(kube, after=30 * half_minutes)
        numbers.append(replicas(kube)["gpu"])
        if half_minutes == 2:
            (key,) = [key for key in kube.objects if key[0] == "Deployment" and key[2].endswith("-gpu")]
            del kube.objects[key]
    assert numbers == [7, 6, 5, 5, 5]


async def test_without_bounds_any_more_replicas_alone_says_how_many_there_are_at_once() -> None:
    kube = await on_eight_gpus(autoscaling={"minReplicas": 8, "maxReplicas": 20})
    change(kube, replicas=8)
    await run(kube)
    change(kube, replicas=3)
    await run(kube)
    assert replicas(kube) == {"gpu": 3, "cpu": 0}


class Killed(Exception):
    """Stands for the end of the process."""


async def lived_through(killed_after: int | None = None) -> tuple[int, list[tuple[str, dict[str, Any]]]]:
    """GPUs are short, then there are enough; the operator is killed once after that many writes. How many there were, and what
    is there in the end."""
    kube, writes = cluster(), 0

    async def before(verb: str, _kind: str, _name: str) -> None:
        nonlocal writes, killed_after
        if verb in ("get", "list_all", "dry_run"):
            return
        if writes == killed_after:
            killed_after = None
            raise Killed
        writes += 1

    kube.before = before
    for where, count, waits in (("", 0, False), ("gpu", 2, True), ("cpu", 2, False), ("gpu", 2, False)):
        if where:
            put_pods(kube, where, count, waits=waits)
        for _ in range(2):
            with contextlib.suppress(Killed):
                await run(kube)
    return writes, [(name, obj.get("spec", {})) for (_, _, name), obj in sorted(kube.objects.items())]


async def test_an_operator_killed_after_any_write_comes_out_the_same() -> None:
    writes, undisturbed = await lived_through()
    assert writes > 10
    for number in range(writes):
        assert await lived_through(number) == (writes, undisturbed), number


async def test_an_object_that_goes_takes_both_with_it() -> None:
    kube = await on_cpus()
    kube.objects["PinnDeployment", "demo", "pricer"]["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    await run(kube)
    assert replicas(kube) == {}
