"""Networks as people save them, by Keras itself, and their derivatives by nested tapes: `python make_foreign.py FOLDER`.

Run by test_as_they_are.py in a process of its own: the tests' has no TensorFlow in it.
"""

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

POINTS = np.random.default_rng(5).random((11, 2)).astype(np.float32)


def jets(model: Any) -> Any:
    """(5, n) of u, u_x, u_xx, u_t, u_xt."""
    points = tf.constant(POINTS)
    with tf.GradientTape() as outer:
        outer.watch(points)
        with tf.GradientTape() as inner:
            inner.watch(points)
            u = model(points, training=False)
        slopes = inner.gradient(u, points)
        u_x = slopes[:, 0]
    curves = outer.gradient(u_x, points)
    return np.stack([u[:, 0], u_x, curves[:, 0], slopes[:, 1], curves[:, 1]])


def main(folder: Path) -> None:
    keras.utils.set_random_seed(4)
    dense, known = keras.layers.Dense, {}
    plain = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Normalization(mean=[0.5, 0.4], variance=[0.1, 0.2]),
            dense(12, "tanh"),
            dense(12, "swish"),
            keras.layers.BatchNormalization(),
            dense(12, "softplus"),
            dense(1),
        ]
    )
    plain.compile("adam", "mse")
    plain.fit(POINTS, POINTS[:, :1], epochs=3, verbose=0)
    waves = keras.Sequential([keras.Input((2,)), dense(8, activation=tf.sin), dense(1)])
    entering = keras.Input((2,))
    x, t = entering[:, 0:1], entering[:, 1:2]
    first = dense(8, "tanh")(keras.layers.Concatenate()([x, keras.ops.sin(t)]))
    second = keras.layers.Add()([first, dense(8, "sigmoid")(first)])
    branched = keras.Model(entering, dense(1)(keras.layers.Multiply()([first, second])) + 0.5)
    gelu = keras.Sequential([keras.Input((2,)), dense(8, "gelu"), dense(1)])
    hard = x * (1 - x) * dense(1)(dense(8, "tanh")(entering)) + keras.ops.subtract(1.0, t) / 4
    ansatz = keras.Model(entering, hard - 0.5)
    inverse = keras.Model(entering, 2 / (x + 1) + dense(1)(entering))
    for name, model in {
        "plain": plain,
        "waves": waves,
        "branched": branched,
        "gelu": gelu,
        "ansatz": ansatz,
        "inverse": inverse,
    }.items():
        model.save(folder / f"{name}.keras")
        known[name] = jets(model)
    plain.export(folder / "exported", verbose=False)
    keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda p: p[:, :1])]).save(folder / "lambda.keras")
    np.savez(folder / "known.npz", points=POINTS, **known)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
