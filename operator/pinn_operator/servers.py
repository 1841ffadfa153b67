"""The model servers as the operator sees them: a few questions to one pod at a time, by its address.

A limit on the time and the size of every answer, no redirect, no proxy: a pod that misbehaves costs seconds and a sentence.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

import aiohttp
from aiohttp.abc import AbstractResolver

from pinn_operator.api.readings import Server
from pinn_operator.errors import ServerTrouble
from pinn_operator.untrusted import TooLarge, bounded, decoded

Item = Mapping[str, Any]
"""A question to a model: inputs by name, as /predict takes them."""

PORT: Final = 8080
ADMIN_PORT: Final = 8081
METRICS_SECONDS: Final = 2.0
CALL_SECONDS: Final = 5.0
LARGEST: Final = 8 * 1024 * 1024
QUOTED: Final = 200
"""Characters of a pod's own words that are passed on."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One request, and what it may take in all."""

    method: str
    path: str
    query: Mapping[str, int] | None = None
    body: object = None
    headers: Mapping[str, str] | None = None
    port: int = ADMIN_PORT
    seconds: float = CALL_SECONDS


class Servers:
    """A client that asks one pod at a time. Every method raises ServerTrouble, nothing else."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def metrics(self, server: Server) -> str:
        """What it counts, in Prometheus' text format as sent."""
        content = await self._content(server, _Call("GET", "/metrics", seconds=METRICS_SECONDS))
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise ServerTrouble(server.pod, "answers /metrics with something else than text") from None

    async def hottest(self, server: Server, token: str, keys: int) -> list[Item]:
        """The `keys` questions that it is asked most, by its cache."""
        return await self._keys(server, "/cache/hottest", token, {"keys": keys})

    async def samples(self, server: Server, token: str, keys: int, seed: int) -> list[Item]:
        """So many questions at random that its model was trained for; the same for the same seed."""
        return await self._keys(server, "/samples", token, {"keys": keys, "seed": seed % 2**32})

    async def warm(self, server: Server, token: str, items: Sequence[Item]) -> int:
        """Has it evaluate items into its cache; how many of them are there afterwards."""
        call = _Call("POST", "/cache/warm", body={"items": items}, headers=_bearer(token))
        warmed = (await self._object(server, call)).get("warmed")
        if type(warmed) is not int:
            raise _unlike(server, call, "a number of keys")
        return warmed

    async def renew(self, server: Server, token: str) -> None:
        """Has it close the connections of those who ask it, once each has its answer: they choose a server anew."""
        call = _Call("POST", "/connections/renew", headers=_bearer(token))
        if not isinstance((await self._object(server, call)).get("seconds"), int | float):
            raise _unlike(server, call, "for how many seconds")

    async def shadow(self, server: Server, token: str, items: Sequence[Item], solver: bool) -> dict[str, Any]:
        """Items past its cache: {"answers": one each, "solver": one each or None, "violations": which breaks what}."""
        body = {"items": items, "solver": solver}
        call = _Call("POST", "/shadow", body=body, headers=_bearer(token))
        said = await self._object(server, call)
        found = {"answers": said.get("answers"), "solver": said.get("solver") if solver else None}
        for name in ("answers", "solver") if solver else ("answers",):
            listed = found[name]
            if not _are_objects(listed) or len(listed) != len(items):
                raise _unlike(server, call, f"one of {name} for each item")
        violations = said.get("violations", [])
        return {**found, "violations": violations if _are_objects(violations) else []}

    async def predict(self, server: Server, item: Item, source: str) -> tuple[int, dict[str, Any] | None, float]:
        """As a caller asks it, counted under `source`: the status, the answer if it is an object, and the seconds it took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        call = _Call("POST", "/predict", body=item, headers={"pinn-source": source}, port=PORT)
        status, content = await self._answered(server, call)
        seconds = loop.time() - began
        said = decoded(content)
        return status, said if isinstance(said, dict) else None, seconds

    async def _keys(self, server: Server, path: str, token: str, query: Mapping[str, int]) -> list[Item]:
        call = _Call("GET", path, query, headers=_bearer(token))
        keys: object = (await self._object(server, call)).get("keys")
        if not _are_objects(keys):
            raise _unlike(server, call, "a list of keys")
        return list(keys[: query["keys"]])

    async def _object(self, server: Server, call: _Call) -> dict[str, Any]:
        said = decoded(await self._content(server, call))
        if not isinstance(said, dict):
            raise _unlike(server, call, "a JSON object")
        return said

    async def _content(self, server: Server, call: _Call) -> bytes:
        status, content = await self._answered(server, call)
        if status != 200:
            raise ServerTrouble(server.pod, f"answers {call.path} with {status}: {_complaint(content)}")
        return content

    async def _answered(self, server: Server, call: _Call) -> tuple[int, bytes]:
        if server.address is None:
            raise ServerTrouble(server.pod, "has no address yet")
        try:
            return await self._sent(server.address, call)
        except TimeoutError:
            said = f"does not answer {call.path} within {call.seconds:g} s"
        except TooLarge:
            said = f"answers {call.path} with more than {LARGEST // 2**20} MiB"
        except aiohttp.ClientConnectorError as error:
            said = f"cannot be reached: {_reason(error.os_error)}"
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, ConnectionError):
            said = f"breaks off its answer to {call.path}"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            said = f"answers {call.path} with what cannot be read: {str(error)[:QUOTED] or type(error).__name__}"
        raise ServerTrouble(server.pod, said)

    async def _sent(self, address: str, call: _Call) -> tuple[int, bytes]:
        host = f"[{address}]" if ":" in address else address
        async with self._session.request(
            call.method,
            f"http://{host}:{call.port}{call.path}",
            params=call.query,
            data=None if call.body is None else json.dumps(call.body).encode(),
            headers=call.headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=call.seconds),
        ) as answer:
            return answer.status, await bounded(answer, LARGEST)


@asynccontextmanager
async def connected(resolver: AbstractResolver | None = None) -> AsyncIterator[Servers]:
    """A client with connections of its own: direct ones, whatever proxies the environment names. Addresses need no resolver."""
    async with aiohttp.ClientSession(
        trust_env=False,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"accept-encoding": "identity"},
        # no limit: a call that waits for its turn here would look like a slow server
        connector=aiohttp.TCPConnector(limit=0, resolver=resolver),
    ) as session:
        yield Servers(session)


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def _are_objects(value: object) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _unlike(server: Server, call: _Call, wanted: str) -> ServerTrouble:
    return ServerTrouble(server.pod, f"answers {call.path} with something else than {wanted}")


def _complaint(content: bytes) -> str:
    """A server's own sentence, or the beginning of what it sent."""
    said = decoded(content)
    sentence = said.get("error") if isinstance(said, dict) else None
    text = sentence if isinstance(sentence, str) else content[: 4 * QUOTED].decode(errors="replace")
    return " ".join(text.split())[:QUOTED] or "without a word"


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else error.strerror or str(error)
