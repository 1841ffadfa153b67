"""An API server in a dict, behind the methods of `Kube`: resourceVersions, conflicts, finalizers, owners of applied fields.
It knows no schema and no controllers; what it says about conflicts is what a real server said."""

import base64
import copy
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from pinn_operator.api.names import FIELD_MANAGER
from pinn_operator.errors import ApiError, Conflict
from pinn_operator.kube import Kind, Kube, Object

Request = tuple[str, str, str]  # verb, kind, name

ATOMS = ("selector", "rules", "parentRefs", "hostnames")
"""What an apply replaces as a whole."""


class FakeKube(Kube):
    """`before` is called with every request and may raise or wait; `requests` are those that were let through."""

    def __init__(self, *objects: Object) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.groups: set[str] = set()
        self.requests: list[Request] = []
        self.before: Callable[[str, str, str], Awaitable[None]] | None = None
        self._versions = itertools.count(1001)
        for obj in objects:
            self.put(obj)

    def put(self, obj: Object) -> Object:
        """As somebody else would write it."""
        return self._store(copy.deepcopy(obj))

    def peek(self, kind: str, name: str, namespace: str = "demo") -> Object | None:
        return self.objects.get((kind, namespace, name))

    def writes(self) -> list[Request]:
        return [request for request in self.requests if request[0] not in ("get", "list_all")]

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object | None:
        await self._asked("get", kind.kind, name)
        return copy.deepcopy(self.objects.get((kind.kind, namespace or "", name)))

    async def list_all(
        self, kind: Kind, namespace: str | None = None, selector: str | None = None, fields: str | None = None
    ) -> list[Object]:
        await self._asked("list_all", kind.kind, namespace or "")
        found = [obj for (k, ns, _), obj in self.objects.items() if k == kind.kind and namespace in (None, ns)]
        found = [obj for obj in found if _has_field(fields, obj)]
        return copy.deepcopy([obj for obj in found if _selects(selector, obj["metadata"].get("labels", {}))])

    async def pages(
        self, kind: Kind, namespace: str | None = None, selector: str | None = None, fields: str | None = None
    ) -> AsyncIterator[list[Object]]:
        yield await self.list_all(kind, namespace, selector, fields)

    async def serves(self, group: str) -> bool:
        await self._asked("serves", "APIGroup", group)
        return group in self.groups

    async def apply(self, obj: Object, *, dry_run: bool = False, manager: str = FIELD_MANAGER) -> Object:
        await self._asked("dry_run" if dry_run else "apply", obj["kind"], obj["metadata"]["name"])
        live = self.objects.get(_key(obj))
        self._same_version(obj, live or obj)
        wanted = {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "resourceVersion"}}
        merged = _encoded(_merged(live or {}, wanted))
        before = merged["metadata"].get("managedFields", ())
        theirs = [e for e in before if e["manager"] != manager]
        ours = {"manager": manager, "operation": "Apply", "fieldsV1": _fields(wanted)}
        if any(map(_has_replicas, before)) and not any(map(_has_replicas, (ours, *theirs))):
            merged["spec"]["replicas"] = 1  # nobody applies it any more
        merged["metadata"]["managedFields"] = [ours, *theirs]
        return merged if dry_run or merged == live else self._store(merged)

    async def apply_status(self, obj: Object) -> Object:
        await self._asked("apply_status", obj["kind"], obj["metadata"]["name"])
        live = self._found(_key(obj))
        self._same_version(obj, live)
        return self._store({**live, "status": copy.deepcopy(obj["status"])})

    async def create(self, obj: Object) -> Object:
        await self._asked("create", obj["kind"], obj["metadata"]["name"])
        if _key(obj) in self.objects:
            raise Conflict(409, "AlreadyExists", "it exists already")
        return self._store(copy.deepcopy(obj))

    async def replace(self, obj: Object) -> Object:
        await self._asked("replace", obj["kind"], obj["metadata"]["name"])
        self._same_version(obj, self._found(_key(obj)))
        return self._store(copy.deepcopy(obj))

    async def patch(self, kind: Kind, name: str, namespace: str | None, operations: list[Object]) -> Object:
        await self._asked("patch", kind.kind, name)
        patched = copy.deepcopy(self._found((kind.kind, namespace or "", name)))
        for operation in operations:
            *path, last = (part.replace("~1", "/") for part in operation["path"].strip("/").split("/"))
            node = patched
            for part in path:
                node = node[part]
            missing = operation["op"] == "remove" and last not in node
            if missing or (operation["op"] == "test" and node.get(last) != operation["value"]):
                raise Conflict(422, "Invalid", "the server rejected our request due to an error in our request")
            if operation["op"] in ("add", "replace"):
                node[last] = operation["value"]
            if operation["op"] == "remove":
                del node[last]
        return self._store(patched)

    async def patch_once_allowed(
        self, kind: Kind, name: str, namespace: str | None, operations: list[Object],
        meanwhile: Callable[[], Awaitable[None]],
    ) -> None:  # fmt: skip
        await self._asked("allowed", kind.kind, name)
        await meanwhile()
        await self.patch(kind, name, namespace, operations)

    async def delete(self, kind: Kind, name: str, namespace: str, uid: str) -> None:
        await self._asked("delete", kind.kind, name)
        live = self.objects.get((kind.kind, namespace, name))
        if live is not None:
            if live["metadata"]["uid"] != uid:
                raise Conflict(409, "Conflict", "the UID in the precondition does not match")
            self._store(_merged(live, {"metadata": {"deletionTimestamp": "2026-01-02T03:04:05Z"}}))

    async def _asked(self, verb: str, kind: str, name: str) -> None:
        await self.before(verb, kind, name) if self.before else None
        self.requests.append((verb, kind, name))

    def _found(self, key: tuple[str, str, str]) -> Object:
        if key in self.objects:
            return self.objects[key]
        raise ApiError(404, "NotFound", f"{key[0]} {key[2]} not found")

    def _same_version(self, obj: Object, live: Object) -> None:
        if obj["metadata"].get("resourceVersion") not in (None, live["metadata"].get("resourceVersion")):
            raise Conflict(409, "Conflict", "the object has been modified")

    def _store(self, obj: Object) -> Object:
        """Under a new resourceVersion; what is being deleted and has no finalizer is gone."""
        key, metadata = _key(obj), obj["metadata"]
        version = next(self._versions)
        born = {"uid": f"uid-{version}", "creationTimestamp": "2026-01-02T03:00:00Z"}
        self.objects[key] = obj = {**obj, "metadata": {**born, **metadata, "resourceVersion": str(version)}}
        if "deletionTimestamp" in metadata and not metadata.get("finalizers"):
            del self.objects[key]
        return copy.deepcopy(obj)


def _has_replicas(entry: Object) -> bool:
    return "f:replicas" in entry["fieldsV1"].get("f:spec", {})


def _key(obj: Object) -> tuple[str, str, str]:
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _selects(selector: str | None, labels: dict[str, str]) -> bool:
    name, _, value = (selector or "").partition("=")
    return not name or (name in labels and value in ("", labels[name]))


def _has_field(fields: str | None, obj: Any) -> bool:
    path, _, value = (fields or "").partition("=")
    for name in filter(None, path.split(".")):
        obj = obj.get(name, {})
    return not path or obj == value


def _merged(live: Any, wanted: Any) -> Any:
    if not isinstance(live, dict) or not isinstance(wanted, dict):
        return copy.deepcopy(wanted)
    merged = {name: value if name in ATOMS else _merged(live.get(name), value) for name, value in wanted.items()}
    return copy.deepcopy(live | merged)


def _encoded(obj: Object) -> Object:
    """A Secret is kept as `data`, whatever way it was written."""
    plain = obj.pop("stringData", None)
    if plain is None:
        return obj
    coded = {name: base64.b64encode(text.encode()).decode() for name, text in plain.items()}
    return {**obj, "data": {**obj.get("data", {}), **coded}}


def _fields(value: Any) -> Any:
    """managedFields' own notation, in which a selector and the lists of a route are one atom each, and the items of other lists
    have keys."""
    if isinstance(value, list):
        return {f"k:{number}": {} for number, _ in enumerate(value)}
    inner = value.items() if isinstance(value, dict) else ()
    return {f"f:{name}": {} if name in ATOMS else _fields(part) for name, part in inner}
