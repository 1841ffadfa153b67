"""What a call comes to in the metrics, and how a question that cannot be read is refused: the shipped model, without a socket."""

import asyncio
import logging
import re
import time
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from pinn_inference import assembly
from pinn_inference.api import predict as predict_module
from pinn_inference.api.admin import Admin
from pinn_inference.api.http import App, State
from pinn_inference.api.limits import Limits, guarded
from pinn_inference.api.predict import Codec, PredictEndpoint, counted, shadowed
from pinn_inference.assembly import Model
from pinn_inference.errors import EngineError, InvalidInput, TooLarge
from pinn_inference.monitoring import Metrics
from pinn_inference.settings import Settings

from .wire import Wire, ask

OPTION: dict[str, Any] = {"spot": 100, "strike": 105, "maturity": 0.5, "rate": 0.03, "volatility": 0.2}
BEYOND = {**OPTION, "maturity": 5}
TOKEN = {"authorization": "Bearer sesame"}


class Broken:
    """Engines that fail."""

    name = "broken"

    def jet(self, z: float, s: float) -> Any:
        raise EngineError("the engine is broken", "model_error")

    def few(self, points: object) -> Any:
        return self.jet(0.0, 0.0)

    async def jets(self, points: object, deadline_s: float) -> Any:
        return self.jet(0.0, 0.0)


class Desk:
    """Both ports over one model, and what they counted."""

    def __init__(self, model: Model, metrics: Metrics, timeout: float = 5.0) -> None:
        self.model, self.metrics = model, metrics
        self.codec = Codec(model)
        predict = PredictEndpoint(lambda: self.codec, metrics, 100)
        self.app = App(
            counted(guarded({"/predict": {"POST": predict}}, Limits(timeout=timeout)), metrics), State(), 1 << 20
        )
        routes = Admin(bytes, dict, lambda _: [], dict, dict, self.shadow, dict, token="sesame").routes()  # type: ignore[arg-type]  # only /shadow is asked; the rest are stand-ins of any type
        self.admin = App(routes, State())

    async def shadow(self, items: list[object], _: bool) -> Mapping[str, Any]:
        return {"answers": (await shadowed(self.codec, items, self.metrics))[1]}

    async def predict(self, question: object, wire: Wire | None = None, source: str = "live") -> Wire:
        wire = wire or Wire(question if isinstance(question, bytes) else msgspec.json.encode(question))
        return await ask(self.app, wire=wire, path="/predict", headers={"pinn-source": source})

    async def compare(self, items: bytes) -> Wire:
        return await ask(self.admin, wire=Wire(b'{"items":%s}' % items), path="/shadow", headers=TOKEN)

    def broken(self, solver: bool) -> None:
        predictor = self.model.predictor
        object.__setattr__(predictor.evaluation, "engines", Broken())
        predictor.fallback.solver = solver

    def counted(self, source: str) -> dict[str, int]:
        """Every count of a source that is not zero, by its labels."""
        m = self.metrics
        tallies = {
            "requests": m.requests, "items": m.items, "hits": m.hits, "misses": m.misses, "fallback": m.fallbacks,
            "fallback_calls": m.fallback_calls,
        }  # fmt: skip
        found = {
            " ".join((name, *labels[:-1])): count
            for name, tally in tallies.items()
            for labels, count in tally.counts.items()
            if count and labels[-1] == source
        }
        for (method, of), distribution in m.latency.items():
            if of == source and (count := int(distribution.cumulative()[0][-1][1])):
                found[f"latency {method}"] = count
        return found

    def seconds(self, method: str) -> float:
        return self.metrics.latency[method, "live"].cumulative()[1]


@pytest.fixture
def desk() -> Desk:
    settings, metrics = Settings(), Metrics()
    return Desk(assembly.load(assembly.fetch(settings), settings, metrics), metrics)


async def test_a_call_counts_its_outcome_its_items_and_its_time_once(desk: Desk) -> None:
    await desk.predict([OPTION, {**OPTION, "spot": 90}])
    assert desk.counted("live") == {"requests ok": 1, "items model": 2, "misses": 1, "latency model": 1}


async def test_a_shadow_call_is_counted_as_any_other_but_apart(desk: Desk) -> None:
    assert (await desk.compare(msgspec.json.encode([OPTION, BEYOND]))).status == 200
    assert desk.counted("live") == {}
    assert desk.counted("probe") == {
        "requests ok": 1, "items model": 1, "items solver": 1, "fallback out_of_domain": 1, "fallback_calls": 1,
        "latency solver": 1,
    }  # fmt: skip


async def test_a_shadow_call_without_an_answer_is_an_error_with_its_sentence(desk: Desk) -> None:
    desk.broken(solver=False)
    answer = await desk.compare(msgspec.json.encode([OPTION]))
    assert (answer.status, answer.json) == (500, {"error": "the engine is broken"})
    assert desk.counted("probe") == {"requests error": 1}
    assert desk.metrics.errors.counts["model_error", "probe"] == 1


async def test_a_shadow_call_of_nonsense_is_refused_by_place_and_field(desk: Desk) -> None:
    answer = await desk.compare(msgspec.json.encode([OPTION, {**OPTION, "kind": "swap"}]))
    assert (answer.status, answer.json["error"][:12]) == (400, "item 1: kind")
    assert desk.counted("probe") == {"requests refused": 1}


@pytest.mark.parametrize("solver", [True, False])
async def test_an_engine_that_fails_is_a_fallback_or_an_error(desk: Desk, solver: bool) -> None:
    desk.broken(solver)
    answer = await desk.predict(OPTION)
    found = desk.counted("live")
    if solver:
        assert found == {
            "requests ok": 1, "items solver": 1, "fallback model_error": 1, "fallback_calls": 1, "latency solver": 1,
        }  # fmt: skip
    else:
        assert (answer.status, found) == (500, {"requests error": 1})


async def test_a_call_with_two_reasons_is_one_call_with_a_fallback(desk: Desk) -> None:
    desk.broken(solver=True)
    await desk.predict([OPTION, BEYOND])
    found = desk.counted("live")
    assert (found["fallback model_error"], found["fallback out_of_domain"], found["fallback_calls"]) == (1, 1, 1)


async def test_an_item_beyond_the_domain_does_not_hide_what_the_cache_did_for_the_others(desk: Desk) -> None:
    await desk.predict([OPTION, BEYOND])
    assert (desk.counted("live")["misses"], "hits" in desk.counted("live")) == (1, False)
    await desk.predict([OPTION, BEYOND])
    await desk.predict([BEYOND])
    assert (desk.counted("live")["misses"], desk.counted("live")["hits"]) == (1, 1)


async def test_the_callers_time_to_send_is_not_the_servers_latency(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]

    class Slow(Wire):
        async def __call__(self) -> bytes:
            now[0] += 60.0
            return await super().__call__()

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    assert (await desk.predict(None, Slow(msgspec.json.encode(OPTION)))).status == 200
    assert desk.counted("live")["latency model"] == 1
    assert desk.seconds("model") == 0.0


async def test_an_answer_out_of_time_is_as_slow_as_the_limit_at_least(desk: Desk) -> None:
    limited = Desk(desk.model, desk.metrics, timeout=0.05)

    async def never(*_: object) -> Any:
        await asyncio.Event().wait()

    object.__setattr__(limited.codec, "predictor", type("Never", (), {"many": never})())
    assert (await limited.predict([OPTION])).status == 504
    assert limited.counted("live") == {"requests error": 1, "latency none": 1}
    assert limited.seconds("none") >= 0.05


async def test_what_the_server_fails_at_is_logged_as_a_warning_but_sparingly(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.broken(solver=False)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    for _ in range(30):
        assert (await desk.predict(OPTION)).status == 500
    lines = [record for record in caplog.records if record.message == "the engine is broken"]
    assert len(lines) == 10
    assert lines[0].levelno == logging.WARNING
    assert vars(lines[0])["fields"] == {"method": "POST", "path": "/predict", "status": 500}


async def test_every_series_exists_before_its_first_event() -> None:
    text = Metrics().text().decode()
    assert 'pinn_fallback_calls_total{source="live"} 0.0' in text
    assert 'pinn_prediction_latency_seconds_count{method="none",source="live"} 0.0' in text


# ------------------------------------------------------------------------------------- what cannot be read


def _with(volatility: bytes) -> bytes:
    return msgspec.json.encode(OPTION).replace(b"0.2", volatility)


@pytest.mark.parametrize("number", [b"1e999", b"1" + b"0" * 400, b"1" + b"0" * 5000])
async def test_a_number_beyond_any_is_refused_by_field(desk: Desk, number: bytes) -> None:
    alone, listed = await desk.predict(_with(number)), await desk.predict(b"[%s,%s]" % (_with(b"0.2"), _with(number)))
    assert (alone.status, alone.json["error"].split()[0]) == (400, "volatility")
    assert (listed.status, listed.json["error"].split()[:3]) == (400, ["item", "1:", "volatility"])


async def test_an_infinite_number_in_a_shadow_item_is_refused_by_field(desk: Desk) -> None:
    answer = await desk.compare(b"[%s]" % _with(b"1e999"))
    assert (answer.status, answer.json["error"][:26]) == (400, "item 0: volatility is inf,")


def test_only_the_item_that_cannot_be_read_is_looked_at_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    parse = type(desk.codec.problem).parse

    def watched(self: Any, item: object) -> Any:
        seen.append(item)
        return parse(self, item)

    monkeypatch.setattr(type(desk.codec.problem), "parse", watched)
    body = msgspec.json.encode([OPTION] * 40 + [{**OPTION, "volatility": "x"}] + [OPTION] * 40)
    with pytest.raises(InvalidInput, match=r"^item 40: volatility must be a number, not a string 'x'"):
        desk.codec.questions(body, 100)
    assert len(seen) == 1


@pytest.mark.parametrize(("place", "said"), [(0, "has 81 items"), (79, "has 81 items"), (80, "has at least 81 items")])
def test_a_list_too_long_is_refused_for_that_whatever_is_in_it(desk: Desk, place: int, said: str) -> None:
    items: list[object] = [OPTION] * 81
    items[place] = {}
    with pytest.raises(TooLarge, match=f"{said}; at most 80"):
        desk.codec.questions(msgspec.json.encode(items), 80)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[" + b"1," * 3000 + b"1]", "$[0]"), (b"[" + b"[]," * 3000 + b"{}]", "$[0]"),
        (b'{"spot":[' + b"[]," * 3000 + b"1]}", "$.spot"),
        (b'[{"kind":[' + b"{}," * 1500 + b'1]}]', "$[0].kind"),
    ],
)  # fmt: skip
def test_nobody_looks_twice_at_what_no_honest_caller_sends(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, body: bytes, said: str
) -> None:
    """A list of a million lists takes half a second to decode, only to be refused."""

    def looked(_: object) -> object:
        raise AssertionError("it was decoded again")

    monkeypatch.setattr(predict_module, "decode", looked)
    with pytest.raises(InvalidInput, match=f"^the body cannot be read: .*{re.escape(said)}"):
        desk.codec.questions(body, 100)
