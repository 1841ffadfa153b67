"""Mosec with typed, validated JSON by msgspec (its own choice of library) in place of its default encoder, with or without
dynamic batching.

One worker process behind its Rust front. Mosec's documentation has validation and serialization by msgspec for MessagePack;
the same two methods are overridden here for JSON, which is what all the others speak.
"""

# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator,misc,no-any-return"
# Runs in an environment of its own, which the type checker does not see.

import os
from typing import Any, cast

import msgspec
from mosec import Server, ValidationError, Worker

from benchmarks.peers.model import SIGN, Greeks, Option, Pricer

BATCH = int(os.environ["MOSEC_BATCH"])


class Question(msgspec.Struct):
    """One option."""

    spot: float
    strike: float
    maturity: float
    rate: float
    volatility: float
    dividend_yield: float = 0.0
    kind: str = "call"


class Prices(Worker):
    """Answers options."""

    def __init__(self) -> None:
        super().__init__()
        self.pricer = Pricer()
        self.decoder = msgspec.json.Decoder(Question)
        self.encoder = msgspec.json.Encoder()

    def deserialize(self, data: bytes) -> Option:
        """One request."""
        try:
            q = self.decoder.decode(data)
            return Option(q.spot, q.strike, q.maturity, q.rate, q.dividend_yield, q.volatility, SIGN[q.kind])
        except (msgspec.DecodeError, KeyError) as error:
            raise ValidationError(error) from error

    def serialize(self, data: Any) -> bytes:
        """One answer."""
        return self.encoder.encode(cast(Greeks, data)._asdict())

    def forward(self, data: Any) -> Any:
        """One option, or a list of them when batches are on."""
        return self.pricer.many(data) if BATCH > 1 else self.pricer.one(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Prices, num=1, max_batch_size=BATCH, max_wait_time=1)
    server.run()
