"""What is plugged into what: from settings and a verified model to something that answers.

The problem's formulas get the model's ranges and error table, the predictor gets them with engines, cache and fallback, and the
wire gets a codec. Nothing here runs; server.py does.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Final

import numpy as np

from pinn_inference import bins, formats, trial
from pinn_inference.api import docs, openapi
from pinn_inference.api.predict import Codec
from pinn_inference.artifacts import source
from pinn_inference.artifacts.folder import LITERT, NETWORKS
from pinn_inference.artifacts.source import Artifact
from pinn_inference.cache import ResultCache
from pinn_inference.engines import Shape
from pinn_inference.engines.choice import Engines, Options
from pinn_inference.engines.far import FarEngines
from pinn_inference.engines.far import Options as FarOptions
from pinn_inference.engines.float64 import Float64Engine
from pinn_inference.errors import ModelError, PinnError
from pinn_inference.evaluation import Evaluation, Observer
from pinn_inference.fallback import Fallback
from pinn_inference.gathering import Gathering
from pinn_inference.logs import event
from pinn_inference.oip.tensors import Tensors
from pinn_inference.predictor import Predictor
from pinn_inference.problems import Formulation, error_table, registry
from pinn_inference.problems.jets import Jets
from pinn_inference.settings import Settings

WEIGHTS: Final = "weights.npz"

SHARE: Final = 0.9
"""Of a request's time, what the engines may take: it ends with an error of theirs, which says more than that time is up."""

SHARE_BEFORE_SOLVER: Final = 0.5
"""The same of engines with nothing but the solver behind them: it needs time too."""


@dataclass(frozen=True)
class _Label:
    """What a codec needs of a model: not the model itself, which holds the codec. A circle would outlive a reload."""

    name: str
    version: str
    predictor: Predictor


class Uses:
    """Counts who works with a model for as long as that takes, which no time limit of requests bounds: `with` it."""

    def __init__(self) -> None:
        self._count = 0
        self._over = asyncio.Event()
        self._over.set()

    def __enter__(self) -> None:
        self._count += 1
        self._over.clear()

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            self._over.set()

    async def over(self) -> None:
        """Waits until there is none."""
        await self._over.wait()


@dataclass(frozen=True)
class Model:
    """A model that is loaded: what answers, what describes it, since when."""

    artifact: Artifact
    engines: Engines | FarEngines
    predictor: Predictor
    offered: openapi.Offered
    loaded_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    uses: Uses = field(default_factory=Uses)

    @property
    def name(self) -> str:
        """The label it is served under."""
        return self.artifact.name

    @property
    def version(self) -> str:
        """The version label it is served under."""
        return self.artifact.version

    @cached_property
    def codec(self) -> Codec:
        """Its questions and answers as JSON."""
        return Codec(_Label(self.name, self.version, self.predictor))

    @cached_property
    def tensors(self) -> Tensors:
        """The same as tensors of the Open Inference Protocol."""
        return Tensors(_Label(self.name, self.version, self.predictor), self.artifact.manifest.inputs)

    @cached_property
    def openapi(self) -> bytes:
        """Its description, made when it is first asked for."""
        return openapi.encoded(openapi.document(self.artifact.manifest, self.offered))

    @cached_property
    def page(self) -> bytes:
        """Its page for people, made when it is first asked for."""
        return docs.page(self.artifact.manifest, self.offered, self.version)


def fetch(settings: Settings) -> Artifact:
    """The model the settings name, verified. Raises ModelError."""
    artifact = source.fetch(
        settings.model_uri, settings.model_name, settings.model_version, settings.models_dir, settings.model_digest
    )
    said = artifact.manifest
    if (said.name, said.version) != (artifact.name, artifact.version):
        event(f"serving {said.name} {said.version} under the label {artifact.name} {artifact.version}")
    return artifact


def load(artifact: Artifact, settings: Settings, observer: Observer) -> Model:
    """A model ready to answer; it has passed its trial. Raises ModelError, or SettingsError for a cache it cannot have."""
    try:
        return _load(artifact, settings, observer)
    except PinnError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise ModelError(f"the model {artifact.name} {artifact.version} cannot be loaded: {said}") from error


def _load(artifact: Artifact, settings: Settings, observer: Observer) -> Model:
    problem = formulation(artifact)
    trial.promises(artifact.manifest, problem)
    exact = _exact(artifact)
    engines = _engines(artifact, exact is not None, problem, settings)
    predictor = _predictor(artifact, problem, engines, settings, observer)
    model = Model(artifact, engines, predictor, offered(settings, problem))
    if engines.here:
        trial.passed(model.predictor.evaluation, artifact.manifest.accuracy.served.largest, exact)
    _ = model.codec, model.tensors, model.openapi, model.page  # nobody is to find out later that they cannot be made
    return model


async def prepared(model: Model, another_serves: bool = False) -> None:
    """Waits for the worker of a model that is evaluated by one, and tries the model there. Raises ModelError.

    Where another serves meanwhile, a model that may not be evaluated without a GPU waits for that, too. A server's first does
    not: a server that listens can say what it lacks.
    """
    engines = model.engines
    try:
        if isinstance(engines, FarEngines):
            await engines.ready()
            await trial.passed_far(model.predictor.evaluation, model.artifact.manifest.accuracy.served.largest)
        elif another_serves:
            await engines.ready()
    except BaseException:
        await engines.close()
        raise


def _engines(artifact: Artifact, workers: bool, problem: Formulation, settings: Settings) -> Engines | FarEngines:
    """`workers`: whether they can evaluate the model's weights."""
    if (content := artifact.files.get(LITERT)) is not None:
        options = Options(
            engine=settings.engine,
            policy=settings.gpu_policy,
            from_batch=settings.xla_from_batch,
            cpu_fallback=settings.fallback_cpu,
            solver_fallback=settings.fallback_solver,
        )
        engines = Engines(content, artifact.files[WEIGHTS] if workers else None, options)
        _fits(engines, problem)
        return engines
    return _far(artifact, problem, settings)


def _far(artifact: Artifact, problem: Formulation, settings: Settings) -> FarEngines:
    """For a network in another format, which is looked through here and evaluated elsewhere."""
    name = next(name for name in NETWORKS if name in artifact.files)
    if settings.engine in {"litert", "gpu"} or settings.gpu_policy == "require":
        said = f"the engine {settings.engine} and the GPU policy {settings.gpu_policy}"
        raise ModelError(f"{name} is evaluated by TensorFlow on the CPU, which {said} do not allow; convert it")
    return FarEngines(
        *parcel(name, artifact.files[name], problem), FarOptions(solver_fallback=settings.fallback_solver)
    )


def parcel(name: str, content: bytes, problem: Formulation) -> tuple[bytes, Shape]:
    """What a worker is sent of a network in another format, and the shape of its jet. Raises ModelError."""
    network, jets = formats.read(name, content), getattr(problem, "jets", None)
    if not isinstance(jets, Jets):
        said = f"does not say which derivatives a network of one output is asked for, so {name} cannot be served"
        raise ModelError(f"the problem {problem.name} {said}; bring model.tflite")
    return network.parcel(jets.coordinates, jets.rows), jets.shape


def formulation(artifact: Artifact) -> Formulation:
    """The model's problem, with its ranges and its error table. Raises ModelError when they are not to be had."""
    manifest = artifact.manifest
    table = artifact.files.get(error_table.FILE)
    try:
        known = error_table.parse(table) if table is not None else None
        return registry.formulation(manifest.problem, manifest.ranges(), known)
    except (ValueError, KeyError) as error:
        raise ModelError(f"the model's {error_table.FILE} or inputs cannot be used: {error}") from None


def _exact(artifact: Artifact) -> Float64Engine | None:
    """What workers evaluate, here and in float64; None where that is nothing: a network of another make is LiteRT's alone."""
    if LITERT not in artifact.files or (content := artifact.files.get(WEIGHTS)) is None:
        return None
    try:
        engine = Float64Engine(content)
        engine.jets(np.zeros((1, engine.shape[0])))  # raises where its matrices do not fit each other
    except ValueError as error:
        event(f"large batches stay on LiteRT: {WEIGHTS} cannot be used by a worker: {error}", 30)
        return None
    return engine


def _fits(engines: Engines, problem: Formulation) -> None:
    (d, k), (coordinates, rows) = engines.shape, problem.shape
    if (d, k) != (coordinates, rows):
        wanted = f"{problem.name} needs {coordinates} and {rows}"
        raise ModelError(f"model.tflite takes {d} numbers a point and gives {k}; the problem {wanted}")


def offered(settings: Settings, problem: Formulation) -> openapi.Offered:
    """What the descriptions say of limits and fallback."""
    return openapi.Offered(
        max_batch=settings.max_batch,
        max_body=settings.max_body,
        timeout=settings.timeout,
        concurrency=settings.concurrency,
        queue=settings.queue,
        solver=problem.solver_ranges if settings.fallback_solver else (),
        moves=problem.moves,
        label=(settings.model_name, settings.model_version),
    )


def _predictor(
    artifact: Artifact, problem: Formulation, engines: Engines | FarEngines, settings: Settings, observer: Observer
) -> Predictor:
    bounded = error_table.FILE in artifact.files
    if settings.cache_size and not bounded:
        event(f"the cache is off: without {error_table.FILE} no answer from a bin could say how wrong it is", 30)
    movable = getattr(problem, "from_bins", True)
    if settings.cache_size and not movable:
        event(f"the cache is off: no answer to a question of {problem.name} may come from a bin")
    size = settings.cache_size if bounded and movable else 0
    evaluation = Evaluation(
        problem=problem,
        engines=engines,
        tolerances=dict(artifact.manifest.tolerances),
        observer=observer,
        bins=bins.Bins(bins.chosen(problem.inputs, problem.bins, settings.cache_bin_widths)),
        cache=ResultCache(size, settings.cache_max_bytes) if size else None,
        timeout=_time_for(engines, settings),
    )
    fallback = Fallback(problem.solve, problem.solvable, settings.fallback_solver, problem.solver_is_slow)
    gathering = Gathering(evaluation.one, evaluation.few) if engines.here else evaluation.asked
    return Predictor(evaluation, fallback, gathering)


def _time_for(engines: Engines | FarEngines, settings: Settings) -> float:
    """Seconds in which they must have answered, always before the request is over. Those here keep half for who follows."""
    alone = engines.here or not settings.fallback_solver
    return settings.timeout * (SHARE if alone else SHARE_BEFORE_SOLVER)
