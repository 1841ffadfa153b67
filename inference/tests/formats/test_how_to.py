"""The how-to for Keras models, followed to the letter: trained, saved, served as it is, converted, and the same answers."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..process import (  # noqa: TID252 - the tests are no package with a name of its own
    ENVIRONMENT,
    ServerProcess,
    command,
    run,
)

pytestmark = pytest.mark.timeout(
    1200
)  # TensorFlow is imported five times, in processes of its own, on whatever machine

HOW_TO = Path(__file__).parents[3] / "docs/how-to/bring-a-keras-model.md"
QUESTION = {"x": 0.503, "t": 0.3}
TRUE = math.exp(-0.1 * math.pi**2 * 0.3) * math.sin(math.pi * 0.503)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The files of the how-to, its network trained, and its problem in an installed package."""
    made = tmp_path_factory.mktemp("rod")
    blocks = re.findall(r"```\w+\n# (\S+)\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    assert [name for name, _ in blocks] == ["train.py", "rod_problem.py", "rod.json"]
    for name, content in blocks:
        (made / name).write_text(content)
    info = made / "rod_problem-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rod-problem\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[pinn_inference.problems]\nrod = rod_problem:Rod\n")
    before = ENVIRONMENT["PYTHONPATH"]
    ENVIRONMENT["PYTHONPATH"] = os.pathsep.join([str(made), before])
    _ran(made, [sys.executable, "train.py"])
    yield made
    ENVIRONMENT["PYTHONPATH"] = before


def _ran(folder: Path, words: list[str]) -> str:
    done = subprocess.run(words, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def _converted(folder: Path, to: str, *more: str) -> str:
    words = command("models", "convert", "rod.keras", "--manifest", "rod.json", "--output", to, *more)
    return _ran(folder, words)


@pytest.fixture(scope="module")
def as_it_is(folder: Path) -> str:
    """What was said when the folder was made."""
    return _converted(folder, "as-it-is", "--as-it-is")


@pytest.fixture(scope="module")
def fused(folder: Path) -> str:
    return _converted(folder, "fused")


@pytest.fixture(scope="module")
def before(folder: Path, as_it_is: str) -> list[dict[str, Any]]:
    """The answers of the network as it is."""
    return _served(folder / "as-it-is")


def _served(model: Path) -> list[dict[str, Any]]:
    """Answers to: a question twice, one near it, one exact, a list of them, one beyond the range."""
    settings = {"model_uri": f"file://{model}", "model_name": "rod", "model_version": "1.0.0", "timeout": "20s"}
    with ServerProcess.started(**settings) as server, server.client() as client:
        client.timeout = 60
        asked = [QUESTION, QUESTION, {**QUESTION, "x": 0.504}, {**QUESTION, "exact": True}]
        answers = [client.post("/predict", json=question).json() for question in asked]
        many = client.post("/predict", json=[{"x": i / 200, "t": 0.2} for i in range(200)]).json()
        assert {answer["method"] for answer in many} <= {"model", "cache"}
        beyond = client.post("/predict", json={**QUESTION, "t": 5.0}).json()
        assert (beyond["method"], beyond["reason"]) == ("solver", "out_of_domain")
        detailed = client.get("/health/detailed").json()
        assert detailed["components"]["pinn_model"]["prediction_test"] == "passed"
        assert server.resident_mib() < 120, "TensorFlow is in the process that serves"
        violations = [value for name, value in server.metrics().items() if name.startswith("pinn_physics_violations")]
        assert violations == [0.0] * 3
        return [*answers, *many]


def _is_right(answers: list[dict[str, Any]], engine: str) -> None:
    assert [answer["method"] for answer in answers[:4]] == ["model", "cache", "cache", "model"]
    assert {answer["engine"] for answer in answers} == {engine}
    first = answers[0]
    assert abs(first["u"] - TRUE) <= first["error_bound"]["u"] < 0.1
    assert first["u_t"] == pytest.approx(-0.1 * math.pi**2 * TRUE, abs=first["error_bound"]["u_t"])


def test_served_as_it_is_it_answers_with_derivatives_cache_bounds_and_physics(
    folder: Path, as_it_is: str, before: list[dict[str, Any]]
) -> None:
    assert as_it_is.startswith("served as it is: it was asked for\n")
    assert sorted(path.name for path in (folder / "as-it-is").iterdir()) == [
        "errors.npz",
        "manifest.json",
        "model.keras",
    ]
    _is_right(before, "tensorflow")


def test_converted_it_gives_the_same_answers_and_says_what_was_gained(
    folder: Path, fused: str, before: list[dict[str, Any]]
) -> None:
    assert re.match(r"fused: one point \d+ times as fast, many [\d.]+ times\n", fused)
    assert (folder / "fused" / "model.tflite").exists()
    after = _served(folder / "fused")
    _is_right(after, "litert")
    for one, other in zip(before, after, strict=True):
        for output, largest in {"u": 1e-5, "u_x": 1e-5, "u_xx": 1e-3, "u_t": 1e-4}.items():
            assert one[output] == pytest.approx(other[output], abs=largest)


def test_one_question_is_answered_without_a_server(folder: Path, as_it_is: str) -> None:
    (folder / "models/rod").mkdir(parents=True)
    (folder / "models/rod/1.0.0").symlink_to(folder / "as-it-is")
    chosen = ("--model-name", "rod", "--model-version", "1.0.0", "--models-dir", str(folder / "models"))
    asked = _ran(folder, command("predict", *chosen, "--x", "0.503", "--t", "0.3"))
    assert json.loads(asked)["engine"] == "tensorflow"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tolerances": {"pde_residual": 1e-9}}, "the manifest promises pde_residual within 1e-09; the network was"),
        ({"tolerances": {"colour": 1.0}}, "the manifest has a tolerance for colour; the invariants are pde_residual"),
        ({"outputs": [{"name": "v", "unit": "K"}]}, "the manifest has the outputs v; they must be u, u_x, u_xx, u_t"),
        ({"inputs": [{"name": "x", "unit": "", "low": 0, "high": 1}]}, "the manifest is not one of rod: the inputs with a range"),
        ({"problem": "nobody's"}, "the model solves \"nobody's\"; this server knows"),
    ],
)  # fmt: skip
def test_a_manifest_that_does_not_fit_is_refused(
    folder: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    manifest = tmp_path / "changed.json"
    manifest.write_text(json.dumps({**json.loads((folder / "rod.json").read_text()), **change}))
    arguments = (
        "models",
        "convert",
        str(folder / "rod.keras"),
        "--manifest",
        str(manifest),
        "--output",
        str(tmp_path / "m"),
        "--as-it-is",
    )
    done = subprocess.run(
        command(*arguments), env=ENVIRONMENT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("name", "words"), [("net.pkl", "a pickle"), ("net.h5", "Keras' older one"), ("net.pt", "PyTorch's")]
)
def test_a_source_that_is_never_read_is_refused(folder: Path, tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(b"anything")
    done = run(
        "models",
        "convert",
        str(tmp_path / name),
        "--manifest",
        str(folder / "rod.json"),
        "--output",
        str(tmp_path / "m"),
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{name} has a format that is {words}")


def test_a_model_that_is_worse_than_its_manifest_says_is_refused_at_the_start(
    folder: Path, as_it_is: str, tmp_path: Path
) -> None:
    """Without an error table its manifest's largest errors are its word."""
    from ..rewritten import rewritten  # noqa: TID252

    def boasting(manifest: dict[str, Any]) -> None:
        manifest["accuracy"]["served"]["largest"] = {"u": 1e-9, "u_x": 1e-9, "u_xx": 1e-9, "u_t": 1e-9}

    rewritten(folder / "as-it-is", tmp_path / "m", boasting, errors__npz=None)
    chosen = {
        "PINN_SERVER_MODEL_URI": f"file://{tmp_path}/m",
        "PINN_SERVER_MODEL_NAME": "rod",
        "PINN_SERVER_MODEL_VERSION": "1.0.0",
    }
    words = command("serve", "--port", "0", "--admin-port", "0")
    done = subprocess.run(
        words, env={**ENVIRONMENT, **chosen}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1
    assert "the model failed its trial at x" in done.stderr
    assert "by its own word within" in done.stderr
