"""Plain thresholds kept up for some time, and crashes."""

from pinn_operator.decide.evidence.hard import Restarts, Window, unready_since

SPAN = 300.0


def window(*rates: float, events: float = 10.0, every: float = 5.0) -> tuple[Window, float]:
    """One rate a tick, after a whole span without trouble."""
    found, now = Window(), 0.0
    for rate in (*[0.0] * 61, *rates):
        now += every
        found = found.after(now, SPAN, events, events * rate)
    return found, now


def breached(*rates: float, events: float = 10.0) -> bool:
    found, now = window(*rates, events=events)
    return found.breached(now, SPAN, 0.1)


def test_a_limit_broken_for_the_whole_span_is_a_breach() -> None:
    assert breached(*[0.2] * 61)


def test_a_limit_broken_for_half_the_span_is_none_however_badly() -> None:
    assert not breached(*[1.0] * 28)
    assert not breached(*[0.05] * 40, *[1.0] * 28)


def test_a_limit_kept_is_no_breach() -> None:
    assert not breached(*[0.1] * 100)


def test_fewer_than_twenty_events_are_no_breach() -> None:
    assert not breached(*[1.0] * 80, events=0.3)


def test_nothing_is_a_breach_before_a_whole_span_was_watched() -> None:
    found = Window().after(0, SPAN, 100, 100).after(290, SPAN, 100, 100)
    assert not found.breached(299, SPAN, 0.1)
    assert found.after(305, SPAN, 100, 100).breached(305, SPAN, 0.1)


def test_what_is_kept_is_bounded() -> None:
    assert len(window(*[0.2] * 5000)[0].slots) <= 11


def test_restarts_are_counted_within_a_step_from_the_first_look_on() -> None:
    found = Restarts().after({"a": 3}).after({"a": 4, "b": 0})
    assert found.in_step == 1
    assert found.at_a_new_step().after({"a": 4, "b": 0}).in_step == 0


def test_a_pod_that_is_new_counts_from_zero_and_one_that_returns_from_where_it_was() -> None:
    found = Restarts().after({}).after({"a": 1})
    assert found.in_step == 1
    assert found.after({}).after({"a": 1}).in_step == 1


def test_being_unready_is_timed_from_its_beginning() -> None:
    assert unready_since(None, 10, ready=False) == 10
    assert unready_since(10, 25, ready=False) == 10
    assert unready_since(10, 25, ready=True) is None
