"""One server process, on loopback, for all that is thrown at it; at the end it must be alive, well and silent about bugs."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from ..process import ServerProcess  # noqa: TID252 - the tests are no package with a name of its own

TOKEN = "fuzz"
TIMEOUT = 10.0
"""Seconds: nothing of this is about being late, and the machine may be."""


@dataclass
class Target:
    """The process, and what it has logged."""

    server: ServerProcess
    lines: list[dict[str, Any]] = field(default_factory=list)

    def listen(self) -> threading.Thread:
        """Reads the log as it is written: a pipe that is full would stop the server."""
        thread = threading.Thread(target=self._read, daemon=True)
        thread.start()
        return thread

    def _read(self) -> None:
        assert self.server.process.stderr is not None
        for line in self.server.process.stderr:
            self.lines.append(json.loads(line))


@pytest.fixture(scope="session")
def target() -> Iterator[Target]:
    with ServerProcess.started(admin_token=TOKEN, timeout=f"{TIMEOUT:g}s", drain="0") as server:
        found = Target(server)
        thread = found.listen()
        yield found
        assert server.process.poll() is None, "the server has died"
        server.terminate()
        assert server.wait() == 0
        thread.join(10)
        assert [line for line in found.lines if "exception" in line or line["level"] == "error"] == []
