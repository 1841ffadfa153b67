"""One request: validate -> cache -> engine -> physics check -> (fallback). The whole path, and nothing else knows the order.

Cache, engine and physics check are one step here, the evaluation of a point that the model was trained for; evaluation.py says
how. What has no answer there goes to the fallback, with the reason.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pinn_inference import gathering
from pinn_inference.cache import ResultCache
from pinn_inference.errors import EngineError, InvalidInput, OutOfDomain, PinnError
from pinn_inference.evaluation import CHUNK, Answer, Evaluation, Silent
from pinn_inference.fallback import SOLVED, Fallback, giving_way
from pinn_inference.problems import Formulation


@dataclass(frozen=True)
class Predictor:
    """Answers questions with one model."""

    evaluation: Evaluation
    fallback: Fallback
    gathering: Callable[[Any], Awaitable[Answer]]

    @property
    def problem(self) -> Formulation:
        """What the model solves."""
        return self.evaluation.problem

    @property
    def cache(self) -> ResultCache | None:
        """The result cache; None when it is off."""
        return self.evaluation.cache

    async def one(self, question: Any, exact: bool = False) -> Answer:
        """The answer to one decoded question. Raises InvalidInput, or PredictionError when nothing may answer."""
        try:
            point = self.problem.point(question)
        except OutOfDomain as error:
            return await self._solve(error.point, "out_of_domain", error)
        try:
            return await (self.evaluation.asked(point, True) if exact else self.gathering(point))
        except EngineError as error:
            return await self._solve(point, error.reason, error)

    def at_once(self, points: Sequence[Any]) -> list[Answer | None]:
        """The answers at a few points within the trained domain, as `one` gives them; None where it takes more than the model.

        Nobody is told why: whoever asks again, for one of these alone, finds the reason, and it is counted then.
        """
        found = gathering.at_once(self._quiet.one, self._quiet.few, points)
        return [None if isinstance(answer, Exception) else answer for answer in found]

    @cached_property
    def _quiet(self) -> Evaluation:
        return replace(self.evaluation, observer=Silent())

    async def many(self, questions: Sequence[Any], exact: bool = False) -> list[Answer]:
        """The same for a list, in its order, giving way to other requests on the way. One bad item refuses the list."""
        answers: list[Answer | None] = [None] * len(questions)
        places, points = await self._points(questions, answers)
        for place, answer in zip(places, await self.all_at(points, exact), strict=True):
            answers[place] = answer
        return answers  # type: ignore[return-value]  # every place is filled

    async def all_at(self, points: Sequence[Any], exact: bool = False) -> list[Answer]:
        """The answers at points within the trained domain. Raises PredictionError when one has none."""
        try:
            found: Sequence[Answer | EngineError] = await self.evaluation.many(points, exact)
        except EngineError as error:
            found = [error] * len(points)
        answers: list[Any] = list(found)
        failed = [place for place, answer in enumerate(answers) if isinstance(answer, EngineError)]
        async for place in giving_way(failed):
            answers[place] = await self._solve(points[place], answers[place].reason, answers[place])
        return answers

    async def _points(self, questions: Sequence[Any], answers: list[Answer | None]) -> tuple[list[int], list[Any]]:
        """The items within the trained domain, and their places; the others are solved on the way."""
        places, points, solved = [], [], 0
        for place, question in enumerate(questions):
            if place % CHUNK == CHUNK - 1:
                await asyncio.sleep(0)
            try:
                points.append(self.problem.point(question))
                places.append(place)
            except OutOfDomain as error:
                answers[place] = await self._placed(place, error)
                solved += 1
                if solved % SOLVED == 0:
                    await asyncio.sleep(0)
            except InvalidInput as error:
                raise InvalidInput(f"item {place}: {error}") from None
        return places, points

    async def _placed(self, place: int, error: OutOfDomain) -> Answer:
        try:
            return await self._solve(error.point, "out_of_domain", error)
        except InvalidInput as refused:
            raise InvalidInput(f"item {place}: {refused}") from None

    async def _solve(self, point: Any, reason: str, cause: PinnError) -> Answer:
        values, bounds = await self.fallback(point, reason, cause)
        return Answer(values, bounds, "solver", "reference", reason)
