"""One server's parts at work together, in a real process: reload, warm-up, shadow, memory, detail."""

import asyncio
import json
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from pinn_inference import settings
from pinn_inference.api.http import State
from pinn_inference.fallback import Fallback
from pinn_inference.service import RENEW_SECONDS, Service

from .process import ServerProcess, eventually

OPTION: dict[str, Any] = {"spot": 100, "strike": 105, "maturity": 0.5, "rate": 0.03, "volatility": 0.2}
TOKEN = {"authorization": "Bearer sesame"}


@pytest.fixture
def folder(tmp_path: Path, models: Path) -> Path:
    """A model's folder that a test may change."""
    return Path(shutil.copytree(models / "black-scholes/1.0.0", tmp_path / "model"))


def _replace(folder: Path, by: Path) -> None:
    for file in by.iterdir():
        shutil.copy(file, folder)


def test_a_reload_changes_over_and_the_cache_of_the_old_model_is_gone(folder: Path, models: Path) -> None:
    with ServerProcess.started(model_uri=f"file://{folder}", admin_token="sesame") as server:
        with server.client() as client:
            coarse = [client.post("/predict", json=OPTION).json() for _ in range(2)]
            _replace(folder, models / "black-scholes/2.0.0")
            said = httpx.post(f"{server.admin}/reload", headers=TOKEN, timeout=10).json()
            fine = client.post("/predict", json=OPTION).json()
        before = json.loads((models / "black-scholes/1.0.0/manifest.json").read_text())["digest"]
        assert (said["result"], said["previous"]["digest"]) == ("swapped", before)
        assert [answer["method"] for answer in (*coarse, fine)] == ["model", "cache", "model"]
        assert fine["price"] != coarse[0]["price"]
        assert fine["error_bound"]["price"] < coarse[0]["error_bound"]["price"]
        again = httpx.post(f"{server.admin}/reload", headers=TOKEN, timeout=10).json()
        assert again["result"] == "unchanged"


def test_a_damaged_model_never_replaces_a_good_one(folder: Path) -> None:
    with ServerProcess.started(model_uri=f"file://{folder}", admin_token="sesame") as server:
        weights = folder / "weights.npz"
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
        said = httpx.post(f"{server.admin}/reload", headers=TOKEN, timeout=10).json()
        assert said["result"] == "failed"
        assert "damaged" in said["detail"]
        with server.client() as client:
            assert client.post("/predict", json=OPTION).status_code == 200
            assert client.get("/health").status_code == 200


def test_a_cache_is_warmed_with_what_another_server_is_asked_most() -> None:
    with ServerProcess.started(admin_token="sesame") as stable:
        with stable.client() as client:
            for _ in range(3):
                client.post("/predict", json=OPTION)
        with (
            ServerProcess.started(admin_token="sesame", warm_up=stable.admin, warm_up_keys="10") as canary,
            canary.client() as client,
        ):
            assert client.post("/predict", json=OPTION).json()["method"] == "cache"
            assert canary.metrics()['pinn_requests_total{outcome="ok",source="live"}'] == 1


@pytest.mark.parametrize("source", ["http://127.0.0.1:9", "synthetic"])
def test_a_server_starts_whether_its_cache_can_be_warmed_or_not(source: str) -> None:
    with ServerProcess.started(warm_up=source, warm_up_keys="50") as server:
        warmed = 50 if source == "synthetic" else 0
        assert server.metrics()["pinn_cache_size"] == pytest.approx(warmed, abs=2)
        assert any("cold" in json.dumps(line) for line in server.log) == (source != "synthetic")


def test_shadow_requests_are_answered_past_the_cache_and_counted_apart() -> None:
    with ServerProcess.started(admin_token="sesame") as server:
        body = {"items": [OPTION, {**OPTION, "kind": "put"}], "solver": True}
        said = httpx.post(f"{server.admin}/shadow", json=body, headers=TOKEN).json()
        for answer, solved in zip(said["answers"], said["solver"], strict=True):
            assert abs(answer["price"] - solved["price"]) <= answer["error_bound"]["price"]
        metrics = server.metrics()
        assert metrics['pinn_requests_total{outcome="ok",source="probe"}'] == 1
        assert metrics['pinn_requests_total{outcome="ok",source="shadow"}'] == 0, "no gate of a rollout counts it"
        assert metrics['pinn_requests_total{outcome="ok",source="live"}'] == 0
        assert metrics["pinn_cache_size"] == 0


def test_the_solver_says_how_far_it_can_be_from_the_truth_itself() -> None:
    with ServerProcess.started(admin_token="sesame") as server:
        body = {"items": [OPTION], "solver": True}
        (solved,) = httpx.post(f"{server.admin}/shadow", json=body, headers=TOKEN).json()["solver"]
        assert set(solved["error_bound"]) == {"price", "delta", "gamma", "vega", "theta", "rho"}
        assert 0 < solved["error_bound"]["price"] < 1e-9


def test_a_solution_that_is_under_way_does_not_hold_the_end() -> None:
    """As in a server, whose loop is ended by what ends this one: it waits for the loop's own threads."""
    begun, over, solved = threading.Event(), threading.Event(), threading.Event()

    def solve(_: object) -> tuple[tuple[float], tuple[float]]:
        begun.set()
        over.wait(20)
        solved.set()
        return (1.0,), (0.0,)

    problem = SimpleNamespace(outputs=("price",), any_point=lambda question: question)
    fallback = Fallback(solve, lambda _: None)
    model: Any = SimpleNamespace(predictor=SimpleNamespace(problem=problem, fallback=fallback))

    async def life() -> None:
        service = await Service.open(settings.load(), State())
        asked = asyncio.create_task(service._solved(model, [OPTION]))
        while not begun.is_set():
            await asyncio.sleep(0.005)
        await service.close()
        assert not asked.done()

    asyncio.run(life())
    assert not solved.is_set()
    over.set()


async def test_shadow_tells_which_item_breaks_which_invariant_though_callers_would_get_no_answer() -> None:
    service = await Service.open(settings.load(fallback_solver=False), State())
    sound = service.model.predictor.evaluation
    strict = {**sound.tolerances, "gamma_sign": -1e-3}  # a gamma below this is a violation: far from the strike it is
    object.__setattr__(sound, "tolerances", strict)
    far = {**OPTION, "spot": 55, "maturity": 0.02}
    said = await service._shadow([OPTION, far, {**OPTION, "maturity": 5.0}], False)
    await service.close()
    assert [answer.reason for answer in said["answers"]] == [None, "physics_violation", "out_of_domain"]
    assert [answer.method for answer in said["answers"]] == ["model", "solver", "solver"]
    assert said["violations"] == [{"item": 1, "detail": "the model's answer breaks gamma_sign"}]
    assert not service.model.predictor.fallback.solver


def test_a_server_is_warmed_with_samples_of_its_own() -> None:
    with ServerProcess.started(admin_token="sesame") as server, server.client() as client:
        samples = httpx.get(f"{server.admin}/samples?keys=300&seed=3", headers=TOKEN).json()["keys"]
        warmed = httpx.post(f"{server.admin}/cache/warm", json={"items": samples}, headers=TOKEN).json()
        assert warmed == {"warmed": 300}
        assert {client.post("/predict", json=item).json()["method"] for item in samples[:20]} == {"cache"}
        metrics = server.metrics()
        assert metrics['pinn_requests_total{outcome="ok",source="warmup"}'] == 1
        assert metrics['pinn_cache_misses_total{source="live"}'] == 0


def test_callers_who_keep_connections_are_told_to_choose_a_server_anew_and_nobody_else() -> None:
    with ServerProcess.started(admin_token="sesame") as server, server.client() as client:
        assert "connection" not in client.post("/predict", json=OPTION).headers
        assert httpx.post(f"{server.admin}/connections/renew").status_code == 401
        assert "connection" not in client.post("/predict", json=OPTION).headers
        for _ in range(2):  # the first must not end what the second asks for
            assert httpx.post(f"{server.admin}/connections/renew", headers=TOKEN).json() == {"seconds": RENEW_SECONDS}
        answer = client.post("/predict", json=OPTION)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200
        eventually(lambda: "connection" not in client.post("/predict", json=OPTION).headers, 30)


def test_too_much_memory_fails_liveness_with_the_reason() -> None:
    with ServerProcess.started(restart_above_memory="20Mi") as server:

        def dead() -> bool:
            return httpx.get(f"{server.url}/v2/health/live").status_code == 503

        eventually(dead, 30)
        assert "MiB" in httpx.get(f"{server.url}/v2/health/live").json()["error"]


def test_the_detail_names_every_part_and_how_it_is(server: ServerProcess) -> None:
    detail = httpx.get(f"{server.url}/health/detailed").json()
    assert detail["status"] == "healthy"
    assert set(detail["components"]) == {"pinn_cache", "pinn_model", "tensorflow"}
    assert detail["components"]["pinn_model"]["prediction_test"] == "passed"
    assert detail["components"]["tensorflow"]["gpu_available"] is False


def test_without_the_solver_what_is_outside_the_domain_is_refused() -> None:
    with ServerProcess.started(fallback_solver="false") as server, server.client() as client:
        answer = client.post("/predict", json={**OPTION, "maturity": 5})
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("maturity is 5.0, outside the range the model was trained on")


def test_the_loops_lag_is_measured(server: ServerProcess) -> None:
    before = server.metrics()["pinn_event_loop_lag_seconds_count"]
    eventually(lambda: server.metrics()["pinn_event_loop_lag_seconds_count"] >= before + 2, 30)


async def test_requests_in_flight_are_told_while_they_are_and_no_longer() -> None:
    service = await Service.open(settings.load(), State())
    for count, change in ((1, service._limiter.arrive), (0, service._limiter.leave)):
        change()
        assert f"pinn_requests_in_flight {count}.0" in service._metrics.text().decode()
    await service.close()


def test_a_required_gpu_that_is_not_there_keeps_the_server_unready_and_says_so() -> None:
    with ServerProcess.started(gpu_policy="require", fallback_cpu="false") as server:
        answer = httpx.get(f"{server.url}/v2/health/ready")
        assert answer.status_code == 503
        assert "GPU" in answer.json()["error"]
        assert httpx.get(f"{server.url}/v2/health/live").status_code == 200
