"""What follows from the evidence, with the sentence a person would write."""

import json
from dataclasses import replace
from math import inf
from typing import Any

import pytest
from pinn_operator.decide.evidence import GateVerdict, Ledger, Reading, Sample, StepVerdict, dump, load
from pinn_operator.decide.evidence.asking import ASKED_FOR
from pinn_operator.decide.evidence.counters import KEPT_GONE, LIVE, Arm
from pinn_operator.decide.evidence.gates import ERRORS
from pinn_operator.decide.evidence.ledger import SICK, Breach
from pinn_operator.decide.evidence.rules import MEMORY
from pinn_operator.decide.evidence.verdict import PASSES
from tests.decide.evidence.arms import INTERVAL, Change, Rollout, errors_only, rules, size
from tests.given import only

MIB = 2.0**20


def gate(verdict: StepVerdict, name: str = ERRORS) -> GateVerdict:
    return next(one for one in verdict.gates if one.name == name)


def ticks(rollout: Rollout, count: int, *args: Any, **kwargs: Any) -> StepVerdict:
    """The same tick so many times, or until it fails."""
    verdict = rollout.verdict()
    for _ in range(count):
        verdict = rollout.tick(*args, **kwargs)
        if verdict.verdict == "Failing":
            break
    return verdict


# --- Failing ---------------------------------------------------------------------------------------------------------


def test_a_canary_that_breaks_the_limit_and_is_worse_than_stable_fails_and_is_to_blame() -> None:
    verdict = ticks(Rollout(errors_only()), 20, (100, 5), (900, 4))
    assert (verdict.verdict, verdict.blamed) == ("Failing", True)
    assert verdict.sentence == (
        "errorRate: 5 % of 600 requests to the canary failed (limit 1%, stable 0.444 %); chance does that in at most one of "
        "222 rollouts"
    )
    assert gate(verdict).evidence >= gate(verdict).needed


def test_a_canary_that_breaks_the_limit_as_stable_does_is_not_failed_but_held() -> None:
    verdict = ticks(Rollout(errors_only()), 200, (100, 3), (900, 27))
    assert (verdict.verdict, verdict.blamed) == ("Frozen", False)
    assert verdict.sentence == (
        "errorRate: 3 % of 20000 requests to the canary failed (limit 1%), but stable is no better (3 %): nobody is blamed"
    )


def test_an_incident_that_both_arms_have_freezes_and_afterwards_the_rollout_goes_on() -> None:
    rollout = Rollout(errors_only())
    ticks(rollout, 100, (100, 0), (100, 0))
    during = [ticks(rollout, 1, (100, 15), (100, 15)).verdict for _ in range(60)]
    assert "Failing" not in during
    assert during[-1] == "Frozen"
    after = [ticks(rollout, 1, (100, 0), (100, 0)).verdict for _ in range(600)]
    assert "Failing" not in after
    assert after[-1] == "Passing"


def test_a_canary_beyond_the_abort_limit_fails_at_once_when_stable_has_no_traffic_to_compare_with() -> None:
    verdict = ticks(Rollout(errors_only()), 20, (100, 30))
    assert verdict.verdict == "Failing"
    assert "limit 5%" in verdict.sentence


def test_a_canary_worse_than_the_promote_limit_only_is_held_while_nothing_can_be_compared() -> None:
    verdict = ticks(Rollout(errors_only()), 60, (100, 3))
    assert verdict.verdict == "Undecided"
    assert verdict.sentence.endswith("that looks worse than the limit, not surely enough to fail")


def test_a_canary_beyond_the_abort_limit_that_does_not_look_worse_than_stable_is_not_failed() -> None:
    """It is often the canary, with more traffic, that is seen to break the limit first."""
    rollout = Rollout(errors_only())
    assert ticks(rollout, 60, (900, 130), (10, 1)).verdict in ("Undecided", "Frozen")


def test_where_failures_come_in_bursts_it_takes_more_than_two_of_them_to_blame_the_canary() -> None:
    rollout = Rollout(errors_only())
    for _ in range(2):
        ticks(rollout, 5, (100, 0), (900, 0))
        assert ticks(rollout, 1, (100, 50), (900, 0)).verdict != "Failing"
    for _ in range(40):
        ticks(rollout, 1, (100, 0), (900, 0))
        verdict = ticks(rollout, 1, (100, 50), (900, 0))
        if verdict.verdict == "Failing":
            return
    pytest.fail("a canary that has all the bursts is to blame in the end")


def test_where_stable_breaks_the_limit_too_it_takes_longer_to_blame_the_canary() -> None:
    """Being three times as bad for some ticks may be chance where either arm has its own troubles."""
    rollout = Rollout(errors_only(sla={"abort": {"errorRate": "Off"}}))
    ticks(rollout, 10, (0, 0), (900, 30))
    assert ticks(rollout, 15, (100, 10), (900, 30)).verdict == "Frozen"
    assert ticks(rollout, 60, (100, 10), (900, 30)).verdict == "Failing"


def test_once_it_has_failed_it_fails_although_metrics_are_gone_now() -> None:
    rollout = Rollout(errors_only())
    ticks(rollout, 20, (100, 5), (900, 4))
    assert ticks(rollout, 1, change=unreadable).verdict == "Failing"


def test_the_worst_gate_decides() -> None:
    rollout = Rollout(rules())
    rollout.all_else_is_well()
    verdict = ticks(rollout, 400, (100, 0), (900, 0), bad="fallbacks")
    assert verdict.verdict == "Passing"
    verdict = ticks(rollout, 2000, (1000, 400), (9000, 0), bad="fallbacks")
    assert (verdict.verdict, gate(verdict, "fallbackRate").verdict) == ("Failing", "Failing")
    assert verdict.sentence.startswith("fallbackRate: ")


def test_a_canary_that_turns_bad_late_is_judged_by_what_it_did_lately() -> None:
    rollout = Rollout(errors_only())
    ticks(rollout, 300, (100, 0), (900, 2))
    verdict = ticks(rollout, 60, (100, 20), (900, 2))
    assert verdict.verdict == "Failing"
    assert verdict.sentence.startswith("errorRate: 20 % of the last ")


# --- Passing ---------------------------------------------------------------------------------------------------------


def test_a_good_canary_passes_after_as_many_requests_as_that_takes() -> None:
    rollout = Rollout(errors_only())
    assert ticks(rollout, 3, (100, 0), (900, 0)).verdict == "Undecided"
    verdict = ticks(rollout, 2, (100, 0), (900, 0))
    assert verdict.verdict == "Passing"
    assert gate(verdict).sentence == (
        "errorRate: 0 % of 500 requests to the canary failed (limit 1%, stable 0 %); it is within the limit"
    )


def test_a_good_canary_passes_although_stable_is_worse_or_has_no_traffic() -> None:
    assert ticks(Rollout(errors_only()), 10, (100, 0), (900, 300)).verdict == "Passing"
    assert ticks(Rollout(errors_only()), 10, (100, 0)).verdict == "Passing"


def test_a_canary_far_better_than_the_limit_passes_although_stable_is_better_still() -> None:
    """Being worse than stable is no fault within the limit."""
    assert ticks(Rollout(errors_only()), 400, (1000, 2), (9000, 0)).verdict == "Passing"


def test_passing_is_proven_anew_in_every_step() -> None:
    rollout = Rollout(errors_only())
    assert ticks(rollout, 10, (100, 0), (900, 0)).verdict == "Passing"
    rollout.step(2)
    assert rollout.verdict().verdict == "NoTraffic"
    assert ticks(rollout, 1, (100, 0), (900, 0)).verdict == "Undecided"


def test_a_canary_that_turns_bad_does_not_pass_on_what_it_was() -> None:
    rollout = Rollout(errors_only())
    assert ticks(rollout, 30, (100, 0), (900, 0)).verdict == "Passing"
    assert ticks(rollout, 8, (100, 5), (900, 0)).verdict != "Passing"


def test_a_canary_under_suspicion_does_not_pass_however_good_it_was_on_the_whole() -> None:
    rollout = Rollout(errors_only())
    ticks(rollout, 1000, (100, 0), (900, 0))
    while (breach := promote(rollout)).canary.log_evidence <= SICK:
        verdict = rollout.tick((100, 5), (900, 0))
    assert rollout.ledger.gates[ERRORS].passing.log_evidence > PASSES
    assert (verdict.verdict, breach.in_bursts) == ("Undecided", True)


def promote(rollout: Rollout) -> Breach:
    found = rollout.ledger.gates[ERRORS].promote
    assert found is not None
    return found


def test_an_undecided_canary_says_how_long_still() -> None:
    verdict = ticks(Rollout(errors_only()), 4, (50, 0), (450, 0))
    assert verdict.sentence == (
        "errorRate: 0 % of 200 requests to the canary failed (limit 1%, stable 0 %); a verdict takes about 328 more requests, "
        "in about 33 s"
    )
    assert verdict.seconds_to_go == pytest.approx(33, abs=1)


def test_the_time_to_a_verdict_that_is_foretold_is_about_right() -> None:
    rollout = Rollout(errors_only())
    foretold = gate(ticks(rollout, 6, (50, 0), (450, 0))).events_to_go
    assert foretold is not None
    needed = 0
    while rollout.tick((50, 0), (450, 0)).verdict != "Passing":
        needed += 50
    assert 0.6 * needed <= foretold <= 1.4 * needed + 50


def test_a_canary_at_the_limit_is_told_that_no_verdict_is_in_sight() -> None:
    verdict = ticks(Rollout(errors_only()), 30, (100, 1), (900, 9))
    assert (verdict.verdict, verdict.seconds_to_go) == ("Undecided", None)
    assert verdict.sentence.endswith("too near the limit for a verdict")


# --- Users, and what is replayed while they ask little ---------------------------------------------------------------


def test_what_is_replayed_does_not_drown_the_errors_of_the_few_users_there_are() -> None:
    rollout = Rollout(errors_only())
    for _ in range(50):  # 8 % of the errors of users, 0.6 % of all
        rollout.tick((54, 0), (54, 0), users=(4, 0))
        rollout.tick((54, 0), (54, 0), users=(4, 0))
        verdict = rollout.tick((54, 1), (54, 0), users=(4, 1))
    known = rollout.ledger.gates[ERRORS]
    assert known.passing.log_evidence > PASSES
    assert verdict.verdict == "Undecided"
    assert verdict.sentence == (
        "errorRate: 0.617 % of 8100 requests to the canary failed (limit 1%, stable 0 %); of the 600 of users 8.33 % did, which "
        "looks worse than the limit"
    )


def test_a_few_users_whose_requests_failed_hold_a_canary_while_users_ask_and_not_for_ever() -> None:
    rollout = Rollout(errors_only())
    assert ticks(rollout, 2, (51, 1), (50, 0), users=(1, 1)).verdict == "Undecided"
    verdict = ticks(rollout, ASKED_FOR, (50, 0), (50, 0), users=(0, 0))
    assert verdict.sentence.endswith("of the 2 of users 100 % did, which looks worse than the limit")
    assert ticks(rollout, 1, (50, 0), (50, 0), users=(0, 0)).verdict == "Passing"


def test_what_users_had_in_one_step_does_not_hold_the_next() -> None:
    rollout = Rollout(errors_only())
    assert ticks(rollout, 10, (51, 1), (50, 0), users=(1, 1)).verdict != "Passing"
    rollout.step(2)
    assert promote(rollout).users.log_evidence == -inf
    rollout.step(1)
    assert ticks(rollout, 60, (51, 0), (50, 0), users=(1, 0)).verdict == "Passing"


def test_a_good_canary_passes_on_what_is_replayed_with_few_users_or_none() -> None:
    assert ticks(Rollout(errors_only()), 10, (54, 0), (54, 0), users=(4, 0)).verdict == "Passing"
    assert ticks(Rollout(errors_only()), 10, (50, 0), (50, 0), users=(0, 0)).verdict == "Passing"


@pytest.mark.parametrize(
    ("name", "limit", "bad", "total"),
    [("cacheHitRate", "80%", "misses", "lookups"), ("fallbackRate", "10%", "fallbacks", "requests")],
)
def test_hits_and_fallbacks_are_those_of_users_where_they_ask_and_else_of_what_is_replayed(
    name: str, limit: str, bad: str, total: str
) -> None:
    def asked(users: float, failed: float) -> GateVerdict:
        rollout = Rollout(replace(rules(sla=only(**{name: limit})), hard=()))
        for _ in range(60):
            rollout.totals["canary"][LIVE] += users if total != "requests" else 0
            verdict = rollout.tick((50 + users, failed), (50, 0), users=(users, failed), bad=bad, total=total)
        return gate(verdict, name)

    missed = asked(4, 0.95 * 4)
    assert missed.verdict == "Undecided"
    assert missed.observed == pytest.approx(0.95)
    assert (asked(4, 0).verdict, asked(4, 0).events) == ("Passing", 240)
    assert (asked(0, 0).verdict, asked(0, 0).events) == ("Passing", 3000)


def test_the_one_request_of_a_user_of_stable_that_failed_does_not_excuse_the_canary() -> None:
    rollout = Rollout(replace(rules(), gates=()))
    for _ in range(70):
        for name in ("requests", "errors", "live", "live/errors"):
            rollout.totals["stable"][name] += 1 if rollout.now % 75 == 0 else 0
        verdict = rollout.tick((50, 25), (50, 0), users=(0, 0))
        if verdict.verdict == "Failing":
            break
    assert (verdict.verdict, verdict.blamed) == ("Failing", True)


@pytest.mark.parametrize("arm", ["canary", "stable"])
def test_a_server_that_cannot_be_read_keeps_no_hard_limit_from_being_seen(arm: Arm) -> None:
    rollout = Rollout(rules())
    ticks(rollout, 70, (100, 0), (100, 0), change=beside(arm))
    known = rollout.ledger.gates
    assert rollout.verdict().verdict == "NoMetrics"
    verdict = ticks(rollout, 70, (100, 50), (100, 0), change=beside(arm))
    assert (verdict.verdict, verdict.blamed) == ("Failing", True)
    assert verdict.sentence == (
        "rollback.errorRate: worse than 10% for 5 min, by the servers that can be read "
        f"(the metrics of pod {arm}-1 cannot be read)"
    )
    assert rollout.ledger.gates == known, "which servers can be read is not drawn by chance"


def test_a_canary_of_which_nothing_can_be_read_is_not_judged_by_what_it_did_before() -> None:
    """By what it did until then alone, the limit would come to be broken in either half of the window."""
    rollout = Rollout(replace(rules(), gates=()))
    ticks(rollout, 70, (100, 0), (100, 0))
    assert ticks(rollout, 9, (100, 100), (100, 0)).verdict != "Failing"
    assert ticks(rollout, 100, (100, 0), (100, 0), change=without("canary")).verdict != "Failing"


@pytest.mark.parametrize(("failed", "blamed"), [(50, False), (0, True)])
def test_beside_a_stable_of_which_nothing_can_be_read_the_canary_gives_up_its_share_and_is_not_blamed(
    failed: float, blamed: bool
) -> None:
    rollout = Rollout(replace(rules(), gates=()))
    ticks(rollout, 60, (100, 0), (100, 0))
    verdict = ticks(rollout, 60, (100, 50), (100, failed), change=without("stable"))
    assert (verdict.verdict, verdict.blamed) == ("Failing", False)
    assert verdict.sentence.endswith("; nothing is known of stable, so the revision is not rejected")
    assert ticks(rollout, 1, (100, 50), (100, failed)).blamed is blamed, "it is known again"


@pytest.mark.parametrize("blind", [1, 3, 20])
def test_when_all_can_be_read_again_a_hard_limit_has_counted_nothing_twice(blind: int) -> None:
    always, sometimes = Rollout(rules()), Rollout(rules())
    for rollout, change in ((always, unchanged), (sometimes, without("stable"))):
        ticks(rollout, 10, (100, 5), (100, 5))
        ticks(rollout, blind, (100, 5), (100, 5), change=change)
        ticks(rollout, 10, (100, 5), (100, 5))
    assert in_windows(always) == in_windows(sometimes)
    assert (sometimes.ledger.heard, sometimes.ledger.silent) == (None, ())


def in_windows(rollout: Rollout) -> dict[str, tuple[float, float]]:
    """The events and the bad ones that each window of a hard limit has."""
    return {
        key: (sum(slot.events for slot in window.slots), sum(slot.bad for slot in window.slots))
        for key, window in rollout.ledger.windows.items()
    }


def test_what_a_server_did_while_it_was_not_read_for_long_hides_no_canary_that_fails_now() -> None:
    """An hour of good answers in one reading would be most of what a window has."""
    rollout = Rollout(replace(rules(), gates=()))
    ticks(rollout, 720, (100, 0), (100, 0), change=without("canary"))
    assert ticks(rollout, 66, (100, 50), (100, 0)).verdict == "Failing"


def test_a_hard_limit_goes_on_from_what_was_stored_while_a_server_could_not_be_read() -> None:
    rollout = Rollout(rules())
    ticks(rollout, 70, (100, 50), (100, 0), change=beside("canary"))
    assert rollout.ledger.heard
    assert {name for known in rollout.ledger.heard.pods.values() for name in known.counts} == {
        *rollout.rules.hard_counters
    }
    assert load(Ledger, json.loads(json.dumps(dump(rollout.ledger)))) == rollout.ledger


def test_a_hard_limit_is_that_of_users_too() -> None:
    rollout = Rollout(replace(rules(), gates=()))
    verdict = ticks(rollout, 70, (54, 0.6), (54, 0), users=(4, 0.6))
    assert (verdict.verdict, verdict.blamed) == ("Failing", True)
    assert verdict.sentence == "rollback.errorRate: worse than 10% for 5 min"


# --- Silence ---------------------------------------------------------------------------------------------------------


def unchanged(reading: Reading) -> Reading:
    return reading


def beside(arm: Arm) -> Change:
    """With one more server of the arm, which nobody can read."""

    def change(reading: Reading) -> Reading:
        return replace(reading, samples=(*reading.samples, Sample(arm, f"{arm}-1", reading.now, None)))

    return change


def without(arm: Arm) -> Change:
    """With no server of the arm that can be read."""

    def change(reading: Reading) -> Reading:
        samples = (replace(one, counts=None) if one.arm == arm else one for one in reading.samples)
        return replace(reading, samples=tuple(samples))

    return change


def unreadable(reading: Reading) -> Reading:
    return replace(reading, samples=tuple(replace(sample, counts=None) for sample in reading.samples))


def test_a_canary_without_traffic_is_held_with_the_reason() -> None:
    verdict = ticks(Rollout(errors_only()), 100, (0, 0), (900, 0))
    assert verdict.verdict == "NoTraffic"
    assert verdict.sentence == "errorRate: the canary has had no requests in this step; the weight stays"


def test_without_metrics_the_canary_is_held_with_the_reason_and_goes_on_when_they_are_back() -> None:
    rollout = Rollout(errors_only())
    ticks(rollout, 10, (100, 0), (900, 0))
    assert ticks(rollout, 2, (100, 0), (900, 0), change=unreadable).verdict == "Passing"
    verdict = ticks(rollout, 1, (100, 0), (900, 0), change=unreadable)
    assert verdict.verdict == "NoMetrics"
    assert verdict.sentence == ("errorRate: no metrics, the metrics of pod canary-0 cannot be read; the weight stays")
    assert ticks(rollout, 1, (100, 0), (900, 0)).verdict == "Passing"


def test_before_anything_was_read_there_are_no_metrics() -> None:
    rollout = Rollout(errors_only())
    rollout.ledger = replace(rollout.ledger, counters=replace(rollout.ledger.counters, at=None))
    assert rollout.verdict().sentence == "errorRate: no metrics, nothing was read yet; the weight stays"


def test_with_every_gate_off_nothing_stands_in_the_way() -> None:
    assert Rollout(replace(errors_only(sla=NO_MEMORY), gates=())).verdict().verdict == "Passing"


NO_MEMORY = {"promote": {"memoryGrowthPerHour": "Off"}}


# --- Latency ---------------------------------------------------------------------------------------------------------


def latency(limit: str) -> Rollout:
    found = rules(sla={"promote": {"latencyP95": limit, **NO_MEMORY["promote"]}, "abort": {"latencyP95": "Off"}})
    return Rollout(replace(found, gates=tuple(one for one in found.gates if one.name == "latencyP95")))


def test_answers_surely_slower_than_a_limit_between_two_bounds_fail() -> None:
    assert ticks(latency("300ms"), 60, (100, 30), (900, 9), bad="slower_than_0.5", total="timed").verdict == "Failing"


def test_answers_that_may_be_slower_neither_fail_nor_pass() -> None:
    verdict = ticks(latency("300ms"), 200, (100, 30), (900, 9), bad="slower_than_0.25", total="timed")
    assert verdict.verdict == "Undecided"


def test_answers_faster_than_the_lower_bound_pass() -> None:
    assert ticks(latency("300ms"), 20, (100, 0), (900, 0), bad="slower_than_0.25", total="timed").verdict == "Passing"


def test_a_slow_canary_on_unlike_hardware_is_held_and_not_failed() -> None:
    def unlike(reading: Reading) -> Reading:
        return replace(reading, alike=False)

    verdict = ticks(latency("500ms"), 200, (100, 30), (900, 9), bad="slower_than_0.5", total="timed", change=unlike)
    assert verdict.verdict == "Undecided"


def test_a_canary_beyond_the_abort_limit_fails_although_both_arms_break_the_stricter_limit_alike() -> None:
    """Each limit is compared on its own counter: that both are slower than half a second does not excuse two."""
    rollout = Rollout(replace(rules(), hard=()))
    rollout.all_else_is_well()
    for _ in range(20):
        for arm, events in (("canary", 100), ("stable", 900)):
            rollout.totals[arm]["timed"] += events  # type: ignore[index]
            rollout.totals[arm]["slower_than_0.5"] += 0.9 * events  # type: ignore[index]
        rollout.totals["canary"]["slower_than_2"] += 50
        verdict = rollout.tick()
    assert (verdict.verdict, verdict.blamed) == ("Failing", True)
    assert "limit 2s for 95%" in verdict.sentence


# --- The bake --------------------------------------------------------------------------------------------------------


def test_in_the_bake_a_canary_beyond_the_limit_fails_without_a_stable_to_compare_with() -> None:
    verdict = ticks(Rollout(errors_only(), steps=1, bake=True), 60, (100, 3))
    assert verdict.verdict == "Failing"


@pytest.mark.parametrize("asked", [1, 50, 500])
def test_a_stable_that_was_well_and_hardly_asked_makes_no_room_for_the_canary_in_the_bake(asked: int) -> None:
    """51 good requests say that stable is at most at 13 %: no reason to let the canary fail 3 % for ten minutes."""
    rollout = Rollout(errors_only(), steps=2)
    rollout.tick((0, 0), (asked, 0))
    rollout.step(1, bake=True)
    assert ticks(rollout, 60, (100, 3)).verdict == "Failing"


@pytest.mark.parametrize("quiet", [0, 100, 2000])
def test_a_limit_of_0_is_broken_by_the_first_bad_event_however_late_it_comes(quiet: int) -> None:
    rollout = Rollout(errors_only(sla={"promote": {"errorRate": "0%"}}), steps=1, bake=True)
    assert ticks(rollout, quiet + 1, (500, 0)).verdict == "Undecided"
    assert ticks(rollout, 1, (500, 1)).verdict == "Failing"


def test_a_limit_of_0_is_proven_as_one_in_a_million() -> None:
    rollout = Rollout(errors_only(sla={"promote": {"errorRate": "0%"}}))
    sentence = ticks(rollout, 20, (50, 0), (450, 0)).sentence
    assert "a verdict takes about 4897992 more requests" in sentence
    assert ticks(rollout, 10, (1_000_000, 0), (9_000_000, 0)).verdict == "Passing"


@pytest.mark.parametrize(("canary", "stable", "needed"), [(50, 450, 6), (250, 250, 18)])
def test_in_a_step_a_limit_of_0_is_failed_once_the_canary_is_worse_than_stable(
    canary: int, stable: int, needed: int
) -> None:
    rollout = Rollout(errors_only(sla={"promote": {"errorRate": "0%"}}))
    assert ticks(rollout, needed - 1, (canary, 1), (stable, 0)).verdict == "Undecided"
    assert ticks(rollout, 1, (canary, 1), (stable, 0)).verdict == "Failing"


def test_the_bake_goes_by_what_stable_did_in_the_steps_where_that_was_worse_than_the_limit() -> None:
    rollout = Rollout(errors_only(), steps=2)
    ticks(rollout, 100, (100, 2), (900, 18))
    rollout.step(1, bake=True)
    assert ticks(rollout, 200, (1000, 20)).verdict == "Undecided"
    verdict = ticks(rollout, 60, (1000, 80))
    assert verdict.verdict == "Failing"
    assert "here 3.27 % by what stable did before" in verdict.sentence


def test_each_limit_makes_room_in_the_bake_for_what_stable_did_by_its_own_counter() -> None:
    """That half of stable's answers took longer than 500 ms says nothing of how many took longer than 2 s."""
    rollout = Rollout(replace(rules(sla={"promote": {"latencyP95": "500ms"}, "abort": {"latencyP95": "2s"}}), hard=()))
    ticks(rollout, 60, (100, 50), (900, 450), bad="slower_than_0.5", total="timed")
    rollout.step(1, bake=True)
    known = rollout.ledger.gates["latencyP95"]
    assert known.promote is not None
    assert known.abort is not None
    assert (known.promote.share > 0.7, known.abort.share) == (True, 0.05)


def test_an_abort_limit_alone_makes_room_in_the_bake_for_what_stable_did_in_the_steps() -> None:
    rollout = Rollout(errors_only(sla={"promote": {"errorRate": "Off"}, "abort": {"errorRate": "5%"}}))
    assert ticks(rollout, 100, (100, 8), (900, 72)).verdict == "Frozen"
    rollout.step(1, bake=True)
    assert ticks(rollout, 60, (1000, 80)).verdict != "Failing"


def test_shadow_calls_that_fail_on_the_standby_too_tell_a_shared_incident_in_the_bake() -> None:
    assert ticks(Rollout(errors_only(), steps=1, bake=True), 60, (100, 15), (20, 3)).verdict == "Frozen"


# --- What fails at once ----------------------------------------------------------------------------------------------


def test_two_restarts_fail_a_step_and_one_keeps_it_from_passing() -> None:
    def restarted(count: int) -> Any:
        return lambda reading: replace(reading, restarts={"canary-0": count})

    rollout = Rollout(errors_only())
    assert ticks(rollout, 10, (100, 0), (900, 0), change=restarted(0)).verdict == "Passing"
    verdict = ticks(rollout, 10, (100, 0), (900, 0), change=restarted(1))
    assert (verdict.verdict, verdict.blamed) == ("Undecided", False)
    assert verdict.sentence.endswith("a server of the canary restarted in this step: what it counted is lost")
    verdict = ticks(rollout, 1, change=lambda reading: unreadable(restarted(2)(reading)))
    assert (verdict.verdict, verdict.blamed) == ("Failing", True)
    assert verdict.sentence == "servers of the canary restarted 2 times in this step"


def test_a_canary_without_a_ready_server_for_two_minutes_fails() -> None:
    def down(reading: Reading) -> Reading:
        return replace(reading, ready={"canary": False, "stable": True})

    rollout = Rollout(errors_only())
    assert ticks(rollout, 24, change=down).verdict == "NoTraffic"
    verdict = ticks(rollout, 1, change=down)
    assert (verdict.verdict, verdict.blamed) == ("Failing", True)
    assert verdict.sentence == "no server of the canary has been ready for 2 min"


@pytest.mark.parametrize(("stable", "blamed"), [(0, True), (150, False)])
def test_a_hard_limit_returns_the_traffic_and_blames_the_canary_only_when_stable_keeps_it(
    stable: int, blamed: bool
) -> None:
    rollout = Rollout(rules())
    ticks(rollout, 70, (100, 0), (900, 0))
    hard = replace(rollout.rules, gates=())
    for _ in range(70):
        rollout.tick((100, 15), (900, stable))
        rollout.rules, every = hard, rollout.rules
        verdict = rollout.verdict()
        rollout.rules = every
        if verdict.verdict == "Failing":
            break
    assert (verdict.verdict, verdict.blamed) == ("Failing", blamed)
    said = "" if blamed else "; stable is no better, so the revision is not rejected"
    assert verdict.sentence == f"rollback.errorRate: worse than 10% for 5 min{said}"


# --- Memory ----------------------------------------------------------------------------------------------------------


def growing(per_hour: float, *, bake: bool, hours: float) -> Rollout:
    rollout = Rollout(errors_only(), steps=1, bake=bake)
    begin = rollout.now

    def with_memory(reading: Reading) -> Reading:
        amount = (300 + per_hour * (reading.now - begin) / 3600) * MIB
        return replace(reading, memory={"canary-0": amount + (reading.now * 7919 % 13) / 13 * MIB})

    ticks(rollout, int(hours * 3600 / INTERVAL), (100, 0), change=with_memory)
    return rollout


def test_memory_gates_the_bake_and_no_step_before() -> None:
    assert gate(growing(0, bake=False, hours=0.1).verdict(), MEMORY).verdict == "Passing"
    assert gate(growing(0, bake=True, hours=0.1).verdict(), MEMORY).verdict == "Undecided"
    assert gate(growing(0, bake=True, hours=2.1).verdict(), MEMORY).verdict == "Passing"


def test_a_leak_fails_with_how_fast_it_is() -> None:
    verdict = growing(60, bake=True, hours=2.1).verdict()
    assert (verdict.verdict, verdict.blamed) == ("Failing", True)
    assert verdict.sentence.startswith(
        "memoryGrowthPerHour: memory grows by 59.8 MiB an hour, limit 10 MiB: surely by more than "
    )


def test_a_leak_that_will_fill_the_container_within_the_step_fails_in_any_step() -> None:
    rollout = growing(9, bake=False, hours=2.1)
    assert rollout.verdict(step_ends=rollout.now + 3600).verdict == "Passing"
    verdict = rollout.verdict(step_ends=rollout.now + 100 * 3600)
    assert verdict.sentence == "memoryGrowthPerHour: a server will fill its 1024 MiB before the step is over"


def test_a_server_that_grew_by_more_than_the_hard_limit_fails() -> None:
    verdict = growing(120, bake=False, hours=1.3).verdict()
    assert (verdict.verdict, verdict.blamed) == ("Failing", True)


# --- Kept ------------------------------------------------------------------------------------------------------------


def test_evidence_of_many_pods_and_gates_stays_small_enough_to_store() -> None:
    many = rules(sla={"custom": [{"name": f"g{n}", "bad": "a", "total": "b"} for n in range(16)]})
    rollout = Rollout(many)

    def changing(reading: Reading) -> Reading:
        counts = dict.fromkeys(many.counters, 1e9)
        pods = tuple(
            Sample("canary", f"pricer-0123456789-{reading.now:.0f}-{n}", reading.now, counts) for n in range(50)
        )
        memory = {f"pod-{reading.now:.0f}-{n}": 1e8 for n in range(50)}
        return replace(reading, samples=pods, memory=memory, restarts={sample.pod: 1 for sample in pods})

    for _ in range(60):
        rollout.tick(change=changing)
    assert len(rollout.ledger.counters.pods) == 50 + KEPT_GONE
    assert size(dump(rollout.ledger)) < 400_000


def test_evidence_of_an_ordinary_rollout_is_a_few_kilobytes() -> None:
    rollout = Rollout(rules())
    ticks(rollout, 500, (100, 0), (900, 4), change=lambda reading: replace(reading, memory={"canary-0": 1e8}))
    assert size(dump(rollout.ledger)) < 16_000
