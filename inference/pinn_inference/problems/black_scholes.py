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

import functools
import math
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple, Protocol, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from pinn_inference.errors import InvalidInput
from pinn_inference.problems import Input, Width, questions, special
from pinn_inference.problems.error_table import ErrorTable

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


INPUTS: Final = (
    Input("spot", "currency, as a multiple of the strike", 0.5, 2.0, per="strike"),
    Input("strike", "currency", 1e-6, 1e9),
    Input("maturity", "years", 0.02, 2.0),
    Input("rate", "per year, continuously compounded", 0.0, 0.1),
    Input("dividend_yield", "per year, continuously compounded", 0.0, 0.1, default=0.0),
    Input("volatility", "per square root of a year", 0.05, 0.6),
)
BINS: Final = {
    "spot": Width(0.001, 1e-6),
    "strike": Width(0.001, 1e-6),
    "maturity": Width(0.01, 0.02),
    "rate": Width(0.01, 0.01),
    "dividend_yield": Width(0.01, 0.01),
    "volatility": Width(0.01, 0.05),
}
MOVES: Final = {"rate": 0.01, "volatility": 0.02}
"""What a market moves while it is asked about the same option."""

SOLVABLE: Final = (
    Input("spot", "currency", 1e-9, 1e12),
    Input("strike", "currency", 1e-9, 1e12),
    Input("maturity", "years", 1e-6, 100.0),
    Input("rate", "per year, continuously compounded", -1.0, 1.0),
    Input("dividend_yield", "per year, continuously compounded", -1.0, 1.0, default=0.0),
    Input("volatility", "per square root of a year", 1e-3, 5.0),
)
"""Where the closed formula is finite in float64: beyond it a market does not go, and a refusal is kinder than an infinity."""

KINDS: Final = {"call": 1.0, "put": -1.0}
_FIELDS: Final = questions.WISHES | {field.name for field in INPUTS} | {"kind"}


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
    exp, log, sqrt, sinh, cosh, erfc = np.exp, np.log, np.sqrt, np.sinh, np.cosh, staticmethod(special.erfc)


SCALAR: Final = cast(Functions, math)
ARRAY: Final = cast(Functions, _Arrays)


def functions_for(option: Option) -> Functions:
    """`math` for one option, NumPy for a batch."""
    return ARRAY if isinstance(option[0], np.ndarray) else SCALAR


# ---------------------------------------------------------------------------------------------- questions


def parse(item: object, inputs: Sequence[Input] = INPUTS) -> Option:
    """The option an item of a request describes, read with care: this is the slow way that finds the sentence to refuse with.

    Raises InvalidInput, naming the field, its value and the allowed range, for anything that is not a finite number, and
    OutOfDomain for a number the model was not trained for. There is no extrapolation.
    """
    if not isinstance(item, dict):
        raise InvalidInput(f"an option is a JSON object with {_named(inputs)}, not {questions.described(item)}")
    values = {field.name: questions.number(item, field) for field in inputs}
    sign = _sign(item)
    if not item.keys() <= _FIELDS:
        questions.refuse_unknown(item, _named(inputs), _FIELDS)
    option = Option(**values, sign=sign)
    for field in inputs:
        questions.in_range(field, values, option)
    return option


def stack(options: Sequence[Option]) -> Option:
    """A batch of n options: each field an array of shape (n,)."""
    return Option(*np.array(options, dtype=np.float64).T.copy())


def _sign(item: Mapping[str, object]) -> float:
    kind = item.get("kind", "call")
    sign = KINDS.get(kind) if isinstance(kind, str) else None
    if sign is None:
        raise InvalidInput(f'kind must be "call" or "put", not {questions.described(kind)}')
    return sign


def _named(inputs: Sequence[Input]) -> str:
    return f"{questions.names(inputs)} and kind"


# ------------------------------------------------------------------------------------------------ answers


def reduce(option: Option, f: Functions | None = None) -> Reduced:
    """The change of variables, exact."""
    f = f or functions_for(option)
    x = f.log(option.spot / option.strike) + (option.rate - option.dividend_yield) * option.maturity
    s = option.volatility * f.sqrt(option.maturity)
    return Reduced(x, x / s, s)


def network_point(reduced: Reduced) -> tuple[Real, Real]:
    """Where the network is evaluated: (z, s), z held within Z_FAR."""
    _, z, s = reduced
    if isinstance(z, np.ndarray):
        return np.clip(z, -Z_FAR, Z_FAR), s
    return (z if -Z_FAR <= z <= Z_FAR else math.copysign(Z_FAR, z)), s


def greeks(option: Option, reduced: Reduced, jet: Sequence[Real] | Array, f: Functions | None = None) -> Greeks:
    """Price and Greeks from the network's jet (N, N_z, N_zz, N_s) by the chain rule, never from the equation.

    theta is dV/dt = -dV/dT per year.
    """
    f = f or functions_for(option)
    spot, strike, maturity, rate, dividend_yield, volatility, sign = option
    x, z, s = reduced
    n, n_z, n_zz, n_s = jet

    half, s_s = 0.5 * x, s * s
    unit = f.exp(half - rate * maturity) * strike
    phi = f.exp(-0.5 * z * z) * unit * 0.3989422804014327
    tail = f.erfc(-0.7071067811865476 * sign * z) * unit * sign
    sinh, cosh = f.sinh(half), f.cosh(half)
    g, g_z = 1 + s_s * n, s_s * n_z
    s_g, rise = s * g, 2 * sinh / s + g_z - z * g

    # b and its derivatives, times V / b
    value = sinh * tail + phi * s_g
    value_x = phi * rise + 0.5 * (cosh * tail + value)
    value_s = phi * (g + s_s * (2 * n + s * n_s) - z * rise)
    bend = phi * ((2 * cosh + s_s * n_zz - g - z * (rise + g_z)) / s - 0.25 * s_g)  # b_xx - b/4
    root = f.sqrt(maturity)
    return Greeks(
        price=value,
        delta=value_x / spot,
        gamma=bend / (spot * spot),
        vega=value_s * root,
        theta=rate * value - (rate - dividend_yield) * value_x - 0.5 * value_s * volatility / root,
        rho=maturity * (value_x - value),
    )


def moved(jet: Sequence[Real] | Array, dz: Real, ds: Real) -> tuple[Real, Real, Real, Real]:
    """The jet of a point (dz, ds) away by the Taylor terms it has: N to second order in z and first in s, N_z to first in z."""
    n, n_z, n_zz, n_s = jet
    return n + dz * (n_z + 0.5 * dz * n_zz) + ds * n_s, n_z + dz * n_zz, n_zz, n_s


def bounds(
    option: Option, reduced: Reduced, cell: Sequence[Real] | Array, dz: Real, ds: Real, f: Functions | None = None
) -> Greeks:
    """How far price and Greeks from a jet taken (dz, ds) away can be from the truth, each in the unit of its output.

    The sum of what the network was measured to be wrong (`cell`, see ERROR_ROWS), of the Taylor remainder (Lagrange's, with
    the largest third derivatives of the cell), and of rounding. An error of N reaches the price under s^3 phi(z) only: that
    is why the bound is close.
    """
    f = f or functions_for(option)
    spot, strike, maturity, rate, dividend_yield, volatility, _ = option
    x, z, s = reduced
    t_b, t_x, t_xx, t_s, k_zzz, k_zzs, k_zs, k_ss = cell
    z, dz, ds = abs(z), abs(dz), abs(ds)
    grown = 1 + 4 * dz  # the jet's own errors, moved along
    t_b, t_x, t_xx, t_s = t_b * grown, t_x * grown, t_xx * grown, t_s * grown
    # what is left of N, N_z, N_zz and N_s
    r_n = dz * (ds * (k_zs + 0.5 * dz * k_zzs) + dz * dz * k_zzz / 6) + 0.5 * ds * ds * k_ss
    r_z = ds * (k_zs + dz * k_zzs) + 0.5 * dz * dz * k_zzz
    r_zz = dz * k_zzz + ds * k_zzs
    r_s = dz * (k_zs + 0.5 * dz * k_zzs) + ds * k_ss
    # beyond Z_FAR the network is asked at the edge; N and its derivatives are below one there
    beyond = z > Z_FAR
    r_n, r_z, r_zz, r_s = r_n + beyond, r_z + beyond, r_zz + beyond, r_s + beyond / s
    # what that makes of b, b_x, b_xx and b_s
    e_s = s * f.exp(-0.5 * z * z) * 0.3989422804014327
    e_b = s * s * e_s * (t_b + r_n) + ROUNDING
    e_x = s * e_s * (t_x + r_z + z * r_n) + ROUNDING
    e_xx = e_s * (t_xx + r_zz + 2 * z * r_z + (z * z + 1) * r_n) + ROUNDING * (1 + 1 / (s * s))
    e_s = s * e_s * (t_s + (3 + z * z) * r_n + s * r_s + z * r_z) + ROUNDING * (1 + 1 / s)

    unit = f.exp(0.5 * x - rate * maturity) * strike
    value, slope, diffusion = unit * e_b, unit * (e_x + 0.5 * e_b), unit * e_s
    root = f.sqrt(maturity)
    return Greeks(
        price=value,
        delta=slope / spot,
        gamma=unit * (e_xx + 0.25 * e_b) / (spot * spot),
        vega=diffusion * root,
        theta=abs(rate) * value + abs(rate - dividend_yield) * slope + 0.5 * diffusion * volatility / root,
        rho=maturity * (slope + value),
    )


ERROR_ROWS: Final = ("b", "b_x", "b_xx", "b_s", "N_zzz", "N_zzs", "N_zs", "N_ss")
"""The rows of a model's error table. The first four: largest measured error of that quantity over s^3 phi, s^2 phi, s phi and
s^2 phi, phi = phi(z). The others: the largest absolute value of that derivative of N."""

ROUNDING: Final = 2e-15
"""Float64 rounding of a quantity of order one, with room; measured to suffice against a closed formula in float64."""

FAR: Final = (0.25, 0.05)
"""Largest (dz, ds) a jet is moved: about a cell of the error table, beyond which its numbers would not hold."""

USABLE: Final = Greeks(price=1e-5, delta=1e-4, gamma=1e-3, vega=1e-4, theta=1e-4, rho=1e-4)
"""An answer from a bin whose bounds exceed these is evaluated afresh. Multiples of the strike, of strike/S^2 for gamma; delta as
it is."""


def solve(option: Option) -> Greeks:
    """The reference solver: the closed formula of Black, Scholes and Merton and its derivatives.

    J. Hull, Options, Futures and Other Derivatives, chapters 15 and 19. One option or a batch.
    """
    f = functions_for(option)
    spot, strike, maturity, rate, dividend_yield, volatility, sign = option
    root = f.sqrt(maturity)
    d1 = (f.log(spot / strike) + (rate - dividend_yield + 0.5 * volatility * volatility) * maturity) / (
        volatility * root
    )
    d2 = d1 - volatility * root
    carry, discount = f.exp(-dividend_yield * maturity), f.exp(-rate * maturity)
    density = f.exp(-0.5 * d1 * d1) * 0.3989422804014327
    n1, n2 = 0.5 * f.erfc(-0.7071067811865476 * sign * d1), 0.5 * f.erfc(-0.7071067811865476 * sign * d2)
    asset, cash = spot * carry * n1, strike * discount * n2
    decay = spot * carry * density * volatility / (2 * root)
    return Greeks(
        price=sign * (asset - cash),
        delta=sign * carry * n1,
        gamma=carry * density / (spot * volatility * root),
        vega=spot * carry * density * root,
        theta=sign * (dividend_yield * asset - rate * cash) - decay,
        rho=sign * maturity * cash,
    )


def solver_bounds(option: Option) -> Greeks:
    """Rounding of the closed formula in float64, with room: 1e-12 of the largest term of each output, and what d1 is wrong by.

    d1 is divided by s = sigma sqrt(T), so its rounding error `off` grows as s falls. N(d1) is wrong by it times the normal
    density, the density by it times d1 and the density. In the price the two cancel: S exp(-qT) phi(d1) = K exp(-rT) phi(d2).
    """
    f = functions_for(option)
    spot, strike, maturity, rate, dividend_yield, volatility, _ = option
    root, eps = f.sqrt(maturity), 1e-12
    s, x = volatility * root, f.log(spot / strike)
    off = D1_ROUNDING * (1 + abs(x) + (abs(rate) + abs(dividend_yield) + volatility * volatility) * maturity) / s
    d1 = (x + (rate - dividend_yield + 0.5 * volatility * volatility) * maturity) / s
    first, second = (_density_within(d, off, f) * off for d in (d1, d1 - s))
    curved = eps + (abs(d1) + off) * first
    carry, cash = f.exp(-dividend_yield * maturity), strike * f.exp(-rate * maturity)
    asset = spot * carry
    return Greeks(
        price=eps * (asset + cash),
        delta=carry * (eps + first),
        gamma=carry * curved / (spot * s),
        vega=asset * root * curved,
        theta=asset * (abs(dividend_yield) * (eps + first) + volatility / root * curved)
        + abs(rate) * cash * (eps + second),
        rho=maturity * cash * (eps + second),
    )


def _density_within(d: Real, off: Real, f: Functions) -> Real:
    """The largest normal density no farther than `off` from d."""
    nearest = abs(d) - off
    nearest = 0.5 * (nearest + abs(nearest))  # 0 where it is negative
    return f.exp(-0.5 * nearest * nearest) * 0.3989422804014327


D1_ROUNDING: Final = 1e-15
"""Rounding of the numerator of d1, relative to the sum of its terms: four operations of 2.2e-16 each at most, with room."""


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
    curvature, is_put = g.gamma * spot * spot, 0.5 * (1 - sign)
    diffusion = 0.5 * volatility * volatility * curvature
    drift = (rate - dividend_yield) * spot * g.delta
    discount = rate * g.price
    terms = abs(g.theta) + abs(diffusion) + abs(drift) + abs(discount)
    carry = f.exp(-dividend_yield * maturity)
    asset = spot * carry
    forward = asset - strike * f.exp(-rate * maturity)
    call, call_delta = g.price + is_put * forward, g.delta + is_put * carry
    return {
        "pde_residual": abs(g.theta + diffusion + drift - discount) / (strike + terms),
        "price_bounds": _most(forward - call, -call, call - asset) / strike,
        "delta_bounds": _most(-call_delta, call_delta - carry),
        "gamma_sign": -curvature / strike,
        "vega_sign": -g.vega / strike,
    }


def _most(*values: Real) -> Real:
    return functools.reduce(np.maximum, values) if isinstance(values[0], np.ndarray) else max(values)


# ------------------------------------------------------------------------------------------- with one model


class Formulation:
    """The problem with one model's ranges and error table: what the predictor asks, for one option or for a batch."""

    name: Final = NAME
    shape: Final = (2, 4)
    outputs: Final = OUTPUTS
    invariants: Final = INVARIANTS
    bins: Final = BINS
    moves: Final = MOVES
    solver_ranges: Final = SOLVABLE
    solver_is_slow: Final = False

    def __init__(self, inputs: Sequence[Input], table: ErrorTable | None) -> None:
        """Raises ValueError, with a sentence, where ranges or table are not those of this problem."""
        self.inputs = questions.in_order(inputs, INPUTS)
        if table is not None:
            table.expect(len(ERROR_ROWS), self.shape[0])
        self.Question = _question(self.inputs)
        self._fields = attrgetter(*(field.name for field in self.inputs))
        self._table = table
        by_name = {field.name: field for field in self.inputs}
        self._ratio = (by_name["spot"].low, by_name["spot"].high)
        self._ranges = tuple((f.low, f.high) for f in self.inputs[1:])
        self._columns = np.array(self._ranges).T[:, :, None]

    def point(self, question: Any) -> Option:
        """The option of a question that `Question` decoded. Raises InvalidInput or OutOfDomain as `parse` does."""
        values = self._fields(question)
        if not self._inside(*values):
            parse({**dict(zip(Option._fields, values, strict=False)), "kind": question.kind}, self.inputs)
        return Option._make((*values, KINDS[question.kind]))

    def _inside(
        self, spot: float, strike: float, maturity: float, rate: float, dividend_yield: float, volatility: float
    ) -> bool:
        low, high = self._ratio
        (a0, a1), (b0, b1), (c0, c1), (d0, d1), (e0, e1) = self._ranges
        return (
            low * strike <= spot <= high * strike
            and a0 <= strike <= a1
            and b0 <= maturity <= b1
            and c0 <= rate <= c1
            and d0 <= dividend_yield <= d1
            and e0 <= volatility <= e1
        )

    def any_point(self, question: Any) -> Option:
        """The option of a question, be it within the trained domain or not."""
        return Option._make((*self._fields(question), KINDS[question.kind]))

    def parse(self, item: object) -> Option:
        """The same of a JSON value that `Question` refused: finds the sentence."""
        return parse(item, self.inputs)

    def stack(self, points: Sequence[Option]) -> Option:
        """A batch of points."""
        return stack(points)

    def sample(self, count: int, rng: np.random.Generator) -> list[Option]:
        """So many options at random within the trained ranges; the strike is 100, or what of the range is nearest."""
        rows = rng.random((count, len(self._ranges) + 2)).tolist()
        (low, high), (least, most) = self._ratio, self._ranges[0]
        strike = min(max(100.0, least), most)
        return [
            Option._make(
                (
                    strike * (low + u * (high - low)),
                    strike,
                    *(a + v * (b - a) for v, (a, b) in zip(others, self._ranges[1:], strict=True)),
                    1.0 if kind < 0.5 else -1.0,
                )
            )
            for u, kind, _, *others in rows
        ]

    def solvable(self, point: Option) -> None:
        """Raises InvalidInput where the reference solver cannot answer either."""
        questions.solvable(SOLVABLE, point)

    def at(self, values: Sequence[Real], like: Option) -> Option:
        """The point with these inputs, each held within the trained ranges, and the kind of `like`."""
        spot, *others = values
        if isinstance(spot, np.ndarray):
            strike, *rest = np.clip(np.asarray(others), *self._columns)
            held = np.clip(spot, self._ratio[0] * strike, self._ratio[1] * strike)
            return Option._make((held, strike, *rest, like.sign))
        if self._inside(*values):
            return Option._make((*values, like.sign))
        strike, *rest = [min(max(v, a), b) for v, (a, b) in zip(others, self._ranges, strict=True)]
        held = min(max(spot, self._ratio[0] * strike), self._ratio[1] * strike)
        return Option._make((held, strike, *rest, like.sign))

    def coordinates(self, point: Option) -> tuple[Real, Real]:
        """Where the network is evaluated for a point."""
        return network_point(reduce(point))

    def answer(self, point: Option, jet: Sequence[Real] | Array) -> Greeks:
        """Price and Greeks from the jet at the point itself."""
        return greeks(point, reduce(point), jet)

    def near(self, point: Option, at: tuple[Real, ...], jet: Sequence[Real] | Array) -> tuple[Greeks, Greeks | None]:
        """Price and Greeks from a jet taken at the coordinates `at`, near the point's, and their error bounds.

        The bounds are None where the model came without an error table, infinite where `at` is too far to say.
        """
        f = functions_for(point)
        reduced = reduce(point, f)
        z, s = network_point(reduced)
        dz, ds = z - at[0], s - at[1]
        answer = greeks(point, reduced, moved(jet, dz, ds), f)
        if self._table is None:
            return answer, None
        if isinstance(dz, np.ndarray):
            table = self._table.at_all(*at)
            far = (np.abs(dz) > FAR[0]) | (np.abs(ds) > FAR[1])
            found = bounds(point, reduced, table, dz, ds, f)
            return answer, Greeks(*(np.where(far, np.inf, value) for value in found)) if far.any() else found
        if abs(dz) > FAR[0] or abs(ds) > FAR[1]:
            return answer, Greeks(*[math.inf] * 6)
        return answer, bounds(point, reduced, self._table.at(*at), dz, ds, f)

    def usable(self, point: Option, bound: Greeks) -> Any:
        """Whether an answer with these bounds may be served from a bin: a bool, or an array of them."""
        strike, spot = point.strike, point.spot
        price, delta, gamma, vega, theta, rho = bound
        limit = USABLE
        return (
            (price <= limit.price * strike)
            & (delta <= limit.delta)
            & (gamma * spot * spot <= limit.gamma * strike)
            & (vega <= limit.vega * strike)
            & (theta <= limit.theta * strike)
            & (rho <= limit.rho * strike)
        )

    def finite(self, answer: Greeks) -> bool:
        """Whether every number of an answer is one."""
        return finite(answer)

    def excesses(self, point: Option, answer: Greeks) -> dict[str, Real]:
        """How far an answer is from each invariant, dimensionless."""
        return excesses(point, answer)

    def solve(self, point: Option) -> tuple[Greeks, Greeks]:
        """The reference solver's answer and its bounds."""
        return solve(point), solver_bounds(point)


def _question(inputs: Sequence[Input]) -> type[msgspec.Struct]:
    """What a request's object decodes into: the inputs, the kind, and the wishes."""
    required = [(field.name, float) for field in inputs if field.default is None]
    optional = [(field.name, float, field.default) for field in inputs if field.default is not None]
    wishes = [
        ("kind", Literal["call", "put"], "call"),
        ("outputs", list[Literal["price", "delta", "gamma", "vega", "theta", "rho"]] | None, None),
        ("exact", bool, False),
    ]
    return msgspec.defstruct("Option", [*required, *optional, *wishes], forbid_unknown_fields=True, gc=False)


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
