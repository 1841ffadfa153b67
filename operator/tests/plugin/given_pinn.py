"""Objects as the API server keeps them: in a rollout, rolled back, promoted. What the operator would write, by its own code."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pinn_operator.api.journal import Journal
from pinn_operator.api.resource import PinnDeployment
from pinn_operator.api.revision import content_of, name_of, stored
from pinn_operator.report.certificate import config_map
from tests.given import UID, revision
from tests.report.finished import BEGAN, certified, promoted, rolled_back

Object = dict[str, Any]

ONE, TWO = revision("1.0.0", 1), revision("2.0.0", 2)
NOW = datetime(2026, 1, 2, 3, 10, 5, tzinfo=UTC)


def condition(kind: str, holds: bool, reason: str, message: str) -> Object:
    return {
        "type": kind, "status": str(holds), "reason": reason, "message": message, "observedGeneration": 3,
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }  # fmt: skip


def gate(name: str, verdict: str, evidence: str = "", **more: Any) -> Object:
    found = {"name": name, "verdict": verdict, "limit": "1%", "observed": "0.4%", "events": 240, "evidence": evidence}
    return {key: value for key, value in (found | more).items() if value is not None}


def pinn(version: str = "1.0.0", status: Object | None = None, **spec: Any) -> Object:
    """The object, without the defaults."""
    return {
        "apiVersion": "pinn.dev/v1alpha1",
        "kind": "PinnDeployment",
        "metadata": {
            "name": "pricer", "namespace": "demo", "uid": UID, "resourceVersion": "7", "generation": 3,
            "labels": {}, "annotations": {},
        },
        "spec": {"replicas": 2, "model": {"name": "black-scholes", "version": version}, **spec},
        "status": {"observedGeneration": 3, **(status or {})},
    }  # fmt: skip


SERVES = f"version 1.0.0 (revision {ONE.name}) serves"
STABLE = {"revision": ONE.name, "modelVersion": "1.0.0", "weight": 100, "readyReplicas": 2, "placement": "CPU"}
CANARY = {"revision": TWO.name, "modelVersion": "2.0.0", "weight": 10, "readyReplicas": 2, "placement": "CPU"}
UNDECIDED = (
    "step 1/3: errorRate: 0.4 % of 240 requests to the canary failed (limit 1%, stable 0.4 %); a verdict takes about 300 more "
    "requests, in about 2 min"
)


def settled(**status: Any) -> Object:
    """Version 1.0.0 serves and nothing is under way."""
    conditions = [
        condition("Ready", True, "Serving", SERVES),
        condition("Available", True, "MinimumAvailable", f"2 of 2 replicas of revision {ONE.name} are ready"),
    ]
    return pinn("1.0.0", {"conditions": conditions, "stable": STABLE, **status})


def stepping(**status: Any) -> Object:
    """2.0.0 in its first step, one gate short of evidence."""
    conditions = [
        condition("Ready", True, "Serving", SERVES),
        condition("Reconciling", True, "Step", UNDECIDED),
        condition("Progressing", True, "Step", UNDECIDED),
    ]
    rollout = {
        "step": "1/3",
        "stepStartedAt": "2026-01-02T03:04:45Z",
        "promoteNotBefore": "2026-01-02T03:34:45Z",
        "verdictExpectedAt": "2026-01-02T03:12:05Z",
        "verdict": "Undecided",
        "gates": [
            gate("errorRate", "Undecided", "4.47 of 20"),
            gate("cacheHitRate", "Passing", "31.5 of 20", limit="80% hits", observed="12%"),
            gate("latencyP95", "NoTraffic", "1 of 20", limit="500ms for 95%", observed=None, events=0),
            gate("memory", "Undecided", "0 of 0", limit="800 MiB", observed="312 MiB", events=0),
        ],
    }
    sides = {"stable": STABLE | {"weight": 90, "actualWeight": 91}, "canary": CANARY | {"actualWeight": 9}}
    return pinn("2.0.0", {"conditions": conditions, **sides, "rollout": rollout, **status})


def deleted(obj: Object, *finalizers: str) -> Object:
    """One that is being deleted and not gone: what its status says may be old."""
    gone = {"deletionTimestamp": "2026-01-02T03:09:05Z", "finalizers": list(finalizers)}
    return obj | {"metadata": obj["metadata"] | gone}


def sent_back(**status: Any) -> Object:
    """2.0.0 was rolled back and the spec still asks for it."""
    one = certified(rolled_back())
    said = f"{rolled_back().sentence}; change the spec, or annotate it with pinn.dev/retry={TWO.name}@TOKEN"
    conditions = [
        condition("Ready", False, "RolledBack", said),
        condition("Stalled", True, "RolledBack", said),
        condition("Available", True, "MinimumAvailable", f"2 of 2 replicas of revision {ONE.name} are ready"),
        condition("Progressing", False, "RolledBack", said),
    ]
    told = {
        "rejected": [{"revision": TWO.name, "modelVersion": "2.0.0", "reason": "ErrorRate"}],
        "history": [ended(rolled_back())],
    }
    assert one.sha256 == told["history"][0]["sha256"]
    return pinn("2.0.0", {"conditions": conditions, "stable": STABLE, **told, **status})


def ended(journal: Journal) -> Object:
    """The row of the history, with the report's name and hash."""
    one = certified(journal)
    return {
        "revision": journal.canary.revision, "modelVersion": journal.canary.model_version, "outcome": journal.ending,
        "at": journal.ended_at.strftime("%Y-%m-%dT%H:%M:%SZ"), "report": one.name, "sha256": one.sha256,
    }  # fmt: skip


def report_of(journal: Journal) -> Object:
    """The ConfigMap of a rollout that is over."""
    return config_map(certified(journal), {"namespace": "demo", "labels": {}})


def records() -> list[Object]:
    """The ControllerRevisions of 1.0.0 and 2.0.0."""
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": f"pricer-{one.name}", "namespace": "demo", "creationTimestamp": "2026-01-02T03:00:00Z",
                "labels": {"pinn.dev/deployment": "pricer"},
            },
            "revision": one.number,
            "data": json.loads(json.dumps(stored(one))),
        }
        for one in (ONE, TWO)
    ]  # fmt: skip


def rollout_that_met_all(**more: Any) -> Journal:
    return replace(promoted(), ended=BEGAN + 192.25, **more)


def revision_wanted(obj: Object) -> str:
    return name_of(content_of(PinnDeployment.model_validate(obj).spec))
