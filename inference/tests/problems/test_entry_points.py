"""A problem that an installed package offers: the how-to, followed to the letter, and every way to get it wrong."""

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pinn_inference.errors import ModelError
from pinn_inference.problems import Formulation, registry
from pinn_inference.problems.burgers import Burgers

from ..process import (  # noqa: TID252 - the tests are no package with a name of its own
    ENVIRONMENT,
    ServerProcess,
    run,
)

HOW_TO = Path(__file__).parents[3] / "docs/how-to/add-a-problem.md"
FILES = ("heat_problem.py", "pyproject.toml", "make_model.py")
QUESTION = {"x": 0.5, "t": 0.3, "diffusivity": 0.1}
EXACT = 0.7437
"""exp(-0.03 pi^2)."""


def _written(folder: Path) -> Path:
    """The files of the how-to, each in a block whose first line is its name."""
    blocks = re.findall(r"```\w+\n# (\S+)\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    for name, content in blocks:
        (folder / name).write_text(content)
    assert [name for name, _ in blocks] == list(FILES)
    return folder


def _ran(folder: Path, *command: str, path: Path | None = None) -> None:
    environment = {
        **ENVIRONMENT,
        "PYTHONPATH": os.pathsep.join([*([str(path)] if path else []), ENVIRONMENT["PYTHONPATH"]]),
    }
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the how-to's package installed in it."""
    folder = _written(tmp_path_factory.mktemp("heat"))
    _ran(folder, "-m", "hatchling", "build", "-t", "wheel")
    (wheel,) = (folder / "dist").glob("*.whl")
    assert f"dist/{wheel.name}" in HOW_TO.read_text(), "what is installed is what was built"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def model(site: Path) -> Path:
    """The folder that the how-to makes."""
    _ran(site.parent, "make_model.py", str(site.parent / "model"), path=site)
    return site.parent / "model"


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is started from here on finds the package."""
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", os.pathsep.join([str(site), ENVIRONMENT["PYTHONPATH"]]))
    return site


def _settings(model: Path) -> dict[str, str]:
    return {"model_uri": f"file://{model}", "model_name": "heat", "model_version": "1.0.0"}


def test_the_how_tos_problem_is_served_with_cache_bounds_fallback_and_descriptions(
    installed: Path, model: Path
) -> None:
    with ServerProcess.started(**_settings(model)) as server, server.client() as client:
        first, again = (client.post("/predict", json=QUESTION).json() for _ in range(2))
        assert (first["method"], again["method"]) == ("model", "cache")
        assert first["u"] == pytest.approx(EXACT, abs=1e-3)
        assert abs(first["u"] - EXACT) < first["error_bound"]["u"] + 1e-4
        beyond = client.post("/predict", json={**QUESTION, "t": 5.0}).json()
        assert (beyond["method"], beyond["reason"]) == ("solver", "out_of_domain")
        refused = client.post("/predict", json={**QUESTION, "x": 2.0})
        assert refused.status_code == 400
        assert refused.json()["error"].startswith("x is 2.0, which the reference solver does not take either")
        question = client.get("/openapi.json").json()["components"]["schemas"]["Question"]
        assert question["required"] == ["x", "t", "diffusivity"]
        assert question["properties"]["diffusivity"]["x-trained"] == [0.05, 0.2]
        assert "Heat in a rod" in client.get("/docs").text
        many = client.post("/predict", json=[{**QUESTION, "x": i / 100} for i in range(100)]).json()
        assert {answer["method"] for answer in many} <= {"model", "cache"}
        benched = run("bench", "--url", server.url, "--iterations", "100", "--json")
        assert '"repeats_from_cache": 1.0' in benched.stdout


def test_its_network_is_as_good_as_its_manifest_says_and_shows_in_the_list_of_models(
    installed: Path, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "heat").mkdir()
    (tmp_path / "heat/1.0.0").symlink_to(model)
    listed = run("models", "--models-dir", str(tmp_path))
    assert listed.stdout.startswith("heat 1.0.0\n  Heat in a rod from a sine, both ends kept cold.\n")
    arguments = ("--model-name", "heat", "--model-version", "1.0.0", "--models-dir", str(tmp_path))
    asked = run("predict", *arguments, "--x", "0.5", "--t", "0.3", "--diffusivity", "0.1")
    assert f'"u": {EXACT}'[:9] in asked.stdout


def test_without_the_package_the_model_is_refused_with_what_there_is(model: Path) -> None:
    done = run(
        "serve",
        "--port",
        "0",
        "--admin-port",
        "0",
        **{f"PINN_SERVER_{k.upper()}": v for k, v in _settings(model).items()},
    )
    assert done.returncode == 1
    assert re.search("the model solves 'heat'; this server knows .*black-scholes", done.stderr)


# ------------------------------------------------------------------------------------------ what is refused


class Offered:
    """Packages that offer a problem called `mine`, made on the spot."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._monkeypatch, self._count = folder, monkeypatch, 0

    def __call__(self, code: str, name: str = "mine") -> None:
        self._count += 1
        module, site = f"offered_{self._folder.name}_{self._count}", self._folder / str(self._count)
        info = site / f"package_{self._count}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(code)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: package-{self._count}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{name} = {module}:Mine\n")
        self._monkeypatch.syspath_prepend(site)


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Offered]:
    known = set(sys.modules)
    yield Offered(tmp_path, monkeypatch)
    for name in set(sys.modules) - known:
        if name.startswith("offered_"):
            del sys.modules[name]


def _formulation(name: str = "mine") -> Formulation:
    return registry.formulation(name, Burgers.domain, None)


BURGERS = "from pinn_inference.problems.burgers import Burgers\n"


def test_a_problem_of_a_package_is_found_by_its_name(offered: Offered) -> None:
    offered(BURGERS + "class Mine(Burgers):\n    name = 'mine'\n")
    assert _formulation().name == "mine"
    assert registry.names()[-1] == "mine"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import no_such_module_at_all\n", r"cannot be imported: ModuleNotFoundError: No module named 'no_such"),
        ("def Mine(:\n", r"cannot be imported: SyntaxError"),
        ("Other = 1\n", r"cannot be imported: AttributeError: .*Mine"),
        ("raise RuntimeError('no licence')\n", r"cannot be imported: RuntimeError: no licence"),
        ("Mine = 7\n", r"cannot be made: TypeError: 'int' object is not callable"),
        ("from pinn_inference.problems.ranged import Ranged\nclass Mine(Ranged):\n    pass\n", r"cannot be made: TypeError"),
        ("class Mine:\n    def __init__(self, inputs, table): raise OSError('disk')\n", r"cannot be made: OSError: disk"),
        ("class Mine:\n    name = 'mine'\n    def __init__(self, inputs, table): pass\n", r"lacks Question, answer, any_point"),
        (BURGERS + "class Mine(Burgers):\n    name = 'Mine'\n", r"calls itself 'Mine'; the names must be the same"),
    ],
)  # fmt: skip
def test_a_problem_that_misbehaves_is_refused_with_a_sentence_that_names_it(
    offered: Offered, code: str, words: str
) -> None:
    offered(code)
    with pytest.raises(
        ModelError, match=rf"^the problem 'mine' of the package package-1 1\.0 \(offered_.*:Mine\) {words}"
    ):
        _formulation()


def test_a_package_that_is_broken_keeps_nobody_else_from_being_served(offered: Offered) -> None:
    offered("raise RuntimeError('broken')\n")
    assert _formulation("burgers").name == "burgers"


def test_a_name_that_the_server_brings_stays_the_servers(offered: Offered) -> None:
    offered("raise RuntimeError('never imported')\n", name="burgers")
    assert isinstance(_formulation("burgers"), Burgers)
    assert registry.names().count("burgers") == 1


def test_two_packages_with_one_name_are_both_named(offered: Offered) -> None:
    for _ in range(2):
        offered(BURGERS + "class Mine(Burgers):\n    name = 'mine'\n")
    with pytest.raises(ModelError, match=r"'mine' is offered by the package package-1 .* and by the package package-2"):
        _formulation()


def test_a_problems_own_complaint_about_a_manifest_is_passed_on() -> None:
    inputs: Any = Burgers.domain[:2]
    with pytest.raises(ValueError, match="the inputs with a range are x, t; they must be x, t, viscosity"):
        registry.formulation("burgers", inputs, None)
