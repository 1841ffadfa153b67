"""What several tests share: the shipped models, and a running server process."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from .process import ServerProcess

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command sets up logging for its whole process, and the tests of commands share theirs with all others."""
    root, client = logging.getLogger(), logging.getLogger("urllib3")
    before = root.level, root.handlers[:], client.level
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    client.setLevel(before[2])


@pytest.fixture(scope="session")
def models() -> Path:
    return MODELS


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess.started() as process:
        yield process
