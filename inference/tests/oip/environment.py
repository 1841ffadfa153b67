"""The environment of the foreign clients, outside the checkout and made anew when its lock changes, as benchmarks have theirs:
their dependencies need not agree with ours, and their messages have the names of ours."""

import fcntl
import functools
import json
import subprocess
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[3]
FOLDER: Final = Path.home() / ".cache" / "pinn-operator" / "clients"
LOCK: Final = "oip-clients"
SCRIPTS: Final = Path(__file__).with_name("foreign")


@functools.cache
def python() -> Path:
    """Its interpreter. Who comes while it is being made waits."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{LOCK}.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        subprocess.run([ROOT / "hack" / "venv", FOLDER / LOCK, LOCK], check=True, timeout=280)
    return FOLDER / LOCK / "bin" / "python"


def said(script: str, *arguments: str) -> Any:
    """What a script of foreign/ prints, as JSON; run once with the same arguments. Fails with what the script says."""
    return json.loads(_printed(script, *arguments))


@functools.cache
def _printed(script: str, *arguments: str) -> str:
    command = [str(python()), "-W", "ignore", str(SCRIPTS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
