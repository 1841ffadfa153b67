"""`time.monotonic` for code under test that runs in a looptime loop: the loop's time, which never quite stands still."""

import asyncio
import itertools
from types import SimpleNamespace


def loop_clock() -> SimpleNamespace:
    """In place of the module `time`. A microsecond passes with every look, as on a real clock."""
    looks = itertools.count(1)
    return SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time() + next(looks) * 1e-6)
