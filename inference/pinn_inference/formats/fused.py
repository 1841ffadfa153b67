"""A network of layers, value and derivatives forward together, in one pass: Taylor mode, for whichever derivatives are wanted.

Written once for NumPy, in which it is the float64 yardstick, and for TensorFlow, from which a LiteRT graph is made. A row is a
derivative, named by its coordinates ("", "x", "xx"); None is a row that is zero everywhere, and (1, width) one that is the same
at every point. Through a function of one number rows go by Faà di Bruno's formula, through a product by Leibniz' rule.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pinn_inference.engines import Jet
from pinn_inference.formats import h5, keras_file
from pinn_inference.formats.h5 import Arrays

Array = NDArray[np.float64]
Rows = Mapping[str, Any]
Step = Callable[[Any, Sequence[Rows]], Rows]
"""From a library (NumPy, or TensorFlow behind `Tf`) and the rows of what enters to the rows of what leaves."""

MOST_DERIVATIVES: Final = 4


class NotFused(Exception):
    """The network has something whose derivatives are not known here; says what, to follow "since it has"."""


@dataclass(frozen=True)
class Network:
    """Steps in their order, each with the places of what it takes: below zero the inputs, from zero on what steps gave."""

    steps: Sequence[tuple[Step, Sequence[int]]]
    inputs: int
    coordinates: str
    rows: tuple[str, ...]
    wanted: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        ordered = tuple("".join(sorted(row, key=self.coordinates.index)) for row in self.rows)
        object.__setattr__(self, "rows", ordered)
        object.__setattr__(self, "wanted", tuple(sorted(closed(ordered), key=lambda row: (len(row), row))))

    def jets(self, xp: Any, points: Any) -> Any:
        """(n, k) at `points` (n, d)."""
        entering = {
            "": points,
            **{c: xp.constant(np.eye(len(self.coordinates))[i : i + 1]) for i, c in enumerate(self.coordinates)},
        }
        whole: Rows = {row: entering.get(row) for row in self.wanted}
        made = [whole] if self.inputs == 1 else [_columns(whole, i, i + 1) for i in range(self.inputs)]
        values: list[Rows] = []
        for step, places in self.steps:
            values.append(step(xp, [made[-1 - place] if place < 0 else values[place] for place in places]))
        last = values[-1]
        nothing = points[:, :1] * 0.0
        return xp.concat([nothing if last[row] is None else last[row] + nothing for row in self.rows])


class Engine:
    """The network in float64, by NumPy: the yardstick, and what derivatives beyond the jet are taken of."""

    name = "numpy-float64"

    def __init__(self, network: Network) -> None:
        self.network = network
        self.shape = len(network.coordinates), len(network.rows)

    def jet(self, *at: float) -> Jet:
        """At one point."""
        return tuple(self.jets(np.array([at]))[:, 0].tolist())

    def jets(self, points: Array) -> Array:
        """(k, n) at `points` (n, d)."""
        found: Array = np.ascontiguousarray(self.network.jets(Numpy(), points).T)
        return found


class Numpy:
    """What steps need of a library."""

    matmul, tanh, sin, cos, exp, abs = np.matmul, np.tanh, np.sin, np.cos, np.exp, np.abs

    def constant(self, values: Array) -> Array:
        """As it is."""
        return values

    def concat(self, parts: Sequence[Array]) -> Array:
        """Along the numbers of a point."""
        return np.concatenate(parts, axis=1)

    def sigmoid(self, p: Array) -> Array:
        """1/(1 + exp(-p)), without overflow."""
        return 0.5 * (1 + np.tanh(0.5 * p))

    def softplus(self, p: Array) -> Array:
        """ln(1 + exp(p)), without overflow."""
        return np.logaddexp(0.0, p)


class Tf:
    """The same of TensorFlow, in float32, by operations that LiteRT has."""

    def __init__(self, tf: Any) -> None:
        self._tf = tf
        self.matmul, self.tanh, self.sin, self.cos = tf.matmul, tf.tanh, tf.sin, tf.cos
        self.exp, self.abs, self.sigmoid = tf.exp, tf.abs, tf.sigmoid

    def constant(self, values: Array) -> Any:
        """Of the graph."""
        return self._tf.constant(values, self._tf.float32)

    def concat(self, parts: Sequence[Any]) -> Any:
        """Along the numbers of a point."""
        return self._tf.concat(parts, 1)

    def softplus(self, p: Any) -> Any:
        """ln(1 + exp(p)), without overflow."""
        return self._tf.maximum(p, 0.0) + self._tf.math.log(1.0 + self._tf.exp(-self._tf.abs(p)))


def closed(rows: Sequence[str]) -> set[str]:
    """These rows and all that are needed for them: with "xt" also "x" and "t". Raises NotFused beyond four derivatives."""
    if max(map(len, rows)) > MOST_DERIVATIVES:
        raise NotFused(f"more than {MOST_DERIVATIVES} derivatives")
    return {"".join(part) for row in rows for size in range(len(row) + 1) for part in combinations(row, size)} | {""}


# ------------------------------------------------------------------------------------------------- steps


def _affine(w: Array, b: Array) -> Step:
    def step(xp: Any, entering: Sequence[Rows]) -> Rows:
        (rows,) = entering
        weights = xp.constant(w)
        out = {name: None if row is None else xp.matmul(row, weights) for name, row in rows.items()}
        return {**out, "": _plus(out[""], xp.constant(b[None, :]))}

    return step


def _scaled(factor: Array, offset: Array) -> Step:
    def step(xp: Any, entering: Sequence[Rows]) -> Rows:
        (rows,) = entering
        by = xp.constant(np.atleast_2d(factor))
        out = {name: None if row is None else row * by for name, row in rows.items()}
        return {**out, "": _plus(out[""], xp.constant(np.atleast_2d(offset)))}

    return step


def _through(kind: str) -> Step:
    def step(xp: Any, entering: Sequence[Rows]) -> Rows:
        (rows,) = entering
        slopes = FUNCTIONS[kind](xp, rows[""], max(map(len, rows)))
        return {name: slopes[0] if not name else _faa_di_bruno(slopes, rows, name) for name in rows}

    return step


def _summed(factors: Sequence[float]) -> Step:
    def step(xp: Any, entering: Sequence[Rows]) -> Rows:
        out: dict[str, Any] = {}
        for name in entering[0]:
            total = None
            for factor, rows in zip(factors, entering, strict=True):
                row = rows[name]
                total = _plus(total, row if row is None or factor == 1.0 else row * factor)
            out[name] = total
        return out

    return step


def _multiplied(xp: Any, entering: Sequence[Rows]) -> Rows:
    first, *others = entering
    for other in others:
        first = {name: _leibniz(first, other, name) for name in first}
    return first


def _joined(xp: Any, entering: Sequence[Rows]) -> Rows:
    out: dict[str, Any] = {}
    for name in entering[0]:
        parts = [rows[name] for rows in entering]
        if all(part is None for part in parts):
            out[name] = None
            continue
        whole = [
            rows[""] * 0.0 if part is None else part + rows[""] * 0.0
            for part, rows in zip(parts, entering, strict=True)
        ]
        out[name] = xp.concat(whole)
    return out


def _cut(start: int, stop: int) -> Step:
    return lambda xp, entering: _columns(entering[0], start, stop)


def _columns(rows: Rows, start: int, stop: int) -> Rows:
    return {name: None if row is None else row[:, start:stop] for name, row in rows.items()}


def _plus(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a + b


def _faa_di_bruno(slopes: Sequence[Any], rows: Rows, name: str) -> Any:
    total: Any = None
    for parts in _partitions(name):
        factors = [rows[part] for part in parts]
        if any(factor is None for factor in factors) or slopes[len(parts)] is None:
            continue
        term = slopes[len(parts)]
        for factor in factors:
            term = term * factor
        total = _plus(total, term)
    return total


@cache
def _partitions(name: str) -> tuple[tuple[str, ...], ...]:
    """Every way to part the letters of a row, which are in order, into groups: a group is the row of a factor."""
    if not name:
        return ((),)
    found = []
    for size in range(len(name)):
        for places in combinations(range(1, len(name)), size):
            group = name[0] + "".join(name[i] for i in places)
            rest = "".join(c for i, c in enumerate(name) if i and i not in places)
            found += [(group, *others) for others in _partitions(rest)]
    return tuple(found)


def _leibniz(a: Rows, b: Rows, name: str) -> Any:
    total: Any = None
    for size in range(len(name) + 1):
        for places in combinations(range(len(name)), size):
            here = a["".join(name[i] for i in places)]
            there = b["".join(c for i, c in enumerate(name) if i not in places)]
            if here is not None and there is not None:
                total = _plus(total, here * there)
    return total


# --------------------------------------------------------------------------------------------- functions
# Each gives f(p), f'(p), f''(p), ... up to an order; None is a derivative that is zero everywhere.


def _linear(xp: Any, p: Any, order: int) -> list[Any]:
    return [p, p * 0.0 + 1.0, *[None] * (order - 1)]


def _by_polynomials(value: Any, slope: Sequence[float], order: int) -> list[Any]:
    """Of a function y whose slope is a polynomial of y: so are all its derivatives."""
    polynomial, found = np.polynomial.Polynomial([0.0, 1.0]), [value]
    for _ in range(order):
        polynomial = polynomial.deriv() * np.polynomial.Polynomial(slope)
        total: Any = None
        for coefficient in reversed(polynomial.coef.tolist()):  # Horner
            total = value * 0.0 + coefficient if total is None else total * value + coefficient
        found.append(total)
    return found


def _tanh(xp: Any, p: Any, order: int) -> list[Any]:
    return _by_polynomials(xp.tanh(p), (1.0, 0.0, -1.0), order)


def _sigmoid(xp: Any, p: Any, order: int) -> list[Any]:
    return _by_polynomials(xp.sigmoid(p), (0.0, 1.0, -1.0), order)


def _softplus(xp: Any, p: Any, order: int) -> list[Any]:
    return [xp.softplus(p), *_sigmoid(xp, p, max(order - 1, 0))][: order + 1]


def _silu(xp: Any, p: Any, order: int) -> list[Any]:
    s = _sigmoid(xp, p, order)
    return [p * s[n] + (n * s[n - 1] if n else 0.0) for n in range(order + 1)]


def _sin(xp: Any, p: Any, order: int) -> list[Any]:
    sine, cosine = xp.sin(p), xp.cos(p)
    return [(sine, cosine, -sine, -cosine)[n % 4] for n in range(order + 1)]


def _cos(xp: Any, p: Any, order: int) -> list[Any]:
    return _sin(xp, p, order + 1)[1:]


def _exp(xp: Any, p: Any, order: int) -> list[Any]:
    return [xp.exp(p)] * (order + 1)


def _square(xp: Any, p: Any, order: int) -> list[Any]:
    return [p * p, 2.0 * p, p * 0.0 + 2.0, *[None] * order][: order + 1]


FUNCTIONS: Final[dict[str, Callable[[Any, Any, int], list[Any]]]] = {
    "linear": _linear,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "silu": _silu,
    "swish": _silu,
    "sin": _sin,
    "cos": _cos,
    "exponential": _exp,
    "exp": _exp,
    "square": _square,
}

# ---------------------------------------------------------------------------------------- from layers

Config = Mapping[str, Any]
ONE, NONE = np.ones(1), np.zeros(1)
PASSING: Final = frozenset({"Identity", "Dropout", "GaussianNoise", "GaussianDropout", "ActivityRegularization"})
"""Layers that do nothing once a network is trained."""


def network(config: bytes, arrays: Arrays, coordinates: str, rows: tuple[str, ...]) -> Network:
    """Of a rebuilt description and its numbers. Raises NotFused, or ValueError where numbers do not fit the layers."""
    layers = keras_file.layers(config)
    names = iter(h5.named([layer["class_name"] for layer in layers if layer["module"] == "keras.layers"]))
    places: dict[str, int] = {}
    steps: list[tuple[Step, Sequence[int]]] = []
    entering = keras_file.inputs(config)
    for layer in layers:
        kind, options, name = layer["class_name"], layer["config"], layer["config"].get("name")
        found = arrays.get(next(names), []) if layer["module"] == "keras.layers" else []
        if kind == "InputLayer":
            places[name] = -1 - entering.index(name)
            continue
        call = _called(layer, places, steps)
        tensors = call.tensors
        for step in _steps(layer["module"] == "keras.layers", kind, options, found, call):
            steps.append((step, tensors))
            tensors = [len(steps) - 1]
        places[name] = tensors[0] if kind in PASSING else len(steps) - 1
    end = _end(config, places, steps)
    return Network([*steps, (_summed([1.0]), [end])], len(entering), coordinates, rows)


def names(config: bytes) -> list[str]:
    """What the layers are called in the h5 file."""
    return h5.named([layer["class_name"] for layer in keras_file.layers(config) if layer["module"] == "keras.layers"])


@dataclass(frozen=True)
class _Call:
    """What a layer is called with: the places of tensors, and what else comes before the first of them and after it.

    1 - x and x - 1 differ in nothing but that.
    """

    tensors: Sequence[int]
    before: Sequence[Any] = ()
    after: Sequence[Any] = ()

    @property
    def others(self) -> Sequence[Any]:
        """What is no tensor."""
        return [*self.before, *self.after]


def _called(layer: Config, places: Mapping[str, int], steps: Sequence[Any]) -> _Call:
    """By its one node; a layer of a Sequential takes what the one before it gave."""
    if "inbound_nodes" not in layer:
        return _Call([len(steps) - 1 if steps else -1])
    if len(layer["inbound_nodes"]) != 1:
        raise NotFused(f"the layer {layer['config'].get('name')} called {len(layer['inbound_nodes'])} times")
    (node,) = layer["inbound_nodes"]
    tensors: list[int] = []
    before: list[Any] = []
    after: list[Any] = []
    for argument in _flat(node["args"]):
        if isinstance(argument, dict) and argument["class_name"] == keras_file.TENSOR:
            history = argument["config"].get("keras_history") or [None]
            if history[0] not in places:
                raise NotFused("a layer that takes what comes after it")
            tensors.append(places[history[0]])
        else:
            (after if tensors else before).append(argument)
    if {k: v for k, v in node["kwargs"].items() if v is not None and k not in ("training", "mask")}:
        raise NotFused(f"the options {', '.join(node['kwargs'])} in a call of {layer['class_name']}")
    return _Call(tensors, before, after)


def _flat(value: Any) -> Iterator[Any]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, list):
            yield from _flat(item)
        else:
            yield item


def _steps(is_layer: bool, kind: str, options: Config, found: Sequence[Any], call: _Call) -> list[Step]:
    """What one layer does, one step after the other; none for a layer that does nothing."""
    count = len(call.tensors)
    if is_layer and kind in PASSING:
        return []
    if is_layer and kind == "Dense":
        return [_dense(found), *_activated(options.get("activation"))]
    if is_layer and kind == "Activation":
        return _activated(options.get("activation")) or [_summed([1.0])]
    if is_layer and kind in SCALES:
        return [_scaled(*SCALES[kind](options, [np.asarray(a, np.float64) for a in found]))]
    if kind in ("Add", "Average") and count > 1 and not call.others:
        return [_summed([1.0 / count if kind == "Average" else 1.0] * count)]
    if kind == "Subtract" and count == 2 and not call.others:
        return [_summed([1.0, -1.0])]
    if kind == "Multiply" and count > 1 and not call.others:
        return [_multiplied]
    if is_layer and kind == "Concatenate" and options.get("axis") in (-1, 1):
        return [_joined]
    if not is_layer and count == 1:
        return [_operation(kind, call)]
    raise NotFused(f"the layer {kind}")


def _operation(kind: str, call: _Call) -> Step:
    """One of keras.ops, of one tensor."""
    if (step := _with_number(kind, call)) is not None:
        return step
    if not call.others and kind == "Negative":
        return _scaled(-ONE, NONE)
    if not call.others and kind.lower() in FUNCTIONS:
        return _through(kind.lower())
    if kind == "GetItem" and not call.before and len(call.after) == 2 and all(isinstance(n, dict) for n in call.after):
        points, columns = (n["config"] for n in call.after)
        start, stop = columns.get("start") or 0, columns.get("stop")
        whole = all(points.get(end) is None for end in ("start", "stop", "step"))
        if whole and columns.get("step") in (None, 1) and type(start) is type(stop) is int and 0 <= start < stop:
            return _cut(start, stop)
    raise NotFused(f"the operation {kind}, called like this,")


def _with_number(kind: str, call: _Call) -> Step | None:
    """Of a tensor and a number; None for what is no such thing, or is not affine: a number over a tensor."""
    if not all(type(other) in (int, float) for other in call.others):
        return None
    match kind, call.before, call.after:
        case ("Add", [number], []) | ("Add", [], [number]):
            return _scaled(ONE, NONE + number)
        case "Subtract", [number], []:
            return _scaled(-ONE, NONE + number)
        case "Subtract", [], [number]:
            return _scaled(ONE, NONE - number)
        case ("Multiply", [number], []) | ("Multiply", [], [number]):
            return _scaled(ONE * number, NONE)
        case "Divide" | "TrueDivide", [], [number] if number:
            return _scaled(ONE / number, NONE)
    return None


def _dense(found: Sequence[Any]) -> Step:
    if not found or found[0].ndim != 2:
        raise ValueError("a Dense layer has no matrix in model.weights.h5")
    w = np.asarray(found[0], np.float64)
    b = np.asarray(found[1], np.float64) if len(found) > 1 else np.zeros(w.shape[1])
    if b.shape != w.shape[1:]:
        raise ValueError(f"a Dense layer has a matrix {w.shape} and a bias {b.shape} in model.weights.h5")
    return _affine(w, b)


def _activated(name: Any) -> list[Step]:
    if name in (None, "linear"):
        return []
    if name not in FUNCTIONS:
        raise NotFused(f"the activation {name}")
    return [_through(name)]


def _rescaling(options: Config, _: Sequence[Array]) -> tuple[Array, Array]:
    return np.asarray(options.get("scale", 1.0), np.float64), np.asarray(options.get("offset", 0.0), np.float64)


def _normalization(options: Config, found: Sequence[Array]) -> tuple[Array, Array]:
    """(x - mean)/sqrt(variance), as Keras has it; the mean and the variance are options, or were adapted."""
    if options.get("mean") is not None:
        mean, variance = (np.asarray(options.get(name), np.float64) for name in ("mean", "variance"))
    elif len(found) >= 2:
        mean, variance = found[0], found[1]
    else:
        raise ValueError("a Normalization layer has no mean in model.weights.h5; was it adapted?")
    deviation = np.maximum(np.sqrt(variance), 1e-7)
    return (deviation, mean) if options.get("invert") else (1 / deviation, -mean / deviation)


def _batch_normalization(options: Config, found: Sequence[Array]) -> tuple[Array, Array]:
    """As it is once trained: gamma (x - mean)/sqrt(variance + epsilon) + beta."""
    scale, centre = options.get("scale", True), options.get("center", True)
    if len(found) != 2 + bool(scale) + bool(centre) or options.get("axis", -1) not in (-1, 1):
        raise ValueError("a BatchNormalization layer has other numbers in model.weights.h5 than its options say")
    rest = list(found)
    gamma = rest.pop(0) if scale else np.ones_like(found[-1])
    beta = rest.pop(0) if centre else np.zeros_like(found[-1])
    mean, variance = rest
    factor = gamma / np.sqrt(variance + float(options.get("epsilon", 1e-3)))
    return factor, beta - mean * factor


SCALES: Final[dict[str, Callable[[Config, Sequence[Array]], tuple[Array, Array]]]] = {
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "BatchNormalization": _batch_normalization,
}


def _end(config: bytes, places: Mapping[str, int], steps: Sequence[Any]) -> int:
    """The place of the network's one output."""
    import msgspec

    said = msgspec.json.decode(config)["config"].get("output_layers")
    if said is None:
        return len(steps) - 1
    flat = list(_flat(said))
    if len(flat) != 3 or flat[0] not in places:
        raise NotFused("more than one output")
    return places[flat[0]]


def finite(network: Network, points: Array) -> bool:
    """Whether it gives numbers at some points, and one a row: what is wrong with its arrays' shapes shows here."""
    found = network.jets(Numpy(), points)
    return bool(found.shape == (len(points), len(network.rows)) and math.isfinite(float(np.sum(found))))
