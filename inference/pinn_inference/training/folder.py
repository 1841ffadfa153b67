"""Makes a model's folder: what was measured about a network goes beside it, into its manifest and its error table.

For any problem that says its inputs as `ranged.Ranged` does, and a network from anywhere: only model.tflite must be there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import numpy as np

from pinn_inference import trial
from pinn_inference.artifacts import digest as digests
from pinn_inference.artifacts import manifest as manifests
from pinn_inference.artifacts.manifest import Accuracy, Errors, Field, Manifest
from pinn_inference.engines import Engine
from pinn_inference.engines.float64 import Float64Engine
from pinn_inference.engines.litert import LiteRtEngine
from pinn_inference.errors import ModelError
from pinn_inference.problems import error_table
from pinn_inference.problems.ranged import Ranged
from pinn_inference.training import export, measured
from pinn_inference.training.measured import Cells, Draw

LIBRARIES: Final = ("numpy", "scipy", "tensorflow_cpu", "ai_edge_litert")
POINTS: Final = 20_000
"""Where a model is measured if nothing else is said."""


@dataclass(frozen=True)
class Told:
    """What nobody can measure: for the manifest. `name` is the problem's if absent."""

    version: str
    description: str
    reference: str
    sampling: str = f"every corner of the ranges and {POINTS:,} uniform random points (seed 20261122)"
    name: str | None = None
    precision: Mapping[str, str] = field(default_factory=lambda: {"network": "float32"})
    architecture: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


def files(
    problem: Ranged,
    network: Mapping[str, bytes],
    told: Told,
    cells: Cells,
    parts: Sequence[Any] | None = None,
    draw: Draw | None = None,
) -> dict[str, bytes]:
    """Every file of the model, by name. `network`: model.tflite, and weights.npz where there is one.

    Errors are measured at `parts`, batches of points; the error table's at what `draw` draws. Without them, everywhere alike.
    Raises ModelError where weights.npz is of another network than model.tflite.
    """
    served = LiteRtEngine(network["model.tflite"])
    exact = Float64Engine(network["weights.npz"]) if "weights.npz" in network else None
    where = parts or measured.everywhere(problem, POINTS)
    if exact is not None:
        points = np.stack(problem.coordinates(where[0]), axis=1)
        trial.one_network(points, served.jets(points), exact)
    table = measured.error_table(problem, served, exact or served, cells, draw)
    found = {**network, error_table.FILE: export.npz({"steps": np.array(table.steps), "values": table.values})}
    return sealed(found, manifest(problem, told, found, where, served, exact))


def manifest(
    problem: Ranged,
    told: Told,
    found: Mapping[str, bytes],
    parts: Sequence[Any],
    served: Engine,
    exact: Engine | None,
) -> Manifest:
    """With what is measured at `parts`; its digest is still to be made right."""
    as_served = measured.errors(problem, served, parts)
    excesses = measured.excesses(problem, served, parts)
    return Manifest(
        schema=1,
        name=told.name or problem.name,
        version=told.version,
        description=told.description,
        problem=problem.name,
        digest="sha256:" + "0" * 64,
        precision=told.precision,
        accuracy=Accuracy(
            reference=told.reference,
            points=sum(len(part[0]) for part in parts),
            sampling=told.sampling,
            served=as_served,
            float64=measured.errors(problem, exact, parts) if exact else Errors({}),
        ),
        tolerances={name: tolerance(value) for name, value in excesses.items()},
        inputs=tuple(Field(i.name, i.unit, i.low, i.high, i.per, i.default) for i in problem.inputs),
        outputs=tuple(Field(name, unit) for name, unit in problem.units.items()),
        architecture=told.architecture,
        training=told.training,
        files={name: f"sha256:{digests.file_digest(content)}" for name, content in sorted(found.items())},
    )


def sealed(found: Mapping[str, bytes], manifest: Manifest) -> dict[str, bytes]:
    """The files with the manifest, whose digest is made right."""
    complete = {**found, digests.MANIFEST: manifests.write(manifest)}
    return {**complete, digests.MANIFEST: digests.stated(complete[digests.MANIFEST], digests.digest(complete))}


def digest_of(found: Mapping[str, bytes]) -> str:
    """As `spec.model.digest` has it."""
    return digests.digest(found)


def write(to: Path, found: Mapping[str, bytes]) -> None:
    """Writes the files, the manifest last: a folder without one is not a model."""
    to.mkdir(parents=True, exist_ok=True)
    for name in sorted(found, key=lambda name: name == digests.MANIFEST):
        (to / name).write_bytes(found[name])


def tolerance(excess: float) -> float:
    """Four times the largest excess seen, rounded up to one digit: rounding differs between machines. At least 1e-9.

    Raises ModelError where the excess is no finite number.
    """
    if not math.isfinite(excess):
        raise ModelError(f"an invariant is exceeded by {excess:g}; no tolerance allows that")
    value = max(4 * excess, 1e-9)
    scale = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.ceil(value / scale) * scale:.0e}")


def versions() -> dict[str, str]:
    """Of the libraries that decide a network's bytes, those that are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name.replace("_", "-")] = version(name)
        except PackageNotFoundError:
            continue
    return found
