"""`kubectl delete -k manifests/` with live objects must end, and it takes away definition, roles and operator at once.

An operator that lost its roles first could never release its finalizers, and the deletion of the definition would hang. So
while any object carries ours, the operator's own roles carry one too: authority lasts as long as the duty. On the way out the
operator removes what belongs to objects that are being deleted, releases every finalizer, and then that of its roles. Where no
object exists, or the operator never ran, nothing is held and nothing can hang.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

import structlog

from pinn_operator.act.children import release
from pinn_operator.api.names import FINALIZER, GROUP
from pinn_operator.api.observed import Key
from pinn_operator.errors import ApiError, Conflict
from pinn_operator.kube import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    DEPLOYMENT,
    PINN_DEPLOYMENT,
    SERVICE_ACCOUNT,
    Kind,
    Kube,
    Object,
)
from pinn_operator.reconcile import Context, reconcile

log = structlog.get_logger()

GUARD = f"{GROUP}/operator"
"""The finalizer on the operator's own roles."""

SETTLE_SECONDS, SETTLE_LOOK_SECONDS = 3.0, 0.5
ATTEMPTS = 5
AT_ONCE = 8
CHILDREN_SECONDS = 10.0
"""For removing an object's children: an admission webhook that is silent holds each of them up for as long, or longer."""


@dataclass(frozen=True, slots=True)
class Installed:
    """Under which names this operator was installed, and for which namespaces (none: all)."""

    name: str
    namespace: str
    namespaces: tuple[str, ...] = ()

    @property
    def authority(self) -> tuple[tuple[Kind, str, str | None], ...]:
        """What lets it write to its objects. In named namespaces it may not touch its own roles, and nothing is held: there
        the objects are deleted before the operator."""
        if self.namespaces:
            return ()
        return (
            (SERVICE_ACCOUNT, self.name, self.namespace),
            (CLUSTER_ROLE, self.name, None),
            (CLUSTER_ROLE_BINDING, self.name, None),
        )


async def hold_authority(kube: Kube, installed: Installed) -> None:
    """Put the guard on, where it is not yet. Outside a cluster, or under other names, there is nothing to guard."""
    for kind, name, namespace in installed.authority:
        live = await kube.get(kind, name, namespace)
        if live is None or _is_going(live) or _is_held(live):
            continue
        await kube.patch(kind, name, namespace, _finalizers(live, [*live["metadata"].get("finalizers", ()), GUARD]))


async def give_up_authority(kube: Kube, installed: Installed) -> None:
    """Take the guard off, unless an object still needs it."""
    for namespace in installed.namespaces or (None,):
        if any(FINALIZER in obj["metadata"].get("finalizers", ()) for obj in await _objects(kube, namespace)):
            return
    authority = [(kind, await kube.get(kind, name, namespace)) for kind, name, namespace in installed.authority]
    await _release_authority(kube, [(kind, live) for kind, live in authority if live is not None and _is_held(live)])


async def _release_authority(kube: Kube, held: list[tuple[Kind, Object]]) -> None:
    """Account, role and binding are needed together to release any of them, and where they are being deleted the first to be
    released is gone. So each release is allowed by the server before the next one is asked for, and all are done after."""
    if held:
        *others, (kind, live) = held
        metadata = live["metadata"]
        await kube.patch_once_allowed(
            kind,
            metadata["name"],
            metadata.get("namespace"),
            _without_guard(live),
            lambda: _release_authority(kube, others),
        )


def _is_held(live: Object) -> bool:
    return GUARD in live["metadata"].get("finalizers", ())


def _without_guard(live: Object) -> list[Object]:
    return _finalizers(live, [finalizer for finalizer in live["metadata"]["finalizers"] if finalizer != GUARD])


async def is_uninstalled(kube: Kube, installed: Installed) -> bool:
    """Whether the operator is being taken away, and not only restarted: its role or its Deployment is going. kubectl deletes the
    role first, Helm the Deployment. Where it has no role it runs outside its cluster; in named namespaces it may not read it."""
    if installed.namespaces:
        return False
    role = await kube.get(CLUSTER_ROLE, installed.name)
    if role is None or _is_going(role):
        return role is not None
    deployment = await kube.get(DEPLOYMENT, installed.name, installed.namespace)
    return deployment is None or _is_going(deployment)


def _is_going(live: Object) -> bool:
    return "deletionTimestamp" in live["metadata"]


async def depart(context: Context, installed: Installed) -> None:
    """Release every object. Those being deleted lose their children first; the others and their servers stay as they are."""
    turns = asyncio.Semaphore(AT_ONCE)
    for namespace in installed.namespaces or (None,):
        keys = [
            Key(obj["metadata"]["namespace"], obj["metadata"]["name"])
            for obj in await _settled(context.kube, namespace)
        ]
        await asyncio.gather(*(_let_go(context, key, turns) for key in keys))
    await give_up_authority(context.kube, installed)
    log.info("uninstalled")


async def _settled(kube: Kube, namespace: str | None) -> list[Object]:
    """All objects, once they are being deleted or it is plain that they are not. Whoever takes the definition away too, as Helm
    may, deletes it a moment after the operator, and only then its objects. One that is released before goes without a word, and
    its servers stay for good: the garbage collector knows its kind no more."""
    ends = asyncio.get_running_loop().time() + SETTLE_SECONDS
    while True:
        found = await _objects(kube, namespace)
        if all(map(_is_going, found)) or asyncio.get_running_loop().time() > ends:
            return found
        await asyncio.sleep(SETTLE_LOOK_SECONDS)


async def _objects(kube: Kube, namespace: str | None) -> list[Object]:
    """All of them; none where the definition is gone already."""
    try:
        return await kube.list_all(PINN_DEPLOYMENT, namespace)
    except ApiError as error:
        if error.status == 404:
            return []
        raise


async def _let_go(context: Context, key: Key, turns: asyncio.Semaphore) -> None:
    async with turns:
        for _ in range(ATTEMPTS):
            try:
                await _release_object(context, key)
            except Conflict:
                continue
            except ApiError as error:
                if error.status != 404:
                    log.warning("not_released", object=str(key), error=str(error))
            return


async def _release_object(context: Context, key: Key) -> None:
    live = await context.kube.get(PINN_DEPLOYMENT, key.name, key.namespace)
    if live is not None and _is_going(live):
        with contextlib.suppress(Exception):  # its children at best; the finalizer goes in any case
            await asyncio.wait_for(reconcile(context, key), CHILDREN_SECONDS)
        live = await context.kube.get(PINN_DEPLOYMENT, key.name, key.namespace)
    if live is not None and FINALIZER in live["metadata"].get("finalizers", ()):
        await release(context.kube, key, live["metadata"]["resourceVersion"], live["metadata"]["finalizers"])


def _finalizers(live: Object, finalizers: list[str]) -> list[Object]:
    return [
        {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
        {"op": "add", "path": "/metadata/finalizers", "value": finalizers},
    ]
