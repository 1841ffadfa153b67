"""POST /predict: one object or a list of them in, price and Greeks out, each saying how it was made."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pinn_inference.api.http import Answer, Request, Routes, decode, failure, ok
from pinn_inference.errors import InvalidInput, PredictionError, RequestError, TooLarge
from pinn_inference.logs import log
from pinn_inference.monitoring import SOURCES, Metrics, Source
from pinn_inference.predictor import Predictor
from pinn_inference.problems.black_scholes import OUTPUTS, Greeks


@dataclass(frozen=True)
class PredictEndpoint:
    """Decodes, asks the predictor, encodes, and counts the call once."""

    predictor: Predictor
    metrics: Metrics
    origin: Mapping[str, Any]
    max_batch: int

    def routes(self) -> Routes:
        """Where it is found."""
        return {"/predict": {"POST": self}}

    async def __call__(self, request: Request) -> Answer:
        """Answers one call; raises RequestError for the caller's mistakes."""
        started = time.perf_counter()
        source = _source(request)
        try:
            answer = await self._predict(decode(await request.body()))
        except RequestError:
            self.metrics.count("refused", source)
            raise
        except PredictionError as error:
            return self._failed(error, error.error_type, source)
        except Exception as error:  # noqa: BLE001 - a bug is an error counted, not a connection lost
            log.exception("a prediction failed")
            return self._failed(error, "internal", source)
        self.metrics.count("ok", source)
        self.metrics.observe(time.perf_counter() - started)
        return answer

    async def _predict(self, document: object) -> Answer:
        if isinstance(document, list):
            return ok(await self._many(document))
        wanted, item = _wanted(document)
        return ok(self._reply(self.predictor.one(item), wanted))

    async def _many(self, documents: list[object]) -> list[dict[str, Any]]:
        if not documents:
            raise InvalidInput("the list is empty; send at least one option")
        if len(documents) > self.max_batch:
            raise TooLarge(f"the list has {len(documents)} items; at most {self.max_batch} are taken at a time")
        asked = [_wanted(document) for document in documents]
        answers = await self.predictor.many([item for _, item in asked])
        return [self._reply(answer, wanted) for answer, (wanted, _) in zip(answers, asked, strict=True)]

    def _reply(self, answer: Greeks, wanted: tuple[str, ...]) -> dict[str, Any]:
        values = answer._asdict() if wanted is OUTPUTS else {name: getattr(answer, name) for name in wanted}
        return {**values, **self.origin}

    def _failed(self, error: Exception, error_type: str, source: Source) -> Answer:
        self.metrics.count("error", source)
        self.metrics.errors.labels(error_type).inc()
        return failure(
            500, str(error) if isinstance(error, PredictionError) else "internal error; see the server's log"
        )


def _wanted(document: object) -> tuple[tuple[str, ...], object]:
    """The outputs a document asks for, and the document without that wish."""
    if not isinstance(document, dict) or "outputs" not in document:
        return OUTPUTS, document
    outputs = document["outputs"]
    if not isinstance(outputs, list) or not outputs or not all(name in OUTPUTS for name in outputs):
        raise InvalidInput(f"outputs must be a list with some of {', '.join(OUTPUTS)}")
    return tuple(outputs), {key: value for key, value in document.items() if key != "outputs"}


def _source(request: Request) -> Source:
    stated = request.headers.get("pinn-source")
    return stated if stated in SOURCES else "live"
