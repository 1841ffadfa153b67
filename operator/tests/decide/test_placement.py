"""Where servers run: the sentences case by case, then every way in which GPUs can come and go, to the last state."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from pinn_operator.api.journal import Arm, Journal
from pinn_operator.api.memory import Memory
from pinn_operator.api.observed import Observed, Workload
from pinn_operator.api.placement import NOWHERE, Counted, Place, Placed, Placement
from pinn_operator.api.plan import Phase, Plan, Run
from pinn_operator.api.revision import Revision
from pinn_operator.decide import decide
from pinn_operator.decide.placement import place
from pinn_operator.decide.scaling import DOWN_SECONDS, STANDBY_SECONDS
from tests.given import GATEWAY, NOW, observed, ready, resource, revision

WORDS = "Unschedulable: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
PREFER: dict[str, Any] = {"gpu": {"policy": "Prefer"}}
REQUIRE: dict[str, Any] = {"gpu": {"policy": "Require"}, "fallback": {"cpu": False}}
LONG, SHORT = NOW - timedelta(minutes=3), NOW - timedelta(seconds=30)


def on_gpus(version: str = "1.0.0", number: int = 1, **spec: Any) -> Revision:
    """A revision that is written down with what it needs."""
    made = revision(version, number, **spec)
    wishes = made.gpu.policy
    return replace(
        made,
        template=None if wishes == "Require" else made.template,
        gpu_template=None if wishes == "Never" else made.template,
    )


def seen_with(
    of: Revision,
    gpu: Place,
    cpu: Place,
    spec: dict[str, Any],
    replicas: int = 2,
    *,
    counted: Counted | None = None,
    **more: Any,
) -> Observed:
    """That revision serves, its servers being like that."""
    asked = counted.servers if counted else gpu.asked + cpu.asked
    status = {"stable": {"revision": of.name}}
    count = gpu.ready + cpu.ready
    return observed(
        resource("1.0.0", replicas=replicas, status=status, **spec),
        revisions=[of],
        workloads={of.name: ready(count, max(count, replicas), asked=asked, counted=counted)},
        places={of.name: {"GPU": gpu, "CPU": cpu}},
        selected=of.name,
        endpoints=[of.name],
        **more,
    )


def decided(gpu: Place, cpu: Place = NOWHERE, spec: dict[str, Any] = PREFER, **more: Any) -> tuple[Plan, Placed]:
    plan = decide(seen_with(on_gpus(**spec), gpu, cpu, spec, **more))
    (run,) = plan.run
    assert run.placed is not None
    return plan, run.placed


def counts(found: Placed) -> tuple[int, int, str]:
    return found.gpu, found.cpu, found.reason


# --- Case by case ----------------------------------------------------------------------------------------------------


def test_servers_start_on_gpus_and_nothing_else_is_started() -> None:
    assert counts(decided(Place(asked=2))[1]) == (2, 0, "Starting")
    assert counts(decided(Place(asked=2, on_nodes=2, ready=2, behind=2))[1]) == (2, 0, "OnGpus")


def test_a_lack_of_gpus_is_borne_for_as_long_as_patience_lasts_and_the_operator_looks_again_then() -> None:
    plan, found = decided(Place(asked=2, lacking=WORDS, since=NOW - timedelta(seconds=110)))
    assert counts(found) == (2, 0, "Unschedulable")
    assert WORDS in found.said
    assert "spec.gpu.patience (2m)" in found.said
    assert plan.look_again == pytest.approx(10.1)


def test_when_patience_is_over_servers_on_cpus_stand_in_and_one_pending_server_stays() -> None:
    _, found = decided(Place(asked=2, lacking=WORDS, since=LONG))
    assert counts(found) == (1, 2, "OnCpus")
    assert "is served on CPUs, 0 of 2 servers are on GPUs" in found.said
    assert WORDS in found.said


def test_the_patience_is_that_of_the_revision_whatever_the_spec_says_by_now() -> None:
    patient: dict[str, Any] = {"gpu": {"policy": "Prefer", "patience": "10m"}}
    seen = seen_with(on_gpus(**patient), Place(asked=2, lacking=WORDS, since=LONG), Place(), PREFER)
    assert counts(place(seen, on_gpus(**patient), 2)) == (2, 0, "Unschedulable")


def test_a_gpu_that_is_free_for_one_of_two_is_used_and_a_cpu_serves_for_the_other() -> None:
    _, found = decided(Place(asked=2, on_nodes=1, ready=1, behind=1, lacking=WORDS, since=LONG))
    assert counts(found) == (2, 1, "OnCpus")
    assert "1 of 2 servers are on GPUs" in found.said


def test_when_the_probe_finds_a_gpu_the_next_one_follows_and_cpus_serve_on() -> None:
    stand_in = Place(asked=2, on_nodes=2, ready=2, behind=2)
    assert counts(decided(Place(asked=1, on_nodes=1), stand_in)[1]) == (2, 2, "OnCpus")


def test_cpu_servers_stay_until_each_gpu_server_is_an_endpoint() -> None:
    stand_in = Place(asked=2, on_nodes=2, ready=2, behind=2)
    plan, found = decided(Place(asked=2, on_nodes=2, ready=2, behind=1), stand_in)
    assert counts(found) == (2, 1, "OnCpus")
    assert plan.look_again == 1.0
    assert counts(decided(Place(asked=2, on_nodes=2, ready=2, behind=2), stand_in)[1]) == (2, 0, "OnGpus")


def test_no_cpu_server_goes_while_shares_are_made_by_labels() -> None:
    gpu, cpu = Place(2, 2, 2, behind=2), Place(2, 2, 2, behind=2)
    _, found = decided(gpu, cpu, split=True)
    assert found.cpu == 2


def test_once_cpus_stand_in_a_new_pending_server_does_not_send_them_away() -> None:
    """Somebody deleted the probe: the new one has not waited at all."""
    stand_in = Place(asked=2, on_nodes=2, ready=2, behind=2)
    assert counts(decided(Place(asked=1, lacking=WORDS, since=NOW), stand_in)[1]) == (1, 2, "OnCpus")
    assert counts(decided(Place(), stand_in)[1])[:2] == (1, 2)


def test_a_gpu_that_is_required_is_waited_for_and_no_cpu_stands_in() -> None:
    plan, found = decided(Place(asked=2, lacking=WORDS, since=LONG), spec=REQUIRE)
    assert counts(found) == (2, 0, "Unschedulable")
    assert "patience" not in found.said
    assert plan.look_again is not None


def test_a_quota_on_gpus_is_a_lack_of_gpus_too_and_is_tried_again() -> None:
    refused = Place(asked=2, lacking="refused: exceeded quota: gpus", since=LONG)
    plan, found = decided(refused)
    assert counts(found) == (1, 2, "OnCpus")
    assert plan.run[0].nudge is not None
    assert counts(decided(replace(refused, since=SHORT))[1]) == (2, 0, "Refused")


def test_no_servers_asked_for_are_none_anywhere() -> None:
    _, found = decided(Place(asked=1, lacking=WORDS, since=LONG), Place(asked=2), replicas=0)
    assert (found.gpu, found.cpu) == (0, 0)


def test_a_revision_that_never_runs_on_gpus_and_one_of_an_older_release_are_left_alone() -> None:
    for one in (on_gpus(), revision("1.0.0", **PREFER)):
        assert one.runs_on == ("CPU",)
        plan = decide(seen_with(one, Place(), Place(), PREFER if "gpu" in one.content else {}))
        assert plan.run == (Run(one, 2),)


# --- How many there are, where there are bounds ----------------------------------------------------------------------


def up(count: int) -> Place:
    return Place(count, count, count, count)


def within(fewest: int, most: int) -> dict[str, Any]:
    return {**PREFER, "autoscaling": {"minReplicas": fewest, "maxReplicas": most}}


def numbers(counted: Counted, spec: dict[str, Any], passes: int = 40, **more: Any) -> list[int]:
    """Of the servers, every half minute from when that was counted, as long as there is something to look again for."""
    found = [counted.servers]
    for _ in range(passes):
        now = counted.since + timedelta(seconds=DOWN_SECONDS)
        plan, _ = decided(up(found[-1]), spec=spec, counted=counted, now=now, **more)
        found.append(plan.run[0].replicas)
        if plan.look_again is None:
            return found
        assert plan.look_again <= DOWN_SECONDS
        counted = plan.run[0].counted or counted
    raise AssertionError(f"it does not come to rest: {found}")


def test_bounds_that_are_added_leave_the_servers_that_there_are() -> None:
    plan, found = decided(up(8), spec={**PREFER, "autoscaling": {"maxReplicas": 20}}, replicas=8)
    assert counts(found) == (8, 0, "OnGpus")
    assert (plan.run[0].counted, plan.look_again) == (Counted(8, NOW), None)
    assert plan.sentence.endswith("spec.autoscaling does not apply with spec.gpu.policy: Prefer, but for its bounds")


def test_bounds_that_are_taken_out_let_the_servers_go_by_and_by() -> None:
    plan, found = decided(up(8), counted=Counted(8, LONG), replicas=1)
    assert (counts(found), plan.look_again) == ((7, 0, "OnGpus"), DOWN_SECONDS)
    assert "without autoscaling 8 servers become 1 (spec.replicas), raise spec.replicas to keep them" in plan.sentence
    moment = Counted(8, NOW - timedelta(seconds=DOWN_SECONDS - 1))
    assert decided(up(8), counted=moment, replicas=1)[1].gpu == 8
    assert decided(up(40), counted=Counted(40, LONG), replicas=1)[1].gpu == 36


def test_more_servers_come_at_once_and_what_was_counted_is_forgotten_when_there_are_as_many_as_replicas_says() -> None:
    plan, found = decided(up(2), counted=Counted(2, NOW), replicas=6)
    assert (found.gpu, plan.run[0].counted) == (6, Counted(6, NOW))
    assert decided(up(6), counted=Counted(6, NOW), replicas=6)[0].run[0].counted is None


def test_where_there_never_were_bounds_servers_go_at_once() -> None:
    plan, found = decided(up(8), replicas=2)
    assert (found.gpu, plan.run[0].counted) == (2, None)


@pytest.mark.parametrize(
    ("spec", "replicas", "last"),
    [
        pytest.param(PREFER, 1, 1, id="no bounds any more"),
        pytest.param(within(2, 20), 1, 2, id="a lower bound that fell"),
        pytest.param(within(2, 20), 5, 5, id="replicas above it"),
        pytest.param(within(1, 4), 8, 4, id="an upper bound that fell"),
    ],
)
def test_whichever_way_the_bounds_change_no_more_than_one_server_in_ten_goes_at_a_time(
    spec: dict[str, Any], replicas: int, last: int
) -> None:
    found = numbers(Counted(20, NOW), spec, replicas=replicas)
    assert (found[0], found[-1]) == (20, last)
    assert all(before - max(1, before // 10) <= now <= before for before, now in pairwise(found))


def test_what_a_rollout_was_judged_with_goes_by_and_by_when_stable_need_not_stand_by_any_more() -> None:
    one, at = on_gpus(**PREFER), NOW.timestamp()
    arms = Arm(one.name, one.model_version), Arm("before", "0.9.0")
    ended = Journal(*arms, began=at - 900, ending="Promoted", ended=at - STANDBY_SECONDS - 1)
    more: dict[str, Any] = {"spec": within(2, 20), "replicas": 1, "counted": Counted(20, LONG)}
    plan, found = decided(up(20), memory=Memory(ended), **more)
    assert (found.gpu, plan.look_again) == (18, DOWN_SECONDS)
    assert plan.sentence.endswith("18 servers become 2, raise spec.replicas within them to keep more")
    still = replace(ended, ended=at - STANDBY_SECONDS + 10)
    assert decided(up(20), memory=Memory(still), **more)[1].gpu == 20


def test_who_is_not_selected_gets_no_more_servers_than_it_has_and_loses_none_by_it() -> None:
    seen = seen_with(on_gpus(**PREFER), up(3), NOWHERE, within(2, 20), 8, counted=Counted(3, LONG))
    (run,) = decide(replace(seen, selected=None)).run
    assert run.replicas == 3
    (run,) = decide(seen).run
    assert run.replicas == 8


def test_servers_on_gpus_that_come_one_by_one_are_no_more_servers() -> None:
    """Of a revision that was not counted yet: four of eight are on GPUs, a fifth starts, and there is a probe."""
    gpu, cpu = Place(6, 5, 4, 4), Place(4, 4, 4, 4)
    plan, found = decided(gpu, cpu, spec=within(2, 20), replicas=8)
    assert (plan.run[0].replicas, counts(found)) == (8, (6, 4, "OnCpus"))
    plan, found = decided(gpu, cpu, spec=within(2, 20), replicas=1)
    assert (plan.run[0].replicas, counts(found)) == (7, (6, 3, "OnCpus"))


# --- A rollout beside servers that hold all GPUs ---------------------------------------------------------------------


def rollout(spec: dict[str, Any], gpu: Place, cpu: Place = NOWHERE, **more: Any) -> Observed:
    """2.0.0 comes up beside 1.0.0, which has the GPUs."""
    one, two = on_gpus("1.0.0", 1, **spec), on_gpus("2.0.0", 2, **spec)
    held = Place(asked=2, on_nodes=2, ready=2, behind=2)
    return observed(
        resource("2.0.0", replicas=2, status={"stable": {"revision": one.name}}, traffic=GATEWAY, **spec, **more),
        revisions=[one, two],
        workloads={one.name: ready(2), two.name: Workload(cpu.ready, gpu.ready + cpu.ready, not_starting=gpu.lacking)},
        places={one.name: {"GPU": held}, two.name: {"GPU": gpu, "CPU": cpu}},
        selected=one.name,
        endpoints=[one.name],
    )


def after(seen: Observed, seconds: float) -> Plan:
    """The plan of a pass so much later, after one in every half minute until then."""
    memory = decide(seen).memory
    for passed in (*range(30, int(seconds), 30), seconds):
        plan = decide(replace(seen, memory=memory, now=seen.now + timedelta(seconds=passed)))
        memory = plan.memory
    return plan


def test_a_canary_that_requires_gpus_and_finds_none_is_refused_with_the_scheduler_s_reason_and_nobody_is_to_blame() -> (
    None
):
    seen = rollout(REQUIRE, Place(asked=2, lacking=WORDS, since=NOW))
    early = after(seen, 300)
    assert (early.phase, WORDS in early.sentence) == (Phase.STEPPING, True)
    late = after(seen, 601)
    assert late.phase is Phase.ROLLING_BACK
    assert WORDS in late.sentence
    assert "set spec.gpu.policy: Prefer" in late.sentence
    assert late.rejected == ()
    assert late.memory
    assert late.memory.journal
    assert late.memory.journal.reason == "Unschedulable"


def test_a_canary_gives_way_to_a_stable_that_has_lost_its_gpu_and_finds_no_other() -> None:
    seen = rollout(REQUIRE, Place(asked=2, on_nodes=2, ready=2, behind=2))
    (stable,) = [one for one in seen.revisions.values() if one.number == 1]
    short = Place(asked=2, on_nodes=1, ready=1, behind=1, lacking=WORDS, since=LONG)
    plan = decide(replace(seen, places={**seen.places, stable.name: {"GPU": short}}))
    assert plan.phase is Phase.ROLLING_BACK
    assert "needs it first" in plan.sentence
    assert plan.rejected == ()
    for not_yet in (replace(short, since=SHORT), replace(short, lacking="")):
        going_on = decide(replace(seen, places={**seen.places, stable.name: {"GPU": not_yet}}))
        assert going_on.phase is Phase.STEPPING


def test_a_canary_that_may_run_on_cpus_is_the_way_out_for_a_stable_that_lacks_its_gpu() -> None:
    seen = rollout(PREFER, Place(asked=2, lacking=WORDS, since=LONG), Place(asked=2, on_nodes=2, ready=2, behind=2))
    (stable,) = [one for one in seen.revisions.values() if one.number == 1]
    required = replace(stable, content={**stable.content, **REQUIRE}, template=None)
    short = Place(asked=2, lacking=WORDS, since=LONG)
    plan = decide(
        replace(
            seen,
            revisions={**seen.revisions, stable.name: required},
            places={**seen.places, stable.name: {"GPU": short}},
        )
    )
    assert plan.phase is Phase.STEPPING


def test_the_probe_for_a_gpu_counts_for_no_server_of_an_autoscaled_object() -> None:
    """Else stable would grow by one a pass while a rollout goes on: what it has is what it keeps."""
    scaled = {**PREFER, "autoscaling": {"minReplicas": 2, "maxReplicas": 10}}
    seen = rollout(scaled, Place(asked=1, lacking=WORDS, since=LONG), Place(asked=2, on_nodes=2, ready=2, behind=2))
    (stable,) = [one for one in seen.revisions.values() if one.number == 1]
    probed = Workload(pods=2, ready=2, asked=3)
    places: dict[Placement, Place] = {
        "GPU": Place(asked=1, lacking=WORDS, since=LONG),
        "CPU": Place(asked=2, on_nodes=2, ready=2, behind=2),
    }
    seen = replace(seen, workloads={**seen.workloads, stable.name: probed}, places={**seen.places, stable.name: places})
    (placed,) = [run.placed for run in after(seen, 5).run if run.revision.name == stable.name]
    assert placed
    assert counts(placed) == (1, 2, "OnCpus")


def as_planned(seen: Observed, plan: Plan, gpu: Place) -> Observed:
    """What the next pass sees: the servers on CPUs are there as planned, those on GPUs are no more than `gpu` says."""
    workloads, places = dict(seen.workloads), dict(seen.places)
    for run in plan.run:
        assert run.placed
        cpu, gpus = up(run.placed.cpu), replace(gpu, asked=run.placed.gpu)
        asked = run.counted.servers if run.counted else cpu.asked + gpus.asked
        up_ones = cpu.ready + gpu.ready
        pods = cpu.asked + gpu.on_nodes
        workloads[run.revision.name] = Workload(pods, up_ones, asked=asked, counted=run.counted)
        places[run.revision.name] = {"GPU": gpus, "CPU": cpu}
    now = seen.now + timedelta(seconds=1)
    return replace(seen, memory=plan.memory, workloads=workloads, places=places, now=now)


def test_a_gpu_that_becomes_free_within_a_rollout_makes_nobody_more_servers() -> None:
    """The probe has a node and starts, beside the server on a CPU that still stands in for it; then it is reached."""
    seen = rollout(within(2, 10), Place(asked=1, on_nodes=1), up(2))
    (stable,) = [one.name for one in seen.revisions.values() if one.number == 1]
    places: dict[Placement, Place] = {"GPU": Place(asked=1, on_nodes=1), "CPU": up(2)}
    seen = replace(seen, places={**seen.places, stable: places})
    for number in range(20):
        plan = decide(seen)
        assert [run.replicas for run in plan.run] == [2, 2], f"pass {number}: {plan.sentence}"
        reached = number >= 10
        seen = as_planned(seen, plan, Place(on_nodes=1, ready=int(reached), behind=int(reached)))


def test_a_canary_that_prefers_gpus_goes_on_with_servers_on_cpus() -> None:
    seen = rollout(PREFER, Place(asked=2, lacking=WORDS, since=LONG))
    (canary,) = [run.placed for run in decide(seen).run if run.revision.model_version == "2.0.0"]
    assert canary
    assert counts(canary) == (1, 2, "OnCpus")


def test_stable_s_gpus_are_not_let_go_for_the_bake_where_they_are_required() -> None:
    plan = decide(rollout(REQUIRE, Place(), rollout={"retainStable": "None"}))
    assert plan.phase is Phase.NOT_SUPPORTED
    assert "set spec.rollout.retainStable: Full" in plan.sentence


def test_the_way_back_may_take_as_long_as_patience() -> None:
    short = rollout(PREFER, Place(), rollout={"retainStable": "None", "rollbackWithin": "1m"})
    assert "retainStable" in decide(short).sentence
    long = rollout(PREFER, Place(), rollout={"retainStable": "None", "rollbackWithin": "3m"})
    assert decide(long).phase is Phase.STEPPING


# --- Every way in which GPUs can come and go -------------------------------------------------------------------------


class Pods(NamedTuple):
    """Of one Deployment: how many are asked for, wait for a node, start, are ready, and are endpoints as well."""

    asked: int = 0
    waiting: int = 0
    starting: int = 0
    ready: int = 0
    behind: int = 0

    @property
    def size(self) -> int:
        return sum(self[1:])

    def scaled(self, asked: int) -> "Pods":
        """As Kubernetes does it: those that are of least use go first."""
        left = self._replace(asked=asked, waiting=self.waiting + max(0, asked - self.size))
        for name in ("waiting", "starting", "ready", "behind"):
            left = left._replace(**{name: getattr(left, name) - min(getattr(left, name), max(0, left.size - asked))})
        return left


class World(NamedTuple):
    """`gpus` are there, taken by us or not; `waited` that a pending server has waited for as long as patience lasts."""

    gpus: int = 0
    gpu: Pods = Pods()
    cpu: Pods = Pods()
    waited: bool = False
    losses: int = 1

    @property
    def endpoints(self) -> int:
        return self.gpu.behind + self.cpu.behind

    @property
    def free(self) -> int:
        return self.gpus - self.gpu.starting - self.gpu.ready - self.gpu.behind


REPLICAS = 2
PREFERRED = on_gpus(**PREFER)


def look(world: World, *, ready_is_enough: bool = False) -> Observed:
    gpu, cpu = world.gpu, world.cpu
    on_nodes = gpu.starting + gpu.ready + gpu.behind
    up = gpu.ready + gpu.behind
    waits: dict[str, Any] = (
        {"lacking": WORDS, "since": LONG if world.waited else SHORT} if gpu.waiting and not world.free else {}
    )
    gpus = Place(gpu.asked, on_nodes, up, up if ready_is_enough else gpu.behind, **waits)
    return seen_with(PREFERRED, gpus, Place(cpu.asked, cpu.size, cpu.ready + cpu.behind, cpu.behind), PREFER, REPLICAS)


def passed(world: World, **how: Any) -> World:
    """After a pass of the operator."""
    found = place(look(world, **how), PREFERRED, REPLICAS)
    return world._replace(gpu=world.gpu.scaled(found.gpu), cpu=world.cpu.scaled(found.cpu))


def moves(world: World) -> Iterator[World]:
    gpu, cpu = world.gpu, world.cpu
    if gpu.waiting and world.free > 0:
        yield world._replace(gpu=gpu._replace(waiting=gpu.waiting - 1, starting=gpu.starting + 1), waited=False)
    if cpu.waiting:
        yield world._replace(cpu=cpu._replace(waiting=cpu.waiting - 1, starting=cpu.starting + 1))
    for name, pods in (("gpu", gpu), ("cpu", cpu)):
        for here, there in (("starting", "ready"), ("ready", "behind")):
            if count := getattr(pods, here):
                moved = pods._replace(**{here: count - 1, there: getattr(pods, there) + 1})
                yield world._replace(gpu=moved) if name == "gpu" else world._replace(cpu=moved)
    if gpu.waiting and not world.waited:
        yield world._replace(waited=True)
    if world.gpus < REPLICAS:
        yield world._replace(gpus=world.gpus + 1)
    if world.free > 0:
        yield world._replace(gpus=world.gpus - 1)
    if gpu.behind and world.losses:
        lost = gpu._replace(behind=gpu.behind - 1, waiting=gpu.waiting + 1)
        yield world._replace(gpu=lost, gpus=world.gpus - 1, losses=world.losses - 1)


def every_world(**how: Any) -> set[World]:
    """From the first pass on. At each pass of the operator what must never happen is checked."""
    found, queue = {World()}, deque([World()])
    while queue:
        world = queue.popleft()
        after_pass = passed(world, **how)
        assert after_pass.endpoints >= min(world.endpoints, REPLICAS), f"a server goes that answers users: {world}"
        if after_pass.cpu.asked:
            assert after_pass.gpu.waiting <= 1, f"more than one server waits for a GPU: {world}"
        for new in (after_pass, *moves(world)):
            if new not in found:
                found.add(new)
                queue.append(new)
    return found


def rests(world: World, gpus: int) -> World:
    """Once that many GPUs are there for good, and everything else goes well."""
    world = world._replace(gpus=max(gpus, world.gpus - world.free), losses=0)
    for _ in range(60):
        before, world = world, passed(world)
        for new in moves(world):
            if new.gpus == world.gpus:
                world = new
                break
        if world == before:
            return world
    raise AssertionError(f"it does not come to rest: {world}")


def test_gpus_come_and_go_and_no_server_that_answers_is_missed() -> None:
    found = every_world()
    assert len(found) > 500
    for world in found:
        assert rests(world, REPLICAS)[1:3] == (Pods(REPLICAS, behind=REPLICAS), Pods()), world
        if world.gpus == world.free:
            assert rests(world, 0)[1:3] == (Pods(1, waiting=1), Pods(REPLICAS, behind=REPLICAS)), world


def test_an_operator_that_took_readiness_for_being_reached_would_be_found_out() -> None:
    with pytest.raises(AssertionError, match="a server goes that answers users"):
        every_world(ready_is_enough=True)
