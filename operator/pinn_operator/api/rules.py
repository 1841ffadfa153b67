"""Every rule of the resource, once: as CEL for the API server and as a Python predicate for `pinn-operator validate`.

A rule that existed twice would drift, and then the two would answer differently. Every message names the remedy: a bare
`pattern` would show a regular expression, which tells a person nothing.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from pinn_operator.api.names import MAX_NAME
from pinn_operator.api.units import OFF, quantity, seconds

RULES: Final = "x-rules"
"""The keyword under which a schema node holds its rules until the schema is rendered."""


@dataclass(frozen=True, eq=False)
class Rule:
    """One rule on a node of the schema; `self` is the node, in JSON's names, with its defaults filled in.

    `{self}` and `{self.a.b}` in the message stand for values, on both sides. A rule on the form of a value says in
    `kind` what the form is called.
    """

    cel: str
    holds: Callable[[Any], bool]
    message: str
    field_path: str = ""
    reason: str = ""
    new_objects_only: bool = False
    kind: str = ""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Where the rule annotates a type, its schema carries the rule."""
        return {**(node := handler(core)), RULES: (*node.get(RULES, ()), self)}

    def rendered(self) -> dict[str, Any]:
        """The entry of x-kubernetes-validations."""
        said = {"messageExpression": self._expression()} if "{self" in self.message else {"message": self.message}
        extra = {"fieldPath": self.field_path, "reason": self.reason, "optionalOldSelf": self.new_objects_only}
        return {"rule": self.cel} | said | {key: value for key, value in extra.items() if value}

    def said_of(self, value: Any) -> str:
        """The message for a value that breaks the rule."""
        return _PLACE.sub(lambda match: str(_at(value, match[1])), self.message)

    def as_documented(self) -> str:
        """The message with names instead of values, for the reference page."""
        message = re.sub(r" \({self[^}]*}\)", "", self.message)
        return _PLACE.sub(lambda match: f"`{match[1].removeprefix('self.')}`", message)

    def _expression(self) -> str:
        """CEL for the message; `string()` of a value would have no bound on its length, and so be refused as too costly."""
        places = ", ".join(_PLACE.findall(self.message))
        return f"{_quote(_PLACE.sub('%s', self.message.replace('%', '%%')))}.format([{places}])"


_PLACE: Final = re.compile(r"\{(self(?:\.[A-Za-z0-9]+)*)\}")


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _at(value: Any, path: str) -> Any:
    for name in path.split(".")[1:]:
        value = value[name]
    return value


def text_format(kind: str, pattern: str, message: str) -> Rule:
    """A rule on the form of a string."""
    return Rule(f"self.matches('^({pattern})$')", _form(pattern), message, kind=kind)


def number_format(kind: str, pattern: str, message: str) -> Rule:
    """A rule on the form of a node that is a string or an integer."""
    return Rule(f"string(self).matches('^({pattern})$')", _form(pattern), message, kind=kind)


def _form(pattern: str) -> Callable[[Any], bool]:
    whole = re.compile(pattern)
    return lambda value: whole.fullmatch(str(value)) is not None


# --- Forms of strings ------------------------------------------------------------------------------------------------

_GO_DURATION: Final = r"([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h))+"
_DURATION: Final = rf"[1-9][0-9]{{0,3}}d|{_GO_DURATION}"
_PERCENTAGE: Final = r"(100([.]0{1,4})?|[0-9]{1,2}([.][0-9]{1,4})?)%"
_QUANTITY: Final = r"[0-9]{1,15}([.][0-9]{1,4})?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?"
_BYTES: Final = r"[0-9]{1,15}([.][0-9]{1,4})?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?"
_SUBDOMAIN: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*"

DURATION: Final = text_format("duration", _DURATION, '"{self}" is no duration; write e.g. "30m", "1h30m" or "1d"')
DURATION_OR_OFF: Final = text_format(
    'duration or "Off"',
    f"{OFF}|{_GO_DURATION}",
    '"{self}" is no duration; write e.g. "500ms" or "1h30m" (no days here), or "Off" for no limit',
)
PERCENTAGE: Final = text_format(
    "percentage", _PERCENTAGE, '"{self}" is no percentage from 0% to 100%; write e.g. "1%" or "0.1%"'
)
PERCENTAGE_OR_OFF: Final = text_format(
    'percentage or "Off"',
    f"{OFF}|{_PERCENTAGE}",
    '"{self}" is no percentage from 0% to 100%; write e.g. "1%" or "0.1%", or "Off" for no limit',
)
UTILISATION_OR_OFF: Final = text_format(
    'percentage or "Off"',
    f"{OFF}|[1-9][0-9]{{0,2}}%",
    '"{self}" is no whole percentage from 1% to 999%; write e.g. "80%", or "Off" not to scale on it',
)
QUANTITY: Final = number_format("quantity", _QUANTITY, '"{self}" is no quantity; write e.g. "250m", "2" or "256Mi"')
BYTES: Final = number_format("quantity", _BYTES, '"{self}" is no amount of memory; write e.g. "256Mi" or "1G"')
BYTES_OR_OFF: Final = number_format(
    'quantity or "Off"',
    f"{OFF}|{_BYTES}",
    '"{self}" is no amount of memory; write e.g. "10Mi" or "1G", or "Off" for no limit',
)
LABEL_NAME: Final = text_format(
    "name",
    r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
    '"{self}" is no name; use 1 to 63 lower-case letters, digits and "-", e.g. "black-scholes"',
)
LABEL_VALUE: Final = text_format(
    "label",
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?",
    '"{self}" is no version label; use 1 to 63 letters, digits, ".", "_" and "-", e.g. "1.0.0"',
)
OBJECT_NAME: Final = text_format(
    "name",
    _SUBDOMAIN,
    '"{self}" is no name of an object; use lower-case letters, digits, "-" and ".", e.g. "my-secret"',
)
OBJECT_NAME_OR_EMPTY: Final = text_format(
    "name",
    f"({_SUBDOMAIN})?",
    '"{self}" is no name of an object; use lower-case letters, digits, "-" and ".", or leave it out',
)
HOSTNAME: Final = text_format(
    "host name",
    rf"([*][.])?{_SUBDOMAIN}",
    '"{self}" is no host name; write e.g. "prices.example.com" or "*.example.com"',
)
HEADER: Final = text_format(
    "header name", r"[A-Za-z0-9!#$%&*+.^_|~-]+", '"{self}" is no name of an HTTP header; write e.g. "x-pinn-preview"'
)
EXTENDED_RESOURCE: Final = text_format(
    "resource name",
    rf"{_SUBDOMAIN}/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?",
    '"{self}" is no extended resource; write its domain and name, e.g. "nvidia.com/gpu" or "nvidia.com/mig-1g.10gb"',
)
IMAGE: Final = text_format(
    "image",
    r"[^ \t\r\n]+",
    'image "{self}" is empty or holds spaces; write e.g. "registry.example.com/pinn-server:1.0", or leave it out',
)
DIGEST: Final = text_format(
    "digest",
    r"sha256:[a-f0-9]{64}",
    '"{self}" is no digest; write sha256: and the 64 lower-case hex digits that sha256sum prints',
)
ARTEFACT_URI: Final = text_format(
    "URI",
    r"builtin://|file:///[^ ]+|configmap://[a-z0-9][-a-z0-9.]*|pvc://[a-z0-9][-a-z0-9.]*/[^ ]+"
    r"|https://[^ /]+/[^ ]+|s3://[^ /]+/[^ ]+|oci://[^ /]+/[^ ]+",
    '"{self}" is no address of a model; write builtin://, file:///PATH, configmap://NAME, pvc://CLAIM/PATH, '
    "https://HOST/PATH, s3://BUCKET/KEY or oci://REPOSITORY:TAG",
)
HTTP_URL: Final = text_format(
    "URL",
    r"https?://[^ /?#]+(/[^ ?#]*)?",
    '"{self}" is no http or https URL without ? and #; write e.g. "http://prometheus.monitoring:9090"',
)
BIN_WIDTH: Final = number_format(
    "percentage or number",
    r"([0-9]*[1-9][0-9]*([.][0-9]+)?|[0-9]+[.][0-9]*[1-9][0-9]*)%?",
    '"{self}" is no bin width above 0; write a percentage such as "1%" or an absolute width such as "0.01" (in quotes)',
)

# --- Bounds of one value ---------------------------------------------------------------------------------------------


def _millis(path: str) -> str:
    """CEL for the milliseconds of a duration that may be in days, which CEL's own `duration()` does not know."""
    return f"({path}.endsWith('d') ? int({path}.replace('d', '')) * 86400000 : duration({path}).getMilliseconds())"


def _well_formed(*paths: str) -> str:
    """CEL that is true when all are durations: a malformed one is the other rule's to report."""
    return " && ".join(f"{path}.matches('^({_DURATION})$')" for path in paths)


def _unless(form: str, *paths: str) -> str:
    """CEL that is true when one of these has another form: a value that is "Off" or malformed is not compared."""
    return " || ".join(f"!string({path}).matches('^({form})$')" for path in paths)


def _span(text: str) -> float | None:
    return seconds(text) if DURATION.holds(text) else None


def at_least(least: str, message: str) -> Rule:
    """A duration no shorter than `least`."""

    def holds(value: str) -> bool:
        span = _span(value)
        return span is None or span >= seconds(least)

    return Rule(f"!({_well_formed('self')}) || {_millis('self')} >= {round(seconds(least) * 1000)}", holds, message)


NOT_ZERO: Final = at_least("1ms", '"{self}" is no time at all; write e.g. "10m"')
AT_LEAST_A_SECOND: Final = at_least("1s", '"{self}" is shorter than a second; write at least "1s", e.g. "10s"')
GPU_COUNT: Final = Rule(
    "self >= 1",
    lambda value: bool(value >= 1),
    "{self} GPUs cannot be asked for; set gpu.count to at least 1, or gpu.policy: Never to use none",
)

# --- Rules across fields ---------------------------------------------------------------------------------------------

DIGEST_REQUIRED: Final = Rule(
    "self.uri.startsWith('builtin://') || has(self.digest)",
    lambda model: model["uri"].startswith("builtin://") or "digest" in model,
    "a model from {self.uri} needs its digest; set model.digest to sha256: and the 64 hex digits that sha256sum prints",
    field_path=".digest",
    reason="FieldValueRequired",
)

FORBID_CPU: Final = Rule(
    "!(self.gpu.policy == 'Require' && self.fallback.cpu)",
    lambda spec: not (spec["gpu"]["policy"] == "Require" and spec["fallback"]["cpu"]),
    "gpu.policy Require excludes falling back to the CPU, which fallback.cpu: true (its default) allows; "
    "set fallback.cpu: false, or gpu.policy: Prefer",
    field_path=".fallback.cpu",
)

CUSTOM_NEEDS_PROMETHEUS: Final = Rule(
    "size(self.sla.custom) == 0 || self.metrics.source == 'Prometheus'",
    lambda spec: not spec["sla"]["custom"] or spec["metrics"]["source"] == "Prometheus",
    "sla.custom asks a Prometheus and metrics.source is Pods; set metrics.source: Prometheus with "
    "metrics.prometheus.url, "
    "or remove sla.custom",
    field_path=".sla.custom",
)

PROMETHEUS_NEEDS_URL: Final = Rule(
    "self.source != 'Prometheus' || (has(self.prometheus) && has(self.prometheus.url))",
    lambda metrics: metrics["source"] != "Prometheus" or "url" in metrics.get("prometheus", {}),
    'metrics.source Prometheus needs an address; set metrics.prometheus.url, e.g. "http://prometheus.monitoring:9090", '
    "or metrics.source: Pods",
    field_path=".prometheus.url",
    reason="FieldValueRequired",
)

ONE_ROUTE: Final = Rule(
    "!(has(self.gateway) && has(self.routeRef))",
    lambda traffic: not ("gateway" in traffic and "routeRef" in traffic),
    "traffic.gateway (a route the operator owns) and traffic.routeRef (one you own) exclude each other; remove one of "
    "them",
)

REPLICAS_IN_ORDER: Final = Rule(
    "self.minReplicas <= self.maxReplicas",
    lambda scaling: bool(scaling["minReplicas"] <= scaling["maxReplicas"]),
    "minReplicas ({self.minReplicas}) is above maxReplicas ({self.maxReplicas}); "
    "lower minReplicas or raise maxReplicas",
    field_path=".minReplicas",
)

SCALES_ON_SOMETHING: Final = Rule(
    "self.targetCPU != 'Off' || self.targetInFlight > 0",
    lambda scaling: bool(scaling["targetCPU"] != OFF or scaling["targetInFlight"] > 0),
    "autoscaling has nothing to scale on; set targetCPU, e.g. 80%, or targetInFlight above 0, or remove autoscaling",
    field_path=".targetCPU",
)


def _requests_fit(resources: Mapping[str, Any]) -> bool:
    limits = resources["limits"]
    both = [(value, limits[name]) for name, value in resources["requests"].items() if name in limits]
    return all(not (QUANTITY.holds(a) and QUANTITY.holds(b)) or quantity(a) <= quantity(b) for a, b in both)


REQUESTS_FIT: Final = Rule(
    f"self.requests.all(k, !(k in self.limits) || {_unless(_QUANTITY, 'self.requests[k]', 'self.limits[k]')} || "
    "quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) <= 0)",
    _requests_fit,
    "a resource is requested beyond its limit, so no pod could start; lower it in resources.requests or raise it in "
    "resources.limits",
    field_path=".requests",
)

# --- Steps -----------------------------------------------------------------------------------------------------------

STEPS_PRESENT: Final = Rule(
    "size(self) > 0",
    lambda steps: len(steps) > 0,
    'a rollout needs a step; write at least [{weight: 100, hold: "24h"}], or leave steps out for the default',
)
STEPS_END_AT_100: Final = Rule(
    "size(self) == 0 || self[size(self) - 1].weight == 100",
    lambda steps: not steps or steps[-1]["weight"] == 100,
    'the last step must have weight 100, or the rollout never ends; add {weight: 100, hold: "24h"}',
)


def _rises(steps: list[Mapping[str, Any]]) -> bool:
    weights = [step["weight"] for step in steps]
    return weights == sorted(set(weights))


STEPS_RISE: Final = Rule(
    "self.map(s, s.weight).isSorted() && self.all(s, self.exists_one(t, t.weight == s.weight))",
    _rises,
    "the weights of the steps must rise; put them in rising order without repeats, e.g. 10, 50, 100",
)


def _no_shorter(longer: str, shorter: str) -> bool:
    a, b = _span(longer), _span(shorter)
    return a is None or b is None or a >= b


STEP_MAX_HOLD: Final = Rule(
    f"!has(self.maxHold) || !({_well_formed('self.maxHold', 'self.hold')}) || "
    f"{_millis('self.maxHold')} >= {_millis('self.hold')}",
    lambda step: "maxHold" not in step or _no_shorter(step["maxHold"], step["hold"]),
    "a step cannot be given up before its hold is over; set maxHold to at least its hold",
    field_path=".maxHold",
)
ROLLOUT_MAX_HOLD: Final = Rule(
    f"!has(self.maxHold) || !({_well_formed('self.maxHold')}) || self.steps.all(s, has(s.maxHold) || "
    f"!({_well_formed('s.hold')}) || {_millis('self.maxHold')} >= {_millis('s.hold')})",
    lambda rollout: (
        "maxHold" not in rollout
        or all("maxHold" in step or _no_shorter(rollout["maxHold"], step["hold"]) for step in rollout["steps"])
    ),
    "maxHold ({self.maxHold}) is shorter than the hold of a step that has no maxHold of its own; "
    "set rollout.maxHold to at least the longest hold, or maxHold on the steps",
    field_path=".maxHold",
)

# --- Limits in order: promote is the strictest, rollback the loosest ------------------------------------------------


@dataclass(frozen=True)
class _Scale:
    """How two limits of one kind are compared: in CEL and in Python."""

    form: str
    cel: str
    number: Callable[[str], Any]


def _percent(text: str) -> float:
    return float(text.rstrip("%"))


_RATE: Final = _Scale(_PERCENTAGE, "double({}.replace('%', ''))", _percent)
_TIME: Final = _Scale(_GO_DURATION, "duration({})", seconds)


def _no_looser(scale: _Scale, strict: str, loose: str, *, when_off: str = "") -> Rule:
    """`strict` may not exceed `loose`; a limit that is "Off" or malformed is not compared."""
    a, b = f"self.{strict}", f"self.{loose}"
    guards = [f"!{path}.matches('^({scale.form})$')" for path in (a, b)]
    between = [f"self.{when_off} != '{OFF}'"] if when_off else []
    compared = f"{scale.cel.format(a)} <= {scale.cel.format(b)}"
    form = re.compile(scale.form)

    def holds(node: Any) -> bool:
        strict_value, loose_value = (_at(node, path) for path in (a, b))
        skipped = bool(when_off) and _at(node, f"self.{when_off}") != OFF
        comparable = form.fullmatch(strict_value) and form.fullmatch(loose_value)
        return skipped or not comparable or bool(scale.number(strict_value) <= scale.number(loose_value))

    return Rule(
        " || ".join([*guards, *between, compared]),
        holds,
        f"{strict} ({{{a}}}) is looser than {loose} ({{{b}}}); "
        f'lower {strict}, raise {loose}, or set one of them to "Off"',
        field_path=f".{strict}",
    )


def _grows_no_faster(sla: Mapping[str, Any]) -> bool:
    allowed, rollback = sla["promote"]["memoryGrowthPerHour"], sla["rollback"]["memoryGrowth"]
    span = _span(rollback["for"])
    if span is None or not (BYTES.holds(allowed) and BYTES.holds(rollback["above"])):
        return True
    return float(quantity(allowed)) * span <= float(quantity(rollback["above"])) * 3600.0


# `for` is a reserved word of CEL: unescaped it is found all the same, but its maxLength is not, and the cost has no bound.
_GROWTH: Final = "quantity(string({})).asApproximateFloat()"

CUSTOM_IN_ORDER: Final = _no_looser(_RATE, "promote", "abort")

LIMITS_IN_ORDER: Final = (
    _no_looser(_RATE, "promote.errorRate", "abort.errorRate"),
    _no_looser(_RATE, "abort.errorRate", "rollback.errorRate.above"),
    _no_looser(_RATE, "promote.errorRate", "rollback.errorRate.above", when_off="abort.errorRate"),
    _no_looser(_TIME, "promote.latencyP95", "abort.latencyP95"),
    _no_looser(_TIME, "abort.latencyP95", "rollback.latencyP95.above"),
    _no_looser(_TIME, "promote.latencyP95", "rollback.latencyP95.above", when_off="abort.latencyP95"),
    Rule(
        f"{_unless(_BYTES, 'self.promote.memoryGrowthPerHour', 'self.rollback.memoryGrowth.above')} || "
        f"!({_well_formed('self.rollback.memoryGrowth.__for__')}) || "
        f"{_GROWTH.format('self.promote.memoryGrowthPerHour')} * "
        f"double({_millis('self.rollback.memoryGrowth.__for__')}) <= "
        f"{_GROWTH.format('self.rollback.memoryGrowth.above')} * 3600000.0",
        _grows_no_faster,
        "promote.memoryGrowthPerHour lets memory grow faster than rollback.memoryGrowth does; lower "
        'promote.memoryGrowthPerHour, raise rollback.memoryGrowth.above, or set one of them to "Off"',
        field_path=".promote.memoryGrowthPerHour",
    ),
)

# --- The object itself -----------------------------------------------------------------------------------------------

NAME_FITS: Final = Rule(
    f"oldSelf.hasValue() || size(self.metadata.name) <= {MAX_NAME}",
    lambda root: len(root["metadata"]["name"]) <= MAX_NAME,
    f"the name is longer than {MAX_NAME} characters, and its children's names add a revision to it; shorten "
    f"metadata.name",
    field_path=".metadata.name",
    new_objects_only=True,
)
NAME_IS_A_LABEL: Final = Rule(
    "oldSelf.hasValue() || self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    lambda root: re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", root["metadata"]["name"]) is not None,
    'a Service gets the same name; in metadata.name use lower-case letters, digits and "-", begin with a letter, no '
    "dots",
    field_path=".metadata.name",
    new_objects_only=True,
)
