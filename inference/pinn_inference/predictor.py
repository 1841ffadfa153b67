"""One request: validate -> engine -> physics check -> answer. The whole path, and nothing else knows the order."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pinn_inference.engines import Engine
from pinn_inference.errors import InvalidInput, PredictionError
from pinn_inference.problems import black_scholes
from pinn_inference.problems.black_scholes import Greeks, Input, Option

CHUNK: Final = 256
"""Items evaluated before other requests get their turn: a millisecond or two of work."""


@dataclass(frozen=True)
class Predictor:
    """Answers questions with one model. `violated` is told of each invariant an answer breaks, and how often."""

    engine: Engine
    ranges: tuple[Input, ...]
    tolerances: Mapping[str, float]
    violated: Callable[[str, int], None]

    def one(self, item: object) -> Greeks:
        """Price and Greeks of one option. Raises InvalidInput, or PredictionError when the model has no finite answer."""
        option = black_scholes.parse(item, self.ranges)
        reduced = black_scholes.reduce(option)
        answer = black_scholes.greeks(option, reduced, self.engine.jet(*black_scholes.network_point(reduced)))
        self._check(option, answer)
        return answer

    async def many(self, items: Sequence[object]) -> list[Greeks]:
        """The same for a list, in its order, giving way to other requests between chunks. One bad item refuses the list."""
        answers: list[Greeks] = []
        for start in range(0, len(items), CHUNK):
            answers += self._chunk(items[start : start + CHUNK], start)
            await asyncio.sleep(0)
        return answers

    def _chunk(self, items: Sequence[object], start: int) -> list[Greeks]:
        option = black_scholes.stack([self._parse(item, start + i) for i, item in enumerate(items)])
        reduced = black_scholes.reduce(option)
        points = np.stack(black_scholes.network_point(reduced), axis=1)
        answer = black_scholes.greeks(option, reduced, self.engine.jets(points))
        self._check(option, answer)
        return [Greeks(*row) for row in np.stack(answer, axis=1).tolist()]

    def _parse(self, item: object, index: int) -> Option:
        try:
            return black_scholes.parse(item, self.ranges)
        except InvalidInput as error:
            raise InvalidInput(f"item {index}: {error}") from None

    def _check(self, option: Option, answer: Greeks) -> None:
        if not black_scholes.finite(answer):
            raise PredictionError("the model has no finite answer here", "non_finite")
        for invariant, excess in black_scholes.excesses(option, answer).items():
            broken = excess > self.tolerances[invariant]
            if broken is not False and (count := int(np.count_nonzero(broken))):
                self.violated(invariant, count)
