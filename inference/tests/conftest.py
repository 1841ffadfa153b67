"""What several tests share: the shipped models, and a running server process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .process import ServerProcess

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="session")
def models() -> Path:
    return MODELS


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess.started() as process:
        yield process
