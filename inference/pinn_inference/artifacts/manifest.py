"""What a model says about itself: its problem, the ranges it was trained on, how wrong it was measured to be, its digest."""

from collections.abc import Mapping
from typing import Any

import msgspec

from pinn_inference.errors import ModelError
from pinn_inference.formats import NOT_JSON
from pinn_inference.problems import Input


class Field(msgspec.Struct, frozen=True, omit_defaults=True):
    """An input or an output: name, unit, and for an input the closed range it was trained on."""

    name: str
    unit: str
    low: float | None = None
    high: float | None = None
    per: str | None = None
    default: float | None = None
    choices: tuple[str, ...] | None = None


class Errors(msgspec.Struct, frozen=True, omit_defaults=True):
    """Largest absolute error against the reference, output by output, and where the first of them is worst.

    `relative_l2`: the norm of the error over the norm of the truth, of the worst part of the points where they have parts.
    """

    largest: Mapping[str, float]
    worst_price_at: Mapping[str, float | str] | None = None
    worst_at: Mapping[str, float | str] | None = None
    relative_l2: Mapping[str, float] | None = None


class Accuracy(msgspec.Struct, frozen=True):
    """How the errors were measured, and the errors: as served, and with the same weights in float64."""

    reference: str
    points: int
    sampling: str
    served: Errors
    float64: Errors


class Manifest(msgspec.Struct, frozen=True):
    """manifest.json. `tolerances` are by invariant, dimensionless (see `excesses` of the problem)."""

    schema: int
    name: str
    version: str
    description: str
    problem: str
    digest: str
    precision: Mapping[str, str]
    accuracy: Accuracy
    tolerances: Mapping[str, float]
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    architecture: Mapping[str, Any]
    training: Mapping[str, Any]
    files: Mapping[str, str]

    def ranges(self) -> tuple[Input, ...]:
        """The numeric inputs with the ranges this model may be asked about."""
        return tuple(
            Input(f.name, f.unit, f.low, f.high, f.per, f.default)
            for f in self.inputs
            if f.low is not None and f.high is not None
        )


def parse(content: bytes) -> Manifest:
    """Raises ModelError with the reason when the bytes are no manifest of a schema this server knows."""
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except NOT_JSON as error:
        raise ModelError(f"the model's manifest.json is not readable: {error}") from None
    if manifest.schema != 1:
        raise ModelError(f"the model's manifest has schema {manifest.schema}; this server knows schema 1")
    return manifest


def write(manifest: Manifest) -> bytes:
    """The manifest as it lies in the folder: indented JSON, one final newline."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
