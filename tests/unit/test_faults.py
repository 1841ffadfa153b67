"""Servers that fail on purpose do fail: a test of what the operator makes of a fault is worth nothing where nobody meets it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.faults import SCRIPT

QUESTION = {"spot": 100, "strike": 105, "maturity": 0.5, "rate": 0.03, "volatility": 0.2, "kind": "put"}


@contextmanager
def served(fault: str) -> Iterator[str]:
    settings = {"HOST": "127.0.0.1", "PORT": "0", "ADMIN_PORT": "0", "DRAIN": "0s", "LOG_FORMAT": "json"}
    env = {**os.environ, **{f"PINN_SERVER_{name}": value for name, value in settings.items()}, "FAULT": fault}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, "serve"], env=env, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        said: dict[str, str] = {}
        while said.get("event") != "serving":
            line = process.stderr.readline()
            assert line, f"it ended with {process.wait()}, after {said}"
            said = json.loads(line)
        yield said["url"]
    finally:
        process.kill()
        process.communicate()


def ask(url: str, body: Any) -> tuple[int, Any]:
    """Status and body of one question, sent in one go: what comes in two is not answered together with others."""
    content = json.dumps(body).encode()
    head = f"POST /predict HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(content)}\r\n\r\n"
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port or 80), timeout=30) as caller:
        caller.sendall(head.encode() + content)
        answer = b"".join(iter(lambda: caller.recv(65536), b""))
    if not answer:
        raise ConnectionError("no answer")
    return int(answer.split()[1]), json.loads(answer.partition(b"\r\n\r\n")[2])


def test_a_server_that_answers_errors_does_for_every_way_to_ask() -> None:
    with served("errors:1") as url:
        assert [ask(url, body)[0] for body in (QUESTION, [QUESTION])] == [500, 500]


@pytest.mark.parametrize("fault", ["errors:0", "leak:0", "slow:0"])
def test_a_fault_that_does_nothing_leaves_answers_as_they_are(fault: str) -> None:
    with served(fault) as url:
        assert ask(url, QUESTION)[1]["method"] == "model"


def test_a_server_without_an_engine_answers_by_the_solver() -> None:
    with served("fallback") as url:
        assert ask(url, QUESTION)[1]["method"] == "solver"


def test_a_server_that_dies_at_its_third_call_does() -> None:
    with served("crash:3") as url:
        assert [ask(url, QUESTION)[0] for _ in range(2)] == [200, 200]
        with pytest.raises(ConnectionError):
            ask(url, QUESTION)
