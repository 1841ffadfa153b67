"""The pod that serves one revision: rendered once, when the revision is new, and kept as it was then."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from pinn_operator.api.location import location_of
from pinn_operator.api.names import LABEL_OBJECT, LABEL_REVISION, secret_name
from pinn_operator.api.revision import Revision
from pinn_operator.api.spec import Spec
from pinn_operator.api.units import seconds
from pinn_operator.build.environment import environment
from pinn_operator.build.gpu import image_for_gpus, on_cpus, on_gpus
from pinn_operator.build.model import init_containers, volume_mounts, volumes
from pinn_operator.build.overlay import overlay

Object = dict[str, Any]

CONTAINER = "server"
PORT, ADMIN_PORT = 8080, 8081
USER = 65532

DRAIN_SECONDS = 10
"""How long a server goes on accepting after SIGTERM: kube-proxy and gateways need that long to stop sending."""

GRACE_SECONDS = 30
"""Between SIGTERM and SIGKILL, at least. A server drains, then waits for what is in flight, then ends its workers."""

ENDING_SECONDS = 15
"""For the last of these, with room."""

START_SECONDS = 120

NODE, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
"""One node, or one zone, should not take all servers with it. Where there is room for them nowhere else they share one."""


def render(revision: Revision, object_name: str, spec: Spec) -> Revision:
    """The revision with its pod templates: the operator's own, and the user's `template` laid over each."""
    image = revision.image if spec.image else image_for_gpus(revision.image)
    template, gpu_template = _template(revision, object_name, spec), None
    if "GPU" in revision.runs_on:
        gpu_template = _template(replace(revision, image=image), object_name, spec, on_gpus(spec.gpu, CONTAINER))
        template = _template(revision, object_name, spec, on_cpus())
    return replace(revision, template=template if "CPU" in revision.runs_on else None, gpu_template=gpu_template)


def _template(revision: Revision, object_name: str, spec: Spec, patch: Object | None = None) -> Object:
    ours = {
        "metadata": {"labels": labels_of(object_name, "server", revision)},
        "spec": _pod_spec(revision, object_name, spec),
    }
    found: Object = overlay(overlay(ours, patch or {}), revision.content.get("template") or {})
    return found


def labels_of(object_name: str, component: str, revision: Revision | None = None) -> dict[str, str]:
    """The recommended labels, and the two that selectors use. No role: a role would re-roll pods when it changes."""
    labels = {
        "app.kubernetes.io/name": "pinn-server",
        "app.kubernetes.io/instance": object_name,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "pinn-operator",
        "app.kubernetes.io/managed-by": "pinn-operator",
        LABEL_OBJECT: object_name,
    }
    if revision is None:
        return labels
    return labels | {"app.kubernetes.io/version": revision.model_version, LABEL_REVISION: revision.name}


def service_account_name(object_name: str) -> str:
    return f"{object_name}-server"


def grace_seconds(spec: Spec) -> int:
    """So long that no answer is cut off which the server would still have given: it waits a second beyond its time limit."""
    return max(GRACE_SECONDS, DRAIN_SECONDS + math.ceil(seconds(spec.limits.timeout)) + 1 + ENDING_SECONDS)


def _pod_spec(revision: Revision, object_name: str, spec: Spec) -> Object:
    return {
        "serviceAccountName": service_account_name(object_name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds(spec),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **_spread({LABEL_OBJECT: object_name, LABEL_REVISION: revision.name}),
        **init_containers(spec.model, _like_every_container(revision, spec)),
        "containers": [_container(revision, spec, secret_name(object_name))],
        **volumes(spec.model),
    }


def _spread(labels: dict[str, str]) -> Object:
    """Over nodes by a spread constraint, over zones by affinity: the scheduler passes over nodes that lack a key of any
    constraint, so one for zones would undo that for nodes where nodes have none."""
    over_nodes = {"maxSkew": 1, "topologyKey": NODE, "whenUnsatisfiable": "ScheduleAnyway"}
    over_zones = {"topologyKey": ZONE, "labelSelector": {"matchLabels": {**labels}}}
    preferred = [{"weight": 100, "podAffinityTerm": over_zones}]
    return {
        "topologySpreadConstraints": [{**over_nodes, "labelSelector": {"matchLabels": {**labels}}}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}},
    }


def _container(revision: Revision, spec: Spec, secret: str) -> Object:
    return {
        "name": CONTAINER,
        **_like_every_container(revision, spec),
        "env": [
            *({"name": name, "value": value} for name, value in (*environment(spec), *_own_environment())),
            {"name": "PINN_SERVER_ADMIN_TOKEN", "valueFrom": {"secretKeyRef": {"name": secret, "key": "token"}}},
        ],
        "ports": [
            {"name": "http", "containerPort": PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"},
        ],
        # Ready is asked every second only until the first yes, so that a start is not rounded up to the next probe.
        "startupProbe": _probe("/v2/health/ready", period=1, failures=START_SECONDS),
        "readinessProbe": _probe("/v2/health/ready", period=5, failures=2),
        "livenessProbe": _probe("/v2/health/live", period=10, failures=3),
        **volume_mounts(location_of(spec.model.uri)),
    }


def _like_every_container(revision: Revision, spec: Spec) -> Object:
    return {
        "image": revision.image,
        "imagePullPolicy": "IfNotPresent",
        "resources": spec.resources.model_dump(mode="json", by_alias=True, exclude_none=True),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _own_environment() -> list[tuple[str, str]]:
    """What the spec does not decide."""
    return [
        ("PINN_SERVER_PORT", str(PORT)),
        ("PINN_SERVER_ADMIN_PORT", str(ADMIN_PORT)),
        ("PINN_SERVER_DRAIN", f"{DRAIN_SECONDS}s"),
        ("PINN_SERVER_LOG_FORMAT", "json"),
    ]


def _probe(path: str, *, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }
