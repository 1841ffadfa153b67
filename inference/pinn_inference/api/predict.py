"""POST /predict: one object or a list of them in, outputs out, each saying how it was made and how wrong it can be."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from pinn_inference.api.http import Answer as HttpAnswer
from pinn_inference.api.http import Endpoint, Request, Routes, decode, failure, ok
from pinn_inference.errors import (
    InvalidInput,
    OutOfDomain,
    Overloaded,
    PredictionError,
    RequestError,
    Timeout,
    TooLarge,
)
from pinn_inference.evaluation import CHUNK, Answer
from pinn_inference.logs import log
from pinn_inference.monitoring import METHODS, SOURCES, Metrics, Source
from pinn_inference.predictor import Predictor

RANK: Final = {method: rank for rank, method in enumerate(METHODS)}


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
        self.model = model
        self.predictor = model.predictor
        self.problem = model.predictor.problem
        self.outputs = self.problem.outputs
        question = self.problem.Question
        self._decode = msgspec.json.Decoder(question | list[question]).decode  # type: ignore[valid-type]  # made at run time
        self._label = {"name": model.name, "version": model.version}

    def questions(self, body: bytes) -> Any:
        """One question or a list of them. Raises InvalidInput with a sentence that names the field."""
        try:
            return self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            document = decode(body)
            self._complain(document)
            raise InvalidInput(f"the body cannot be read: {error}") from None

    def reply(self, answer: Answer, wanted: Sequence[str] | None) -> dict[str, Any]:
        """One answer as it is written."""
        values, bounds = dict(zip(self.outputs, answer.values, strict=True)), answer.bounds
        limits = None if bounds is None else dict(zip(self.outputs, bounds, strict=True))
        if wanted is not None:
            values = {name: values[name] for name in wanted}
            limits = None if limits is None else {name: limits[name] for name in wanted}
        values["method"] = answer.method  # type: ignore[assignment]  # numbers first, then how they were made
        values["engine"] = answer.engine  # type: ignore[assignment]
        values["reason"] = answer.reason  # type: ignore[assignment]
        values["error_bound"] = limits  # type: ignore[assignment]
        values["model"] = self._label  # type: ignore[assignment]
        return values

    def _complain(self, document: object) -> None:
        """Finds what the typed decoder refused, and says it as a person would."""
        if not isinstance(document, list):
            self._complain_of(document)
            return
        for place, item in enumerate(document):
            try:
                self._complain_of(item)
            except InvalidInput as error:
                raise InvalidInput(f"item {place}: {error}") from None

    def _complain_of(self, item: object) -> None:
        if isinstance(item, dict):
            outputs, exact = item.get("outputs"), item.get("exact", False)
            if outputs is not None and not (
                isinstance(outputs, list) and all(isinstance(name, str) and name in self.outputs for name in outputs)
            ):
                raise InvalidInput(f"outputs must be a list with some of {', '.join(self.outputs)}")
            if not isinstance(exact, bool):
                raise InvalidInput("exact must be true or false")
        with suppress(OutOfDomain):  # that is not why the decoder refused it
            self.problem.parse(item)


@dataclass(frozen=True)
class PredictEndpoint:
    """Decodes, asks the predictor of the current model, encodes."""

    codec: Callable[[], Codec]
    metrics: Metrics
    max_batch: int

    async def __call__(self, request: Request) -> HttpAnswer:
        """Answers one call. Raises RequestError for the caller's mistakes, PredictionError for ours."""
        codec, source = self.codec(), source_of(request)
        asked = codec.questions(await request.body())
        if isinstance(asked, list):
            return await self._many(codec, asked, source)
        wanted = _wanted(asked)
        answer = await codec.predictor.one(asked, asked.exact)
        self._count(answer, asked.exact, source, codec)
        return _made(codec.reply(answer, wanted), answer.method)

    async def _many(self, codec: Codec, asked: list[Any], source: Source) -> HttpAnswer:
        if not asked:
            raise InvalidInput("the list is empty; send at least one item")
        if len(asked) > self.max_batch:
            raise TooLarge(f"the list has {len(asked)} items; at most {self.max_batch} are taken at a time")
        wanted = [_wanted(question, place) for place, question in enumerate(asked)]
        exact = any(question.exact for question in asked)
        answers = await codec.predictor.many(asked, exact)
        replies: list[dict[str, Any]] = []
        for start in range(0, len(answers), CHUNK):
            part = slice(start, start + CHUNK)
            replies += [codec.reply(a, w) for a, w in zip(answers[part], wanted[part], strict=True)]
            await asyncio.sleep(0)
        return _made(replies, self._count_all(answers, exact, source, codec))

    def _count(self, answer: Answer, exact: bool, source: Source, codec: Codec) -> None:
        metrics, method = self.metrics, answer.method
        metrics.items.add((method, source))
        if method == "cache":
            metrics.hits.add((source,))
        elif method == "model" and not exact and codec.predictor.cache is not None:
            metrics.misses.add((source,))
        if answer.reason is not None:
            metrics.fallbacks.add((answer.reason, source))

    def _count_all(self, answers: list[Answer], exact: bool, source: Source, codec: Codec) -> str:
        """Counts a list as the one call it is; returns how its slowest item was made."""
        metrics = self.metrics
        methods = [answer.method for answer in answers]
        slowest = max(set(methods), key=lambda method: RANK[method])
        for method in set(methods):
            metrics.items.add((method, source), methods.count(method))
        if codec.predictor.cache is not None and not exact and slowest != "solver":
            (metrics.hits if slowest == "cache" else metrics.misses).add((source,))
        for reason in {answer.reason for answer in answers if answer.reason is not None}:
            metrics.fallbacks.add((reason, source))
        return slowest


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
        started = time.perf_counter()
        source = source_of(request)
        try:
            answer = await self.inner(request)
        except RequestError as error:
            self.metrics.requests.add(("overloaded" if isinstance(error, Overloaded) else "refused", source))
            raise
        except Timeout:
            self._failed("timeout", source)
            raise
        except PredictionError as error:
            self._failed(error.error_type, source)
            return failure(500, str(error))
        except Exception:  # noqa: BLE001 - a bug is an error counted, not a connection lost
            log.exception("a prediction failed")
            self._failed("internal", source)
            return failure(500, "internal error; see the server's log")
        self.metrics.requests.add(("ok", source))
        if answer.made:
            self.metrics.latency[answer.made, source].observe(time.perf_counter() - started)
        return answer

    def _failed(self, error_type: str, source: Source) -> None:
        self.metrics.requests.add(("error", source))
        self.metrics.errors.add((error_type,))


def source_of(request: Request) -> Source:
    """Who asks: callers, or somebody whose calls no gate may count."""
    stated = request.headers.get("pinn-source")
    return stated if stated in SOURCES else "live"


def _made(value: object, method: str) -> HttpAnswer:
    return ok(value)._replace(made=method)


def _wanted(question: Any, place: int | None = None) -> Sequence[str] | None:
    outputs: list[str] | None = question.outputs
    if outputs is not None and not outputs:
        where = "" if place is None else f"item {place}: "
        raise InvalidInput(f"{where}outputs is empty; name at least one, or leave it out for all")
    return outputs
