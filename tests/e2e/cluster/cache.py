# Keeps what is slow to build outside the checkout, each thing in a folder named by a hash of what it is
# made from: a changed script or version makes a new folder, and nothing has to be invalidated by hand.
from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from .proc import Progress, say

BUILD_LOCK = "build"


def cache_root(env: Mapping[str, str] | None = None) -> Path:
    env = os.environ if env is None else env
    if explicit := env.get("PINN_CACHE_DIR"):
        return Path(explicit).expanduser().absolute()
    base = env.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "pinn-operator"


def digest(parts: Iterable[str | bytes]) -> str:
    """A short hash of the parts in order; lengths go in too, so that moving a boundary changes it."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(f"{len(data)}:".encode())
        sha.update(data)
    return sha.hexdigest()[:16]


def tree_digest(paths: Iterable[Path], relative_to: Path) -> str:
    """A hash of files, by name, mode and content; folders stand for all the files in them."""
    files: set[Path] = set()
    for path in paths:
        files.update(path_files(path))
    parts: list[str | bytes] = []
    for file in sorted(files):
        executable = "x" if os.access(file, os.X_OK) else "-"
        parts += [str(file.relative_to(relative_to)), executable, file.read_bytes()]
    return digest(parts)


SKIPPED_FOLDERS = {".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", "node_modules"}


def path_files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = [s for s in subfolders if s not in SKIPPED_FOLDERS]
        for name in names:
            file = Path(folder, name)
            if file.is_file():
                yield file


class Cache:
    def __init__(self, root: Path | None = None) -> None:
        self.root = cache_root() if root is None else root
        self.logs = self.root / "logs"

    def place(self, name: str, key: str) -> Path:
        return self.root / "artefacts" / f"{name}-{key}"

    def has(self, name: str, key: str) -> bool:
        return self.place(name, key).is_dir()

    def artefact(
        self,
        name: str,
        key: str,
        build: Callable[[Path], None],
        *,
        keep_others: bool = False,
        lock: str = BUILD_LOCK,
    ) -> Path:
        """The folder of `name` for `key`, built into a temporary one first: half a build is never seen.

        What `build` needs of other artefacts must be had before: the lock is not taken twice.
        `keep_others` keeps the folders of other keys, for what a running engine may still execute.
        """
        place = self.place(name, key)
        if place.is_dir():
            return place
        with self.lock(lock):
            if place.is_dir():
                return place
            place.parent.mkdir(parents=True, exist_ok=True)
            for half_built in place.parent.glob(f".{name}.*"):
                remove_tree(half_built)
            temporary = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=place.parent))
            temporary.chmod(0o755)
            try:
                build(temporary)
                temporary.rename(place)
            except BaseException:
                remove_tree(temporary)
                raise
            if not keep_others:
                for old in superseded(place):
                    say(f"removing the outdated {old.name}")
                    remove_tree(old)
        return place

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a lock file; the kernel lets go of it when the process ends, however it ends."""
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("w") as file:
            progress = Progress(f"waiting for another command that holds {file.name}")
            while not try_lock(file.fileno()):
                progress.tick()
                time.sleep(0.2)
            yield


def try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def superseded(place: Path) -> list[Path]:
    """Other versions of the same artefact: the same name, another key."""
    name, _, _ = place.name.rpartition("-")
    same = re.compile(re.escape(name) + r"-[0-9a-f]{16}")
    return [other for other in place.parent.iterdir() if other != place and same.fullmatch(other.name)]


def mounts_under(folder: Path, mountinfo: str) -> list[str]:
    """Mount points in `folder`, deepest first."""
    points = [line.split()[4].replace("\\040", " ") for line in mountinfo.splitlines() if line]
    inside = [p for p in points if p == str(folder) or p.startswith(f"{folder}/")]
    return sorted(inside, key=len, reverse=True)


def remove_tree(folder: Path) -> None:
    """Remove a folder; first take down what a killed build left mounted in it, or we would empty the mount."""
    mountinfo = Path("/proc/self/mountinfo")
    if mountinfo.exists():
        for point in mounts_under(folder, mountinfo.read_text()):
            subprocess.run(["umount", "--lazy", point], check=True)
    shutil.rmtree(folder, ignore_errors=False)
