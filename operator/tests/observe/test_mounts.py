"""Why a pod has no containers yet: the kubelet's Events, read for such a pod and for no other."""

from datetime import timedelta
from typing import Any

import pytest
from pinn_operator.errors import Refused
from pinn_operator.observe.mounts import AT_ONCE, PATIENCE, mount_troubles
from tests.fake_kube import FakeKube
from tests.given import NOW

Object = dict[str, Any]

MISSING = 'MountVolume.SetUp failed for volume "pinn-model" : configmap "bs" not found'
SUMMARY = (
    "Unable to attach or mount volumes: unmounted volumes=[pinn-model], failed: timed out waiting for the condition"
)
LONG_AGO = NOW - timedelta(minutes=1)


def _condition(kind: str, status: str, at: Any = LONG_AGO) -> Object:
    return {"type": kind, "status": status, "lastTransitionTime": at.isoformat()}


def _pod(name: str = "a", *conditions: Object, phase: str = "Pending", uid: str = "") -> Object:
    said = conditions or (_condition("PodScheduled", "True"), _condition("PodReadyToStartContainers", "False"))
    metadata = {"name": name, "namespace": "demo", "uid": uid or f"uid-of-{name}"}
    return {"kind": "Pod", "metadata": metadata, "status": {"phase": phase, "conditions": list(said)}}


def _event(note: str, pod: str = "a", reason: str = "FailedMount", kind: str = "Warning", **when: Any) -> Object:
    of = {"kind": "Pod", "name": pod, "uid": f"uid-of-{pod}"}
    metadata = {"name": f"{pod}.{abs(hash((note, reason, str(when))))}", "namespace": "demo"}
    return {
        "kind": "Event",
        "metadata": metadata,
        "regarding": of,
        "reason": reason,
        "type": kind,
        "note": note,
        **when,
    }


async def _said(kube: FakeKube, *pods: Object) -> dict[str, str]:
    return await mount_troubles(kube, pods, NOW)


async def test_a_missing_config_map_is_told_in_the_words_of_the_kubelet() -> None:
    said = await _said(FakeKube(_event(MISSING)), _pod())
    assert said == {"uid-of-a": f"FailedMount: {MISSING}"}


@pytest.mark.parametrize(
    "pod",
    [
        _pod("a", _condition("PodScheduled", "True"), _condition("PodReadyToStartContainers", "True")),
        _pod("a", _condition("PodScheduled", "True"), phase="Running"),
        _pod("a", _condition("PodScheduled", "False")),
        _pod("a", _condition("PodScheduled", "True", NOW - PATIENCE)),
        {"kind": "Pod", "metadata": {"name": "a", "namespace": "demo", "uid": "uid-of-a"}},
    ],
    ids=["pulling its image", "running", "without a node", "only just on its node", "without a status"],
)
async def test_no_events_are_read_for_a_pod_that_does_not_wait_for_its_volumes(pod: Object) -> None:
    kube = FakeKube(_event(MISSING))
    assert await _said(kube, pod) == {}
    assert kube.requests == []


async def test_a_cluster_too_old_to_say_that_the_sandbox_is_there_is_asked_too() -> None:
    assert await _said(FakeKube(_event(MISSING)), _pod("a", _condition("PodScheduled", "True")))


async def test_a_cause_goes_before_the_summary_that_is_told_later() -> None:
    """Else the condition would change back and forth every two minutes."""
    cause = _event(MISSING, deprecatedLastTimestamp="2026-01-02T03:00:00Z")
    summary = _event(SUMMARY, deprecatedLastTimestamp="2026-01-02T03:02:00Z")
    assert await _said(FakeKube(cause, summary), _pod()) == {"uid-of-a": f"FailedMount: {MISSING}"}
    assert await _said(FakeKube(summary), _pod()) == {"uid-of-a": f"FailedMount: {SUMMARY}"}


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({"deprecatedLastTimestamp": "2026-01-02T03:00:00Z"}, {"deprecatedLastTimestamp": "2026-01-02T03:01:00Z"}),
        (
            {"eventTime": "2026-01-02T03:00:00.000000Z"},
            {"eventTime": "2026-01-02T02:00:00.000000Z", "series": {"lastObservedTime": "2026-01-02T03:01:00.000000Z"}},
        ),
    ],
)
async def test_of_two_causes_the_one_seen_last_is_told(earlier: Object, later: Object) -> None:
    kube = FakeKube(_event("the first cause", **earlier), _event("the second cause", **later))
    assert await _said(kube, _pod()) == {"uid-of-a": "FailedMount: the second cause"}


@pytest.mark.parametrize(
    "event",
    [
        _event("0/1 nodes are available", reason="FailedScheduling"),
        _event("Successfully assigned", reason="Scheduled", kind="Normal"),
        _event(MISSING, pod="another"),
    ],
    ids=["of the scheduler", "no warning", "of another pod"],
)
async def test_other_events_are_no_explanation(event: Object) -> None:
    assert await _said(FakeKube(event), _pod()) == {}


async def test_an_installation_without_the_right_to_read_events_gets_no_explanation_and_no_error() -> None:
    kube = FakeKube(_event(MISSING))

    async def refuse(_verb: str, _kind: str, _name: str) -> None:
        raise Refused(403, "Forbidden", "events is forbidden")

    kube.before = refuse
    assert await _said(kube, _pod()) == {}


async def test_a_revision_of_a_hundred_pods_costs_a_few_requests() -> None:
    kube = FakeKube(_event(MISSING, pod="0"))
    assert await _said(kube, *(_pod(str(number)) for number in range(100))) == {"uid-of-0": f"FailedMount: {MISSING}"}
    assert len(kube.requests) == AT_ONCE
