"""What one pass adds to the evidence, and what the next one has to measure."""

from dataclasses import replace

import pytest
from pinn_operator.api.journal import MOST_MINUTES, Arm, Journal, Minute
from pinn_operator.api.memory import Memory
from pinn_operator.api.observed import Observed
from pinn_operator.api.placement import Place, Placement
from pinn_operator.api.plan import Phase
from pinn_operator.api.readings import Checked, Measured, PodMetrics, Server
from pinn_operator.decide.evidence import Ledger, rules_of
from pinn_operator.decide.evidence.gpu import GpuUse
from pinn_operator.decide.evidence.hard import Window
from pinn_operator.decide.evidence.neighbours import NAMES
from pinn_operator.decide.watch import PHYSICS, dumped, ledger_of, next_tick, reading, tick, with_checks
from tests.decide.tiny_cluster import TinyCluster, has_begun
from tests.given import NOW, observed, only, ready, resource

AT = NOW.timestamp()
JOURNAL = Journal(Arm("new", "2.0.0"), Arm("old", "1.0.0"), AT - 100, 1, AT - 50, "tick", AT)
OF = resource(sla=only(errorRate="1%", physicsViolationRate="0.1%"), metrics={"interval": "10s"})
RULES = rules_of(OF.spec)


def _seen(measured: Measured | None = None, memory: Memory | None = None) -> Observed:
    return observed(OF, workloads={"new": ready(1), "old": ready(1)}, measured=measured, memory=memory)


def _pod(name: str, requests: float, errors: float = 0.0, at: float = AT, live: float = 0.0) -> PodMetrics:
    counts = dict.fromkeys(RULES.counters, 0.0) | {"requests": requests, "errors": errors}
    told = {key: value for key, value in counts.items() if key not in PHYSICS}
    return PodMetrics(name, f"{name}/1", at, told, live=live)


def _after(journal: Journal, ledger: Ledger, *pods: PodMetrics, seconds: float = 0.0) -> tuple[Journal, Ledger]:
    seen = replace(_seen(Measured(pods)), now=NOW.fromtimestamp(AT + seconds, NOW.tzinfo))
    return tick(seen, journal, ledger, RULES)


def test_evidence_that_cannot_be_read_is_gathered_anew() -> None:
    assert ledger_of(_seen(memory=Memory(JOURNAL, {"counters": "damaged"}))) == Ledger()
    assert ledger_of(_seen(memory=Memory(JOURNAL, dumped(Ledger(mass=0.5))))) == Ledger(mass=0.5)


def test_evidence_that_a_clock_that_was_ahead_has_dated_goes_on_from_now() -> None:
    """As of an hour later, where it is put back, or another replica takes over whose clock is right."""
    journal, ledger = _after(
        JOURNAL, Ledger(), _pod("new", 0, at=AT + 3600), _pod("old", 0, at=AT + 3600), seconds=3600
    )
    ledger = replace(
        ledger,
        step_began=AT + 3600,
        unready={"canary": AT + 3600, "stable": None},
        windows={"errorRate/canary": Window(AT + 3600)},
        gpu=GpuUse(AT + 3600),
    )
    ledger = ledger_of(_seen(memory=Memory(journal, dumped(ledger))))
    assert (ledger.step_began, ledger.unready) == (AT, {"canary": AT, "stable": None})
    assert (ledger.windows, ledger.gpu.at) == ({"errorRate/canary": Window(AT)}, AT)
    pods = (_pod("new", 50, 10, at=AT + 0.1), _pod("old", 90, at=AT + 0.1))
    journal, ledger = _after(journal, ledger, *pods)
    assert journal.minutes[-1].canary == {"requests": 50.0, "errors": 10.0, "live/errors": 10.0}
    again, _ = _after(journal, ledger, *pods, seconds=10)
    assert again.minutes[-1].canary == journal.minutes[-1].canary


@pytest.mark.parametrize(("since", "pause"), [(0, 1), (6, 1), (20, 3), (60, 9), (70, 10), (3600, 10)])
def test_readings_are_a_second_apart_after_a_weight_has_risen_and_by_and_by_as_the_spec_says(
    since: float, pause: float
) -> None:
    assert next_tick(replace(JOURNAL, rose_at=AT - since), _seen()).measure_at == pytest.approx(AT + pause)


def test_the_first_reading_is_where_counting_begins_and_the_next_one_brings_the_difference() -> None:
    journal, ledger = _after(JOURNAL, Ledger(), _pod("new", 1000), _pod("old", 5000))
    assert journal.minutes == (Minute(AT // 60 * 60),)
    journal, _ = _after(journal, ledger, _pod("new", 1010, 2, at=AT + 10), _pod("old", 5090, at=AT + 10), seconds=10)
    assert journal.minutes[-1].canary == {"requests": 10.0, "errors": 2.0, "live/errors": 2.0}
    assert journal.minutes[-1].stable == {"requests": 90.0}


def test_the_same_reading_again_adds_nothing() -> None:
    pods = (_pod("new", 1010, at=AT + 10), _pod("old", 5090, at=AT + 10))
    journal, ledger = _after(JOURNAL, Ledger(), _pod("new", 1000), _pod("old", 5000))
    journal, ledger = _after(journal, ledger, *pods, seconds=10)
    again, ledger_again = _after(journal, ledger, *pods, seconds=10)
    assert again.minutes == journal.minutes
    assert ledger_again.gates == ledger.gates


def test_a_pod_of_neither_arm_and_a_pass_without_a_reading_count_for_nothing() -> None:
    _, ledger = _after(JOURNAL, Ledger(), _pod("another", 7))
    assert ledger.counters.at is None
    _, ledger = tick(_seen(None), JOURNAL, Ledger(), RULES)
    assert ledger.counters.at is None


def test_what_the_operator_checked_itself_counts_for_physics() -> None:
    journal, ledger = _after(JOURNAL, Ledger(), _pod("new", 0), _pod("old", 0))
    measured = Measured((_pod("new", 0, at=AT + 10), _pod("old", 0, at=AT + 10)), {"new": Checked(100, 2, 10, 1)})
    seen = replace(_seen(measured), now=NOW.fromtimestamp(AT + 10, NOW.tzinfo))
    journal, ledger = tick(seen, journal, ledger, RULES)
    assert journal.minutes[-1].canary == {"checked": 100.0, "violations": 3.0}
    assert journal.shadow == {"new": Checked(100, 2, 10, 1)}


def test_checks_add_up_by_revision() -> None:
    once = with_checks(JOURNAL, Measured(shadow={"new": Checked(10, 1), "old": Checked(10)}))
    twice = with_checks(once, Measured(shadow={"new": Checked(10, 0, 5, 2)}))
    assert twice.shadow == {"new": Checked(20, 1, 5, 2), "old": Checked(10)}


def test_a_canary_whom_users_ask_next_to_nothing_is_quiet() -> None:
    journal, ledger = _after(JOURNAL, Ledger(), _pod("new", 0, live=0), _pod("old", 0))
    assert journal.quiet
    journal, ledger = _after(
        journal, ledger, _pod("new", 9, live=9, at=AT + 10), _pod("old", 0, at=AT + 10), seconds=10
    )
    assert not journal.quiet
    journal, _ = _after(journal, ledger, _pod("new", 10, live=10, at=AT + 20), _pod("old", 0, at=AT + 20), seconds=20)
    assert journal.quiet


@pytest.mark.parametrize(("canary", "later", "waits"), [(0, 600, True), (0, 601, False), (1, 5, False)])
def test_after_there_were_to_be_no_servers_none_is_missed_until_the_canary_has_one_or_had_its_time(
    canary: int, later: float, waits: bool
) -> None:
    none = replace(_seen(), resource=resource(replicas=0), workloads={"new": ready(0), "old": ready(0)})
    journal, ledger = tick(none, JOURNAL, Ledger(), RULES)
    assert (journal.off_at, ledger.unready) == (AT, {"canary": None, "stable": None})
    asked = {"new": ready(canary, 1), "old": ready(0, 1)}
    seen = replace(_seen(), workloads=asked, now=NOW.fromtimestamp(AT + later, NOW.tzinfo))
    journal, ledger = tick(seen, journal, ledger, RULES)
    assert (journal.off_at is not None) is waits
    assert (ledger.unready["stable"] is None) is waits


def test_how_busy_gpus_are_is_the_mean_over_the_servers_of_an_arm_that_have_any() -> None:
    pods = (
        replace(_pod("new", 0), gpu=0.9),
        replace(_pod("new", 0), process="new/2", gpu=0.5),
        replace(_pod("new", 0), process="new/3"),
        _pod("old", 0),
        replace(_pod("another", 0), gpu=1.0),
    )
    seen = _seen(Measured(pods))
    assert reading(seen, JOURNAL, (), {}).gpu == {"canary": pytest.approx(0.7)}
    assert reading(_seen(None), JOURNAL, (), {}).gpu == {}
    _, ledger = _after(JOURNAL, Ledger(), *pods)
    assert ledger.gpu.there


@pytest.mark.parametrize(
    ("canary", "stable", "alike"),
    [
        ({"GPU": 2}, {"GPU": 1}, True),
        ({"CPU": 1}, {"CPU": 1}, True),
        ({"CPU": 2}, {"GPU": 2}, False),
        ({"GPU": 1, "CPU": 1}, {"GPU": 2}, False),
        ({"GPU": 1, "CPU": 1}, {"GPU": 1, "CPU": 1}, False),
        ({"CPU": 1}, {"GPU": 0}, True),
        ({}, {}, True),
    ],
)
def test_arms_are_alike_where_all_ready_servers_run_on_gpus_or_all_on_cpus(
    canary: dict[Placement, int], stable: dict[Placement, int], alike: bool
) -> None:
    arms = {"new": canary, "old": stable}
    places = {name: {where: Place(ready=count) for where, count in arm.items()} for name, arm in arms.items()}
    seen = replace(_seen(None), places=places)
    assert reading(seen, JOURNAL, (), {}).alike is alike


def test_what_stables_servers_say_of_users_answers_is_taken_along() -> None:
    answered = {**dict.fromkeys(NAMES, 0.0), "timed": 70.0}
    pods = (_pod("new", 0), replace(_pod("old", 0), users=answered))
    assert [sample.counts for sample in reading(_seen(Measured(pods)), JOURNAL, (), {}).users] == [answered]
    _, ledger = _after(JOURNAL, Ledger(), *pods)
    assert ledger.neighbours.before["timed"] == 70


def test_what_users_asked_is_counted_apart_from_what_was_replayed() -> None:
    journal, ledger = _after(JOURNAL, Ledger(), _pod("new", 0), _pod("old", 0))
    asked = replace(_pod("new", 54, 3, at=AT + 10, live=4), users={"requests": 4.0, "errors": 2.0})
    journal, _ = _after(journal, ledger, asked, _pod("old", 90, at=AT + 10), seconds=10)
    assert journal.minutes[-1].canary == {"requests": 54.0, "errors": 3.0, "live": 4.0, "live/errors": 2.0}


def test_counters_of_ones_own_are_kept_by_the_queries_they_came_from() -> None:
    custom = [{"name": "refunds", "bad": "a", "total": "b"}]
    rules = rules_of(resource(sla={**only(), "custom": custom}).spec)
    (total,) = (name for name in rules.counters if name.startswith("custom/") and name.endswith("/total"))
    told = dict.fromkeys(_pod("new", 0).counts or {}, 0.0) | {
        "custom/refunds/bad": 0.0,
        "custom/refunds/total": 7.0,
    }
    pods = tuple(replace(_pod(name, 0), counts=told) for name in ("new", "old"))
    _, ledger = tick(_seen(Measured(pods)), JOURNAL, Ledger(), rules)
    assert ledger.counters.pods["new/1"].counts[total] == 7


class Blind(TinyCluster):
    """A cluster in which nobody can read a server, though it is ready."""

    blind = ""

    def _read(self, seen: Observed, server: Server) -> PodMetrics:
        told = super()._read(seen, server)
        return replace(told, counts=None, trouble="does not answer") if server.pod == self.blind else told


@pytest.mark.parametrize("arm", ["1.0.0", "2.0.0"])
def test_a_server_that_is_ready_and_cannot_be_read_leaves_no_bad_version_to_its_users_for_ever(arm: str) -> None:
    rollback = {"errorRate": {"above": "10%", "for": "1m"}}
    cluster = Blind("1.0.0", replicas=3, sla=only(errorRate="1%") | {"rollback": rollback})
    cluster.until(lambda plan: plan.phase is Phase.SERVING)
    cluster.version = "2.0.0"
    cluster.until(lambda plan: has_begun(plan, 1))
    cluster.blind = cluster.pods[cluster.named(arm)][0].name
    while cluster.at < 600:
        plan = cluster.go_on()
    assert (plan.rollout and plan.rollout.verdict, cluster.share) == ("NoMetrics", 10)
    cluster.bad["2.0.0"], began = 0.5, cluster.at
    plan = cluster.until(lambda plan: plan.phase is Phase.ROLLING_BACK)
    assert cluster.at - began < 90
    assert "worse than 10% for 60 s, by the servers that can be read" in plan.sentence


def test_an_hour_of_minutes_is_kept() -> None:
    journal, ledger = JOURNAL, Ledger()
    for minute in range(MOST_MINUTES + 5):
        at = AT + 60 * minute
        journal, ledger = _after(
            journal, ledger, _pod("new", minute, at=at), _pod("old", minute, at=at), seconds=60 * minute
        )
    assert len(journal.minutes) == MOST_MINUTES
    assert journal.minutes[-1].at == (AT + 60 * (MOST_MINUTES + 4)) // 60 * 60
