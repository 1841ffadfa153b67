"""kopf wakes. The only module that knows it: every event of an object or of a child wakes that object's task, and that is all."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import kopf

from pinn_operator.api.names import FIELD_MANAGER, GROUP, LABEL_OBJECT, PLURAL, VERSION
from pinn_operator.api.observed import Key
from pinn_operator.kube import HTTP_ROUTE, PAGE, POD, WRITTEN
from pinn_operator.wakeups import Wakeups

WATCHED = (*WRITTEN, POD, HTTP_ROUTE)
"""Children whose changes wake the object. One whose kind is not installed is watched as soon as it is."""

WATCH_SECONDS = 600
"""How long one watch request lasts: as long as between two full lists. The API server takes whole seconds only."""

IDLE_SECONDS = 0.5
"""How long kopf keeps an object in memory after its event, in case that another follows: at the start each has one."""


def registry_of(wakeups: Wakeups, stop: asyncio.Event) -> kopf.OperatorRegistry:
    """Handlers for the object and for every kind of child."""
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    async def begin(**_: Any) -> None:
        await asyncio.sleep(0)  # kopf takes the signals when its tasks have begun
        heed_signals(stop)

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> Any:
        return kopf.login_via_client(**kwargs)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def object_changed(body: Any, **_: Any) -> None:
        wakeups.wake(Key(body["metadata"]["namespace"], body["metadata"]["name"]))

    for kind in WATCHED:

        @kopf.on.event(kind.group, kind.api_version.rpartition("/")[2], kind.plural, registry=registry, id=kind.plural)
        async def child_changed(body: Any, type: Any, **_: Any) -> None:
            wakeups.wake_owner(body, gone=type == "DELETED")

    @kopf.on.cleanup(registry=registry)
    async def end(**_: Any) -> None:
        await wakeups.stop()

    return registry


def settings_of() -> kopf.OperatorSettings:
    """kopf writes nothing: no finalizer, no annotation, no Event of its own. And it never has all objects in memory at once."""
    settings = kopf.OperatorSettings()
    settings.persistence.finalizer = "kopf.pinn.dev/unused"
    settings.posting.enabled = False
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.chunk_size = PAGE
    settings.queueing.idle_timeout = IDLE_SECONDS
    for kind in WATCHED:
        settings.watching.label_selectors[kind.group, kind.api_version.rpartition("/")[2], kind.plural] = LABEL_OBJECT
    return settings


def heed_signals(stop: asyncio.Event) -> None:
    """Have those that end a program set `stop`. kopf would first end its watches, which takes seconds, while passes go on: beside
    a standby that releases the objects of an operator that is being uninstalled they would take hold of them again."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def watch(wakeups: Wakeups, namespaces: tuple[str, ...], stop: asyncio.Event) -> None:
    """Run kopf until `stop` is set, as a signal does. Any watch error but 410 ends it, and with it the program."""
    await kopf.operator(
        registry=registry_of(wakeups, stop),
        settings=settings_of(),
        standalone=True,
        # Else kopf asks for a user name, which a container need not have. Its type is not exported.
        identity=FIELD_MANAGER,  # type: ignore[arg-type]
        clusterwide=not namespaces,
        namespaces=namespaces,
        stop_flag=stop,
    )
