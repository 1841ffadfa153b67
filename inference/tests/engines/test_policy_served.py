"""What a caller and detailed health see of the GPU policy, in a real server on a machine without a GPU."""

from typing import Any

import pytest

from .. import process  # noqa: TID252 - the tests are no package with a name of its own
from ..process import ServerProcess  # noqa: TID252 - as above

OPTION: dict[str, Any] = {"spot": 100, "strike": 105, "maturity": 0.5, "rate": 0.03, "volatility": 0.2}
MANY = 4096


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever devices this machine has."""
    monkeypatch.setitem(process.ENVIRONMENT, "CUDA_VISIBLE_DEVICES", "-1")


def varied(count: int) -> list[dict[str, Any]]:
    return [{**OPTION, "spot": 80 + 40 * i / count} for i in range(count)]


@pytest.mark.parametrize("engine", ["auto", "gpu"])
def test_with_a_required_gpu_that_is_not_there_the_solver_answers_and_says_why(engine: str) -> None:
    with ServerProcess.started(gpu_policy="require", fallback_cpu="false", engine=engine) as server:
        with server.client() as client:
            one = client.post("/predict", json=OPTION).json()
            several = client.post("/predict", json=varied(3)).json()
            detail = client.get("/health/detailed")
        for answer in (one, *several):
            assert (answer["method"], answer["reason"]) == ("solver", "gpu_error")
        assert server.metrics()['pinn_fallback_total{reason="gpu_error",source="live"}'] == 2
    assert (detail.status_code, detail.json()["status"]) == (503, "unhealthy")


def test_with_a_required_gpu_that_is_not_there_and_no_solver_there_is_an_error() -> None:
    with (
        ServerProcess.started(gpu_policy="require", fallback_cpu="false", fallback_solver="false") as server,
        server.client() as client,
    ):
        answer = client.post("/predict", json=OPTION)
        assert (answer.status_code, answer.json()) == (500, {"error": "no GPU is visible here"})


@pytest.mark.parametrize(("cpu", "method"), [("true", "model"), ("false", "solver")])
def test_a_preferred_gpu_that_is_not_there_is_seen_in_large_batches_and_in_detailed_health(
    cpu: str, method: str
) -> None:
    with ServerProcess.started(
        gpu_policy="prefer", fallback_cpu=cpu, cache_size="0", max_batch=str(MANY), timeout="20s"
    ) as server:
        with server.client() as client:
            one = client.post("/predict", json=OPTION).json()
            many = client.post("/predict", json=varied(MANY)).json()
            ready = client.get("/v2/health/ready")
            detail = client.get("/health/detailed").json()
        assert (one["method"], one["reason"]) == ("model", None)
        assert {(answer["method"], answer["reason"]) for answer in many} == {(method, "gpu_error")}
        assert server.metrics()['pinn_fallback_total{reason="gpu_error",source="live"}'] == 1
    assert (ready.status_code, detail["status"]) == (200, "degraded")
    found = detail["components"]["tensorflow"]
    assert (found["status"], found["reason"]) == ("degraded", "the GPU policy is prefer and no GPU is visible here")
    assert found["engines"]["gpu"] == {"status": "off", "reason": "no GPU is visible here"}
    assert found["engines"]["litert"] == {"status": "ready"}
