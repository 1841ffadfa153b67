"""The counters of servers become what gates are judged by, or a sentence; nothing in between."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from pinn_operator.api.readings import Server
from pinn_operator.api.spec import Spec
from pinn_operator.decide.evidence.counters import LIVE, user_counter
from pinn_operator.decide.evidence.gates import BUCKETS as JUDGED
from pinn_operator.decide.evidence.neighbours import NAMES
from pinn_operator.decide.evidence.rules import rules_of
from pinn_operator.errors import ServerTrouble
from pinn_operator.observe import metrics
from pinn_operator.observe.metrics import AT_ONCE, BUCKETS, READING_SECONDS, busy, of_users, parse, scrape, told
from pinn_operator.servers import METRICS_SECONDS, Servers
from prometheus_client.parser import text_string_to_metric_families
from tests.pods import Town, pod


def histogram(method: str, source: str, slow: int, quick: int) -> str:
    """So many answers of 0.3 s and so many of 0.003 s."""
    name, labels = "pinn_prediction_latency_seconds", f'method="{method}",source="{source}"'
    found = [(str(b), quick * (b >= 0.003) + slow * (b >= 0.3)) for b in BUCKETS] + [("+Inf", quick + slow)]
    lines = [f'{name}_bucket{{le="{le}",{labels}}} {count}.0' for le, count in found]
    return "\n".join([*lines, f"{name}_count{{{labels}}} {quick + slow}.0", f"{name}_sum{{{labels}}} 1.5"])


TEXT = f"""\
# HELP process_resident_memory_bytes Resident memory size in bytes.
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 1.5e+08
# TYPE pinn_requests_total counter
pinn_requests_total{{outcome="ok",source="live"}} 100.0
pinn_requests_total{{outcome="ok",source="shadow"}} 40.0
pinn_requests_total{{outcome="ok",source="probe"}} 7.0
pinn_requests_total{{outcome="refused",source="live"}} 5.0
pinn_requests_total{{outcome="overloaded",source="live"}} 3.0
pinn_requests_total{{outcome="error",source="live"}} 2.0
pinn_requests_total{{outcome="error",source="shadow"}} 1.0
# TYPE pinn_cache_hits_total counter
pinn_cache_hits_total{{source="live"}} 80.0
pinn_cache_hits_total{{source="shadow"}} 30.0
# TYPE pinn_cache_misses_total counter
pinn_cache_misses_total{{source="live"}} 20.0
pinn_cache_misses_total{{source="shadow"}} 10.0
# TYPE pinn_cache_bytes gauge
pinn_cache_bytes 5.0e+07
# TYPE pinn_fallback_total counter
pinn_fallback_total{{reason="physics_violation",source="live"}} 9.0
# TYPE pinn_fallback_calls_total counter
pinn_fallback_calls_total{{source="live"}} 6.0
pinn_fallback_calls_total{{source="shadow"}} 1.0
# TYPE pinn_prediction_latency_seconds histogram
{histogram("cache", "live", 0, 80)}
{histogram("model", "live", 4, 16)}
{histogram("none", "live", 2, 0)}
{histogram("model", "shadow", 1, 39)}
{histogram("model", "probe", 1000, 0)}
"""


ON_GPUS = """\
# TYPE pinn_gpu_utilization_ratio gauge
pinn_gpu_utilization_ratio{device="GPU-1"} 0.9
pinn_gpu_utilization_ratio{device="GPU-2"} 0.3
"""


def test_users_requests_are_counted_alone_where_shadow_requests_do_not_count() -> None:
    counts, memory, live = parse(TEXT, shadow_counts=False)
    assert counts == {
        "requests": 110, "errors": 5, "fallbacks": 6, "lookups": 100, "misses": 20, "timed": 102,
        "slower_than_0.001": 102, "slower_than_0.0025": 102, "slower_than_0.005": 6, "slower_than_0.01": 6,
        "slower_than_0.025": 6, "slower_than_0.05": 6, "slower_than_0.1": 6, "slower_than_0.25": 6, "slower_than_0.5": 0,
        "slower_than_0.6": 0, "slower_than_1": 0, "slower_than_2": 0, "slower_than_5": 0, "checked": 0, "violations": 0,
    }  # fmt: skip
    assert (memory, live) == (1e8, 110)


def test_shadow_requests_count_where_they_do_but_never_as_users_requests() -> None:
    counts, _, live = parse(TEXT, shadow_counts=True)
    assert [counts[name] for name in ("requests", "errors", "fallbacks", "lookups", "misses", "timed")] == [
        151, 6, 7, 140, 30, 142,
    ]  # fmt: skip
    assert counts["slower_than_0.25"] == 7
    assert live == 110


def test_every_counter_that_a_gate_may_ask_for_is_there() -> None:
    strict = {
        "promote": {"latencyP95": "30ms", "latencyP99": "7s"}, "abort": {"latencyP95": "4s"},
        "rollback": {"latencyP95": {"above": "5s", "for": "10m"}},
    }  # fmt: skip
    spec = Spec.model_validate({"model": {"name": "black-scholes", "version": "2.0.0"}, "sla": strict})
    counts, *_ = parse(TEXT, shadow_counts=True)
    needed = {name for name in rules_of(spec).counters if name.partition("/")[0] != LIVE}  # users' are told beside them
    assert needed <= counts.keys()
    assert {name for name in needed if user_counter(name) in rules_of(spec).counters} <= of_users(told(TEXT)).keys()
    assert BUCKETS == JUDGED


def test_a_family_without_series_has_counted_nothing() -> None:
    families = ("pinn_requests", "pinn_cache_hits", "pinn_cache_misses", "pinn_fallback_calls")
    text = "".join(f"# TYPE {name}_total counter\n" for name in families)
    counts, memory, live = parse(text + "# TYPE pinn_prediction_latency_seconds histogram\n", shadow_counts=True)
    assert set(counts.values()) == {0.0}
    assert (memory, live) == (None, 0.0)


def without(*beginnings: str) -> str:
    return "".join(line for line in TEXT.splitlines(True) if not line.startswith(beginnings))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "middle of a line"),
        ("\n", "pinn_requests_total is missing"),
        ("<html><body>503</body></html>\n", "invalid metric name"),
        ('{"status": "healthy"}\n', "Invalid labels"),
        (TEXT + "a 1\n" * metrics.LINES, "more than 10000 lines"),
        (TEXT[:-1], "middle of a line"),
        (TEXT[: len(TEXT) // 2], "middle of a line"),
        (without("# TYPE pinn_requests", "pinn_requests"), "pinn_requests_total is missing"),
        (without("# TYPE pinn_fallback_calls", "pinn_fallback_calls"), "pinn_fallback_calls_total is missing"),
        (without("# TYPE pinn_pred", "pinn_pred"), "pinn_prediction_latency_seconds is missing"),
        (TEXT.replace("100.0", "NaN"), "pinn_requests_total is nan"),
        (TEXT.replace("100.0", "+Inf"), "pinn_requests_total is inf"),
        (TEXT.replace("100.0", "-1"), "pinn_requests_total is -1"),
        (TEXT.replace("1.5e+08", "NaN"), "process_resident_memory_bytes is nan"),
        (TEXT.replace("100.0", "many"), "many"),
        (TEXT + 'pinn_requests_total{outcome="ok",source="live"} 100.0\n', "twice"),
        (TEXT.replace('_bucket{le="0.5",method="none"', '_bucket{le="0.7",method="none"'), "not complete"),
        (TEXT.replace('_count{method="none"', '_count{method="some"'), "not complete"),
        (TEXT.replace('_count{method="none",source="live"} 2', '_count{method="none",source="live"} 1'), "in all"),
    ],
)
def test_a_text_that_is_not_whole_is_no_reading_and_says_why(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse(text, shadow_counts=True)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(TEXT)), st.text(max_size=12), st.integers(0, 40))
def test_a_damaged_text_is_a_sentence_or_a_whole_reading(place: int, junk: str, gone: int) -> None:
    try:
        counts, memory, live = parse(TEXT[:place] + junk + TEXT[place + gone :], shadow_counts=True)
    except ValueError:
        return
    assert counts.keys() == parse(TEXT, shadow_counts=True)[0].keys()
    assert all(value >= 0 for value in (*counts.values(), memory or 0.0, live))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            'pinn_requests_total{outcome="other",source="live"} 1 1767323045000',
            "pinn_requests_total has a time of its own",
        ),
        ('pinn_requests_total{outcome="other",source="live"} 1_0', "could not convert"),
        ("pinn_requests_total{outcome=other} 1", "Invalid labels"),
        ("pinn_requests_total", "could not convert"),
        (f'pinn_requests_total{{outcome="{"x" * 1100}"}} 1', "is longer than any series of a model server"),
    ],
)
def test_a_line_that_is_no_sample_makes_no_reading(line: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        told(f"{TEXT}{line}\n")


def test_the_series_of_a_text_are_those_that_the_client_library_reads_in_it() -> None:
    odd = 'odd{ a = "b c" , d="\\"}\\n"}   7\n\t other\t 1e3 \n# no pinn_family here\n'
    text = TEXT + ON_GPUS + odd
    found = told(text)
    families = list(text_string_to_metric_families(text))
    assert {(name, labels): value for name, series in found.series.items() for labels, value in series.items()} == {
        (one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples
    }
    assert "pinn_family" not in found.families


def test_a_series_that_many_servers_have_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """To take it apart takes ten times as long as all the rest, and there may be two thousand servers and five seconds."""
    read: list[str] = []

    def reading(text: str) -> Any:
        read.append(text)
        return text_string_to_metric_families(text)

    monkeypatch.setattr(metrics, "text_string_to_metric_families", reading)
    metrics._named.cache_clear()
    first, *others = [told(TEXT.replace(" 100.0", f" {100 + pod}.0")) for pod in range(10)]
    assert len(read) == sum(map(len, first.series.values()))
    assert [one.sum("pinn_requests_total", ("live",)) for one in others] == [110 + pod for pod in range(1, 10)]


def test_a_cache_that_says_it_is_larger_than_the_process_leaves_no_memory() -> None:
    assert parse(TEXT.replace("5.0e+07", "5.0e+09"), shadow_counts=True)[1] == 0.0


def test_how_busy_a_server_s_gpus_are_is_the_mean_over_them_and_without_any_nothing_is_said() -> None:
    assert busy(told(TEXT)) is None
    assert busy(told(TEXT + ON_GPUS)) == pytest.approx(0.6)


@pytest.mark.parametrize("share", ["NaN", "-0.1", "1.01"])
def test_a_gpu_that_is_busy_for_an_impossible_time_makes_no_reading(share: str) -> None:
    with pytest.raises(ValueError, match="pinn_gpu_utilization_ratio is"):
        busy(told(TEXT + ON_GPUS.replace("0.3", share)))


# --- Scraping --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def town() -> AsyncIterator[tuple[Town, Servers]]:
    async with Town.founded() as founded:
        yield founded


def telling(text: str) -> web.Application:
    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=text)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    return app


def test_the_answers_to_users_are_told_apart_whatever_counts_for_the_gates() -> None:
    alone, _, _ = parse(TEXT, shadow_counts=False)
    found = of_users(told(TEXT))
    assert found == {name: count for name, count in alone.items() if name not in ("checked", "violations")}
    assert {*found} >= {*NAMES}


async def test_all_pods_are_read_and_one_that_cannot_be_is_said_with_its_name(town: tuple[Town, Servers]) -> None:
    await town[0].settle("a", telling(TEXT))
    await town[0].settle("b", telling("<html>\n"))
    gone = pod("c", "stable")
    await town[0].settle("d", telling(TEXT + ON_GPUS))
    a, b, c, d = await scrape(town[1], [pod("a"), pod("b"), gone, pod("d")], lambda: 7.0, shadow_counts=True)
    assert (a.revision, a.process, a.at, a.memory, a.live, a.trouble) == ("canary", pod("a").process, 7.0, 1e8, 110, "")
    assert (a.counts or {})["requests"] == 151
    assert a.gpu is None
    assert a.users == of_users(told(TEXT))
    assert d.gpu == pytest.approx(0.6)
    assert (b.counts, b.memory, b.live) == (None, None, 0.0)
    assert b.trouble.startswith("the metrics of pod b cannot be used: invalid metric name")
    assert (c.revision, c.counts) == ("stable", None)
    assert c.trouble.startswith("pod c cannot be reached")


@pytest.mark.parametrize(
    ("differing", "told"),
    [
        ({"address": None}, "pod a has no address yet"),
        ({"address": None, "ready": False}, None),
        ({"container": "", "ready": False}, None),
        ({"ready": False}, "pod a cannot be reached: nobody lives at a.test:8081"),
    ],
)
async def test_a_pod_is_left_out_only_where_it_cannot_have_counted_anything(
    differing: dict[str, Any], told: str | None, town: tuple[Town, Servers]
) -> None:
    found = await scrape(town[1], [pod("a", **differing)], lambda: 7.0, shadow_counts=True)
    assert [one.trouble for one in found] == ([] if told is None else [told])


@pytest.mark.looptime
async def test_pods_that_do_not_answer_take_no_longer_than_one_limit_for_all_and_are_said() -> None:
    class Silent(Servers):
        def __init__(self) -> None:
            """It asks nobody, so it needs no session."""

        async def metrics(self, server: Server) -> str:
            if server.pod != "0":
                await asyncio.sleep(METRICS_SECONDS)
                raise ServerTrouble(server.pod, "does not answer")
            return TEXT

    loop = asyncio.get_running_loop()
    began = loop.time()
    of = [pod(str(number)) for number in range(20 * AT_ONCE)]
    found = await scrape(Silent(), of, lambda: 7.0, shadow_counts=True)
    assert loop.time() - began == pytest.approx(READING_SECONDS)
    assert [one.process for one in found] == [one.process for one in of]
    assert [one.process for one in found if one.counts] == [of[0].process]
    assert found[1].trouble == "pod 1 does not answer"
    assert {one.trouble for one in found[3 * AT_ONCE :]} == {
        f"pod {one.pod} was not read within the 5 s that there are for all pods" for one in of[3 * AT_ONCE :]
    }


async def test_many_pods_are_read_at_once_and_not_all_at_once() -> None:
    running = most = 0
    full = asyncio.Event()

    class Slow(Servers):
        async def metrics(self, _: object) -> str:
            nonlocal running, most
            running += 1
            most = max(most, running)
            if running == AT_ONCE:
                full.set()
            await full.wait()
            running -= 1
            return TEXT

    servers = Slow(None)  # type: ignore[arg-type]
    found = await scrape(servers, [pod(str(i)) for i in range(3 * AT_ONCE)], lambda: 0.0, shadow_counts=True)
    assert [one.process for one in found] == [pod(str(i)).process for i in range(3 * AT_ONCE)]
    assert most == AT_ONCE
