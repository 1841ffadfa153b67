"""One request: routes it, reads its body within the limit, and turns every outcome into JSON. The application is one of RSGI."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from pinn_inference import formats, tracing
from pinn_inference.errors import (
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    PredictionError,
    RequestError,
    Timeout,
    TooLarge,
    UnsupportedMedia,
)
from pinn_inference.logs import Sparing, event, log

JSON = "application/json"
HELD: Final = 64 * 1024 * 1024
"""Bytes of long bodies that all requests together may hold before they are answered: a bound on memory, whoever asks."""

SHORT: Final = 16384
"""A body of at most so many bytes is read in one go, and is not counted as held: how many are sent at a time is bounded."""

LENGTH: Final = 20
"""Digits of the longest length of a body that is a number at all: 2 to the 64th has as many."""

NOT_JSON: Final = formats.NOT_JSON
"""What a decoder raises for a body that is no JSON; msgspec.ValidationError among them is for JSON other than was wanted."""

Headed = tuple[tuple[str, str], ...]


class ProtocolClosed(Exception):
    """A body ends before it is complete, or is not what HTTP says a body is."""


class Answer(NamedTuple):
    """A status, a body, its media type, and for the metrics how its content was made."""

    status: int
    body: bytes
    media_type: str = JSON
    headers: Headed = ()
    made: str = ""


@dataclass(slots=True)
class State:
    """Whether the process should live, and whether it wants traffic.

    `unhealthy` is why it should be restarted; each of `checks` says why it should get no traffic, or nothing. While it is
    `parting` every answer tells its connection to close: it drains, or callers are to choose a server anew.
    """

    ready: bool = False
    draining: bool = False
    parting: bool = False
    unhealthy: str = ""
    checks: list[Callable[[], str]] = field(default_factory=list)

    def complaint(self) -> str:
        """The first reason to send no traffic here; empty when there is none."""
        if self.draining:
            return "draining: the server was told to stop"
        if self.unhealthy:
            return self.unhealthy
        if not self.ready:
            return "the model is not loaded yet"
        return next(filter(None, (check() for check in self.checks)), "")


class Headers(Protocol):
    """The request's header fields, by lower-case name."""

    def get(self, key: str, default: Any = None) -> Any: ...


class Request(Protocol):
    """What an endpoint may ask of a request."""

    @property
    def headers(self) -> Headers:
        """Its header fields."""
        ...

    @property
    def query(self) -> str:
        """What follows the question mark, as sent."""
        ...

    @property
    def read_at(self) -> float | None:
        """When its body had been read, by time.perf_counter(); None before."""
        ...

    async def body(self) -> bytes:
        """All of its body. Raises TooLarge, UnsupportedMedia, InvalidInput when it ends early, or Overloaded."""
        ...


Endpoint = Callable[[Request], Awaitable[Answer]]
Routes = Mapping[str, Mapping[str, Endpoint]]

_PLAIN: Final = [("content-type", JSON)]


@dataclass(frozen=True)
class App:
    """An RSGI application over routes: path -> method -> endpoint. `take` may answer a complete request without a task."""

    routes: Routes
    state: State
    max_body: int = 65536
    access_log: bool = False
    take: Callable[[Any], bool] | None = None
    _held: "Held" = field(default_factory=lambda: Held())
    _refusals: Sparing = field(default_factory=Sparing)
    _failures: Sparing = field(default_factory=Sparing)

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        """Answers one request."""
        if scope.proto != "http":
            protocol.close(1003)
            return
        started = time.perf_counter() if self.access_log else 0.0
        request = _Request(scope, scope.headers, protocol, self.max_body, self._held)
        tracing.current.set(request)
        try:
            answer = await self._answer(scope.path, scope.method, request)
        finally:
            request.release()
        headers = self.headers(answer, request.headers)
        if scope.method == "HEAD" or answer.status == 204:
            protocol.response_empty(answer.status, headers)
        else:
            protocol.response_bytes(answer.status, headers, answer.body)
        if self.access_log:
            ms = round((time.perf_counter() - started) * 1000, 3)
            event("request", method=scope.method, path=scope.path, status=answer.status, ms=ms)

    def takes(self, exchange: Any) -> bool:
        """Whether a complete request is answered without a task of its own; else nothing has happened."""
        return self.take is not None and not self.access_log and self.take(exchange)

    def headers(self, answer: Answer, asked: Headers) -> list[tuple[str, str]]:
        """The fields of an answer to a request with these."""
        stated = asked.get("x-request-id")
        if stated is None and answer.media_type is JSON and not answer.headers and not self.state.parting:
            return _PLAIN
        headers = [("content-type", answer.media_type), *answer.headers]
        if (echoed := tracing.request_id(stated)) is not None:
            headers.append(("x-request-id", echoed))
        if self.state.parting:
            headers.append(("connection", "close"))
        return headers

    async def _answer(self, path: str, method: str, request: "_Request") -> Answer:
        try:
            return await self._endpoint(path, method)(request)
        except RequestError as error:
            return self._refuse(error, path, method)
        except (PredictionError, Timeout) as error:
            self._failures.event(str(error), logging.WARNING, method=method, path=path, status=error.status)
            return failure(error.status, str(error))
        except Exception:  # noqa: BLE001 - the last line of defence: a bug answers 500 and is logged, it never hangs a caller
            log.exception("a request failed in a way nobody foresaw")
            return failure(500, "internal error; the server's log says more")

    def _refuse(self, error: RequestError, path: str, method: str) -> Answer:
        self._refusals.event(str(error), method=method, path=path[:200], status=error.status)
        return failure(error.status, str(error), error.headers)

    def _endpoint(self, path: str, method: str) -> Endpoint:
        methods = self.routes.get(path)
        if methods is None:
            raise NotFound(f"there is no {path[:200]} here; there are {', '.join(self.routes)}")
        endpoint = methods.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"])
            if method == "OPTIONS":
                return _options(allowed)
            raise MethodNotAllowed(f"{path} takes {allowed}, not {method[:32]}", allowed)
        return endpoint


@dataclass(slots=True)
class Held:
    """How much of long, unanswered bodies lies in memory."""

    total: int = 0

    def add(self, more: int) -> None:
        """Counts so many bytes, until they are taken back. Raises Overloaded when it is too much with them."""
        self.total += more
        if self.total > HELD:
            raise Overloaded(f"the server holds {HELD} bytes of unanswered requests already; come back in a second")


@dataclass(slots=True)
class _Request:
    _scope: Any
    headers: Headers
    _protocol: Any
    _limit: int
    _memory: Held
    trace: dict[str, str] | None = None
    read_at: float | None = None
    _body: bytes = b""
    _mine: int = 0

    @property
    def query(self) -> str:
        return str(self._scope.query_string)

    async def body(self) -> bytes:
        """The whole body, read once. Raises TooLarge before reading more than the limit."""
        if self.read_at is None:
            try:
                self._body = await (self._protocol() if self._short() else self._pieces())
            except ProtocolClosed:
                raise InvalidInput("the body ends before it is complete, or is not chunked as HTTP says") from None
            self.read_at = time.perf_counter()
        return self._body

    def release(self) -> None:
        """It has been answered."""
        self._memory.total -= self._mine

    def _short(self) -> bool:
        """Whether it may be read in one go. Raises TooLarge or UnsupportedMedia for what is not read at all."""
        if (encoding := self.headers.get("content-encoding")) is not None and encoding.lower() != "identity":
            raise UnsupportedMedia(
                f"content-encoding is {encoding[:64]!r}; send the body as it is, without compression"
            )
        stated = stated_length(self.headers)
        if stated is not None and stated > self._limit:
            raise self._too_large()
        return stated is not None and stated <= SHORT

    async def _pieces(self) -> bytes:
        pieces, size = list[bytes](), 0
        async for piece in self._protocol:
            pieces.append(piece)
            size += len(piece)
            self._hold(len(piece))
            if size > self._limit:
                raise self._too_large()
        return b"".join(pieces)

    def _hold(self, more: int) -> None:
        self._mine += more
        self._memory.add(more)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is larger than {self._limit} bytes; send fewer items at a time")


def stated_length(headers: Headers) -> int | None:
    """Bytes of a body as its head states them, or None. The HTTP library has refused what is no length."""
    stated = headers.get("content-length")
    return None if stated is None else int(stated.strip()[-LENGTH:])


def ok(value: object) -> Answer:
    """200 with a value as JSON."""
    return Answer(200, msgspec.json.encode(value))


def encoded(status: int, value: object) -> Answer:
    """Another status with a value as JSON."""
    return Answer(status, msgspec.json.encode(value))


def failure(status: int, sentence: str, headers: Headed = ()) -> Answer:
    """An error in the one form every client sees: {"error": "a sentence"}."""
    plain = sentence.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair is no text anyone can send
    return Answer(status, msgspec.json.encode({"error": plain}), headers=headers)


def decode(body: bytes | msgspec.Raw) -> object:
    """A JSON document. Raises InvalidInput when it is none; NaN and Infinity are not JSON, but 1e999 is, and infinite."""
    try:
        return msgspec.json.decode(body)
    except msgspec.ValidationError:
        return _read(_INFINITE, body)
    except NOT_JSON as error:
        raise no_json(error) from None


def unreadable_field(body: bytes | msgspec.Raw) -> str | None:
    """The first field of a JSON object whose value is a number that no decoder takes."""
    with suppress(*NOT_JSON):
        for name, value in _FIELDS.decode(body).items():
            try:
                _INFINITE.decode(value)
            except msgspec.ValidationError:
                return str(name)
    return None


def decode_items(body: bytes) -> list[msgspec.Raw]:
    """The items of a JSON list, for `decode`. Raises InvalidInput when it is none."""
    items: list[msgspec.Raw] = _read(_ITEMS, body)
    return items


_INFINITE: Final = msgspec.json.Decoder(float_hook=float)
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])


def _read(decoder: msgspec.json.Decoder[Any], body: bytes | msgspec.Raw) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"the body has something that cannot be read: {error}") from None
    except NOT_JSON as error:
        raise no_json(error) from None


def no_json(error: Exception) -> InvalidInput:
    """The refusal of a body for one of NOT_JSON."""
    return InvalidInput(f"the body is not JSON: {error} (NaN and Infinity are not JSON either)")


def _options(allowed: str) -> Endpoint:
    async def endpoint(_: Request) -> Answer:
        return Answer(204, b"", headers=(("allow", allowed),))

    return endpoint
