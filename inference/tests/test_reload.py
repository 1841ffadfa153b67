"""A reload leaves nothing behind, however many are asked for at once, and nobody waits for what it clears away."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pinn_inference import assembly, memory, settings, tracing, warmup
from pinn_inference import service as service_module
from pinn_inference.api.http import State
from pinn_inference.api.predict import Codec
from pinn_inference.engines.choice import Engines
from pinn_inference.errors import EngineError
from pinn_inference.fallback import Fallback
from pinn_inference.service import Service

from .rewritten import rewritten


class Place:
    """A folder in which a test puts one model after the other."""

    def __init__(self, shipped: Path, folder: Path) -> None:
        self._shipped, self.folder = shipped, folder
        self._count = 0

    def put(self, **changed: bytes | None) -> None:
        """Another model each time, by its digest."""
        self._count += 1
        rewritten(self._shipped, self.folder, lambda m: m.update(description=f"number {self._count}"), **changed)

    async def service(self, **chosen: Any) -> Service:
        given: dict[str, Any] = {"model_uri": f"file://{self.folder}", "timeout": 0.01, **chosen}
        return await Service.open(settings.load(**given), State())


@pytest.fixture
def place(models: Path, tmp_path: Path) -> Place:
    found = Place(models / "black-scholes/2.0.0", tmp_path / "model")
    found.put()
    return found


async def _until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_model_that_was_replaced_is_gone_with_its_cache(place: Place) -> None:
    gc.disable()  # its own next turn may be hours away
    service = await place.service()
    try:
        first, cache = weakref.ref(service.model), service.model.predictor.cache
        assert cache is not None
        service.model.__dict__["circle"] = service.model  # as a problem of somebody's own may have one
        await service.model.predictor.all_at(service.model.predictor.problem.sample(20, np.random.default_rng(3)))
        assert len(cache) > 0
        place.put()
        assert (await service.reload())["result"] == "swapped"
        await _until(lambda: first() is None)
        assert (len(cache), cache.bytes) == (0, 0)
    finally:
        gc.enable()
        await service.close()


async def test_loads_are_counted_that_were_done_and_reloads_by_what_came_of_them(place: Place) -> None:
    service = await place.service()
    await service.reload()
    place.put()
    await service.reload()
    place.put(model__tflite=b"no graph")
    assert (await service.reload())["result"] == "failed"
    said = service._metrics.text().decode().splitlines()
    await service.close()
    assert "pinn_model_loads_total 2.0" in said
    assert [f'pinn_model_reloads_total{{result="{r}"}} 1.0' in said for r in ("swapped", "unchanged", "failed")] == [
        True
    ] * 3


async def test_the_count_of_loads_does_not_rise_for_one_that_is_under_way(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would fall again when that fails."""
    service = await place.service()
    begun, go = threading.Event(), threading.Event()

    def load(*_: object) -> None:
        begun.set()
        assert go.wait(20)
        raise EngineError("no", "model_error")

    monkeypatch.setattr(assembly, "load", load)
    place.put()
    reloading = asyncio.create_task(service.reload())
    await _until(begun.is_set)
    during = service._metrics.text().decode().splitlines()
    go.set()
    assert (await reloading)["result"] == "failed"
    after = service._metrics.text().decode().splitlines()
    await service.close()
    assert [lines.count("pinn_model_loads_total 1.0") for lines in (during, after)] == [1, 1]


async def test_what_is_done_in_the_background_is_not_the_request_that_asked_for_it(place: Place) -> None:
    service = await place.service()
    found: list[object] = []

    async def work() -> None:
        found.append(tracing.current.get())

    before = tracing.current.set(SimpleNamespace(trace=None, headers={}))
    service._in_background(work())
    tracing.current.reset(before)
    await service.close()
    assert found == [None]


async def test_what_is_watched_is_watched_again_after_a_failure_and_that_is_said(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries, again = 0, asyncio.Event()

    async def watch(*_: object) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ZeroDivisionError("in a library")
        again.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(memory, "watch", watch)
    monkeypatch.setattr(service_module, "WATCHED_AGAIN", 0.0)
    service = await place.service(restart_above_memory="900Mi")
    watching = service.watch()
    async with asyncio.timeout(20):
        await again.wait()
    for task in watching:
        task.cancel()
    await asyncio.wait(watching)
    await service.close()
    assert all(task.cancelled() for task in watching)
    assert caplog.text.count("watching the server failed") == 2
    assert "ZeroDivisionError: in a library" in caplog.text


async def test_what_was_before_is_still_named(place: Place) -> None:
    service = await place.service()
    before = service.model.artifact.digest
    place.put()
    said = await service.reload()
    await service.close()
    assert said["previous"] == {"name": "black-scholes", "version": "2.0.0", "digest": before}


async def test_reloads_at_once_start_each_models_workers_once_and_end_them_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Engines] = []
    ended: list[Engines] = []

    async def start(self: Engines) -> None:
        started.append(self)
        await asyncio.sleep(0.01)

    async def close(self: Engines) -> None:
        ended.append(self)

    monkeypatch.setattr(Engines, "start", start)
    monkeypatch.setattr(Engines, "close", close)
    service = await place.service()
    place.put()
    said = await asyncio.gather(*(service.reload() for _ in range(3)))
    assert [one["result"] for one in said] == ["swapped", "unchanged", "unchanged"]
    await service.close()
    assert len(started) == len(set(started)) == 2
    assert ended == started


async def test_a_reload_is_answered_before_the_old_model_is_cleared_away_and_closing_waits_for_that(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = []
    close = Engines.close

    async def closed(self: Engines) -> None:
        await close(self)
        ended.append(self)

    monkeypatch.setattr(Engines, "close", closed)
    service = await place.service(timeout=3600.0)
    place.put()
    async with asyncio.timeout(30):
        assert (await service.reload())["result"] == "swapped"
        assert ended == []
        await service.close()
    assert len(ended) == 2


# ------------------------------------------------------------------------------- the admin's work and a reload

BEYOND: list[dict[str, float]] = [
    {"spot": 100, "strike": 105, "maturity": maturity, "rate": 0.03, "volatility": 0.2} for maturity in (4.0, 5.0)
]
"""Outside the trained ranges: the solver's."""

Work = Callable[[Service], Awaitable[Any]]


class Slow:
    """A solver that waits until it may go on."""

    def __init__(self, fallback: Fallback) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self._solve, fallback.solve, fallback.slow = fallback.solve, self, True

    def __call__(self, point: Any) -> Any:
        self.begun.set()
        assert self.go.wait(20)
        return self._solve(point)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[Fallback]:
    """Whose threads were let go, in this order."""
    found: list[Fallback] = []
    close = Fallback.close

    def closing(self: Fallback) -> None:
        found.append(self)
        close(self)

    monkeypatch.setattr(Fallback, "close", closing)
    return found


@pytest.fixture
def _warmed_from_beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(codec: Codec, *_: object) -> int:
        return len(await codec.predictor.many(codec.converted(list[object](BEYOND))))

    monkeypatch.setattr(warmup, "run", run)


@pytest.mark.usefixtures("_warmed_from_beyond")
@pytest.mark.parametrize(
    "work",
    [
        lambda service: service._shadow(BEYOND, False),
        lambda service: service._warm(BEYOND),
        lambda service: service.warm_up(),
    ],
    ids=["shadow", "warm", "warm_up"],
)
async def test_a_model_that_was_replaced_stays_whole_while_the_admin_works_with_it(
    place: Place, closed: list[Fallback], caplog: pytest.LogCaptureFixture, work: Work
) -> None:
    service = await place.service(warm_up="synthetic")
    old = service.model.predictor.fallback
    slow = Slow(old)
    working = asyncio.ensure_future(work(service))
    await _until(slow.begun.is_set)
    place.put()
    assert (await service.reload())["result"] == "swapped"
    await asyncio.sleep(0.1)  # ten times as long as requests may take
    assert closed == []
    slow.go.set()
    await working
    assert "the cache starts cold" not in caplog.text
    await _until(lambda: closed == [old])
    await service.close()


async def test_closing_does_not_wait_for_the_admins_work(place: Place, closed: list[Fallback]) -> None:
    service = await place.service()
    old = service.model.predictor.fallback
    slow = Slow(old)
    working = asyncio.ensure_future(service._shadow(list(BEYOND), False))
    await _until(slow.begun.is_set)
    place.put()
    await service.reload()
    async with asyncio.timeout(4):
        await service.close()
    assert closed[0] is old
    working.cancel()
    slow.go.set()
    await asyncio.wait([working])


async def test_whether_the_cache_is_on_is_said_of_the_model_in_use(place: Place) -> None:
    place.put(errors__npz=None)
    service = await place.service()
    cached = service._components()["pinn_cache"]
    assert cached()["enabled"] is False  # type: ignore[index]
    place.put()
    await service.reload()
    assert "enabled" not in cached()  # type: ignore[operator]
    await service.close()


@pytest.mark.parametrize(
    ("wished", "limit", "said"), [("90%", None, 1), ("90%", 1 << 40, 0), ("0%", None, 0), ("900Mi", None, 0)]
)
async def test_a_share_of_a_memory_limit_that_is_not_there_is_said_to_be_watched_by_nobody(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    wished: str,
    limit: int | None,
    said: int,
) -> None:
    monkeypatch.setattr(memory, "limit", lambda: limit)
    service = await place.service(restart_above_memory=wished)
    for task in service.watch():
        task.cancel()
    await service.close()
    assert caplog.text.count("memory is not watched: there is no limit for it here to take 90% of") == said


@pytest.mark.parametrize(("solver", "status"), [(True, "degraded"), (False, "unhealthy")])
async def test_a_model_that_no_longer_answers_is_seen_though_the_solver_does_and_is_not_counted(
    place: Place, monkeypatch: pytest.MonkeyPatch, solver: bool, status: str
) -> None:
    service = await place.service(fallback_solver=solver)
    probe = service._components()["pinn_model"]
    assert (await probe())["status"] == "healthy"  # type: ignore[misc]
    violations = dict(service._metrics.violations.counts)

    def nonsense(_: Engines, z: float, s: float) -> tuple[float, ...]:
        return (z + 50.0, 50.0, 50.0, 50.0)

    monkeypatch.setattr(Engines, "jet", nonsense)
    asked = [await probe() for _ in range(40)]  # type: ignore[misc]  # at random; far from the strike no network matters
    assert {one["status"] for one in asked if "breaks" in one["prediction_test"]} == {status}
    assert service._metrics.violations.counts == violations

    def lost(*_: object) -> None:
        raise EngineError("gone", "model_error")

    monkeypatch.setattr(Engines, "jet", lost)
    assert (await probe())["prediction_test"] == "failed: gone"  # type: ignore[misc]
    monkeypatch.undo()
    assert (await probe())["status"] == "healthy"  # type: ignore[misc]
    await service.close()
