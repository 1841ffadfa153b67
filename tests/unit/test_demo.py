"""What the demo breaks is broken as it says, and its table names the gate that decides."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pytest
from pinn_inference import assembly
from pinn_inference.api.http import Answer, Request
from pinn_inference.artifacts.digest import digest
from pinn_inference.errors import ModelError, PredictionError
from pinn_inference.monitoring import Metrics
from pinn_inference.settings import Settings, load

from hack import broken_model, demo
from hack.live import cells, deciding
from tests.e2e.faults import broken, faulty


def test_the_wrong_model_differs_in_one_weight_and_every_digest_is_right() -> None:
    files = broken_model.broken()
    whole = (broken_model.WHOLE / "model.tflite").read_bytes()
    differing = np.flatnonzero(np.frombuffer(files["model.tflite"], "u1") != np.frombuffer(whole, "u1"))
    assert 0 < differing[-1] - differing[0] + 1 <= 4, "more than one float32"
    assert msgspec.json.decode(files["manifest.json"])["digest"] == digest(files)


def test_the_wrong_model_is_refused_by_the_servers_trial_and_the_sentence_has_the_price(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("wrong")
    files = broken_model.broken()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    model = broken_model.model("2.1.0", "wrong", files)
    settings: Settings = load(model_uri=f"file://{folder}", model_version="2.1.0", model_digest=model["digest"])
    artifact = assembly.fetch(settings)
    with pytest.raises(ModelError, match=r"failed its trial at spot .* price is .* the solver finds"):
        assembly.load(artifact, settings, Metrics())


@dataclass
class Call:
    """As much of a request as a fault looks at."""

    headers: dict[str, str] = field(default_factory=dict)


async def answered(fault: faulty.Fault, source: str | None = None) -> Answer:
    async def endpoint(_: Request) -> Answer:
        return Answer(200, b"{}")

    call: Any = Call({"pinn-source": source} if source else {})
    return await faulty.suffering(endpoint, fault)(call)


async def test_a_fault_meets_callers_and_replays_and_no_probe() -> None:
    always = faulty.errors(1.0)
    assert (await answered(always, "probe")).status == 200
    for source in (None, "shadow"):
        with pytest.raises(PredictionError, match="on purpose"):
            await answered(always, source)


async def test_a_share_of_none_is_none() -> None:
    assert (await answered(faulty.errors(0.0))).status == 200


def test_a_fault_is_told_to_the_real_server_by_its_environment() -> None:
    (container,) = broken("slow:1.5")["spec"]["containers"]
    assert container["env"] == [{"name": "FAULT", "value": "slow:1.5"}]
    compile(container["command"][-1], "faulty.py", "exec")


def test_the_gate_that_fails_is_named_before_one_that_waits() -> None:
    waits = {"name": "errorRate", "verdict": "Undecided", "observed": "0%", "limit": "1%"}
    fails = {"name": "latencyP95", "verdict": "Failing", "observed": "100%", "limit": "500ms"}
    assert deciding([waits, fails]) == "latencyP95: 100% (limit 500ms)"
    assert deciding([{**waits, "verdict": "Passing"}]) == ""


def test_a_status_without_a_rollout_shows_who_serves() -> None:
    assert cells({"stable": {"modelVersion": "1.0.0"}}) == ("1.0.0", "", "", "", "", "")


def test_prices_are_read_behind_the_attempts_that_reached_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They stand in the same log: that of a pod has both of its streams."""
    answers = json.dumps([{"price": demo.black_scholes(option)} for option in demo.OPTIONS])
    monkeypatch.setattr(demo, "client", lambda *_: f"<urlopen error [Errno 111] Connection refused>\n{answers}\n")
    nowhere: Any = None
    demo.price(nowhere)
    assert capsys.readouterr().out.count("0.0e+00") == len(demo.OPTIONS)
