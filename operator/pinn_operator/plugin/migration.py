"""Carrying out a migration: what is waited for between the writes of migrate.py, and what is said meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pinn_operator.api.names import GROUP, KIND, LABEL_OBJECT, LABEL_REVISION, PLURAL, VERSION
from pinn_operator.api.ownership import controller_of
from pinn_operator.plugin.kubectl import FIELD_MANAGER, Kubectl, NotFound, Object, Trouble
from pinn_operator.plugin.migrate import BEFORE, complaint_about, complaint_about_other, given_back, manifest, turned
from pinn_operator.plugin.requests import living
from pinn_operator.plugin.standing import standing_of
from pinn_operator.plugin.wanted import content_wanted, revision_wanted

LOOK_SECONDS: Final = 0.5

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Migration:
    """One Service of the namespace. Every step may be cut off and run again."""

    kubectl: Kubectl
    name: str
    tell: Tell
    limit: float

    def run(self, model: Mapping[str, str], given: Object | None) -> None:
        """Take the Service over. Raises Trouble, and leaves callers where they are, when the new servers do not become ready, or
        an object is there that asks for another revision."""
        service = self._service()
        if self._is_turned(service):
            self._found(given or manifest(self.name, model, 1), is_turned=True)
        else:
            self._take_over(service, model, given)
        self._until("the object is Ready", self._is_ready, self._remedy_after())

    def _take_over(self, service: Object, model: Mapping[str, str], given: Object | None) -> None:
        if complaint := complaint_about(service, self.kubectl.where):
            raise Trouble(complaint)
        obj = self._made(given or manifest(self.name, model, max(1, self._behind(service))))
        revision = revision_wanted(obj)
        self._until("the new servers are ready", lambda: self._serves(obj, revision), self._remedy_before())
        self._replace(turned(self._service(), obj, revision))
        self.tell(f"Service/{self.name} leads to revision {revision}")

    def undo(self) -> None:
        """Give the Service back to the servers it had, then remove the object."""
        service = self._service()
        if BEFORE not in service["metadata"].get("annotations", {}) and not _belongs_to_an_object(service):
            self._remove()  # cut off after the Service was given back
            return
        service = given_back(service)
        if not self._count(service["spec"]["selector"]):
            raise Trouble(
                f"no ready pod has the labels that Service/{self.name} had selected: {_shown(service['spec']['selector'])}; "
                "scale the old Deployment up first"
            )
        self._replace(service)
        self.tell(f"Service/{self.name} leads to {_shown(service['spec']['selector'])} again")
        self._remove()

    def _remove(self) -> None:
        self.kubectl.pinn(self.name)  # where there is none of that name, it says which there are
        self.kubectl.run("delete", KIND_PATH, self.name, "-n", self.kubectl.namespace, "--wait=false")
        self.tell(f"PinnDeployment/{self.name} is being deleted")

    # --- Reading ---

    def _service(self) -> Object:
        try:
            return self.kubectl.raw(f"/api/v1/namespaces/{self.kubectl.namespace}/services/{self.name}")
        except NotFound:
            there = self.kubectl.all_of(f"/api/v1/namespaces/{self.kubectl.namespace}/services")
            names = ", ".join(sorted(one["metadata"]["name"] for one in there)[:20]) or "none"
            raise NotFound(
                f"there is no Service {self.name} in namespace {self.kubectl.namespace}; there are: {names}"
            ) from None

    def _is_turned(self, service: Object) -> bool:
        """Whether a run before this one gave it to the object that is there, and was cut off while that was not Ready yet."""
        controller = controller_of(service)
        if controller is None or BEFORE not in service["metadata"].get("annotations", {}):
            return False
        try:
            return bool(controller["uid"] == self.kubectl.pinn(self.name)["metadata"]["uid"])
        except NotFound:
            return False

    def _behind(self, service: Object) -> int:
        return self._count(service["spec"]["selector"])

    def _count(self, selector: Mapping[str, str]) -> int:
        """Ready pods with these labels."""
        pods = self.kubectl.all_of(f"/api/v1/namespaces/{self.kubectl.namespace}/pods", labelSelector=_shown(selector))
        conditions = [one for pod in pods for one in pod.get("status", {}).get("conditions", ())]
        return sum((one["type"], one["status"]) == ("Ready", "True") for one in conditions)

    def _serves(self, obj: Object, revision: str) -> bool:
        """Whether as many servers of this revision of the object are ready as it wants."""
        path = f"/apis/apps/v1/namespaces/{self.kubectl.namespace}/deployments"
        for deployment in self.kubectl.all_of(path, labelSelector=f"{LABEL_OBJECT}={self.name}"):
            wanted = deployment["spec"].get("replicas", 1)
            labels = deployment["spec"]["selector"]["matchLabels"]
            owners = [ref["uid"] for ref in deployment["metadata"].get("ownerReferences", ())]
            ours = obj["metadata"]["uid"] in owners and labels[LABEL_REVISION] == revision
            if ours and wanted and self._count(labels) >= wanted:
                return True
        return False

    def _is_ready(self) -> bool:
        ready = standing_of(self.kubectl.pinn(self.name)).conditions.get("Ready")
        return ready is not None and ready.holds

    # --- Writing ---

    def _made(self, wanted: Object) -> Object:
        """The object, made now or by a run before this one, which may have been asked for another revision."""
        try:
            return self._found(wanted, is_turned=False)
        except NotFound:
            pass
        body = json.dumps({**wanted, "metadata": {**wanted["metadata"], "namespace": self.kubectl.namespace}})
        made = self.kubectl.run("create", "-f", "-", "-o", "json", f"--field-manager={FIELD_MANAGER}", stdin=body)
        self.tell(f"PinnDeployment/{self.name} is made; its servers come up beside those that serve")
        return dict(json.loads(made))

    def _found(self, wanted: Object, *, is_turned: bool) -> Object:
        """The object that is there. Trouble where it asks for another revision than is wanted."""
        found = living(self.kubectl, self.name)
        contents = content_wanted(found), content_wanted(wanted)
        if complaint := complaint_about_other(self.name, *contents, self.kubectl.where, is_turned=is_turned):
            raise Trouble(complaint)
        self.tell(f"PinnDeployment/{self.name} is there already")
        return found

    def _replace(self, service: Object) -> None:
        self.kubectl.run("replace", "-f", "-", f"--field-manager={FIELD_MANAGER}", stdin=json.dumps(service))

    def _until(self, what: str, look: Callable[[], bool], remedy: str) -> None:
        """Wait, telling what the object says meanwhile. Trouble with the remedy when it takes too long."""
        end, said = time.monotonic() + self.limit, ""
        while not look():
            now = standing_of(self.kubectl.pinn(self.name)).says
            if now != said:
                self.tell(f"waiting until {what}: {now}")
            said = now
            if time.monotonic() >= end:
                raise Trouble(f"not within {self.limit:.0f} s: {what}. {remedy}")
            time.sleep(LOOK_SECONDS)

    def _remedy_before(self) -> str:
        it = f"{self.name} {self.kubectl.where}"
        how = f"then run this again, or give up: kubectl delete pinn {it}"
        return f"Callers are where they were. Why: kubectl pinn explain {it}; {how}"

    def _remedy_after(self) -> str:
        """The Service has the object as its owner by now, so what was the remedy before would take it away from callers."""
        it = f"{self.name} {self.kubectl.where}"
        return (
            f"Callers are with the new servers since Service/{self.name} was turned. Why: kubectl pinn explain {it}. "
            f"Back to the old servers, which have to be ready: kubectl pinn migrate {it} --undo. "
            f"Do not delete PinnDeployment/{self.name}: the Service is its own now, and would go with it"
        )


KIND_PATH: Final = f"{PLURAL}.{VERSION}.{GROUP}"


def _belongs_to_an_object(service: Object) -> bool:
    return any(ref["kind"] == KIND for ref in service["metadata"].get("ownerReferences", ()))


def _shown(selector: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
