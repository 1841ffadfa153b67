"""Every object that a plan asks for, in the order in which it is safe to write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from pinn_operator.api.memory import Memory, written
from pinn_operator.api.names import GROUP, LABEL_OBJECT, LABEL_PLACEMENT, LABEL_REVISION, memory_name, secret_name
from pinn_operator.api.observed import Observed
from pinn_operator.api.placement import ON_GPUS, SERVERS, Placed
from pinn_operator.api.plan import Plan, Run
from pinn_operator.api.revision import Revision, stored
from pinn_operator.api.units import seconds
from pinn_operator.build.metadata import metadata_of
from pinn_operator.build.pod import render, service_account_name
from pinn_operator.build.scaling import autoscaler, replicas
from pinn_operator.build.traffic import canary_service, route, service, service_object

Object = dict[str, Any]

NUDGE = f"{GROUP}/pods-retried-at"


def build(plan: Plan, seen: Observed) -> tuple[Object, ...]:
    """The children: records before workloads, workloads before what is stored about them, and that before any share changes."""
    if plan.teardown:
        return ()
    runs = tuple(_written_down(run, seen) for run in plan.run)
    objects = [_service_account(seen), _secret(seen)] if runs else []
    for run in runs:
        objects += [_record(run.revision, seen), *_deployments(run, seen), _revision_service(run.revision, seen)]
        objects += [_budget(run, seen)] if _most(run) > 1 else []
        metadata = metadata_of(seen, child_name(seen, run.revision), "server", run.revision)
        scaler = autoscaler(run, metadata, _scaled(run, seen))
        objects += [scaler] if scaler else []
    objects += [_memory(plan.memory, seen)] if plan.memory else []
    if plan.traffic:
        found = route(plan, plan.traffic, seen)
        objects += [found] if found else []
        objects += [service(plan.traffic, seen)]
        through = canary_service(plan, plan.traffic, seen)
        objects += [through] if through else []
    return tuple(objects)


def child_name(seen: Observed, revision: Revision) -> str:
    """At most 45 + 1 + 10 characters, so that it fits wherever a DNS label is asked for."""
    return f"{seen.key.name}-{revision.name}"


def _written_down(run: Run, seen: Observed) -> Run:
    """A revision that is on record keeps the template it was given; only a new one is rendered."""
    if run.revision.written:
        return run
    return replace(run, revision=render(run.revision, seen.key.name, seen.resource.spec))


def _record(revision: Revision, seen: Observed) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata_of(seen, child_name(seen, revision), "revision", revision),
        "revision": revision.number,
        "data": stored(revision),
    }


def _service_account(seen: Observed) -> Object:
    """Of its own and without a token: a server parses files that others made, and has no business with the API."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata_of(seen, service_account_name(seen.key.name), "server"),
        "automountServiceAccountToken": False,
    }


def _secret(seen: Observed) -> Object:
    """The token of the servers' admin ports; made up where it is written, and only where there is none yet."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata_of(seen, secret_name(seen.key.name), "server"),
        "type": "Opaque",
        "stringData": {"token": ""},
    }


def _memory(memory: Memory, seen: Observed) -> Object:
    """What the operator remembers of a rollout."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata_of(seen, memory_name(seen.key.name), "rollout"),
        "data": {"memory.json": written(memory)},
    }


def _deployments(run: Run, seen: Observed) -> list[Object]:
    """One; two where servers may run on GPUs and on CPUs. Which of them run is in their replicas, so none comes and goes."""
    revision, placed = run.revision, run.placed or Placed(cpu=run.replicas)
    alone = replicas(run, seen) if len(revision.runs_on) == 1 else None
    if revision.gpu_template is None:
        return [_deployment(run, seen, "", alone or {}, revision.template)]
    number = {"replicas": placed.gpu} if alone is None else alone
    found = [_deployment(run, seen, ON_GPUS, number, revision.gpu_template, {LABEL_PLACEMENT: "gpu"})]
    if revision.template is not None:
        found += [_deployment(run, seen, "", {"replicas": placed.cpu}, revision.template, {LABEL_PLACEMENT: "cpu"})]
    return found


def _scaled(run: Run, seen: Observed) -> str:
    """The Deployment whose servers an autoscaler counts: the only one."""
    return f"{child_name(seen, run.revision)}{ON_GPUS if run.revision.template is None else ''}"


def _deployment(
    run: Run,
    seen: Observed,
    suffix: str,
    number: Object,
    template: Mapping[str, Any] | None,
    placement: Mapping[str, str] = MappingProxyType({}),
) -> Object:
    metadata = metadata_of(seen, f"{child_name(seen, run.revision)}{suffix}", "server", run.revision)
    if notes := _notes(run):
        metadata["annotations"] = notes
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            **number,
            "revisionHistoryLimit": 0,
            "progressDeadlineSeconds": max(1, int(seconds(seen.resource.spec.rollout.progress_deadline))),
            "selector": {"matchLabels": {**_pods_of(seen, run.revision), **placement}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": template,
        },
    }


def _notes(run: Run) -> dict[str, str]:
    """The annotations of a Deployment. That nothing is counted any more is written too: one that is left out may stay."""
    nudged = {NUDGE: run.nudge} if run.nudge else {}
    return nudged | ({SERVERS: str(run.counted or "")} if len(run.revision.runs_on) > 1 else {})


def _most(run: Run) -> int:
    """How many servers there may be. A budget of one that may be missing blocks no drain, however few there are by then."""
    return run.scale.most if run.scale else run.replicas


def _revision_service(revision: Revision, seen: Observed) -> Object:
    metadata = metadata_of(seen, child_name(seen, revision), "server", revision)
    return service_object(metadata, _pods_of(seen, revision))


def _budget(run: Run, seen: Observed) -> Object:
    """One server at a time, of those that are ready: none that is not keeps a node from being drained, even where all are not.
    Where one may wait for a GPU for ever, what is missing is no measure: then by what must be there."""
    revision = run.revision
    allowed = {"minAvailable": run.replicas - 1} if len(revision.runs_on) > 1 else {"maxUnavailable": 1}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata_of(seen, child_name(seen, revision), "server", revision),
        "spec": {
            **allowed,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": _pods_of(seen, revision)},
        },
    }


def _pods_of(seen: Observed, revision: Revision) -> dict[str, str]:
    return {LABEL_OBJECT: seen.key.name, LABEL_REVISION: revision.name}
