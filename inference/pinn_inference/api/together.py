"""Plain single questions that arrive together are answered together: in one go, without a task for each.

Under load many requests become ready in one turn of the loop, and what each costs on its own is most of what it costs. Nobody
waits for company: what is there is answered at the end of the turn. This is a short cut that never says no: whatever is more than
a plain question (a list, bad input, a question for the solver, a busy server, an answer that breaks the physics) goes the usual
way, from its beginning, and finds there what becomes of it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from pinn_inference.api import counting
from pinn_inference.api.http import Answer, Headers
from pinn_inference.api.limits import Limiter
from pinn_inference.evaluation import CHUNK
from pinn_inference.evaluation import Answer as Found
from pinn_inference.logs import Sparing
from pinn_inference.monitoring import SOURCES, Metrics, Source
from pinn_inference.predictor import Predictor

PLAIN: Final = 2048
"""Bytes of the longest body that is looked at here: a single question is shorter, and reading others twice must cost nothing."""


class Asked(NamedTuple):
    """A plain question as it was read: whom to ask, what, and how the answer is written."""

    predictor: Predictor
    point: Any
    write: Callable[[Found], Answer]


Read = Callable[[Headers, bytes], Asked | None]
"""What an endpoint makes of a body: None, or any exception, where the usual way is the right one."""


class Exchange(Protocol):
    """A request whose body has come, and its answer."""

    path: str
    method: str

    @property
    def headers(self) -> Headers:
        """Its header fields."""
        ...

    def body(self) -> bytes:
        """All of its body, which stays to be read."""
        ...

    def answered(self, answer: Answer) -> None:
        """This is the answer."""
        ...

    def as_usual(self) -> None:
        """It goes the usual way."""
        ...

    def abort(self) -> None:
        """It will have no answer."""
        ...


class _Waiting(NamedTuple):
    exchange: Exchange
    asked: Asked
    source: Source
    since: float


class Together:
    """Takes what it may answer, and answers it at the end of the turn. For one event loop.

    All of a turn count as one request that is evaluated, since they are; each counts for how many may be inside.
    """

    def __init__(self, readers: Mapping[str, Read], metrics: Metrics, limiter: Limiter, max_body: int) -> None:
        self._longest = min(PLAIN, max_body)
        self._readers, self._metrics, self._limiter = readers, metrics, limiter
        self._waiting: list[_Waiting] = []
        self._failures = Sparing()

    def take(self, exchange: Exchange) -> bool:
        """Whether it is answered here; else nothing has happened."""
        read, limiter = self._readers.get(exchange.path), self._limiter
        if read is None or exchange.method != "POST" or exchange.headers.get("content-encoding"):
            return False
        waiting = self._waiting
        if len(waiting) >= CHUNK or limiter.is_full() or not (waiting or limiter.take()):
            return False
        asked = self._read(read, exchange)
        if asked is None:
            if not waiting:
                limiter.done()
            return False
        limiter.arrive()
        stated = exchange.headers.get("pinn-source")
        if not waiting:
            asyncio.get_running_loop().call_soon(self._answer)
        waiting.append(_Waiting(exchange, asked, stated if stated in SOURCES else "live", time.perf_counter()))
        return True

    def _read(self, read: Read, exchange: Exchange) -> Asked | None:
        body = exchange.body()
        if len(body) > self._longest:
            return None
        try:
            return read(exchange.headers, body)
        except Exception:  # noqa: BLE001 - the usual way finds it again, and says what it is
            return None

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        answers = self._found(waiting)
        for _ in waiting:
            self._limiter.leave()
        self._limiter.done()
        for one, answer in zip(waiting, answers, strict=True):
            try:
                if answer is None:
                    one.exchange.as_usual()
                else:
                    self._finish(one, answer)
            except Exception as error:  # noqa: BLE001 - a bug costs one caller its connection, and no other its answer
                self._failures.event(f"an answer could not be sent: {error!r}", logging.ERROR, path=one.exchange.path)
                one.exchange.abort()

    def _found(self, waiting: list[_Waiting]) -> list[Found | None]:
        predictor = waiting[0].asked.predictor
        if any(one.asked.predictor is not predictor for one in waiting):  # the model was changed in this very turn
            return [None] * len(waiting)
        return predictor.at_once([one.asked.point for one in waiting])

    def _finish(self, one: _Waiting, found: Found) -> None:
        try:
            answer = one.asked.write(found)
        except Exception:  # noqa: BLE001 - a bug must not cost others their answers; asked by itself it is logged and a 500
            one.exchange.as_usual()
            return
        cacheable = one.asked.predictor.cache is not None
        made = counting.one(self._metrics, found, cacheable, one.source)
        counting.answered(self._metrics, made, one.source, one.since)
        one.exchange.answered(answer)
