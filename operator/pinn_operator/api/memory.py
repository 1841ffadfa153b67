"""What the operator stores about an object beside its status: the rollout's journal, its evidence, the requests acted upon.

It goes into a ConfigMap that the object owns, before anything that follows from it is done.
"""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pinn_operator.api.codec import dump, load
from pinn_operator.api.journal import Journal

LONGEST_PLAIN: Final = 256 * 1024
"""Characters that are stored as they are. A ConfigMap holds 1 MiB, and the counters of 2,000 servers are more than that."""
PACKED: Final = "gzip"
MOST_UNPACKED: Final = 16 * 1024 * 1024
"""Nearly twice what 2,000 servers and sixteen gates of one's own come to, which hardly fits a ConfigMap any more."""


@dataclass(frozen=True, slots=True)
class Memory:
    """`ledger` is the evidence as decide/evidence dumps it; `handled` the values of the annotations acted upon last, by verb, and
    `former` those before them and those that came too late for their rollout, oldest first."""

    journal: Journal | None = None
    ledger: Mapping[str, Any] = field(default_factory=dict)
    handled: Mapping[str, str] = field(default_factory=dict)
    former: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def written(memory: Memory) -> str:
    """As it is stored: JSON, which has nothing but the same in less space where it is long."""
    text = json.dumps(dump(memory), sort_keys=True, separators=(",", ":"), allow_nan=False)
    if len(text) <= LONGEST_PLAIN:
        return text
    return json.dumps({PACKED: base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()})


def read(text: str) -> Memory:
    """What was written. Raises ValueError or TypeError where it was not."""
    found = json.loads(text)
    packed = found.get(PACKED) if isinstance(found, dict) else None
    return load(Memory, found if packed is None else json.loads(_unpacked(packed)))


def _unpacked(packed: str) -> bytes:
    """Raises ValueError also where it is more than was ever packed: who may write to a ConfigMap must not fill the memory."""
    unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        content = unpacking.decompress(base64.b64decode(packed, validate=True), MOST_UNPACKED)
    except zlib.error as error:
        raise ValueError(f"stored evidence is damaged: {error}") from None
    if not unpacking.eof:
        raise ValueError("stored evidence is damaged: it does not end")
    return content
