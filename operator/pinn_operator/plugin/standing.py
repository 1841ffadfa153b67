"""How an object stands, from the object alone: what `status` shows and `explain` explains. Pure.

It reads plain dicts and not the types of the resource: they take longer to import than `status` may take to answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pinn_operator.plugin.words import moment, share_of, since

Object = Mapping[str, Any]

GITOPS: Final = {
    "argocd.argoproj.io/instance": "Argo CD",
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
}

HITS: Final = "cacheHitRate"


@dataclass(frozen=True, slots=True)
class Arm:
    """One revision that has servers. `weight` is meant, `measured` is what it gets; None where nobody has counted."""

    role: str
    revision: str
    version: str
    weight: int | None
    measured: int | None
    ready: int
    placement: str


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate. `progress` is how far its evidence is towards what is needed, from 0 to 1; None where it is judged by time."""

    name: str
    verdict: str
    observed: str
    limit: str
    events: int
    evidence: str
    progress: float | None


@dataclass(frozen=True, slots=True)
class Ended:
    """A rollout that is over."""

    at: str
    revision: str
    version: str
    outcome: str
    report: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition that is there."""

    holds: bool
    reason: str
    message: str
    since: str


@dataclass(frozen=True, slots=True)
class Standing:
    """All of it. Times are as Kubernetes writes them. `says` is the operator's own sentence about what is waited for; `seen` the
    generation that the status speaks of, 0 or less as long as no operator has looked; `deleting` since when it is being deleted,
    and `finalizers` what holds it then."""

    namespace: str
    name: str
    deleting: str
    finalizers: tuple[str, ...]
    generation: int
    seen: int
    replicas: int
    autoscaled: bool
    paused: bool
    ready: bool
    reason: str
    says: str
    arms: tuple[Arm, ...]
    step: str
    step_started_at: str
    promote_not_before: str
    verdict_expected_at: str
    verdict: str
    gates: tuple[Gate, ...]
    history: tuple[Ended, ...]
    conditions: Mapping[str, Condition]

    @property
    def canary(self) -> Arm | None:
        return next((arm for arm in self.arms if arm.role == "canary"), None)

    @property
    def stable(self) -> Arm | None:
        return next((arm for arm in self.arms if arm.role == "stable"), None)

    @property
    def outdated(self) -> bool:
        """Whether the status speaks of an earlier spec."""
        return self.seen < self.generation

    @property
    def unseen(self) -> bool:
        """Whether no operator has looked at it at all."""
        return self.seen <= 0


def standing_of(obj: Object) -> Standing:
    """How it stands. A status that is missing, or of another release, leaves gaps and is no error."""
    metadata, spec, status = obj["metadata"], obj.get("spec", {}), obj.get("status", {})
    conditions = {one["type"]: _condition(one) for one in status.get("conditions", ())}
    ready = conditions.get("Ready")
    rollout = status.get("rollout", {})
    deleting = metadata.get("deletionTimestamp", "")
    return Standing(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        deleting=deleting,
        finalizers=tuple(metadata.get("finalizers", ())),
        generation=metadata.get("generation", 0),
        seen=status.get("observedGeneration", 0),
        replicas=spec.get("replicas", 1),
        autoscaled="autoscaling" in spec,
        paused=bool(spec.get("rollout", {}).get("paused")),
        ready=ready is not None and ready.holds and not deleting,
        reason="Deleting" if deleting else ready.reason if ready else "NoStatus",
        says=_says(conditions),
        arms=tuple(_arms(status)),
        step=rollout.get("step", ""),
        step_started_at=rollout.get("stepStartedAt", ""),
        promote_not_before=rollout.get("promoteNotBefore", ""),
        verdict_expected_at=rollout.get("verdictExpectedAt", ""),
        verdict=rollout.get("verdict", ""),
        gates=tuple(_gate(one) for one in rollout.get("gates", ())),
        history=tuple(_ended(one) for one in status.get("history", ())),
        conditions=conditions,
    )


def head_of(found: Standing, now: datetime) -> str:
    """Its state in a few words."""
    if at := moment(found.deleting):
        return f"being deleted {since(at, now)}"
    return "Ready" if found.ready else f"not Ready: {found.reason}"


def _condition(found: Object) -> Condition:
    return Condition(
        holds=found.get("status") == "True",
        reason=found.get("reason", ""),
        message=found.get("message", ""),
        since=found.get("lastTransitionTime", ""),
    )


def _says(conditions: Mapping[str, Condition]) -> str:
    """The sentence that matters most: why it is stuck, what the rollout waits for, what is being done, who serves."""
    for name in ("Stalled", "Progressing", "Reconciling", "Ready"):
        if name in conditions:
            return conditions[name].message
    return "the operator has said nothing about it yet"


def _arms(status: Object) -> Iterator[Arm]:
    for role in ("stable", "canary"):
        if side := status.get(role):
            yield Arm(
                role=role,
                revision=side.get("revision", ""),
                version=side.get("modelVersion", ""),
                weight=side.get("weight", 0),
                measured=side.get("actualWeight"),
                ready=side.get("readyReplicas", 0),
                placement=side.get("placement", ""),
            )


def _gate(found: Object) -> Gate:
    evidence = found.get("evidence", "")
    return Gate(
        name=found["name"],
        verdict=found.get("verdict", ""),
        observed=found.get("observed", ""),
        limit=found.get("limit", ""),
        events=found.get("events", 0),
        evidence=evidence,
        progress=share_of(evidence),
    )


def _ended(found: Object) -> Ended:
    return Ended(
        at=found.get("at", ""),
        revision=found["revision"],
        version=found.get("modelVersion", ""),
        outcome=found.get("outcome", ""),
        report=found.get("report", ""),
        sha256=found.get("sha256", ""),
    )


def seen(gate: Gate) -> str:
    """What was observed. Shares are of what is bad, and the limit of this one gate is of what is good."""
    return f"{gate.observed} missed" if gate.name == HITS and gate.observed else gate.observed


def kept_by(obj: Object) -> str:
    """Which GitOps tool would put a change of the spec back; empty where none is known to."""
    metadata = obj["metadata"]
    marks = {**metadata.get("labels", {}), **metadata.get("annotations", {})}
    return next((tool for mark, tool in GITOPS.items() if mark in marks), "")
