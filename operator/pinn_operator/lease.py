"""Which of two replicas acts: a Lease, written for this operator because the client library's own does not work.

Whether a holder is alive is judged by its writes on our clock, never by comparing clocks of two machines. The holder counts from
before it asked and stops at two thirds of the time; the other counts from when it saw the write and begins after the whole.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from pinn_operator.errors import ApiError, Conflict, LeaseLost
from pinn_operator.kube import LEASE, Kube

log = structlog.get_logger()

Object = dict[str, Any]

DEAF_SECONDS = 60.0
"""A standby that has heard nothing from the API server for so long ends: its next start reads the cluster's CA again, which may
be another one since."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Whose Lease, where, and for how long."""

    name: str
    namespace: str
    identity: str
    seconds: int

    @property
    def retry(self) -> float:
        """Between two tries: a fifth of the time, so that two may fail before the holder gives up at two thirds."""
        return self.seconds / 5


class Lease:
    """The Lease, from the point of view of one replica."""

    def __init__(self, kube: Kube, terms: Terms) -> None:
        self._kube = kube
        self._terms = terms
        self._seen: tuple[str, float] = ("", 0.0)
        self._heard = 0.0

    async def acquire(self) -> None:
        """Return when this replica holds it; until then look again and again. Raises LeaseLost when no look is answered."""
        self._heard = time.monotonic()
        while not await self._try():
            if time.monotonic() - self._heard > DEAF_SECONDS:
                raise LeaseLost(f"the Lease {self._terms.name} could not be looked at for {DEAF_SECONDS:g} s")
            await asyncio.sleep(self._terms.retry)
        log.info("leading", identity=self._terms.identity)

    async def keep(self) -> None:
        """Renew it for ever. Raises LeaseLost when another holds it, or when it could not be renewed for too long."""
        asked = time.monotonic()
        while True:
            over = asked + self._terms.seconds * 2 / 3
            await asyncio.sleep(max(0.0, min(self._terms.retry, over - time.monotonic())))
            began = time.monotonic()
            if await self._renew_until(over):
                asked = began
            elif time.monotonic() >= over:
                raise LeaseLost(
                    f"the Lease {self._terms.name} could not be renewed for {self._terms.seconds * 2 // 3} s"
                )

    async def _renew_until(self, over: float) -> bool:
        try:
            return await asyncio.wait_for(self._try(keeps=True), max(0.0, over - time.monotonic()))
        except TimeoutError:
            return False

    async def release(self) -> None:
        """Give it back, so that the other replica need not wait. That it fails is no harm: it runs out."""
        try:
            live = await self._read()
            if live and _holder(live) == self._terms.identity:
                live["spec"]["holderIdentity"] = ""
                await asyncio.wait_for(self._kube.replace(live), self._terms.retry)
        except (ApiError, TimeoutError) as error:
            log.warning("lease_not_released", error=str(error) or "time-out")

    async def _try(self, *, keeps: bool = False) -> bool:
        """Take or renew it if it is free, ours or run out. A lost race and an unreachable server are both a no. Raises LeaseLost
        when this replica is to keep it and another holds it."""
        try:
            live = await asyncio.wait_for(self._read(), self._terms.retry)
            if live is None:
                await asyncio.wait_for(self._kube.create(self._fresh()), self._terms.retry)
                return True
            if keeps and _holder(live) not in ("", self._terms.identity):
                raise LeaseLost(f"the Lease {self._terms.name} is held by {_holder(live)}")
            if not self._may_take(live):
                return False
            await asyncio.wait_for(self._kube.replace(self._renewed(live)), self._terms.retry)
        except Conflict:
            return False
        except (ApiError, TimeoutError) as error:
            log.warning("lease_not_renewed", error=str(error) or "time-out")
            return False
        return True

    async def _read(self) -> Object | None:
        """A refusal and a busy server's answer are heard too; no connection, or a certificate that is not trusted, is silence."""
        try:
            live = await self._kube.get(LEASE, self._terms.name, self._terms.namespace)
        except ApiError as error:
            if error.status:
                self._heard = time.monotonic()
            raise
        self._heard = time.monotonic()
        return live

    def _may_take(self, live: Object) -> bool:
        holder = _holder(live)
        if holder in ("", self._terms.identity):
            return True
        version = live["metadata"]["resourceVersion"]
        if self._seen[0] != version:
            self._seen = (version, time.monotonic())
            return False
        lasts = float(live["spec"].get("leaseDurationSeconds", self._terms.seconds))
        return time.monotonic() - self._seen[1] > lasts

    def _fresh(self) -> Object:
        now = _now()
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._terms.name, "namespace": self._terms.namespace},
            "spec": {
                "holderIdentity": self._terms.identity,
                "leaseDurationSeconds": self._terms.seconds,
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": 0,
            },
        }

    def _renewed(self, live: Object) -> Object:
        """With the resourceVersion that was read: whoever writes second has lost."""
        spec = {**live["spec"], "leaseDurationSeconds": self._terms.seconds, "renewTime": _now()}
        if _holder(live) != self._terms.identity:
            transitions = live["spec"].get("leaseTransitions", 0) + 1
            spec |= {"holderIdentity": self._terms.identity, "acquireTime": _now(), "leaseTransitions": transitions}
        return {**live, "spec": spec}


def _holder(live: Object) -> str:
    return live["spec"].get("holderIdentity") or ""


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
