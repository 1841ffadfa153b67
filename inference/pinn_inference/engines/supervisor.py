"""Keeps worker processes serving, and loses no call: each ends with jets or with an EngineError its caller can fall back on.

A Worker is one device: a bounded queue, one batch in flight, and whatever arrived meanwhile merged into the next. A child
that dies, hangs, or reports a broken device is replaced after a growing pause; meanwhile calls are refused at once rather
than kept waiting. A Pool is several devices, each call going to the one with the least to do.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np

from pinn_inference.engines import Array, Shape
from pinn_inference.engines.child import Child, ChildFailed, ChildLost
from pinn_inference.engines.frames import Kind
from pinn_inference.errors import EngineError
from pinn_inference.logs import event

WARNING: Final = 30
Status = Literal["starting", "ready", "degraded"]
CameUp = Callable[[Child], Awaitable[float | None]]
"""Sees a child. Returns after how many seconds without work it wants to see it again, or None."""


async def _nothing(_: Child) -> None:
    return None


def _never() -> None:
    return None


@dataclass(frozen=True)
class Recipe:
    """How a worker is made and how patient one is with it; times in seconds.

    `reason` is what a call is told when the worker breaks; `hindered` says why no process may be started now, or None; `came_up`
    sees each new child before it serves, and again where it wants to; `shape` is how many numbers a point has and how many rows
    a jet.
    """

    command: Sequence[str]
    env: Mapping[str, str]
    weights: bytes
    device: str
    reason: Literal["gpu_error", "model_error"]
    shape: Shape
    hindered: Callable[[], str | None] = _never
    came_up: CameUp = _nothing
    capacity: int = 16_384
    waiting: int = 256
    start_limit: float = 120.0
    patience: float = 0.5
    first_pause: float = 0.5
    longest_pause: float = 30.0


@dataclass(eq=False)
class _Call:
    points: Array
    deadline: float
    answer: asyncio.Future[Array] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Worker:
    """One device. `start`, then `jets` from any task, then `close`."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.status: Status = "starting"
        self.restarts = 0
        self.last_error: str | None = None
        self.description = ""
        self._reason: str = recipe.reason
        self._failures = 0
        self._again: float | None = None
        self._ending: Child | None = None
        self._undead: Child | None = None
        self._calls: deque[_Call] = deque()
        self._in_flight = 0
        self._woken = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether a call would be taken."""
        return self.status == "ready"

    @property
    def reason(self) -> str:
        """What a call is told while it is not: of what kind the last failure was."""
        return self._reason

    @property
    def outstanding(self) -> int:
        """Points waiting or being evaluated."""
        return self._in_flight + sum(len(call.points) for call in self._calls)

    def start(self) -> None:
        """Begins; returns at once. Not on behalf of the request that may be the reason: it outlives that."""
        self._running = asyncio.create_task(self._run(), context=Context())

    async def close(self) -> None:
        """Ends the process; calls that wait are told so."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        if self._ending is not None:  # that was cut short
            await self._ending.end()
        self._refuse_waiting("the worker is being closed")

    async def jets(self, points: Array, deadline_s: float) -> Array:
        """Jets (k, n) of at most `capacity` points (n, d). Raises EngineError, at the latest when the deadline has passed."""
        if not self.ready:
            raise EngineError(f"{self.recipe.device} is not ready: {self.last_error or 'starting'}", self.reason)
        if len(self._calls) >= self.recipe.waiting:
            raise EngineError(f"{len(self._calls)} calls wait for {self.recipe.device} already", "timeout")
        call = _Call(points, asyncio.get_running_loop().time() + deadline_s)
        self._calls.append(call)
        self._woken.set()
        try:
            async with asyncio.timeout_at(call.deadline):
                return await call.answer
        except TimeoutError:
            raise EngineError(f"no answer from {self.recipe.device} within {deadline_s:.3g} s", "timeout") from None

    def state(self) -> dict[str, Any]:
        """For a person who looks at detailed health."""
        return {
            "device": self.recipe.device,
            "description": self.description,
            "status": self.status,
            "restarts": self.restarts,
            "last_error": self.last_error,
        }

    async def _run(self) -> None:
        while True:
            try:
                await self._one_life()
            except Exception as error:  # noqa: BLE001 - not even a bug of ours may leave a device without its supervisor
                self._lost(error)
            await asyncio.sleep(self._pause())
            await self._reaped()
            self.restarts += 1

    async def _reaped(self) -> None:
        """Waits for a process that was killed and is still there: its driver holds it with its memory, and would hold others."""
        if (child := self._undead) is None:
            return
        said = f"the process {child.pid} was killed and does not end; no other is started before"
        self.last_error = f"{self.last_error}; {said}"
        event(said, WARNING, device=self.recipe.device)
        await asyncio.wait([child.gone])
        self._undead = None

    async def _one_life(self) -> None:
        r = self.recipe
        if why := r.hindered():
            raise ChildLost(why)
        child = await Child.started(r.command, r.env, r.capacity, r.shape)
        try:
            await child.begin(r.weights, r.start_limit)
            await self._come_up(child)
            while True:
                await self._next(child)
        except ChildLost as error:
            self._lost(error)  # before the process is reaped, which may take a while: callers wait
        finally:
            self.status = "degraded"
            self._ending = child
            gone = await child.end()
            self._ending, self._undead = None, None if gone else child

    async def _come_up(self, child: Child) -> None:
        await self._seen(child)
        child.gone.add_done_callback(lambda _: self._woken.set())
        self.description = child.description
        self.status = "ready"
        event("a worker is ready", device=self.recipe.device, description=child.description, restarts=self.restarts)

    async def _seen(self, child: Child) -> None:
        try:
            self._again = await self.recipe.came_up(child)
        except ChildFailed as error:
            raise ChildLost(str(error)) from None

    async def _idle(self, child: Child) -> None:
        """Until there may be something to do."""
        if self._again is None:
            await self._woken.wait()
            return
        try:
            async with asyncio.timeout(self._again):
                await self._woken.wait()
        except TimeoutError:
            await self._seen(child)

    async def _next(self, child: Child) -> None:
        """Waits for calls and answers a batch of them."""
        while not (batch := self._batch()):
            if child.gone.done():
                raise ChildLost(await child.last_words())
            self._woken.clear()
            await self._idle(child)
        self._in_flight = sum(len(call.points) for call in batch)
        try:
            jets = await child.evaluate([call.points for call in batch], self._limit(batch))
        except ChildFailed as error:
            await self._failed(error, batch)
        except ChildLost as error:
            self._tell(batch, str(error), "timeout" if error.hung else self.recipe.reason)
            raise
        except asyncio.CancelledError:
            self._tell(batch, "the worker is being closed", self.recipe.reason)
            raise
        except Exception as error:
            self._tell(batch, repr(error), self.recipe.reason)
            raise
        else:
            self._failures = 0
            for call, answer in zip(batch, jets, strict=True):
                if not call.answer.done():
                    call.answer.set_result(answer)
        finally:
            self._in_flight = 0

    def _batch(self) -> list[_Call]:
        """The calls next in turn that fit together; those whose callers have left are dropped."""
        batch: list[_Call] = []
        room = self.recipe.capacity
        while self._calls and (self._calls[0].answer.done() or len(self._calls[0].points) <= room):
            call = self._calls.popleft()
            if not call.answer.done():
                batch.append(call)
                room -= len(call.points)
        return batch

    def _limit(self, batch: Sequence[_Call]) -> float:
        """Until the last caller gives up, but never so soon that a healthy process would be killed for one hasty caller."""
        now = asyncio.get_running_loop().time()
        return max(self.recipe.patience, max(call.deadline for call in batch) - now)

    async def _failed(self, error: ChildFailed, batch: Sequence[_Call]) -> None:
        """Out of memory passes: the device rests. A device error does not: the process is replaced."""
        reason = self._reason_for(error.kind)
        self._tell(batch, str(error), reason)
        if error.kind is Kind.DEVICE_ERROR:
            raise ChildLost(str(error))
        if error.kind is Kind.OUT_OF_MEMORY:
            self._lost(error, reason)
            await asyncio.sleep(self._pause())
            self.status = "ready"

    def _reason_for(self, kind: Kind) -> str:
        if self.recipe.reason == "model_error" or kind is Kind.MODEL_ERROR:
            return "model_error"
        return "gpu_oom" if kind is Kind.OUT_OF_MEMORY else "gpu_error"

    def _lost(self, error: Exception, reason: str | None = None) -> None:
        self.status = "degraded"
        self.last_error = str(error)
        self._reason = reason or self.recipe.reason
        self._failures += 1
        event("a worker failed", WARNING, device=self.recipe.device, error=str(error), failures=self._failures)
        self._refuse_waiting(str(error))

    def _refuse_waiting(self, sentence: str) -> None:
        self._tell(self._calls, sentence, self._reason)
        self._calls.clear()

    def _tell(self, calls: Sequence[_Call] | deque[_Call], sentence: str, reason: str) -> None:
        for call in calls:
            if not call.answer.done():
                call.answer.set_exception(EngineError(f"{self.recipe.device}: {sentence}", reason))

    def _pause(self) -> float:
        """Doubles with every failure in a row; the jitter keeps several devices from starting in step."""
        longest = min(self.recipe.longest_pause, self.recipe.first_pause * 2.0 ** min(self._failures - 1, 30))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


class Pool:
    """Several devices of one kind behind one name."""

    def __init__(self, name: str, workers: Sequence[Worker]) -> None:
        self.name = name
        self.workers = tuple(workers)

    @property
    def ready(self) -> bool:
        """Whether any device would take a call."""
        return any(worker.ready for worker in self.workers)

    @property
    def starting(self) -> bool:
        """Whether no device has failed yet and none is ready."""
        return all(worker.status == "starting" for worker in self.workers)

    def lack(self) -> tuple[str, str] | None:
        """The sentence and the reason for which none would take a call, or None while one would."""
        if self.ready:
            return None
        failed = next((worker for worker in self.workers if worker.last_error), self.workers[0])
        return failed.last_error or "still starting", failed.reason

    def start(self) -> None:
        """Starts every device; returns at once."""
        for worker in self.workers:
            worker.start()

    async def up(self) -> str | None:
        """Waits until a device would take a call. Says why none will: each has failed, or had all the time it may start in."""
        loop, limit = asyncio.get_running_loop(), max(worker.recipe.start_limit for worker in self.workers)
        ends = loop.time() + limit
        while lack := self.lack():
            if all(worker.last_error is not None for worker in self.workers):
                return lack[0]
            if loop.time() > ends:
                return f"not ready within {limit:g} s"
            await asyncio.sleep(0.02)
        return None

    async def close(self) -> None:
        """Ends every process."""
        await asyncio.gather(*(worker.close() for worker in self.workers))

    async def jets(self, points: Array, deadline_s: float) -> Array:
        """Jets (k, n) from the device with the least to do. Raises EngineError."""
        size = self.workers[0].recipe.capacity
        if len(points) <= size:
            return await self._least_busy().jets(points, deadline_s)
        parts = (self.jets(points[at : at + size], deadline_s) for at in range(0, len(points), size))
        return np.concatenate(await asyncio.gather(*parts), axis=1)

    def _least_busy(self) -> Worker:
        able = [worker for worker in self.workers if worker.ready] or self.workers
        return min(able, key=lambda worker: worker.outstanding)

    def state(self) -> list[dict[str, Any]]:
        """Each device."""
        return [worker.state() for worker in self.workers]
