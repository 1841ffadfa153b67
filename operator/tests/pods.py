"""Pods without a cluster: names that lead to ports on this machine, and a model server that does what a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from pinn_operator.api.readings import Server
from pinn_operator.servers import ADMIN_PORT, PORT, Servers, connected

TOKEN = "sesame"


def pod(name: str, revision: str = "canary", **differing: Any) -> Server:
    """A ready one, whose address is its name."""
    return Server(**{
        "revision": revision, "pod": name, "container": f"containerd://{name}", "address": f"{name}.test", "ready": True,
        **differing,
    })  # fmt: skip


class Town(AbstractResolver):
    """Who lives where: the port on this machine behind a pod's address and port."""

    def __init__(self) -> None:
        self.ports: dict[tuple[str, int], int] = {}
        self._stack = contextlib.AsyncExitStack()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = self.ports.get((host.removesuffix(".test"), port))
        if found is None:
            raise OSError(None, f"nobody lives at {host}:{port}")
        return [ResolveResult(
            hostname=host, host="127.0.0.1", port=found, family=socket.AF_INET, proto=0, flags=socket.AI_NUMERICHOST
        )]  # fmt: skip

    async def close(self) -> None:
        """Nothing of its own."""

    async def settle(self, name: str, app: web.Application) -> None:
        """An application at both ports of a pod."""
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        (port,) = (address[1] for address in runner.addresses)
        self.ports[name, PORT] = self.ports[name, ADMIN_PORT] = port

    async def says(self, name: str, reply: bytes | None) -> list[bytes]:
        """Somebody who says the same to everybody and hangs up, or (None) says nothing and holds on; what it was sent."""
        heard: list[bytes] = []

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                heard.append(await reader.read(65536))
                if reply is None:
                    await reader.read()
                writer.write(reply or b"")
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        self._stack.callback(server.close)
        self.ports[name, PORT] = self.ports[name, ADMIN_PORT] = server.sockets[0].getsockname()[1]
        return heard

    @classmethod
    @contextlib.asynccontextmanager
    async def founded(cls) -> AsyncIterator[tuple[Town, Servers]]:
        """With a client that knows the way."""
        town = cls()
        async with town._stack, connected(town) as servers:
            yield town, servers


class Model:
    """A server of a model with one input x and one output u = x, and the faults that a test gives it."""

    def __init__(self, *hot: float) -> None:
        self.hot = [{"x": x} for x in hot]
        self.breaks: Callable[[float], bool] = lambda _: False
        self.reason = "physics_violation"
        self.off: Callable[[float], float] = lambda _: 0.0
        self.bound: float | None = 0.01
        self.solver_bound = 1e-9
        self.solves = True
        self.unsaid: Callable[[float], bool] = lambda _: False
        self.outside: Callable[[float], bool] = lambda _: False
        self.predicts: Callable[[float], tuple[int, Any]] = lambda x: (200, {"u": x, "method": "model", "reason": None})
        self.slow: asyncio.Event | None = None
        self.warmed: list[float] = []
        self.renewed = 0
        self.shadowed: list[tuple[float, bool]] = []
        self.predicted: list[tuple[float, str]] = []
        self.seeds: list[tuple[int, int]] = []
        self.in_flight = self.most_in_flight = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/cache/hottest", self._hottest)
        app.router.add_get("/samples", self._samples)
        app.router.add_post("/cache/warm", self._warm)
        app.router.add_post("/connections/renew", self._renew)
        app.router.add_post("/shadow", self._shadow)
        app.router.add_post("/predict", self._predict)
        return app

    async def _hottest(self, request: web.Request) -> web.Response:
        _let_in(request)
        return web.json_response({"keys": self.hot[: int(request.query["keys"])]})

    async def _samples(self, request: web.Request) -> web.Response:
        _let_in(request)
        count, seed = int(request.query["keys"]), int(request.query["seed"])
        self.seeds.append((count, seed))
        chance = random.Random(seed)
        return web.json_response({"keys": [{"x": chance.uniform(10, 20)} for _ in range(count)]})

    async def _renew(self, request: web.Request) -> web.Response:
        _let_in(request)
        self.renewed += 1
        return web.json_response({"seconds": 5.0})

    async def _warm(self, request: web.Request) -> web.Response:
        _let_in(request)
        asked = [item["x"] for item in (await request.json())["items"]]
        self.warmed += [x for x in asked if not self.outside(x)]
        return web.json_response({"warmed": sum(not self.outside(x) for x in asked)})

    async def _shadow(self, request: web.Request) -> web.Response:
        _let_in(request)
        asked = await request.json()
        points = [item["x"] for item in asked["items"]]
        self.shadowed += [(x, asked["solver"]) for x in points]
        if asked["solver"] and not self.solves:
            await asyncio.Event().wait()
        answers = [self._answer(x) for x in points]
        violations = [
            {"item": place, "detail": "the model's answer breaks u_bounds"}
            for place, answer in enumerate(answers)
            if answer["reason"] == "physics_violation"
        ]
        solved = [{"u": x, "error_bound": {"u": self.solver_bound}} for x in points] if asked["solver"] else None
        return web.json_response({"answers": answers, "solver": solved, "violations": violations})

    def _answer(self, x: float) -> dict[str, Any]:
        bound = None if self.bound is None else {"u": self.bound}
        if self.outside(x):
            return {"u": x, "method": "solver", "reason": "out_of_domain", "error_bound": bound}
        if self.breaks(x):
            return {"u": x + self.off(x), "method": "solver", "reason": self.reason, "error_bound": bound}
        u = None if self.unsaid(x) else x + self.off(x)
        return {"u": u, "method": "model", "reason": None, "error_bound": bound}

    async def _predict(self, request: web.Request) -> web.Response:
        x = (await request.json())["x"]
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.slow:
                await self.slow.wait()
        finally:
            self.in_flight -= 1
        self.predicted.append((x, request.headers.get("pinn-source", "live")))
        status, answer = self.predicts(x)
        return web.json_response(answer, status=status)


def _let_in(request: web.Request) -> None:
    if request.headers.get("authorization") != f"Bearer {TOKEN}":
        raise web.HTTPUnauthorized(text='{"error": "send the header authorization: Bearer TOKEN"}')
