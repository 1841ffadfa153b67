"""`pinn-train` as a person meets it."""

import io
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pinn_inference.training.cli import _probe

from .process import ENVIRONMENT


def test_ctrl_c_stops_training_cleanly_and_writes_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pinn_inference.training.cli", "black-scholes", "--out", str(tmp_path / "model")],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts a background job with Ctrl-C ignored, and whoever runs these tests there passes that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert isinstance(process.stderr, io.TextIOBase)
    assert process.stderr.readline().startswith("step ")
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait(20) == 130
    assert "Traceback" not in rest
    assert rest.endswith("stopped; nothing was written\n")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("out", "said"), [("file/model", "Not a directory"), ("file", "File exists")])
def test_a_folder_that_cannot_be_written_is_told_before_anything_is_trained(
    tmp_path: Path, out: str, said: str
) -> None:
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-m", "pinn_inference.training.cli", "black-scholes", "--out", str(tmp_path / out)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert f"{tmp_path / out} cannot be written: {said}" in " ".join(done.stderr.split())
    assert "step " not in done.stderr
    assert "Traceback" not in done.stderr


def test_looking_whether_a_folder_can_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    _probe(tmp_path / "deep" / "er")
    _probe(tmp_path / "there")
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]


@pytest.mark.parametrize("arguments", [[], ["black-scholes", "--help"]])
def test_the_help_teaches_by_example(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pinn_inference.training.cli", *(arguments or ["--help"])],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pinn-train black-scholes --recipe 2.0.0" in done.stdout
