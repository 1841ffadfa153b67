"""Plain questions of one turn: answered as each would be alone, counted as each would be alone; all else goes the usual way."""

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from pinn_inference import assembly
from pinn_inference.api.http import Answer
from pinn_inference.api.limits import Limiter
from pinn_inference.api.predict import Codec, PredictEndpoint
from pinn_inference.api.together import PLAIN, Together
from pinn_inference.assembly import Model
from pinn_inference.errors import EngineError
from pinn_inference.gathering import WORTH_IT
from pinn_inference.monitoring import Metrics
from pinn_inference.oip import http as v2
from pinn_inference.predictor import Predictor
from pinn_inference.settings import Settings

OPTION: dict[str, Any] = {"spot": 100, "strike": 105, "maturity": 0.5, "rate": 0.03, "volatility": 0.2}


INFER = "/v2/models/black-scholes/infer"


def tensors(**more: Any) -> dict[str, Any]:
    named = {"inputs": [{"name": k, "shape": [1], "datatype": "FP64", "data": [v]} for k, v in OPTION.items()]}
    return {**named, **more}


class Exchange:
    """One whose body has come."""

    def __init__(self, asked: Any = None, method: str = "POST", path: str = "/predict", **headers: str) -> None:
        self.method, self.path = method, path
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self._body = asked if isinstance(asked, bytes) else msgspec.json.encode(OPTION if asked is None else asked)
        self.came: Answer | None = None
        self.usual = self.aborted = False

    def body(self) -> bytes:
        return self._body

    def answered(self, answer: Answer) -> None:
        self.came = answer

    def as_usual(self) -> None:
        self.usual = True

    def abort(self) -> None:
        self.aborted = True

    @property
    def json(self) -> Any:
        assert self.came is not None
        return msgspec.json.decode(self.came.body)


class Desk:
    """The way together over one model, and what it counted."""

    def __init__(self, model: Model, concurrency: int = 64, queue: int = 256, max_body: int = 65536) -> None:
        self.metrics, self.limiter = Metrics(), Limiter(concurrency, queue)
        self.codec = Codec(model)
        self.endpoint = PredictEndpoint(lambda: self.codec, self.metrics, 100)
        infer = v2.InferEndpoint(lambda: model.tensors, self.metrics, 100)
        readers = {"/predict": self.endpoint.read, INFER: infer.read}
        self.together = Together(readers, self.metrics, self.limiter, max_body)

    async def asked(self, *exchanges: Exchange) -> list[bool]:
        """Which of them were taken; the turn is over then, and nothing is held."""
        taken = [self.together.take(exchange) for exchange in exchanges]
        await asyncio.sleep(0)
        assert (self.limiter.working, self.limiter.inside) == (0, 0)
        return taken

    def evaluate_by(self, predictor: Predictor) -> None:
        self.codec.predictor = predictor


@pytest.fixture(scope="module")
def model() -> Model:
    settings = Settings()
    return assembly.load(assembly.fetch(settings), settings, Metrics())


@pytest.fixture
def desk(model: Model) -> Desk:
    if model.predictor.cache is not None:
        model.predictor.cache.clear()
    return Desk(model)


@pytest.mark.parametrize("count", [1, WORTH_IT - 1, WORTH_IT, 100])
async def test_each_gets_what_it_would_get_alone(desk: Desk, count: int) -> None:
    items = [{**OPTION, "spot": 80 + place / 2, "kind": ("call", "put")[place % 2]} for place in range(count)]
    exchanges = [Exchange(item) for item in items]
    assert await desk.asked(*exchanges) == [True] * count
    for item, exchange in zip(items, exchanges, strict=True):
        alone = await desk.codec.predictor.one(desk.codec.questions(msgspec.json.encode(item)))
        assert exchange.json["price"] == pytest.approx(alone.values[0], abs=1e-5)
        assert exchange.json["method"] in ("model", "cache")
    assert desk.metrics.requests.counts["ok", "live"] == count
    assert desk.metrics.hits.counts["live",] + desk.metrics.misses.counts["live",] == count
    latency = [desk.metrics.latency[method, "live"].cumulative()[0][-1][1] for method in ("model", "cache")]
    assert sum(latency) == count


async def test_a_question_may_choose_its_outputs_and_whose_it_is(desk: Desk) -> None:
    exchange = Exchange({**OPTION, "outputs": ["delta"]}, pinn_source="shadow")
    assert await desk.asked(exchange) == [True]
    assert list(exchange.json) == ["delta", "method", "engine", "reason", "error_bound", "model"]
    assert desk.metrics.requests.counts["ok", "shadow"] == 1


async def test_both_protocols_are_answered_together(desk: Desk) -> None:
    asked = tensors(id="7", outputs=[{"name": "delta"}, {"name": "price"}])
    plain, other = Exchange(), Exchange(asked, path=INFER)
    assert await desk.asked(plain, other) == [True, True]
    assert other.json["id"] == "7"
    found = {output["name"]: output["data"] for output in other.json["outputs"]}
    assert found == {"delta": [plain.json["delta"]], "price": [plain.json["price"]]}


@pytest.mark.parametrize(
    "exchange",
    [
        Exchange([OPTION]),
        Exchange({**OPTION, "exact": True}),
        Exchange({**OPTION, "outputs": []}),
        Exchange({**OPTION, "spot": "x"}),
        Exchange({**OPTION, "maturity": 5}),
        Exchange(b"{"),
        Exchange(b""),
        Exchange(msgspec.json.encode(OPTION) + b" " * PLAIN),
        Exchange(content_encoding="gzip"),
        Exchange(method="GET"),
        Exchange(path="/health"),
        Exchange(tensors(parameters={"exact": True}), path=INFER),
        Exchange(tensors(outputs=[{"name": "vanna"}]), path=INFER),
        Exchange(tensors(inputs=[{**t, "shape": [2], "data": t["data"] * 2} for t in tensors()["inputs"]]), path=INFER),
        Exchange({"inputs": []}, path=INFER),
    ],
    ids=lambda exchange: f"{exchange.method} {exchange.path} {exchange._body[:60]!r}",
)
async def test_what_is_no_plain_question_goes_the_usual_way(desk: Desk, exchange: Exchange) -> None:
    assert await desk.asked(exchange) == [False]
    assert await desk.asked(Exchange(), exchange, Exchange()) == [True, False, True]
    assert exchange.came is None
    assert desk.metrics.requests.counts["ok", "live"] == 2


async def test_what_is_longer_than_a_body_may_be_goes_the_usual_way(model: Model) -> None:
    most = len(msgspec.json.encode(OPTION))
    assert await Desk(model, max_body=most).asked(Exchange()) == [True]
    assert await Desk(model, max_body=most - 1).asked(Exchange()) == [False]


async def test_where_no_turn_is_free_nothing_is_taken(model: Model) -> None:
    desk = Desk(model, concurrency=1)
    assert desk.limiter.take()
    assert not desk.together.take(Exchange())
    desk.limiter.done()
    assert await desk.asked(Exchange(), Exchange()) == [True, True]  # one turn for both: they are evaluated in one


async def test_no_more_are_inside_than_may_be(model: Model) -> None:
    desk = Desk(model, concurrency=1, queue=1)
    assert await desk.asked(*(Exchange() for _ in range(4))) == [True, True, False, False]


@pytest.mark.parametrize("count", [2, WORTH_IT])
async def test_what_breaks_the_physics_goes_the_usual_way_and_is_counted_there(desk: Desk, count: int) -> None:
    evaluation = desk.codec.predictor.evaluation
    told = Metrics()
    strict = replace(evaluation, tolerances={**evaluation.tolerances, "pde_residual": -1.0}, observer=told)
    desk.evaluate_by(replace(desk.codec.predictor, evaluation=strict))
    exchanges = [Exchange({**OPTION, "spot": 80 + place}) for place in range(count)]
    assert await desk.asked(*exchanges) == [True] * count
    assert all(exchange.usual and exchange.came is None for exchange in exchanges)
    assert not told.violations.counts
    assert desk.metrics.requests.counts["ok", "live"] == 0


async def test_a_failing_engine_sends_all_the_usual_way(desk: Desk) -> None:
    class Broken:
        name = "broken"

        def jet(self, *_: float) -> Any:
            raise EngineError("the engine is broken", "model_error")

        few = jet

    broken: Any = Broken()
    evaluation = replace(desk.codec.predictor.evaluation, engines=broken)
    desk.evaluate_by(replace(desk.codec.predictor, evaluation=evaluation))
    exchanges = [Exchange({**OPTION, "spot": 80 + place}) for place in range(WORTH_IT)]
    await desk.asked(*exchanges)
    assert all(exchange.usual for exchange in exchanges)


async def test_a_model_that_changes_between_two_questions_sends_them_the_usual_way(desk: Desk) -> None:
    first, second = Exchange(), Exchange()
    assert desk.together.take(first)
    desk.evaluate_by(replace(desk.codec.predictor))
    assert desk.together.take(second)
    await asyncio.sleep(0)
    assert first.usual
    assert second.usual
    assert (desk.limiter.working, desk.limiter.inside) == (0, 0)


async def test_an_answer_that_cannot_be_written_goes_the_usual_way(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(desk.codec, "reply", broken)
    exchange = Exchange()
    assert await desk.asked(exchange) == [True]
    assert exchange.usual
    assert desk.metrics.requests.counts["ok", "live"] == 0


@pytest.mark.parametrize("way", ["answered", "as_usual"])
async def test_an_answer_that_cannot_be_sent_costs_nobody_else_theirs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("the connection is gone")

    first, second, third = Exchange(), Exchange(), Exchange()
    monkeypatch.setattr(second, way, broken)
    if way == "as_usual":
        monkeypatch.setattr(desk.codec, "reply", broken)
    assert await desk.asked(first, second, third) == [True] * 3
    assert [one.came is not None or one.usual for one in (first, second, third)] == [True, False, True]
    assert [one.aborted for one in (first, second, third)] == [False, True, False]
