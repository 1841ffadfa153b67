"""How quickly stable answers its users: before the canary has a share, and since."""

from dataclasses import replace

from pinn_operator.decide.evidence import Ledger, Reading, Sample, begin_step, dump, load, take
from pinn_operator.decide.evidence.counters import Counts
from pinn_operator.decide.evidence.neighbours import NAMES
from tests.decide.evidence.arms import BEGIN, INTERVAL, errors_only

RULES = errors_only()


def stable(timed: float, slow: float, pod: str = "stable-0", at: float = BEGIN) -> Sample:
    """All answers that a pod has given, and how many of them took longer than 10 ms."""
    return Sample("stable", pod, at, {**dict.fromkeys(NAMES, 0.0), "timed": timed, "slower_than_0.01": slow})


def after(ledger: Ledger, seconds: float, *pods: Sample) -> Ledger:
    now = BEGIN + seconds
    return take(ledger, RULES, Reading(now, INTERVAL, users=tuple(replace(pod, at=now) for pod in pods)))


def stepping(ledger: Ledger) -> Ledger:
    return begin_step(ledger, RULES, BEGIN, 2)


def told(counts: Counts) -> tuple[float, float]:
    return counts["timed"], counts["slower_than_0.01"]


def test_what_servers_had_counted_at_the_first_reading_and_until_the_first_step_is_before() -> None:
    ledger = after(Ledger(), 0, stable(1000, 10), stable(500, 5, "stable-1"))
    ledger = after(ledger, 5, stable(1100, 11), stable(600, 6, "stable-1"))
    assert told(ledger.neighbours.before) == (1700, 17)
    assert not ledger.neighbours.during


def test_what_comes_in_the_steps_is_during_and_each_answer_counts_once() -> None:
    ledger = stepping(after(Ledger(), 0, stable(1000, 10)))
    for _ in range(2):
        ledger = after(ledger, 5, stable(1040, 14))
    ledger = stepping(ledger)
    ledger = after(ledger, 10, stable(1050, 15), replace(stable(7, 1, "stable-1"), started=BEGIN + 6))
    assert told(ledger.neighbours.before) == (1000, 10)
    assert told(ledger.neighbours.during) == (57, 6)


def test_a_server_that_restarted_is_counted_on_and_one_that_left_is_forgotten() -> None:
    ledger = stepping(after(Ledger(), 0, stable(1000, 10), stable(500, 5, "stable-1")))
    ledger = after(ledger, 5, stable(30, 3))
    assert told(ledger.neighbours.during) == (30, 3)
    assert list(ledger.neighbours.counters.pods) == ["stable-0"]


def test_a_reading_that_is_not_whole_adds_nothing_and_the_next_brings_it_all() -> None:
    ledger = stepping(after(Ledger(), 0, stable(1000, 10), stable(0, 0, "stable-1")))
    unread = replace(stable(0, 0, "stable-1"), counts=None)
    assert after(ledger, 5, stable(1040, 14), unread) == ledger
    assert after(ledger, 5) == ledger
    ledger = after(ledger, 10, stable(1060, 16), stable(0, 0, "stable-1"))
    assert told(ledger.neighbours.during) == (60, 6)


def test_it_outlives_the_operator() -> None:
    ledger = after(stepping(after(Ledger(), 0, stable(1000, 10))), 5, stable(1040, 14))
    assert load(Ledger, dump(ledger)) == ledger
