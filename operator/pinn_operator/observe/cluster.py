"""One object and all that belongs to it, read from the store in one go.

Read live and not from a watch cache: weights and selectors are moved on what is seen here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from pinn_operator.api.memory import Memory, read
from pinn_operator.api.names import LABEL_OBJECT, LABEL_REVISION, LABEL_SERVING, memory_name, secret_name
from pinn_operator.api.observed import Autoscaler, ChildId, Key, Observed, Workload
from pinn_operator.api.ownership import Owner, owner_of
from pinn_operator.api.placement import SERVERS, Counted, Place, Placement
from pinn_operator.api.readings import Server
from pinn_operator.api.resource import PinnDeployment
from pinn_operator.api.revision import Revision, from_stored, recovered
from pinn_operator.api.route_ref import canary_service_name
from pinn_operator.errors import NotUnderstood
from pinn_operator.kube import (
    CONFIG_MAP,
    CUSTOM_METRICS,
    ENDPOINT_SLICE,
    HTTP_ROUTE,
    PINN_DEPLOYMENT,
    POD,
    SECRET,
    WRITTEN,
    Kube,
)
from pinn_operator.observe.measure import measure, token_of
from pinn_operator.observe.mounts import mount_troubles
from pinn_operator.observe.placement import (
    Deployments,
    conditions_of,
    has_node,
    is_unschedulable,
    those_that_count,
    waits_for_a_gpu,
    what_lacks,
    where_of,
)
from pinn_operator.observe.route import read_referred, referred_route, route_of
from pinn_operator.servers import Servers

Object = dict[str, Any]


async def observe(
    kube: Kube, key: Key, *, now: datetime, server_image: str, servers: Servers | None = None
) -> Observed | None:
    """What is, or None when the object is gone. Raises ApiError when something could not be read: no half picture."""
    live = await kube.get(PINN_DEPLOYMENT, key.name, key.namespace)
    if live is None:
        return None
    resource = _parsed(live)
    selector = f"{LABEL_OBJECT}={key.name}"
    lists, (memory, secret, route), theirs, pod_metrics = await asyncio.gather(
        asyncio.gather(*(kube.list_all(kind, key.namespace, selector) for kind in (*WRITTEN, POD, ENDPOINT_SLICE))),
        _named(kube, key),
        read_referred(kube, resource),
        _pod_metrics(kube, resource),
    )
    *written, pods, slices = lists
    children = _children([*written, memory, [_without_data(one) for one in secret], route], resource.metadata.uid)
    pods = _without_a_namesakes(pods, _deployments(children.values()), resource.metadata.creation_timestamp)
    unmounted = await mount_troubles(kube, filter(_stays, pods), now)
    revisions = _revisions(children.values())
    reached = {name: _targets(slices, f"{key.name}-{name}") for name in revisions}
    by_callers = [_targets(slices, service) for service in (key.name, canary_service_name(key.name))]
    seen = Observed(
        now=now,
        resource=resource,
        server_image=server_image,
        revisions=revisions,
        workloads=_workloads(children.values(), pods, unmounted),
        selected=_selected(children, key.name),
        endpoints=_endpoints(slices, pods, key.name),
        behind={name: _endpoints(slices, pods, f"{key.name}-{name}")[name] for name in revisions},
        places=_places(children.values(), [pod for pod in pods if _stays(pod)], reached, by_callers),
        servers=tuple(_server(pod) for pod in pods if _stays(pod) and not waits_for_a_gpu(pod)),
        route=referred_route(theirs, resource, children, _endpoints(slices, pods, canary_service_name(key.name)))
        or route_of(children.get(ChildId("HTTPRoute", key.name)), key.name, resource),
        split=_is_split(children, key.name),
        memory=memory_of(children.get(ChildId("ConfigMap", memory_name(key.name))), now.timestamp()),
        autoscalers=_autoscalers(children.values()),
        pod_metrics=pod_metrics,
        children=children,
    )
    if servers is None:
        return seen
    return replace(seen, measured=await measure(servers, seen, token_of(secret[0]) if secret else "", kube))


async def _pod_metrics(kube: Kube, resource: PinnDeployment) -> bool | None:
    """Whether autoscalers can learn how many requests are in flight; asked where they are to go by that."""
    spec = resource.spec
    if spec.autoscaling is None or not spec.autoscaling.target_in_flight or not spec.replicas:
        return None
    return await kube.serves(CUSTOM_METRICS)


async def _named(kube: Kube, key: Key) -> tuple[list[Object], list[Object], list[Object]]:
    """The children that are read by name: what the operator remembers, the token of the servers, and the route."""
    names = {CONFIG_MAP: memory_name(key.name), SECRET: secret_name(key.name), HTTP_ROUTE: key.name}
    found = await asyncio.gather(*(kube.get(kind, name, key.namespace) for kind, name in names.items()))
    memory, secret, route = ([one] if one else [] for one in found)
    return memory, secret, route


def _without_data(secret: Object) -> Object:
    """Nobody who reads, logs or stores an observation should come by the token."""
    return {name: value for name, value in secret.items() if name not in ("data", "stringData")}


def memory_of(config_map: Mapping[str, Any] | None, now: float) -> Memory | None:
    """What is remembered, as of now; None where nothing is, or nothing that can be read: it is then gathered anew."""
    try:
        memory = read(config_map["data"]["memory.json"]) if config_map else None
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return replace(memory, journal=memory.journal.until(now)) if memory and memory.journal else memory


def _parsed(live: Object) -> PinnDeployment:
    """The object. One that a newer release wrote, and this one cannot read, can still be deleted: that asks for nothing in it.
    Raises NotUnderstood for any other."""
    try:
        return PinnDeployment.model_validate(live)
    except ValidationError as error:
        if "deletionTimestamp" not in live["metadata"]:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise NotUnderstood(live, field, first["msg"]) from None
        return PinnDeployment.model_validate(
            {"metadata": live["metadata"], "spec": {"model": {"name": "-", "version": "-"}}}
        )


def _children(lists: Iterable[list[Object]], uid: str) -> dict[ChildId, Object]:
    found = [item for items in lists for item in items if owner_of(item, uid) is Owner.OURS]
    return {ChildId(item["kind"], item["metadata"]["name"]): item for item in found}


def _revisions(children: Iterable[Mapping[str, Any]]) -> dict[str, Revision]:
    """The records, by name. A record that is lost or cannot be read is recovered from the Deployment that was made from it:
    a revision that serves must not be forgotten, and must not be rendered anew by a newer operator."""
    children = list(children)
    found = {}
    for child in children:
        if child["kind"] == "ControllerRevision":
            try:
                revision = from_stored(child)
            except (KeyError, TypeError, ValueError):
                continue
            found[revision.name] = revision
    for name, deployments in _deployments(children).items():
        if name not in found:
            found[name] = recovered(deployments.get("CPU"), deployments.get("GPU"))
    return found


def _without_a_namesakes(
    pods: Iterable[Object], deployments: Mapping[str, Deployments], since: datetime | None
) -> list[Object]:
    """Without the pods that a deleted namesake has left and that are about to go, though revisions of the same content are called
    the same: they are older than the object, and there is no Deployment that is older too, as one is that was taken over."""

    def is_older(obj: Mapping[str, Any] | None) -> bool:
        made = obj["metadata"].get("creationTimestamp") if obj else None
        return since is not None and made is not None and datetime.fromisoformat(made) < since

    def of(pod: Object) -> Mapping[str, Any] | None:
        return deployments.get(_revision(pod), {}).get(where_of(pod))

    return [pod for pod in pods if not is_older(pod) or is_older(of(pod))]


def _deployments(children: Iterable[Mapping[str, Any]]) -> dict[str, Deployments]:
    """Those of each revision, by where their pods run."""
    found: dict[str, Deployments] = {}
    for child in children:
        if child["kind"] == "Deployment":
            found.setdefault(_revision(child), {})[where_of(child)] = child
    return found


def _workloads(
    children: Iterable[Mapping[str, Any]], pods: list[Object], unmounted: Mapping[str, str]
) -> dict[str, Workload]:
    return {
        name: _workload(deployments, [pod for pod in pods if _revision(pod) == name], unmounted)
        for name, deployments in _deployments(children).items()
    }


def _workload(deployments: Deployments, pods: list[Object], unmounted: Mapping[str, str]) -> Workload:
    """Of one revision. What keeps servers from a GPU is no trouble while it may run, or does run, on CPUs instead."""
    conditions = conditions_of(deployments.get("CPU") or deployments["GPU"])
    progressing, failing = conditions.get("Progressing", {}), conditions.get("ReplicaFailure", {})
    staying = [pod for pod in pods if _stays(pod)]
    told = those_that_count(deployments, staying)
    counted = _counted(deployments)
    asked = sum(one.get("spec", {}).get("replicas", 0) for one in deployments.values())
    return Workload(
        pods=sum(len(deployments) == 1 or not waits_for_a_gpu(pod) for pod in staying),
        ready=sum(map(_is_ready, staying)),
        deadline_exceeded=progressing.get("reason") == "ProgressDeadlineExceeded",
        not_created=failing.get("message") if failing.get("status") == "True" else None,
        not_starting=next((said for pod in told if (said := _trouble(pod) or unmounted.get(_uid(pod)))), None),
        asked=counted.servers if counted else asked,
        counted=counted,
    )


def _counted(deployments: Deployments) -> Counted | None:
    """What was counted last: a pass may have been cut off between the two Deployments, and somebody may delete one."""
    notes = [one["metadata"].get("annotations", {}).get(SERVERS, "") for one in deployments.values()]
    return max(filter(None, map(Counted.read, notes)), key=lambda one: one.since, default=None)


def _places(
    children: Iterable[Mapping[str, Any]],
    pods: list[Object],
    reached: Mapping[str, set[str]],
    by_callers: Iterable[set[str]],
) -> dict[str, dict[Placement, Place]]:
    """How the servers of each revision are, by where they run. `reached` are the pods behind each revision's own Service."""
    callers, found = list(by_callers), {}
    for name, deployments in _deployments(children).items():
        own = [pod for pod in pods if _revision(pod) == name]
        ready = {_name(pod) for pod in own if _is_ready(pod)}
        services = [
            reached.get(name, set()),
            *(targets for targets in callers if targets & {_name(pod) for pod in own}),
        ]
        behind = ready.intersection(*services)
        found[name] = {
            where: _place(deployment, [pod for pod in own if where_of(pod) == where], ready, behind)
            for where, deployment in deployments.items()
        }
    return found


def _place(deployment: Mapping[str, Any], pods: list[Object], ready: set[str], behind: set[str]) -> Place:
    names = {_name(pod) for pod in pods}
    lacking, since = what_lacks(deployment, pods)
    return Place(
        asked=deployment["spec"].get("replicas", 1),
        on_nodes=sum(map(has_node, pods)),
        ready=len(names & ready),
        behind=len(names & behind),
        lacking=lacking,
        since=since,
        trouble=next((said for pod in pods if not is_unschedulable(pod) and (said := _trouble(pod))), ""),
    )


def _autoscalers(children: Iterable[Mapping[str, Any]]) -> dict[str, Autoscaler]:
    return {_revision(child): _autoscaler(child) for child in children if child["kind"] == "HorizontalPodAutoscaler"}


def _autoscaler(child: Mapping[str, Any]) -> Autoscaler:
    status = child.get("status", {})
    changed = status.get("lastScaleTime")
    return Autoscaler(status.get("desiredReplicas") or None, datetime.fromisoformat(changed) if changed else None)


def _stays(pod: Object) -> bool:
    """Neither leaving nor over: an evicted pod lies about for long after another has taken its place."""
    return "deletionTimestamp" not in pod["metadata"] and pod.get("status", {}).get("phase") not in (
        "Failed",
        "Succeeded",
    )


def _server(pod: Object) -> Server:
    """As traffic and metrics see it."""
    status = pod.get("status", {})
    container: Object = next((c for c in status.get("containerStatuses", ()) if c["name"] == "server"), {})
    return Server(
        revision=_revision(pod),
        pod=pod["metadata"]["name"],
        container=container.get("containerID", ""),
        address=status.get("podIP"),
        ready=_is_ready(pod),
        restarts=container.get("restartCount", 0),
        serving=pod["metadata"].get("labels", {}).get(LABEL_SERVING) == "true",
        started=_since(container),
        took=_start_time(pod),
    )


def _since(container: Object) -> float | None:
    """Since when a container runs, in seconds since 1970."""
    at = (container.get("state", {}).get("running") or {}).get("startedAt")
    return datetime.fromisoformat(at).timestamp() if at else None


def _start_time(pod: Object) -> float | None:
    """Seconds from its creation until it was last not ready. One that was unready later seems to have taken longer."""
    made = pod["metadata"].get("creationTimestamp")
    conditions = pod.get("status", {}).get("conditions", ())
    ready = [c.get("lastTransitionTime") for c in conditions if c["type"] == "Ready" and c["status"] == "True"]
    if not made or not ready or not ready[0]:
        return None
    return (datetime.fromisoformat(ready[0]) - datetime.fromisoformat(made)).total_seconds()


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _trouble(pod: Object) -> str | None:
    """Why a pod does not start, in the kubelet's or the scheduler's words; None while it simply has not yet."""
    status = pod.get("status", {})
    for container in status.get("initContainerStatuses", []) + status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting") or {}
        if container.get("restartCount") and not container.get("ready"):
            return _crash(container)
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return f"{waiting['reason']}: {waiting.get('message', '')}".strip(": ")
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return f"Unschedulable: {condition.get('message', '')}"
    return None


def _crash(container: Object) -> str:
    """The same words while it waits for its next start and while it tries again, or the conditions would flicker."""
    last = container.get("lastState", {}).get("terminated") or container.get("state", {}).get("terminated") or {}
    said = f"CrashLoop: container {container['name']} exited with code {last.get('exitCode', 'unknown')}"
    return f"{said}: {message}" if (message := str(last.get("message", "")).strip()) else said


def _selected(children: Mapping[ChildId, Mapping[str, Any]], name: str) -> str | None:
    service = children.get(ChildId("Service", name), {})
    return (service.get("spec", {}).get("selector") or {}).get(LABEL_REVISION)


def _is_split(children: Mapping[ChildId, Mapping[str, Any]], name: str) -> bool:
    """Whether the Service of the object's name selects servers by their label."""
    service = children.get(ChildId("Service", name), {})
    return (service.get("spec", {}).get("selector") or {}).get(LABEL_SERVING) == "true"


def _endpoints(slices: list[Object], pods: list[Object], service: str) -> Counter[str]:
    """The revisions behind a Service, and with how many pods, by the endpoints that kube-proxy and gateways read."""
    revision_of = {_name(pod): _revision(pod) for pod in pods}
    return Counter(revision_of[target] for target in _targets(slices, service) if target in revision_of)


def _targets(slices: list[Object], service: str) -> set[str]:
    """The pods behind a Service."""
    behind = [s for s in slices if s["metadata"]["labels"].get("kubernetes.io/service-name") == service]
    endpoints = [endpoint for s in behind for endpoint in s.get("endpoints") or ()]
    return {
        str(e["targetRef"]["name"])
        for e in endpoints
        if "targetRef" in e and e.get("conditions", {}).get("ready") is not False
    }


def _name(obj: Mapping[str, Any]) -> str:
    return str(obj["metadata"]["name"])


def _uid(obj: Object) -> str:
    return str(obj["metadata"]["uid"])


def _revision(obj: Mapping[str, Any]) -> str:
    return str(obj["metadata"].get("labels", {}).get(LABEL_REVISION, ""))
