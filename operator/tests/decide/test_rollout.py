"""The decisions of a rollout: every state of a small model, every schedule of lost writes, and transcripts to read."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from pinn_operator.api.observed import ChildId, Observed
from pinn_operator.api.plan import Phase, Plan
from pinn_operator.decide import decide
from pinn_operator.decide.rollout import KEPT_REVISIONS, TEARDOWN, wanted_revision
from tests.decide.tiny_cluster import WRITES, TinyCluster
from tests.given import NOW, observed, ready, resource, revision
from tests.golden import assert_golden

TRANSCRIPTS = Path(__file__).parent / "transcripts"

OLD, STABLE, WANTED = revision("0.9.0", 1), revision("1.0.0", 2), revision("2.0.0", 3)
UNKNOWN = "0123456789"

# --- Every state of a small model ------------------------------------------------------------------------------------


def _states() -> Iterator[Observed]:
    """The spec asks for 2.0.0. What is on record, named stable, selected, ready and behind the Service varies independently,
    so most of these states are reached only by hands other than the operator's."""
    objects = {
        (replicas, paused, named): resource(
            "2.0.0",
            replicas=replicas,
            rollout={"paused": paused},
            status={"stable": {"revision": named}} if named else {},
        )
        for replicas in (0, 1, 2)
        for paused in (False, True)
        for named in (None, OLD.name, STABLE.name, WANTED.name, UNKNOWN)
    }
    records = [(OLD,), (OLD, STABLE), (OLD, WANTED), (OLD, STABLE, WANTED)]
    selected = [None, OLD.name, STABLE.name, WANTED.name, UNKNOWN]
    behind = [
        frozenset(some) for n in range(4) for some in itertools.combinations([OLD.name, STABLE.name, WANTED.name], n)
    ]
    for ((replicas, _, _), of), known, chosen, endpoints in itertools.product(
        objects.items(), records, selected, behind
    ):
        for stable, wanted in itertools.product({0, replicas}, range(replicas + 1)):
            yield observed(
                of,
                revisions=known,
                workloads={STABLE.name: ready(stable), WANTED.name: ready(wanted)},
                selected=chosen,
                endpoints=endpoints,
            )


@functools.cache
def _decided() -> list[tuple[Observed, Plan]]:
    return [(seen, decide(seen)) for seen in _states()]


def _broken_by(rule: Callable[[Observed, Plan], bool]) -> list[tuple[Observed, Plan]]:
    return [(seen, plan) for seen, plan in _decided() if not rule(seen, plan)][:3]


def _named_stable(seen: Observed) -> str | None:
    """The revision that the status names, where it is on record."""
    side = seen.resource.status.stable
    return side.revision if side and side.revision in seen.revisions else None


def _all_ready(seen: Observed, name: str | None) -> bool:
    return seen.workload(name).ready >= seen.resource.spec.replicas


def _running(plan: Plan) -> set[str]:
    return {run.revision.name for run in plan.run}


def test_the_small_model_is_not_too_small() -> None:
    """Every phase but those of deletion and refusal occurs in it, so the rules below are tried on each."""
    phases = {plan.phase for _, plan in _decided()}
    assert phases == set(Phase) - {Phase.DELETING, Phase.NOT_SUPPORTED}
    assert len(_decided()) > 10_000


def test_only_a_revision_on_record_or_wanted_serves() -> None:
    assert not _broken_by(lambda seen, plan: plan.serving in {*seen.revisions, plan.wanted})


def test_the_service_never_moves_away_from_stable_to_a_revision_that_is_not_all_ready() -> None:
    def rule(seen: Observed, plan: Plan) -> bool:
        stable = _named_stable(seen)
        if stable is None or plan.serving in (stable, seen.selected):
            return True
        return _all_ready(seen, plan.serving)

    assert not _broken_by(rule)


def test_the_status_never_names_a_revision_stable_that_is_not_all_ready_while_it_names_another() -> None:
    def rule(seen: Observed, plan: Plan) -> bool:
        return plan.stable is None or plan.stable.name == _named_stable(seen) or _all_ready(seen, plan.stable.name)

    assert not _broken_by(rule)


def test_the_stable_revision_always_runs() -> None:
    assert not _broken_by(lambda seen, plan: plan.stable is None or plan.stable.name in _running(plan))
    assert not _broken_by(lambda seen, plan: plan.serving in _running(plan))


def test_the_revision_that_the_status_names_stable_runs_while_it_can_serve_until_another_has_the_service() -> None:
    def rule(seen: Observed, plan: Plan) -> bool:
        named = _named_stable(seen)
        gone = named is not None and not seen.workload(named).ready
        return named is None or named in _running(plan) or seen.selected == plan.serving or gone

    assert not _broken_by(rule)


def test_a_revision_that_the_service_still_sends_requests_to_runs() -> None:
    def rule(seen: Observed, plan: Plan) -> bool:
        kept = plan.phase is Phase.NOT_SUPPORTED and plan.stable is None
        return plan.teardown or kept or seen.endpoints & seen.revisions.keys() <= _running(plan)

    assert not _broken_by(rule)


def test_nothing_runs_beyond_stable_wanted_and_what_drains() -> None:
    def rule(seen: Observed, plan: Plan) -> bool:
        stable = {plan.stable.name} if plan.stable else set()
        named = {_named_stable(seen), seen.selected} if plan.phase is Phase.SWITCHING else set()
        return _running(plan) <= stable | named | {plan.wanted} | seen.endpoints and len(plan.run) == len(
            _running(plan)
        )

    assert not _broken_by(rule)


def test_what_answers_callers_goes_only_when_another_is_ready_though_no_status_names_it() -> None:
    def rule(seen: Observed, plan: Plan) -> bool:
        selected = seen.selected if seen.selected in seen.revisions else None
        if plan.teardown or _named_stable(seen) or selected is None or not seen.workload(selected).ready:
            return True
        replaced = seen.workload(plan.serving).ready >= seen.resource.spec.replicas
        return selected in _running(plan) or replaced

    assert not _broken_by(rule)


def test_every_running_revision_has_the_replicas_of_the_spec() -> None:
    assert not _broken_by(lambda seen, plan: {run.replicas for run in plan.run} == {seen.resource.spec.replicas})


def test_while_paused_the_service_stays_with_stable() -> None:
    def rule(seen: Observed, plan: Plan) -> bool:
        stable = _named_stable(seen)
        moved = plan.serving not in (seen.selected, stable)
        return not (seen.resource.spec.rollout.paused and stable and moved)

    assert not _broken_by(rule)


def test_a_change_over_whose_status_was_lost_is_not_undone_though_the_rollout_is_paused_meanwhile() -> None:
    of = resource("2.0.0", rollout={"paused": True}, status={"stable": {"revision": STABLE.name}})
    workloads = {STABLE.name: ready(1), WANTED.name: ready(1)}
    behind = [STABLE.name, WANTED.name]
    seen = observed(of, revisions=[STABLE, WANTED], workloads=workloads, selected=WANTED.name, endpoints=behind)
    plan = decide(seen)
    assert (plan.phase, plan.stable, plan.serving) == (Phase.DRAINING, WANTED, WANTED.name)
    assert _running(plan) == {STABLE.name, WANTED.name}


def test_a_canary_is_never_the_revision_that_serves() -> None:
    assert not _broken_by(lambda seen, plan: plan.canary is None or plan.canary.name not in (plan.serving, plan.stable))


def test_what_is_not_at_rest_is_looked_at_again_and_what_is_at_rest_is_not() -> None:
    def rule(seen: Observed, plan: Plan) -> bool:
        at_rest = plan.phase is Phase.PAUSED or (plan.phase is Phase.SERVING and _all_ready(seen, plan.serving))
        return (plan.look_again is None) == at_rest

    assert not _broken_by(rule)


def test_serving_is_said_only_where_the_service_and_its_endpoints_agree() -> None:
    def rule(seen: Observed, plan: Plan) -> bool:
        if plan.phase is not Phase.SERVING or _named_stable(seen) is None:
            return True
        return seen.selected == plan.serving and seen.endpoints & seen.revisions.keys() <= {plan.serving}

    assert not _broken_by(rule)


def test_a_first_revision_is_stable_only_when_callers_reach_it() -> None:
    def rule(seen: Observed, plan: Plan) -> bool:
        first = _named_stable(seen) is None and plan.stable is not None and plan.stable.name == plan.wanted
        return not first or plan.wanted in seen.endpoints or not plan.run[0].replicas or plan.phase is Phase.SWITCHING

    assert not _broken_by(rule)


def test_every_decision_names_a_version_and_a_revision() -> None:
    assert not _broken_by(lambda seen, plan: "version " in plan.sentence and "revision " in plan.sentence)


# --- Records, deletion, refusal, reasons -----------------------------------------------------------------------------


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
        endpoints=[STABLE.name],
        children={ChildId("Service", str(n)): {} for n in range(children)},
    )
    plan = decide(seen)
    assert (plan.phase, plan.teardown, plan.run, plan.serving) == (Phase.DELETING, True, (), None)
    assert plan.release == (children == 0 or seconds > TEARDOWN.total_seconds())
    assert plan.look_again == 1.0


def test_what_this_release_cannot_serve_leaves_stable_serving_and_makes_nothing() -> None:
    digest = "sha256:" + "0" * 64
    model = {"name": "black-scholes", "version": "2.0.0", "uri": "s3://models/bs", "digest": digest}
    seen = observed(
        resource(model=model, status={"stable": {"revision": STABLE.name}}),
        revisions=[STABLE],
        workloads={STABLE.name: ready(1)},
        selected=STABLE.name,
    )
    plan = decide(seen)
    assert (plan.phase, _running(plan), plan.serving) == (Phase.NOT_SUPPORTED, {STABLE.name}, STABLE.name)
    assert plan.sentence.startswith("spec.model.uri: ")
    assert "s3://" in plan.sentence
    first = decide(observed(resource(model=model)))
    assert (first.run, first.stable, first.serving) == ((), None, None)


@pytest.mark.parametrize("uri", ["configmap://bs", "pvc://models/bs", "file:///srv/bs"])
def test_a_model_that_is_mounted_or_in_the_image_is_started_like_any_other(uri: str) -> None:
    model = {"name": "black-scholes", "version": "2.0.0", "uri": uri, "digest": "sha256:" + "0" * 64}
    plan = decide(observed(resource(model=model)))
    assert (plan.phase, len(plan.run)) == (Phase.STARTING, 1)


@pytest.mark.parametrize("name", ["a,b", "a=1%,b", "", "1st", "bin-width"])
def test_a_bin_width_of_what_can_be_no_input_is_refused_with_the_field(name: str) -> None:
    plan = decide(observed(resource(cache={"binWidths": {"volatility": "1%", name: "1%"}})))
    assert plan.phase is Phase.NOT_SUPPORTED
    assert plan.sentence == f'spec.cache.binWidths: "{name}" is no name of an input; write e.g. volatility: 1%'


def test_a_revision_on_record_goes_on_though_a_newer_release_could_not_make_it() -> None:
    model = {"uri": "s3://models/bs", "digest": "sha256:" + "0" * 64}
    of = resource(model={"name": "black-scholes", "version": "1.0.0", **model})
    known = revision("1.0.0", model={"name": "black-scholes", "version": "1.0.0", **model})
    plan = decide(observed(of, revisions=[known], workloads={known.name: ready(1)}, endpoints=[known.name]))
    assert (plan.phase, plan.serving) == (Phase.SERVING, known.name)


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


# --- Every schedule of lost writes -----------------------------------------------------------------------------------

LOSSES = [(), ("service",), ("status",), ("service", "status")]
CUTS = [WRITES[n:] for n in range(len(WRITES))]
"""A crash after n writes loses the rest."""


def _from_stable(version: str = "2.0.0", replicas: int = 2) -> TinyCluster:
    cluster = TinyCluster("1.0.0", replicas=replicas)
    cluster.settle()
    cluster.version = version
    return cluster


def test_a_cluster_left_alone_comes_to_rest_with_the_wanted_version() -> None:
    cluster = _from_stable()
    passes, plan = cluster.settle()
    assert plan.phase is Phase.SERVING
    assert cluster.state() == {
        "records": ["1.0.0", "2.0.0"],
        "pods": {"2.0.0": 2},
        "selected": "2.0.0",
        "stable": "2.0.0",
        "endpoints": ["2.0.0"],
    }
    assert passes <= 6


@pytest.mark.parametrize("start", [TinyCluster, _from_stable], ids=["first start", "new version"])
@pytest.mark.parametrize("replicas", [0, 2])
def test_whichever_writes_are_lost_the_end_is_the_same(start: Callable[..., TinyCluster], replicas: int) -> None:
    undisturbed = start("2.0.0", replicas=replicas)
    undisturbed.settle()
    for schedule in itertools.product(LOSSES, repeat=5):
        cluster = start("2.0.0", replicas=replicas)
        cluster.settle(schedule)
        assert cluster.state() == undisturbed.state(), schedule


def test_cut_off_after_any_two_writes_it_comes_to_the_same_end_and_stable_never_lacks_pods() -> None:
    undisturbed = _from_stable()
    undisturbed.settle()
    for first, second in itertools.combinations(range(7), 2):
        for cut, again in itertools.product(CUTS, repeat=2):
            cluster = _from_stable()
            for number in range(14):
                cluster.reconcile({first: cut, second: again}.get(number, ()))
                assert cluster.pods.get(cluster.selected or ""), (first, cut, second, again)
                cluster.kubelet()
            assert cluster.state() == undisturbed.state(), (first, cut, second, again)


@pytest.mark.parametrize("at", range(7))
def test_a_third_version_in_the_middle_of_a_rollout_is_the_end_of_the_second(at: int) -> None:
    cluster = _from_stable()
    for _ in range(at):
        cluster.reconcile()
        cluster.kubelet()
    cluster.version = "3.0.0"
    _, plan = cluster.settle()
    assert plan.phase is Phase.SERVING
    assert (cluster.state()["pods"], cluster.state()["selected"]) == ({"3.0.0": 2}, "3.0.0")


@pytest.mark.parametrize("at", range(7))
def test_the_spec_back_at_stable_is_the_end_of_a_rollout_at_any_time(at: int) -> None:
    cluster = _from_stable()
    for _ in range(at):
        cluster.reconcile()
        cluster.kubelet()
    cluster.version = "1.0.0"
    cluster.settle()
    assert (cluster.state()["pods"], cluster.state()["stable"]) == ({"1.0.0": 2}, "1.0.0")


# --- Transcripts -----------------------------------------------------------------------------------------------------


def _line(cluster: TinyCluster, seen: Observed, plan: Plan) -> str:
    """What was observed, what was decided, and the reason given."""
    called = {**cluster.versions, **{run.revision.name: run.revision.model_version for run in plan.run}}

    def names(some: Iterable[str | None]) -> str:
        return ", ".join(sorted(called.get(name or "", "nothing") for name in some)) or "nothing"

    pods = ", ".join(
        f"{called[n]} {w.ready}/{w.pods}" for n, w in sorted(seen.workloads.items(), key=lambda i: called[i[0]])
    )
    stable = seen.resource.status.stable
    again = {None: "when something happens", 1.0: "in 1 s", 30.0: "in 30 s"}[plan.look_again]
    said = plan.sentence
    for name in called:
        said = said.replace(f" (revision {name})", "")
    return (
        f"pass {cluster.passes}\n"
        f"  observed  ready {pods or 'none'}; Service -> {names([seen.selected])}; behind it {names(seen.endpoints)};"
        f" status says {names([stable.revision if stable else None])}\n"
        f"  decided   {plan.phase.value}: run {names(_running(plan))}; Service -> {names([plan.serving])};"
        f" {'release; ' if plan.release else ''}look again {again}\n"
        f"  because   {said}\n"
    )


def _told(cluster: TinyCluster, heading: str) -> list[str]:
    """Passes until one repeats what the last one said."""
    lines = [f"# {heading}"]
    for _ in range(12):
        text = _line(cluster, *cluster.reconcile())
        cluster.kubelet()
        if text.partition("\n")[2] == lines[-1].partition("\n")[2]:
            return [*lines, "... and so on"]
        lines.append(text)
        if "when something happens" in text or not cluster.finalizer:
            return lines
    return lines


def _first_start() -> list[str]:
    return _told(TinyCluster("1.0.0"), "spec: 1.0.0, two replicas; nothing is there")


def _new_version() -> list[str]:
    return _told(_from_stable(), "1.0.0 serves; spec: 2.0.0")


def _never_ready() -> list[str]:
    cluster = _from_stable()
    cluster.broken = frozenset({"2.0.0"})
    return _told(cluster, "1.0.0 serves; spec: 2.0.0, whose image does not exist")


def _returned() -> list[str]:
    cluster = _from_stable()
    cluster.broken = frozenset({"2.0.0"})
    lines = _told(cluster, "1.0.0 serves; spec: 2.0.0, whose image does not exist")
    cluster.version = "1.0.0"
    return lines + _told(cluster, "spec: back to 1.0.0")


def _paused_and_resumed() -> list[str]:
    cluster = _from_stable()
    cluster.paused = True
    lines = _told(cluster, "1.0.0 serves; spec: 2.0.0, paused")
    cluster.paused = False
    return lines + _told(cluster, "spec: not paused any more")


def _third_version() -> list[str]:
    cluster = _from_stable()
    lines = ["# 1.0.0 serves; spec: 2.0.0", _line(cluster, *cluster.reconcile())]
    cluster.kubelet()
    cluster.version = "3.0.0"
    return lines + _told(cluster, "spec: 3.0.0, while 2.0.0 comes up")


def _deletion() -> list[str]:
    cluster = _from_stable("1.0.0")
    cluster.deleted_for = 1
    return _told(cluster, "1.0.0 serves; the object is deleted")


STORIES = {
    "first-start": _first_start,
    "new-version": _new_version,
    "never-ready": _never_ready,
    "returned-to-stable": _returned,
    "paused-and-resumed": _paused_and_resumed,
    "third-version": _third_version,
    "deletion": _deletion,
}


@pytest.mark.parametrize("story", STORIES)
def test_the_story_of_a_rollout_reads_as_it_did(story: str) -> None:
    """Look at where the Service points and at what is behind it: while anything is behind it, that runs."""
    assert_golden(TRANSCRIPTS / f"{story}.txt", "\n".join(STORIES[story]()).rstrip() + "\n")


def test_a_service_that_moved_on_is_not_moved_back_to_a_revision_without_a_ready_pod() -> None:
    """The status write after the change to 2.0.0 was lost, the pods of 1.0.0 are gone, and the spec has gone on to 3.0.0."""
    of = resource("3.0.0", status={"stable": {"revision": STABLE.name}})
    workloads = {STABLE.name: ready(0, 1), WANTED.name: ready(1)}
    seen = observed(of, revisions=[STABLE, WANTED], workloads=workloads, selected=WANTED.name, endpoints=[WANTED.name])
    assert decide(seen).serving == WANTED.name


def test_a_record_keeps_its_content_and_only_a_recovered_one_takes_it_from_the_spec() -> None:
    """A ControllerRevision cannot be changed: other content than it has would be refused for ever."""
    bare = {"model": {"name": "black-scholes", "version": ""}}
    recorded = replace(WANTED, content=bare, created=NOW)
    assert wanted_revision(observed(resource("2.0.0"), revisions=[recorded])).content == bare
    recovered = replace(WANTED, content=bare, created=None)
    assert wanted_revision(observed(resource("2.0.0"), revisions=[recovered])).content == WANTED.content


def test_a_revision_that_is_ready_takes_over_when_its_service_has_all_its_endpoints() -> None:
    old, new = revision("1.0.0"), revision("2.0.0", 2)
    seen = observed(
        resource("2.0.0", replicas=2, status={"stable": {"revision": old.name}}),
        revisions=[old, new],
        workloads={old.name: ready(2), new.name: ready(2)},
        selected=old.name,
        endpoints=[old.name],
        behind={old.name: 2, new.name: 1},
    )
    waiting = decide(seen)
    assert (waiting.serving, waiting.look_again) == (old.name, 1.0)
    assert decide(replace(seen, behind={old.name: 2, new.name: 2})).serving == new.name
