"""Random European options, and whether an answer about one is right.

The closed formula is written out here a further time, with the standard library alone: a yardstick that shares code with the
server would share its mistakes.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping
from itertools import islice
from statistics import NormalDist
from typing import Any, Final

Option = dict[str, Any]
OUTPUTS: Final = ("price", "delta", "gamma", "vega", "theta", "rho")
TOLERANCE: Final = {"price": 1e-5, "delta": 1e-4, "gamma": 1e-3, "vega": 1e-4, "theta": 1e-4, "rho": 1e-4}
"""What an answer without a bound of its own may be wrong by, strike 1."""

ROUNDING: Final = 1e-13
_NORMAL: Final = NormalDist()


def random_options(seed: int) -> Iterator[Option]:
    """Options without end, well inside the trained ranges. Six free inputs: two never share a bin of a cache but by a miracle."""
    draw = random.Random(seed)
    while True:
        strike = round(draw.uniform(50, 200), 2)
        yield {
            "spot": round(strike * draw.uniform(0.7, 1.4), 2),
            "strike": strike,
            "maturity": round(draw.uniform(0.1, 1.9), 4),
            "rate": round(draw.uniform(0.002, 0.098), 5),
            "dividend_yield": round(draw.uniform(0.002, 0.098), 5),
            "volatility": round(draw.uniform(0.1, 0.55), 4),
            "kind": draw.choice(("call", "put")),
        }


def mixed_options(seed: int) -> Iterator[Option]:
    """In turns a new option, and one of a book of twenty whose rate has moved by up to 1 % and whose volatility by up to 2 %."""
    draw, fresh = random.Random(seed), random_options(seed)
    book = list(islice(random_options(-1), 20))
    while True:
        yield next(fresh)
        option = draw.choice(book)
        rate, volatility = draw.uniform(0.99, 1.01), draw.uniform(0.98, 1.02)
        yield {**option, "rate": option["rate"] * rate, "volatility": option["volatility"] * volatility}


def body(document: object) -> bytes:
    """As JSON on one line."""
    return json.dumps(document, separators=(",", ":")).encode()


def closed_form(option: Mapping[str, Any]) -> dict[str, float]:
    """Price and Greeks by Black, Scholes and Merton (J. Hull, Options, Futures and Other Derivatives, chapters 15, 17, 19)."""
    spot, strike, t = option["spot"], option["strike"], option["maturity"]
    r, q, vol = option["rate"], option.get("dividend_yield", 0.0), option["volatility"]
    w = 1.0 if option.get("kind", "call") == "call" else -1.0
    total = vol * math.sqrt(t)
    d1 = (math.log(spot / strike) + (r - q) * t) / total + total / 2
    asset = spot * math.exp(-q * t) * _NORMAL.cdf(w * d1)
    cash = strike * math.exp(-r * t) * _NORMAL.cdf(w * (d1 - total))
    bell = spot * math.exp(-q * t) * _NORMAL.pdf(d1)
    return {
        "price": w * (asset - cash),
        "delta": w * asset / spot,
        "gamma": bell / (spot * spot * total),
        "vega": bell * math.sqrt(t),
        "theta": -bell * vol / (2 * math.sqrt(t)) + w * (q * asset - r * cash),
        "rho": w * t * cash,
    }


def mistakes(option: Mapping[str, Any], answer: Mapping[str, Any]) -> list[str]:
    """What is wrong with an answer, output by output; empty when nothing is. A missing output is a mistake.

    An answer that states its own error bounds is held to them, with room for the rounding of the formula here.
    """
    truth = closed_form(option)
    strike, spot = option["strike"], option["spot"]
    unit = {"delta": 1.0, "gamma": strike / spot**2}
    stated = answer.get("error_bound") or {}
    found = []
    for name in OUTPUTS:
        size = unit.get(name, strike)
        value, limit = answer.get(name), stated.get(name, TOLERANCE[name] * size) + ROUNDING * size
        if not isinstance(value, float) or not abs(value - truth[name]) <= limit:
            found.append(f"{name} is {value}, should be {truth[name]:.9g} within {limit:.1g}: {json.dumps(option)}")
    return found
