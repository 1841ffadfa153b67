"""The demo's client pod says on the way that nobody answers yet, and a pod's log has both of its streams."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hack import demo


def test_prices_are_read_behind_the_attempts_that_reached_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = json.dumps([{"price": demo.black_scholes(option)} for option in demo.OPTIONS])
    monkeypatch.setattr(demo, "client", lambda *_: f"<urlopen error [Errno 111] Connection refused>\n{answers}\n")
    nowhere: Any = None
    demo.price(nowhere)
    assert capsys.readouterr().out.count("0.0e+00") == len(demo.OPTIONS)
