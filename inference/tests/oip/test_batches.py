"""A long batch as columns is answered, item by item, as one answer after the other would be; only quicker."""

import math
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from pinn_inference import assembly
from pinn_inference.assembly import Model
from pinn_inference.engines.protocol import Evaluated
from pinn_inference.errors import EngineError, InvalidInput, PredictionError
from pinn_inference.fallback import SOLVED
from pinn_inference.monitoring import Metrics
from pinn_inference.oip import batches
from pinn_inference.oip.datatypes import Raw
from pinn_inference.oip.inference import WORTH_IT, Call, Result, infer
from pinn_inference.oip.tensors import Asked, Given
from pinn_inference.predictor import Predictor
from pinn_inference.settings import Settings

from ..turns import Shared, each_turn  # noqa: TID252 - the tests are no package with a name of their own
from .asked import raw

COUNT = 700
NAMES = ("price", "delta", "gamma", "vega", "theta", "rho")


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def model(models: Path, metrics: Metrics) -> AsyncIterator[Model]:
    settings = Settings(models_dir=models, engine="litert", log_format="json")
    found = assembly.load(assembly.fetch(settings), settings, metrics)
    yield found
    await found.engines.close()


def columns(seed: int = 1, count: int = COUNT) -> dict[str, list[Any]]:
    """Options of both kinds; now and then one beyond the trained ranges, within those of the solver."""
    rng = np.random.default_rng(seed)
    strike = rng.choice([50.0, 100.0, 105.0], count)
    volatility = np.where(rng.random(count) < 0.05, 0.9, rng.uniform(0.05, 0.6, count))
    return {
        "spot": (strike * rng.uniform(0.5, 2.0, count)).tolist(),
        "strike": strike.tolist(),
        "maturity": rng.uniform(0.02, 2.0, count).tolist(),
        "rate": rng.uniform(0.0, 0.1, count).tolist(),
        "volatility": volatility.tolist(),
        "kind": rng.choice(["call", "put"], count).tolist(),
    }


def given(tensors: dict[str, list[Any]]) -> list[Given]:
    found = []
    for name, data in tensors.items():
        kind = "BYTES" if isinstance(data[0], str) else "FP64"
        found.append(Given(name, kind, [len(data)], Raw(raw(kind, data))))
    return found


def asked(model: Model, tensors: dict[str, list[Any]]) -> Asked:
    return model.tensors.asked(given(tensors), 10_000)


async def compared(predictor: Predictor, questions: Asked) -> None:
    """By columns, and one after the other."""
    items = await batches.answered(predictor, questions)
    answers = await predictor.many(questions.questions(), exact=True)
    assert items.values is not None
    assert items.bounds is not None
    assert [(a.method, a.engine, a.reason) for a in items.answers] == [(a.method, a.engine, a.reason) for a in answers]
    np.testing.assert_allclose(items.values.T, [a.values for a in answers], rtol=1e-9, atol=1e-9)
    bounds = [[math.nan] * len(NAMES) if a.bounds is None else a.bounds for a in answers]
    np.testing.assert_allclose(items.bounds.T, bounds, rtol=1e-6, atol=1e-12)
    plain = await batches.answered(predictor, questions, bounded=False)
    assert plain.bounds is None
    assert plain.values is not None
    np.testing.assert_allclose(plain.values, items.values, rtol=1e-12, atol=1e-12)
    assert [(a.method, a.reason) for a in plain.answers] == [(a.method, a.reason) for a in answers]
    assert items.alike + len(items.different) - 1 == len(answers)
    assert {id(a) for a in items.different} == {id(a) for a in items.answers}


@pytest.mark.parametrize("seed", range(3))
async def test_a_batch_is_answered_as_its_items_are(model: Model, seed: int) -> None:
    await compared(model.predictor, asked(model, columns(seed)))


@pytest.mark.parametrize("name", ["american-put", "burgers"])
async def test_other_equations_are_answered_so_too(models: Path, metrics: Metrics, name: str) -> None:
    """Plain numbers, no choices; beyond the ranges here and there, as far as their solvers go."""
    settings = Settings(
        models_dir=models, model_name=name, model_version="1.0.0", engine="litert", timeout=60.0, log_format="json"
    )
    model = assembly.load(assembly.fetch(settings), settings, metrics)
    problem = model.predictor.problem
    points = problem.sample(200, np.random.default_rng(4))
    rows = np.array(points)[:, : len(problem.inputs)]
    tensors = {field.name: column for field, column in zip(problem.inputs, rows.T.tolist(), strict=True)}
    items = await batches.answered(model.predictor, asked(model, tensors))
    answers = await model.predictor.many(asked(model, tensors).questions(), exact=True)
    assert items.values is not None
    assert [a.method for a in items.answers] == [a.method for a in answers]
    np.testing.assert_allclose(items.values.T, [a.values for a in answers], rtol=1e-6, atol=1e-9)
    described = model.tensors.described()
    assert [tensor["name"] for tensor in described["inputs"]] == [field.name for field in problem.inputs]
    assert [tensor["name"] for tensor in described["outputs"]] == list(problem.outputs)
    await model.engines.close()


async def test_what_is_absent_has_its_default(model: Model) -> None:
    tensors = columns()
    del tensors["kind"]
    await compared(model.predictor, asked(model, tensors))


async def test_kinds_may_lie_in_any_order_and_some_only_outside(model: Model) -> None:
    """The only put is beyond the trained range: no item of the batch that the model answers is one."""
    tensors = columns() | {"kind": ["call"] * COUNT, "volatility": [0.2] * COUNT}
    tensors["kind"][3], tensors["volatility"][3] = "put", 0.9
    await compared(model.predictor, asked(model, tensors))
    tensors["volatility"][3] = 0.2
    await compared(model.predictor, asked(model, tensors))


@hypothesis.given(codes=st.lists(st.integers(0, 9), min_size=1, max_size=50))
def test_codes_are_numbered_as_by_sorting(codes: list[int]) -> None:
    which, first = batches._numbered(np.array(codes), 10)
    _, wanted_first, wanted = np.unique(codes, return_index=True, return_inverse=True)
    assert which.tolist() == wanted.tolist()
    assert first.tolist() == wanted_first.tolist()


async def test_a_batch_that_is_all_beyond_the_ranges_is_solved(model: Model) -> None:
    await compared(model.predictor, asked(model, columns() | {"volatility": [0.9] * COUNT}))


async def test_the_ends_of_the_ranges_belong_to_them(model: Model) -> None:
    tensors = columns() | {"rate": [0.1, 0.0] * (COUNT // 2), "volatility": [0.6, 0.05] * (COUNT // 2)}
    tensors["spot"] = [2.0 * strike if i % 2 else 0.5 * strike for i, strike in enumerate(tensors["strike"])]
    items = await batches.answered(model.predictor, asked(model, tensors))
    assert {answer.method for answer in items.answers} == {"model"}


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, 1e300])
async def test_one_bad_item_refuses_all_and_is_named(model: Model, value: float) -> None:
    tensors = columns()
    tensors["volatility"][321] = value
    with pytest.raises(InvalidInput, match=r"^item 321: volatility"):
        await batches.answered(model.predictor, asked(model, tensors))


class Failing:
    """Engines that cannot, or whose answers are no good here and there."""

    def __init__(self, inner: Any, spoil: bool) -> None:
        self._inner, self._spoil = inner, spoil
        self.name, self.few = inner.name, inner.few

    async def jets(self, points: Any, deadline_s: float) -> Evaluated:
        if not self._spoil:
            raise EngineError("the device is gone", "gpu_error")
        done = await self._inner.jets(points, deadline_s)
        jets = done.jets.copy()
        jets[:, ::50] = math.nan
        jets[0, 1::50] = 1e6
        return Evaluated(jets, "xla", "gpu_oom")


def broken(model: Model, spoil: bool, solver: bool = True) -> Predictor:
    predictor = model.predictor
    engines: Any = Failing(predictor.evaluation.engines, spoil)
    fallback = replace(predictor.fallback, solver=solver)
    return replace(predictor, evaluation=replace(predictor.evaluation, engines=engines), fallback=fallback)


async def test_what_the_engine_cannot_answer_or_may_not_is_solved_with_the_reason(model: Model) -> None:
    """What breaks an invariant is found by place; an engine that is not the first choice is said with all that it answers."""
    for spoil, reasons in ((False, {"gpu_error", "out_of_domain"}), (True, SPOILED)):
        predictor = broken(model, spoil)
        items = await batches.answered(predictor, asked(model, columns()))
        assert {answer.reason for answer in items.answers} == reasons
        await compared(predictor, asked(model, columns()))


SPOILED = {"non_finite", "physics_violation", "out_of_domain", "gpu_oom"}


class Nonsense(Failing):
    """Engines of which no answer may be sent."""

    async def jets(self, points: Any, deadline_s: float) -> Evaluated:
        return Evaluated(np.full((4, len(points)), math.nan), "xla")


@pytest.mark.parametrize("kind", [Failing, Nonsense])
async def test_a_batch_for_the_solver_gives_way_to_others(model: Model, kind: type[Failing]) -> None:
    predictor, shared = broken(model, False), Shared()
    engines: Any = kind(predictor.evaluation.engines, False)
    fallback = replace(predictor.fallback, solve=shared.noted(predictor.fallback.solve))
    evaluation = replace(predictor.evaluation, engines=engines)
    inside = columns() | {"volatility": [0.2] * COUNT}
    async with each_turn(shared.other):
        await batches.answered(replace(predictor, evaluation=evaluation, fallback=fallback), asked(model, inside))
    assert sum(shared.runs) == COUNT
    assert max(shared.runs) <= SOLVED


async def test_where_no_solver_may_answer_that_is_an_error_of_ours_or_the_callers(model: Model) -> None:
    inside = columns() | {"volatility": [0.2] * COUNT}
    for spoil in (False, True):
        with pytest.raises(PredictionError):
            await batches.answered(broken(model, spoil, solver=False), asked(model, inside))
    with pytest.raises(InvalidInput, match=r"volatility is 0\.9, outside the range"):
        await batches.answered(broken(model, True, solver=False), asked(model, columns()))


async def answer(model: Model, metrics: Metrics, tensors: dict[str, list[Any]], *outputs: str) -> Result:
    call = Call(given(tensors), outputs or None, {"exact": True})
    return await infer(model.tensors, call, 10_000, metrics, "live")


async def test_an_inference_by_columns_is_counted_and_said_as_any_other(models: Path) -> None:
    """The same batch short enough to be answered one after the other, and long."""
    metrics = Metrics()
    settings = Settings(models_dir=models, engine="litert", log_format="json")
    model = assembly.load(assembly.fetch(settings), settings, metrics)
    tensors = {name: data * 10 for name, data in columns(count=COUNT // 10).items()}
    outputs = (*NAMES, "method", "reason", "error_bound.price")
    long = await answer(model, metrics, tensors, *outputs)
    counted = dict(metrics.items.counts), dict(metrics.fallbacks.counts), dict(metrics.fallback_calls.counts)
    short = [await answer(model, metrics, {n: d[i::20] for n, d in tensors.items()}, *outputs) for i in range(20)]
    assert max(result.items for result in short) < WORTH_IT <= long.items
    solved = sum(volatility > 0.6 for volatility in tensors["volatility"])
    assert counted[0]["solver", "live"] == solved
    assert counted[0]["model", "live"] == COUNT - solved
    assert counted[1]["out_of_domain", "live"] == counted[2]["live",] == 1
    assert metrics.hits.counts["live",] == metrics.misses.counts["live",] == 0
    assert long.made == "solver"
    assert long.parameters == {"method": "solver", "engine": "reference", "reason": "out_of_domain"}
    by_name = {column.name: column for column in long.columns}
    assert [by_name[name].datatype for name in outputs] == ["FP64"] * 6 + ["BYTES"] * 2 + ["FP64"]
    for result, start in zip(short, range(20), strict=True):
        for column in result.columns:
            values = list(by_name[column.name].values)[start::20]
            expected = pytest.approx(list(column.values), rel=1e-6) if column.datatype == "FP64" else column.values
            assert values == expected, column.name
    await model.engines.close()
