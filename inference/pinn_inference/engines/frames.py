"""What a server and its worker process say to each other, and the memory they share. No pickle: fixed headers, float64.

Points and jets lie in shared memory, sealed at its size; a socket carries headers of sixteen bytes, with a short text where
something went wrong. Whoever reads checks every field, so that a worker gone mad is noticed and not believed.

    server -> worker   LOAD (count: bytes of weights that follow), EVALUATE (number, count)
    worker -> server   READY, DONE (number, count), OUT_OF_MEMORY, DEVICE_ERROR, MODEL_ERROR (number)
"""

import fcntl
import mmap
import os
import tempfile
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

import numpy as np

from pinn_inference.engines import Array, Shape

HEADER: Final = Struct("<4sBxHII")
MAGIC: Final = b"PINN"
MAX_TEXT: Final = 1000
MAX_WEIGHTS: Final = 64 * 1024 * 1024


class Kind(IntEnum):
    """What a frame says."""

    LOAD = 1
    EVALUATE = 2
    READY = 3
    DONE = 4
    OUT_OF_MEMORY = 5
    DEVICE_ERROR = 6
    MODEL_ERROR = 7


class NotAFrame(Exception):
    """Bytes that no partner of ours sends."""


@dataclass(frozen=True)
class Frame:
    """One message: `number` is the batch it is about, `count` how many points or bytes."""

    kind: Kind
    number: int = 0
    count: int = 0
    text: str = ""

    def encode(self) -> bytes:
        """Header and text as they travel."""
        text = self.text.encode()[:MAX_TEXT]
        return HEADER.pack(MAGIC, self.kind, len(text), self.number, self.count) + text


def decode(header: bytes) -> tuple[Frame, int]:
    """The frame of a header, and how many bytes of text follow. Raises NotAFrame."""
    magic, kind, length, number, count = HEADER.unpack(header)
    if magic != MAGIC or kind not in list(Kind) or length > MAX_TEXT:
        raise NotAFrame(f"{header!r} is no header")
    return Frame(Kind(kind), number, count), length


class Memory:
    """Room for `capacity` points (n, d) and their jets (k, n); `shape` is (d, k)."""

    def __init__(self, descriptor: int, capacity: int, shape: Shape) -> None:
        self.capacity, self._shape = capacity, shape
        self._numbers = np.frombuffer(mmap.mmap(descriptor, memory_size(capacity, shape)), np.float64)

    def points(self, count: int) -> Array:
        """A view of the first `count` points."""
        coordinates, _ = self._shape
        return self._numbers[: coordinates * count].reshape(count, coordinates)

    def jets(self, count: int) -> Array:
        """A view of the jets of `count` points."""
        coordinates, rows = self._shape
        start = coordinates * self.capacity
        return self._numbers[start : start + rows * count].reshape(rows, count)


def memory_size(capacity: int, shape: Shape) -> int:
    """Bytes of a Memory."""
    return capacity * sum(shape) * 8


def new_memory(capacity: int, shape: Shape) -> int:
    """A descriptor of anonymous memory for `capacity` points, which nobody can shrink under a reader where seals exist."""
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryFile() as file:
            file.truncate(memory_size(capacity, shape))
            return os.dup(file.fileno())
    descriptor = os.memfd_create("pinn-worker", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, memory_size(capacity, shape))
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor
