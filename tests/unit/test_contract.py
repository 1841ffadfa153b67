"""The operator and the server share no code, only names and words: what the one writes into a pod, the other must read alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pinn_inference import memory, settings
from pinn_inference.engines import choice, far
from pinn_inference.monitoring import Metrics
from pinn_operator.api.spec import Spec
from pinn_operator.api.units import bytes_of, seconds
from pinn_operator.build import pod
from pinn_operator.build.environment import environment
from pinn_operator.build.gpu import on_gpus
from pinn_operator.build.pod import _own_environment
from pinn_operator.build.scaling import CONTAINER, IN_FLIGHT

VALID = Path(__file__).parents[1] / "manifests/valid"
MODEL = {"name": "black-scholes", "version": "1.0.0"}

LARGEST = {
    "cache": {"size": 100_000_000, "maxBytes": "999.5Ti", "binWidths": {"rate": "0.000001%"}},
    "limits": {"timeout": "9999d", "concurrency": 1_000_000, "queue": 1_000_000, "restartAboveMemory": "100.0000%"},
}
SMALLEST = {
    "cache": {"size": 0, "maxBytes": 0, "warmUp": {"from": "None", "keys": 0}},
    "limits": {"timeout": "1ms", "concurrency": 1, "queue": 0, "restartAboveMemory": "0%"},
}


def _told(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> settings.Settings:
    """The settings of a server in a pod that this spec was rendered to; on GPUs, where it may run there."""
    for name in settings.Settings.model_fields:
        monkeypatch.delenv(f"{settings.PREFIX}{name}".upper(), raising=False)
    (on_gpu,) = on_gpus(spec.gpu, CONTAINER)["spec"]["containers"]
    more = [(one["name"], one["value"]) for one in on_gpu["env"]]
    for name, value in (*environment(spec), *_own_environment(), *more):
        monkeypatch.setenv(name, value)
    return settings.load()


def _specs() -> list[Any]:
    manifests = [m for file in sorted(VALID.glob("*.yaml")) for m in yaml.safe_load_all(file.read_text())]
    specs = [m["spec"] for m in manifests if m["metadata"]["name"] != "nulls"]  # an API server takes nulls out
    return [*specs, {"model": MODEL, **LARGEST}, {"model": MODEL, **SMALLEST}]


def test_a_worker_that_a_server_has_to_wait_for_is_given_up_before_the_kubelet_gives_the_server_up() -> None:
    """Half a minute before, on a GPU: a model is loaded first, and the worker measured afterwards."""
    gpu = Spec.model_validate({"model": MODEL, "gpu": {"policy": "Require"}, "fallback": {"cpu": False}}).gpu
    (required,) = on_gpus(gpu, CONTAINER)["spec"]["containers"]
    assert required["startupProbe"]["failureThreshold"] >= choice.GPU_STARTING + 30
    assert far.STARTING < pod.START_SECONDS


@pytest.mark.parametrize("written", _specs())
def test_the_server_understands_all_that_the_operator_tells_it(
    written: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Spec.model_validate(written)
    told = _told(spec, monkeypatch)
    assert settings.unknown() == []
    assert (told.model_name, told.model_version, told.model_digest) == (
        spec.model.name,
        spec.model.version,
        spec.model.digest,
    )
    assert (told.cache_size, told.cache_max_bytes) == (spec.cache.size, bytes_of(spec.cache.max_bytes))
    assert told.cache_bin_widths.keys() == spec.cache.bin_widths.keys()
    assert told.warm_up_keys == spec.cache.warm_up.keys
    assert (told.fallback_cpu, told.fallback_solver) == (spec.fallback.cpu, spec.fallback.solver)
    assert told.timeout == pytest.approx(seconds(spec.limits.timeout))
    assert (told.concurrency, told.queue) == (spec.limits.concurrency, spec.limits.queue)
    assert told.gpu_policy == spec.gpu.policy.lower()


@pytest.mark.parametrize(("share", "expected"), [("90%", 900), ("87.5%", 875), ("0%", None), ("100.0000%", 1000)])
def test_the_share_of_memory_is_read_as_it_is_written(
    share: str, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Spec.model_validate({"model": MODEL, "limits": {"restartAboveMemory": share}})
    assert memory.threshold(_told(spec, monkeypatch).restart_above_memory, 1000) == expected


def test_a_width_is_relative_with_a_percent_sign_and_absolute_without(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Spec.model_validate(
        {"model": MODEL, "cache": {"binWidths": {"volatility": "1%", "rate": "0.001", "spot": 2}}}
    )
    widths = _told(spec, monkeypatch).cache_bin_widths
    assert widths == {"volatility": (0.01, True), "rate": (0.001, False), "spot": (2.0, False)}


def test_the_servers_tell_what_autoscalers_go_by() -> None:
    assert f"\n{IN_FLIGHT} 0.0\n" in Metrics().text().decode()
    assert CONTAINER == pod.CONTAINER
