"""A client that sends what it is told to, byte for byte, and never waits for ever."""

import json
import math
import os
import socket
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

CASES = int(os.environ.get("PINN_FUZZ_CASES", "1600"))
"""How many cases are generated, over all properties. `make test-full` sets 100,000."""

SHARE = max(CASES // 8, 10)
"""Of one property."""

PATIENCE = 30.0
"""Seconds until an answer counts as a hang; on a loaded machine an answer may be slow."""


@dataclass(frozen=True)
class Got:
    """A status and the body."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        """The body; what is not JSON by the book, such as NaN, fails."""

        def strict(text: str) -> Any:
            raise AssertionError(f"{text} is not JSON")

        return json.loads(self.body, parse_constant=strict)

    @property
    def sentence(self) -> str:
        """Of a refusal: the one thing it says."""
        document = self.json
        assert list(document) == ["error"], document
        assert document["error"].strip()
        return str(document["error"])


class Client:
    """One connection, kept while the server keeps it."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Got:
        try:
            return self._send(method, path, body, headers)
        except (ConnectionError, BrokenPipeError):  # the server closed what it would not read to its end: ask anew
            self._connection.close()
            return self._send(method, path, body, headers)

    def predict(self, body: bytes) -> Got:
        return self.send("POST", "/predict", body)

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Got:
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        return Got(answer.status, answer.read())


def raw(port: int, *pieces: bytes, half_close: bool = False, patience: float = PATIENCE) -> bytes:
    """All that comes back for these bytes until the server closes; fails when it neither answers nor closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it had heard enough
        return _all(connection)


def _all(connection: socket.socket) -> bytes:
    received = b""
    while True:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            return received
        if not piece:
            return received
        received += piece


def finite(document: Any) -> bool:
    """Whether every number in an answer is one."""
    if isinstance(document, dict):
        return all(map(finite, document.values()))
    if isinstance(document, list):
        return all(map(finite, document))
    return not isinstance(document, float) or math.isfinite(document)
