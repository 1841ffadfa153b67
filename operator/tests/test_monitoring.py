"""What the operator says about itself, as Prometheus reads it."""

import socket

import aiohttp
import pytest
from pinn_operator.api.observed import Key
from pinn_operator.decide import decide
from pinn_operator.errors import Conflict, Refused, Unavailable
from pinn_operator.monitoring import Monitoring, served
from pinn_operator.reconcile import Pass
from prometheus_client import generate_latest
from tests.given import NOW, observed, resource

KEY = Key("demo", "pricer")


def _value(monitoring: Monitoring, metric: str, **labels: str) -> float | None:
    return monitoring.registry.get_sample_value(metric, labels)


def _passes(monitoring: Monitoring, result: str) -> float | None:
    return _value(monitoring, "pinn_operator_reconcile_total", controller="pinndeployment", result=result)


def _errors(monitoring: Monitoring) -> float | None:
    return _value(monitoring, "pinn_operator_reconcile_errors_total", controller="pinndeployment")


def _condition(monitoring: Monitoring, condition: str) -> float | None:
    return _value(monitoring, "pinn_operator_object_condition", namespace="demo", name="pricer", condition=condition)


def _finished(*conditions: tuple[str, str], **sides: int) -> Pass:
    listed = [{"type": t, "status": s, "reason": "R", "message": "", "lastTransitionTime": NOW} for t, s in conditions]
    status = {"conditions": listed, **{role: {"weight": weight} for role, weight in sides.items()}}
    seen = observed(resource(status=status))
    return Pass(seen, decide(seen), None)


def test_counters_are_there_before_anything_happened() -> None:
    """An alert on a rate needs the zero that came before."""
    monitoring = Monitoring()
    assert [_passes(monitoring, result) for result in ("success", "again", "error")] == [0, 0, 0]
    assert _errors(monitoring) == 0


@pytest.mark.parametrize(
    ("error", "result", "errors"),
    [
        (None, "success", 0),
        (Conflict(409, "Conflict", ""), "again", 0),
        (Unavailable(503, "Busy", ""), "again", 0),
        (Refused(403, "Forbidden", ""), "error", 1),
        (ValueError("a bug"), "error", 1),
    ],
)
def test_a_pass_is_counted_once_by_how_it_ends(error: Exception | None, result: str, errors: int) -> None:
    monitoring = Monitoring()

    def run() -> None:
        with monitoring.timed(KEY):
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises(type(error)):
            run()
    counted = {name: _passes(monitoring, name) for name in ("success", "again", "error")}
    assert counted == {"success": 0, "again": 0, "error": 0} | {result: 1}
    assert _errors(monitoring) == errors
    assert _value(monitoring, "pinn_operator_reconcile_time_seconds_count", controller="pinndeployment") == 1


def test_conditions_are_one_where_they_are_true_and_zero_where_they_are_false_or_absent() -> None:
    monitoring = Monitoring()
    monitoring.note(_finished(("Ready", "False"), ("Reconciling", "True")))
    assert [_condition(monitoring, name) for name in ("Ready", "Reconciling", "Stalled")] == [0, 1, 0]
    monitoring.note(_finished(("Ready", "True")))
    assert [_condition(monitoring, name) for name in ("Ready", "Reconciling", "Stalled")] == [1, 0, 0]


def test_weights_are_those_of_the_status() -> None:
    monitoring = Monitoring()
    labels = {"namespace": "demo", "name": "pricer"}
    monitoring.note(_finished(stable=90, canary=10))
    assert _value(monitoring, "pinn_operator_object_weight", role="stable", **labels) == 90
    assert _value(monitoring, "pinn_operator_object_weight", role="canary", **labels) == 10
    monitoring.note(_finished(stable=100))
    assert _value(monitoring, "pinn_operator_object_weight", role="canary", **labels) == 0


def test_an_object_that_is_gone_leaves_no_series_and_takes_no_other_with_it() -> None:
    monitoring = Monitoring()
    monitoring.note(_finished(("Ready", "True"), stable=100))
    other = observed(resource(metadata={"name": "other"}, status={"stable": {"weight": 100}}))
    monitoring.note(Pass(other, decide(other), None))
    monitoring.forget(KEY)
    text = generate_latest(monitoring.registry).decode()
    assert 'name="pricer"' not in text
    assert 'name="other"' in text
    monitoring.forget(Key("demo", "never-seen"))


def test_the_leader_says_so() -> None:
    monitoring = Monitoring()
    assert _value(monitoring, "pinn_operator_leader") == 0
    monitoring.leading(True)
    assert _value(monitoring, "pinn_operator_leader") == 1


def test_names_have_base_units_and_every_metric_a_help_text() -> None:
    for family in Monitoring().registry.collect():
        assert family.documentation
        assert not family.name.endswith(("_ms", "_milliseconds", "_percent"))


async def test_metrics_and_probes_are_answered_while_it_runs_and_not_after() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession() as session:
        async with served(Monitoring(), port):
            for path in ("/healthz", "/readyz"):
                async with session.get(address + path) as answer:
                    assert answer.status == 200
            async with session.get(address + "/metrics") as answer:
                assert "text/plain" in answer.headers["Content-Type"]
                assert "pinn_operator_leader" in await answer.text()
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(address + "/healthz")
