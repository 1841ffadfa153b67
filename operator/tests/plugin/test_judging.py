"""`golive` and `cost`: verdicts and amounts that a person will act upon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pinn_operator.api.journal import Minute
from pinn_operator.plugin.cost import cost_of, page
from pinn_operator.plugin.golive import checks, counted_in
from pinn_operator.plugin.kubectl import Trouble
from pinn_operator.plugin.standing import standing_of
from tests.given import ALL_OFF
from tests.plugin.conftest import Run
from tests.plugin.fake_api import FakeApi
from tests.plugin.given_pinn import ONE, ended, report_of, settled, stepping
from tests.report.finished import certified, gate, promoted, rolled_back

BUDGET = {"metadata": {"name": f"pricer-{ONE.name}"}}
PASSED = certified(promoted()).document


def verdicts(obj: dict[str, Any] | None = None, **more: Any) -> dict[str, tuple[bool, str]]:
    """Of an object that is fit, but for what is given."""
    obj = obj or settled(history=[ended(rolled_back()), ended(promoted())])
    given: dict[str, Any] = {
        "certificates": [("a", True, "")],
        "last": PASSED,
        "budgets": [BUDGET],
        "operators": 2,
        "tests": None,
    }
    return {one.name: (one.met, one.said) for one in checks(standing_of(obj), obj, **(given | more))}


def test_an_object_that_meets_everything_is_fit() -> None:
    found = verdicts()
    assert len(found) == 9
    assert all(met for met, _ in found.values()), found


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("A disruption budget", {"budgets": []}, "no PodDisruptionBudget"),
        ("Service levels were met in full", {"last": None}, "no version has been promoted"),
        ("Certificates are genuine", {"certificates": [("a", False, "one was changed")]}, "a: one was changed"),
        ("Certificates are genuine", {"certificates": []}, "there is none yet"),
        ("Two operators", {"operators": 1}, "1 ready"),
        ("Two operators", {"operators": None}, "you may not look"),
        ("A rollback was exercised", {"obj": settled(history=[ended(promoted())])}, "kubectl pinn abort"),
        ("Nothing under way", {"obj": stepping()}, "Reconciling"),
        ("Ready", {"obj": settled(observedGeneration=2)}, "generation 3"),
    ],
)
def test_each_criterion_can_be_missed_and_says_what_to_do(name: str, more: dict[str, Any], said: str) -> None:
    met, why = verdicts(**more)[name]
    assert not met
    assert said in why


def test_one_server_is_an_outage_in_waiting() -> None:
    obj = settled()
    obj["spec"]["replicas"] = 1
    assert verdicts(obj)["Two servers or more"] == (False, "spec.replicas is 1: one node less is an outage; ask for 2")


@pytest.mark.parametrize(
    ("spec", "met", "said"),
    [
        ({"replicas": 5, "autoscaling": {"minReplicas": 1}}, False, "spec.autoscaling.minReplicas is 1: "),
        ({"replicas": 5, "autoscaling": {}}, False, "spec.autoscaling.minReplicas is 1: "),
        ({"replicas": 1, "autoscaling": {"minReplicas": 2}}, True, "2 of 2 are ready"),
        ({"replicas": 0, "autoscaling": {"minReplicas": 2}}, False, "spec.replicas is 0: "),
    ],
)
def test_with_an_autoscaler_its_fewest_servers_count_unless_it_is_switched_off(
    spec: dict[str, Any], met: bool, said: str
) -> None:
    obj = settled()
    obj["spec"] |= spec
    found = verdicts(obj)["Two servers or more"]
    assert (found[0], said in found[1]) == (met, True), found


def test_a_gate_that_is_off_is_named_and_all_off_is_refused() -> None:
    obj = settled()
    obj["spec"]["sla"] = {"promote": {"errorRate": "1%", "cacheHitRate": "Off"}}
    assert verdicts(obj)["Service levels gate rollouts"] == (True, "Off by choice: promote.cacheHitRate")
    obj["spec"]["sla"] = ALL_OFF
    assert not verdicts(obj)["Service levels gate rollouts"][0]


def test_a_version_promoted_by_hand_without_evidence_did_not_meet_its_service_levels() -> None:
    hurried = promoted(gates=(gate("errorRate", "Undecided", step=2, evidence=3.0),))
    met, said = verdicts(last=certified(hurried).document)["Service levels were met in full"]
    assert not met
    assert "errorRate (Undecided)" in said


@pytest.mark.parametrize(
    "gates",
    [pytest.param((), id="with replicas: 0 nothing is judged"), pytest.param((gate("errorRate"),), id="step 1 of 2")],
)
def test_a_promotion_without_evidence_in_the_last_step_met_no_service_level(gates: tuple[Any, ...]) -> None:
    met, said = verdicts(last=certified(promoted(gates=gates)).document)["Service levels were met in full"]
    assert not met
    assert "2.0.0 was promoted without evidence: no gate was judged in step 2, the last" in said
    assert "roll one out that gets requests" in said


JUNIT = """<testsuites><testsuite name="e2e">{}</testsuite></testsuites>"""
GOOD, BAD, SKIPPED = "<testcase/>", "<testcase><failure/></testcase>", "<testcase><skipped/></testcase>"


@pytest.mark.parametrize(
    ("cases", "met"), [(GOOD * 96 + BAD * 4, True), (GOOD * 95 + BAD * 5, False), (GOOD + SKIPPED, True)]
)
def test_more_than_95_of_100_tests_must_pass(tmp_path: Path, cases: str, met: bool) -> None:
    file = tmp_path / "junit.xml"
    file.write_text(JUNIT.format(cases))
    assert verdicts(tests=counted_in(file))["Integration tests pass"][0] is met


@pytest.mark.parametrize("text", ["", "<a", JUNIT.format(SKIPPED)])
def test_a_file_without_test_results_is_no_proof(tmp_path: Path, text: str) -> None:
    file = tmp_path / "junit.xml"
    file.write_text(text)
    with pytest.raises(Trouble, match="--tests: "):
        counted_in(file)


def test_golive_prints_a_verdict_and_ends_with_it(api: FakeApi, run: Run) -> None:
    api.pinn(settled(history=[ended(rolled_back()), ended(promoted())]))
    for journal in (rolled_back(), promoted()):
        api.put("/api/v1/namespaces/demo/configmaps", report_of(journal))
    api.put("/apis/policy/v1/namespaces/demo/poddisruptionbudgets", BUDGET)
    done = run("golive", "pricer")
    assert done.exit_code == 1
    assert "NOT MET  Two operators" in done.output
    assert "demo/pricer: 1 of 9 criteria are not met: do not go live yet" in done.output
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    for name in ("a", "b"):
        labels = {"app.kubernetes.io/name": "pinn-operator"}
        api.put("/api/v1/namespaces/pinn-system/pods", {"metadata": {"name": name, "labels": labels}, **ready})
    done = run("golive", "pricer")
    assert done.exit_code == 0, done.output
    assert "demo/pricer: fit to go live" in done.output
    assert [one["met"] for one in json.loads(run("golive", "pricer", "-o", "json").output)] == [True] * 9


# --- Cost ------------------------------------------------------------------------------------------------------------


def hits(old: float, new: float) -> dict[str, Any]:
    """The certificate of a promotion with these shares of misses."""
    return certified(promoted(gates=(gate("cacheHitRate", step=2, stable=old, observed=new),))).document


def test_the_cost_is_instances_times_price_and_the_hit_rate_says_how_many_would_do() -> None:
    """2 x 0.5 x 8,760 h; 20 % misses instead of 40 % is half the work."""
    cost = cost_of(standing_of(settled()), 0.5, 8760, hits(0.4, 0.2))
    assert (cost.before.version, cost.after and cost.after.version) == ("1.0.0", "2.0.0")
    assert cost.before.cost == 8760
    assert cost.before.hit_rate == pytest.approx(0.6)
    assert cost.work == pytest.approx(0.5)
    assert cost.could_do == 1
    assert cost.without_cache == pytest.approx(8760 / 0.2)
    assert cost.rollout == pytest.approx(2 * 0.5 * 92.25 / 3600)


def test_the_hit_rate_is_that_of_the_last_hour_where_it_was_counted() -> None:
    minutes = (
        Minute(0, {"lookups": 60.0, "misses": 6.0}, {"lookups": 100.0}),
        Minute(60, {"lookups": 40.0, "misses": 4.0}, {"lookups": 100.0, "misses": 50.0}),
    )
    document = certified(promoted(minutes=minutes)).document
    cost = cost_of(standing_of(settled()), 1, 24, document)
    assert (cost.before.hit_rate, cost.after and cost.after.hit_rate) == (0.75, 0.9)


def test_an_autoscaled_object_is_counted_as_it_runs() -> None:
    obj = settled()
    obj["spec"] |= {"replicas": 9, "autoscaling": {}}
    cost = cost_of(standing_of(obj), 1, 1)
    assert cost.before.instances == 2
    assert "as many as run now" in cost.assumed[0]


def test_what_nobody_has_counted_is_not_known() -> None:
    cost = cost_of(standing_of(settled()), 1, 24)
    assert (cost.after, cost.work, cost.rollout, cost.without_cache) == (None, None, None, None)
    assert "not known" in page(cost, "demo/pricer", "1d")


def test_in_a_rollout_the_hit_rate_is_that_of_the_canary() -> None:
    cost = cost_of(standing_of(stepping()), 1, 24)
    assert cost.after is not None
    assert cost.after.hit_rate == pytest.approx(0.88)


def test_a_cache_that_never_misses_costs_no_division_by_zero() -> None:
    assert cost_of(standing_of(settled()), 1, 24, hits(0.0, 0.0)).work == 1


def test_the_page_says_what_it_assumes(api: FakeApi, run: Run) -> None:
    api.pinn(settled(history=[ended(promoted())]))
    api.put("/api/v1/namespaces/demo/configmaps", report_of(promoted()))
    done = run("cost", "pricer", "--price", "0.5", "--window", "30d")
    assert done.exit_code == 0, done.output
    assert "720.00" in done.output
    assert "Assumed:" in done.output
