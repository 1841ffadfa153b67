"""What the operator says about itself, as Prometheus reads it."""

import socket
from dataclasses import replace
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from pinn_operator.api.memory import Memory
from pinn_operator.api.observed import Key
from pinn_operator.api.plan import Phase, Plan
from pinn_operator.decide import decide
from pinn_operator.decide.shares import all_to
from pinn_operator.errors import Conflict, Refused, Unavailable
from pinn_operator.monitoring import Monitoring, served
from pinn_operator.reconcile import Pass
from prometheus_client import generate_latest
from tests.given import NOW, observed, resource, revision
from tests.report.finished import rolled_back

KEY = Key("demo", "pricer")


def _value(monitoring: Monitoring, metric: str, **labels: str) -> float | None:
    return monitoring.registry.get_sample_value(metric, labels)


def _passes(monitoring: Monitoring, result: str) -> float | None:
    return _value(monitoring, "pinn_operator_reconcile_total", controller="pinndeployment", result=result)


def _errors(monitoring: Monitoring) -> float | None:
    return _value(monitoring, "pinn_operator_reconcile_errors_total", controller="pinndeployment")


def _condition(monitoring: Monitoring, condition: str) -> float | None:
    return _value(
        monitoring, "pinn_operator_object_condition", namespace="demo", pinndeployment="pricer", condition=condition
    )


def _of_object(monitoring: Monitoring, metric: str, **labels: str) -> float | None:
    return _value(monitoring, f"pinn_operator_object_{metric}", namespace="demo", pinndeployment="pricer", **labels)


def _with(status: dict[str, Any]) -> Pass:
    seen = observed(resource(status=status))
    return Pass(seen, decide(seen), None)


def _ending(phase: Phase, *, there: bool = True, after: float = 0.0, finished: bool = False, weight: int = 10) -> Pass:
    """A pass of a rollback that was decided `after` seconds ago; the Service selects stable again, or does not yet."""
    stable = revision("1.0.0")
    seen = observed(now=NOW + timedelta(seconds=after), selected=stable.name if there else "canary")
    journal = replace(rolled_back(), ended=NOW.timestamp(), weight=weight)
    plan = Plan(
        phase, "", "canary", traffic=all_to(stable), memory=Memory(journal), finished=journal if finished else None
    )
    return Pass(seen, plan, None)


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


@pytest.mark.parametrize(
    "error", [Conflict(409, "Conflict", "late"), Unavailable(500, "", "a webhook is down"), ValueError()]
)
def test_an_object_none_of_whose_passes_ends_says_since_when(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monitoring = Monitoring()
    for at in (100.0, 200.0):
        monkeypatch.setattr("pinn_operator.monitoring.time.time", lambda at=at: at)
        with pytest.raises(type(error)), monitoring.timed(KEY):
            raise error
    assert _of_object(monitoring, "failing_since_timestamp_seconds") == 100.0
    monitoring.note(_with({}))
    assert _of_object(monitoring, "failing_since_timestamp_seconds") is None
    with pytest.raises(type(error)), monitoring.timed(KEY):
        raise error
    assert _of_object(monitoring, "failing_since_timestamp_seconds") == 200.0
    monitoring.forget(KEY)
    assert _of_object(monitoring, "failing_since_timestamp_seconds") is None


def test_conditions_are_one_where_they_are_true_and_zero_where_they_are_false_or_absent() -> None:
    monitoring = Monitoring()
    monitoring.note(_finished(("Ready", "False"), ("Reconciling", "True")))
    assert [_condition(monitoring, name) for name in ("Ready", "Reconciling", "Stalled")] == [0, 1, 0]
    monitoring.note(_finished(("Ready", "True")))
    assert [_condition(monitoring, name) for name in ("Ready", "Reconciling", "Stalled")] == [1, 0, 0]


def test_a_condition_that_only_some_objects_have_goes_when_the_object_has_it_no_more() -> None:
    monitoring = Monitoring()
    monitoring.note(_finished(("Ready", "True"), ("GpuSatisfied", "True")))
    assert _condition(monitoring, "GpuSatisfied") == 1
    monitoring.note(_finished(("Ready", "True")))
    assert _condition(monitoring, "GpuSatisfied") is None


def test_weights_are_those_of_the_status() -> None:
    monitoring = Monitoring()
    monitoring.note(_finished(stable=90, canary=10))
    assert _of_object(monitoring, "weight", role="stable") == 90
    assert _of_object(monitoring, "weight", role="canary") == 10
    monitoring.note(_finished(stable=100))
    assert _of_object(monitoring, "weight", role="canary") == 0


def test_a_share_that_was_measured_stands_beside_the_one_meant_and_is_absent_while_nobody_knows() -> None:
    monitoring = Monitoring()
    monitoring.note(_with({"stable": {"weight": 90, "actualWeight": 91}, "canary": {"weight": 10, "actualWeight": 9}}))
    assert _of_object(monitoring, "actual_weight", role="canary") == 9
    monitoring.note(_with({"stable": {"weight": 100}}))
    assert [_of_object(monitoring, "actual_weight", role=role) for role in ("stable", "canary")] == [None, None]


def test_a_rollout_shows_its_step_its_verdict_and_when_one_is_expected() -> None:
    monitoring = Monitoring()
    rollout = {
        "step": "2/3",
        "verdict": "NoTraffic",
        "stepStartedAt": NOW,
        "promoteNotBefore": NOW + timedelta(minutes=30),
        "verdictExpectedAt": NOW + timedelta(minutes=40),
    }
    monitoring.note(_with({"rollout": rollout}))
    assert (_of_object(monitoring, "step"), _of_object(monitoring, "steps")) == (2, 3)
    assert _of_object(monitoring, "verdict", verdict="NoTraffic") == 1
    assert _of_object(monitoring, "verdict", verdict="Passing") == 0
    times = ("step_started", "promote_not_before", "verdict_expected")
    began, hold, expected = (_of_object(monitoring, f"{one}_timestamp_seconds") for one in times)
    assert (began, hold, expected) == (NOW.timestamp(), NOW.timestamp() + 1800, NOW.timestamp() + 2400)
    monitoring.note(_with({}))
    assert (_of_object(monitoring, "step"), _of_object(monitoring, "steps")) == (0, 0)
    assert _of_object(monitoring, "verdict", verdict="NoTraffic") == 0
    assert [_of_object(monitoring, f"{one}_timestamp_seconds") for one in times] == [None, None, None]


def test_an_object_is_in_one_phase_at_a_time() -> None:
    monitoring = Monitoring()
    for phase in (Phase.STEPPING, Phase.ROLLED_BACK):
        seen = observed(resource())
        monitoring.note(Pass(seen, replace(decide(seen), phase=phase), None))
        series = {one: _of_object(monitoring, "phase", phase=one.value) for one in Phase}
        assert {one for one, value in series.items() if value} == {phase}
        assert None not in series.values()


def test_rollouts_that_are_over_are_counted_by_outcome_from_zero() -> None:
    monitoring = Monitoring()
    monitoring.note(_with({}))
    outcomes = ("Promoted", "RolledBack", "Superseded")
    assert [_of_object(monitoring, "rollouts_total", outcome=one) for one in outcomes] == [0, 0, 0]
    monitoring.note(_ending(Phase.ROLLING_BACK, finished=True))
    monitoring.note(_with({}))
    assert [_of_object(monitoring, "rollouts_total", outcome=one) for one in outcomes] == [0, 1, 0]


def test_the_way_back_is_timed_from_the_decision_to_all_traffic_on_stable_once() -> None:
    monitoring = Monitoring()
    monitoring.note(_ending(Phase.ROLLING_BACK, there=False))
    assert _of_object(monitoring, "breach_to_stable_seconds") is None
    monitoring.note(_ending(Phase.ROLLING_BACK, after=1.5))
    monitoring.note(_ending(Phase.ROLLING_BACK, after=20))  # the report takes its time
    assert _of_object(monitoring, "breach_to_stable_seconds") == 1.5


def test_a_rollback_of_a_version_that_had_no_traffic_takes_no_time_and_has_no_series() -> None:
    monitoring = Monitoring()
    monitoring.note(_ending(Phase.ROLLING_BACK, after=3, weight=0))
    assert _of_object(monitoring, "breach_to_stable_seconds") is None


def test_an_object_that_is_gone_leaves_no_series_and_takes_no_other_with_it() -> None:
    monitoring = Monitoring()
    monitoring.note(
        _with({"stable": {"weight": 100, "actualWeight": 100}, "rollout": {"step": "1/3", "stepStartedAt": NOW}})
    )
    monitoring.note(_ending(Phase.ROLLING_BACK, there=False))
    monitoring.note(_ending(Phase.ROLLING_BACK, after=1))
    other = observed(resource(metadata={"name": "other"}, status={"stable": {"weight": 100}}))
    monitoring.note(Pass(other, decide(other), None))
    monitoring.forget(KEY)
    text = generate_latest(monitoring.registry).decode()
    assert 'pinndeployment="pricer"' not in text
    assert 'pinndeployment="other"' in text
    monitoring.forget(Key("demo", "never-seen"))


def test_the_leader_says_so() -> None:
    monitoring = Monitoring()
    assert _value(monitoring, "pinn_operator_leader") == 0
    monitoring.leading(True)
    assert _value(monitoring, "pinn_operator_leader") == 0, "it may not list the objects yet"
    monitoring.not_ready = None
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
    monitoring = Monitoring()
    async with aiohttp.ClientSession() as session:
        async with served(monitoring, port):
            async with session.get(address + "/healthz") as answer:
                assert answer.status == 200
            async with session.get(address + "/readyz") as answer:
                assert (answer.status, (await answer.json())["reason"]) == (503, monitoring.not_ready)
            monitoring.not_ready = None
            async with session.get(address + "/readyz") as answer:
                assert (answer.status, await answer.json()) == (200, {"status": "ready"})
            async with session.get(address + "/metrics") as answer:
                assert "text/plain" in answer.headers["Content-Type"]
                assert "pinn_operator_leader" in await answer.text()
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(address + "/healthz")


def test_an_object_that_cannot_be_read_any_more_is_not_ready() -> None:
    monitoring = Monitoring()
    monitoring.note(_finished(("Ready", "True")))
    assert _condition(monitoring, "Ready") == 1
    monitoring.not_understood(KEY)
    assert _condition(monitoring, "Ready") == 0
    assert _condition(monitoring, "Stalled") == 1
