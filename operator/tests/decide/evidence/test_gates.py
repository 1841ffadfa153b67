"""Which service levels gate a rollout, by which counters, and how they share the chance of a false alarm."""

import pytest
from pinn_operator.decide.evidence.gates import ALPHA, BAKE_DOUBT, ERRORS, Gate, Limit, as_read, slow
from pinn_operator.decide.evidence.rules import MEMORY, Rules
from tests.decide.evidence.arms import rules


def names(of: Rules) -> list[str]:
    return [gate.name for gate in of.gates]


def test_the_defaults_gate_errors_fallbacks_misses_latency_and_physics() -> None:
    found = rules()
    assert names(found) == [
        ERRORS, "fallbackRate", "cacheHitRate", "latencyP95", "latencyP99", "physicsViolationRate",
    ]  # fmt: skip
    by_name = {gate.name: gate for gate in found.gates}
    assert by_name["cacheHitRate"].promote == Limit(0.2, "misses", "misses", "80% hits")
    assert by_name["latencyP95"].abort == Limit(0.05, "slower_than_2", "slower_than_2", "2s for 95%")
    assert [(limit.bad, limit.share, limit.span) for limit in found.hard] == [
        ("errors", 0.1, 300),
        ("live/errors", 0.1, 300),
        ("slower_than_5", 0.05, 600),
        ("live/slower_than_5", 0.05, 600),
    ]
    assert (found.unavailable, found.memory.container) == (120, 2**30)


def test_a_gate_that_is_off_is_absent_and_so_is_that_of_a_feature_that_is_off() -> None:
    off = {"promote": {"errorRate": "Off", "latencyP99": "Off"}, "abort": {"errorRate": "Off"}}
    found = names(rules(sla=off, cache={"size": 0}))
    assert found == ["fallbackRate", "latencyP95", "physicsViolationRate"]


def test_a_limit_that_nothing_can_break_is_no_gate() -> None:
    assert "cacheHitRate" not in names(rules(sla={"promote": {"cacheHitRate": "0%"}}))


def test_hard_limits_that_are_off_are_absent() -> None:
    off = {"errorRate": {"above": "Off"}, "latencyP95": {"above": "Off"}, "unavailable": {"for": "Off"}}
    found = rules(sla={"rollback": {**off, "memoryGrowth": {"above": "Off"}}})
    assert (found.hard, found.unavailable, found.memory.growth) == ((), None, None)


@pytest.mark.parametrize(
    ("latency", "surely", "maybe"),
    [
        ("500ms", "slower_than_0.5", "slower_than_0.5"),
        ("300ms", "slower_than_0.5", "slower_than_0.25"),
        ("10s", None, "slower_than_5"),
        ("0.5ms", "slower_than_0.001", None),
    ],
)
def test_a_latency_between_two_bounds_fails_by_the_higher_and_passes_by_the_lower(
    latency: str, surely: str | None, maybe: str | None
) -> None:
    found = slow(0.05, latency)
    assert found is not None
    assert (found.surely, found.maybe) == (surely, maybe)


def own_gate(bad: str, total: str = "b") -> Gate:
    gate = {"name": "refunds", "bad": bad, "total": total, "promote": "2%", "abort": "4%"}
    return rules(sla={"custom": [gate]}).gates[-1]


def test_a_gate_of_ones_own_has_its_own_counters_and_others_when_a_query_of_it_is_another_one() -> None:
    gate = own_gate("a")
    assert gate.name == "refunds"
    assert sorted(as_read(name) for name in gate.counters) == ["custom/refunds/bad", "custom/refunds/total"]
    assert own_gate("a") == gate
    for other in (own_gate("A"), own_gate("a", "B")):
        assert not other.counters & gate.counters


def test_what_servers_count_is_counted_for_users_alone_as_well() -> None:
    by_name = {gate.name: gate for gate in rules().gates}
    assert by_name["cacheHitRate"].counters == {"lookups", "misses", "live/lookups", "live/misses"}
    assert by_name[ERRORS].counters == {"requests", "errors", "live", "live/errors"}
    assert by_name["physicsViolationRate"].counters == {"checked", "violations"}


def test_where_nothing_is_replayed_users_are_not_counted_apart() -> None:
    assert [name for name in rules(sla={"evidence": "Live"}).counters if name.startswith("live")] == ["live"]


def test_where_nothing_is_replayed_there_is_one_hard_limit_on_errors() -> None:
    assert [limit.bad for limit in rules(sla={"evidence": "Live"}).hard] == ["errors", "slower_than_5"]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"sla": {"promote": {"errorRate": "Off", "memoryGrowthPerHour": "Off"}, "abort": {"errorRate": "Off"}}},
        {"sla": {"custom": [{"name": f"g{n}", "bad": "a", "total": "b"} for n in range(16)]}},
    ],
)
def test_all_gates_together_spend_alpha_and_errors_half_of_it(spec: dict[str, object]) -> None:
    found = rules(**spec)
    gates = [*names(found), *([MEMORY] if found.memory.growth_per_hour is not None else [])]
    shares = {name: found.alpha(name) for name in gates}
    assert sum(shares.values()) + BAKE_DOUBT == pytest.approx(ALPHA)
    if ERRORS in shares:
        assert shares[ERRORS] == max(shares.values()) == pytest.approx((ALPHA - BAKE_DOUBT) / 2)
