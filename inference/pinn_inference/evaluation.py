"""Cache, engine and physics check, for one point, for a few that came together, and for long lists.

A bin is evaluated at its centre and moved to the exact input by the Taylor terms that came with it. So an answer does not depend
on who asked before, every replica gives the same, and what the move costs in accuracy is in the answer's bound.
"""

import asyncio
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pinn_inference.bins import Bins
from pinn_inference.cache import ResultCache
from pinn_inference.engines import Jet
from pinn_inference.engines.protocol import Evaluated
from pinn_inference.errors import EngineError
from pinn_inference.problems import Formulation

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
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


class Engines(Protocol):
    """What evaluates the network: at once for one point or a few, by the best engine for many.

    `here`: whether it can at once; where all is evaluated by another process, there is `jets` alone.
    """

    name: str
    here: bool

    def jet(self, *at: float) -> Jet: ...

    def few(self, points: Array) -> Array: ...

    async def jets(self, points: Array, deadline_s: float) -> Evaluated: ...


class Observer(Protocol):
    """Who is told of what a caller does not see."""

    def violated(self, invariant: str, count: int) -> None: ...


class Silent:
    """An observer for questions that nobody asked: they must not show in the metrics."""

    def violated(self, invariant: str, count: int) -> None:
        """Is not told on."""


@dataclass(frozen=True)
class Evaluation:
    """Evaluates points within the trained domain. Without a `cache` every one is evaluated.

    `timeout`: seconds the engines have for a call, from its beginning.
    """

    problem: Formulation
    engines: Engines
    tolerances: Mapping[str, float]
    observer: Observer
    bins: Bins
    cache: ResultCache | None = None
    timeout: float = 1.0
    _under_way: dict[bytes, asyncio.Event] = field(default_factory=dict)

    @cached_property
    def _row(self) -> "_Row":
        return _Row(*self.problem.shape)

    # ------------------------------------------------------------------------------------------------- one

    def one(self, point: Any) -> Answer:
        """Through the cache. Raises EngineError."""
        if self.cache is None:
            return self.fresh(point)
        index = self.bins.index(point)
        key = self.bins.pack(*index)
        known = self.cache.get(key)
        try:
            if known is not None:
                at, jet = self._row.unpack(known)
                method: Method = "cache"
            else:
                centre = self.problem.at(self.bins.centre(index), point)
                at = self.problem.coordinates(centre)
                jet = self.engines.jet(*at)
                self._check(centre, self.problem.answer(centre, jet))
                self.cache.put(key, self._row.pack(*at, *jet))
                method = "model"
            values, bounds = self.problem.near(point, at, jet)
        except (ArithmeticError, ValueError) as error:
            raise _no_number(error) from error
        if bounds is None or not self.problem.usable(point, bounds):
            return self.fresh(point)
        return Answer(values, bounds, method, self.engines.name)

    async def asked(self, point: Any, exact: bool = False) -> Answer:
        """The same wherever the network is evaluated. Raises EngineError."""
        if self.engines.here:
            return self.fresh(point) if exact else self.one(point)
        (answer,) = await self.many([point], exact)
        if isinstance(answer, EngineError):
            raise answer
        return answer

    def fresh(self, point: Any) -> Answer:
        """At the point itself, past the cache. Raises EngineError."""
        try:
            at = self.problem.coordinates(point)
            values, bounds = self.problem.near(point, at, self.engines.jet(*at))
            self._check(point, values)
        except (ArithmeticError, ValueError) as error:
            raise _no_number(error) from error
        return Answer(values, bounds, "model", self.engines.name)

    def _check(self, point: Any, values: Any) -> None:
        """Raises EngineError where an answer is no number or breaks an invariant of its equation."""
        if not self.problem.finite(values):
            raise EngineError("the model has no finite answer here", "non_finite")
        tolerances = self.tolerances
        excesses = self.problem.excesses(point, values).items()
        broken = [name for name, excess in excesses if not excess <= tolerances[name]]  # NaN too
        if broken:
            for name in broken:
                self.observer.violated(name, 1)
            raise EngineError(f"the model's answer breaks {', '.join(broken)}", "physics_violation")

    # ------------------------------------------------------------------------------------------------ many

    def few(self, points: Sequence[Any]) -> list[Answer | EngineError]:
        """The same for at most CHUNK points at once, each with what became of it."""
        batch = self.problem.stack(points)
        jets = self._looked_up(batch)
        if jets.missing:
            at = self._centres(batch, jets)
            self._fill(jets, at, self.engines.few(at), self.engines.name, None)
        return [self._again(points[i]) if a is None else a for i, a in enumerate(self._finished(batch, jets, points))]

    async def many(self, points: Sequence[Any], exact: bool) -> list[Answer | EngineError]:
        """The same for any number, by the best engine for it, giving way to other requests on the way."""
        return await self._many(points, exact, asyncio.get_running_loop().time() + self.timeout)

    async def _many(self, points: Sequence[Any], exact: bool, ends: float) -> list[Answer | EngineError]:
        """One time for all of it: who waits in vain for another's evaluation, or evaluates twice, has no more than others."""
        parts = [points[start : start + CHUNK] for start in range(0, len(points), CHUNK)]
        batches = [self.problem.stack(part) for part in parts]
        found = await self._all_looked_up(batches, exact)
        if others := {event for jets in found for key in jets.missing if (event := self._under_way.get(key))}:
            await asyncio.gather(*(event.wait() for event in others))
            found = await self._all_looked_up(batches, exact)
        with self._announced([key for jets in found if jets.indices is not None for key in jets.missing]):
            await self._evaluate([(b, f) for b, f in zip(batches, found, strict=True) if f.missing], ends)
        answers: list[Answer | EngineError | None] = []
        for batch, jets, part in zip(batches, found, parts, strict=True):
            answers += self._finished(batch, jets, part)
            await asyncio.sleep(0)
        return await self._completed(answers, points, ends)

    async def _completed(
        self, answers: list[Answer | EngineError | None], points: Sequence[Any], ends: float
    ) -> list[Answer | EngineError]:
        """With those that no bin could answer evaluated at the points themselves."""
        places = [place for place, answer in enumerate(answers) if answer is None]
        again: list[Answer | EngineError] = []
        try:
            if places:
                again = await self._many([points[place] for place in places], True, ends)
        except EngineError as error:
            again = [error] * len(places)
        for place, answer in zip(places, again, strict=True):
            answers[place] = answer
        return answers  # type: ignore[return-value]  # every place is filled

    async def _all_looked_up(self, batches: Sequence[Any], exact: bool) -> list["_Jets"]:
        found = []
        for batch in batches:
            found.append(self._looked_up(batch, exact))
            await asyncio.sleep(0)
        return found

    @contextmanager
    def _announced(self, keys: Sequence[bytes]) -> Iterator[None]:
        """Who lacks one of these bins meanwhile waits for us instead of evaluating it too."""
        done = asyncio.Event()
        self._under_way.update(dict.fromkeys(keys, done))
        try:
            yield
        finally:
            for key in keys:
                if self._under_way.get(key) is done:
                    del self._under_way[key]
            done.set()

    async def _evaluate(self, lacking: list[tuple[Any, "_Jets"]], ends: float) -> None:
        """What the cache did not have, of all parts in one batch."""
        if not lacking:
            return
        places = [self._centres(batch, jets) for batch, jets in lacking]
        left = max(0.0, ends - asyncio.get_running_loop().time())
        done = await self.engines.jets(np.concatenate(places), left)
        start = 0
        for (_, jets), at in zip(lacking, places, strict=True):
            self._fill(jets, at, done.jets[:, start : start + len(at)], done.engine, done.reason)
            start += len(at)

    def _looked_up(self, batch: Any, exact: bool = False) -> "_Jets":
        """What the cache has for the bins of a batch; the first item of each bin that it lacks is to be evaluated."""
        count = len(batch[0])
        if self.cache is None or exact:
            every = {i.to_bytes(4, "big"): [i] for i in range(count)}
            return _Jets(np.empty((count, self._row.numbers)), [False] * count, every, None)
        indices = self.bins.indices(np.array(batch[: len(self.problem.inputs)]).T)
        hits = [True] * count
        missing: dict[bytes, list[int]] = {}
        raw, size, found = indices.tobytes(), indices.itemsize * indices.shape[1], []
        for i in range(count):
            key = raw[i * size : (i + 1) * size]
            known = self.cache.get(key)
            if known is None:
                missing.setdefault(key, []).append(i)
                hits[i], known = False, self._row.nothing
            found.append(known)
        rows = np.frombuffer(b"".join(found)).reshape(count, self._row.numbers).copy()
        return _Jets(rows, hits, missing, indices)

    def _centres(self, batch: Any, jets: "_Jets") -> Array:
        """The coordinates (m, d) to evaluate at: centres of the missing bins, or the points themselves past the cache."""
        indices, jets.points = jets.indices, batch
        if len(jets.missing) < len(batch[0]):
            first = [places[0] for places in jets.missing.values()]
            jets.points = type(batch)._make(column[first] for column in batch)
            indices = indices[first] if indices is not None else None
        if indices is not None:
            jets.points = self.problem.at(list(self.bins.centres(indices).T), jets.points)
        return np.array(self.problem.coordinates(jets.points)).T

    def _fill(self, jets: "_Jets", at: Array, new: Array, engine: str, reason: str | None) -> None:
        """Puts what was evaluated in its places, and what keeps the invariants into the cache."""
        faults = self._faults(jets.points, self.problem.answer(jets.points, new))
        rows = np.concatenate([at, new.T], axis=1)
        if len(rows) == len(jets.rows):
            jets.rows = rows
        else:
            jets.rows[[place for places in jets.missing.values() for place in places]] = np.repeat(
                rows, [len(places) for places in jets.missing.values()], axis=0
            )
        raw, size = rows.tobytes(), len(self._row.nothing)
        keep = self.cache if jets.indices is not None else None
        for i, (key, places) in enumerate(jets.missing.items()):
            if i in faults:
                jets.faults.update(dict.fromkeys(places, faults[i]))
            elif keep is not None:
                keep.put(key, raw[i * size : (i + 1) * size])
        jets.engine, jets.reason = engine, reason

    def _faults(self, points: Any, values: Any) -> dict[int, str]:
        """Of every answer that may not be sent, by its place, why. What breaks an invariant is told to the observer."""
        with np.errstate(invalid="ignore"):
            finite: Flags = np.isfinite(sum(values))
            sound = np.ones_like(finite)
            for name, excess in self.problem.excesses(points, values).items():
                kept = excess <= self.tolerances[name]  # NaN is not
                if np.count_nonzero(kept) < len(kept) and (count := int(np.count_nonzero(finite & ~kept))):
                    self.observer.violated(name, count)
                    sound &= kept
        right = finite & sound
        if np.count_nonzero(right) == len(right):
            return {}
        wrong = np.flatnonzero(~right).tolist()
        return {place: "physics_violation" if finite[place] else "non_finite" for place in wrong}

    def _finished(self, batch: Any, jets: "_Jets", points: Sequence[Any]) -> list[Answer | EngineError | None]:
        """The answers of a batch; None for what is too far from its bin's centre, and has to be evaluated after all."""
        columns, split = jets.rows.T, self._row.coordinates
        with np.errstate(invalid="ignore"):
            values, bounds = self.problem.near(batch, tuple(columns[:split]), columns[split:])
            near = [True] * len(points)
            if jets.indices is not None:
                near = self.problem.usable(batch, bounds).tolist() if bounds is not None else [False] * len(points)
        rows = np.array(values).T.tolist()
        limits = np.array(bounds).T.tolist() if bounds is not None else [None] * len(rows)
        name, engine, reason = self.engines.name, jets.engine or self.engines.name, jets.reason
        answers: list[Answer | EngineError | None] = []
        for i, (row, limit, close, hit) in enumerate(zip(rows, limits, near, jets.hits, strict=True)):
            if i in jets.faults:
                answers.append(_fault(jets.faults[i]))
            elif not close:
                answers.append(None)
            elif hit:
                answers.append(Answer(row, limit, "cache", name))
            else:
                answers.append(Answer(row, limit, "model", engine, reason))
        return answers

    def _again(self, point: Any) -> Answer | EngineError:
        try:
            return self.fresh(point)
        except EngineError as error:
            return error


def _no_number(error: Exception) -> EngineError:
    """Where NumPy says NaN for many points, `math` raises for one."""
    return EngineError(f"the problem's formulas have no answer here: {type(error).__name__}: {error}", "non_finite")


@dataclass
class _Jets:
    """Coordinates and jets (n, d + k) of a batch as far as they are known, and by key the places of those that are not.

    `indices` are the bins, None past the cache; `points` are where the missing ones are evaluated; `faults` are the places whose
    answers may not be sent, and why.
    """

    rows: Array
    hits: list[bool]
    missing: dict[bytes, list[int]]
    indices: NDArray[np.int32] | None
    points: Any = None
    engine: str | None = None
    reason: str | None = None
    faults: dict[int, str] = field(default_factory=dict)


def _fault(reason: str) -> EngineError:
    broken = "is no number" if reason == "non_finite" else "breaks an invariant of its equation"
    return EngineError(f"the model's answer {broken}", reason)


class _Row:
    """What a bin keeps: coordinates and jet, as float64 one after the other."""

    def __init__(self, coordinates: int, jet: int) -> None:
        self.coordinates, self.numbers = coordinates, coordinates + jet
        row = struct.Struct(f"{self.numbers}d")
        self.pack, self._unpack = row.pack, row.unpack
        self.nothing = bytes(row.size)
        """In the place of what the cache did not have."""

    def unpack(self, row: bytes) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Coordinates and jet."""
        numbers = self._unpack(row)
        return numbers[: self.coordinates], numbers[self.coordinates :]
