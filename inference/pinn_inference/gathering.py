"""Questions that arrive in the same turn of the event loop are answered together.

Under load many requests become ready at once, and one call of the vectorised formulas for thirty of them costs a fifth of thirty
calls. Nobody waits for company: what is there is answered at the end of the turn, and one alone is answered alone.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from pinn_inference.errors import EngineError
from pinn_inference.evaluation import CHUNK, Answer

WORTH_IT: Final = 16
"""Questions from which on the vectorised way is the shorter one (measured with LiteRT)."""


class Gathering:
    """Calls `one` or `few` for all who ask in one turn. For one event loop."""

    def __init__(
        self, one: Callable[[Any], Answer], few: Callable[[Sequence[Any]], list[Answer | EngineError]]
    ) -> None:
        self._one, self._few = one, few
        self._waiting: list[tuple[Any, asyncio.Future[Answer]]] = []

    def __call__(self, point: Any) -> asyncio.Future[Answer]:
        """The answer at a point, at the end of this turn. It may be an EngineError."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._answer)
        self._waiting.append((point, future))
        return future

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        for (_, future), answer in zip(waiting, at_once(self._one, self._few, [p for p, _ in waiting]), strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)


def at_once(
    one: Callable[[Any], Answer], few: Callable[[Sequence[Any]], list[Answer | EngineError]], points: Sequence[Any]
) -> list[Answer | Exception]:
    """Each point with what became of it: one bad question does not take the others with it."""
    found: list[Answer | Exception] = []
    for start in range(0, len(points), CHUNK):
        part = points[start : start + CHUNK]
        if len(part) >= WORTH_IT:
            with suppress(Exception):  # each finds its own end below
                found += few(part)
                continue
        found += [_alone(one, point) for point in part]
    return found


def _alone(one: Callable[[Any], Answer], point: Any) -> Answer | Exception:
    try:
        return one(point)
    except Exception as error:  # noqa: BLE001 - it is raised where it is awaited
        return error
