"""What is accepted and not acted upon is said, for the fields that the object has."""

from pinn_operator.api.spec import Spec
from pinn_operator.report.pending import PENDING, not_yet_acted_upon
from tests.given import resource


def test_defaults_that_do_nothing_are_listed() -> None:
    assert not_yet_acted_upon(resource()) == ("spec.gpu",)


def test_optional_fields_are_listed_only_where_they_are_set() -> None:
    assert "spec.autoscaling" not in not_yet_acted_upon(resource())
    assert "spec.autoscaling" in not_yet_acted_upon(resource(autoscaling={}))


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
    )
    assert not_yet_acted_upon(everything) == not_yet_acted_upon(resource())


def test_every_path_exists_in_the_spec_of_the_resource() -> None:
    """A field renamed in the schema would silently leave the list."""
    for path in PENDING:
        fields = Spec.model_fields
        for name in path.split("."):
            found = {info.alias or key: info for key, info in fields.items()}
            assert name in found, path
            inner = found[name].annotation
            fields = getattr(inner, "model_fields", {})
