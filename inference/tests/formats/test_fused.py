"""Value and derivatives of a network of layers, forward together: against closed forms, and against a network that is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pinn_inference import formats
from pinn_inference.engines.float64 import Float64Engine
from pinn_inference.errors import ModelError
from pinn_inference.formats import fused, h5, keras_file

from hack import keras_model
from hack.keras_model import layer, packed

RNG = np.random.default_rng(3)
ROWS = ("", "x", "xx", "t", "xt", "xxt", "xxxx")
POINTS = RNG.random((9, 2))


def engine(file: bytes, coordinates: str = "xt", rows: tuple[str, ...] = ROWS) -> fused.Engine:
    parts = formats.read("model.keras", file).parts
    config = parts[keras_file.CONFIG]
    arrays = h5.read(parts[keras_file.WEIGHTS], fused.names(config))
    return fused.Engine(fused.network(config, arrays, coordinates, rows))


def sequential(*layers: dict[str, Any], **arrays: list[Any]) -> bytes:
    first = layer("InputLayer", "input", batch_shape=[None, 2])
    model = {"module": "keras", "class_name": "Sequential", "config": {"layers": [first, *layers]}}
    return packed(model, arrays)


def one(activation: str, w: float = 0.7, v: float = -0.4) -> bytes:
    """f(w x + v t)."""
    dense = layer("Dense", "d", units=1, activation=activation)
    return sequential(dense, dense=[np.array([[w], [v]], np.float64), np.zeros(1)])


def sigmoid(p: Any) -> Any:
    return 1 / (1 + np.exp(-p))


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("tanh", np.tanh),
        ("sigmoid", sigmoid),
        ("softplus", lambda p: np.log1p(np.exp(p))),
        ("silu", lambda p: p * sigmoid(p)),
        ("exponential", np.exp),
        ("linear", lambda p: p),
    ],
)
def test_every_activation_has_its_derivatives_up_to_the_fourth(activation: str, function: Any) -> None:
    """Against Cauchy's integral: the derivatives of f at p from f on a circle around it, in the complex plane."""
    found = engine(one(activation)).jets(POINTS)
    p = POINTS @ np.array([0.7, -0.4])
    circle = 0.5 * np.exp(2j * np.pi * np.arange(64) / 64)
    values = function(p[:, None] + circle)
    orders = [np.mean(values * circle ** (-n), axis=1).real * float(np.prod(range(1, n + 1))) for n in range(5)]
    powers = [0.7 ** row.count("x") * (-0.4) ** row.count("t") for row in ROWS]
    expected = [power * orders[len(row)] for row, power in zip(ROWS, powers, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


def test_a_product_of_layers_follows_leibniz_and_a_residual_sum_adds() -> None:
    """u = sin(x) * cos(t) + x, by a functional model of two inputs with operations of keras.ops."""

    def operation(kind: str, name: str, of: str) -> dict[str, Any]:
        return {**layer(kind, name, of=[of]), "module": "keras.src.ops.numpy", "registered_name": kind}

    layers = [
        layer("InputLayer", "t", batch_shape=[None, 1], of=[]),
        layer("InputLayer", "x", batch_shape=[None, 1], of=[]),
        operation("Sin", "s", "x"),
        operation("Cos", "c", "t"),
        layer("Multiply", "m", of=["s", "c"]),
        layer("Add", "a", of=["m", "x"]),
    ]
    ends = {"input_layers": [["x", 0, 0], ["t", 0, 0]], "output_layers": ["a", 0, 0]}
    model = {"module": keras_model.FUNCTIONAL, "class_name": "Functional", "config": {"layers": layers, **ends}}
    x, t = POINTS.T
    s, c = np.sin, np.cos
    expected = [
        s(x) * c(t) + x, c(x) * c(t) + 1, -s(x) * c(t), -s(x) * s(t), -c(x) * s(t), s(x) * s(t), s(x) * c(t)
    ]  # fmt: skip
    np.testing.assert_allclose(engine(packed(model, {})).jets(POINTS), expected, atol=1e-14)


X = {
    "class_name": "__keras_tensor__",
    "config": {"shape": [None, 1], "dtype": "float32", "keras_history": ["x", 0, 0]},
}


def called(kind: str, *arguments: Any) -> bytes:
    """One of keras.ops, called with these: Keras keeps them in their order."""
    node = {"args": list(arguments), "kwargs": {}}
    operation = {**layer(kind, "op", of=[]), "module": "keras.src.ops.numpy", "registered_name": kind}
    layers = [layer("InputLayer", "x", batch_shape=[None, 1], of=[]), {**operation, "inbound_nodes": [node]}]
    ends = {"input_layers": [["x", 0, 0]], "output_layers": ["op", 0, 0]}
    return packed(
        {"module": keras_model.FUNCTIONAL, "class_name": "Functional", "config": {"layers": layers, **ends}}, {}
    )


@pytest.mark.parametrize(
    ("kind", "arguments", "value", "slope"),
    [
        ("Subtract", (1, X), lambda x: 1 - x, -1.0),
        ("Subtract", (X, 1), lambda x: x - 1, 1.0),
        ("Add", (3.0, X), lambda x: 3 + x, 1.0),
        ("Add", (X, 3.0), lambda x: x + 3, 1.0),
        ("Multiply", (3, X), lambda x: 3 * x, 3.0),
        ("Multiply", (X, 3), lambda x: x * 3, 3.0),
        ("Divide", (X, 4), lambda x: x / 4, 0.25),
        ("TrueDivide", (X, 4.0), lambda x: x / 4, 0.25),
        ("Negative", (X,), lambda x: -x, -1.0),
    ],
)
def test_a_number_is_taken_on_the_side_where_it_stands(kind: str, arguments: Any, value: Any, slope: float) -> None:
    x = POINTS[:, :1]
    found = engine(called(kind, *arguments), "x", ("", "x", "xx")).jets(x)
    np.testing.assert_allclose(found, [value(x[:, 0]), np.full(9, slope), np.zeros(9)], atol=1e-15)


@pytest.mark.parametrize("kind", ["Divide", "TrueDivide"])
@pytest.mark.parametrize("arguments", [(2, X), (X, 0)])
def test_a_number_over_the_network_is_not_fused_nor_is_a_division_by_nothing(kind: str, arguments: Any) -> None:
    with pytest.raises(fused.NotFused, match=f"the operation {kind}, called like this"):
        engine(called(kind, *arguments), "x", ("", "x"))


def test_layers_that_scale_are_what_keras_says_they_are() -> None:
    mean, variance = np.array([0.5, 0.2]), np.array([0.04, 0.25])
    gamma, beta, m, v = RNG.random((4, 2))
    file = sequential(
        layer("Normalization", "n", axis=[-1], mean=mean.tolist(), variance=variance.tolist()),
        layer("BatchNormalization", "b", axis=-1, epsilon=0.01, center=True, scale=True),
        layer("Dropout", "off", rate=0.5),
        layer("Rescaling", "r", scale=3.0, offset=0.5),
        layer("Dense", "d", units=1, activation="linear", use_bias=False),
        batch_normalization=[gamma, beta, m, v],
        dense=[np.ones((2, 1))],
    )
    normal = (POINTS - mean) / np.sqrt(variance)
    scaled = 3 * (gamma * (normal - m) / np.sqrt(v + 0.01) + beta) + 0.5
    found = engine(file, rows=("", "x", "t")).jets(POINTS)
    slopes = 3 * gamma / np.sqrt(v + 0.01) / np.sqrt(variance)
    np.testing.assert_allclose(found[0], scaled.sum(axis=1), atol=1e-12)
    np.testing.assert_allclose(found[1:], np.tile(slopes[:, None], (1, 9)), atol=1e-12)


def test_a_shipped_network_written_as_a_keras_file_has_its_own_jets() -> None:
    points = np.stack([RNG.uniform(-1, 1, 20), RNG.random(20), RNG.uniform(0, 3.5, 20)], axis=1)
    shipped = Float64Engine((keras_model.WHOLE / "weights.npz").read_bytes()).jets(points)
    found = engine(keras_model.network(), "ytl", ("", "y", "yy", "t", "l")).jets(points)
    np.testing.assert_allclose(found, shipped, rtol=2e-5, atol=2e-5)  # its weights went through float32


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([layer("Dense", "d", units=1, activation="gelu")], "the activation gelu"),
        ([layer("LayerNormalization", "d")], "the layer LayerNormalization"),
    ],
)
def test_what_has_no_fused_derivatives_is_named(layers: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(fused.NotFused, match=said):
        engine(sequential(*layers, dense=[np.ones((2, 1)), np.zeros(1)]))


def test_more_than_four_derivatives_are_not_fused() -> None:
    with pytest.raises(fused.NotFused, match="more than 4 derivatives"):
        engine(one("tanh"), rows=("xxxxx",))


def test_numbers_that_do_not_fit_their_layer_are_refused() -> None:
    file = sequential(layer("Dense", "d", units=1, activation="tanh"), dense=[np.ones((2, 3)), np.zeros(2)])
    with pytest.raises(ValueError, match=r"a matrix \(2, 3\) and a bias \(2,\)"):
        engine(file)


def test_an_h5_file_that_points_elsewhere_is_refused(tmp_path: Path) -> None:
    import io

    import h5py

    (tmp_path / "secret.h5").write_bytes(keras_model.h5({"dense": [np.ones((2, 1))]}))
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file["layers/dense/vars/1"] = np.zeros(1)
        file["layers/dense/vars/0"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "layers/dense/vars/0")
    with pytest.raises(ModelError, match="a variable 0 that lies elsewhere"):
        h5.read(out.getvalue(), ["dense"])
    with pytest.raises(ModelError, match="a variable 0 that lies elsewhere"):
        h5.read_apart(out.getvalue(), ["dense"])
