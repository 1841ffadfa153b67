"""Questions that arrive in the same turn of the event loop are answered together.

Under load many requests become ready at once, and one call of the vectorised formulas for thirty of them costs a fifth of thirty
calls. Nobody waits for company: what is there is answered at the end of the turn, and one alone is answered alone.
"""

import asyncio
from collections.abc import Callable, Sequence
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
        for start in range(0, len(waiting), CHUNK):
            part = waiting[start : start + CHUNK]
            try:
                answers = self._few([point for point, _ in part]) if len(part) >= WORTH_IT else None
            except Exception:  # noqa: BLE001 - one bad question must not take the others with it: each finds its own end below
                answers = None
            for place, (point, future) in enumerate(part):
                if not future.done():
                    self._settle(future, point, answers[place] if answers else None)

    def _settle(self, future: "asyncio.Future[Answer]", point: Any, answer: Answer | EngineError | None) -> None:
        if answer is None:
            try:
                answer = self._one(point)
            except Exception as error:  # noqa: BLE001 - it is raised where it is awaited
                future.set_exception(error)
                return
        if isinstance(answer, EngineError):
            future.set_exception(answer)
        else:
            future.set_result(answer)
