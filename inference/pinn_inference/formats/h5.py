"""The numbers of a model.weights.h5, in a process that does nothing else: the library that reads such a file has not been safe.

`python -m pinn_inference.formats.h5` reads the file from its standard input and writes an .npz to its standard output, within
limits on memory, time and files. A file may name other files to read from; such a one is refused.
"""

import io
import os
import re
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pinn_inference.errors import ModelError

Arrays = dict[str, list[NDArray[Any]]]
"""By layer, as h5 has it (`dense_1`), its variables in their order."""

SECONDS: Final = 60
MEMORY: Final = 2 << 30
MOST_VARIABLES: Final = 64

COMMAND: Final = (sys.executable, "-m", "pinn_inference.formats.h5")


def read(content: bytes, layers: Sequence[str]) -> Arrays:
    """The variables of these layers; for a process that may die of it. Raises ModelError for a file that is strange."""
    import h5py

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            room = _Room(len(content))
            return {layer: _variables(h5py, file, f"layers/{layer}/vars", room) for layer in layers}
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a strange file makes the library raise, the sentence must name it
        raise ModelError(f"model.weights.h5 cannot be read: {type(error).__name__}: {error}") from None


def read_apart(content: bytes, layers: Sequence[str], command: Sequence[str] = COMMAND) -> Arrays:
    """The same by a process of its own. Raises ModelError also where that process dies or does not end."""
    environment = {
        **{name: os.environ[name] for name in ("PATH",) if name in os.environ},
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    try:
        done = subprocess.run(
            [*command, *layers], input=content, capture_output=True, timeout=SECONDS, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise ModelError(f"model.weights.h5 could not be read within {SECONDS} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ModelError(
            said[-1][:500]
            if done.returncode == 1 and said
            else f"reading model.weights.h5 ended with {done.returncode}"
        )
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as found:
        arrays: Arrays = {layer: [] for layer in layers}
        for name in found.files:
            arrays[name.rpartition("/")[0]].append(found[name])
        return arrays


class _Room:
    """A file may claim numbers that it does not hold: all together have no more bytes than it has."""

    def __init__(self, most: int) -> None:
        self._left = most

    def takes(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ModelError("model.weights.h5 claims more numbers than it holds")


def limit() -> None:
    """What a process may do that reads files of others: write none, and take so much memory."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def named(classes: Sequence[str]) -> list[str]:
    """What the layers of these classes are called in the file, where those of one class are numbered."""
    counts: dict[str, int] = {}
    names = []
    for kind in classes:
        plain = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", kind)).lower()
        counts[plain] = counts.get(plain, -1) + 1
        names.append(f"{plain}_{counts[plain]}" if counts[plain] else plain)
    return names


def _variables(h5py: Any, file: Any, path: str, room: _Room) -> list[NDArray[Any]]:
    group = _inside(h5py, file, path)
    if group is None:
        return []
    names = sorted(group, key=lambda name: (len(name), name))
    if names != [str(i) for i in range(len(names))] or len(names) > MOST_VARIABLES:
        raise ModelError(f"model.weights.h5 has other things than numbered variables in {path}")
    return [_numbers(h5py, group, name, room) for name in names]


def _inside(h5py: Any, group: Any, path: str) -> Any:
    """The group at a path of plain links, None where there is none."""
    for name in path.split("/"):
        if group.get(name, getlink=True) is None:
            return None
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ModelError(f"model.weights.h5 has a link to elsewhere for {path}")
        group = group[name]
        if not isinstance(group, h5py.Group):
            raise ModelError(f"model.weights.h5 has no group {path}")
    return group


def _numbers(h5py: Any, group: Any, name: str, room: _Room) -> NDArray[Any]:
    link = group.get(name, getlink=True)
    found = group[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
        raise ModelError(f"model.weights.h5 has a variable {name} that lies elsewhere")
    if found.dtype.kind not in "fiu" or found.dtype.itemsize > 8 or found.ndim > 4:
        raise ModelError(f"model.weights.h5 has a variable of type {found.dtype} and {found.ndim} dimensions")
    if found.id.get_create_plist().get_nfilters():
        raise ModelError("model.weights.h5 has a compressed variable")
    room.takes(found.nbytes)
    return np.asarray(found[()])


def main(layers: Sequence[str]) -> int:
    """Reads and writes; the exit code."""
    limit()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    try:
        arrays = read(sys.stdin.buffer.read(), layers)
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    flat: Mapping[str, Any] = {
        f"{layer}/{i}": array for layer, found in arrays.items() for i, array in enumerate(found)
    }
    out = io.BytesIO()
    np.savez(out, **flat)
    sys.stdout.buffer.write(out.getvalue())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
