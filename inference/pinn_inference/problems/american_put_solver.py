"""The reference solver of the American put: its exercise boundary from the integral equation of smooth pasting, by collocation.

Without dividends the put is worth the European one and the interest on the strike while it is exercised early (I. J. Kim, Review
of Financial Studies 3, 1990; P. Carr, R. Jarrow and R. Myneni, Mathematical Finance 2, 1992). In units of the strike, with
s = sigma sqrt(T), rho = r sqrt(T)/sigma, kappa = rT = s rho, z = ln(S/K)/s and the boundary at z_b(s, rho) < 0,

    P = P_european + kappa F,   F(z) = ∫ exp(-kappa l) Φ(-D(z, l)) dl over l in (0, 1),
    D(z, l) = (z - z_b(s c, rho c) c)/sqrt(l) + (rho - s/2) sqrt(l),   c = sqrt(1 - l)

and P_S = -1 at the boundary is exp(s z_b) Φ(z_b + rho + s/2) = rho ∫ exp(-kappa l) φ(D(z_b, l))/sqrt(l) dl. The boundary is
sought as -zeta(rho) exp(g) with g a polynomial in sqrt(T): zeta has the logarithm that it has at expiry (J. D. Evans, R. Kuske
and J. B. Keller, Mathematical Finance 12, 2002), so what is left to the polynomial is smooth. NumPy, float64.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pinn_inference.problems import special

Array = NDArray[np.float64]

NODES: Final = 20
INNER: Final = 64
OUTER: Final = 128
"""Chebyshev nodes of the boundary; Gauss points of its equation, and of the price."""

STEPS: Final = 60
STEEPEST: Final = 0.5
"""Newton's steps, and how far one may go: as a rule seven are enough."""

DONE: Final = 1e-11
ROOT_HALF: Final = math.sqrt(0.5)
DENSITY: Final = 1 / math.sqrt(2 * math.pi)


def zeta(rho: Array) -> Array:
    """How far below the strike the boundary is as rho falls, in standard deviations: sqrt(ln(1 + 1/(8 pi rho^2))), rho > 0."""
    found: Array = np.sqrt(np.log1p(1 / (8 * math.pi * rho * rho)))
    return found


def probability(d: Array) -> Array:
    """The normal distribution function, exact in its lower tail too."""
    return 0.5 * special.erfc(-ROOT_HALF * d)


def density(d: Array) -> Array:
    """The normal density."""
    found: Array = np.exp(-0.5 * d * d) * DENSITY
    return found


class Boundary:
    """Solves for the exercise boundary, and for the value above it. All of it for m puts at once: s, rho > 0 of shape (m,)."""

    def __init__(self, nodes: int = NODES, inner: int = INNER, outer: int = OUTER) -> None:
        self._nodes = _chebyshev(nodes)
        self._sine, self._cosine, self._weights = quarter_circle(inner)
        self._at_inner = _interpolation(self._nodes, self._nodes[:, None] * self._cosine)
        self._outer = quarter_circle(outer, crowded=True)
        self._at_outer = _interpolation(self._nodes, self._outer[1])
        self._at_end = _interpolation(self._nodes, np.ones(1))[0]

    def solve(self, s: Array, rho: Array) -> Array:
        """g at the nodes, (m, nodes). Raises ArithmeticError where Newton's method does not arrive."""
        g: Array = np.zeros((len(s), len(self._nodes)))
        for _ in range(STEPS):
            mismatch, jacobian = self._mismatch(g, s, rho)
            step = np.linalg.solve(jacobian, mismatch[..., None])[..., 0]
            g = g - np.clip(step, -STEEPEST, STEEPEST)
            if np.abs(step).max() < DONE:
                return g
        raise ArithmeticError("the exercise boundary was not found")

    def at(self, g: Array, rho: Array) -> Array:
        """z_b of a boundary that was solved for, (m,)."""
        found: Array = -zeta(rho) * np.exp(g @ self._at_end)
        return found

    def premium(self, z: Array, g: Array, s: Array, rho: Array) -> tuple[Array, Array]:
        """F and F_z at z, (m,) each."""
        sine, cosine, weights = self._outer
        earlier = -zeta(rho[:, None] * cosine) * np.exp(g @ self._at_outer.T)
        d = (z[:, None] - cosine * earlier) / sine + (rho - 0.5 * s)[:, None] * sine
        discount = np.exp(-(s * rho)[:, None] * sine * sine) * 2 * cosine * weights
        value: Array = np.sum(discount * sine * probability(-d), axis=1)
        slope: Array = -np.sum(discount * density(d), axis=1)
        return value, slope

    def _mismatch(self, g: Array, s: Array, rho: Array) -> tuple[Array, Array]:
        """By how much the logarithms of both sides of the equation differ at the nodes, (m, n), and its derivative by g."""
        s, rho = s[:, None] * self._nodes, rho[:, None] * self._nodes
        own = -zeta(rho) * np.exp(g)
        earlier = -zeta(rho[..., None] * self._cosine) * np.exp(np.tensordot(g, self._at_inner, (1, 2)))
        d = (own[..., None] - self._cosine * earlier) / self._sine + (rho - 0.5 * s)[..., None] * self._sine
        parts = np.exp(-(s * rho)[..., None] * self._sine**2) * density(d) * 2 * self._cosine * self._weights
        whole = parts.sum(axis=-1)
        d1 = own + rho + 0.5 * s
        below = probability(d1)
        pull = parts * d / whole[..., None] / self._sine
        by_earlier = (-pull * self._cosine * earlier).transpose(1, 0, 2)
        jacobian = (by_earlier @ self._at_inner).transpose(1, 0, 2)
        diagonal = np.arange(len(self._nodes))
        jacobian[:, diagonal, diagonal] += own * (s + density(d1) / below + pull.sum(axis=-1))
        return s * own + np.log(below) - np.log(rho * whole), jacobian


def _chebyshev(count: int) -> Array:
    """The Chebyshev points of (0, 1)."""
    return 0.5 * (1 + np.cos((2 * np.arange(count) + 1) * math.pi / (2 * count)))


def quarter_circle(count: int, crowded: bool = False) -> tuple[Array, Array, Array]:
    """Sine, cosine and weight of Gauss points on a quarter circle: l = sine^2 takes the roots out of the integrals.

    `crowded` near the angle 0: just above the boundary the integrand of the price rises within an angle of z - z_b.
    """
    x, w = np.polynomial.legendre.leggauss(count)
    share, weights = 0.5 * (x + 1), 0.25 * math.pi * w
    if crowded:
        share, weights = share**2, 2 * share * weights
    angle = 0.5 * math.pi * share
    return np.sin(angle), np.cos(angle), weights


def _interpolation(nodes: Array, at: Array) -> Array:
    """What takes values at Chebyshev `nodes` to values `at` other points, (..., n): the barycentric formula."""
    k = np.arange(len(nodes))
    weights = (-1.0) ** k * np.sin((2 * k + 1) * math.pi / (2 * len(nodes)))
    distance = at[..., None] - nodes
    hit = distance == 0
    terms = weights / np.where(hit, 1.0, distance)
    found: Array = np.where(hit.any(axis=-1, keepdims=True), hit, terms / terms.sum(axis=-1, keepdims=True))
    return found
