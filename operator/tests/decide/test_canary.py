"""One rollout, pass by pass: what makes a weight rise, what holds it, what takes it away, and how it ends."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pinn_operator.api.codec import dump, load
from pinn_operator.api.journal import Journal
from pinn_operator.api.memory import Memory
from pinn_operator.api.observed import Observed
from pinn_operator.api.outcome import Outcome
from pinn_operator.api.plan import Phase, Plan
from pinn_operator.api.status import Condition, Status
from pinn_operator.decide import decide
from pinn_operator.decide.canary import LATER, QUIET_SECONDS
from pinn_operator.decide.evidence.memory import Memory as Evidence
from pinn_operator.decide.watch import RETRY_SECONDS
from pinn_operator.report.conditions import conditions_of
from tests.decide.tiny_cluster import STEPS, WRITES, Pod, TinyCluster, has_begun, rolling, serving
from tests.given import ALL_OFF, AT_ONCE, only, revision


def _ends(plan: Plan) -> bool:
    return plan.finished is not None


def _journal(plan: Plan) -> Journal:
    assert plan.memory is not None
    assert plan.memory.journal is not None
    return plan.memory.journal


def _is(phase: Phase) -> Callable[[Plan], bool]:
    return lambda plan: plan.phase is phase


def _pass_by(cluster: TinyCluster, seconds: float) -> list[tuple[Observed, Plan]]:
    """The passes of so much time."""
    found, until = [], cluster.at + seconds
    while cluster.at < until:
        seen = cluster.observe()
        found.append((seen, cluster.go_on()))
    return found


def _rolled_back(cluster: TinyCluster) -> Journal:
    """The journal of the rollout when its report is due."""
    journal = cluster.until(_ends).finished
    assert journal is not None
    assert journal.ending == "RolledBack"
    cluster.until(_is(Phase.ROLLED_BACK))
    assert cluster.state()["stable"] == "1.0.0"
    assert cluster.share == 0
    return journal


# --- The way up ------------------------------------------------------------------------------------------------------


def test_a_good_version_takes_every_step_and_is_promoted_with_no_pod_restarted() -> None:
    cluster = serving()
    cluster.version = "2.0.0"
    shares = []
    pods: list[str] = []
    while (plan := cluster.go_on()).phase is not Phase.SERVING:
        shares.append(plan.weight_of(plan.wanted))
        pods = pods or [pod.name for pod in cluster.pods.get(plan.wanted, [])]
    assert sorted(set(shares)) == [0, 10, 50, 100]
    assert shares == sorted(shares)
    assert [pod.name for pod in cluster.pods[cluster.wanted]] == pods
    assert cluster.state()["pods"] == {"2.0.0": 2}
    assert cluster.state()["stable"] == "2.0.0"
    assert [one["outcome"] for one in cluster.status["history"]] == ["Promoted"]


def test_each_weight_is_held_for_its_time_and_not_promoted_before_the_bake_is_over() -> None:
    cluster = rolling()
    since = {1: cluster.at}
    while cluster.go_on().phase is not Phase.SERVING:
        journal = cluster.remembered.journal if cluster.remembered else None
        if journal and journal.step_began is not None:
            since.setdefault(journal.step, cluster.at)
    assert since[2] - since[1] >= 30
    assert since[3] - since[2] >= 30
    assert cluster.at - since[3] >= 60


def test_at_weight_100_stable_is_still_the_old_revision_and_stands_by() -> None:
    cluster = rolling(step=3)
    plan = cluster.go_on()
    assert (plan.phase, plan.weight_of(plan.wanted)) == (Phase.BAKING, 100)
    assert cluster.state()["stable"] == "1.0.0"
    assert cluster.state()["pods"] == {"1.0.0": 2, "2.0.0": 2}


@pytest.mark.parametrize("traffic", [{}, {"gateway": {"parentRefs": [{"name": "web"}]}}], ids=["Service", "gateway"])
def test_with_every_gate_off_and_one_step_a_rollout_goes_straight_through(traffic: dict[str, Any]) -> None:
    cluster = serving(sla=ALL_OFF, steps=AT_ONCE, traffic=traffic, rate=0)
    cluster.version = "2.0.0"
    cluster.until(_is(Phase.SERVING), passes=10)
    assert cluster.state()["pods"] == {"2.0.0": 2}


def test_the_canary_gets_nothing_before_every_server_is_ready_behind_its_service_warmed_and_tried() -> None:
    cluster = serving()
    cluster.version = "2.0.0"
    said = []
    while not (plan := cluster.go_on()).weight_of(plan.wanted):
        said.append(plan.sentence.partition(") ")[2])
    assert said == [
        "comes up, 0 of 2 replicas ready",
        "is ready and not yet behind its Service",
        "is being warmed and tried",
    ]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_weight_rises_only_in_a_pass_that_sees_every_server_ready_and_behind_its_service(step: int) -> None:
    cluster = rolling(step=step - 1) if step > 1 else serving()
    cluster.version = "2.0.0"
    for _ in range(100):
        seen = cluster.observe()
        name = cluster.wanted
        for case in (
            replace(seen, behind={**seen.behind, name: 1}),
            replace(seen, workloads={**seen.workloads, name: replace(seen.workload(name), ready=1)}),
        ):
            if name in seen.behind:
                assert decide(case).weight_of(name) <= cluster.share
        before = cluster.share
        plan = cluster.go_on()
        if plan.weight_of(plan.wanted) > before:
            assert seen.workload(name).ready == seen.behind[name] == 2
            return
    raise AssertionError("it never rose")


def test_what_is_known_is_stored_before_a_weight_rises_and_is_not_counted_twice_when_the_pass_is_cut_off() -> None:
    cluster = rolling()
    cluster.cut_off_after("memory")
    assert cluster.remembered is not None
    once = cluster.remembered.ledger["gates"]["errorRate"]["promote"]["canary_sum"]
    cluster.cut_off_after("memory")
    assert cluster.remembered.ledger["gates"]["errorRate"]["promote"]["canary_sum"] == once


def test_a_step_is_not_timed_before_the_gateway_has_taken_its_weight() -> None:
    cluster = rolling()
    taken = dict(cluster.taken)
    cluster.steps = [{"weight": 10, "hold": "0s"}, *cluster.steps[1:]]
    cluster.until(lambda plan: plan.weight_of(plan.wanted) == 50)
    for _ in range(20):
        cluster.taken = taken
        _, plan = cluster.reconcile()
        assert _journal(plan).step_began is None
        assert "not in force yet" in plan.sentence
        cluster.wait(10)
    cluster.settle_down()
    assert _journal(cluster.reconcile()[1]).step_began is not None


# --- Holding ---------------------------------------------------------------------------------------------------------


def _held_with(cluster: TinyCluster, reason: str) -> None:
    """It stays where it is for five times its hold, and says why."""
    step = cluster.share
    passes = _pass_by(cluster, 150)
    assert {plan.weight_of(plan.wanted) for _, plan in passes} == {step}
    assert reason in passes[-1][1].sentence


def test_without_metrics_the_weight_stays_with_the_reason_and_goes_on_when_they_are_back() -> None:
    cluster = rolling()
    cluster.no_metrics = "connection refused"
    _held_with(cluster, "no metrics")
    cluster.no_metrics = ""
    cluster.until(lambda plan: plan.weight_of(plan.wanted) == 50)


def test_without_requests_the_weight_stays_with_the_reason() -> None:
    cluster = rolling(rate=0)
    _held_with(cluster, "the canary has had no requests in this step")


def test_undecided_evidence_holds_and_says_how_much_more_it_takes() -> None:
    _held_with(rolling(rate=10), "a verdict takes about")


def test_after_the_longest_hold_a_step_without_verdict_waits_for_a_person() -> None:
    cluster = rolling(rate=0)
    plan = cluster.until(_is(Phase.UNDECIDED))
    assert plan.sentence.startswith("no verdict within 120 s; errorRate: the canary has had no requests")
    assert f"pinn.dev/promote={cluster.wanted}/1@TOKEN" in plan.sentence
    assert plan.weight_of(plan.wanted) == 10


def test_after_the_longest_hold_of_its_own_a_step_without_verdict_is_rolled_back_where_the_spec_says_so() -> None:
    steps = [{"weight": 10, "hold": "30s", "maxHold": "40s"}, {"weight": 100, "hold": "30s"}]
    cluster = rolling(rate=0, steps=steps, rollout={"whenUndecided": "RollBack"})
    assert "no verdict within 40 s" in _rolled_back(cluster).sentence


def test_a_step_without_a_hold_has_time_for_its_verdict_all_the_same() -> None:
    steps = [{"weight": 10, "hold": "0s"}, {"weight": 100, "hold": "0s"}]
    cluster = rolling(steps=steps, rollout={"whenUndecided": "RollBack"})
    plan = cluster.until(_is(Phase.SERVING))
    assert plan.stable is not None
    assert plan.stable.name == cluster.wanted
    silent = rolling(rate=0, steps=steps, rollout={"whenUndecided": "RollBack", "progressDeadline": "7m"})
    assert "no verdict within 420 s" in _rolled_back(silent).sentence


def test_a_verdict_after_the_longest_hold_still_counts() -> None:
    cluster = rolling(rate=0)
    cluster.until(_is(Phase.UNDECIDED))
    cluster.rate = 100
    cluster.until(lambda plan: plan.weight_of(plan.wanted) == 50)


def test_paused_holds_the_weight_though_every_gate_has_passed() -> None:
    cluster = rolling(step=2)
    cluster.paused = True
    passes = _pass_by(cluster, 300)
    assert {plan.weight_of(plan.wanted) for _, plan in passes} == {50}
    assert passes[-1][1].phase is Phase.PAUSED
    cluster.paused = False
    cluster.until(lambda plan: plan.weight_of(plan.wanted) == 100)


def test_paused_before_the_first_step_the_canary_comes_up_and_gets_nothing() -> None:
    cluster = serving(paused=True)
    cluster.version = "2.0.0"
    plan = cluster.until(_is(Phase.PAUSED))
    assert plan.look_again is None
    assert {plan.weight_of(plan.wanted) for _, plan in _pass_by(cluster, 300)} == {0}


@pytest.mark.parametrize("replicas", [0, 1])
def test_paused_before_the_first_step_behind_a_route_of_the_users_own_is_looked_at_again(replicas: int) -> None:
    """Nothing wakes the operator when somebody else gives the canary a share in it."""
    cluster = serving(paused=True, replicas=replicas, traffic={"routeRef": {"name": "mine"}})
    cluster.version = "2.0.0"
    assert cluster.until(_is(Phase.PAUSED)).look_again == LATER


def test_while_paused_gates_still_protect() -> None:
    cluster = rolling(step=2, paused=False)
    cluster.paused = True
    cluster.bad["2.0.0"] = 0.3
    assert "errorRate" in _rolled_back(cluster).sentence


def test_a_step_that_needs_approval_waits_for_a_person_when_its_gates_have_passed() -> None:
    steps = [{"weight": 10, "hold": "30s", "approval": "Required"}, {"weight": 100, "hold": "30s"}]
    cluster = rolling(steps=steps)
    plan = cluster.until(_is(Phase.APPROVAL))
    assert "step 1/2 waits for a person" in plan.sentence
    assert {plan.weight_of(plan.wanted) for _, plan in _pass_by(cluster, 300)} == {10}
    cluster.annotations["pinn.dev/promote"] = f"{cluster.wanted}@alice"
    assert cluster.go_on().weight_of(plan.wanted) == 100


def test_after_an_hour_without_operator_the_weight_is_as_it_was_and_rises_only_on_fresh_evidence() -> None:
    cluster = rolling()
    for _ in range(5):
        cluster.go_on()
    cluster.rate = 0
    cluster.wait(3600)
    cluster.no_metrics = "connection refused"
    assert {plan.weight_of(plan.wanted) for _, plan in _pass_by(cluster, 100)} == {10}
    cluster.no_metrics, cluster.rate = "", 100
    cluster.until(lambda plan: plan.weight_of(plan.wanted) == 50)


# --- Gates, limits, physics ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_canary_that_fails_requests_is_rolled_back_in_any_step_and_rejected_with_the_reason(step: int) -> None:
    cluster = rolling(step=step)
    for _ in range(15):
        cluster.go_on()
    cluster.bad["2.0.0"] = 0.3
    journal = _rolled_back(cluster)
    assert (journal.reason, journal.blamed) == ("ErrorRate", True)
    assert [one["revision"] for one in cluster.status["rejected"]] == [cluster.wanted]
    assert "errorRate" in cluster.status["rejected"][0]["reason"]
    assert cluster.state()["pods"] == {"1.0.0": 2}


def test_a_canary_no_worse_than_a_sick_stable_is_frozen_and_not_blamed() -> None:
    cluster = rolling(step=2)
    cluster.bad = {"1.0.0": 0.05, "2.0.0": 0.05}
    passes = _pass_by(cluster, 200)
    assert {plan.weight_of(plan.wanted) for _, plan in passes} == {50}
    assert passes[-1][1].rollout is not None
    assert passes[-1][1].rollout.verdict == "Frozen"
    assert "nobody is blamed" in passes[-1][1].sentence


def test_a_hard_limit_in_a_shared_incident_returns_the_traffic_and_rejects_nobody_and_is_not_tried_again() -> None:
    sla = {**only(errorRate="1%"), "rollback": {"errorRate": {"above": "10%", "for": "1m"}}}
    cluster = rolling(step=2, sla=sla)
    cluster.bad = {"1.0.0": 0.3, "2.0.0": 0.3}
    journal = _rolled_back(cluster)
    assert not journal.blamed
    assert "stable is no better" in journal.sentence
    assert cluster.status["rejected"] == []
    assert {plan.phase for _, plan in _pass_by(cluster, 300)} == {Phase.ROLLED_BACK}


def test_a_model_that_breaks_its_equation_grossly_is_stopped_before_its_first_user() -> None:
    cluster = serving(sla=only(physicsViolationRate="0.1%"))
    cluster.version, cluster.violating = "2.0.0", {"2.0.0": 0.05}
    shares = []
    while not _ends(plan := cluster.go_on()):
        shares.append(plan.weight_of(plan.wanted))
    assert set(shares) == {0}
    assert plan.finished is not None
    assert plan.finished.reason == "Physics"
    assert "50 of 1000 answers" in plan.finished.sentence
    assert "gamma is below 0" in plan.finished.sentence


def test_a_model_that_begins_to_break_its_equation_within_a_step_is_rolled_back() -> None:
    cluster = rolling(sla=only(physicsViolationRate="0.1%"))
    cluster.violating = {"2.0.0": 0.2}
    assert _rolled_back(cluster).reason in ("Physics", "PhysicsViolationRate")


def test_violations_that_stable_has_as_often_stop_nobody_at_once() -> None:
    cluster = serving(sla=only(physicsViolationRate="0.1%"))
    cluster.version, cluster.violating = "2.0.0", {"1.0.0": 0.05, "2.0.0": 0.05}
    cluster.until(lambda plan: plan.weight_of(plan.wanted) == 10)


def test_a_trial_that_cannot_be_made_holds_the_canary_back_and_is_made_again() -> None:
    cluster = serving()
    cluster.version, cluster.no_metrics = "2.0.0", "pod-3: connection refused"
    passes = _pass_by(cluster, 100)
    assert {plan.weight_of(plan.wanted) for _, plan in passes} == {0}
    assert passes[-1][1].sentence.endswith("cannot be tried yet: pod-3: connection refused")
    cluster.no_metrics = ""
    cluster.until(lambda plan: plan.weight_of(plan.wanted) == 10)


# --- Servers that fail -----------------------------------------------------------------------------------------------


def test_a_version_that_never_becomes_ready_is_rolled_back_at_the_deadline() -> None:
    cluster = serving(broken=frozenset({"2.0.0"}), rollout={"progressDeadline": "5m"})
    cluster.version, began = "2.0.0", cluster.at
    journal = _rolled_back(cluster)
    assert 300 <= cluster.at - began < 400
    assert journal.reason == "ProgressDeadlineExceeded"
    assert "ImagePullBackOff: no such image" in journal.sentence
    assert cluster.state()["pods"] == {"1.0.0": 2}


def test_pods_that_the_cluster_refuses_are_not_the_fault_of_the_version() -> None:
    cluster = serving()
    cluster.version, cluster.refused = "2.0.0", "exceeded quota: pods"
    passes = _pass_by(cluster, 3600)
    assert {plan.phase for _, plan in passes} == {Phase.STEPPING}
    assert passes[-1][1].sentence.endswith("comes up, 0 of 2 replicas ready: exceeded quota: pods")


def test_two_restarts_before_the_first_step_are_a_crash_loop() -> None:
    cluster = serving()
    cluster.version = "2.0.0"
    cluster.go_on()
    for _ in range(2):
        cluster.pods[cluster.wanted][0].restart()
    journal = _rolled_back(cluster)
    assert (journal.reason, journal.step) == ("CrashLoop", 0)


def test_two_restarts_within_a_step_fail_it() -> None:
    cluster = rolling(step=2)
    for _ in range(2):
        cluster.pods[cluster.wanted][1].restart()
    journal = _rolled_back(cluster)
    assert "restarted 2 times in this step" in journal.sentence
    assert journal.blamed


def test_one_restart_keeps_a_step_from_passing() -> None:
    cluster = rolling(step=2)
    cluster.pods[cluster.wanted][1].restart()
    passes = _pass_by(cluster, 100)
    assert max(plan.weight_of(plan.wanted) for _, plan in passes) == 50
    assert "a server of the canary restarted in this step" in passes[-1][1].sentence


@pytest.mark.parametrize("step", [1, 3])
def test_a_canary_without_servers_gets_nothing_in_the_same_pass_and_for_half_a_minute_after(step: int) -> None:
    cluster = rolling(step=step)
    for pod in cluster.pods[cluster.wanted]:
        pod.restart()
        pod.restarts = 0  # made anew elsewhere: the verdict on crash loops is another matter
    lost = cluster.at
    plan = cluster.go_on(1.0)
    assert plan.weight_of(plan.wanted) == 0
    assert "has 0 of 2 servers: 0 % of the traffic" in plan.sentence
    while cluster.share == 0:
        cluster.go_on(1.0)
    assert cluster.at - lost >= QUIET_SECONDS
    assert all(pod.ready for pod in cluster.pods[cluster.wanted])


@pytest.mark.parametrize("step", [1, 3])
def test_a_canary_that_crashed_with_all_its_servers_meets_no_user_again_in_this_step(step: int) -> None:
    """The step cannot pass any more: who met it again would meet it for nothing. When the step had its time a person decides."""
    cluster = rolling(step=step, replicas=1)
    cluster.pods[cluster.wanted][0].restart()
    passes = _pass_by(cluster, 1000)
    assert {plan.weight_of(plan.wanted) for _, plan in passes} == {0}
    assert "crashed: it gets none of the traffic" in passes[20][1].sentence
    assert passes[-1][1].phase == Phase.UNDECIDED
    assert "pinn.dev/abort=" in passes[-1][1].sentence
    assert ("pinn.dev/promote=" in passes[-1][1].sentence) == (step < 3)


@pytest.mark.parametrize("first", ["the drain", "the restart"])
def test_a_server_that_restarts_long_before_or_after_a_drain_is_no_crash_of_the_whole_canary(first: str) -> None:
    cluster = rolling(step=3, replicas=5, steps=[*STEPS[:2], {"weight": 100, "hold": "24h"}])
    for what in ("the drain", "the restart") if first == "the drain" else ("the restart", "the drain"):
        if what == "the drain":
            for pod in cluster.pods[cluster.wanted]:
                pod.ready = False
        else:
            cluster.pods[cluster.wanted][0].restart()
        _pass_by(cluster, 3600)
    assert cluster.remembered is not None
    assert cluster.remembered.journal is not None
    assert not cluster.remembered.journal.crashed
    assert cluster.share == 100


def test_a_canary_that_crashed_is_sent_users_again_when_a_person_moves_it_on() -> None:
    cluster = rolling(step=1, replicas=1)
    cluster.pods[cluster.wanted][0].restart()
    _pass_by(cluster, 60)
    cluster.annotations = {"pinn.dev/promote": f"{cluster.wanted}@now"}
    cluster.until(lambda plan: has_begun(plan, 2))
    assert cluster.share == 50


def test_a_canary_that_crashes_again_without_any_user_is_rolled_back() -> None:
    cluster = rolling(step=1, replicas=1)
    cluster.pods[cluster.wanted][0].restart()
    _pass_by(cluster, 40)
    cluster.pods[cluster.wanted][0].restart()
    assert "restarted 2 times in this step" in _rolled_back(cluster).sentence


def test_a_canary_down_for_the_hard_limit_is_rolled_back() -> None:
    cluster = rolling(step=2)
    cluster.broken = frozenset({"2.0.0"})
    assert "no server of the canary has been ready for 2 min" in _rolled_back(cluster).sentence


def test_a_canary_that_lost_one_of_two_servers_gets_half_at_most() -> None:
    cluster = rolling(step=3)
    cluster.pods[cluster.wanted][0].ready = False
    _, plan = cluster.reconcile()
    assert plan.weight_of(plan.wanted) == 50
    cluster.settle_down()
    cluster.pods[cluster.wanted][0].ready = True
    cluster.settle_down()
    assert cluster.go_on().weight_of(plan.wanted) == 100


# --- Without a stable that stands by ---


def test_where_stable_is_not_retained_its_servers_go_in_the_bake_and_not_before() -> None:
    cluster = rolling(step=2, rollout={"retainStable": "None"})
    assert cluster.state()["pods"] == {"1.0.0": 2, "2.0.0": 2}
    cluster.until(lambda plan: has_begun(plan, 3))
    cluster.until(lambda _: cluster.state()["pods"] == {"2.0.0": 2})
    assert cluster.share == 100
    cluster.until(_is(Phase.SERVING))
    assert cluster.state()["stable"] == "2.0.0"


@pytest.mark.parametrize(
    ("rollout", "said"),
    [
        ({"retainStable": "None"}, "without retained servers (retainStable: None) version 1.0.0"),
        ({"retainStable": "None", "rollbackWithin": "60s"}, "cannot be back on stable within 60s"),
    ],
    ids=["not retained", "and within less"],
)
def test_what_would_be_refused_before_a_rollout_does_not_let_stable_go_when_it_is_edited_in_the_middle(
    rollout: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its servers took 400 s to start, so a rollback to none would take ten minutes."""
    read = TinyCluster._server
    monkeypatch.setattr(TinyCluster, "_server", lambda *of: replace(read(*of), took=400.0))
    cluster = rolling(step=2)
    assert "rollbackWithin" not in cluster.go_on().sentence
    cluster.rollout = rollout
    cluster.until(lambda plan: has_begun(plan, 3))
    while (plan := cluster.go_on()).finished is None:
        assert said in plan.sentence
        assert cluster.state()["pods"] == {"1.0.0": 2, "2.0.0": 2}
    assert plan.finished.ending == "Promoted"
    assert "rollbackWithin" not in plan.sentence


def test_a_rollback_to_a_stable_without_servers_starts_them_before_any_traffic_moves() -> None:
    cluster = rolling(step=3, rollout={"retainStable": "None"})
    cluster.until(lambda _: cluster.state()["pods"] == {"2.0.0": 2})
    cluster.bad = {"2.0.0": 0.2}
    plan = cluster.until(lambda plan: plan.phase is Phase.ROLLING_BACK)
    assert plan.weight_of(plan.wanted) == 100
    assert "comes up first, version 2.0.0" in plan.sentence
    _rolled_back(cluster)


def test_a_stable_that_was_let_go_is_no_shared_incident() -> None:
    cluster = rolling(step=3, replicas=1, rollout={"retainStable": "None"})
    cluster.until(lambda _: cluster.state()["pods"] == {"2.0.0": 1})
    cluster.broken = frozenset({"2.0.0"})
    cluster.pods[cluster.wanted][0].ready = False
    assert _rolled_back(cluster).blamed


# --- Size ------------------------------------------------------------------------------------------------------------


def test_with_no_replicas_asked_for_a_new_version_takes_over_at_once() -> None:
    cluster = serving(replicas=0)
    cluster.version = "2.0.0"
    cluster.until(_is(Phase.SERVING), passes=5)
    assert cluster.state()["stable"] == "2.0.0"


def test_with_no_replicas_asked_for_a_pause_holds_a_new_version_all_the_same() -> None:
    cluster = serving(replicas=0, paused=True)
    cluster.version = "2.0.0"
    plan = cluster.until(_is(Phase.PAUSED))
    assert plan.sentence.endswith("is held: spec.rollout.paused is true; nothing serves, spec.replicas is 0")
    assert {plan.phase for _, plan in _pass_by(cluster, 300)} == {Phase.PAUSED}
    cluster.paused = False
    cluster.until(_is(Phase.SERVING), passes=5)
    assert cluster.state()["stable"] == "2.0.0"


@pytest.mark.parametrize("replicas", [0, 2], ids=["off when it began", "on when it began"])
def test_a_version_held_before_its_first_step_is_not_promoted_when_the_servers_go_for_the_night(replicas: int) -> None:
    cluster = serving(paused=True, replicas=replicas)
    cluster.version = "2.0.0"
    cluster.until(_is(Phase.PAUSED))
    for now in (2, 0):
        cluster.replicas = now
        _pass_by(cluster, 60)
    cluster.paused = False
    assert _pass_by(cluster, 60)[-1][1].sentence.endswith("waits until spec.replicas is above 0")
    cluster.replicas = 2
    plan = cluster.until(lambda plan: plan.weight_of(plan.wanted) > 0)
    assert (plan.weight_of(plan.wanted), cluster.state()["stable"]) == (10, "1.0.0")


def test_a_version_that_does_not_start_is_not_promoted_because_no_servers_are_asked_for_any_more() -> None:
    cluster = serving(broken=frozenset({"2.0.0"}))
    cluster.version = "2.0.0"
    _pass_by(cluster, 300)
    cluster.replicas = 0
    _pass_by(cluster, 600)
    assert cluster.state()["stable"] == "1.0.0"
    cluster.replicas = 2
    assert _rolled_back(cluster).reason == "ProgressDeadlineExceeded"


def test_a_rollout_whose_memory_is_lost_while_no_servers_are_asked_for_promotes_nothing() -> None:
    cluster = rolling(step=2)
    cluster.replicas = 0
    cluster.go_on()
    cluster.memory = None
    _pass_by(cluster, 300)
    assert cluster.state()["stable"] == "1.0.0"


LET_GO = {"retainStable": "None"}


@pytest.mark.parametrize(("step", "rollout"), [(2, {}), (3, LET_GO)], ids=["step 2", "bake, stable let go"])
def test_servers_asked_for_again_within_a_step_have_as_long_to_come_as_they_had_at_first(
    step: int, rollout: dict[str, Any]
) -> None:
    cluster = rolling(step=step, rollout=rollout)
    share, cluster.replicas = cluster.share, 0
    _pass_by(cluster, 60)
    cluster.replicas, cluster.broken = 2, frozenset({"1.0.0", "2.0.0"})  # a node has to be added first
    assert Phase.ROLLING_BACK not in {plan.phase for _, plan in _pass_by(cluster, 180)}
    cluster.broken = frozenset()
    cluster.until(lambda _: cluster.share == share)
    cluster.broken, began = frozenset({"2.0.0"}), cluster.at
    assert "no server of the canary has been ready for 2 min" in _rolled_back(cluster).sentence
    assert cluster.at - began < 300, "they were back: from then on they are missed as ever"


def test_servers_asked_for_again_within_a_step_that_do_not_come_end_the_rollout() -> None:
    cluster = rolling(step=2, rollout={"progressDeadline": "5m"})
    cluster.replicas = 0
    _pass_by(cluster, 60)
    cluster.replicas, cluster.broken, began = 2, frozenset({"2.0.0"}), cluster.at
    assert "no server of the canary has been ready for 2 min" in _rolled_back(cluster).sentence
    assert 400 < cluster.at - began < 500


def test_scaling_up_within_a_step_starts_servers_for_both_and_the_step_goes_on_when_they_are_ready() -> None:
    cluster = rolling(step=2)
    cluster.replicas = 4
    cluster.until(lambda plan: plan.weight_of(plan.wanted) == 100)
    assert {len(pods) for pods in cluster.pods.values()} == {4}
    assert sum(pod.ready for pod in cluster.pods[cluster.wanted]) == 4


@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize("retained", ["Full", "None"])
def test_scaling_up_within_a_step_changes_no_share_while_the_new_servers_come(step: int, retained: str) -> None:
    """Else the canary's share would fall upon stable, whose servers come as well, or have been let go."""
    cluster = rolling(step=step, replicas=2, rollout={"retainStable": retained})
    share = cluster.go_on().weight_of(cluster.wanted)
    cluster.replicas = 20
    for _ in range(3):
        cluster.go_on()
        for pods in cluster.pods.values():
            for number, pod in enumerate(pods):
                pod.ill = number > 3
                pod.ready = pod.ready and not pod.ill
    assert {plan.weight_of(plan.wanted) for _, plan in _pass_by(cluster, 20)} == {share}


def test_scaling_down_within_a_step_changes_no_share() -> None:
    cluster = rolling(step=2)
    cluster.replicas = 1
    assert {plan.weight_of(plan.wanted) for _, plan in _pass_by(cluster, 20)} == {50}


def test_so_few_servers_that_no_gateway_makes_no_such_share_wait_and_say_so() -> None:
    cluster = serving(traffic={})
    cluster.version = "2.0.0"
    plan = cluster.until(_is(Phase.TOO_COARSE))
    assert "so few servers can make no share nearer to 10 % than 33 %" in plan.sentence
    assert {plan.weight_of(plan.wanted) for _, plan in _pass_by(cluster, 300)} == {0}
    assert {cluster.go_on().phase for _ in range(5)} == {Phase.TOO_COARSE}, "what is said must not change to and fro"
    cluster.traffic = {"allowCoarse": True}
    cluster.until(lambda plan: plan.weight_of(plan.wanted) == 10)
    cluster.settle_down()
    assert sorted(cluster.endpoints.values()) == [1, 2]


COARSE = [{"weight": 10, "hold": "60s"}, {"weight": 50, "hold": "30s"}, {"weight": 100, "hold": "60s"}]
"""10 % takes four servers."""


def _scaled_down(**more: Any) -> TinyCluster:
    """Nine servers made 10 %; one a revision would make half."""
    cluster = rolling(step=1, replicas=9, traffic={}, steps=COARSE, **more)
    assert cluster.shares()[cluster.wanted] == pytest.approx(0.1)
    cluster.replicas = 1
    return cluster


def _left_alone(cluster: TinyCluster, passes: int = 5) -> Plan:
    for _ in range(passes):
        plan = cluster.go_on()
    return plan


def test_a_step_whose_servers_become_too_few_for_its_share_gives_it_up_and_says_so() -> None:
    cluster = _scaled_down()
    plan = _left_alone(cluster)
    assert plan.phase is Phase.TOO_COARSE
    assert "so few servers can make no share nearer to 10 % than 50 %" in plan.sentence
    assert cluster.shares() == {cluster.named("1.0.0"): 1.0}
    assert {plan.phase for _, plan in _pass_by(cluster, 1200)} == {Phase.TOO_COARSE}, "however long it lasts"
    cluster.replicas = 9
    cluster.until(lambda _: cluster.shares().get(cluster.wanted) == pytest.approx(0.1))
    cluster.until(lambda plan: has_begun(plan, 2))


def test_a_gateway_that_is_taken_out_of_the_spec_leaves_no_share_that_so_few_servers_cannot_make() -> None:
    cluster = rolling(step=1, replicas=1)
    cluster.traffic = {}
    plan = _left_alone(cluster)
    assert plan.phase is Phase.TOO_COARSE
    assert cluster.shares() == {cluster.named("1.0.0"): 1.0}
    cluster.traffic = {"allowCoarse": True}
    cluster.until(lambda _: cluster.shares().get(cluster.wanted) == 0.5)


def test_a_share_that_became_too_coarse_while_it_waits_for_the_next_step_is_given_up_too() -> None:
    cluster = rolling(step=1, replicas=9, traffic={}, steps=[COARSE[0], {"weight": 20, "hold": "30s"}, *AT_ONCE])
    cluster.annotations = {"pinn.dev/promote": f"{cluster.wanted}@1"}
    cluster.replicas = 1
    assert _left_alone(cluster).phase is Phase.TOO_COARSE
    assert cluster.shares() == {cluster.named("1.0.0"): 1.0}


def test_a_person_may_move_on_to_a_share_that_so_few_servers_can_make() -> None:
    cluster = _scaled_down()
    _left_alone(cluster)
    cluster.annotations = {"pinn.dev/promote": f"{cluster.wanted}@1"}
    cluster.until(lambda plan: has_begun(plan, 2))
    assert cluster.shares()[cluster.wanted] == 0.5


def test_a_share_that_is_too_coarse_is_kept_as_long_as_stable_could_not_answer_and_given_to_nobody_anew() -> None:
    cluster = _scaled_down()
    cluster.go_on()
    stable = cluster.named("1.0.0")
    cluster.pods[stable][0].ill, cluster.pods[stable][0].ready = True, False
    cluster.settle_down()
    _left_alone(cluster)
    assert cluster.shares() == {cluster.wanted: 1.0}
    cluster.pods[stable][0].ill = False
    _left_alone(cluster)
    assert cluster.shares() == {stable: 1.0}
    cluster.pods[stable][0].ill, cluster.pods[stable][0].ready = True, False
    cluster.settle_down()
    _left_alone(cluster)
    assert cluster.shares().get(cluster.wanted, 0.0) == 0.0


# --- Servers that a later step needs ---


def _replaced(**more: Any) -> TinyCluster:
    """The first step has begun, and one of three servers of the canary was replaced by another that does not start."""
    cluster = rolling(step=1, replicas=3, **more)
    cluster.pods[cluster.wanted][0] = Pod("successor", ill=True)
    return cluster


@pytest.mark.parametrize("undecided", ["Pause", "RollBack"])
def test_a_server_that_was_replaced_and_is_missing_at_the_next_step_does_not_hold_it_up_for_ever(
    undecided: str,
) -> None:
    """The others bear the share that there is, so nothing else would end it."""
    cluster = _replaced(rollout={"progressDeadline": "60s", "whenUndecided": undecided})
    cluster.until(lambda plan: plan.sentence.endswith("2 of 3 replicas ready"))
    began = cluster.at
    plan = cluster.until(_is(Phase.UNDECIDED if undecided == "Pause" else Phase.ROLLING_BACK))
    assert 40 < cluster.at - began < 90
    assert "2 of 3 replicas ready; not within spec.rollout.progressDeadline (60s)" in plan.sentence
    if undecided == "RollBack":
        cluster.until(_is(Phase.ROLLED_BACK))
        assert cluster.status["rejected"] == []
        return
    assert f"pinn.dev/abort={cluster.wanted}@TOKEN" in plan.sentence
    assert {plan.weight_of(plan.wanted) for _, plan in _pass_by(cluster, 300)} == {10}
    _set_ill(cluster)
    cluster.until(lambda plan: has_begun(plan, 2))


def test_while_a_server_is_missing_at_the_next_step_gates_still_protect() -> None:
    cluster = _replaced()
    cluster.until(lambda plan: plan.sentence.endswith("2 of 3 replicas ready"))
    assert sum(seen.measured is not None for seen, _ in _pass_by(cluster, 120)) >= 12
    cluster.bad["2.0.0"] = 0.5
    assert "errorRate" in _rolled_back(cluster).sentence


def _autoscaled(**more: Any) -> TinyCluster:
    """Eight servers of 1.0.0 serve, and 2.0.0 is in its first step, with two."""
    cluster = serving(autoscaling={"minReplicas": 2, "maxReplicas": 10}, rollout={"progressDeadline": "2m"}, **more)
    cluster.scale(cluster.named("1.0.0"), 8)
    cluster.go_on()
    cluster.version = "2.0.0"
    cluster.until(lambda plan: has_begun(plan, 1))
    return cluster


def _waiting_for_servers(**more: Any) -> TinyCluster:
    """That step has passed; of the four servers that the next one needs two do not start."""
    cluster = _autoscaled(**more)
    cluster.until(lambda plan: "is to get 50 %" in plan.sentence)
    _set_ill(cluster, 2, 3)
    return cluster


def _set_ill(cluster: TinyCluster, *numbers: int) -> None:
    """These servers of the canary do not answer, and the others do."""
    for number, pod in enumerate(cluster.pods[cluster.wanted]):
        pod.ill = number in numbers
        pod.ready = pod.ready and not pod.ill


def _time_to_roll_back(cluster: TinyCluster) -> float:
    began = cluster.at
    cluster.until(_is(Phase.ROLLING_BACK))
    return cluster.at - began


def test_a_pause_is_not_held_against_servers_that_the_next_step_needs() -> None:
    cluster = _waiting_for_servers()
    _pass_by(cluster, 60)
    cluster.paused = True
    _set_ill(cluster)  # a person adds nodes
    _pass_by(cluster, 1200)
    cluster.scale(cluster.named("1.0.0"), 10)
    cluster.paused = False
    plan = cluster.go_on()
    assert plan.sentence.endswith("4 of 5 replicas ready")
    assert plan.phase is Phase.STEPPING
    _set_ill(cluster, 4)
    assert 80 < _time_to_roll_back(cluster) < 200


def test_time_without_a_verdict_is_not_held_against_servers_that_the_next_step_needs() -> None:
    cluster = _waiting_for_servers()
    _set_ill(cluster, 0, 3)  # what the first one counted is not known
    _pass_by(cluster, 600)
    _set_ill(cluster, 3)
    plan = cluster.until(lambda plan: "is to get 50 %" in plan.sentence or plan.phase is Phase.ROLLING_BACK)
    assert plan.phase is Phase.STEPPING
    assert 80 < _time_to_roll_back(cluster) < 200


def test_servers_that_the_next_step_needs_and_that_are_being_warmed_have_come_in_time() -> None:
    cluster = _waiting_for_servers(cache={"warmUp": {"from": "Stable"}})
    _pass_by(cluster, 75)
    _set_ill(cluster)
    cluster.settle_down()
    cluster.settle_down()
    assert cluster.go_on().sentence.endswith("when its new servers are warm")
    cluster.wait(20)
    _set_ill(cluster, 3)
    assert cluster.go_on().sentence.endswith("3 of 4 replicas ready")


@pytest.mark.parametrize("come", [True, False])
def test_servers_that_are_needed_as_stable_has_grown_have_as_long_to_come_as_those_before_if_these_have_come(
    come: bool,
) -> None:
    """Else a version that never starts would be tried for as long as stable grows."""
    cluster = _waiting_for_servers()
    _pass_by(cluster, 60)
    cluster.scale(cluster.named("1.0.0"), 10)
    cluster.go_on()
    _set_ill(cluster, *([4] if come else [2, 3, 4]))
    took = _time_to_roll_back(cluster)
    assert took > 110 if come else took < 60


@pytest.mark.parametrize("come", [True, False])
def test_a_lack_of_metrics_gives_servers_that_the_next_step_needs_no_more_time_and_takes_none_once_they_have_come(
    come: bool,
) -> None:
    cluster = _waiting_for_servers()
    cluster.no_metrics = "connection refused"
    _pass_by(cluster, 60)
    _set_ill(cluster, *([] if come else [2, 3]))
    _pass_by(cluster, 540)
    _set_ill(cluster, 3)
    cluster.no_metrics = ""
    assert (_time_to_roll_back(cluster) > 80) is come


def test_a_person_who_leaves_a_step_without_a_verdict_waits_for_servers_no_longer_than_it_does() -> None:
    cluster = _autoscaled(rate=0)
    cluster.annotations = {"pinn.dev/promote": f"{cluster.wanted}@1"}
    cluster.go_on()
    _set_ill(cluster, 2, 3)
    assert 80 < _time_to_roll_back(cluster) < 200


# --- Memory and status lost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 3])
def test_with_its_memory_lost_a_rollout_begins_anew_and_raises_nothing_that_is_not_earned_again(step: int) -> None:
    cluster = rolling(step=step)
    cluster.memory = None
    plan = cluster.go_on()
    assert plan.weight_of(plan.wanted) == 0
    shares = []
    while (plan := cluster.go_on()).phase is not Phase.SERVING:
        shares.append(plan.weight_of(plan.wanted))
    assert shares == sorted(shares)
    assert sorted(set(shares) - {0}) == [10, 50, 100]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_with_its_status_lost_a_rollout_goes_on_where_it_was(step: int) -> None:
    cluster = rolling(step=step)
    share = cluster.share
    cluster.status = {}
    plan = cluster.go_on()
    assert (plan.weight_of(plan.wanted), cluster.state()["stable"]) == (share, "1.0.0")
    cluster.until(_is(Phase.SERVING))


@pytest.mark.parametrize("write", [None, *WRITES])
def test_a_promotion_cut_off_after_any_write_comes_to_the_same_end_and_is_reported_once(write: str | None) -> None:
    cluster = rolling(step=3)
    while True:
        plan = decide(cluster.observe())
        if plan.finished:
            break
        cluster.go_on()
    cluster.cut_off_after(write)
    cluster.settle_down()
    cluster.until(_is(Phase.SERVING))
    assert cluster.state()["stable"] == "2.0.0"
    assert cluster.state()["pods"] == {"2.0.0": 2}
    assert [one["outcome"] for one in cluster.status["history"]] == ["Promoted"]


@pytest.mark.parametrize("write", [None, *WRITES])
@pytest.mark.parametrize("later", [0, 1, 2])
def test_a_rollback_cut_off_after_any_write_comes_to_the_same_end_and_is_reported_once(
    write: str | None, later: int
) -> None:
    cluster = rolling(step=2)
    cluster.bad["2.0.0"] = 0.5
    while decide(cluster.observe()).phase is not Phase.ROLLING_BACK:
        cluster.go_on()
    for _ in range(later):
        cluster.go_on()
    cluster.cut_off_after(write)
    cluster.settle_down()
    cluster.until(_is(Phase.ROLLED_BACK))
    cluster.go_on()
    assert cluster.state()["pods"] == {"1.0.0": 2}
    assert [one["outcome"] for one in cluster.status["history"]] == ["RolledBack"]
    assert [one["revision"] for one in cluster.status["rejected"]] == [cluster.wanted]


def test_after_a_rollback_stable_is_asked_and_the_answer_is_in_the_report_and_the_servers_of_the_canary_wait_for_it() -> (
    None
):
    cluster = rolling(step=2)
    cluster.bad["2.0.0"] = 0.5
    cluster.until(_is(Phase.ROLLING_BACK))
    assert cluster.state()["pods"] == {"1.0.0": 2, "2.0.0": 2}
    journal = cluster.until(_ends).finished
    assert journal is not None
    assert journal.smoke == "8 of 8 questions answered"


# --- What is sent, always --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("traffic", [{"allowCoarse": True}, {"gateway": {"parentRefs": [{"name": "web"}]}}])
@pytest.mark.parametrize("bad", [0.0, 0.3])
def test_in_every_pass_the_weights_sum_to_100_and_who_has_one_runs(traffic: dict[str, Any], bad: float) -> None:
    cluster = serving(traffic=traffic, bad={"2.0.0": bad})
    cluster.version = "2.0.0"
    for _ in range(60):
        plan = cluster.go_on()
        assert plan.traffic is not None
        assert sum(plan.traffic.weights.values()) == 100
        running = {run.revision.name for run in plan.run}
        assert set(plan.traffic.weights) <= running
        assert set(cluster.shares()) <= running


def test_a_step_begins_when_it_is_reached_and_not_before() -> None:
    cluster = serving()
    cluster.version = "2.0.0"
    cluster.until(lambda plan: plan.weight_of(plan.wanted) == 10)
    journal = cluster.remembered.journal if cluster.remembered else None
    assert journal is not None
    assert journal.step_began is None
    assert has_begun(cluster.go_on(), 1)


# --- What was found by reading and by exploring ----------------------------------------------------------------------


def test_a_canary_that_comes_back_one_server_at_a_time_gets_its_weight_when_all_are_there() -> None:
    cluster = rolling(step=3, replicas=4)
    for pod in cluster.pods[cluster.wanted]:
        pod.ready = False
    cluster.reconcile()
    cluster.settle_down()
    cluster.at += 2 * QUIET_SECONDS
    for pod in cluster.pods[cluster.wanted][2:]:
        pod.ready = False
    cluster.behind[cluster.wanted] = 2
    assert cluster.reconcile()[1].weight_of(cluster.wanted) == 0
    cluster.settle_down()
    cluster.settle_down()
    assert cluster.go_on().weight_of(cluster.wanted) == 100


def test_a_weight_that_was_stored_and_not_yet_given_is_given_only_when_every_server_is_ready() -> None:
    cluster = rolling(step=1)
    while decide(cluster.observe()).weight_of(cluster.wanted) == 10:
        cluster.go_on()
    cluster.cut_off_after("memory")
    cluster.pods[cluster.wanted][0].ready = False
    assert cluster.reconcile()[1].weight_of(cluster.wanted) == 10
    assert cluster.share == 10


def test_promote_in_the_bake_waits_for_servers_that_are_gone() -> None:
    cluster = rolling(step=3)
    for pod in cluster.pods[cluster.wanted]:
        pod.ready = False
    cluster.annotations["pinn.dev/promote"] = f"{cluster.wanted}@1"
    plan = cluster.go_on(1.0)
    assert (plan.weight_of(plan.wanted), plan.finished) == (0, None)
    cluster.until(lambda plan: plan.phase is Phase.SERVING)
    assert cluster.status["lastHandled"]["promote"] == f"{cluster.wanted}@1"


@pytest.mark.parametrize("step", [1, 2])
def test_steps_that_were_shortened_in_the_middle_give_no_weight_that_was_not_earned(step: int) -> None:
    cluster = rolling(step=step)
    share = cluster.share
    cluster.steps = [{"weight": 100, "hold": "60s"}]
    plan = cluster.go_on()
    assert plan.weight_of(plan.wanted) == 0
    assert "is being warmed and tried" in plan.sentence
    cluster.until(lambda plan: plan.weight_of(plan.wanted) == 100)
    assert share < 100
    cluster.until(_is(Phase.SERVING))


def test_a_step_that_was_taken_out_in_the_middle_is_left_for_the_one_before_it() -> None:
    cluster = rolling(step=2)
    cluster.steps = [cluster.steps[0], cluster.steps[2]]
    plan = cluster.go_on()
    assert plan.weight_of(plan.wanted) == 10
    assert _journal(plan).step_began is None
    cluster.until(lambda plan: plan.weight_of(plan.wanted) == 100)


@pytest.mark.parametrize(
    ("before", "step", "after", "number"),
    [
        ((10, 50, 100), 2, (5, 10, 50, 100), 3),
        ((5, 10, 50, 100), 3, (10, 50, 100), 2),
        ((10, 50, 100), 3, (10, 25, 50, 75, 100), 5),
        ((10, 50, 100), 3, (100,), 1),
    ],
)
def test_steps_that_are_put_in_or_taken_out_leave_the_share_of_a_step_and_its_time_as_they_are(
    before: tuple[int, ...], step: int, after: tuple[int, ...], number: int
) -> None:
    cluster = rolling(step=step, steps=[{"weight": weight, "hold": "30s"} for weight in before])
    share, began = cluster.share, _journal(cluster.go_on()).step_began
    cluster.steps = [{"weight": weight, "hold": "30s"} for weight in after]
    plan = cluster.go_on()
    journal = _journal(plan)
    assert (journal.step, journal.step_began, plan.weight_of(plan.wanted)) == (number, began, share)


def test_a_lower_weight_in_the_spec_is_given_at_once_and_a_higher_one_only_on_evidence() -> None:
    cluster = rolling(step=2)
    cluster.steps = [cluster.steps[0], {"weight": 20, "hold": "30s"}, cluster.steps[2]]
    assert cluster.go_on().weight_of(cluster.wanted) == 20
    cluster.steps = [cluster.steps[0], {"weight": 50, "hold": "30s"}, cluster.steps[2]]
    assert cluster.go_on().weight_of(cluster.wanted) == 10
    cluster.until(lambda plan: plan.weight_of(plan.wanted) == 50)


def test_the_time_in_which_the_cluster_refused_its_pods_is_not_held_against_a_version() -> None:
    cluster = serving()
    cluster.version, cluster.refused = "2.0.0", "exceeded quota: pods"
    _pass_by(cluster, 3600)
    cluster.refused = None
    cluster.until(lambda plan: plan.weight_of(plan.wanted) == 10)


@pytest.mark.parametrize("refused", ["records", "workloads"])
def test_the_time_in_which_the_cluster_refused_its_deployment_is_not_held_against_a_version(refused: str) -> None:
    """A new revision has no record then; one that is tried again has."""
    cluster = serving(broken=frozenset({"2.0.0"}))
    cluster.version = "2.0.0"
    writes = [name for name in WRITES if name not in (refused, "workloads")]
    for _ in range(60):
        _, plan = cluster.reconcile(writes)
        cluster.settle_down()
        cluster.wait(30)
        assert plan.phase is Phase.STEPPING, plan.sentence
    cluster.go_on(1.0)
    allowed = cluster.at
    plan = cluster.until(_is(Phase.ROLLING_BACK))
    assert "not ready within spec.rollout.progressDeadline (10m)" in plan.sentence
    assert 600 <= cluster.at - allowed <= 700


@pytest.mark.parametrize("refused", [False, True])
def test_what_kubernetes_says_of_the_deadline_ends_it_unless_the_cluster_had_refused_it(refused: bool) -> None:
    """It counts what it had to wait for others, too."""
    cluster = serving(broken=frozenset({"2.0.0"}))
    cluster.version = "2.0.0"
    cluster.reconcile([write for write in WRITES if write != "workloads" or not refused])
    cluster.wait(30)
    cluster.go_on()
    seen = cluster.observe()
    late = replace(seen.workload(cluster.wanted), deadline_exceeded=True)
    plan = decide(replace(seen, workloads={**seen.workloads, cluster.wanted: late}))
    assert plan.phase is (Phase.STEPPING if refused else Phase.ROLLING_BACK)


def test_the_time_in_which_no_operator_looked_is_not_held_against_a_version_that_comes_up() -> None:
    """The nodes may have been away with it. What never starts is sent back all the same."""
    cluster = serving(broken=frozenset({"2.0.0"}))
    cluster.version = "2.0.0"
    began = cluster.at
    _pass_by(cluster, 300)
    cluster.wait(3600)
    assert cluster.go_on().phase is Phase.STEPPING
    cluster.until(_is(Phase.ROLLING_BACK))
    assert 3600 + 600 <= cluster.at - began <= 3600 + 700


def test_while_a_version_comes_up_little_is_stored_however_many_passes_there_are() -> None:
    """What a pass stores wakes the next."""
    cluster = serving(broken=frozenset({"2.0.0"}))
    cluster.version = "2.0.0"
    cluster.go_on()
    stored = set()
    for _ in range(300):
        cluster.go_on(1.0)
        stored.add(cluster.memory)
    assert len(stored) <= 31


def test_a_canary_that_was_ready_and_held_is_not_overdue_when_a_server_is_missing_for_a_moment() -> None:
    cluster = serving(paused=True)
    cluster.version = "2.0.0"
    cluster.until(_is(Phase.PAUSED))
    cluster.wait(3600)
    cluster.pods[cluster.wanted][0].ready = False
    assert cluster.go_on().phase is Phase.STEPPING
    cluster.until(_is(Phase.PAUSED), passes=5)


def test_a_gateway_that_has_not_taken_the_route_may_still_send_to_whoever_runs_so_nobody_is_removed() -> None:
    cluster = rolling(step=2)
    second, taken = cluster.wanted, dict(cluster.taken)
    cluster.version = "1.0.0"
    for _ in range(5):
        cluster.go_on()
        cluster.taken = dict(taken)
        assert second in cluster.pods
    cluster.settle_down()
    cluster.go_on()
    assert second not in cluster.pods


def test_a_canary_that_the_spec_scales_to_nothing_is_not_missed() -> None:
    cluster = rolling(step=2)
    cluster.replicas = 0
    assert {plan.phase for _, plan in _pass_by(cluster, 400)} <= {Phase.STEPPING, Phase.UNDECIDED}


def test_between_two_trials_that_cannot_be_made_nothing_changes_however_many_passes_there_are() -> None:
    """A status that changes wakes the next pass, and each trial is a thousand questions."""
    cluster = serving(no_metrics="pod-3: connection refused")
    cluster.version = "2.0.0"
    cluster.until(lambda plan: "cannot be tried yet" in plan.sentence)
    tries, stored, said = 0, set(), set()
    for _ in range(300):
        seen = cluster.observe()
        tries += seen.measured is not None
        plan = cluster.go_on(0.2)
        assert plan.look_again is not None
        assert 0 < plan.look_again <= RETRY_SECONDS
        stored.add(cluster.memory)
        said.add((plan.sentence, plan.rollout.verdict if plan.rollout else None))
    assert said == {(plan.sentence, "NoMetrics")}
    assert tries <= 60 / RETRY_SECONDS
    assert len(stored) <= tries + 1
    cluster.no_metrics = ""
    cluster.until(lambda plan: has_begun(plan, 1))
    assert _journal(cluster.go_on()).untried == ""


def test_a_trial_without_the_counters_of_every_server_is_none() -> None:
    """What a canary does first would not count otherwise."""
    cluster = serving()
    cluster.version = "2.0.0"
    while cluster.remembered is None or cluster.remembered.journal is None or not cluster.remembered.journal.measure:
        cluster.go_on()
    seen = cluster.observe()
    assert seen.measured is not None
    assert decide(seen).weight_of(cluster.wanted) == 10
    first, *others = seen.measured.pods
    unread = replace(first, counts=None, trouble="connection refused")
    plan = decide(replace(seen, measured=replace(seen.measured, pods=(unread, *others))))
    assert plan.weight_of(cluster.wanted) == 0
    assert "cannot be tried yet" in plan.sentence
    assert "connection refused" in plan.sentence


def test_a_pause_is_no_lack_of_a_verdict() -> None:
    cluster = rolling(rate=0, rollout={"whenUndecided": "RollBack"})
    cluster.paused = True
    passes = _pass_by(cluster, 600)
    assert {plan.phase for _, plan in passes} == {Phase.PAUSED}


def _paused(cluster: TinyCluster, seconds: float) -> None:
    cluster.paused = True
    _pass_by(cluster, seconds)
    cluster.paused = False


def _switched_off(cluster: TinyCluster, seconds: float) -> None:
    cluster.replicas = 0
    _pass_by(cluster, seconds)
    cluster.replicas = 2
    cluster.until(lambda _: all(pod.ready for pod in cluster.pods[cluster.wanted]) and cluster.share == 10)


def _without_operator(cluster: TinyCluster, seconds: float) -> None:
    cluster.wait(seconds)


def _without_gateway(cluster: TinyCluster, seconds: float) -> None:
    """Two servers a revision make no 10 %."""
    before, cluster.traffic = cluster.traffic, {}
    _pass_by(cluster, seconds)
    cluster.traffic = before
    cluster.until(lambda _: cluster.share == 10)


NO_TIME = [_paused, _switched_off, _without_operator, _without_gateway]


@pytest.mark.parametrize("passes_by", NO_TIME)
def test_time_in_which_nobody_could_come_to_a_verdict_is_not_that_of_the_longest_hold(
    passes_by: Callable[[TinyCluster, float], None],
) -> None:
    """120 s, of which 60 pass before it and those that are left after it."""
    cluster = rolling(rate=0, rollout={"whenUndecided": "RollBack"})
    _pass_by(cluster, 60)
    passes_by(cluster, 3600)
    assert {plan.phase for _, plan in _pass_by(cluster, 25)} == {Phase.STEPPING}
    assert 0 < _time_to_roll_back(cluster) < 60


@pytest.mark.parametrize("passes_by", [_paused, _without_operator])
def test_time_in_which_nobody_could_decide_is_none_of_a_canary_that_crashed(
    passes_by: Callable[[TinyCluster, float], None],
) -> None:
    cluster = rolling(step=1, replicas=1, rollout={"whenUndecided": "RollBack"})
    cluster.pods[cluster.wanted][0].restart()
    _pass_by(cluster, 30)
    passes_by(cluster, 3600)
    assert {plan.phase for _, plan in _pass_by(cluster, 60)} == {Phase.STEPPING}
    assert 0 < _time_to_roll_back(cluster) < 60
    assert [one["revision"] for one in cluster.status["rejected"]] == [cluster.wanted]


def test_an_operator_that_was_away_leaves_a_share_that_is_not_in_force_the_rest_of_its_time() -> None:
    cluster = serving(rollout={"progressDeadline": "60s", "whenUndecided": "RollBack"})
    cluster.no_gateway = "Gateway web says Accepted is False"
    cluster.version = "2.0.0"
    cluster.until(lambda plan: "not in force yet" in plan.sentence)
    cluster.wait(8 * 3600)
    assert {plan.phase for _, plan in _pass_by(cluster, 60)} == {Phase.STEPPING}
    assert 0 < _time_to_roll_back(cluster) < 120


@pytest.mark.parametrize("why", ["no requests", "no metrics", "no gateway", "stable is sick too", "too few requests"])
def test_a_step_that_had_nothing_to_go_by_until_its_longest_hold_is_rolled_back_and_only_what_was_judged_is_rejected(
    why: str,
) -> None:
    cluster = serving(rollout={"whenUndecided": "RollBack", "progressDeadline": "60s"})
    if why == "no gateway":
        cluster.no_gateway = "Gateway web says Accepted is False"
    cluster.version = "2.0.0"
    cluster.until(lambda plan: plan.weight_of(plan.wanted) == 10)
    match why:
        case "no requests":
            cluster.rate = 0
        case "no metrics":
            cluster.no_metrics = "connection refused"
        case "stable is sick too":
            cluster.bad = {"1.0.0": 0.05, "2.0.0": 0.05}
        case "too few requests":
            cluster.rate = 5
    cluster.until(_is(Phase.ROLLED_BACK), 600)
    assert cluster.remembered is not None
    assert cluster.remembered.journal is not None
    assert "no verdict within 120 s" in cluster.remembered.journal.sentence
    assert [one["revision"] for one in cluster.status["rejected"]] == ([cluster.wanted] if "few" in why else [])
    assert {plan.phase for _, plan in _pass_by(cluster, 60)} == {Phase.ROLLED_BACK}, "nor is it tried again by itself"


def test_a_rollback_whose_history_is_lost_starts_no_server_of_the_canary_again() -> None:
    cluster = rolling(step=2)
    cluster.bad["2.0.0"] = 0.5
    cluster.until(_is(Phase.ROLLED_BACK))
    cluster.status = {}
    for _ in range(5):
        cluster.go_on()
        assert set(cluster.pods) == {cluster.named("1.0.0")}
    assert [one["revision"] for one in cluster.status["rejected"]] == [cluster.wanted]


def test_while_the_gateway_does_not_take_a_rollback_nothing_new_is_stored_in_every_pass() -> None:
    cluster = rolling(step=2)
    cluster.bad["2.0.0"] = 0.5
    cluster.until(_is(Phase.ROLLING_BACK))
    cluster.taken = {}
    cluster.reconcile()
    stored = cluster.memory
    for _ in range(5):
        cluster.wait(1)
        cluster.reconcile()
    assert cluster.memory == stored


def test_a_share_is_made_only_when_the_servers_of_a_rollout_before_have_left_for_they_may_carry_the_label() -> None:
    cluster = serving(traffic={"allowCoarse": True})
    cluster.version = "2.0.0"
    cluster.until(lambda plan: "is being warmed" in plan.sentence)
    before = revision("0.9.0")
    cluster.records[before.name], cluster.pods[before.name] = before, [Pod("stray", ready=True, serving=True)]
    _, plan = cluster.reconcile()
    assert plan.weight_of(plan.wanted) == 0
    assert f"waits until revision {before.name} has left" in plan.sentence
    cluster.until(lambda plan: plan.weight_of(plan.wanted) == 10)
    assert before.name not in cluster.pods


# --- What must not end in silence ------------------------------------------------------------------------------------


def test_what_is_known_of_memory_can_be_stored_at_every_time_of_a_long_step() -> None:
    """The first look at 15 minutes has three blocks, which exclude no slope at all: its limits are infinite."""
    cluster = rolling(
        sla=only(errorRate="1%", memoryGrowthPerHour="10Mi"), steps=[{"weight": 10, "hold": "1h"}, *AT_ONCE]
    )
    for _ in range(4):
        _pass_by(cluster, 600)
        assert cluster.share == 10
    ledger = (cluster.remembered or Memory()).ledger
    assert load(Evidence, ledger["memory"]).look is not None


@pytest.mark.parametrize("step", [0, 2])
def test_a_server_of_stable_that_answers_nobody_neither_holds_up_its_cure_nor_hides_a_bad_version(step: int) -> None:
    cluster = serving() if step == 0 else rolling(step=step)
    cluster.pods[cluster.named("1.0.0")][0].ill = True
    cluster.version = "2.0.0"
    cluster.settle_down()
    if step:
        cluster.bad["2.0.0"] = 0.5
        _rolled_back(cluster)
    else:
        cluster.until(lambda plan: has_begun(plan, 1))


def test_a_trial_that_cannot_be_made_shows_as_metrics_that_are_missing() -> None:
    cluster = serving(no_metrics="nobody answers on port 8081")
    cluster.version = "2.0.0"
    plan = cluster.until(lambda plan: "cannot be tried yet: nobody answers" in plan.sentence)
    assert plan.rollout is not None
    assert plan.rollout.verdict == "NoMetrics"


def test_a_rollback_that_no_gateway_takes_says_so_and_asks_stable_only_once() -> None:
    cluster = rolling(step=2, rollout={"rollbackWithin": "60s"})
    cluster.bad["2.0.0"] = 0.5
    cluster.no_gateway = "Gateway web says Accepted is False"
    cluster.until(_is(Phase.ROLLING_BACK))
    passes = _pass_by(cluster, 120)
    seen, plan = passes[-1]
    assert plan.sentence.endswith("the traffic is not back yet: Gateway web says Accepted is False")
    assert plan.finished is None
    assert sum(seen.measured is not None for seen, _ in passes) <= 1
    assert len(passes) < 30
    long_ago = seen.now - timedelta(hours=1)
    stepping = Condition(
        type="Reconciling",
        status="True",
        reason="Step",
        message="",
        last_transition_time=long_ago,
        observed_generation=seen.resource.metadata.generation,
    )
    before = seen.resource.model_copy(update={"status": Status(conditions=(stepping,))})
    told = {one.type: one for one in conditions_of(replace(seen, resource=before), plan, Outcome())}
    assert (told["Ready"].status, told["Ready"].reason) == ("False", "RollingBack")
    assert "Stalled" not in told, "that the servers were not ready in time is not what is wrong"
    cluster.no_gateway = ""
    _rolled_back(cluster)


@pytest.mark.parametrize("undecided", ["Pause", "RollBack"])
def test_a_bake_that_lacks_a_server_for_good_does_not_last_for_ever(undecided: str) -> None:
    cluster = rolling(step=3, rollout={"whenUndecided": undecided, "progressDeadline": "60s"})
    cluster.pods[cluster.wanted][0].ill = True
    plan = cluster.until(_is(Phase.UNDECIDED if undecided == "Pause" else Phase.ROLLING_BACK), 600)
    assert "has 1 of 2 servers" in plan.sentence
    assert cluster.at < 3600
    if undecided == "Pause":
        assert "pinn.dev/abort" in plan.sentence
        assert "pinn.dev/promote" not in plan.sentence


def test_nor_does_one_without_a_gateway_when_stable_has_been_let_go() -> None:
    """One server of four should make a quarter, and with nobody beside it makes all: but all is what a bake asks for."""
    steps = [{"weight": 50, "hold": "30s"}, {"weight": 100, "hold": "90s", "maxHold": "2m"}]
    rollout = {"retainStable": "None", "progressDeadline": "60s"}
    cluster = rolling(step=2, replicas=4, traffic={}, steps=steps, rollout=rollout)
    cluster.until(lambda _: cluster.state()["pods"] == {"2.0.0": 4})
    cluster.refused = "exceeded quota: pods"  # nor does stable come back
    _set_ill(cluster, 1, 2, 3)
    plan = cluster.until(_is(Phase.UNDECIDED), 600)
    assert "has 1 of 4 servers" in plan.sentence


def test_a_step_that_no_gateway_takes_does_not_wait_for_ever() -> None:
    cluster = serving(rollout={"progressDeadline": "60s"})
    cluster.no_gateway = "Gateway web says Accepted is False"
    cluster.version = "2.0.0"
    plan = cluster.until(_is(Phase.UNDECIDED), 600)
    assert "not in force yet: Gateway web says Accepted is False" in plan.sentence


def test_evidence_that_is_lost_in_a_step_is_gathered_anew_and_a_bad_version_is_still_sent_back() -> None:
    cluster = rolling(step=2)
    memory = cluster.remembered
    assert memory is not None
    cluster.memory = json.dumps(dump(replace(memory, ledger={"mass": "half"})))
    cluster.bad["2.0.0"] = 0.1
    began = cluster.at
    _rolled_back(cluster)
    assert cluster.at - began < 120


def test_steps_that_are_changed_in_the_bake_do_not_make_it_blind() -> None:
    cluster = rolling(step=3, steps=[*STEPS[:2], {"weight": 100, "hold": "2h"}])
    _pass_by(cluster, 600)
    cluster.steps = cluster.steps[1:]
    _pass_by(cluster, 600)
    cluster.bad["2.0.0"] = 0.1
    began = cluster.at
    _rolled_back(cluster)
    assert cluster.at - began < 120


def test_a_server_of_the_canary_that_nobody_can_read_neither_hides_what_the_others_do_nor_lets_the_step_pass() -> None:
    cluster = rolling(step=1, replicas=3)
    cluster.pods[cluster.wanted][0].ill = True
    cluster.settle_down()
    passes = _pass_by(cluster, 300)
    assert {plan.weight_of(plan.wanted) for _, plan in passes} == {10}
    assert any("what server" in plan.sentence and "is not known" in plan.sentence for _, plan in passes)
    cluster.bad["2.0.0"] = 0.5
    _rolled_back(cluster)


@pytest.mark.parametrize("span", ["0s", "1s"])
def test_a_hard_limit_for_less_than_two_readings_is_one_for_two(span: str) -> None:
    rollback = {"errorRate": {"above": "10%", "for": span}}
    cluster = rolling(step=1, sla=only(latencyP99="5s") | {"rollback": rollback})
    cluster.bad["2.0.0"] = 0.5
    assert "rollback.errorRate" in _rolled_back(cluster).sentence


@pytest.mark.parametrize("replicas", [1, 2])
def test_who_waited_long_for_a_person_is_not_out_of_time_when_a_server_is_away_for_a_moment(replicas: int) -> None:
    steps = [{"weight": 80, "hold": "30s", "approval": "Required"}, *AT_ONCE]
    rollout = {"whenUndecided": "RollBack", "progressDeadline": "60s"}
    cluster = rolling(step=1, replicas=replicas, steps=steps, rollout=rollout)
    cluster.until(_is(Phase.APPROVAL))
    _pass_by(cluster, 3600)
    cluster.pods[cluster.wanted][0].ready = False
    phases = {plan.phase for _, plan in _pass_by(cluster, 120)}
    assert Phase.ROLLING_BACK not in phases
    assert cluster.until(_is(Phase.APPROVAL)).weight_of(cluster.wanted) == 80


def test_a_stable_that_has_yet_to_come_back_is_asked_again_when_it_is_there() -> None:
    cluster = rolling(step=2)
    cluster.bad["2.0.0"] = 0.5
    cluster.no_gateway = "Gateway web says Accepted is False"
    for pod in cluster.pods[cluster.named("1.0.0")]:
        pod.ready, pod.ill = False, True
    cluster.until(_is(Phase.ROLLING_BACK))
    for ill in (True, False):
        for pod in cluster.pods[cluster.named("1.0.0")]:
            pod.ready, pod.ill = not ill, ill
        for _ in range(3):
            cluster.go_on()
    cluster.no_gateway = ""
    assert _rolled_back(cluster).smoke == "8 of 8 questions answered"
