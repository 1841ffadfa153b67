"""Whether a live object already is as it should be. An apply that changes nothing still costs the API server a request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pinn_operator.api.names import FIELD_MANAGER, SCALING_MANAGER

GUARDED = {"Deployment": "f:template", "Service": "f:selector", "PodDisruptionBudget": "f:selector"}
"""Where in the spec an addition by somebody else changes what serves or who is served."""


def holds(live: Any, wanted: Any) -> bool:
    """Everything wanted is in `live`. What the server filled in beside it does not count; a list must match item by item."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(holds(live.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list | tuple):
        return isinstance(live, list) and len(live) == len(wanted) and all(map(holds, live, wanted))
    return bool(live == wanted)


def additions(live: Mapping[str, Any]) -> tuple[str, ...]:
    """Who else owns fields in the guarded part. Apply leaves those alone: a container, a variable, a selector key added by
    hand stays until the object is replaced."""
    guarded = GUARDED.get(live["kind"])
    if guarded is None:
        return ()
    return tuple(
        str(entry.get("manager"))
        for entry in live["metadata"].get("managedFields", ())
        if not _ours(entry) and guarded in entry.get("fieldsV1", {}).get("f:spec", {})
    )


REPLICAS = ("f:spec", "f:replicas")


def tampered(live: Mapping[str, Any], wanted: Mapping[str, Any], *, scaled: bool = False) -> bool:
    """Whether somebody else made the difference. What we change our own mind about (replicas, a selector) is still listed as
    ours in managedFields; what another wrote or removed is not. Lists never change by our own will, and an
    annotation of ours (a nudge) is new each time. With `scaled`, the number of servers was an autoscaler's until now."""
    mine: dict[str, Any] = {}
    for entry in live["metadata"].get("managedFields", ()):
        if _ours(entry) and entry.get("operation") == "Apply":
            mine = entry.get("fieldsV1", {})
    changed = [path for path in _differences(live, wanted) if "f:annotations" not in path]
    return any(not _listed(mine, path) for path in changed if not (scaled and path == REPLICAS))


def meddlers(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, ...]:
    """Who made the difference, by managedFields: who owns what is not as wanted, or, where that was removed and so is nobody's,
    who wrote last. Who sets the number of servers, an autoscaler say, has removed nothing."""
    entries = [
        entry for entry in live["metadata"].get("managedFields", ()) if not _ours(entry) and not _is_of_status(entry)
    ]
    paths = [path for path in _differences(live, wanted) if "f:annotations" not in path]
    owners = {str(one.get("manager")) for one in entries for path in paths if _touches(one.get("fieldsV1", {}), path)}
    if owners:
        return tuple(sorted(owners))
    removers = [one for one in entries if one.get("manager") != SCALING_MANAGER and one.get("subresource") != "scale"]
    last = max(removers, key=lambda one: str(one.get("time", "")), default=None)
    return (str(last.get("manager")),) if last else ()


def _is_of_status(entry: Mapping[str, Any]) -> bool:
    return entry.get("subresource") == "status"


def _touches(fields: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    """Whether a managedFields tree has the path, or something of the list that it ends in."""
    return _listed(fields, path[:-1] if path[-1:] == ("[]",) else path)


def _differences(live: Any, wanted: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(live, Mapping) and isinstance(wanted, Mapping):
        for name, value in wanted.items():
            yield from _differences(live.get(name), value, (*path, f"f:{name}"))
    elif not holds(live, wanted):
        yield (*path, "[]") if isinstance(wanted, list | tuple) else path


def _listed(fields: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    """Whether a path is in a managedFields tree. An empty leaf stands for all below it: a selector is owned as a whole."""
    for name in path:
        if name not in fields:
            return False
        fields = fields[name]
        if not fields:
            return True
    return True


def _ours(entry: Mapping[str, Any]) -> bool:
    return entry.get("manager") == FIELD_MANAGER


def replacement(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The spec as wanted and nothing more, fit for a PUT: of the live one what cannot change, and the metadata that others put
    there."""
    old, guarded = live["metadata"], GUARDED[live["kind"]]
    metadata = {**old, **wanted["metadata"]}
    for part in ("labels", "annotations"):
        metadata[part] = {**old.get(part, {}), **wanted["metadata"].get(part, {})}
    # Who owns the guarded part with the same values as ours would stay its owner, and the object would be replaced for ever.
    metadata["managedFields"] = [
        entry
        for entry in old.get("managedFields", ())
        if _ours(entry) or guarded not in entry.get("fieldsV1", {}).get("f:spec", {})
    ]
    kept = {name: live["spec"][name] for name in _IMMUTABLE.get(live["kind"], ()) if name in live["spec"]}
    theirs = {"replicas": live["spec"]["replicas"]} if leaves_replicas(live, wanted) else {}
    return {**wanted, "metadata": metadata, "spec": {**theirs, **wanted["spec"], **kept}}


def leaves_replicas(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether somebody else is to say how many servers a Deployment has."""
    return live["kind"] == "Deployment" and "replicas" not in wanted["spec"] and "replicas" in live["spec"]


def owns_replicas(live: Mapping[str, Any]) -> bool:
    """Whether an apply of ours that no longer mentions the number would set it back to one."""
    return any(
        "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
        for entry in live["metadata"].get("managedFields", ())
        if _ours(entry) and entry.get("operation") == "Apply"
    )


_IMMUTABLE = {
    "Service": (
        *("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"),
        *("externalIPs", "sessionAffinity", "sessionAffinityConfig", "internalTrafficPolicy", "trafficDistribution"),
    )
}
