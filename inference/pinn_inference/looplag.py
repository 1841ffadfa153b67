"""How late the event loop wakes: what every request on it waits, whatever else it is slowed by."""

import asyncio
from collections.abc import Callable
from typing import Final

EVERY: Final = 0.25
"""Seconds between two looks: often enough to see a stall of a probe's length, at no cost worth measuring."""


async def watch(tell: Callable[[float], None], every: float = EVERY) -> None:
    """Tells, about four times a second, by how many seconds the loop woke this task late. Ends when it is cancelled.

    A stall is told once, with its full length: the looks that fell into it are not made up for.
    """
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + every
        await asyncio.sleep(every)
        tell(max(0.0, loop.time() - due))
