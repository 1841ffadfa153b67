"""A rollback from a bake for which stable's servers were let go: who answers until they are back, and when it is over."""

from collections.abc import Callable
from typing import Any

import pytest
from pinn_operator.api.plan import Phase, Plan
from pinn_operator.decide.canary import QUIET_SECONDS
from pinn_operator.decide.rollout import BACK_SECONDS, SMOKE_SECONDS
from tests.decide.tiny_cluster import TinyCluster, rolling, serving

WITHIN = 120.0
"""Seconds that a rollback may last."""


def _baking(replicas: int = 1, **more: Any) -> TinyCluster:
    """2.0.0 has all of the traffic, and 1.0.0, which is stable, no server."""
    rollout = {"retainStable": "None", "rollbackWithin": f"{WITHIN:.0f}s"}
    cluster = rolling(step=3, replicas=replicas, rollout=rollout, **more)
    cluster.until(lambda _: cluster.state()["pods"] == {"2.0.0": replicas})
    return cluster


def _set_ill(cluster: TinyCluster, version: str, count: int) -> None:
    """So many of its servers do not answer, and the others do when they are asked next."""
    for number, pod in enumerate(cluster.pods[cluster.named(version)]):
        pod.ill = number < count
        pod.ready = pod.ready and not pod.ill


def _be_away(cluster: TinyCluster, version: str) -> None:
    """None of its servers is ready, and all have seen that."""
    _set_ill(cluster, version, len(cluster.pods[cluster.named(version)]))
    cluster.settle_down()
    cluster.settle_down()


def _abort(cluster: TinyCluster) -> None:
    cluster.annotations = {"pinn.dev/abort": f"{cluster.named('2.0.0')}@1"}


def _fail(cluster: TinyCluster) -> None:
    cluster.bad = {"2.0.0": 0.3}


def _return(cluster: TinyCluster) -> None:
    cluster.version = "1.0.0"


def _go_on_to_another(cluster: TinyCluster) -> None:
    cluster.version = "3.0.0"


def _pass_by(cluster: TinyCluster, seconds: float) -> list[Plan]:
    found, until = [], cluster.at + seconds
    while cluster.at < until:
        found.append(cluster.go_on())
    return found


def _all_to(cluster: TinyCluster) -> str:
    """The version that has all of the traffic, by what the gateway and the Service are told; empty where they differ."""
    named = cluster.versions
    weights = {named[name]: weight for name, weight in (cluster.weights or {}).items()} if cluster.has_gateway else {}
    version = named.get(cluster.selected or "", "")
    return version if weights in ({}, {version: 100}) else ""


def _servers_of_stable_asked_for(cluster: TinyCluster) -> bool:
    return cluster.named("1.0.0") in cluster.pods


def _ends_on_stable(cluster: TinyCluster) -> None:
    """The rollback ends once stable is well, and nothing of the canary is left."""
    _set_ill(cluster, "1.0.0", 0)
    cluster.until(lambda plan: plan.phase in (Phase.ROLLED_BACK, Phase.SERVING))
    cluster.go_on()
    assert (_all_to(cluster), set(cluster.state()["pods"])) == ("1.0.0", {"1.0.0"})
    assert len(cluster.status["history"]) == 1


# --- As long as stable has no server ---------------------------------------------------------------------------------


@pytest.mark.parametrize("traffic", [{"gateway": {"parentRefs": [{"name": "web"}]}}, {"allowCoarse": True}])
@pytest.mark.parametrize("back", [_abort, _return])
def test_a_canary_that_is_away_for_a_moment_when_it_is_sent_back_answers_again_until_stable_does(
    back: Callable[[TinyCluster], None], traffic: dict[str, Any]
) -> None:
    cluster = _baking(traffic=traffic)
    _be_away(cluster, "2.0.0")
    back(cluster)
    cluster.go_on()
    _set_ill(cluster, "1.0.0", 1)
    _pass_by(cluster, 5)
    _set_ill(cluster, "2.0.0", 0)
    plans = _pass_by(cluster, 600)[2:]
    assert {plan.phase for plan in plans} <= {Phase.ROLLING_BACK, Phase.DRAINING}
    assert (_all_to(cluster), cluster.state()["pods"]) == ("2.0.0", {"1.0.0": 1, "2.0.0": 1})
    assert "comes up first, version 2.0.0" in plans[-1].sentence
    _ends_on_stable(cluster)


def test_stable_that_loses_its_server_again_before_all_is_over_is_stood_in_for() -> None:
    cluster = _baking()
    _abort(cluster)
    cluster.until(lambda plan: plan.weight_of(plan.wanted) == 0)
    _be_away(cluster, "1.0.0")
    assert {plan.phase for plan in _pass_by(cluster, 600)} == {Phase.ROLLING_BACK}
    assert (_all_to(cluster), cluster.state()["pods"]) == ("2.0.0", {"1.0.0": 1, "2.0.0": 1})
    _ends_on_stable(cluster)


def test_a_canary_that_crashed_answers_while_stable_has_no_server_and_meets_no_user_any_more_when_it_has() -> None:
    cluster = _baking()
    cluster.pods[cluster.wanted][0].restart()
    cluster.until(lambda _: _servers_of_stable_asked_for(cluster))
    _set_ill(cluster, "1.0.0", 1)
    cluster.go_on()
    plans = _pass_by(cluster, 1200)
    assert {plan.weight_of(plan.wanted) for plan in plans} == {100}
    assert _all_to(cluster) == "2.0.0"
    _set_ill(cluster, "1.0.0", 0)
    cluster.until(lambda plan: plan.weight_of(plan.wanted) == 0)
    assert {plan.weight_of(plan.wanted) for plan in _pass_by(cluster, 600)} == {0}
    assert _all_to(cluster) == "1.0.0"


def test_a_canary_that_crashed_answers_again_where_stable_has_taken_over_and_lost_its_server() -> None:
    cluster = _baking()
    cluster.pods[cluster.wanted][0].restart()
    cluster.until(lambda _: _all_to(cluster) == "1.0.0")
    _pass_by(cluster, 5)
    _be_away(cluster, "1.0.0")
    cluster.until(lambda _: _all_to(cluster) == "2.0.0", passes=3)
    _set_ill(cluster, "1.0.0", 0)
    stood_in_at = cluster.at
    cluster.until(lambda _: _all_to(cluster) == "1.0.0")
    assert cluster.at - stood_in_at > QUIET_SECONDS - 5, (
        "else the traffic goes to and fro where stable bears none of it"
    )


def test_where_neither_has_a_server_the_canary_makes_room_for_stable_after_a_while() -> None:
    cluster = _baking()
    _be_away(cluster, "2.0.0")
    _abort(cluster)
    cluster.go_on()
    _set_ill(cluster, "1.0.0", 1)
    began = cluster.at
    cluster.until(lambda plan: plan.finished is not None)
    assert SMOKE_SECONDS <= cluster.at - began <= 2 * SMOKE_SECONDS
    cluster.go_on()
    assert (_all_to(cluster), cluster.state()["pods"]) == ("1.0.0", {"1.0.0": 1})


def test_with_no_servers_asked_for_nobody_is_waited_for() -> None:
    cluster = _baking()
    cluster.replicas = 0
    cluster.go_on()
    _abort(cluster)
    cluster.until(lambda plan: plan.phase is Phase.ROLLED_BACK, passes=10)


# --- As long as stable has too few of them ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("back", "enough"),
    [(_abort, 8), (_return, 8), (_go_on_to_another, 8), (_fail, 4)],
    ids=["aborted", "the spec returned", "another version", "a gate failed"],
)
@pytest.mark.parametrize("come", [True, False])
def test_the_traffic_does_not_go_to_the_first_of_many_servers_that_starts(
    back: Callable[[TinyCluster], None], enough: int, come: bool
) -> None:
    """A service that does well with half of its servers is common; one that does with an eighth of them is not."""
    cluster = _baking(8)
    back(cluster)
    cluster.until(lambda _: _servers_of_stable_asked_for(cluster))
    began = cluster.at
    for ready in range(1, enough):
        _set_ill(cluster, "1.0.0", 8 - ready)
        cluster.go_on()
        for _ in range(3):
            cluster.go_on(1.0)
            assert _all_to(cluster) == "2.0.0", ready
    if come:
        _set_ill(cluster, "1.0.0", 8 - enough)
    cluster.until(lambda _: _all_to(cluster) == "1.0.0", passes=5 if come else 200)
    assert (cluster.at - began < WITHIN - 2 * BACK_SECONDS) is come
    assert cluster.at - began < WITHIN


def test_a_canary_that_has_lost_servers_is_relieved_by_as_many() -> None:
    cluster = _baking(8)
    _set_ill(cluster, "2.0.0", 6)
    _abort(cluster)
    cluster.until(lambda _: _servers_of_stable_asked_for(cluster))
    _set_ill(cluster, "1.0.0", 6)
    cluster.until(lambda _: _all_to(cluster) == "1.0.0", passes=5)


def test_a_stable_that_stood_by_gets_everything_back_at_once_though_a_server_of_it_is_missing() -> None:
    cluster = rolling(step=3, replicas=8)
    _set_ill(cluster, "1.0.0", 7)
    cluster.settle_down()
    _abort(cluster)
    assert cluster.go_on().weight_of(cluster.named("2.0.0")) == 0


def test_a_third_version_does_not_wait_for_a_stable_without_servers() -> None:
    """Stable was there for the bake, took over, and lost its server before that was reported."""
    cluster = rolling(step=3, replicas=1, rollout={"rollbackWithin": f"{WITHIN:.0f}s"})
    _abort(cluster)
    cluster.go_on()
    _be_away(cluster, "1.0.0")
    _go_on_to_another(cluster)
    cluster.until(lambda plan: plan.phase is Phase.STEPPING)
    assert [one["outcome"] for one in cluster.status["history"]] == ["RolledBack"]


def test_a_new_version_need_not_match_the_servers_that_stable_has_too_many_of() -> None:
    cluster = serving(autoscaling={"minReplicas": 2, "maxReplicas": 20}, steps=[{"weight": 100, "hold": "30s"}])
    cluster.scale(cluster.named("1.0.0"), 20)
    cluster.go_on()
    cluster.autoscaling, cluster.replicas, cluster.version = None, 4, "2.0.0"
    began = cluster.at
    cluster.until(lambda plan: plan.phase is Phase.BAKING and plan.weight_of(plan.wanted) == 100)
    assert cluster.at - began < 100
