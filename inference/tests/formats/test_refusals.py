"""What may not be in a network of others, each refused with the reason, before anything of it is run."""

import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from pinn_inference import formats
from pinn_inference.artifacts import folder as folders
from pinn_inference.artifacts import source
from pinn_inference.errors import ModelError
from pinn_inference.formats import keras_file, saved_model

from hack import keras_model
from hack.keras_model import layer

from ..rewritten import rewritten  # noqa: TID252 - the tests are no package with a name of its own

CASES = int(os.environ.get("PINN_FUZZ_CASES", "1500"))
Json = dict[str, Any]


def model(**changed: Any) -> Json:
    """(x, t) -> tanh -> one number, with the options of its Dense layer changed."""
    dense = layer("Dense", "d", units=1, activation="tanh")
    dense["config"] |= changed
    layers = [layer("InputLayer", "i", batch_shape=[None, 2], dtype="float32"), dense]
    return {"module": "keras", "class_name": "Sequential", "config": {"layers": layers}}


def packed(said: Json) -> bytes:
    return keras_model.packed(said, {"dense": [np.ones((2, 1)), np.zeros(1)]})


def refused(content: bytes, name: str = "model.keras") -> str:
    with pytest.raises(ModelError) as caught:
        formats.read(name, content)
    return str(caught.value)


def with_layer(**said: Any) -> Json:
    """The same with one layer more, just so."""
    found = model()
    found["config"]["layers"].append({"config": {"name": "more"}, "registered_name": None, **said})
    return found


def test_what_training_alone_needs_is_left_out_and_nothing_but_plain_options_remains() -> None:
    extra = {
        "kernel_initializer": {"module": "evil", "class_name": "Initializer", "config": {}},
        "activity_regularizer": {"module": "evil", "class_name": "Regularizer", "config": {}},
        "dtype": {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}},
    }
    said = {**model(**extra), "compile_config": {"optimizer": {"module": "evil", "class_name": "Optimizer"}}}
    network = formats.read("model.keras", packed(said))
    assert network.takes == 2
    config = network.parts[keras_file.CONFIG]
    assert b"evil" not in config
    assert msgspec.json.decode(config)["config"]["layers"][1]["config"] == {
        "name": "d", "units": 1, "activation": "tanh", "dtype": "float32"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (with_layer(module="keras.layers", class_name="Lambda"), "has a Lambda layer, which is code"),
        (with_layer(module="os", class_name="system"), "has the layer 'system' of 'os', which is not one"),
        (with_layer(module="my.layers", class_name="Dense"), "has the layer 'Dense' of 'my.layers'"),
        (with_layer(module="keras.layers", class_name="TorchModuleWrapper"), "'TorchModuleWrapper'"),
        (with_layer(module="keras.layers", class_name="StringLookup"), "'StringLookup'"),
        (with_layer(module="keras.layers", class_name="Dense", registered_name="mine>Dense"), "registered package"),
        (with_layer(module="keras", class_name="Sequential"), "a model within a model"),
        ({**model(), "class_name": "MyModel", "module": "mine"}, "is a 'MyModel'; .* no class of one's own"),
        (model(activation={"module": "builtins", "class_name": "function", "config": "mine"}), "'mine' in Dense, which"),
        (model(activation={"module": "keras.utils", "class_name": "get_file", "config": {}}), "'get_file'|{}"),
        (model(activation={"module": "keras.layers", "class_name": "Lambda", "config": {}}), "custom code"),
        (model(units=10**9), "has 1000000000 units of Dense; it may be 1 to 8192"),
        (model(units=True), "has True units of Dense"),
        (model(dtype="mixed_float16"), "computes in 'mixed_float16'"),
        (model(other={"class_name": "X"}), "has an object for other of Dense, 'X'"),
        ({"class_name": "Sequential", "config": {"layers": []}}, "has no layers"),
        ({"class_name": "Sequential", "config": {"layers": "many"}}, "has no list"),
        ({"class_name": "Sequential", "config": 7}, "has no object for the model's config"),
    ],
)  # fmt: skip
def test_a_description_that_names_anything_unknown_is_refused_with_its_name(said: Json, words: str) -> None:
    import re

    assert re.search(f"^model.keras {words}" if words.startswith(("has", "is")) else words, refused(packed(said)))


def test_options_of_a_call_that_keras_would_take_for_an_object_are_refused() -> None:
    """`{"module": "os", "class_name": "function", "config": "system"}` is made of plain words."""
    said = json.loads(PARTS["config.json"])
    said["config"]["layers"][-1]["inbound_nodes"][0]["kwargs"] = {
        "module": "os", "class_name": "function", "config": "system"
    }  # fmt: skip
    file = archive({**PARTS, "config.json": json.dumps(said).encode()})
    assert "calls a layer with the option 'class_name'" in refused(file)
    assert "has the option 'class_name' in Dense" in refused(packed(model(class_name="function")))


@pytest.mark.parametrize(
    "shape", [None, [None], [None, None], [None, 0], [None, 1000], [None, 2, 3], [5, 2], [None, "2"], "x"]
)
def test_an_input_that_is_no_batch_of_points_is_refused(shape: Any) -> None:
    said = model()
    said["config"]["layers"][0]["config"]["batch_shape"] = shape
    assert "numbers of a point" in refused(packed(said)) or "inputs of the shapes" in refused(packed(said))


def archive(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as packing:
        for name, content in files.items():
            packing.writestr(name, content)
    return out.getvalue()


def test_a_file_that_is_something_else_is_named_by_its_first_bytes_and_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    assert "a pickle, which is a program" in refused(pickle.dumps(Bomb()))
    assert "Keras' older one" in refused(keras_model.h5({}))
    torch = archive({"archive/data.pkl": pickle.dumps(Bomb()), "archive/version": b"3"})
    assert "holds 'archive/data.pkl'" in refused(torch)
    assert "is no .zip" in refused(b"anything")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../evil", "/evil", "assets/vocabulary.txt", "a\\b", "model.weights.h5/../../evil"])
def test_other_members_of_the_zip_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(archive({**keras_model.parts(model(), {}), name: b"evil"}))
    assert not list(tmp_path.parent.rglob("evil"))


def test_a_zip_bomb_is_refused_by_what_comes_out_of_it() -> None:
    bomb = archive(
        {**keras_model.parts(model(), {}), "model.weights.h5": bytes(formats.MOST + 1)}, zipfile.ZIP_DEFLATED
    )
    assert len(bomb) < 100_000
    assert refused(bomb).endswith(f"has more than {formats.MOST} bytes unpacked")


def test_a_deep_description_is_refused() -> None:
    parts = {**keras_model.parts(model(), {}), "config.json": b"[" * 100_000 + b"]" * 100_000}
    assert "config.json" in refused(archive(parts)) or "no object" in refused(archive(parts))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("net.pkl", "a pickle, which is a program that runs as it is read"),
        ("net.pt", "PyTorch's, a pickle"),
        ("net.h5", "Keras' older one, which may hold code"),
        ("net.onnx", "one this server does not evaluate"),
    ],
)
def test_a_folder_with_a_network_that_is_never_read_says_why(
    models: Path, tmp_path: Path, name: str, words: str
) -> None:
    made = rewritten(models / "burgers/1.0.0", tmp_path / "m", model__tflite=None)
    (made / name).write_bytes(b"whatever")
    with pytest.raises(ModelError, match=f"{name} has a format that is {words}.*; save it by model.save"):
        source.fetch(f"file://{made}", "burgers", "1.0.0", models, None)


def test_a_folder_with_two_networks_is_refused(models: Path, tmp_path: Path) -> None:
    made = rewritten(models / "burgers/1.0.0", tmp_path / "m", model__keras=b"PK")
    with pytest.raises(ModelError, match=r"holds model\.tflite and model\.keras; a model has one network"):
        folders.read(made)


def test_a_wrong_digest_is_said_before_the_network_is_looked_at(models: Path, tmp_path: Path) -> None:
    for name, content in keras_model.burgers("1.1.0").items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "model.keras").write_bytes(b"\x80\x04 not a network")
    with pytest.raises(ModelError, match="is damaged: its digest is"):
        source.fetch(f"file://{tmp_path}", "burgers", "1.1.0", models, None)


# -------------------------------------------------------------------------------------------- a SavedModel


def field(number: int, value: int | bytes | str) -> bytes:
    """One field of a message as it travels."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def node(operation: str) -> bytes:
    return field(1, "n") + field(2, operation)


def function(name: str, *operations: str, calls: str = "") -> bytes:
    called = field(5, field(1, "f") + field(2, field(10, field(1, calls)))) if calls else b""
    return field(1, field(1, name)) + b"".join(field(3, node(op) + called) for op in operations)


def tensor(*sizes: int, kind: int = 1) -> bytes:
    return field(2, kind) + field(3, b"".join(field(2, field(1, size % 2**64)) for size in sizes))


def graph(
    *functions: bytes,
    nodes: tuple[str, ...] = ("Placeholder",),
    objects: bytes = b"",
    takes: bytes = tensor(-1, 2),
    gives: bytes = tensor(-1, 1),
    signature: str = "serving_default",
) -> bytes:
    library = field(2, b"".join(field(1, f) for f in functions))
    graph_def = b"".join(field(1, node(op)) for op in nodes) + library
    ends = field(1, field(1, "x") + field(2, takes)) + field(2, field(1, "y") + field(2, gives))
    return field(1, 1) + field(
        2, field(2, graph_def) + field(5, field(1, signature) + field(2, ends)) + field(7, objects)
    )


SAVE = function("save", "SaveV2", "MergeV2Checkpoints", "ShardedFilename")
CALL = function("call", "MatMul", "BiasAdd", "Tanh")


def saved(pb: bytes, **more: bytes) -> bytes:
    return archive({"saved_model.pb": pb, "variables/variables.index": b"", **more})


def test_a_graph_of_arithmetic_is_taken_with_the_functions_that_saved_it() -> None:
    network = formats.read("saved_model.zip", saved(graph(CALL, SAVE)))
    assert (network.format, network.takes) == ("saved-model", 2)


@pytest.mark.parametrize(
    "operation", ["ReadFile", "WriteFile", "PyFunc", "EagerPyFunc", "LoadLibrary", "HashTableV2", "While", "Bitcast"]
)
def test_an_operation_that_is_not_on_the_list_is_refused_by_its_name(operation: str) -> None:
    said = rf"saved_model.zip has the operation {operation}, which is not on this server's list"
    for pb in (graph(function("call", "MatMul", operation)), graph(CALL, nodes=("Placeholder", operation))):
        with pytest.raises(ModelError, match=said):
            formats.read("saved_model.zip", saved(pb))


def test_file_operations_are_refused_wherever_they_could_be_called() -> None:
    assert "the operation SaveV2" in refused(saved(graph(CALL, nodes=("SaveV2",))), "saved_model.zip")
    calling = function("call", "StatefulPartitionedCall", calls="save")
    assert "reads or writes files, save, and calls it" in refused(saved(graph(calling, SAVE)), "saved_model.zip")
    named = field(2, field(1, "save"))  # a concrete function of the tree of objects
    assert "reads or writes files, save" in refused(saved(graph(CALL, SAVE, objects=named)), "saved_model.zip")
    more = function("save", "SaveV2", "WriteFile")
    assert "the operation WriteFile" in refused(saved(graph(CALL, more)), "saved_model.zip")


@pytest.mark.parametrize("kind", [5, 10, 11, 14, 16])
def test_objects_that_make_themselves_are_refused(kind: int) -> None:
    objects = field(1, field(kind, b""))
    assert "restored by code of its own" in refused(saved(graph(CALL, objects=objects)), "saved_model.zip")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"takes": tensor(-1, 2, 3)}, "it must take"),
        ({"gives": tensor(-1, 2)}, "it must take"),
        ({"takes": tensor(-1, 10**9)}, "it must take"),
        ({"takes": tensor(-1, 2, kind=7)}, "something else than float32"),
        ({"signature": "other"}, "has no signature serving_default"),
    ],
)
def test_a_signature_that_is_not_from_points_to_numbers_is_refused(changed: Any, words: str) -> None:
    assert words in refused(saved(graph(CALL, **changed)), "saved_model.zip")


def test_assets_and_other_files_are_refused() -> None:
    assert "holds 'assets/vocabulary'" in refused(saved(graph(CALL), **{"assets/vocabulary": b""}), "saved_model.zip")
    assert "holds no saved_model.pb" in refused(archive({"x/y": b""}), "saved_model.zip")


def test_a_network_of_other_coordinates_than_its_problem_is_refused() -> None:
    network = formats.read("model.keras", packed(model()))
    with pytest.raises(ModelError, match="its points have 2 numbers; the problem's have 3"):
        network.parcel("ytl", ("",))


# ------------------------------------------------------------------------------------------------ fuzzing


KERAS = keras_model.network()
with zipfile.ZipFile(io.BytesIO(KERAS)) as opened:
    PARTS = {name: opened.read(name) for name in opened.namelist()}
CONFIG = json.loads(PARTS["config.json"])
GRAPH = graph(CALL, SAVE, function("more", "AddV2", "Mul", calls="call"))
SAVED = saved(GRAPH)


def damaged(content: bytes, draw: random.Random) -> bytes:
    """With bits flipped, pieces cut, doubled or made random, or the end gone."""
    found = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 5, 20))):
        at = draw.randrange(len(found)) if found else 0
        how = draw.randrange(5)
        if how == 0 and found:
            found[at] ^= 1 << draw.randrange(8)
        elif how == 1:
            del found[at : at + draw.choice((1, 4, 100))]
        elif how == 2:
            found[at:at] = found[at : at + draw.choice((1, 8, 200))]
        elif how == 3:
            found[at : at + 4] = draw.randbytes(4)
        elif draw.random() < 0.3:
            del found[at:]
    return bytes(found)


def mutated(value: Any, draw: random.Random) -> Any:
    """A description with one thing in it exchanged for another."""
    if draw.random() < 0.15:
        strange: list[Any] = [
            None,
            True,
            -1,
            2**70,
            1e308,
            "x" * 300,
            "os.system",
            "../x",
            [],
            {},
            [[[]]],
            {"class_name": "Lambda"},
        ]
        return draw.choice(strange)
    if isinstance(value, dict) and value:
        key = draw.choice(list(value))
        return {**value, key: mutated(value[key], draw)}
    if isinstance(value, list) and value:
        at = draw.randrange(len(value))
        return [*value[:at], mutated(value[at], draw), *value[at + 1 :]]
    return value


def _odd_name(draw: random.Random) -> tuple[str, bytes]:
    odd = "x" + "".join(draw.choices("./\\ab:%\n", k=12))
    return "saved_model.zip", archive({"saved_model.pb": GRAPH, odd: b"x"})


def _odd_description(draw: random.Random) -> tuple[str, bytes]:
    config = json.dumps(mutated(deepcopy(CONFIG), draw)).encode()
    return "model.keras", archive({**PARTS, "config.json": config})


SEEDS: dict[str, Callable[[random.Random], tuple[str, bytes]]] = {
    "bytes of a .keras": lambda draw: ("model.keras", damaged(KERAS, draw)),
    "its description": _odd_description,
    "bytes of a SavedModel": lambda draw: ("saved_model.zip", damaged(SAVED, draw)),
    "its graph": lambda draw: ("saved_model.zip", saved(damaged(GRAPH, draw))),
    "names in its zip": _odd_name,
}


@pytest.mark.parametrize("kind", SEEDS)
@pytest.mark.timeout(0)
def test_whatever_is_done_to_a_file_it_is_read_or_refused_and_nothing_is_written(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw = random.Random(kind)
    for _ in range(CASES // len(SEEDS)):
        name, content = SEEDS[kind](draw)
        network = _read(name, content)
        if network is None:
            continue
        assert 1 <= network.takes <= 64
        if name == "model.keras":
            _assert_all_is_known(msgspec.json.decode(network.parts[keras_file.CONFIG]))
        else:
            assert not {"SaveV2", "RestoreV2"} & set(saved_model.operations(CALL))
    assert not list(tmp_path.iterdir())


def _read(name: str, content: bytes) -> formats.Network | None:
    """None where it is refused, which says of what."""
    try:
        return formats.read(name, content)
    except ModelError as error:
        if not str(error).startswith(name):
            raise
        return None


def _assert_all_is_known(value: Any) -> None:
    """Every class that Keras would be told to make is on a list."""
    if isinstance(value, dict):
        if "module" in value:
            known = keras_file.LAYERS | keras_file.OPERATIONS | keras_file.MODELS.keys()
            assert value["class_name"] in known
            assert value["module"] in {"keras.layers", *keras_file.OPERATION_MODULES, *keras_file.MODELS.values()}
        assert value.get("class_name") != "Lambda"
        for item in value.values():
            _assert_all_is_known(item)
    elif isinstance(value, list):
        for item in value:
            _assert_all_is_known(item)


def test_a_damaged_file_of_numbers_ends_its_own_process_at_worst() -> None:
    """The library that reads h5 is not to be trusted with this: it runs apart, and its end is a sentence."""
    from pinn_inference.formats import h5

    draw, whole = random.Random(7), PARTS["model.weights.h5"]
    for _ in range(min(40, max(3, CASES // 2500))):
        with suppress(ModelError):
            arrays = h5.read_apart(damaged(whole, draw), ["dense", "dense_1", "dense_2", "dense_3"])
            assert sum(array.nbytes for found in arrays.values() for array in found) <= 2 * len(whole)
