"""What the predictor gets from the engines, whichever of them evaluated. Apart, so that importing it loads no engine."""

from dataclasses import dataclass

from pinn_inference.engines import Array


@dataclass(frozen=True)
class Evaluated:
    """Jets (k, n), the engine that made them, and for which reason a better one did not."""

    jets: Array
    engine: str
    reason: str | None = None
