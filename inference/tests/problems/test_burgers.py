"""Burgers: the solver against a series that shares nothing with it, the ansatz, the invariants, and the shipped model."""

import asyncio
import json
import math
import sys
from collections.abc import Iterator
from decimal import Decimal, localcontext
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinn_inference import assembly, settings
from pinn_inference.artifacts import manifest as manifests
from pinn_inference.assembly import Model
from pinn_inference.engines import Engine
from pinn_inference.engines.float64 import Float64Engine
from pinn_inference.engines.litert import LiteRtEngine
from pinn_inference.errors import InvalidInput, ModelError, OutOfDomain
from pinn_inference.monitoring import Metrics
from pinn_inference.problems import burgers
from pinn_inference.problems.burgers import Burgers, Wave
from pinn_inference.problems.ranged import Ranged

from .. import process  # noqa: TID252 - the tests are no package with a name of its own
from ..process import ServerProcess, run  # noqa: TID252 - as above
from ..rewritten import rewritten  # noqa: TID252 - as above

PROBLEM = Burgers(Burgers.domain, None)
CRITICAL = 0.01 / math.pi
"""The viscosity this problem is usually posed with."""

DIGITS = 350
"""The series cancels all but one part in exp(1/(pi nu)): 1e138 at the smallest viscosity."""

xs, ts, viscosities = st.floats(-1, 1), st.floats(0, 1), st.floats(0.003, 0.1)
jets = st.tuples(*[st.floats(-3, 3)] * 5)


def _point(x: float, t: float, viscosity: float) -> Any:
    return PROBLEM.Point(x, t, viscosity)


# ------------------------------------------------------------------------------------------------- the solver


def _pi() -> Decimal:
    """By Machin's formula."""

    def arctangent_of_one_over(number: int) -> Decimal:
        power = total = 1 / Decimal(number)
        n = 1
        while abs(power) > Decimal(10) ** -DIGITS:
            power /= -number * number
            n += 2
            total += power / n
        return total

    return 4 * (4 * arctangent_of_one_over(5) - arctangent_of_one_over(239))


def _sine_and_cosine(x: Decimal) -> tuple[Decimal, Decimal]:
    term, sums, n = Decimal(1), [Decimal(0), Decimal(0)], 0
    while abs(term) > Decimal(10) ** -DIGITS:
        sums[n % 2] += term * (-1) ** (n // 2)
        n += 1
        term = term * x / n
    return sums[1], sums[0]


def _bessel(z: Decimal, count: int) -> list[Decimal]:
    """I_0(z), I_1(z), ... by the recurrence downwards, their sum being exp(z)."""
    found = [Decimal(0), Decimal(1)]
    for n in range(count + 150, 0, -1):
        found.append(found[-2] + 2 * n / z * found[-1])
    found.reverse()
    scale = z.exp() / (found[0] + 2 * sum(found[1:]))
    return [value * scale for value in found[:count]]


def _exact(x: float, t: float, viscosity: float, pi: Decimal) -> tuple[Decimal, ...]:
    """By the Fourier series of the heat equation's solution f, whose coefficients are Bessel functions: u = -2 nu f_x/f."""
    nu = Decimal(viscosity)
    coefficients = _bessel(1 / (2 * pi * nu), int(0.5 / viscosity) + 80)
    sums = [Decimal(0)] * 4
    sine, cosine = Decimal(0), Decimal(1)
    by_sine, by_cosine = _sine_and_cosine(pi * Decimal(x))
    for n, coefficient in enumerate(coefficients):
        k = n * pi
        share = coefficient * (2 if n else 1) * (-1) ** n * (-k * k * nu * Decimal(t)).exp()
        for order, value in enumerate((cosine, -k * sine, -k * k * cosine, k**3 * sine)):
            sums[order] += share * value
        sine, cosine = sine * by_cosine + cosine * by_sine, cosine * by_cosine - sine * by_sine
    first, second, third = (value / sums[0] for value in sums[1:])
    u, u_x = -2 * nu * first, -2 * nu * (second - first**2)
    u_xx = -2 * nu * (third - 3 * first * second + 2 * first**3)
    return u, u_x, u_xx, nu * u_xx - u * u_x


def _places() -> Iterator[tuple[float, float, float]]:
    """Corners of what the solver takes, the front, and the time at which the wave breaks."""
    yield from product((0.0, 0.9), (0.0, 10.0), (1e-3, 10.0))
    yield from (
        (0.001, 0.5, 1e-3),
        (0.004, 0.3, 1e-3),
        (-0.01, 1.0, CRITICAL),
        (0.1, 1 / math.pi, 0.02),
        (1.0, 1.0, 0.1),
    )
    yield from ((-0.745, 3.0, 0.2257), (0.0, 3.0, 0.279), (0.96, 3.0, 0.1987))  # where the nodes are the widest apart
    yield from ((0.3, 1e-6, 0.003), (-0.3, 0.05, 10.0), (0.5, 10.0, 1.0), (0.002, 0.6, 0.003), (0.7, 0.6, 0.03))


def test_the_solver_is_as_close_to_the_truth_as_it_says() -> None:
    beyond = []
    with localcontext(prec=DIGITS):
        pi = _pi()
        for place in _places():
            found, bounds = PROBLEM.solve(_point(*place))
            truth = _exact(*place, pi)
            named = zip(PROBLEM.units, found, truth, bounds, strict=True)
            beyond += [(name, place) for name, value, true, bound in named if abs(Decimal(value) - true) > bound]
    assert beyond == []


def test_the_solver_says_that_next_to_nothing_is_uncertain_in_the_usual_problem() -> None:
    _, bounds = PROBLEM.solve(_point(0.01, 0.6, CRITICAL))
    assert bounds.u < 1e-12
    assert bounds.u_x < 1e-9


def test_one_point_and_a_batch_are_solved_alike() -> None:
    places = [place for place in _places() if place[2] < 1]
    together, _ = PROBLEM.solve(PROBLEM.stack(places))
    for i, place in enumerate(places):
        alone, _ = PROBLEM.solve(_point(*place))
        assert [float(row[i]) for row in together] == pytest.approx(alone, rel=1e-9, abs=1e-9)


def test_a_long_batch_is_solved_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    points = PROBLEM.stack(PROBLEM.sample(50, np.random.default_rng(0)))
    whole, _ = PROBLEM.solve(points)
    monkeypatch.setattr(burgers, "PORTION", 1000)
    parts, _ = PROBLEM.solve(points)
    assert np.stack(parts) == pytest.approx(np.stack(whole), rel=1e-12)


# ------------------------------------------------------------------------------------------------- the ansatz


@given(xs, viscosities, jets)
def test_the_wave_starts_as_a_sine_and_is_still_at_the_ends_whatever_the_network_says(
    x: float, viscosity: float, jet: tuple[float, ...]
) -> None:
    start = PROBLEM.answer(_point(x, 0.0, viscosity), jet)
    assert start.u == pytest.approx(-math.sin(math.pi * x), abs=1e-15)
    for end in (-1.0, 1.0):
        assert PROBLEM.answer(_point(end, 0.7, viscosity), jet).u == pytest.approx(0, abs=1e-15)


@given(xs, ts, viscosities, jets)
def test_a_wave_seen_in_the_mirror_is_its_negative(
    x: float, t: float, viscosity: float, jet: tuple[float, ...]
) -> None:
    """The network sees y squared, so its slope changes sign with y, and nothing else does."""
    n, n_y, n_yy, n_t, n_l = jet
    here, there = (
        PROBLEM.answer(_point(side * x, t, viscosity), (n, side * n_y, n_yy, n_t, n_l)) for side in (1.0, -1.0)
    )
    assert here == pytest.approx(Wave(-there.u, there.u_x, -there.u_xx, -there.u_t), rel=1e-9, abs=1e-9)


@given(st.floats(-0.99, 0.99), st.floats(0.01, 0.99), st.floats(0.0035, 0.09))
def test_what_is_called_a_derivative_is_one(x: float, t: float, viscosity: float) -> None:
    """Central differences through a smooth network of known jet."""

    def at(x: float, t: float) -> Wave:
        point = _point(x, t, viscosity)
        y, _, log = PROBLEM.coordinates(point)
        jet = (math.cos(2 * y) + t * t + log, -2 * math.sin(2 * y), -4 * math.cos(2 * y), 2 * t, 1.0)
        found: Wave = PROBLEM.answer(point, jet)
        return found

    h, here = 1e-2 * viscosity, at(x, t)
    left, right, before, after = at(x - h, t), at(x + h, t), at(x, t - 1e-5), at(x, t + 1e-5)
    assert (right.u - left.u) / (2 * h) == pytest.approx(here.u_x, rel=1e-3, abs=1e-3)
    assert (right.u_x - left.u_x) / (2 * h) == pytest.approx(here.u_xx, rel=1e-2, abs=1e-2 / viscosity)
    assert (after.u - before.u) / 2e-5 == pytest.approx(here.u_t, rel=1e-6, abs=1e-6)


@given(xs, ts, viscosities)
def test_the_stretched_coordinate_leads_back(x: float, t: float, viscosity: float) -> None:
    y, _, log = PROBLEM.coordinates(_point(x, t, viscosity))
    assert burgers.unstretched(np.array([y]), np.array([viscosity]))[0] == pytest.approx(x, rel=1e-12, abs=1e-15)
    assert burgers.LEAST * math.exp(log) == pytest.approx(viscosity)
    assert abs(y) <= 1 + 1e-12


# ------------------------------------------------------------------------------------------------ invariants


@given(xs, ts, viscosities)
def test_the_exact_solution_keeps_every_invariant(x: float, t: float, viscosity: float) -> None:
    point = _point(x, t, viscosity)
    solved, _ = PROBLEM.solve(point)
    assert max(PROBLEM.excesses(point, solved).values()) < 1e-8


@pytest.mark.parametrize(
    ("change", "invariant"),
    [
        ({"u_t": 0.5}, "pde_residual"),
        ({"u_xx": 1e3}, "pde_residual"),
        ({"u": -1.01}, "largest_speed"),
        ({"u": 0.1}, "sign"),
        ({"u_x": 3.0}, "steepening"),
    ],
)
def test_a_broken_answer_is_seen_by_the_invariant_it_breaks(change: dict[str, float], invariant: str) -> None:
    point = _point(0.2, 0.4, 0.01)
    solved, _ = PROBLEM.solve(point)
    assert PROBLEM.excesses(point, solved._replace(**change))[invariant] > 1e-3


# ------------------------------------------------------------------------------------------------- questions


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (
            {"x": 1.5, "t": 0.5, "viscosity": 0.01},
            r"^x is 1\.5, outside the range the model was trained on \(allowed: -1 to 1",
        ),
        ({"x": 0.5, "t": 0.5, "viscosity": 0.0}, r"^viscosity is 0\.0, outside the range"),
        ({"x": 0.5, "t": 0.5}, r"^viscosity is missing \(allowed: 0\.003 to 0\.1"),
        ({"x": True, "t": 0.5, "viscosity": 0.01}, r"^x must be a number, not a boolean"),
        ({"x": 0.5, "t": math.nan, "viscosity": 0.01}, r"^t is nan, which is not finite"),
        (
            {"x": 0.5, "t": 0.5, "viscosity": 0.01, "strike": 1},
            r"^'strike' is not an input; the inputs are x, t, viscosity",
        ),
        ([1, 2], r"^a question is a JSON object with x, t, viscosity, not a list"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(item: object, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        PROBLEM.parse(item)


def test_out_of_the_trained_range_the_point_comes_with_the_refusal() -> None:
    with pytest.raises(OutOfDomain) as caught:
        PROBLEM.point(PROBLEM.Question(x=0.5, t=2.0, viscosity=0.01))
    assert caught.value.point == (0.5, 2.0, 0.01)


def test_beyond_the_ends_not_even_the_solver_answers() -> None:
    with pytest.raises(InvalidInput, match=r"^x is 1\.5, which the reference solver does not take either"):
        PROBLEM.solvable(_point(1.5, 0.5, 0.01))


# ------------------------------------------------------------------------------------------------- the model

VISCOSITIES = (0.003, CRITICAL, 0.0047, 0.01, 0.033, 0.1)


@pytest.fixture(scope="module")
def shipped(models: Path) -> Path:
    return models / "burgers/1.0.0"


@pytest.fixture(scope="module")
def loaded(shipped: Path) -> Model:
    return _loaded(shipped)


def _loaded(folder: Path) -> Model:
    chosen = settings.load(model_uri=f"file://{folder}", model_name="burgers", model_version="1.0.0")
    return assembly.load(assembly.fetch(chosen), chosen, Metrics())


def _grid(viscosity: float) -> Any:
    x, t = (a.ravel() for a in np.meshgrid(np.linspace(-1, 1, 257), np.linspace(0, 1, 41), indexing="ij"))
    return PROBLEM.Point(x, t, np.full_like(x, viscosity))


def _relative(engine: Engine, viscosity: float) -> float:
    """The relative L2 error of u over the whole domain."""
    points = _grid(viscosity)
    found = PROBLEM.answer(points, engine.jets(np.stack(PROBLEM.coordinates(points), axis=1))).u
    truth = PROBLEM.solve(points)[0].u
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


@pytest.mark.parametrize("viscosity", VISCOSITIES)
def test_the_shipped_model_is_within_a_ten_thousandth_at_every_viscosity_as_served(
    shipped: Path, viscosity: float
) -> None:
    manifest = manifests.parse((shipped / "manifest.json").read_bytes())
    assert manifest.accuracy.served.relative_l2 is not None
    found = _relative(LiteRtEngine((shipped / "model.tflite").read_bytes()), viscosity)
    assert found < 1e-4
    assert found < 1.5 * manifest.accuracy.served.relative_l2["u"]


def test_the_graph_is_the_network_in_float32(shipped: Path) -> None:
    served = LiteRtEngine((shipped / "model.tflite").read_bytes())
    exact = Float64Engine((shipped / "weights.npz").read_bytes())
    assert served.shape == exact.shape == PROBLEM.shape
    points = np.random.default_rng(3).random((500, 3)) * np.array([1.0, 1.0, 3.5])
    jets = exact.jets(points)
    assert np.max(np.abs(served.jets(points) - jets) / np.abs(jets).max(axis=1, keepdims=True)) < 2e-5


@pytest.mark.parametrize("exact", [True, False])
def test_no_answer_is_farther_from_the_truth_than_it_says(loaded: Model, exact: bool) -> None:
    problem = loaded.predictor.problem
    points = problem.sample(4000, np.random.default_rng(20261125))
    answers = asyncio.run(loaded.predictor.all_at(points, exact))
    values, bounds = (np.array([getattr(answer, part) for answer in answers]) for part in ("values", "bounds"))
    truth = np.stack(problem.solve(problem.stack(points))[0], axis=1)
    assert {answer.method for answer in answers} <= {"model", "cache"}
    assert (np.abs(values - truth) <= bounds).all()
    assert np.median(bounds[:, 0] / np.maximum(np.abs(values - truth)[:, 0], 1e-12)) < 50


def test_what_a_bin_says_of_its_second_question_is_within_its_bound_in_the_front_too(loaded: Model) -> None:
    problem, rng = loaded.predictor.problem, np.random.default_rng(7)
    points = [_point(float(x), 0.5, CRITICAL) for x in rng.uniform(-0.02, 0.02, 400)]
    _first, second = (asyncio.run(loaded.predictor.all_at(points)) for _ in range(2))
    assert sum(answer.method == "cache" for answer in second) > 300
    for point, answer in zip(points, second, strict=True):
        truth, _ = problem.solve(point)
        assert answer.bounds is not None
        assert all(abs(v - t) <= b for v, t, b in zip(answer.values, truth, answer.bounds, strict=True))


@given(xs, ts, viscosities, jets)
def test_what_is_off_by_so_much_makes_the_answer_so_much_off(
    x: float, t: float, viscosity: float, jet: tuple[float, ...]
) -> None:
    """Against nudging one row after the other, as it is found of any problem. Two terms of u_xx share a row: there it is more."""
    point, rests = _point(x, t, viscosity), (1e-3, 2e-3, 3e-3, 1e-3, 0.0)
    answer = PROBLEM.answer(point, jet)
    quick, slow = (cls.spread(PROBLEM, point, jet, answer, rests) for cls in (Burgers, Ranged))
    for place, scale in ((0, 1.0), (1, 1 / viscosity), (3, 1.0)):
        assert quick[place] == pytest.approx(slow[place], rel=1e-6, abs=1e-12 * scale)
    assert quick[2] >= slow[2] * (1 - 1e-6) - 1e-9 / viscosity**2


# ------------------------------------------------------------------------------------------------- a server

SERVED = {"model_name": "burgers", "model_version": "1.0.0"}
QUESTION = {"x": 0.01, "t": 0.6, "viscosity": CRITICAL}


@pytest.fixture(scope="module")
def burgers_server() -> Iterator[ServerProcess]:
    with ServerProcess.started(**SERVED) as server:
        yield server


def test_a_server_answers_from_the_model_then_from_its_cache_and_beyond_the_ranges_by_the_solver(
    burgers_server: ServerProcess,
) -> None:
    truth, _ = PROBLEM.solve(PROBLEM.Point(**QUESTION))
    with burgers_server.client() as client:
        first, again = (client.post("/predict", json=QUESTION).json() for _ in range(2))
        beyond = client.post("/predict", json={**QUESTION, "t": 3.0}).json()
        refused = client.post("/predict", json={**QUESTION, "x": 1.2})
    assert (first["method"], again["method"], beyond["method"]) == ("model", "cache", "solver")
    assert beyond["reason"] == "out_of_domain"
    assert beyond["u"] == PROBLEM.solve(PROBLEM.Point(**{**QUESTION, "t": 3.0}))[0].u
    for name, true in zip(PROBLEM.units, truth, strict=True):
        assert abs(again[name] - true) <= again["error_bound"][name]
    assert refused.status_code == 400
    assert refused.json()["error"].startswith("x is 1.2, which the reference solver does not take either")


def test_a_server_of_burgers_describes_no_options(burgers_server: ServerProcess) -> None:
    with burgers_server.client() as client:
        question = client.get("/openapi.json").json()["components"]["schemas"]["Question"]
        page = client.get("/docs").text
    assert question["required"] == ["x", "t", "viscosity"]
    assert question["properties"]["outputs"]["items"]["enum"] == ["u", "u_x", "u_xx", "u_t"]
    assert "viscosity" in page
    assert "strike" not in page


def test_a_server_of_burgers_passes_its_benchmark(burgers_server: ServerProcess) -> None:
    done = run("bench", "--url", burgers_server.url, "--iterations", "200", "--json")
    scenarios = json.loads(done.stdout)["scenarios"]
    assert scenarios["hit_rate"]["hit_rate"] > 0.8
    assert scenarios["cache"]["repeats_from_cache"] > 0.8


def _spoiled(shipped: Path) -> bytes:
    """The graph with the weights of its last layer 3 % off."""
    graph = (shipped / "model.tflite").read_bytes()
    with np.load(shipped / "weights.npz") as arrays:
        last = arrays["w3"].astype("<f4")
    assert last.tobytes() in graph
    return graph.replace(last.tobytes(), (1.03 * last).astype("<f4").tobytes())


def test_a_spoiled_model_does_not_pass_its_trial(shipped: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"failed its trial at x "):
        _loaded(rewritten(shipped, tmp_path / "m", model__tflite=_spoiled(shipped)))


def test_a_server_that_did_not_try_its_spoiled_model_counts_what_breaks_the_equation_and_answers_by_the_solver(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = rewritten(shipped, tmp_path / "m", model__tflite=_spoiled(shipped))
    untried = (
        "import sys; from pinn_inference import cli, trial; trial.passed = lambda *_: None; cli.main(sys.argv[1:])"
    )
    monkeypatch.setattr(process, "command", lambda *arguments: [sys.executable, "-c", untried, *arguments])
    with ServerProcess.started(**SERVED, model_uri=f"file://{folder}") as server, server.client() as client:
        answer = client.post("/predict", json=QUESTION).json()
        counted = server.metrics()
    assert (answer["method"], answer["reason"]) == ("solver", "physics_violation")
    assert answer["u"] == pytest.approx(PROBLEM.solve(PROBLEM.Point(**QUESTION))[0].u)
    (violations,) = [
        v for name, v in counted.items() if name.startswith("pinn_physics_violations_total") and "pde_res" in name
    ]
    assert violations == 1


class ByWorst(Burgers):
    """With the rule for bins that a problem has which says no other."""

    usable = Ranged.usable


class OneMissing(ByWorst):
    worst: ClassVar[dict[str, float]] = dict.fromkeys(list(Burgers.units)[1:], 1.0)


class AllStated(ByWorst):
    worst: ClassVar[dict[str, float]] = dict.fromkeys(Burgers.units, 1.0)


@pytest.mark.parametrize(
    ("problem", "expected"), [(Burgers, True), (ByWorst, False), (OneMissing, False), (AllStated, True)]
)
def test_answers_may_come_from_bins_where_the_problem_says_how_good_all_of_them_must_be(
    problem: type[Ranged], expected: bool
) -> None:
    assert problem(Burgers.domain, None).from_bins is expected
