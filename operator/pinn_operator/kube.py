"""The API server as the rest of the operator sees it: a dozen kinds and one small client.

No discovery (its cache goes stale when a cluster is remade), a limit on every call, plain dicts in and out,
and errors sorted by what the caller can do about them (errors.py).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes.aio import client as k8s
from kubernetes.aio import config
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.dynamic import DynamicClient
from kubernetes.aio.dynamic.resource import Resource

from pinn_operator.api.names import FIELD_MANAGER, GROUP, KIND, PLURAL, VERSION
from pinn_operator.errors import ApiError, Conflict, Refused, Unavailable

Object = dict[str, Any]

CALL_SECONDS = 10.0
WRITE_SECONDS = 35.0
"""An admission webhook that is silent holds a write up for 10 s, or for up to 30 s where it is given them; then the API server
says which one. Whatever it waits for, it ends a write by itself after 34 s."""

SERVER = "server"
"""The container of a pod that serves."""

NOT_OURS = ("typed patch object", "failed calling webhook")
"""What an answer 500 says when a person has to act: a type error in an apply, and an admission webhook that is down."""
PAGE = 100
"""Objects read in one request. A record of a revision, 8 KB on the wire, takes 50 KB of memory when it is read."""

CUSTOM_METRICS = "custom.metrics.k8s.io"
"""The metrics of pods, which an adapter serves where there is one."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object and where the API server keeps it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]


PINN_DEPLOYMENT = Kind(f"{GROUP}/{VERSION}", KIND, PLURAL)
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
CONTROLLER_REVISION = Kind("apps/v1", "ControllerRevision", "controllerrevisions")
SERVICE = Kind("v1", "Service", "services")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
POD = Kind("v1", "Pod", "pods")
POD_DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
AUTOSCALER = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
ENDPOINT_SLICE = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SECRET = Kind("v1", "Secret", "secrets")
HTTP_ROUTE = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
EVENT = Kind("events.k8s.io/v1", "Event", "events")
CLUSTER_ROLE = Kind("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False)
CLUSTER_ROLE_BINDING = Kind("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", False)

WRITTEN = (CONTROLLER_REVISION, SERVICE_ACCOUNT, DEPLOYMENT, SERVICE, POD_DISRUPTION_BUDGET, AUTOSCALER)
"""The kinds the operator makes for an object, in the order in which they are made."""

NAMED = (CONFIG_MAP, SECRET, HTTP_ROUTE)
"""Kinds of which the operator makes one for an object, under a name it knows, and reads no other."""

BY_KIND = {kind.kind: kind for kind in (*WRITTEN, *NAMED, PINN_DEPLOYMENT, POD, ENDPOINT_SLICE, LEASE, EVENT)}


class Kube:
    """A client that speaks plain dicts. Every method raises ApiError (or a branch of it), nothing else."""

    def __init__(self, api: k8s.ApiClient) -> None:
        self._api = api
        self._dynamic = DynamicClient(api)

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object | None:
        """The object, read from the store and not from a cache; None when there is none."""
        try:
            return await self._call("get", kind, name=name, namespace=namespace)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list_all(
        self, kind: Kind, namespace: str | None = None, selector: str | None = None, fields: str | None = None
    ) -> list[Object]:
        """All objects of a kind, page by page; `kind` and `apiVersion` are filled in, as lists leave them out."""
        return [obj async for page in self.pages(kind, namespace, selector, fields) for obj in page]

    async def pages(
        self, kind: Kind, namespace: str | None = None, selector: str | None = None, fields: str | None = None
    ) -> AsyncIterator[list[Object]]:
        """The same, for a caller that needs no two pages at once: there may be more objects than memory for them."""
        token: str | None = None
        while True:
            page = await self._call(
                "get", kind, namespace=namespace, label_selector=selector, field_selector=fields, limit=PAGE,
                _continue=token,
            )  # fmt: skip
            token = page["metadata"].get("continue")
            yield [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in page.pop("items")]
            if not token:
                return

    async def serves(self, group: str) -> bool:
        """Whether the cluster has this API group. Everybody may ask (system:discovery); who may not, has it not."""
        try:
            await self._dynamic.request("GET", f"/apis/{group}", _request_timeout=CALL_SECONDS)
        except ApiException as error:
            if error.status in (403, 404):
                return False
            raise _sorted(error) from None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Unavailable(0, "NoAnswer", f"get /apis/{group}: {error or type(error).__name__}") from error
        return True

    async def apply(self, obj: Object, *, dry_run: bool = False, manager: str = FIELD_MANAGER) -> Object:
        """Server-side apply, forced: what this operator sets, it owns. Refused where the kind is not installed."""
        extra = {"dry_run": "All"} if dry_run else {}
        try:
            return await self._call(
                "server_side_apply",
                BY_KIND[obj["kind"]],
                body=obj,
                field_manager=manager,
                force_conflicts=True,
                **extra,
            )
        except ApiError as error:
            if error.status != 404 or isinstance(error, Refused):
                raise
            said = f"the cluster has no {obj['kind']} ({obj['apiVersion']}), or not this namespace; install it"
            raise Refused(404, "NotInstalled", said) from None

    async def apply_status(self, obj: Object) -> Object:
        """Apply to the status subresource. A CRD older than this operator answers with the 500 of a type error:
        then a merge patch, from which the server prunes what it does not know."""
        try:
            return await self._call(
                "server_side_apply", PINN_DEPLOYMENT, subresource="status", body=obj,
                field_manager=FIELD_MANAGER, force_conflicts=True,
            )  # fmt: skip
        except Refused as error:
            if error.status != 500:
                raise
        return await self._call(
            "patch", PINN_DEPLOYMENT, subresource="status", body=obj,
            field_manager=FIELD_MANAGER, content_type="application/merge-patch+json",
        )  # fmt: skip

    async def create(self, obj: Object) -> Object:
        return await self._call("create", BY_KIND[obj["kind"]], body=obj, field_manager=FIELD_MANAGER)

    async def replace(self, obj: Object) -> Object:
        """PUT; `metadata.resourceVersion` in the object makes it conditional."""
        return await self._call("replace", BY_KIND[obj["kind"]], body=obj, field_manager=FIELD_MANAGER)

    async def patch(self, kind: Kind, name: str, namespace: str | None, operations: list[Object]) -> Object:
        """JSON patch; a failed `test` operation is a Conflict."""
        return await self._call(
            "patch", kind, name=name, namespace=namespace, body=operations,
            field_manager=FIELD_MANAGER, content_type="application/json-patch+json",
        )  # fmt: skip

    async def patch_once_allowed(
        self,
        kind: Kind,
        name: str,
        namespace: str | None,
        operations: list[Object],
        meanwhile: Callable[[], Awaitable[None]],
    ) -> None:
        """A JSON patch that the server authorises before `meanwhile` runs and carries out after it.

        For a caller about to give up, in `meanwhile`, the very right to send the patch. By `Expect: 100-continue` (RFC 9110,
        10.1.1) the body is held back until the server begins to read it, and a Kubernetes API server authorises before that.
        """

        async def body() -> AsyncIterator[bytes]:
            await meanwhile()
            yield json.dumps(operations).encode()

        method, url, headers, *_ = await self._api.param_serialize(
            "PATCH", self._resource(kind).path(name=name, namespace=namespace), auth_settings=["BearerToken"],
            header_params={"Accept": "application/json", "Content-Type": "application/json-patch+json"},
        )  # fmt: skip
        session: aiohttp.ClientSession = self._api.rest_client.pool_manager
        limit = aiohttp.ClientTimeout(total=CALL_SECONDS)
        try:
            async with session.request(
                method, url, headers=headers, data=body(), expect100=True, timeout=limit
            ) as answer:
                text = await answer.text()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Unavailable(0, "NoAnswer", f"patch {kind.plural}: {error or type(error).__name__}") from error
        if answer.status >= 300:
            raise _sorted(ApiException(status=answer.status, reason=answer.reason, body=text))

    async def logs(self, pod: str, namespace: str, *, lines: int, previous: bool = False) -> str:
        """The last lines that the server in a pod wrote; those of the process before this one, if `previous`."""
        query = [("tailLines", lines), ("previous", str(previous).lower()), ("container", SERVER)]
        method, url, headers, *_ = await self._api.param_serialize(
            "GET", f"{self._resource(POD).path(name=pod, namespace=namespace)}/log", auth_settings=["BearerToken"],
            query_params=query, header_params={"Accept": "*/*"},  # text/plain alone is refused with 406
        )  # fmt: skip
        session: aiohttp.ClientSession = self._api.rest_client.pool_manager
        try:
            async with session.request(
                method, url, headers=headers, timeout=aiohttp.ClientTimeout(total=CALL_SECONDS)
            ) as answer:
                text = await answer.text(errors="replace")
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Unavailable(0, "NoAnswer", f"logs of {pod}: {error or type(error).__name__}") from error
        if answer.status >= 300:
            raise _sorted(ApiException(status=answer.status, reason=answer.reason, body=text))
        return text

    async def delete(self, kind: Kind, name: str, namespace: str, uid: str) -> None:
        """Delete this very object (by uid); that it is gone already is no error."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._call("delete", kind, name=name, namespace=namespace, body=body)
        except ApiError as error:
            if error.status != 404:
                raise

    async def _call(self, verb: str, kind: Kind, *, subresource: str | None = None, **args: Any) -> Object:
        resource: Any = self._resource(kind)
        if subresource is not None:
            resource = resource.subresources[subresource]
        limit = CALL_SECONDS if verb == "get" else WRITE_SECONDS
        try:
            answer: Object = await getattr(self._dynamic, verb)(
                resource, serializer=_plain, _request_timeout=limit, **args
            )
        except ApiException as error:
            raise _sorted(error) from None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Unavailable(0, "NoAnswer", f"{verb} {kind.plural}: {error or type(error).__name__}") from error
        return answer

    def _resource(self, kind: Kind) -> Resource:
        return Resource(
            prefix="apis" if kind.group else "api",
            group=kind.group,
            api_version=kind.api_version.rpartition("/")[2],
            kind=kind.kind,
            name=kind.plural,
            namespaced=kind.namespaced,
            client=self._dynamic,
            subresources={"status": {"kind": kind.kind, "name": f"{kind.plural}/status", "namespaced": True}},
        )


@asynccontextmanager
async def connect() -> AsyncIterator[Kube]:
    """A client by the service account it runs under, or by KUBECONFIG outside a cluster."""
    configuration = k8s.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException:
        await config.load_kube_config(client_configuration=configuration)
    async with k8s.ApiClient(configuration) as api:
        yield Kube(api)


def _plain(_client: object, data: Any) -> Any:
    return data


def _sorted(error: ApiException) -> ApiError:
    """The API server's answer as the branch of errors.py that says what can be done about it."""
    reason, message = _status_of(error)
    status = int(error.status or 0)
    if status == 409 or (status == 422 and "the server rejected our request due to an error in our request" in message):
        return Conflict(status, reason, message)
    if status in (400, 403, 405, 415, 422) or (status == 500 and any(said in message for said in NOT_OURS)):
        return Refused(status, reason, message)
    if status in (401, 429) or status >= 500:
        return Unavailable(status, reason, message, _retry_after(error))
    return ApiError(status, reason, message)


def _status_of(error: ApiException) -> tuple[str, str]:
    """Reason and message out of the metav1.Status in the body; a kind that is not installed answers in plain text."""
    text = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or "")
    try:
        body = json.loads(text)
        return str(body.get("reason") or error.reason or ""), str(body.get("message") or text)
    except (ValueError, AttributeError):
        return str(error.reason or ""), text.strip()


def _retry_after(error: ApiException) -> float | None:
    value = (error.headers or {}).get("Retry-After")
    return float(value) if value and value.isdigit() else None
