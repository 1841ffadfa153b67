"""The status as it is written: who is stable, who is on the way, what is kept from before."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pinn_operator.api.journal import Arm, Journal, Minute
from pinn_operator.api.memory import Memory
from pinn_operator.api.observed import Observed
from pinn_operator.api.outcome import Filed, Outcome
from pinn_operator.api.plan import Phase, Plan, Traffic
from pinn_operator.api.status import Gate, LastHandled, Rejected, RolloutStatus, Status
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
    assert "notYetActedUpon" not in status
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


# --- A rollout on its way and over -----------------------------------------------------------------------------------

JOURNAL = Journal(Arm(TWO.name, "2.0.0"), Arm(ONE.name, "1.0.0"), NOW.timestamp() - 600, step=1)
MINUTES = (Minute(60.0, {"live": 1.0}, {"live": 1.0}), Minute(120.0, {"live": 12.0}, {"live": 88.0}))


def _plan(journal: Journal = JOURNAL, weight: int = 10, **more: Any) -> Plan:
    shares = {name: share for name, share in {ONE.name: 100 - weight, TWO.name: weight}.items() if share}
    plan = Plan(
        Phase.STEPPING, "because", TWO.name, stable=ONE, canary=TWO, traffic=Traffic(shares, ONE.name),
        memory=Memory(journal),
    )  # fmt: skip
    return replace(plan, **more)


def _of(plan: Plan, filed: Filed | None = None, status: dict[str, Any] | None = None) -> dict[str, Any]:
    return status_of(_rollout(status), plan, Outcome(), filed)


def test_the_weights_are_those_of_the_plan_and_the_actual_ones_those_of_the_last_minute() -> None:
    status = _of(_plan(replace(JOURNAL, minutes=MINUTES)))
    assert [(status[side]["weight"], status[side]["actualWeight"]) for side in ("stable", "canary")] == [
        (90, 88),
        (10, 12),
    ]


@pytest.mark.parametrize(
    "journal",
    [
        JOURNAL,
        replace(JOURNAL, minutes=(Minute(60.0),)),
        replace(JOURNAL, minutes=MINUTES, ending="RolledBack", ended=1.0),
    ],
    ids=["not yet", "no requests", "over"],
)
def test_what_was_not_measured_is_not_said_to_be_a_weight(journal: Journal) -> None:
    status = _of(_plan(journal))
    assert "actualWeight" not in status["stable"]
    assert "actualWeight" not in status["canary"]


def test_in_the_bake_the_old_revision_is_stable_and_has_nothing() -> None:
    status = _of(_plan(weight=100, phase=Phase.BAKING))
    assert (status["stable"]["revision"], status["stable"]["weight"]) == (ONE.name, 0)
    assert (status["canary"]["revision"], status["canary"]["weight"]) == (TWO.name, 100)


def test_a_promotion_changes_the_names() -> None:
    status = _of(_plan(weight=100, stable=TWO, canary=None))
    assert (status["stable"]["revision"], status["stable"]["weight"]) == (TWO.name, 100)
    assert "canary" not in status


def test_where_a_rollout_stands_is_shown_as_it_was_decided() -> None:
    at = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
    gate = Gate(name="errorRate", limit="1%", observed="0.2%", events=500, evidence="21 of 20", verdict="Passing")
    row = RolloutStatus(step="2/3", step_started_at=at, promote_not_before=NOW, verdict="Undecided", gates=(gate,))
    assert _of(_plan(rollout=row))["rollout"] == {
        "step": "2/3",
        "stepStartedAt": "2026-01-02T03:00:00Z",
        "promoteNotBefore": "2026-01-02T03:04:05Z",
        "verdict": "Undecided",
        "gates": [
            {
                "name": "errorRate",
                "limit": "1%",
                "observed": "0.2%",
                "events": 500,
                "evidence": "21 of 20",
                "verdict": "Passing",
            }
        ],
    }
    assert "rollout" not in _of(_plan(rollout=None))


OVER = replace(JOURNAL, ending="RolledBack", ended=NOW.timestamp() + 0.7)
OLD = [{"revision": f"{number:010}", "outcome": "Promoted", "at": "2026-01-01T00:00:00Z"} for number in range(10)]


def test_a_rollout_that_is_over_is_in_the_history_with_its_report() -> None:
    """In whole seconds: by them the next pass knows that it has been reported."""
    (entry,) = _of(_plan(OVER, finished=OVER), Filed("pricer-report-1", "ab" * 32))["history"]
    assert entry == {
        "revision": TWO.name,
        "modelVersion": "2.0.0",
        "outcome": "RolledBack",
        "at": "2026-01-02T03:04:05Z",
        "report": "pricer-report-1",
        "sha256": "ab" * 32,
    }


def test_a_rollout_whose_report_was_refused_is_in_the_history_all_the_same() -> None:
    (entry,) = _of(_plan(OVER, finished=OVER))["history"]
    assert entry["outcome"] == "RolledBack"
    assert "report" not in entry


def test_the_history_has_the_last_ten() -> None:
    history = _of(_plan(OVER, finished=OVER), status={"history": OLD})["history"]
    assert [entry["revision"] for entry in history] == [*(one["revision"] for one in OLD[1:]), TWO.name]
    assert _of(_plan(), status={"history": OLD})["history"] == OLD


def test_who_was_rejected_is_as_the_plan_says_and_as_before_where_it_says_nothing() -> None:
    before = {"rejected": [{"revision": "aaaaaaaaaa", "reason": "slow"}]}
    failed = (Rejected(revision=TWO.name, reason="errors"),)
    assert _of(_plan(rejected=failed), status=before)["rejected"] == [{"revision": TWO.name, "reason": "errors"}]
    assert _of(_plan(rejected=None), status=before)["rejected"] == before["rejected"]
    assert "rejected" not in _of(_plan(rejected=()), status=before)


def test_requests_that_were_acted_upon_are_shown_and_kept_where_nothing_new_is_known() -> None:
    before = {"lastHandled": {"abort": "x@1"}}
    handled = LastHandled(abort="x@1", promote=f"{TWO.name}@7")
    assert _of(_plan(handled=handled), status=before)["lastHandled"] == {"abort": "x@1", "promote": f"{TWO.name}@7"}
    assert _of(_plan(), status=before)["lastHandled"] == before["lastHandled"]
    leaving = _plan(teardown=True, handled=LastHandled(retry="y@2"))
    assert _of(leaving, status=before)["lastHandled"] == before["lastHandled"]
