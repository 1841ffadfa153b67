"""What a call comes to, in the metrics: its outcome, how its items were made, how long it took. One call is counted once.

Shared by the paths that evaluate, so that a gate which compares their counts compares like with like.
"""

import time
from collections.abc import Sequence
from typing import Final

from pinn_inference.errors import Overloaded, PredictionError, RequestError, Timeout
from pinn_inference.evaluation import Answer
from pinn_inference.monitoring import METHODS, Metrics, Source

_RANK: Final = {method: rank for rank, method in enumerate(METHODS)}


def one(metrics: Metrics, answer: Answer, cacheable: bool, source: Source) -> str:
    """The only answer of a call, which might have come from the cache or not; returns how it was made."""
    method = answer.method
    metrics.items.add((method, source))
    if cacheable and method != "solver":
        (metrics.hits if method == "cache" else metrics.misses).add((source,))
    if answer.reason is not None:
        metrics.fallbacks.add((answer.reason, source))
        metrics.fallback_calls.add((source,))
    return method


def many(metrics: Metrics, answers: Sequence[Answer], cacheable: bool, source: Source) -> str:
    """The same for a list; returns how its slowest item was made."""
    methods = [answer.method for answer in answers]
    kinds = set(methods)
    for method in kinds:
        metrics.items.add((method, source), methods.count(method))
    if cacheable and kinds != {"solver"}:
        (metrics.misses if "model" in kinds else metrics.hits).add((source,))
    reasons = {answer.reason for answer in answers if answer.reason is not None}
    for reason in reasons:
        metrics.fallbacks.add((reason, source))
    if reasons:
        metrics.fallback_calls.add((source,))
    return max(kinds, key=_RANK.__getitem__)


def answered(metrics: Metrics, made: str, source: Source, since: float | None) -> None:
    """A call was answered, `since` its question was complete."""
    metrics.requests.add(("ok", source))
    if made and since is not None:
        _took(metrics, made, source, since)


def failed(metrics: Metrics, error: Exception, source: Source, since: float | None) -> None:
    """A call was refused, or left without an answer."""
    if isinstance(error, RequestError):
        metrics.requests.add(("overloaded" if isinstance(error, Overloaded) else "refused", source))
        return
    if isinstance(error, Timeout) and since is not None:
        _took(metrics, "none", source, since)
    metrics.requests.add(("error", source))
    metrics.errors.add((_kind(error), source))


def _took(metrics: Metrics, made: str, source: Source, since: float) -> None:
    metrics.latency[made, source].observe(time.perf_counter() - since)


def _kind(error: Exception) -> str:
    if isinstance(error, Timeout):
        return "timeout"
    return error.error_type if isinstance(error, PredictionError) else "internal"
