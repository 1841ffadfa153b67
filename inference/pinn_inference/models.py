"""Models that are loaded once and then looked up, and the swap of the one in use for another without a failed request.

Reading, building and trying a model takes from milliseconds to seconds: it happens in a thread of its own, one model at a time,
and nobody is answered by a model that has not answered a question of its loader's before.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from pinn_inference.errors import PinnError
from pinn_inference.logs import event, log

S = TypeVar("S")
M = TypeVar("M")
T = TypeVar("T")

Result = Literal["swapped", "unchanged", "failed"]
RESULTS: Final[tuple[Result, ...]] = ("swapped", "unchanged", "failed")


@dataclass(slots=True)
class Counts:
    """What a cache has done so far. A miss asks for a load; `loads` are those that are done, `failures` those that raised."""

    hits: int = 0
    misses: int = 0
    loads: int = 0
    evictions: int = 0
    failures: int = 0


class ModelCache(Generic[S, M]):
    """The `limit` models used last. `load` builds and tries one from its source, which `key` names: its digest, say; `prepare`
    does on the loop what is left to do before it may be used, and is told whether there is another meanwhile.

    An evicted model lives on while somebody holds it. Only for use on one event loop.
    """

    def __init__(
        self,
        load: Callable[[S], M],
        limit: int,
        key: Callable[[S], Hashable],
        prepare: Callable[[M, bool], Awaitable[None]] | None = None,
    ) -> None:
        if limit < 1:
            raise ValueError("a cache of models holds at least one")
        self.counts = Counts()
        self._load = load
        self._limit = limit
        self._key = key
        self._prepare = prepare
        self._models: OrderedDict[Hashable, M] = OrderedDict()
        self._loading: dict[Hashable, asyncio.Task[M]] = {}
        # One thread: engines redirect the process's stderr while they load, and two at a time would leave it redirected.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="models")

    def __len__(self) -> int:
        return len(self._models)

    async def get(self, source: S) -> M:
        """The model of `source`; who asks while it is being loaded waits for that load. Raises what `load` raises."""
        key = self._key(source)
        if key in self._models:
            self.counts.hits += 1
            self._models.move_to_end(key)
            return self._models[key]
        self.counts.misses += 1
        if key not in self._loading:
            self._loading[key] = asyncio.create_task(self._loaded(key, source))
        # A caller that gives up does not take the model away from the others.
        return await asyncio.shield(self._loading[key])

    async def off_the_loop(self, work: Callable[[], T]) -> T:
        """The result of `work`, done in the thread in which models are loaded."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """Lets the models go; a load that is under way is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._models.clear()

    async def abandon(self) -> None:
        """The same, and ends a load that is under way: what its model has begun is cleared away."""
        self.close()
        loading = tuple(self._loading.values())
        for task in loading:
            task.cancel()
        if loading:
            await asyncio.wait(loading)

    async def _loaded(self, key: Hashable, source: S) -> M:
        try:
            model = await self.off_the_loop(lambda: self._load(source))
            if self._prepare is not None:
                await self._prepare(model, bool(self._models))
        except BaseException:
            self.counts.failures += 1
            raise
        finally:
            del self._loading[key]
        self._models[key] = model
        self.counts.loads += 1
        while len(self._models) > self._limit:
            self._models.popitem(last=False)
            self.counts.evictions += 1
        return model


@dataclass(frozen=True, slots=True)
class Reload:
    """What came of a reload, in one word and in a sentence."""

    result: Result
    sentence: str
    seconds: float


class Holder(Generic[S, M]):
    """The model in use. A request takes `current` once and keeps it to its end; a swap is one assignment.

    `fetch` reads and verifies the source each time it is called, in the loading thread.
    """

    def __init__(self, cache: ModelCache[S, M], fetch: Callable[[], S], current: M) -> None:
        self.current = current
        self.reloads: dict[Result, int] = dict.fromkeys(RESULTS, 0)
        self.last: Reload | None = None
        self._cache = cache
        self._fetch = fetch
        self._turn = asyncio.Lock()

    @classmethod
    async def open(cls, cache: ModelCache[S, M], fetch: Callable[[], S]) -> "Holder[S, M]":
        """With the first model. Raises what fetching or loading raises: without a model there is nothing to serve."""
        return cls(cache, fetch, await cache.get(await cache.off_the_loop(fetch)))

    async def reload(self) -> Reload:
        """Fetches the model anew and puts it in the place of the current one, which stays if anything is wrong with the new.

        Reloads take turns, so each sees what was there when it was asked for. Never raises but to be cancelled.
        """
        async with self._turn:
            started = time.perf_counter()
            result, sentence = await self._reload()
            self.last = Reload(result, sentence, time.perf_counter() - started)
        self.reloads[result] += 1
        event(
            sentence, logging.WARNING if result == "failed" else logging.INFO, result=result, seconds=self.last.seconds
        )
        return self.last

    async def _reload(self) -> tuple[Result, str]:
        try:
            model = await self._cache.get(await self._cache.off_the_loop(self._fetch))
        except PinnError as error:
            return "failed", f"the model in use stays: {error}"
        except Exception as error:  # noqa: BLE001 - whatever a bad model makes a library raise, the good one goes on
            log.exception("a reload failed in a way nobody foresaw")
            return "failed", f"the model in use stays: {type(error).__name__} while loading the new one: {error}"
        if model is self.current:
            return "unchanged", "the model is the one in use already"
        self.current = model
        return "swapped", "a new model is in use"
