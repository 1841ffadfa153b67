"""An American put by a binomial tree: shares nothing with the server's solver, and is slow and simple."""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def american_put(
    spot: float, strike: float, maturity: float, rate: float, volatility: float, steps: int = 1000
) -> float:
    """Two trees extrapolated, the last step of each by the closed formula: so the error falls smoothly with the number of steps.

    M. Broadie and J. Detemple, Review of Financial Studies 9, 1996. Within 2e-6 of the strike with 2000 steps.
    """
    few, many = (_tree(spot, strike, maturity, rate, volatility, count) for count in (steps, 2 * steps))
    return 2 * many - few


def _tree(spot: float, strike: float, maturity: float, rate: float, volatility: float, steps: int) -> float:
    dt = maturity / steps
    up = math.exp(volatility * math.sqrt(dt))
    share = (math.exp(rate * dt) - 1 / up) / (up - 1 / up)
    discount = math.exp(-rate * dt)
    prices = spot * up ** np.arange(-(steps - 1), steps, 2.0)
    values = np.maximum(strike - prices, _european(prices, strike, dt, rate, volatility))
    for step in range(steps - 2, -1, -1):
        prices = spot * up ** np.arange(-step, step + 1, 2.0)
        held = discount * (share * values[1:] + (1 - share) * values[:-1])
        values = np.maximum(strike - prices, held)
    return float(values[0])


def _european(prices: Array, strike: float, dt: float, rate: float, volatility: float) -> Array:
    normal, s = NormalDist(), volatility * math.sqrt(dt)
    d2 = (np.log(prices / strike) + (rate - 0.5 * volatility**2) * dt) / s
    below = np.array([[normal.cdf(-d), normal.cdf(-d - s)] for d in d2.tolist()]).T
    found: Array = strike * math.exp(-rate * dt) * below[0] - prices * below[1]
    return found
