"""Carrying out a migration: what is waited for between the writes of migrate.py, and what is said meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from pinn_operator.api.names import GROUP, KIND, LABEL_OBJECT, LABEL_REVISION, PLURAL, VERSION
from pinn_operator.plugin.kubectl import FIELD_MANAGER, Kubectl, NotFound, Object, Trouble
from pinn_operator.plugin.migrate import BEFORE, complaint_about, given_back, manifest, turned
from pinn_operator.plugin.standing import standing_of

LOOK_SECONDS: Final = 0.5

Tell = Callable[[str], None]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Migration:
    """One Service of the namespace. Every step may be cut off and run again."""

    kubectl: Kubectl
    name: str
    tell: Tell
    limit: float

    def run(self, model: Mapping[str, str], given: Object | None) -> None:
        """Take the Service over. Raises Trouble, and leaves callers where they are, when the new servers do not become ready."""
        service = self._service()
        if complaint := complaint_about(service):
            raise Trouble(complaint)
        obj = self._made(given or manifest(self.name, model, max(1, self._behind(service))))
        revision = self._until("the new servers are ready", lambda: self._ready_revision(obj))
        self._replace(turned(self._service(), obj, revision))
        self.tell(f"Service/{self.name} leads to revision {revision}")
        self._until("the object is Ready", self._is_ready)

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

    def _behind(self, service: Object) -> int:
        return self._count(service["spec"]["selector"])

    def _count(self, selector: Mapping[str, str]) -> int:
        """Ready pods with these labels."""
        pods = self.kubectl.all_of(f"/api/v1/namespaces/{self.kubectl.namespace}/pods", labelSelector=_shown(selector))
        conditions = [one for pod in pods for one in pod.get("status", {}).get("conditions", ())]
        return sum((one["type"], one["status"]) == ("Ready", "True") for one in conditions)

    def _ready_revision(self, obj: Object) -> str | None:
        """The revision of the object, once as many servers as wanted are ready; until then what it says is told."""
        path = f"/apis/apps/v1/namespaces/{self.kubectl.namespace}/deployments"
        for deployment in self.kubectl.all_of(path, labelSelector=f"{LABEL_OBJECT}={self.name}"):
            wanted = deployment["spec"].get("replicas", 1)
            labels = deployment["spec"]["selector"]["matchLabels"]
            owners = [ref["uid"] for ref in deployment["metadata"].get("ownerReferences", ())]
            if obj["metadata"]["uid"] in owners and wanted and self._count(labels) >= wanted:
                return str(labels[LABEL_REVISION])
        return None

    def _is_ready(self) -> bool:
        ready = standing_of(self.kubectl.pinn(self.name)).conditions.get("Ready")
        return ready is not None and ready.holds

    # --- Writing ---

    def _made(self, wanted: Object) -> Object:
        """The object, made now or by a run before this one."""
        try:
            found = self.kubectl.pinn(self.name)
            self.tell(f"PinnDeployment/{self.name} is there already")
            return found
        except NotFound:
            pass
        body = json.dumps({**wanted, "metadata": {**wanted["metadata"], "namespace": self.kubectl.namespace}})
        made = self.kubectl.run("create", "-f", "-", "-o", "json", f"--field-manager={FIELD_MANAGER}", stdin=body)
        self.tell(f"PinnDeployment/{self.name} is made; its servers come up beside those that serve")
        return dict(json.loads(made))

    def _replace(self, service: Object) -> None:
        self.kubectl.run("replace", "-f", "-", f"--field-manager={FIELD_MANAGER}", stdin=json.dumps(service))

    def _until(self, what: str, look: Callable[[], Found | None]) -> Found:
        end, said = time.monotonic() + self.limit, ""
        while not (found := look()):
            now = standing_of(self.kubectl.pinn(self.name)).says
            if now != said:
                self.tell(f"waiting until {what}: {now}")
            said = now
            if time.monotonic() >= end:
                raise Trouble(
                    f"not within {self.limit:.0f} s: {what}. Callers are where they were. Why: kubectl pinn explain {self.name}; "
                    f"then run this again, or give up: kubectl delete pinn {self.name}"
                )
            time.sleep(LOOK_SECONDS)
        return found


KIND_PATH: Final = f"{PLURAL}.{VERSION}.{GROUP}"


def _belongs_to_an_object(service: Object) -> bool:
    return any(ref["kind"] == KIND for ref in service["metadata"].get("ownerReferences", ()))


def _shown(selector: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
