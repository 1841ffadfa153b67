"""The American put without dividends: a price that no formula gives, and when to exercise, which is unknown too.

In units of the strike, with s = sigma sqrt(T), rho = r sqrt(T)/sigma, kappa = rT = s rho, z = ln(S/K)/s and d = z + rho - s/2,
the put is worth the European one and a premium e = kappa exp(-kappa) H(d, s, rho). Where it is not exercised, Black-Scholes is

    H_dd + d H_d - 2 H - (s H_s + rho H_rho) = 0,   d > d_b = z_b + rho - s/2

and at the boundary z_b(s, rho) value and slope of the put are those of 1 - S, so H and H_d are known there. Written as

    H = U(d)/U(d_b) (a + t h1(y) + h2(y) N),   y = d - d_b,   U(d) = Φ(-d),   h1 = y/(1+y)^2,   h2 = y^2/(1+y)^2

with a and t from that knowledge, both hold whatever the networks say. N is trained on the equation alone, and the boundary
z_b = -zeta(rho) exp(M) before it on smooth pasting as an integral equation (american_put_solver.py): no price in either loss.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pinn_inference.problems import Input, Width, american_put_solver, black_scholes, special
from pinn_inference.problems.black_scholes import Greeks, Option
from pinn_inference.problems.error_table import ErrorTable
from pinn_inference.problems.ranged import Ranged

NAME: Final = "american-put"

Real = Any  # a float, or an array of them: the formulas below are written once for both
Array = NDArray[np.float64]

INPUTS: Final = (
    Input("spot", "currency, as a multiple of the strike", 0.5, 2.0, per="strike"),
    Input("strike", "currency", 1e-6, 1e9),
    Input("maturity", "years", 0.02, 2.0),
    Input("rate", "per year, continuously compounded", 0.0, 0.1),
    Input("volatility", "per square root of a year", 0.05, 0.6),
)
SOLVABLE: Final = (
    Input("spot", "currency", 1e-9, 1e12),
    Input("strike", "currency", 1e-9, 1e12),
    Input("maturity", "years", 1e-4, 30.0),
    Input("rate", "per year, continuously compounded", -0.5, 0.5),
    Input("volatility", "per square root of a year", 0.05, 3.0),
)
"""Where the reference solver was tried against itself with twice the nodes. With no rate, or less, early exercise never pays."""

INVARIANTS: Final = ("complementarity", "price_bounds", "delta_bounds", "gamma_sign", "vega_sign", "rho_sign")

FAR: Final = 6.5
"""Beyond this d, U is below 5e-11: the premium is nothing."""

RHO_LEAST: Final = 1e-7
"""Below it there is as good as no rate, and the put is European: early exercise is worth less than 2e-8 of the strike."""

NEAREST: Final = -0.6
"""Least u (see `entering`) at which the networks are asked: the boundary is above, and below it the pay-off is the answer."""

ROOT_HALF: Final = math.sqrt(0.5)
DENSITY: Final = 1 / math.sqrt(2 * math.pi)


class Put(NamedTuple):
    """One put, or a batch of n when each field is an array of shape (n,)."""

    spot: Real
    strike: Real
    maturity: Real
    rate: Real
    volatility: Real


# ------------------------------------------------------------------------------------------- change of variables


class _Arrays:
    exp, log, sqrt, log1p, expm1, where = np.exp, np.log, np.sqrt, np.log1p, np.expm1, np.where
    least, most, erfc = np.minimum, np.maximum, staticmethod(special.erfc)


class _Numbers:
    exp, log, sqrt, log1p, expm1, erfc = math.exp, math.log, math.sqrt, math.log1p, math.expm1, math.erfc
    least, most = min, max

    @staticmethod
    def where(condition: bool, this: float, that: float) -> float:
        return this if condition else that


def functions(value: Real) -> Any:
    """`math` for one number, NumPy for many."""
    return _Arrays if isinstance(value, np.ndarray) else _Numbers


class Reduced(NamedTuple):
    """A put in the variables of the equation, dimensionless: z = ln(S/K)/s, zeta as below, and chi, the networks' rho."""

    s: Real
    rho: Real
    zeta: Real
    chi: Real
    z: Real
    d: Real


def reduce(put: Put) -> Reduced:
    """The change of variables; rho is held above RHO_LEAST, so that it can be divided by."""
    f = functions(put[0])
    root = f.sqrt(put.maturity)
    s = put.volatility * root
    rho = f.most(put.rate * root / put.volatility, RHO_LEAST)
    z = f.log(put.spot / put.strike) / s
    high = zeta(rho)
    return Reduced(s, rho, high, chi(rho, high), z, z + rho - 0.5 * s)


def zeta(rho: Real) -> Real:
    """About how many standard deviations the boundary is below the strike, exact as rho falls: see american_put_solver.zeta."""
    f = functions(rho)
    return f.sqrt(f.log1p(1 / (8 * math.pi * rho * rho)))


def zeta_slope(rho: Real, at: Real) -> Real:
    """d zeta/d rho, where zeta is `at`."""
    return -1 / (at * rho * (1 + 8 * math.pi * rho * rho))


def chi(rho: Real, at: Real) -> Real:
    """What stands for rho in the networks, where zeta is `at`: like zeta as rho falls, like a logarithm as it rises; positive."""
    return at - functions(rho).log1p(rho) + 2


def chi_slope(rho: Real, zeta_rho: Real) -> Real:
    """d chi/d rho, where that of zeta is `zeta_rho`."""
    return zeta_rho - 1 / (1 + rho)


def entering(distance: Real, rho: Real) -> tuple[Real, Real, Real, Real]:
    """The networks' first coordinate v = 1 + 2u/(2 + u), of u = (1 + rho)(z + zeta), bounded and positive.

    And its derivatives by `distance` z + zeta, twice, and by rho. The premium falls within a distance of 1/rho of the boundary.
    """
    f, steep = functions(distance), 1 + rho
    u = f.most(distance * steep, NEAREST)
    q = 1 / (2 + u)
    slope = 4 * q * q
    return 1 + 2 * u * q, slope * steep, -2 * slope * q * steep * steep, slope * distance


# --------------------------------------------------------------------------------------------- at the boundary


class Edge(NamedTuple):
    """What is known at the exercise boundary z_b, and what its derivatives need."""

    level: Real
    """H."""
    tilt: Real
    """H_d + mills H: the first derivative of what multiplies U(d)/U(d_b)."""
    d: Real
    mills: Real
    """φ(d_b)/U(d_b)."""
    upper: Real
    """U(d_b)."""
    s: Real
    rho: Real
    z: Real
    asset: Real
    n1: Real
    phi1: Real


def edge(s: Real, rho: Real, z: Real) -> Edge:
    """Value matching and smooth pasting at z = z_b(s, rho): P = 1 - exp(s z), P_x = -exp(s z)."""
    f = functions(s)
    kappa, asset = s * rho, f.exp(s * z)
    d1, d = z + rho + 0.5 * s, z + rho - 0.5 * s
    n1, upper = 0.5 * f.erfc(-ROOT_HALF * d1), 0.5 * f.erfc(ROOT_HALF * d)
    cash = f.exp(-kappa)
    excess = -f.expm1(-kappa) - asset * n1 + cash * 0.5 * f.erfc(-ROOT_HALF * d)  # 1 - S less the European put
    mills = f.exp(-0.5 * d * d) * DENSITY / upper
    level, slope = excess / (kappa * cash), -asset * n1 / (rho * cash)
    return Edge(level, slope + mills * level, d, mills, upper, s, rho, z, asset, n1, f.exp(-0.5 * d1 * d1) * DENSITY)


def edge_slope(at: Edge, ds: Real, drho: Real, dz: Real) -> tuple[Real, Real, Real]:
    """The derivatives of level, tilt and d_b as s, rho and z_b move in a direction."""
    s, rho = at.s, at.rho
    kappa, dkappa = s * rho, s * drho + rho * ds
    growth = functions(s).exp(kappa)
    d_asset = s * dz + at.z * ds  # relative
    d_d, d_d1 = dz + drho - 0.5 * ds, dz + drho + 0.5 * ds
    d_excess = at.upper * dkappa - growth * at.asset * (at.n1 * d_asset + at.phi1 * ds)
    d_level = d_excess / kappa + at.level * (dkappa - dkappa / kappa)
    slope = at.tilt - at.mills * at.level
    d_slope = slope * (dkappa - drho / rho) - growth * at.asset * (at.n1 * d_asset + at.phi1 * d_d1) / rho
    d_mills = at.mills * (at.mills - at.d) * d_d
    return d_level, d_slope + d_mills * at.level + at.mills * d_level, d_d


def ramps(y: Real) -> tuple[tuple[Real, Real, Real], tuple[Real, Real, Real]]:
    """h1 and h2 with two derivatives each, y >= 0."""
    q = 1 / (1 + y)
    return (
        (y * q * q, (1 - y) * q**3, (2 * y - 4) * q**4),
        (y * y * q * q, 2 * y * q**3, (2 - 4 * y) * q**4),
    )


# ----------------------------------------------------------------------------------------------------- answers


def greeks(put: Put, jet: Sequence[Real] | Array) -> Greeks:
    """Price and Greeks from the jet (N, N_v, N_vv, N_s, N_chi, M, M_s, M_chi) by the chain rule, never from the equation.

    theta is dV/dt = -dV/dT per year. Gamma jumps at the exercise boundary and is given on the side the put is found on.
    """
    f, reduced = functions(put[0]), reduce(put)
    european = black_scholes.solve(_european(put))
    boundary = -reduced.zeta * f.exp(jet[5])
    premium = _premium(f, put, reduced, jet, boundary)
    early = reduced.rho > RHO_LEAST
    live = early & (reduced.d < FAR)
    exercised = early & (reduced.z <= boundary)
    payoff = (put.strike - put.spot, -1.0, 0.0, 0.0, 0.0, 0.0)
    return Greeks(
        *(
            f.where(exercised, out, there + f.where(live, extra, 0.0))
            for out, there, extra in zip(payoff, european, premium, strict=True)
        )
    )


def _european(put: Put) -> Option:
    zero = 0.0 * put.spot
    return Option(put.spot, put.strike, put.maturity, put.rate, zero, put.volatility, zero - 1.0)


class _Shape(NamedTuple):
    """H = ratio q, with q's derivatives by d, and what its derivatives by s and rho need."""

    ratio: Real
    q: Real
    q_d: Real
    q_dd: Real
    d: Real
    mills: Real
    """φ(d)/U(d)."""
    n_d: Real
    ramp: Real
    """h1, which the derivative of tilt goes with."""
    share: Real
    """h2, which the network's goes with."""
    steep: Real
    """The derivative of q by y, the network held."""


def _shape(f: Any, reduced: Reduced, known: Edge, n: Real, n_v: Real, n_vv: Real) -> _Shape:
    d = f.most(f.least(reduced.d, FAR), known.d)
    _, v_d, v_dd, _ = entering(d - reduced.rho + 0.5 * reduced.s + reduced.zeta, reduced.rho)
    n_d, n_dd = n_v * v_d, n_vv * v_d * v_d + n_v * v_dd
    h1, h2 = ramps(d - known.d)
    steep = known.tilt * h1[1] + h2[1] * n
    upper = 0.5 * f.erfc(ROOT_HALF * d)
    return _Shape(
        ratio=upper / known.upper,
        q=known.level + known.tilt * h1[0] + h2[0] * n,
        q_d=steep + h2[0] * n_d,
        q_dd=known.tilt * h1[2] + h2[2] * n + 2 * h2[1] * n_d + h2[0] * n_dd,
        d=d,
        mills=f.exp(-0.5 * d * d) * DENSITY / upper,
        n_d=n_d,
        ramp=h1[0],
        share=h2[0],
        steep=steep,
    )


class _Move(NamedTuple):
    """What changes, and how fast, as s or rho grows and ln(S/K) does not."""

    s: Real
    rho: Real
    z: Real
    distance: Real
    """z + zeta."""
    n: Real
    """N, where the distance is held."""
    boundary: Real


def _moves(reduced: Reduced, boundary: Real, jet: Sequence[Real] | Array) -> tuple[_Move, _Move]:
    s, rho, high, _, z, _ = reduced
    _, n_v, _, n_s, n_chi, _, m_s, m_chi = jet
    zeta_rho = zeta_slope(rho, high)
    chi_rho = chi_slope(rho, zeta_rho)
    v_rho = entering(z + high, rho)[3]
    return (
        _Move(1.0, 0.0, -z / s, -z / s, n_s, boundary * m_s),
        _Move(0.0, 1.0, 0.0, zeta_rho, n_chi * chi_rho + n_v * v_rho, boundary * (m_chi * chi_rho + zeta_rho / high)),
    )


def _slope(at: _Shape, known: Edge, move: _Move) -> Real:
    """The derivative of H."""
    d_level, d_tilt, d_edge = edge_slope(known, move.s, move.rho, move.boundary)
    d_d = move.z + move.rho - 0.5 * move.s
    d_n = at.n_d * move.distance + move.n
    d_q = d_level + d_tilt * at.ramp + at.steep * (d_d - d_edge) + at.share * d_n
    return at.ratio * (d_q + at.q * (known.mills * d_edge - at.mills * d_d))


def _premium(f: Any, put: Put, reduced: Reduced, jet: Sequence[Real] | Array, boundary: Real) -> Greeks:
    """What early exercise adds to price and Greeks; of use where the put is not exercised and d is below FAR."""
    s, rho, *_ = reduced
    known = edge(s, rho, boundary)
    at = _shape(f, reduced, known, *jet[:3])
    h_s, h_rho = (_slope(at, known, move) for move in _moves(reduced, boundary, jet))
    h = at.ratio * at.q
    h_d = at.ratio * (at.q_d - at.mills * at.q)
    h_dd = at.ratio * (at.q_dd - 2 * at.mills * at.q_d + at.d * at.mills * at.q)

    root, kappa = f.sqrt(put.maturity), put.rate * put.maturity
    unit = put.strike * f.exp(-kappa)
    by_x, by_xx = kappa * h_d / s, kappa * h_dd / (s * s)
    by_s, by_rho = (1 - kappa) * h * rho + kappa * h_s, (1 - kappa) * h * s + kappa * h_rho
    return Greeks(
        price=unit * kappa * h,
        delta=unit * by_x / put.spot,
        gamma=unit * (by_xx - by_x) / (put.spot * put.spot),
        vega=unit * (by_s * root - by_rho * rho / put.volatility),
        theta=-unit * (by_s * s + by_rho * rho) / (2 * put.maturity),
        rho=unit * by_rho * root / put.volatility,
    )


# ------------------------------------------------------------------------------------------------------- physics


def excesses(put: Put, g: Greeks) -> dict[str, Real]:
    """How far an answer is from each invariant, dimensionless; a violation is an excess above the manifest's tolerance.

    complementarity: min(V - payoff, r V - theta - sigma^2 S^2 gamma/2 - r S delta), which is 0 whether one exercises or holds,
    relative to the strike plus the terms compared. price_bounds: payoff <= V <= K. delta_bounds: -1 <= delta <= 0. The others are
    signs: the price is convex in S, rises with volatility and falls with the rate.
    """
    f = functions(put[0])
    spot, strike, _, rate, volatility = put
    diffusion = 0.5 * (volatility * spot) ** 2 * g.gamma
    drift, discount = rate * spot * g.delta, rate * g.price
    terms = abs(g.theta) + abs(diffusion) + abs(drift) + abs(discount)
    over = g.price - f.most(strike - spot, 0.0)
    return {
        "complementarity": abs(f.least(over, discount - g.theta - diffusion - drift)) / (strike + terms),
        "price_bounds": f.most(-over, g.price - strike) / strike,
        "delta_bounds": f.most(-1.0 - g.delta, g.delta),
        "gamma_sign": -g.gamma * spot * spot / strike,
        "vega_sign": -g.vega / strike,
        "rho_sign": g.rho / strike,
    }


# --------------------------------------------------------------------------------------------- reference solver

STEP: Final = 1e-4
"""Relative step of the differences that give the solver's vega, theta and rho."""

PORTION: Final = 16
"""Puts solved together: what that takes should stay in a cache."""

ENDLESS: Final = 1e-9
"""rho below which early exercise is worth less than 1e-17 of the strike: without a rate, or with a negative one, nothing."""


def solve(puts: Put) -> Greeks:
    """Price and Greeks by the solver, for a batch of n: no network in it. Gamma is what the equation leaves for it.

    Raises ArithmeticError where the boundary is not found, which within SOLVABLE does not happen.
    """
    size = len(puts[0])
    parts = [_solved(Put(*(field[i : i + PORTION] for field in puts))) for i in range(0, size, PORTION)]
    return Greeks(*np.concatenate(parts, axis=1))


def _solved(puts: Put) -> Array:
    european = np.stack(black_scholes.solve(_european(puts)))
    root = np.sqrt(puts.maturity)
    s, rho = puts.volatility * root, puts.rate * root / puts.volatility
    early = rho > ENDLESS
    found = european.copy()
    if early.any():
        chosen = Put(*(field[early] for field in puts))
        found[:, early] = _exercised_early(chosen, european[:, early], s[early], rho[early])
    return found


def _exercised_early(puts: Put, european: Array, s: Array, rho: Array) -> Array:
    x = np.log(puts.spot / puts.strike)
    solver = _solver()
    nearby = [(s, rho), (s * (1 + STEP), rho), (s * (1 - STEP), rho), (s, rho * (1 + STEP)), (s, rho * (1 - STEP))]
    all_s, all_rho = (np.concatenate(column) for column in zip(*nearby, strict=True))
    g = solver.solve(all_s, all_rho)
    value, slope = solver.premium(np.tile(x, 5) / all_s, g, all_s, all_rho)
    e = (all_s * all_rho * value).reshape(5, -1)
    by_s, by_rho = (e[1] - e[2]) / (2 * STEP * s), (e[3] - e[4]) / (2 * STEP * rho)
    root, strike, spot = np.sqrt(puts.maturity), puts.strike, puts.spot
    price, delta, _, vega, theta, by_rate = european
    price, delta = price + strike * e[0], delta + strike * rho * slope[: len(s)] / spot
    vega = vega + strike * (by_s * root - by_rho * rho / puts.volatility)
    theta = theta - strike * (by_s * s + by_rho * rho) / (2 * puts.maturity)
    by_rate = by_rate + strike * by_rho * root / puts.volatility
    gamma = 2 * (puts.rate * (price - spot * delta) - theta) / (puts.volatility * spot) ** 2
    exercised = x <= s * solver.at(g[: len(s)], rho)
    none = np.zeros_like(s)
    return np.where(
        exercised, [strike - spot, none - 1, none, none, none, none], [price, delta, gamma, vega, theta, by_rate]
    )


def solver_bounds(put: Put) -> Greeks:
    """How far the solver was found from itself with twice the nodes, with room; in the units of its answer."""
    f, root = functions(put[0]), functions(put[0]).sqrt(put.maturity)
    usual = (put.volatility * root <= ORDINARY[0]) & (put.rate * root <= ORDINARY[1] * put.volatility)
    found = (f.where(usual, near, far) for near, far in zip(*SOLVER_ERRORS, strict=True))
    return Greeks(*(size * unit for size, unit in zip(found, unit_of(put), strict=True)))


ORDINARY: Final = (0.9, 3.0)
SOLVER_ERRORS: Final = (
    Greeks(price=3e-8, delta=2e-6, gamma=5e-5, vega=4e-6, theta=1e-7, rho=1e-6),
    Greeks(price=2e-6, delta=2e-5, gamma=1e-2, vega=4e-6, theta=4e-6, rho=5e-6),
)
"""With s and rho up to those of ORDINARY, and beyond; dimensionless, see `unit_of`."""


def unit_of(put: Put) -> Greeks:
    """What each output is divided by to become a function of d, s and rho alone."""
    root = functions(put[0]).sqrt(put.maturity)
    spot, strike = put.spot, put.strike
    return Greeks(
        price=strike,
        delta=strike / spot,
        gamma=strike / (spot * spot),
        vega=strike * root,
        theta=strike / put.maturity,
        rho=strike * root / put.volatility,
    )


def unit_of_error(put: Put) -> Greeks:
    """Through what an error of H and of its derivatives reaches each output: kappa, by s once or twice, and `unit_of`."""
    s, rho, *_ = reduce(put)
    factors = (s * rho, rho, rho / s, rho, s * rho, s)
    return Greeks(*(factor * unit for factor, unit in zip(factors, unit_of(put), strict=True)))


@lru_cache(1)
def _solver() -> american_put_solver.Boundary:
    return american_put_solver.Boundary()


def exercise_boundary(puts: Put) -> Array:
    """The spot at and below which it pays to exercise, (n,), by the solver; rates above 0."""
    root = np.sqrt(puts.maturity)
    s, rho = puts.volatility * root, puts.rate * root / puts.volatility
    found: Array = puts.strike * np.exp(s * _solver().at(_solver().solve(s, rho), rho))
    return found


# --------------------------------------------------------------------------------------------- with one model


SAME: Final = 1e-9
"""Coordinates no farther apart are of the same put, computed one by one or with others."""


class _Rows:
    """What `Ranged` asks of a jet, for two networks in one; and what a table of errors has beside the outputs' rows."""

    shape: Final = (3, 8)
    beyond: Final = ("boundary",)


class Formulation(Ranged):
    """The problem with one model's ranges and error table: what the predictor asks, for one put or for a batch.

    An error table has, for each cell of (v, s, chi), the largest measured error of each output in the units of `unit_of_error`,
    and that of z_b. A jet is good for its own put only: vega, theta and rho are slopes by s and chi, and nothing in the jet says
    how they change along them. So no answer comes from a bin, and a cache is of no use.
    """

    name = NAME
    domain = INPUTS
    units = black_scholes.OUTPUT_UNITS
    invariants = INVARIANTS
    jets = _Rows()  # type: ignore[assignment]  # two networks in one jet
    widths: ClassVar[Mapping[str, Width]] = {
        name: width for name, width in black_scholes.BINS.items() if name != "dividend_yield"
    }
    moves = black_scholes.MOVES
    solver_ranges = SOLVABLE
    solver_is_slow = True

    def coordinates(self, point: Put) -> tuple[Real, ...]:
        """Where the networks are asked for a put: (v, s, chi)."""
        f, (s, rho, high, like_rho, z, _) = functions(point[0]), reduce(point)
        farthest = FAR - rho + 0.5 * s
        return entering(f.least(z, farthest) + high, rho)[0], s, like_rho

    def answer(self, point: Put, jet: Sequence[Real] | Array) -> Greeks:
        """Price and Greeks from the jet at the put itself."""
        return greeks(point, jet)

    def excesses(self, point: Put, answer: Greeks) -> dict[str, Real]:
        """How far an answer is from each invariant, dimensionless."""
        return excesses(point, Greeks(*answer))

    def solve(self, point: Put) -> tuple[Greeks, Greeks]:
        """The reference solver's answer and its bounds."""
        if isinstance(point[0], np.ndarray):
            return solve(point), solver_bounds(point)
        alone = solve(Put(*(np.array([value]) for value in point)))
        return Greeks(*(float(value[0]) for value in alone)), solver_bounds(point)

    def near(self, point: Put, at: tuple[Real, ...], jet: Any) -> tuple[Greeks, Greeks | None]:
        """Price and Greeks, and how far each can be from the truth: infinitely where the jet is not that of the put itself."""
        answer = greeks(point, jet)
        if self._table is None:
            return answer, None
        f = functions(point[0])
        apart = sum(abs(here - there) for here, there in zip(self.coordinates(point), at, strict=True))
        bounds = (f.where(apart > SAME, math.inf, value) for value in self._error_bounds(self._table, point, at, jet))
        return answer, Greeks(*bounds)

    @property
    def from_bins(self) -> bool:
        """None: see above."""
        return False

    def usable(self, point: Put, bound: Any) -> Any:
        """Whether an answer with these bounds may be served from a bin: none that was moved has one that is finite."""
        return np.isfinite(bound[0]) if isinstance(bound[0], np.ndarray) else math.isfinite(bound[0])

    def _error_bounds(self, table: ErrorTable, point: Put, at: tuple[Real, ...], jet: Any) -> list[Real]:
        f = functions(point[0])
        *errors, boundary = table.at_all(*at) if isinstance(at[0], np.ndarray) else table.at(*at)
        reduced = reduce(point)
        at_boundary = abs(reduced.z + reduced.zeta * f.exp(jet[5])) <= boundary
        errors[2] = errors[2] + f.where(at_boundary, 2.0, 0.0)  # gamma jumps by as much
        parts = zip(errors, unit_of_error(point), black_scholes.solver_bounds(_european(point)), strict=True)
        return [error * unit + rounding for error, unit, rounding in parts]
