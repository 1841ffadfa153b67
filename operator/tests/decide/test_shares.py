"""Shares of the traffic without a gateway: which servers carry the label, how near that comes, and when it is in force."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinn_operator.api.observed import Observed, Route
from pinn_operator.api.readings import Server
from pinn_operator.decide.shares import all_to, current, divided, in_force, is_too_coarse, reachable_share
from tests.given import GATEWAY, observed, resource, revision

OLD, NEW = revision("1.0.0", 1), revision("2.0.0", 2)


def _servers(old: int, new: int, *, old_ready: int | None = None, new_ready: int | None = None) -> tuple[Server, ...]:
    up = {OLD.name: old if old_ready is None else old_ready, NEW.name: new if new_ready is None else new_ready}
    return tuple(
        Server(one.name, f"{one.model_version}-{n}", "c", "10.0.0.1", n < up[one.name])
        for one, count in ((OLD, old), (NEW, new))
        for n in range(count)
    )


def _seen(old: int, new: int, **more: int) -> Observed:
    return observed(revisions=[OLD, NEW], servers=_servers(old, new, **more), selected=OLD.name)


def _labelled(seen: Observed, weight: int) -> tuple[int, int]:
    """How many servers of either carry the label."""
    chosen = divided(seen, OLD, NEW, weight).labelled
    return sum(pod.startswith("1") for pod in chosen), sum(pod.startswith("2") for pod in chosen)


@pytest.mark.parametrize(
    ("servers", "weight", "labelled"),
    [((9, 9), 10, (9, 1)), ((10, 10), 50, (10, 10)), ((2, 2), 10, (2, 1)), ((4, 4), 25, (3, 1)), ((1, 1), 10, (1, 1))],
)
def test_as_many_servers_carry_the_label_as_come_nearest_to_the_share(
    servers: tuple[int, int], weight: int, labelled: tuple[int, int]
) -> None:
    assert _labelled(_seen(*servers), weight) == labelled


@given(old=st.integers(1, 12), new=st.integers(1, 12), weight=st.integers(1, 99))
def test_each_revision_with_a_share_has_a_server_and_no_other_choice_comes_nearer(
    old: int, new: int, weight: int
) -> None:
    from_old, from_new = _labelled(_seen(old, new), weight)
    assert from_old >= 1
    assert from_new >= 1
    asked = Fraction(weight, 100)
    options = (Fraction(b, a + b) for a in range(1, old + 1) for b in range(1, new + 1))
    assert abs(Fraction(from_new, from_old + from_new) - asked) == min(abs(one - asked) for one in options)


def test_a_server_of_the_canary_that_is_not_ready_is_not_sent_requests() -> None:
    chosen = divided(_seen(2, 2, new_ready=1), OLD, NEW, 50).labelled
    assert "2.0.0-1" not in chosen
    assert "2.0.0-0" in chosen


def test_servers_that_carry_the_label_keep_it() -> None:
    seen = _seen(4, 4)
    marked = tuple(replace(one, serving=one.pod in ("1.0.0-3", "2.0.0-2")) for one in seen.servers)
    assert divided(replace(seen, servers=marked), OLD, NEW, 50).labelled >= {"1.0.0-3", "2.0.0-2"}


def test_a_share_more_than_twice_the_one_asked_for_is_too_coarse_unless_it_is_allowed_or_a_gateway_makes_it() -> None:
    seen = _seen(2, 2)
    assert reachable_share(seen, OLD, NEW, 10) == Fraction(1, 3)
    assert is_too_coarse(seen, OLD, NEW, 10)
    assert not is_too_coarse(seen, OLD, NEW, 20)
    assert not is_too_coarse(seen, OLD, NEW, 100)
    assert not is_too_coarse(replace(seen, resource=resource(traffic={"allowCoarse": True})), OLD, NEW, 10)
    assert not is_too_coarse(replace(seen, resource=resource(traffic=GATEWAY)), OLD, NEW, 10)


def test_the_whole_and_nothing_are_selected_by_name_and_need_no_label() -> None:
    seen = _seen(2, 2)
    assert divided(seen, OLD, NEW, 0) == all_to(OLD)
    assert divided(seen, OLD, NEW, 100) == all_to(NEW)


def test_a_share_by_labels_is_in_force_when_the_label_and_the_endpoints_are_as_asked_for() -> None:
    seen = _seen(1, 1)
    wanted = divided(seen, OLD, NEW, 50)
    marked = tuple(replace(one, serving=True) for one in seen.servers)
    there = replace(seen, servers=marked, selected=None, split=True, endpoints={OLD.name: 1, NEW.name: 1})
    assert in_force(there, wanted)
    assert current(there, NEW) == 50
    assert not in_force(replace(there, endpoints={OLD.name: 1}), wanted)
    assert not in_force(replace(there, split=False, selected=OLD.name), wanted)
    assert not in_force(replace(there, servers=seen.servers), wanted)


def test_a_share_by_a_gateway_is_in_force_when_it_has_taken_this_very_route() -> None:
    seen = replace(_seen(1, 1), resource=resource(traffic=GATEWAY))
    wanted = divided(seen, OLD, NEW, 50)
    assert (wanted.selected, wanted.labelled) == (OLD.name, frozenset())
    route = Route({OLD.name: 50, NEW.name: 50}, in_force=True)
    assert in_force(replace(seen, route=route), wanted)
    assert not in_force(replace(seen, route=replace(route, in_force=False)), wanted)
    assert not in_force(replace(seen, route=replace(route, weights={OLD.name: 100})), wanted)
    assert not in_force(seen, wanted)


def test_a_server_of_stable_that_is_not_ready_for_a_moment_does_not_raise_the_share_of_the_canary() -> None:
    """The canary lacks one of two servers, so it is not to get more than it has."""
    seen = _seen(2, 2, old_ready=1, new_ready=1)
    marked = tuple(replace(one, serving=one.pod != "2.0.0-1") for one in seen.servers)
    assert current(replace(seen, servers=marked, selected=None, split=True), NEW) == 33
    assert current(replace(seen, servers=marked), NEW) == 0
    assert current(replace(seen, selected=NEW.name), NEW) == 100
