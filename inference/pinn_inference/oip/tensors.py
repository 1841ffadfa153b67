"""One model as the protocol sees it: an input tensor for each input, an output tensor for each output, all of one length.

What a model takes and gives is its manifest's and its problem's: nothing here knows an equation.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from pinn_inference.artifacts.manifest import Field
from pinn_inference.errors import InvalidInput, TooLarge
from pinn_inference.evaluation import Answer
from pinn_inference.oip import datatypes
from pinn_inference.oip.datatypes import BYTES, FP64, Chosen, Content, Numbers
from pinn_inference.predictor import Predictor

Array = NDArray[np.float64]

BOUND: Final = "error_bound."
"""Before an output's name: the tensor that says how far that output can be from the truth; NaN where that is not known."""

PLATFORM: Final = "pinn_litert"


class Loaded(Protocol):
    """A model that is being served."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def predictor(self) -> Predictor: ...


class Given(NamedTuple):
    """An input tensor as it came."""

    name: str
    datatype: str
    shape: Sequence[int]
    content: Content


class Column(NamedTuple):
    """An output tensor: its elements, in the order of the items."""

    name: str
    datatype: str
    values: Any


class Items(NamedTuple):
    """How each item was answered, and with what: `values` and `bounds` (outputs, n), or None where the answers have their own
    or, bounds, nobody asks for them.

    `different` are the answers that are, the first of them standing for `alike` items.
    """

    answers: Sequence[Answer]
    different: Sequence[Answer]
    alike: int = 1
    values: Array | None = None
    bounds: Array | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A question for each of `count` elements: the inputs that are given, as lists or, where there are many, as arrays."""

    question: type[msgspec.Struct]
    defaults: Mapping[str, Any]
    """The fields of a question, in their order."""
    columns: Mapping[str, Any]
    count: int

    def questions(self) -> list[Any]:
        """All of them, their inputs in the order of the question's fields; beyond the last given are defaults."""
        last = max(place for place, name in enumerate(self.defaults) if name in self.columns)
        return list(map(self.question, *(self._listed(name) for name in islice(self.defaults, last + 1))))

    def at(self, place: int) -> Any:
        """One of them."""
        found = {name: values[place] for name, values in self.columns.items()}
        return self.question(**{name: float(v) if isinstance(v, np.float64) else v for name, v in found.items()})

    def _listed(self, name: str) -> Any:
        values = self.columns.get(name)
        if values is None:
            return repeat(self.defaults[name], self.count)
        return values if isinstance(values, list) else values.tolist()


class _Output(NamedTuple):
    datatype: str
    values: Callable[[Items], Any]


class Tensors:
    """The tensors of a model with these inputs."""

    def __init__(self, model: Loaded, inputs: Sequence[Field]) -> None:
        self.name, self.version = model.name, model.version
        self.predictor = model.predictor
        self._inputs = {field.name: field for field in inputs}
        self._names = ", ".join(self._inputs)
        self._required = frozenset(f.name for f in inputs if f.default is None and not f.choices)
        self._ends = {field.name: _ends_of(field) for field in inputs}
        self._question = model.predictor.problem.Question
        self._defaults = {field.name: field.default for field in msgspec.structs.fields(self._question)}
        self.outputs = model.predictor.problem.outputs
        numbers = {name: _Output(FP64, _value(place)) for place, name in enumerate(self.outputs)}
        bounds = {f"{BOUND}{name}": _Output(FP64, _bound(place)) for place, name in enumerate(self.outputs)}
        self._outputs = {**numbers, **_MADE, **bounds}

    # ------------------------------------------------------------------------------------------------ in

    def asked(self, given: Sequence[Given], most: int) -> Asked:
        """What the tensors ask.

        Raises InvalidInput, naming the tensor, for one that is unknown, missing, given twice, or of another shape or datatype;
        TooLarge for more than `most` items.
        """
        if not given:
            raise InvalidInput(f"inputs is empty; the inputs of {self.name} are {self._names}")
        self._all_there([tensor.name for tensor in given])
        count = _length(given)
        if count > most:
            raise TooLarge(f"the tensors have {count} items; at most {most} are taken at a time")
        columns = {tensor.name: self._read(tensor) for tensor in given}
        return Asked(self._question, self._defaults, columns, count)

    def _all_there(self, names: Sequence[str]) -> None:
        if (unknown := next((name for name in names if name not in self._inputs), None)) is not None:
            raise InvalidInput(f"{unknown[:64]!r} is no input of {self.name}; its inputs are {self._names}")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidInput(f"{twice} is given more than once")
        if missing := self._required.difference(names):
            first = next(name for name in self._inputs if name in missing)
            raise InvalidInput(f"{first} is missing; the inputs of {self.name} are {self._names}")

    def _read(self, tensor: Given) -> Any:
        field = self._inputs[tensor.name]
        if field.choices:
            return _chosen(field.name, field.choices, tensor)
        datatype = datatypes.known(tensor.name, tensor.datatype)
        values = tensor.content.numbers(tensor.name, datatype, tensor.shape)
        if datatype.name == "FP32" and (ends := self._ends[tensor.name]):
            return _ended(values, ends)
        return values

    # ----------------------------------------------------------------------------------------------- out

    def wanted(self, names: Sequence[str] | None) -> Sequence[str]:
        """The output tensors to answer with; None or none: the model's outputs. Raises InvalidInput."""
        if not names:
            return self.outputs
        if (unknown := next((name for name in names if name not in self._outputs), None)) is not None:
            raise InvalidInput(f"{unknown[:64]!r} is no output of {self.name}; there are {', '.join(self._outputs)}")
        if len(set(names)) < len(names):
            raise InvalidInput(f"{next(name for name in names if names.count(name) > 1)} is asked for more than once")
        return names

    def columns(self, items: Items, wanted: Sequence[str]) -> list[Column]:
        """The output tensors of the answers."""
        found = []
        for name in wanted:
            datatype, values = self._outputs[name]
            found.append(Column(name, datatype, values(items)))
        return found

    # ------------------------------------------------------------------------------------------ described

    def described(self) -> dict[str, Any]:
        """The protocol's metadata of a model."""
        inputs = [(name, BYTES if field.choices else FP64) for name, field in self._inputs.items()]
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": PLATFORM,
            "inputs": [_tensor(name, datatype) for name, datatype in inputs],
            "outputs": [_tensor(name, FP64) for name in self.outputs],
        }


def _tensor(name: str, datatype: str) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1]}


def _ends_of(field: Field) -> dict[float, float]:
    """Each end of a range by its nearest FP32, which may lie beyond it: 0.1 is asked about, and not 0.10000000149."""
    ends = [end for end in (field.low, field.high) if end is not None] if field.per is None else []
    return {near: end for end in ends if (near := float(np.float32(end))) != end}


def _length(given: Sequence[Given]) -> int:
    """Of all tensors together. Raises InvalidInput where they differ, or are no columns."""
    first = given[0]
    for tensor in given:
        shape = tensor.shape
        if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)) or shape[0] < 1:
            raise InvalidInput(
                f"{tensor.name} has the shape {_short(shape)}; it must be [n] or [n, 1] with n from 1 on"
            )
        if shape[0] != first.shape[0]:
            sizes = f"{tensor.name} has {shape[0]} elements, {first.name} has {first.shape[0]}"
            raise InvalidInput(f"{sizes}; all tensors must be of one length")
    return first.shape[0]


def _short(shape: Sequence[int]) -> str:
    text = str(list(shape[:8]))
    return text if len(shape) <= 8 else f"{text[:-1]}, ...]"


def _ended(values: Numbers, ends: Mapping[float, float]) -> Numbers:
    """With the end of a range in the place of the FP32 nearest to it."""
    if isinstance(values, list):
        return [ends.get(value, value) for value in values]
    for near, end in ends.items():
        values[values == near] = end
    return values


def _chosen(name: str, choices: Sequence[str], tensor: Given) -> list[str] | Chosen:
    if tensor.datatype != BYTES:
        raise InvalidInput(f"{name} has the datatype {tensor.datatype[:64]!r}; send {BYTES}")
    values = tensor.content.strings(name, tensor.shape, choices)
    if isinstance(values, list) and not set(values) <= set(choices):
        place, wrong = next((i, value) for i, value in enumerate(values) if value not in choices)
        allowed = " or ".join(f'"{choice}"' for choice in choices)
        raise InvalidInput(f"{name}: element {place} is {wrong[:64]!r}; it must be {allowed}")
    return values


def _value(place: int) -> Callable[[Items], Any]:
    def values(items: Items) -> Any:
        return [answer.values[place] for answer in items.answers] if items.values is None else items.values[place]

    return values


def _bound(place: int) -> Callable[[Items], Any]:
    def bounds(items: Items) -> Any:
        if items.bounds is not None:
            return items.bounds[place]
        return [math.nan if answer.bounds is None else answer.bounds[place] for answer in items.answers]

    return bounds


_MADE: Final = {
    "method": _Output(BYTES, lambda items: [answer.method for answer in items.answers]),
    "engine": _Output(BYTES, lambda items: [answer.engine for answer in items.answers]),
    "reason": _Output(BYTES, lambda items: [answer.reason or "" for answer in items.answers]),
}
"""How each item was made; the reason is empty where it is the first choice."""
