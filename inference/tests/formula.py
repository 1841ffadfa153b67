"""Black-Scholes-Merton written a second time, apart from the package on purpose: the yardstick must not share its mistakes."""

from typing import Any

import numpy as np
from scipy.special import log_ndtr, ndtr

Array = Any


def price(spot: Array, strike: Array, t: Array, r: Array, q: Array, vol: Array, call: Array) -> Array:
    total = vol * np.sqrt(t)
    d = (np.log(spot) - np.log(strike) + (r - q) * t) / total
    w = np.where(call, 1.0, -1.0)
    return w * (spot * np.exp(-q * t) * ndtr(w * (d + total / 2)) - strike * np.exp(-r * t) * ndtr(w * (d - total / 2)))


def greeks(spot: Array, strike: Array, t: Array, r: Array, q: Array, vol: Array, call: Array) -> dict[str, Array]:
    """Closed forms through log-probabilities: delta, gamma, vega, theta, rho."""
    total = vol * np.sqrt(t)
    d1 = (np.log(spot / strike) + (r - q) * t) / total + total / 2
    d2 = d1 - total
    w = np.where(call, 1.0, -1.0)
    asset = np.exp(log_ndtr(w * d1) - q * t)
    cash = np.exp(log_ndtr(w * d2) - r * t)
    bell = np.exp(-(d1**2) / 2 - q * t) / np.sqrt(2 * np.pi)
    return {
        "delta": w * asset,
        "gamma": bell / (spot * total),
        "vega": spot * bell * np.sqrt(t),
        "theta": -spot * bell * vol / (2 * np.sqrt(t)) + w * (q * spot * asset - r * strike * cash),
        "rho": w * strike * t * cash,
    }
