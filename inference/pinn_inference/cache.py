"""What was evaluated at the centres of bins, bounded in entries and in bytes, least recently used first out.

One cache belongs to one loaded model, so a key need not name it: another model's answer cannot be found here. What is kept is
the network's value and derivatives at the centre, from which every output of every kind is made: the key needs no outputs either.
Keys are integers, compared in full.
"""

import sys
from collections import OrderedDict
from collections.abc import Iterator
from heapq import nlargest
from itertools import islice
from typing import Final

ENTRY_BYTES: Final = 176
"""An entry's share of the ordered dictionary and its two-element list, beyond the key and the value themselves (CPython 3.11 to
3.13, 64 bit; measured)."""

LOOKED_AT: Final = 20
"""The hottest n keys are sought among the n times this most recently used, so that asking stays short."""


class ResultCache:
    """A bounded LRU from keys to values, both bytes. Not for use by two threads."""

    def __init__(self, size: int, max_bytes: int) -> None:
        self._entries: OrderedDict[bytes, list[object]] = OrderedDict()
        self._size, self._max_bytes = size, max_bytes
        self.bytes = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> bytes | None:
        """The value, which becomes the most recently used."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        entry[1] += 1  # type: ignore[operator]  # [value, uses]
        return entry[0]  # type: ignore[return-value]

    def put(self, key: bytes, value: bytes) -> None:
        """Keeps a value, and lets the least recently used go for it."""
        if key in self._entries:
            self._entries[key][0] = value
            return
        self._entries[key] = [value, 0]
        self.bytes += _weight(key, value)
        while len(self._entries) > self._size or self.bytes > self._max_bytes:
            old, entry = self._entries.popitem(last=False)
            self.bytes -= _weight(old, entry[0])  # type: ignore[arg-type]
            self.evictions += 1

    def hottest(self, count: int) -> list[bytes]:
        """The most used keys among the recently used, most used first."""
        recent: Iterator[tuple[bytes, list[object]]] = islice(reversed(self._entries.items()), count * LOOKED_AT)
        return [key for key, _ in nlargest(count, recent, key=lambda item: item[1][1])]  # type: ignore[arg-type,return-value]


def _weight(key: bytes, value: bytes) -> int:
    return sys.getsizeof(key) + sys.getsizeof(value) + ENTRY_BYTES
