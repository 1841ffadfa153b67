"""`pinn-train` as a person meets it."""

import io
import signal
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert not (tmp_path / "model").exists()


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
