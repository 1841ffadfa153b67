"""The operator as a program: one replica leads and watches, the other stands by and answers its probes."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

import structlog

from pinn_operator.api.names import PLURAL
from pinn_operator.api.observed import Key
from pinn_operator.errors import ApiError, LeaseLost
from pinn_operator.handlers import heed_signals, watch
from pinn_operator.kube import HTTP_ROUTE, PINN_DEPLOYMENT, Kube, connect
from pinn_operator.lease import Lease, Terms
from pinn_operator.monitoring import Monitoring, served
from pinn_operator.reconcile import Context, Pass, reconcile
from pinn_operator.servers import connected
from pinn_operator.settings import RELEASE, Settings, unknown
from pinn_operator.uninstall import Installed, depart, give_up_authority, hold_authority, is_uninstalled
from pinn_operator.wakeups import Wakeups

log = structlog.get_logger()

STOP_SECONDS = 5.0
DEPART_SECONDS = 20.0
GUARD_SECONDS = 0.1
GUARD_AGAIN_SECONDS = 0.5
LOOK_SECONDS = 2.0


def main(settings: Settings) -> int:
    """Run until told to stop. 0 after a signal, 1 when the Lease is lost or cannot be seen, or the watching ends by itself."""
    _configure_logs(settings)
    for name in unknown():
        log.warning("unknown_setting", name=name, said="no setting of the operator: it is ignored")
    return asyncio.run(_run(settings))


async def _run(settings: Settings) -> int:
    stop = asyncio.Event()
    heed_signals(stop)
    monitoring = Monitoring()
    log.info("starting", release=RELEASE, namespaces=settings.namespaces or "all", server_image=settings.server_image)
    async with (
        served(monitoring, settings.port),
        connect() as kube,
        connected() as servers,
        _beside(_become_ready(kube, settings, monitoring)),
    ):
        identity = settings.identity or socket.gethostname()
        lease = Lease(kube, Terms(settings.name, settings.namespace, identity, settings.lease_seconds))
        context = Context(kube, settings.server_image, identity, not settings.namespaces, servers)
        installed = Installed(settings.name, settings.namespace, settings.namespaces)
        try:
            leads = await _unless(stop, lease.acquire())
        except LeaseLost as error:
            log.error("ended", error=str(error), kind=type(error).__name__)
            return 1
        if not leads:
            await _leave(context, installed)
            return 0
        monitoring.leading(True)
        try:
            return await _lead(settings, context, installed, lease, monitoring, stop)
        finally:
            await _leave(context, installed)
            await lease.release()


async def _lead(
    settings: Settings,
    context: Context,
    installed: Installed,
    lease: Lease,
    monitoring: Monitoring,
    stop: asyncio.Event,
) -> int:
    """Watch, resync and renew side by side; the first of them to end ends the others."""
    guarded = asyncio.Event()

    async def run(key: Key, contested: bool) -> Pass | None:
        await guarded.wait()
        return await reconcile(context, key, contested)

    wakeups = Wakeups(run, monitoring, settings.passes)
    tasks = [
        asyncio.create_task(watch(wakeups, settings.namespaces, stop), name="watch"),
        asyncio.create_task(lease.keep(), name="lease"),
        asyncio.create_task(_resync(wakeups, context.kube, settings), name="resync"),
        asyncio.create_task(_guard(context.kube, installed, wakeups, guarded), name="guard"),
    ]
    done, _ = await asyncio.wait([*tasks, stopped := asyncio.create_task(stop.wait())], return_when="FIRST_COMPLETED")
    told = stopped in done or (tasks[0] in done and not tasks[0].exception())
    stop.set()
    await wakeups.stop()
    for task in tasks[1:]:
        task.cancel()
    await asyncio.wait(tasks, timeout=STOP_SECONDS)
    ended = [task.exception() for task in tasks if task.done() and not task.cancelled()]
    for error in ended:
        if isinstance(error, Exception):
            log.error("ended", error=str(error), kind=type(error).__name__)
    return 0 if told and not any(isinstance(error, LeaseLost) for error in ended) else 1


async def _become_ready(kube: Kube, settings: Settings, monitoring: Monitoring) -> None:
    """As soon as the objects can be listed, of several namespaces in one: an operator without its roles, or without the
    definition of its objects, can hold its Lease, and what installed it would take it for a working one."""
    while reason := await _why_none_can_be_listed(kube, settings.namespaces):
        if reason != monitoring.not_ready:
            monitoring.not_ready = reason
            log.error("not_ready", reason=reason)
        await asyncio.sleep(LOOK_SECONDS)
    monitoring.not_ready = None
    log.info("ready")


async def _why_none_can_be_listed(kube: Kube, namespaces: tuple[str, ...]) -> str | None:
    reason = None
    for namespace in namespaces or (None,):
        try:
            await anext(kube.pages(PINN_DEPLOYMENT, namespace))
        except ApiError as error:
            hint = _HINTS.get(error.status)
            reason = f"PinnDeployments cannot be listed: {error}{f'. {hint}' if hint else ''}"
        else:
            return None
    return reason


_HINTS = {
    403: "Its roles are missing: apply again what the operator was installed with",
    404: "Their definition is missing: apply the CustomResourceDefinition that comes with this release",
}


@asynccontextmanager
async def _beside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Runs while the block does."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _resync(wakeups: Wakeups, kube: Kube, settings: Settings) -> None:
    while True:
        await asyncio.sleep(settings.resync_seconds)
        try:
            await wakeups.resync(kube, settings.namespaces or (None,))
        except ApiError as error:
            log.warning("resync_failed", error=str(error))


async def _leave(context: Context, installed: Installed) -> None:
    """However it ended: nothing when this is a restart, and everything when the operator is being taken away. Then the Lease or
    the watches may be gone before the signal comes, and the standby may be the one that is left. Doing it twice does no harm."""
    try:
        if await is_uninstalled(context.kube, installed):
            await asyncio.wait_for(depart(context, installed), DEPART_SECONDS)
    except (ApiError, TimeoutError) as error:
        log.error("not_departed", error=str(error) or "time-out")


async def _guard(kube: Kube, installed: Installed, wakeups: Wakeups, guarded: asyncio.Event) -> None:
    """Hold the operator's own roles while there are objects, and not longer. `guarded` is set while passes may hold objects: who
    uninstalls the operator between an object's finalizer and that of the roles would find the object held for good. Where the
    roles cannot be held, objects are served all the same."""
    held: bool | None = None
    while True:
        wanted = wakeups.serving > 0
        if wanted is not held:
            if not wanted:
                guarded.clear()
            try:
                await (hold_authority if wanted else give_up_authority)(kube, installed)
                held = wanted
            except ApiError as error:
                log.warning("authority_not_guarded", error=str(error))
                await asyncio.sleep(GUARD_AGAIN_SECONDS)
            if wanted:
                guarded.set()
        await asyncio.sleep(GUARD_SECONDS)


async def _unless(stop: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Whether the work was finished before `stop` was set."""
    task, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait([task, stopped], return_when="FIRST_COMPLETED")
    finished = task.done()
    for one in (task, stopped):
        one.cancel()
    if finished:
        task.result()
    return finished


def _without_traceback(record: logging.LogRecord) -> bool:
    """kopf and asyncio tell one refused watch many times over, each with its traceback; the sentence is enough. That a cluster
    has no Gateway API is told again and again, and is nobody's fault."""
    record.exc_info = None
    said = record.getMessage()
    only_routes = "Unresolved resources" in said and HTTP_ROUTE.plural in said and PLURAL not in said
    return record.name != "asyncio" and not only_routes


def _configure_logs(settings: Settings) -> None:
    """One JSON object a line on standard output, kopf's own lines too."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    last: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if settings.log_format == "console" else structlog.processors.JSONRenderer()
    )
    structlog.configure(processors=[*shared, last], wrapper_class=structlog.make_filtering_bound_logger(level))
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=last, foreign_pre_chain=shared))
    if level > logging.DEBUG:
        handler.addFilter(_without_traceback)
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
