"""What was evaluated at the centres of bins, bounded in entries and in bytes, least recently used first out.

One cache belongs to one loaded model, so a key need not name it: another model's answer cannot be found here. What is kept is
the network's value and derivatives at the centre, from which every output of every kind is made: the key needs no outputs either.
Keys are integers, compared in full.
"""

import asyncio
import sys
from collections import OrderedDict
from itertools import islice
from typing import Final

import numpy as np

ENTRY_BYTES: Final = 160
"""An entry's share of the ordered dictionary, beyond the key and the value themselves (CPython 3.11 to 3.13, 64 bit; measured).
Keys and values are bytes and counts small integers, so the garbage collector has nothing in here to walk through."""

OBJECTS: Final = 2 * sys.getsizeof(b"")
"""What two bytes objects take beside their bytes."""

LOOKED_AT: Final = 20
"""The hottest n keys are sought among the n times this most recently used, so that asking stays short."""

COUNTED: Final = 8192
"""Keys whose uses are counted: far more than a canary is warmed with, and a megabyte at most."""

PORTION: Final = 5000
"""Keys looked at before other requests get their turn: half a millisecond."""


class ResultCache:
    """A bounded LRU from keys to values, both bytes. Not for use by two threads."""

    def __init__(self, size: int, max_bytes: int) -> None:
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()
        self._uses: dict[bytes, int] = {}
        self._size, self._max_bytes = size, max_bytes
        self.bytes = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> bytes | None:
        """The value, which becomes the most recently used."""
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
            uses = self._uses
            uses[key] = uses.get(key, 0) + 1
            if len(uses) > COUNTED:
                self._forget()
        return value

    def put(self, key: bytes, value: bytes) -> None:
        """Keeps a value, and lets the least recently used go for it."""
        if key in self._entries:
            self._entries[key] = value
            return
        self._entries[key] = value
        self.bytes += _weight(key, value)
        while len(self._entries) > self._size or self.bytes > self._max_bytes:
            old, gone = self._entries.popitem(last=False)
            self._uses.pop(old, None)
            self.bytes -= _weight(old, gone)
            self.evictions += 1

    def _forget(self) -> None:
        """Halves every count; what was used once is counted afresh when it is used again."""
        self._uses = {key: uses // 2 for key, uses in self._uses.items() if uses > 1}
        if len(self._uses) > COUNTED // 2:
            self._uses.clear()

    def clear(self) -> None:
        """Lets everything go."""
        self._entries.clear()
        self._uses.clear()
        self.bytes = 0

    async def hottest(self, count: int) -> list[bytes]:
        """The most used keys among the recently used, most used first. Others get their turn meanwhile."""
        recent = list(islice(reversed(self._entries), count * LOOKED_AT))
        uses = self._uses
        used: list[int] = []
        for start in range(0, len(recent), PORTION):
            used += [uses.get(key, 0) for key in recent[start : start + PORTION]]
            await asyncio.sleep(0)
        order = np.argsort(-np.array(used, dtype=np.int64), kind="stable")[:count]
        return [recent[place] for place in order.tolist()]


def _weight(key: bytes, value: bytes) -> int:
    return len(key) + len(value) + OBJECTS + ENTRY_BYTES
