"""Alive and ready, under the names of the Open Inference Protocol and the plain one."""

from pinn_inference.api.http import Answer, Request, Routes, State, failure, ok


def routes(state: State) -> Routes:
    """Liveness says the process answers; readiness, that it wants traffic: a model is loaded and it is not leaving."""

    async def live(_: Request) -> Answer:
        return ok({"live": True})

    async def ready(_: Request) -> Answer:
        if state.draining:
            return failure(503, "draining: the server was told to stop")
        return ok({"ready": True}) if state.ready else failure(503, "the model is not loaded yet")

    async def health(request: Request) -> Answer:
        answer = await ready(request)
        return ok({"status": "healthy"}) if answer.status == 200 else answer

    return {"/health": {"GET": health}, "/v2/health/live": {"GET": live}, "/v2/health/ready": {"GET": ready}}
