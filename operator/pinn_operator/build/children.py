"""Every object that a plan asks for, in the order in which it is safe to write them."""

from __future__ import annotations

from typing import Any

from pinn_operator.api.names import API_VERSION, GROUP, KIND, LABEL_OBJECT, LABEL_REVISION
from pinn_operator.api.observed import Observed
from pinn_operator.api.plan import Plan, Run
from pinn_operator.api.revision import Revision, stored
from pinn_operator.api.units import seconds
from pinn_operator.build.pod import labels_of, render, service_account_name

Object = dict[str, Any]

NUDGE = f"{GROUP}/pods-retried-at"


def build(plan: Plan, seen: Observed) -> tuple[Object, ...]:
    """The children, records before workloads, workloads before the Service that sends requests to them."""
    if plan.teardown:
        return ()
    runs = tuple(_written_down(run, seen) for run in plan.run)
    objects = [_service_account(seen)] if runs else []
    for run in runs:
        objects += [_record(run.revision, seen), _deployment(run, seen), _revision_service(run.revision, seen)]
        objects += [_budget(run.revision, seen)] if run.replicas > 1 else []
    objects += [_service(plan.serving, seen)] if plan.serving else []
    return tuple(objects)


def child_name(seen: Observed, revision: Revision) -> str:
    """At most 45 + 1 + 10 characters, so that it fits wherever a DNS label is asked for."""
    return f"{seen.key.name}-{revision.name}"


def _written_down(run: Run, seen: Observed) -> Run:
    """A revision that is on record keeps the template it was given; only a new one is rendered."""
    if run.revision.template is not None:
        return run
    return Run(render(run.revision, seen.key.name, seen.resource.spec), run.replicas, run.nudge)


def _metadata(seen: Observed, name: str, component: str, revision: Revision | None = None) -> Object:
    return {
        "name": name,
        "namespace": seen.key.namespace,
        "labels": labels_of(seen.key.name, component, revision),
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": seen.key.name,
                "uid": seen.uid,
                "controller": True,
            }
        ],
    }


def _record(revision: Revision, seen: Observed) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": _metadata(seen, child_name(seen, revision), "revision", revision),
        "revision": revision.number,
        "data": stored(revision),
    }


def _service_account(seen: Observed) -> Object:
    """Of its own and without a token: a server parses files that others made, and has no business with the API."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(seen, service_account_name(seen.key.name), "server"),
        "automountServiceAccountToken": False,
    }


def _deployment(run: Run, seen: Observed) -> Object:
    metadata = _metadata(seen, child_name(seen, run.revision), "server", run.revision)
    if run.nudge:
        metadata["annotations"] = {NUDGE: run.nudge}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": run.replicas,
            "revisionHistoryLimit": 0,
            "progressDeadlineSeconds": max(1, int(seconds(seen.resource.spec.rollout.progress_deadline))),
            "selector": {"matchLabels": _pods_of(seen, run.revision)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": run.revision.template,
        },
    }


def _revision_service(revision: Revision, seen: Observed) -> Object:
    metadata = _metadata(seen, child_name(seen, revision), "server", revision)
    return _service_object(metadata, _pods_of(seen, revision))


def _service(serving: str, seen: Observed) -> Object:
    """The Service that callers know. Its selector is the one place that says which revision serves."""
    metadata = _metadata(seen, seen.key.name, "server")
    return _service_object(metadata, {LABEL_OBJECT: seen.key.name, LABEL_REVISION: serving})


def _service_object(metadata: Object, selector: dict[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "type": "ClusterIP",
            "selector": selector,
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"}],
        },
    }


def _budget(revision: Revision, seen: Observed) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(seen, child_name(seen, revision), "server", revision),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _pods_of(seen, revision)}},
    }


def _pods_of(seen: Observed, revision: Revision) -> dict[str, str]:
    return {LABEL_OBJECT: seen.key.name, LABEL_REVISION: revision.name}

