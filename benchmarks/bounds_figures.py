"""Whether answers are as good as they say: their error bounds, and the hit rate of default bins under noise."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
from pinn_inference import assembly, settings
from pinn_inference.assembly import Model
from pinn_inference.evaluation import Answer
from pinn_inference.monitoring import Metrics
from pinn_inference.problems.black_scholes import OUTPUTS
from scipy.special import log_ndtr, ndtr

Array = Any

POINTS = 1_000_000
PORTION = 10_000
NOISY = 20_000
MODELS = ("2.0.0", "1.0.0")
ROOT = Path(__file__).parents[1]


def measure() -> dict[str, Any]:
    figures: dict[str, Any] = {"points": POINTS, "seed": 1}
    for version in MODELS:
        model = load(version)
        for way, exact in (("exact", True), ("from_bins", False)):
            figures |= {f"{version}_{way}_{name}": value for name, value in asyncio.run(bounds(model, exact)).items()}
    figures["hit_rate_r_1pct_sigma_2pct"] = asyncio.run(hit_rate(load(MODELS[0])))
    return figures


def load(version: str, cache: int = 100_000) -> Model:
    chosen = settings.load(model_version=version, cache_size=cache, fallback_solver=False)
    return assembly.load(assembly.fetch(chosen), chosen, Metrics())


async def bounds(model: Model, exact: bool) -> dict[str, Any]:
    """Share of answers farther from the truth than they say, and how much farther they say than it is, output by output."""
    rng = np.random.default_rng(1)
    beyond = dict.fromkeys(OUTPUTS, 0)
    ratios: dict[str, list[Array]] = {name: [] for name in OUTPUTS}
    largest = 0.0
    for _ in range(POINTS // PORTION):
        inputs = sample(rng, PORTION)
        questions = [model.predictor.problem.Question(**item) for item in rows(inputs)]
        answers = await model.predictor.many(questions, exact=exact)
        truth = closed_formula(inputs)
        for place, name in enumerate(OUTPUTS):
            error = np.abs(column(answers, place) - truth[name])
            bound = np.array([answer.bounds[place] for answer in answers if answer.bounds is not None])
            beyond[name] += int((error > bound).sum())
            ratios[name].append(bound / np.maximum(error, 1e-300))
            if name == "price":
                largest = max(largest, float((error / inputs["strike"]).max()))
    found: dict[str, Any] = {"largest_price_error_over_strike": float(f"{largest:.2e}")}
    for name in OUTPUTS:
        found[f"{name}_beyond_bound"] = beyond[name]
        found[f"{name}_bound_over_error_median"] = round(float(np.median(np.concatenate(ratios[name]))), 1)
    return found


async def hit_rate(model: Model) -> float:
    """One option asked again and again while the rate moves by +-1 % and the volatility by +-2 %."""
    rng = np.random.default_rng(2)
    hits = 0
    for rate, volatility in zip(rng.uniform(0.99, 1.01, NOISY), rng.uniform(0.98, 1.02, NOISY), strict=True):
        question = model.predictor.problem.Question(
            spot=100.0, strike=105.0, maturity=0.5, rate=0.03 * rate, volatility=0.2 * volatility
        )
        hits += (await model.predictor.one(question)).method == "cache"
    return round(hits / NOISY, 5)


def sample(rng: np.random.Generator, count: int) -> dict[str, Array]:
    """Options over all of the trained ranges, strikes over four decades, calls and puts."""
    strike = 10 ** rng.uniform(-1, 3, count)
    ranges = {"maturity": (0.02, 2.0), "rate": (0.0, 0.1), "dividend_yield": (0.0, 0.1), "volatility": (0.05, 0.6)}
    inputs = {name: rng.uniform(low, high, count) for name, (low, high) in ranges.items()}
    return {
        "spot": strike * rng.uniform(0.5001, 1.9999, count),
        "strike": strike,
        **inputs,
        "call": rng.random(count) < 0.5,
    }


def rows(inputs: dict[str, Array]) -> list[dict[str, Any]]:
    names = [name for name in inputs if name != "call"]
    values = np.stack([inputs[name] for name in names], axis=1).tolist()
    kinds = np.where(inputs["call"], "call", "put").tolist()
    return [{**dict(zip(names, row, strict=True)), "kind": kind} for row, kind in zip(values, kinds, strict=True)]


def column(answers: list[Answer], place: int) -> Array:
    return np.array([answer.values[place] for answer in answers])


def closed_formula(inputs: dict[str, Array]) -> dict[str, Array]:
    """Black, Scholes and Merton, written apart from the server's own solver."""
    spot, strike, t = inputs["spot"], inputs["strike"], inputs["maturity"]
    r, q, vol = inputs["rate"], inputs["dividend_yield"], inputs["volatility"]
    w = np.where(inputs["call"], 1.0, -1.0)
    total = vol * np.sqrt(t)
    d1 = (np.log(spot) - np.log(strike) + (r - q) * t) / total + total / 2
    d2 = d1 - total
    asset, cash = np.exp(log_ndtr(w * d1) - q * t), np.exp(log_ndtr(w * d2) - r * t)
    bell = np.exp(-(d1**2) / 2 - q * t) / np.sqrt(2 * np.pi)
    return {
        "price": w * (spot * np.exp(-q * t) * ndtr(w * d1) - strike * np.exp(-r * t) * ndtr(w * d2)),
        "delta": w * asset,
        "gamma": bell / (spot * total),
        "vega": spot * bell * np.sqrt(t),
        "theta": -spot * bell * vol / (2 * np.sqrt(t)) + w * (q * spot * asset - r * strike * cash),
        "rho": w * strike * t * cash,
    }
