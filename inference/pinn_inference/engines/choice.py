"""Which engine answers what: the one thing the predictor asks.

Single points and small batches stay in this process, on LiteRT: no round trip is as fast. From a measured size on, batches go
to worker processes, one a GPU or one XLA worker on the CPU; when those cannot answer, LiteRT does, if the policy allows it,
and the answer says why. Where a GPU is required and none is ready, nothing is evaluated at all.
"""

import asyncio
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final, Literal

from pinn_inference.engines import Array, Jet, Shape, crossover, devices
from pinn_inference.engines.child import Child
from pinn_inference.engines.litert import LiteRtEngine, columns
from pinn_inference.engines.protocol import Evaluated
from pinn_inference.engines.supervisor import Pool, Recipe, Worker
from pinn_inference.errors import EngineError, ModelError, SettingsError
from pinn_inference.logs import event

SLICE: Final = 2048
"""Points LiteRT evaluates before other requests get their turn: about a millisecond."""

XLA_MEMORY: Final = 1 << 30
"""What must be free before TensorFlow is started beside us; it takes half of it."""

GPU_STARTING: Final = 240.0
"""Seconds TensorFlow may take to come up on a GPU: less than a pod that must have one has to start, to say why not."""

XLA_LOOKS: Final = 3
"""Measurements in a row by which XLA pays at no size, until its worker is ended."""

REMEMBERED: Final = 60.0
"""Seconds for which XLA is not looked at again after memory was short: it may come back."""

XLA_TRIED_FROM: Final = 4096
"""The batch that starts the XLA worker for a trial, and the one assumed to be a GPU's before one was measured, unless a size was
set."""

NO_GPU: Final = "no GPU is visible here"
NO_WEIGHTS: Final = "the model has no weights.npz that a worker could evaluate"

MEASURING: Final = 30.0
"""Seconds a worker may take for a batch while it is measured; its first batch of a size may be slow."""

Which = Literal["auto", "litert", "xla", "gpu"]
Policy = Literal["never", "prefer", "require"]
WORKER: Final = (sys.executable, "-m", "pinn_inference.engines.worker")


@dataclass(frozen=True)
class Options:
    """What a person decides. `from_batch`: the smallest batch for a worker, None to measure it.

    `cpu_fallback`: whether the CPU answers when a GPU cannot; never with the policy `require`.
    `solver_fallback`: whether the reference solver answers when no engine can, so that time has to be left for it.
    `again`: seconds until a worker that pays at no size is measured again. The others: where a test puts its own.
    """

    engine: Which = "auto"
    policy: Policy = "never"
    from_batch: int | None = None
    cpu_fallback: bool = True
    solver_fallback: bool = False
    gpus: tuple[str, ...] | None = None
    command: Sequence[str] = WORKER
    free_memory: Callable[[], int] = devices.free_memory
    cores: Callable[[], int] = devices.cores
    patience: float = 0.5
    first_pause: float = 0.5
    again: float = 180.0

    def __post_init__(self) -> None:
        if self.engine == "gpu" and self.policy == "never":
            raise SettingsError("the engine gpu needs the GPU policy prefer or require, not never")
        if self.engine in {"litert", "xla"} and self.policy == "require":
            raise SettingsError(f"the GPU policy require leaves nothing to the engine {self.engine}; set auto or gpu")


class Engines:
    """All the ways to evaluate one model. `start` on the loop, then `jet` and `jets`, then `close`."""

    name = "litert"
    here = True

    def __init__(self, model: bytes, weights: bytes | None, options: Options | None = None) -> None:
        """Without `weights` there is LiteRT alone. Raises ModelError where it cannot evaluate the model."""
        self.options = options or Options()
        self._litert = LiteRtEngine(model)
        self._weights = weights
        self._from: dict[str, int | None] = {}
        self._gpu = self._gpu_pool() if self._wants_gpu else None
        self._xla: Pool | None = None
        self._xla_refused: str | None = None
        self._xla_looks_again = 0.0
        self._xla_in_vain = 0
        self._closing: set[asyncio.Task[None]] = set()
        self._started = self._strict = False

    @property
    def shape(self) -> Shape:
        """Coordinates of a point, and rows of its jet."""
        return self._litert.shape

    @property
    def _wants_gpu(self) -> bool:
        return self.options.policy != "never" and self.options.engine in {"auto", "gpu"}

    async def start(self) -> None:
        """Starts the workers that are wanted from the beginning, unless they run already; does not wait for them.

        The policy holds from here on: before, nobody is served, and a model that is loaded is tried on LiteRT.
        """
        if self._started:
            return
        self._started, self._strict = True, self.options.policy == "require"
        if self._gpu:
            self._gpu.start()
        elif self._wants_gpu:
            event(self._no_gpu, 30, policy=self.options.policy)
        if self.options.engine == "xla":
            self._start_xla()

    async def ready(self) -> None:
        """Where a GPU is required, waits until one is ready with this model. Raises ModelError where none comes up."""
        if self.options.policy != "require":
            return
        if (free := self.options.free_memory()) < XLA_MEMORY:  # for two workers at once: another's serves meanwhile
            said = f"needs 1 GiB of free memory beside the model in use, and {free >> 20} MiB are free"
            raise ModelError(f"a GPU worker {said}; raise spec.resources")
        await self.start()
        lack = await self._gpu.up() if self._gpu else self._no_gpu
        if lack:
            raise ModelError(f"the GPU policy is require and no GPU worker came up: {lack}")

    async def close(self) -> None:
        """Ends every worker; LiteRT goes on answering, unless a GPU is required."""
        pools = [pool for pool in (self._gpu, self._xla) if pool]
        await asyncio.gather(*(pool.close() for pool in pools), *self._closing)

    def jet(self, *at: float) -> Jet:
        """The jet at one point. Raises EngineError while a required GPU is not there."""
        if self._strict:
            self._keep_to_policy()
        return self._litert.jet(*at)

    def few(self, points: Array) -> Array:
        """Jets (k, n) at `points` (n, d), so few that nobody has to be let in between. Raises EngineError as `jet` does."""
        if self._strict:
            self._keep_to_policy()
        return self._litert.jets(points)

    async def jets(self, points: Array, deadline_s: float) -> Evaluated:
        """Jets of `points` (n, d). Raises EngineError when no engine that may answer did so in time."""
        ends = asyncio.get_running_loop().time() + deadline_s
        if self._strict:
            self._keep_to_policy()
        reason, pool = self._why_no_gpu(len(points)), self._worker_for(len(points))
        if pool:
            falls = self._falls_back(pool)
            if deadline_s <= 0:
                raise EngineError(
                    "no time was left for an engine", "timeout"
                )  # a worker would still be given the batch
            # Half the time for the worker where the CPU or the solver may follow, so that there is some left for them.
            share = deadline_s / 2 if falls or self.options.solver_fallback else deadline_s
            try:
                return Evaluated(await pool.jets(points, share), pool.name, reason)
            except EngineError as error:
                if not falls:
                    raise
                reason = reason or (None if pool.starting else error.reason)
        return Evaluated(await self._jets_here(points, ends), self.name, reason)

    def complaint(self) -> str | None:
        """Why no traffic should come here, or None: a GPU is required and none is ready."""
        return self._said_of("require")

    def degraded(self) -> str | None:
        """Why answers come from less than what is preferred, or None: a GPU is preferred and none is ready."""
        return self._said_of("prefer")

    def state(self) -> dict[str, Any]:
        """For detailed health: each engine, and from which batch size it is asked (None: at none, or not measured yet)."""
        pools = [pool for pool in (self._gpu, self._xla) if pool]
        off = {"gpu": self._no_gpu if self._wants_gpu and not self._gpu else None, "xla": self._xla_refused}
        return {
            "litert": {"status": "ready"},
            **{p.name: {"from_batch": self._threshold(p.name), "workers": p.state()} for p in pools},
            **{name: {"status": "off", "reason": why} for name, why in off.items() if why},
        }

    # ------------------------------------------------------------------------------------------- the policy

    @property
    def _no_gpu(self) -> str:
        return NO_GPU if self._weights is not None else NO_WEIGHTS

    def _missing(self) -> EngineError | None:
        """Why no GPU would take a call though one is wanted, or None."""
        if not self._wants_gpu:
            return None
        if self._gpu is None:
            return EngineError(self._no_gpu, "gpu_error")
        lack = self._gpu.lack()
        return EngineError(f"no GPU worker is ready: {lack[0]}", lack[1]) if lack else None

    def _said_of(self, policy: Policy) -> str | None:
        missing = self._missing() if self.options.policy == policy else None
        return f"the GPU policy is {policy} and {missing}" if missing else None

    def _keep_to_policy(self) -> None:
        """Raises EngineError while a GPU is required and none is ready."""
        missing = self._missing()
        if missing:
            raise missing

    def _why_no_gpu(self, count: int) -> str | None:
        """The reason why the CPU answers what would be a GPU's, or None. Raises EngineError where it may not."""
        missing = self._missing()
        if missing is None or not self._would_be_a_gpus(count):
            return None
        if not self.options.cpu_fallback:
            raise missing
        return None if self._gpu and self._gpu.starting else missing.reason

    def _would_be_a_gpus(self, count: int) -> bool:
        """Whether a GPU would be asked if it were there; its crossover may never have been measured."""
        threshold = self._threshold("gpu")
        if threshold is None and "gpu" not in self._from:
            threshold = XLA_TRIED_FROM
        return threshold is not None and count >= threshold

    # ------------------------------------------------------------------------------------------- choosing

    def _worker_for(self, count: int) -> Pool | None:
        """The workers for a batch of this size."""
        pool = self._gpu
        if pool is None and self.options.engine in {"auto", "xla"}:
            pool = self._xla_for(count)
        threshold = self._threshold(pool.name) if pool else None
        return pool if threshold is not None and count >= threshold else None

    def _xla_for(self, count: int) -> Pool | None:
        """XLA's worker, started if this is the first batch that large."""
        least = self.options.from_batch or (XLA_TRIED_FROM if self.options.engine == "auto" else 1)
        if self._xla is None and count >= least and self._xla_looks_again <= asyncio.get_running_loop().time():
            self._start_xla()
        return self._xla

    def _threshold(self, name: str) -> int | None:
        """From which batch on these workers are asked; None when at no size, or when that is not known yet."""
        return self.options.from_batch or (1 if self.options.engine != "auto" else self._from.get(name))

    def _falls_back(self, pool: Pool) -> bool:
        return pool is not self._gpu or (self.options.cpu_fallback and self.options.policy != "require")

    async def _jets_here(self, points: Array, ends: float) -> Array:
        """LiteRT, giving way to other requests between slices."""
        loop, rows = asyncio.get_running_loop(), self._litert.rows(len(points))
        for start in range(0, len(points), SLICE):
            if start:
                await asyncio.sleep(0)
                if loop.time() > ends:
                    raise EngineError(f"LiteRT had evaluated {start} of {len(points)} points in time", "timeout")
            part = slice(start, start + SLICE)
            self._litert.fill(rows[part], points[part])
        return columns(rows)

    # ------------------------------------------------------------------------------------------- workers

    def _gpu_pool(self) -> Pool | None:
        names = devices.gpus() if self.options.gpus is None else self.options.gpus
        if self._weights is None or not names:
            return None
        return Pool("gpu", [Worker(self._recipe("gpu", name, self._weights)) for name in names])

    def _short_for_gpus(self) -> str | None:
        """Why no GPU worker may be started now, or None: each that is not up yet will take its memory."""
        workers = sum(not worker.ready for worker in self._gpu.workers) if self._gpu else 0
        return no_memory(workers) if self.options.free_memory() < workers * XLA_MEMORY else None

    def _start_xla(self) -> None:
        weights, before = self._weights, self._xla_refused
        self._xla_refused = self._why_no_xla() if weights is not None else NO_WEIGHTS
        if weights is None or self._xla_refused:
            passes = self._xla_refused == no_memory()
            self._xla_looks_again = asyncio.get_running_loop().time() + REMEMBERED if passes else math.inf
            if self._xla_refused != before:
                event("large batches stay on LiteRT", reason=self._xla_refused)
            return
        self._xla = Pool("xla", [Worker(self._recipe("xla", "", weights))])
        self._xla.start()

    def _why_no_xla(self) -> str | None:
        options = self.options
        if options.command is WORKER and find_spec("tensorflow") is None:
            return "TensorFlow is not installed"
        if options.free_memory() < XLA_MEMORY:
            return no_memory()
        if options.engine == "auto" and options.from_batch is None and options.cores() < 2:
            return "on one core XLA was at no batch size faster than LiteRT"
        return None

    def _recipe(self, kind: Literal["xla", "gpu"], device: str, weights: bytes) -> Recipe:
        gpu = kind == "gpu"
        return Recipe(
            command=(*self.options.command, "--device", "gpu" if gpu else "cpu"),
            env=environment(os.environ, device),
            weights=weights,
            shape=self.shape,
            device=f"gpu:{device}" if gpu else "cpu",
            reason="gpu_error" if gpu else "model_error",
            hindered=self._short_for_gpus if gpu else Recipe.hindered,
            came_up=lambda child: self._measure(kind, child),
            start_limit=GPU_STARTING if gpu else Recipe.start_limit,
            patience=self.options.patience,
            first_pause=self.options.first_pause,
        )

    async def _measure(self, name: str, child: Child) -> float | None:
        """Finds the crossover anew, as a worker comes up: another machine, or another load, may have another one.

        Returns after how many seconds to do so again: where it pays at no size, and has nothing to do.
        """
        here = crossover.time_here(self._litert)
        there = await crossover.time_there(lambda points, held: child.timed(points, MEASURING, held), here, self.shape)
        found = crossover.crossover(here, there)
        if self._from.get(name, math.nan) != found:
            milliseconds = {size: round(1e3 * seconds, 2) for size, seconds in there.items()}
            event("measured from which batch on a worker pays", engine=name, from_batch=found, ms=milliseconds)
        self._from[name] = found
        if self._threshold(name) is not None:
            self._xla_in_vain = 0
            return None
        if name == "xla" and self._is_given_up():
            self._stop_xla()
            return None
        return self.options.again

    def _is_given_up(self) -> bool:
        """Whether XLA has been measured often enough."""
        self._xla_in_vain += 1
        return self._xla_in_vain >= XLA_LOOKS

    def _stop_xla(self) -> None:
        """A worker that never pays gives its memory back."""
        assert self._xla is not None  # noqa: S101 - it is what was measured
        self._xla_refused = "it was measured to be at no batch size 10 % faster than LiteRT"
        self._xla_looks_again = math.inf
        closing = asyncio.create_task(self._xla.close())
        self._xla = None
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


def no_memory(workers: int = 1) -> str:
    """The sentence where there is too little for so many workers."""
    return f"less than {workers * XLA_MEMORY >> 30} GiB of memory is free"


def environment(env: Mapping[str, str], gpu: str) -> dict[str, str]:
    """Ours, less our settings (a token among them), with only the worker's own device visible."""
    kept = {name: value for name, value in env.items() if not name.startswith("PINN_SERVER_")}
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        kept.pop(name, None)
    return {**kept, "CUDA_VISIBLE_DEVICES": gpu or "-1"}
