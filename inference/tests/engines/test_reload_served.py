"""A reload where a GPU is required, as a caller sees it: the old model serves until the new one has its worker, or goes on."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pinn_inference import assembly, settings
from pinn_inference.api.http import State
from pinn_inference.engines.choice import Options
from pinn_inference.service import Service

from ..api.wire import Wire, ask  # noqa: TID252 - as in the other tests: they are no package with a name of its own
from ..rewritten import rewritten  # noqa: TID252 - as above
from .conftest import double, until

OPTION: dict[str, Any] = {"spot": 100, "strike": 105, "maturity": 0.5, "rate": 0.03, "volatility": 0.2}
UNHURRIED = 60.0

Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Makes another model be the one to load, whose GPU worker, a double, starts as is said, with so many bytes of memory free;
    returns that double's folder."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
    count = 0

    def put(start: str = "", free: int = 8 << 30, **changed: bytes | None) -> Path:
        nonlocal count
        count += 1
        place, shipped = tmp_path / f"double-{count}", models / "black-scholes/2.0.0"
        place.mkdir()
        rewritten(shipped, tmp_path / "model", lambda m: m.update(description=f"number {count}"), **changed)
        chosen: dict[str, Any] = {
            "command": double(place, start),
            "gpus": ("0",),
            "patience": UNHURRIED,
            "free_memory": lambda: free,
        }
        monkeypatch.setattr(assembly, "Options", partial(Options, **chosen))
        return place

    return put


class Served:
    """A server that requires a GPU."""

    def __init__(self, service: Service, state: State) -> None:
        self.service, self._state = service, state
        self._app = service.apps()[0][0]

    @property
    def complaint(self) -> str:
        return self._state.complaint()

    async def answers_by_the_model(self) -> None:
        """One question, which stays in the process, and a list, which is a worker's; the server is ready before and after."""
        assert self.complaint == ""
        for question, engine in ((OPTION, "litert"), ([OPTION] * 3, "gpu")):
            wire = await ask(self._app, wire=Wire(json.dumps(question).encode()), path="/predict")
            answers = wire.json if isinstance(wire.json, list) else [wire.json]
            assert {(answer["method"], answer["engine"], answer["reason"]) for answer in answers} == {
                ("model", engine, None)
            }
        assert self.complaint == ""


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Served]:
    chosen: dict[str, Any] = {"engine": "gpu", "gpu_policy": "require", "fallback_cpu": False, "cache_size": 0}
    given = settings.load(model_uri=f"file://{folder / 'model'}", timeout=UNHURRIED, **chosen)
    state = State(ready=True)
    service = await Service.open(given, state)
    try:
        yield Served(service, state)
    finally:
        await service.close()


async def test_a_server_does_not_wait_for_its_required_gpu_to_listen(tmp_path: Path, put: Put) -> None:
    place = put("slow")
    async with serving(tmp_path) as served:
        assert served.complaint == "the GPU policy is require and no GPU worker is ready: still starting"
        (place / "start").touch()
        await until(lambda: not served.complaint)
        await served.answers_by_the_model()


async def test_until_the_new_model_has_its_required_gpu_the_old_one_serves(tmp_path: Path, put: Put) -> None:
    put()
    async with serving(tmp_path) as served:
        await until(lambda: not served.complaint)
        before, place = served.service.model, put("slow")
        reloading = asyncio.create_task(served.service.reload())
        await until(lambda: (place / "starts").exists() or reloading.done())
        await served.answers_by_the_model()
        assert served.service.model is before
        (place / "start").touch()
        while not reloading.done():
            await served.answers_by_the_model()
        assert (await reloading)["result"] == "swapped"
        assert served.service.model is not before
        await served.answers_by_the_model()


@pytest.mark.parametrize(
    ("start", "said"), [("exit", "the worker ended with code 4"), ("refuse", "OSError: no such device")]
)
async def test_a_model_whose_required_gpu_does_not_come_up_never_replaces_one_that_has_it(
    tmp_path: Path, put: Put, start: str, said: str
) -> None:
    put()
    async with serving(tmp_path) as served:
        await until(lambda: not served.complaint)
        before = served.service.model
        put(start)
        done = await served.service.reload()
        lacking = "the GPU policy is require and no GPU worker came up"
        assert (done["result"], done["detail"]) == ("failed", f"the model in use stays: {lacking}: {said}")
        assert served.service.model is before
        await served.answers_by_the_model()
        put()
        assert (await served.service.reload())["result"] == "swapped"
        await served.answers_by_the_model()


async def test_nor_does_one_without_the_weights_that_a_gpu_would_evaluate(tmp_path: Path, put: Put) -> None:
    put()
    async with serving(tmp_path) as served:
        await until(lambda: not served.complaint)
        put(weights__npz=None)
        done = await served.service.reload()
        assert done["result"] == "failed"
        assert done["detail"].endswith("came up: the model has no weights.npz that a worker could evaluate")
        await served.answers_by_the_model()


async def test_a_model_that_nobody_is_served_by_is_replaced_at_once(tmp_path: Path, put: Put) -> None:
    put("slow")
    async with serving(tmp_path) as served:
        assert served.complaint
        place = put("slow")
        assert (await served.service.reload())["result"] == "swapped"
        (place / "start").touch()
        await until(lambda: not served.complaint)
        await served.answers_by_the_model()


async def test_without_memory_for_a_second_worker_the_model_in_use_stays(tmp_path: Path, put: Put) -> None:
    put()
    async with serving(tmp_path) as served:
        await until(lambda: not served.complaint)
        put(free=1 << 29)
        done = await served.service.reload()
        assert done["detail"].endswith(
            "1 GiB of free memory beside the model in use, and 512 MiB are free; raise spec.resources"
        )
        await served.answers_by_the_model()
