"""The operator reads what the API server keeps, from older and newer releases of the resource alike."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pinn_operator.api import PinnDeployment, Status
from pinn_operator.api.check import whole_schema, with_defaults
from pinn_operator.api.status import Condition
from pydantic import ValidationError

from tests.manifests import cases


def read(patch: dict[str, Any]) -> PinnDeployment:
    return PinnDeployment.model_validate(cases.patched(cases.minimal(), patch))


def test_a_minimal_object_has_the_documented_defaults() -> None:
    """The ones a reader will look for: 10 % for 30 minutes, 50 % for an hour, a day of bake."""
    spec = read({}).spec
    assert [(step.weight, step.hold) for step in spec.rollout.steps] == [(10, "30m"), (50, "1h"), (100, "24h")]
    assert (spec.sla.promote.error_rate, spec.sla.promote.latency_p95, spec.sla.promote.memory) == ("1%", "500ms", None)
    assert (spec.sla.rollback.error_rate.above, spec.sla.rollback.error_rate.for_) == ("10%", "5m")
    assert (spec.cache.warm_up.from_, spec.gpu.policy, spec.metrics.source) == ("Stable", "Never", "Pods")
    assert spec.resources.requests == {"cpu": "250m", "memory": "256Mi"}
    assert spec.autoscaling is None


def test_fields_of_a_newer_release_are_passed_over() -> None:
    newer = {"spec": {"future": {"a": 1}, "cache": {"tier": "Disk"}}, "status": {"future": True}}
    assert read(newer).spec == read({}).spec


def test_strings_stay_as_they_were_written() -> None:
    sla = read({"spec": {"sla": {"promote": {"latencyP95": "0.5s", "errorRate": "1.0%"}}}}).spec.sla
    assert (sla.promote.latency_p95, sla.promote.error_rate) == ("0.5s", "1.0%")


def test_a_quantity_written_as_a_number_is_a_string() -> None:
    spec = read({"spec": {"resources": {"limits": {"cpu": 2}}, "cache": {"binWidths": {"spot": 1}}}}).spec
    assert (spec.resources.limits, spec.cache.bin_widths) == ({"cpu": "2"}, {"spot": "1"})


def test_nothing_in_it_can_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        read({}).spec.replicas = 2


@pytest.mark.parametrize("name", cases.valid())
def test_what_is_read_is_written_back_the_same(name: str) -> None:
    resource = PinnDeployment.model_validate(with_defaults(cases.valid()[name], whole_schema()))
    again = resource.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert PinnDeployment.model_validate(again) == resource


def test_times_are_written_in_whole_seconds_of_utc() -> None:
    condition = Condition(
        type="Ready", status="True", reason="R", message="m", last_transition_time=datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
    )
    status = Status(observed_generation=3, conditions=(condition,))
    written = status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    assert written == {
        "observedGeneration": 3,
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "R",
                "message": "m",
                "lastTransitionTime": "2026-01-02T03:04:05Z",
            }
        ],
    }


def test_an_object_without_a_status_has_an_empty_one() -> None:
    assert read({}).status == Status()
