"""Ray Serve: one replica, with its batching or without, no access log.

Ray's own processes (its store of the cluster's state, its node's agent, Serve's controller and proxy) are on the same core: they
are what answering takes.
"""

# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator,misc,no-any-return,attr-defined"
# Runs in an environment of its own, which the type checker does not see.

import os
import signal
import sys
import threading

import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig
from starlette.requests import Request

from benchmarks.peers.model import SIGN, Greeks, Option, Pricer

BATCH = int(os.environ["RAY_SERVE_BATCH"])


@serve.deployment(num_replicas=1, max_ongoing_requests=200, ray_actor_options={"num_cpus": 0.1})
class Prices:
    """Answers options."""

    def __init__(self) -> None:
        self.pricer = Pricer()

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0.001)
    async def many(self, options: list[Option]) -> list[Greeks]:
        """Those of several requests."""
        return self.pricer.many(options)

    async def __call__(self, request: Request) -> dict[str, float]:
        """One request."""
        q = await request.json()
        option = Option(
            q["spot"], q["strike"], q["maturity"], q["rate"], q["dividend_yield"], q["volatility"], SIGN[q["kind"]]
        )
        found = await self.many(option) if BATCH > 1 else self.pricer.one(option)
        return found._asdict()


if __name__ == "__main__":
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=sys.argv[2],
        object_store_memory=100 * 2**20,
    )
    serve.start(
        http_options=HTTPOptions(host="127.0.0.1", port=int(sys.argv[1])),
        logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
    )
    serve.run(Prices.bind(), route_prefix="/predict")
    stop.wait()
    serve.shutdown()
    ray.shutdown()
