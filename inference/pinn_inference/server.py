"""The life of the process: load, listen, be ready, drain, end.

Order on SIGTERM, so that a rolling update loses nothing: readiness turns false at once; for the drain time requests are
still accepted and answered, each answer telling its connection to close, so that clients leave of their own accord; then the
socket closes, what is in flight is finished, and idle connections, which nobody used during the drain, are closed.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from pinn_inference import bins
from pinn_inference.api import health
from pinn_inference.api.http import Answer, App, Request, Routes, State
from pinn_inference.api.limits import Limits, guarded
from pinn_inference.api.predict import Codec, PredictEndpoint, counted
from pinn_inference.artifacts import source
from pinn_inference.artifacts.source import Artifact
from pinn_inference.cache import ResultCache
from pinn_inference.engines import Array
from pinn_inference.engines.litert import LiteRtEngine
from pinn_inference.errors import ListenError, ModelError, StartError
from pinn_inference.fallback import Fallback
from pinn_inference.logs import event
from pinn_inference.monitoring import Metrics
from pinn_inference.predictor import Engines, Observer, Predictor
from pinn_inference.problems import Formulation, black_scholes, error_table
from pinn_inference.settings import Settings, unknown

TERMINATION_LOG: Final = Path("/dev/termination-log")
BACKLOG: Final = 1024
CONNECTIONS: Final = 10_000
"""Open at once, idle ones included; beyond it new connections wait unaccepted, and probes with them."""

GRACE: Final = 5.0
"""Seconds for what is in flight once the socket is closed."""

CURL: Final = (
    "curl -s {url}/predict -d "
    '\'{{"spot": 100, "strike": 105, "maturity": 0.5, "rate": 0.03, "volatility": 0.2, "kind": "put"}}\''
)


def serve(settings: Settings) -> int:
    """Runs until told to stop; returns the exit code. A model or port that cannot be had is one sentence and code 1.

    The caller ends the process with os._exit: granian's threads release Python objects after their work is done, and an
    interpreter that is shutting down under them aborts (seen in one exit of six).
    """
    for name in unknown():
        event(f"{name} is no setting of this server and is ignored", logging.WARNING)
    try:
        return uvloop.run(_Process(settings).run())
    except StartError as error:
        explain(error)
        return 1


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
        artifact = load(self.settings)
        listeners = [
            await _Listener.open(app, self.settings.host, port)
            for app, port in _apps(self.settings, self.state, artifact)
        ]
        self.state.ready = True
        _announce(self.settings, artifact, [listener.port for listener in listeners])
        await self.told.wait()
        await self._drain()
        await asyncio.gather(*(listener.close() for listener in listeners))
        event("stopped")
        return 0

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
        self.state.draining = number == signal.SIGTERM
        self.state.ready = False
        self.told.set()


@dataclass(frozen=True)
class Served:
    """A model that is loaded and answers."""

    name: str
    version: str
    artifact: Artifact
    predictor: Predictor


def load(settings: Settings) -> Artifact:
    """The model the settings name, verified. Raises ModelError."""
    artifact = source.fetch(
        settings.model_uri, settings.model_name, settings.model_version, settings.models_dir, settings.model_digest
    )
    said = artifact.manifest
    if (said.name, said.version) != (artifact.name, artifact.version):
        event(f"serving {said.name} {said.version} under the label {artifact.name} {artifact.version}")
    return artifact


def formulation(artifact: Artifact) -> Formulation:
    """The model's problem, with its ranges and its error table."""
    table = artifact.files.get(error_table.FILE)
    try:
        return black_scholes.Formulation(artifact.manifest.ranges(), error_table.parse(table) if table else None)
    except ValueError as error:
        raise ModelError(f"the model's {error_table.FILE} cannot be read: {error}") from None


def predictor(artifact: Artifact, settings: Settings, observer: Observer, engines: Engines) -> Predictor:
    """A predictor for a verified model. Raises SettingsError where its cache cannot be as wished."""
    problem = formulation(artifact)
    known = error_table.FILE in artifact.files  # no bound, no answer from a bin
    size = settings.cache_size if known else 0
    return Predictor(
        problem=problem,
        engines=engines,
        fallback=Fallback(problem.solve, problem.solvable, settings.fallback_solver),
        tolerances=dict(artifact.manifest.tolerances),
        observer=observer,
        bins=bins.Bins(bins.chosen(problem.inputs, problem.bins, settings.cache_bin_widths)),
        cache=ResultCache(size, settings.cache_max_bytes) if size else None,
        timeout=settings.timeout,
    )


def _apps(settings: Settings, state: State, artifact: Artifact) -> list[tuple[App, int]]:
    """The service port answers predictions; the admin port, in no Service and no route, shows metrics."""
    metrics = Metrics(tuple(artifact.manifest.tolerances))
    engines = LiteRtOnly(LiteRtEngine(artifact.files["model.tflite"]))
    served = Served(artifact.name, artifact.version, artifact, predictor(artifact, settings, metrics, engines))
    codec = Codec(served)
    cache = served.predictor.cache
    if cache is not None:
        metrics.gauges.cache = lambda: (len(cache), cache.bytes, cache.evictions)
    metrics.gauges.model = lambda: (artifact.name, artifact.version, artifact.digest)
    predict: Routes = {"/predict": {"POST": PredictEndpoint(lambda: codec, metrics, settings.max_batch)}}
    limited = guarded(predict, Limits(settings.concurrency, settings.queue, settings.timeout))
    service = App({**counted(limited, metrics), **health.routes(state)}, state, settings.max_body)
    admin = App({**_metrics_routes(metrics), **health.routes(state)}, state)
    return [(service, settings.port), (admin, settings.admin_port)]


class _Nobody:
    def violated(self, invariant: str, count: int) -> None:
        """Nobody counts."""


def alone(settings: Settings) -> Served:
    """The model of the settings without a server around it."""
    artifact = load(settings)
    engines = LiteRtOnly(LiteRtEngine(artifact.files["model.tflite"]))
    return Served(artifact.name, artifact.version, artifact, predictor(artifact, settings, _Nobody(), engines))


class LiteRtOnly:
    """The CPU engine alone."""

    def __init__(self, engine: LiteRtEngine) -> None:
        self.name, self.jet, self._engine = engine.name, engine.jet, engine

    async def jets(self, points: Array, deadline_s: float) -> "Evaluated":
        """In pieces, giving way between them."""
        parts = []
        for start in range(0, len(points), 2048):
            parts.append(self._engine.jets(points[start : start + 2048]))
            await asyncio.sleep(0)
        return Evaluated(np.concatenate(parts, axis=1), self.name)


class Evaluated(NamedTuple):
    """See predictor.Evaluated."""

    jets: Array
    engine: str
    reason: str | None = None


def _metrics_routes(metrics: Metrics) -> Routes:
    async def text(_: Request) -> Answer:
        return Answer(200, metrics.text(), "text/plain; version=0.0.4; charset=utf-8")

    return {"/metrics": {"GET": text}}


class _Listener:
    """One granian server on this process's loop."""

    def __init__(self, server: Any, port: int) -> None:
        self._server = server
        self.port = port
        self._task = asyncio.create_task(server.serve())

    @classmethod
    async def open(cls, app: App, host: str, port: int) -> "_Listener":
        """Listens on host:port, a free port when it is 0. Raises ListenError when that cannot be."""
        port = _free(host, port)
        server = Server(
            app,
            host,
            port,
            interface=Interfaces.RSGI,
            http=HTTPModes.http1,
            websockets=False,
            log_enabled=False,
            backlog=BACKLOG,
            backpressure=CONNECTIONS,
        )
        listening = asyncio.Event()
        server.on_startup(listening.set)
        listener = cls(server, port)
        waiting = asyncio.create_task(listening.wait())
        await asyncio.wait({waiting, listener._task}, return_when=asyncio.FIRST_COMPLETED)
        if not listening.is_set():
            waiting.cancel()
            raise ListenError(f"cannot listen on {host}:{port}: {listener._task.exception()}")
        return listener

    async def close(self) -> None:
        """Stops accepting, finishes what is in flight, closes idle connections; a caller who never ends is left behind."""
        self._server.stop()
        await asyncio.wait([self._task], timeout=GRACE)


def _free(host: str, port: int) -> int:
    """The port, once it is known to be free: granian shares a taken one silently (SO_REUSEPORT)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ListenError(f"cannot listen on {host}:{port}: {(error.strerror or str(error)).lower()}") from None
        return int(probe.getsockname()[1])


def _announce(settings: Settings, artifact: Artifact, ports: list[int]) -> None:
    host = "127.0.0.1" if settings.host == "0.0.0.0" else settings.host  # noqa: S104 - compared, not bound
    url, admin = (f"http://{host}:{port}" for port in ports)
    event("serving", model=f"{artifact.name} {artifact.version}", digest=artifact.digest, url=url, admin=admin)
    if settings.log_format == "console":
        sys.stderr.write(f"\nPrice an option:\n\n  {CURL.format(url=url)}\n\n")
