"""Alive and ready, under the names of the Open Inference Protocol and the plain one; and in detail, part by part.

Liveness says that the process need not be restarted; readiness, that it wants traffic. The detail is for people and dashboards:
one part that is not well makes the server degraded, and only what keeps it from answering makes it unhealthy.
"""

import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib import metadata
from typing import Any, Final

from pinn_inference.api.http import Answer, Request, Routes, State, encoded, failure, ok
from pinn_inference.logs import log

Report = Mapping[str, Any]
Component = Callable[[], Report | Awaitable[Report]]
"""Says {"status": "healthy" | "degraded" | "unhealthy", ...} of one part of the server."""

_WORST_LAST: Final = ("healthy", "degraded", "unhealthy")


def routes(state: State, components: Mapping[str, Component] | None = None) -> Routes:
    """All the paths; `components` by the names they have in /health/detailed."""
    parts = components or {}

    async def live(_: Request) -> Answer:
        return failure(503, state.unhealthy) if state.unhealthy else ok({"live": True})

    async def ready(_: Request) -> Answer:
        complaint = state.complaint()
        return failure(503, complaint) if complaint else ok({"ready": True})

    async def health(_: Request) -> Answer:
        complaint = state.complaint()
        return failure(503, complaint) if complaint else ok({"status": "healthy"})

    async def detailed(_: Request) -> Answer:
        found = await overall(state, parts)
        return encoded(503 if found["status"] == "unhealthy" else 200, found)

    return {
        "/health": {"GET": health},
        "/health/detailed": {"GET": detailed},
        "/v2/health/live": {"GET": live},
        "/v2/health/ready": {"GET": ready},
    }


async def overall(state: State, components: Mapping[str, Component]) -> dict[str, Any]:
    """{"status", "reason" when there is one, "components"}: as bad as the worst part, unhealthy when not ready."""
    found = {name: await _asked(name, component) for name, component in components.items()}
    complaint = state.complaint()
    worst = max((_rank(report) for report in found.values()), default=0)
    status = "unhealthy" if complaint else _WORST_LAST[worst]
    return {"status": status, **({"reason": complaint} if complaint else {}), "components": found}


def cache(size: Callable[[], int], hits: Callable[[], float], misses: Callable[[], float]) -> Component:
    """The result cache: entries, and the share of live look-ups that hit; null before the first."""

    def report() -> Report:
        hit, missed = hits(), misses()
        rate = round(hit / (hit + missed), 6) if hit + missed else None
        return {"status": "healthy", "cache_size": size(), "hit_rate": rate}

    return report


def cache_off() -> Component:
    """The result cache when it is switched off: that is a choice, and healthy."""
    return lambda: {"status": "healthy", "cache_size": 0, "hit_rate": None, "enabled": False}


def model(predict: Callable[[], object | Awaitable[object]], degraded: Callable[[], str] = str) -> Component:
    """One prediction, past the cache, and how long it took. `degraded` says why answers come from less than the first choice."""

    async def report() -> Report:
        started = time.perf_counter()
        try:
            answer = predict()
            if inspect.isawaitable(answer):
                await answer
        except Exception as error:  # noqa: BLE001 - a probe must report any failure of a prediction, one nobody foresaw above all
            return {"status": "unhealthy", "prediction_test": f"failed: {error}", "latency_ms": None}
        latency = round((time.perf_counter() - started) * 1000, 3)
        why = degraded()
        return {
            "status": "degraded" if why else "healthy",
            "prediction_test": "passed",
            "latency_ms": latency,
            **({"reason": why} if why else {}),
        }

    return report


def tensorflow(gpus: Callable[[], int], complaint: Callable[[], str] = str) -> Component:
    """TensorFlow as installed, which is not imported to tell; without it small models are served all the same.

    `gpus` counts the devices whose worker answers; `complaint` says why one that was wanted does not, or nothing.
    """
    version = tensorflow_version()

    def report() -> Report:
        count, why = gpus(), complaint()
        found = {
            "status": "degraded" if why else "healthy",
            "version": version,
            "gpu_available": count > 0,
            "gpus": count,
        }
        return {**found, "reason": why} if why else found

    return report


def tensorflow_version() -> str | None:
    """As the package's metadata says; None where it is not installed."""
    for name in ("tensorflow", "tensorflow-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


async def _asked(name: str, component: Component) -> Report:
    try:
        report = component()
        return await report if inspect.isawaitable(report) else report
    except Exception as error:  # noqa: BLE001 - a part that raises, whatever, is reported unwell; the others must still be told
        log.exception("%s cannot say how it is", name)
        return {"status": "unhealthy", "error": f"{type(error).__name__}: {error}"}


def _rank(report: Report) -> int:
    status = report.get("status")
    return _WORST_LAST.index(status) if status in _WORST_LAST else len(_WORST_LAST) - 1
