"""A network as it came, in Keras' or TensorFlow's own format: derivatives by automatic differentiation, tape within tape.

Only a worker process makes one. It writes no file, and is given nothing but what formats/ has looked through; still it is the one
place where somebody else's graph is run, and it holds neither a token nor a port.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from pinn_inference import formats
from pinn_inference.engines import Array
from pinn_inference.errors import ModelError
from pinn_inference.formats import Parcel, h5, keras_file, saved_model

RAM: Final = "ram://pinn-model"
"""TensorFlow's file system in memory: nothing is ever written to a disk."""

Value = Callable[[Any], Any]
"""From points (n, d) to values (n,)."""


class AutomaticEngine:
    """Evaluates a parcel of formats/. Raises ModelError where it is not what it seemed to be."""

    def __init__(self, parcel: bytes) -> None:
        h5.limit()
        opened = formats.opened(parcel)
        self._tf = tf = _tensorflow()
        self.shape = len(opened.coordinates), len(opened.rows)
        value, self._dtype = (_keras if opened.format == "keras" else _saved_model)(tf, opened)
        jets = derivatives(tf, value, opened.coordinates, opened.rows)
        # Not compiled by XLA: that took half a minute for four tapes of a common network, at every start.
        graph = tf.function(jets, autograph=False)
        self._graph = graph.get_concrete_function(tf.TensorSpec([None, self.shape[0]], self._dtype))
        self.jets(np.full((2, self.shape[0]), 0.5))
        self.description = f"CPU, TensorFlow {tf.__version__}, {self._dtype.name}"

    def jets(self, points: Array) -> Array:
        """Jets (k, n) at `points` (n, d)."""
        found: Array = self._graph(self._tf.constant(points, self._dtype)).numpy().T.astype(np.float64)
        return found


def derivatives(tf: Any, value: Value, coordinates: str, rows: Sequence[str]) -> Value:
    """From points (n, d) to jets (n, k): each row the derivative of a shorter one, all of one order by one tape."""

    def gradient(row: str) -> Value:
        """(n, d): the derivatives of a row by every coordinate."""

        def found(points: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(points)
                at = of(row)(points)
            return tape.gradient(at, points, unconnected_gradients=tf.UnconnectedGradients.ZERO)

        return found

    def of(row: str) -> Value:
        if not row:
            return value
        return lambda points: gradient(row[:-1])(points)[:, coordinates.index(row[-1])]

    def jets(points: Any) -> Any:
        slopes = {shorter: gradient(shorter)(points) for shorter in {row[:-1] for row in rows if row}}
        return tf.stack(
            [slopes[row[:-1]][:, coordinates.index(row[-1])] if row else value(points) for row in rows], axis=1
        )

    return jets


def _tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    os.environ["KERAS_BACKEND"], os.environ["KERAS_HOME"] = "tensorflow", os.devnull
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf


def _keras(tf: Any, parcel: Parcel) -> tuple[Value, Any]:
    """By Keras, from the rebuilt description: no class but those on the list, in safe mode, no file."""
    import keras

    config = msgspec.json.decode(parcel.parts[keras_file.CONFIG])
    said = [layer for layer in config["config"]["layers"] if layer["module"] == "keras.layers"]
    named = h5.named([layer["class_name"] for layer in said])
    found = h5.read(parcel.parts[keras_file.WEIGHTS], named)
    for layer, name in zip(said, named, strict=True):
        _fits(layer, found[name])
    functions = _words_taken_out(config)
    model = keras.saving.deserialize_keras_object(config, safe_mode=True)
    for layer, name in zip(said, named, strict=True):
        if layer["class_name"] == "InputLayer":
            continue  # of a Sequential model it is no layer
        made, arrays = model.get_layer(layer["config"]["name"]), found[name]
        if arrays or made.weights:
            made.load_own_variables({str(place): array for place, array in enumerate(arrays)})
    for name, function in functions.items():
        model.get_layer(name).activation = getattr(keras.ops, function)
    count = len(model.inputs)

    def value(points: Any) -> Any:
        entering = points if count == 1 else [points[:, i : i + 1] for i in range(count)]
        return _numbers(model(entering, training=False))

    return value, tf.as_dtype(model.inputs[0].dtype)


def _fits(layer: Any, arrays: Sequence[Any]) -> None:
    """Raises ModelError for a Dense layer of another width than its numbers, before Keras makes room for it."""
    if layer["class_name"] == "Dense" and (not arrays or arrays[0].shape[-1:] != (layer["config"].get("units"),)):
        raise ModelError(f"model.weights.h5 has no numbers for the width of the layer {layer['config']['name']}")


def _words_taken_out(config: Any) -> dict[str, str]:
    """Layers whose activation is a word of mathematics that Keras does not know, and the word; `linear` is put in its place."""
    found = {}
    for layer in config["config"]["layers"]:
        options = layer["config"]
        if options.get("activation") in keras_file.FUNCTIONS:
            found[options["name"]] = options["activation"]
            options["activation"] = "linear"
    return found


def _saved_model(tf: Any, parcel: Parcel) -> tuple[Value, Any]:
    """The function of its signature, from memory, without the functions that saved it."""
    saved_model.check(parcel.parts[saved_model.GRAPH])
    folder = f"{RAM}-{id(parcel):x}"
    for name, content in parcel.parts.items():
        tf.io.gfile.makedirs(f"{folder}/{name}".rpartition("/")[0])
        with tf.io.gfile.GFile(f"{folder}/{name}", "wb") as file:
            file.write(_arithmetic(content) if name == saved_model.GRAPH else content)
    loaded = tf.saved_model.load(folder)
    signature = loaded.signatures[saved_model.SIGNATURE]
    ((name, spec),) = signature.structured_input_signature[1].items()

    def value(points: Any, _kept: Any = loaded) -> Any:
        (found,) = signature(**{name: points}).values()
        return _numbers(found)

    return value, spec.dtype


def _arithmetic(graph: bytes) -> bytes:
    """The same graph without whatever reads or writes files: not called by anything, and now not there."""
    from tensorflow.core.protobuf import saved_model_pb2

    whole = saved_model_pb2.SavedModel.FromString(graph)
    (meta,) = whole.meta_graphs
    library = meta.graph_def.library
    gone = set(saved_model.saving_functions([f.SerializeToString() for f in library.function]))
    kept = [f for f in library.function if f.signature.name not in gone]
    del library.function[:]
    library.function.extend(kept)
    constants = [node for node in meta.graph_def.node if node.op == "Const"]  # functions capture them
    del meta.graph_def.node[:]
    meta.graph_def.node.extend(constants)
    meta.ClearField("saver_def")
    meta.ClearField("collection_def")
    return bytes(whole.SerializeToString())


def _numbers(found: Any) -> Any:
    """One a point."""
    if len(found.shape) != 2 or found.shape[1] != 1:
        raise ValueError(f"the network gives {found.shape} at a batch of points; it must give (points, 1)")
    return found[:, 0]
