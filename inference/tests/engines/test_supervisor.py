"""No call is lost, whatever happens to a worker process. Each fault happens in a real child."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pinn_inference import tracing
from pinn_inference.engines import child as child_module
from pinn_inference.engines.child import Child
from pinn_inference.engines.supervisor import Pool, Recipe, Worker
from pinn_inference.errors import EngineError

from .conftest import Model, close, faulty, recipe, some_points, until
from .double import Fault


@asynccontextmanager
async def running(*recipes: Recipe) -> AsyncIterator[Pool]:
    pool = Pool("gpu", [Worker(r) for r in recipes])
    pool.start()
    try:
        await until(lambda: all(worker.ready for worker in pool.workers))
        yield pool
    finally:
        await pool.close()


def starts(folder: Path) -> list[int]:
    """The processes started so far."""
    return [int(line) for line in (folder / "starts").read_text().split()]


def batches(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "batches").read_text().split()]


def exists(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_worker_answers_each_of_many_calls_with_its_own_jets(tmp_path: Path, model: Model) -> None:
    lots = [some_points(1 + 7 * i, seed=i) for i in range(30)]
    async with running(recipe(tmp_path, model)) as pool:
        answers = await asyncio.gather(*(pool.jets(points, 60) for points in lots))
    for points, answer in zip(lots, answers, strict=True):
        assert close(answer, model.exact(points))


@pytest.mark.parametrize(
    ("fault", "reason", "restarts"),
    [
        (Fault.OUT_OF_MEMORY, "gpu_oom", 0),
        (Fault.MODEL_ERROR, "model_error", 0),
        (Fault.DEVICE_ERROR, "gpu_error", 1),
        (Fault.EXIT, "gpu_error", 1),
        (Fault.KILLED, "gpu_error", 1),
        (Fault.HANG, "timeout", 1),
        (Fault.GARBAGE, "gpu_error", 1),
        (Fault.HALF_AN_ANSWER, "gpu_error", 1),
        (Fault.ANSWER_TO_ANOTHER, "gpu_error", 1),
        (Fault.ABORT_WITH_A_WORD, "gpu_error", 1),
    ],
)
async def test_a_fault_is_told_with_its_reason_and_the_worker_comes_back(
    tmp_path: Path, model: Model, fault: Fault, reason: str, restarts: int
) -> None:
    async with running(recipe(tmp_path, model)) as pool:
        with pytest.raises(EngineError) as told:
            await pool.jets(faulty(fault), 0.3 if fault is Fault.HANG else 60)
        assert told.value.reason == reason
        await until(lambda: pool.workers[0].restarts == restarts and pool.ready)
        points = some_points(10)
        assert close(await pool.jets(points, 60), model.exact(points))
        assert len(starts(tmp_path)) == 1 + restarts


async def test_a_device_out_of_memory_rests_and_says_so_meanwhile(tmp_path: Path, model: Model) -> None:
    async with running(recipe(tmp_path, model, first_pause=3600.0, longest_pause=3600.0)) as pool:
        with pytest.raises(EngineError):
            await pool.jets(faulty(Fault.OUT_OF_MEMORY), 60)
        await until(lambda: not pool.ready)
        with pytest.raises(EngineError, match="RESOURCE_EXHAUSTED") as told:
            await pool.jets(some_points(1), 3600)
        assert told.value.reason == "gpu_oom"
    assert len(starts(tmp_path)) == 1


async def test_the_last_word_of_a_process_that_aborts_is_its_last_error(tmp_path: Path, model: Model) -> None:
    async with running(recipe(tmp_path, model)) as pool:
        with pytest.raises(EngineError, match=r"signal 6: F0000 could not synchronize: CUDA_ERROR_LAUNCH_FAILED"):
            await pool.jets(faulty(Fault.ABORT_WITH_A_WORD), 60)
        assert "CUDA_ERROR_LAUNCH_FAILED" in str(pool.state()[0]["last_error"])


async def test_no_call_is_lost_when_faults_and_questions_come_together(tmp_path: Path, model: Model) -> None:
    """Three callers in a row each; every twelfth question is a fault, which also hits what was merged with it."""
    faults = [Fault.EXIT, Fault.OUT_OF_MEMORY, Fault.KILLED, Fault.GARBAGE, Fault.DEVICE_ERROR]
    calls = iter([faulty(faults[i // 12 % 5]) if i % 12 == 11 else some_points(5, seed=i) for i in range(180)])
    outcomes: list[bool] = []
    reasons: set[str] = set()

    async def ask(pool: Pool) -> None:
        for points in calls:
            try:
                outcomes.append(close(await pool.jets(points, 30), model.exact(points)))
            except EngineError as error:
                reasons.add(error.reason)
                outcomes.append(False)
                await until(lambda: pool.ready)

    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    async with running(*(recipe(folder, model) for folder in folders)) as pool:
        await asyncio.gather(*(ask(pool) for _ in range(3)))
    assert len(outcomes) == 180
    assert reasons == {"gpu_error", "gpu_oom"}
    assert 180 - 3 * 15 <= sum(outcomes) <= 180 - 15


async def test_the_other_device_serves_while_one_is_down(tmp_path: Path, model: Model) -> None:
    folders = [tmp_path / "broken", tmp_path / "sound"]
    for folder in folders:
        folder.mkdir()
    broken = recipe(folders[0], model, device="gpu:0", first_pause=3600.0, longest_pause=3600.0)
    async with running(broken, recipe(folders[1], model, device="gpu:1")) as pool:
        with pytest.raises(EngineError):
            await pool.workers[0].jets(faulty(Fault.EXIT), 60)
        points = some_points(10)
        for _ in range(20):
            assert close(await pool.jets(points, 60), model.exact(points))
        assert [(s["device"], s["status"]) for s in pool.state()] == [("gpu:0", "degraded"), ("gpu:1", "ready")]


async def test_calls_go_to_the_device_with_the_least_to_do(tmp_path: Path, model: Model) -> None:
    folders = [tmp_path / "busy", tmp_path / "idle"]
    for folder in folders:
        folder.mkdir()
    async with running(*(recipe(folder, model, patience=60.0) for folder in folders)) as pool:
        waiting = asyncio.create_task(pool.workers[0].jets(faulty(Fault.WAIT), 60))
        await until(lambda: (folders[0] / "batches").exists())
        for _ in range(5):
            await pool.jets(some_points(10), 60)
        assert batches(folders[1]) == [10] * 5
        (folders[0] / "go").touch()
        assert (await waiting).shape == (4, 1)
    assert batches(folders[0]) == [1]


async def test_what_arrives_during_a_batch_goes_together_as_the_next(tmp_path: Path, model: Model) -> None:
    async with running(recipe(tmp_path, model, capacity=64, patience=60.0)) as pool:
        first = asyncio.create_task(pool.jets(faulty(Fault.WAIT), 60))
        await until(lambda: (tmp_path / "batches").exists())
        lots = [some_points(10, seed=i) for i in range(8)]
        others = [asyncio.create_task(pool.jets(points, 60)) for points in lots]
        await until(lambda: pool.workers[0].outstanding == 81)
        (tmp_path / "go").touch()
        answers = await asyncio.gather(first, *others)
    assert batches(tmp_path) == [1, 60, 20]
    for points, answer in zip(lots, answers[1:], strict=True):
        assert close(answer, model.exact(points))


async def test_a_batch_beyond_the_shared_memory_is_cut(tmp_path: Path, model: Model) -> None:
    points = some_points(150)
    async with running(recipe(tmp_path, model, capacity=64)) as pool:
        assert close(await pool.jets(points, 60), model.exact(points))
    assert batches(tmp_path) == [64, 64, 22]


async def test_a_full_queue_refuses_at_once(tmp_path: Path, model: Model) -> None:
    async with running(recipe(tmp_path, model, waiting=3, patience=60.0)) as pool:
        calls = [asyncio.create_task(pool.jets(faulty(Fault.WAIT), 3600))]
        await until(lambda: (tmp_path / "batches").exists())
        calls += [asyncio.create_task(pool.jets(some_points(1), 3600)) for _ in range(3)]
        await until(lambda: pool.workers[0].outstanding == 4)
        with pytest.raises(EngineError, match="3 calls wait for gpu:0 already") as told:
            await pool.jets(some_points(1), 3600)
        assert told.value.reason == "timeout"
        (tmp_path / "go").touch()
        assert len(await asyncio.gather(*calls)) == 4


async def test_callers_who_left_are_not_evaluated_for(tmp_path: Path, model: Model) -> None:
    async with running(recipe(tmp_path, model, patience=60.0)) as pool:
        first = asyncio.create_task(pool.jets(faulty(Fault.WAIT), 60))
        await until(lambda: (tmp_path / "batches").exists())
        with pytest.raises(EngineError, match=r"within 0\.01 s"):
            await pool.jets(some_points(5), 0.01)
        (tmp_path / "go").touch()
        await first
        await pool.jets(some_points(7), 60)
    assert batches(tmp_path) == [1, 7]


async def test_a_hasty_caller_does_not_have_a_healthy_process_killed(tmp_path: Path, model: Model) -> None:
    async with running(recipe(tmp_path, model, patience=60.0)) as pool:
        with pytest.raises(EngineError) as told:
            await pool.jets(faulty(Fault.WAIT), 0.01)
        assert told.value.reason == "timeout"
        (tmp_path / "go").touch()
        await pool.jets(some_points(5), 60)
        assert pool.state()[0]["restarts"] == 0


async def test_a_process_that_dies_idle_is_replaced_before_anyone_asks(tmp_path: Path, model: Model) -> None:
    async with running(recipe(tmp_path, model)) as pool:
        os.kill(starts(tmp_path)[0], signal.SIGKILL)
        await until(lambda: pool.workers[0].restarts == 1 and pool.ready)
        assert pool.state()[0]["last_error"] == "the worker ended with signal 9"


async def test_a_process_that_cannot_be_killed_is_waited_for_before_another_is_started(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As one in its driver's uninterruptible sleep: more of them would take all memory there is."""
    async with running(recipe(tmp_path, model)) as pool:
        (worker,), (pid,) = pool.workers, starts(tmp_path)
        with monkeypatch.context() as patched:
            patched.setattr(asyncio.subprocess.Process, "kill", lambda _: None)
            patched.setattr(child_module, "REAPING", 0.01)
            with pytest.raises(EngineError):
                await pool.jets(faulty(Fault.HANG), 0.1)
            await until(lambda: "does not end" in str(worker.last_error))
        assert f"the process {pid} was killed and does not end" in caplog.text
        assert "did not answer within" in str(worker.last_error)
        for _ in range(20):  # far longer than its pause
            await asyncio.sleep(0.005)
        assert (worker.restarts, worker.status, starts(tmp_path)) == (0, "degraded", [pid])
        os.kill(pid, signal.SIGKILL)
        await until(lambda: pool.ready)
        assert (worker.restarts, len(starts(tmp_path))) == (1, 2)


async def test_a_worker_that_is_closed_while_its_process_ends_waits_for_that(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(recipe(tmp_path, model)) as pool:
        (worker,) = pool.workers
        with monkeypatch.context() as patched:
            patched.setattr(asyncio.subprocess.Process, "kill", lambda _: None)
            with pytest.raises(EngineError):
                await pool.jets(faulty(Fault.HANG), 0.1)
            await until(lambda: worker._ending)
        child = worker._ending
    assert child is not None
    assert child.gone.done()


async def test_whatever_goes_wrong_with_a_batch_its_callers_are_told_at_once(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("nobody foresaw this")

    async with running(recipe(tmp_path, model)) as pool:
        with monkeypatch.context() as patched:
            patched.setattr(Child, "evaluate", broken)
            async with asyncio.timeout(60):
                with pytest.raises(EngineError, match="nobody foresaw this") as told:
                    await pool.jets(some_points(5), 3600)
        assert told.value.reason == "gpu_error"
        await until(lambda: pool.workers[0].restarts == 1 and pool.ready)
        assert (await pool.jets(some_points(5), 60)).shape == (4, 5)


async def test_a_worker_is_not_the_request_that_had_it_started(tmp_path: Path, model: Model) -> None:
    """What it logs has not that request's id, and nothing of the request is kept."""
    found: list[object] = []

    async def came_up(_: Child) -> None:
        found.append(tracing.current.get())

    worker = Worker(replace(recipe(tmp_path, model), came_up=came_up))
    before = tracing.current.set(SimpleNamespace(trace=None, headers={"x-request-id": "the-callers"}))
    worker.start()
    tracing.current.reset(before)
    try:
        await until(lambda: worker.ready)
    finally:
        await worker.close()
    assert found == [None]


async def test_who_saw_a_child_come_up_may_see_it_again_when_it_has_nothing_to_do(tmp_path: Path, model: Model) -> None:
    wishes, seen = iter([0.001, 3600.0]), []

    async def came_up(child: Child) -> float | None:
        seen.append(child)
        if len(seen) == 2:  # whoever asks meanwhile waits
            asking.append(asyncio.create_task(worker.jets(some_points(3), 60)))
            await asyncio.sleep(0)
        await child.evaluate([some_points(2)], 60)
        return next(wishes)

    asking: list[asyncio.Task[Any]] = []
    worker = Worker(replace(recipe(tmp_path, model), came_up=came_up))
    worker.start()
    try:
        await until(lambda: asking)
        assert (await asking[0]).shape == (4, 3)
        assert (await worker.jets(some_points(4), 60)).shape == (4, 4)
    finally:
        await worker.close()
    assert len(seen) == 2
    assert len(set(seen)) == 1
    assert batches(tmp_path) == [2, 2, 3, 4]


async def test_while_a_worker_starts_calls_are_refused_at_once(tmp_path: Path, model: Model) -> None:
    pool = Pool("gpu", [Worker(recipe(tmp_path, model, start="slow"))])
    pool.start()
    try:
        await until(lambda: (tmp_path / "starts").exists())
        with pytest.raises(EngineError, match="gpu:0 is not ready: starting"):
            await pool.jets(some_points(1), 3600)
        assert (pool.ready, pool.starting) == (False, True)
        (tmp_path / "start").touch()
        await until(lambda: pool.ready)
    finally:
        await pool.close()


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("refuse", "OSError: no such device"),
        ("exit", "the worker ended with code 4"),
        ("silent", "did not answer within"),
    ],
)
async def test_a_worker_that_does_not_start_is_tried_again(tmp_path: Path, model: Model, start: str, said: str) -> None:
    limit = 1.0 if start == "silent" else 60.0
    worker = Worker(recipe(tmp_path, model, start=start, start_limit=limit))
    worker.start()
    try:
        await until(lambda: worker.restarts >= 2)
        assert said in str(worker.last_error)
        assert worker.status == "degraded"
    finally:
        await worker.close()


async def test_who_waits_for_devices_waits_for_the_first_that_comes_up(tmp_path: Path, model: Model) -> None:
    folders = [tmp_path / "broken", tmp_path / "slow"]
    for folder in folders:
        folder.mkdir()
    broken = recipe(folders[0], model, start="refuse", first_pause=3600.0, longest_pause=3600.0)
    pool = Pool("gpu", [Worker(broken), Worker(recipe(folders[1], model, start="slow"))])
    pool.start()
    try:
        await until(lambda: pool.workers[0].last_error)
        waiting = asyncio.create_task(pool.up())
        await asyncio.sleep(0)
        assert not waiting.done()
        (folders[1] / "start").touch()
        assert await waiting is None
    finally:
        await pool.close()


async def test_who_waits_for_devices_is_told_when_each_has_failed(tmp_path: Path, model: Model) -> None:
    pool = Pool("gpu", [Worker(recipe(tmp_path, model, start="refuse")) for _ in range(2)])
    pool.start()
    try:
        assert await pool.up() == "OSError: no such device"
    finally:
        await pool.close()


async def test_who_waits_for_a_device_waits_no_longer_than_it_may_take_to_start(tmp_path: Path, model: Model) -> None:
    pool = Pool("gpu", [Worker(recipe(tmp_path, model, start_limit=0.05))])  # nobody starts it
    assert await pool.up() == "not ready within 0.05 s"


async def test_a_worker_that_starts_at_the_second_try_serves(tmp_path: Path, model: Model) -> None:
    async with running(recipe(tmp_path, model, start="once")) as pool:
        assert pool.state()[0]["restarts"] == 1
        assert len(starts(tmp_path)) == 2


async def test_a_command_that_does_not_exist_is_an_error_like_others(tmp_path: Path, model: Model) -> None:
    given = recipe(tmp_path, model)
    worker = Worker(Recipe(("/no/such/program",), {}, model.weights, "gpu:0", "gpu_error", (2, 4), first_pause=0.001))
    assert given.command != worker.recipe.command
    worker.start()
    try:
        await until(lambda: worker.restarts >= 2)
        assert "no worker process could be started" in str(worker.last_error)
    finally:
        await worker.close()


def test_pauses_double_up_to_a_bound_and_are_never_in_step(tmp_path: Path, model: Model) -> None:
    worker = Worker(recipe(tmp_path, model, first_pause=0.5, longest_pause=30.0))
    for failures, longest in ((1, 0.5), (2, 1.0), (5, 8.0), (7, 30.0), (5000, 30.0)):
        worker._failures = failures
        pauses = {worker._pause() for _ in range(50)}
        assert len(pauses) > 1
        assert longest / 2 <= min(pauses) <= max(pauses) <= longest


async def test_closing_tells_who_waits_and_leaves_no_process(tmp_path: Path, model: Model) -> None:
    async with running(recipe(tmp_path, model, patience=60.0)) as pool:
        calls = [asyncio.create_task(pool.jets(faulty(Fault.HANG), 3600)) for _ in range(3)]
        await until(lambda: (tmp_path / "batches").exists())
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [getattr(outcome, "reason", None) for outcome in outcomes] == ["gpu_error"] * 3
    assert not exists(starts(tmp_path)[0])


PARENT = """
import asyncio, pathlib, sys
sys.path.insert(0, sys.argv[2])
from engines.conftest import Model, faulty, recipe, some_points, until
from pinn_inference.engines.supervisor import Worker
async def main():
    worker = Worker(recipe(pathlib.Path(sys.argv[1]), Model(b"", pathlib.Path(sys.argv[3]).read_bytes())))
    worker.start()
    await until(lambda: worker.ready)
    await worker.jets(faulty(float(sys.argv[4])) if sys.argv[4] != "0" else some_points(1), 3600)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.mark.parametrize(
    "doing",
    [
        pytest.param(0, id="idle"),
        pytest.param(Fault.HANG, id="hung", marks=pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")),
    ],
)
async def test_a_server_that_is_killed_leaves_no_process_behind(tmp_path: Path, models: Path, doing: int) -> None:
    tests = str(Path(__file__).parents[1])
    weights = str(models / "black-scholes/2.0.0/weights.npz")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", PARENT, str(tmp_path), tests, weights, str(int(doing))]
    parent = subprocess.Popen(command, env=environment)  # noqa: ASYNC220 - to be killed, not awaited
    try:
        await until(lambda: (tmp_path / "batches").exists())
    finally:
        parent.kill()
        parent.wait()
    await until(lambda: not exists(starts(tmp_path)[0]))


async def test_a_refusal_takes_no_longer_than_the_deadline(tmp_path: Path, model: Model) -> None:
    async with running(recipe(tmp_path, model, patience=60.0)) as pool:
        began = time.monotonic()
        with pytest.raises(EngineError):
            await pool.jets(faulty(Fault.HANG), 0.2)
        assert time.monotonic() - began < 30  # patience alone would be 60
