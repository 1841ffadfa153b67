"""What the operator asks servers itself, of doubles that misbehave and of two real servers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import pytest
from pinn_operator.api.readings import Checked, Measured, Server
from pinn_operator.errors import ServerTrouble
from pinn_operator.observe import trial
from pinn_operator.observe.metrics import scrape
from pinn_operator.observe.trial import (
    CHECK_SECONDS,
    CHECKED,
    IN_FLIGHT,
    MOST_HOT,
    SOLVED,
    TRIAL_SECONDS,
    WARM_SECONDS,
    WARMED_WITH,
    check,
    preflight,
    replay,
    smoke,
)
from pinn_operator.servers import ADMIN_PORT, PORT, Item, Servers
from tests.pods import TOKEN, Model, Town, pod

CANARY, STABLE = pod("canary-1"), pod("stable-1", "stable")


class Pair:
    """One server of each revision, and a client that finds them."""

    def __init__(self, town: Town, servers: Servers) -> None:
        self.town, self.servers = town, servers
        self.canary, self.stable = Model(), Model(1.0, 2.0, 3.0)

    async def preflight(self, keys: int = 100, seed: int = 7) -> Measured:
        return await preflight(self.servers, [STABLE], [CANARY], TOKEN, keys=keys, seed=seed)

    async def check(self, seed: int = 7) -> Measured:
        return await check(self.servers, [STABLE], [CANARY], TOKEN, seed=seed)

    async def replay(self, requests: int = 40, seed: int = 7) -> str:
        return await replay(self.servers, [STABLE], [CANARY], TOKEN, requests=requests, seed=seed)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with Town.founded() as (town, servers):
        found = Pair(town, servers)
        await town.settle("canary-1", found.canary.app())
        await town.settle("stable-1", found.stable.app())
        yield found


def of(measured: Measured, revision: str = "canary") -> Checked:
    assert measured.shadow is not None
    return measured.shadow[revision]


class Solving(Servers):
    """Servers whose solver takes so many seconds for an answer, and who take `warms` for each key after the first `sooner`."""

    def __init__(self, seconds: float, warms: float = 0.0, sooner: int = 0) -> None:
        """It asks nobody, so it needs no session."""
        self.seconds, self.warms, self.sooner = seconds, warms, sooner
        self.warmed = 0
        self.parts: list[tuple[int, bool]] = []

    async def hottest(self, *_: object) -> list[Item]:
        return []

    async def samples(self, _: Server, __: str, keys: int, seed: int) -> list[Item]:
        return [{"x": seed + number / CHECKED} for number in range(keys)]

    async def warm(self, _: Server, __: str, items: Sequence[Item]) -> int:
        await asyncio.sleep(self.warms * max(0, min(len(items), self.warmed + len(items) - self.sooner)))
        self.warmed += len(items)
        return len(items)

    async def shadow(self, server: Server, _: str, items: Sequence[Item], solver: bool) -> dict[str, Any]:
        if server == CANARY:
            self.parts.append((len(items), solver))
        await asyncio.sleep(self.seconds * len(items) if solver else 0.0)
        answer = {"u": 1.0, "method": "model", "reason": None, "error_bound": {"u": 0.01}}
        return {"answers": [answer] * len(items), "solver": [answer] * len(items) if solver else None, "violations": []}


async def _asked_in(work: Awaitable[Measured]) -> tuple[Measured, float]:
    """And how many seconds it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    return await work, loop.time() - began


# --- Preflight -------------------------------------------------------------------------------------------------------


async def test_a_canary_is_warmed_with_stables_hottest_keys_and_with_samples_where_they_are_few(pair: Pair) -> None:
    measured = await pair.preflight(keys=2)
    assert measured.warmed == len(pair.canary.warmed) == WARMED_WITH
    assert pair.canary.warmed[:2] == [1.0, 2.0]
    assert pair.stable.warmed == []
    assert measured.trouble == ""


async def test_as_many_of_stables_keys_are_warmed_as_wished(pair: Pair) -> None:
    pair.stable.hot = [{"x": float(i)} for i in range(2500)]
    assert (await pair.preflight(keys=2400)).warmed == 2400
    assert sorted(pair.canary.warmed) == [float(i) for i in range(2400)]


async def test_more_keys_than_one_answer_holds_are_not_asked_for(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "MOST_HOT", 3)
    assert MOST_HOT == 20_000
    pair.stable.hot = [{"x": float(i)} for i in range(10)]
    await pair.preflight(keys=1_000_000)
    assert pair.canary.warmed[:4] != [0.0, 1.0, 2.0, 3.0]
    assert pair.canary.warmed[:3] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("stable", [[], [pod("stable-1", "stable", ready=False)]])
async def test_without_a_stable_server_samples_alone_warm(pair: Pair, stable: list[Server]) -> None:
    measured = await preflight(pair.servers, stable, [CANARY], TOKEN, keys=100, seed=7)
    assert (measured.warmed, measured.trouble) == (WARMED_WITH, "")
    assert measured.shadow is not None
    assert measured.shadow.keys() == {"canary"}


async def test_every_server_of_the_canary_is_warmed_and_the_least_warm_one_counts(pair: Pair) -> None:
    colder = Model()
    colder.outside = lambda x: x == 1.0
    await pair.town.settle("canary-2", colder.app())
    servers = [CANARY, pod("canary-2")]
    measured = await preflight(pair.servers, [STABLE], servers, TOKEN, keys=100, seed=7)
    assert (len(pair.canary.warmed), len(colder.warmed)) == (WARMED_WITH, WARMED_WITH - 1)
    assert measured.warmed == WARMED_WITH - 1


async def test_both_revisions_are_checked_on_the_same_distinct_inputs_hottest_first(pair: Pair) -> None:
    measured = await pair.preflight()
    assert pair.canary.shadowed == pair.stable.shadowed
    points = [x for x, _ in pair.canary.shadowed]
    assert points[:3] == [1.0, 2.0, 3.0]
    assert len(points) == len(set(points)) == CHECKED
    assert [solver for _, solver in pair.canary.shadowed] == [True] * SOLVED + [False] * (CHECKED - SOLVED)
    assert of(measured) == of(measured, "stable") == Checked(checked=CHECKED, compared=SOLVED)


async def test_an_input_that_comes_twice_is_checked_once(pair: Pair) -> None:
    pair.stable.hot = [{"x": 1.0}] * 3
    await pair.preflight()
    assert [x for x, _ in pair.canary.shadowed].count(1.0) == 1


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("seconds", "sooner", "warmed"),
    [(0.0, 0, WARMED_WITH), (0.02, 0, WARMED_WITH), (0.1, 0, 99), (60.0, 30, 30), (60.0, 0, 0)],
)
async def test_a_canary_is_warmed_with_as_much_as_it_takes_in_time(seconds: float, sooner: int, warmed: int) -> None:
    """A key that its model cannot answer waits for the solver, and would be there again in every trial."""
    servers = Solving(0.0, warms=seconds, sooner=sooner)
    measured, took = await _asked_in(preflight(servers, [], [CANARY], TOKEN, keys=10, seed=7))
    assert (measured.warmed, measured.trouble) == (warmed, "")
    assert took <= WARM_SECONDS + 0.01


# --- Physics ---------------------------------------------------------------------------------------------------------


async def test_a_violation_that_repeats_is_a_fact_and_is_said_with_its_inputs(pair: Pair) -> None:
    pair.canary.breaks = lambda x: x == 2.0
    measured = await pair.preflight()
    assert (of(measured).violations, of(measured, "stable").violations) == (1, 0)
    assert of(measured).said == "the model's answer breaks u_bounds at x 2, twice"
    assert pair.canary.shadowed[CHECKED:] == [(2.0, False)]


async def test_a_violation_that_does_not_repeat_is_none(pair: Pair) -> None:
    seen: list[float] = []

    def breaks(x: float) -> bool:
        seen.append(x)
        return x == 2.0 and seen.count(2.0) == 1

    pair.canary.breaks = breaks
    measured = await pair.preflight()
    assert (of(measured).violations, of(measured).said) == (0, "")
    assert [x for x, _ in pair.canary.shadowed].count(2.0) == 2


async def test_an_answer_that_is_no_number_is_as_bad(pair: Pair) -> None:
    pair.canary.breaks, pair.canary.reason = (lambda x: x == 2.0), "non_finite"
    said = of(await pair.preflight())
    assert (said.violations, said.said) == (
        1,
        "the model's answer is refused by its own server (non_finite) at x 2, twice",
    )


async def test_of_many_violations_the_one_that_is_asked_most_is_said_and_how_many_there_are(pair: Pair) -> None:
    pair.canary.breaks = lambda x: x < 15
    said = of(await pair.preflight())
    assert 300 < said.violations < 700
    assert said.said == f"the model's answer breaks u_bounds at x 1; {said.violations} of the inputs do so, each twice"


async def test_an_answer_beyond_its_own_bound_is_wrong_and_the_worst_one_is_said(pair: Pair) -> None:
    pair.canary.off = lambda x: {1.0: 0.02, 2.0: -0.5, 3.0: 0.0099}.get(x, 0.0)
    measured = await pair.preflight()
    assert (of(measured).wrong, of(measured).compared, of(measured).violations) == (2, SOLVED, 0)
    assert of(measured).said == (
        "u is 1.5 at x 2, by its own word within 0.01 of the truth, and the reference solver finds 2"
    )
    assert of(measured, "stable").wrong == 0


@pytest.mark.parametrize(("bound", "solver_bound"), [(0.0, 0.0), (0.0, 1e-3), (1e-3, 0.0)])
@pytest.mark.parametrize(("beyond", "wrong"), [(1e-13, 0), (1e-9, SOLVED)])
async def test_rounding_and_the_solvers_own_error_make_no_answer_wrong(
    pair: Pair, bound: float, solver_bound: float, beyond: float, wrong: int
) -> None:
    pair.canary.bound, pair.canary.solver_bound = bound, solver_bound
    pair.canary.off = lambda x: bound + solver_bound + beyond * x
    assert of(await pair.preflight()).wrong == wrong


async def test_an_answer_that_is_left_out_is_wrong(pair: Pair) -> None:
    pair.canary.unsaid = lambda x: x == 2.0
    said = of(await pair.preflight())
    assert (said.wrong, said.said) == (
        1, "u is nan at x 2, by its own word within 0.01 of the truth, and the reference solver finds 2",
    )  # fmt: skip


async def test_infinity_is_not_json_and_so_no_answer(pair: Pair) -> None:
    pair.canary.off = lambda x: float("inf") if x == 2.0 else 0.0
    measured = await pair.preflight()
    assert measured.trouble == "pod canary-1 answers /shadow with something else than a JSON object"


async def test_what_the_solver_answered_or_states_no_bound_is_not_compared(pair: Pair) -> None:
    pair.canary.off = lambda _: 1.0
    pair.canary.outside = lambda x: x < 10
    pair.stable.bound = None
    measured = await pair.preflight()
    assert (of(measured).checked, of(measured).compared, of(measured).wrong) == (CHECKED - 3, SOLVED - 3, SOLVED - 3)
    assert (of(measured, "stable").checked, of(measured, "stable").compared) == (CHECKED, 0)


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("seconds", "compared"), [(0.0, SOLVED), (0.01, SOLVED), (0.06, 65), (0.3, 12), (1.0, 3), (3.9, 1), (60.0, 0)]
)
async def test_what_a_slow_solver_has_not_answered_in_time_is_checked_without_it(seconds: float, compared: int) -> None:
    servers = Solving(seconds)
    measured, took = await _asked_in(preflight(servers, [STABLE], [CANARY], TOKEN, keys=10, seed=7))
    assert (measured.trouble, of(measured).checked) == ("", CHECKED)
    assert of(measured) == of(measured, "stable")
    assert of(measured).compared == pytest.approx(compared, abs=2 if 10 < compared < SOLVED else 0)
    assert took <= TRIAL_SECONDS + 0.01
    assert servers.parts[0] == (1, True)


@pytest.mark.looptime
@pytest.mark.parametrize(("seconds", "compared"), [(0.0, SOLVED), (0.06, 14), (0.3, 3), (60.0, 0)])
async def test_a_check_has_less_time_for_the_solver_than_a_trial(seconds: float, compared: int) -> None:
    measured, took = await _asked_in(check(Solving(seconds), [STABLE], [CANARY], TOKEN, seed=7))
    assert (measured.trouble, of(measured).checked) == ("", CHECKED)
    assert of(measured).compared == pytest.approx(compared, abs=2 if 10 < compared < SOLVED else 0)
    assert took <= CHECK_SECONDS + 0.01


@pytest.mark.looptime
async def test_one_slow_answer_of_the_solver_does_not_speak_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a server that has just started, or still works at what a trial before was cut off from."""
    servers = Solving(0.01)
    shadow = servers.shadow

    async def slow_at_first(server: Server, token: str, items: Sequence[Item], solver: bool) -> dict[str, Any]:
        await asyncio.sleep(0.0 if servers.parts else 1.5)
        return await shadow(server, token, items, solver)

    monkeypatch.setattr(servers, "shadow", slow_at_first)
    measured, took = await _asked_in(preflight(servers, [], [CANARY], TOKEN, keys=10, seed=7))
    assert of(measured).compared > SOLVED / 2
    assert took <= TRIAL_SECONDS + 0.01


@pytest.mark.looptime
async def test_a_check_without_the_solver_asks_for_none_of_its_answers() -> None:
    servers = Solving(60.0)
    measured, took = await _asked_in(check(servers, [STABLE], [CANARY], TOKEN, seed=7, solver=False))
    assert (of(measured).checked, of(measured).compared) == (CHECKED, 0)
    assert took < 0.01
    assert not any(solver for _, solver in servers.parts)


async def test_a_solver_that_never_answers_is_no_trouble(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "TRIAL_SECONDS", 0.2)
    pair.canary.solves = False
    measured = await pair.preflight()
    assert (measured.trouble, of(measured)) == ("", Checked(checked=CHECKED))
    assert of(measured, "stable").compared > 0


async def test_where_nothing_is_judged_by_the_physics_a_canary_is_warmed_and_not_checked(pair: Pair) -> None:
    pair.canary.solves = False
    measured = await preflight(pair.servers, [STABLE], [CANARY], TOKEN, keys=100, seed=7, physics=False)
    assert measured == Measured(warmed=WARMED_WITH)
    assert (pair.canary.shadowed, pair.stable.shadowed) == ([], [])


async def test_a_check_draws_its_inputs_anew_and_warms_nothing(pair: Pair) -> None:
    first, second = await pair.check(seed=1), await pair.check(seed=2)
    assert pair.canary.seeds == [(CHECKED, 1), (CHECKED, 2)]
    assert of(first) + of(second) == Checked(checked=2 * CHECKED, compared=2 * SOLVED)
    assert (first.warmed, pair.canary.warmed) == (None, [])
    assert pair.canary.shadowed == pair.stable.shadowed


async def test_another_server_is_asked_with_another_seed(pair: Pair) -> None:
    other = Model()
    await pair.town.settle("canary-2", other.app())
    for seed in (1, 2):
        await check(pair.servers, [STABLE], [CANARY, pod("canary-2")], TOKEN, seed=seed)
    assert len(pair.canary.shadowed) == len(other.shadowed) == CHECKED


# --- Servers that cannot be asked ------------------------------------------------------------------------------------

WAYS: dict[str, Callable[[Pair], Awaitable[Measured]]] = {"preflight": Pair.preflight, "check": Pair.check}
either_way = pytest.mark.parametrize("way", WAYS)


@either_way
async def test_a_stable_server_that_cannot_be_asked_leaves_what_the_canary_said(way: str, pair: Pair) -> None:
    pair.stable.off = lambda _: 1 / 0
    pair.canary.breaks = lambda _: True
    measured = await WAYS[way](pair)
    assert measured.trouble.startswith("pod stable-1 answers /shadow with 500")
    assert of(measured).violations == CHECKED
    assert measured.shadow is not None
    assert "stable" not in measured.shadow


@either_way
async def test_a_canary_that_is_gone_is_trouble_and_nothing_is_raised(way: str, pair: Pair) -> None:
    pair.town.ports["canary-1", ADMIN_PORT] = 1
    measured = await WAYS[way](pair)
    assert measured == Measured(trouble="pod canary-1 cannot be reached: connection refused")


@either_way
async def test_without_a_ready_canary_there_is_nothing_to_ask(way: str, pair: Pair) -> None:
    ways = {"preflight": lambda c: preflight(pair.servers, [STABLE], c, TOKEN, keys=9, seed=1),
            "check": lambda c: check(pair.servers, [STABLE], c, TOKEN, seed=1)}  # fmt: skip
    for canary in ([], [pod("canary-1", ready=False)], [pod("canary-1", address=None)]):
        assert (await ways[way](canary)).trouble == "no server of the canary is ready to be asked"


async def test_a_wrong_token_is_trouble_that_says_so(pair: Pair) -> None:
    measured = await preflight(pair.servers, [STABLE], [CANARY], "old", keys=9, seed=1)
    assert measured.trouble.startswith("pod stable-1 answers /cache/hottest with 401")


async def test_when_one_server_fails_the_others_are_not_asked_on() -> None:
    ended = asyncio.Event()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ServerTrouble("a", "is gone")

    with pytest.raises(ServerTrouble):
        await trial._together(waits(), fails())
    assert ended.is_set()


@pytest.mark.looptime
async def test_servers_that_take_too_long_altogether_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sleepy(Servers):
        async def samples(self, *_: object) -> list[Item]:
            await asyncio.sleep(1e6)
            return []

    servers = Sleepy(None)  # type: ignore[arg-type]
    measured = await check(servers, [], [CANARY], TOKEN, seed=1)
    assert measured == Measured(trouble="the servers took more than 30 s to answer all they were asked")


# --- Replay ----------------------------------------------------------------------------------------------------------


async def test_both_revisions_are_sent_the_same_requests_as_shadow(pair: Pair) -> None:
    assert await pair.replay(requests=60) == ""
    assert sorted(pair.canary.predicted) == sorted(pair.stable.predicted)
    assert len(pair.canary.predicted) == 60
    assert {source for _, source in pair.canary.predicted} == {"shadow"}


async def test_replays_are_drawn_from_what_a_preflight_warmed(pair: Pair) -> None:
    await pair.preflight(keys=100)
    await pair.replay(requests=500, seed=1)
    await pair.replay(requests=500, seed=2)
    asked = {x for x, _ in pair.canary.predicted}
    assert asked <= set(pair.canary.warmed)
    assert len(asked) > 150
    assert [x for x, _ in pair.canary.predicted[:500]] != [x for x, _ in pair.canary.predicted[500:]]


async def test_requests_are_dealt_out_to_the_servers_of_a_revision(pair: Pair) -> None:
    other = Model()
    await pair.town.settle("canary-2", other.app())
    assert await replay(pair.servers, [STABLE], [CANARY, pod("canary-2")], TOKEN, requests=41, seed=1) == ""
    assert (len(pair.canary.predicted), len(other.predicted), len(pair.stable.predicted)) == (21, 20, 41)


async def test_no_more_than_a_few_are_under_way_at_each_server(pair: Pair) -> None:
    pair.canary.slow = asyncio.Event()
    replaying = asyncio.create_task(pair.replay(requests=50))
    while pair.canary.in_flight < IN_FLIGHT or len(pair.stable.predicted) < 50:
        await asyncio.sleep(0)
    pair.canary.slow.set()
    assert await replaying == ""
    assert pair.canary.most_in_flight == IN_FLIGHT
    assert len(pair.canary.predicted) == 50


async def test_an_answer_that_is_an_error_is_evidence_and_no_trouble(pair: Pair) -> None:
    pair.canary.predicts = lambda _: (500, {"error": "no engine"})
    assert await pair.replay() == ""
    assert len(pair.canary.predicted) == 40


async def test_a_server_that_does_not_answer_at_all_is_trouble_and_the_others_are_asked_all_the_same(
    pair: Pair,
) -> None:
    pair.town.ports["canary-1", PORT] = 1
    assert await pair.replay() == "pod canary-1 cannot be reached: connection refused"
    assert len(pair.stable.predicted) == 40


async def test_a_replay_that_is_cut_short_has_not_failed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "REPLAY_SECONDS", 0.05)
    pair.canary.slow = asyncio.Event()
    assert await pair.replay() == ""
    assert pair.canary.predicted == []
    assert not [task for task in asyncio.all_tasks() if "_ask" in repr(task)]  # nobody goes on asking


async def test_without_stable_the_canary_is_replayed_to_alone(pair: Pair) -> None:
    assert await replay(pair.servers, [], [CANARY], TOKEN, requests=9, seed=1) == ""
    assert len(pair.canary.predicted) == 9
    assert await replay(pair.servers, [STABLE], [], TOKEN, requests=9, seed=1) == trial.NO_CANARY


# --- Smoke -----------------------------------------------------------------------------------------------------------


async def test_a_stable_revision_that_answers_is_said_to_do_so(pair: Pair) -> None:
    assert await smoke(pair.servers, [STABLE], TOKEN) == (
        True, "8 of 8 questions answered by the server of revision stable",
    )  # fmt: skip
    await pair.town.settle("stable-2", Model().app())
    unready = pod("stable-3", "stable", ready=False)
    both = await smoke(pair.servers, [STABLE, pod("stable-2", "stable"), unready], TOKEN)
    assert both == (True, "8 of 8 questions answered by each of 2 servers of revision stable")
    assert {source for _, source in pair.stable.predicted} == {"probe"}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((500, {"error": "no engine"}), "pod stable-2 answers 500 at x 1"),
        ((429, None), "pod stable-2 answers 429 at x 1"),
        ((200, [1]), "pod stable-2 answers 200 at x 1"),
        ((200, {"u": None, "method": "model"}), "pod stable-2 has no number for u at x 1"),
        ((200, {"u": True}), "pod stable-2 has no number for u at x 1"),
        ((200, {"method": "model", "reason": None}), "pod stable-2 answers without any output at x 1"),
    ],
)
async def test_one_server_that_answers_wrongly_fails_it_with_its_name(
    pair: Pair, answer: tuple[int, object], words: str
) -> None:
    sick = Model()
    sick.predicts = lambda _: answer
    await pair.town.settle("stable-2", sick.app())
    right, said = await smoke(pair.servers, [STABLE, pod("stable-2", "stable")], TOKEN)
    assert not right
    assert said.startswith(words)
    assert ("no engine" in said) == (answer[0] == 500)


async def test_a_stable_revision_that_cannot_be_asked_fails_it(pair: Pair) -> None:
    assert await smoke(pair.servers, [], TOKEN) == (False, "no server of the stable revision is ready")
    pair.town.ports["stable-1", PORT] = 1
    assert await smoke(pair.servers, [STABLE], TOKEN) == (
        False, "pod stable-1 cannot be reached: connection refused",
    )  # fmt: skip


# --- Two real servers ------------------------------------------------------------------------------------------------


class Process:
    """A pinn-server on free ports, ended by its own id."""

    def __init__(self, version: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pinn_inference", "serve", "--host", "127.0.0.1", "--port", "0", "--admin-port", "0"],
            env={
                "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "PINN_SERVER_ADMIN_TOKEN": TOKEN, "PINN_SERVER_MODEL_VERSION": version,
                "PINN_SERVER_FALLBACK_SOLVER": "false",
            },
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.ports = self._ports()

    def _ports(self) -> dict[int, int]:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            said = json.loads(line)
            if said["event"] == "serving":
                return {PORT: urlsplit(said["url"]).port or 0, ADMIN_PORT: urlsplit(said["admin"]).port or 0}
        raise AssertionError(f"the server ended with {self.process.wait()}")

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def processes() -> Iterator[dict[str, Process]]:
    started: dict[str, Process] = {}
    try:
        for name, version in (("stable-1", "1.0.0"), ("canary-1", "2.0.0")):
            started[name] = Process(version)
        yield started
    finally:
        for process in started.values():
            process.end()


async def test_real_servers_are_warmed_checked_replayed_to_and_counted(processes: dict[str, Process]) -> None:
    async with Town.founded() as (town, servers):
        for name, process in processes.items():
            town.ports.update({(name, port): real for port, real in process.ports.items()})
        for item in await servers.samples(STABLE, TOKEN, 30, 99):
            assert (await servers.predict(STABLE, item, "live"))[0] == 200

        found = await preflight(servers, [STABLE], [CANARY], TOKEN, keys=50, seed=3)
        fine = Checked(checked=CHECKED, compared=SOLVED)
        assert found == Measured(shadow={"canary": fine, "stable": fine}, warmed=WARMED_WITH)
        assert await check(servers, [STABLE], [CANARY], TOKEN, seed=4) == Measured(
            shadow={"canary": fine, "stable": fine}
        )
        (before,) = await scrape(servers, [CANARY], lambda: 1.0, shadow_counts=True)
        assert await replay(servers, [STABLE], [CANARY], TOKEN, requests=300, seed=5) == ""
        (after,) = await scrape(servers, [CANARY], lambda: 2.0, shadow_counts=True)
        (users,) = await scrape(servers, [STABLE], lambda: 2.0, shadow_counts=False)
        assert before.counts is not None
        assert after.counts is not None
        assert users.counts is not None
        assert [after.counts[name] - before.counts[name] for name in ("requests", "errors", "lookups", "timed")] == [
            300, 0, 300, 300,
        ]  # fmt: skip
        assert after.counts["misses"] - before.counts["misses"] <= 3  # two kinds of one bin, or a bin's very edge
        assert (users.counts["requests"], users.live, after.live) == (30, 30, 0)
        assert (after.memory or 0) > 1e7
        assert await smoke(servers, [STABLE], TOKEN) == (
            True, "8 of 8 questions answered by the server of revision stable",
        )  # fmt: skip
