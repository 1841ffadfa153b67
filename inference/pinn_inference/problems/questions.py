"""Reading what is asked: numbers, ranges, and the sentence that names the field, its value and what is allowed."""

import math
from collections.abc import Mapping, Sequence
from keyword import iskeyword
from typing import Any, Final, NoReturn

from pinn_inference.errors import InvalidInput, OutOfDomain
from pinn_inference.problems import Input

_TYPE_NAMES: Final = {bool: "a boolean", str: "a string", type(None): "null", list: "a list", dict: "an object"}
WISHES: Final = frozenset({"outputs", "exact"})
"""Fields of every question that are no inputs."""
TOLD: Final = frozenset({"model", "method", "engine", "reason", "error_bound"})
"""Fields of every answer that are no outputs."""


def number(item: Mapping[str, object], field: Input) -> float:
    """The finite number of one input. Raises InvalidInput."""
    try:
        value = item[field.name]
    except KeyError:
        if field.default is None:
            raise InvalidInput(f"{field.name} is missing ({allowed(field)})") from None
        return field.default
    if type(value) is float:
        found = value
    elif type(value) is int:
        found = _from_integer(value, field)
    else:
        raise InvalidInput(f"{field.name} must be a number, not {described(value)} ({allowed(field)})")
    if not math.isfinite(found):
        raise InvalidInput(f"{field.name} is {found}, which is not finite ({allowed(field)})")
    return found


def _from_integer(value: int, field: Input) -> float:
    try:
        return float(value)
    except OverflowError:
        raise InvalidInput(f"{field.name} is too large for a number ({allowed(field)})") from None


def in_range(field: Input, values: Mapping[str, float], point: Any) -> None:
    """Raises OutOfDomain, with the point, where the model was not trained for this number."""
    value = values[field.name]
    unit = values[field.per] if field.per else 1.0
    if not field.low * unit <= value <= field.high * unit:
        sentence = f"{field.name} is {value!r}, outside the range the model was trained on ({allowed(field)})"
        raise OutOfDomain(sentence, point)


def solvable(ranges: Sequence[Input], point: Any) -> None:
    """Raises InvalidInput where a number is beyond what the reference solver takes."""
    for field in ranges:
        value = getattr(point, field.name)
        unit = getattr(point, field.per) if field.per else 1.0
        if not field.low * unit <= value <= field.high * unit:
            sentence = f"{field.name} is {value!r}, which the reference solver does not take either ({allowed(field)})"
            raise InvalidInput(sentence)


def nameable(inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Raises ValueError where a name is no word, or is one that a question or an answer has for something else."""
    for kind, words, taken in (("input", inputs, WISHES), ("output", outputs, TOLD)):
        for name in words:
            if not name.isidentifier() or iskeyword(name):
                raise ValueError(
                    f"the {kind} {name!r} is no name: letters, digits and _ alone, and no word of Python's"
                )
            if name in taken:
                raise ValueError(f"the {kind} {name!r} has a name that is taken; taken are {', '.join(sorted(taken))}")


def refuse_unknown(item: Mapping[str, object], known: str, fields: frozenset[str]) -> NoReturn:
    """Names the first field that nobody asked for."""
    first = next(key for key in item if key not in fields)
    raise InvalidInput(f"{first[:64]!r} is not an input; the inputs are {known}")


def names(inputs: Sequence[Input]) -> str:
    """The inputs, as they stand in a sentence."""
    return ", ".join(field.name for field in inputs)


def allowed(field: Input) -> str:
    """The range of an input, as it stands in a sentence."""
    of = f" times {field.per}" if field.per else f" {field.unit}"
    return f"allowed: {field.low:g} to {field.high:g}{of}"


def described(value: object) -> str:
    """What a JSON value is, as it stands in a sentence."""
    known = _TYPE_NAMES.get(type(value), "a number")
    return f"{known} {value[:64]!r}" if isinstance(value, str) else known


def in_order(inputs: Sequence[Input], own: Sequence[Input]) -> tuple[Input, ...]:
    """A model's inputs in the order of the problem's `own`: a manifest may name them in any, and formulas go by place.

    Raises ValueError where they are not the problem's.
    """
    by_name = {field.name: field for field in inputs}
    if len(by_name) != len(inputs) or by_name.keys() != {field.name for field in own}:
        raise ValueError(f"the inputs with a range are {names(inputs) or 'none'}; they must be {names(own)}")
    for ours in own:
        field = by_name[ours.name]
        if field.per != ours.per:
            raise ValueError(f"the range of {field.name} is per {field.per}; it must be per {ours.per}")
        if not field.low <= field.high:
            raise ValueError(f"the range of {field.name} is {field.low:g} to {field.high:g}: the low end is the higher")
    return tuple(by_name[field.name] for field in own)
