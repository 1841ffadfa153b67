"""Clients that keep their connections, as a proxy does, and know two servers: what a rolling update looks like from outside.

A client leaves a server whose answer says `Connection: close`, opens new connections only to servers that are ready, and
never sends on a connection it has seen closed. What fails nevertheless counts as a failure: nothing is sent twice.
"""

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field

BODY = b'{"spot": 100, "strike": 105, "maturity": 0.5, "rate": 0.03, "volatility": 0.2}'
REQUEST = (
    b"POST /predict HTTP/1.1\r\nhost: pinn\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY)
) + BODY


@dataclass
class Outcome:
    """What the clients saw: answers by port, failures in words, connections the server asked to close."""

    answered: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    told_to_close: int = 0
    slowest: float = 0.0

    @property
    def sent(self) -> int:
        return sum(self.answered.values()) + len(self.failures)


@dataclass
class Clients:
    """`count` clients, each sending one request every `pause` seconds until told to stop."""

    ports: list[int]
    count: int = 20
    pause: float = 0.02
    outcome: Outcome = field(default_factory=Outcome)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> Outcome:
        await asyncio.gather(*(self._client(i) for i in range(self.count)))
        return self.outcome

    async def _client(self, index: int) -> None:
        connection: _Connection | None = None
        while not self.stop.is_set():
            if connection is None or connection.closed:
                connection = await self._connect(index)
            await self._ask(connection)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), self.pause)
        if connection:
            connection.close()

    async def _connect(self, index: int) -> "_Connection":
        """To the first ready server, starting with the client's own."""
        order = self.ports[index % len(self.ports) :] + self.ports[: index % len(self.ports)]
        for port in order:
            if await ready(port):
                return await _Connection.open(port)
        raise AssertionError("no server is ready")

    async def _ask(self, connection: "_Connection") -> None:
        started = time.monotonic()
        try:
            status, close = await connection.exchange(REQUEST)
        except (OSError, asyncio.IncompleteReadError) as error:
            connection.close()
            self.outcome.failures.append(f"{connection.port}: {error!r}")
            return
        self.outcome.slowest = max(self.outcome.slowest, time.monotonic() - started)
        self.outcome.told_to_close += close
        if status != 200:
            self.outcome.failures.append(f"{connection.port}: status {status}")
        else:
            self.outcome.answered[connection.port] += 1


async def ready(port: int) -> bool:
    """What a kubelet's readiness probe would see."""
    try:
        connection = await _Connection.open(port)
        status, _ = await connection.exchange(b"GET /v2/health/ready HTTP/1.1\r\nhost: pinn\r\n\r\n")
    except (OSError, asyncio.IncompleteReadError):
        return False
    connection.close()
    return status == 200


@dataclass
class _Connection:
    port: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, port: int) -> "_Connection":
        return cls(port, *await asyncio.open_connection("127.0.0.1", port))

    @property
    def closed(self) -> bool:
        return self.reader.at_eof() or self.writer.is_closing()

    def close(self) -> None:
        self.writer.close()

    async def exchange(self, request: bytes) -> tuple[int, bool]:
        """Status of the answer, and whether it asks to close."""
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        await self.reader.readexactly(length)
        close = b"connection: close" in head
        if close:
            self.close()
        return int(head.split()[1]), close
