"""What a person asks for by annotation: acted upon once, whatever is lost meanwhile."""

from pinn_operator.api.memory import Memory
from pinn_operator.api.plan import Phase, Plan
from pinn_operator.decide import decide
from pinn_operator.decide.requests import asked, handled
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
