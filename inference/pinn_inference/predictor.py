"""One request: validate -> cache -> engine -> physics check -> (fallback). The whole path, and nothing else knows the order.

A bin is evaluated at its centre and moved to the exact input by the Taylor terms that came with it. So an answer does not depend
on who asked before, every replica gives the same, and what the move costs in accuracy is in the answer's bound.
"""

import asyncio
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pinn_inference.bins import Bins
from pinn_inference.cache import ResultCache
from pinn_inference.errors import EngineError, InvalidInput, OutOfDomain, PinnError
from pinn_inference.fallback import Fallback
from pinn_inference.problems import Formulation

Array = NDArray[np.float64]
Method = Literal["cache", "model", "solver"]

CHUNK: Final = 512
"""Items treated before other requests get their turn: a millisecond or two of work."""


class Answer(NamedTuple):
    """Outputs in the problem's order, how far each can be from the truth (None: not known), and how it was made."""

    values: Sequence[float]
    bounds: Sequence[float] | None
    method: Method
    engine: str
    reason: str | None = None


class Evaluated(Protocol):
    """Jets (4, n), the engine that made them, and the reason where it was not the first choice."""

    @property
    def jets(self) -> Array: ...

    @property
    def engine(self) -> str: ...

    @property
    def reason(self) -> str | None: ...


class Engines(Protocol):
    """What evaluates the network: at once for one point, by the best engine for many."""

    name: str

    def jet(self, z: float, s: float) -> tuple[float, float, float, float]: ...

    async def jets(self, points: Array, deadline_s: float) -> Evaluated: ...


class Observer(Protocol):
    """Who is told of what a caller does not see."""

    def violated(self, invariant: str, count: int) -> None: ...


@dataclass(frozen=True)
class Predictor:
    """Answers questions with one model. Without a `cache` every question is evaluated."""

    problem: Formulation
    engines: Engines
    fallback: Fallback
    tolerances: dict[str, float]
    observer: Observer
    bins: Bins
    cache: ResultCache | None = None
    timeout: float = 1.0

    async def one(self, question: Any, exact: bool = False) -> Answer:
        """The answer to one decoded question. Raises InvalidInput, or PredictionError when nothing may answer."""
        try:
            point = self.problem.point(question)
        except OutOfDomain as error:
            return await self._solve(error.point, "out_of_domain", error)
        return await self.at(point, exact or self.cache is None)

    async def at(self, point: Any, exact: bool = True) -> Answer:
        """The answer at a point within the trained domain. Raises PredictionError when nothing may answer."""
        try:
            if exact or self.cache is None:
                return self._fresh(point)
            return self._cached(point, self.cache)
        except EngineError as error:
            return await self._solve(point, error.reason, error)

    async def all_at(self, points: list[Any]) -> list[Answer]:
        """The same for many, through the cache."""
        return await self._evaluated(points, exact=False)

    def _cached(self, point: Any, cache: ResultCache) -> Answer:
        index = self.bins.index(point)
        key = self.bins.pack(*index)
        known = cache.get(key)
        if known is not None:
            z, s, *jet = _unpack(known)
            method: Method = "cache"
        else:
            centre = self.problem.at(self.bins.centre(index), point)
            z, s = self.problem.coordinates(centre)
            jet = list(self.engines.jet(z, s))
            self._check(centre, self.problem.answer(centre, jet))
            cache.put(key, _pack(z, s, *jet))
            method = "model"
        values, bounds = self.problem.near(point, (z, s), jet)
        if bounds is None or not self.problem.usable(point, bounds):
            return self._fresh(point)
        return Answer(values, bounds, method, self.engines.name)

    def _fresh(self, point: Any) -> Answer:
        at = self.problem.coordinates(point)
        values, bounds = self.problem.near(point, at, self.engines.jet(*at))
        self._check(point, values)
        return Answer(values, bounds, "model", self.engines.name)

    async def _solve(self, point: Any, reason: str, cause: PinnError) -> Answer:
        values, bounds = await self.fallback(point, reason, cause)
        return Answer(values, bounds, "solver", "reference", reason)

    def _check(self, point: Any, values: Any) -> None:
        """Raises EngineError where an answer is no number or breaks an invariant of its equation."""
        if not self.problem.finite(values):
            raise EngineError("the model has no finite answer here", "non_finite")
        broken = [
            name for name, excess in self.problem.excesses(point, values).items() if excess > self.tolerances[name]
        ]
        if broken:
            for name in broken:
                self.observer.violated(name, 1)
            raise EngineError(f"the model's answer breaks {', '.join(broken)}", "physics_violation")

    # ------------------------------------------------------------------------------------------------ lists

    async def many(self, questions: Sequence[Any], exact: bool = False) -> list[Answer]:
        """The same for a list, in its order, giving way to other requests on the way. One bad item refuses the list."""
        answers: list[Answer | None] = [None] * len(questions)
        inside, points = await self._points(questions, answers)
        if not points:
            return answers  # type: ignore[return-value]  # every item was solved
        for start, answer in zip(inside, await self._evaluated(points, exact), strict=True):
            answers[start] = answer
        return answers  # type: ignore[return-value]  # every place is filled

    async def _points(self, questions: Sequence[Any], answers: list[Answer | None]) -> tuple[list[int], list[Any]]:
        """The items within the trained domain, and their places; the others are solved on the way."""
        inside, points = [], []
        for i, question in enumerate(questions):
            if i % CHUNK == CHUNK - 1:
                await asyncio.sleep(0)
            try:
                points.append(self.problem.point(question))
                inside.append(i)
            except OutOfDomain as error:
                answers[i] = await self._placed(i, error)
            except InvalidInput as error:
                raise InvalidInput(f"item {i}: {error}") from None
        return inside, points

    async def _placed(self, place: int, error: OutOfDomain) -> Answer:
        try:
            return await self._solve(error.point, "out_of_domain", error)
        except InvalidInput as refused:
            raise InvalidInput(f"item {place}: {refused}") from None

    async def _evaluated(self, points: list[Any], exact: bool) -> list[Answer]:
        """Every point by the best engine there is, through the cache, or by the solver where the engines cannot."""
        batch = self.problem.stack(points)
        try:
            found = await (self._through_cache(batch) if self.cache is not None and not exact else self._afresh(batch))
        except EngineError as error:
            return await self._solved(points, error)
        answers: list[Answer] = []
        for part in _parts(len(points)):
            answers += await self._finished(batch, found, part, points)
            await asyncio.sleep(0)
        return answers

    async def _solved(self, points: list[Any], cause: EngineError) -> list[Answer]:
        answers = []
        for i, point in enumerate(points):
            if i % CHUNK == CHUNK - 1:
                await asyncio.sleep(0)
            answers.append(await self._solve(point, cause.reason, cause))
        return answers

    async def _afresh(self, batch: Any) -> "_Found":
        at = self.problem.coordinates(batch)
        done = await self.engines.jets(np.stack(at, axis=1), self.timeout)
        return _Found(np.stack(at), done.jets, np.zeros(len(at[0]), bool), done.engine, done.reason, checked=False)

    async def _through_cache(self, batch: Any) -> "_Found":
        """Jets at the centres of the bins: from the cache, or evaluated once for all items of the same bin."""
        assert self.cache is not None  # noqa: S101 - the caller asked
        indices = self.bins.indices(batch[: len(self.problem.inputs)])
        keys = [row.tobytes() for row in indices]
        rows = np.empty((len(keys), 6))
        missing: dict[bytes, list[int]] = {}
        hit = np.zeros(len(keys), bool)
        for i, key in enumerate(keys):
            known = self.cache.get(key)
            if known is None:
                missing.setdefault(key, []).append(i)
            else:
                rows[i], hit[i] = _unpack(known), True
            if i % (4 * CHUNK) == 4 * CHUNK - 1:
                await asyncio.sleep(0)
        engine, reason = self.engines.name, None
        if missing:
            first = [places[0] for places in missing.values()]
            like = type(batch)(*(column[first] for column in batch))
            centre = self.problem.at(self.bins.centres(indices[first]), like)
            at = self.problem.coordinates(centre)
            done = await self.engines.jets(np.stack(at, axis=1), self.timeout)
            engine, reason = done.engine, done.reason
            fine = self._sound(centre, self.problem.answer(centre, done.jets))
            fresh = np.concatenate([np.stack(at), done.jets]).T
            fresh[~fine, 2:] = np.nan
            for (key, places), row, good in zip(missing.items(), fresh, fine.tolist(), strict=True):
                rows[places] = row
                if good:
                    self.cache.put(key, _pack(*row.tolist()))
        return _Found(rows.T[:2], rows.T[2:], hit, engine, reason, checked=True)

    async def _finished(self, batch: Any, found: "_Found", part: slice, points: list[Any]) -> list[Answer]:
        """Answers of one part. What breaks an invariant is solved; what is too far from its bin's centre is evaluated."""
        piece = type(batch)(*(column[part] for column in batch))
        with np.errstate(invalid="ignore"):
            values, bounds = self.problem.near(piece, tuple(found.at[:, part]), found.jets[:, part])
        if found.checked:
            sound = np.isfinite(found.jets[0, part])
            near = self.problem.usable(piece, bounds) if bounds is not None else np.zeros(len(sound), bool)
        else:
            sound, near = self._sound(piece, values), np.ones(len(piece[0]), bool)
        rows = np.stack(values, axis=1).tolist()
        limits = np.stack(bounds, axis=1).tolist() if bounds is not None else [None] * len(rows)
        answers = []
        for i, (row, limit, good, close, hit) in enumerate(
            zip(rows, limits, sound.tolist(), near.tolist(), found.hit[part].tolist(), strict=True)
        ):
            if good and close:
                answers.append(Answer(row, limit, "cache" if hit else "model", found.engine, found.reason))
            elif good:
                answers.append(await self._again(points[part.start + i]))
            else:
                cause = EngineError("the model's answer breaks an invariant of its equation", "physics_violation")
                answers.append(await self._solve(points[part.start + i], cause.reason, cause))
        return answers

    async def _again(self, point: Any) -> Answer:
        try:
            return self._fresh(point)
        except EngineError as error:
            return await self._solve(point, error.reason, error)

    def _sound(self, points: Any, values: Any) -> NDArray[np.bool_]:
        """Which answers are numbers and keep every invariant; the others are told to the observer."""
        sound: NDArray[np.bool_] = np.isfinite(sum(values))
        with np.errstate(invalid="ignore"):
            excesses = self.problem.excesses(points, values)
        for name, excess in excesses.items():
            broken = excess > self.tolerances[name]
            if count := int(np.count_nonzero(broken)):
                self.observer.violated(name, count)
                sound = sound & ~broken
        return sound


class _Found(NamedTuple):
    """Jets (4, n) for n points, the coordinates (2, n) they were taken at, and where each came from."""

    at: Array
    jets: Array
    hit: NDArray[np.bool_]
    engine: str
    reason: str | None
    checked: bool


def _parts(count: int) -> Iterator[slice]:
    for start in range(0, count, CHUNK):
        yield slice(start, min(start + CHUNK, count))


_pack = struct.Struct("6d").pack
_unpack = struct.Struct("6d").unpack
