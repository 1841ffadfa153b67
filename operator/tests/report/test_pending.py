"""What is accepted and not acted upon is said, for the fields that the object has."""

from pinn_operator.api.spec import Spec
from pinn_operator.report.pending import PENDING, PENDING_VALUES, not_yet_acted_upon
from tests.given import resource


def test_defaults_that_do_nothing_are_listed() -> None:
    listed = not_yet_acted_upon(resource())
    assert "spec.sla" in listed
    assert "spec.gpu" in listed
    assert "spec.rollout.steps" in listed


def test_optional_fields_are_listed_only_where_they_are_set() -> None:
    assert "spec.autoscaling" not in not_yet_acted_upon(resource())
    assert "spec.autoscaling" in not_yet_acted_upon(resource(autoscaling={}))
    assert "spec.rollout.maxHold" in not_yet_acted_upon(resource(rollout={"maxHold": "1h"}))
    model = {"name": "black-scholes", "version": "1.0.0", "credentials": {"secretName": "s"}}
    assert "spec.model.credentials" in not_yet_acted_upon(resource(model=model))


def test_what_is_acted_upon_is_not_listed() -> None:
    acted_upon = {"spec.replicas", "spec.resources", "spec.image", "spec.template", "spec.rollout.paused", "spec.model"}
    acted_upon |= {"spec.cache", "spec.fallback", "spec.limits"}
    everything = resource(autoscaling={}, image="i:1", template={"spec": {}}, rollout={"maxHold": "1h", "paused": True})
    assert not acted_upon & set(not_yet_acted_upon(everything))


def test_a_value_that_does_something_else_yet_is_listed_and_the_others_are_not() -> None:
    assert "spec.cache.warmUp.from" in not_yet_acted_upon(resource())
    for chosen in ("Synthetic", "None"):
        assert "spec.cache.warmUp.from" not in not_yet_acted_upon(resource(cache={"warmUp": {"from": chosen}}))


def test_every_path_exists_in_the_spec_of_the_resource() -> None:
    """A field renamed in the schema would silently leave the list."""
    for path in (*PENDING, *PENDING_VALUES):
        fields = Spec.model_fields
        for name in path.split("."):
            found = {info.alias or key: info for key, info in fields.items()}
            assert name in found, path
            inner = found[name].annotation
            fields = getattr(inner, "model_fields", {})
