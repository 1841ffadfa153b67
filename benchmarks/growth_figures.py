"""A million predictions of every kind against one server whose cache is full already: does its resident memory grow?

Of a thousand predictions 300 repeat a question, 250 are new, 300 come in batches of 50, 100 bypass the cache, and 50 are bad
input. Memory is read at intervals: two readings could be luck, a line through twenty is not.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from benchmarks.load.client import Connection
from benchmarks.load.options import Option, body, random_options
from benchmarks.load.processes import samples
from benchmarks.stress_figures import Server, server

PREDICTIONS: Final = int(os.environ.get("BENCH_PREDICTIONS", "1000000"))
FILL_AT_MOST: Final = int(os.environ.get("BENCH_FILL", "300000"))
SETTLE: Final = PREDICTIONS // 20
READINGS: Final = 20
CONNECTIONS: Final = 32
BATCH: Final = 50
BOOK: Final = 500
BAD: Final = (
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"spot": NaN}',
    b'{"spot": "100"}',
    b'{"spot": 100, "strike": 100, "maturity": 1, "rate": 0.03, "volatility": true}',
    b'{"spot": 100, "strike": 100, "maturity": 1, "rate": 0.03, "volatility": 0.2, "colour": 1}',
    b'{"spot": 1e999, "strike": 100, "maturity": 1, "rate": 0.03, "volatility": 0.2}',
    b"[" * 2000,
)


@dataclass(frozen=True)
class Question:
    """A body, how many predictions it asks for, and whether it is to be refused."""

    kind: str
    content: bytes
    predictions: int = 1

    def answered(self, status: int) -> bool:
        """As it should be."""
        return 400 <= status < 500 if self.kind == "bad" else status == 200


def measure() -> dict[str, Any]:
    """Resident memory before, during and after."""
    with server(drain="0s") as target:
        filled = asyncio.run(fill(target))
        asyncio.run(ask(target, islice_predictions(mixture(1), SETTLE)))
        outcome: Counter[str] = Counter()
        readings = [reading(target, 0)]
        began = time.monotonic()
        for number in range(READINGS):
            outcome += asyncio.run(ask(target, islice_predictions(mixture(2 + number), PREDICTIONS // READINGS)))
            readings.append(reading(target, (number + 1) * (PREDICTIONS // READINGS)))
            say(f"{readings[-1]['predictions']:9,} predictions  {readings[-1]['resident_mib']:.2f} MiB")
        return summary(filled, readings, outcome, time.monotonic() - began)


def turned_over(held: dict[str, float]) -> bool:
    """Whether as many entries were given up as it holds."""
    return held.get("pinn_cache_evictions_total", 0) > held.get("pinn_cache_size", 0) > 0


async def fill(target: Server) -> int:
    """Asks new questions until the cache has given up all it held when it was full; returns how many that took.

    Being full is not enough: a dictionary's table doubles once while its entries are replaced for the first time, a step of 9 MiB
    that belongs to the cache and comes once. At most FILL_AT_MOST.
    """
    asked, step = 0, 10_000
    questions = (Question("new", body(option)) for option in random_options(0))
    while asked < FILL_AT_MOST and not turned_over(cache(target)):
        await ask(target, islice(questions, step))
        asked += step
    say(f"{asked:9,} predictions to fill the cache: {cache(target) or 'the server has none'}")
    return asked


async def ask(target: Server, questions: Iterator[Question]) -> Counter[str]:
    """Every question once, over kept connections; how many of each kind were answered as they should be, and how many not."""
    outcome: Counter[str] = Counter()

    async def client() -> None:
        connection = await Connection.open(target.port)
        for question in questions:
            answer = await connection.ask("/predict", question.content)
            right = question.answered(answer.status)
            outcome[question.kind if right else f"{question.kind} answered {answer.status}"] += question.predictions
            if connection.closed:
                connection = await Connection.open(target.port)
        connection.close()

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return outcome


def mixture(seed: int) -> Iterator[Question]:
    """Questions of every kind in their shares, in random order. The book stays the same, so that it stays in the cache."""
    draw, fresh = random.Random(seed), random_options(1000 + seed)
    book = [body(option) for option in islice(random_options(99), BOOK)]
    thousand = ["repeated"] * 300 + ["new"] * 250 + ["batch"] * (300 // BATCH) + ["exact"] * 100 + ["bad"] * 50
    while True:
        draw.shuffle(thousand)
        for kind in thousand:
            yield question(kind, draw, fresh, book)


def question(kind: str, draw: random.Random, fresh: Iterator[Option], book: list[bytes]) -> Question:
    """One of a kind."""
    match kind:
        case "repeated":
            return Question(kind, draw.choice(book))
        case "batch":
            return Question(kind, body(list(islice(fresh, BATCH))), BATCH)
        case "exact":
            return Question(kind, body({**next(fresh), "exact": True}))
        case "bad":
            return Question(kind, draw.choice(BAD))
        case _:
            return Question(kind, body(next(fresh)))


def islice_predictions(questions: Iterator[Question], predictions: int) -> Iterator[Question]:
    """Questions that together ask for so many predictions."""
    for asked in questions:
        if predictions <= 0:
            return
        predictions -= asked.predictions
        yield asked


def reading(target: Server, predictions: int) -> dict[str, float]:
    """Memory now, and what the cache holds."""
    return {"predictions": predictions, "resident_mib": target.program.memory().resident_mib, **cache(target)}


def cache(target: Server) -> dict[str, float]:
    """What the server says of its cache; empty when it has none."""
    return {
        name: value
        for name, value in samples(target.admin).items()
        if name.startswith("pinn_cache_") and "{" not in name and not name.endswith("_created")
    }


def summary(filled: int, readings: list[dict[str, float]], outcome: Counter[str], seconds: float) -> dict[str, Any]:
    """Growth between the ends less what the cache says it grew by, and along the line through all readings."""
    first, last = readings[0], readings[-1]
    in_cache = (last.get("pinn_cache_bytes", 0.0) - first.get("pinn_cache_bytes", 0.0)) / 2**20
    growth = last["resident_mib"] - first["resident_mib"]
    line = statistics.linear_regression(
        [row["predictions"] for row in readings], [row["resident_mib"] for row in readings]
    )
    unexpected = {kind: count for kind, count in outcome.items() if " answered " in kind}
    return {
        "predictions": int(last["predictions"]),
        "seconds": round(seconds, 1),
        "predictions_to_fill_the_cache": filled,
        "resident_before_MiB": round(first["resident_mib"], 2),
        "resident_after_MiB": round(last["resident_mib"], 2),
        "growth_less_cache_MiB": round(growth - in_cache, 2),
        "line_MiB_per_million": round(line.slope * 1e6, 2),
        "asked": json.dumps(outcome),
        "unexpected": sum(unexpected.values()),
        "readings": readings,
    }


def say(line: str) -> None:
    """Progress."""
    print(f"  {line}", file=sys.stderr, flush=True)
