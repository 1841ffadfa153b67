"""What one more reading adds, and what a new step, a changed limit or a recovered stable take away."""

from dataclasses import replace
from math import inf

import pytest
from pinn_operator.decide.evidence import Reading, Rules, dump, judge, load, take
from pinn_operator.decide.evidence.asking import ASKED_FOR
from pinn_operator.decide.evidence.hard import Window
from pinn_operator.decide.evidence.ledger import Breach, Ledger, Sum
from pinn_operator.decide.evidence.ledger import begin_step as begin
from tests.decide.evidence.arms import BEGIN, INTERVAL, Rollout, errors_only, rules
from tests.given import only


def promote(rollout: Rollout) -> Breach:
    found = rollout.ledger.gates["errorRate"].promote
    assert found is not None
    return found


def test_when_stable_has_recovered_what_was_held_against_the_canary_is_void() -> None:
    rollout = Rollout(errors_only())
    for _ in range(30):
        rollout.tick((100, 15), (100, 15))
    assert promote(rollout).stable_is_sick
    assert promote(rollout).canary.log_evidence > 5
    while promote(rollout).stable_is_sick:
        rollout.tick((100, 3), (100, 0))
    assert promote(rollout).canary.log_evidence == -inf


def test_stable_is_soon_well_again_however_long_it_was_sick() -> None:
    rollout = Rollout(errors_only())
    for _ in range(2000):
        rollout.tick((100, 15), (100, 15))
    ticks = 0
    while promote(rollout).stable_is_sick:
        rollout.tick((100, 0), (100, 0))
        ticks += 1
    assert ticks * 5 < 900


def test_the_steps_share_the_mass_of_the_detectors_and_never_spend_more_than_there_is() -> None:
    rules, ledger, spent = errors_only(), Ledger(), 0.0
    for left in (3, 2, 1, 1, 1, 1):
        ledger = begin(ledger, rules, BEGIN, left)
        spent += ledger.step_mass
        assert ledger.step_mass > 0, "a step that begins again, as the steps were changed, could never fail"
    assert spent < 1


def test_what_a_new_step_finds_is_found_as_fast_as_in_the_first() -> None:
    rollout = Rollout(errors_only(), steps=2)
    for _ in range(3000):
        rollout.tick((50, 0), (450, 2))
    rollout.step(1)
    assert "Failing" in [rollout.tick((50, 5), (450, 2)).verdict for _ in range(6)]


def test_requests_before_the_first_step_are_no_evidence_against_the_canary() -> None:
    """Somebody may try it by the preview header."""
    rules = errors_only()
    rollout = Rollout(rules)
    rollout.ledger = Ledger()
    for _ in range(20):
        rollout.tick((100, 50), (900, 4))
    known = rollout.ledger.gates["errorRate"]
    assert promote(rollout).canary.log_evidence == known.apart.log_evidence == -inf
    rollout.step(3)
    assert rollout.verdict().verdict == "NoTraffic"


def test_a_limit_that_was_changed_is_judged_anew_and_the_others_go_on() -> None:
    rollout = Rollout(errors_only())
    for _ in range(4):
        rollout.tick((100, 5), (900, 4))
    abort = rollout.ledger.gates["errorRate"].abort
    rollout.rules = errors_only(sla={"promote": {"errorRate": "4%"}})
    rollout.tick((100, 5), (900, 4))
    now = rollout.ledger.gates["errorRate"]
    assert promote(rollout).share == 0.04
    assert promote(rollout).canary_sum.events == 100
    assert abort is not None
    assert now.abort is not None
    assert now.abort.canary_sum.events == abort.canary_sum.events + 100


def changed(rollout: Rollout, rules: Rules) -> None:
    """The spec says otherwise now; a counter that was not asked for before is read from where it stands."""
    rollout.rules = rules
    for counts in rollout.totals.values():
        counts.update({name: counts.get(name, 0.0) for name in rules.counters})


def test_a_latency_that_was_within_the_old_limit_does_not_pass_the_new_one() -> None:
    """All answers take 400 ms: surely within half a second, and, for all the histogram tells, not within 300 ms."""
    rollout = Rollout(rules(sla=only(latencyP95="500ms")))
    for _ in range(20):
        verdict = rollout.tick((100, 0), bad="slower_than_0.5", total="timed")
    assert verdict.verdict == "Passing"
    changed(rollout, rules(sla=only(latencyP95="300ms")))
    verdict = rollout.tick((100, 100), bad="slower_than_0.25", total="timed")
    assert verdict.verdict == "Undecided"


def test_a_gate_of_ones_own_whose_query_was_corrected_is_judged_anew_from_where_its_counter_stands() -> None:
    def own(bad: str) -> Rules:
        return rules(sla={**only(), "custom": [{"name": "refunds", "bad": bad, "total": "all"}]})

    def counter(what: str) -> str:
        return next(name for name in rollout.rules.counters if name.endswith(what))

    rollout = Rollout(own("rfunds"))
    for _ in range(10):
        rollout.tick((100, 0), bad=counter("/bad"), total=counter("/total"))
    changed(rollout, own("refunds"))
    rollout.totals["canary"] |= {counter("/bad"): 90.0, counter("/total"): 1100.0}
    rollout.tick()
    known = rollout.ledger.gates["refunds"].promote
    assert known is not None
    assert known.canary_sum == Sum()
    rollout.tick((100, 1), bad=counter("/bad"), total=counter("/total"))
    known = rollout.ledger.gates["refunds"].promote
    assert known is not None
    assert (known.canary_sum.events, known.canary_sum.bad) == (100, 1)


def test_a_hard_limit_that_was_loosened_before_it_struck_does_not_strike_by_what_broke_the_old_one() -> None:
    def latency(limit: str) -> Rules:
        slow = {"latencyP95": {"above": limit, "for": "1m"}}
        return replace(rules(sla={**only(), "rollback": slow}), gates=())

    rollout = Rollout(latency("2s"))
    for _ in range(11):
        assert rollout.tick((100, 90), bad="slower_than_2", total="timed").verdict != "Failing"
    changed(rollout, latency("5s"))
    for _ in range(13):
        assert rollout.tick((100, 90), bad="slower_than_2", total="timed").verdict != "Failing"


def test_what_stable_did_is_still_known_in_the_bake_when_the_limit_is_changed_there() -> None:
    rollout = Rollout(errors_only())
    for _ in range(100):
        rollout.tick((100, 8), (900, 72))
    rollout.step(1, bake=True)
    changed(rollout, errors_only(sla={"promote": {"errorRate": "2%"}}))
    assert "Failing" not in {rollout.tick((1000, 80)).verdict for _ in range(60)}
    assert promote(rollout).share > 0.1


def test_evidence_that_the_version_before_stored_is_read_and_blames_nobody() -> None:
    """It knew nothing of users alone, called windows otherwise, and kept what stable did in another place."""
    rollout = Rollout(rules(sla=only(errorRate="1%", latencyP95="300ms")))
    for _ in range(10):
        rollout.tick((100, 0), (900, 0))
    stored = dump(rollout.ledger)
    for known in stored["gates"].values():
        for new in ("stable_before", "users", "users_sum"):
            del known["promote"][new]
        known["stable_before"] = dump(Sum())
    stored["gates"]["latencyP95"]["promote"]["of"] = "slower_than_0.5 <= 0.05"
    stored["windows"] = {f"{name}/{arm}": dump(Window()) for name in ("errorRate", "x") for arm in ("canary", "stable")}
    del stored["asking"]
    stored["counters"]["pods"] = {
        pod: {**known, "counts": {name: n for name, n in known["counts"].items() if "live/" not in name}}
        for pod, known in stored["counters"]["pods"].items()
    }
    rollout.ledger = load(Ledger, stored)
    assert rollout.verdict().verdict != "Failing"
    assert rollout.tick((100, 0), (900, 0)).gates[0].verdict == "Passing"
    assert not [key for key in rollout.ledger.windows if key.startswith("errorRate/")]


@pytest.mark.parametrize("bad", ["slower_than_0.5", "slower_than_0.25"])
def test_the_room_that_the_version_before_made_in_a_bake_is_still_there_after_an_upgrade(bad: str) -> None:
    """It stored what stable did beside the limits, or called the limit otherwise."""
    limits = {
        "promote": {**only()["promote"], "latencyP95": "300ms"},
        "abort": {**only()["abort"], "latencyP95": "300ms"},
    }
    rollout = Rollout(replace(rules(sla=limits), hard=()), steps=1, bake=True)
    stored = dump(rollout.ledger)
    known = stored["gates"]["latencyP95"]
    for breach in (known["promote"], known["abort"]):
        breach |= {"of": f"{bad} <= 0.05", "share": 0.1}
        for new in ("stable_before", "users", "users_sum"):
            del breach[new]
    known["stable_before"] = dump(Sum(90_000, 5_850, 5_850))
    rollout.ledger = load(Ledger, stored)
    rollout.tick((500, 30), bad="slower_than_0.5", total="timed")
    now = rollout.ledger.gates["latencyP95"]
    assert now.promote is not None
    assert now.abort is not None
    assert now.promote.share == pytest.approx(0.1, abs=0.003)
    assert now.abort.share == 0.1


def test_a_limit_that_is_tightened_in_a_bake_without_room_is_as_tight_as_it_says() -> None:
    rollout = Rollout(errors_only(sla={"promote": {"errorRate": "5%"}}), steps=1, bake=True)
    changed(rollout, errors_only(sla={"promote": {"errorRate": "1%"}}))
    rollout.tick((100, 0))
    assert promote(rollout).share == 0.01


def hits(rollout: Rollout, users: float, *, missed: float = 0.0, others: float = 0.0) -> float:
    """So many lookups of users beside 50 replayed ones, and other requests of theirs; the lookups that have counted by now."""
    rollout.totals["canary"]["live"] += users + others
    rollout.tick((50 + users, missed), users=(users, missed), bad="misses", total="lookups")
    known = rollout.ledger.gates["cacheHitRate"].promote
    assert known is not None
    return known.canary_sum.events


def test_users_who_ask_now_and_then_are_not_none() -> None:
    rollout = Rollout(rules(sla=only(cacheHitRate="80%")))
    assert hits(rollout, 0) == 50, "nobody but the operator asks"
    assert hits(rollout, 9) == 59
    assert hits(rollout, 0) == 59, "they have only just asked"
    for _ in range(ASKED_FOR - 1):
        hits(rollout, 0)
    before = hits(rollout, 0)
    assert hits(rollout, 0) == before + 50


def test_users_whose_requests_look_nothing_up_tell_nothing_of_hits() -> None:
    """Those that are refused, or that the exact formula answers."""
    rollout = Rollout(replace(rules(sla=only(cacheHitRate="80%")), hard=()))
    assert [hits(rollout, 0, others=3) for _ in range(3)] == [50, 100, 150]
    assert rollout.verdict().verdict == "Passing"


@pytest.mark.parametrize(("missed", "verdict"), [(0, "Passing"), (1, "Undecided")])
def test_users_too_few_to_tell_within_a_quarter_of_an_hour_do_not_hold_a_good_canary_for_hours(
    missed: int, verdict: str
) -> None:
    """One request in half a minute: what is replayed stands in, unless what users get looks bad."""
    rollout = Rollout(replace(rules(sla=only(cacheHitRate="80%")), hard=()))
    for tick in range(60):
        asked = tick % 6 == 0
        hits(rollout, asked, missed=missed if asked else 0)
    assert rollout.verdict().verdict == verdict


def test_what_happened_while_nobody_looked_is_one_tick() -> None:
    rollout = Rollout(errors_only())
    rollout.now += 3600
    rollout.tick((36_000, 180), (324_000, 1_620))
    assert promote(rollout).canary_sum == Sum(36_000, 180, 180, 1, 180**2 / 36_000)
    assert rollout.ledger.counted == 3605


def test_more_bad_events_than_events_are_taken_for_all_of_them() -> None:
    rollout = Rollout(errors_only())
    rollout.tick((10, 12), (90, 0))
    assert promote(rollout).canary_sum.bad == 10


@pytest.mark.parametrize(("bad", "scatter"), [([5, 5, 5, 5], 0.0), ([50, 0, 0, 0], 57.14), ([0, 0, 0, 0], 1.0)])
def test_scatter_tells_bursts_from_failures_that_come_one_by_one(bad: list[int], scatter: float) -> None:
    found = Sum()
    for count in bad:
        found = found + Sum(100, count, count)
    assert found.scatter == pytest.approx(scatter, abs=0.01)
    assert replace(found, ticks=1).scatter == 1


def test_a_pass_in_which_nothing_was_read_is_no_fresh_reading() -> None:
    """The operator looks at an object whenever something about it changes; that must not pass for metrics that came."""
    rollout = Rollout(errors_only())
    rollout.tick((100, 0), (100, 0))
    before = rollout.ledger.counters
    later = Reading(rollout.now + 100, INTERVAL, (), restarts={"canary-0": 0})
    after = take(rollout.ledger, rollout.rules, later)
    assert after.counters == before
    assert after.restarts.known
    assert judge(after, rollout.rules, later.now, INTERVAL).verdict == "NoMetrics"


def test_a_gate_that_is_switched_on_in_the_middle_can_tell_arms_apart_at_once() -> None:
    rollout = Rollout(rules(sla=only(errorRate="1%")))
    rollout.tick((10, 0), (10, 0))
    rollout.rules = rules(sla=only(errorRate="1%", cacheHitRate="90%"))
    rollout.totals = {
        arm: dict.fromkeys(rollout.rules.counters, 0.0) | counts for arm, counts in rollout.totals.items()
    }
    rollout.tick((10, 0), (10, 0))
    assert rollout.ledger.gates["cacheHitRate"].apart.mass > 0


@pytest.mark.parametrize("rate", [60, 70, 90])
def test_a_canary_as_good_as_a_stable_of_which_most_is_bad_is_not_failed_in_the_bake(rate: int) -> None:
    rollout = Rollout(errors_only(sla=only(errorRate="20%")))
    for _ in range(100):
        rollout.tick((100, rate), (100, rate))
    rollout.step(1, bake=True)
    verdicts = {rollout.tick((200, 2 * rate)).verdict for _ in range(100)}
    assert "Failing" not in verdicts


def test_of_a_stable_that_was_hardly_asked_the_bake_learns_nothing() -> None:
    rollout = Rollout(errors_only())
    rollout.tick((100, 0), (3, 2))
    rollout.step(1, bake=True)
    assert promote(rollout).share == pytest.approx(0.01)
    assert "Failing" in [rollout.tick((200, 20)).verdict for _ in range(20)]
