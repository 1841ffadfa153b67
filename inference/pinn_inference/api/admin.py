"""The admin port, which is in no Service and no route: metrics, what the model is, and what only the operator may ask for.

The hottest keys of the cache are what clients ask about, hence a token; without one configured these paths are closed.
"""

import asyncio
import hmac
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

import msgspec

from pinn_inference.api.http import Answer, Endpoint, Request, Routes, decode, ok
from pinn_inference.errors import Forbidden, InvalidInput, TooLarge, TooSlow, Unauthorized

MOST_KEYS: Final = 100_000
PORTION: Final = 2000
"""Keys written before other requests get their turn."""
BODY_SECONDS: Final = 5.0

Json = Mapping[str, Any]


class Parameter(NamedTuple):
    """A whole number in a query."""

    name: str
    least: int
    most: int
    default: int

    def read(self, asked: Mapping[str, Sequence[str]]) -> int:
        """Its value, the last one where it is stated more than once. Raises InvalidInput."""
        (*_, stated) = asked.get(self.name, [str(self.default)])
        digits = len(str(self.most))
        if stated.isascii() and stated.isdecimal() and len(stated) <= digits and self.least <= int(stated) <= self.most:
            return int(stated)
        raise InvalidInput(f"{self.name} must be an integer from {self.least} to {self.most}, not {stated[:64]!r}")


KEYS: Final = Parameter("keys", 1, MOST_KEYS, 1000)
SEED: Final = Parameter("seed", 0, 2**32 - 1, 0)


@dataclass(frozen=True)
class Admin:
    """What the paths stand for.

    `hottest(n)` gives the n bins used most, as inputs by name at their centres; `samples(n, seed)` gives n questions at random
    from the trained ranges; `warm(items)` evaluates items into the cache and says how many; `shadow(items, solver)`
    evaluates items, by the reference solver too when asked, and says what came out; `describe()` says which model is loaded;
    `reload()` loads it anew and says the same, and raises PinnError when it stays with the old one; `renew()` has every answer
    of the next seconds close its connection, and says for how many.
    """

    metrics: Callable[[], bytes]
    describe: Callable[[], Json]
    hottest: Callable[[int], Sequence[Json] | Awaitable[Sequence[Json]]]
    samples: Callable[[int, int], Awaitable[Sequence[Json]]]
    warm: Callable[[list[object]], Awaitable[int]]
    shadow: Callable[[list[object], bool], Awaitable[Json]]
    reload: Callable[[], Awaitable[Json]]
    token: str = ""
    max_batch: int = 10_000
    renew: Callable[[], Json] = dict

    def routes(self) -> Routes:
        """All of them; those that tell or change something need the token."""
        return {
            "/metrics": {"GET": self._metrics},
            "/model": {"GET": self._model},
            "/cache/hottest": {"GET": _with_token(self.token, self._hottest)},
            "/cache/warm": {"POST": _with_token(self.token, self._warm)},
            "/connections/renew": {"POST": _with_token(self.token, self._renew)},
            "/samples": {"GET": _with_token(self.token, self._samples)},
            "/shadow": {"POST": _with_token(self.token, self._shadow)},
            "/reload": {"POST": _with_token(self.token, self._reload)},
        }

    async def _metrics(self, _: Request) -> Answer:
        return Answer(200, self.metrics(), "text/plain; version=0.0.4; charset=utf-8")

    async def _renew(self, _: Request) -> Answer:
        return ok(self.renew())

    async def _model(self, _: Request) -> Answer:
        return ok(self.describe())

    async def _hottest(self, request: Request) -> Answer:
        found = self.hottest(_numbers(request.query, KEYS)["keys"])
        return await _listed(await found if inspect.isawaitable(found) else found)

    async def _samples(self, request: Request) -> Answer:
        asked = _numbers(request.query, KEYS, SEED)
        return await _listed(await self.samples(asked["keys"], asked["seed"]))

    async def _warm(self, request: Request) -> Answer:
        items, _ = self._items(decode(await _body(request)))
        return ok({"warmed": await self.warm(items)})

    async def _shadow(self, request: Request) -> Answer:
        items, wishes = self._items(decode(await _body(request)), "solver")
        solver = wishes.get("solver", False)
        if not isinstance(solver, bool):
            raise InvalidInput("solver must be true or false")
        return ok(await self.shadow(items, solver))

    async def _reload(self, _: Request) -> Answer:
        return ok(await self.reload())

    def _items(self, document: object, wish: str | None = None) -> tuple[list[object], dict[str, object]]:
        """The items of a body, and what else it says: a wish, where there may be one."""
        if not isinstance(document, dict) or not document.keys() <= {"items", wish}:
            more = f' and perhaps "{wish}"' if wish else " alone"
            raise InvalidInput(f'the body must be an object with "items"{more}')
        items = document.get("items")
        if not isinstance(items, list) or not items:
            raise InvalidInput("items must be a list of at least one item")
        if len(items) > self.max_batch:
            raise TooLarge(f"items has {len(items)} items; at most {self.max_batch} are taken at a time")
        return items, document


async def _listed(keys: Sequence[Json]) -> Answer:
    """{"keys": [...]}, written in portions."""
    parts = []
    for start in range(0, len(keys), PORTION):
        parts.append(msgspec.json.encode(keys[start : start + PORTION])[1:-1])
        await asyncio.sleep(0)
    return Answer(200, b'{"keys":[%s]}' % b",".join(parts))


async def _body(request: Request) -> bytes:
    """A body in time: nothing else limits a caller of this port."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.body()
    except TimeoutError:
        raise TooSlow(f"the body did not arrive within {BODY_SECONDS:g} s") from None


def _with_token(token: str, endpoint: Endpoint) -> Endpoint:
    expected = f"Bearer {token}".encode()

    async def guarded(request: Request) -> Answer:
        if not token:
            raise Forbidden("this path is closed; set PINN_SERVER_ADMIN_TOKEN, then send authorization: Bearer TOKEN")
        stated = request.headers.get("authorization")
        if not isinstance(stated, str) or not hmac.compare_digest(stated.encode("utf-8", "replace"), expected):
            raise Unauthorized("send the header authorization: Bearer TOKEN with the token this server was given")
        return await endpoint(request)

    return guarded


def _numbers(query: str, *offered: Parameter) -> dict[str, int]:
    """The parameters of a query, each a number within its range."""
    asked = parse_qs(query, keep_blank_values=True)
    if unknown := asked.keys() - {parameter.name for parameter in offered}:
        names = " and ".join(parameter.name for parameter in offered)
        raise InvalidInput(f"{min(unknown)[:64]!r} is no parameter; there is {names}")
    return {parameter.name: parameter.read(asked) for parameter in offered}
