"""How much is taken at once, and for how long: so many requests evaluated, so many waiting their turn, so much time each.

What comes beyond is told at once to come back later (429, never 503, which would have a proxy take the server out of
service): a queue without a bound answers everyone too late. Whoever is still sending its body takes nobody's place, and is cut
off when that takes too long.
"""

import asyncio
import time
from collections import deque
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Final

from pinn_inference.api.http import Answer, Endpoint, Request, Routes
from pinn_inference.errors import Overloaded, PinnError, Timeout, TooSlow

SENDERS: Final = 2048
"""Requests whose bodies may be on their way at once: with http.SHORT a bound on memory, and far above any honest number."""

STALL: Final = 0.1
"""Seconds by which a timer is late when more than a busy loop is to blame."""


@dataclass(frozen=True)
class Limits:
    """`concurrency` requests evaluated at once, `queue` more waiting; `timeout` seconds to send one, and to answer it."""

    concurrency: int = 64
    queue: int = 256
    timeout: float = 1.0


@dataclass(slots=True)
class Limiter:
    """Counts requests that are being sent, apart, and those that are complete, until they are answered; lets `concurrency` of
    these work, first come, first served.
    """

    concurrency: int
    queue: int
    senders: int = SENDERS
    sending: int = 0
    inside: int = 0
    working: int = 0
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    def receive(self) -> None:
        """The head of a request has come. Raises Overloaded when too many others are being sent; else it must be `received`."""
        if self.sending >= self.senders:
            raise Overloaded(f"{self.sending} requests are being sent already; come back in a second")
        self.sending += 1

    def received(self) -> None:
        """It is complete, or will never be."""
        self.sending -= 1

    def is_full(self) -> bool:
        """Whether there is no room for one more."""
        return self.inside >= self.concurrency + self.queue

    def arrive(self) -> None:
        """A request is complete. Raises Overloaded when there is no room; else it must `leave`."""
        if self.is_full():
            raise Overloaded(f"the server is busy with {self.inside} requests already; come back in a second")
        self.inside += 1

    def leave(self) -> None:
        """It has been answered."""
        self.inside -= 1

    def take(self) -> bool:
        """A turn, when one is free and nobody waited for it; it must be given back by `done`."""
        if self.working >= self.concurrency or self._waiting:
            return False
        self.working += 1
        return True

    async def turn(self) -> None:
        """Waits for a turn, in order of asking."""
        if self.take():
            return
        mine = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            self._give_up(mine)
            raise

    def done(self) -> None:
        """Gives the turn to whoever has waited longest."""
        while self._waiting:
            following = self._waiting.popleft()
            if not following.done():
                following.set_result(None)
                return
        self.working -= 1

    def _give_up(self, mine: "asyncio.Future[None]") -> None:
        if mine.cancelled():
            with suppress(ValueError):
                self._waiting.remove(mine)
        else:  # the turn came in the same instant
            self.done()


Watched = asyncio.Task[Any] | None


class Deadlines:
    """Cancels tasks that are still running `seconds` after they were `watched`.

    All have the same limit, so they expire in the order they came and one timer, for the oldest, does for all: a timer for
    each request would cost more than everything else in this module. When that timer itself comes late, the process stood
    still: that is not held against callers whose bodies may lie there unread, and they get as much time again, once.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: dict[asyncio.Task[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._excused = False

    def watch(self) -> Watched:
        """Begins the time of the task that calls."""
        task = asyncio.current_task()
        if task is not None:
            self._running[task] = time.monotonic() + self._seconds
            if self._timer is None:
                self._arm(self._seconds)
        return task

    def again(self, task: Watched) -> None:
        """Begins its time anew."""
        if task is not None and self._running.pop(task, None) is not None:
            self._running[task] = time.monotonic() + self._seconds

    def met(self, task: Watched) -> bool:
        """Ends it; False when the task was cancelled here for being late."""
        return task is None or self._running.pop(task, None) is not None

    def _arm(self, seconds: float) -> None:
        """Not on behalf of the request that happens to be there: the timer is everyone's."""
        self._due = time.monotonic() + seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire, context=Context())

    def _expire(self) -> None:
        self._timer = None
        now = time.monotonic()
        stalled = now - self._due
        self._excused = stalled > STALL and not self._excused
        if self._excused:
            self._arm(min(stalled, self._seconds))
            return
        while self._running:
            task, deadline = next(iter(self._running.items()))
            if deadline > now:
                self._arm(deadline - now)
                return
            del self._running[task]
            task.cancel()


@dataclass(frozen=True)
class _Guarded:
    """An endpoint behind the limits: it is called with the body read and its turn come."""

    inner: Endpoint
    limiter: Limiter
    deadlines: Deadlines
    timeout: float

    async def __call__(self, request: Request) -> Answer:
        limiter = self.limiter
        limiter.receive()
        task = self.deadlines.watch()
        try:
            try:
                await request.body()
            finally:
                limiter.received()
            self.deadlines.again(task)
            limiter.arrive()
            try:
                if not limiter.take():
                    await limiter.turn()
                try:
                    return await self.inner(request)
                finally:
                    limiter.done()
            finally:
                limiter.leave()
        except asyncio.CancelledError:
            if task is None or self.deadlines.met(task):
                raise  # somebody else's
            task.uncancel()
            raise self._late(request) from None
        finally:
            self.deadlines.met(task)

    def _late(self, request: Request) -> PinnError:
        if request.read_at is not None:
            return Timeout(f"no answer within {self.timeout:g} s; send fewer items at a time, or try again")
        return TooSlow(f"the body did not arrive within {self.timeout:g} s")


def guarded(routes: Routes, limits: Limits, limiter: Limiter | None = None) -> Routes:
    """The same routes, all behind one set of limits. Health and metrics must answer under any load: leave them out.

    They raise Overloaded, TooSlow and Timeout, beside what reading a body raises: count outside, where all of it is seen.
    """
    limiter = limiter or Limiter(limits.concurrency, limits.queue)
    deadlines = Deadlines(limits.timeout)
    return {
        path: {method: _Guarded(endpoint, limiter, deadlines, limits.timeout) for method, endpoint in methods.items()}
        for path, methods in routes.items()
    }
