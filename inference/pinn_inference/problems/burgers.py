"""The viscous Burgers equation, u_t + u u_x = nu u_xx on -1 <= x <= 1, with u = -sin(pi x) at t = 0 and 0 at both ends.

A wave that steepens into a front of width 2 nu at x = 0 and then wears off: the smallest equation with a shock. So that a small
network can see both the front and what is around it, it is asked at y = arsinh(x/d)/arsinh(1/d), d = 2.5 nu, in which both are
about as wide. What is known is built in,

    u = -sin(pi x) + t/(t + 0.3) y (1 - x^2) N(y, t, ln nu)

with N even in y: start, ends and odd symmetry hold whatever the network says, and N is trained on the equation alone.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pinn_inference.problems import Input, Width
from pinn_inference.problems.jets import Jets
from pinn_inference.problems.ranged import Ranged, functions

Real = Any  # a float, or an array of them: the formulas below are written once for both
Array = NDArray[np.float64]

NAME: Final = "burgers"

FRONT: Final = 2.5
"""The length at which x begins to be stretched, in viscosities."""

RISE: Final = 0.3
"""Time in which the network's part rises; the wave breaks at 1/pi."""

LEAST: Final = 0.003
"""The smallest viscosity there is a model for: the third coordinate is ln(nu/LEAST)."""


class Wave(NamedTuple):
    """u and its derivatives, in the units of Burgers.units, each a float or an array of shape (n,)."""

    u: Real
    u_x: Real
    u_xx: Real
    u_t: Real


class Form(NamedTuple):
    """The ansatz at a point: u = start + rise shape N. What ends in _x or _xx is a derivative by x, `y` the stretched x."""

    start: Real
    start_x: Real
    start_xx: Real
    shape: Real
    shape_x: Real
    shape_xx: Real
    rise: Real
    rise_t: Real
    y: Real
    y_x: Real
    y_xx: Real


def form(x: Real, t: Real, nu: Real) -> Form:
    """The ansatz of the module's first lines, exactly differentiated."""
    f = functions(x)
    d = FRONT * nu
    whole, root = f.asinh(1 / d), f.sqrt(x * x + d * d)
    y, y_x, y_xx = f.asinh(x / d) / whole, 1 / (whole * root), -x / (whole * root**3)
    q, sine, cosine = 1 - x * x, f.sin(math.pi * x), f.cos(math.pi * x)
    return Form(
        start=-sine,
        start_x=-math.pi * cosine,
        start_xx=math.pi**2 * sine,
        shape=y * q,
        shape_x=y_x * q - 2 * x * y,
        shape_xx=y_xx * q - 4 * x * y_x - 2 * y,
        rise=t / (t + RISE),
        rise_t=RISE / (t + RISE) ** 2,
        y=y,
        y_x=y_x,
        y_xx=y_xx,
    )


def wave(at: Form, jet: Any) -> Wave:
    """u and its derivatives from the network's jet (N, N_y, N_yy, N_t, ...), by the chain rule and never from the equation."""
    n, n_y, n_yy, n_t = jet[0], jet[1], jet[2], jet[3]
    n_x, n_xx = n_y * at.y_x, n_yy * at.y_x**2 + n_y * at.y_xx
    return Wave(
        u=at.start + at.rise * at.shape * n,
        u_x=at.start_x + at.rise * (at.shape_x * n + at.shape * n_x),
        u_xx=at.start_xx + at.rise * (at.shape_xx * n + 2 * at.shape_x * n_x + at.shape * n_xx),
        u_t=at.shape * (at.rise_t * n + at.rise * n_t),
    )


def unstretched(y: Array, nu: Array) -> Array:
    """x of the stretched y: where training and measuring look for the front."""
    x: Array = FRONT * nu * np.sinh(y * np.arcsinh(1 / (FRONT * nu)))
    return x


# ------------------------------------------------------------------------------------------------- the solver

NODE: Final = 0.25
"""Distance of the nodes, in widths of the narrowest peak there can be: the trapezoidal rule is then exact to rounding."""

WAVES: Final = 16
"""Harmonics of cos(pi v) that the nodes must tell apart where the weight spans many of its periods."""

BESIDE: Final = 6.8
"""How far beyond the farthest peak the sums go: the weights there are below 1e-20."""

PORTION: Final = 2_000_000
"""Weights held at a time."""


def solve(x: Array, t: Array, nu: Array) -> Wave:
    """The exact solution at n points, arrays of shape (n,), by the transformation of Hopf (1950) and Cole (1951).

    u is the mean of -sin(pi v) over v with the weight exp(-(x - v)^2/(4 nu t) - cos(pi v)/(2 pi nu)), and its derivatives by x
    are cumulants of that mean; u_t follows from the equation. The integrals, over s = (x - v)/sqrt(4 nu t), are sums over
    equidistant nodes, which for such integrands converge exponentially.
    """
    nodes = _nodes(float(np.max(t)), float(np.max(t / nu)), float(np.max(t * nu)))
    size = max(1, PORTION // len(nodes))
    parts = [_means(x[i : i + size], t[i : i + size], nu[i : i + size], nodes) for i in range(0, len(x), size)]
    return Wave(*np.concatenate(parts, axis=1))


def _nodes(latest: float, sharpest: float, widest: float) -> Array:
    """s of every node, from the largest t, t/nu and t nu: a peak is within sqrt(t/nu)/2, as wide as 1/sqrt(1 + pi t) or wider."""
    far = 0.5 * math.sqrt(sharpest) + BESIDE
    step = min(NODE / math.sqrt(1 + math.pi * latest), 1 / (2 + WAVES * math.sqrt(widest)))
    count = math.ceil(far / step)
    nodes: Array = step * np.arange(-count, count + 1, dtype=np.float64)
    return nodes


def _means(x: Array, t: Array, nu: Array, s: Array) -> Array:
    x, t, nu = x[:, None], t[:, None], nu[:, None]
    phase = math.pi * (x - 2 * s * np.sqrt(nu * t))
    sine, cosine = np.sin(phase), np.cos(phase)
    exponent = -s * s - cosine / (2 * math.pi * nu)
    weight = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)

    def mean(values: Array) -> Array:
        found: Array = (weight * values).sum(axis=1)
        return found

    k, nu, u, slope = 1 / (2 * nu[:, 0]), nu[:, 0], -mean(sine), -math.pi * mean(cosine)
    off = -sine - u[:, None]
    u_x = slope - k * mean(off**2)
    u_xx = math.pi**2 * -u - 3 * k * mean(off * (-math.pi * cosine)) + k * k * mean(off**3)
    return np.stack([u, u_x, u_xx, nu * u_xx - u * u_x])


def solver_bounds(t: Real, nu: Real, found: Wave) -> Wave:
    """Rounding of the sums in float64, with room: of the exponents, which are as large as 1/(2 pi nu) and t/(4 nu)."""
    k = 0.5 / nu
    off = 5e-16 * (10 + k + 0.5 * k * t)
    slope, curve = off * (math.pi + k), off * (math.pi**2 + 3 * math.pi * k + k * k)
    return Wave(off, slope, curve, nu * curve + abs(found.u) * slope + abs(found.u_x) * off)


# ------------------------------------------------------------------------------------------- with one model


class Burgers(Ranged):
    """The problem with one model's ranges and error table."""

    name = NAME
    domain = (
        Input("x", "half the length of the domain", -1.0, 1.0),
        Input("t", "half the length over the largest initial speed", 0.0, 1.0),
        Input("viscosity", "half the length times the largest initial speed", LEAST, 0.1),
    )
    units: ClassVar = {
        "u": "largest initial speed",
        "u_x": "speed over half the length (du/dx)",
        "u_xx": "speed over half the length squared (d2u/dx2)",
        "u_t": "speed over the unit of t (du/dt)",
    }
    invariants = ("pde_residual", "largest_speed", "sign", "steepening")
    jets = Jets("ytl", ("", "y", "yy", "t", "l"))
    widths: ClassVar = {"x": Width(0.002, 0.01), "t": Width(0.005, 0.1), "viscosity": Width(0.005, LEAST)}
    moves: ClassVar = {"t": 0.005, "viscosity": 0.005}
    solver_ranges = (
        Input("x", "half the length of the domain", -1.0, 1.0),
        Input("t", "half the length over the largest initial speed", 0.0, 10.0),
        Input("viscosity", "half the length times the largest initial speed", 1e-3, 10.0),
    )

    def coordinates(self, point: Any) -> tuple[Real, Real, Real]:
        """(y, t, ln(nu/LEAST))."""
        f = functions(point.x)
        d = FRONT * point.viscosity
        return f.asinh(point.x / d) / f.asinh(1 / d), point.t, f.log(point.viscosity / LEAST)

    def answer(self, point: Any, jet: Any) -> Wave:
        """u and its derivatives."""
        return wave(form(point.x, point.t, point.viscosity), jet)

    def spread(self, point: Any, jet: Sequence[Real], answer: Sequence[Real], rests: Sequence[Real]) -> list[Real]:
        """As `wave` has it, every sign at its worst."""
        at = form(point.x, point.t, point.viscosity)
        n, n_y, n_yy, n_t, _ = rests
        shape, slope = abs(at.shape), abs(at.shape_x)
        n_x, n_xx = abs(at.y_x) * n_y, at.y_x**2 * n_yy + abs(at.y_xx) * n_y
        return [
            at.rise * shape * n,
            at.rise * (slope * n + shape * n_x),
            at.rise * (abs(at.shape_xx) * n + 2 * slope * n_x + shape * n_xx),
            shape * (at.rise_t * n + at.rise * n_t),
        ]

    def usable(self, point: Any, bound: Sequence[Real]) -> Any:
        """Whether an answer with these bounds may be served from a bin: they are measured by a front's slope, 1/(2 nu)."""
        u, u_x, u_xx, u_t = bound
        width = 2 * point.viscosity
        return (u <= 5e-4) & (width * u_x <= 5e-3) & (width**2 * u_xx <= 1e-2) & (width * u_t <= 2e-3 + 0.05 * width)

    def excesses(self, point: Any, answer: Sequence[Real]) -> dict[str, Real]:
        """The equation, relative to 1 plus the terms compared, and three bounds that its solution keeps.

        |u| <= 1, the largest initial speed; x u <= 0, since by symmetry either half is a domain of its own; and
        u_x <= pi/(1 + pi t), the one-sided bound of O. Oleinik (Uspekhi Mat. Nauk 12, 1957): the wave steepens one way only.
        """
        u, u_x, u_xx, u_t = answer
        advection, diffusion = u * u_x, point.viscosity * u_xx
        return {
            "pde_residual": abs(u_t + advection - diffusion) / (1 + abs(u_t) + abs(advection) + abs(diffusion)),
            "largest_speed": abs(u) - 1,
            "sign": point.x * u,
            "steepening": u_x * (1 / math.pi + point.t) - 1,
        }

    def solve(self, point: Any) -> tuple[Wave, Wave]:
        """The exact solution and what rounding makes of it."""
        if isinstance(point.x, np.ndarray):
            found = solve(point.x, point.t, point.viscosity)
        else:
            found = Wave(*(float(row[0]) for row in solve(*(np.array([value]) for value in point))))
        return found, solver_bounds(point.t, point.viscosity, found)
