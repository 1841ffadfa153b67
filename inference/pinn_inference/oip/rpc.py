"""The protocol over gRPC, on the same event loop, with the limits and counts of HTTP. Imported only where it is switched on.

Plain questions that come together are answered together, as over HTTP. Any other call is answered in a task of its own, to the
end, whether or not its caller still waits: who has no patience with a slow server would be counted nowhere otherwise.
"""

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from pinn_inference import tracing
from pinn_inference.api import grpc, wire
from pinn_inference.api.grpc import Code
from pinn_inference.api.http import SHORT, Answer, Endpoint, Headed, Headers, Held, ProtocolClosed, Request, State
from pinn_inference.api.http2 import Connection, Stream
from pinn_inference.api.limits import SENDERS
from pinn_inference.api.predict import source_of
from pinn_inference.api.together import PLAIN, Asked
from pinn_inference.errors import (
    InvalidInput,
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
from pinn_inference.oip.datatypes import BYTES, FP64, Content, Datatype, Raw, shown
from pinn_inference.oip.http import SERVER
from pinn_inference.oip.inference import Call, Result
from pinn_inference.oip.tensors import Given, Tensors

SERVICE: Final = "inference.GRPCInferenceService"
INFER: Final = f"/{SERVICE}/ModelInfer"

AGE: Final = 4.0
"""Seconds after which a connection is told to end. What it carries is finished first; its client opens another one, for which a
server is chosen anew. gRPC has no `connection: close` for a single answer: it is by this that a drain, and a share of the traffic
that is made by how many servers stand behind a Service, reach callers who keep a connection."""

PATIENCE: Final = 5.0
"""Seconds at least for a message that asks for no evaluation: for one the server has its own limit."""

_NUMBER: Final = struct.Struct("<d")

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
    """A ModelInferRequest in, a ModelInferResponse out, as they go over the wire: for the limits an endpoint as any other."""

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
        return _answer(tensors, asked, result)

    def read(self, _: Headers, body: bytes) -> Asked | None:
        """A plain single question; None, or any error, for whatever is more than that."""
        asked, tensors = messages.ModelInferRequest.FromString(body), self.tensors()
        served(tensors, asked.model_name, asked.model_version)
        wanted = tensors.wanted([_asked_for(output) for output in asked.outputs])
        question = tensors.asked(_given(asked), 1).at(0)
        if asked.parameters and inference.flag(_values(asked.parameters), inference.EXACT):
            return None
        predictor = tensors.predictor
        return Asked(
            predictor,
            predictor.problem.point(question),
            lambda found: _answer(tensors, asked, inference.single(tensors, found, wanted)),
        )


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
        values: Any = ()
        for given, found in self.contents.ListFields():
            if given.name != wanted:
                raise InvalidInput(f"{shown(name)} has {given.name}; the elements of {datatype} belong into {wanted}")
            values = found
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


def _answer(tensors: Tensors, asked: Any, result: Result) -> Answer:
    """Raw where the question came raw, typed where it came typed: a client reads what it writes."""
    raw, behind = bool(asked.raw_input_contents), list[messages.Bytes]()
    if result.items == 1 and not raw and not asked.id and all(column.datatype == FP64 for column in result.columns):
        return Answer(200, _numbers(tensors, result), made=result.made)
    response = messages.ModelInferResponse(model_name=tensors.name, model_version=tensors.version, id=asked.id)
    for name, value in result.parameters.items():
        response.parameters[name].string_param = value
    for column in result.columns:
        output = response.outputs.add(name=column.name, datatype=column.datatype, shape=(result.items,))
        if raw:
            behind.append(datatypes.packed(column.datatype, column.values))
        elif column.datatype == BYTES:
            output.contents.bytes_contents.extend(value.encode() for value in column.values)
        else:
            output.contents.fp64_contents.extend(column.values)
    elements = messages.elements(messages.RAW_OUTPUT_CONTENTS, behind)
    return Answer(200, grpc.prefixed(response.SerializeToString(), *elements), made=result.made)


def _numbers(tensors: Tensors, result: Result) -> bytes:
    """The same for one item of which only numbers are asked, the usual question: put together of what is always alike."""
    parts = [_about(tensors.name, tensors.version, *result.parameters.items())]
    for column in result.columns:
        parts += (_before(column.name), _NUMBER.pack(column.values[0]))
    return grpc.prefixed(*parts)


@lru_cache(maxsize=256)
def _about(name: str, version: str, *parameters: tuple[str, str]) -> bytes:
    response = messages.ModelInferResponse(model_name=name, model_version=version)
    for parameter, value in parameters:
        response.parameters[parameter].string_param = value
    return bytes(response.SerializeToString())


@lru_cache(maxsize=256)
def _before(name: str) -> bytes:
    """An output of one number on the wire, without the number, which stands at its end."""
    response = messages.ModelInferResponse()
    response.outputs.add(name=name, datatype=FP64, shape=(1,)).contents.fp64_contents.append(0.0)
    return bytes(response.SerializeToString()[: -_NUMBER.size])


# ---------------------------------------------------------------------------------------------- the service


class _Call:
    """A call as what is answered together sees one."""

    __slots__ = ("_rpc", "_stream", "headers", "path")
    method: Final = "POST"

    def __init__(self, rpc: "Rpc", stream: Stream) -> None:
        self._rpc, self._stream = rpc, stream
        self.headers, self.path = stream.headers, stream.path

    def body(self) -> bytes:
        """Its message."""
        return grpc.message(self._stream)

    def answered(self, answer: Answer) -> None:
        """This is the answer."""
        self._stream.answer(grpc.HEAD, answer.body, grpc.DONE)

    def as_usual(self) -> None:
        """It is answered by a task of its own."""
        self._rpc.as_usual(self._stream)

    def abort(self) -> None:
        """It will have no answer."""
        self._stream.abort()


@dataclass(slots=True)
class _Request:
    """A call as endpoints see one."""

    _stream: Stream
    _most: int
    _memory: Held
    trace: dict[str, str] | None = None
    read_at: float | None = None
    query: str = ""
    begun: bool = False
    """Whether it is being worked on: the limits read the message, who works on it asks for it again."""
    _body: bytes = b""
    _mine: int = 0

    @property
    def headers(self) -> Headers:
        """Its metadata."""
        return self._stream.headers

    async def body(self) -> bytes:
        """The message, read once. Raises InvalidInput when there is none or it is not whole, TooLong, Unimplemented when it is
        compressed, Overloaded when too much lies here already."""
        if self.read_at is None:
            stream = self._stream
            while True:
                self._hold(len(stream.body))
                grpc.check(stream, self._most)
                if stream.complete:
                    break
                try:
                    await stream.more()
                except ProtocolClosed:
                    raise InvalidInput("the call ends without a message") from None
            self._body = grpc.message(stream)
            stream.body.clear()
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

    def _hold(self, size: int) -> None:
        more = size - self._mine if size > SHORT else 0
        self._mine += more
        self._memory.add(more)


class _Ending(NamedTuple):
    """How a call ends: with a code, a sentence and further fields where it failed, with a prefixed answer where it did not."""

    code: Code
    answer: bytes = b""
    sentence: str = ""
    more: Headed = ()


_Work = Callable[[_Request], Awaitable[bytes]]


@dataclass
class Rpc:
    """The service's methods. `infer` is an InferEndpoint, limited and counted; `take` may answer a complete call at once."""

    infer: Endpoint
    tensors: Callable[[], Tensors]
    state: State
    options: Options
    take: Callable[[Any], bool] | None = None
    _telling: dict[str, _Work] = field(init=False)
    _memory: Held = field(default_factory=Held)
    _working: set[asyncio.Task[None]] = field(default_factory=set)
    _refusals: Sparing = field(default_factory=Sparing)
    _failures: Sparing = field(default_factory=Sparing)

    def __post_init__(self) -> None:
        told = {
            "ServerLive": (messages.ServerLiveRequest, self._live),
            "ServerReady": (messages.ServerReadyRequest, self._ready),
            "ModelReady": (messages.ModelReadyRequest, self._model_ready),
            "ServerMetadata": (messages.ServerMetadataRequest, self._server),
            "ModelMetadata": (messages.ModelMetadataRequest, self._model),
        }
        self._telling = {f"/{SERVICE}/{name}": self._told(name, *how) for name, how in told.items()}

    @property
    def most(self) -> int:
        """Bytes of the longest message."""
        return self.options.max_body

    def begin(self, stream: Stream) -> None:
        """Answers a call, or begins to."""
        if self._takes(stream):
            return
        if len(self._working) >= SENDERS and not (stream.complete and stream.path in self._telling):
            busy = f"{len(self._working)} calls are being worked on already; come back in a second"
            stream.refuse(grpc.ending(Code.RESOURCE_EXHAUSTED, busy, _WAIT))
        else:
            self.as_usual(stream)

    def _takes(self, stream: Stream) -> bool:
        if self.take is None or self.options.access_log or not grpc.is_call(stream.headers):
            return False
        return grpc.is_whole(stream, min(PLAIN, self.most)) and self.take(_Call(self, stream))

    def as_usual(self, stream: Stream) -> None:
        """By a task of its own. When its caller leaves, what waits for its turn keeps no place."""
        request = _Request(stream, self.most, self._memory)
        working = asyncio.create_task(self._answered(request, stream))
        self._working.add(working)
        working.add_done_callback(self._working.discard)

        def left() -> None:
            if request.waits():
                working.cancel()

        if not stream.gone:
            stream.left = left

    async def finish(self, seconds: float) -> None:
        """Waits so long, at most, for calls whose callers have left."""
        if self._working:
            await asyncio.wait(self._working, timeout=seconds)

    async def _answered(self, request: _Request, stream: Stream) -> None:
        if not grpc.is_call(stream.headers):
            with suppress(RequestError):
                await self._read(request)
            request.release()
            stream.answer(grpc.NO_CALL, grpc.ONLY_CALLS, b"")
            return
        work = self._infer if stream.path == INFER else self._telling.get(stream.path, _unknown)
        ending = await self._ended(stream.path[:200], request, work)
        if ending.code is Code.OK:
            stream.answer(grpc.HEAD, ending.answer, grpc.DONE)
        else:
            stream.refuse(grpc.ending(ending.code, ending.sentence, ending.more))

    async def _infer(self, request: _Request) -> bytes:
        return (await self.infer(request)).body

    def _told(self, name: str, kind: Any, tell: Callable[[Any], Any]) -> _Work:
        """A method that needs no engine, and answers under any load."""

        async def answer(request: _Request) -> bytes:
            message = await self._read(request)
            try:
                return grpc.prefixed(tell(kind.FromString(message)).SerializeToString())
            except DecodeError:
                raise InvalidInput(f"the message is no {name}Request") from None

        return answer

    async def _read(self, request: _Request) -> bytes:
        """A message in time, where no limits see to that; a busy loop must not make a probe fail."""
        seconds = max(self.options.timeout, PATIENCE)
        try:
            async with asyncio.timeout(seconds):
                return await request.body()
        except TimeoutError:
            raise TooSlow(f"the body did not arrive within {seconds:g} s") from None

    async def _ended(self, path: str, request: _Request, work: _Work) -> _Ending:
        """How a call ends; every failure as a code and a sentence."""
        tracing.current.set(request)
        started = time.perf_counter()
        try:
            ending = _Ending(Code.OK, await work(request))
        except PinnError as error:
            ending = _Ending(_code(error), sentence=str(error), more=_WAIT if isinstance(error, Overloaded) else ())
            self._log(error, path, ending.code)
        except Exception:  # noqa: BLE001 - the last line of defence: a bug is INTERNAL and is logged, it never hangs a caller
            log.exception("a call failed in a way nobody foresaw")
            ending = _Ending(Code.INTERNAL, sentence="internal error; the server's log says more")
        finally:
            request.release()
        if self.options.access_log:
            ms = round((time.perf_counter() - started) * 1000, 3)
            event("request", method="gRPC", path=path, status=ending.code.name, ms=ms)
        return ending

    def _log(self, error: PinnError, path: str, code: Code) -> None:
        if isinstance(error, RequestError):
            self._refusals.event(str(error), method="gRPC", path=path, status=code.name)
        else:
            self._failures.event(str(error), 30, method="gRPC", path=path, status=code.name)

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


async def _unknown(_: _Request) -> bytes:
    raise grpc.Unimplemented(f"the service {SERVICE} does not have this method")


def _code(error: PinnError) -> Code:
    """gRPC's word for an error; what is ours, and nothing else, is INTERNAL."""
    if isinstance(error, NotFound):
        return Code.NOT_FOUND
    if isinstance(error, Overloaded | grpc.TooLong):
        return Code.RESOURCE_EXHAUSTED
    if isinstance(error, TooSlow | Timeout):
        return Code.DEADLINE_EXCEEDED
    if isinstance(error, grpc.Unimplemented):
        return Code.UNIMPLEMENTED
    return Code.INVALID_ARGUMENT if isinstance(error, RequestError) else Code.INTERNAL


# ---------------------------------------------------------------------------------------------- the port


class Listener:
    """The service on a port."""

    def __init__(self, listening: wire.Listener, rpc: Rpc) -> None:
        self._listening, self._rpc = listening, rpc

    @classmethod
    async def open(
        cls, rpc: Rpc, sock: Any, *, backlog: int, idle: float, most: int, drain: float, seconds: float
    ) -> "Listener":
        """Listens on a bound socket; a call that is in flight when its connection ends has so many `seconds`."""
        connection = partial(Connection, answers=rpc, age=age(drain), grace=seconds)
        return cls(await wire.Listener.open(connection, sock, backlog=backlog, idle=idle, most=most), rpc)

    @property
    def turned_away(self) -> int:
        """Connections that were too many."""
        return self._listening.turned_away

    async def close(self, seconds: float) -> bool:
        """Stops accepting, and finishes what is in flight, also for callers who have left; False when it had to be cut."""
        ends = time.monotonic() + seconds
        finished = await self._listening.close(seconds)
        await self._rpc.finish(max(0.0, ends - time.monotonic()))
        return finished


def age(drain: float) -> float:
    """Seconds that a connection may live: within a drain each has been told to end, a tenth later at the latest."""
    return min(AGE, 0.8 * drain) if drain > 0 else AGE
