"""A caller without a socket: what the listener hands to the application, made by hand."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import msgspec
from pinn_inference.api.http import App


@dataclass
class Scope:
    """The head of a request."""

    method: str = "POST"
    path: str = "/echo"
    headers: dict[str, str] = field(default_factory=dict)
    query_string: str = ""
    proto: str = "http"


class Wire:
    """The rest of it: a body in pieces, and the answer."""

    def __init__(self, *pieces: bytes, arrived: asyncio.Event | None = None) -> None:
        self._pieces = list(pieces)
        self._arrived = arrived
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def __call__(self) -> bytes:
        if self._arrived:
            await self._arrived.wait()
        return b"".join(self._pieces)

    def __aiter__(self) -> "Wire":
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop(0)

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status, self.headers, self.body = status, dict(headers), body

    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.response_bytes(status, headers, b"")

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


async def ask(app: App, scope: Scope | None = None, wire: Wire | None = None, **head: Any) -> Wire:
    """One request and its answer; a body sent is stated by its length."""
    wire = wire or Wire()
    if scope is None:
        scope = Scope(**head)
        if "content-length" not in scope.headers:
            scope.headers = {**scope.headers, "content-length": str(sum(map(len, wire._pieces)))}
    await app.__rsgi__(scope, wire)
    return wire
