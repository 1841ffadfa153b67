"""POST /predict: one object or a list of them in, outputs out, each saying how it was made and how wrong it can be."""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from pinn_inference.api import counting
from pinn_inference.api.http import (
    NOT_JSON,
    Endpoint,
    Headers,
    Request,
    Routes,
    decode,
    decode_items,
    no_json,
    unreadable_field,
)
from pinn_inference.api.http import Answer as HttpAnswer
from pinn_inference.api.together import Asked
from pinn_inference.errors import InvalidInput, OutOfDomain, Timeout, TooLarge
from pinn_inference.evaluation import CHUNK, Answer
from pinn_inference.monitoring import SOURCES, Metrics, Source
from pinn_inference.predictor import Predictor

_PLACE: Final = re.compile(r"at `\$(?:\[(\d+)\])?(?:\.(\w+))?")
"""Where msgspec stopped: `$[3].spot` is the fourth item's spot."""

COMMAS: Final = 1000
"""In an item that is looked at again for a better sentence: an honest one has fourteen at most."""

COMMAS_EACH: Final = 20
"""The same for a list, for each item it may have."""


class Loaded(Protocol):
    """A model that is being served."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def predictor(self) -> Predictor: ...


class Codec:
    """Decodes the questions of a model and encodes its answers."""

    def __init__(self, model: Loaded) -> None:
        self.predictor = model.predictor
        self.problem = model.predictor.problem
        self.outputs = self.problem.outputs
        question = self.problem.Question
        self._decode = msgspec.json.Decoder(question | list[question]).decode  # type: ignore[valid-type]  # made at run time
        self._list = list[question]  # type: ignore[valid-type]  # made at run time
        self._label = msgspec.Raw(msgspec.json.encode({"name": model.name, "version": model.version}))
        numbers = [(name, float) for name in self.outputs]
        self._bounds = msgspec.defstruct("Bounds", numbers, gc=False)
        made = [("method", str), ("engine", str), ("reason", str | None), ("error_bound", Any), ("model", msgspec.Raw)]
        self._reply = msgspec.defstruct("Reply", [*numbers, *made], gc=False)

    def questions(self, body: bytes, most: int | None = None) -> Any:
        """One question or a list of them. Raises InvalidInput with a sentence that names the field, or TooLarge.

        Where an item cannot be read, a list of more than `most` is refused for its length: no list holds the server up.
        """
        try:
            return self._decode(body)
        except msgspec.ValidationError as error:
            self._complain(body, str(error), most)
            raise InvalidInput(f"the body cannot be read: {error}") from None
        except NOT_JSON as error:
            raise no_json(error) from None

    def converted(self, items: list[object]) -> list[Any]:
        """The same of a list that has been decoded already."""
        try:
            return msgspec.convert(items, self._list)
        except msgspec.ValidationError as error:
            place, _ = _named(str(error))
            if place is not None:
                self._complain_of(items[place], f"item {place}: ")
            raise InvalidInput(f"items cannot be read: {error}") from None

    def reply(self, answer: Answer, wanted: Sequence[str] | None) -> msgspec.Struct | dict[str, Any]:
        """One answer as it is written: the numbers first, then how they were made."""
        values, bounds, method, engine, reason = answer
        if wanted is None:
            limits = None if bounds is None else self._bounds(*bounds)
            return self._reply(*values, method, engine, reason, limits, self._label)
        places = [self.outputs.index(name) for name in wanted]
        return {
            **{self.outputs[place]: values[place] for place in places},
            "method": method,
            "engine": engine,
            "reason": reason,
            "error_bound": None if bounds is None else {self.outputs[place]: bounds[place] for place in places},
            "model": self._label,
        }

    def _complain(self, body: bytes, said: str, most: int | None) -> None:
        """Finds what the typed decoder refused, where it stopped, and says it as a person would; not of what would take long."""
        place, field = _named(said)
        item, where = body, ""
        if place is not None:
            if most is not None:
                _bounded(place + 1, most, "at least ")
                if body.count(b",") > most * COMMAS_EACH:
                    return
            items = decode_items(body)
            _bounded(len(items), most or len(items))
            item, where = bytes(items[place]), f"item {place}: "
        if field and "out of range" in said:
            raise InvalidInput(f"{where}{field} is too large for a number")
        if item.count(b",") <= COMMAS:
            if (unreadable := unreadable_field(item)) is not None:
                raise InvalidInput(f"{where}{unreadable[:64]} has something that is too large for a number")
            self._complain_of(decode(item), where)

    def _complain_of(self, item: object, where: str) -> None:
        try:
            self._check_wishes(item)
            with suppress(OutOfDomain):  # that is not why the decoder refused it
                self.problem.parse(item)
        except InvalidInput as error:
            raise InvalidInput(f"{where}{error}") from None

    def _check_wishes(self, item: object) -> None:
        if not isinstance(item, dict):
            return
        outputs, exact = item.get("outputs"), item.get("exact", False)
        if outputs is not None and not (
            isinstance(outputs, list) and all(isinstance(name, str) and name in self.outputs for name in outputs)
        ):
            raise InvalidInput(f"outputs must be a list with some of {', '.join(self.outputs)}")
        if not isinstance(exact, bool):
            raise InvalidInput("exact must be true or false")


@dataclass(frozen=True)
class PredictEndpoint:
    """Decodes, asks the predictor of the current model, encodes."""

    codec: Callable[[], Codec]
    metrics: Metrics
    max_batch: int

    async def __call__(self, request: Request) -> HttpAnswer:
        """Answers one call. Raises RequestError for the caller's mistakes, PredictionError for ours."""
        codec, source = self.codec(), source_of(request)
        asked = codec.questions(await request.body(), self.max_batch)
        if isinstance(asked, list):
            return await self._many(codec, asked, source)
        wanted = _wanted(asked)
        answer = await codec.predictor.one(asked, asked.exact)
        made = counting.one(self.metrics, answer, not asked.exact and codec.predictor.cache is not None, source)
        return _made(codec.reply(answer, wanted), made)

    def read(self, _: Headers, body: bytes) -> Asked | None:
        """A plain single question; None, or any error, for whatever is more than that."""
        codec = self.codec()
        asked = codec.questions(body) if body.startswith(b"{") else None
        if asked is None or asked.exact or asked.outputs == []:
            return None
        wanted = asked.outputs
        return Asked(codec.predictor, codec.problem.point(asked), lambda a: _made(codec.reply(a, wanted), a.method))

    async def _many(self, codec: Codec, asked: list[Any], source: Source) -> HttpAnswer:
        if not asked:
            raise InvalidInput("the list is empty; send at least one item")
        _bounded(len(asked), self.max_batch)
        wanted = [_wanted(question, place) for place, question in enumerate(asked)]
        exact = any(question.exact for question in asked)
        answers = await codec.predictor.many(asked, exact)
        replies = await _replies(codec, answers, wanted)
        made = counting.many(self.metrics, answers, not exact and codec.predictor.cache is not None, source)
        return _made(replies, made)


async def shadowed(codec: Codec, items: list[object], metrics: Metrics) -> tuple[list[Any], list[dict[str, Any]]]:
    """Items as questions, and as the model answers them, past the cache.

    Counted as a call of /predict with source probe, which no gate reads: a check of the physics says nothing of what users meet.
    """
    since = time.perf_counter()
    try:
        questions = codec.converted(items)
        answers = await codec.predictor.many(questions, exact=True)
        replies = await _replies(codec, answers, [None] * len(answers))
    except Exception as error:
        counting.failed(metrics, error, "probe", since)
        raise
    counting.answered(metrics, counting.many(metrics, answers, False, "probe"), "probe", since)
    return questions, replies


def counted(routes: Routes, metrics: Metrics) -> Routes:
    """The same routes, each call counted once with its outcome and its latency, time in the queue included."""
    return {
        path: {method: _Counted(endpoint, metrics) for method, endpoint in methods.items()}
        for path, methods in routes.items()
    }


@dataclass(frozen=True)
class _Counted:
    inner: Endpoint
    metrics: Metrics

    async def __call__(self, request: Request) -> HttpAnswer:
        source = source_of(request)
        try:
            answer = await self.inner(request)
        except asyncio.CancelledError:
            counting.failed(self.metrics, Timeout("the caller left before its turn"), source, request.read_at)
            raise
        except Exception as error:
            counting.failed(self.metrics, error, source, request.read_at)
            raise
        counting.answered(self.metrics, answer.made, source, request.read_at)
        return answer


def source_of(request: Request) -> Source:
    """Who asks: callers, or somebody whose calls no gate may count."""
    stated = request.headers.get("pinn-source")
    return stated if stated in SOURCES else "live"


async def _replies(
    codec: Codec, answers: Sequence[Answer], wanted: Sequence[Sequence[str] | None]
) -> list[dict[str, Any]]:
    """Answers as they are written, giving way to other requests on the way."""
    replies: list[Any] = []
    for start in range(0, len(answers), CHUNK):
        part = slice(start, start + CHUNK)
        replies += [codec.reply(a, w) for a, w in zip(answers[part], wanted[part], strict=True)]
        await asyncio.sleep(0)
    return replies


def _bounded(count: int, most: int, or_more: str = "") -> None:
    if count > most:
        raise TooLarge(f"the list has {or_more}{count} items; at most {most} are taken at a time")


def _named(said: str) -> tuple[int | None, str | None]:
    """The item and the field that msgspec's sentence is about, as far as it names them."""
    match = _PLACE.search(said)
    if match is None:
        return None, None
    return (int(match[1]) if match[1] else None), match[2]


def _made(value: object, method: str) -> HttpAnswer:
    return HttpAnswer(200, msgspec.json.encode(value), made=method)


def _wanted(question: Any, place: int | None = None) -> Sequence[str] | None:
    outputs: list[str] | None = question.outputs
    if outputs is not None and not outputs:
        where = "" if place is None else f"item {place}: "
        raise InvalidInput(f"{where}outputs is empty; name at least one, or leave it out for all")
    return outputs
