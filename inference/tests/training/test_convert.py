"""What a network becomes is what it was: by Keras' own derivatives, not by what is known here of Keras' layers."""

import json
from pathlib import Path

import pytest
from pinn_inference import formats
from pinn_inference.errors import ModelError
from pinn_inference.formats import fused, h5, keras_file
from pinn_inference.problems.burgers import Burgers
from pinn_inference.training import convert, folder

from hack import keras_model


class Worker(fused.Engine):
    """Stands for the process in which Keras evaluates the network as it is, and finds it `off`."""

    def __init__(self, off: float) -> None:
        parts = formats.read(formats.KERAS, keras_model.network(off)).parts
        arrays = h5.read(parts[keras_file.WEIGHTS], fused.names(parts[keras_file.CONFIG]))
        super().__init__(fused.network(parts[keras_file.CONFIG], arrays, "ytl", ("", "y", "yy", "t", "l")))

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A Keras file and its manifest, with few points to be measured at."""
    monkeypatch.setattr(folder, "POINTS", 200)
    said = json.loads((keras_model.WHOLE / "manifest.json").read_text())
    wish = {**{name: said[name] for name in ("version", "problem", "inputs")}, "cells": [0.5, 0.5, 2.0]}
    (tmp_path / "manifest.json").write_text(json.dumps(wish))
    (tmp_path / "burgers.keras").write_bytes(keras_model.network())
    return tmp_path / "burgers.keras", tmp_path / "manifest.json"


@pytest.mark.parametrize("content", [b'{"version": "\xff"}', b'{"training": ' + b'{"a":' * 100_000], ids=range(2))
def test_a_manifest_that_no_decoder_reads_is_said(model: tuple[Path, Path], content: bytes) -> None:
    source, manifest = model
    manifest.write_bytes(content)
    with pytest.raises(ModelError, match=r"manifest\.json is no manifest: "):
        convert.convert(source, manifest)


def test_a_problem_that_fails_while_it_is_asked_is_said(
    model: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def solve(_: Burgers, point: object) -> None:
        raise KeyError("viscosity")

    monkeypatch.setattr(convert, "Far", lambda *_: Worker(1.0))
    monkeypatch.setattr(Burgers, "solve", solve)
    with pytest.raises(ModelError, match=r"^it cannot be measured by the problem burgers, which ended with KeyError: "):
        convert.convert(*model)


def test_a_range_of_one_number_is_refused(model: tuple[Path, Path]) -> None:
    source, manifest = model
    said = json.loads(manifest.read_text())
    said["inputs"][1] |= {"low": 0.5, "high": 0.5}
    manifest.write_text(json.dumps(said))
    with pytest.raises(ModelError, match=r"^the range of \w+ is one number"):
        convert.convert(source, manifest)


def test_a_network_that_gives_other_answers_fused_stays_as_it_is(
    model: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "Far", lambda *_: Worker(1.05))
    done = convert.convert(*model)
    assert done.why == "fused it gives other answers"
    assert sorted(done.files) == ["errors.npz", "manifest.json", "model.keras"]


def test_a_network_that_gives_the_same_is_fused(model: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "Far", lambda *_: Worker(1.0))
    done = convert.convert(*model)
    assert done.why is None
    assert sorted(done.files) == ["errors.npz", "manifest.json", "model.tflite"]
