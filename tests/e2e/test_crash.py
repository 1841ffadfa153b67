"""An operator killed after any single write, its reply unseen: the end is the same, and nothing is made or deleted twice."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from kubernetes.aio import client as k8s
from pinn_operator.api.observed import Key
from pinn_operator.api.plan import Phase
from pinn_operator.reconcile import Pass

from tests.e2e.gateway.install import Gateway
from tests.e2e.inprocess import COLD, PAUSE_SECONDS, Crash, RecordingKube, as_operator, one_pass, settle
from tests.e2e.kubectl import NO_GATES, Object, apply, delete, get, items, kubectl, patch, pinn

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

AT_ONCE = 4
MOST_WRITES = 60
KINDS = "deployments,services,serviceaccounts,poddisruptionbudgets,controllerrevisions"


async def live_through(api: k8s.ApiClient, namespace: str, name: str, crash_after: int | None) -> Counter[str]:
    """From nothing to version 1.0.0, then to 2.0.0, with one crash on the way. What was made and deleted."""
    await asyncio.to_thread(apply, pinn(name, replicas=2, cache=COLD), namespace)
    key, kube = Key(namespace, name), RecordingKube(api, crash_after)
    for version in ("1.0.0", "2.0.0"):
        change = {"spec": {"model": {"version": version}}}
        await asyncio.to_thread(patch, "pinndeployment", name, namespace, change)
        try:
            await settle(kube, key, version)
        except Crash:
            kube.crash_after = None
            await settle(kube, key, version)
    kube.made["writes"] = kube.writes
    return kube.made


def end_state(namespace: str, name: str, kinds: str = KINDS) -> str:
    """All children as one text, without what differs between two objects in any case."""
    found = items(kinds, namespace, f"pinn.dev/deployment={name}")
    stripped = sorted((_stripped(obj) for obj in found if "deletionTimestamp" not in obj["metadata"]), key=str)
    return json.dumps(stripped, sort_keys=True).replace(name, "NAME")


def _stripped(obj: dict[str, Any]) -> dict[str, Any]:
    metadata = obj["metadata"]
    kept = {key: metadata[key] for key in ("name", "labels")} | {"owners": len(metadata["ownerReferences"])}
    spec = {key: value for key, value in obj.get("spec", {}).items() if not key.startswith("clusterIP")}
    return {
        "kind": obj["kind"],
        "metadata": kept,
        "spec": spec,
        "data": obj.get("data"),
        "revision": obj.get("revision"),
    }


@pytest.mark.usefixtures("no_operator")
@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.full), 3], ids=["each", "each third"])
async def test_a_crash_after_any_write_changes_nothing_about_the_end(namespace: str, every: int) -> None:
    turns = asyncio.Semaphore(AT_ONCE)

    async def turn(api: k8s.ApiClient, crash_after: int | None) -> tuple[Counter[str], str]:
        name = f"n{crash_after or 0}"
        async with turns:
            made = await live_through(api, namespace, name, crash_after)
            state = await asyncio.to_thread(end_state, namespace, name)
            await asyncio.to_thread(kubectl, "-n", namespace, "scale", "pinndeployment", name, "--replicas=0")
            await settle(RecordingKube(api), Key(namespace, name), "2.0.0")
        return made, state

    async with as_operator() as api:
        undisturbed, state = await turn(api, None)
        writes = undisturbed.pop("writes")
        assert 15 < writes < MOST_WRITES, undisturbed
        numbers = range(1, writes + 1, every)
        crashed = await asyncio.gather(*(turn(api, n) for n in numbers))
        for name in [f"n{n}" for n in (0, *numbers)]:
            await asyncio.to_thread(patch, "pinndeployment", name, namespace, {"metadata": {"finalizers": None}})
    for number, (made, end) in zip(numbers, crashed, strict=True):
        made.pop("writes")
        assert made == undisturbed, f"a crash after write {number} made or deleted something twice or never"
        assert end == state, f"a crash after write {number} led elsewhere"


# --- A rollback ------------------------------------------------------------------------------------------------------

HALF = [{"weight": 50, "hold": "30m"}, {"weight": 100, "hold": "30m"}]
FEWEST_WRITES = 5


@dataclass(frozen=True)
class Sent:
    """A rollout that was sent back: what was made and deleted on the way up and on the way back, and where it ended."""

    up: Counter[str]
    back: Counter[str]
    end: str


async def passes(kube: RecordingKube, key: Key, until: Callable[[Pass], bool], seconds: float = 120.0) -> Pass:
    """Passes until one is as wanted and has changed nothing, survived by another process if this one crashes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before = kube.writes
        try:
            finished = await one_pass(kube, key)
        except Crash:
            kube.crash_after = None
            continue
        assert finished is not None, f"{key} is gone"
        if until(finished) and kube.writes == before:
            return finished
        await asyncio.sleep(PAUSE_SECONDS)
    raise AssertionError(f"{key} did not come to where it should within {seconds:.0f} s")


def shares_the_traffic(finished: Pass) -> bool:
    """Half of it, in force."""
    memory = finished.observed.memory
    return memory is not None and memory.journal is not None and memory.journal.step_began is not None


def is_sent_back(finished: Pass) -> bool:
    return finished.plan.phase is Phase.ROLLED_BACK and finished.look_again is None


async def sent_back(
    api: k8s.ApiClient, namespace: str, name: str, traffic: Object, up: int | None = None, back: int | None = None
) -> Sent:
    """2.0.0 has half of the traffic of 1.0.0 when a person says abort. One crash after that many writes since 2.0.0 was
    asked for, or since the abort."""
    key, first = Key(namespace, name), RecordingKube(api)
    rising, falling = RecordingKube(api, up), RecordingKube(api, back)
    rollout, replicas = {"steps": HALF}, 2
    obj = pinn(name, replicas=replicas, cache=COLD, sla=NO_GATES, rollout=rollout, traffic=traffic)
    await asyncio.to_thread(apply, obj, namespace)
    await settle(first, key, "1.0.0")
    change = {"spec": {"model": {"version": "2.0.0"}}}
    await asyncio.to_thread(patch, "pinndeployment", name, namespace, change)
    there = await passes(rising, key, shares_the_traffic)
    asked = f"pinn.dev/abort={there.plan.wanted}@once"
    await asyncio.to_thread(kubectl, "-n", namespace, "annotate", "pinn", name, asked)
    await passes(falling, key, is_sent_back)
    assert falling.crash_after is None, f"{name}: a rollback has fewer writes than the one that nothing disturbed"
    end = await asyncio.to_thread(whole_end, namespace, name)
    await asyncio.to_thread(patch, "pinndeployment", name, namespace, {"metadata": {"finalizers": None}})
    await asyncio.to_thread(delete, "pinndeployment", name, namespace)
    rising.made["writes"], falling.made["writes"] = rising.writes, falling.writes
    return Sent(rising.made, falling.made, end)


def whole_end(namespace: str, name: str) -> str:
    """The children, how many reports there are, and what the status says of the rollout."""
    kinds = f"{KINDS},httproutes"
    mine = items("configmaps", namespace, f"pinn.dev/deployment={name}")
    reports = [one["metadata"]["name"] for one in mine if one.get("immutable")]
    status = get("pinndeployment", name, namespace)["status"]
    told = {
        "history": [(one["modelVersion"], one["outcome"]) for one in status["history"]],
        "rejected": [one["modelVersion"] for one in status["rejected"]],
        "stable": status["stable"]["modelVersion"],
        "canary": status.get("canary"),
        "reports": len(reports),
    }
    assert [one["report"] for one in status["history"]] == reports
    return json.dumps(told) + end_state(namespace, name, kinds)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("no_operator")
@pytest.mark.parametrize("through_a_gateway", [True, False], ids=["through a gateway", "by labelled servers"])
async def test_a_crash_after_any_write_of_a_rollback_changes_nothing_about_the_end(
    namespace: str, gateway: Gateway, through_a_gateway: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # These passes have no way to the servers, and would wait for the smoke test every time.
    monkeypatch.setattr("pinn_operator.decide.rollout.SMOKE_SECONDS", 1.0)
    turns = asyncio.Semaphore(AT_ONCE)

    async def turn(api: k8s.ApiClient, **crash: int) -> Sent:
        name = "".join(f"{when}{count}" for when, count in crash.items()) or "undisturbed"
        route = {"gateway": {"parentRefs": [gateway.parent()], "hostnames": [f"{name}.{namespace}.example"]}}
        async with turns:
            return await sent_back(api, namespace, name, route if through_a_gateway else {}, **crash)

    async with as_operator() as api:
        undisturbed = await turn(api)
        up, back = undisturbed.up.pop("writes"), undisturbed.back.pop("writes")
        assert min(up, back) > FEWEST_WRITES, undisturbed
        assert max(up, back) < MOST_WRITES, undisturbed
        crashes = [{"up": n} for n in range(1, up + 1)] + [{"back": n} for n in range(1, back + 1)]
        crashed = await asyncio.gather(*(turn(api, **crash) for crash in crashes))
    for crash, one in zip(crashes, crashed, strict=True):
        one.up.pop("writes"), one.back.pop("writes")
        assert (one.up, one.back) == (undisturbed.up, undisturbed.back), f"made or deleted twice or never: {crash}"
        assert one.end == undisturbed.end, f"a crash led elsewhere: {crash}"
