"""HTTP on granian's RSGI: routes a request, reads its body within the limit, and turns every outcome into JSON."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from pinn_inference.errors import InvalidInput, MethodNotAllowed, NotFound, RequestError, TooLarge
from pinn_inference.logs import log

JSON = "application/json"


@dataclass(frozen=True)
class Answer:
    """A status, a body, and its media type."""

    status: int
    body: bytes
    media_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class State:
    """Whether the server is ready for traffic, and whether it is on its way out."""

    ready: bool = False
    draining: bool = False


class Headers(Protocol):
    """The request's header fields, by lower-case name."""

    def get(self, key: str, default: Any = None) -> Any: ...


class Request(Protocol):
    """What an endpoint may ask of a request."""

    @property
    def headers(self) -> Headers:
        """Its header fields."""
        ...

    async def body(self) -> bytes:
        """All of its body. Raises TooLarge."""
        ...


Endpoint = Callable[[Request], Awaitable[Answer]]
Routes = Mapping[str, Mapping[str, Endpoint]]


@dataclass(frozen=True)
class App:
    """An RSGI application over routes: path -> method -> endpoint."""

    routes: Routes
    state: State
    max_body: int = 65536

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        """Answers one request."""
        if scope.proto != "http":
            protocol.close(1003)
            return
        answer = await self._answer(scope, protocol)
        headers = [("content-type", answer.media_type), *answer.headers]
        if self.state.draining:
            headers.append(("connection", "close"))
        if scope.method == "HEAD":
            protocol.response_empty(answer.status, headers)
        else:
            protocol.response_bytes(answer.status, headers, answer.body)

    async def _answer(self, scope: Any, protocol: Any) -> Answer:
        try:
            endpoint = self._endpoint(scope.path, scope.method)
            return await endpoint(_Request(scope.headers, protocol, self.max_body))
        except MethodNotAllowed as error:
            return failure(error.status, str(error), (("allow", error.allowed),))
        except RequestError as error:
            return failure(error.status, str(error))
        except Exception:  # noqa: BLE001 - the last line of defence: a bug answers 500 and is logged, it never hangs a caller
            log.exception("a request failed in a way nobody foresaw")
            return failure(500, "internal error; the server's log says more")

    def _endpoint(self, path: str, method: str) -> Endpoint:
        methods = self.routes.get(path)
        if methods is None:
            raise NotFound(f"there is no {path[:200]} here; there are {', '.join(self.routes)}")
        endpoint = methods.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            allowed = ", ".join(methods)
            raise MethodNotAllowed(f"{path} takes {allowed}, not {method}", allowed)
        return endpoint


@dataclass(frozen=True)
class _Request:
    headers: Headers
    _protocol: Any
    _limit: int

    async def body(self) -> bytes:
        """The whole body. Raises TooLarge before reading more than the limit."""
        stated = self.headers.get("content-length")
        if stated is not None and stated.isdecimal() and int(stated) <= self._limit:
            content: bytes = await self._protocol()
            return content
        if stated is not None:
            raise self._too_large()
        return await self._chunked()

    async def _chunked(self) -> bytes:
        content = bytearray()
        async for piece in self._protocol:
            content += piece
            if len(content) > self._limit:
                raise self._too_large()
        return bytes(content)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is larger than {self._limit} bytes; send fewer items at a time")


def ok(value: object) -> Answer:
    """200 with a value as JSON."""
    return Answer(200, msgspec.json.encode(value))


def failure(status: int, sentence: str, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """An error in the one form every client sees: {"error": "a sentence"}."""
    return Answer(status, msgspec.json.encode({"error": sentence}), headers=headers)


def decode(body: bytes) -> object:
    """A JSON document. Raises InvalidInput when it is none; NaN and Infinity are not JSON."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"the body is not JSON: {error} (NaN and Infinity are not JSON either)") from None
