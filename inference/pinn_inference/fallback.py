"""When the model cannot answer: the reference solver, if it may, or a clear error. Its answers are kept apart and not for long.

What kept the model from answering may pass (a GPU that comes back), so a fallback's answer must not outlive it; and an identical
question repeated meanwhile need not be solved again.
"""

import asyncio
import math
import struct
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from pinn_inference.errors import InvalidInput, OutOfDomain, PinnError, PredictionError, Timeout

KEPT_SECONDS: Final = 10.0
KEPT_ANSWERS: Final = 1024
SOLVERS: Final = 2
"""Slow solutions at a time; further ones wait, and are forgotten when nobody waits for them any more."""

SOLVED: Final = 64
"""Items that the reference solver answers before other requests get their turn."""

REASONS: Final = (
    "gpu_oom",
    "gpu_error",
    "model_error",
    "non_finite",
    "out_of_domain",
    "physics_violation",
    "timeout",
)

Solved = tuple[Any, Any]
"""The outputs, and the bounds of their errors."""


@dataclass(eq=False)
class _Solution:
    """Of one question, for all who ask it meanwhile."""

    task: asyncio.Task[Solved]
    waiters: int = 0
    begun: bool = False


@dataclass
class Fallback:
    """Answers by the reference solver. `solver`: whether it may. `slow`: whether a solution takes long enough for a thread."""

    solve: Callable[[Any], Solved]
    solvable: Callable[[Any], None]
    solver: bool = True
    slow: bool = False
    clock: Callable[[], float] = time.monotonic
    _kept: OrderedDict[bytes, tuple[float, Solved]] = field(default_factory=OrderedDict)
    _running: dict[bytes, _Solution] = field(default_factory=dict)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SOLVERS))
    _threads: ThreadPoolExecutor | None = None

    async def __call__(self, point: Any, reason: str, cause: PinnError) -> Solved:
        """The solver's answer. Raises `cause` as the caller's mistake, PredictionError or Timeout, where there may be none."""
        if not self.solver:
            raise _as_error(cause, reason)
        self._check(point, cause)
        key = struct.pack(f"{len(point)}d", *point)  # the exact question, bit by bit
        if (known := self._kept.get(key)) and known[0] > self.clock():
            return known[1]
        if self.slow:
            return await self._in_thread(key, point)
        solved = self.solved(point)
        self._keep(key, solved)
        return solved

    def solved(self, point: Any) -> Solved:
        """What the solver says, as plain numbers. Raises PredictionError where that is none, or no answer."""
        try:
            values, bounds = (tuple(map(float, numbers)) for numbers in self.solve(point))
        except PinnError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise PredictionError(f"the reference solver has no answer: {said}", "model_error") from error
        if not all(map(math.isfinite, values)) or not all(bound >= 0 for bound in bounds):
            said = f"it says {values}, and that these are within {bounds}"
            raise PredictionError(f"the reference solver has no answer: {said}", "non_finite")
        return values, bounds

    def close(self) -> None:
        """Lets the threads go; a solution that runs is not waited for, and none is begun any more."""
        for key in [key for key, solution in self._running.items() if not solution.begun]:
            self._running.pop(key).task.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _check(self, point: Any, cause: PinnError) -> None:
        try:
            self.solvable(point)
        except InvalidInput:
            if isinstance(cause, OutOfDomain):
                raise
            raise PredictionError(str(cause), "model_error") from cause

    async def _in_thread(self, key: bytes, point: Any) -> Solved:
        """One solution for all who ask the same meanwhile. It is forgotten when the last of them leaves before it began."""
        solution = self._running.get(key) or self._asked(key, point)
        solution.waiters += 1
        try:
            return await asyncio.shield(solution.task)
        finally:
            solution.waiters -= 1
            if not solution.waiters and not solution.begun and self._running.get(key) is solution:
                del self._running[key]  # at once: who asks again before the task has ended gets another
                solution.task.cancel()

    def _asked(self, key: bytes, point: Any) -> _Solution:
        """It waits here and not in the threads' own queue, which has no bound and lets nothing go."""
        solution = self._running[key] = _Solution(asyncio.create_task(self._solved(key, point)))
        return solution

    async def _solved(self, key: bytes, point: Any) -> Solved:
        """In a thread, when one is free. Once begun it is kept, though all who asked may have left: they will ask again."""
        async with self._turns:
            self._running[key].begun = True
            try:
                solved = await asyncio.get_running_loop().run_in_executor(self._executor(), self.solved, point)
            finally:
                del self._running[key]
        self._keep(key, solved)
        return solved

    def _executor(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(SOLVERS, thread_name_prefix="solver")
        return self._threads

    def _keep(self, key: bytes, solved: Solved) -> None:
        self._kept[key] = (self.clock() + KEPT_SECONDS, solved)
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT_ANSWERS:
            self._kept.popitem(last=False)


async def giving_way(places: Sequence[int]) -> AsyncIterator[int]:
    """The places of items to be solved, with a turn for other requests after every SOLVED."""
    for count, place in enumerate(places):
        if count % SOLVED == SOLVED - 1:
            await asyncio.sleep(0)
        yield place


def _as_error(cause: PinnError, reason: str) -> PinnError:
    """Out of the domain is the caller's mistake; everything else is ours."""
    if isinstance(cause, InvalidInput | PredictionError):
        return cause
    return Timeout(str(cause)) if reason == "timeout" else PredictionError(str(cause), reason)
