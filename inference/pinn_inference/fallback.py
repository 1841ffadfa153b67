"""When the model cannot answer: the reference solver, if it may, or a clear error. Its answers are kept apart and not for long.

What kept the model from answering may pass (a GPU that comes back), so a fallback's answer must not outlive it; and an identical
question repeated meanwhile need not be solved again.
"""

import asyncio
import struct
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from pinn_inference.errors import InvalidInput, OutOfDomain, PinnError, PredictionError

KEPT_SECONDS: Final = 10.0
KEPT_ANSWERS: Final = 1024
SOLVERS: Final = 2
"""Slow solutions at a time; further ones wait, and the request's time limit bounds how long."""

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


@dataclass
class Fallback:
    """Answers by the reference solver. `solver`: whether it may. `slow`: whether a solution takes long enough for a thread."""

    solve: Callable[[Any], Solved]
    solvable: Callable[[Any], None]
    solver: bool = True
    slow: bool = False
    clock: Callable[[], float] = time.monotonic
    _kept: OrderedDict[bytes, tuple[float, Solved]] = field(default_factory=OrderedDict)
    _running: dict[bytes, asyncio.Future[Solved]] = field(default_factory=dict)
    _threads: ThreadPoolExecutor | None = None

    async def __call__(self, point: Any, reason: str, cause: PinnError) -> Solved:
        """The solver's answer. Raises `cause` as the caller's mistake, or PredictionError, where there may be none."""
        if not self.solver:
            raise _as_error(cause, reason)
        self._check(point, cause)
        key = struct.pack(f"{len(point)}d", *point)  # the exact question, bit by bit
        if (known := self._kept.get(key)) and known[0] > self.clock():
            return known[1]
        solved = self.solve(point) if not self.slow else await self._in_thread(key, point)
        self._keep(key, solved)
        return solved

    def close(self) -> None:
        """Lets the threads go; a solution that runs is not waited for."""
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
        """One solution for all who ask the same at the same time."""
        running: Awaitable[Solved] | None = self._running.get(key)
        if running is None:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(SOLVERS, thread_name_prefix="solver")
            running = self._running[key] = asyncio.wrap_future(self._threads.submit(self.solve, point))
            self._running[key].add_done_callback(lambda _: self._running.pop(key, None))
        return await asyncio.shield(running)

    def _keep(self, key: bytes, solved: Solved) -> None:
        self._kept[key] = (self.clock() + KEPT_SECONDS, solved)
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT_ANSWERS:
            self._kept.popitem(last=False)


def _as_error(cause: PinnError, reason: str) -> PinnError:
    """Out of the domain is the caller's mistake; everything else is ours."""
    return cause if isinstance(cause, InvalidInput | PredictionError) else PredictionError(str(cause), reason)
