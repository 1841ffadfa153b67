"""The arrays of an .npz that somebody else made: never more than a model has, however small the file is.

Two megabytes can hold two gigabytes of zeros and say that they hold none; zipfile and NumPy find out when memory is full.
"""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pinn_inference.artifacts import archive
from pinn_inference.errors import ModelError


def arrays(name: str, content: bytes, most: int) -> dict[str, NDArray[Any]]:
    """By their names. `most`: bytes of all, unpacked. Raises ValueError, with the file's name, for more and for other things."""
    try:
        files = archive.contents(content, most)
    except ModelError as error:
        raise ValueError(f"{name} is no file of arrays for a model: it {error}") from None
    return {member.removesuffix(".npy"): _array(f"{member} in {name}", found) for member, found in files.items()}


def _array(name: str, content: bytes) -> NDArray[Any]:
    try:
        return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # noqa: BLE001 - whatever a strange header makes NumPy raise, the sentence must name it
        raise ValueError(f"{name} is no array: {type(error).__name__}: {error}") from None
