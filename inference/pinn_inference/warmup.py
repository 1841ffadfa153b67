"""Filling the cache before the first caller: with random points, or with what another server is asked most.

A canary with a cold cache compared with a warm stable would look slow, and would be.
"""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from typing import Any, Final

import numpy as np

from pinn_inference.api.admin import MOST_KEYS
from pinn_inference.api.predict import Codec
from pinn_inference.errors import ModelError, PinnError
from pinn_inference.evaluation import Answer
from pinn_inference.predictor import Predictor

LIMIT: Final = 20.0
"""Seconds for all of it: a server that starts cold is better than one that does not start."""

LARGEST: Final = 64 * 1024 * 1024
PORTION: Final = 1000
TURN: Final = 100
"""Items refused before others get their turn: one that is answered gives way by itself."""

Json = dict[str, Any]


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
        for item in await _asked(source, min(keys, MOST_KEYS), token):
            await _warm(codec, item)
    return len(predictor.cache or ())


async def hottest(predictor: Predictor, count: int) -> list[dict[str, float]]:
    """The centres of the bins used most, as inputs by name: bin widths may differ where they are used.

    Each is held within the trained ranges, as it is where the bin is evaluated: that of the last bin may lie beyond.
    """
    if predictor.cache is None:
        return []
    problem, bins = predictor.problem, predictor.evaluation.bins
    names = [field.name for field in problem.inputs]
    like = problem.sample(1, np.random.default_rng(0))[0]
    keys = await predictor.cache.hottest(count)
    found: list[dict[str, float]] = []
    for start in range(0, len(keys), PORTION):
        indices = np.array([bins.unpack(key) for key in keys[start : start + PORTION]], np.int32)
        centres = problem.at(list(bins.centres(indices).T), like)[: len(names)]
        found += [dict(zip(names, centre, strict=True)) for centre in np.stack(centres, axis=1).tolist()]
        await asyncio.sleep(0)
    return found


async def samples(predictor: Predictor, choices: Mapping[str, Sequence[str]], count: int, seed: int) -> list[Json]:
    """Questions at random from the trained ranges, each with one of the `choices` of the inputs that are no number.

    The same for the same seed, and the first ones the same however many are asked for.
    """
    names = [field.name for field in predictor.problem.inputs]
    numbers, chance = (np.random.default_rng([seed, part]) for part in (0, 1))
    found: list[Json] = []
    for start in range(0, count, PORTION):
        points = predictor.problem.sample(min(PORTION, count - start), numbers)
        rolled = chance.random((len(points), len(choices))).tolist()
        for point, dice in zip(points, rolled, strict=True):
            chosen = {name: some[int(u * len(some))] for (name, some), u in zip(choices.items(), dice, strict=True)}
            found.append({**dict(zip(names, point, strict=False)), **chosen})
        await asyncio.sleep(0)
    return found


async def warm(codec: Codec, items: Sequence[object]) -> list[Answer]:
    """Asks for items that somebody else knows to be wanted; the answers there are. What is not asked in time is left out."""
    loop, found = asyncio.get_running_loop(), list[Answer]()
    ends = loop.time() + LIMIT
    for place, item in enumerate(items):
        if place % TURN == TURN - 1:
            await asyncio.sleep(0)
        if loop.time() > ends:
            break
        if (answer := await _warm(codec, item)) is not None:
            found.append(answer)
    return found


async def _warm(codec: Codec, item: object) -> Answer | None:
    """One bin. What this model cannot answer, another one could: it is left out, as is what is no question."""
    try:
        (question,) = codec.converted([item])
        return await codec.predictor.one(question)
    except (PinnError, UnicodeError):
        return None


async def _asked(address: str, keys: int, token: str) -> list[Any]:
    """In a thread of its own: nobody who is told to stop meanwhile waits for it."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="warm-up")
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, _ask, address, keys, token)
    finally:
        thread.shutdown(wait=False, cancel_futures=True)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token is for the address that was set, and for no other."""

    def redirect_request(self, *_: Any) -> None:
        """To nowhere: the answer counts as what it is."""


def _ask(address: str, keys: int, token: str) -> list[Any]:
    url = f"{address.rstrip('/')}/cache/hottest?keys={keys}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
    try:
        request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"})  # noqa: S310 - settings allow http(s)
        with opener.open(request, timeout=LIMIT / 2) as answer:
            content = answer.read(LARGEST)
    except urllib.error.HTTPError as error:
        raise ModelError(f"{url} answers {error.code}: {_complaint(error)}") from None
    except (HTTPException, ValueError) as error:
        raise ModelError(f"{url} cannot be asked: {type(error).__name__}: {error}") from None
    try:
        found = json.loads(content)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise ModelError(f"{url} answers something else than hottest keys")
    return found[:keys]


def _complaint(error: urllib.error.HTTPError) -> str:
    with suppress(HTTPException, OSError):
        return error.read(500).decode(errors="replace") or str(error.reason)
    return str(error.reason)
