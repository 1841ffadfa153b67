"""How late the event loop wakes: what every request on it waits, whatever else it is slowed by."""

import asyncio
from collections.abc import Callable
from typing import Final

EVERY: Final = 0.25
"""Seconds between two looks: often enough to see a stall of a probe's length, at no cost worth measuring."""


MOST: Final = 1000
"""Looks that are made up for at a time: minutes; beyond, the process was stopped, or the machine was."""


async def watch(tell: Callable[[float], None], every: float = EVERY) -> None:
    """Tells, about four times a second, by how many seconds the loop woke this task late. Ends when it is cancelled.

    After a stall the looks that fell into it are told too, each as late as it was: a stall of ten seconds is no single sample
    among many, as it is none for those who asked meanwhile.
    """
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + every
        await asyncio.sleep(every)
        late = loop.time() - due
        tell(max(0.0, late))
        for _ in range(min(int(late / every), MOST)):
            late -= every
            tell(late)
