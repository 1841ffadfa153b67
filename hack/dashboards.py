"""The two Grafana dashboards as tables of panels: title, unit, what is asked and what each line is called.

JSON of a dashboard is hundreds of lines of which ten are decisions. They are here; hack/monitoring.py writes the JSON from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

SERVERS: Final = 'namespace=~"$namespace", pinndeployment=~"$pinndeployment"'
LIVE: Final = f'{SERVERS}, source="live"'
"""Calls of users; warm-up, replays and probes are counted apart."""
WIDE, HIGH, ROW = 8, 8, 24


@dataclass(frozen=True)
class Panel:
    """A graph. `lines` are (what is asked, what the line is called)."""

    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]
    text: str = ""
    most: float | None = None


@dataclass(frozen=True)
class Dashboard:
    """`series` is a metric that every object on it has: the choice of namespaces and objects is read from its labels."""

    uid: str
    title: str
    text: str
    series: str
    panels: tuple[Panel, ...]


def rate(metric: str, labels: str, *by: str) -> str:
    """Events a second, summed."""
    return f"sum by ({', '.join(by)}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def quantile(share: float, metric: str, labels: str, *by: str) -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', labels, *by, 'le')})"


def of_objects(metric: str, *more: str) -> str:
    """A series of the operator about each object."""
    selected = ", ".join((SERVERS, *more))
    return f"pinn_operator_object_{metric}{{{selected}}}"


def once(expression: str, *by: str) -> str:
    """One value for each, though two jobs of a Prometheus may read the same operator."""
    return f"max by ({', '.join(by)}) ({expression})"


REVISION: Final = ("namespace", "pinndeployment", "revision")
OBJECT: Final = "{{namespace}}/{{pinndeployment}}"
BY_REVISION: Final = f"{OBJECT} {{{{revision}}}}"
OBJECTS: Final = ("namespace", "pinndeployment")
REPLICA: Final = ("namespace", "pod")
"""By which labels an object is told from the others, and a replica of the operator."""
HITS: Final = rate("pinn_cache_hits_total", LIVE, *REVISION)
MISSES: Final = rate("pinn_cache_misses_total", LIVE, *REVISION)
CALLS: Final = rate("pinn_requests_total", LIVE, *REVISION)
BAD: Final = rate("pinn_requests_total", LIVE + ', outcome=~"error|overloaded"', *REVISION)
LATENCY: Final = "pinn_prediction_latency_seconds"
SHARES: Final = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))

SERVER: Final = Dashboard(
    "pinn-server",
    "PINN servers",
    "What users of the models get: calls, errors, latency, cache, fallbacks, physics. Lines are by revision during a rollout.",
    "pinn_model_info",
    (
        Panel("Calls by revision", "reqps", ((CALLS, BY_REVISION),), "Calls of users; one call may carry many items."),
        Panel(
            "Errors",
            "percentunit",
            ((f"{BAD} / {CALLS}", BY_REVISION),),
            "Share of calls answered 5xx or 429. PINNErrorRateCritical: above 10 % for 5 minutes.",
        ),
        Panel(
            "Latency, 95th percentile by revision",
            "s",
            ((quantile(0.95, LATENCY, LIVE, *REVISION), BY_REVISION),),
            "PINNLatencyP95High: above 2 s for 5 minutes.",
        ),
        Panel(
            "Latency percentiles by method",
            "s",
            tuple((quantile(share, LATENCY, LIVE, "method"), f"{name} {{{{method}}}}") for share, name in SHARES),
            "cache: from a bin evaluated before; model: evaluated now; solver: the reference solver; none: no answer in time.",
        ),
        Panel(
            "Cache hit rate",
            "percentunit",
            ((f"{HITS} / ({HITS} + {MISSES})", BY_REVISION),),
            "PINNCacheHitRateLow: below 70 % for 10 minutes.",
            1.0,
        ),
        Panel(
            "Hits against misses",
            "reqps",
            ((rate("pinn_cache_hits_total", LIVE), "hits"), (rate("pinn_cache_misses_total", LIVE), "misses")),
        ),
        Panel("Cache size", "short", ((f"pinn_cache_size{{{SERVERS}}}", "{{pod}}"),), "Entries."),
        Panel(
            "Cache evictions",
            "ops",
            ((rate("pinn_cache_evictions_total", SERVERS, "pod"), "{{pod}}"),),
            "Many, with a low hit rate: the cache is too small for what is asked.",
        ),
        Panel(
            "Methods",
            "ops",
            ((rate("pinn_predictions_total", LIVE, "method"), "{{method}}"),),
            "Items by how they were answered.",
        ),
        Panel(
            "Fallbacks by reason",
            "reqps",
            ((rate("pinn_fallback_total", LIVE, "reason"), "{{reason}}"),),
            "A call with two reasons counts under both.",
        ),
        Panel(
            "Fallback rate",
            "percentunit",
            ((f"{rate('pinn_fallback_calls_total', LIVE, *REVISION)} / {CALLS}", BY_REVISION),),
            "PINNFallbackRateHigh: above 20 % for 10 minutes.",
        ),
        Panel(
            "Physics violations",
            "ops",
            (
                (
                    rate("pinn_physics_violations_total", SERVERS, *REVISION, "invariant"),
                    f"{BY_REVISION} {{{{invariant}}}}",
                ),
            ),
            "Answers of the model beyond its tolerance. They are not sent. PINNPhysicsViolations: any.",
        ),
        Panel(
            "Calls by outcome",
            "reqps",
            ((rate("pinn_requests_total", LIVE, "outcome"), "{{outcome}}"),),
            "refused: the caller's mistake (4xx); overloaded: 429; error: 5xx.",
        ),
        Panel(
            "Errors by type",
            "reqps",
            ((rate("pinn_prediction_errors_total", LIVE, "error_type"), "{{error_type}}"),),
            "Valid questions of users left without an answer.",
        ),
        Panel(
            "Event-loop lag, 99th percentile by pod",
            "s",
            ((quantile(0.99, "pinn_event_loop_lag_seconds", SERVERS, "pod"), "{{pod}}"),),
            "What every request waits. PINNEventLoopLagHigh: above 100 ms for 5 minutes.",
        ),
        Panel(
            "Memory by pod",
            "bytes",
            ((f"process_resident_memory_bytes{{{SERVERS}}}", "{{pod}}"),),
        ),
        Panel(
            "Memory without the cache, by pod",
            "bytes",
            ((f"process_resident_memory_bytes{{{SERVERS}}} - pinn_cache_bytes{{{SERVERS}}}", "{{pod}}"),),
            "What should not grow. PINNMemoryLeakCritical: more than 10 MB an hour, for an hour.",
        ),
        Panel("CPU by pod", "short", ((rate("process_cpu_seconds_total", SERVERS, "pod"), "{{pod}}"),), "Cores."),
        Panel(
            "Servers by model version",
            "short",
            (
                (
                    f"count by ({', '.join(REVISION)}, version) (pinn_model_info{{{SERVERS}}})",
                    f"{OBJECT} {{{{version}}}} ({{{{revision}}}})",
                ),
            ),
        ),
        Panel(
            "Model loads and reloads",
            "short",
            (
                (f"sum by (pod) (pinn_model_loads_total{{{SERVERS}}})", "loads {{pod}}"),
                (f"sum by (result) (pinn_model_reloads_total{{{SERVERS}}})", "reloads {{result}}"),
            ),
            "Since the process began.",
        ),
    ),
)

READY, AVAILABLE = (once(of_objects("condition", f'condition="{one}"'), *OBJECTS) for one in ("Ready", "Available"))
ENDED: Final = f"increase({of_objects('rollouts_total')}[$__range])"
PASSES: Final = "rate(pinn_operator_reconcile_total[$__rate_interval])"
FAILED: Final = "rate(pinn_operator_reconcile_errors_total[$__rate_interval])"
TIMED: Final = "pinn_operator_reconcile_time_seconds"
OPERATOR: Final = Dashboard(
    "pinn-operator",
    "PINN operator",
    "Rollouts, their verdicts and what the operator itself is doing.",
    "pinn_operator_object_weight",
    (
        Panel(
            "Weight of the canary",
            "percent",
            (
                (of_objects("weight", 'role="canary"'), f"{OBJECT} meant"),
                (of_objects("actual_weight", 'role="canary"'), f"{OBJECT} measured"),
            ),
            "Share of the traffic that the new version is to get, and had in the last minute.",
            100,
        ),
        Panel(
            "Step",
            "short",
            ((of_objects("step"), f"{OBJECT} step"), (of_objects("steps"), f"{OBJECT} of")),
            "0 outside a rollout.",
        ),
        Panel(
            "Verdicts",
            "short",
            ((f"sum by (verdict) ({once(of_objects('verdict'), *OBJECTS, 'verdict')})", "{{verdict}}"),),
            "Rollouts by how their step stands. NoTraffic, NoMetrics, Frozen for 15 minutes: PINNRolloutStuck.",
        ),
        Panel(
            "Until a verdict, and until the hold is over",
            "s",
            (
                (f"{of_objects('verdict_expected_timestamp_seconds')} - time()", f"{OBJECT} verdict"),
                (f"{of_objects('promote_not_before_timestamp_seconds')} - time()", f"{OBJECT} hold"),
            ),
            "A step is left when both are past. No line for the verdict: at this traffic nobody can tell.",
        ),
        Panel(
            "Objects by phase",
            "short",
            ((f"sum by (phase) ({once(of_objects('phase'), *OBJECTS, 'phase')}) > 0", "{{phase}}"),),
        ),
        Panel(
            "Rollouts that are over",
            "short",
            ((f"sum by (outcome) ({once(ENDED, *OBJECTS, 'pod', 'outcome')})", "{{outcome}}"),),
            "In the time shown.",
        ),
        Panel(
            "Time to roll back",
            "s",
            ((of_objects("breach_to_stable_seconds"), OBJECT),),
            "Of the last rollback of each object: from the decision to all of the traffic on stable.",
        ),
        Panel(
            "Ready and available objects",
            "short",
            (
                (f"sum({READY})", "ready"),
                (f"sum({AVAILABLE})", "available"),
                (f"count({READY})", "all"),
            ),
            "Available: callers are answered. Ready: it is what the spec asks for.",
        ),
        Panel(
            "Servers",
            "short",
            ((of_objects("ready_replicas"), f"{OBJECT} ready"), (of_objects("replicas"), f"{OBJECT} all")),
            "Of all revisions.",
        ),
        Panel(
            "Alerts",
            "short",
            (('count by (alertname, alertstate) (ALERTS{alertname=~"PINN.*"})', "{{alertname}} {{alertstate}}"),),
        ),
        Panel(
            "Passes by result",
            "ops",
            ((f"sum by (result) ({once(PASSES, *REPLICA, 'result')})", "{{result}}"),),
            "again: out of date, or the API server was busy; that is routine.",
        ),
        Panel(
            "Reconcile errors",
            "ops",
            ((once(FAILED, *REPLICA), "{{namespace}}/{{pod}}"),),
            "PINNReconcileErrors: any, for 15 minutes.",
        ),
        Panel(
            "Reconcile time",
            "s",
            tuple((quantile(share, TIMED, "", "controller"), name) for share, name in SHARES),
            "A pass that reads the servers of a rollout takes as long as the slowest of them.",
        ),
        Panel(
            "Leader",
            "short",
            ((once("pinn_operator_leader", *REPLICA), "{{namespace}}/{{pod}}"),),
            "1 at the replica that acts. Exactly one in each namespace that has an operator.",
        ),
        Panel("Memory", "bytes", (('process_resident_memory_bytes{job="pinn-operator"}', "{{pod}}"),)),
        Panel(
            "CPU", "short", ((rate("process_cpu_seconds_total", 'job="pinn-operator"', "pod"), "{{pod}}"),), "Cores."
        ),
    ),
)

EVERY: Final = (SERVER, OPERATOR)
SOURCE: Final = {"type": "prometheus", "uid": "$datasource"}
"""Without braces: what stands in braces Flux would take for its own."""


def rendered(dashboard: Dashboard) -> dict[str, Any]:
    """The dashboard in Grafana's JSON (v1)."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.text,
        "tags": ["pinn"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables(dashboard)},
        "annotations": {"list": []},
        "links": [{"type": "dashboards", "tags": ["pinn"], "title": "PINN", "asDropdown": False, "keepTime": True}],
        "panels": [_panel(panel, number) for number, panel in enumerate(dashboard.panels)],
    }


def _panel(panel: Panel, number: int) -> dict[str, Any]:
    limits = {} if panel.most is None else {"min": 0, "max": panel.most}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": {"x": number * WIDE % ROW, "y": number * WIDE // ROW * HIGH, "w": WIDE, "h": HIGH},
        "fieldConfig": {"defaults": {"unit": panel.unit, **limits}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
            for index, (expression, legend) in enumerate(panel.lines)
        ],
    }


def _variables(dashboard: Dashboard) -> list[dict[str, Any]]:
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    chosen = f'label_values({dashboard.series}{{namespace=~"$namespace"}}, pinndeployment)'
    return [
        source,
        _choice("namespace", "Namespace", f"label_values({dashboard.series}, namespace)"),
        _choice("pinndeployment", "PinnDeployment", chosen),
    ]


def _choice(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }
