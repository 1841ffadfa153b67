"""Filling the cache before the first caller: with random points, or with what another server is asked most.

A canary with a cold cache compared with a warm stable would look slow, and would be.
"""

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any, Final

import msgspec
import numpy as np

from pinn_inference.api.predict import Codec
from pinn_inference.errors import ModelError, PinnError
from pinn_inference.predictor import Predictor

LIMIT: Final = 20.0
"""Seconds for all of it: a server that starts cold is better than one that does not start."""

LARGEST: Final = 64 * 1024 * 1024
PORTION: Final = 1000


async def run(codec: Codec, source: str, keys: int, token: str) -> int:
    """Asks for as many bins from `source`, "synthetic" or the address of an admin port; how many entries that made.

    Raises OSError or ModelError when the other server cannot be asked.
    """
    predictor = codec.predictor
    if source == "synthetic":
        points = predictor.problem.sample(keys, np.random.default_rng(1))
        for start in range(0, len(points), PORTION):
            await predictor.all_at(points[start : start + PORTION])
    else:
        for item in await asyncio.to_thread(_ask, source, keys, token):
            await _warm(codec, item)
    return len(predictor.cache or ())


def hottest(predictor: Predictor, count: int) -> list[dict[str, float]]:
    """The centres of the bins used most, as inputs by name: bin widths may differ where they are used."""
    if predictor.cache is None:
        return []
    bins = predictor.evaluation.bins
    names = [field.name for field in predictor.problem.inputs]
    centres = (bins.centre(bins.unpack(key)) for key in predictor.cache.hottest(count))
    return [dict(zip(names, centre, strict=True)) for centre in centres]


async def _warm(codec: Codec, item: object) -> None:
    """One bin. What this model cannot answer, another one could: it is left out."""
    try:
        await codec.predictor.one(codec.questions(msgspec.json.encode(item)))
    except PinnError:
        return


def _ask(address: str, keys: int, token: str) -> list[Any]:
    url = f"{address.rstrip('/')}/cache/hottest?keys={keys}"
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"})  # noqa: S310 - settings allow http(s)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=LIMIT / 2) as answer:
            found = json.loads(answer.read(LARGEST))["keys"]
    except urllib.error.HTTPError as error:
        raise ModelError(f"{url} answers {error.code}: {error.read(500).decode(errors='replace')}") from None
    except (ValueError, KeyError, TypeError):
        raise ModelError(f"{url} answers something else than hottest keys") from None
    if not isinstance(found, list):
        raise ModelError(f"{url} answers something else than hottest keys")
    return found[:keys]
