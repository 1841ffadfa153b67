"""An environment for each peer, outside the checkout, made anew when its lock changes: their dependencies contradict."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from typing import Final

from benchmarks.load.processes import ROOT

FOLDER: Final = Path.home() / ".cache" / "pinn-operator" / "bench"


@functools.cache
def environment(name: str) -> Path:
    """The folder of the environment with what requirements/NAME.txt locks."""
    folder = FOLDER / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([ROOT / "hack" / "venv", folder, name], check=True)
    return folder


def version(folder: Path, package: str) -> str:
    """Of an installed package."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run(
        [folder / "bin" / "python", "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()
