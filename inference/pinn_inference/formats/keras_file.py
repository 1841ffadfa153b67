"""A `.keras` file: a zip with a description of layers and their numbers. The description is rebuilt from what is known here.

Keras itself would import any module that a description names. So nothing of it is passed on as it came: classes are looked up in
a list, their options are plain numbers, words and lists, and all that matters in training alone is left out.
"""

from collections.abc import Container, Iterator, Mapping
from typing import Any, Final

import msgspec

from pinn_inference import formats
from pinn_inference.artifacts import archive
from pinn_inference.errors import ModelError
from pinn_inference.formats import Network

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.weights.h5"
MEMBERS: Final = frozenset({"metadata.json", CONFIG, WEIGHTS})

LAYERS: Final = formats.words(
    "InputLayer Dense Activation Rescaling Normalization BatchNormalization LayerNormalization Identity Dropout GaussianNoise "
    "GaussianDropout ActivityRegularization Concatenate Add Subtract Multiply Average Maximum Minimum ReLU LeakyReLU ELU "
    "PReLU Softmax"
)
OPERATIONS: Final = formats.words(
    "Sin Cos Tanh Exp Log Sqrt Square Abs Sigmoid Softplus Silu Add Subtract Multiply Divide TrueDivide Negative Power "
    "Concatenate GetItem"
)
OPERATION_MODULES: Final = frozenset({"keras.src.ops.numpy", "keras.src.ops.nn"})
ACTIVATIONS: Final = formats.words(
    "linear tanh sigmoid softplus silu swish gelu elu selu celu mish softsign exponential relu leaky_relu relu6 hard_sigmoid "
    "hard_silu hard_tanh log_sigmoid softmax squareplus tanh_shrink"
)
FUNCTIONS: Final = frozenset({"sin", "cos"})
"""What `activation=tf.sin` is saved as: a word. It is taken for the function of that name; the trial tells if it was another."""

MODELS: Final = {"Sequential": "keras", "Functional": "keras.src.models.functional"}
TENSOR: Final = "__keras_tensor__"
SLICE: Final = "__slice__"
ELLIPSIS: Final = "__ellipsis__"
ARGUMENTS: Final = {
    TENSOR: ("shape", "dtype", "keras_history"),
    SLICE: ("start", "stop", "step"),
    ELLIPSIS: (),
}
"""What a layer may be called with beside numbers, and what is said of each."""

CALLED_WITH: Final = frozenset({"training", "mask", "axis", "x", "x1", "x2"})
DTYPES: Final = frozenset({"float32", "float64"})
PARTS: Final = frozenset({"module", "class_name", "config", "registered_name"})
LEFT_OUT: Final = (
    "_initializer",
    "_regularizer",
    "_constraint",
    "_config",
    "shared_object_id",
    "lora_rank",
    "lora_alpha",
)
"""Ends of options that matter in training alone."""

MOST_LAYERS: Final = 500
WIDEST: Final = 8192
DEEPEST: Final = 12
LONGEST: Final = 10_000

Json = dict[str, Any]


def read(content: bytes) -> Network:
    """Raises ModelError, "is ..." or "has ...", for all that is not a network of known layers from a point to one number."""
    if said := formats.disguised(content):
        raise ModelError(said)
    files = archive.contents(content, formats.MOST)
    if strange := sorted(files.keys() - MEMBERS):
        raise ModelError(f"holds {strange[0]!r}; of the files of a .keras only {', '.join(sorted(MEMBERS))} are read")
    if missing := sorted({CONFIG, WEIGHTS} - files.keys()):
        raise ModelError(f"holds no {missing[0]}; save the whole model by model.save('model.keras')")
    model = rebuilt(_decoded(files[CONFIG]))
    return Network("keras", {CONFIG: msgspec.json.encode(model), WEIGHTS: files[WEIGHTS]}, _takes(model))


def rebuilt(model: object) -> Json:
    """A description with nothing in it but known classes and plain options."""
    found = _object(model, "its description")
    kind = found.get("class_name")
    if not _among(kind, MODELS):
        raise ModelError(
            f"is a {_shown(kind)}; models of Sequential or of the functional interface are read, no class of one's own"
        )
    config = _object(found.get("config"), "the model's config")
    layers = [_layer(layer) for layer in _list(config.get("layers"), "the model's layers", MOST_LAYERS)]
    named = [layer["config"].get("name") for layer in layers]
    if not layers or not all(isinstance(name, str) for name in named) or len(set(named)) != len(named):
        raise ModelError("has no layers, or not a name of its own for each")
    clean: Json = {"name": "network", "layers": layers}
    if kind == "Functional":
        clean |= {ends: _plain(config.get(ends), ends) for ends in ("input_layers", "output_layers")}
    return {"module": MODELS[str(kind)], "class_name": kind, "config": clean, "registered_name": None}


def _layer(layer: object) -> Json:
    found = _object(layer, "a layer")
    kind, module = found.get("class_name"), found.get("module")
    config = _object(found.get("config"), "a layer's config")
    said = f"{_shown(kind)} of {_shown(module)}"
    if kind == "Lambda":
        raise ModelError("has a Lambda layer, which is code; write what it does with layers or keras.ops")
    if _among(kind, MODELS):
        raise ModelError("has a model within a model; build it of its layers alone")
    if module == "keras.layers" and _among(kind, LAYERS):
        registered = None
    elif _among(module, OPERATION_MODULES) and _among(kind, OPERATIONS):
        registered = kind
    else:
        raise ModelError(f"has the layer {said}, which is not one this server knows: {', '.join(sorted(LAYERS))}")
    if found.get("registered_name") not in (None, registered):
        raise ModelError(
            f"has the layer {_shown(found['registered_name'])} of a registered package, which is custom code"
        )
    clean: Json = {
        "module": module,
        "class_name": kind,
        "config": dict(_options(config, str(kind))),
        "registered_name": registered,
    }
    if "inbound_nodes" in found:
        clean |= {"name": clean["config"].get("name"), "inbound_nodes": _nodes(found["inbound_nodes"])}
    return clean


def _options(config: Json, layer: str) -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if name == "dtype":
            yield name, _dtype(value)
        elif name.endswith("activation"):
            yield name, _activation(value, layer)
        elif name == "units":
            yield name, _number(value, f"units of {layer}", WIDEST)
        elif name in PARTS:
            raise ModelError(f"has the option {name!r} in {layer}, which is a part of an object")
        elif not name.endswith(LEFT_OUT):
            yield name, _plain(value, f"{name[:100]} of {layer}")


def _dtype(value: object) -> str:
    found = value["config"].get("name") if isinstance(value, dict) and isinstance(value.get("config"), dict) else value
    if not _among(found, DTYPES):
        raise ModelError(f"computes in {_shown(found)}; networks in float32 or float64 are served")
    return str(found)


def _activation(value: object, layer: str) -> Any:
    if isinstance(value, str) and value in ACTIVATIONS:
        return value
    if isinstance(value, dict) and value.get("class_name") == "function" and _among(value.get("config"), FUNCTIONS):
        return value["config"]
    found = value.get("config") if isinstance(value, dict) and isinstance(value.get("config"), str) else value
    found = found.get("class_name") if isinstance(found, dict) else found
    known = ", ".join(sorted(ACTIVATIONS | FUNCTIONS))
    raise ModelError(
        f"has the activation {_shown(found)} in {layer}, which is custom code or unknown; known are {known}"
    )


def _nodes(value: object) -> list[Json]:
    return [_node(_object(node, "a node")) for node in _list(value, "inbound_nodes", MOST_LAYERS)]


def _node(node: Json) -> Json:
    """A call of a layer. Keras would take options with the names of an object's parts for an object."""
    options = _object(node.get("kwargs", {}), "a call's options")
    if strange := sorted(options.keys() - CALLED_WITH):
        raise ModelError(
            f"calls a layer with the option {strange[0][:100]!r}; known are {', '.join(sorted(CALLED_WITH))}"
        )
    return {"args": _argument(node.get("args", []), 0), "kwargs": {k: _argument(v, 0) for k, v in options.items()}}


def _argument(value: object, depth: int) -> Any:
    """Of a call: numbers, tensors named by the layer they come from, and slices."""
    if depth > DEEPEST:
        raise ModelError(f"has a call nested more than {DEEPEST} deep")
    if isinstance(value, list):
        return [_argument(item, depth + 1) for item in value[:LONGEST]]
    if not isinstance(value, dict):
        return _plain(value, "an argument")
    kind, config = value.get("class_name"), _object(value.get("config", {}), "an argument's config")
    if not _among(kind, ARGUMENTS):
        raise ModelError(f"calls a layer with {_shown(kind)}, which is not one of numbers, tensors and slices")
    return {"class_name": kind, "config": {name: _plain(config.get(name), name) for name in ARGUMENTS[str(kind)]}}


def _takes(model: Json) -> int:
    """How many numbers a point has: those of one input, or as many inputs of one number."""
    inputs = [layer["config"] for layer in model["config"]["layers"] if layer["class_name"] == "InputLayer"]
    shapes = [config.get("batch_shape") for config in inputs]
    sizes = [shape[1] for shape in shapes if isinstance(shape, list) and len(shape) == 2 and shape[0] is None]
    if not shapes or len(sizes) != len(shapes):
        raise ModelError(f"has inputs of the shapes {_shown(shapes)}; begin with keras.Input((d,)), d numbers a point")
    numbers = [_number(size, "numbers of a point", 64) for size in sizes]
    if len(numbers) > 1 and set(numbers) != {1}:
        raise ModelError(
            f"has {len(numbers)} inputs of {numbers} numbers; one input, or inputs of one number each, are served"
        )
    return sum(numbers)


def _decoded(content: bytes) -> object:
    try:
        return msgspec.json.decode(content)
    except formats.NOT_JSON as error:
        raise ModelError(f"has a {CONFIG} that is not JSON: {error}") from None


def _among(word: object, known: Container[str]) -> bool:
    """Whether it is a word, and one of these."""
    return isinstance(word, str) and word in known


def _plain(value: object, name: str, depth: int = 0) -> Any:
    """Numbers, words, and lists of them; a dictionary could name a class."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str) and len(value) <= 200:
        return value
    if isinstance(value, list) and depth < 4 and len(value) <= LONGEST:
        return [_plain(item, name, depth + 1) for item in value]
    if isinstance(value, dict):
        raise ModelError(f"has an object for {name}, {_shown(value.get('class_name'))}: only plain options are read")
    raise ModelError(f"has no plain value for {name[:100]}")


def _object(value: object, name: str) -> Json:
    if not isinstance(value, dict):
        raise ModelError(f"has no object for {name}")
    return value


def _list(value: object, name: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ModelError(f"has no list of at most {most} for {name}")
    return value


def _number(value: object, name: str, most: int) -> int:
    if type(value) is not int or not 1 <= value <= most:
        raise ModelError(f"has {_shown(value)} {name}; it may be 1 to {most}")
    return value


def _shown(value: object) -> str:
    return repr(value)[:100]


def inputs(config: bytes) -> list[str]:
    """The names of the inputs of a rebuilt description, in the order in which a point's numbers go into them."""
    model = msgspec.json.decode(config)["config"]
    found = [layer["config"].get("name") for layer in model["layers"] if layer["class_name"] == "InputLayer"]
    said = [word for word in _words(model.get("input_layers") or []) if word in found]
    return said if sorted(said) == sorted(found) else found


def _words(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for item in value if isinstance(value, list) else ():
        yield from _words(item)


def layers(config: bytes) -> tuple[Mapping[str, Any], ...]:
    """The layers of a rebuilt description, each {"class_name", "config", "inbound_nodes"}."""
    return tuple(msgspec.json.decode(config)["config"]["layers"])
