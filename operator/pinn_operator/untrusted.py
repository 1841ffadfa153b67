"""What somebody sends who is not trusted: a model server that may be anybody's image, a Prometheus that may be at any address."""

from __future__ import annotations

import json
from typing import Final

import aiohttp

VALUES: Final = 400_000
"""Values of a JSON text that are taken: each takes a hundred bytes of memory, however few it took on the way."""


class TooLarge(Exception):
    """More bytes than anybody honest sends."""


async def bounded(answer: aiohttp.ClientResponse, largest: int) -> bytes:
    """The body. Raises TooLarge for more than so many bytes, before it has read them all."""
    content = bytearray()
    async for piece in answer.content.iter_any():
        content += piece
        if len(content) > largest:
            raise TooLarge
    return bytes(content)


def decoded(content: bytes) -> object:
    """The JSON value; None where it is none, or has too many values. NaN is none."""
    if sum(map(content.count, (b",", b"{", b"["))) > VALUES:
        return None
    try:
        return json.loads(content, parse_constant=_refused)
    except (ValueError, RecursionError):
        return None


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
