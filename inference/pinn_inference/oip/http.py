"""The protocol over HTTP: JSON, with tensors in it or as bytes behind it (the extension for binary tensors)."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from pinn_inference import __version__
from pinn_inference.api.http import (
    JSON,
    NOT_JSON,
    Answer,
    Endpoint,
    Headers,
    Request,
    Routes,
    State,
    failure,
    no_json,
    ok,
)
from pinn_inference.api.predict import source_of
from pinn_inference.api.together import Asked
from pinn_inference.errors import InvalidInput, NotFound
from pinn_inference.monitoring import Metrics
from pinn_inference.oip import datatypes, inference
from pinn_inference.oip.datatypes import Content, Datatype, Raw, shown
from pinn_inference.oip.inference import Call, Result
from pinn_inference.oip.tensors import Column, Given, Tensors

MODELS: Final = "/v2/models/"
SERVER: Final = {"name": "pinn-server", "version": __version__, "extensions": ["binary_tensor_data"]}
HEADER: Final = "inference-header-content-length"
SIZE: Final = "binary_data_size"
OCTETS: Final = "application/octet-stream"

Parameters = dict[str, Any]
_NONE: Final[Parameters] = {}
_ABSENT: Final = msgspec.Raw(b"")


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = _ABSENT
    parameters: Parameters | None = None


class _Wanted(msgspec.Struct):
    name: str
    parameters: Parameters | None = None


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[_Wanted] | None = None


class _Output(msgspec.Struct, omit_defaults=True):
    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters | None = None
    data: Sequence[Any] | None = None


class _Response(msgspec.Struct, omit_defaults=True):
    model_name: str
    model_version: str
    outputs: list[_Output]
    parameters: Mapping[str, str]
    id: str | None = None


_decode: Final = msgspec.json.Decoder(_Request).decode
_KINDS: Final[tuple[type, ...]] = (float, int, str)
_FLAT: Final = {kind: msgspec.json.Decoder(list[kind]) for kind in _KINDS}  # type: ignore[valid-type]  # kinds are values
_NESTED: Final = {kind: msgspec.json.Decoder(list[tuple[kind]]) for kind in _KINDS}  # type: ignore[valid-type]  # as above
_AT: Final = re.compile(r"(?: - at `\$(.*)`)?$")


@dataclass(frozen=True, slots=True)
class _Data:
    """Elements as JSON: one after the other, or each in a list of its own where the shape says so."""

    text: msgspec.Raw

    def numbers(self, name: str, datatype: Datatype, shape: Sequence[int]) -> list[float]:
        """Integers only where the datatype is one of integers."""
        if datatype.integer:
            return datatypes.from_integers(name, datatype, self._read(name, shape, int))
        return self._read(name, shape, float)

    def strings(self, name: str, shape: Sequence[int], _: Sequence[str]) -> list[str]:
        """Strings."""
        return self._read(name, shape, str)

    def _read(self, name: str, shape: Sequence[int], kind: type) -> list[Any]:
        try:
            values: list[Any] = _FLAT[kind].decode(self.text)
        except msgspec.ValidationError as error:
            values = self._nested(name, shape, kind, error)
        except NOT_JSON as error:
            raise no_json(error) from None
        datatypes.counted(name, len(values), shape)
        return values

    def _nested(self, name: str, shape: Sequence[int], kind: type, error: Exception) -> list[Any]:
        if len(shape) == 2:
            try:
                return [value for (value,) in _NESTED[kind].decode(self.text)]
            except msgspec.ValidationError as second:
                error = second
        raise _unreadable(f"the data of {shown(name)}", error) from None


def _unreadable(what: str, error: Exception) -> InvalidInput:
    """In msgspec's words, with the place first."""
    said = str(error)
    match = _AT.search(said)
    place = match[1] if match and match[1] else ""
    return InvalidInput(f"{what}{place} cannot be read: {said[: match.start() if match else None]}")


@dataclass(frozen=True)
class InferEndpoint:
    """Decodes, asks the predictor of the current model, encodes."""

    tensors: Callable[[], Tensors]
    metrics: Metrics
    most: int

    async def __call__(self, request: Request) -> Answer:
        """Answers one call. Raises RequestError for the caller's mistakes, PredictionError for ours."""
        body, tensors = await request.body(), self.tensors()
        asked, raw = _parts(body, request.headers.get(HEADER))
        call = Call(_given(asked.inputs, raw), _names(asked.outputs), asked.parameters or _NONE)
        binary = _binary(asked)
        result = await inference.infer(tensors, call, self.most, self.metrics, source_of(request))
        return _answer(tensors, asked.id, result, binary)

    def read(self, headers: Headers, body: bytes) -> Asked | None:
        """A plain single question; None, or any error, for whatever is more than that."""
        tensors = self.tensors()
        asked, raw = _parts(body, headers.get(HEADER))
        wanted = tensors.wanted(_names(asked.outputs))
        question = tensors.asked(_given(asked.inputs, raw), 1).at(0)
        if inference.flag(asked.parameters or _NONE, inference.EXACT):
            return None
        binary = _binary(asked)
        point = tensors.predictor.problem.point(question)
        return Asked(
            tensors.predictor, point, lambda a: _answer(tensors, asked.id, inference.single(tensors, a, wanted), binary)
        )


# ----------------------------------------------------------------------------------------------------- in


def _parts(body: bytes, stated: str | None) -> tuple[_Request, memoryview]:
    """The JSON of a body, and the bytes behind it."""
    if stated is None:
        return _document(body), memoryview(b"")
    length = int(stated) if stated.isascii() and stated.isdecimal() and len(stated) < 20 else -1
    if not 0 <= length <= len(body):
        raise InvalidInput(f"{HEADER} is {stated[:64]!r}; it must be the bytes of the JSON, of {len(body)} in the body")
    return _document(body[:length]), memoryview(body)[length:]


def _document(text: bytes) -> _Request:
    try:
        return _decode(text)
    except msgspec.ValidationError as error:
        raise _unreadable("the request", error) from None
    except NOT_JSON as error:
        raise no_json(error) from None


def _given(inputs: Sequence[_Input], raw: memoryview) -> list[Given]:
    """The input tensors, each with its data or with its share of the bytes, which are used up in the end."""
    given, at = [], 0
    for tensor in inputs:
        content: Content
        if (size := _size(tensor)) is None:
            content = _Data(tensor.data)
        else:
            content = Raw(_share(tensor.name, raw, at, size))
            at += size
        given.append(Given(tensor.name, tensor.datatype, tensor.shape, content))
    if at != len(raw):
        raise InvalidInput(f"{len(raw) - at} bytes behind the JSON belong to no tensor; each states its {SIZE}")
    return given


def _size(tensor: _Input) -> int | None:
    """Of a tensor that comes as bytes; None where its data are in the JSON. One of them it must be."""
    size = None
    if tensor.parameters:
        inference.plain(tensor.name, tensor.parameters)
        size = tensor.parameters.get(SIZE)
    if size is None:
        if tensor.data is _ABSENT:
            raise InvalidInput(f"{shown(tensor.name)} has neither data nor {SIZE}")
        return None
    if type(size) is not int or size < 0:
        raise InvalidInput(f"{SIZE} of {shown(tensor.name)} must be a number of bytes")
    if tensor.data is not _ABSENT:
        raise InvalidInput(f"{shown(tensor.name)} has both data and {SIZE}; send one of them")
    return size


def _share(name: str, raw: memoryview, at: int, size: int) -> bytes:
    if at + size > len(raw):
        raise InvalidInput(f"{shown(name)} states {size} bytes, and {len(raw) - at} are left behind the JSON")
    return bytes(raw[at : at + size])  # numbers begin where numbers may


def _names(outputs: Sequence[_Wanted] | None) -> list[str] | None:
    for output in outputs or ():
        inference.plain(output.name, output.parameters or _NONE)
    return None if outputs is None else [output.name for output in outputs]


def _binary(asked: _Request) -> Callable[[str], bool]:
    """Whether an output is wanted as bytes: as it says itself, else as the request says for all."""
    every = inference.flag(asked.parameters or _NONE, "binary_data_output")
    if not asked.outputs:
        return lambda _: every
    stated = [(o.name, o.parameters) for o in asked.outputs if o.parameters and "binary_data" in o.parameters]
    own = {name: inference.flag(parameters, "binary_data") for name, parameters in stated}
    return lambda name: own.get(name, every)


# ---------------------------------------------------------------------------------------------------- out


def _answer(tensors: Tensors, named: str | None, result: Result, binary: Callable[[str], bool]) -> Answer:
    outputs, behind = [], []
    for column in result.columns:
        raw = datatypes.packed(column.datatype, column.values) if binary(column.name) else None
        outputs.append(_output(column, result.items, raw))
        if raw is not None:
            behind.append(raw)
    text = msgspec.json.encode(_Response(tensors.name, tensors.version, outputs, result.parameters, named))
    if not behind:
        return Answer(200, text, JSON, made=result.made)
    return Answer(200, b"".join([text, *behind]), OCTETS, ((HEADER, str(len(text))),), result.made)


def _output(column: Column, count: int, raw: bytes | memoryview | None) -> _Output:
    if raw is None:
        values = column.values if isinstance(column.values, list) else column.values.tolist()
        return _Output(column.name, column.datatype, [count], None, values)
    return _Output(column.name, column.datatype, [count], {SIZE: len(raw)})


# ------------------------------------------------------------------------------------------------- routes


class Paths(dict[str, Mapping[str, Endpoint]]):
    """Routes of a server of one model, which say so where another one is asked for."""

    def __init__(self, routes: Routes, model: str, version: str) -> None:
        super().__init__(routes)
        self._model, self._version = model, version

    def get(self, path: str, default: Any = None) -> Any:
        """The methods of a path. Raises NotFound for another model or version."""
        found = super().get(path)
        if found is None and path.startswith(MODELS):
            self._refuse(path.removeprefix(MODELS).split("/"))
        return default if found is None else found

    def _refuse(self, parts: Sequence[str]) -> None:
        served = f"this server has {self._model!r} version {self._version!r}"
        if parts[0] != self._model:
            raise NotFound(f"there is no model {parts[0][:64]!r} here; {served}")
        if len(parts) > 2 and parts[1] == "versions" and parts[2] != self._version:
            raise NotFound(f"there is no version {parts[2][:64]!r} here; {served}")


def infer_routes(model: str, version: str, endpoint: Endpoint) -> Routes:
    """Where inference is asked for: to be limited and counted as /predict is."""
    return {f"{base}/infer": {"POST": endpoint} for base in _bases(model, version)}


def routes(model: str, version: str, tensors: Callable[[], Tensors], state: State) -> Routes:
    """What describes the server and its model, and says whether it is ready."""

    async def server(_: Request) -> Answer:
        return ok(SERVER)

    async def described(_: Request) -> Answer:
        return ok(tensors().described())

    async def ready(_: Request) -> Answer:
        complaint = state.complaint()
        return failure(503, complaint) if complaint else ok({"name": model, "ready": True})

    found: dict[str, Mapping[str, Endpoint]] = {"/v2": {"GET": server}}
    for base in _bases(model, version):
        found |= {base: {"GET": described}, f"{base}/ready": {"GET": ready}}
    return found


def _bases(model: str, version: str) -> tuple[str, str]:
    return f"{MODELS}{model}", f"{MODELS}{model}/versions/{version}"
