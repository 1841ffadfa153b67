"""Another way to the same counters: what Prometheus says is read as the servers' own text is, and a sick one is a sentence."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port
from hypothesis import given, settings
from hypothesis import strategies as st
from pinn_operator.api.readings import PodMetrics, Server
from pinn_operator.api.spec import CustomGate
from pinn_operator.observe import prometheus as module
from pinn_operator.observe.metrics import of_users, parse
from pinn_operator.observe.metrics import told as told_by
from pinn_operator.observe.prometheus import PODS_AT_ONCE, Sick, Source, ask
from pinn_operator.untrusted import VALUES
from prometheus_client.parser import text_string_to_metric_families
from tests.observe.test_metrics import ON_GPUS, TEXT
from tests.pods import pod

NOW = 1000.0
A, B = pod("a", "stable"), pod("b", "canary")
STALE = CustomGate(
    name="stale",
    bad='sum by (pod) (stale_total{pod=~".*{{revision}}.*"})  # of a feed',
    total='sum by (pod) (quotes_total{pod=~".*{{revision}}.*"})',
)

Result = list[dict[str, Any]]


def series_of(pod: str, text: str = TEXT, at: float = NOW, **way: str) -> Result:
    """What Prometheus stores of a server's text, with an older sample beside each."""
    found = []
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            metric = {
                "__name__": sample.name,
                **sample.labels,
                "namespace": "demo",
                "pod": pod,
                "job": "servers",
                **way,
            }
            values = [[at - 5, "0"], [at, repr(sample.value)]]
            if sample.name in module.FAMILIES and sample.labels.get("source") != "probe":
                found.append({"metric": metric, "values": values})
    return found


class Scraped:
    """A Prometheus that answers what a test wants, and what it was asked."""

    def __init__(self) -> None:
        self.servers: Result = [*series_of("a"), *series_of("b")]
        self.custom: Callable[[str], Any] = lambda _: []
        self.says: Callable[[web.Request], Any] | None = None
        self.asked: list[Mapping[str, str]] = []
        self.headers: list[Mapping[str, str]] = []
        self.url = ""

    async def query(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append(form)
        self.headers.append(request.headers)
        if self.says:
            answer: web.StreamResponse = await self.says(request)
            return answer
        if form["query"] == "time()":
            return vector([NOW, str(NOW)], "scalar")
        if form["query"].startswith("{__name__"):
            return vector([one for one in self.servers if one["metric"].get("pod", "") in form["query"]], "matrix")
        answered = self.custom(form["query"])
        return answered if isinstance(answered, web.Response) else vector(answered, "vector")

    def source(self, *gates: CustomGate, **differing: Any) -> Source:
        return replace(Source(self.url, "", "demo", 2.0, shadow_counts=True, gates=gates), **differing)

    async def read(self, *of: Server, gates: tuple[CustomGate, ...] = (), **differing: Any) -> list[PodMetrics]:
        return list(await ask(self.source(*gates, **differing), of or (A, B), lambda: NOW))

    async def trouble(self, *of: Server, **more: Any) -> str:
        """What is said of the first pod, of which nothing may be told then."""
        first, *_ = await self.read(*of, **more)
        assert first.counts is None
        assert first.memory is None
        return first.trouble


def vector(result: object, kind: str) -> web.Response:
    return web.json_response({"status": "success", "data": {"resultType": kind, "result": result}})


@pytest.fixture
async def scraped() -> AsyncIterator[Scraped]:
    found = Scraped()
    app = web.Application()
    app.router.add_post("/prom/api/v1/query", found.query)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/prom/"
    yield found
    await runner.cleanup()


async def test_the_counters_are_those_that_the_servers_tell_themselves(scraped: Scraped) -> None:
    for shadow_counts in (True, False):
        counts, memory, live = parse(TEXT, shadow_counts=shadow_counts)
        users = of_users(told_by(TEXT))
        expected = [PodMetrics(one.revision, one.process, NOW, counts, memory, live, users=users) for one in (A, B)]
        assert await scraped.read(shadow_counts=shadow_counts) == expected


async def test_how_busy_gpus_are_is_told_and_no_longer_where_a_server_has_lost_its_own(scraped: Scraped) -> None:
    scraped.servers = series_of("a", TEXT + ON_GPUS)
    (found,) = await scraped.read(A)
    assert found.gpu == pytest.approx(0.6)
    for one in scraped.servers:
        if one["metric"]["__name__"] == "pinn_gpu_utilization_ratio":
            one["values"].pop()
    (found,) = await scraped.read(A)
    assert (found.gpu, found.at, found.live) == (None, NOW, 110)


async def test_the_last_sample_counts_and_its_own_time(scraped: Scraped) -> None:
    scraped.servers = series_of("a", at=NOW - 3)
    (found,) = await scraped.read(A)
    assert found.at == NOW - 3
    assert found.live == 110


async def test_a_reading_is_as_old_as_its_oldest_family(scraped: Scraped) -> None:
    late = {"pinn_cache_hits_total": NOW - 4}
    for one in scraped.servers:
        one["values"][-1][0] = late.get(one["metric"]["__name__"], NOW)
    (found,) = await scraped.read(A)
    assert found.at == NOW - 4


async def test_a_series_that_ended_before_the_last_reading_is_of_another_time(scraped: Scraped) -> None:
    (one, *_) = [s for s in scraped.servers if s["metric"].get("outcome") == "error" and s["metric"]["pod"] == "a"]
    one["values"][-1] = [NOW - 4, "1000"]
    (found,) = await scraped.read(A)
    assert (found.counts or {})["errors"] == 4


async def test_a_server_that_is_read_by_two_ways_is_counted_once_and_by_the_fresher(scraped: Scraped) -> None:
    more = TEXT.replace("100.0", "103.0")
    scraped.servers = [*series_of("a", at=NOW - 2, job="old"), *series_of("a", more, at=NOW - 1, job="new")]
    (found,) = await scraped.read(A)
    assert (found.at, found.live) == (NOW - 1, 113)


async def test_a_way_that_leads_to_half_of_the_counters_is_none(scraped: Scraped) -> None:
    half = [one for one in series_of("a", job="half") if "latency" not in one["metric"]["__name__"]]
    scraped.servers = [*half, *series_of("a", at=NOW - 1)]
    (found,) = await scraped.read(A)
    assert (found.at, found.trouble) == (NOW - 1, "")


async def test_only_servers_that_may_have_counted_are_asked_for(scraped: Scraped) -> None:
    starting = pod("c", ready=False, address=None)
    assert [one.process for one in await scraped.read(A, starting)] == [A.process]
    assert await ask(scraped.source(), [starting], lambda: NOW) == ()
    assert len(scraped.asked) == 1


async def test_many_servers_are_asked_for_in_parts_by_exact_names(scraped: Scraped) -> None:
    names = [f"pod-{number}" for number in range(2 * PODS_AT_ONCE + 1)]
    scraped.servers = [one for name in names for one in series_of(name)]
    found = await scraped.read(*map(pod, names))
    assert [one.live for one in found] == [110] * len(names)
    assert len(scraped.asked) == 3
    assert 'pod=~"pod-0|pod-1|pod-2|pod-3|pod-4"' in scraped.asked[0]["query"]
    assert 'namespace="demo"' in scraped.asked[0]["query"]


async def test_a_token_is_sent_when_there_is_one_and_answers_are_to_be_plain(scraped: Scraped) -> None:
    await scraped.read(token="sesame")
    await scraped.read()
    assert [headers.get("authorization") for headers in scraped.headers] == ["Bearer sesame", None]
    assert {headers["accept-encoding"] for headers in scraped.headers} == {"identity"}


@pytest.mark.parametrize(("interval", "window"), [(1.0, 15), (10.0, 30), (600.0, 300)])
def test_it_looks_back_beyond_what_is_too_old_and_not_for_ever(interval: float, window: int) -> None:
    assert Source("http://x", "", "demo", interval, shadow_counts=True).window == window


# --- One pod without news --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TEXT.replace("100.0", "NaN"), "pinn_requests_total is nan"),
        (TEXT.replace("100.0", "+Inf"), "pinn_requests_total is inf"),
        (TEXT.replace("100.0", "-1"), "pinn_requests_total is -1"),
        (TEXT.replace("source=", "exported_source="), 'no pinn_requests_total of pod a with the label source="live"'),
        (TEXT.replace("pinn_cache_hits", "cache_hits"), "no pinn_cache_hits_total of pod a"),
        (TEXT.replace('_bucket{le="0.5",method="none"', '_bucket{le="0.7",method="none"'), "not complete"),
        (TEXT.replace('_count{method="none",source="live"} 2', '_count{method="none",source="live"} 1'), "in all"),
    ],
)
async def test_what_cannot_be_is_said_of_its_pod_and_the_others_are_read(
    text: str, words: str, scraped: Scraped
) -> None:
    scraped.servers = [*series_of("a", text), *series_of("b")]
    a, b = await scraped.read()
    assert a.counts is None
    assert words in a.trouble
    assert (b.trouble, b.live) == ("", 110)


@pytest.mark.parametrize(
    ("differing", "words"),
    [
        ({"at": NOW - 5.1}, "Prometheus' last sample of pod a is 5 s old, over 5 s"),
        ({"at": NOW + 60}, "Prometheus' last sample of pod a is 60 s in the future"),
        ({"pod": "z"}, "Prometheus has nothing of pod a from the last 15 s; it is to read the port `admin`"),
    ],
)
async def test_a_pod_of_which_there_is_no_news_is_said_with_its_name(
    differing: dict[str, Any], words: str, scraped: Scraped
) -> None:
    scraped.servers = series_of(**{"pod": "a", **differing})
    found = await scraped.trouble(A)
    assert found.startswith(words)


async def test_a_sample_just_young_enough_is_news(scraped: Scraped) -> None:
    scraped.servers = series_of("a", at=NOW - 5)
    (found,) = await scraped.read(A)
    assert found.trouble == ""


async def test_after_a_restart_the_counters_of_the_process_before_it_are_not_taken_for_the_new_one_s(
    scraped: Scraped,
) -> None:
    """They would be counted from zero under the new name: every event of the old process once more."""
    again = replace(A, container="containerd://next", restarts=1, started=NOW - 1.5)
    scraped.servers = series_of("a", at=NOW - 1)
    assert await scraped.trouble(again) == "Prometheus has not read pod a since its server restarted"
    scraped.servers = series_of("a", at=NOW - 0.4)
    (found,) = await scraped.read(again)
    assert (found.process, found.at) == ("a/inerd://next", NOW - 0.4)


# --- A Prometheus that is sick ---------------------------------------------------------------------------------------


def saying(status: int, body: str | bytes, **more: Any) -> Callable[[web.Request], Any]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body, **more)

    return answer


ERROR = json.dumps({"status": "error", "errorType": "execution", "error": "query\n timed out in " + 500 * "x"})
PARTIAL = {"status": "success", "warnings": ["store x is away"], "data": {"resultType": "matrix", "result": []}}


CROWD = f'{{"status": "success", "data": {{"resultType": "scalar", "result": [{"1," * VALUES}1]}}}}'


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (saying(200, "<html><body>welcome</body></html>"), "what answers there is no Prometheus"),
        (saying(200, ""), "what answers there is no Prometheus"),
        (saying(200, b"\xff\xfe"), "what answers there is no Prometheus"),
        (saying(200, "[" * 100_000), "what answers there is no Prometheus"),
        (saying(200, CROWD), "what answers there is no Prometheus"),
        (saying(200, '{"status": "success"}'), "what answers there is no Prometheus"),
        (saying(200, ERROR), "Prometheus answers 200: query timed out in x"),
        (saying(503, ERROR), "Prometheus answers 503: query timed out in x"),
        (saying(401, "a secret of somebody's"), "Prometheus answers 401"),
        (saying(302, "", headers={"location": "/elsewhere"}), "Prometheus answers 302"),
        (saying(200, json.dumps(PARTIAL)), "Prometheus warns that the answer may not be whole: ['store x is away']"),
        (saying(200, b"x" * (4 * 2**20 + 1)), "Prometheus answers with more than 4 MiB"),
        (saying(200, "{}", headers={"content-encoding": "gzip"}), "what answers there is no Prometheus"),
    ],
)
async def test_a_sick_prometheus_is_one_sentence_about_every_pod(
    answer: Callable[[web.Request], Any], words: str, scraped: Scraped
) -> None:
    scraped.says = answer
    a, b = await scraped.read()
    assert a.trouble == b.trouble
    assert a.trouble.startswith(words)
    assert "secret" not in a.trouble
    assert len(a.trouble) < 300
    assert (a.counts, b.counts, a.process, b.process) == (None, None, A.process, B.process)


@pytest.mark.parametrize(
    ("kind", "result", "words"),
    [
        ("vector", [], "a vector instead of a matrix"),
        ("matrix", {"a": 1}, "without a list of series"),
        ("matrix", [1], "a series that has no labels"),
        ("matrix", [{"metric": {"pod": 3}, "values": [[1, "1"]]}], "a series that has no labels"),
        ("matrix", [{"metric": {"pod": "a"}, "values": [["x", "1"]]}], "a sample that is none"),
        ("matrix", [{"metric": {"pod": "a"}, "values": [[1, None]]}], "a sample that is none"),
        ("matrix", [{"metric": {"pod": "a"}, "values": [7]}], "a sample that is none"),
        ("matrix", [{"metric": {"pod": "a"}, "values": [["NaN", "1"]]}], "a sample of no time"),
    ],
)
async def test_an_answer_of_another_form_is_said(kind: str, result: object, words: str, scraped: Scraped) -> None:
    async def odd(_: web.Request) -> web.Response:
        return vector(result, kind)

    scraped.says = odd
    assert words in await scraped.trouble()


async def test_series_without_samples_are_nothing(scraped: Scraped) -> None:
    """As native histograms are, and a label pod that is missing is nobody's."""
    scraped.servers = [{"metric": {"pod": "a"}, "histograms": [[1, {}]]}, {"metric": {"pod": "a"}, "values": []}]
    assert "has nothing of pod a" in await scraped.trouble(A)


async def test_one_that_does_not_answer_costs_the_limit_and_no_more(scraped: Scraped) -> None:
    async def never(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    scraped.says = never
    assert await scraped.trouble(limit=0.2) == f"Prometheus at {scraped.url} does not answer within 0.2 s"


async def test_one_that_is_not_there_is_said(scraped: Scraped) -> None:
    scraped.url = f"http://127.0.0.1:{unused_port()}"
    assert (await scraped.trouble()).startswith("Prometheus cannot be reached: ")


async def test_one_that_breaks_off_is_said(scraped: Scraped) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-length": "1000"})
        await answer.prepare(request)
        await answer.write(b"{")
        assert request.transport is not None
        request.transport.abort()
        return answer

    scraped.says = broken
    assert (await scraped.trouble()).startswith("Prometheus answers with what cannot be read: ")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.just("a") | st.just("1"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["status", "data", "result", "resultType", "metric", "values", "pod"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_no_answer_whatever_raises_anything_but_a_sentence(said: Any) -> None:
    sentences = []
    for body in (said, {"status": "success", "data": {"resultType": "matrix", "result": said}}):
        for part in ("values", "value"):
            try:
                result = module._result(200, json.dumps(body).encode(), "matrix")
                list(module._entries(result if isinstance(result, list) else [result], part))
            except Sick as error:
                sentences.append(str(error))
    assert all(0 < len(one) < 300 for one in sentences)


# --- Gates of a user's own -------------------------------------------------------------------------------------------


def told(**values: float) -> Result:
    return [{"metric": {"pod": name}, "value": [NOW, str(value)]} for name, value in values.items()]


def by_revision(bad: Result, total: Result) -> Callable[[str], Result]:
    """The series of a question that belong to the revision it names: a is stable's and b the canary's."""

    def answer(query: str) -> Result:
        revision = {"stable": "a", "canary": "b"}
        named = {pod for name, pod in revision.items() if name in query}
        return [one for one in (bad if "stale_total" in query else total) if one["metric"]["pod"] in named]

    return answer


def of_gates(found: PodMetrics) -> dict[str, float]:
    return {name: value for name, value in (found.counts or {}).items() if name.startswith("custom/")}


async def test_a_gate_has_its_two_counters_for_each_pod_of_both_revisions(scraped: Scraped) -> None:
    scraped.custom = by_revision(told(a=1, b=2, z=9), told(a=10, b=20, z=90))
    a, b = await scraped.read(gates=(STALE,))
    assert of_gates(a) == {"custom/stale/bad": 1, "custom/stale/total": 10}
    assert of_gates(b) == {"custom/stale/bad": 2, "custom/stale/total": 20}
    assert (a.counts or {}).keys() > parse(TEXT, shadow_counts=True)[0].keys()


async def test_all_counters_of_gates_are_of_one_moment(scraped: Scraped) -> None:
    """Else a bad event might be read that is not among all of them yet."""
    await scraped.read(gates=(STALE,))
    asked = [form for form in scraped.asked if form["query"].startswith("last_over_time")]
    assert len(asked) == 4
    assert {form["time"] for form in asked} == {"1000.000"}
    assert {"{{" in form["query"] for form in asked} == {False}


async def test_a_counter_that_prometheus_does_not_know_is_at_zero(scraped: Scraped) -> None:
    """Many exist from their first event on, and a canary has had none before its first request."""
    scraped.custom = by_revision([], told(a=10))
    a, b = await scraped.read(gates=(STALE,))
    assert of_gates(a) == {"custom/stale/bad": 0, "custom/stale/total": 10}
    assert of_gates(b) == {"custom/stale/bad": 0, "custom/stale/total": 0}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            [{"metric": {}, "value": [NOW, "1"]}],
            "gate stale, bad: its answer has no label pod; write e.g. sum by (pod) (...)",
        ),
        (told(a=1) + told(a=2), "gate stale, bad: its answer has several series of pod a"),
        (told(a=float("nan")), "gate stale, bad: it is nan for pod a, which no counter is"),
        (told(a=-1), "gate stale, bad: it is -1.0 for pod a"),
        (
            web.json_response({"status": "error", "error": "parse error: unclosed"}, status=400),
            "gate stale, bad: Prometheus answers 400: parse error: unclosed",
        ),
    ],
)
async def test_a_gate_that_cannot_be_read_is_named(answer: object, words: str, scraped: Scraped) -> None:
    scraped.custom = lambda _: answer
    assert (await scraped.trouble(gates=(STALE,))).startswith(words)


async def test_a_gate_does_not_tell_of_the_process_before_a_restart(scraped: Scraped) -> None:
    again = replace(B, restarts=1, started=NOW - 10)
    assert "pod b has just restarted" in await scraped.trouble(A, again, gates=(STALE,))
    assert (await scraped.read(A, replace(again, started=NOW - 20), gates=(STALE,)))[1].trouble == ""


@pytest.fixture(autouse=True)
def no_trace_of_tokens(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert not re.search("sesame", caplog.text)
