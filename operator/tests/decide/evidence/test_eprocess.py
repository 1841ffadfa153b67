"""Each form of evidence is at most 1 on average while all is well: summed over every outcome, not sampled."""

import itertools
import math
import random
from collections.abc import Callable, Iterator

import pytest
from pinn_operator.decide.evidence import eprocess as e
from pinn_operator.decide.evidence.eprocess import PSI, Detector, Watch

NO_MORE = 1 + 1e-9


def binomial(events: int, rate: float) -> Iterator[tuple[int, float]]:
    """Every count and its chance."""
    for bad in range(events + 1):
        yield bad, math.comb(events, bad) * rate**bad * (1 - rate) ** (events - bad)


def poisson(mean: float) -> Iterator[tuple[int, float]]:
    """Every count that matters and its chance."""
    for count in range(int(mean + 12 * math.sqrt(mean) + 20)):
        yield count, math.exp(count * math.log(mean) - mean - math.lgamma(count + 1)) if mean else float(count == 0)


@pytest.mark.parametrize("limit", [0.001, 0.01, 0.2, 0.5])
@pytest.mark.parametrize("part", e.BETTER)
def test_a_canary_at_or_beyond_the_limit_gives_no_evidence_of_passing(limit: float, part: float) -> None:
    for events, worse in itertools.product((1, 7, 40), (1, 1.3, 1.9)):
        rate = limit * worse
        average = sum(p * math.exp(e.log_absolute(x, events, limit, limit * part)) for x, p in binomial(events, rate))
        assert average <= NO_MORE
        if worse == 1:
            assert average == pytest.approx(1)


@pytest.mark.parametrize("odds", e.ODDS)
@pytest.mark.parametrize(("canary", "stable"), [(1, 1), (1, 30), (10, 10), (30, 1), (25, 3)])
def test_a_canary_at_psi_times_stables_rate_gives_no_evidence_of_being_worse(
    odds: float, canary: int, stable: int
) -> None:
    for rate in (1e-4, 0.01, 0.1, 0.4, 1 / PSI):
        average = sum(
            p * q * math.exp(e.log_relative((x, y), (canary, stable), odds))
            for x, p in binomial(canary, PSI * rate)
            for y, q in binomial(stable, rate)
        )
        assert average <= NO_MORE


def test_a_canary_far_worse_than_stable_gives_evidence() -> None:
    average = sum(
        p * q * e.log_relative((x, y), (20, 180), 6) for x, p in binomial(20, 0.2) for y, q in binomial(180, 0.005)
    )
    assert average > 1


def test_without_traffic_to_stable_the_relative_form_says_nothing() -> None:
    assert e.log_relative((30, 0), (100, 0), 6) == pytest.approx(0)


@pytest.mark.parametrize("bet", [*e.BETS, *e.APART_BETS])
def test_a_bet_on_a_tick_is_fair_however_the_events_fail_together(bet: float) -> None:
    """Among all ways to have a given mean, those of two values are the extremes."""
    for limit, low, high in itertools.product((0.001, 0.05, 0.3), (0.0, 0.0005), (0.31, 0.5, 1.0)):
        chance = (limit - low) / (high - low)
        average = sum(
            p * math.exp(e.log_tick(observed, limit, bet)) for observed, p in ((high, chance), (low, 1 - chance))
        )
        assert average == pytest.approx(1)


@pytest.mark.parametrize("traffic", [0.02, 0.1, 0.5, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("rates", [(0.0, 1.0), (0.2, 0.2), (0.1, 3.0), (0.5, 4.0), (1.0, 30.0)])
def test_arms_with_bursts_of_their_own_give_no_evidence_whatever_the_weight(
    traffic: float, rates: tuple[float, float]
) -> None:
    """Either arm may have the burst, with the same chance; the canary has `traffic` times stable's and psi times its rate."""
    assert average_of(lambda x, y: e.apart((x, y), (traffic, 1.0)), traffic, rates) <= 1e-9


def test_the_share_of_the_traffic_would_call_a_burst_of_its_own_guilt() -> None:
    """Why there is a form for arms apart: bad events counted against theta, as for arms together, are no fair bet here."""
    theta = PSI * 0.1 / (PSI * 0.1 + 1)
    assert average_of(lambda x, y: (x / (x + y), theta), 0.1, (0.0, 30.0)) > 0.3


def average_of(form: Callable[[int, int], tuple[float, float]], traffic: float, rates: tuple[float, float]) -> float:
    """Mean of observed - expected over ticks with a bad event, times their chance."""
    total = 0.0
    for own, others in (rates, rates[::-1]):
        for x, p in poisson(PSI * traffic * own):
            for y, q in poisson(others):
                if x + y:
                    observed, expected = form(x, y)
                    total += p * q / 2 * (observed - expected)
    return total


def test_a_detector_is_at_most_its_mass_on_average_after_every_sequence_of_ticks() -> None:
    """Over all 1,024 sequences of ten ticks at the limit, through two steps; then it reaches 100 in at most 1 % of rollouts."""
    limit, average = 0.3, 0.0
    for outcome in itertools.product((0, 1), repeat=10):
        detector = Detector(mass=0.5)
        for tick, bad in enumerate(outcome):
            detector = detector if tick != 6 else detector.at_a_new_step(0.25)
            detector = detector.after([e.log_tick(bad, limit, bet) for bet in e.BETS])
        chance = math.prod(limit if bad else 1 - limit for bad in outcome)
        average += chance * math.exp(detector.log_evidence)
    spent = sum(0.5 / ((t + 1) * (t + 2)) for t in range(6)) + sum(0.25 / ((t + 1) * (t + 2)) for t in range(4))
    assert average == pytest.approx(spent)


def test_a_detector_notices_trouble_that_begins_late() -> None:
    detector = Detector()
    for _ in range(1000):
        detector = detector.after([e.log_tick(0.0, 0.01, bet) for bet in e.BETS])
    for _ in range(20):
        detector = detector.after([e.log_tick(0.05, 0.01, bet) for bet in e.BETS])
    assert detector.log_evidence > math.log(100)
    assert detector.emptied().log_evidence == -math.inf


def test_a_watch_notices_sooner_than_a_detector_and_forgets() -> None:
    watch, detector = Watch(), Detector()
    for tick in range(600):
        rate = 0.05 if 300 <= tick < 310 else 0.002
        bets = [e.log_tick(rate, 0.01, bet) for bet in e.BETS]
        watch, detector = watch.after(bets), detector.after(bets)
        if tick == 304:
            assert watch.log_evidence > math.log(20) > detector.log_evidence
    assert watch.log_evidence < math.log(20)


@pytest.mark.parametrize(("bad", "events"), [(0, 100), (5, 1000), (60, 900), (3, 3)])
def test_the_upper_bound_of_a_rate_is_rarely_exceeded(bad: int, events: int) -> None:
    """Were the rate above the bound, so few bad events would have a chance of at most 1 in 1,000."""
    bound = e.upper_bound(bad, events, 0.001)
    assert bad / events <= bound <= 1
    if bad < events:
        assert sum(chance for seen, chance in binomial(events, bound) if seen <= bad) <= 0.001


def test_nothing_is_known_of_a_rate_without_events() -> None:
    assert e.upper_bound(0, 0, 0.001) == 1


def test_sums_in_logarithms_survive_what_no_float_holds() -> None:
    assert e.add(5000.0, 4990.0) == pytest.approx(5000 + math.log1p(math.exp(-10)))
    assert e.mean([5000.0, -5000.0]) == pytest.approx(5000 - math.log(2))
    rng = random.Random(1)
    numbers = [rng.random() for _ in range(5)]
    assert e.mean([math.log(one) for one in numbers]) == pytest.approx(math.log(sum(numbers) / 5))
