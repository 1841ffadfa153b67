"""One inference, whatever wire it came on: the same predictor, cache, fallback and counts as /predict."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from pinn_inference.api import counting
from pinn_inference.errors import InvalidInput
from pinn_inference.evaluation import Answer
from pinn_inference.monitoring import Metrics, Source
from pinn_inference.oip import batches
from pinn_inference.oip.tensors import BOUND, Column, Given, Items, Tensors

EXACT: Final = "exact"
"""The parameter of a request that has it evaluated at these very inputs, past the cache."""

WORTH_IT: Final = 64
"""Items from which on columns are quicker than one answer after the other, where nothing is looked up."""

_ELSEWHERE: Final = ("shared_memory_region", "classification")
"""Parameters of a tensor that others know; answering as if they were not there would be wrong."""


class Call(NamedTuple):
    """What is asked: input tensors, names of output tensors (None: the model's), the request's parameters."""

    given: Sequence[Given]
    wanted: Sequence[str] | None
    parameters: Mapping[str, Any]


class Result(NamedTuple):
    """Output tensors of `items` elements each, and how the least of the answers was made."""

    items: int
    columns: Sequence[Column]
    made: str
    parameters: Mapping[str, str]


async def infer(tensors: Tensors, call: Call, most: int, metrics: Metrics, source: Source) -> Result:
    """Answers one call, counted as one. Raises RequestError for the caller's mistakes, PredictionError for ours."""
    exact, wanted = flag(call.parameters, EXACT), tensors.wanted(call.wanted)
    asked, predictor = tensors.asked(call.given, most), tensors.predictor
    cacheable = not exact and predictor.cache is not None
    if asked.count == 1:
        answer = await predictor.one(asked.at(0), exact)
        counting.one(metrics, answer, cacheable, source)
        return single(tensors, answer, wanted)
    if asked.count >= WORTH_IT and not cacheable:
        bounded = any(name.startswith(BOUND) for name in wanted)
        items = await batches.answered(predictor, asked, bounded)
    else:
        answers = await predictor.many(asked.questions(), exact)
        items = Items(answers, answers)
    made = counting.many(metrics, items.different, cacheable, source)
    metrics.items.add((items.different[0].method, source), items.alike - 1)
    return Result(asked.count, tensors.columns(items, wanted), made, _said(_least(items.different, made)))


def single(tensors: Tensors, answer: Answer, wanted: Sequence[str]) -> Result:
    """One answer as output tensors."""
    return Result(1, tensors.columns(Items([answer], [answer]), wanted), answer.method, _said(answer))


def flag(parameters: Mapping[str, Any], name: str) -> bool:
    """A parameter that is true or false; false when it is absent. Raises InvalidInput."""
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise InvalidInput(f"the parameter {name} must be true or false")
    return value


def plain(name: str, parameters: Mapping[str, Any]) -> None:
    """Raises InvalidInput where a tensor's parameters ask for what is not done here."""
    if other := next((each for each in _ELSEWHERE if each in parameters), None):
        raise InvalidInput(f"{name[:64]!r} has the parameter {other}, which this server does not know; leave it out")


def _least(answers: Sequence[Answer], made: str) -> Answer:
    """Of the slowest answers the first that was not the first choice, else the first."""
    slowest = [answer for answer in answers if answer.method == made]
    return next((answer for answer in slowest if answer.reason is not None), slowest[0])


def _said(answer: Answer) -> dict[str, str]:
    found = {"method": answer.method, "engine": answer.engine}
    return found if answer.reason is None else {**found, "reason": answer.reason}
