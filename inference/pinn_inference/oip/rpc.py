"""The protocol over gRPC, on the same event loop, with the limits and counts of HTTP. Imported only where it is switched on.

A call is read here and not by the library: so a caller who is slow to send is cut off as over HTTP, and what is being
read is bounded. It is answered in a task of its own, to the end, whether or not its caller still waits: the library would
cancel it otherwise, and who has no patience with a slow server would be counted nowhere.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C library writes lines of its own making between those of our log

import grpc
from google.protobuf.message import DecodeError

from pinn_inference import tracing
from pinn_inference.api.http import HELD, SHORT, Answer, Endpoint, Request, State
from pinn_inference.api.limits import SENDERS
from pinn_inference.api.predict import source_of
from pinn_inference.errors import (
    InvalidInput,
    ListenError,
    NotFound,
    Overloaded,
    PinnError,
    RequestError,
    Timeout,
    TooSlow,
)
from pinn_inference.logs import Sparing, event, log
from pinn_inference.monitoring import Metrics
from pinn_inference.oip import datatypes, inference, messages
from pinn_inference.oip.datatypes import BYTES, Content, Datatype, Raw, shown
from pinn_inference.oip.http import SERVER
from pinn_inference.oip.inference import Call, Result
from pinn_inference.oip.tensors import Given, Tensors

SERVICE: Final = "inference.GRPCInferenceService"
PING_MS: Final = 10_000
"""Clients may ask so often whether the connection lives; the library's own limit, five minutes, would cut off usual settings."""

AGE: Final = 4.0
"""Seconds after which a connection is told to end. What it carries is finished first; its client opens another one, for which a
server is chosen anew. gRPC has no `connection: close` for a single answer: it is by this that a drain, and a share of the traffic
that is made by how many servers stand behind a Service, reach callers who keep a connection."""

PATIENCE: Final = 5.0
"""Seconds at least for a message that asks for no evaluation: for one the server has its own limit."""

_WAIT: Final = (("retry-after", "1"), ("grpc-retry-pushback-ms", "1000"))
"""Beside RESOURCE_EXHAUSTED: for a person, and for the retries of gRPC's own libraries."""


class Options(NamedTuple):
    """How much is taken: bytes of a message, and seconds to send one; whether each call is logged."""

    max_body: int
    timeout: float
    access_log: bool


# ------------------------------------------------------------------------------------------------ one call


@dataclass(frozen=True)
class InferEndpoint:
    """A ModelInferRequest in, a ModelInferResponse out, both as bytes: an endpoint as any other, for the same limits."""

    tensors: Callable[[], Tensors]
    metrics: Metrics
    most: int

    async def __call__(self, request: Request) -> Answer:
        """Answers one call. Raises RequestError for the caller's mistakes, PredictionError for ours."""
        asked, tensors = _decoded(await request.body()), self.tensors()
        served(tensors, asked.model_name, asked.model_version)
        wanted = [_asked_for(output) for output in asked.outputs]
        call = Call(_given(asked), wanted, _values(asked.parameters))
        result = await inference.infer(tensors, call, self.most, self.metrics, source_of(request))
        message = _response(tensors, asked.id, result, raw=bool(asked.raw_input_contents))
        return Answer(200, message.SerializeToString(), made=result.made)


def served(tensors: Tensors, name: str, version: str) -> None:
    """Raises NotFound where another model, or another version, is asked for."""
    here = f"this server has {tensors.name!r} version {tensors.version!r}"
    if name != tensors.name:
        raise NotFound(f"there is no model {name[:64]!r} here; {here}")
    if version and version != tensors.version:
        raise NotFound(f"there is no version {version[:64]!r} here; {here}")


@dataclass(frozen=True, slots=True)
class _Typed:
    """Elements in the field that the protocol has for their datatype."""

    contents: Any

    def numbers(self, name: str, datatype: Datatype, shape: Sequence[int]) -> list[float]:
        """As the protocol says: int_contents and uint_contents for up to 32 bits."""
        if datatype.contents is None:
            raise InvalidInput(f"{shown(name)}: {datatype.name} has no typed contents; send it raw, or as FP32")
        values = self._of(name, datatype.name, datatype.contents, shape)
        return datatypes.from_integers(name, datatype, values) if datatype.integer else list(values)

    def strings(self, name: str, shape: Sequence[int], _: Sequence[str]) -> list[str]:
        """UTF-8."""
        return datatypes.texts(name, self._of(name, BYTES, "bytes_contents", shape), shape)

    def _of(self, name: str, datatype: str, wanted: str, shape: Sequence[int]) -> Any:
        if other := next((found.name for found, _ in self.contents.ListFields() if found.name != wanted), None):
            raise InvalidInput(f"{shown(name)} has {other}; the elements of {datatype} belong into {wanted}")
        values = getattr(self.contents, wanted)
        datatypes.counted(name, len(values), shape)
        return values


def _decoded(body: bytes) -> Any:
    try:
        return messages.ModelInferRequest.FromString(body)
    except DecodeError:
        raise InvalidInput("the message is no ModelInferRequest") from None


def _given(asked: Any) -> list[Given]:
    """The input tensors, all raw or all typed."""
    raw = asked.raw_input_contents
    if raw and len(raw) != len(asked.inputs):
        raise InvalidInput(f"raw_input_contents has {len(raw)} elements for {len(asked.inputs)} inputs; one for each")
    found = []
    for place, tensor in enumerate(asked.inputs):
        if tensor.parameters:
            inference.plain(tensor.name, tensor.parameters)
        if raw and tensor.contents.ListFields():
            raise InvalidInput(f"{shown(tensor.name)} has contents, and there are raw_input_contents; send one of them")
        content: Content = Raw(raw[place]) if raw else _Typed(tensor.contents)
        found.append(Given(tensor.name, tensor.datatype, tensor.shape, content))
    return found


def _asked_for(output: Any) -> str:
    inference.plain(output.name, output.parameters)
    return str(output.name)


def _values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What parameters say; None where one says nothing."""
    chosen = {name: (value, value.WhichOneof("parameter_choice")) for name, value in parameters.items()}
    return {name: getattr(value, choice) if choice else None for name, (value, choice) in chosen.items()}


def _response(tensors: Tensors, named: str, result: Result, raw: bool) -> Any:
    """Raw where the question came raw, typed where it came typed: a client reads what it writes."""
    response = messages.ModelInferResponse(model_name=tensors.name, model_version=tensors.version, id=named)
    for name, value in result.parameters.items():
        response.parameters[name].string_param = value
    for column in result.columns:
        output = response.outputs.add(name=column.name, datatype=column.datatype, shape=(result.items,))
        if raw:
            response.raw_output_contents.append(datatypes.packed(column.datatype, column.values))
        elif column.datatype == BYTES:
            output.contents.bytes_contents.extend(value.encode() for value in column.values)
        else:
            output.contents.fp64_contents.extend(column.values)
    return response


# ---------------------------------------------------------------------------------------------- the service


@dataclass(slots=True)
class _Held:
    """Bytes of long messages that lie in memory unanswered."""

    total: int = 0


@dataclass(slots=True)
class _Request:
    """A call as endpoints see one."""

    _context: Any
    headers: Any
    _memory: _Held
    trace: dict[str, str] | None = None
    read_at: float | None = None
    query: str = ""
    begun: bool = False
    """Whether it is being worked on: the limits read the message, who works on it asks for it again."""
    _body: bytes = b""
    _mine: int = 0

    async def body(self) -> bytes:
        """The message, read once. Raises InvalidInput when there is none, Overloaded when too much lies here already."""
        if self.read_at is None:
            message = None
            with suppress(grpc.aio.BaseError):  # the port was closed meanwhile
                message = await self._context.read()
            if not isinstance(message, bytes):
                raise InvalidInput("the call ends without a message")
            self._hold(message)
            self.read_at = time.perf_counter()
        else:
            self.begun = True
        return self._body

    def waits(self) -> bool:
        """Whether it is complete and its turn has not come."""
        return self.read_at is not None and not self.begun

    def release(self) -> None:
        """It has been answered."""
        self._memory.total -= self._mine

    def _hold(self, message: bytes) -> None:
        self._body = message
        self._mine = len(message) if len(message) > SHORT else 0
        self._memory.total += self._mine
        if self._memory.total > HELD:
            raise Overloaded(f"the server holds {HELD} bytes of unanswered requests already; come back in a second")


class _Ending(NamedTuple):
    """How a call ends: a status, a sentence where it failed, and the answer where it did not."""

    code: Any
    sentence: str
    answer: bytes


_Work = Callable[[_Request], Awaitable[bytes]]


@dataclass
class Rpc:
    """The service's methods. `infer` is an InferEndpoint, limited and counted."""

    infer: Endpoint
    tensors: Callable[[], Tensors]
    state: State
    options: Options
    _memory: _Held = field(default_factory=_Held)
    _working: set[asyncio.Task[_Ending]] = field(default_factory=set)
    _refusals: Sparing = field(default_factory=Sparing)
    _failures: Sparing = field(default_factory=Sparing)

    def handler(self) -> Any:
        """All of them, as the library wants them."""
        told = {
            "ServerLive": (messages.ServerLiveRequest, self._live),
            "ServerReady": (messages.ServerReadyRequest, self._ready),
            "ModelReady": (messages.ModelReadyRequest, self._model_ready),
            "ServerMetadata": (messages.ServerMetadataRequest, self._server),
            "ModelMetadata": (messages.ModelMetadataRequest, self._model),
        }
        methods = {name: self._told(name, request, tell) for name, (request, tell) in told.items()}
        # One message on the wire all the same: as a stream it is read when we ask for it, and not before.
        streams = {
            name: grpc.stream_unary_rpc_method_handler(method)
            for name, method in {**methods, "ModelInfer": self._infer}.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, streams)

    async def finish(self, seconds: float) -> None:
        """Waits so long, at most, for calls whose callers have left."""
        if self._working:
            await asyncio.wait(self._working, timeout=seconds)

    async def _infer(self, _: Any, context: Any) -> bytes:
        async def infer(request: _Request) -> bytes:
            return (await self.infer(request)).body

        return await self._answered("ModelInfer", context, infer)

    def _told(self, name: str, kind: Any, tell: Callable[[Any], Any]) -> Callable[[Any, Any], Awaitable[bytes]]:
        """A method that needs no engine, and answers under any load."""

        async def answer(request: _Request) -> bytes:
            message = await self._read(request)
            try:
                return bytes(tell(kind.FromString(message)).SerializeToString())
            except DecodeError:
                raise InvalidInput(f"the message is no {name}Request") from None

        async def told(_: Any, context: Any) -> bytes:
            return await self._answered(name, context, answer)

        return told

    async def _read(self, request: _Request) -> bytes:
        """A message in time, where no limits see to that; a busy loop must not make a probe fail."""
        seconds = max(self.options.timeout, PATIENCE)
        try:
            async with asyncio.timeout(seconds):
                return await request.body()
        except TimeoutError:
            raise TooSlow(f"the body did not arrive within {seconds:g} s") from None

    async def _answered(self, method: str, context: Any, work: _Work) -> bytes:
        """What comes of a call. The library may cancel this, but not work that has begun; what waits for its turn keeps no place
        when its caller has left.

        The work must begin to read in its first step: when this has ended the library frees what there is to read from.
        """
        request = _Request(context, dict(context.invocation_metadata()), self._memory)
        working = asyncio.create_task(self._ended(method, request, work))
        self._working.add(working)
        working.add_done_callback(self._working.discard)
        try:
            code, sentence, answer = await asyncio.shield(working)
        except asyncio.CancelledError:
            if request.waits():
                working.cancel()
            raise
        if code is not grpc.StatusCode.OK:
            await context.abort(code, sentence, _WAIT if code is grpc.StatusCode.RESOURCE_EXHAUSTED else ())
        return answer

    async def _ended(self, method: str, request: _Request, work: _Work) -> _Ending:
        """How a call ends; every failure as a status and a sentence."""
        tracing.current.set(request)
        started = time.perf_counter()
        code, sentence, answer = grpc.StatusCode.OK, "", b""
        try:
            answer = await work(request)
        except PinnError as error:
            code, sentence = _status(error), str(error)
            self._log(error, method, code)
        except Exception:  # noqa: BLE001 - the last line of defence: a bug is INTERNAL and is logged, it never hangs a caller
            log.exception("a call failed in a way nobody foresaw")
            code, sentence = grpc.StatusCode.INTERNAL, "internal error; the server's log says more"
        finally:
            request.release()
        if self.options.access_log:
            ms = round((time.perf_counter() - started) * 1000, 3)
            event("request", method="gRPC", path=f"/{SERVICE}/{method}", status=code.name, ms=ms)
        return _Ending(code, sentence.encode("utf-8", "backslashreplace").decode(), answer)

    def _log(self, error: PinnError, method: str, code: Any) -> None:
        if isinstance(error, RequestError):
            self._refusals.event(str(error), method="gRPC", path=method, status=code.name)
        else:
            self._failures.event(str(error), 30, method="gRPC", path=method, status=code.name)

    # ---------------------------------------------------------------------------------------- what is told

    def _live(self, _: Any) -> Any:
        return messages.ServerLiveResponse(live=not self.state.unhealthy)

    def _ready(self, _: Any) -> Any:
        return messages.ServerReadyResponse(ready=not self.state.complaint())

    def _model_ready(self, asked: Any) -> Any:
        served(self.tensors(), asked.name, asked.version)
        return messages.ModelReadyResponse(ready=not self.state.complaint())

    def _server(self, _: Any) -> Any:
        return messages.ServerMetadataResponse(name=SERVER["name"], version=SERVER["version"])

    def _model(self, asked: Any) -> Any:
        tensors = self.tensors()
        served(tensors, asked.name, asked.version)
        return messages.ModelMetadataResponse(**tensors.described())


def _status(error: PinnError) -> Any:
    """gRPC's word for an error; what is ours, and nothing else, is INTERNAL."""
    codes = grpc.StatusCode
    if isinstance(error, NotFound):
        return codes.NOT_FOUND
    if isinstance(error, Overloaded):
        return codes.RESOURCE_EXHAUSTED
    if isinstance(error, TooSlow | Timeout):
        return codes.DEADLINE_EXCEEDED
    return codes.INVALID_ARGUMENT if isinstance(error, RequestError) else codes.INTERNAL


# ---------------------------------------------------------------------------------------------- the port


class Listener:
    """The service on a port."""

    def __init__(self, server: Any, rpc: Rpc, seconds: float) -> None:
        self._server, self._rpc, self._seconds = server, rpc, seconds

    @classmethod
    async def open(cls, rpc: Rpc, address: str, drain: float, seconds: float) -> "Listener":
        """Listens on host:port; what is in flight when it ends has so many `seconds`. Raises ListenError when that cannot be."""
        server = grpc.aio.server(
            handlers=(rpc.handler(),),
            maximum_concurrent_rpcs=SENDERS,
            options=(
                ("grpc.max_receive_message_length", rpc.options.max_body),
                ("grpc.max_send_message_length", -1),
                ("grpc.compression_enabled_algorithms_bitset", 1),  # none: nothing is ever inflated here
                ("grpc.max_connection_age_ms", round(age(drain) * 1000)),
                ("grpc.max_connection_age_grace_ms", round(seconds * 1000)),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", PING_MS),
                ("grpc.keepalive_permit_without_calls", 1),
            ),
        )
        try:
            server.add_insecure_port(address)
        except RuntimeError:
            raise ListenError(f"cannot listen on {address} for gRPC") from None
        await server.start()
        return cls(server, rpc, seconds)

    async def close(self) -> None:
        """Stops accepting, and finishes what is in flight, also for callers who have left."""
        ends = time.monotonic() + self._seconds
        await self._server.stop(self._seconds)
        await self._rpc.finish(max(0.0, ends - time.monotonic()))


def age(drain: float) -> float:
    """Seconds that a connection may live: within a drain each has been told to end, a tenth later at the latest."""
    return min(AGE, 0.8 * drain) if drain > 0 else AGE
