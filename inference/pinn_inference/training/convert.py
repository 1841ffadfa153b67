"""`pinn-server models convert`: a folder that a server serves, of a network in a format of others.

Where its layers allow it, the network becomes one fused graph of value and derivatives (formats/fused.py), which LiteRT evaluates
in the server's own process. Where not, or where that gives other answers, it goes into the folder as it is. Either way it is
measured against the problem's solver first, and what was gained is said in figures of this machine.
"""

import asyncio
import io
import os
import threading
import time
import zipfile
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import msgspec
import numpy as np

from pinn_inference import assembly, formats, trial
from pinn_inference.artifacts import digest as digests
from pinn_inference.artifacts import folder as folders
from pinn_inference.artifacts import manifest as manifests
from pinn_inference.artifacts.manifest import Field, Manifest
from pinn_inference.engines import Array, Engine, Jet, Shape
from pinn_inference.engines.far import FarEngines, Options
from pinn_inference.engines.litert import LiteRtEngine
from pinn_inference.errors import ModelError
from pinn_inference.formats import Network, fused, h5, keras_file
from pinn_inference.problems import Input, error_table, registry
from pinn_inference.problems.ranged import Ranged
from pinn_inference.training import export, folder, measured
from pinn_inference.training.folder import Told
from pinn_inference.training.measured import Cells

CELLS: Final = 600
"""Of an error table, unless the manifest says how large they are."""

MANY: Final = 1000
SECONDS: Final = 60.0
STARTING: Final = 600.0
"""Seconds for TensorFlow to come up here, where nobody waits for a server."""

T = TypeVar("T")


class Wish(msgspec.Struct, frozen=True):
    """What a person writes: what nobody can measure. `cells`: sizes of the error table's cells, a number a coordinate.

    `tolerances` are checked, and measured where absent; `outputs` are checked. Other fields of a manifest are not read.
    """

    version: str
    problem: str
    inputs: tuple[Field, ...]
    description: str = ""
    name: str | None = None
    reference: str = "the problem's own solver"
    outputs: tuple[Field, ...] = ()
    tolerances: Mapping[str, float] = {}
    cells: tuple[float, ...] = ()
    training: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Timed:
    """An engine's microseconds for one point, and for each of many together."""

    one: float
    many: float


@dataclass(frozen=True)
class _Fused:
    """A network as one graph of value and derivatives, and what evaluates it: in float64, and as it will be served."""

    graph: bytes
    exact: Engine
    served: Engine


@dataclass(frozen=True)
class Done:
    """What was made: `why` it is served as it is, None where it is fused."""

    files: Mapping[str, bytes]
    why: str | None
    before: Timed
    after: Timed | None
    errors_before: Mapping[str, float]
    errors_after: Mapping[str, float] | None


def convert(source: Path, manifest: Path, as_it_is: bool = False) -> Done:
    """The files of the model. Raises ModelError, with the reason, for what cannot be served at all."""
    wish = _wish(manifest)
    name, content = contents(source)
    problem = _problem(wish)
    network = formats.read(name, content)
    with _problems_own(problem), Far(*assembly.parcel(name, content, problem)) as far:
        before, errors = timed(far), _errors(problem, far)
        made, why = (None, "it was asked for") if as_it_is else _fused(network, problem)
        if made is not None and _differs(problem, made.served, far):
            made, why = None, "fused it gives other answers"
        if made is None:
            files = _files(problem, {name: content}, wish, far, None, source.name)
            return Done(_sound(wish, files), why, before, None, errors, None)
    with _problems_own(problem):
        files = _files(problem, {folders.LITERT: made.graph}, wish, made.served, made.exact, source.name)
        return Done(_sound(wish, files), None, before, timed(made.served), errors, _errors(problem, made.served))


@contextmanager
def _problems_own(problem: Ranged) -> Iterator[None]:
    """What is measured by a problem of somebody's own may fail in it: that is a sentence, and not a list of our functions."""
    try:
        yield
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        said = f"{type(error).__name__}: {error}"
        raise ModelError(f"it cannot be measured by the problem {problem.name}, which ended with {said}") from error


def contents(source: Path) -> tuple[str, bytes]:
    """The name in a model's folder, and the bytes, of what a person has: model.keras, or a SavedModel, packed or not."""
    if source.is_dir() and (source / "saved_model.pb").is_file():
        return formats.SAVED_MODEL, _packed(source)
    if said := formats.refused_name(source.name):
        raise ModelError(said)
    if source.is_dir():
        raise ModelError(
            f"{source} is a folder without saved_model.pb; name a .keras file, or what model.export(FOLDER) made"
        )
    try:
        content = source.read_bytes() if source.stat().st_size <= formats.MOST else None
    except OSError as error:
        raise ModelError(f"{source} cannot be read: {error.strerror or error}") from None
    if content is None:
        raise ModelError(f"{source} has more than {formats.MOST} bytes")
    return (formats.KERAS if source.suffix == ".keras" else formats.SAVED_MODEL), content


def fits(wish: Wish, problem: Ranged) -> None:
    """Raises ModelError where the manifest has other outputs than its problem, or tolerances for what is no invariant of it."""
    stated = [field.name for field in wish.outputs]
    if stated and sorted(stated) != sorted(problem.outputs):
        raise ModelError(f"the manifest has the outputs {', '.join(stated)}; they must be {', '.join(problem.outputs)}")
    if strange := sorted(wish.tolerances.keys() - set(problem.invariants)):
        raise ModelError(
            f"the manifest has a tolerance for {strange[0]}; the invariants are {', '.join(problem.invariants)}"
        )


class Far:
    """An Engine by a worker process, as it would be served; for who has no event loop."""

    name = "tensorflow"

    def __init__(self, parcel: bytes, shape: Shape) -> None:
        self.shape = shape
        self._engines = FarEngines(parcel, shape, Options(starting=STARTING))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._wait(self._engines.ready())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(self._engines.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def jet(self, *at: float) -> Jet:
        """At one point."""
        return tuple(self.jets(np.array([at]))[:, 0].tolist())

    def jets(self, points: Array) -> Array:
        """(k, n) at `points` (n, d)."""
        return self._wait(self._engines.jets(points, SECONDS)).jets

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def timed(engine: Engine) -> Timed:
    """The quickest of some, after a few that do not count."""
    points = np.full((MANY, engine.shape[0]), 0.5)
    at = tuple(points[0])
    return Timed(
        one=1e6 * min(_seconds(lambda: engine.jet(*at)) for _ in range(50)),
        many=1e6 * min(_seconds(lambda: engine.jets(points)) for _ in range(5)) / MANY,
    )


def _seconds(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _wish(manifest: Path) -> Wish:
    try:
        return msgspec.json.decode(manifest.read_bytes(), type=Wish)
    except OSError as error:
        raise ModelError(f"{manifest} cannot be read: {error.strerror or error}") from None
    except formats.NOT_JSON as error:
        raise ModelError(f"{manifest} is no manifest: {error}") from None


def _problem(wish: Wish) -> Ranged:
    ranges = [
        Input(f.name, f.unit, f.low, f.high, f.per, f.default)
        for f in wish.inputs
        if f.low is not None and f.high is not None
    ]
    try:
        found = registry.formulation(wish.problem, ranges, None)
    except ValueError as error:
        raise ModelError(f"the manifest is not one of {wish.problem}: {error}") from None
    if not isinstance(found, Ranged):
        raise ModelError(f"the problem {wish.problem} is not made of plain numbers; bring model.tflite for it")
    if still := [field.name for field in found.inputs if field.low == field.high]:
        raise ModelError(f"the range of {still[0]} is one number: a network is measured over ranges, so give it one")
    fits(wish, found)
    return found


def _fused(network: Network, problem: Ranged) -> tuple[_Fused | None, str]:
    """The network fused, or why it cannot be."""
    if network.format != "keras":
        return None, "a SavedModel is a graph without layers; save the same model by model.save('model.keras')"
    config = network.parts[keras_file.CONFIG]
    jets = problem.jets
    try:
        arrays = h5.read_apart(network.parts[keras_file.WEIGHTS], fused.names(config))
        found = fused.network(config, arrays, jets.coordinates, jets.rows)
        if not fused.finite(found, np.full((3, len(jets.coordinates)), 0.5)):
            raise ModelError("the network has no finite value, or more than one, at a point")
    except fused.NotFused as missing:
        return None, f"it has {missing}, of which no fused derivatives are known"
    except ValueError as error:
        raise ModelError(f"the network cannot be read: {error}") from None
    graph = _litert(found)
    return _Fused(graph, fused.Engine(found), LiteRtEngine(graph)), ""


def _differs(problem: Ranged, one: Engine, other: Engine) -> bool:
    """Whether their jets do, anywhere: what is known here of a layer may be wrong, and then the network as it is tells."""
    (part,) = measured.everywhere(problem, MANY)
    points = np.stack(problem.coordinates(part), axis=1)
    return trial.apart(one.jets(points), other.jets(points)) is not None


def _litert(network: fused.Network) -> bytes:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf

    module = tf.Module()
    module.jet = tf.function(lambda points: network.jets(fused.Tf(tf), points), autograph=False)
    concrete = module.jet.get_concrete_function(
        tf.TensorSpec([None, len(network.coordinates)], tf.float32, name="points")
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    return bytes(converter.convert())


def _files(
    problem: Ranged, network: Mapping[str, bytes], wish: Wish, served: Engine, exact: Engine | None, source: str
) -> dict[str, bytes]:
    parts = measured.everywhere(problem, folder.POINTS)
    table = measured.error_table(problem, served, exact or served, Cells(_cells(wish, problem)))
    found = {**network, error_table.FILE: export.npz({"steps": np.array(table.steps), "values": table.values})}
    told = Told(
        version=wish.version,
        description=wish.description,
        reference=wish.reference,
        name=wish.name,
        architecture={
            "made_of": source,
            "evaluated": "fused" if folders.LITERT in network else "by automatic differentiation",
        },
        training=wish.training,
    )
    return folder.sealed(found, folder.manifest(problem, told, found, parts, served, exact))


def _cells(wish: Wish, problem: Ranged) -> tuple[float, ...]:
    if wish.cells:
        if len(wish.cells) != problem.shape[0] or not all(size > 0 for size in wish.cells):
            raise ModelError(f"cells of the manifest must be {problem.shape[0]} positive numbers, one a coordinate")
        return wish.cells
    ends = measured.everywhere(problem, MANY)[0]
    far = np.abs(np.stack(problem.coordinates(ends))).max(axis=1)
    each = max(2, min(12, int(CELLS ** (1 / problem.shape[0]))))
    return tuple(float(f"{value:.3g}") or 1.0 for value in far / each)


def _sound(wish: Wish, files: dict[str, bytes]) -> dict[str, bytes]:
    """The same with the tolerances that were wished for. Raises ModelError where the network does not keep them."""
    found: Manifest = manifests.parse(files[digests.MANIFEST])
    for name, wished in wish.tolerances.items():
        needed = found.tolerances[name]
        if needed > 4 * wished:
            raise ModelError(
                f"the manifest promises {name} within {wished:g}; the network was measured to need {needed:g}"
            )
    if not wish.tolerances:
        return files
    changed = msgspec.structs.replace(found, tolerances={**found.tolerances, **wish.tolerances})
    return folder.sealed({name: part for name, part in files.items() if name != digests.MANIFEST}, changed)


def _errors(problem: Ranged, engine: Engine) -> Mapping[str, float]:
    return measured.errors(problem, engine, measured.everywhere(problem, folder.POINTS)).largest


def _packed(source: Path) -> bytes:
    """A SavedModel's folder as a zip with fixed time stamps."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as packed:
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(source).as_posix(), date_time=(1980, 1, 1, 0, 0, 0))
            packed.writestr(entry, path.read_bytes())
    return out.getvalue()


def report(done: Done) -> str:
    """What was made and what it gained, for a person."""
    lines = [_row("", "one point", "each of 1,000", *done.errors_before)]
    lines.append(_line("as it is, by a worker", done.before, done.errors_before))
    if done.after is None or done.errors_after is None:
        return "\n".join(["served as it is: " + (done.why or ""), *lines])
    lines.append(_line("fused, by LiteRT", done.after, done.errors_after))
    one, many = done.before.one / done.after.one, done.before.many / done.after.many
    return "\n".join([f"fused: one point {one:.0f} times as fast, many {many:.1f} times", *lines])


def _line(name: str, times: Timed, errors: Mapping[str, float]) -> str:
    return _row(name, f"{times.one:.1f} us", f"{times.many:.2f} us", *(f"{error:.1e}" for error in errors.values()))


def _row(name: str, *cells: str) -> str:
    return f"  {name:<22}" + "".join(f"{cell:>15}" for cell in cells)
