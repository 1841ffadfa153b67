"""LitServe: one API server, one worker on the CPU, its fast queue (ZeroMQ), with or without its batching."""

# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator,misc,no-any-return"
# Runs in an environment of its own, which the type checker does not see.

import os
import sys
from typing import Any

import litserve

from benchmarks.peers.model import SIGN, Greeks, Option, Pricer

BATCH = int(os.environ["LITSERVE_BATCH"])


class Prices(litserve.LitAPI):
    """Answers options."""

    def setup(self, device: str) -> None:
        """Once, at the start of the worker."""
        self.pricer = Pricer()

    def decode_request(self, request: dict[str, Any]) -> Option:
        """One request."""
        q = request
        return Option(
            q["spot"], q["strike"], q["maturity"], q["rate"], q["dividend_yield"], q["volatility"], SIGN[q["kind"]]
        )

    def batch(self, inputs: list[Option]) -> list[Option]:
        """The model takes a list as it is."""
        return inputs

    def unbatch(self, output: list[Greeks]) -> list[Greeks]:
        """And answers with one."""
        return output

    def predict(self, x: Any) -> Any:
        """One option, or a list of them when batches are on."""
        return self.pricer.many(x) if BATCH > 1 else self.pricer.one(x)

    def encode_response(self, output: Greeks) -> dict[str, float]:
        """One answer."""
        return output._asdict()


if __name__ == "__main__":
    api = Prices(max_batch_size=BATCH, batch_timeout=0.001 if BATCH > 1 else 0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
