"""The plugin as a user runs it, against an API server of the tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pinn_operator.plugin.app import app
from tests.plugin.fake_api import FakeApi, serving

Run = Callable[..., Result]


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    """Empty, and the cluster of the current context."""
    with serving() as found:
        monkeypatch.setenv("KUBECONFIG", str(found.kubeconfig(tmp_path)))
        monkeypatch.setenv("KUBECACHEDIR", str(tmp_path / "cache"))
        monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("COLUMNS", "160")
        yield found


@pytest.fixture
def run() -> Run:
    """A command line; what it printed and how it ended."""
    return lambda *arguments, **more: CliRunner().invoke(app, list(arguments), **more)
