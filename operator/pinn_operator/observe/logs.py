"""The last lines that the servers of a revision wrote, for a report: of the process before this one too, where there was one."""

from __future__ import annotations

from collections.abc import Iterable

from pinn_operator.api.readings import Server
from pinn_operator.errors import ApiError
from pinn_operator.kube import Kube

LINES = 200
MOST_PODS = 4


async def read_logs(kube: Kube, namespace: str, of: Iterable[Server]) -> dict[str, str]:
    """By pod. What cannot be read is said in its place."""
    found = {}
    for server in sorted(of, key=lambda one: (-one.restarts, one.pod))[:MOST_PODS]:
        for before in (True, False) if server.restarts else (False,):
            name = f"{server.pod} (before its restart)" if before else server.pod
            try:
                found[name] = await kube.logs(server.pod, namespace, lines=LINES, previous=before)
            except ApiError as error:
                found[name] = f"cannot be read: {error}"
    return found
