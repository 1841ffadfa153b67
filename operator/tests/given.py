"""Observations to decide and report from: one object called `demo/pricer`, its versions and how they are doing."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pinn_operator.api.names import FINALIZER
from pinn_operator.api.observed import Observed, Workload
from pinn_operator.api.resource import PinnDeployment
from pinn_operator.api.revision import Revision, content_of, name_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
UID = "0a1b2c3d-0000-4000-8000-000000000001"
IMAGE = "inference:1"
OWNED: dict[str, Any] = {"metadata": {"ownerReferences": [{"uid": UID, "controller": True}]}}
"""A child of the object, as far as deletion goes by it."""


def spec_of(version: str, **more: Any) -> dict[str, Any]:
    """A spec as a user writes it."""
    return {"model": {"name": "black-scholes", "version": version}, **more}


def resource(
    version: str = "1.0.0",
    *,
    status: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    **spec: Any,
) -> PinnDeployment:
    """The object as the API server keeps it."""
    base = {"name": "pricer", "namespace": "demo", "uid": UID, "resourceVersion": "7", "generation": 3}
    return PinnDeployment.model_validate(
        {
            "metadata": base | {"finalizers": [FINALIZER]} | dict(metadata or {}),
            "spec": spec_of(version, **spec),
            "status": dict(status or {}),
        }
    )


def revision(version: str, number: int = 1, *, written_down: bool = True, **spec: Any) -> Revision:
    """The revision of that version; on record it has a template."""
    content = content_of(resource(version, **spec).spec)
    template = {"metadata": {}, "spec": {"containers": [{"name": "server", "image": IMAGE}]}} if written_down else None
    return Revision(name_of(content), number, content, IMAGE, template, NOW if written_down else None)


def observed(
    of: PinnDeployment | None = None,
    *,
    revisions: Iterable[Revision] = (),
    workloads: Mapping[str, Workload] | None = None,
    selected: str | None = None,
    endpoints: Iterable[str] = (),
    **more: Any,
) -> Observed:
    """One reading; every ready pod is an endpoint unless it is said otherwise."""
    return Observed(
        **{
            "now": NOW,
            "resource": of or resource(),
            "server_image": IMAGE,
            "revisions": {one.name: one for one in revisions},
            "workloads": workloads or {},
            "selected": selected,
            "endpoints": frozenset(endpoints),
            "behind": {name: workload.ready for name, workload in (workloads or {}).items()},
            **more,
        }
    )


def ready(count: int, pods: int | None = None, **more: Any) -> Workload:
    """A workload with so many ready pods."""
    return Workload(pods=count if pods is None else pods, ready=count, **more)


PROMOTE_GATES = (
    "errorRate",
    "cacheHitRate",
    "fallbackRate",
    "latencyP95",
    "latencyP99",
    "memoryGrowthPerHour",
    "gpuUtilization",
    "physicsViolationRate",
)

ALL_OFF: dict[str, dict[str, str]] = {
    "promote": dict.fromkeys(PROMOTE_GATES, "Off"),
    "abort": {"errorRate": "Off", "latencyP95": "Off"},
}
"""Service levels of an object that is rolled out without being judged."""

AT_ONCE = [{"weight": 100, "hold": "0s"}]
"""The steps of a rollout in one go."""

GATEWAY = {"gateway": {"parentRefs": [{"name": "web"}]}}


def only(**promote: str) -> dict[str, Any]:
    """Service levels of which these gates alone are on."""
    return {"promote": {**ALL_OFF["promote"], **promote}, "abort": ALL_OFF["abort"]}
