"""One archive for a bug report: the object, its children, events, logs and versions, without what looks like a secret.

Secrets are not read at all. Everything else goes through report/redaction.py, objects leaf by leaf: a name and its value can
stand on two lines of YAML.
"""

from __future__ import annotations

import io
import json
import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import yaml

from pinn_operator.api.names import CRD_NAME, LABEL_OBJECT
from pinn_operator.plugin.kubectl import OPERATOR_PODS, Kubectl, Object, Trouble
from pinn_operator.report.redaction import REDACTED, is_telling, redacted

T = TypeVar("T")

LOG_LINES: Final = 2000
LEFT_OUT: Final = ("managedFields",)
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
WHERE: Final = frozenset(("name", "secretName", "path"))
HOW: Final = frozenset(
    ("key", "optional", "namespace", "items", "mode", "defaultMode", "audience", "expirationSeconds")
)
"""The keys of what refers to a Secret or mounts it."""
NAMED_SECRET: Final = re.compile(
    r"pw$|licen[cs]e$|^key$|(?<![a-z])(?:pat|salt)$|(?-i:[a-z](?:Pat|Salt)$)", re.IGNORECASE
)
"""Names of variables that are too common elsewhere for report/redaction.py."""
WEBHOOK: Final = re.compile(r"(hooks\.slack\.com/\w+/)[^\s\"'<>]+", re.IGNORECASE)
QUERY: Final = re.compile(r"(https?://[^\s?\"<>\\]+\?)[^\s\"<>\\]+", re.IGNORECASE)

CHILDREN: Final = {
    "deployments": "/apis/apps/v1/namespaces/{}/deployments",
    "replicasets": "/apis/apps/v1/namespaces/{}/replicasets",
    "controllerrevisions": "/apis/apps/v1/namespaces/{}/controllerrevisions",
    "pods": "/api/v1/namespaces/{}/pods",
    "services": "/api/v1/namespaces/{}/services",
    "configmaps": "/api/v1/namespaces/{}/configmaps",
    "serviceaccounts": "/api/v1/namespaces/{}/serviceaccounts",
    "endpointslices": "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
    "poddisruptionbudgets": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "horizontalpodautoscalers": "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "httproutes": "/apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes",
}
"""What the operator makes, but Secrets."""


class Collector:
    """Reads what it may. What could not be read is told, and is no reason to stop."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl
        self.missing: list[str] = []

    def all_of(self, what: str, path: str, **query: str) -> list[Object]:
        return self._tried(what, lambda: self.kubectl.all_of(path, **query)) or []

    def some_of(self, what: str, path: str, selector: str) -> list[Object]:
        """Those with these labels; that there are none is told too."""
        found = self._tried(what, lambda: self.kubectl.all_of(path, labelSelector=selector))
        if found == []:
            self.missing.append(f"{what}: there are none in this cluster with the labels {selector}")
        return found or []

    def raw(self, what: str, path: str) -> Object | None:
        return self._tried(what, lambda: self.kubectl.raw(path))

    def text(self, what: str, path: str) -> str | None:
        return self._tried(what, lambda: self.kubectl.text(path))

    def _tried(self, what: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except Trouble as trouble:
            self.missing.append(f"{what}: {trouble}")
            return None


def collected(kubectl: Kubectl, obj: Object, explained: str) -> dict[str, str]:
    """The texts of the archive by file name, redacted. What could not be read is told in missing.txt."""
    namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
    reader = Collector(kubectl)
    children = {
        kind: reader.all_of(kind, path.format(namespace), labelSelector=f"{LABEL_OBJECT}={name}")
        for kind, path in CHILDREN.items()
    }
    events = reader.all_of("events", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")
    operators = reader.some_of("operator pods", "/api/v1/pods", OPERATOR_PODS)
    logs = [one for pod in (*children["pods"], *operators) for one in _logs(pod)]
    texts = {
        "object.yaml": as_yaml(obj),
        "explain.txt": _redacted(explained),
        "events.txt": _redacted("\n".join(_told(events, name))),
        "versions.yaml": as_yaml(_versions(reader, operators)),
        **{f"children/{kind}.yaml": as_yaml(found) for kind, found in children.items() if found},
        **{file: _redacted(text) for file, path in logs if (text := reader.text(file, path)) is not None},
    }
    return texts | ({"missing.txt": _redacted("\n".join(reader.missing)) + "\n"} if reader.missing else {})


def archive(texts: Mapping[str, str], file: Path, folder: str) -> None:
    """One folder in a tar.gz, for its owner's eyes only."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as tar:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):  # no device
                os.fchmod(descriptor, 0o600)  # what was there before has a mode of its own
            for name, text in sorted(texts.items()):
                data = text.encode()
                entry = tarfile.TarInfo(f"{folder}/{name}")
                entry.size, entry.mode, entry.mtime = len(data), 0o600, int(datetime.now(UTC).timestamp())
                tar.addfile(entry, io.BytesIO(data))
    except OSError as error:
        raise Trouble(f"-o: {file} cannot be written: {error.strerror}", code=2) from None


# --- Without secrets -------------------------------------------------------------------------------------------------


def as_yaml(value: Any) -> str:
    return yaml.safe_dump(without_secrets(value), sort_keys=False, width=120, allow_unicode=True)


def without_secrets(value: Any, name: str = "") -> Any:
    """The same, with every text redacted by what it says and by the name it goes under, be it that of something around it."""
    if isinstance(value, Mapping):
        kept = {str(key): one for key, one in value.items() if key not in (*LEFT_OUT, LAST_APPLIED)}
        return {key: without_secrets(one, _judged_by(kept, key, name)) for key, one in kept.items()}
    if isinstance(value, list | tuple):
        return _without_secrets_of_arguments([without_secrets(one, name) for one in value])
    if isinstance(value, int | float) and not isinstance(value, bool):
        return REDACTED if _tells(name) else value
    return _by_name(name, value) if isinstance(value, str) else value


def _judged_by(around: Mapping[str, Any], key: str, above: str) -> str:
    """The name that what stands under a key goes under: its own, or one above it that tells more."""
    named = around.get("name")
    own = "" if key == "key" else key  # that of a label, a taint
    if key == "value" and isinstance(named, str):  # of an environment variable, a header
        own = named
    if _refers(around):  # its keys are those of Kubernetes, and what they hold is no secret
        return ""
    return above if _tells(above) and not _tells(own) else own


def _tells(name: str) -> bool:
    """Whether what goes under this name is a secret, whatever it looks like."""
    return is_telling(name) or NAMED_SECRET.search(name) is not None


def _redacted(text: str) -> str:
    return QUERY.sub(rf"\1{REDACTED}", redacted(WEBHOOK.sub(rf"\1{REDACTED}", text)))


def _refers(found: Mapping[str, Any]) -> bool:
    """It only says where a secret is."""
    return bool(found.keys() & WHERE) and found.keys() <= {*WHERE, *HOW}


def _by_name(name: str, text: str) -> str:
    """JSON in a text is gone through like any object, so that it stays whole; under a name that tells nothing of it stays."""
    bare = text.strip()
    if bare and _tells(name):
        return REDACTED
    if bare[:1] in ("{", "["):
        try:
            return json.dumps(without_secrets(json.loads(bare)), ensure_ascii=False)
        except ValueError:
            pass
    plain = _redacted(text)
    is_secret = "\n" not in bare and _redacted(f"{name}: {bare}") != f"{name}: {plain.strip()}"
    return REDACTED if bare and is_secret else plain


def _without_secrets_of_arguments(items: list[Any]) -> list[Any]:
    """`--token`, `abc` in a list, and what follows `-p`."""
    found = list(items)
    for at in range(1, len(found)):
        before, item = found[at - 1], found[at]
        if isinstance(before, str) and isinstance(item, str) and before.startswith("-"):
            is_told = _redacted(f"{before} {item}") != _redacted(before) + " " + _redacted(item)
            found[at] = REDACTED if before == "-p" or is_told else item
    return found


# --- Reading ---------------------------------------------------------------------------------------------------------


def _told(events: Any, name: str) -> Iterator[str]:
    """Those about the object and its children, oldest first."""
    about = [
        event for event in events
        if (who := event.get("regarding", {}).get("name", "")) == name or who.startswith(f"{name}-")
    ]  # fmt: skip
    for event in sorted(about, key=_at):
        who = event["regarding"]
        yield f"{_at(event)} {event.get('type')} {event.get('reason')} {who.get('kind')}/{who['name']}: {event.get('note')}"


def _at(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime") or event.get("eventTime") or event.get("deprecatedLastTimestamp")
        or event["metadata"].get("creationTimestamp", "")
    )  # fmt: skip


def _logs(pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """File and path of each container's last lines, and of those of the process before it."""
    metadata = pod["metadata"]
    base = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/log"
    status = pod.get("status", {})
    for one in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]:
        for previous in (False, True) if one.get("restartCount") else (False,):
            query = {"container": one["name"], "tailLines": LOG_LINES, "previous": str(previous).lower()}
            yield (
                f"logs/{metadata['name']}.{one['name']}{'.previous' if previous else ''}.log",
                f"{base}?{urlencode(query)}",
            )


def _versions(reader: Collector, operators: Sequence[Object]) -> Object:
    definition = reader.raw("definition", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{CRD_NAME}")
    return {
        "kubernetes": (reader.raw("version", "/version") or {}).get("gitVersion"),
        "definition": _definition(definition) if definition else None,
        "operator": sorted({container["image"] for pod in operators for container in pod["spec"]["containers"]}),
        "plugin": version("pinn-operator"),
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _definition(found: Object) -> Object:
    """Of the CustomResourceDefinition what tells its age: the schema is long, and the release's own."""
    served = found["spec"]["versions"]
    fields = served[-1]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    stored = found.get("status", {}).get("storedVersions")
    return {"versions": [one["name"] for one in served], "stored": stored, "specFields": sorted(fields)}
