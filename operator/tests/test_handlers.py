"""What kopf is told; the rest of it is tried on a real cluster."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pinn_operator.handlers import settings_of, watch
from pinn_operator.kube import PAGE
from pinn_operator.monitoring import Monitoring
from pinn_operator.reconcile import Pass
from pinn_operator.wakeups import Wakeups

NOBODY = "http://127.0.0.1:9"


def test_kopf_reads_all_objects_page_by_page_and_drops_each_soon_after_its_event() -> None:
    settings = settings_of()
    assert settings.watching.chunk_size == PAGE
    assert settings.queueing.idle_timeout <= 1


async def test_a_signal_stops_the_program_at_once_though_kopf_takes_signals_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when kopf has ended its watches: passes would go on for so long."""
    named = {"name": "a", "cluster": {"server": NOBODY}, "user": {}, "context": {"cluster": "a", "user": "a"}}
    config = {"current-context": "a", "clusters": [named], "users": [named], "contexts": [named]}
    (tmp_path / "config").write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **config}))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))

    async def never(*_: object) -> Pass | None:
        return None

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    taken: list[object] = []
    add = loop.add_signal_handler

    def noted(number: int, callback: Callable[..., object], *args: Any) -> None:
        taken.append(callback)
        add(number, callback, *args)

    monkeypatch.setattr(loop, "add_signal_handler", noted)
    watching = asyncio.create_task(watch(Wakeups(never, Monitoring(), 1), (), stop))
    async with asyncio.timeout(30):
        while stop.set not in taken and not watching.done():
            await asyncio.sleep(0.01)
    assert taken[0] != stop.set, "kopf takes none any more"
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(stop.wait(), 5)
    assert not watching.done()
    await asyncio.wait([watching], timeout=30)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
