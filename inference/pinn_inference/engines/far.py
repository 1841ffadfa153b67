"""All of a model in a worker process: a network in a format of others, evaluated as it is (automatic.py).

The process that serves imports no TensorFlow and runs no graph of others. A question costs a round trip and some tapes, so this
is for models that cannot be converted, and for the time until they are. While the worker is away, the reference solver answers,
if it may; else nothing does, and the server is not ready.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

from pinn_inference.engines import Array, Jet, Shape, devices
from pinn_inference.engines.choice import WORKER, XLA_MEMORY, environment
from pinn_inference.engines.protocol import Evaluated
from pinn_inference.engines.supervisor import Pool, Recipe, Worker
from pinn_inference.errors import EngineError, ModelError

NAME: Final = "tensorflow"
STARTING: Final = 100.0
"""Seconds TensorFlow may take to come up with the model before it is refused: less than a pod has to start."""

PATIENCE: Final = 10.0
"""Seconds a batch may take before the worker counts as hung: its callers have gone to the solver long before."""


@dataclass(frozen=True)
class Options:
    """`solver_fallback`: whether the reference solver answers while the worker is away. The others: where a test puts its own."""

    solver_fallback: bool = False
    command: Sequence[str] = WORKER
    free_memory: Callable[[], int] = devices.free_memory
    starting: float = STARTING


class FarEngines:
    """One worker. `start` on the loop, `ready`, then `jets`, then `close`."""

    name = NAME
    here = False

    def __init__(self, parcel: bytes, shape: Shape, options: Options | None = None) -> None:
        self.shape = shape
        self._options = options or Options()
        self._parcel = parcel
        self._pool: Pool | None = None

    async def start(self) -> None:
        """Starts the worker, unless it runs already; does not wait for it."""
        if self._pool is None:
            self._pool = Pool(NAME, [Worker(self._recipe())])
            self._pool.start()

    async def ready(self) -> None:
        """Waits until the worker answers. Raises ModelError where it cannot have the model."""
        if self._options.command is WORKER and find_spec("tensorflow") is None:
            raise ModelError("the model's network is evaluated by TensorFlow, which is not installed; convert it")
        if (free := self._options.free_memory()) < XLA_MEMORY:
            said = f"needs 1 GiB of free memory for TensorFlow, and {free >> 20} MiB are free"
            raise ModelError(f"the model's network {said}; convert it, or raise spec.resources")
        await self.start()
        if lack := await self._running.up():
            raise ModelError(f"the model's network cannot be loaded: {lack}")

    async def close(self) -> None:
        """Ends the worker."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    def jet(self, *at: float) -> Jet:
        """Nothing is evaluated in this process."""
        raise EngineError("this model is evaluated by a worker process alone", "model_error")

    def few(self, points: Array) -> Array:
        """Nothing is evaluated in this process."""
        raise EngineError("this model is evaluated by a worker process alone", "model_error")

    async def jets(self, points: Array, deadline_s: float) -> Evaluated:
        """Jets (k, n) of `points` (n, d). Raises EngineError when the worker does not answer in time."""
        return Evaluated(await self._running.jets(points, deadline_s), NAME)

    def complaint(self) -> str | None:
        """Why no traffic should come here, or None: the worker is away, and no solver may answer meanwhile."""
        return None if self._options.solver_fallback else self.degraded()

    def degraded(self) -> str | None:
        """Why answers are not the model's, or None."""
        lack = self._pool.lack() if self._pool is not None else ("it is not started", "")
        return f"the worker that evaluates the model is not ready: {lack[0]}" if lack else None

    def state(self) -> dict[str, Any]:
        """For detailed health."""
        return {NAME: {"from_batch": 1, "workers": self._pool.state() if self._pool is not None else []}}

    @property
    def _running(self) -> Pool:
        if self._pool is None:
            raise EngineError("the worker that evaluates the model is not started", "model_error")
        return self._pool

    def _recipe(self) -> Recipe:
        return Recipe(
            command=(*self._options.command, "--device", "cpu", "--as-it-is"),
            env=environment(os.environ, ""),
            weights=self._parcel,
            shape=self.shape,
            device="cpu",
            reason="model_error",
            start_limit=self._options.starting,
            patience=PATIENCE,
        )
