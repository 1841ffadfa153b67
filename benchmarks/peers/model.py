"""What every peer serves: this project's network, LiteRT engine and formulas, so that only the serving layer differs.

In the peers' favour: they check neither ranges nor physics, keep no cache, state no error bound, and answer six numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from pinn_inference.engines.litert import LiteRtEngine
from pinn_inference.problems import black_scholes
from pinn_inference.problems.black_scholes import Greeks, Option

MODEL: Final = Path(__file__).parents[2] / "models" / "black-scholes" / "2.0.0" / "model.tflite"
__all__ = ["SIGN", "Greeks", "Option", "Pricer"]
SIGN: Final = {"call": 1.0, "put": -1.0}


class Pricer:
    """Price and Greeks of one option, or of several in one evaluation."""

    def __init__(self) -> None:
        self._engine = LiteRtEngine(MODEL.read_bytes())

    def one(self, option: Option) -> Greeks:
        """Six numbers."""
        reduced = black_scholes.reduce(option)
        return black_scholes.greeks(option, reduced, self._engine.jet(*black_scholes.network_point(reduced)))

    def many(self, options: Sequence[Option]) -> list[Greeks]:
        """Six numbers each."""
        answer = self.columns(Option(*np.array(options).T.copy()))
        return [Greeks(*row) for row in np.stack(answer, axis=1).tolist()]

    def columns(self, options: Option) -> Greeks:
        """Six columns for seven."""
        reduced = black_scholes.reduce(options)
        points = np.stack(black_scholes.network_point(reduced), axis=1)
        return black_scholes.greeks(options, reduced, self._engine.jets(points))
