"""An operator killed after any single write, its reply unseen: the end is the same, and nothing is made or deleted twice."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
from kubernetes.aio import client as k8s
from pinn_operator.api.observed import Key

from tests.e2e.inprocess import COLD, Crash, RecordingKube, as_operator, settle
from tests.e2e.kubectl import apply, items, kubectl, patch, pinn

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


def end_state(namespace: str, name: str) -> str:
    """All children as one text, without what differs between two objects in any case."""
    found = items(KINDS, namespace, f"pinn.dev/deployment={name}")
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
async def test_a_crash_after_any_write_changes_nothing_about_the_end(namespace: str) -> None:
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
        crashed = await asyncio.gather(*(turn(api, n) for n in range(1, writes + 1)))
        for name in [f"n{n}" for n in range(writes + 1)]:
            await asyncio.to_thread(patch, "pinndeployment", name, namespace, {"metadata": {"finalizers": None}})
    for number, (made, end) in enumerate(crashed, start=1):
        made.pop("writes")
        assert made == undisturbed, f"a crash after write {number} made or deleted something twice or never"
        assert end == state, f"a crash after write {number} led elsewhere"
