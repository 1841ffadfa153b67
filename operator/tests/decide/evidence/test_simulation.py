"""The promises of the rule on a few hundred seeded rollouts, by the operator's own code. The full table: benchmarks/."""

import random
from collections.abc import Callable, Iterator
from statistics import median

from tests.decide.evidence.arms import Rollout, errors_only, failures, first_failure

Ticks = Iterator[tuple[tuple[int, int], tuple[int, int]]]


def rates(seed: int, count: int, canary: float, stable: float, events: tuple[int, int] = (50, 50)) -> Ticks:
    """Every request fails on its own."""
    rng = random.Random(seed)
    for _ in range(count):
        yield (events[0], failures(rng, events[0], canary)), (events[1], failures(rng, events[1], stable))


def bursts(seed: int, count: int, mean: float, height: float, events: int = 50) -> Ticks:
    """Nothing fails, but in some ticks of each arm so many requests do."""
    rng = random.Random(seed)
    for _ in range(count):
        canary, stable = (height if rng.random() < mean / height else 0.0 for _ in range(2))
        yield (events, round(events * canary)), (events, round(events * stable))


def failed(rollouts: int, ticks: Callable[[int], Ticks], *, bake: bool = False) -> list[float]:
    """When those rollouts failed that did."""
    times = [first_failure(Rollout(errors_only(), bake=bake), ticks(seed)) for seed in range(rollouts)]
    return [time for time in times if time is not None]


def test_a_good_canary_is_not_aborted_however_often_one_looks() -> None:
    assert not failed(20, lambda seed: rates(seed, 720, 0.005, 0.005))
    assert not failed(20, lambda seed: bursts(seed, 720, 0.005, 0.5))


def test_a_good_canary_is_not_aborted_in_the_bake() -> None:
    assert not failed(20, lambda seed: bursts(seed, 720, 0.005, 0.5), bake=True)


def test_a_canary_at_five_percent_is_found_every_time_and_within_a_minute_mostly() -> None:
    times = failed(60, lambda seed: rates(seed, 120, 0.05, 0.005, (50, 100)))
    assert len(times) == 60
    assert median(times) <= 60


def test_a_shared_incident_is_not_blamed_on_the_canary_neither_during_nor_after_it() -> None:
    def ticks(seed: int) -> Ticks:
        for begin, rate in ((0, 0.005), (1, 0.15), (2, 0.005)):
            yield from rates(seed + 1000 * begin, 60, rate, rate, (45, 5))

    assert not failed(80, ticks)


def test_two_arms_in_breach_with_bursts_of_their_own_are_not_taken_for_a_bad_canary() -> None:
    assert len(failed(60, lambda seed: bursts(seed, 360, 0.03, 0.3))) <= 1
