"""The name of a revision: what changes it, what does not, and that it is the same for ever."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinn_operator.api.revision import content_of, from_stored, name_of, recovered, stored
from pinn_operator.api.spec import Spec
from pinn_operator.build.pod import render
from tests.given import resource, revision

CHANGES: dict[str, dict[str, Any]] = {
    "model": {"model": {"name": "black-scholes", "version": "2.0.0"}},
    "cache": {"cache": {"size": 5}},
    "a bin width": {"cache": {"binWidths": {"rate": "2%"}}},
    "gpu": {"gpu": {"count": 2}},
    "fallback": {"fallback": {"solver": False}},
    "limits": {"limits": {"queue": 1}},
    "resources": {"resources": {"requests": {"cpu": "1"}}},
    "image": {"image": "inference:2"},
    "template": {"template": {"metadata": {"labels": {"a": "b"}}}},
}
NO_CHANGES: dict[str, dict[str, Any]] = {
    "replicas": {"replicas": 5},
    "rollout": {"rollout": {"paused": True, "progressDeadline": "1m"}},
    "sla": {"sla": {"promote": {"errorRate": "0.5%"}}},
    "traffic": {"traffic": {"allowCoarse": True}},
    "metrics": {"metrics": {"interval": "30s"}},
    "autoscaling": {"autoscaling": {"minReplicas": 2}},
}
MODEL = {"name": "black-scholes", "version": "1.0.0"}


def _spec(**spec: Any) -> Spec:
    return resource("1.0.0", **spec).spec


def _name(**spec: Any) -> str:
    return name_of(content_of(_spec(**spec)))


def test_the_name_is_the_same_in_every_release() -> None:
    """Should this fail, every object in every cluster would roll out at the next upgrade."""
    assert _name() == "c3fc46e511"
    assert _name(resources={"requests": {"cpu": "25m", "memory": "96Mi"}}) == "b75be36a43"


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_of_an_answer_or_its_latency_makes_a_new_name(what: str) -> None:
    assert _name(**CHANGES[what]) != _name()


def test_no_two_of_these_changes_share_a_name() -> None:
    assert len({_name(**change) for change in CHANGES.values()}) == len(CHANGES)


@pytest.mark.parametrize("what", NO_CHANGES)
def test_other_changes_roll_nothing_out(what: str) -> None:
    assert _name(**NO_CHANGES[what]) == _name()


def test_a_default_spelled_out_makes_no_new_name() -> None:
    everything = _spec().model_dump(mode="json", by_alias=True, exclude_none=True)
    assert everything["cache"]["size"] == 100_000
    assert name_of(content_of(Spec.model_validate(everything))) == _name()


@given(st.permutations(["model", "cache", "gpu", "limits"]))
def test_the_order_of_the_fields_makes_no_new_name(order: list[str]) -> None:
    spec = {"model": MODEL, "cache": {"size": 5}, "gpu": {"count": 2}, "limits": {"queue": 1}}
    shuffled = Spec.model_validate({field: spec[field] for field in order})
    assert name_of(content_of(shuffled)) == name_of(content_of(Spec.model_validate(spec)))


def test_the_content_is_what_the_user_wrote_and_no_more() -> None:
    assert content_of(_spec(replicas=3, cache={"size": 5, "maxBytes": "256Mi"})) == {
        "model": MODEL,
        "cache": {"size": 5},
    }


def _record(**change: Any) -> dict[str, Any]:
    one = revision("1.0.0", 4)
    metadata = {"name": f"my-pricer-{one.name}", "creationTimestamp": "2026-01-02T03:04:05Z"}
    return {"metadata": metadata, "revision": 4, "data": stored(one)} | change


def test_a_record_is_read_back_as_it_was_written() -> None:
    assert from_stored(_record()) == revision("1.0.0", 4)


def test_a_record_that_somebody_else_made_is_none() -> None:
    with pytest.raises(KeyError):
        from_stored(_record(data={"spec": {}}))
    with pytest.raises(KeyError):
        from_stored(_record(metadata={"name": "theirs"}))


def test_a_lost_record_is_recovered_from_its_deployment_with_the_very_template() -> None:
    made = render(revision("1.0.0", 4, written_down=False), "pricer", _spec())
    again = recovered({"kind": "Deployment", "spec": {"template": made.template}})
    assert (again.name, again.model_version, again.image, again.template) == (
        made.name,
        made.model_version,
        made.image,
        made.template,
    )
