"""Carrying a migration out: to what was asked for and nothing else, and what a person is told when it takes too long."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from pinn_operator.api.names import LABEL_OBJECT, LABEL_REVISION
from pinn_operator.plugin import migration
from pinn_operator.plugin.kubectl import Kubectl, NotFound, Trouble
from pinn_operator.plugin.migrate import manifest
from pinn_operator.plugin.migration import Migration
from pinn_operator.plugin.wanted import revision_wanted

Object = dict[str, Any]

OLD, NEW = {"name": "black-scholes", "version": "1.0.0"}, {"name": "black-scholes", "version": "2.0.0"}
SERVICE = {"metadata": {"name": "pricer"}, "spec": {"selector": {"app": "old"}, "ports": [{"port": 80}]}}
READY_POD = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}


@dataclass(frozen=True)
class Cluster(Kubectl):
    """A namespace with one Service, whose pods are all ready; `serving` are the revisions that have servers."""

    asked_namespace: str = "demo"
    objects: dict[str, Object] = field(default_factory=dict)
    serving: list[str] = field(default_factory=list)
    services: list[Object] = field(default_factory=lambda: [SERVICE])
    written: list[Object] = field(default_factory=list)

    def pinn(self, name: str | None) -> Object:
        if name not in self.objects:
            raise NotFound(f"there is no {name}")
        return self.objects[name]

    def raw(self, path: str) -> Object:
        assert path.endswith("/services/pricer")
        return self.services[-1]

    def all_of(self, path: str, **query: str) -> list[Object]:
        return [READY_POD] if path.endswith("/pods") else [_deployment(one) for one in self.serving]

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        obj: Object = json.loads(stdin or "{}")
        self.written.append(obj)
        if arguments[0] == "create":
            self.objects[obj["metadata"]["name"]] = obj
            obj["metadata"]["uid"] = "u-1"
        if arguments[0] == "replace":
            self.services.append(obj)
        return json.dumps(obj)


def _deployment(revision: str) -> Object:
    labels = {LABEL_OBJECT: "pricer", LABEL_REVISION: revision}
    return {
        "metadata": {"ownerReferences": [{"uid": "u-1"}]},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}},
    }


def _there(model: Object) -> Object:
    made = manifest("pricer", model, 1)
    return made | {"metadata": {"name": "pricer", "namespace": "demo", "uid": "u-1"}}


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "LOOK_SECONDS", 0.001)


def _run(cluster: Cluster, model: Object, given: Object | None = None) -> str:
    """What it was refused with."""
    with pytest.raises(Trouble) as refused:
        Migration(cluster, "pricer", lambda said: None, 0.01).run(model, given)
    return str(refused.value)


def _turned_to(cluster: Cluster) -> list[str]:
    return [one["spec"]["selector"][LABEL_REVISION] for one in cluster.written if "selector" in one["spec"]]


def test_before_the_service_is_turned_callers_are_where_they_were_and_the_object_may_go() -> None:
    cluster = Cluster()
    said = _run(cluster, NEW)
    assert "Callers are where they were" in said
    assert "kubectl delete pinn pricer -n demo" in said
    assert _turned_to(cluster) == []


def test_after_the_service_is_turned_callers_are_with_the_new_servers_and_undo_is_the_way_back() -> None:
    """The object owns the Service by now: who deletes it takes the Service away from everybody."""
    cluster = Cluster(serving=[revision_wanted(_there(NEW))])
    said = _run(cluster, NEW)
    assert _turned_to(cluster) == [revision_wanted(_there(NEW))]
    assert "Callers are with the new servers" in said
    assert "kubectl pinn migrate pricer -n demo --undo" in said
    assert "Do not delete PinnDeployment/pricer" in said
    assert "where they were" not in said
    assert "kubectl delete" not in said
    assert "run this again" not in said


@pytest.mark.parametrize("file", [False, True])
def test_an_object_that_asks_for_another_model_does_not_take_the_service_over(file: bool) -> None:
    """A run with a wrong version, then one with the right one: the first object is there, and its servers may be ready by now."""
    old, new = revision_wanted(_there(OLD)), revision_wanted(_there(NEW))
    cluster = Cluster(objects={"pricer": _there(OLD)}, serving=[old])
    said = _run(cluster, {} if file else NEW, manifest("pricer", NEW, 1) if file else None)
    assert f"revision {old} (black-scholes 1.0.0)" in said
    assert f"revision {new} (black-scholes 2.0.0)" in said
    assert "they differ in spec.model" in said
    assert "kubectl delete pinn pricer -n demo" in said
    assert cluster.written == []


def test_another_digest_of_the_same_version_is_another_model() -> None:
    cluster = Cluster(objects={"pricer": _there(NEW | {"digest": f"sha256:{'a' * 64}"})})
    assert "they differ in spec.model" in _run(cluster, NEW | {"digest": f"sha256:{'b' * 64}"})


def test_an_object_that_asks_for_the_same_is_gone_on_with() -> None:
    """What is said as it would be by default is the same."""
    there = _there(NEW)
    there["spec"] |= {"replicas": 5, "cache": {}}
    cluster = Cluster(objects={"pricer": there}, serving=[revision_wanted(there)])
    _run(cluster, NEW)
    assert _turned_to(cluster) == [revision_wanted(_there(NEW))]


def test_the_service_is_not_turned_to_servers_of_another_revision_of_the_object() -> None:
    """The object was corrected by hand: its first servers may be ready before those of what is asked for now."""
    cluster = Cluster(objects={"pricer": _there(NEW)}, serving=[revision_wanted(_there(OLD))])
    assert "not within" in _run(cluster, NEW)
    assert _turned_to(cluster) == []


# --- Run again after the Service was turned ---------------------------------------------------------------------------


def _cut_off(**more: Any) -> Cluster:
    """The Service leads to the new servers and is the object's, which was not Ready yet when somebody stopped waiting."""
    cluster = Cluster(serving=[revision_wanted(_there(NEW))], **more)
    assert "Callers are with the new servers" in _run(cluster, NEW)
    cluster.written.clear()
    return cluster


def test_a_run_after_the_service_was_turned_only_waits_for_the_object() -> None:
    cluster, told = _cut_off(), list[str]()
    assert "Callers are with the new servers" in _run(cluster, NEW)
    ready = {"type": "Ready", "status": "True", "reason": "Serving", "message": "2.0.0 serves"}
    cluster.objects["pricer"]["status"] = {"conditions": [ready]}
    Migration(cluster, "pricer", told.append, 0.01).run(NEW, None)
    assert told == ["PinnDeployment/pricer is there already"]
    assert cluster.written == []


def test_a_run_for_another_version_after_the_service_was_turned_does_not_tell_anybody_to_delete_the_object() -> None:
    """The Service would go with it."""
    cluster = _cut_off()
    said = _run(cluster, OLD)
    assert "they differ in spec.model" in said
    assert "Service/pricer was taken over already" in said
    assert "kubectl pinn migrate pricer -n demo --undo" in said
    assert "kubectl delete" not in said
    assert cluster.written == []


def test_a_service_that_was_taken_over_by_an_object_that_is_gone_is_refused() -> None:
    cluster = _cut_off()
    del cluster.objects["pricer"]
    assert "was taken over already; kubectl pinn migrate pricer -n demo --undo" in _run(cluster, NEW)
    cluster.objects["pricer"] = _there(NEW)
    cluster.objects["pricer"]["metadata"]["uid"] = "another"
    assert "was taken over already" in _run(cluster, NEW)
    assert cluster.written == []


def test_what_is_to_be_typed_names_the_context() -> None:
    assert "kubectl pinn migrate pricer -n demo --context prod --undo" in _run(_cut_off(context="prod"), NEW)
