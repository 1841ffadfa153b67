"""`golive` and `cost`: verdicts and amounts that a person will act upon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pinn_operator.api.journal import Minute
from pinn_operator.plugin.cost import cost_of, page
from pinn_operator.plugin.golive import checks, counted_in
from pinn_operator.plugin.kubectl import Trouble
from pinn_operator.plugin.standing import standing_of
from tests.given import ALL_OFF, only
from tests.plugin.conftest import Run
from tests.plugin.fake_api import FakeApi
from tests.plugin.given_pinn import ONE, deleted, ended, report_of, settled, stepping
from tests.report.finished import certified, gate, promoted, rolled_back

BUDGET = {"metadata": {"name": f"pricer-{ONE.name}"}}
PASSED = certified(promoted()).document
SENT_BACK = certified(rolled_back())
MANIFESTS = Path(__file__).parents[3] / "manifests/base"


def verdicts(obj: dict[str, Any] | None = None, **more: Any) -> dict[str, tuple[bool, str]]:
    """Of an object that is fit, but for what is given."""
    obj = obj or settled(history=[ended(rolled_back()), ended(promoted())])
    given: dict[str, Any] = {
        "certificates": [("a", True, "")],
        "documents": {SENT_BACK.name: SENT_BACK.document},
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
        ("Two operators", {"operators": None}, "you may not look at them, or it runs out of this cluster"),
        ("Service levels were met in full", {"last": Trouble("it is damaged")}, "is not known: it is damaged"),
        ("Ready", {"obj": deleted(settled())}, "it is being deleted, since 2026-01-02T03:09:05Z"),
        ("A rollback was exercised", {"obj": settled(history=[ended(promoted())])}, "kubectl pinn abort"),
        (
            "A rollback was exercised",
            {"documents": {}},
            "no genuine report says that it ever had a share of the traffic",
        ),
        ("Nothing under way", {"obj": stepping()}, "Reconciling"),
        ("Ready", {"obj": settled(observedGeneration=2)}, "generation 3"),
    ],
)
def test_each_criterion_can_be_missed_and_says_what_to_do(name: str, more: dict[str, Any], said: str) -> None:
    met, why = verdicts(**more)[name]
    assert not met
    assert said in why


def test_a_version_that_was_stopped_before_its_first_user_has_exercised_no_rollback() -> None:
    stopped = certified(rolled_back(timeline=rolled_back().timeline[::2]))
    met, said = verdicts(documents={SENT_BACK.name: stopped.document})["A rollback was exercised"]
    assert not met
    assert said == (
        "2.0.0 was sent back, but no genuine report says that it ever had a share of the traffic; "
        "begin a rollout and, in its first step, say: kubectl pinn abort"
    )


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


CUSTOM = {"name": "rejects", "bad": "b", "total": "t", "promote": "1%", "abort": "5%"}
OFF = {"promote": "Off", "abort": "Off"}


@pytest.mark.parametrize(
    ("spec", "met", "said"),
    [
        ({"sla": ALL_OFF | {"custom": [CUSTOM]}}, True, "promote.errorRate"),
        ({"sla": ALL_OFF | {"custom": [CUSTOM | OFF]}}, False, "every gate is Off"),
        (
            {"sla": {"promote": {"errorRate": "1%"}, "custom": [CUSTOM | OFF]}},
            True,
            "Off by choice: custom.rejects.promote, custom.rejects.abort",
        ),
        ({"sla": only(cacheHitRate="80%"), "cache": {"size": 0}}, False, "every gate is Off"),
        ({"sla": only(cacheHitRate="80%"), "cache": {"size": 1}}, True, "Off by choice: promote.errorRate"),
        (
            {"sla": {"promote": {"errorRate": "1%", "cacheHitRate": "80%"}}, "cache": {"size": 0}},
            True,
            "Off by choice: promote.cacheHitRate",
        ),
    ],
)
def test_gates_of_ones_own_count_and_that_of_a_cache_that_is_not_there_does_not(
    spec: dict[str, Any], met: bool, said: str
) -> None:
    obj = settled()
    obj["spec"] |= spec
    found = verdicts(obj)["Service levels gate rollouts"]
    assert (found[0], said in found[1]) == (met, True), found


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
        labels = {"app.kubernetes.io/name": "as Helm calls it", "app.kubernetes.io/part-of": "pinn-operator"}
        pod = {"name": name, "namespace": "pinn-system", "labels": labels}
        api.put("/api/v1/namespaces/pinn-system/pods", {"metadata": pod, **ready})
    done = run("golive", "pricer")
    assert done.exit_code == 0, done.output
    assert "demo/pricer: fit to go live" in done.output
    assert [one["met"] for one in json.loads(run("golive", "pricer", "-o", "json").output)] == [True] * 9


def test_the_pods_of_the_operator_are_those_that_are_looked_for_and_those_of_servers_are_not() -> None:
    from pinn_operator.build.pod import labels_of
    from pinn_operator.plugin.kubectl import OPERATOR_PODS

    part_of, other = OPERATOR_PODS.split(",")
    (deployment,) = [
        one for one in yaml.safe_load_all((MANIFESTS / "operator.yaml").read_text()) if one["kind"] == "Deployment"
    ]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert part_of in {f"{name}={value}" for name, value in labels.items()}
    assert other.removeprefix("!") not in labels
    assert other.removeprefix("!") in labels_of("pricer", "server")


def later(version: str, **more: Any) -> dict[str, Any]:
    """A row of the history of a promotion after the one whose report is there."""
    return {
        "revision": "ffffffffff",
        "modelVersion": version,
        "outcome": "Promoted",
        "at": "2026-02-02T03:04:05Z",
        **more,
    }


def put_reports(api: FakeApi, *rows: dict[str, Any], data: dict[str, str] | None = None) -> None:
    """2.0.0 was promoted, then what else there is."""
    api.pinn(settled(history=[ended(promoted()), *rows]))
    found = report_of(promoted())
    api.put("/api/v1/namespaces/demo/configmaps", found if data is None else found | {"data": data})


@pytest.mark.parametrize(
    ("report", "said"),
    [({}, "the report of ffffffffff was refused"), ({"report": "gone"}, "the report gone is gone")],
    ids=["it was refused", "somebody has deleted it"],
)
def test_the_last_promotion_is_the_one_that_is_judged_though_its_report_is_missing(
    api: FakeApi, run: Run, report: dict[str, str], said: str
) -> None:
    put_reports(api, later("3.0.0", **report))
    judged = json.loads(run("golive", "pricer", "-o", "json").output)
    (levels,) = [one for one in judged if one["name"] == "Service levels were met in full"]
    assert not levels["met"]
    assert said in levels["said"]
    cost = run("cost", "pricer", "--price", "1", "-o", "json")
    assert cost.exit_code == 0, cost.output
    assert json.loads(cost.output)["after"] is None, "the older promotion is not the last"
    assert said in json.loads(cost.output)["assumed"][-1]


def without(*path: Any) -> dict[str, str]:
    """The data of a report whose certificate lacks something."""
    document = json.loads(certified(promoted()).text)
    *way, last = path
    part = document
    for key in way:
        part = part[key]
    del part[last]
    return {"certificate.json": json.dumps(document)}


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"certificate.json": "[]"},
        without("evidence"),
        without("evidence", 0, "step"),
        without("minutes", 0, "stable"),
        without("to", "modelVersion"),
        without("rollout"),
        without("began"),
        {"certificate.json": certified(promoted()).text.replace('"requests":160', '"requests":"many"')},
        {"certificate.json": certified(promoted()).text.replace('"seconds":92.25', '"seconds":1e999')},
    ],
    ids=lambda data: str(data)[-30:],
)
@pytest.mark.parametrize("command", ["golive", "cost --price 1"])
def test_a_certificate_that_was_altered_is_told_and_is_no_traceback(
    api: FakeApi, run: Run, data: dict[str, str], command: str
) -> None:
    put_reports(api, data=data)
    done = run(*command.split(), "pricer")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert "is damaged or of another release" in done.output


# --- Cost ------------------------------------------------------------------------------------------------------------


def hits(old: float, new: float) -> dict[str, Any]:
    """The certificate of a promotion with these shares of misses."""
    return certified(promoted(gates=(gate("cacheHitRate", step=2, stable=old, observed=new),))).document


def test_the_cost_is_instances_times_price_and_the_hit_rate_says_how_many_evaluations() -> None:
    """2 x 0.5 x 8,760 h; 20 % misses instead of 40 % is half the work."""
    cost = cost_of(standing_of(settled()), 0.5, 8760, hits(0.4, 0.2))
    assert (cost.before.version, cost.after and cost.after.version) == ("1.0.0", "2.0.0")
    assert cost.before.cost == 8760
    assert cost.before.hit_rate == pytest.approx(0.6)
    assert cost.work == pytest.approx(0.5)
    assert cost.rollout == pytest.approx(2 * 0.5 * 92.25 / 3600)


def test_the_hit_rate_is_that_of_the_last_hour_where_it_was_counted() -> None:
    minutes = (
        Minute(0, {"lookups": 60.0, "misses": 6.0}, {"lookups": 100.0}),
        Minute(60, {"lookups": 40.0, "misses": 4.0}, {"lookups": 100.0, "misses": 50.0}),
    )
    document = certified(promoted(minutes=minutes)).document
    cost = cost_of(standing_of(settled()), 1, 24, document)
    assert (cost.before.hit_rate, cost.after and cost.after.hit_rate) == (0.75, 0.9)


def test_where_stable_is_not_retained_both_ran_until_the_new_version_had_all_of_the_traffic() -> None:
    document = hits(0.4, 0.2)
    kept = cost_of(standing_of(settled()), 1, 24, document)
    assert "(retainStable: Full)" in kept.assumed[-1]
    document["rollout"]["retainStable"] = "None"
    cost = cost_of(standing_of(settled()), 1, 24, document)
    assert cost.rollout == pytest.approx(2 * 61.5 / 3600)
    assert "for 0.02 h, until the new one had all of the traffic (retainStable: None)" in cost.assumed[-1]


def test_how_many_instances_would_do_is_left_to_who_knows_the_load() -> None:
    """A tenth of the evaluations is no tenth of the servers: reading and writing HTTP costs what it did."""
    obj = settled()
    obj["spec"]["replicas"] = 10
    estimate = cost_of(standing_of(obj), 1, 24, hits(0.1, 0.01))
    assert estimate.work == pytest.approx(0.1)
    said = page(estimate, "demo/pricer", "1d")
    assert "Evaluations a request: 0.10 times those of before." in said
    assert "would" not in said
    assert [line.split()[-1] for line in said.splitlines() if line.startswith(("before", "after"))] == ["240.00"] * 2


def test_an_autoscaled_object_is_counted_as_it_runs() -> None:
    obj = settled()
    obj["spec"] |= {"replicas": 9, "autoscaling": {}}
    cost = cost_of(standing_of(obj), 1, 1)
    assert cost.before.instances == 2
    assert "as many as run now" in cost.assumed[0]


def test_what_nobody_has_counted_is_not_known() -> None:
    cost = cost_of(standing_of(settled()), 1, 24)
    assert (cost.after, cost.work, cost.rollout) == (None, None, None)
    assert "not known" in page(cost, "demo/pricer", "1d")


def test_in_a_rollout_the_hit_rate_is_that_of_the_canary() -> None:
    cost = cost_of(standing_of(stepping()), 1, 24)
    assert cost.after is not None
    assert cost.after.hit_rate == pytest.approx(0.88)


@pytest.mark.parametrize("change", [{"observed": None}, {"observed": 1e300}, {"observed": -1.0}])
def test_a_share_that_is_none_is_not_known(change: dict[str, Any]) -> None:
    document = hits(0.4, 0.2)
    document["evidence"][0] |= change
    del document["evidence"][0]["stable"]
    cost = cost_of(standing_of(settled()), 1, 24, document)
    assert (cost.before.hit_rate, cost.after and cost.after.hit_rate, cost.work) == (None, None, None)


def test_a_cache_that_never_misses_costs_no_division_by_zero() -> None:
    assert cost_of(standing_of(settled()), 1, 24, hits(0.0, 0.0)).work == 1


def test_the_page_says_what_it_assumes(api: FakeApi, run: Run) -> None:
    api.pinn(settled(history=[ended(promoted())]))
    api.put("/api/v1/namespaces/demo/configmaps", report_of(promoted()))
    done = run("cost", "pricer", "--price", "0.5", "--window", "30d")
    assert done.exit_code == 0, done.output
    assert "720.00" in done.output
    assert "Assumed:" in done.output
