"""The status as it is written: who is stable, who is on the way, what is kept from before."""

from typing import Any

from pinn_operator.api.observed import Observed
from pinn_operator.api.outcome import Outcome
from pinn_operator.api.status import Status
from pinn_operator.decide import decide
from pinn_operator.report import status_of
from tests.given import NOW, observed, ready, resource, revision

ONE, TWO = revision("1.0.0", 1), revision("2.0.0", 2)


def _status(seen: Observed) -> dict[str, Any]:
    return status_of(seen, decide(seen), Outcome())


def _rollout(status: dict[str, Any] | None = None, **spec: Any) -> Observed:
    return observed(
        resource("2.0.0", replicas=2, status={"stable": {"revision": ONE.name}, **(status or {})}, **spec),
        revisions=[ONE, TWO],
        workloads={ONE.name: ready(2), TWO.name: ready(1, 2)},
        selected=ONE.name,
        endpoints=[ONE.name],
    )


def test_the_status_of_a_rollout_in_full_but_for_its_conditions() -> None:
    """Look at the weights: the canary has none before its first step."""
    status = _status(_rollout())
    assert [condition["type"] for condition in status.pop("conditions")] == [
        "Ready",
        "Reconciling",
        "Available",
        "Progressing",
    ]
    assert "spec.gpu" in status.pop("notYetActedUpon")
    assert status == {
        "observedGeneration": 3,
        "replicas": 4,
        "readyReplicas": 3,
        "selector": "pinn.dev/deployment=pricer",
        "stable": {
            "revision": ONE.name,
            "modelVersion": "1.0.0",
            "weight": 100,
            "readyReplicas": 2,
            "placement": "CPU",
        },
        "canary": {
            "revision": TWO.name,
            "modelVersion": "2.0.0",
            "weight": 0,
            "readyReplicas": 1,
            "placement": "CPU",
        },
        "rollout": {"step": "0/3"},
    }


def test_before_the_first_revision_is_ready_nothing_is_stable() -> None:
    status = _status(observed(resource("1.0.0")))
    assert "stable" not in status
    assert "canary" not in status
    assert (status["replicas"], status["readyReplicas"]) == (0, 0)


def test_an_object_that_goes_keeps_the_name_of_what_served() -> None:
    seen = observed(resource("1.0.0", status={"stable": {"revision": ONE.name}}, metadata={"deletionTimestamp": NOW}))
    assert _status(seen)["stable"] == {"revision": ONE.name}


def test_what_an_earlier_pass_recorded_is_kept() -> None:
    kept = {
        "rejected": [
            {"revision": "aaaaaaaaaa", "modelVersion": "0.9.0", "reason": "error rate", "at": "2026-01-01T00:00:00Z"}
        ],
        "history": [{"revision": "bbbbbbbbbb", "outcome": "Promoted"}],
        "lastHandled": {"retry": "aaaaaaaaaa@1"},
    }
    status = _status(_rollout(status=kept))
    assert {name: status[name] for name in kept} == kept


def test_a_status_written_and_read_again_is_the_same_so_nothing_is_written_twice() -> None:
    status = _status(_rollout())
    again = _rollout(status=status)
    read = again.resource.status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    assert read == status == _status(again)
    assert Status.model_validate(status) == again.resource.status


def test_the_digest_of_a_model_is_shown() -> None:
    digest = "sha256:" + "a" * 64
    model = {"name": "black-scholes", "version": "1.0.0", "digest": digest}
    known = revision("1.0.0", model=model)
    workloads = {known.name: ready(1)}
    status = _status(observed(resource(model=model), revisions=[known], workloads=workloads, endpoints=[known.name]))
    assert status["stable"]["modelDigest"] == digest
