"""What the servers are asked in a pass: what the journal says, when its time has come, and of it only what the spec wants."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pinn_operator.api.journal import Arm, Journal
from pinn_operator.api.memory import Memory
from pinn_operator.api.observed import Observed
from pinn_operator.api.readings import Checked, Measured, PodMetrics, Server
from pinn_operator.errors import Refused
from pinn_operator.observe import measure as module
from pinn_operator.observe import prometheus
from pinn_operator.observe.measure import FEWEST_SOLVED, REPLAYED, measure
from pinn_operator.observe.prometheus import Source
from pinn_operator.servers import Servers
from tests.fake_kube import FakeKube
from tests.given import NOW, observed, resource, revision

ONE, TWO = revision("1.0.0", 1), revision("2.0.0", 2)
AT = NOW.timestamp()
SERVERS: Any = object()
POD = PodMetrics(TWO.name, "b/1", AT, {"requests": 1.0})


class Asked:
    """In place of what asks servers: who was asked for what, in turn, and answers that can be told apart."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.of: dict[str, tuple[list[str], ...]] = {}
        self.said: dict[str, Any] = {}

    def _note(self, what: str, *of: Sequence[Server], **said: Any) -> None:
        self.calls.append(what)
        self.of[what] = tuple([server.pod for server in servers] for servers in of)
        self.said.update(said)

    async def preflight(
        self,
        _: Servers,
        stable: Sequence[Server],
        canary: Sequence[Server],
        token: str,
        *,
        keys: int,
        seed: int,
        physics: bool,
    ) -> Measured:
        self._note("preflight", stable, canary, token=token, keys=keys, seed=seed, physics=physics)
        return Measured(warmed=7, shadow={TWO.name: Checked(checked=5)}, trouble="pod c is slow")

    async def check(
        self, _: Servers, stable: Sequence[Server], canary: Sequence[Server], token: str, *, seed: int, solver: bool
    ) -> Measured:
        self._note("check", stable, canary, token=token, seed=seed, solver=solver)
        return Measured(shadow={TWO.name: Checked(checked=3)})

    async def replay(
        self, _: Servers, stable: Sequence[Server], canary: Sequence[Server], token: str, *, requests: int, seed: int
    ) -> str:
        self._note("replay", stable, canary, token=token, requests=requests, seed=seed)
        return ""

    async def smoke(self, _: Servers, stable: Sequence[Server], token: str) -> tuple[bool, str]:
        self._note("smoke", stable, token=token)
        return True, "8 of 8"

    async def renew(self, _: Servers, of: Sequence[Server], token: str) -> str:
        self._note("renew", of, token=token)
        return ""

    async def scrape(
        self, _: Servers, of: Sequence[Server], _now: object, *, shadow_counts: bool
    ) -> tuple[PodMetrics, ...]:
        self._note("scrape", of, shadow_counts=shadow_counts)
        return (POD,)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    found = Asked()
    for name in ("preflight", "check", "replay", "renew", "smoke", "scrape"):
        monkeypatch.setattr(module, name, getattr(found, name))
    return found


def _server(pod: str, of: str) -> Server:
    return Server(of, pod, "containerd://x", "10.0.0.1", ready=True)


PODS = (_server("a", ONE.name), _server("b", TWO.name), _server("c", TWO.name), _server("x", "0123456789"))
JOURNAL = Journal(Arm(TWO.name, "2.0.0"), Arm(ONE.name, "1.0.0"), AT - 60, measure="tick", measure_at=AT)


def _seen(journal: Journal | None = JOURNAL, *, seconds: float = 0.0, **spec: Any) -> Observed:
    """So many seconds later."""
    now = NOW + timedelta(seconds=seconds)
    return observed(resource("2.0.0", **spec), now=now, servers=PODS, memory=Memory(journal))


async def _measured(asked: Asked, seen: Observed) -> Measured:
    found = await measure(SERVERS, seen, "sesame")
    assert found is not None
    return found


async def test_nothing_is_asked_where_no_rollout_is_remembered(asked: Asked) -> None:
    for seen in (_seen(None), replace(_seen(), memory=None), _seen(replace(JOURNAL, measure=""))):
        assert await measure(SERVERS, seen, "sesame") is None
    assert asked.calls == []


@pytest.mark.parametrize("what", ["preflight", "tick", "smoke"])
async def test_nothing_is_asked_before_its_time(asked: Asked, what: Any) -> None:
    """A pass that an event woke is no reading: a second between two would count for an interval."""
    early = replace(JOURNAL, measure=what, measure_at=AT + 1)
    assert await measure(SERVERS, _seen(early), "sesame") is None
    assert asked.calls == []


async def test_a_pass_that_comes_a_moment_too_early_or_much_too_late_measures_all_the_same(asked: Asked) -> None:
    for at in (AT + 0.04, AT - 3600):
        assert await measure(SERVERS, _seen(replace(JOURNAL, measure_at=at)), "sesame") is not None


@pytest.mark.parametrize("what", ["preflight", "tick", "smoke"])
async def test_what_a_clock_that_was_ahead_has_put_off_is_measured_now(asked: Asked, what: Any) -> None:
    """Else nobody would watch the canary until the clock comes to that time again."""
    put_off = replace(JOURNAL, measure=what, measure_at=AT + 3600)
    assert await measure(SERVERS, _seen(put_off), "sesame") is not None
    assert asked.calls


async def test_the_next_reading_may_be_a_whole_interval_away(asked: Asked) -> None:
    assert await measure(SERVERS, _seen(replace(JOURNAL, measure_at=AT + 10)), "sesame") is None
    assert await measure(SERVERS, _seen(replace(JOURNAL, measure_at=AT + 60), metrics={"interval": "1m"}), "s") is None
    assert asked.calls == []


async def test_a_canary_is_warmed_and_checked_and_its_counters_are_read_after_that(asked: Asked) -> None:
    """Else the trial's own questions would be the first requests that it is judged by."""
    found = await _measured(asked, _seen(replace(JOURNAL, measure="preflight")))
    assert asked.calls == ["preflight", "scrape"]
    assert asked.of["preflight"] == (["a"], ["b", "c"])
    assert (found.warmed, found.trouble, found.pods) == (7, "pod c is slow", (POD,))
    assert found.shadow == {TWO.name: Checked(checked=5)}


@pytest.mark.parametrize(("source", "keys"), [("Stable", 1234), ("Synthetic", 0), ("None", 0)])
async def test_a_canary_is_warmed_with_the_keys_of_stable_where_the_spec_says_so(
    asked: Asked, source: str, keys: int
) -> None:
    cache = {"warmUp": {"from": source, "keys": 1234}}
    await _measured(asked, _seen(replace(JOURNAL, measure="preflight"), cache=cache))
    assert asked.said["keys"] == keys


async def test_a_reading_is_of_the_servers_of_both_revisions_and_of_no_other(asked: Asked) -> None:
    found = await _measured(asked, _seen())
    assert asked.of["scrape"] == (["a", "b", "c"],)
    assert found.pods == (POD,)
    assert (found.warmed, found.smoke) == (None, None)


async def test_a_reading_checks_the_physics_and_replays_before_it_counts(asked: Asked) -> None:
    """So that what was replayed is in this reading and not in the next."""
    found = await _measured(asked, _seen())
    assert asked.calls == ["check", "replay", "scrape"]
    assert asked.of["check"] == asked.of["replay"] == (["a"], ["b", "c"])
    assert asked.said == {
        "token": "sesame", "seed": int(AT), "solver": True, "requests": REPLAYED, "shadow_counts": True,
    }  # fmt: skip
    assert found.shadow == {TWO.name: Checked(checked=3)}


async def test_right_after_a_weight_has_risen_counters_are_read_and_nothing_else_is_asked(asked: Asked) -> None:
    """Every second: there is no time for a thousand questions, and a bad canary shows in its first requests."""
    found = await _measured(asked, _seen(replace(JOURNAL, rose_at=AT - 1), seconds=1))
    assert asked.calls == ["scrape"]
    assert (found.pods, found.shadow) == ((POD,), None)


async def test_questions_of_our_own_are_asked_once_in_an_interval_however_often_counters_are_read(asked: Asked) -> None:
    for second in range(20):
        await _measured(asked, _seen(replace(JOURNAL, rose_at=AT - 1 + second), seconds=second))
    assert {call: asked.calls.count(call) for call in asked.calls} == {"scrape": 20, "check": 2}


@pytest.mark.parametrize(("since", "replayed"), [(1, 0), (9, 0), (60, 1)])
async def test_whether_users_are_few_is_known_an_interval_after_the_share_has_risen(
    asked: Asked, since: float, replayed: int
) -> None:
    """A slow canary has answered nobody before: requests replayed to it would hold up the readings that show it."""
    await _measured(asked, _seen(replace(JOURNAL, rose_at=AT - since)))
    assert asked.calls.count("replay") == replayed


@pytest.mark.parametrize(
    ("traffic", "since", "closes"),
    [
        ({}, 1.0, True),
        ({}, 60.0, False),
        ({"gateway": {"parentRefs": [{"name": "g"}]}}, 1.0, False),
        ({"routeRef": {"name": "r"}}, 1.0, False),
    ],
)
async def test_without_a_gateway_stable_closes_connections_when_its_share_has_fallen(
    asked: Asked, traffic: Any, since: float, closes: bool
) -> None:
    """Who keeps a connection would stay with stable whatever the share is."""
    step = replace(JOURNAL, rose_at=AT - 1, step_began=AT - since)
    await _measured(asked, _seen(step, traffic=traffic))
    assert asked.calls == (["renew", "scrape"] if closes else ["scrape"])
    assert asked.of.get("renew", (["a"],)) == (["a"],)


async def test_requests_are_replayed_only_while_users_send_none(asked: Asked) -> None:
    await _measured(asked, _seen(replace(JOURNAL, quiet=False)))
    assert asked.calls == ["check", "scrape"]


async def test_where_only_live_requests_count_none_are_replayed_and_none_of_ours_are_counted(asked: Asked) -> None:
    await _measured(asked, _seen(sla={"evidence": "Live"}))
    assert asked.calls == ["check", "scrape"]
    assert asked.said["shadow_counts"] is False


async def test_physics_that_is_off_is_not_checked(asked: Asked) -> None:
    found = await _measured(asked, _seen(sla={"promote": {"physicsViolationRate": "Off"}}))
    assert asked.calls == ["replay", "scrape"]
    assert found.shadow is None


@pytest.mark.parametrize(("limit", "checked"), [("0.1%", True), ("Off", False)])
async def test_a_trial_checks_the_physics_where_something_is_judged_by_them(
    asked: Asked, limit: str, checked: bool
) -> None:
    sla = {"promote": {"physicsViolationRate": limit}}
    await _measured(asked, _seen(replace(JOURNAL, measure="preflight"), sla=sla))
    assert asked.said["physics"] is checked


@pytest.mark.parametrize(
    ("tried", "solver"),
    [(None, True), (Checked(1000, compared=FEWEST_SOLVED), True), (Checked(1000, compared=FEWEST_SOLVED - 1), False)],
)
async def test_a_solver_that_was_slow_in_the_trial_is_not_asked_again(
    asked: Asked, tried: Checked | None, solver: bool
) -> None:
    """What it has begun goes on at the server when nobody waits for it any more, beside the answers to users."""
    await _measured(asked, _seen(replace(JOURNAL, shadow={TWO.name: tried} if tried else {})))
    assert asked.said["solver"] is solver


async def test_after_a_rollback_stable_is_asked_and_nobody_else(asked: Asked) -> None:
    found = await _measured(asked, _seen(replace(JOURNAL, measure="smoke")))
    assert asked.calls == ["smoke"]
    assert asked.of["smoke"] == (["a"],)
    assert found == Measured(smoke=(True, "8 of 8"))


# --- By way of a Prometheus ------------------------------------------------------------------------------------------

ASKED_FOR = {"source": "Prometheus", "interval": "2s", "prometheus": {"url": "http://prom:9090"}}
GATE = {"name": "stale", "bad": "stale_total", "total": "quotes_total"}


@pytest.fixture
def of_prometheus(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Source, list[str]]]:
    """What a Prometheus is asked, and about which pods."""
    questions: list[tuple[Source, list[str]]] = []

    async def ask(source: Source, of: Sequence[Server], _now: object) -> tuple[PodMetrics, ...]:
        questions.append((source, [server.pod for server in of]))
        return (POD,)

    monkeypatch.setattr(prometheus, "ask", ask)
    return questions


def _by_prometheus(**more: Any) -> Observed:
    metrics = {**ASKED_FOR, "prometheus": {**ASKED_FOR["prometheus"], **more}}  # type: ignore[dict-item]
    of = resource("2.0.0", metrics=metrics, sla={"custom": [GATE], "evidence": "Live"})
    return replace(_seen(JOURNAL), resource=of)


async def test_counters_come_from_the_prometheus_that_the_spec_names_and_from_it_alone(
    asked: Asked, of_prometheus: list[tuple[Source, list[str]]]
) -> None:
    found = await measure(SERVERS, _by_prometheus(), "t")
    assert found is not None
    assert found.pods == (POD,)
    ((source, pods),) = of_prometheus
    assert (source.url, source.token, source.namespace, source.interval) == ("http://prom:9090", "", "demo", 2.0)
    assert not source.shadow_counts
    assert [gate.name for gate in source.gates] == ["stale"]
    assert pods == ["a", "b", "c"]
    assert "scrape" not in asked.calls


async def test_its_token_is_read_by_name_in_the_object_s_own_namespace(
    asked: Asked, of_prometheus: list[tuple[Source, list[str]]]
) -> None:
    secret = {"kind": "Secret", "metadata": {"name": "prom", "namespace": "demo"}, "data": {"token": "b3BlbgoK"}}
    kube = FakeKube(secret)
    await measure(SERVERS, _by_prometheus(bearerTokenSecret="prom"), "t", kube)
    assert of_prometheus[0][0].token == "open"
    assert kube.requests == [("get", "Secret", "prom")]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "Secret prom of spec.metrics.prometheus.bearerTokenSecret does not exist"),
        ({"password": "b3Blbg=="}, "has no key `token`"),
        ({"token": "%%%"}, "has no key `token`"),
        ({"token": "YQpi"}, "has no key `token` that can be sent in a header"),
    ],
)
async def test_without_a_token_that_can_be_sent_nothing_is_asked_and_every_pod_says_why(
    data: Any, words: str, asked: Asked, of_prometheus: list[tuple[Source, list[str]]]
) -> None:
    secret = {"kind": "Secret", "metadata": {"name": "prom", "namespace": "demo"}, "data": data}
    kube = FakeKube(*([secret] if data else []))
    found = await measure(SERVERS, _by_prometheus(bearerTokenSecret="prom"), "t", kube)
    assert found is not None
    assert {pod.counts for pod in found.pods} == {None}
    assert len(found.pods) == 3
    assert all(words in pod.trouble for pod in found.pods)
    assert of_prometheus == []


async def test_a_token_that_may_not_be_read_is_said(asked: Asked) -> None:
    kube = FakeKube()

    async def refuse(*_: str) -> None:
        raise Refused(403, "Forbidden", "secrets is forbidden")

    kube.before = refuse
    found = await measure(SERVERS, _by_prometheus(bearerTokenSecret="prom"), "t", kube)
    assert found is not None
    assert "cannot be read: 403 Forbidden" in found.pods[0].trouble


async def test_what_could_not_be_checked_or_sent_in_a_reading_is_told_with_it(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check(*_: object, **__: object) -> Measured:
        return Measured(trouble="pod b is slow")

    async def replay(*_: object, **__: object) -> str:
        return "pod a has no keys"

    monkeypatch.setattr(module, "check", check)
    monkeypatch.setattr(module, "replay", replay)
    found = await measure(SERVERS, _seen(replace(JOURNAL, quiet=True)), "t")
    assert found is not None
    assert found.trouble == "pod b is slow; pod a has no keys"
    assert found.pods == (POD,)
