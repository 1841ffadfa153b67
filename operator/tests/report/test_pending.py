"""What is accepted and not acted upon is said, for the fields that the object has."""

from typing import get_args

import pytest
from pinn_operator.api.spec import Spec
from pinn_operator.report.pending import IN_FLIGHT, PENDING, not_yet_acted_upon
from tests.given import observed, resource


@pytest.mark.parametrize(("served", "listed"), [(True, False), (False, True), (None, False)])
def test_requests_in_flight_are_listed_where_nobody_can_tell_how_many_there_are(
    served: bool | None, listed: bool
) -> None:
    said = not_yet_acted_upon(observed(resource(autoscaling={}), pod_metrics=served))
    assert ("spec.autoscaling.targetInFlight" in said) is listed
    assert "spec.autoscaling" not in said


ROLLOUT = {
    "steps": [{"weight": 5, "hold": "1m", "maxHold": "1h", "approval": "Required"}, {"weight": 100, "hold": "1h"}],
    "maxHold": "2h",
    "whenUndecided": "RollBack",
    "paused": True,
    "rollbackWithin": "1m",
    "retainStable": "None",
}


def test_what_is_acted_upon_is_not_listed() -> None:
    everything = resource(
        autoscaling={"minReplicas": 2},
        model={
            "name": "black-scholes",
            "version": "1.0.0",
            "uri": "oci://r.example/m:1",
            "digest": "sha256:" + "0" * 64,
            "credentials": {"secretName": "s"},
        },
        image="i:1",
        template={"spec": {}},
        replicas=3,
        rollout=ROLLOUT,
        sla={
            "evidence": "Live",
            "rollback": {"unavailable": {"for": "1m"}},
            "promote": {"memory": "1Gi"},
            "custom": [{"name": "stale", "bad": "stale_total", "total": "answers_total"}],
        },
        traffic={"gateway": {"parentRefs": [{"name": "gw"}]}, "allowCoarse": True},
        metrics={"interval": "5s", "source": "Prometheus", "prometheus": {"url": "http://prometheus:9090"}},
        cache={"warmUp": {"from": "Stable"}},
        gpu={"policy": "Prefer"},
    )
    assert not_yet_acted_upon(observed(everything, pod_metrics=True)) == not_yet_acted_upon(observed())


def test_every_path_exists_in_the_spec_of_the_resource() -> None:
    """A field renamed in the schema would silently leave the list."""
    for path in (*PENDING, IN_FLIGHT):
        fields = Spec.model_fields
        for name in path.split("."):
            found = {info.alias or key: info for key, info in fields.items()}
            assert name in found, path
            inner = next(iter(get_args(found[name].annotation)), found[name].annotation)  # of what may be absent
            fields = getattr(inner, "model_fields", {})
