"""Alive, ready, and in detail: what makes a server unhealthy and what only degraded."""

import asyncio
from typing import Any

import pytest
from pinn_inference.api import health
from pinn_inference.api.health import Component
from pinn_inference.api.http import App, State

from .wire import ask


async def get(path: str, state: State, **components: Component) -> tuple[int, Any]:
    answer = await ask(App(health.routes(state, components), state), method="GET", path=path)
    return answer.status, answer.json


async def test_memory_above_the_threshold_fails_liveness_so_that_the_process_is_restarted() -> None:
    state = State(ready=True)
    assert await get("/v2/health/live", state) == (200, {"live": True})
    state.unhealthy = "resident memory 960 MiB is above 90% of the limit"
    for path in ("/v2/health/live", "/v2/health/ready", "/health"):
        assert await get(path, state) == (503, {"error": state.unhealthy})


async def test_a_required_gpu_that_is_gone_fails_readiness_but_not_liveness() -> None:
    complaints = ["", "no GPU answers, and the policy is Require"]
    state = State(ready=True, checks=[lambda: complaints[-1]])
    assert await get("/health", state) == (503, {"error": "no GPU answers, and the policy is Require"})
    assert (await get("/v2/health/live", state))[0] == 200
    complaints.pop()
    assert await get("/health", state) == (200, {"status": "healthy"})


@pytest.mark.parametrize(("state", "words"), [(State(), "not loaded"), (State(ready=True, draining=True), "draining")])
async def test_not_ready_is_said_with_its_reason(state: State, words: str) -> None:
    status, body = await get("/v2/health/ready", state)
    assert status == 503
    assert words in body["error"]


async def test_detail_names_each_part_with_its_status() -> None:
    async def predict() -> None:
        await asyncio.sleep(0)

    status, body = await get(
        "/health/detailed",
        State(ready=True),
        pinn_cache=health.cache(lambda: 812, lambda: 90, lambda: 10),
        pinn_model=health.model(predict),
        tensorflow=health.tensorflow(lambda: 0),
    )
    latency = body["components"]["pinn_model"].pop("latency_ms")
    assert status == 200
    assert latency >= 0
    assert body == {
        "status": "healthy",
        "components": {
            "pinn_cache": {"status": "healthy", "cache_size": 812, "hit_rate": 0.9},
            "pinn_model": {"status": "healthy", "prediction_test": "passed"},
            "tensorflow": {
                "status": "healthy",
                "version": health.tensorflow_version(),
                "gpu_available": False,
                "gpus": 0,
            },
        },
    }


async def test_a_degraded_part_makes_a_degraded_server_which_still_answers() -> None:
    status, body = await get(
        "/health/detailed",
        State(ready=True),
        tensorflow=health.tensorflow(lambda: 0, lambda: "the GPU worker restarts"),
    )
    assert (status, body["status"]) == (200, "degraded")
    assert body["components"]["tensorflow"]["reason"] == "the GPU worker restarts"


async def test_a_failed_prediction_makes_an_unhealthy_server() -> None:
    def predict() -> object:
        raise ValueError("no finite answer")

    status, body = await get("/health/detailed", State(ready=True), pinn_model=health.model(predict))
    assert (status, body["status"]) == (503, "unhealthy")
    assert body["components"]["pinn_model"]["prediction_test"] == "failed: no finite answer"


async def test_answers_from_the_second_choice_are_degraded_and_say_so() -> None:
    _, body = await get("/health/detailed", State(ready=True), pinn_model=health.model(lambda: 1, lambda: "on the CPU"))
    assert body["status"] == "degraded"
    assert body["components"]["pinn_model"]["reason"] == "on the CPU"


async def test_a_server_that_is_not_ready_is_unhealthy_however_well_its_parts_are() -> None:
    status, body = await get("/health/detailed", State(), pinn_cache=health.cache_off())
    assert (status, body["status"], body["reason"]) == (503, "unhealthy", "the model is not loaded yet")
    assert body["components"]["pinn_cache"]["status"] == "healthy"


async def test_a_part_that_cannot_be_asked_does_not_hide_the_others() -> None:
    def broken() -> dict[str, object]:
        raise RuntimeError("gone")

    status, body = await get("/health/detailed", State(ready=True), one=broken, other=health.cache_off())
    assert (status, body["status"]) == (503, "unhealthy")
    assert body["components"]["one"] == {"status": "unhealthy", "error": "RuntimeError: gone"}
    assert body["components"]["other"]["status"] == "healthy"


async def test_a_status_nobody_knows_counts_as_the_worst() -> None:
    assert (await get("/health/detailed", State(ready=True), odd=lambda: {"status": "fine"}))[0] == 503


def test_a_cache_nobody_asked_has_no_rate() -> None:
    assert health.cache(lambda: 0, lambda: 0, lambda: 0)() == {"status": "healthy", "cache_size": 0, "hit_rate": None}
