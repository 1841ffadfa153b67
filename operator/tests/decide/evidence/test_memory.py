"""Whether memory grows: leaks are found, noise is not taken for one, and ten minutes tell nothing."""

import json
import random
from collections.abc import Callable

import pytest
from pinn_operator.decide.evidence import dump, load
from pinn_operator.decide.evidence.memory import BLOCK, KEPT_BLOCKS, KEPT_PODS, Memory

MIB = 2.0**20
ALLOWED = 10 * MIB
ALPHA, BETA = 0.001, 0.05


def watched(
    hours: float, amount: Callable[[float], float], pods: tuple[str, ...] = ("a",), every: float = 60.0
) -> Memory:
    """Memory of so many hours, a reading a minute, looked at when it is due."""
    memory = Memory()
    for minute in range(int(hours * 3600 / every) + 1):
        now = minute * every
        memory = memory.after(now, {pod: amount(now / 3600) for pod in pods}).looked(now, ALLOWED, ALPHA, BETA)
    return memory


def noisy(slope: float, seed: int, alike: float = 0.0) -> Callable[[float], float]:
    """300 MiB, growing by so many MiB an hour, with noise of 2 MiB; `alike`: how much a reading is like the last one."""
    rng, last = random.Random(seed), 0.0

    def amount(hours: float) -> float:
        nonlocal last
        last = alike * last + (1 - alike**2) ** 0.5 * rng.gauss(0, 2)
        return float((300 + slope * hours + last) * MIB)

    return amount


def verdict(memory: Memory) -> str | None:
    return memory.look.verdict if memory.look else None


@pytest.mark.parametrize("alike", [0.0, 0.9])
def test_a_leak_is_found(alike: float) -> None:
    assert all(verdict(watched(8, noisy(60, seed, alike))) == "Grows" for seed in range(5))


def test_a_steady_memory_passes() -> None:
    assert all(verdict(watched(8, noisy(0, seed))) == "Steady" for seed in range(5))


@pytest.mark.parametrize("alike", [0.0, 0.9])
def test_memory_that_grows_as_allowed_is_not_called_a_leak(alike: float) -> None:
    """One look at each of 200 programs, at the look's full alpha of 5 %, neighbours alike or not."""
    found = [
        Memory(looks=2, since=0.0, pods=watched(1, noisy(10, seed, alike)).pods).looked(3600, ALLOWED, 0.6, BETA)
        for seed in range(200)
    ]  # alpha / 12 = 5 %
    assert sum(verdict(one) == "Grows" for one in found) <= 20


def test_after_a_clock_that_was_ahead_for_a_while_memory_is_looked_at_as_before() -> None:
    """Two blocks of one time have no slope."""
    memory = Memory().after(0.0, {"a": 300 * MIB}).after(3600.0, {"a": 310 * MIB, "b": 1.0})
    for minute in range(1, 61):
        memory = memory.until(60.0 * minute).after(60.0 * minute, {"a": 300 * MIB})
    assert [block.at for block in memory.pods["a"]] == list(range(13))
    assert memory.pods.keys() == memory.floors.keys() == {"a"}
    assert verdict(memory.looked(3660.0, ALLOWED, ALPHA, BETA)) is not None


def test_memory_watched_since_a_time_to_come_is_watched_since_now() -> None:
    ahead = Memory().after(3600.0, {"a": 300 * MIB})
    assert ahead.until(60.0) == Memory(since=60.0)


def test_ten_minutes_tell_nothing() -> None:
    assert verdict(watched(1 / 6, noisy(500, 1))) is None
    assert verdict(watched(0.3, noisy(500, 1))) == "Undecided"


def test_looks_double_their_distance_and_missed_ones_are_not_made_up_for() -> None:
    memory = watched(1, noisy(0, 1))
    assert memory.looks == 3
    memory = memory.after(memory_at := 3600 * 9, {"a": 3e8})
    assert memory.looked(memory_at, ALLOWED, ALPHA, BETA).looks == 6
    assert memory.looked(memory_at, ALLOWED, ALPHA, BETA).looked(memory_at + 60, ALLOWED, ALPHA, BETA).looks == 6


def test_one_pod_that_leaks_is_enough() -> None:
    leaking, steady = noisy(60, 1), noisy(0, 2)
    memory = Memory()
    for minute in range(8 * 60 + 1):
        now = minute * 60.0
        memory = memory.after(now, {"a": steady(now / 3600), "b": leaking(now / 3600)})
        memory = memory.looked(now, ALLOWED, ALPHA, BETA)
    assert verdict(memory) == "Grows"


def test_an_outlier_does_not_move_the_slope() -> None:
    normal = noisy(0, 3)
    memory = watched(4, lambda hours: normal(hours) + (500 * MIB if 1 < hours < 1.05 else 0))
    assert memory.look is not None
    assert abs(memory.look.slope) < 2 * MIB


def test_growth_within_a_span_is_that_of_the_worst_pod_and_none_before_the_span_is_over() -> None:
    memory = watched(2, lambda hours: (300 + 150 * hours) * MIB)
    assert memory.grown(3600) == pytest.approx(150 * MIB, rel=0.01)
    assert watched(0.9, lambda hours: (300 + 150 * hours) * MIB).grown(3600) == 0


def test_what_a_leak_will_have_taken_by_then() -> None:
    memory = watched(4, noisy(60, 1))
    reached = memory.projected(4 * 3600, 14 * 3600)
    assert reached is not None
    assert 700 * MIB < reached < 1200 * MIB
    assert watched(0.1, noisy(60, 1)).projected(360, 3600) is None


def test_each_server_grows_from_its_own_level_and_one_that_is_gone_from_none() -> None:
    """What one leaks is not added to what another holds."""
    leaking, full = noisy(60, 1), noisy(0, 2)
    memory = Memory()
    for minute in range(5 * 60 + 1):
        now = minute * 60.0
        there = {"leaks": leaking(now / 3600), "is full": full(now / 3600) + 600 * MIB}
        there |= {"has left": 1500 * MIB} if now < 3600 else {}
        memory = memory.after(now, there).looked(now, ALLOWED, ALPHA, BETA)
    assert verdict(memory) == "Grows"
    reached = memory.projected(5 * 3600, 7 * 3600)
    assert reached == pytest.approx(900 * MIB, rel=0.01)
    assert load(Memory, json.loads(json.dumps(dump(memory)))) == memory


def test_what_is_kept_is_bounded() -> None:
    memory = watched(30, noisy(0, 1), tuple(f"p{n}" for n in range(KEPT_PODS + 3)), every=300)
    assert len(memory.pods) == KEPT_PODS
    assert max(len(blocks) for blocks in memory.pods.values()) == KEPT_BLOCKS


def test_a_large_request_at_the_beginning_of_five_minutes_is_no_growth() -> None:
    memory = watched(2, lambda _: 300 * MIB)
    assert memory.after(2 * 3600 + BLOCK, {"a": 450 * MIB}).grown(3600) == 0


def test_growth_is_that_of_the_span_and_not_of_a_longer_time_in_which_nothing_was_read() -> None:
    memory = watched(1, lambda _: 300 * MIB)
    memory = memory.after(15 * 3600, {"a": 412 * MIB}).after(15 * 3600 + BLOCK, {"a": 412 * MIB})
    assert memory.grown(3600) == 0


@pytest.mark.parametrize("hours", [1, 24, 72])
def test_a_leak_is_seen_over_every_span_of_which_a_day_is_looked_at(hours: int) -> None:
    memory = watched(72, lambda hour: (300 + 50 * hour) * MIB, every=BLOCK)
    assert memory.grown(hours * 3600) == pytest.approx(50 * min(24, hours) * MIB)


@pytest.mark.parametrize("minutes", [4, 30, 60])
def test_a_server_that_is_gone_keeps_no_verdict_from_those_that_are_there(minutes: int) -> None:
    memory, steady = Memory(), noisy(0, 3)
    for minute in range(8 * 60 + 1):
        there = ["a", "gone"] if minute < minutes else ["a", "its successor"]
        now = minute * 60.0
        memory = memory.after(now, {pod: steady(now) for pod in there}).looked(now, ALLOWED, ALPHA, BETA)
    assert verdict(memory) == "Steady"
