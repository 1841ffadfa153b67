"""The operator's own passes, run by a test against the real API server: with the operator's rights, and with faults.

For what cannot be produced from outside: a crash after one particular write, a reply that is lost.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kubernetes.aio import client as k8s
from kubernetes.aio import config
from pinn_operator.act.children import ABSENT
from pinn_operator.api.observed import Key
from pinn_operator.api.plan import Phase
from pinn_operator.errors import Conflict, Unavailable
from pinn_operator.kube import Kind, Kube
from pinn_operator.reconcile import Context, Pass, reconcile

OPERATOR = "system:serviceaccount:pinn-system:pinn-operator"
SERVER_IMAGE = "pinn-operator/inference:0.1.0"
PAUSE_SECONDS = 0.2
COLD = {"warmUp": {"from": "None"}}
"""For objects of these passes, which have no way to the servers: nothing is warmed."""

VERBS = {"server_side_apply": "patch", "replace": "update", "create": "create", "delete": "delete", "patch": "patch"}


class Crash(Exception):
    """Stands for the end of the process."""


class RecordingKube(Kube):
    """Notes every request, and can break off after the n-th write: the write is done, its reply is never seen."""

    def __init__(self, api: k8s.ApiClient, crash_after: int | None = None) -> None:
        super().__init__(api)
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.made: Counter[str] = Counter()
        self.writes = 0
        self.crash_after = crash_after

    async def _call(self, verb: str, kind: Kind, *, subresource: str | None = None, **args: Any) -> dict[str, Any]:
        for used in self._verbs(verb, args):
            self.requests[used, kind.group, "/".join(filter(None, (kind.plural, subresource)))] += 1
        answer = await super()._call(verb, kind, subresource=subresource, **args)
        if verb != "get" and kind.kind != "Event" and "dry_run" not in args:
            self._count(verb, kind, args)
        return answer

    def _count(self, verb: str, kind: Kind, args: dict[str, Any]) -> None:
        self.writes += 1
        if verb == "delete" or self._creates(verb, args):
            self.made[f"{'delete' if verb == 'delete' else 'create'} {kind.kind}"] += 1
        if self.writes == self.crash_after:
            raise Crash(f"after write {self.writes}: {verb} {kind.plural}")

    @staticmethod
    def _creates(verb: str, args: dict[str, Any]) -> bool:
        return verb == "server_side_apply" and args["body"]["metadata"].get("resourceVersion") == ABSENT

    def _verbs(self, verb: str, args: dict[str, Any]) -> tuple[str, ...]:
        if verb == "get":
            return ("get",) if args.get("name") else ("list",)
        return (VERBS[verb], "create") if self._creates(verb, args) else (VERBS[verb],)


@asynccontextmanager
async def as_operator() -> AsyncIterator[k8s.ApiClient]:
    """A client with the rights that the manifests give to the operator, and no others."""
    configuration = k8s.Configuration()
    await config.load_kube_config(client_configuration=configuration)
    async with k8s.ApiClient(configuration) as api:
        api.set_default_header("Impersonate-User", OPERATOR)
        yield api


async def one_pass(kube: Kube, key: Key) -> Pass | None:
    """A pass, again and again while others write in between."""
    while True:
        try:
            return await reconcile(Context(kube, SERVER_IMAGE, "test"), key)
        except (Conflict, Unavailable):
            await asyncio.sleep(PAUSE_SECONDS)


async def settle(kube: RecordingKube, key: Key, version: str, seconds: float = 120.0) -> None:
    """Passes until this version serves and one changes nothing more."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before = kube.writes
        finished = await one_pass(kube, key)
        assert finished is not None, f"{key} is gone"
        stable = finished.plan.stable
        if (
            finished.plan.phase is Phase.SERVING
            and stable is not None
            and stable.model_version == version
            and kube.writes == before
            and finished.look_again is None  # nothing was refused
        ):
            return
        await asyncio.sleep(PAUSE_SECONDS)
    raise AssertionError(f"{key} did not settle on {version} within {seconds:.0f} s")
