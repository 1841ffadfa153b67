"""One server's parts at work together: the model in use and its reloads, both ports, warm-up, and what is watched meanwhile."""

import asyncio
import gc
import inspect
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from pinn_inference import assembly, looplag, memory, tracing, trial, warmup
from pinn_inference.api import counting, docs, health, openapi
from pinn_inference.api.admin import Admin
from pinn_inference.api.http import Answer, App, Request, Routes, State
from pinn_inference.api.limits import Limiter, Limits, guarded
from pinn_inference.api.predict import Codec, PredictEndpoint, counted, shadowed
from pinn_inference.api.together import Read, Together
from pinn_inference.artifacts.source import Artifact
from pinn_inference.assembly import Model, Uses
from pinn_inference.errors import EngineError, PinnError
from pinn_inference.evaluation import Evaluation
from pinn_inference.logs import event, log
from pinn_inference.models import Holder, ModelCache
from pinn_inference.monitoring import Metrics
from pinn_inference.oip import http as v2
from pinn_inference.settings import Settings

if TYPE_CHECKING:
    from pinn_inference.oip.rpc import Rpc
    from pinn_inference.telemetry import Telemetry

MODELS_KEPT: Final = 1
"""Loaded models beside the one in use: one server serves one, so a second would only hold memory."""

SAID: Final = 10
"""Violations of which the operator is told the invariant: it needs one for its sentence."""

RENEW_SECONDS: Final = 5.0
"""How long answers close their connections when callers are to choose a server anew."""

WATCHED_AGAIN: Final = 10.0
"""Seconds until what is watched is watched again, after that has failed."""

CLOSING: Final = 5.0
"""Seconds that closing waits for what runs in the background: a model that is being retired, or loaded."""

SOLVING: Final = 2
"""Threads for what the operator asks of the reference solver; further questions wait."""

JSON: Final = "application/json"


class Service:
    """Open one with `open`; `apps` are what to listen with."""

    def __init__(
        self,
        settings: Settings,
        state: State,
        metrics: Metrics,
        cache: ModelCache[Artifact, Model],
        holder: Holder[Artifact, Model],
    ) -> None:
        self._settings, self._state, self._metrics = settings, state, metrics
        self._renewal: asyncio.TimerHandle | None = None
        self._cache, self._holder = cache, holder
        self._previous: dict[str, str] | None = None
        self._turn = asyncio.Lock()
        self._closing = asyncio.Event()
        self._limiter = Limiter(settings.concurrency, settings.queue)
        self._predict = PredictEndpoint(lambda: self.model.codec, metrics, settings.max_batch)
        self._infer = v2.InferEndpoint(lambda: self.model.tensors, metrics, settings.max_batch)
        self._tasks: set[asyncio.Task[object]] = set()
        self._threads = ThreadPoolExecutor(SOLVING, thread_name_prefix="shadow")
        self._gauges()
        self._telemetry = _telemetry(metrics, lambda: _label(self.model))
        state.checks.append(lambda: self.model.engines.complaint() or "")

    @classmethod
    async def open(cls, settings: Settings, state: State) -> "Service":
        """With the model loaded. Raises StartError when it cannot be had."""
        metrics = Metrics()
        cache: ModelCache[Artifact, Model] = ModelCache(
            lambda artifact: assembly.load(artifact, settings, metrics),
            MODELS_KEPT,
            lambda artifact: artifact.digest,
            lambda model, another: assembly.prepared(model, another and not state.complaint()),
        )
        try:
            holder = await Holder.open(cache, partial(assembly.fetch, settings))
        except BaseException:
            await cache.abandon()
            raise
        service = cls(settings, state, metrics, cache, holder)
        await service._take_up()
        return service

    @property
    def model(self) -> Model:
        """The model in use."""
        return self._holder.current

    def apps(self) -> list[tuple[App, int]]:
        """The service port answers predictions and describes itself; the admin port is in no Service and no route."""
        settings, state = self._settings, self._state
        label = self.model.name, self.model.version
        service = {
            **self._limited(self._calls(*label)),
            **health.routes(state, self._components()),
            **v2.routes(*label, lambda: self.model.tensors, state),
            **openapi.routes("/openapi.json", lambda: self.model.openapi, JSON),
            **_page(lambda: self.model),
        }
        admin = {**self._admin().routes(), **health.routes(state, self._components())}
        log = settings.access_log
        return [
            (
                App(v2.Paths(service, *label), state, settings.max_body, log, self._together(self._reads(*label))),
                settings.port,
            ),
            (App(admin, state, settings.max_body, log), settings.admin_port),
        ]

    def rpc(self) -> "Rpc":
        """What to listen with for gRPC. Its library is imported here: without this port a server does without it."""
        from pinn_inference.oip import rpc

        settings = self._settings
        infer = rpc.InferEndpoint(lambda: self.model.tensors, self._metrics, settings.max_batch)
        limited = self._limited({rpc.INFER: {"POST": infer}})[rpc.INFER]["POST"]
        options = rpc.Options(settings.max_body, settings.timeout, settings.access_log)
        take = self._together({rpc.INFER: infer.read})
        return rpc.Rpc(limited, lambda: self.model.tensors, self._state, options, take)

    async def warm_up(self) -> None:
        """As the settings wish; never in the way of serving."""
        settings = self._settings
        if settings.warm_up == "none" or not settings.warm_up_keys or self.model.predictor.cache is None:
            return
        started = time.perf_counter()
        try:
            model, token = self.model, settings.admin_token.get_secret_value()
            with model.uses:
                async with asyncio.timeout(warmup.LIMIT):
                    count = await warmup.run(model.codec, settings.warm_up, settings.warm_up_keys, token)
        except Exception as error:  # noqa: BLE001 - whatever the other server says, this one serves
            known = isinstance(error, PinnError | OSError)
            said = (str(error) if known else repr(error)) or f"it took longer than {warmup.LIMIT:g} s"
            event(f"the cache starts cold: {said}", logging.WARNING, source=settings.warm_up)
            return
        event("warm", keys=count, source=settings.warm_up, seconds=round(time.perf_counter() - started, 3))

    def watch(self) -> list[asyncio.Task[None]]:
        """What runs beside serving: the loop's lag, and resident memory where there is a threshold for it."""
        watched: list[Callable[[], Coroutine[Any, Any, None]]] = [lambda: looplag.watch(self._metrics.lag.observe)]
        if self._telemetry:
            watched.append(self._telemetry.watch)
        wished, limit = self._settings.restart_above_memory, memory.limit()
        above = memory.threshold(wished, limit)
        if limit is None and not above and memory.threshold(wished, memory.BOUNDLESS):
            event(f"memory is not watched: there is no limit for it here to take {wished} of", logging.WARNING)
        if above:
            watched.append(lambda: memory.watch(self._taken, above, self._too_large))
        return [asyncio.create_task(_again_and_again(each)) for each in watched]

    def reload_soon(self) -> None:
        """Reads the model anew, in the background."""
        self._in_background(self.reload())

    async def reload(self) -> dict[str, Any]:
        """Reads the model anew and changes over to it; says what came of it. A bad one never replaces a good one."""
        async with self._turn:  # two at once would each start the new model's workers
            before = self.model
            done = await self._holder.reload()
            if self.model is not before:
                self._previous = _label(before)
                await self._take_up()
                self._in_background(self._retire(before))
        return {"result": done.result, "detail": done.sentence, "seconds": round(done.seconds, 3), **self.describe()}

    async def close(self) -> None:
        """Ends workers, and lets threads go."""
        self._closing.set()
        self._cache.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSING)
        self.model.predictor.fallback.close()
        await self.model.engines.close()
        if self._telemetry:
            await self._telemetry.close()

    def describe(self) -> dict[str, Any]:
        """Which model is in use, since when, how it is evaluated, and what was before it."""
        model, previous, last = self.model, self._previous, self._holder.last
        return {
            **_label(model),
            "loaded_at": model.loaded_at.isoformat(),
            "engines": model.engines.state(),
            "previous": previous,
            "last_reload": {"result": last.result, "detail": last.sentence} if last else None,
        }

    # --------------------------------------------------------------------------------------------- parts

    def _calls(self, model: str, version: str) -> Routes:
        """Where predictions are asked for."""
        return {"/predict": {"POST": self._predict}, **v2.infer_routes(model, version, self._infer)}

    def _reads(self, model: str, version: str) -> dict[str, Read]:
        """The same for plain single questions."""
        infer = dict.fromkeys(v2.infer_routes(model, version, self._infer), self._infer.read)
        return {"/predict": self._predict.read, **infer}

    def _together(self, readers: Mapping[str, Read]) -> Callable[[Any], bool] | None:
        """Those that arrive together are answered together; none where each call is a span of its own."""
        if self._telemetry and self._telemetry.traces:
            return None
        return Together(readers, self._metrics, self._limiter, self._settings.max_body).take

    def _limited(self, calls: Routes) -> Routes:
        """The same within the limits, which hold for all of them together, and counted."""
        settings = self._settings
        limits = Limits(settings.concurrency, settings.queue, settings.timeout)
        limited = counted(guarded(calls, limits, self._limiter), self._metrics)
        return self._telemetry.traced(limited) if self._telemetry else limited

    async def _take_up(self) -> None:
        """Starts the workers of the model in use."""
        self._metrics.know(tuple(self.model.artifact.manifest.tolerances))
        await self.model.engines.start()

    async def _retire(self, old: Model) -> None:
        """Ends the workers of a model that was replaced, once its last requests are answered, and frees its memory."""
        await self._unused(old.uses)
        old.predictor.fallback.close()
        await old.engines.close()
        if old.predictor.cache is not None:
            old.predictor.cache.clear()
        del old
        gc.collect()  # the collector's own next turn might be hours away

    async def _unused(self, uses: Uses) -> None:
        """Waits as long as requests may take, and for the admin's work, which may take longer; no longer than this serves."""

        async def over() -> None:
            await asyncio.sleep(self._settings.timeout)
            await uses.over()

        waiting = [asyncio.create_task(over()), asyncio.create_task(self._closing.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    def _in_background(self, work: Coroutine[Any, Any, object]) -> None:
        """Not on behalf of the request that may be the reason: it is answered meanwhile."""
        task = asyncio.create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _taken(self) -> int:
        """What a restart would give back: the cache is meant to be large."""
        cache = self.model.predictor.cache
        return memory.resident() - (cache.bytes if cache is not None else 0)

    def _too_large(self, sentence: str | None) -> None:
        if sentence:
            event(sentence, logging.ERROR)
        self._state.unhealthy = sentence or ""

    def _gauges(self) -> None:
        gauges = self._metrics.gauges
        gauges.in_flight = lambda: self._limiter.inside
        gauges.cache = self._cache_figures
        gauges.model = lambda: (self.model.name, self.model.version, self.model.artifact.digest)
        counts = self._cache.counts
        gauges.model_cache = lambda: (counts.loads, counts.hits)
        gauges.reloads = self._holder.reloads.items

    def count_turned_away(self, connections: Callable[[], int]) -> None:
        """Who listens says how many connections were too many."""
        self._metrics.gauges.turned_away = connections

    def _cache_figures(self) -> tuple[int, int, int]:
        cache = self.model.predictor.cache
        return (len(cache), cache.bytes, cache.evictions) if cache is not None else (0, 0, 0)

    def _components(self) -> dict[str, health.Component]:
        metrics = self._metrics
        counts: list[Callable[[], float]] = [
            lambda: metrics.hits.counts["live",],
            lambda: metrics.misses.counts["live",],
        ]
        on, off = health.cache(lambda: self._cache_figures()[0], *counts), health.cache_off()
        return {
            "pinn_cache": lambda: (off if self.model.predictor.cache is None else on)(),
            "pinn_model": self._model_tried(),
            "tensorflow": self._tensorflow(),
        }

    def _tensorflow(self) -> health.Component:
        """What is installed and wanted, and each engine: its workers, and from which batch size it is asked."""

        def why() -> str:
            return self.model.engines.complaint() or self.model.engines.degraded() or ""

        installed = health.tensorflow(self._gpus, why)
        return lambda: {**cast("health.Report", installed()), "engines": self.model.engines.state()}

    def _model_tried(self) -> health.Component:
        """One answer of the model itself, past cache, counters and fallback; degraded where callers get the solver's instead."""
        failed = ""

        async def ask() -> None:
            nonlocal failed
            failed = ""
            predictor = self.model.predictor
            try:
                point = predictor.problem.sample(1, np.random.default_rng())[0]
                await trial.unobserved(predictor.evaluation).asked(point, exact=True)
            except EngineError as error:
                if not predictor.fallback.solver:
                    raise
                failed = f"failed: {error}"

        component = health.model(ask, lambda: "the reference solver answers instead" if failed else "")

        async def report() -> health.Report:
            found = component()
            found = await found if inspect.isawaitable(found) else found
            return {**found, "prediction_test": failed} if failed else found

        return report

    def _gpus(self) -> int:
        gpu = self.model.engines.state().get("gpu", {})
        return sum(worker["status"] == "ready" for worker in gpu.get("workers", ()))

    def _admin(self) -> Admin:
        return Admin(
            metrics=self._metrics.text,
            describe=self.describe,
            hottest=lambda count: warmup.hottest(self.model.predictor, count),
            samples=self._samples,
            warm=self._warm,
            shadow=self._shadow,
            reload=self.reload,
            token=self._settings.admin_token.get_secret_value(),
            max_batch=self._settings.max_batch,
            renew=self._renew,
        )

    def _renew(self) -> dict[str, float]:
        """A share of the traffic that is made by how many servers stand behind a Service reaches nobody who keeps a connection:
        for a moment answers close theirs."""
        self._state.parting = True
        if self._renewal is not None:
            self._renewal.cancel()
        self._renewal = asyncio.get_running_loop().call_later(RENEW_SECONDS, self._renewed)
        return {"seconds": RENEW_SECONDS}

    def _renewed(self) -> None:
        self._state.parting = self._state.draining

    async def _samples(self, count: int, seed: int) -> list[dict[str, Any]]:
        """Questions at random that the model was trained for."""
        model = self.model
        choices = {field.name: field.choices for field in model.artifact.manifest.inputs if field.choices}
        return await warmup.samples(model.predictor, choices, count, seed)

    async def _warm(self, items: list[object]) -> int:
        """Fills the cache with what somebody knows to be wanted; counted as one call with source warmup."""
        model, since = self.model, time.perf_counter()
        if model.predictor.cache is None:
            return 0
        with model.uses:
            answers = await warmup.warm(model.codec, items)
        made = counting.many(self._metrics, answers, True, "warmup") if answers else ""
        counting.answered(self._metrics, made, "warmup", since)
        return sum(answer.method != "solver" for answer in answers)

    async def _shadow(self, items: list[object], solver: bool) -> dict[str, Any]:
        """Items as the model answers them, past the cache and apart from live traffic, and as the solver does."""
        model = self.model  # a reload on the way changes nothing here
        with model.uses:
            questions, answers = await shadowed(_with_solver(model.codec), items, self._metrics)
            replies = cast("list[Any]", answers)
            solved = await self._solved(model, questions) if solver else None
            violations = await _violations(model.predictor.evaluation, questions, [reply.reason for reply in replies])
        return {"answers": replies, "solver": solved, "violations": violations, **_label(model)}

    async def _solved(self, model: Model, questions: list[Any]) -> list[dict[str, Any]]:
        """In a thread, for which the end of the process does not wait: it is nobody's answer, and may take as long as a solver
        takes."""
        problem, solved = model.predictor.problem, model.predictor.fallback.solved

        def named(values: Sequence[float]) -> dict[str, float]:
            return dict(zip(problem.outputs, values, strict=True))

        def solve() -> list[dict[str, Any]]:
            found = (solved(problem.any_point(question)) for question in questions)
            return [{**named(values), "error_bound": named(bounds)} for values, bounds in found]

        return await asyncio.get_running_loop().run_in_executor(self._threads, solve)


async def _again_and_again(watch: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Watches until it is cancelled: a failure is logged, and is not the end of it."""
    while True:
        try:
            await watch()
        except Exception:  # noqa: BLE001 - whatever it is, nobody would miss what is no longer watched
            log.exception("watching the server failed and begins anew", extra={"fields": {"seconds": WATCHED_AGAIN}})
        await asyncio.sleep(WATCHED_AGAIN)


def _with_solver(codec: Codec) -> Codec:
    """The same with the reference solver behind it, whatever the settings say: one item that the model cannot answer must not
    keep the others from being compared."""
    fallback = codec.predictor.fallback
    if fallback.solver:
        return codec
    twin = copy(codec)
    twin.predictor = replace(codec.predictor, fallback=replace(fallback, solver=True))
    return twin


async def _violations(evaluation: Evaluation, questions: list[Any], reasons: list[str | None]) -> list[dict[str, Any]]:
    """Of the first items that break an invariant, which one they break."""
    places = [place for place, reason in enumerate(reasons) if reason == "physics_violation"][:SAID]
    quiet = trial.unobserved(evaluation)
    return [{"item": place, "detail": await _complaint(quiet, questions[place])} for place in places]


async def _complaint(evaluation: Evaluation, question: Any) -> str:
    try:
        await evaluation.asked(evaluation.problem.point(question), exact=True)
    except EngineError as error:
        return str(error)
    return ""


def _page(model: Callable[[], Model]) -> Routes:
    """The page for people; what it may load is said with it."""

    async def get(_: Request) -> Answer:
        content = model().page
        return Answer(200, content, docs.MEDIA_TYPE, docs.headers(content))

    return {"/docs": {"GET": get}}


def _telemetry(metrics: Metrics, label: Callable[[], dict[str, str]]) -> "Telemetry | None":
    """Where the environment names a collector. The library is imported then and not else."""
    if not tracing.collected("TRACES") and not tracing.collected("METRICS"):
        return None
    from pinn_inference.telemetry import Telemetry

    return Telemetry(metrics, label)


def _label(model: Model) -> dict[str, str]:
    return {"name": model.name, "version": model.version, "digest": model.artifact.digest}
