"""A model that does not keep its own word is refused with a sentence, however well its digest fits."""

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pinn_inference import assembly, settings, trial
from pinn_inference.assembly import Model
from pinn_inference.errors import ModelError
from pinn_inference.evaluation import Evaluation
from pinn_inference.monitoring import Metrics
from pinn_inference.problems import black_scholes
from pinn_inference.problems.black_scholes import Option

from .rewritten import Edit, rewritten

OPTION = Option(100.0, 105.0, 0.5, 0.03, 0.07, 0.2, 1.0)


@pytest.fixture
def shipped(models: Path) -> Path:
    return models / "black-scholes/2.0.0"


def _loaded(folder: Path, metrics: Metrics | None = None) -> Model:
    chosen = settings.load(model_uri=f"file://{folder}")
    return assembly.load(assembly.fetch(chosen), chosen, metrics or Metrics())


def _table(shipped: Path, **changed: Any) -> bytes:
    with np.load(shipped / "errors.npz") as arrays:
        whole = {**arrays, **changed}
    content = io.BytesIO()
    np.savez(content, **whole)
    return content.getvalue()


def _scrambled(shipped: Path) -> bytes:
    """The graph with another first layer: finite everywhere, and wrong."""
    graph = (shipped / "model.tflite").read_bytes()
    with np.load(shipped / "weights.npz") as arrays:
        weights = arrays["w1"]
    for layer in (weights.astype("<f4"), weights.T.astype("<f4")):
        if layer.tobytes() in graph:
            return graph.replace(layer.tobytes(), (3 * layer + 0.5).astype("<f4").tobytes())
    raise AssertionError("the graph does not hold the weights as float32")


@pytest.mark.parametrize("name", ["black-scholes/1.0.0", "black-scholes/2.0.0", "burgers/1.0.0", "american-put/1.0.0"])
def test_a_shipped_model_passes_and_its_trial_is_not_counted(models: Path, name: str) -> None:
    metrics = Metrics()
    model = _loaded(models / name, metrics)
    assert metrics.violations.counts == {}
    assert len(model.predictor.cache or ()) == 0


def test_inputs_in_another_order_are_the_same_model(shipped: Path, tmp_path: Path) -> None:
    def swap(manifest: dict[str, Any]) -> None:
        manifest["inputs"][3], manifest["inputs"][4] = manifest["inputs"][4], manifest["inputs"][3]

    swapped = _loaded(rewritten(shipped, tmp_path / "m", swap))
    assert [field.name for field in swapped.predictor.problem.inputs] == [f.name for f in black_scholes.INPUTS]
    question = b'{"spot":100,"strike":105,"maturity":0.5,"rate":0.03,"dividend_yield":0.07,"volatility":0.2}'
    for model in (swapped, _loaded(shipped)):
        point = model.predictor.problem.point(model.codec.questions(question))
        assert model.predictor.evaluation.fresh(point).values[0] == pytest.approx(
            black_scholes.solve(OPTION).price, abs=1e-4
        )


def _without(name: str) -> Edit:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["inputs"] = [field for field in manifest["inputs"] if field["name"] != name]

    return edit


def _input(of: str, **changed: Any) -> Edit:
    def edit(manifest: dict[str, Any]) -> None:
        next(field for field in manifest["inputs"] if field["name"] == of).update(changed)

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_without("volatility"), r"inputs with a range are spot, .*dividend_yield; they must be .*volatility"),
        (_input("volatility", name="sigma"), r"they must be .*volatility"),
        (_input("spot", per=None), r"range of spot is per None; it must be per strike"),
        (_input("rate", low=1.0), r"range of rate is 1 to 0\.1"),
        (lambda m: m["tolerances"].pop("vega_sign"), "states no tolerance for vega_sign"),
        (lambda m: m.update(outputs=[]), "has the outputs none; they must be price, delta"),
        (lambda m: m["tolerances"].update(pde_residual=0.0), r"failed its trial at spot .*: .* breaks pde_residual"),
    ],
)
def test_a_manifest_that_does_not_fit_its_problem_is_refused(
    shipped: Path, tmp_path: Path, edit: Edit, words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        _loaded(rewritten(shipped, tmp_path / "m", edit))


def test_a_scrambled_graph_is_refused(shipped: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"failed its trial at spot [0-9.]+, strike .*volatility"):
        _loaded(rewritten(shipped, tmp_path / "m", model__tflite=_scrambled(shipped)))


def test_a_model_that_is_less_exact_than_it_says_is_refused(shipped: Path, models: Path, tmp_path: Path) -> None:
    """The coarse network with the accurate one's error table, and with tolerances that let anything pass."""

    def anything(manifest: dict[str, Any]) -> None:
        manifest["tolerances"] = dict.fromkeys(manifest["tolerances"], 1.0)

    coarse = (models / "black-scholes/1.0.0/model.tflite").read_bytes()
    with pytest.raises(ModelError, match=r"within .* of the truth, and the solver finds"):
        _loaded(rewritten(shipped, tmp_path / "m", anything, model__tflite=coarse))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ("black-scholes/1.0.0", r"number \d of its jet at \(.*\) is [-.\de]+, not [-.\de]+;"),
        ("burgers/1.0.0", "it takes 3 numbers a point and gives 5, not 2 and 4$"),
    ],
)
def test_weights_of_another_network_are_refused_though_no_question_of_the_trial_asks_them(
    shipped: Path, models: Path, tmp_path: Path, other: str, words: str
) -> None:
    weights = (models / other / "weights.npz").read_bytes()
    with pytest.raises(ModelError, match=rf"^weights\.npz is of another network than model\.tflite: {words}"):
        _loaded(rewritten(shipped, tmp_path / "m", weights__npz=weights))


def test_weights_whose_matrices_do_not_fit_each_other_are_left_alone(
    shipped: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = io.BytesIO()
    np.savez(weights, w0=np.ones((2, 3)), b0=np.zeros(3), w1=np.ones((4, 1)), b1=np.zeros(1))
    with caplog.at_level(logging.WARNING):
        _loaded(rewritten(shipped, tmp_path / "m", weights__npz=weights.getvalue()))
    assert "large batches stay on LiteRT: weights.npz cannot be used by a worker" in caplog.text


@pytest.mark.parametrize("there", [np.nan, np.inf, 0.9])
def test_jets_that_are_no_numbers_are_apart_from_all_others(there: float) -> None:
    served = np.ones((2, 3))
    jets = served.copy()
    assert trial.apart(served, jets * (1 + 1e-4)) is None
    jets[1, 2] = there
    assert trial.apart(jets, served) == (1, 2)
    assert trial.apart(served, jets) is not None


def test_a_model_that_fails_at_a_corner_alone_is_refused(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = Evaluation._check

    def fails_there(self: Evaluation, point: Option, values: Any) -> None:
        lowest = point.maturity == 0.02 and point.volatility == 0.05 and point.rate == 0.1
        check(self, point, values._replace(vega=-1.0) if lowest else values)

    monkeypatch.setattr(Evaluation, "_check", fails_there)
    with pytest.raises(ModelError, match=r"maturity 0\.02, rate 0\.1, .*volatility 0\.05: .*vega_sign"):
        _loaded(shipped)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda _: b"", "no file of arrays"),
        (lambda _: b"PK\x03\x04" + b"x" * 50, "no file of arrays"),
        (lambda _: b"anything at all", "no file of arrays"),
        (lambda shipped: (shipped / "errors.npz").read_bytes()[:-400], "no file of arrays"),
        (lambda shipped: _table(shipped, steps=np.zeros(2)), "no size of a cell"),
        (lambda shipped: _table(shipped, values=np.ones((5, 2, 2))), "has 5 rows, not 8"),
        (lambda shipped: _table(shipped, values=np.ones((8, 0, 2))), "no table of finite"),
    ],
)
def test_a_damaged_error_table_is_refused_and_not_taken_as_absent(
    shipped: Path, tmp_path: Path, damage: Any, words: str
) -> None:
    with pytest.raises(ModelError, match=rf"errors\.npz or inputs cannot be used: .*{words}"):
        _loaded(rewritten(shipped, tmp_path / "m", errors__npz=damage(shipped)))


def test_descriptions_that_cannot_be_made_are_found_before_serving(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise KeyError("price")

    monkeypatch.setattr("pinn_inference.api.openapi.document", fails)
    with pytest.raises(ModelError, match="cannot be loaded: KeyError"):
        _loaded(shipped)


def test_an_invariant_that_the_problem_says_nothing_of_is_no_invariant_that_is_kept(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = black_scholes.Formulation.excesses

    def excesses(self: Any, point: Any, answer: Any) -> dict[str, Any]:
        return {name: excess for name, excess in whole(self, point, answer).items() if name != "vega_sign"}

    monkeypatch.setattr(black_scholes.Formulation, "excesses", excesses)
    with pytest.raises(ModelError, match=r"^the problem black-scholes says nothing of its invariant vega_sign"):
        _loaded(shipped)


def test_an_input_that_no_question_has_is_refused(shipped: Path, tmp_path: Path) -> None:
    def material(manifest: dict[str, Any]) -> None:
        manifest["inputs"].append({"name": "material", "unit": "", "choices": ["iron", "copper"]})

    folder = rewritten(shipped, tmp_path, material)
    with pytest.raises(
        ModelError, match=r"^the model's manifest has the input material; the problem has dividend_yield, "
    ):
        _loaded(folder)


def test_a_solver_that_takes_long_is_asked_as_often_as_time_allows(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved: list[Any] = []
    whole = black_scholes.Formulation.solve

    def solve(self: Any, point: Any) -> Any:
        solved.append(point)
        return whole(self, point)

    monkeypatch.setattr(black_scholes.Formulation, "solve", solve)
    _loaded(shipped)
    assert len(solved) > trial.POINTS
    solved.clear()
    monkeypatch.setattr(trial, "SOLVING", 0.0)
    _loaded(shipped)
    assert not solved
