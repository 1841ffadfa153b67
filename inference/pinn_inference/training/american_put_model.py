"""Makes the folder of an American put's model: two networks in one graph, measured against the solver, which training never saw.

The error table has what `problems.american_put.Formulation` says.
"""

import io
import os
import platform
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from scipy.ndimage import maximum_filter

from pinn_inference import network as networks
from pinn_inference.artifacts import digest as digests
from pinn_inference.artifacts.manifest import Accuracy, Field, Manifest
from pinn_inference.engines import Array, Engine, Jet, taylor
from pinn_inference.engines.litert import LiteRtEngine
from pinn_inference.network import Network
from pinn_inference.problems import american_put, error_table
from pinn_inference.problems.american_put import INPUTS, Formulation, Put
from pinn_inference.problems.error_table import ErrorTable
from pinn_inference.training import export, folder, measured
from pinn_inference.training.american_put import BOUNDARY, BOUNDARY_FEATURES, FEATURES, Networks
from pinn_inference.training.recipes import Recipe

STEPS: Final = (0.5, 0.15, 1.0)
"""Sides of an error table's cell: v, s, chi."""

TABLE_POINTS: Final = 16_000
RANDOM_POINTS: Final = 20_000

REFERENCE: Final = (
    "integral equation of the exercise boundary by collocation (20 nodes), price by quadrature (128 points), float64; within "
    "3e-8 of the strike of itself with twice the nodes, and within 2e-6 of a binomial tree of 4000 steps"
)
SAMPLING: Final = (
    f"strike 1; every corner and edge point of a 4^4 grid over the ranges, and {RANDOM_POINTS:,} random points (seed 20261201): "
    "of the rates half by the cube and none between 0 and 1e-6, of the volatilities half by their logarithm, of the spots half "
    "uniform and half within three standard deviations of the strike, few of them far below the exercise boundary"
)


def folder_files(
    network: Networks, model_version: str, recipe: Recipe, training: Mapping[str, Any]
) -> dict[str, bytes]:
    """Every file of the model, by name. `training` is what the training run knows about itself."""
    found = {"weights.npz": weights_npz(network), "model.tflite": litert(network)}
    problem, served, exact = Formulation(INPUTS, None), LiteRtEngine(found["model.tflite"]), Both(network)
    table = measure_table(problem, served)
    found[error_table.FILE] = export.npz({"steps": np.array(table.steps), "values": table.values})
    parts = [grid(), sample(np.random.default_rng(20261201), RANDOM_POINTS)]
    accuracy = Accuracy(
        reference=REFERENCE,
        points=sum(len(part.spot) for part in parts),
        sampling=SAMPLING,
        served=measured.errors(problem, served, parts),
        float64=measured.errors(problem, exact, parts),
    )
    manifest = Manifest(
        schema=1,
        name=american_put.NAME,
        version=model_version,
        description=f"American put under Black-Scholes, without dividends. {recipe.description}",
        problem=american_put.NAME,
        digest="sha256:" + "0" * 64,
        precision={"networks": "float32", "formulas around them": "float64"},
        accuracy=accuracy,
        tolerances={k: folder.tolerance(v) for k, v in measured.excesses(problem, served, parts).items()},
        inputs=tuple(Field(i.name, i.unit, i.low, i.high, i.per, i.default) for i in INPUTS),
        outputs=tuple(Field(name, unit) for name, unit in problem.units.items()),
        architecture={
            "coordinates": [
                "v = 1 + 2u/(2 + u), u = (1 + rho)(z + zeta)",
                "s = sigma sqrt(T)",
                "chi = zeta - ln(1 + rho) + 2",
            ],
            "with": "z = ln(S/K)/s, rho = r sqrt(T)/sigma, zeta = sqrt(ln(1 + 1/(8 pi rho^2)))",
            "hidden": {"premium": list(recipe.hidden), "boundary": list(BOUNDARY.hidden)},
            "activation": "tanh",
            "parameters": network.premium.parameters + network.boundary.parameters,
            "graph": "model.tflite: (n, 3) of (v, s, chi) to (n, 8) of N, N_v, N_vv, N_s, N_chi, M, M_s, M_chi; float32",
        },
        training={**training, "python": platform.python_version(), "libraries": folder.versions()},
        files={name: f"sha256:{digests.file_digest(content)}" for name, content in sorted(found.items())},
    )
    return folder.sealed(found, manifest)


# ------------------------------------------------------------------------------------------------------- networks


class Both:
    """The networks in NumPy, float64: the yardstick the float32 graph is measured against."""

    name = "numpy-float64"
    shape = (3, 8)

    def __init__(self, network: Networks) -> None:
        self._network = network

    def jet(self, *at: float) -> Jet:
        """(N, N_v, N_vv, N_s, N_chi, M, M_s, M_chi) at one point."""
        return tuple(self.jets(np.array([at]))[:, 0].tolist())

    def jets(self, points: Array) -> Array:
        """The same at `points` (n, 3): shape (8, n)."""
        premium = networks.jet(self._network.premium, points)
        boundary = networks.jet(self._network.boundary, points[:, 1:])
        return np.concatenate([premium, boundary[[0, 1, 3]]])


def weights_npz(network: Networks) -> bytes:
    """The weights of both, layer by layer: premium_w0, premium_b0, ..., boundary_w0, ..."""
    pairs = (("premium", network.premium), ("boundary", network.boundary))
    return export.npz(
        {
            f"{name}_{letter}{i}": array
            for name, one in pairs
            for i, layer in enumerate(zip(one.weights, one.biases, strict=True))
            for letter, array in zip("wb", layer, strict=True)
        }
    )


def read_weights(content: bytes) -> Networks:
    """The networks of weights.npz."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    return Networks(_network(found, "premium", FEATURES), _network(found, "boundary", BOUNDARY_FEATURES))


def _network(arrays: Mapping[str, Array], name: str, features: networks.Features) -> Network:
    layers = range(sum(key.startswith(f"{name}_w") for key in arrays))
    weights, biases = (tuple(arrays[f"{name}_{letter}{i}"] for i in layers) for letter in "wb")
    return Network(weights, biases, features)


def litert(network: Networks) -> bytes:
    """The float32 flatbuffer: points (n, 3) of (v, s, chi) in, jets (n, 8) of both networks out; n is resizable."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf

    def jets(points: Any) -> Any:
        boundary = taylor.jets(tf, network.boundary, points[:, 1:])
        return tf.concat([taylor.jets(tf, network.premium, points), boundary[:, :2], boundary[:, 3:]], axis=1)

    module = tf.Module()
    module.jet = tf.function(jets)
    concrete = module.jet.get_concrete_function(tf.TensorSpec([None, 3], tf.float32, name="points"))
    return bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete], module).convert())


# ---------------------------------------------------------------------------------------------------- measurements


def grid() -> Put:
    """Every corner and edge point of a 4^4 grid over the ranges, strike 1."""
    axes = [np.linspace(i.low, i.high, 4) for i in INPUTS if i.name != "strike"]
    spot, maturity, rate, volatility = (a.ravel() for a in np.meshgrid(*axes, indexing="ij"))
    return Put(spot, np.ones_like(spot), maturity, rate, volatility)


RATE_LEAST: Final = 1e-6
"""Between 0 and it, rho changes from that of a put that is never exercised early to 0 where it pays to: too fast to measure."""


def sample(rng: np.random.Generator, count: int) -> Put:
    """Puts of strike 1 as SAMPLING says."""
    shares, halves = rng.random((4, count)), rng.random((3, count)) < 0.5
    low, high = (np.array([[getattr(i, end)] for i in (INPUTS[0], *INPUTS[2:])]) for end in ("low", "high"))
    spot, maturity, rate, volatility = low + (high - low) * shares
    rate = np.maximum(np.where(halves[0], high[2] * shares[2] ** 3, rate), RATE_LEAST)
    volatility = np.where(halves[1], low[3] * (high[3] / low[3]) ** shares[3], volatility)
    s = volatility * np.sqrt(maturity)
    floor = np.maximum(
        -1.1 * american_put.zeta(np.maximum(rate * np.sqrt(maturity) / volatility, american_put.RHO_LEAST)), -3
    )
    near = np.clip(np.exp(s * (floor + (3 - floor) * shares[0])), low[0], high[0])
    return Put(np.where(halves[2], near, spot), np.ones(count), maturity, rate, volatility)


def measure_table(problem: Formulation, served: Engine, count: int = TABLE_POINTS) -> ErrorTable:
    """The largest numbers seen in each cell and those around it, with a margin."""
    rng = np.random.default_rng(20261202)
    parts = sample(rng, count), _just_above_the_boundary(rng, count // 2)
    puts = Put(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    at = np.stack(problem.coordinates(puts), axis=1)
    seen = _errors(puts, served.jets(at))
    counts = [int(np.ceil(most / step)) for most, step in zip(at.max(axis=0), STEPS, strict=True)]
    cells = tuple(np.minimum((c / step).astype(np.intp), n - 1) for c, step, n in zip(at.T, STEPS, counts, strict=True))
    table = np.zeros((len(seen), *counts))
    for row, values in zip(table, seen, strict=True):
        np.maximum.at(row, cells, values)
    return ErrorTable(STEPS, measured.rounded_up(measured.MARGIN * _spread(table)))


def _just_above_the_boundary(rng: np.random.Generator, count: int) -> Put:
    """Where slopes and curvatures are worst: from a ten-thousandth of a standard deviation above it to a third of one."""
    puts = sample(rng, count)
    distance = puts.volatility * np.sqrt(puts.maturity) * 10.0 ** rng.uniform(-4, -0.5, count)
    return puts._replace(spot=np.maximum(american_put.exercise_boundary(puts) * np.exp(distance), INPUTS[0].low))


def _errors(puts: Put, jets: Array) -> Array:
    """Of each output and of z_b, (7, n), in the table's units; of gamma where it is clear who exercises."""
    reduced, unit = american_put.reduce(puts), american_put.unit_of_error(puts)
    solved, answer = american_put.solve(puts), american_put.greeks(puts, jets)
    wrong = np.abs(np.stack(answer) - np.stack(solved)) / np.stack(unit)
    boundary = np.log(american_put.exercise_boundary(puts)) / reduced.s
    off = np.abs(-reduced.zeta * np.exp(jets[5]) - boundary)
    wrong[2] = np.where(np.abs(reduced.z - boundary) <= off, 0.0, wrong[2])
    return np.concatenate([wrong, off[None]])


def _spread(table: Array) -> Array:
    """Every cell's largest number among itself and those around it; cells where nothing was met take the largest near by."""
    for _ in range(sum(table.shape[1:])):
        around = maximum_filter(table, size=(1, 3, 3, 3), mode="nearest")
        empty = table[6] == 0
        if not empty.any():
            break
        table = np.where(empty, around, table)
    found: Array = maximum_filter(table, size=(1, 3, 3, 3), mode="nearest")
    return found
