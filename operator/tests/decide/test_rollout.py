"""Which revision serves and which goes: every state of a small model, passes cut off at every write, and transcripts."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pinn_operator.api.journal import Arm, Ending, Journal
from pinn_operator.api.memory import Memory
from pinn_operator.api.names import FINALIZER
from pinn_operator.api.observed import ChildId, Observed, Route
from pinn_operator.api.plan import Phase, Plan
from pinn_operator.api.readings import Server
from pinn_operator.decide import decide
from pinn_operator.decide.rollout import KEPT_REVISIONS, ROUTE_SECONDS, TEARDOWN, wanted_revision
from tests.decide.tiny_cluster import WRITES, TinyCluster, rolling, serving
from tests.given import GATEWAY, NOW, OWNED, observed, ready, resource, revision
from tests.golden import assert_golden

TRANSCRIPTS = Path(__file__).parent / "transcripts"

OLD, STABLE, WANTED = revision("0.9.0", 1), revision("1.0.0", 2), revision("2.0.0", 3)
UNKNOWN = "0123456789"

# --- Every state of a small model ------------------------------------------------------------------------------------


def _journal(canary: str, step: int, ending: Ending = "") -> Journal:
    began = NOW.timestamp() - 1000
    return Journal(
        Arm(canary, "2.0.0"),
        Arm(STABLE.name, "1.0.0"),
        began,
        step,
        began + 10,
        "tick",
        began + 20,
        weight=(0, 10, 50, 100)[step],
        ending=ending,
        ended=began + 30 if ending else None,
    )


JOURNALS = (
    None,
    _journal(WANTED.name, 0),
    _journal(WANTED.name, 1),
    _journal(WANTED.name, 3),
    _journal(OLD.name, 2),
    _journal(WANTED.name, 2, "RolledBack"),
    _journal(WANTED.name, 3, "Promoted"),
    _journal(OLD.name, 2, "Superseded"),
)


def _states() -> Iterator[Observed]:
    """The spec asks for 2.0.0. What is on record, named stable, remembered, routed, ready and behind the Service varies
    independently, so most of these states are reached only by hands other than the operator's."""
    objects = {
        (replicas, paused, named, bool(traffic)): resource(
            "2.0.0",
            replicas=replicas,
            rollout={"paused": paused},
            traffic=traffic,
            status={"stable": {"revision": named}} if named else {},
        )
        for replicas in (0, 2)
        for paused in (False, True)
        for named in (None, STABLE.name, WANTED.name, UNKNOWN)
        for traffic in ({}, GATEWAY)
    }
    records = [(OLD,), (OLD, STABLE), (OLD, STABLE, WANTED)]
    selected = [None, STABLE.name, WANTED.name, UNKNOWN]
    routes = [None, {STABLE.name: 100}, {STABLE.name: 90, WANTED.name: 10}, {WANTED.name: 100}]
    for ((replicas, _, _, gateway), of), known, chosen, journal in itertools.product(
        objects.items(), records, selected, JOURNALS
    ):
        for weights in routes if gateway else routes[:1]:
            for stable, wanted in itertools.product({0, replicas}, {0, replicas // 2, replicas}):
                yield observed(
                    of,
                    revisions=known,
                    workloads={STABLE.name: ready(stable), WANTED.name: ready(wanted)},
                    selected=chosen,
                    endpoints={OLD.name: 1, chosen: 1} if chosen else {},
                    route=None if weights is None else Route(weights, True),
                    memory=None if journal is None else Memory(journal),
                )


@functools.cache
def _decided() -> list[tuple[Observed, Plan]]:
    return [(seen, decide(seen)) for seen in _states()]


def _broken_by(rule: Callable[[Observed, Plan], bool]) -> list[tuple[Observed, Plan]]:
    return [(seen, plan) for seen, plan in _decided() if not rule(seen, plan)][:3]


def _running(plan: Plan) -> set[str]:
    return {run.revision.name for run in plan.run}


def _weights(plan: Plan) -> set[str]:
    return set(plan.traffic.weights) if plan.traffic else set()


def test_the_small_model_is_not_too_small() -> None:
    """Every phase occurs in it but those of refusal, of deletion, and of evidence, which is none here."""
    phases = {plan.phase for _, plan in _decided()}
    elsewhere = {
        Phase.DELETING,
        Phase.NOT_SUPPORTED,
        Phase.APPROVAL,
        Phase.TOO_COARSE,
        Phase.UNDECIDED,
        Phase.ROLLED_BACK,
    }
    assert phases == set(Phase) - elsewhere
    assert len(_decided()) > 10_000


def test_who_has_a_share_runs_and_so_does_stable() -> None:
    assert not _broken_by(lambda seen, plan: _weights(plan) <= _running(plan))
    assert not _broken_by(lambda seen, plan: plan.stable is None or plan.stable.name in _running(plan))


def test_who_is_sent_requests_now_runs_while_the_share_is_taken_away() -> None:
    def rule(seen: Observed, plan: Plan) -> bool:
        reached = set(seen.endpoints) | set(seen.route.weights if seen.route else ())
        return reached & seen.revisions.keys() <= _running(plan)

    assert not _broken_by(rule)


def test_nobody_but_stable_gets_more_unless_every_server_is_ready_and_behind_its_service() -> None:
    """But the first revision of an object, beside which there is nobody, and who has had it all, while stable has no server."""

    def rule(seen: Observed, plan: Plan) -> bool:
        now = seen.route.weights if seen.route else {seen.selected: 100}
        canary = plan.wanted
        more = plan.weight_of(canary) > now.get(canary, 0)
        if not more or plan.stable is None or (plan.stable.name == canary and plan.memory is None):
            return True
        journal = plan.memory.journal if plan.memory else None
        alone = journal and journal.weight == 100 and not seen.behind.get(plan.stable.name)
        replicas = min(seen.resource.spec.replicas, 1) if alone else seen.resource.spec.replicas
        return min(seen.workload(canary).ready, seen.behind.get(canary, 0)) >= replicas

    assert not _broken_by(rule)


def test_nothing_runs_beyond_stable_wanted_the_canary_and_what_drains() -> None:
    def rule(seen: Observed, plan: Plan) -> bool:
        before = {plan.finished.stable.revision} if plan.finished else set()
        named = {one.name for one in (plan.stable, plan.canary) if one} | {plan.wanted} | before
        routed = set(seen.route.weights) if seen.route else set()
        return _running(plan) <= named | set(seen.endpoints) | routed and len(plan.run) == len(_running(plan))

    assert not _broken_by(rule)


def test_every_running_revision_has_the_replicas_of_the_spec() -> None:
    assert not _broken_by(lambda seen, plan: {run.replicas for run in plan.run} == {seen.resource.spec.replicas})


def test_a_canary_is_never_stable() -> None:
    assert not _broken_by(lambda seen, plan: plan.canary is None or plan.canary != plan.stable)


def test_what_is_not_at_rest_is_looked_at_again() -> None:
    """At rest: serving with every server ready, held by a person, or rolled back."""

    def rule(seen: Observed, plan: Plan) -> bool:
        return plan.look_again is not None or plan.phase in (Phase.PAUSED, Phase.SERVING, Phase.ROLLED_BACK)

    assert not _broken_by(rule)


def test_every_decision_gives_a_reason() -> None:
    """That of a rollback is the journal's, which has none here."""
    assert not _broken_by(lambda seen, plan: bool(plan.sentence) or plan.phase is Phase.ROLLING_BACK)


# --- Records, deletion, refusal, reasons -----------------------------------------------------------------------------


def _without_servers_of_stable() -> TinyCluster:
    """In a bake for which stable's servers were let go, with ten records that are newer than that of stable."""
    cluster = rolling(rollout={"retainStable": "None"})
    canary = cluster.records[cluster.wanted]
    cluster.records[canary.name] = replace(canary, number=12)
    for number in range(2, 12):
        other = revision(f"0.{number}.0", number)
        cluster.records[other.name] = other
    stable = cluster.named("1.0.0")
    cluster.until(lambda plan: stable not in {run.revision.name for run in plan.run})
    return cluster


def test_a_stable_that_was_let_go_for_the_bake_is_there_to_go_back_to_however_many_newer_records_there_are() -> None:
    cluster = _without_servers_of_stable()
    for _ in range(5):
        cluster.go_on()
    cluster.bad["2.0.0"] = 0.5
    cluster.until(lambda plan: plan.phase is Phase.ROLLED_BACK)
    assert cluster.state()["pods"] == {"1.0.0": 2}


def test_the_record_of_stable_stays_until_it_is_stored_that_the_rollout_is_over() -> None:
    cluster = _without_servers_of_stable()
    stable = cluster.named("1.0.0")
    while decide(cluster.observe()).finished is None:
        cluster.go_on()
    cluster.reconcile([write for write in WRITES if write not in ("memory", "report", "status")])
    assert stable in cluster.records
    cluster.until(_is(Phase.SERVING))
    cluster.go_on()
    assert stable not in cluster.records


def test_the_end_of_the_bake_makes_no_servers_of_a_stable_that_was_let_go() -> None:
    cluster = _without_servers_of_stable()
    while cluster.go_on().phase is not Phase.SERVING:
        assert cluster.state()["pods"] == {"2.0.0": 2}
    assert cluster.state()["stable"] == "2.0.0"


@pytest.mark.parametrize("count", [1, 9, 10, 11, 14])
def test_the_ten_newest_records_are_kept_and_those_that_run(count: int) -> None:
    """The stable one is the oldest here, as after many rollouts that came to nothing."""
    records = [revision(f"0.{n}.0", n) for n in range(1, count + 1)]
    oldest, newest = records[0], records[-1]
    seen = observed(
        resource(newest.model_version, status={"stable": {"revision": oldest.name}}),
        revisions=records,
        selected=oldest.name,
    )
    forgotten = decide(seen).forget
    assert oldest.name not in forgotten
    assert newest.name not in forgotten
    assert forgotten == {record.name for record in records[1 : max(1, count - KEPT_REVISIONS)]}


@pytest.mark.parametrize("children", [0, 3])
@pytest.mark.parametrize("seconds", [0, 20, 21, 3600])
def test_a_deleted_object_is_released_when_its_children_are_gone_or_the_limit_is_over(
    children: int, seconds: int
) -> None:
    seen = observed(
        resource("2.0.0", metadata={"deletionTimestamp": NOW - timedelta(seconds=seconds)}),
        revisions=[STABLE, WANTED],
        endpoints={STABLE.name: 1},
        children={ChildId("Service", str(n)): OWNED for n in range(children)},
    )
    plan = decide(seen)
    assert (plan.phase, plan.teardown, plan.run, plan.traffic) == (Phase.DELETING, True, (), None)
    assert plan.release == (children == 0 or seconds > TEARDOWN.total_seconds())
    assert plan.look_again == 1.0


@pytest.mark.parametrize("finalizers", [(FINALIZER, "orphan"), ("orphan",)])
def test_an_object_whose_children_are_to_stay_is_released_at_once(finalizers: tuple[str, ...]) -> None:
    metadata = {"deletionTimestamp": NOW, "finalizers": list(finalizers)}
    children = {ChildId("Service", "pricer"): OWNED, ChildId("Deployment", "pricer-1"): OWNED}
    plan = decide(observed(resource("1.0.0", metadata=metadata), revisions=[STABLE], children=children))
    assert (plan.teardown, plan.release, plan.spared) == (True, True, frozenset(children))
    assert plan.sentence == "2 children stay"


@pytest.mark.parametrize("nobodys", [{}, {"ownerReferences": [{"uid": "another", "controller": False}]}])
def test_a_child_that_is_nobodys_by_now_outlives_the_object_and_is_not_waited_for(nobodys: dict[str, Any]) -> None:
    """As the garbage collector leaves it, which may have done what `orphan` asks for before the operator has looked."""
    stays, goes = ChildId("Service", "pricer"), ChildId("Deployment", "pricer-1")
    seen = observed(
        resource("1.0.0", metadata={"deletionTimestamp": NOW}), children={stays: {"metadata": nobodys}, goes: OWNED}
    )
    plan = decide(seen)
    assert (plan.spared, plan.release) == (frozenset({stays}), False)
    assert decide(replace(seen, children={stays: seen.children[stays]})).release


@pytest.mark.parametrize("step", [1, 2, 3])
def test_an_object_deleted_in_the_middle_of_a_rollout_is_torn_down_and_nothing_else(step: int) -> None:
    cluster = rolling(step=step)
    cluster.deleted_for = 1
    _, plan = cluster.reconcile()
    assert (plan.phase, plan.run, plan.memory, plan.finished) == (Phase.DELETING, (), None, None)
    assert not cluster.pods
    _, plan = cluster.reconcile()
    assert plan.release


def test_what_this_release_cannot_serve_leaves_stable_serving_and_makes_nothing() -> None:
    digest = "sha256:" + "0" * 64
    model = {"name": "black-scholes", "version": "2.0.0", "uri": "pvc://models/../bs", "digest": digest}
    seen = observed(
        resource(model=model, status={"stable": {"revision": STABLE.name}}),
        revisions=[STABLE],
        workloads={STABLE.name: ready(1)},
        selected=STABLE.name,
    )
    plan = decide(seen)
    assert (plan.phase, _running(plan), _weights(plan)) == (Phase.NOT_SUPPORTED, {STABLE.name}, {STABLE.name})
    assert plan.sentence.startswith("spec.model.uri: ")
    assert "leads out of the claim" in plan.sentence
    first = decide(observed(resource(model=model)))
    assert (first.run, first.stable, first.traffic) == ((), None, None)


@pytest.mark.parametrize(
    "uri", ["configmap://bs", "pvc://models/bs", "file:///srv/bs", "https://h/bs.zip", "s3://b/bs", "oci://h/bs:1"]
)
def test_a_model_that_is_mounted_fetched_or_in_the_image_is_started_like_any_other(uri: str) -> None:
    model = {"name": "black-scholes", "version": "2.0.0", "uri": uri, "digest": "sha256:" + "0" * 64}
    plan = decide(observed(resource(model=model)))
    assert (plan.phase, len(plan.run)) == (Phase.STARTING, 1)


@pytest.mark.parametrize("name", ["a,b", "a=1%,b", "", "1st", "bin-width"])
def test_a_bin_width_of_what_can_be_no_input_is_refused_with_the_field(name: str) -> None:
    plan = decide(observed(resource(cache={"binWidths": {"volatility": "1%", name: "1%"}})))
    assert plan.phase is Phase.NOT_SUPPORTED
    assert plan.sentence == f'spec.cache.binWidths: "{name}" is no name of an input; write e.g. volatility: 1%'


def test_a_route_of_the_users_that_is_missing_is_said_and_not_looked_for_every_second() -> None:
    said = "HTTPRoute theirs, which spec.traffic.routeRef names, does not exist"
    seen = observed(
        resource("1.0.0", traffic={"routeRef": {"name": "theirs"}}, status={"stable": {"revision": STABLE.name}}),
        revisions=[STABLE],
        workloads={STABLE.name: ready(1)},
        selected=STABLE.name,
        route=Route({}, trouble=said, canary=STABLE.name),
    )
    plan = decide(seen)
    assert plan.sentence.endswith(f"the traffic is changing over: {said}")
    assert plan.look_again == ROUTE_SECONDS


def _asked_for(rollout: dict[str, Any], took: float | None) -> Observed:
    """1.0.0 serves, its one server took so long to start, and the spec asks for 2.0.0."""
    return observed(
        resource("2.0.0", rollout=rollout, status={"stable": {"revision": STABLE.name}}),
        revisions=[STABLE],
        workloads={STABLE.name: ready(1)},
        selected=STABLE.name,
        servers=(Server(STABLE.name, "a", "c", "10.0.0.1", ready=True, took=took),),
    )


@pytest.mark.parametrize(
    ("rollout", "took", "said"),
    [
        ({"rollbackWithin": "5s"}, 3, "a gateway may need 10 s to follow; allow that much"),
        ({"rollbackWithin": "30s", "retainStable": "None"}, 40, "about 60 s; set spec.rollout.retainStable: Full, or allow 70s"),
        ({"rollbackWithin": "5s", "retainStable": "None"}, 40, "a gateway may need 10 s to follow"),
    ],
)  # fmt: skip
def test_a_rollout_whose_rollback_would_take_too_long_is_refused_before_anything_is_made(
    rollout: dict[str, Any], took: float, said: str
) -> None:
    plan = decide(_asked_for(rollout, took))
    assert (plan.phase, _running(plan), _weights(plan)) == (Phase.NOT_SUPPORTED, {STABLE.name}, {STABLE.name})
    assert plan.sentence.startswith("spec.rollout.rollbackWithin: ")
    assert said in plan.sentence


@pytest.mark.parametrize(
    ("rollout", "took"),
    [
        ({"rollbackWithin": "30s"}, 40),
        ({"rollbackWithin": "71s", "retainStable": "None"}, 40),
        ({"rollbackWithin": "30s", "retainStable": "None"}, None),
        (
            {"rollbackWithin": "30s", "retainStable": "None"},
            86_400,
        ),  # it was unready since: it started sooner than that
    ],
)
def test_a_rollout_whose_rollback_is_soon_enough_begins(rollout: dict[str, Any], took: float | None) -> None:
    assert decide(_asked_for(rollout, took)).phase is Phase.STEPPING


def test_a_revision_on_record_goes_on_though_a_newer_release_could_not_make_it() -> None:
    model = {"uri": "pvc://models/../bs", "digest": "sha256:" + "0" * 64}
    of = resource(model={"name": "black-scholes", "version": "1.0.0", **model})
    known = revision("1.0.0", model={"name": "black-scholes", "version": "1.0.0", **model})
    plan = decide(observed(of, revisions=[known], workloads={known.name: ready(1)}, endpoints={known.name: 1}))
    assert (plan.phase, _weights(plan)) == (Phase.SERVING, {known.name})


def test_the_image_of_a_revision_is_the_one_on_record_not_that_of_the_operator() -> None:
    plan = decide(observed(resource("1.0.0"), revisions=[STABLE], server_image="inference:2"))
    assert plan.run[0].revision.image == STABLE.image != "inference:2"
    new = decide(observed(resource("3.0.0"), revisions=[STABLE], server_image="inference:2"))
    assert (new.run[0].revision.image, new.run[0].revision.number) == ("inference:2", STABLE.number + 1)


def test_pods_that_may_not_be_created_are_tried_again_once_in_half_a_minute() -> None:
    """The value of the nudge changes at :00 and :30, however often a pass runs in between."""
    workloads = {WANTED.name: ready(0, not_created="exceeded quota")}
    nudges = []
    for second in range(60):
        seen = observed(resource("2.0.0"), revisions=[WANTED], workloads=workloads, now=NOW.replace(second=second))
        nudges.append(decide(seen).run[0].nudge)
    assert len(set(nudges)) == 2
    assert nudges[0] != nudges[30]
    assert None not in nudges
    assert decide(observed(resource("2.0.0"), revisions=[WANTED])).run[0].nudge is None


def test_the_sentence_says_why_a_version_does_not_come_up() -> None:
    workloads = {STABLE.name: ready(1), WANTED.name: ready(0, 1, not_starting="ImagePullBackOff: no such image")}
    of = resource("2.0.0", status={"stable": {"revision": STABLE.name}})
    plan = decide(observed(of, revisions=[STABLE, WANTED], workloads=workloads, selected=STABLE.name))
    said = f"version 2.0.0 (revision {WANTED.name}) comes up, 0 of 1 replicas ready: ImagePullBackOff: no such image"
    assert plan.sentence == said


def test_a_record_keeps_its_content_and_only_a_recovered_one_takes_it_from_the_spec() -> None:
    """A ControllerRevision cannot be changed: other content than it has would be refused for ever."""
    bare = {"model": {"name": "black-scholes", "version": ""}}
    recorded = replace(WANTED, content=bare, created=NOW)
    assert wanted_revision(observed(resource("2.0.0"), revisions=[recorded])).content == bare
    recovered = replace(WANTED, content=bare, created=None)
    assert wanted_revision(observed(resource("2.0.0"), revisions=[recovered])).content == WANTED.content


# --- The first revision, another one in the middle, and back ---------------------------------------------------------


def test_a_first_revision_is_stable_when_callers_reach_it_and_has_no_rollout() -> None:
    cluster = TinyCluster("1.0.0")
    while (plan := cluster.go_on()).phase is not Phase.SERVING:
        assert (plan.stable, plan.memory) == (None, None)
    assert (cluster.state()["stable"], cluster.endpoints) == ("1.0.0", {cluster.wanted: 2})


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_third_version_takes_all_from_the_second_at_once_and_starts_from_the_old_stable(step: int) -> None:
    cluster = rolling(step=step)
    second = cluster.wanted
    cluster.version = "3.0.0"
    plan = cluster.go_on()
    assert (_weights(plan), plan.phase) == ({STABLE.name}, Phase.DRAINING)
    assert "now asks for version 3.0.0" in plan.sentence
    assert plan.finished is not None
    assert (plan.finished.ending, plan.finished.canary.revision) == ("Superseded", second)
    cluster.until(lambda plan: plan.weight_of(cluster.wanted) == 10)
    assert cluster.weights == {STABLE.name: 90, cluster.wanted: 10}
    assert second not in cluster.pods
    assert cluster.status["rejected"] == []
    cluster.until(lambda plan: plan.phase is Phase.SERVING)
    assert [one["outcome"] for one in cluster.status["history"]] == ["Superseded", "Promoted"]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_the_spec_back_at_stable_ends_a_rollout_at_once(step: int) -> None:
    cluster = rolling(step=step)
    cluster.version = "1.0.0"
    plan = cluster.go_on()
    assert (_weights(plan), plan.memory.journal.ending if plan.memory and plan.memory.journal else "") == (
        {STABLE.name},
        "Superseded",
    )
    cluster.until(lambda plan: plan.phase is Phase.SERVING)
    assert cluster.state()["pods"] == {"1.0.0": 2}
    assert [one["outcome"] for one in cluster.status["history"]] == ["Superseded"]


def test_a_rejected_revision_is_not_tried_again_until_the_spec_changes() -> None:
    cluster = rolling(step=2)
    rejected = cluster.wanted
    cluster.bad["2.0.0"] = 0.5
    plan = cluster.until(lambda plan: plan.phase is Phase.ROLLED_BACK)
    assert f"pinn.dev/retry={rejected}@TOKEN" in plan.sentence
    cluster.memory = None  # also when only the status knows
    for _ in range(10):
        assert cluster.go_on().phase is Phase.ROLLED_BACK
    cluster.version = "3.0.0"
    cluster.until(lambda plan: plan.phase is Phase.SERVING)
    assert cluster.state()["pods"] == {"3.0.0": 2}
    cluster.version = "2.0.0"
    plan = cluster.until(lambda plan: plan.phase is Phase.ROLLED_BACK)
    assert "was rolled back before" in plan.sentence


# --- Every schedule of passes cut off --------------------------------------------------------------------------------

CUTS: list[str | None] = [None, *WRITES]


def _end_of(cluster: TinyCluster, phase: Phase) -> dict[str, object]:
    cluster.until(lambda plan: plan.phase is phase)
    for _ in range(3):
        cluster.go_on()
    return {**cluster.state(), "history": [one["outcome"] for one in cluster.status["history"]]}


def _fast(**more: float) -> TinyCluster:
    steps = [{"weight": 50, "hold": "1s"}, {"weight": 100, "hold": "1s"}]
    return serving(steps=steps, rate=1000, bad=more)


@pytest.mark.parametrize("end", [Phase.SERVING, Phase.ROLLED_BACK])
@pytest.mark.parametrize("cut", CUTS)
def test_cut_off_after_the_same_write_in_every_second_pass_a_rollout_comes_to_the_same_end(
    cut: str | None, end: Phase
) -> None:
    bad = {} if end is Phase.SERVING else {"2.0.0": 0.3}
    undisturbed = _fast(**bad)
    undisturbed.version = "2.0.0"
    expected = _end_of(undisturbed, end)
    cluster = _fast(**bad)
    cluster.version = "2.0.0"
    for _ in range(40):
        cluster.cut_off_after(cut)
        cluster.settle_down()
        cluster.wait(1.0)
        cluster.go_on()
    assert _end_of(cluster, end) == expected


@pytest.mark.parametrize("number", range(9))
def test_cut_off_once_after_any_write_of_any_pass_it_comes_to_the_same_end_and_nobody_without_servers_is_asked(
    number: int,
) -> None:
    undisturbed = _fast()
    undisturbed.version = "2.0.0"
    expected = _end_of(undisturbed, Phase.SERVING)
    for cut in CUTS:
        cluster = _fast()
        cluster.version = "2.0.0"
        for _ in range(number):
            cluster.go_on()
        cluster.cut_off_after(cut)
        assert all(pod.ready for name in cluster.shares() for pod in cluster.pods[name])
        cluster.settle_down()
        assert _end_of(cluster, Phase.SERVING) == expected, cut


# --- Transcripts -----------------------------------------------------------------------------------------------------


def _line(cluster: TinyCluster, seen: Observed, plan: Plan) -> str:
    """What was observed, what was decided, and the reason given."""
    called = {**cluster.versions, **{run.revision.name: run.revision.model_version for run in plan.run}}

    def shares(weights: Iterable[tuple[str, int]]) -> str:
        return ", ".join(f"{called[name]} {weight}" for name, weight in weights) or "nobody"

    pods = ", ".join(
        f"{called[n]} {w.ready}/{w.pods}" for n, w in sorted(seen.workloads.items(), key=lambda i: called[i[0]])
    )
    routed = shares(sorted(seen.route.weights.items())) if seen.route else "nobody"
    asked = "measured" if seen.measured else "nothing measured"
    runs = ", ".join(sorted(called[name] for name in _running(plan)))
    weights = shares(sorted(plan.traffic.weights.items())) if plan.traffic else "nobody"
    again = "when something happens" if plan.look_again is None else f"in {plan.look_again:g} s"
    said = plan.sentence
    for name in called:
        said = said.replace(f" (revision {name})", "").replace(name, "REVISION")
    return (
        f"pass {cluster.passes} at {cluster.at:g} s\n"
        f"  observed  ready {pods or 'none'}; route {routed}{'' if not seen.route or seen.route.in_force else ' (not in force)'};"
        f" {asked}\n"
        f"  decided   {plan.phase.value}: run {runs or 'nothing'}; route {weights};{' report;' if plan.finished else ''}"
        f" look again {again}\n"
        f"  because   {said}\n"
    )


def _told(cluster: TinyCluster, heading: str, until: Callable[[Plan], bool]) -> list[str]:
    """Passes until one is as asked for. Those that only count on are left out."""
    lines, skipped = [f"# {heading}"], 0
    last: tuple[object, ...] = ()
    for _ in range(200):
        seen = cluster.observe()
        _, plan = cluster.reconcile()
        now = (plan.phase.value, str(plan.traffic), plan.finished is not None, plan.sentence.partition(":")[0])
        if now == last and not until(plan):
            skipped += 1
        else:
            lines += [f"... {skipped} more like this"] if skipped else []
            lines.append(_line(cluster, seen, plan))
            skipped = 0
        last = now
        if until(plan):
            return lines
        cluster.settle_down()
        cluster.wait(max(0.1, min(30.0, 30.0 if plan.look_again is None else plan.look_again)))
    raise AssertionError(lines[-1])


def _is(phase: Phase) -> Callable[[Plan], bool]:
    return lambda plan: plan.phase is phase


def _weighs(weight: int) -> Callable[[Plan], bool]:
    return lambda plan: plan.weight_of(plan.wanted) == weight


def _promoted() -> list[str]:
    cluster = serving()
    cluster.version = "2.0.0"
    return _told(cluster, "1.0.0 serves; spec: 2.0.0; 100 requests/s, none fails", _is(Phase.SERVING))


def _errors() -> list[str]:
    cluster = serving(bad={"2.0.0": 0.3})
    cluster.version = "2.0.0"
    return _told(cluster, "1.0.0 serves; spec: 2.0.0, of whose requests three in ten fail", _is(Phase.ROLLED_BACK))


def _change_of_mind() -> list[str]:
    cluster = serving()
    cluster.version = "2.0.0"
    lines = _told(cluster, "1.0.0 serves; spec: 2.0.0", _weighs(50))
    cluster.settle_down()
    cluster.wait(1)
    cluster.version = "3.0.0"
    return lines + _told(cluster, "spec: 3.0.0, while 2.0.0 has half of the traffic", _weighs(10))


def _paused_and_resumed() -> list[str]:
    cluster = rolling()
    cluster.paused = True
    lines = _told(cluster, "2.0.0 has a tenth of the traffic; spec: paused", lambda plan: cluster.at > 300)
    cluster.paused = False
    return lines + _told(cluster, "spec: not paused any more", _weighs(50))


STORIES = {
    "promoted": _promoted,
    "rolled-back-on-errors": _errors,
    "change-of-mind": _change_of_mind,
    "paused-and-resumed": _paused_and_resumed,
}


@pytest.mark.parametrize("story", STORIES)
def test_the_story_of_a_rollout_reads_as_it_did(story: str) -> None:
    """Look at the route: it rises when all servers are ready and the gates have passed, and who is in it runs."""
    assert_golden(TRANSCRIPTS / f"{story}.txt", "\n".join(STORIES[story]()).rstrip() + "\n")


# --- What was found by reading and by exploring ----------------------------------------------------------------------


def test_a_promotion_whose_status_was_never_written_is_not_undone_when_the_spec_returns_to_the_old_version() -> None:
    """Three passes in a row are cut off before their status: it names 1.0.0 stable, whose servers are gone by then."""
    cluster = rolling(step=3)
    while not decide(cluster.observe()).finished:
        cluster.go_on()
    for version in ("2.0.0", "2.0.0", "1.0.0", "1.0.0"):
        cluster.version = version
        cluster.cut_off_after("report")
        cluster.settle_down()
    assert all(cluster.pods[name] for name in cluster.shares())
    plan = cluster.go_on()
    assert plan.stable is not None
    assert plan.stable.model_version == "2.0.0"


@pytest.mark.parametrize("ending", ["Promoted", "Superseded"])
def test_a_rollout_is_reported_before_the_next_one_takes_its_place_in_the_memory(ending: str) -> None:
    cluster = rolling(step=3)
    cluster.version = "2.0.0" if ending == "Promoted" else "1.0.0"
    while not decide(cluster.observe()).finished:
        cluster.go_on()
    cluster.cut_off_after("removals")
    cluster.version = "3.0.0"
    cluster.until(lambda plan: plan.weight_of(cluster.wanted) == 10)
    assert [one["outcome"] for one in cluster.status["history"]] == [ending]
