"""What a user may ask for: the spec of a PinnDeployment, with every default and the words `kubectl explain` shows.

A description says what the field means and what its absence means; the generator adds the default itself.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from pinn_operator.api import rules as r
from pinn_operator.api.base import (
    BinWidth,
    Bytes,
    Duration,
    FreeForm,
    Interval,
    LatencyLimit,
    MemoryLimit,
    Name,
    Part,
    Percentage,
    Quantity,
    RateLimit,
    Timeout,
    Utilisation,
)

Count = Annotated[int, Field(ge=1, le=1_000_000)]


# --- What is served --------------------------------------------------------------------------------------------------


class Credentials(Part):
    """Where the key to the artefact is kept."""

    secret_name: Name = Field(
        description="Name of a Secret in the object's own namespace. For https it holds `token` or `username` and "
        "`password`, for s3 `accessKeyId`, `secretAccessKey`, `region` and `endpoint`, for oci a `.dockerconfigjson`; and "
        "`ca.crt` where a certificate is of an authority of one's own."
    )


class Model(Part):
    """The model to serve. Changing any of its fields makes a new revision, which is rolled out."""

    rules = (r.DIGEST_REQUIRED,)

    name: Annotated[str, Field(max_length=63), r.LABEL_NAME] = Field(
        description='Name of the model, e.g. "black-scholes". Clients find it under this name on the wire.'
    )
    version: Annotated[str, Field(max_length=63), r.LABEL_VALUE] = Field(
        description='A label of your choice, e.g. "1.0.0". Two versions are two revisions: to roll out a new model, '
        "change this."
    )
    uri: Annotated[str, Field(max_length=1024), r.ARTEFACT_URI] = Field(
        default="builtin://",
        description="Where the artefact is: builtin:// (shipped in the server image), file:///PATH (a folder in the server "
        "image), configmap://NAME, pvc://CLAIM/PATH, https://HOST/PATH, s3://BUCKET/KEY or oci://HOST/REPOSITORY:TAG. The last "
        "three are fetched before the server starts.",
    )
    digest: Annotated[str, Field(max_length=71), r.DIGEST] | None = Field(
        default=None,
        description='Digest of the artefact: "sha256:" and 64 hex digits; for a folder, the one that its manifest.json '
        "states. It is checked before anything in the artefact is parsed. Required unless uri is builtin://.",
    )
    credentials: Credentials | None = Field(
        default=None, description="How to read a private artefact by https, s3 or oci. Absent: without credentials."
    )


class WarmUp(Part):
    """How the cache of a new revision is filled before it gets traffic."""

    from_: Literal["Stable", "Synthetic", "None"] = Field(
        default="Stable",
        alias="from",
        description="Stable: the hottest inputs of the stable revision, given to each server of the new one before its first "
        "request; for a first revision the same as Synthetic. Synthetic: inputs drawn from the model's own ranges. None: "
        "the cache starts cold.",
    )
    keys: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        default=1000, description="How many inputs to evaluate before serving."
    )


class Cache(Part):
    """The cache of answers in each server. Changing it makes a new revision."""

    size: Annotated[int, Field(ge=0, le=100_000_000)] = Field(
        default=100_000, description="How many answers one server keeps; 0 turns the cache off, and its gate with it."
    )
    max_bytes: Bytes = Field(
        default="256Mi", description="How much memory the answers of one server may take, whatever their number."
    )
    bin_widths: Annotated[dict[str, BinWidth], Field(max_length=64)] = Field(
        default={},
        description='How coarsely inputs are rounded to find an answer, by the name of the input: "1%" is relative to '
        "the "
        'input, "0.01" (in quotes) is absolute. An input left out keeps the model\'s own width.',
    )
    warm_up: WarmUp = Field(
        default=WarmUp(), description="How the cache of a new revision is filled before it gets traffic."
    )


class Gpu(Part):
    """Where servers run. Changing it makes a new revision."""

    policy: Literal["Never", "Prefer", "Require"] = Field(
        default="Never",
        description="Never: on CPUs. Prefer: on a GPU if one is free, else on CPUs. Require: on a GPU or not at all; "
        "it "
        "needs fallback.cpu: false.",
    )
    resource: Annotated[str, Field(max_length=253), r.EXTENDED_RESOURCE] = Field(
        default="nvidia.com/gpu",
        description='The extended resource a GPU is asked for by; a slice works too, e.g. "nvidia.com/mig-1g.10gb".',
    )
    count: Annotated[int, Field(le=64), r.GPU_COUNT] = Field(default=1, description="How many GPUs one server gets.")
    patience: Duration = Field(
        default="2m",
        description="With policy Prefer: how long a GPU server may stay unschedulable before CPU servers take its "
        "place. With Require: how long stable may lack a GPU before a rollout beside it is given up.",
    )
    runtime_class_name: Annotated[str, Field(max_length=253), r.OBJECT_NAME_OR_EMPTY] = Field(
        default="", description="RuntimeClass of GPU servers. Empty: the cluster's own."
    )


class Fallback(Part):
    """What answers when the first choice cannot. Changing it makes a new revision."""

    cpu: bool = Field(
        default=True,
        description="Whether the CPU answers when the GPU fails. With gpu.policy Require it must be false.",
    )
    solver: bool = Field(
        default=True,
        description="Whether the problem's reference solver answers when the model cannot: slower, and right.",
    )


class Limits(Part):
    """What one server takes on. Changing it makes a new revision."""

    timeout: Timeout = Field(default="1s", description="How long a request may take before it is given up.")
    concurrency: Count = Field(default=64, description="How many requests one server works on at once.")
    queue: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        default=256, description="How many more may wait; beyond that a request is answered 429 with Retry-After."
    )
    restart_above_memory: Percentage = Field(
        default="90%",
        description="Share of resources.limits.memory above which a server has itself restarted: its liveness probe "
        "fails. 0%, or no memory limit: never.",
    )


class Resources(Part):
    """What each server asks of its node. Changing it makes a new revision."""

    rules = (r.REQUESTS_FIT,)

    requests: Annotated[dict[str, Quantity], Field(max_length=16)] = Field(
        default={"cpu": "250m", "memory": "256Mi"},
        description="What is reserved for a server, by resource. Given, it replaces the default as a whole.",
    )
    limits: Annotated[dict[str, Quantity], Field(max_length=16)] = Field(
        default={"memory": "1Gi"},
        description="What a server may not exceed, by resource. Given, it replaces the default as a whole. GPUs are "
        "not "
        "listed here: see gpu.",
    )


# --- How a new revision takes over -----------------------------------------------------------------------------------


class Step(Part):
    """One step of a rollout."""

    rules = (r.STEP_MAX_HOLD,)

    weight: Annotated[int, Field(ge=1, le=100)] = Field(
        description="Percentage of the traffic the new revision gets in this step. Weights rise, and the last one is "
        "100."
    )
    hold: Duration = Field(
        description='How long the step lasts at least, e.g. "30m" or "1d". It ends when the time is over and every '
        "gate "
        "has passed. The hold of the last step is the bake: the old revision stands by until it is over."
    )
    max_hold: Duration | None = Field(
        default=None,
        description="How long to wait for a verdict at most; what then happens, rollout.whenUndecided says. Absent: "
        "rollout.maxHold, or else four times the hold; progressDeadline where the hold is 0s.",
    )
    approval: Literal["None", "Required"] = Field(
        default="None",
        description="Required: when the gates have passed, the step still waits for a person (annotation "
        "pinn.dev/promote).",
    )


class Rollout(Part):
    """How a new revision takes over from the stable one. Changing it rolls nothing out."""

    rules = (r.ROLLOUT_MAX_HOLD,)

    steps: Annotated[tuple[Step, ...], Field(max_length=20), r.STEPS_PRESENT, r.STEPS_END_AT_100, r.STEPS_RISE] = Field(
        default=(Step(weight=10, hold="30m"), Step(weight=50, hold="1h"), Step(weight=100, hold="24h")),
        description="The shares of traffic on the way to a new revision, and how long each is held. At weight 100 the "
        "bake "
        "begins; the revision is promoted at its end.",
    )
    max_hold: Duration | None = Field(
        default=None,
        description="How long a step waits for a verdict at most, for steps that do not say it themselves. Absent: "
        "four "
        "times the hold of the step.",
    )
    when_undecided: Literal["Pause", "RollBack"] = Field(
        default="Pause",
        description="What happens when a step has no verdict by then. Pause: the weight stays, and a person decides. "
        "RollBack: the traffic returns to stable. Silence never promotes.",
    )
    progress_deadline: Timeout = Field(
        default="10m", description="How long the servers of a revision may take to become ready before it has failed."
    )
    rollback_within: Timeout = Field(
        default="5m",
        description="How soon all traffic must be back on stable after a breach. A rollout that could not keep this "
        "(stable "
        "not retained and slow to load, say) is refused with a condition before it begins.",
    )
    retain_stable: Literal["Full", "None"] = Field(
        default="Full",
        description="What is kept of the stable revision through the bake. Full: all of its servers, so a rollback is "
        "one "
        "change of weight. None: nothing, so a rollback starts servers first.",
    )
    paused: bool = Field(
        default=False,
        description="Holds the weight where it is. The gates still protect: a breach rolls back all the same.",
    )


# --- Service levels --------------------------------------------------------------------------------------------------


class Promote(Part):
    """What a step must prove before the next one: the strictest limits."""

    error_rate: RateLimit = Field(
        default="1%", description='Largest share of failed requests. "Off" switches the gate off.'
    )
    cache_hit_rate: RateLimit = Field(
        default="80%", description='Smallest share of answers from the cache. "Off" switches the gate off.'
    )
    fallback_rate: RateLimit = Field(
        default="10%", description='Largest share of answers by a fallback. "Off" switches the gate off.'
    )
    latency_p95: LatencyLimit = Field(
        default="500ms", description='95 of 100 answers must be faster. "Off" switches the gate off.'
    )
    latency_p99: LatencyLimit = Field(
        default="1s", description='99 of 100 answers must be faster. "Off" switches the gate off.'
    )
    memory: MemoryLimit | None = Field(
        default=None,
        description='Largest resident memory of a server, its cache aside, e.g. "800Mi". Absent or "Off": no such gate.',
    )
    memory_growth_per_hour: MemoryLimit = Field(
        default="10Mi",
        description='How fast the memory of a server may grow, its cache aside, per hour. "Off" switches the gate off.',
    )
    gpu_utilization: RateLimit = Field(
        default="80%",
        description='Largest share of the time a GPU may be busy; without GPUs it does not apply. "Off" switches the '
        "gate off.",
    )
    physics_violation_rate: RateLimit = Field(
        default="0.1%",
        description="Largest share of answers that break the equation or an invariant by more than the model's "
        "tolerance. "
        '"Off" switches the gate off.',
    )


class Abort(Part):
    """What ends a step at once and returns the traffic to stable."""

    error_rate: RateLimit = Field(
        default="5%", description='Share of failed requests above which the rollout ends. "Off" switches the gate off.'
    )
    latency_p95: LatencyLimit = Field(
        default="2s",
        description='95th percentile of the latency above which the rollout ends. "Off" switches the gate off.',
    )


class SustainedRate(Part):
    """A share of failed requests, kept up for some time."""

    above: RateLimit = Field(default="10%", description='The share of failed requests. "Off" switches the gate off.')
    for_: Timeout = Field(default="5m", alias="for", description="How long it must last.")


class SustainedLatency(Part):
    """A latency, kept up for some time."""

    above: LatencyLimit = Field(
        default="5s", description='The 95th percentile of the latency. "Off" switches the gate off.'
    )
    for_: Timeout = Field(default="10m", alias="for", description="How long it must last.")


class Unavailable(Part):
    """No server ready, for some time."""

    for_: LatencyLimit = Field(
        default="2m", alias="for", description='How long no server may be ready. "Off" switches the gate off.'
    )


class SustainedGrowth(Part):
    """A growth of memory within some time."""

    above: MemoryLimit = Field(
        default="100Mi", description='By how much the memory of a server grows. "Off" switches the gate off.'
    )
    for_: Timeout = Field(default="1h", alias="for", description="Within which time; a day at most is looked at.")


class Rollback(Part):
    """Hard limits: crossed for the time given, they return the traffic to stable in any step and through the bake."""

    error_rate: SustainedRate = Field(default=SustainedRate(), description="Failed requests, kept up for some time.")
    latency_p95: SustainedLatency = Field(
        default=SustainedLatency(), description="Slow answers, kept up for some time."
    )
    unavailable: Unavailable = Field(default=Unavailable(), description="No server ready, for some time.")
    memory_growth: SustainedGrowth = Field(default=SustainedGrowth(), description="Growth of memory within some time.")


class CustomGate(Part):
    """A gate of your own: two PromQL counters, the bad events and all of them."""

    rules = (r.CUSTOM_IN_ORDER,)

    name: Annotated[str, Field(max_length=63), r.LABEL_NAME] = Field(
        description="Name of the gate, unique in the list; the status shows it."
    )
    bad: Annotated[str, Field(min_length=1, max_length=2048)] = Field(
        description="PromQL of the counter of bad events, one series for each pod. {{revision}} stands for the "
        "revision."
    )
    total: Annotated[str, Field(min_length=1, max_length=2048)] = Field(
        description="PromQL of the counter of all events, one series for each pod. {{revision}} stands for the "
        "revision."
    )
    promote: RateLimit = Field(
        default="1%", description='Largest share of bad events with which a step passes. "Off" switches it off.'
    )
    abort: RateLimit = Field(
        default="5%", description='Share of bad events above which the rollout ends. "Off" switches it off.'
    )


class Sla(Part):
    """The service levels that gate a rollout. Changing them rolls nothing out."""

    rules = r.LIMITS_IN_ORDER

    promote: Promote = Field(
        default=Promote(), description="What a step must prove before the next one: the strictest limits."
    )
    abort: Abort = Field(default=Abort(), description="What ends a rollout and returns the traffic to stable.")
    rollback: Rollback = Field(
        default=Rollback(),
        description="Hard limits: crossed for the time given, they return the traffic to stable without a verdict.",
    )
    evidence: Literal["Live", "LiveOrShadow"] = Field(
        default="LiveOrShadow",
        description="Live: only users' requests count for errors and latency. LiveOrShadow: where traffic is thin, replayed "
        "requests count too; users' own can still keep a gate from passing. Hits and fallbacks are those of users wherever "
        "users ask.",
    )
    custom: Annotated[tuple[CustomGate, ...], Field(max_length=16)] = Field(
        default=(),
        description="Gates of your own; they need metrics.source Prometheus.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


# --- Traffic, metrics, scale -----------------------------------------------------------------------------------------


class ParentRef(Part):
    """A Gateway the route attaches to."""

    name: Name = Field(description="Name of the Gateway.")
    namespace: Name | None = Field(default=None, description="Its namespace. Absent: the object's own.")
    section_name: Name | None = Field(default=None, description="Its listener. Absent: every listener that allows it.")
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None, description="Port of the listener. Absent: any."
    )


class Preview(Part):
    """A way to the canary for testers, whatever its weight."""

    header: Annotated[str, Field(max_length=64), r.HEADER] = Field(
        description='Name of a request header, e.g. "x-pinn-preview": a request that carries it with the value '
        '"canary" is '
        "answered by the canary."
    )


class Gateway(Part):
    """An HTTPRoute (Gateway API) that the operator owns."""

    parent_refs: Annotated[tuple[ParentRef, ...], Field(min_length=1, max_length=8)] = Field(
        description="The Gateways the route attaches to."
    )
    hostnames: Annotated[tuple[Annotated[str, Field(max_length=253), r.HOSTNAME], ...], Field(max_length=16)] = Field(
        default=(), description="Host names the route answers to. Empty: all the Gateway lets through."
    )
    preview: Preview | None = Field(
        default=None, description="A way to the canary for testers, whatever its weight. Absent: none."
    )


class RouteRef(Part):
    """An HTTPRoute that you own; the operator changes nothing but the weights of its backends."""

    name: Name = Field(description="Name of the HTTPRoute, in the object's own namespace.")


class Traffic(Part):
    """How the shares of traffic are made. Changing it rolls nothing out."""

    rules = (r.ONE_ROUTE,)

    gateway: Gateway | None = Field(
        default=None,
        description="A route of the Gateway API that the operator owns: shares are exact. Absent (and no routeRef): "
        "shares "
        "are made by how many servers of each revision stand behind the Service, so they are approximate.",
    )
    route_ref: RouteRef | None = Field(
        default=None,
        description="A route that you own, instead of gateway: the operator changes only the weights in it. Absent: "
        "none.",
    )
    allow_coarse: bool = Field(
        default=False,
        description="Without a gateway: go on although the smallest share that so few servers can make is more than "
        "twice "
        "the one asked for. False: the rollout waits and says so.",
    )


class Prometheus(Part):
    """A Prometheus to read metrics from."""

    url: Annotated[str, Field(max_length=1024), r.HTTP_URL] | None = Field(
        default=None,
        description='Address of the Prometheus, e.g. "http://prometheus.monitoring:9090". Required with source '
        "Prometheus.",
    )
    bearer_token_secret: Name | None = Field(
        default=None,
        description="Name of a Secret in the object's own namespace whose key `token` is sent along. Absent: none is "
        "sent.",
    )


class Metrics(Part):
    """Where the evidence comes from. Changing it rolls nothing out."""

    rules = (r.PROMETHEUS_NEEDS_URL,)

    source: Literal["Pods", "Prometheus"] = Field(
        default="Pods",
        description="Pods: the operator reads each server's metrics itself; nothing else is needed. Prometheus: it "
        "asks one.",
    )
    interval: Interval = Field(default="10s", description="How often the metrics are read; at least 1s.")
    prometheus: Prometheus | None = Field(
        default=None, description="The Prometheus to ask. Absent: none; source Prometheus needs it."
    )


class Autoscaling(Part):
    """A HorizontalPodAutoscaler for each revision; `replicas` then says how many servers there are at first."""

    rules = (r.REPLICAS_IN_ORDER, r.SCALES_ON_SOMETHING)

    min_replicas: Annotated[int, Field(ge=1, le=1000)] = Field(default=1, description="Fewest servers of a revision.")
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = Field(default=10, description="Most servers of a revision.")
    target_cpu: Utilisation = Field(
        default="80%",
        alias="targetCPU",
        description="CPU use to aim for, as a share of resources.requests.cpu; it may exceed 100%. "
        '"Off": not scaled on it.',
    )
    target_in_flight: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        default=32,
        description="Requests at work in each server to aim for; it needs a metrics adapter that serves "
        "pinn_requests_in_flight, and waits where there is none. 0: not scaled on it.",
    )


class Spec(Part):
    """What is wanted: a model, how it is served, and how a new version of it takes over."""

    rules = (r.FORBID_CPU, r.CUSTOM_NEEDS_PROMETHEUS)

    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1,
        description="How many servers share the traffic. With autoscaling only how many there are at first, within its bounds; "
        "0 switches the object off in either case.",
    )
    model: Model = Field(description="The model to serve. Changing it makes a new revision, which is rolled out.")
    cache: Cache = Field(
        default=Cache(), description="The cache of answers in each server. Changing it makes a new revision."
    )
    gpu: Gpu = Field(default=Gpu(), description="Whether servers run on GPUs. Changing it makes a new revision.")
    fallback: Fallback = Field(
        default=Fallback(), description="What answers when the first choice cannot. Changing it makes a new revision."
    )
    limits: Limits = Field(default=Limits(), description="What one server takes on. Changing it makes a new revision.")
    resources: Resources = Field(
        default=Resources(), description="What each server asks of its node. Changing it makes a new revision."
    )
    rollout: Rollout = Field(
        default=Rollout(),
        description="How a new revision takes over from the stable one. Changing it rolls nothing out.",
    )
    sla: Sla = Field(
        default=Sla(),
        description='The service levels that gate a rollout. "Off" switches a gate off (null would bring the default '
        "back). "
        "Changing them rolls nothing out.",
    )
    traffic: Traffic = Field(
        default=Traffic(), description="How the shares of traffic are made. Changing it rolls nothing out."
    )
    metrics: Metrics = Field(
        default=Metrics(), description="Where the evidence comes from. Changing it rolls nothing out."
    )
    autoscaling: Autoscaling | None = Field(
        default=None,
        description="A HorizontalPodAutoscaler for each revision; replicas then says how many servers there are at first. "
        "Absent: none.",
    )
    image: Annotated[str, Field(max_length=512), r.IMAGE] | None = Field(
        default=None,
        description="Image of the server. Absent: that of the operator's release when the revision was made. Changing "
        "it "
        "makes a new revision.",
    )
    template: Annotated[dict[str, Any], FreeForm("metadata", "spec")] = Field(
        default={},
        description="Laid over the pod template the operator renders: a JSON merge patch with metadata and spec, "
        "containers matched by name (the server's is `server`). Unknown fields are kept, so a typo is found only when "
        "the "
        "pod is tried. Changing it makes a new revision.",
    )
