"""How wrong a model is, measured against the reference solver, which training never sees."""

import math
from typing import Final

import numpy as np

from pinn_inference.artifacts.manifest import Accuracy, Errors
from pinn_inference.engines import Array, Engine
from pinn_inference.problems import black_scholes
from pinn_inference.problems.black_scholes import INPUTS, INVARIANTS, OUTPUTS, Greeks, Option, greeks, reduce
from pinn_inference.problems.error_table import ErrorTable

REFERENCE: Final = "Black-Scholes-Merton closed formula, error function of the C library, float64"
SAMPLING: Final = (
    "strike 1; every corner and edge point of a 4^5 grid over the five ranges, a line of 2001 spots through each of 27 "
    "settings of the other inputs, and uniform random points (seed 20240901); a call and a put at each"
)


def accuracy(served: Engine, float64: Engine, random_points: int = 200_000) -> tuple[Accuracy, dict[str, float]]:
    """The measured errors of both precisions, and the largest excess of each invariant as served (dimensionless)."""
    option = sample(random_points)
    exact = black_scholes.solve(option)
    answer = evaluate(served, option)
    measured = Accuracy(
        REFERENCE,
        int(option.spot.size),
        SAMPLING,
        _errors(option, answer, exact),
        _errors(option, evaluate(float64, option), exact),
    )
    excess = black_scholes.excesses(option, answer)
    return measured, {name: float(np.max(excess[name], initial=0.0)) for name in INVARIANTS}


Z_STEP, S_STEP = 0.25, 0.0625
SAMPLES: Final = 4000
MARGIN: Final = 1.5
"""What is served may meet a point that is a little worse than the worst of a cell's samples."""


def error_table(served: Engine, float64: Engine) -> ErrorTable:
    """How wrong the network is in every cell of its coordinates, rows as black_scholes.ERROR_ROWS says, with a margin.

    Cells that no option of the trained ranges reaches get the numbers of their neighbours.
    """
    cells = math.ceil(black_scholes.Z_FAR / Z_STEP), math.ceil(black_scholes.S_MAX / S_STEP)
    errors = _worst_by_cell(*_scaled_errors(served, float64, cells), cells)
    table = np.concatenate([errors, _third_derivatives(float64, cells)])
    return ErrorTable((Z_STEP, S_STEP), _rounded_up(MARGIN * _filled(table)))


def _scaled_errors(served: Engine, float64: Engine, cells: tuple[int, int]) -> tuple[Array, Array, Array]:
    """At random points: z, s, and the errors (4, n) over their weights. Strike 1, one year, no rates: x = ln S."""
    rng = np.random.default_rng(20240902)
    count = SAMPLES * cells[0] * cells[1]
    z = rng.random(count) * cells[0] * Z_STEP
    s = S_SMALLEST + rng.random(count) * (cells[1] * S_STEP - S_SMALLEST)
    z, s = (a[np.abs(z * s) < X_LARGEST] for a in (z, s))
    z = z * rng.choice([-1.0, 1.0], z.size)
    spot, one, zero = np.exp(z * s), np.ones_like(z), np.zeros_like(z)
    option = Option(spot, one, one, zero, zero, s, one)
    jets = served.jets(np.stack([np.clip(z, -black_scholes.Z_FAR, black_scholes.Z_FAR), s], axis=1))
    wrong = [
        np.abs(a - b) for a, b in zip(greeks(option, reduce(option), jets), black_scholes.solve(option), strict=True)
    ]
    unit = np.sqrt(spot)
    b, slope, curve = wrong[0] / unit, wrong[1] * spot / unit, wrong[2] * spot * spot / unit
    raw = np.stack([b, slope + 0.5 * b, curve + 0.25 * b, wrong[3] / unit])
    phi = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    rounding = 0.25 * black_scholes.ROUNDING * np.stack([np.ones_like(s), np.ones_like(s), 1 + 1 / (s * s), 1 + 1 / s])
    weights = np.stack([s**3 * phi, s**2 * phi, s * phi, s**2 * phi])
    return z, s, np.maximum(raw - rounding, 0) / weights


def _worst_by_cell(z: Array, s: Array, values: Array, cells: tuple[int, int]) -> Array:
    i = np.minimum((np.abs(z) / Z_STEP).astype(int), cells[0] - 1)
    j = np.minimum((s / S_STEP).astype(int), cells[1] - 1)
    worst = np.zeros((len(values), *cells))
    for row, value in zip(worst, values, strict=True):
        np.maximum.at(row, (i, j), value)
    return worst


def _third_derivatives(engine: Engine, cells: tuple[int, int], step: float = 1e-3) -> Array:
    """Largest |N_zzz|, |N_zzs|, |N_zs|, |N_ss| of every cell, by differences of the jet at five by five points of each."""
    inner = np.arange(5) / 4
    z = (np.arange(cells[0])[:, None] + inner).ravel() * Z_STEP
    s = np.maximum((np.arange(cells[1])[:, None] + inner).ravel() * S_STEP, S_SMALLEST)
    points = np.stack([a.ravel() for a in np.meshgrid(z, s, indexing="ij")], axis=1)

    def slope(along: tuple[float, float]) -> Array:
        move = step * np.array(along)
        return (engine.jets(points + move) - engine.jets(points - move)) / (2 * step)

    by_z, by_s = slope((1, 0)), slope((0, 1))
    found = np.abs(np.stack([by_z[2], by_s[2], by_s[1], by_s[3]]))
    shaped = found.reshape(4, cells[0], 5, cells[1], 5)
    largest: Array = shaped.max(axis=(2, 4))
    return largest


def _filled(table: Array) -> Array:
    """Zeros of the first row mean a cell that was never sampled: it takes the largest of its neighbours, round after round."""
    for _ in range(sum(table.shape[1:])):
        empty = table[0] == 0
        if not empty.any():
            break
        padded = np.pad(table, ((0, 0), (1, 1), (1, 1)))
        near = np.maximum.reduce([padded[:, 1 + i : -1 + i or None, 1 + j : -1 + j or None] for i, j in AROUND])
        table = np.where(empty, near, table)
    return table


def _rounded_up(values: Array) -> Array:
    """To three digits, so that the last bits of a library's arithmetic do not change a model's digest."""
    scale = 10.0 ** (np.floor(np.log10(np.maximum(values, 1e-30))) - 2)
    return np.ceil(values / scale) * scale


S_SMALLEST, X_LARGEST = 0.007, 0.9
AROUND: Final = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]


def evaluate(engine: Engine, option: Option) -> Greeks:
    """A batch priced through an engine, as the server does it."""
    reduced = black_scholes.reduce(option)
    points = np.stack(black_scholes.network_point(reduced), axis=1)
    return black_scholes.greeks(option, reduced, engine.jets(points))


def sample(random_points: int) -> Option:
    """Options of strike 1 over the stated ranges: grid with corners and edges, lines of spots, random; calls, then puts."""
    low, high = _bounds()
    grid = _product([np.linspace(a, b, 4) for a, b in zip(low, high, strict=True)])
    settings = [np.linspace(a, b, 3) for a, b in zip(low[1:], high[1:], strict=True)]
    settings[2] = settings[2][:1]
    lines = _product([np.linspace(low[0], high[0], 2001), *settings])
    uniform = low + (high - low) * np.random.default_rng(20240901).random((random_points, 5))
    spot, maturity, rate, dividend_yield, volatility = np.tile(np.concatenate([grid, lines, uniform]), (2, 1)).T
    sign = np.repeat([1.0, -1.0], spot.size // 2)
    return Option(spot, np.ones_like(spot), maturity, rate, dividend_yield, volatility, sign)


def _bounds() -> tuple[Array, Array]:
    ranges = [field for field in INPUTS if field.name != "strike"]
    return np.array([f.low for f in ranges]), np.array([f.high for f in ranges])


def _product(axes: list[Array]) -> Array:
    return np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)


def _errors(option: Option, answer: Greeks, exact: Greeks) -> Errors:
    largest = {name: float(np.max(np.abs(getattr(answer, name) - getattr(exact, name)))) for name in OUTPUTS}
    worst = int(np.argmax(np.abs(answer.price - exact.price)))
    where = {field: round(float(getattr(option, field)[worst]), 6) for field in Option._fields[:-1]}
    return Errors(_rounded(largest), {**where, "kind": "call" if option.sign[worst] > 0 else "put"})


def _rounded(errors: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.3g}") for name, value in errors.items()}
