"""Questions at random for a server of any model, drawn from what the server says of itself in /openapi.json.

Well inside the trained ranges, so that the model and not its solver is asked.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Question = dict[str, Any]

INNER: Final = (0.2, 0.8)
"""The shares of a range between which numbers are drawn."""

DECADES: Final = 1e4
"""Of a range that spans more, only what is near the middle by orders of magnitude is drawn: no book has prices over fifteen."""

UNSAID: Final = 0.001
"""By how much of itself every number moves when the server does not say which do."""


@dataclass(frozen=True)
class _Number:
    name: str
    low: float
    high: float
    per: str | None
    moves: float | None

    def drawn(self, draw: random.Random) -> float:
        if self.low > 0 and self.high / self.low > DECADES:
            return float(10.0 ** round(math.log10(self.low * self.high) / 2) * draw.uniform(0.5, 2))
        return self.low + (self.high - self.low) * draw.uniform(*INNER)


class Drawing:
    """The inputs of a model. Raises ValueError where a description says none."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        try:
            properties = description["components"]["schemas"]["Question"]["properties"]
            self._numbers = [_number(name, said) for name, said in properties.items() if "x-trained" in said]
            self._choices: dict[str, Sequence[str]] = {
                n: said["enum"] for n, said in properties.items() if "enum" in said
            }
        except (KeyError, TypeError, ValueError, AttributeError):
            self._numbers = []
        if not self._numbers:
            raise ValueError("it describes no inputs with the ranges they were trained on")

    def question(self, draw: random.Random) -> Question:
        """One within the ranges."""
        plain = {number.name: number.drawn(draw) for number in self._numbers}
        numbers = {n.name: plain[n.name] * (plain[n.per] if n.per else 1.0) for n in self._numbers}
        return {**numbers, **{name: draw.choice(choices) for name, choices in self._choices.items()}}

    def moved(self, question: Question, draw: random.Random) -> Question:
        """The same question a moment later: what moves has moved by no more than it does."""
        said = any(number.moves is not None for number in self._numbers)
        moves = {number.name: (number.moves or 0.0) if said else UNSAID for number in self._numbers}
        return {**question, **{n: question[n] * draw.uniform(1 - size, 1 + size) for n, size in moves.items() if size}}


def _number(name: str, said: Mapping[str, Any]) -> _Number:
    low, high = said["x-trained"]
    return _Number(name, float(low), float(high), said.get("x-trained-per"), said.get("x-moves"))
