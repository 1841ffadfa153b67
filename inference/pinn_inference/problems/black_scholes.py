"""The European option under Black-Scholes: everything specific to the equation, and nowhere else.

Five numbers price an option, but only two of them matter to a network. With the forward F = S exp((r-q)T),
x = ln(F/K), s = sigma sqrt(T) and V = exp(-rT) sqrt(FK) b(x, s), the equation becomes b_w = (b_xx - b/4)/2 in w = s^2,
whatever the rates are (an exact change of variables: F. Black, J. Financial Economics 3, 1976). What is left is written as

    b = ω sinh(x/2) erfc(-ω z/√2) + s φ(z) (1 + s² N(z, s)),   z = x/s,   ω = +1 for a call, -1 for a put

with φ the normal density. The first term and the 1 are the exact behaviour far from the strike and as s → 0; the network N
supplies the rest, and being even in z it makes put-call parity exact. Put into the equation, N must satisfy

    N_zz - z N_z - (4 + s²/4) N - s N_s + z²/4 (sinh(zs/4)/(zs/4))² - 1/4 = 0

which is all it is trained on: pay-off and decay are built in, so there is no boundary term and no price in the loss.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from pinn_inference.errors import InvalidInput

_TYPE_NAMES: Final = {bool: "a boolean", str: "a string", type(None): "null", list: "a list", dict: "an object"}

NAME: Final = "black-scholes"
OUTPUTS: Final = ("price", "delta", "gamma", "vega", "theta", "rho")
OUTPUT_UNITS: Final = {
    "price": "currency",
    "delta": "1 (dV/dS)",
    "gamma": "1/currency (d2V/dS2)",
    "vega": "currency per 1.00 of volatility (dV/dsigma)",
    "theta": "currency per year (dV/dt)",
    "rho": "currency per 1.00 of rate (dV/dr)",
}
INVARIANTS: Final = ("pde_residual", "price_bounds", "delta_bounds", "gamma_sign", "vega_sign")

Z_FAR: Final = 6.5
"""Beyond it the envelope is below 3e-10 and s^3 below 3e-3: the network is asked at the edge instead, where it was trained."""

Real = Any  # a float, or an array of them: the formulas below are written once for both
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Input:
    """One input of the problem: its unit and the closed range the model was trained on."""

    name: str
    unit: str
    low: float
    high: float
    per: str | None = None
    default: float | None = None


INPUTS: Final = (
    Input("spot", "currency, as a multiple of the strike", 0.5, 2.0, per="strike"),
    Input("strike", "currency", 1e-6, 1e9),
    Input("maturity", "years", 0.02, 2.0),
    Input("rate", "per year, continuously compounded", 0.0, 0.1),
    Input("dividend_yield", "per year, continuously compounded", 0.0, 0.1, default=0.0),
    Input("volatility", "per square root of a year", 0.05, 0.6),
)
KINDS: Final = {"call": 1.0, "put": -1.0}
_FIELDS: Final = {field.name for field in INPUTS} | {"kind"}


class Option(NamedTuple):
    """One option, or a batch of n when each field is an array of shape (n,). `sign` is +1 for a call, -1 for a put."""

    spot: Real
    strike: Real
    maturity: Real
    rate: Real
    dividend_yield: Real
    volatility: Real
    sign: Real


class Reduced(NamedTuple):
    """An option in the network's variables: x = ln(F/K), s = sigma sqrt(T), z = x/s (dimensionless)."""

    x: Real
    z: Real
    s: Real


class Greeks(NamedTuple):
    """Price and its derivatives, in the units of OUTPUT_UNITS, each a float or an array of shape (n,)."""

    price: Real
    delta: Real
    gamma: Real
    vega: Real
    theta: Real
    rho: Real


class Functions(Protocol):
    """What the formulas need from `math` (for one option) or from NumPy (for many)."""

    def exp(self, x: Real, /) -> Real: ...
    def log(self, x: Real, /) -> Real: ...
    def sqrt(self, x: Real, /) -> Real: ...
    def sinh(self, x: Real, /) -> Real: ...
    def cosh(self, x: Real, /) -> Real: ...
    def erfc(self, x: Real, /) -> Real: ...


class _Arrays:
    exp, log, sqrt, sinh, cosh = np.exp, np.log, np.sqrt, np.sinh, np.cosh

    @staticmethod
    def erfc(x: Array) -> Array:
        return np.fromiter(map(math.erfc, x.tolist()), np.float64, x.size)


SCALAR: Final = cast(Functions, math)
ARRAY: Final = cast(Functions, _Arrays)


def functions_for(option: Option) -> Functions:
    """`math` for one option, NumPy for a batch."""
    return ARRAY if isinstance(option.spot, np.ndarray) else SCALAR


# ---------------------------------------------------------------------------------------------- questions


def parse(item: object, inputs: Sequence[Input] = INPUTS) -> Option:
    """The option an item of a request describes.

    Raises InvalidInput, naming the field, its value and the allowed range, for anything that is not a finite number in
    the trained domain. There is no extrapolation.
    """
    if not isinstance(item, dict):
        raise InvalidInput(f"an option is a JSON object with {_names(inputs)} and kind, not {_describe(item)}")
    values: dict[str, float] = {}
    for field in inputs:
        values[field.name] = _number(item, field)
    for field in inputs:
        _in_range(field, values)
    option = Option(**values, sign=_sign(item))
    if not item.keys() <= _FIELDS:
        _refuse_unknown(item, inputs)
    return option


def stack(options: Sequence[Option]) -> Option:
    """A batch of n options: each field an array of shape (n,)."""
    return Option(*np.array(options, dtype=np.float64).T.copy())


def _number(item: Mapping[str, object], field: Input) -> float:
    try:
        value = item[field.name]
    except KeyError:
        if field.default is None:
            raise InvalidInput(f"{field.name} is missing ({_allowed(field)})") from None
        return field.default
    if type(value) is float:
        number = value
    elif type(value) is int:
        number = _from_integer(value, field)
    else:
        raise InvalidInput(f"{field.name} must be a number, not {_describe(value)} ({_allowed(field)})")
    if not math.isfinite(number):
        raise InvalidInput(f"{field.name} is {number}, which is not finite ({_allowed(field)})")
    return number


def _from_integer(value: int, field: Input) -> float:
    try:
        return float(value)
    except OverflowError:
        raise InvalidInput(f"{field.name} is too large for a number ({_allowed(field)})") from None


def _in_range(field: Input, values: Mapping[str, float]) -> None:
    value = values[field.name]
    unit = values[field.per] if field.per else 1.0
    if not field.low * unit <= value <= field.high * unit:
        raise InvalidInput(f"{field.name} is {value!r}, outside the range the model was trained on ({_allowed(field)})")


def _sign(item: Mapping[str, object]) -> float:
    kind = item.get("kind", "call")
    sign = KINDS.get(kind) if isinstance(kind, str) else None
    if sign is None:
        raise InvalidInput(f'kind must be "call" or "put", not {_describe(kind)}')
    return sign


def _refuse_unknown(item: Mapping[str, object], inputs: Sequence[Input]) -> NoReturn:
    first = next(key for key in item if key not in _FIELDS)
    raise InvalidInput(f"{first[:64]!r} is not an input; the inputs are {_names(inputs)} and kind")


def _names(inputs: Sequence[Input]) -> str:
    return ", ".join(field.name for field in inputs)


def _allowed(field: Input) -> str:
    of = f" times {field.per}" if field.per else f" {field.unit}"
    return f"allowed: {field.low:g} to {field.high:g}{of}"


def _describe(value: object) -> str:
    known = _TYPE_NAMES.get(type(value), "a number")
    return f"{known} {value[:64]!r}" if isinstance(value, str) else known


# ------------------------------------------------------------------------------------------------ answers


def reduce(option: Option) -> Reduced:
    """The change of variables, exact."""
    f = functions_for(option)
    x = f.log(option.spot / option.strike) + (option.rate - option.dividend_yield) * option.maturity
    s = option.volatility * f.sqrt(option.maturity)
    return Reduced(x, x / s, s)


def network_point(reduced: Reduced) -> tuple[Real, Real]:
    """Where the network is evaluated: (z, s), z held within Z_FAR."""
    if isinstance(reduced.z, np.ndarray):
        return np.clip(reduced.z, -Z_FAR, Z_FAR), reduced.s
    return min(max(reduced.z, -Z_FAR), Z_FAR), reduced.s


def greeks(option: Option, reduced: Reduced, jet: Sequence[Real] | Array) -> Greeks:
    """Price and Greeks from the network's jet (N, N_z, N_zz, N_s) by the chain rule, never from the equation.

    theta is dV/dt = -dV/dT per year.
    """
    f = functions_for(option)
    spot, strike, maturity, rate, dividend_yield, volatility, sign = option
    x, z, s = reduced
    n, n_z, n_zz, n_s = jet

    g, g_z, g_zz = 1 + s * s * n, s * s * n_z, s * s * n_zz
    g_s = s * (2 * n + s * n_s)
    phi = f.exp(-0.5 * z * z) * 0.3989422804014327
    sinh, cosh = f.sinh(0.5 * x), f.cosh(0.5 * x)
    tail = f.erfc(-0.7071067811865476 * sign * z)

    b = sign * sinh * tail + s * phi * g
    b_x = 0.5 * sign * cosh * tail + phi * (2 * sinh / s + g_z - z * g)
    b_xx = 0.25 * sign * sinh * tail + phi / s * (2 * cosh - 2 * sinh * z / s + g_zz - 2 * z * g_z + (z * z - 1) * g)
    b_s = phi * ((1 + z * z) * g + s * g_s - z * g_z - 2 * sinh * z / s)

    unit = f.exp(0.5 * x - rate * maturity) * strike
    value, value_x, value_s = unit * b, unit * (b_x + 0.5 * b), unit * b_s
    root = f.sqrt(maturity)
    return Greeks(
        price=value,
        delta=value_x / spot,
        gamma=unit * (b_xx - 0.25 * b) / (spot * spot),
        vega=value_s * root,
        theta=rate * value - (rate - dividend_yield) * value_x - 0.5 * value_s * volatility / root,
        rho=maturity * (value_x - value),
    )


def finite(g: Greeks) -> bool:
    """Whether every number of an answer is one."""
    total = sum(g)  # NaN and infinity survive a sum; opposite infinities make NaN
    return math.isfinite(total) if isinstance(total, float) else bool(np.isfinite(total).all())


# ------------------------------------------------------------------------------------------------ physics


def excesses(option: Option, g: Greeks) -> dict[str, Real]:
    """How far an answer is from each invariant, dimensionless; a violation is an excess above the manifest's tolerance.

    pde_residual: theta + sigma^2 S^2 gamma/2 + (r-q) S delta - r V, relative to the strike plus the terms compared.
    The others are the no-arbitrage bounds, as multiples of the strike: for a call max(S e^-qT - K e^-rT, 0) <= C <= S e^-qT
    and 0 <= delta <= e^-qT, for a put by parity; gamma >= 0, vega >= 0.
    """
    f = functions_for(option)
    spot, strike, maturity, rate, dividend_yield, volatility, sign = option
    diffusion = 0.5 * (volatility * spot) ** 2 * g.gamma
    drift = (rate - dividend_yield) * spot * g.delta
    discount = rate * g.price
    terms = abs(g.theta) + abs(diffusion) + abs(drift) + abs(discount)
    carry = f.exp(-dividend_yield * maturity)
    asset, cash = spot * carry, strike * f.exp(-rate * maturity)
    call = g.price + 0.5 * (1 - sign) * (asset - cash)
    call_delta = g.delta + 0.5 * (1 - sign) * carry
    return {
        "pde_residual": abs(g.theta + diffusion + drift - discount) / (strike + terms),
        "price_bounds": _most(asset - cash - call, -call, call - asset) / strike,
        "delta_bounds": _most(-call_delta, call_delta - carry),
        "gamma_sign": -g.gamma * spot * spot / strike,
        "vega_sign": -g.vega / strike,
    }


def _most(*values: Real) -> Real:
    return np.maximum.reduce(values) if isinstance(values[0], np.ndarray) else max(values)


# ----------------------------------------------------------------------------------------------- training

S_MAX: Final = 0.86


def collocation(rng: np.random.Generator, count: int) -> Array:
    """Where the equation is imposed: `count` points (z, s), shape (count, 2), uniform over [0, Z_FAR] x (0, S_MAX).

    Wider than the options in range, whose |zs| stays below 0.9: only where the envelope has vanished is nothing left to
    prescribe, so the rectangle must reach there for every s. The network is even, so z >= 0 is enough.
    """
    points: Array = rng.random((count, 2)) * np.array([Z_FAR, S_MAX])
    return points


def residual(points: Array) -> tuple[Array, Array]:
    """The equation for N at `points` (n, 2) as coefficients of the jet (N, N_z, N_zz, N_s), shape (4, n), and a source (n,).

    Weighted by exp(-z^2/8): an error in N counts for the price only under the envelope, which falls faster.
    """
    z, s = points.T
    y = z * s / 4
    sinhc = np.where(y < 1e-4, 1 + y * y / 6, np.sinh(y) / np.maximum(y, 1e-300))
    source = (z * sinhc) ** 2 / 4 - 0.25
    coefficients = np.stack([-(4 + s * s / 4), -z, np.ones_like(z), -s])
    weight: Array = np.exp(-z * z / 8)
    return coefficients * weight, source * weight
