"""A worker that hangs, as a caller sees it: within the request's time the solver answers, or an error names the worker.

And one that is away, as whoever sends traffic sees it.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pinn_inference import assembly, settings
from pinn_inference.api.http import App, State
from pinn_inference.engines import Array
from pinn_inference.engines.choice import Options
from pinn_inference.engines.far import Options as FarOptions
from pinn_inference.engines.supervisor import Pool
from pinn_inference.service import Service

from ..api.wire import Wire, ask  # noqa: TID252 - as in the other tests: they are no package with a name of its own
from .conftest import Model, double, until

MUCH = 1 << 40
OPTION: dict[str, Any] = {"spot": 100, "strike": 105, "maturity": 0.5, "rate": 0.03, "volatility": 0.2}
GPU: dict[str, Any] = {"engine": "gpu", "fallback_cpu": False}


@pytest.fixture(autouse=True)
def _paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker gets our environment: the double must find the package wherever these tests run."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))


@pytest.fixture(autouse=True)
def given(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that workers were given."""
    found: list[float] = []
    jets = Pool.jets

    async def noted(self: Pool, points: Array, deadline_s: float) -> Array:
        found.append(deadline_s)
        return await jets(self, points, deadline_s)

    monkeypatch.setattr(Pool, "jets", noted)
    return found


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The double in the place of a GPU's worker; it is not replaced, which could be under way when the test ends."""
    chosen: dict[str, Any] = {
        "command": double(tmp_path),
        "gpus": ("0",),
        "free_memory": lambda: MUCH,
        "patience": 60.0,
    }
    monkeypatch.setattr(assembly, "Options", partial(Options, **chosen))


@pytest.fixture
def far(tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The double in the place of the worker that evaluates a network in another format."""
    chosen: dict[str, Any] = {"command": double(tmp_path), "free_memory": lambda: MUCH}
    monkeypatch.setattr(assembly, "FarOptions", partial(FarOptions, **chosen))
    monkeypatch.setattr(assembly, "parcel", lambda *_: (model.weights, (2, 4)))
    monkeypatch.setattr(assembly, "_engines", lambda artifact, _, *rest: assembly._far(artifact, *rest))


@asynccontextmanager
async def serving(models: Path, state: State, **chosen: Any) -> AsyncIterator[Service]:
    """A server whose worker came up."""
    given = settings.load(model_uri=f"file://{models / 'black-scholes/2.0.0'}", timeout=1.0, **chosen)
    service = await Service.open(given, state)
    try:
        await until(lambda: _status(service) == ["ready"])
        yield service
    finally:
        await service.close()


@asynccontextmanager
async def hanging(folder: Path, models: Path, **chosen: Any) -> AsyncIterator[App]:
    """One whose worker hangs from now on."""
    async with serving(models, State(ready=True), **chosen) as service:
        (folder / "hang").touch()
        yield service.apps()[0][0]


def _status(service: Service) -> list[str]:
    states = service.model.engines.state().values()
    return [worker["status"] for state in states for worker in state.get("workers", ())]


async def predicted(app: App, question: Any) -> Wire:
    return await ask(app, wire=Wire(json.dumps(question).encode()), path="/predict")


def _made(wire: Wire) -> tuple[int, str | None, str | None]:
    answer = wire.json[0] if isinstance(wire.json, list) else wire.json
    return wire.status, answer.get("method"), answer.get("reason")


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("question", [OPTION, [OPTION] * 3, {**OPTION, "exact": True}], ids=["one", "list", "exact"])
async def test_while_the_worker_that_has_all_of_the_model_hangs_the_solver_answers(
    tmp_path: Path, models: Path, given: list[float], question: Any
) -> None:
    async with hanging(tmp_path, models) as app:
        assert _made(await predicted(app, question)) == (200, "solver", "timeout")
    assert given[-1] <= 0.5


@pytest.mark.usefixtures("far")
async def test_who_waited_in_vain_for_the_same_question_of_another_is_answered_by_the_solver_too(
    tmp_path: Path, models: Path
) -> None:
    async with hanging(tmp_path, models) as app:
        found = await asyncio.gather(*(predicted(app, OPTION) for _ in range(3)))
    assert [_made(wire) for wire in found] == [(200, "solver", "timeout")] * 3


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("chosen", [{"gpu_policy": "prefer"}, {"gpu_policy": "require"}], ids=["prefer", "require"])
async def test_while_a_gpu_that_no_cpu_stands_in_for_hangs_the_solver_answers(
    tmp_path: Path, models: Path, given: list[float], chosen: dict[str, Any]
) -> None:
    async with hanging(tmp_path, models, **GPU, **chosen) as app:
        assert _made(await predicted(app, [OPTION] * 3)) == (200, "solver", "timeout")
    assert given[-1] <= 0.5


@pytest.mark.usefixtures("gpu")
async def test_without_a_solver_the_error_names_the_gpu_that_hangs(tmp_path: Path, models: Path) -> None:
    async with hanging(tmp_path, models, **GPU, gpu_policy="prefer", fallback_solver=False) as app:
        wire = await predicted(app, [OPTION] * 3)
    assert (wire.status, wire.json["error"][:29]) == (504, "no answer from gpu:0 within 0")


@pytest.mark.usefixtures("far")
async def test_without_a_solver_the_error_names_the_worker_that_hangs(tmp_path: Path, models: Path) -> None:
    async with hanging(tmp_path, models, fallback_solver=False) as app:
        wire = await predicted(app, OPTION)
    assert (wire.status, wire.json["error"][:27]) == (504, "no answer from cpu within 0")


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("solver", [True, False])
async def test_while_the_worker_that_has_all_of_the_model_is_away_traffic_is_wanted_only_where_the_solver_may_answer(
    tmp_path: Path, models: Path, solver: bool
) -> None:
    state = State(ready=True)
    async with serving(models, state, fallback_solver=solver) as service:
        assert state.complaint() == ""
        os.kill(int((tmp_path / "starts").read_text()), signal.SIGKILL)
        await until(lambda: _status(service) == ["degraded"])
        away = "the worker that evaluates the model is not ready: the worker ended with signal 9"
        assert state.complaint() == ("" if solver else away)
        await until(lambda: _status(service) == ["ready"])
        assert state.complaint() == ""
