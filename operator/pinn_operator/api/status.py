"""What the operator reports: the status of a PinnDeployment.

Conditions are in kstatus's terms, so `kubectl wait`, Flux and Argo CD read them unaided.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer

from pinn_operator.api.base import Part

Time = Annotated[
    datetime,
    PlainSerializer(
        lambda at: at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), return_type=str, when_used="json-unless-none"
    ),
]
"""A moment; Kubernetes keeps whole seconds."""

Verdict = Literal["Passing", "Failing", "Undecided", "NoTraffic", "NoMetrics", "Frozen"]


class Condition(Part):
    """One condition of the object (metav1.Condition)."""

    type: Annotated[str, Field(max_length=316)] = Field(
        description="What is judged: Ready, Reconciling, Stalled, Available, Progressing, GpuSatisfied or Contested."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    observed_generation: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="The generation of the spec it was judged for."
    )
    last_transition_time: Time = Field(description="When its status last changed.")
    reason: Annotated[str, Field(min_length=1, max_length=1024, pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")] = (
        Field(description="The reason in one word, for programs.")
    )
    message: Annotated[str, Field(max_length=32768)] = Field(description="The reason in a sentence, for people.")


class Side(Part):
    """One revision that has servers."""

    revision: str | None = Field(default=None, description="Name of the revision, as in the names of its children.")
    model_version: str | None = Field(default=None, description="The spec's model.version in it.")
    model_digest: str | None = Field(default=None, description="Digest of the model it serves.")
    weight: int | None = Field(default=None, description="Percentage of the traffic it is meant to get.")
    actual_weight: int | None = Field(default=None, description="Percentage of the traffic it gets, as measured.")
    ready_replicas: int | None = Field(default=None, description="How many of its servers are ready.")
    placement: Literal["GPU", "CPU"] | None = Field(default=None, description="Where its servers run.")


class Gate(Part):
    """How one gate stands in the current step."""

    name: str = Field(description="Name of the gate.")
    limit: str | None = Field(default=None, description="The limit, as the spec says it.")
    observed: str | None = Field(default=None, description="What was observed in this step.")
    events: int | None = Field(default=None, description="How many events that rests on.")
    evidence: str | None = Field(default=None, description="How strong the evidence is, and how strong it must be.")
    verdict: Verdict | None = Field(default=None, description="What follows from it.")


class RolloutStatus(Part):
    """Where a rollout stands; absent outside one."""

    step: str | None = Field(default=None, description='The current step and how many there are, e.g. "2/3".')
    step_started_at: Time | None = Field(default=None, description="When its traffic was in place.")
    promote_not_before: Time | None = Field(default=None, description="When its hold is over.")
    verdict_expected_at: Time | None = Field(
        default=None, description="When the evidence should suffice for a verdict, at the present traffic."
    )
    verdict: Verdict | None = Field(
        default=None,
        description="Passing: every gate has passed. Failing: a limit is breached. Undecided: more evidence is needed. "
        "NoTraffic: the canary gets no requests. NoMetrics: metrics cannot be read. Frozen: stable is sick too.",
    )
    gates: Annotated[tuple[Gate, ...], Field(max_length=64)] = Field(default=(), description="How each gate stands.")


class Rejected(Part):
    """A revision that was rolled back; it is not tried again until the spec changes or a person says retry."""

    revision: str = Field(description="Name of the revision.")
    model_version: str | None = Field(default=None, description="Its model.version.")
    reason: str | None = Field(default=None, description="Why it was rolled back.")
    at: Time | None = Field(default=None, description="When.")


class Finished(Part):
    """A rollout that is over."""

    revision: str = Field(description="Name of the revision.")
    model_version: str | None = Field(default=None, description="Its model.version.")
    outcome: str | None = Field(
        default=None, description="How it ended: Promoted, RolledBack or Superseded (by a newer spec)."
    )
    at: Time | None = Field(default=None, description="When it ended.")
    report: str | None = Field(
        default=None, description="Name of the ConfigMap that holds the certificate or the report."
    )
    sha256: str | None = Field(default=None, description="SHA-256 of that report, in hex.")


class LastHandled(Part):
    """The last requests by a person that were acted upon, each once."""

    promote: str | None = Field(default=None, description="Value of the annotation pinn.dev/promote acted upon last.")
    abort: str | None = Field(default=None, description="Value of the annotation pinn.dev/abort acted upon last.")
    retry: str | None = Field(default=None, description="Value of the annotation pinn.dev/retry acted upon last.")


class Status(Part):
    """What is, as the operator last saw it."""

    observed_generation: Annotated[int, Field(ge=-1)] | None = Field(
        default=None,
        description="The generation of the spec this status speaks of; -1 as long as no operator has looked at the object.",
    )
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = Field(
        default=(),
        description="Ready, Reconciling and Stalled as kstatus defines them; Available, Progressing and GpuSatisfied "
        "beside "
        "them. One that is absent does not hold.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    replicas: int | None = Field(default=None, description="How many servers there are, of all revisions.")
    ready_replicas: int | None = Field(default=None, description="How many of them are ready.")
    selector: str | None = Field(default=None, description="Selects them, for the scale subresource.")
    not_yet_acted_upon: Annotated[tuple[str, ...], Field(max_length=64)] = Field(
        default=(),
        description="Fields of the spec that are accepted but not acted upon yet, by path.",
    )
    stable: Side | None = Field(default=None, description="The revision that was last promoted, or the first one.")
    canary: Side | None = Field(default=None, description="The revision on its way; absent outside a rollout.")
    rollout: RolloutStatus | None = Field(default=None, description="Where the rollout stands; absent outside one.")
    rejected: Annotated[tuple[Rejected, ...], Field(max_length=10)] = Field(
        default=(),
        description="Revisions that were rolled back, the last ten. They are not tried again until the spec changes "
        "or a "
        "person says retry.",
    )
    history: Annotated[tuple[Finished, ...], Field(max_length=10)] = Field(
        default=(), description="Rollouts that are over, the last ten, with their reports."
    )
    last_handled: LastHandled | None = Field(
        default=None, description="The last requests by a person that were acted upon, each once."
    )
