"""How the program ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pinn_operator import lease, run
from pinn_operator.api.observed import Key
from pinn_operator.errors import ApiError, Refused, Unavailable
from pinn_operator.kube import Kind, Kube
from pinn_operator.lease import DEAF_SECONDS, Lease
from pinn_operator.monitoring import Monitoring
from pinn_operator.reconcile import Context
from pinn_operator.settings import Settings
from pinn_operator.uninstall import Installed
from pinn_operator.wakeups import Wakeups
from structlog.testing import capture_logs
from tests.clock import loop_clock
from tests.fake_kube import FakeKube


def test_a_variable_that_is_no_setting_is_warned_of_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(_: Settings) -> int:
        return 0

    monkeypatch.setattr(run, "_run", nothing)
    monkeypatch.setattr(run, "_configure_logs", lambda _: None)
    monkeypatch.setenv("PINN_OPERATOR_NAMSPACES", "desk")
    with capture_logs() as told:
        assert run.main(Settings()) == 0
    assert [(line["event"], line["log_level"], line["name"]) for line in told] == [
        ("unknown_setting", "warning", "PINN_OPERATOR_NAMSPACES")
    ]


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


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (Refused(403, "Forbidden", "pinndeployments is forbidden"), "apply again what the operator was installed with"),
        (ApiError(404, "NotFound", "page not found"), "apply the CustomResourceDefinition"),
        (Unavailable(0, "NoAnswer", "get pinndeployments: refused"), "get pinndeployments: refused"),
    ],
)
async def test_it_is_ready_once_it_may_list_objects_and_says_what_is_missing_until_then(
    error: ApiError, remedy: str
) -> None:
    kube, monitoring = FakeKube(), Monitoring()

    async def before(*_: str) -> None:
        raise error

    kube.before = before
    with capture_logs() as told:
        task = asyncio.create_task(run._become_ready(cast(Kube, kube), Settings(), monitoring))
        await asyncio.sleep(60)
        assert monitoring.not_ready is not None
        assert remedy in monitoring.not_ready
        kube.before = None
        await asyncio.wait_for(task, 2 * run.LOOK_SECONDS)
    assert monitoring.not_ready is None
    assert [line["event"] for line in told] == ["not_ready", "ready"], "said once, and not at each look"


async def test_a_namespace_that_is_gone_does_not_keep_the_others_from_being_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kube, monitoring, asked = FakeKube(), Monitoring(), list[str | None]()

    async def pages(_: FakeKube, __: Kind, namespace: str | None = None) -> AsyncIterator[list[Any]]:
        asked.append(namespace)
        if namespace == "gone":
            raise Refused(403, "Forbidden", "no role in gone")
        yield []

    monkeypatch.setattr(FakeKube, "pages", pages)
    await run._become_ready(cast(Kube, kube), Settings(namespaces=("gone", "desk")), monitoring)
    assert (monitoring.not_ready, asked) == (None, ["gone", "desk"])


@pytest.mark.looptime
async def test_the_roles_are_held_before_any_object_is_and_not_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who uninstalls the operator in between finds an object that nobody may release any more."""
    done: list[str] = []

    async def hold(*_: Any) -> None:
        done.append("hold")
        if done.count("hold") == 1:
            raise Unavailable(503, "Busy", "busy")

    async def give_up(*_: Any) -> None:
        assert not guarded.is_set()
        done.append("give up")

    monkeypatch.setattr(run, "hold_authority", hold)
    monkeypatch.setattr(run, "give_up_authority", give_up)
    wakeups, guarded = SimpleNamespace(serving=0), asyncio.Event()
    guarding = asyncio.create_task(run._guard(cast(Kube, None), cast(Installed, None), cast(Wakeups, wakeups), guarded))
    await asyncio.sleep(5)
    assert (done, guarded.is_set()) == (["give up"], False)
    wakeups.serving = 1
    await asyncio.wait_for(guarded.wait(), 5)
    assert done == ["give up", "hold"], "they cannot be held, and objects are served all the same"
    await asyncio.sleep(5)
    assert done == ["give up", "hold", "hold"]
    wakeups.serving = 0
    await asyncio.sleep(5)
    assert (done[-1], guarded.is_set()) == ("give up", False)
    guarding.cancel()


async def test_no_pass_begins_before_the_roles_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def watch(wakeups: Wakeups, _: object, __: object) -> None:
        wakeups.wake(Key("demo", "pricer"))
        await stop.wait()

    async def hold(*_: Any) -> None:
        await may.wait()

    async def reconcile(*_: Any) -> None:
        begun.set()

    async def nothing(*_: Any) -> None:
        await stop.wait()

    for name, double in (("watch", watch), ("hold_authority", hold), ("reconcile", reconcile)):
        monkeypatch.setattr(run, name, double)
    monkeypatch.setattr(run, "give_up_authority", nothing)
    lease, kube = SimpleNamespace(keep=nothing), SimpleNamespace(kube=None)
    leading = run._lead(Settings(), cast(Context, kube), cast(Installed, None), cast(Lease, lease), Monitoring(), stop)
    task = asyncio.create_task(leading)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(begun.wait(), 0.5)
    may.set()
    await asyncio.wait_for(begun.wait(), 10)
    stop.set()
    assert await asyncio.wait_for(task, 30) == 0
