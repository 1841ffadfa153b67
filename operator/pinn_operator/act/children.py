"""The children of one object: made, put right, removed.

The order is the safety: the finalizer before any child, the record before its workload, workloads before the Service that
sends requests to them, removals last. A refused write stops what depends on it and nothing else; a Conflict ends the pass.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pinn_operator.act.compare import (
    additions,
    holds,
    leaves_replicas,
    meddlers,
    owns_replicas,
    replacement,
    tampered,
)
from pinn_operator.act.shares import mark, weigh
from pinn_operator.api.names import FINALIZER, LABEL_PLACEMENT, LABEL_REVISION, SCALING_MANAGER
from pinn_operator.api.observed import ChildId, Key, Observed
from pinn_operator.api.outcome import Outcome, Refusal, Verb, Write
from pinn_operator.api.ownership import Owner, owner_of
from pinn_operator.api.plan import Plan
from pinn_operator.errors import ApiError, Conflict, Refused, Unavailable
from pinn_operator.kube import BY_KIND, NAMED, PINN_DEPLOYMENT, SERVICE, Kube

Object = dict[str, Any]

ABSENT = "1"
"""A resourceVersion that no live object has: an apply that names it can create but not overwrite."""


async def act(kube: Kube, plan: Plan, objects: Sequence[Object], seen: Observed, *, finalizer: bool = True) -> Outcome:
    """Bring the cluster to the plan as far as it goes now. Raises Conflict or Unavailable when the pass must be run again.

    Without `finalizer` the object gets none, and on its deletion the garbage collector does all.
    """
    version = seen.resource.metadata.resource_version
    if finalizer and not plan.teardown and not seen.has_finalizer:
        try:
            version = await _add_finalizer(kube, seen)
        except Refused as error:
            refused = Refusal(ChildId(PINN_DEPLOYMENT.kind, seen.key.name), error.reason, error.message)
            return Outcome(refusals=(refused,), resource_version=version)
    return replace(await _act_on_children(kube, plan, objects, seen), resource_version=version)


async def _act_on_children(kube: Kube, plan: Plan, objects: Sequence[Object], seen: Observed) -> Outcome:
    """Shares change when what is known of them is stored, and the Service when the labels that it selects by are written."""
    children = [obj for obj in objects if not _divides(obj, seen)]
    outcome = await _write_all(kube, children, seen)
    if _is_unknown(plan, outcome):
        return outcome
    marked = await mark(kube, plan, seen)
    if marked.refusals:
        return _together(outcome, marked)
    weighed = await weigh(kube, plan, seen)
    divided = await _write_all(kube, [obj for obj in objects if obj not in children], seen)
    removed = await _remove(kube, plan, objects, seen, stuck=_is_stuck(divided, seen))
    if plan.release and seen.has_finalizer:
        await release(kube, seen.key, seen.resource.metadata.resource_version, seen.resource.metadata.finalizers)
    return _together(outcome, weighed, divided, removed)


def _together(*parts: Outcome) -> Outcome:
    writes = tuple(write for part in parts for write in part.writes)
    return Outcome(writes, tuple(refusal for part in parts for refusal in part.refusals))


def _divides(obj: Mapping[str, Any], seen: Observed) -> bool:
    """Whether it says who gets which share: written last, when what is to serve is there and what is known is stored."""
    return _id(obj) in (ChildId("HTTPRoute", seen.key.name), ChildId("Service", seen.key.name))


def _is_unknown(plan: Plan, outcome: Outcome) -> bool:
    """Whether the canary would get a share that the next pass knows nothing of, as what is known could not be stored. It may lose
    its share all the same."""
    return not outcome.is_stored and plan.canary is not None and plan.weight_of(plan.canary.name) > 0


def _is_stuck(divided: Outcome, seen: Observed) -> bool:
    """Whether the Service of the object's name leads where it led before this pass, as it may not be written."""
    return any(refusal.child == ChildId("Service", seen.key.name) for refusal in divided.refusals)


async def release(kube: Kube, key: Key, resource_version: str, finalizers: Sequence[str]) -> None:
    """Take our finalizer off. A Conflict when the object has changed since it was read."""
    left = [name for name in finalizers if name != FINALIZER]
    await kube.patch(
        PINN_DEPLOYMENT,
        key.name,
        key.namespace,
        [
            {"op": "test", "path": "/metadata/resourceVersion", "value": resource_version},
            {"op": "replace", "path": "/metadata/finalizers", "value": left},
        ],
    )


async def _add_finalizer(kube: Kube, seen: Observed) -> str:
    """Before anything is made. The object's resourceVersion after it."""
    metadata = seen.resource.metadata
    patched = await kube.patch(
        PINN_DEPLOYMENT,
        metadata.name,
        metadata.namespace,
        [
            {"op": "test", "path": "/metadata/resourceVersion", "value": metadata.resource_version},
            {"op": "add", "path": "/metadata/finalizers", "value": [*metadata.finalizers, FINALIZER]},
        ],
    )
    return str(patched["metadata"]["resourceVersion"])


async def _write_all(kube: Kube, objects: Iterable[Object], seen: Observed) -> Outcome:
    """Every object in turn. Where a revision's record or workload is refused, its other children wait for it."""
    objects = list(objects)
    writes: list[Write] = []
    refusals = await _rehearse(kube, objects, seen)
    held = {_revision(obj) for obj in objects if any(_id(obj) == refusal.child for refusal in refusals)} - {None}
    for obj in objects:
        if _revision(obj) in held:
            continue
        try:
            writes += await _write(kube, obj, seen)
        except Refused as error:
            refusals.append(_refusal(obj, error))
            held |= {_revision(obj)} - {None}
    return Outcome(tuple(writes), tuple(refusals))


async def _rehearse(kube: Kube, objects: Iterable[Object], seen: Observed) -> list[Refusal]:
    """A revision is written down only when its workload would be accepted: typos in `spec.template` pass admission."""
    refused = []
    for obj in objects:
        if obj["kind"] == "Deployment" and _id(obj) not in seen.children and _revision(obj) not in seen.revisions:
            try:
                await kube.apply(obj, dry_run=True)
            except Refused as error:
                refused.append(_refusal(obj, error))
    return refused


async def _write(kube: Kube, wanted: Object, seen: Observed) -> list[Write]:
    """At most one write: none when the live object already holds everything."""
    live = seen.children.get(_id(wanted))
    if live is None:
        return [await _create(kube, _with_token(wanted), seen)]
    if wanted["kind"] == "Secret":
        return []  # servers that run know the token that is in it
    strangers = additions(live)
    if strangers:
        replaced = await kube.replace(replacement(live, wanted))
        if _content(replaced) == _content(live):
            return []
        return [_written("Healed", wanted, f"removed what {', '.join(strangers)} had added", strangers)]
    hands_over = leaves_replicas(live, wanted) and owns_replicas(live)
    if hands_over:
        await _hand_over_replicas(kube, live)
    if holds(live, wanted) and not hands_over:
        return []
    applied = await kube.apply(_pinned(wanted, live))
    if _content(applied) == _content(live):
        return []  # the same in other words: the server writes "1024Mi" as "1Gi"
    if tampered(live, wanted, scaled=_revision(wanted) in seen.autoscalers):
        by = meddlers(live, wanted)
        return [_written("Healed", wanted, f"{', '.join(by) or 'somebody'} had changed it", by)]
    return [_written("Updated", wanted, "")]


async def _hand_over_replicas(kube: Kube, live: Mapping[str, Any]) -> None:
    """A field that nobody applies any more returns to its default, one server. So it gets another owner before the operator
    leaves it out, with the number as it was read: a Conflict when an autoscaler has changed it since."""
    metadata = {name: live["metadata"][name] for name in ("name", "namespace", "resourceVersion")}
    number = {"replicas": live["spec"]["replicas"]}
    body = {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata, "spec": number}
    await kube.apply(body, manager=SCALING_MANAGER)


def _content(obj: Mapping[str, Any]) -> Object:
    """What a write of ours can change. Not the resourceVersion: a controller may write the status in between."""
    kept = {part: obj["metadata"].get(part) for part in ("labels", "ownerReferences")}
    return {name: value for name, value in obj.items() if name not in ("metadata", "status")} | kept


def _version(obj: Mapping[str, Any]) -> str:
    return str(obj["metadata"]["resourceVersion"])


PINNED = ("Service", "HTTPRoute", "ConfigMap")


def _pinned(wanted: Object, live: Mapping[str, Any]) -> Object:
    """Who serves, and what is known about it, is changed only as it was read: two leaders may overlap for a moment. Other objects
    change too often by themselves, and for them it does not matter."""
    if wanted["kind"] not in PINNED and not _stands_down(wanted, live):
        return wanted
    return {**wanted, "metadata": {**wanted["metadata"], "resourceVersion": _version(live)}}


def _stands_down(wanted: Object, live: Mapping[str, Any]) -> bool:
    """Servers on CPUs that GPUs have made superfluous, as they were when it was decided: they may be needed again by now."""
    if wanted["kind"] != "Deployment" or wanted["spec"]["selector"]["matchLabels"].get(LABEL_PLACEMENT) != "cpu":
        return False
    return bool(wanted["spec"]["replicas"] < live["spec"].get("replicas", 1))


def _with_token(wanted: Object) -> Object:
    """A Secret with a token that nobody has seen."""
    if wanted["kind"] != "Secret":
        return wanted
    return {**wanted, "stringData": {"token": secrets.token_urlsafe(32)}}


async def _create(kube: Kube, wanted: Object, seen: Observed) -> Write:
    """Make it, or take back what is ours but was not found by its labels. Never overwrite what is somebody else's, nor what is
    found by its name and so was made since: a token, or what another leader knows."""
    try:
        await kube.apply({**wanted, "metadata": {**wanted["metadata"], "resourceVersion": ABSENT}})
        return _written("Created", wanted, "")
    except Conflict:
        pass
    live = await kube.get(BY_KIND[wanted["kind"]], wanted["metadata"]["name"], wanted["metadata"]["namespace"])
    if live is None:
        raise Conflict(409, "Conflict", f"{_id(wanted)} came and went")
    owner = owner_of(live, seen.uid, seen.key.name)
    if owner is Owner.NAMESAKE:
        raise Unavailable(0, "Waiting", f"{_id(wanted)} of a deleted namesake is still there")
    if owner is Owner.OTHER:
        raise Refused(
            409, "NameTaken", f"{_id(wanted)} exists and is not this object's; delete it or rename this object"
        )
    if BY_KIND[wanted["kind"]] in NAMED:
        raise Conflict(409, "Conflict", f"{_id(wanted)} was made meanwhile")
    kept = {"data": live["data"], "revision": live["revision"]} if wanted["kind"] == "ControllerRevision" else {}
    await kube.apply({**wanted, **kept})  # a record never changes: where it was not found, it knows better
    return _written("Healed", wanted, "its labels or owner had been removed")


def _superfluous(plan: Plan, objects: Iterable[Object], seen: Observed, stuck: bool) -> list[ChildId]:
    """What is there and no longer wanted. Records stay to be undone to, until the plan forgets them; and what a Service leads to
    that is `stuck` stays though none of it is ready: callers have nobody else."""
    kept = {_id(obj) for obj in objects} | plan.spared
    if stuck and seen.selected:
        kept |= {child for child, live in seen.children.items() if _revision(live) == seen.selected}
    return [child for child, live in seen.children.items() if child not in kept and _may_go(plan, live)]


def _may_go(plan: Plan, live: Mapping[str, Any]) -> bool:
    if "deletionTimestamp" in live["metadata"]:
        return False
    if live["kind"] == "ControllerRevision":
        return plan.teardown or _revision(live) in plan.forget
    if live["kind"] in ("ConfigMap", "Secret"):
        return plan.teardown
    return True


async def _remove(kube: Kube, plan: Plan, objects: Iterable[Object], seen: Observed, *, stuck: bool) -> Outcome:
    writes, refusals = [], []
    children = _superfluous(plan, objects, seen, stuck)
    if children and not plan.teardown:
        await _look_once_more(kube, plan, seen, stuck)
    for child in children:
        try:
            await kube.delete(
                BY_KIND[child.kind], child.name, seen.key.namespace, seen.children[child]["metadata"]["uid"]
            )
        except Refused as error:
            refusals.append(Refusal(child, error.reason, error.message))
        else:
            writes.append(Write("Deleted", child, plan.phase.value))
    return Outcome(tuple(writes), tuple(refusals))


async def _look_once_more(kube: Kube, plan: Plan, seen: Observed, stuck: bool) -> None:
    """Before anything is deleted: a pass that was held up, on a node that was suspended say, must not act on an old picture. A
    Service that is `stuck` is to be as it was read, and one of somebody else's selects none of ours."""
    resource, service = await asyncio.gather(
        kube.get(PINN_DEPLOYMENT, seen.key.name, seen.key.namespace),
        kube.get(SERVICE, seen.key.name, seen.key.namespace),
    )
    generation = resource["metadata"]["generation"] if resource else None
    ours = service if service and owner_of(service, seen.uid) is Owner.OURS else None
    selected = ours["spec"].get("selector", {}).get(LABEL_REVISION) if ours else None
    moved = plan.traffic is not None and selected != (seen.selected if stuck else plan.traffic.selected)
    if moved or generation != seen.resource.metadata.generation:
        raise Conflict(409, "Conflict", f"{seen.key} has changed while it was decided what to remove")


def _id(obj: Mapping[str, Any]) -> ChildId:
    return ChildId(obj["kind"], obj["metadata"]["name"])


def _revision(obj: Mapping[str, Any]) -> str | None:
    value = obj["metadata"].get("labels", {}).get(LABEL_REVISION)
    return str(value) if value else None


def _written(verb: Verb, obj: Object, why: str, by: tuple[str, ...] = ()) -> Write:
    return Write(verb, _id(obj), why, by)


def _refusal(obj: Object, error: ApiError) -> Refusal:
    return Refusal(_id(obj), error.reason, error.message)
