"""What a server may take: a ceiling is broken by what is held all the time, and not by what is needed for a moment."""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from pinn_operator.decide.evidence import GateVerdict, Ledger, Reading, dump, load
from pinn_operator.decide.evidence.counters import Arm
from pinn_operator.decide.evidence.memory import KEPT_PODS
from pinn_operator.decide.evidence.rules import GPU, LEVEL
from tests.decide.evidence.arms import INTERVAL, Rollout, errors_only
from tests.given import only

MIB = 2.0**20
HOLD = 1800.0


class Watched(Rollout):
    """A rollout of which only what the servers take is looked at; `says` is what each pod of the canary holds, in MiB."""

    def after(self, seconds: float, says: Callable[[float], Mapping[str, float]], hold: float = HOLD) -> GateVerdict:
        began = self.ledger.step_began

        def saying(reading: Reading) -> Reading:
            told = says(reading.now - began)
            return replace(reading, memory={pod: amount * MIB for pod, amount in told.items()})

        for _ in range(int(seconds / INTERVAL)):
            self.tick((100, 0), (900, 0), change=saying)
        return self.memory(hold)

    def memory(self, hold: float = HOLD) -> GateVerdict:
        ends = self.ledger.step_began + hold
        return next(gate for gate in self.verdict(ends).gates if gate.name == LEVEL)


def watched(limit: str = "800Mi") -> Watched:
    return Watched(errors_only(sla=only(errorRate="1%", memory=limit)))


def holding(*amounts: float) -> Callable[[float], Mapping[str, float]]:
    return lambda _: {f"canary-{place}": amount for place, amount in enumerate(amounts)}


def test_a_server_that_always_holds_more_than_the_limit_fails_and_is_to_blame() -> None:
    rollout = watched()
    found = rollout.after(300 + INTERVAL, holding(845, 300))
    assert found.verdict == "Failing"
    assert found.sentence == ("memory: a server never held less than 845 MiB in 5 min, its cache aside (limit 800 MiB)")
    assert (found.limit, found.observed_text) == ("800Mi", "845 MiB")
    step = rollout.verdict(rollout.ledger.step_began + HOLD)
    assert (step.verdict, step.blamed, step.sentence) == ("Failing", True, found.sentence)


def test_a_server_within_the_limit_passes_only_once_it_was_seen_for_five_minutes() -> None:
    rollout = watched()
    found = rollout.after(60, holding(412))
    assert (found.verdict, found.seconds_to_go) == ("Undecided", 245)
    assert (
        found.sentence == "memory: a server holds 412 MiB, its cache aside (limit 800 MiB); a verdict takes 4 min more"
    )
    found = rollout.after(240, holding(412))
    assert found.verdict == "Passing"
    assert found.sentence == (
        "memory: at its least in 5 min the largest server held 412 MiB, its cache aside (limit 800 MiB); it is within the limit"
    )


def test_where_the_hold_is_shorter_the_hold_is_enough() -> None:
    assert watched().after(20, holding(412), hold=30).verdict == "Undecided"
    assert watched().after(30, holding(412), hold=30).verdict == "Passing"
    assert watched().after(30, holding(845), hold=30).verdict == "Failing"


def test_however_short_the_hold_two_readings_tell_nothing() -> None:
    assert watched().after(10, holding(845), hold=0).verdict == "Undecided"
    assert watched().after(15, holding(845), hold=0).verdict == "Failing"


def test_a_moment_above_the_limit_is_no_breach() -> None:
    assert watched().after(1200, lambda at: {"a": 900 if at % 60 < 40 else 500}).verdict == "Passing"


def test_memory_that_goes_beyond_the_limit_late_in_a_step_fails_within_two_blocks() -> None:
    rollout = watched()
    assert rollout.after(3000, holding(500)).verdict == "Passing"
    assert rollout.after(605, holding(900)).verdict == "Failing"


def test_what_was_held_in_the_step_before_does_not_count() -> None:
    rollout = watched()
    assert rollout.after(310, holding(900)).verdict == "Failing"
    rollout.step(1)
    assert rollout.after(290, holding(500)).verdict == "Undecided"
    assert rollout.after(15, holding(500)).verdict == "Passing"


def test_servers_that_do_not_say_what_they_hold_keep_the_weight_and_one_lost_reading_does_not() -> None:
    rollout = watched()
    assert rollout.memory().sentence == "memory: nothing was read in this step yet"
    assert rollout.after(15, holding()).verdict == "NoMetrics"
    assert rollout.memory().sentence == "memory: no server of the canary says how much it holds; the weight stays"
    assert rollout.after(300, holding(500)).verdict == "Passing"
    assert rollout.after(INTERVAL, holding()).verdict == "Passing"
    assert rollout.after(15, holding()).verdict == "NoMetrics"


def test_a_server_that_came_late_is_waited_for_and_one_that_left_is_not() -> None:
    rollout = watched()
    rollout.after(300, holding(500))
    assert rollout.after(60, holding(500, 600)).verdict == "Undecided"
    assert rollout.after(15, holding(500)).verdict == "Passing"


def test_pods_that_are_gone_make_room_for_those_that_came() -> None:
    rollout = watched()
    for generation in range(3):
        pods = {f"g{generation}-{place}": 500.0 + generation for place in range(KEPT_PODS)}
        found = rollout.after(600, lambda _, pods=pods: pods)  # type: ignore[misc]
    assert len(rollout.ledger.memory.pods) == len(rollout.ledger.memory.floors) == KEPT_PODS
    assert found.observed_text == "502 MiB"


def test_without_a_limit_there_is_no_such_gate() -> None:
    for limit in ({}, {"memory": "Off"}):
        rollout = Rollout(errors_only(sla=only(errorRate="1%", **limit)))
        assert [gate.name for gate in rollout.verdict().gates] == ["errorRate"]


def test_what_is_known_of_it_outlives_the_operator() -> None:
    rollout = watched()
    rollout.after(100, holding(500))
    assert load(Ledger, dump(rollout.ledger)) == rollout.ledger


# --- How busy GPUs are -----------------------------------------------------------------------------------------------


class OnGpus(Rollout):
    """A rollout of servers with GPUs, of which only how busy they are is looked at."""

    def after(
        self, seconds: float, canary: float | None, stable: float | None = None, every: float = INTERVAL
    ) -> GateVerdict | None:
        told: Mapping[Arm, float | None] = {"canary": canary, "stable": stable}
        shares = {arm: share for arm, share in told.items() if share is not None}
        for _ in range(int(seconds / every)):
            self.now += every - INTERVAL
            self.tick((100, 0), (900, 0), change=lambda reading: replace(reading, gpu=shares))
        return self.gate()

    def gate(self) -> GateVerdict | None:
        ends = self.ledger.step_began + HOLD
        return next((gate for gate in self.verdict(ends).gates if gate.name == GPU), None)


def on_gpus(limit: str = "80%") -> OnGpus:
    return OnGpus(errors_only(sla=only(errorRate="1%", gpuUtilization=limit)))


def verdict(gate: GateVerdict | None) -> str | None:
    return gate.verdict if gate else None


def test_a_canary_whose_gpus_are_too_busy_on_average_fails_and_is_to_blame() -> None:
    rollout = on_gpus()
    found = rollout.after(310, 0.9, 0.4)
    assert found is not None
    assert found.sentence == "gpuUtilization: the GPUs of the canary were busy for 90 % of 5 min (limit 80%)"
    assert (found.verdict, found.limit, found.observed_text) == ("Failing", "80%", "90%")
    assert found.stable == pytest.approx(0.4)
    step = rollout.verdict(rollout.ledger.step_began + HOLD)
    assert (step.verdict, step.blamed) == ("Failing", True)


def test_the_mean_counts_and_not_a_peak() -> None:
    rollout = on_gpus()
    assert verdict(rollout.after(60, 1.0)) == "Undecided"
    assert verdict(rollout.after(250, 0.7)) == "Passing"
    found = rollout.gate()
    assert found is not None
    assert found.sentence.endswith("(limit 80%); it is within the limit")


def test_a_reading_counts_for_the_time_since_the_one_before_and_not_for_a_gap() -> None:
    rollout = on_gpus()
    rollout.after(INTERVAL, 0.0)
    rollout.after(100, 1.0)
    rollout.after(1000, 0.0, every=1000)
    known = rollout.ledger.gpu.canary
    assert (known.seconds, known.busy) == (112.5, 100)


def test_where_the_gpus_of_stable_are_no_less_busy_nobody_is_blamed() -> None:
    rollout = on_gpus()
    found = rollout.after(310, 0.9, 0.85)
    assert found is not None
    assert found.verdict == "Frozen"
    assert found.sentence.endswith("(limit 80%), but stable's are no less busy (85 %): nobody is blamed")


def test_servers_without_gpus_are_not_judged_by_them() -> None:
    assert on_gpus().after(310, None, 0.9) is None
    assert on_gpus("Off").after(310, 0.9) is None
    assert on_gpus("100%").after(310, 1.0) is None
    rollout = on_gpus()
    rollout.after(310, 0.9)
    assert rollout.after(INTERVAL, None) is None


def test_each_step_is_watched_anew() -> None:
    rollout = on_gpus()
    assert verdict(rollout.after(310, 0.9)) == "Failing"
    rollout.step(1)
    assert verdict(rollout.gate()) == "Undecided"
    assert verdict(rollout.after(310, 0.5)) == "Passing"


def test_while_no_server_can_be_read_the_weight_stays() -> None:
    rollout = on_gpus()
    assert verdict(rollout.after(310, 0.5)) == "Passing"
    rollout.now += 13
    found = rollout.gate()
    assert found is not None
    assert found.sentence == "gpuUtilization: no server of the canary says how busy its GPU is; the weight stays"
    assert found.verdict == "NoMetrics"


# --- Simulated -------------------------------------------------------------------------------------------------------


def served(rng: random.Random, base: float) -> Callable[[float], Mapping[str, float]]:
    """A base, garbage that grows for a minute and is collected, and large requests in a third of the readings."""
    begin = rng.uniform(0, 60)

    def says(at: float) -> Mapping[str, float]:
        garbage = (at + begin) % 60
        return {"a": base + garbage + (rng.expovariate(1 / 200) if rng.random() < 1 / 3 else 0)}

    return says


@pytest.mark.parametrize("base", [600, 700, 780])
def test_a_server_whose_base_is_within_the_limit_is_never_failed_however_often_it_goes_beyond(base: float) -> None:
    for seed in range(10):
        rollout, says = watched(), served(random.Random(seed), base)
        found = [rollout.after(60, says).verdict for _ in range(60)]
        assert "Failing" not in found
        assert set(found[6:]) == {"Passing"}


def test_a_server_whose_base_is_beyond_the_limit_is_failed_every_time_after_five_minutes() -> None:
    for seed in range(20):
        rollout, says = watched(), served(random.Random(seed), 805)
        assert rollout.after(290, says).verdict == "Undecided"
        assert rollout.after(15, says).verdict == "Failing"
