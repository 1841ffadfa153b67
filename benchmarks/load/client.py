"""Clients that ask at a steady rate whatever happens, keep their connections as a proxy does, and check every answer.

Open loop: a question has its time, and the clock of its latency starts then, so a server that stalls is not spared. A client
leaves a server whose answer says `Connection: close`, and connects only to servers that are ready. Nothing is sent twice.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from pinn_inference.bench import percentiles

from benchmarks.load.options import Option, body, mistakes, mixed_options

LIMIT_SECONDS = 10.0


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    content: bytes
    close: bool


@dataclass
class Connection:
    """One, kept."""

    port: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, port: int) -> Self:
        """To a server on this machine."""
        return cls(port, *await asyncio.open_connection("127.0.0.1", port))

    @property
    def closed(self) -> bool:
        """By either side."""
        return self.reader.at_eof() or self.writer.is_closing()

    async def ask(self, path: str, content: bytes = b"", method: str = "POST") -> Answer:
        """One exchange. Raises OSError, IncompleteReadError or TimeoutError when there is no whole answer."""
        head = f"{method} {path} HTTP/1.1\r\nhost: pinn\r\ncontent-type: application/json\r\ncontent-length: {len(content)}"
        self.writer.write(head.encode() + b"\r\n\r\n" + content)
        async with asyncio.timeout(LIMIT_SECONDS):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            length = int(lines.split(b"content-length: ")[1].split(b"\r\n")[0])
            answer = Answer(int(lines.split()[1]), await self.reader.readexactly(length), b"connection: close" in lines)
        if answer.close:
            self.close()
        return answer

    def close(self) -> None:
        """Lets it go."""
        self.writer.close()


@dataclass
class Tally:
    """What the questions came to."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    methods: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)

    def figures(self, prefix: str) -> dict[str, Any]:
        """Flat, for the results: how many were asked, lost and wrong, the latencies, and the first complaints in words."""
        spread = percentiles(self.seconds)
        found: dict[str, Any] = {
            f"{prefix}_asked": len(self.seconds) + len(self.failures),
            f"{prefix}_lost": len(self.failures),
            f"{prefix}_wrong": len(self.wrong),
            f"{prefix}_p50_ms": spread.get("p50"),
            f"{prefix}_p99_ms": spread.get("p99"),
            f"{prefix}_max_ms": spread.get("max"),
            f"{prefix}_methods": json.dumps(self.methods),
            f"{prefix}_versions": json.dumps(self.versions),
        }
        return found | (
            {f"{prefix}_complaints": (self.failures + self.wrong)[:5]} if self.failures or self.wrong else {}
        )


@dataclass
class Clients:
    """`count` of them, together asking `rate` questions a second of the servers at `ports`; what comes of it goes to `tally`."""

    ports: list[int]
    rate: float
    count: int = 20
    seed: int = 0
    tally: Tally = field(default_factory=Tally)
    _stop: bool = False

    async def during(self, seconds: float) -> Tally:
        """What the questions of the next seconds come to."""
        self.tally = mine = Tally()
        await asyncio.sleep(seconds)
        return mine

    async def __aenter__(self) -> Self:
        began = time.monotonic()
        self._tasks = [asyncio.create_task(self._client(index, began)) for index in range(self.count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def _client(self, index: int, began: float) -> None:
        questions = mixed_options(self.seed * 1000 + index)
        connection: Connection | None = None
        for due in self._times(index, began):
            if self._stop:
                break
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if connection is None or connection.closed:
                connection = await self._connect(index)
            await self._ask(connection, next(questions), due)
        if connection:
            connection.close()

    def _times(self, index: int, began: float) -> Iterator[float]:
        number = index
        while True:
            yield began + number / self.rate
            number += self.count

    async def _connect(self, index: int) -> Connection:
        """To the first ready server, starting with the client's own."""
        start = index % len(self.ports)
        while True:
            for port in self.ports[start:] + self.ports[:start]:
                if await ready(port):
                    return await Connection.open(port)
            await asyncio.sleep(0.01)

    async def _ask(self, connection: Connection, option: Option, due: float) -> None:
        tally = self.tally
        try:
            answer = await connection.ask("/predict", body(option))
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            connection.close()
            tally.failures.append(f"{connection.port}: {error!r}")
            return
        if answer.status != 200:
            tally.failures.append(f"{connection.port}: {answer.status} {answer.content[:200]!r}")
            return
        tally.seconds.append(time.monotonic() - due)
        document = json.loads(answer.content)
        tally.wrong += mistakes(option, document)
        tally.methods[str(document.get("method"))] += 1
        tally.versions[str(document.get("model", {}).get("version"))] += 1


async def ready(port: int) -> bool:
    """What a proxy's health check would see."""
    try:
        connection = await Connection.open(port)
        answer = await connection.ask("/v2/health/ready", method="GET")
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
    connection.close()
    return answer.status == 200
