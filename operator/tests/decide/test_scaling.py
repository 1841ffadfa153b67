"""Bounds of the autoscalers: what a rollout needs is there before a share rises, and still there when everything comes back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pinn_operator.api.observed import Autoscaler, Observed
from pinn_operator.api.plan import Phase, Plan, Run
from pinn_operator.api.readings import Measured
from pinn_operator.decide import decide
from pinn_operator.decide.scaling import DOWN_SECONDS, STANDBY_SECONDS
from tests.decide.tiny_cluster import TinyCluster, rolling, serving
from tests.given import NOW, observed, ready, resource, revision

ONE = revision("1.0.0")
BETWEEN = {"minReplicas": 2, "maxReplicas": 10}


def _serving(asked: int, autoscaler: Autoscaler | None = None, **more: Any) -> Observed:
    """1.0.0 serves with so many servers."""
    pod_metrics = more.pop("pod_metrics", None)
    of = resource("1.0.0", status={"stable": {"revision": ONE.name}}, **more)
    return observed(
        of,
        revisions=[ONE],
        workloads={ONE.name: ready(asked, asked=asked)},
        selected=ONE.name,
        endpoints=[ONE.name],
        autoscalers={ONE.name: autoscaler} if autoscaler else {},
        pod_metrics=pod_metrics,
    )


def _run(plan: Plan, name: str = ONE.name) -> Run:
    (found,) = [run for run in plan.run if run.revision.name == name]
    return found


def _scaled_cluster(stable: int = 8, **more: Any) -> TinyCluster:
    """1.0.0 serves, and its autoscaler has found so many servers."""
    cluster = serving(autoscaling=BETWEEN, **more)
    cluster.scale(cluster.named("1.0.0"), stable)
    for _ in range(3):
        cluster.go_on()
    return cluster


# --- At rest ---------------------------------------------------------------------------------------------------------


def test_without_autoscaling_the_spec_says_how_many_servers_there_are() -> None:
    run = _run(decide(_serving(3, replicas=3)))
    assert (run.replicas, run.scale) == (3, None)


def test_the_bounds_and_targets_are_those_of_the_spec() -> None:
    run = _run(
        decide(_serving(6, autoscaling={**BETWEEN, "targetCPU": "150%", "targetInFlight": 16}, pod_metrics=True))
    )
    assert run.scale is not None
    assert (run.scale.fewest, run.scale.most, run.scale.cpu, run.scale.in_flight) == (2, 10, 150, 16)


@pytest.mark.parametrize(
    ("targets", "served", "cpu", "in_flight"),
    [
        ({}, True, 80, 32),
        ({}, False, 80, None),
        ({"targetInFlight": 0}, None, 80, None),
        ({"targetCPU": "Off"}, True, None, 32),
        pytest.param({"targetCPU": "Off"}, False, None, 32, id="or Kubernetes would put 80 % of the CPU in its place"),
    ],
)
def test_a_metric_that_nobody_serves_is_left_out_for_it_would_keep_every_server(
    targets: dict[str, Any], served: bool | None, cpu: int | None, in_flight: int | None
) -> None:
    run = _run(decide(_serving(2, autoscaling=BETWEEN | targets, pod_metrics=served)))
    assert run.scale is not None
    assert (run.scale.cpu, run.scale.in_flight) == (cpu, in_flight)


def test_that_requests_in_flight_wait_for_an_adapter_is_said_where_it_is_read_first_and_nothing_looks_again() -> None:
    plan = decide(_serving(2, Autoscaler(2), autoscaling=BETWEEN, pod_metrics=False))
    assert plan.phase is Phase.SERVING
    assert plan.sentence.endswith("spec.autoscaling.targetInFlight waits for the metrics API custom.metrics.k8s.io")
    assert plan.look_again is None


def test_the_first_servers_are_as_many_as_replicas_says_within_the_bounds() -> None:
    for replicas, begin in ((1, 2), (5, 5), (50, 10)):
        plan = decide(observed(resource("1.0.0", replicas=replicas, autoscaling=BETWEEN)))
        scale = plan.run[0].scale
        assert scale is not None
        assert scale.begin == begin


def test_a_deployment_that_was_deleted_begins_with_what_its_autoscaler_had_found() -> None:
    of = resource("1.0.0", autoscaling=BETWEEN, status={"stable": {"revision": ONE.name}})
    scale = _run(decide(observed(of, revisions=[ONE], autoscalers={ONE.name: Autoscaler(7)}))).scale
    assert scale is not None
    assert scale.begin == 7


def test_no_replicas_switch_an_autoscaled_object_off() -> None:
    run = _run(decide(_serving(6, Autoscaler(6), replicas=0, autoscaling=BETWEEN)))
    assert (run.replicas, run.scale) == (0, None)


# --- A rollout -------------------------------------------------------------------------------------------------------


def test_the_canary_has_the_servers_of_its_share_before_the_share_rises() -> None:
    cluster = _scaled_cluster(8)
    cluster.version, shares = "2.0.0", dict[int, int]()
    for _ in range(200):
        plan = cluster.go_on()
        shares.setdefault(cluster.share, cluster.sizes.get(cluster.wanted, 0))
        ready_ones = sum(pod.ready for pod in cluster.pods.get(cluster.wanted, []))
        assert 100 * ready_ones >= 8 * cluster.share, f"{cluster.share} % with {ready_ones} servers"
        if plan.phase is Phase.SERVING:
            break
    assert shares == {0: 2, 10: 2, 50: 4, 100: 8}


@pytest.mark.parametrize(("source", "warmed"), [("Stable", [(0, 2), (10, 4), (50, 8)]), ("None", [(0, 2)])])
def test_servers_that_come_for_a_step_are_warmed_before_its_share_rises(
    source: str, warmed: list[tuple[int, int]]
) -> None:
    cluster, found = _scaled_cluster(8, cache={"warmUp": {"from": source}}), list[tuple[int, int]]()
    cluster.version = "2.0.0"
    for _ in range(200):
        measured = cluster.observe().measured
        if measured and measured.warmed is not None:
            found.append((cluster.share, cluster.sizes[cluster.wanted]))
        if cluster.go_on().phase is Phase.SERVING:
            break
    assert found == warmed
    assert cluster.state()["stable"] == "2.0.0"


def test_stable_does_not_shrink_while_a_rollout_goes_on_and_for_five_minutes_after() -> None:
    cluster = _scaled_cluster(8)
    one, cluster.version = cluster.named("1.0.0"), "2.0.0"
    until_baked = cluster.until(lambda plan: plan.phase is Phase.BAKING)
    assert _run(until_baked, one).scale == _run(cluster.go_on(), one).scale
    assert cluster.bounds[one] == (8, 10)
    cluster.annotations = {"pinn.dev/abort": f"{cluster.wanted}@1"}
    cluster.until(lambda plan: plan.phase is Phase.ROLLED_BACK)
    assert (cluster.sizes[one], cluster.bounds[one]) == (8, (8, 10))
    plan = cluster.go_on()
    assert plan.look_again is not None
    assert plan.look_again <= STANDBY_SECONDS
    cluster.wait(STANDBY_SECONDS)
    plan = cluster.go_on()
    assert (cluster.bounds[one], plan.look_again) == ((2, 10), None)


def test_in_the_bake_stable_grows_with_the_canary_so_that_a_rollback_lands_on_enough_servers() -> None:
    cluster = _scaled_cluster(4)
    one, cluster.version = cluster.named("1.0.0"), "2.0.0"
    cluster.until(lambda plan: plan.phase is Phase.BAKING)
    assert cluster.sizes[one] == 4
    cluster.scale(cluster.wanted, 9)
    cluster.until(lambda plan: cluster.sizes[one] == 9)
    cluster.annotations = {"pinn.dev/abort": f"{cluster.wanted}@1"}
    cluster.until(lambda plan: plan.phase is Phase.ROLLED_BACK)
    assert cluster.sizes[one] == 9


def test_a_stable_that_grows_takes_no_share_away_from_the_canary() -> None:
    cluster, shares = rolling(step=2, autoscaling=BETWEEN), list[int]()
    cluster.scale(cluster.named("1.0.0"), 9)
    while cluster.share < 100:
        cluster.go_on()
        shares.append(cluster.share)
    assert set(shares) == {50, 100}
    assert cluster.sizes[cluster.wanted] == 9


def test_a_share_too_coarse_names_the_field_that_would_help() -> None:
    cluster = serving(autoscaling=BETWEEN, traffic={})
    cluster.version = "2.0.0"
    said = cluster.until(lambda plan: plan.phase is Phase.TOO_COARSE).sentence
    assert "raise spec.autoscaling.minReplicas" in said


def test_a_canary_that_loses_servers_loses_share_by_what_the_whole_is_worth() -> None:
    cluster = _scaled_cluster(8)
    cluster.version = "2.0.0"
    cluster.until(lambda _: cluster.share == 50)
    cluster.until(lambda plan: bool(plan.memory and plan.memory.journal.step_began))
    for pod in cluster.pods[cluster.wanted][1:]:
        pod.ready = False
    cluster.reconcile()
    assert cluster.share == 12, "one server of eight"


def test_without_a_gateway_the_canary_never_gets_more_than_its_share_while_servers_come_and_go() -> None:
    cluster = _scaled_cluster(8, traffic={"allowCoarse": True})
    one, cluster.version = cluster.named("1.0.0"), "2.0.0"
    for number in range(120):
        plan = cluster.go_on()
        if plan.phase is Phase.SERVING:
            break
        cluster.scale(one, 8 + number % 3) if one in cluster.sizes else None
        journal = plan.memory.journal if plan.memory else None
        if plan.traffic and plan.traffic.selected is None and journal:
            labelled = plan.traffic.labelled
            own = sum(pod.name in labelled for pod in cluster.pods[cluster.wanted])
            assert 100 * own <= 2 * journal.weight * len(labelled)
    assert cluster.state()["stable"] == "2.0.0"


def test_the_bounds_never_contradict_each_other_whatever_the_spec_says_by_now() -> None:
    cluster = _scaled_cluster(8)
    cluster.version, cluster.autoscaling = "2.0.0", {"minReplicas": 1, "maxReplicas": 3}
    for _ in range(100):
        plan = cluster.go_on()
        assert all(run.scale is None or run.scale.fewest <= run.scale.begin <= run.scale.most for run in plan.run)
        if plan.phase is Phase.SERVING:
            break
    assert cluster.sizes[cluster.named("2.0.0")] == 3


def test_a_stable_that_was_let_go_comes_back_as_large_as_it_was() -> None:
    cluster = _scaled_cluster(8, rollout={"retainStable": "None"})
    one, cluster.version = cluster.named("1.0.0"), "2.0.0"
    cluster.until(lambda _: one not in cluster.sizes)
    cluster.annotations = {"pinn.dev/abort": f"{cluster.wanted}@1"}
    cluster.until(lambda plan: plan.phase is Phase.ROLLED_BACK)
    assert cluster.sizes[one] == 8


# --- On and off ------------------------------------------------------------------------------------------------------


def test_autoscaling_that_is_switched_on_leaves_the_servers_as_they_are() -> None:
    cluster = serving(replicas=4)
    cluster.autoscaling = BETWEEN
    cluster.go_on()
    assert (cluster.sizes, cluster.bounds) == ({cluster.wanted: 4}, {cluster.wanted: (2, 10)})


def test_autoscaling_that_is_taken_out_lets_the_servers_become_as_many_as_replicas_says_by_and_by() -> None:
    cluster, sizes = _scaled_cluster(4, replicas=1), []
    cluster.autoscaling = None
    for _ in range(20):
        plan = cluster.go_on()
        sizes.append(cluster.sizes[cluster.wanted])
        if not cluster.bounds:
            break
        assert plan.look_again is not None
        assert "raise spec.replicas" in plan.sentence
    assert sorted(set(sizes), reverse=True) == [3, 2, 1]
    assert (cluster.bounds, cluster.go_on().look_again) == ({}, None)


def test_between_two_servers_that_go_is_half_a_minute() -> None:
    changed = NOW - timedelta(seconds=DOWN_SECONDS - 1)
    assert _run(decide(_serving(6, Autoscaler(6, changed)))).replicas == 6
    assert _run(decide(_serving(6, Autoscaler(6, changed - timedelta(seconds=2))))).replicas == 5
    assert _run(decide(_serving(40, Autoscaler(40)))).replicas == 36


def test_more_servers_come_at_once() -> None:
    scale = _run(decide(_serving(2, Autoscaler(2, NOW), replicas=6))).scale
    assert scale is not None
    assert (scale.fewest, scale.most) == (6, 6)


def test_an_object_that_is_switched_off_and_on_begins_with_what_replicas_says() -> None:
    cluster = _scaled_cluster(4)
    cluster.replicas = 0
    cluster.go_on()
    assert (cluster.sizes, cluster.bounds) == ({cluster.wanted: 0}, {})
    cluster.replicas = 5
    for _ in range(3):
        cluster.go_on()
    assert (cluster.sizes, cluster.bounds) == ({cluster.wanted: 5}, {cluster.wanted: (2, 10)})


class Crowded(TinyCluster):
    """A cluster with room for eleven servers in all: whoever comes later waits for a place, and nobody can read it."""

    room = 11

    def settle_down(self) -> None:
        super().settle_down()
        for pod in [pod for pods in self.pods.values() for pod in pods][self.room :]:
            pod.ready = False

    def _measured(self, seen: Observed) -> Measured | None:
        return super()._measured(replace(seen, servers=tuple(one for one in seen.servers if one.ready)))


def test_servers_that_a_later_step_needs_have_as_long_to_come_as_those_of_the_first() -> None:
    cluster = Crowded("1.0.0", autoscaling=BETWEEN, rollout={"progressDeadline": "2m"})
    for _ in range(4):
        cluster.go_on()
    cluster.scale(cluster.named("1.0.0"), 8)
    for _ in range(10):
        cluster.go_on()
    cluster.version = "2.0.0"
    cluster.until(lambda plan: "is to get 50 %" in plan.sentence, passes=600)
    plan = cluster.until(lambda plan: plan.phase is Phase.ROLLED_BACK, passes=600)
    assert "not within spec.rollout.progressDeadline (2m)" in plan.sentence
    assert cluster.status["rejected"] == [], "there was no room: it is not to blame"


class Slow(TinyCluster):
    """Servers that come for a later step start slowly, and cannot be read meanwhile."""

    def settle_down(self) -> None:
        super().settle_down()
        coming = self.pods.get(self.named("2.0.0"), [])[2:] if "2.0.0" in self.versions.values() else []
        for pod in coming:
            pod.ready = False
        self.no_metrics = "cannot be read" if coming else ""


def test_within_a_rollout_the_canary_keeps_what_it_has_though_a_pass_knows_no_next_step() -> None:
    cluster = Slow("1.0.0", autoscaling=BETWEEN)
    for _ in range(4):
        cluster.go_on()
    cluster.scale(cluster.named("1.0.0"), 8)
    for _ in range(10):
        cluster.go_on()
    cluster.version = "2.0.0"
    cluster.until(lambda plan: cluster.bounds.get(cluster.wanted) == (4, 10))
    for _ in range(5):
        cluster.go_on()
        assert cluster.bounds[cluster.wanted] == (4, 10)
