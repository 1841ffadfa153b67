"""The life of the process: load, listen, be ready, drain, end.

Order on SIGTERM, so that a rolling update loses nothing: readiness turns false at once; for the drain time requests are
still accepted and answered, each answer telling its connection to close, so that clients leave of their own accord; then the
socket closes, what is in flight is finished, and idle connections, which nobody used during the drain, are closed.
"""

import asyncio
import json
import logging
import os
import resource
import shlex
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import uvloop

from pinn_inference import memory
from pinn_inference.api import openapi, wire
from pinn_inference.api.http import App, State
from pinn_inference.assembly import Model
from pinn_inference.errors import ListenError, StartError
from pinn_inference.logs import event
from pinn_inference.service import Service
from pinn_inference.settings import EVERYWHERE, Settings, unknown

T = TypeVar("T")

TERMINATION_LOG: Final = Path("/dev/termination-log")
BACKLOG: Final = 1024
CONNECTIONS: Final = 10_000
"""Open at once on the service port, idle ones included; beyond it new ones are told to come back. Each takes a file."""

ADMIN_CONNECTIONS: Final = 40
"""The same on the admin port: for a Prometheus or two, and the operators."""

OTHER_FILES: Final = 100
"""Files kept for all but the service port's connections: those of the admin port, workers, a model that is read."""

IDLE: Final = 100.0
"""Seconds until a connection that sends no whole head is closed, between requests too: longer than the 60 to 90 that clients and
load balancers usually keep an idle one, so that it is they who close it and nobody sends into a closing connection."""

GRACE: Final = 5.0
"""Seconds, at least, for what is in flight once the socket is closed; more where a request may take longer."""


def serve(settings: Settings) -> int:
    """Runs until told to stop; returns the exit code. A model or port that cannot be had is one sentence and code 1.

    The caller ends the process with os._exit: a solution nobody waits for any more would keep its thread, and the process.
    """
    for name in unknown():
        event(f"{name} is no setting of this server and is ignored", logging.WARNING)
    try:
        memory.give_back_large_blocks()
        raise_file_limit()
        return uvloop.run(_Process(settings).run())
    except StartError as error:
        explain(error)
        return 1


def raise_file_limit() -> None:
    """Lets the process open as many files as it is allowed: the usual limit is for programs that wait for files by select(2)."""
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # without an upper limit some systems refuse; theirs stays
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))


def connections(ports: int = 1) -> int:
    """How many each of the ports for predictions may have open, so that files are left for everything else."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY or files >= ports * CONNECTIONS + OTHER_FILES:
        return CONNECTIONS
    most = max(files - OTHER_FILES, files // 2) // ports
    event(f"{most} connections are taken at a time: the process may open {files} files", logging.WARNING)
    return most


def explain(error: StartError) -> None:
    """Says why the process cannot serve where a person will look: the log, and `kubectl describe pod`."""
    event(str(error), logging.ERROR)
    with suppress(OSError):
        if TERMINATION_LOG.exists():
            TERMINATION_LOG.write_text(f"{error}\n")


@dataclass
class _Process:
    settings: Settings
    state: State = field(default_factory=State)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> int:
        """Serves until SIGTERM or SIGINT."""
        self._listen_for_signals()
        memory.spare_the_collector()
        service = await self._unless_told(Service.open(self.settings, self.state))
        if service is None:
            event("stopped")
            return 0
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, service.reload_soon)
        watching = service.watch()
        await self._unless_told(service.warm_up())
        if not self.told.is_set():
            await self._serve(service)
        for task in watching:
            task.cancel()
        await service.close()
        event("stopped")
        return 0

    async def _serve(self, service: Service) -> None:
        settings = self.settings
        most = connections(2 if settings.grpc_port else 1)
        apps = zip(service.apps(), (most, ADMIN_CONNECTIONS), strict=True)
        listeners = [await _Listener.open(_http(app, room), settings.host, port) for (app, port), room in apps]
        if settings.grpc_port:
            listeners.append(await _Listener.open(_rpc(service, settings, most), settings.host, settings.grpc_port))
        service.count_turned_away(lambda: sum(listener.wire.turned_away for listener in listeners))
        self.state.ready = not self.told.is_set()
        _announce(settings, service.model, *(listener.port for listener in listeners))
        await self.told.wait()
        await self._drain()
        await asyncio.gather(*(listener.close(grace(settings.timeout)) for listener in listeners))

    async def _unless_told(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What comes of it; None, and it is cancelled, where the process is told to stop before."""
        working, told = asyncio.create_task(work), asyncio.create_task(self.told.wait())
        await asyncio.wait({working, told}, return_when=asyncio.FIRST_COMPLETED)
        for task in (working, told):
            task.cancel()
        await asyncio.wait({working, told})
        return None if working.cancelled() else working.result()

    async def _drain(self) -> None:
        if self.settings.drain > 0 and self.state.draining:
            event("draining", seconds=self.settings.drain)
            await asyncio.sleep(self.settings.drain)

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop, signal.SIGTERM)
        loop.add_signal_handler(signal.SIGINT, self._stop, signal.SIGINT)

    def _stop(self, number: signal.Signals) -> None:
        """The first SIGTERM drains, Ctrl-C does not wait; a second of either ends the process where it stands."""
        if self.told.is_set():
            os._exit(128 + number)
        self.state.draining = self.state.parting = number == signal.SIGTERM
        self.state.ready = False
        self.told.set()


class _Closes(Protocol):
    """What listens on a port."""

    @property
    def turned_away(self) -> int:
        """Connections that were too many."""
        ...

    async def close(self, seconds: float) -> bool:
        """Takes no more connections and finishes what is in flight; False when that had to be cut after all."""
        ...


_Opens = Callable[[socket.socket], Awaitable[_Closes]]


@dataclass
class _Listener:
    """One port."""

    wire: _Closes
    port: int

    @classmethod
    async def open(cls, opens: _Opens, host: str, port: int) -> "_Listener":
        """Listens on host:port, a free port when it is 0. Raises ListenError when that cannot be."""
        bound = _bound(host, port)
        port = int(bound.getsockname()[1])
        try:
            return cls(await opens(bound), port)
        except OSError as error:
            raise _cannot(host, port, error) from None

    async def close(self, seconds: float) -> None:
        """Stops accepting, finishes what is in flight, closes idle connections; a caller who never ends is left behind."""
        if not await self.wire.close(seconds):
            event("connections are cut in the middle of a request", logging.WARNING, port=self.port, waited=seconds)


def _http(app: App, most: int = CONNECTIONS) -> _Opens:
    connection = partial(wire.Connection, app=app)
    return lambda sock: wire.Listener.open(connection, sock, backlog=BACKLOG, idle=IDLE, most=most)


def _rpc(service: Service, settings: Settings, most: int) -> _Opens:
    from pinn_inference.oip.rpc import Listener

    life = {"drain": settings.drain, "seconds": grace(settings.timeout)}
    return lambda sock: Listener.open(service.rpc(), sock, backlog=BACKLOG, idle=IDLE, most=most, **life)


def grace(timeout: float) -> float:
    """Seconds for what is in flight: as long as a request may take, and a second to send the answer."""
    return max(GRACE, timeout + 1)


def _bound(host: str, port: int) -> socket.socket:
    """A socket on an address of the host, and on a port nobody else has. Raises ListenError."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(place)
        except OSError:
            bound.close()
            raise
    except (OSError, UnicodeError) as error:
        raise _cannot(host, port, error) from None
    return bound


def _cannot(host: str, port: int, error: Exception) -> ListenError:
    said = getattr(error, "strerror", None) or str(error)
    return ListenError(f"cannot listen on {_bracketed(host)}:{port}: {said.lower()}")


def _bracketed(host: str) -> str:
    """As it stands before a port."""
    return f"[{host}]" if ":" in host else host


def _announce(settings: Settings, model: Model, service: int, admin_port: int, rpc_port: int | None = None) -> None:
    host = "127.0.0.1" if settings.host in EVERYWHERE else _bracketed(settings.host)
    url, admin = (f"http://{host}:{port}" for port in (service, admin_port))
    rpc: dict[str, Any] = {"grpc": f"{host}:{rpc_port}"} if rpc_port else {}
    event("serving", model=f"{model.name} {model.version}", digest=model.artifact.digest, url=url, admin=admin, **rpc)
    if settings.log_format == "console":
        question = shlex.quote(json.dumps(openapi.example(model.artifact.manifest)))
        sys.stderr.write(f"\nAsk it:\n\n  curl -s {url}/predict -d {question}\n\n")
