"""Manifests as objects, and in which fields two sets of them differ: for the chart and the kustomization, which must agree."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.cluster.cache import Cache
from tests.e2e.kubectl import ROOT, Object
from tests.e2e.tools import build

CHART = ROOT / "charts/pinn-operator"
RELEASE = "pinn-operator"
NAMESPACE = "pinn-system"
ITS_OWN = ("app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart")
"""Labels that say that Helm put an object there."""
KEEP = "helm.sh/resource-policy"
PARTS = ("serviceMonitor", "podMonitor", "prometheusRule", "dashboards")
MONITORING = tuple(word for part in PARTS for word in ("--set", f"monitoring.{part}.enabled=true"))
"""Options that switch on all of the monitoring kit."""


class HelmError(Exception):
    """Helm said no; the message is its own."""


def helm(*arguments: str, limit: float = 300.0) -> str:
    """Run it and return what it printed."""
    return _run(build.programs(Cache()) / "helm", *arguments, limit=limit)


def template(*options: str, chart: Path = CHART) -> dict[str, Object]:
    """What `helm install` would send, as objects."""
    return objects(helm("template", RELEASE, str(chart), "--namespace", NAMESPACE, *options))


def kustomize(folder: Path) -> dict[str, Object]:
    """What `kubectl apply -k` would send, as objects."""
    return objects(_run("kubectl", "kustomize", str(folder)))


def objects(text: str) -> dict[str, Object]:
    """The documents by kind, namespace and name."""
    found = [document for document in yaml.safe_load_all(text) if document]
    named = {_name(document): document for document in found}
    assert len(named) == len(found), f"an object is there twice: {sorted(_name(document) for document in found)}"
    return named


def _name(document: Object) -> str:
    metadata = document["metadata"]
    return "/".join([document["kind"], *filter(None, [metadata.get("namespace"), metadata["name"]])])


def _run(*command: str | Path, limit: float = 300.0) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=limit, check=False)
    if done.returncode:
        raise HelmError(f"{Path(command[0]).name} {' '.join(map(str, command[1:]))}: {done.stderr.strip()}")
    return done.stdout


def without_helm(obj: Object) -> Object:
    """The object without what only says that Helm put it there."""
    metadata = dict(obj["metadata"])
    for field, ours in (("labels", ITS_OWN), ("annotations", (KEEP,))):
        kept = {key: value for key, value in metadata.pop(field, {}).items() if key not in ours}
        metadata |= {field: kept} if kept else {}
    return obj | {"metadata": metadata}


def differences(left: Mapping[str, Object], right: Mapping[str, Object], names: tuple[str, str]) -> list[str]:
    """A line for each field of each object in which the two differ; lists of named things are compared by name."""
    lines = [f"{name}: only in {names[0]}" for name in sorted(left.keys() - right.keys())]
    lines += [f"{name}: only in {names[1]}" for name in sorted(right.keys() - left.keys())]
    for name in sorted(left.keys() & right.keys()):
        lines += [f"{name}: {line}" for line in _fields(left[name], right[name], "", names)]
    return lines


NOTHING = object()


def _fields(left: Any, right: Any, path: str, names: tuple[str, str]) -> Iterator[str]:
    left, right = _by_name(left), _by_name(right)
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted(left.keys() | right.keys()):
            yield from _fields(left.get(key, NOTHING), right.get(key, NOTHING), f"{path}.{key}".lstrip("."), names)
    elif left is NOTHING or right is NOTHING:
        where, value = (names[0], left) if right is NOTHING else (names[1], right)
        yield f"{path}: only in {where}: {value}"
    elif left != right:
        yield f"{path}: {left} in {names[0]}, {right} in {names[1]}"


def _by_name(value: Any) -> Any:
    """A list as a map: by name where its items have one, as its order says nothing then; rules by what they are about."""
    if not isinstance(value, list):
        return value
    keys = [_key(item, at) for at, item in enumerate(value)]
    return dict(zip(keys, value, strict=True)) if len(set(keys)) == len(keys) else dict(enumerate(value))


def _key(item: Any, at: int) -> str:
    if isinstance(item, dict) and "name" in item:
        return f"[{item['name']}]"
    if isinstance(item, dict) and "apiGroups" in item:
        about: Sequence[str] = [*item["apiGroups"], *item["resources"], *item.get("resourceNames", ())]
        return f"[{' '.join(about)}]"
    return f"[{at}]"
