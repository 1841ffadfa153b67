"""How wrong a model is, measured against the closed formula: the only place where the formula is allowed."""

from typing import Final

import numpy as np
from scipy.special import ndtr

from pinn_inference.artifacts.manifest import Accuracy, Errors
from pinn_inference.engines import Array, Engine
from pinn_inference.problems import black_scholes
from pinn_inference.problems.black_scholes import INPUTS, INVARIANTS, OUTPUTS, Greeks, Option

REFERENCE: Final = "Black-Scholes-Merton closed formula, SciPy's normal distribution, float64"
SAMPLING: Final = (
    "strike 1; every corner and edge point of a 4^5 grid over the five ranges, a line of 2001 spots through each of 27 "
    "settings of the other inputs, and uniform random points (seed 20240901); a call and a put at each"
)


def accuracy(served: Engine, float64: Engine, random_points: int = 200_000) -> tuple[Accuracy, dict[str, float]]:
    """The measured errors of both precisions, and the largest excess of each invariant as served (dimensionless)."""
    option = sample(random_points)
    exact = closed_formula(option)
    answer = evaluate(served, option)
    measured = Accuracy(
        REFERENCE,
        int(option.spot.size),
        SAMPLING,
        _errors(option, answer, exact),
        _errors(option, evaluate(float64, option), exact),
    )
    excess = black_scholes.excesses(option, answer)
    return measured, {name: max(0.0, float(np.max(excess[name]))) for name in INVARIANTS}


def evaluate(engine: Engine, option: Option) -> Greeks:
    """A batch priced through an engine, as the server does it."""
    reduced = black_scholes.reduce(option)
    points = np.stack(black_scholes.network_point(reduced), axis=1)
    return black_scholes.greeks(option, reduced, engine.jets(points))


def closed_formula(option: Option) -> Greeks:
    """Black-Scholes-Merton and its derivatives (J. Hull, Options, Futures and Other Derivatives, chapters 15 and 19)."""
    spot, strike, maturity, rate, dividend_yield, volatility, sign = option
    root = np.sqrt(maturity)
    d1 = (np.log(spot / strike) + (rate - dividend_yield + volatility**2 / 2) * maturity) / (volatility * root)
    d2 = d1 - volatility * root
    carry, discount = np.exp(-dividend_yield * maturity), np.exp(-rate * maturity)
    density = np.exp(-d1 * d1 / 2) / np.sqrt(2 * np.pi)
    asset, cash = spot * carry * ndtr(sign * d1), strike * discount * ndtr(sign * d2)
    return Greeks(
        price=sign * (asset - cash),
        delta=sign * carry * ndtr(sign * d1),
        gamma=carry * density / (spot * volatility * root),
        vega=spot * carry * density * root,
        theta=-spot * carry * density * volatility / (2 * root) + sign * (dividend_yield * asset - rate * cash),
        rho=sign * maturity * cash,
    )


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
