"""BentoML with its adaptive batching: a list of options in, a list of answers out, which is what it wants of a batchable API.

One worker; neither access log nor metrics nor traces.
"""

# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator,misc,no-any-return"
# Runs in an environment of its own, which the type checker does not see.

import bentoml
from pydantic import BaseModel

from benchmarks.peers.model import SIGN, Greeks, Option, Pricer


class Question(BaseModel):
    """One option."""

    spot: float
    strike: float
    maturity: float
    rate: float
    volatility: float
    dividend_yield: float = 0.0
    kind: str = "call"


class Answer(BaseModel):
    """Its price and Greeks."""

    price: float
    delta: float
    gamma: float
    vega: float
    theta: float
    rho: float


def _option(q: Question) -> Option:
    return Option(q.spot, q.strike, q.maturity, q.rate, q.dividend_yield, q.volatility, SIGN[q.kind])


def _answer(greeks: Greeks) -> Answer:
    return Answer.model_construct(**greeks._asdict())


@bentoml.service(
    workers=1,
    traffic={"timeout": 10},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Prices:
    """Answers options."""

    def __init__(self) -> None:
        self.pricer = Pricer()

    @bentoml.api
    def one(self, option: Question) -> Answer:
        """One option."""
        return _answer(self.pricer.one(_option(option)))

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=1000)
    def many(self, options: list[Question]) -> list[Answer]:
        """Those of several requests."""
        return [_answer(one) for one in self.pricer.many([_option(option) for option in options])]
