"""The path of a question: the real formulas and error table, with engines that do what the test wants."""

import asyncio
import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pinn_inference.bins import Bins, chosen
from pinn_inference.cache import ResultCache
from pinn_inference.engines import Array, Jet
from pinn_inference.engines.float64 import Float64Engine
from pinn_inference.engines.litert import LiteRtEngine
from pinn_inference.engines.protocol import Evaluated
from pinn_inference.errors import EngineError, InvalidInput, OutOfDomain, PredictionError
from pinn_inference.evaluation import CHUNK, Answer, Evaluation
from pinn_inference.fallback import SOLVED, Fallback
from pinn_inference.gathering import WORTH_IT, Gathering
from pinn_inference.predictor import Predictor
from pinn_inference.problems import black_scholes, error_table
from pinn_inference.problems.black_scholes import BINS, INPUTS, INVARIANTS, OUTPUTS, Formulation

from . import formula
from .turns import Shared, each_turn

OPTION: dict[str, Any] = {"spot": 100.0, "strike": 105.0, "maturity": 0.5, "rate": 0.03, "volatility": 0.2}
MODEL = Path(__file__).parents[2] / "models/black-scholes/2.0.0"


class Counting:
    """An engine that counts the points it evaluates, and can be told to fail."""

    name = "counting"
    here = True

    def __init__(self, engine: Any = None, answer: Jet | None = None, fail: Exception | None = None) -> None:
        self.points = 0
        self.fail = fail
        self._engine, self._answer = engine, answer

    def jet(self, *at: float) -> Jet:
        self.points += 1
        if self.fail:
            raise self.fail
        return self._answer or self._engine.jet(*at)

    def few(self, points: Array) -> Array:
        self.points += len(points)
        if self.fail:
            raise self.fail
        if self._answer:
            return np.tile(np.array(self._answer)[:, None], (1, len(points)))
        jets: Array = self._engine.jets(points)
        return jets

    async def jets(self, points: Array, deadline_s: float) -> Evaluated:
        await asyncio.sleep(0.01)  # as a worker process would: others come in between
        return Evaluated(self.few(points), self.name)


class Observer:
    def __init__(self) -> None:
        self.seen: dict[str, int] = {}

    def violated(self, invariant: str, count: int) -> None:
        self.seen[invariant] = self.seen.get(invariant, 0) + count


@pytest.fixture(scope="module")
def litert() -> LiteRtEngine:
    return LiteRtEngine((MODEL / "model.tflite").read_bytes())


@pytest.fixture(scope="module")
def float64() -> Float64Engine:
    return Float64Engine((MODEL / "weights.npz").read_bytes())


def _predictor(
    engines: Counting, *, cache: int = 1000, solver: bool = True, tolerance: float = 1e-3, table: bool = True
) -> Predictor:
    known = error_table.parse((MODEL / "errors.npz").read_bytes()) if table else None
    problem = Formulation(INPUTS, known)
    evaluation = Evaluation(
        problem=problem,
        engines=engines,
        tolerances=dict.fromkeys(INVARIANTS, tolerance),
        observer=Observer(),
        bins=Bins(chosen(INPUTS, BINS, {})),
        cache=ResultCache(cache, 1 << 24) if cache else None,
    )
    fallback = Fallback(problem.solve, problem.solvable, solver)
    return Predictor(evaluation, fallback, Gathering(evaluation.one, evaluation.few))


def _ask(predictor: Predictor, **changes: Any) -> Any:
    return predictor.problem.Question(**{**OPTION, **changes})


def _one(predictor: Predictor, exact: bool = False, **changes: Any) -> Answer:
    async def ask() -> Answer:
        return await predictor.one(_ask(predictor, **changes), exact)

    return asyncio.run(ask())


def _many(predictor: Predictor, items: list[dict[str, Any]], exact: bool = False) -> list[Answer]:
    return asyncio.run(predictor.many([_ask(predictor, **item) for item in items], exact))


def _price(**changes: Any) -> float:
    item = {**OPTION, **changes}
    call = item.get("kind", "call") == "call"
    spot, strike, t, r, vol = (np.float64(item[name]) for name in OPTION)
    return float(formula.price(spot, strike, t, r, np.float64(item.get("dividend_yield", 0.0)), vol, np.array(call)))


# ------------------------------------------------------------------------------------------------- cache


def test_the_second_question_of_a_bin_is_answered_without_the_engine(litert: LiteRtEngine) -> None:
    engines = Counting(litert)
    predictor = _predictor(engines)
    first, second = _one(predictor), _one(predictor, volatility=0.2001)
    assert (first.method, second.method, engines.points) == ("model", "cache", 1)
    assert second.values[0] == pytest.approx(_price(volatility=0.2001), abs=1e-5)
    assert second.values[0] != first.values[0]


def _at_once(predictor: Predictor, items: list[dict[str, Any]]) -> list[Answer]:
    async def ask() -> list[Answer]:
        return await asyncio.gather(*(predictor.one(_ask(predictor, **item)) for item in items))

    return asyncio.run(ask())


@pytest.mark.parametrize("count", [WORTH_IT - 1, WORTH_IT, CHUNK + 3])
def test_who_asks_at_once_gets_what_each_would_get_alone(litert: LiteRtEngine, count: int) -> None:
    items = _random_items(count)
    together = _at_once(_predictor(Counting(litert)), items)
    apart = _predictor(Counting(litert))
    for item, answer in zip(items, together, strict=True):
        alone = _one(apart, **item)
        assert answer.method == alone.method
        assert answer.values == pytest.approx(alone.values, rel=1e-5, abs=1e-5 * item["strike"])


def test_the_same_bin_asked_by_many_at_once_is_evaluated_once(litert: LiteRtEngine) -> None:
    engines = Counting(litert)
    answers = _at_once(_predictor(engines), [{}] * (2 * WORTH_IT))
    assert engines.points == 1
    assert len({answer.values[0] for answer in answers}) == 1


def test_one_that_has_no_answer_takes_nobody_with_it(litert: LiteRtEngine) -> None:
    answers = _at_once(_predictor(Counting(litert)), [{}] * WORTH_IT + [{"maturity": 5.0}])
    assert [answer.method for answer in answers] == ["model"] * WORTH_IT + ["solver"]


def test_all_who_asked_at_once_are_solved_when_the_engine_fails() -> None:
    predictor = _predictor(Counting(fail=EngineError("broken", "model_error")))
    answers = _at_once(predictor, [{"spot": 90.0 + i} for i in range(2 * WORTH_IT)])
    assert {(answer.method, answer.reason) for answer in answers} == {("solver", "model_error")}


def test_a_put_is_answered_from_the_bin_of_its_call(litert: LiteRtEngine) -> None:
    predictor = _predictor(Counting(litert))
    _one(predictor)
    put = _one(predictor, kind="put")
    assert put.method == "cache"
    assert put.values[0] == pytest.approx(_price(kind="put"), abs=1e-5)


def test_an_answer_does_not_depend_on_who_asked_before(litert: LiteRtEngine) -> None:
    alone = _one(_predictor(Counting(litert)))
    crowded = _predictor(Counting(litert))
    for step in range(-3, 4):
        _one(crowded, volatility=0.2 + step * 1e-4)
    assert _one(crowded).values == alone.values


def test_another_models_cache_cannot_answer(litert: LiteRtEngine) -> None:
    one, other = _predictor(Counting(litert)), _predictor(Counting(litert))
    _one(one)
    assert _one(other).method == "model"


def test_exact_goes_past_the_cache_both_ways(litert: LiteRtEngine) -> None:
    engines = Counting(litert)
    predictor = _predictor(engines)
    assert [_one(predictor, exact=True).method for _ in range(2)] == ["model", "model"]
    assert (engines.points, len(predictor.cache or ())) == (2, 0)


def test_with_size_0_everything_is_evaluated(litert: LiteRtEngine) -> None:
    engines = Counting(litert)
    predictor = _predictor(engines, cache=0)
    assert [_one(predictor).method for _ in range(2)] == ["model", "model"]
    assert engines.points == 2


def test_where_a_bin_says_too_little_the_question_is_evaluated(litert: LiteRtEngine) -> None:
    wide = _predictor(Counting(litert))
    object.__setattr__(wide.evaluation, "bins", Bins(chosen(INPUTS, BINS, {"volatility": (0.9, True)})))
    answers = [_one(wide, volatility=0.26) for _ in range(2)]
    assert [answer.method for answer in answers] == ["model", "model"]
    assert answers[1].values == _one(wide, exact=True, volatility=0.26).values


def test_lists_that_want_the_same_bins_at_the_same_time_evaluate_them_once(litert: LiteRtEngine) -> None:
    engines = Counting(litert)
    predictor = _predictor(engines)
    items = [{"spot": 90.0 + i} for i in range(40)]

    async def all_at_once() -> list[list[Answer]]:
        questions = [_ask(predictor, **item) for item in items]
        return await asyncio.gather(*(predictor.many(questions) for _ in range(5)))

    lists = asyncio.run(all_at_once())
    assert engines.points == 40
    assert [answer.values for answer in lists[0]] == [answer.values for answer in lists[4]]


def test_who_waited_for_a_list_that_failed_evaluates_for_itself(litert: LiteRtEngine) -> None:
    engines = Counting(litert, fail=EngineError("broken", "gpu_error"))
    predictor = _predictor(engines)

    async def both() -> list[list[Answer]]:
        first = asyncio.create_task(predictor.many([_ask(predictor)]))
        second = asyncio.create_task(predictor.many([_ask(predictor)]))
        return [await first, await second]

    assert [answers[0].reason for answers in asyncio.run(both())] == ["gpu_error", "gpu_error"]
    assert engines.points == 2


def test_a_list_goes_through_the_cache_and_equal_bins_are_evaluated_once(litert: LiteRtEngine) -> None:
    engines = Counting(litert)
    predictor = _predictor(engines)
    spots = [{"spot": 100 + 5 * (i % 10)} for i in range(30)]
    answers = _many(predictor, spots)
    assert engines.points == 10
    assert {answer.method for answer in answers} == {"model"}
    assert {answer.method for answer in _many(predictor, spots)} == {"cache"}
    assert engines.points == 10
    for item, answer in zip(spots, answers, strict=True):
        assert answer.values == pytest.approx(_one(predictor, spot=item["spot"]).values, abs=1e-9)


# ---------------------------------------------------------------------------------------------- bounds


def _random_items(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(20261122)
    items = []
    for _ in range(count):
        strike = float(10 ** rng.uniform(-2, 4))
        items.append(
            {
                "spot": strike * float(rng.uniform(0.5001, 1.9999)),
                "strike": strike,
                "maturity": float(rng.uniform(0.02, 2)),
                "rate": float(rng.uniform(0, 0.1)),
                "dividend_yield": float(rng.uniform(0, 0.1)),
                "volatility": float(rng.uniform(0.05, 0.6)),
                "kind": str(rng.choice(["call", "put"])),
            }
        )
    return items


@pytest.mark.parametrize("exact", [True, False])
def test_no_answer_is_farther_from_the_truth_than_it_says(litert: LiteRtEngine, exact: bool) -> None:
    items = _random_items(5000)
    answers = _many(_predictor(Counting(litert), cache=10_000), items, exact)
    columns = {name: np.array([item[name] for item in items]) for name in items[0]}
    call = columns["kind"] == "call"
    names = ("spot", "strike", "maturity", "rate", "dividend_yield", "volatility")
    spot, strike, t, r, q, vol = (columns[name] for name in names)
    truth = {
        "price": formula.price(spot, strike, t, r, q, vol, call),
        **formula.greeks(spot, strike, t, r, q, vol, call),
    }
    for place, name in enumerate(OUTPUTS):
        error = np.array([abs(a.values[place] - t) for a, t in zip(answers, truth[name], strict=True)])
        bound = np.array([a.bounds[place] for a in answers if a.bounds is not None])
        assert len(bound) == len(error)
        assert (error <= bound).all(), name
        assert np.median(bound / np.maximum(error, 1e-300)) < 30


def test_without_an_error_table_no_bound_is_claimed_and_nothing_comes_from_a_bin(litert: LiteRtEngine) -> None:
    predictor = _predictor(Counting(litert), table=False)
    assert _one(predictor).bounds is None
    assert [_one(predictor).method for _ in range(2)] == ["model", "model"]


# -------------------------------------------------------------------------------------------- fallback


def test_outside_the_trained_domain_the_solver_answers_and_says_why(litert: LiteRtEngine) -> None:
    answer = _one(_predictor(Counting(litert)), maturity=5.0)
    assert (answer.method, answer.engine, answer.reason) == ("solver", "reference", "out_of_domain")
    assert answer.values[0] == pytest.approx(_price(maturity=5.0), abs=1e-9)


def test_outside_the_trained_domain_without_the_solver_is_refused_by_name(litert: LiteRtEngine) -> None:
    with pytest.raises(OutOfDomain, match=r"^maturity is 5\.0, outside the range"):
        _one(_predictor(Counting(litert), solver=False), maturity=5.0)


def test_where_the_solver_cannot_answer_either_the_question_is_refused_by_name(litert: LiteRtEngine) -> None:
    with pytest.raises(InvalidInput, match=r"^volatility is -1\.0, which the reference solver does not take"):
        _one(_predictor(Counting(litert)), volatility=-1.0)


@pytest.mark.parametrize("reason", ["gpu_oom", "gpu_error", "model_error", "timeout"])
@pytest.mark.parametrize("cache", [0, 1000])
def test_an_engine_that_fails_leaves_the_solver_to_answer(reason: str, cache: int) -> None:
    predictor = _predictor(Counting(fail=EngineError("broken", reason)), cache=cache)
    answers = [_one(predictor), _one(predictor, exact=True), *_many(predictor, [{}, {"spot": 90.0}])]
    assert {(a.method, a.reason) for a in answers} == {("solver", reason)}
    assert answers[-1].values[0] == pytest.approx(_price(spot=90.0), abs=1e-9)


def test_an_engine_that_fails_without_the_solver_is_an_error_of_its_reason() -> None:
    predictor = _predictor(Counting(fail=EngineError("broken", "gpu_oom")), solver=False)
    with pytest.raises(PredictionError) as caught:
        _one(predictor)
    assert caught.value.error_type == "gpu_oom"
    with pytest.raises(PredictionError):
        _many(predictor, [{}])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_answer_that_is_no_number_is_never_sent(bad: float) -> None:
    engines = Counting(answer=(0.0, 0.0, bad, 0.0))
    answers = [
        _one(_predictor(engines)),
        *_many(_predictor(engines), [{}]),
        *_many(_predictor(engines), [{}], exact=True),
    ]
    answers += _at_once(_predictor(engines), [{}] * WORTH_IT)
    assert {(answer.method, answer.reason) for answer in answers} == {("solver", "non_finite")}
    with pytest.raises(PredictionError) as caught:
        _one(_predictor(engines, solver=False))
    assert caught.value.error_type == "non_finite"


def test_an_answer_that_breaks_physics_is_counted_not_cached_and_solved() -> None:
    engines = Counting(answer=(50.0, 0.0, -900.0, 0.0))
    predictor = _predictor(engines, tolerance=1e-6)
    alone = _one(predictor)
    assert (alone.method, alone.reason) == ("solver", "physics_violation")
    seen = dict(predictor.evaluation.observer.seen)  # type: ignore[attr-defined]  # the double above
    assert {"pde_residual", "gamma_sign"} <= set(seen)
    assert len(predictor.cache or ()) == 0
    answers = _many(predictor, [{"spot": 100.0 + i} for i in range(7)])
    assert {(a.method, a.reason) for a in answers} == {("solver", "physics_violation")}
    assert predictor.evaluation.observer.seen["gamma_sign"] == 8  # type: ignore[attr-defined]


def test_an_answer_within_tolerance_counts_no_violation(litert: LiteRtEngine) -> None:
    predictor = _predictor(Counting(litert))
    _one(predictor)
    assert predictor.evaluation.observer.seen == {}  # type: ignore[attr-defined]


# ----------------------------------------------------------------------------------------------- lists


def test_items_outside_the_domain_are_solved_among_the_others(litert: LiteRtEngine) -> None:
    answers = _many(_predictor(Counting(litert)), [{}, {"maturity": 5.0}, {"spot": 90.0}])
    assert [answer.method for answer in answers] == ["model", "solver", "model"]
    assert answers[1].values[0] == pytest.approx(_price(maturity=5.0), abs=1e-9)
    assert answers[2].values[0] == pytest.approx(_price(spot=90.0), abs=1e-5)


def test_a_bad_item_is_named_by_its_place_beyond_the_first_chunk_too(litert: LiteRtEngine) -> None:
    predictor = _predictor(Counting(litert))
    with pytest.raises(InvalidInput, match=f"^item {CHUNK + 3}: volatility is -1"):
        _many(predictor, [{}] * (CHUNK + 3) + [{"volatility": -1.0}])


def test_a_long_list_gives_way_to_others(litert: LiteRtEngine) -> None:
    async def both() -> list[str]:
        order: list[str] = []
        predictor = _predictor(Counting(litert))

        async def long() -> None:
            await predictor.many([_ask(predictor)] * (4 * CHUNK))
            order.append("long")

        async def short() -> None:
            order.append("short")

        await asyncio.gather(long(), short())
        return order

    assert asyncio.run(both()) == ["short", "long"]


def _wide(engines: Counting) -> Predictor:
    """One whose bins are so wide in volatility that only what is near a centre is answered from them."""
    predictor = _predictor(engines)
    object.__setattr__(predictor.evaluation, "bins", Bins(chosen(INPUTS, BINS, {"volatility": (0.9, True)})))
    return predictor


def _at_a_centre(predictor: Predictor) -> dict[str, Any]:
    """An option in the middle of its bin."""
    bins = predictor.evaluation.bins
    point = predictor.problem.point(_ask(predictor))
    centre = predictor.problem.at(bins.centre(bins.index(point)), point)
    return {name: getattr(centre, name) for name in OPTION}


def test_what_no_bin_can_answer_of_a_list_is_evaluated_together(
    litert: LiteRtEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines, alone = Counting(litert), _predictor(Counting(litert), cache=0)
    monkeypatch.setattr(engines, "jet", lambda *_: pytest.fail("one by one they would hold everybody up"))
    predictor = _wide(engines)
    items = [{"volatility": 0.26, "spot": 80.0 + i / 20} for i in range(2 * CHUNK)] + [_at_a_centre(predictor)]
    answers = _many(predictor, items)
    assert {answer.method for answer in answers} == {"model"}
    for item, answer in zip(items, answers, strict=True):
        assert answer.values == pytest.approx(_one(alone, **item).values, rel=1e-5, abs=1e-3)


class Tiring(Counting):
    """Evaluates one batch, and fails at the next."""

    async def jets(self, points: Array, deadline_s: float) -> Evaluated:
        done = await super().jets(points, deadline_s)
        self.fail = EngineError("tired", "timeout")
        return done


def test_what_bins_have_answered_stays_when_the_rest_cannot_be_evaluated(litert: LiteRtEngine) -> None:
    predictor = _wide(Tiring(litert))
    answers = _many(predictor, [{"volatility": 0.26}, _at_a_centre(predictor), {"volatility": 0.261}])
    assert [(answer.method, answer.reason) for answer in answers] == [
        ("solver", "timeout"),
        ("model", None),
        ("solver", "timeout"),
    ]


@pytest.mark.parametrize(
    ("fail", "item"),
    [(EngineError("broken", "gpu_error"), {}), (None, {"maturity": 5.0})],
    ids=["the engine fails", "out of the domain"],
)
async def test_a_list_for_the_solver_gives_way_to_others(
    litert: LiteRtEngine, fail: Exception | None, item: dict[str, Any]
) -> None:
    predictor, shared = _predictor(Counting(litert, fail=fail)), Shared()
    predictor.fallback.solve = shared.noted(predictor.fallback.solve)
    async with each_turn(shared.other):
        await predictor.many([_ask(predictor, **item, spot=90.0 + i / 100) for i in range(5 * SOLVED)])
    assert sum(shared.runs) == 5 * SOLVED
    assert max(shared.runs) <= SOLVED


# -------------------------------------------------------------------------------------- the slow solver


@pytest.fixture
def clock() -> Iterator[Callable[[], float]]:
    now = [0.0]

    def read() -> float:
        return now[0]

    read.now = now  # type: ignore[attr-defined]
    return read  # type: ignore[return-value]


async def test_the_same_question_of_a_slow_solver_is_solved_once_and_kept_for_a_while(clock: Any) -> None:
    import threading

    calls, go = [], threading.Event()

    def solve(point: Any) -> Any:
        calls.append(point)
        go.wait(5)
        return (point[0],), (0.0,)

    fallback = Fallback(solve, lambda point: None, slow=True, clock=clock)
    cause = EngineError("broken", "gpu_error")
    asked = [asyncio.create_task(fallback((1.0, 2.0), "gpu_error", cause)) for _ in range(5)]
    await asyncio.sleep(0)
    go.set()
    assert set(await asyncio.gather(*asked)) == {((1.0,), (0.0,))}
    await fallback((1.0, 2.0), "gpu_error", cause)
    assert len(calls) == 1
    clock.now[0] = 11.0
    await fallback((1.0, 2.0), "gpu_error", cause)
    assert len(calls) == 2
    fallback.close()


def test_the_formulation_knows_its_own_names() -> None:
    assert black_scholes.Formulation.outputs == OUTPUTS


# ------------------------------------------------------------------- a model that another process evaluates


class Far(Counting):
    """Evaluates nothing at once: whoever asks for that gets an error."""

    name = "far"
    here = False

    def __init__(self, engine: Any, fail: Exception | None = None) -> None:
        super().__init__(None, None, fail)
        self._there = Counting(engine)

    def jet(self, *at: float) -> Jet:
        raise AssertionError("nothing is evaluated in this process")

    def few(self, points: Array) -> Array:
        raise AssertionError("nothing is evaluated in this process")

    async def jets(self, points: Array, deadline_s: float) -> Evaluated:
        await asyncio.sleep(0)
        if self.fail:
            raise self.fail
        return Evaluated(self._there.few(points), self.name)


def _far_predictor(engines: Far, *, solver: bool = True) -> Predictor:
    near = _predictor(engines, solver=solver)
    return dataclasses.replace(near, gathering=near.evaluation.asked)


async def test_a_model_that_another_process_evaluates_answers_the_same_from_the_same_bins(litert: LiteRtEngine) -> None:
    near, far = _predictor(Counting(litert)), _far_predictor(Far(litert))
    points = near.problem.sample(60, np.random.default_rng(8))
    for point in [*points, *points[:20]]:  # some are too far from their bin's centre, some come back
        here, there = near.evaluation.one(point), await far.gathering(point)
        assert (here.method, far.evaluation.engines.name) == (there.method, there.engine)
        np.testing.assert_allclose(here.values, there.values, rtol=1e-6, atol=1e-7)
    assert {answer.method for answer in await far.all_at(points)} <= {"cache", "model"}
    exact = await far.all_at(points, exact=True)
    assert {answer.method for answer in exact} == {"model"}


async def test_while_that_process_is_away_the_solver_answers_and_says_why(litert: LiteRtEngine) -> None:
    predictor = _far_predictor(Far(litert, fail=EngineError("the worker is gone", "model_error")))
    point = predictor.problem.sample(1, np.random.default_rng(8))[0]
    (answer,) = await predictor.all_at([point])
    assert (answer.method, answer.reason) == ("solver", "model_error")
    with pytest.raises(EngineError, match="the worker is gone"):
        await predictor.gathering(point)


# ----------------------------------------------------------------------------- formulas that have no number


class Broken(Formulation):
    """Formulas of somebody's own, which `math` and NumPy take differently: of this option there is none."""

    def excesses(self, point: Any, answer: Any) -> dict[str, Any]:
        """NaN for many, an error for one."""
        found = super().excesses(point, answer)
        if isinstance(answer[0], np.ndarray):
            return {**found, "vega_sign": np.where(point.volatility == 0.25, np.nan, found["vega_sign"])}
        return {**found, "vega_sign": 0.0 / (point.volatility - 0.25)}


@pytest.mark.parametrize("exact", [False, True])
def test_an_invariant_that_is_no_number_is_not_kept_be_it_of_one_or_of_many(litert: LiteRtEngine, exact: bool) -> None:
    predictor = _predictor(Counting(litert), cache=0)
    broken = Broken(INPUTS, None)
    object.__setattr__(predictor.evaluation, "problem", broken)
    one, (listed, sound) = (
        _one(predictor, exact, volatility=0.25),
        _many(predictor, [{"volatility": 0.25}, {"volatility": 0.3}], exact),
    )
    assert (one.method, one.reason) == ("solver", "non_finite")
    assert (listed.method, listed.reason) == ("solver", "physics_violation")
    assert sound.method == "model"


def test_a_physics_check_that_says_nan_lets_nothing_pass(litert: LiteRtEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = _predictor(Counting(litert))
    monkeypatch.setattr(Formulation, "excesses", lambda _, __, answer: dict.fromkeys(INVARIANTS, answer[0] * math.nan))
    assert _one(predictor).reason == "physics_violation"
    assert {answer.reason for answer in _many(predictor, [{}, {"volatility": 0.3}])} == {"physics_violation"}
