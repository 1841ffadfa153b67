"""Which engine answers what, what happens when it cannot, and what an idle worker costs: nothing, as there is none."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pinn_inference.engines import child as child_module
from pinn_inference.engines import choice, crossover
from pinn_inference.engines.choice import Engines, Options
from pinn_inference.errors import EngineError, SettingsError

from ..turns import Turns, each_turn  # noqa: TID252 - the tests are no package with a name of their own
from .conftest import Model, double, faulty, some_points, until
from .double import Fault

MUCH = 1 << 40


@pytest.fixture(autouse=True)
def _paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker gets our environment: the double must find the package wherever these tests run."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
    monkeypatch.setenv("PINN_SERVER_ADMIN_TOKEN", "a secret")


def options(folder: Path, start: str = "", **chosen: Any) -> Options:
    defaults: dict[str, Any] = {
        "command": double(folder, start),
        "first_pause": 0.001,
        "free_memory": lambda: MUCH,
        "cores": lambda: 8,
        "gpus": ("0",),
        "policy": "prefer",
        "from_batch": 100,
    }
    return Options(**{**defaults, **chosen})


@asynccontextmanager
async def engines(given: Options, model: Model) -> AsyncIterator[Engines]:
    made = Engines(model.tflite, model.weights, given)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


async def gpu_ready(made: Engines) -> None:
    await until(lambda: made.state()["gpu"]["workers"][0]["status"] == "ready")


async def test_small_batches_stay_here_and_large_ones_go_to_the_gpu(tmp_path: Path, model: Model) -> None:
    async with engines(options(tmp_path), model) as made:
        await gpu_ready(made)
        for count, engine in ((1, "litert"), (99, "litert"), (100, "gpu"), (5000, "gpu")):
            points = some_points(count)
            done = await made.jets(points, 60)
            assert (done.engine, done.reason) == (engine, None)
            assert np.allclose(done.jets, model.exact(points), atol=1e-5)


async def test_a_single_point_never_leaves_the_process(tmp_path: Path, model: Model) -> None:
    async with engines(options(tmp_path, engine="gpu"), model) as made:
        assert np.allclose(made.jet(0.3, 0.2), model.exact(np.array([[0.3, 0.2]]))[:, 0], atol=1e-5)
        assert made.name == "litert"


@pytest.mark.parametrize(
    ("fault", "reason", "restarts"),
    [
        (Fault.OUT_OF_MEMORY, "gpu_oom", 0),
        (Fault.EXIT, "gpu_error", 1),
        (Fault.KILLED, "gpu_error", 1),
        (Fault.HANG, "timeout", 1),
    ],
)
async def test_what_the_gpu_cannot_answer_the_cpu_does_and_says_why(
    tmp_path: Path, model: Model, fault: Fault, reason: str, restarts: int
) -> None:
    sound = some_points(choice.SLICE + 1)  # so many that time must be left for a second turn
    points = np.concatenate([sound, faulty(fault)])
    async with engines(options(tmp_path), model) as made:
        await gpu_ready(made)
        done = await made.jets(points, 2.0 if fault is Fault.HANG else 60)
        assert (done.engine, done.reason) == ("litert", reason)
        assert np.allclose(done.jets[:, :-1], model.exact(sound), atol=1e-5)
        await until(lambda: made.state()["gpu"]["workers"][0]["restarts"] == restarts)
        await gpu_ready(made)
        assert (await made.jets(some_points(150), 60)).engine == "gpu"


async def test_without_any_time_left_no_worker_is_given_a_batch(tmp_path: Path, model: Model) -> None:
    """It would do it for nobody, and pass for hung when that takes long."""
    async with engines(options(tmp_path), model) as made:
        await gpu_ready(made)
        with pytest.raises(EngineError, match="no time was left") as refused:
            await made.jets(some_points(150), 0.0)
        assert refused.value.reason == "timeout"


async def test_a_gpu_that_is_down_is_a_reason_and_one_that_still_starts_is_none(tmp_path: Path, model: Model) -> None:
    async with engines(options(tmp_path, "slow"), model) as made:
        await until(lambda: (tmp_path / "starts").exists())
        done = await made.jets(some_points(150), 60)
        assert (done.engine, done.reason) == ("litert", None)
    async with engines(options(tmp_path, "refuse", first_pause=3600.0), model) as made:
        await until(lambda: made.state()["gpu"]["workers"][0]["status"] == "degraded")
        done = await made.jets(some_points(150), 60)
        assert (done.engine, done.reason) == ("litert", "gpu_error")
        assert made.state()["gpu"]["workers"][0]["last_error"] == "OSError: no such device"


@pytest.mark.parametrize("chosen", [{"policy": "require"}, {"cpu_fallback": False}])
async def test_without_leave_to_fall_back_the_error_is_the_callers(
    tmp_path: Path, model: Model, chosen: dict[str, Any]
) -> None:
    async with engines(options(tmp_path, **chosen), model) as made:
        await gpu_ready(made)
        with pytest.raises(EngineError) as told:
            await made.jets(np.repeat(faulty(Fault.OUT_OF_MEMORY), 150, axis=0), 60)
        assert told.value.reason == "gpu_oom"


async def test_a_required_gpu_keeps_the_server_unready_until_it_is_ready_and_again_when_it_fails(
    tmp_path: Path, model: Model
) -> None:
    async with engines(options(tmp_path, "slow", policy="require"), model) as made:
        assert made.complaint() == "the GPU policy is require and no GPU worker is ready: still starting"
        (tmp_path / "start").touch()
        await until(lambda: made.complaint() is None)
        (tmp_path / "start").unlink()
        with pytest.raises(EngineError):
            await made.jets(np.repeat(faulty(Fault.EXIT), 150, axis=0), 60)
        await until(made.complaint)
        assert made.complaint() == (
            "the GPU policy is require and no GPU worker is ready: the worker ended with code 3"
        )


async def test_a_required_gpu_that_is_not_there_is_a_complaint_and_a_preferred_one_a_degradation(model: Model) -> None:
    async with engines(Options(policy="require", gpus=()), model) as made:
        assert made.complaint() == "the GPU policy is require and no GPU is visible here"
        assert made.degraded() is None
        assert made.state()["gpu"] == {"status": "off", "reason": "no GPU is visible here"}
    async with engines(Options(policy="prefer", gpus=()), model) as made:
        assert made.complaint() is None
        assert made.degraded() == "the GPU policy is prefer and no GPU is visible here"
    async with engines(Options(gpus=()), model) as made:
        assert (made.complaint(), made.degraded()) == (None, None)
        assert "gpu" not in made.state()


async def test_a_preferred_gpu_is_a_degradation_until_it_is_ready_and_again_when_it_fails(
    tmp_path: Path, model: Model
) -> None:
    async with engines(options(tmp_path, "slow"), model) as made:
        assert made.degraded() == "the GPU policy is prefer and no GPU worker is ready: still starting"
        (tmp_path / "start").touch()
        await until(lambda: made.degraded() is None)
        (tmp_path / "start").unlink()
        assert (await made.jets(np.repeat(faulty(Fault.EXIT), 150, axis=0), 60)).reason == "gpu_error"
        await until(made.degraded)
        assert made.degraded() == "the GPU policy is prefer and no GPU worker is ready: the worker ended with code 3"
        assert made.complaint() is None


def ways_to_ask(made: Engines) -> list[Callable[[], Any]]:
    """One point, a few, a short list and a long one."""

    async def at_once(ask: Callable[[], Any]) -> Any:
        return ask()

    return [
        lambda: at_once(lambda: made.jet(0.3, 0.2)),
        lambda: at_once(lambda: made.few(some_points(20))),
        lambda: made.jets(some_points(1), 60),
        lambda: made.jets(some_points(5000), 60),
    ]


@pytest.mark.parametrize("engine", ["auto", "gpu"])
async def test_nothing_is_evaluated_while_a_required_gpu_is_not_there(model: Model, engine: Any) -> None:
    async with engines(Options(policy="require", engine=engine, gpus=()), model) as made:
        for ask in ways_to_ask(made):
            with pytest.raises(EngineError, match="no GPU is visible here") as told:
                await ask()
            assert told.value.reason == "gpu_error"


@pytest.mark.parametrize("engine", ["auto", "gpu"])
async def test_a_required_gpu_that_is_down_stops_every_answer_and_one_that_is_up_none(
    tmp_path: Path, model: Model, engine: Any
) -> None:
    async with engines(options(tmp_path, "slow", policy="require", engine=engine), model) as made:
        for ask in ways_to_ask(made):
            with pytest.raises(EngineError, match="still starting"):
                await ask()
        (tmp_path / "start").touch()
        await gpu_ready(made)
        for ask in ways_to_ask(made):
            await ask()
        assert np.allclose(made.jet(0.3, 0.2), model.exact(np.array([[0.3, 0.2]]))[:, 0], atol=1e-5)
        (tmp_path / "start").unlink()
        with pytest.raises(EngineError):
            await made.jets(np.repeat(faulty(Fault.EXIT), 150, axis=0), 60)
        for ask in ways_to_ask(made):
            with pytest.raises(EngineError, match="ended with code 3") as told:
                await ask()
            assert told.value.reason == "gpu_error"


async def test_workers_that_are_started_twice_run_once(tmp_path: Path, model: Model) -> None:
    async with engines(options(tmp_path), model) as made:
        assert made._gpu is not None
        (worker,) = made._gpu.workers
        running = worker._running
        await made.start()
        assert worker._running is running


async def test_a_model_that_is_being_loaded_shows_that_it_answers_before_its_required_gpu_is_up(model: Model) -> None:
    made = Engines(model.tflite, model.weights, Options(policy="require", gpus=()))
    assert np.isfinite(made.jet(0.3, 0.2)).all()


@pytest.mark.parametrize(
    ("chosen", "count"),
    [({}, choice.XLA_TRIED_FROM), ({"from_batch": 100}, 100), ({"engine": "gpu"}, 1)],
)
async def test_without_a_preferred_gpu_what_would_have_gone_there_has_a_reason_and_nothing_else_has(
    model: Model, chosen: dict[str, Any], count: int
) -> None:
    lacking: dict[str, Any] = {"policy": "prefer", "gpus": (), "cores": lambda: 1, "free_memory": lambda: 0, **chosen}
    async with engines(Options(**lacking), model) as made:
        done = await made.jets(some_points(count), 60)
        assert (done.engine, done.reason) == ("litert", "gpu_error")
        if count > 1:
            done = await made.jets(some_points(count - 1), 60)
            assert (done.engine, done.reason) == ("litert", None)
    async with engines(Options(**lacking, cpu_fallback=False), model) as made:
        with pytest.raises(EngineError, match="no GPU is visible here") as told:
            await made.jets(some_points(count), 60)
        assert told.value.reason == "gpu_error"
        if count > 1:
            assert (await made.jets(some_points(count - 1), 60)).reason is None
        assert np.isfinite(made.jet(0.3, 0.2)).all()


async def test_a_preferred_gpu_that_is_not_there_leaves_large_batches_to_xla_with_the_reason(
    tmp_path: Path, model: Model
) -> None:
    async with engines(options(tmp_path, gpus=()), model) as made:
        await made.jets(some_points(100), 60)
        await until(lambda: made.state()["xla"]["workers"][0]["status"] == "ready")
        done = await made.jets(some_points(100), 60)
        assert (done.engine, done.reason) == ("xla", "gpu_error")


async def test_a_preferred_gpu_that_never_came_up_is_a_reason_though_its_crossover_is_not_known(
    tmp_path: Path, model: Model
) -> None:
    down: dict[str, Any] = {"start": "refuse", "first_pause": 3600.0, "from_batch": None}
    async with engines(options(tmp_path, **down), model) as made:
        await until(lambda: made.state()["gpu"]["workers"][0]["status"] == "degraded")
        assert made.state()["gpu"]["from_batch"] is None
        assert (await made.jets(some_points(choice.XLA_TRIED_FROM), 60)).reason == "gpu_error"
        assert (await made.jets(some_points(choice.XLA_TRIED_FROM - 1), 60)).reason is None
    async with engines(options(tmp_path, **down, cpu_fallback=False), model) as made:
        with pytest.raises(EngineError) as told:
            await made.jets(some_points(choice.XLA_TRIED_FROM), 60)
        assert told.value.reason == "gpu_error"


@pytest.mark.parametrize(("gain", "reason"), [(64, "gpu_error"), (None, None)])
async def test_a_gpu_that_went_down_is_a_reason_from_the_size_on_that_was_measured(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch, gain: int | None, reason: str | None
) -> None:
    decided: Callable[[Any, Any], int | None] = lambda here, there: gain  # noqa: E731 - the measurement's outcome
    monkeypatch.setattr(crossover, "crossover", decided)
    async with engines(options(tmp_path, from_batch=None, first_pause=3600.0), model) as made:
        await gpu_ready(made)
        assert made.state()["gpu"]["from_batch"] == gain
        os.kill(int((tmp_path / "starts").read_text()), signal.SIGKILL)
        await until(made.degraded)
        assert (await made.jets(some_points(choice.XLA_TRIED_FROM), 60)).reason == reason
        assert (await made.jets(some_points(64), 60)).reason == reason
        assert (await made.jets(some_points(63), 60)).reason is None


async def test_while_the_gpu_rests_after_it_was_out_of_memory_that_is_the_reason(tmp_path: Path, model: Model) -> None:
    async with engines(options(tmp_path, first_pause=3600.0), model) as made:
        await gpu_ready(made)
        assert (await made.jets(np.repeat(faulty(Fault.OUT_OF_MEMORY), 150, axis=0), 60)).reason == "gpu_oom"
        await until(made.degraded)
        assert (await made.jets(some_points(150), 60)).reason == "gpu_oom"


@pytest.mark.parametrize(
    "chosen",
    [{"engine": "gpu"}, {"engine": "litert", "policy": "require"}, {"engine": "xla", "policy": "require"}],
)
def test_settings_that_contradict_each_other_are_refused(chosen: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        Options(**chosen)


async def test_no_worker_is_started_before_a_batch_is_large_enough(tmp_path: Path, model: Model) -> None:
    async with engines(options(tmp_path, policy="never"), model) as made:
        assert (await made.jets(some_points(99), 60)).engine == "litert"
        assert made.state() == {"litert": {"status": "ready"}}
        assert (await made.jets(some_points(100), 60)).engine == "litert"  # while it starts
        await until(lambda: made.state()["xla"]["workers"][0]["status"] == "ready")
        assert (await made.jets(some_points(100), 60)).engine == "xla"
        done = await made.jets(np.repeat(faulty(Fault.OUT_OF_MEMORY), 150, axis=0), 60)
        assert (done.engine, done.reason) == ("litert", "model_error")


@pytest.mark.parametrize(
    ("chosen", "why"),
    [
        ({"free_memory": lambda: choice.XLA_MEMORY - 1}, "less than 1 GiB of memory is free"),
        ({"cores": lambda: 1, "from_batch": None}, "on one core XLA was at no batch size faster than LiteRT"),
    ],
)
async def test_a_worker_that_cannot_pay_is_not_started_and_the_reason_is_seen(
    tmp_path: Path, model: Model, chosen: dict[str, Any], why: str
) -> None:
    async with engines(options(tmp_path, policy="never", **chosen), model) as made:
        assert (await made.jets(some_points(5000), 60)).engine == "litert"
        assert made.state()["xla"] == {"status": "off", "reason": why}
    assert not (tmp_path / "starts").exists()


@pytest.mark.parametrize(("gain", "expected"), [(64, "xla"), (None, "litert")])
async def test_the_measured_crossover_decides_and_a_worker_that_never_pays_is_ended(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch, gain: int | None, expected: str
) -> None:
    measured = 0

    def decided(_: Any, __: Any) -> int | None:
        nonlocal measured
        measured += 1
        return gain

    monkeypatch.setattr(crossover, "crossover", decided)
    async with engines(options(tmp_path, policy="never", from_batch=None, again=0.001), model) as made:
        assert (await made.jets(some_points(choice.XLA_TRIED_FROM), 60)).engine == "litert"
        if gain:
            await until(lambda: made.state()["xla"]["workers"][0]["status"] == "ready")
            assert made.state()["xla"]["from_batch"] == gain
        else:
            await until(lambda: made.state()["xla"].get("status") == "off" and not made._closing)
        assert (await made.jets(some_points(choice.XLA_TRIED_FROM), 60)).engine == expected
    assert len((tmp_path / "starts").read_text().split()) == 1
    assert measured == (1 if gain else choice.XLA_LOOKS)


@pytest.mark.parametrize(("policy", "name"), [("prefer", "gpu"), ("never", "xla")])
async def test_a_worker_that_paid_at_no_size_when_it_came_up_is_measured_again(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch, policy: str, name: str
) -> None:
    outcomes, second = iter([None]), asyncio.Event()

    def decided(_: Any, __: Any) -> int | None:
        return next(outcomes, 64 if second.is_set() else None)

    monkeypatch.setattr(crossover, "crossover", decided)
    monkeypatch.setattr(choice, "XLA_LOOKS", 1 << 30)
    async with engines(options(tmp_path, policy=policy, from_batch=None, again=0.001), model) as made:
        await made.jets(some_points(choice.XLA_TRIED_FROM), 60)
        await until(lambda: made.state()[name]["workers"][0]["status"] == "ready")
        assert made.state()[name]["from_batch"] is None
        assert (await made.jets(some_points(choice.XLA_TRIED_FROM), 60)).engine == "litert"
        second.set()
        await until(lambda: made.state()[name]["from_batch"] == 64)
        assert (await made.jets(some_points(64), 60)).engine == name
    assert len((tmp_path / "starts").read_text().split()) == 1


async def test_a_worker_that_comes_up_under_traffic_is_measured_as_in_a_quiet_hour(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that only the loop's turns move, each by as much as LiteRT is said to take for any batch."""
    turns = Turns()
    monkeypatch.setattr(child_module, "time", SimpleNamespace(perf_counter=lambda: 60.0 * turns.count))
    monkeypatch.setattr(crossover, "time_here", lambda _: dict.fromkeys(crossover.SIZES, 60.0))
    monkeypatch.setattr(crossover, "HELD", 60.0)
    async with engines(options(tmp_path, from_batch=None), model) as made:
        async with each_turn(turns.take):
            await gpu_ready(made)
        assert made.state()["gpu"]["from_batch"] == crossover.SIZES[0]


@pytest.mark.parametrize("engine", ["auto", "xla"])
async def test_memory_that_was_short_once_is_looked_at_again(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch, engine: Any
) -> None:
    free, looks = choice.XLA_MEMORY - 1, 0

    def free_memory() -> int:
        nonlocal looks
        looks += 1
        return free

    chosen: dict[str, Any] = {"policy": "never", "engine": engine, "free_memory": free_memory}
    async with engines(options(tmp_path, **chosen), model) as made:
        for _ in range(3):
            assert (await made.jets(some_points(150), 60)).engine == "litert"
        assert looks == 1  # not for every batch
        assert made.state()["xla"] == {"status": "off", "reason": "less than 1 GiB of memory is free"}
        free = MUCH
        made._xla_looks_again -= choice.REMEMBERED
        assert (await made.jets(some_points(150), 60)).engine == "litert"
        await until(lambda: made.state()["xla"]["workers"][0]["status"] == "ready")
        assert (await made.jets(some_points(150), 60)).engine == "xla"


@pytest.mark.parametrize(("policy", "said_by"), [("prefer", Engines.degraded), ("require", Engines.complaint)])
async def test_while_memory_is_short_no_gpu_worker_is_started_and_it_is_looked_at_again(
    tmp_path: Path, model: Model, policy: str, said_by: Callable[[Engines], str | None]
) -> None:
    """Else the kernel would end the server with it."""
    free = choice.XLA_MEMORY - 1
    async with engines(options(tmp_path, policy=policy, free_memory=lambda: free), model) as made:
        await until(lambda: made.state()["gpu"]["workers"][0]["restarts"] > 2)
        said = f"the GPU policy is {policy} and no GPU worker is ready: less than 1 GiB of memory is free"
        assert said_by(made) == said
        assert not (tmp_path / "starts").exists()
        free = MUCH
        await gpu_ready(made)
        assert (await made.jets(some_points(150), 60)).engine == "gpu"


async def test_every_gpu_worker_that_is_not_up_yet_needs_its_memory(tmp_path: Path, model: Model) -> None:
    """Two that start at once would each find what is enough for one."""

    def each(made: Engines, what: str) -> list[Any]:
        return [worker[what] for worker in made.state()["gpu"]["workers"]]

    free = 2 * choice.XLA_MEMORY - 1
    chosen: dict[str, Any] = {"gpus": ("0", "1"), "free_memory": lambda: free}
    async with engines(options(tmp_path, **chosen), model) as made:
        await until(lambda: all(each(made, "last_error")))
        assert each(made, "last_error") == ["less than 2 GiB of memory is free"] * 2
        free = 2 * choice.XLA_MEMORY
        await until(lambda: each(made, "status") == ["ready"] * 2)
        free = choice.XLA_MEMORY
        first, _ = map(int, (tmp_path / "starts").read_text().split())
        os.kill(first, signal.SIGKILL)
        await until(lambda: len((tmp_path / "starts").read_text().split()) == 3)
        await until(lambda: each(made, "status") == ["ready"] * 2)


async def test_a_gpu_has_longer_to_come_up_than_xla_on_the_cpu(tmp_path: Path, model: Model) -> None:
    async with engines(options(tmp_path, gpus=()), model) as made:
        await made.jets(some_points(150), 60)
        assert made._xla is not None
        on_cpu = made._xla.workers[0].recipe.start_limit
    there = Engines(model.tflite, model.weights, options(tmp_path))._gpu
    assert there is not None
    assert there.workers[0].recipe.start_limit == choice.GPU_STARTING > on_cpu


async def test_a_worker_never_sees_our_settings(tmp_path: Path, model: Model) -> None:
    async with engines(options(tmp_path), model) as made:
        await gpu_ready(made)
    names = (tmp_path / "environment").read_text().split()
    assert "PINN_SERVER_ADMIN_TOKEN" not in names
    assert "CUDA_VISIBLE_DEVICES" in names


async def test_each_worker_sees_its_own_device(tmp_path: Path, model: Model) -> None:
    made = Engines(model.tflite, model.weights, options(tmp_path, gpus=("MIG-a", "MIG-b")))
    assert made._gpu is not None
    seen = [worker.recipe.env["CUDA_VISIBLE_DEVICES"] for worker in made._gpu.workers]
    assert seen == ["MIG-a", "MIG-b"]
    assert [s["device"] for s in made._gpu.state()] == ["gpu:MIG-a", "gpu:MIG-b"]


async def test_a_large_batch_on_the_loop_lets_others_have_their_turn(model: Model) -> None:
    turns, points = Turns(), some_points(10 * choice.SLICE)
    async with engines(Options(), model) as made, each_turn(turns.take):
        done = await made.jets(points, 60)
    assert turns.count >= 9
    assert np.allclose(done.jets, model.exact(points), atol=1e-5)


async def test_a_batch_that_takes_too_long_here_ends_with_a_timeout(model: Model) -> None:
    async with engines(Options(), model) as made:
        with pytest.raises(EngineError) as told:
            await made.jets(some_points(2 * choice.SLICE), 0.0)
        assert told.value.reason == "timeout"
