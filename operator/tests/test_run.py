"""How the program ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pinn_operator import lease, run
from pinn_operator.errors import Unavailable
from pinn_operator.lease import DEAF_SECONDS
from pinn_operator.settings import Settings
from structlog.testing import capture_logs
from tests.clock import loop_clock
from tests.fake_kube import FakeKube


@pytest.mark.looptime
async def test_a_standby_that_the_server_is_not_heard_by_ends_with_1_so_that_it_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kube = FakeKube()

    async def before(*_: str) -> None:
        raise Unavailable(0, "NoAnswer", "certificate verify failed: self-signed certificate in certificate chain")

    @asynccontextmanager
    async def given(*_: Any) -> AsyncIterator[FakeKube]:
        yield kube

    kube.before = before
    for name in ("connect", "connected", "served"):
        monkeypatch.setattr(run, name, given)
    monkeypatch.setattr(lease, "time", loop_clock())
    with capture_logs() as told:
        assert await asyncio.wait_for(run._run(Settings()), 2 * DEAF_SECONDS) == 1
    assert [line["kind"] for line in told if line["event"] == "ended"] == ["LeaseLost"]
