"""Taking a Service that runs over to a PinnDeployment of its name, and back: what is written, as data. Pure.

The order is what keeps callers served: the new servers come up beside the old ones, while the name is still the old Service's;
then one write turns the Service to them and gives it to the object. The old Deployment is not touched: it is the way back.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, Final

from pinn_operator.api.names import API_VERSION, GROUP, KIND, LABEL_OBJECT, LABEL_REVISION, MAX_NAME
from pinn_operator.api.ownership import controller_of
from pinn_operator.api.revision import SECTIONS, name_of
from pinn_operator.build.pod import labels_of
from pinn_operator.plugin.kubectl import Object, Trouble

BEFORE: Final = f"{GROUP}/before-migration"
"""The annotation of a Service that was taken over: what it was, for the way back."""

EXTRA_PORT: Final = "migrated-{}"
"""How a port without a name is called: of several ports each must have one."""

NAMED_PORT: Final = "http"
"""The port of a server's container."""


def complaint_about(service: Mapping[str, Any], where: str) -> str | None:
    """Why a Service cannot be taken over, with what to do; None when it can. `where`: the options that lead to its namespace."""
    spec, metadata = service["spec"], service["metadata"]
    name = metadata["name"]
    if len(name) > MAX_NAME:
        return (
            f"Service/{name}: a PinnDeployment takes the Service's name, which may have {MAX_NAME} characters at most"
        )
    if BEFORE in metadata.get("annotations", {}):
        return f"Service/{name} was taken over already; kubectl pinn migrate {name} {where} --undo gives it back"
    if owner := controller_of(service):
        return f"Service/{name} belongs to {owner['kind']}/{owner['name']}, which would put it back; release it there first"
    if not spec.get("selector"):
        return f"Service/{name} selects no pods; name the Service whose selector leads to your servers"
    if (kind := spec.get("type", "ClusterIP")) != "ClusterIP":
        return (
            f"Service/{name} is of type {kind}, and a PinnDeployment's is a ClusterIP: put another Service of type {kind} "
            f"with the same selector beside it first, and migrate one of type ClusterIP"
        )
    if spec.get("clusterIP") == "None":
        return f"Service/{name} is headless: its clients know pods by address, and none of them can be moved for them"
    if other := next((port for port in spec["ports"] if port.get("protocol", "TCP") != "TCP"), None):
        return f"Service/{name} has a port for {other['protocol']}; the server speaks HTTP over TCP"
    return None


def complaint_about_other(
    name: str, found: Mapping[str, Any], wanted: Mapping[str, Any], where: str, *, is_turned: bool
) -> str | None:
    """Why an object that is there already must not take the Service over, or is not what it was taken over for, with what to do;
    None when it asks for what is wanted. Both are the contents of revisions."""
    if name_of(found) == name_of(wanted):
        return None
    parts = ", ".join(f"spec.{part}" for part in sorted(SECTIONS) if found.get(part) != wanted.get(part))
    said = (
        f"PinnDeployment/{name} is there already with {_called(found)}, and {_called(wanted)} is asked for: they differ in "
        f"{parts}. "
    )
    if is_turned:
        return (
            f"{said}Service/{name} was taken over already: say in the object what is to serve, and it is rolled out; or give the "
            f"Service back: kubectl pinn migrate {name} {where} --undo"
        )
    return (
        f"{said}Ask for what is there, or remove it and run this again; callers of Service/{name} are where "
        f"they were and stay there: kubectl delete pinn {name} {where}"
    )


def _called(content: Mapping[str, Any]) -> str:
    model = content["model"]
    return f"revision {name_of(content)} ({model['name']} {model['version']})"


def turned(service: Object, owner: Mapping[str, Any], revision: str) -> Object:
    """The Service as it leads to a revision of the object and belongs to it: fit for a replace, which fails if the Service has
    changed since it was read. Its ports stay, for callers know them; all lead to the server."""
    found = copy.deepcopy(service)
    name, metadata, spec = found["metadata"]["name"], found["metadata"], found["spec"]
    before = {part: service["spec"][part] for part in ("selector", "ports")}
    before["labels"] = service["metadata"].get("labels", {})
    metadata["annotations"] = {**metadata.get("annotations", {}), BEFORE: json.dumps(before, sort_keys=True)}
    metadata["labels"] = {**metadata.get("labels", {}), **labels_of(name, "server")}
    metadata["ownerReferences"] = [
        *metadata.get("ownerReferences", ()),
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": True,
        },
    ]
    spec["selector"] = {LABEL_OBJECT: name, LABEL_REVISION: revision}
    spec["ports"] = [
        {"name": EXTRA_PORT.format(port["port"]), **port, "targetPort": NAMED_PORT} for port in before["ports"]
    ]
    return _without_status(found)


def given_back(service: Object) -> Object:
    """The Service as it was before, and nobody's. Raises Trouble when nothing is known of that."""
    found = copy.deepcopy(service)
    metadata, spec = found["metadata"], found["spec"]
    known = metadata.get("annotations", {}).pop(BEFORE, None)
    if known is None:
        raise Trouble(
            f"Service/{metadata['name']} was not taken over by kubectl pinn migrate: there is nothing to undo"
        )
    before = json.loads(known)
    metadata["ownerReferences"] = [
        ref for ref in metadata.get("ownerReferences", ()) if (ref["kind"], ref.get("controller")) != (KIND, True)
    ]
    mine = labels_of(metadata["name"], "server")
    since = {key: value for key, value in metadata.get("labels", {}).items() if mine.get(key) != value}
    metadata["labels"] = since | {key: value for key, value in before["labels"].items() if key in mine}
    # An operator takes what it once applied for its own: who has a field is forgotten, so it is not.
    metadata["managedFields"] = [{}]
    spec["selector"], spec["ports"] = before["selector"], before["ports"]
    return _without_status(found)


def manifest(name: str, model: Mapping[str, str], replicas: int) -> Object:
    """The object that takes a Service over: what is not said has its default."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "model": dict(model)},
    }


def _without_status(service: Object) -> Object:
    service.pop("status", None)
    return service
