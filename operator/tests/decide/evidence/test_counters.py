"""From counters to increments: nothing lost, nothing counted twice."""

import math
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinn_operator.decide.evidence.counters import (
    KEPT_GONE,
    Counters,
    Increments,
    Known,
    Sample,
    advance,
    advance_by_some,
)

NAMES = ("errors", "requests")
INTERVAL = 10.0


def sample(pod: str, at: float, requests: float, errors: float = 0.0) -> Sample:
    return Sample("canary" if pod.startswith("c") else "stable", pod, at, {"requests": requests, "errors": errors})


def after(*ticks: tuple[float, Iterable[Sample]]) -> tuple[Counters, Increments | str]:
    """The last of several ticks."""
    counters, found = Counters(), None
    for now, samples in ticks:
        counters, found = advance(counters, tuple(samples), NAMES, now, INTERVAL)
    assert found is not None
    return counters, found


def increments(*ticks: tuple[float, Iterable[Sample]]) -> Increments:
    found = after(*ticks)[1]
    assert isinstance(found, Increments), found
    return found


def test_the_first_reading_is_where_counting_begins() -> None:
    assert increments((0, [sample("s", 0, 5000)])) == Increments(
        0, {"errors": 0, "requests": 0}, {"errors": 0, "requests": 0}
    )


def test_what_happened_since_is_summed_by_arm_over_the_same_span() -> None:
    found = increments(
        (0, [sample("c", 0, 0), sample("s1", 0, 100), sample("s2", 0, 200)]),
        (10, [sample("c", 10, 7, 2), sample("s1", 10, 140), sample("s2", 9, 250, 1)]),
    )
    assert found == Increments(10, {"errors": 2, "requests": 7}, {"errors": 1, "requests": 90})


def test_a_counter_below_its_predecessor_counts_from_zero_and_so_do_its_neighbours() -> None:
    """The process is a new one: that its requests exceed the old ones already does not mean they follow them."""
    found = increments((0, [sample("c", 0, 100, 50)]), (10, [sample("c", 10, 130, 3)]))
    assert found.canary == {"errors": 3, "requests": 130}


def test_a_new_pod_counts_from_zero() -> None:
    found = increments((0, [sample("c1", 0, 0)]), (10, [sample("c1", 10, 5), sample("c2", 10, 20, 1)]))
    assert found.canary == {"errors": 1, "requests": 25}


def test_a_vanished_pod_takes_nothing_back_and_is_not_counted_again_when_it_returns() -> None:
    away = [(0, [sample("s", 0, 100), sample("c", 0, 0)]), (10, [sample("c", 10, 5)])]
    assert increments(*away).stable["requests"] == 0
    assert increments(*away, (20, [sample("c", 20, 9), sample("s", 20, 130)])).stable["requests"] == 30


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (Sample("canary", "c", 10, None), "the metrics of pod c cannot be read"),
        (Sample("canary", "c", -16, {"requests": 9, "errors": 0}), "the metrics of pod c are 26 s old"),
        (Sample("canary", "c", 10, {"requests": 9}), "the metrics of pod c lack errors"),
        (sample("c", 10, math.nan), "the metrics of pod c say requests is nan"),
        (sample("c", 10, math.inf), "the metrics of pod c say requests is inf"),
        (sample("c", 10, -1), "the metrics of pod c say requests is -1"),
    ],
)
def test_a_sample_that_is_no_news_makes_the_tick_tell_nothing_of_either_arm(broken: Sample, said: str) -> None:
    first = (0.0, [sample("c", 0, 0), sample("s", 0, 100)])
    counters, found = after(first, (10, [broken, sample("s", 10, 150)]))
    assert found == said
    assert counters == after(first)[0]


def test_the_next_good_tick_brings_everything_once_over_the_same_span() -> None:
    found = increments(
        (0, [sample("c", 0, 0), sample("s", 0, 100)]),
        (10, [Sample("canary", "c", 10, None), sample("s", 10, 150)]),
        (20, [sample("c", 20, 12, 3), sample("s", 20, 180)]),
    )
    assert found == Increments(20, {"errors": 3, "requests": 12}, {"errors": 0, "requests": 80})


def test_a_sample_two_intervals_old_is_still_news() -> None:
    found = increments((0, [sample("c", 0, 0)]), (30, [sample("c", 10, 4)]))
    assert found.canary["requests"] == 4


@pytest.mark.parametrize("again", [sample("c", 10, 7), sample("c", 5, 3)])
def test_a_reading_seen_already_or_older_is_not_counted(again: Sample) -> None:
    """An older one would look like a reset."""
    ticks = (0.0, [sample("c", 0, 0)]), (10.0, [sample("c", 10, 7)]), (20.0, [again])
    assert increments(*ticks).canary["requests"] == 0
    assert increments(*ticks, (30, [sample("c", 30, 9)])).canary["requests"] == 2


def test_after_a_clock_that_was_ahead_the_next_reading_counts() -> None:
    """Until the clock comes to that time again every reading would be taken for an old one, and no trouble be said."""
    ahead = Counters(4600.0, {"c": Known(4600.0, {"requests": 100, "errors": 0})})
    before = ahead.until(1000.0, INTERVAL)
    assert before == Counters(1000.0, {"c": Known(1000.0, {"requests": 100, "errors": 0})})
    counters, found = advance(before, [sample("c", 1000.1, 120, 10)], NAMES, 1000.0, INTERVAL)
    assert isinstance(found, Increments)
    assert found.canary == {"requests": 20, "errors": 10}
    again, found = advance(counters, [sample("c", 1000.1, 120, 10)], NAMES, 1010.0, INTERVAL)
    assert isinstance(found, Increments)
    assert (found.canary["requests"], again.pods) == (0, counters.pods)


@pytest.mark.parametrize("ahead", [0.0, 1.0, 25.0])
def test_after_a_reading_that_is_a_little_ahead_an_older_one_is_still_an_older_one(ahead: float) -> None:
    """Prometheus has a clock of its own, and there may be two of them."""
    before = Counters(1000.0, {"c": Known(1000 + ahead, {"requests": 100, "errors": 5})})
    assert before.until(1000.0, INTERVAL) == before
    _, found = advance(before, [sample("c", 999 + ahead, 90, 5)], NAMES, 1000.0, INTERVAL)
    assert isinstance(found, Increments)
    assert found.canary == {"requests": 0, "errors": 0}


def test_of_pods_that_vanished_the_newest_are_kept() -> None:
    counters, _ = after(*((float(n), [sample(f"c{n}", n, 1)]) for n in range(KEPT_GONE + 20)))
    assert len(counters.pods) == KEPT_GONE + 1
    assert {"c19", f"c{KEPT_GONE + 18}"} <= counters.pods.keys()


def test_of_pods_that_are_there_all_are_kept() -> None:
    """One that was forgotten would count from zero, again and again."""
    many = [f"c{n}" for n in range(5 * KEPT_GONE)]
    found = increments(*((now, [sample(pod, now, 1000 + now) for pod in many]) for now in (0.0, 10.0, 20.0)))
    assert found.canary["requests"] == 10 * len(many)


Event = tuple[str, int, bool]


@given(st.lists(st.tuples(st.sampled_from(["count", "restart", "hide", "spoil"]), st.integers(0, 50), st.booleans())))
def test_whatever_happens_to_the_readings_every_event_that_was_ever_read_counts_once(events: list[Event]) -> None:
    """Restarts lose what was not read; hidden and spoilt readings lose nothing."""
    counters, counted, lost, made = Counters(), 0.0, 0.0, 0
    value, read = 0, 0
    for tick, (kind, more, gone) in enumerate([("count", 0, False), *events, ("count", 0, False)]):
        if kind == "restart":
            lost += value - read
            value, read = 0, 0
        value, made = value + more, made + more
        if kind == "restart" and value >= counters_of(counters):
            lost += counters_of(counters)  # no counter shows this restart
        samples = (
            [] if kind == "hide" and gone else [Sample("canary", "c", float(tick), {"requests": value, "errors": 0})]
        )
        if kind == "spoil":
            samples = [Sample("canary", "c", float(tick), None)]
        counters, found = advance(counters, samples, NAMES, float(tick), INTERVAL)
        if isinstance(found, Increments) and samples:
            counted += found.canary["requests"]
            read = value
    assert counted == pytest.approx(made - lost)


def counters_of(counters: Counters) -> float:
    known = counters.pods.get("c")
    return known.counts["requests"] if known else 0.0


def test_what_a_server_of_stable_did_before_anybody_read_it_is_not_of_this_rollout() -> None:
    ticks = (0.0, [sample("s", 0, 100)]), (10.0, [sample("s", 10, 110), sample("s-back", 10, 5e6, 2e5)])
    assert increments(*ticks).stable == {"errors": 0, "requests": 10}
    assert increments(*ticks, (20.0, [sample("s", 20, 110), sample("s-back", 20, 5e6 + 3, 2e5 + 1)])).stable == {
        "errors": 1,
        "requests": 3,
    }


def test_a_server_of_stable_that_began_since_the_last_reading_counts_from_zero() -> None:
    began = replace(sample("s-new", 10, 7), started=4.0)
    found = increments((0, [sample("s", 0, 100)]), (10, [sample("s", 10, 100), began]))
    assert found.stable["requests"] == 7


def test_a_counter_that_nobody_asked_for_before_begins_where_it_stands() -> None:
    """A limit was changed in the middle: it is judged by another bound of the histogram."""
    counters, _ = after((0, [sample("c", 0, 100)]), (10, [sample("c", 10, 900)]))
    both = Sample("canary", "c", 20, {"requests": 910.0, "errors": 0.0, "slower_than_2": 500.0})
    _, found = advance(counters, [both], (*NAMES, "slower_than_2"), 20, INTERVAL)
    assert isinstance(found, Increments)
    assert found.canary == {"requests": 10, "errors": 0, "slower_than_2": 0}


def test_a_series_of_ones_own_counts_on_from_the_most_it_has_said() -> None:
    """A sum of two targets of which one was not read for a while has not counted the other's events anew when it is back."""
    names, counters, counted = ("custom/desk/bad",), Counters(), []
    for at, own in ((0.0, 10_000.0), (10.0, 6_000.0), (20.0, 10_020.0), (30.0, 10_030.0)):
        told = Sample("canary", "c", at, {"custom/desk/bad": own})
        counters, found = advance(counters, [told], names, at, INTERVAL)
        assert isinstance(found, Increments)
        counted.append(found.canary["custom/desk/bad"])
    assert counted == [0, 0, 0, 10]


def test_a_gate_of_ones_own_waits_until_both_its_counters_are_beyond_what_they_were() -> None:
    """A sidecar that began anew is soon beyond its few events, and not beyond its many bad ones: 3 % of them, and not 0 %."""
    names, counters, counted = ("custom/desk/bad", "custom/desk/total"), Counters(), []
    told = [(60.0, 200.0), (3.0, 100.0), (9.0, 300.0), (60.0, 2000.0), (61.0, 2100.0), (64.0, 2200.0)]
    for at, counts in enumerate(told):
        one = Sample("canary", "c", float(at), dict(zip(names, counts, strict=True)))
        counters, found = advance(counters, [one], names, float(at), INTERVAL)
        assert isinstance(found, Increments)
        counted.append(tuple(found.canary.values()))
    assert counted == [(0, 0), (0, 0), (0, 0), (0, 0), (1, 100), (3, 100)]


def test_a_counter_of_ones_own_that_was_missing_does_not_bring_all_it_missed_beside_one_that_went_on() -> None:
    """All bad events of a minute beside the events of a second would be no rate."""
    names, counters = ("custom/desk/bad", "custom/desk/total"), Counters()
    for at, counts in enumerate([(10.0, 1000.0), (0.0, 1500.0), (20.0, 2000.0)]):
        one = Sample("canary", "c", float(at), dict(zip(names, counts, strict=True)))
        counters, found = advance(counters, [one], names, float(at), INTERVAL)
        assert isinstance(found, Increments)
        assert set(found.canary.values()) == {0.0}


def test_a_series_of_ones_own_that_is_missing_for_a_while_neither_counts_twice_nor_makes_others_do_so() -> None:
    names, counters, counted = (*NAMES, "custom/desk/bad"), Counters(), []
    for at, own in ((0.0, 5000.0), (10.0, 0.0), (20.0, 5003.0), (30.0, 5006.0)):
        told = Sample("canary", "c", at, {"requests": 100.0 + at, "errors": 0.0, "custom/desk/bad": own})
        counters, found = advance(counters, [told], names, at, INTERVAL)
        assert isinstance(found, Increments)
        counted.append((found.canary["requests"], found.canary["custom/desk/bad"]))
    assert counted == [(0, 0), (10, 0), (10, 0), (10, 3)]


# --- By some of the pods ---------------------------------------------------------------------------------------------

BEGUN = after((0, [sample("c1", 0, 0), sample("c2", 0, 0), sample("s", 0, 100)]))[0]
SPAN = 60.0


def by_some(before: Counters, now: float, *samples: Sample) -> tuple[Counters, Increments, tuple[str, ...]]:
    return advance_by_some(before, samples, NAMES, now, INTERVAL, SPAN)


def unread(pod: str, now: float) -> Sample:
    return replace(sample(pod, now, 0), counts=None)


def test_what_can_be_read_is_counted_and_the_others_bring_theirs_once_when_they_are_back() -> None:
    counters, found, _ = by_some(BEGUN, 10, sample("c1", 10, 7, 2), unread("c2", 10), sample("s", 10, 140))
    assert (found.canary, found.stable) == ({"errors": 2, "requests": 7}, {"errors": 0, "requests": 40})
    counters, found, _ = by_some(counters, 20, sample("c1", 20, 9, 2), sample("c2", 20, 5, 1), sample("s", 20, 140))
    assert (found.canary, found.stable) == ({"errors": 1, "requests": 7}, {"errors": 0, "requests": 0})
    _, found, _ = by_some(counters, 20, sample("c1", 20, 9, 2), sample("c2", 20, 5, 1), sample("s", 20, 140))
    assert found.canary == {"errors": 0, "requests": 0}


@pytest.mark.parametrize(("back", "counted"), [(SPAN, 500), (SPAN + 1, 0)])
def test_who_was_not_read_for_longer_than_the_span_begins_where_it_stands(back: float, counted: float) -> None:
    samples = [sample("c1", back, 10), sample("c2", back, 500), sample("s", back, 100)]
    read = by_some(BEGUN, back - 5, sample("c1", back - 5, 10), unread("c2", back - 5), sample("s", back - 5, 100))[0]
    counters, found, _ = by_some(read, back, *samples)
    assert found.canary["requests"] == counted
    _, found, _ = by_some(counters, back + 5, sample("c2", back + 5, 503))
    assert found.canary["requests"] == 3


@pytest.mark.parametrize(("started", "counted"), [(50.0, 500), (10.0, 0), (None, 500)])
def test_nor_does_one_of_the_canary_count_from_zero_that_was_never_read_and_runs_for_longer(
    started: float | None, counted: float
) -> None:
    _, found, _ = by_some(BEGUN, 90, replace(sample("c3", 90, 500), started=started))
    assert found.canary["requests"] == counted


def test_it_is_told_of_which_arm_no_server_can_be_read_whatever_the_operator_counted_itself() -> None:
    own = replace(sample("shadow/stable", 10, 0), arm="stable", own=True)
    both = [unread("c1", 10), sample("c2", 10, 3), unread("s", 10), own]
    assert by_some(BEGUN, 10, *both)[2] == ("stable",)
    assert by_some(BEGUN, 10, unread("c1", 10), unread("c2", 10), sample("s", 10, 140))[2] == ("canary",)
    assert by_some(BEGUN, 10, sample("c1", 10, 3), sample("s", 10, 140))[2] == ()
    assert by_some(BEGUN, 10, sample("c1", 10, 3), own)[2] == (), "it has no server that could be read"
