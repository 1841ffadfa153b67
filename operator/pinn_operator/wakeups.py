"""One task per object: it sleeps until something wakes it or its time has come, then runs one pass.

Events only wake; what happened is looked up. So an event lost, repeated or out of order costs at most time, and the full
list every ten minutes finds what no event told.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from pinn_operator.api.names import LABEL_OBJECT
from pinn_operator.api.observed import ChildId, Key
from pinn_operator.errors import ApiError, Conflict, NotUnderstood, Unavailable
from pinn_operator.kube import AUTOSCALER, CUSTOM_METRICS, PINN_DEPLOYMENT, WRITTEN, Kube, Object
from pinn_operator.monitoring import Monitoring
from pinn_operator.reconcile import Pass

log = structlog.get_logger()

COALESCE_SECONDS = 0.1
"""A burst of events, as when six children are made, is one pass."""

PASS_SECONDS = 240.0
"""Long enough for half a dozen writes that an admission webhook holds up for as long as it may. A pass that is cut off is run
again."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0

HEALS, HEAL_SECONDS = 6, 30.0
"""At most so many mendings of one object in so many seconds."""
FIGHT_SECONDS = 2 * HEAL_SECONDS
"""So many mendings within that time are a fight, and it is over when so long has passed without."""

REFUSED_SECONDS = 5.0
"""At least so long between a pass in which a write was refused and the next: the words of the refusal go to the status, which is
an event of the object, and they may be others each time."""

LISTED = frozenset(kind.kind for kind in WRITTEN)
"""Kinds of children that the full list is made of. The others are read by name: the operator does not list Secrets."""

Versions = frozenset[tuple[ChildId, str]]
Run = Callable[[Key, bool], Awaitable[Pass | None]]
"""One pass over an object; whether its children are contested."""


@dataclass
class _Slot:
    """What is kept for an object between passes: nothing that a decision rests on."""

    woken: asyncio.Event = field(default_factory=asyncio.Event)
    versions: Versions = frozenset()
    pod_metrics: bool | None = None
    healed: deque[float] = field(default_factory=lambda: deque(maxlen=HEALS))
    task: asyncio.Task[None] | None = None

    def is_contested(self) -> bool:
        """Whether somebody undoes one mending after the other."""
        now = asyncio.get_running_loop().time()
        return len(self.healed) == HEALS and now - self.healed[0] < FIGHT_SECONDS


@dataclass(frozen=True, slots=True)
class _After:
    """What is left of a pass: in how many seconds to look again, whether it mended something, and whether it was refused."""

    again: float | None
    healed: bool
    refused: bool


class Wakeups:
    """All objects' tasks. At most `at_once` passes run at the same time; the others wait their turn."""

    def __init__(self, run: Run, monitoring: Monitoring, at_once: int) -> None:
        self._run = run
        self._monitoring = monitoring
        self._turns = asyncio.Semaphore(at_once)
        self._slots: dict[Key, _Slot] = {}
        self._stopped = False

    @property
    def serving(self) -> int:
        """How many objects there are, as far as events and lists have told."""
        return len(self._slots)

    def wake(self, key: Key) -> None:
        """Have a pass run soon; a pass that is running is followed by another."""
        slot = self._slots.get(key)
        if slot is None and self._stopped:
            return
        if slot is None:
            slot = self._slots[key] = _Slot()
            slot.task = asyncio.create_task(self._serve(key, slot), name=str(key))
        slot.woken.set()

    def wake_owner(self, child: Object, *, gone: bool = False) -> None:
        """Wake the object that a child belongs to, by its label; but not when an autoscaler only tells what it has measured, four
        times a minute."""
        name = child["metadata"].get("labels", {}).get(LABEL_OBJECT)
        if not name:
            return
        key = Key(child["metadata"]["namespace"], name)
        slot = self._slots.get(key)
        measured = child.get("kind") == AUTOSCALER.kind and not gone
        if not (measured and slot and _entry(AUTOSCALER.kind, child) in slot.versions):
            self.wake(key)

    async def stop(self) -> None:
        """Cancel every task. A pass cut off is run again by whoever comes next."""
        self._stopped = True  # events may still come in
        tasks = [slot.task for slot in self._slots.values() if slot.task]
        self._slots.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def resync(self, kube: Kube, namespaces: Iterable[str | None]) -> None:
        """One LIST a kind; wake the objects whose children are not as their last pass saw them. And those that are to go by
        metrics of pods, when these have come or gone: no event tells."""
        found = await _everything(kube, namespaces)
        asks = any(slot.pod_metrics is not None for slot in self._slots.values())
        served = await kube.serves(CUSTOM_METRICS) if asks else None
        for key in found.keys() | self._slots.keys():
            slot = self._slots.get(key)
            if slot is None or slot.versions != found.get(key) or slot.pod_metrics not in (None, served):
                self.wake(key)

    async def _serve(self, key: Key, slot: _Slot) -> None:
        """Nothing of a pass is kept while it waits for the next: what all objects' passes have seen is more than there is memory
        for, and an exception holds on to it too."""
        failures = 0
        seconds: float | None
        while True:
            await asyncio.sleep(COALESCE_SECONDS)
            slot.woken.clear()
            try:
                after = await self._pass(key, slot, slot.is_contested())
            except Exception as error:  # noqa: BLE001 - one object's bug must not stop the others
                failures += 1
                if isinstance(error, NotUnderstood):
                    self._monitoring.not_understood(key)
                wakes = isinstance(error, Conflict | NotUnderstood)
                event, seconds = slot.woken if wakes else asyncio.Event(), _pause(key, error, failures)
            else:
                failures = 0
                if after is None and not slot.woken.is_set():
                    self._slots.pop(key, None)
                    return
                event, seconds = slot.woken, await _rest(key, slot, after) if after else None
            await _wait(event, seconds)

    async def _pass(self, key: Key, slot: _Slot, contested: bool) -> _After | None:
        async with self._turns:
            with self._monitoring.timed(key):
                finished = await asyncio.wait_for(self._run(key, contested), PASS_SECONDS)
        if finished is None:
            self._monitoring.forget(key)
            return None
        self._monitoring.note(finished)
        slot.versions, slot.pod_metrics = _versions(finished), finished.observed.pod_metrics
        again = _sooner(finished.look_again, FIGHT_SECONDS if contested else None)
        return _After(again, finished.healed, finished.refused)


async def _rest(key: Key, slot: _Slot, after: _After) -> float | None:
    """While the object rests, events wait too. For how many seconds to wait for one then."""
    if after.healed:
        await _rest_from_mending(key, slot)
    if not after.refused:
        return after.again
    await asyncio.sleep(REFUSED_SECONDS)
    return None if after.again is None else max(0.0, after.again - REFUSED_SECONDS)


async def _rest_from_mending(key: Key, slot: _Slot) -> None:
    """Somebody who undoes every mending, a tool that owns the child too, gets a bounded number of writes in return."""
    now = asyncio.get_running_loop().time()
    slot.healed.append(now)
    if len(slot.healed) == HEALS and (left := slot.healed[0] + HEAL_SECONDS - now) > 0:
        log.warning("fight", object=str(key), heals=HEALS, rests_seconds=round(left))
        await asyncio.sleep(left)


def _pause(key: Key, error: Exception, failures: int) -> float:
    """Growing, scattered, bounded, and within the bound not shorter than the server asked for."""
    if isinstance(error, Unavailable | Conflict):
        log.info("pass_again", object=str(key), error=str(error))
    elif isinstance(error, NotUnderstood):
        log.warning("not_understood", object=str(key), error=str(error))
    elif isinstance(error, ApiError):
        log.warning("pass_refused", object=str(key), error=str(error))
    else:
        log.error("pass_failed", object=str(key), exc_info=error)
    asked = min(error.retry_after or 0.0, LONGEST_PAUSE) if isinstance(error, ApiError) else 0.0
    grown = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 10))
    return max(asked, grown * random.uniform(0.7, 1.0))  # noqa: S311 - scatter, not a secret


def _sooner(*waits: float | None) -> float | None:
    return min((wait for wait in waits if wait is not None), default=None)


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


def _versions(finished: Pass) -> Versions:
    metadata = finished.observed.resource.metadata
    own = (ChildId(PINN_DEPLOYMENT.kind, metadata.name), metadata.resource_version)
    children = {child: live for child, live in finished.observed.children.items() if child.kind in LISTED}
    return frozenset({own, *((child, _version(child.kind, live)) for child, live in children.items())})


def _entry(kind: str, obj: Object) -> tuple[ChildId, str]:
    return ChildId(kind, obj["metadata"]["name"]), _version(kind, obj)


def _version(kind: str, obj: Mapping[str, Any]) -> str:
    """What is another one when the object has changed; of an autoscaler, without what it has measured."""
    metadata = obj["metadata"]
    if kind != AUTOSCALER.kind:
        return str(metadata["resourceVersion"])
    parts = [metadata.get(name) for name in ("uid", "labels", "ownerReferences", "deletionTimestamp")]
    return hashlib.sha256(json.dumps([*parts, obj.get("spec")], sort_keys=True, default=dict).encode()).hexdigest()


async def _everything(kube: Kube, namespaces: Iterable[str | None]) -> dict[Key, Versions]:
    """The versions alone are kept: whole objects are more than there is memory for, so one page of them is there at a time."""
    found: dict[Key, set[tuple[ChildId, str]]] = {}
    for namespace in namespaces:
        for kind in (PINN_DEPLOYMENT, *WRITTEN):
            async for page in kube.pages(kind, namespace, None if kind is PINN_DEPLOYMENT else LABEL_OBJECT):
                for key, entry in map(_entry_of_owner, page):
                    found.setdefault(key, set()).add(entry)
                del page  # before the next one comes
    return {key: frozenset(entries) for key, entries in found.items()}


def _entry_of_owner(obj: Object) -> tuple[Key, tuple[ChildId, str]]:
    kind, metadata = obj["kind"], obj["metadata"]
    name = metadata["name"] if kind == PINN_DEPLOYMENT.kind else metadata["labels"][LABEL_OBJECT]
    return Key(metadata["namespace"], name), _entry(kind, obj)
