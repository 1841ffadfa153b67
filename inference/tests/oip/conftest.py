"""A server that listens for gRPC too."""

import socket
from collections.abc import Iterator

import pytest

from ..process import ServerProcess  # noqa: TID252 - the tests are no package with a name of its own


def free_port() -> int:
    """One that nobody listened on a moment ago: for gRPC 0 means off."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def both() -> Iterator[ServerProcess]:
    with ServerProcess.started(grpc_port=str(free_port())) as process:
        yield process
