"""What a person asks for by annotation: acted upon once, whatever is lost meanwhile."""

from dataclasses import replace

import pytest
from pinn_operator.api.memory import Memory
from pinn_operator.api.observed import Workload
from pinn_operator.api.outcome import Outcome
from pinn_operator.api.plan import Phase, Plan
from pinn_operator.api.readings import Server
from pinn_operator.decide import decide, rollout
from pinn_operator.decide.requests import KEPT_FORMER, asked, handled, with_requests
from pinn_operator.report import happenings
from tests.decide.tiny_cluster import TinyCluster, rolling, serving
from tests.given import observed, resource, revision

PROMOTE, ABORT, RETRY = "pinn.dev/promote", "pinn.dev/abort", "pinn.dev/retry"
TWO = revision("2.0.0").name


def _say(cluster: TinyCluster, verb: str, token: str = "1") -> None:  # noqa: S107 - no secret
    cluster.annotations[verb] = f"{TWO}@{token}"


def _rolled_back(plan: Plan) -> bool:
    return plan.phase is Phase.ROLLED_BACK


def _aborted() -> TinyCluster:
    cluster = rolling()
    _say(cluster, ABORT)
    cluster.until(_rolled_back)
    return cluster


def _crashed() -> TinyCluster:
    """Being rolled back, as a server has restarted twice."""
    cluster = rolling(step=2)
    for _ in range(2):
        cluster.pods[TWO][0].restart()
        cluster.go_on()
    cluster.until(lambda plan: plan.phase is Phase.ROLLING_BACK)
    return cluster


# --- Reading them ----------------------------------------------------------------------------------------------------


def test_a_value_is_for_the_revision_before_the_at_sign_and_for_no_other() -> None:
    seen = observed(resource(metadata={"annotations": {PROMOTE: f"{TWO}@1", ABORT: "2.0.0", RETRY: TWO}}))
    assert asked(seen, "promote", TWO) == f"{TWO}@1"
    assert asked(seen, "promote", "another") is None
    assert asked(seen, "abort", TWO) is None
    assert asked(seen, "retry", TWO) == TWO


def test_a_value_that_was_acted_upon_asks_for_nothing_more_and_another_token_does() -> None:
    value = f"{TWO}@1"
    seen = observed(
        resource(metadata={"annotations": {PROMOTE: value}}), memory=Memory(handled={"promote": value, "abort": "x"})
    )
    assert asked(seen, "promote", TWO) is None
    again = observed(resource(metadata={"annotations": {PROMOTE: f"{TWO}@2"}}), memory=seen.memory)
    assert asked(again, "promote", TWO) == f"{TWO}@2"


def test_what_was_acted_upon_is_known_from_the_status_where_the_memory_is_lost() -> None:
    seen = observed(
        resource(status={"lastHandled": {"promote": "a", "abort": "b"}}), memory=Memory(handled={"abort": "c"})
    )
    assert handled(seen) == {"promote": "a", "abort": "c"}


def test_a_value_that_was_acted_upon_before_the_last_one_asks_for_nothing_when_it_is_put_back() -> None:
    """As Git does, that says the first one, when a person has said another."""
    cluster = rolling(rate=0)
    for token, weight in (("1", 50), ("2", 100)):
        _say(cluster, PROMOTE, token)
        assert cluster.go_on().weight_of(TWO) == weight
    _say(cluster, PROMOTE, "1")
    plans = [cluster.go_on() for _ in range(20)]
    assert {plan.phase for plan in plans} == {Phase.BAKING}
    assert cluster.status["lastHandled"]["promote"] == f"{TWO}@2"


def test_of_values_acted_upon_before_the_last_a_limited_number_is_kept() -> None:
    memory = Memory(handled={"promote": f"{TWO}@0"})
    for number in range(1, KEPT_FORMER + 3):
        seen = observed(resource(), memory=memory)
        memory = with_requests(seen, Memory(handled=handled(seen)), {"promote": f"{TWO}@{number}"}, {})
    assert memory.handled == {"promote": f"{TWO}@{KEPT_FORMER + 2}"}
    assert memory.former == {"promote": tuple(f"{TWO}@{number}" for number in range(2, KEPT_FORMER + 2))}


# --- Promote ---------------------------------------------------------------------------------------------------------


def test_promote_goes_to_the_next_step_without_a_verdict_and_once() -> None:
    cluster = rolling(rate=0)
    _say(cluster, PROMOTE)
    assert cluster.go_on().weight_of(TWO) == 50
    for _ in range(50):
        assert cluster.go_on().weight_of(TWO) == 50
    _say(cluster, PROMOTE, "2")
    assert cluster.go_on().weight_of(TWO) == 100


def test_promote_in_the_bake_ends_it() -> None:
    cluster = rolling(step=3)
    _say(cluster, PROMOTE)
    plan = cluster.go_on()
    assert plan.finished is not None
    assert plan.finished.ending == "Promoted"
    assert cluster.state()["stable"] == "2.0.0"


def test_promote_does_not_outvote_evidence_against_the_canary() -> None:
    cluster = rolling(step=2)
    cluster.bad["2.0.0"] = 0.5
    while decide(cluster.observe()).phase is not Phase.ROLLING_BACK:
        cluster.go_on()
    _say(cluster, PROMOTE)
    assert cluster.go_on().phase is Phase.ROLLING_BACK


def test_promote_is_not_acted_upon_twice_when_the_status_was_lost_or_never_written() -> None:
    cluster = rolling(rate=0)
    _say(cluster, PROMOTE)
    cluster.cut_off_after("memory")
    cluster.status = {}
    for _ in range(20):
        cluster.go_on()
    assert cluster.share == 50


def test_promote_is_not_acted_upon_twice_when_the_memory_was_lost() -> None:
    cluster = rolling(rate=0)
    _say(cluster, PROMOTE)
    cluster.go_on()
    cluster.memory = None
    cluster.until(lambda plan: plan.weight_of(TWO) == 10)
    for _ in range(20):
        cluster.go_on()
    assert cluster.share == 10


def test_promote_waits_until_every_server_is_ready_and_is_then_acted_upon() -> None:
    cluster = rolling(step=1, rate=0)
    cluster.pods[TWO][0].ready = False
    _say(cluster, PROMOTE)
    _, plan = cluster.reconcile()
    assert plan.weight_of(TWO) == 10
    assert "when every server is ready" in plan.sentence
    cluster.settle_down()
    cluster.settle_down()
    assert cluster.go_on().weight_of(TWO) == 50


@pytest.mark.parametrize("step", ["1", "3", "one"])
def test_a_promote_for_another_step_leaves_none_and_is_let_go_with_an_event_that_says_what_to_do(step: str) -> None:
    """As of two people who approve the same one, or of one who approves as it moves on by itself."""
    cluster = rolling(step=2)
    cluster.rate = 0
    cluster.annotations[PROMOTE] = f"{TWO}/{step}@1"
    seen, plan = cluster.reconcile()
    (told,) = happenings(seen, plan, Outcome())
    assert (told.reason, told.is_done) == ("PromoteLetGo", True)
    assert told.note == (
        f"a promote for step {step} is not acted upon: revision {TWO} is in step 2/3; to leave that one annotate it with "
        f"pinn.dev/promote={TWO}/2@TOKEN"
    )
    plans = [cluster.go_on() for _ in range(20)]
    assert {plan.weight_of(TWO) for plan in plans} == {50}
    assert cluster.remembered is not None
    assert cluster.remembered.journal is not None
    assert [entry.what for entry in cluster.remembered.journal.timeline].count("PromoteLetGo") == 1
    assert cluster.status["lastHandled"]["promote"] is None
    cluster.annotations[PROMOTE] = f"{TWO}/2@1"
    assert cluster.go_on().weight_of(TWO) == 100
    assert cluster.status["lastHandled"]["promote"] == f"{TWO}/2@1"


def test_a_step_that_asks_for_approval_is_not_left_by_the_second_approval_of_the_one_before() -> None:
    steps = [{"weight": weight, "hold": "30s", "approval": "Required"} for weight in (10, 50, 100)]
    cluster = rolling(steps=steps)
    for step, token in ((1, "anna"), (2, "ben")):
        plan = cluster.until(lambda plan: plan.phase is Phase.APPROVAL)
        assert f"pinn.dev/promote={TWO}/{step}@TOKEN" in plan.sentence
        cluster.annotations[PROMOTE] = f"{TWO}/1@{token}"
        cluster.go_on()
    assert {cluster.go_on().weight_of(TWO) for _ in range(20)} == {50}


def test_a_promote_for_the_first_step_waits_for_it() -> None:
    cluster = serving(rate=0)
    cluster.version = "2.0.0"
    cluster.annotations[PROMOTE] = f"{TWO}/1@1"
    cluster.until(lambda plan: plan.weight_of(TWO) == 50)
    assert {cluster.go_on().weight_of(TWO) for _ in range(20)} == {50}


# --- Abort -----------------------------------------------------------------------------------------------------------


def test_abort_returns_the_traffic_in_the_same_pass_and_the_revision_is_rejected() -> None:
    cluster = rolling(step=3)
    _say(cluster, ABORT)
    plan = cluster.go_on()
    assert (plan.phase, plan.weight_of(TWO)) == (Phase.ROLLING_BACK, 0)
    plan = cluster.until(_rolled_back)
    assert "a person asked for it" in plan.sentence
    assert [one["revision"] for one in cluster.status["rejected"]] == [TWO]
    assert cluster.status["lastHandled"]["abort"] == f"{TWO}@1"


def test_abort_works_before_the_first_step_too() -> None:
    cluster = serving(broken=frozenset({"2.0.0"}))
    cluster.version = "2.0.0"
    cluster.go_on()
    _say(cluster, ABORT)
    cluster.until(_rolled_back)
    assert cluster.state()["pods"] == {"1.0.0": 2}


def test_an_abort_cut_off_before_its_status_is_neither_lost_nor_done_twice() -> None:
    cluster = rolling(step=2)
    _say(cluster, ABORT)
    cluster.cut_off_after("memory")
    assert cluster.until(_rolled_back).weight_of(TWO) == 0
    assert [one["outcome"] for one in cluster.status["history"]] == ["RolledBack"]


# --- Retry -----------------------------------------------------------------------------------------------------------


def test_a_rejected_revision_is_tried_again_when_a_person_says_so_and_once() -> None:
    cluster = _aborted()
    assert {cluster.go_on().phase for _ in range(20)} == {Phase.ROLLED_BACK}
    _say(cluster, RETRY)
    cluster.until(lambda plan: plan.weight_of(TWO) == 10)
    assert cluster.status["rejected"] == []
    _say(cluster, ABORT, "again")
    cluster.until(_rolled_back)
    assert {cluster.go_on().phase for _ in range(20)} == {Phase.ROLLED_BACK}


def test_a_retry_is_not_acted_upon_twice_when_the_status_was_lost_or_never_written() -> None:
    cluster = _aborted()
    _say(cluster, RETRY)
    cluster.cut_off_after("memory")
    cluster.bad["2.0.0"] = 0.5
    cluster.until(_rolled_back)
    cluster.status = {}
    assert all(cluster.go_on().weight_of(TWO) == 0 for _ in range(20))


def test_a_retry_is_not_acted_upon_twice_when_the_memory_was_lost() -> None:
    cluster = _aborted()
    _say(cluster, RETRY)
    cluster.bad["2.0.0"] = 0.5
    cluster.go_on()
    cluster.until(_rolled_back)
    cluster.memory = None
    assert {cluster.go_on().phase for _ in range(20)} == {Phase.ROLLED_BACK}


def test_a_retry_said_while_the_rollback_is_still_going_on_is_not_lost() -> None:
    cluster = rolling(step=2)
    cluster.bad["2.0.0"] = 0.5
    cluster.until(lambda plan: plan.phase is Phase.ROLLING_BACK)
    cluster.bad.clear()
    _say(cluster, RETRY)
    cluster.until(lambda plan: plan.weight_of(TWO) == 10)
    assert cluster.status["lastHandled"]["retry"] == f"{TWO}@1"


def test_a_retry_of_a_rejected_revision_that_the_spec_asks_for_in_the_middle_of_another_rollout_is_not_lost() -> None:
    cluster = _aborted()
    cluster.version = "3.0.0"
    cluster.until(lambda plan: plan.weight_of(plan.wanted) == 10)
    cluster.version = "2.0.0"
    _say(cluster, RETRY)
    cluster.until(lambda plan: plan.weight_of(TWO) == 10)


def test_a_retry_said_while_the_rollback_is_going_on_is_one_try_with_servers_of_its_own() -> None:
    """The servers that failed are still there when the rollback is reported: by them a new try would fail at once."""
    cluster = _crashed()
    crashed = {pod.name for pod in cluster.pods[TWO]}
    _say(cluster, RETRY)
    plan = cluster.until(lambda plan: "waits until the servers of its last try have left" in plan.sentence)
    assert plan.phase is Phase.DRAINING
    cluster.until(lambda plan: plan.weight_of(TWO) == 10)
    assert crashed.isdisjoint(pod.name for pod in cluster.pods[TWO])
    assert len(cluster.status["history"]) == 1


@pytest.mark.parametrize("left", ["workload", "servers"])
def test_a_retry_waits_for_every_server_of_the_last_try_to_leave(left: str) -> None:
    """A Deployment is gone before its pods are told to leave."""
    cluster = _aborted()
    _say(cluster, RETRY)
    seen = cluster.observe()
    if left == "workload":
        seen = replace(seen, workloads={**seen.workloads, TWO: Workload(2, 0)})
    else:
        seen = replace(seen, servers=(*seen.servers, Server(TWO, "old", "x", "10.0.0.1", ready=False, restarts=3)))
    plan = decide(seen)
    assert (plan.phase, plan.memory, plan.look_again) == (Phase.DRAINING, None, 1.0)
    assert TWO not in {run.revision.name for run in plan.run}
    assert decide(cluster.observe()).phase is Phase.STEPPING


def test_a_try_that_fails_in_its_first_pass_was_a_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would begin again with every pass, for ever, and push all that was before it out of the history."""
    monkeypatch.setattr(rollout, "_has_servers", lambda *_: False)
    cluster = _crashed()
    _say(cluster, RETRY)
    cluster.until(lambda _: len(cluster.status["history"]) == 2)
    assert cluster.status["lastHandled"]["retry"] == f"{TWO}@1"
    plans = [cluster.go_on() for _ in range(50)]
    assert (plans[-1].phase, len(cluster.status["history"])) == (Phase.ROLLED_BACK, 2)


def test_a_retry_said_while_a_rollout_is_under_way_is_about_that_one() -> None:
    cluster = rolling(step=2)
    _say(cluster, RETRY)
    cluster.go_on()
    assert cluster.status["lastHandled"]["retry"] == f"{TWO}@1"
    cluster.bad["2.0.0"] = 0.5
    cluster.until(_rolled_back)
    assert {cluster.go_on().phase for _ in range(20)} == {Phase.ROLLED_BACK}


# --- What a rollout has left over ------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["as it ends", "as it rolls back", "when it is over"])
def test_a_promote_that_comes_too_late_for_a_rollout_does_not_reach_the_next_one_of_the_revision(said: str) -> None:
    cluster = rolling(step=2)
    if said == "as it ends":
        _say(cluster, PROMOTE)
    _say(cluster, ABORT)
    cluster.go_on()
    if said == "as it rolls back":
        _say(cluster, PROMOTE)
    cluster.until(_rolled_back)
    if said == "when it is over":
        _say(cluster, PROMOTE)
        cluster.go_on()
    cluster.rate = 0
    _say(cluster, RETRY)
    cluster.until(lambda plan: plan.weight_of(TWO) == 10)
    assert {cluster.go_on().weight_of(TWO) for _ in range(50)} == {10}
    _say(cluster, PROMOTE, "2")
    assert cluster.go_on().weight_of(TWO) == 50


def test_what_a_rollout_leaves_over_is_let_go_as_it_ends_and_not_said_to_be_acted_upon() -> None:
    cluster = rolling(step=2)
    _say(cluster, PROMOTE)
    _say(cluster, ABORT)
    cluster.go_on()
    assert cluster.status["lastHandled"] == {"promote": None, "abort": f"{TWO}@1", "retry": None}
    assert cluster.remembered is not None
    assert cluster.remembered.former == {"promote": (f"{TWO}@1",)}


def test_an_abort_said_after_a_rollback_does_not_end_the_next_try() -> None:
    cluster = _aborted()
    _say(cluster, ABORT, "2")
    cluster.go_on()
    assert cluster.remembered is not None
    assert cluster.remembered.former["abort"] == (f"{TWO}@2",)
    assert cluster.status["lastHandled"]["abort"] == f"{TWO}@1"
    _say(cluster, RETRY)
    cluster.until(lambda plan: plan.weight_of(TWO) == 10)
    _say(cluster, ABORT, "3")
    assert cluster.go_on().phase is Phase.ROLLING_BACK


@pytest.mark.parametrize("later", [0, 1, 2])
def test_an_abort_said_with_a_retry_or_after_it_ends_the_try_before_its_first_user(later: int) -> None:
    """Also while the servers of the last try are still leaving."""
    cluster = _aborted()
    _say(cluster, RETRY)
    for _ in range(later):
        cluster.go_on()
    _say(cluster, ABORT, "2")
    weights = {cluster.go_on().weight_of(TWO) for _ in range(60)}
    assert weights == {0}
    assert cluster.status["lastHandled"]["abort"] == f"{TWO}@2"


def test_a_promote_in_the_commit_that_asks_for_a_version_once_more_is_for_that() -> None:
    cluster = rolling(step=1, rate=0)
    cluster.version = "1.0.0"
    for _ in range(10):
        cluster.go_on()
    _say(cluster, PROMOTE, "again")
    cluster.version = "2.0.0"
    cluster.until(lambda plan: plan.weight_of(TWO) == 50)


@pytest.mark.parametrize("late", [False, True])
def test_a_promote_left_over_from_a_rollout_that_was_given_up_does_not_reach_the_next_one(late: bool) -> None:
    cluster = rolling(step=1, rate=0)
    cluster.version = "1.0.0"
    if not late:
        _say(cluster, PROMOTE)
    for _ in range(10):
        cluster.go_on()
    if late:
        _say(cluster, PROMOTE)
        cluster.go_on()
    cluster.version = "2.0.0"
    cluster.until(lambda plan: plan.weight_of(TWO) == 10)
    assert {cluster.go_on().weight_of(TWO) for _ in range(50)} == {10}


def test_a_promote_said_before_the_first_rollout_of_a_revision_is_for_that() -> None:
    """As in the commit that asks for the version."""
    cluster = serving(rate=0)
    _say(cluster, PROMOTE)
    cluster.go_on()
    cluster.version = "2.0.0"
    cluster.until(lambda plan: plan.weight_of(TWO) == 50)


def test_a_promote_for_another_revision_than_the_one_that_is_over_stays() -> None:
    cluster = rolling(step=1, rate=0)
    cluster.version = "3.0.0"
    name = rollout.wanted_revision(cluster.observe()).name
    cluster.annotations[PROMOTE] = f"{name}@1"
    cluster.until(lambda plan: plan.weight_of(name) == 50)
