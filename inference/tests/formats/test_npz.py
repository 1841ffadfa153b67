"""Arrays of others are read as they are, and a small file that unpacks to a large one costs no more than a model may."""

import io
import logging
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pinn_inference import formats, settings
from pinn_inference.api.http import State
from pinn_inference.engines.float64 import MOST_FEATURES, Float64Engine
from pinn_inference.formats import npz
from pinn_inference.problems import error_table
from pinn_inference.service import Service

from ..rewritten import rewritten  # noqa: TID252 - the tests are no package with a name of its own

MIB = 1024 * 1024

Read = Callable[[bytes], object]
READERS = pytest.mark.parametrize(
    ("read", "most"), [(error_table.parse, error_table.MOST), (Float64Engine, formats.MOST)], ids=["errors", "weights"]
)


@cache
def zeros() -> bytes:
    """80 MiB of them."""
    content = packed(values=np.zeros(10 * MIB))
    assert len(content) < MIB
    return content


def packed(**arrays: Any) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def zipped(name: str, array: bytes, method: int = zipfile.ZIP_DEFLATED, says: int | None = None) -> bytes:
    """An archive of one array; `says`: how many bytes it has, as the archive's directory has it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        archive.writestr(name, array)
        if says is not None:
            archive.getinfo(name).file_size = says
    return content.getvalue()


def npy(shape: str, kind: str = "<f8") -> bytes:
    """An array's head, which says this of it, and two numbers."""
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(16)


DAMAGED = {
    "empty": b"",
    "no array": b"no array",
    "one number more": npy("(3,)"),
    "8 GB": npy("(1000000000,)"),
    "8 PB": npy("(1000000000000000,)"),
    "beyond 64 bits": npy(f"({10**30},)"),
    "less than nothing": npy("(-1,)"),
    "half a head": npy("(2,"),
    "no type": npy("(2,)", "x"),
    "pickled": npy("(2,)", "|O"),
}


@contextmanager
def memory_under(most: float) -> Iterator[None]:
    """At the peak."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", [np.savez, np.savez_compressed])
def test_what_numpy_packs_is_read(pack: Any) -> None:
    content, arrays = io.BytesIO(), {"a": np.arange(6.0).reshape(2, 3), "b": np.array(1), "c": np.zeros((0, 2), "<f4")}
    pack(content, **arrays)
    found = npz.arrays("x.npz", content.getvalue(), MIB)
    assert {name: (array.dtype, array.tolist()) for name, array in found.items()} == {
        name: (array.dtype, array.tolist()) for name, array in arrays.items()
    }


@READERS
def test_a_small_file_of_many_numbers_is_refused(read: Read, most: int) -> None:
    content = zeros()
    with memory_under(1.25 * most), pytest.raises(ValueError, match=f"it has more than {most} bytes unpacked"):
        read(content)


@READERS
def test_a_file_that_says_less_of_itself_than_it_holds_is_not_believed(read: Read, most: int) -> None:
    """Asked for the four gigabytes that the head of this array claims, zipfile would unpack all there is before it counts."""
    content = zipped("values.npy", b"\x93NUMPY\x02\x00" + b"\xff" * 4 + bytes(80 * MIB), says=MIB)
    with memory_under(8 * MIB), pytest.raises(ValueError, match="no file of arrays for a model: it is damaged"):
        read(content)


@READERS
@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_file_that_is_packed_in_a_way_without_limits_is_refused(read: Read, most: int, method: int) -> None:
    """Of bzip2 and LZMA zipfile unpacks all that it has read, and then takes what the file is said to hold."""
    with pytest.raises(ValueError, match="compressed by a method other than deflate"):
        read(zipped("values.npy", bytes(1000), method))


@READERS
@pytest.mark.parametrize("array", DAMAGED.values(), ids=DAMAGED)
def test_an_array_that_is_none_or_claims_more_than_it_holds_is_refused(read: Read, most: int, array: bytes) -> None:
    with pytest.raises(ValueError, match=r"values\.npy in (errors|weights)\.npz is no array"):
        read(zipped("values.npy", array))


def test_a_table_of_numbers_that_are_small_as_they_are_packed_is_refused() -> None:
    values = np.zeros((1, error_table.MOST // 4), np.int8)
    with memory_under(4 * error_table.MOST), pytest.raises(ValueError, match="more than 2097152 numbers"):
        error_table.parse(packed(steps=np.ones(1), values=values))


def test_a_table_takes_about_a_dozen_times_its_size_at_most() -> None:
    """With one number a cell."""
    values = np.zeros((1, error_table.MOST // 64))
    content = packed(steps=np.ones(1), values=values)
    with memory_under(16 * values.nbytes):
        assert error_table.parse(content).at(0.0) == (0.0,)


def test_features_are_no_more_than_a_network_has() -> None:
    features = np.zeros((MOST_FEATURES + 1, 4))
    weights = {"w0": np.ones((2, 1)), "b0": np.zeros(1)}
    with pytest.raises(ValueError, match="more than 1000 features"):
        Float64Engine(packed(features=features, **weights))
    assert Float64Engine(packed(features=features[:2], **weights)).shape == (1, 3)


async def test_a_reload_of_such_an_error_table_fails_and_the_model_before_it_answers(
    models: Path, tmp_path: Path
) -> None:
    shipped, folder = models / "black-scholes/2.0.0", tmp_path / "model"
    rewritten(shipped, folder)
    service = await Service.open(settings.load(model_uri=f"file://{folder}"), State())
    try:
        before = service.model
        rewritten(shipped, folder, errors__npz=zeros())
        said = await service.reload()
        assert said["result"] == "failed"
        assert "errors.npz is no file of arrays for a model: it has more than" in said["detail"]
        assert service.model is before
        problem = before.predictor.problem
        (answer,) = await before.predictor.all_at(problem.sample(1, np.random.default_rng(3)))
        assert answer.method == "model"
    finally:
        await service.close()


async def test_a_model_with_such_weights_is_served_without_them(
    models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = rewritten(models / "black-scholes/2.0.0", tmp_path / "model", weights__npz=zeros())
    with caplog.at_level(logging.WARNING):
        service = await Service.open(settings.load(model_uri=f"file://{folder}"), State())
    await service.close()
    assert "large batches stay on LiteRT: weights.npz cannot be used by a worker: weights.npz is no file" in caplog.text
