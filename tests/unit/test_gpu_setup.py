"""What a GPU needs beside the code: the environment that its tests run in, and what the image says to the node."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCK = "requirements/inference-gpu.txt"

UV = """#!/bin/sh
# Two distributions of the same files, as tensorflow-cpu and tensorflow are: `files` says whose these are.
set -eu
cd "$(dirname "$0")/.."
echo "uv $*" >> journal
[ "$2" != "$(cat broken 2>/dev/null)" ] || exit 1
case "$2 $*" in
  install*reinstall-package*) touch cuda; echo cuda > files ;;
  install*) [ -e cuda ] || { touch cuda; echo cuda > files; } ;;
  uninstall*) rm -f cpu files ;;
esac
"""
PYTHON = """#!/bin/sh
cd "$(dirname "$0")/.."
echo "python $PINN_TEST_GPU $PYTHONDONTWRITEBYTECODE $*" >> journal
[ "$(cat files)" = cuda ] && [ ! -e cpu ]
"""
VENV = """#!/bin/sh
[ -d "$1" ] || { mkdir -p "$1"; cp -r bin "$1/"; touch "$1/cpu"; echo cpu > "$1/files"; }
"""


def executable(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)


class Checkout:
    """One with the script, and doubles of all it calls, on a machine that has a GPU."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, folder / "build/venv-gpu"
        for name, text in {"bin/uv": UV, "bin/python": PYTHON, "hack/venv": VENV, "path/ls": "#!/bin/sh\n"}.items():
            executable(folder / name, text)
        shutil.copy(ROOT / "hack/test_gpu", folder / "hack")
        (folder / LOCK).parent.mkdir()
        (folder / LOCK).write_text("tensorflow==1\n")

    def test_gpu(self) -> int:
        path = f"{self.folder / 'path'}:{os.environ['PATH']}"
        return subprocess.run([self.folder / "hack/test_gpu"], env={"PATH": path}, check=False).returncode

    def breaks(self, verb: str) -> None:
        """Or nothing does, where it is empty."""
        (self.made / "broken").write_text(verb)

    def journal(self) -> list[str]:
        lines = (self.made / "journal").read_text().splitlines()
        (self.made / "journal").unlink()
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_tests_for_a_gpu_run_with_what_is_locked_and_write_nothing_but_what_is_temporary(
    checkout: Checkout,
) -> None:
    assert checkout.test_gpu() == 0
    *prepared, tested = checkout.journal()
    assert [line.split()[2] for line in prepared] == ["install", "uninstall", "install"]
    assert all(f"--require-hashes -r {LOCK}" in line for line in prepared if " install " in line)
    assert tested == "python 1 1 -m pytest -p no:cacheprovider -m gpu inference/tests/engines"
    assert checkout.test_gpu() == 0
    assert checkout.journal() == [tested]


def test_a_lock_that_has_changed_is_installed(checkout: Checkout) -> None:
    assert checkout.test_gpu() == 0
    checkout.journal()
    (checkout.folder / LOCK).write_text("tensorflow==2\n")
    assert checkout.test_gpu() == 0
    assert len(checkout.journal()) == 4


def test_what_cannot_be_fetched_takes_nothing_away(checkout: Checkout) -> None:
    subprocess.run([checkout.folder / "hack/venv", checkout.made], cwd=checkout.folder, check=True)
    checkout.breaks("install")
    assert checkout.test_gpu() != 0
    assert [line.split()[2] for line in checkout.journal()] == ["install"]
    checkout.breaks("")
    assert checkout.test_gpu() == 0


def test_a_run_that_was_cut_short_is_made_good_by_the_next(checkout: Checkout) -> None:
    """Nobody knows where it was: here one of the two has gone with its files, and the other is said to be there."""
    subprocess.run([checkout.folder / "hack/venv", checkout.made], cwd=checkout.folder, check=True)
    (checkout.made / "cuda").touch()
    for file in ("cpu", "files"):
        (checkout.made / file).unlink()
    assert checkout.test_gpu() == 0


def test_the_image_finds_a_driver_wherever_nodes_mount_it_and_asks_for_no_gpu_by_itself() -> None:
    """GKE mounts it and says nothing; NVIDIA's runtime mounts what the image names, and every GPU where the image says so."""
    said = dict(
        re.findall(
            r"(\w+)=(\S+)", " ".join(re.findall(r"^ENV (.*)", (ROOT / "Dockerfile.inference").read_text(), re.M))
        )
    )
    assert "/usr/local/nvidia/lib64" in said["LD_LIBRARY_PATH"].split(":")
    assert set(said["NVIDIA_DRIVER_CAPABILITIES"].split(",")) == {"compute", "utility"}
    assert "NVIDIA_VISIBLE_DEVICES" not in said
