"""What goes on beside a test: something in every turn of the event loop, and who lets whom have one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any


@asynccontextmanager
async def each_turn(step: Callable[[], object]) -> AsyncIterator[None]:
    """Takes the step in every turn of the loop until the block is left."""

    async def on_and_on() -> None:
        while True:
            step()
            await asyncio.sleep(0)

    others = asyncio.create_task(on_and_on())
    try:
        yield
    finally:
        others.cancel()


class Turns:
    """How many there have been: `take` is a step."""

    def __init__(self) -> None:
        self.count = 0

    def take(self) -> None:
        """One more."""
        self.count += 1


class Shared:
    """What is done between turns of others: `other` is their step, `noted` does what is to give way to them."""

    def __init__(self) -> None:
        self._happened: list[str] = []

    def other(self) -> None:
        """Somebody else's turn."""
        self._happened.append("other")

    def noted(self, work: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The same work, seen."""

        def work_seen(of: Any) -> Any:
            self._happened.append("done")
            return work(of)

        return work_seen

    @property
    def runs(self) -> list[int]:
        """How much was done in a row, each time."""
        return [len(list(run)) for what, run in groupby(self._happened) if what == "done"]
