"""The cluster by way of kubectl, and its refusals as sentences with a remedy."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from pinn_operator.api.names import GROUP, KIND, LABEL_OBJECT, PLURAL, VERSION

Object = dict[str, Any]

CALL_SECONDS: Final = 30
PAGE: Final = 500
FIELD_MANAGER: Final = "kubectl-pinn"
OPERATOR_PODS: Final = f"app.kubernetes.io/part-of=pinn-operator,!{LABEL_OBJECT}"
"""The operator's own pods, whatever Helm's nameOverride calls them; those of servers belong to an object."""
SERVICE_ACCOUNT_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

NO_CLUSTER: Final = ("connection to the server", "was refused", "no such host", "i/o timeout", "Unable to connect")
CHANGED: Final = "the server rejected our request due to an error in our request"
NO_COMPLAINT: Final = re.compile(r"[EWI]\d{4} |Warning: ")
"""kubectl's own log, and warnings."""
PREFIX: Final = re.compile(r"^(?:Error from server \(\w+\): |error: )")
NOT_INSTALLED: Final = (
    f"this cluster has no {KIND} ({GROUP}/{VERSION}); install the operator: kubectl apply -k manifests/"
)
NO_KIND: Final = ("could not find the requested resource", "doesn't have a resource type", "no matches for kind")


class Trouble(Exception):
    """Why a command cannot do what it was asked for, and what to do; `code` is how the program ends."""

    def __init__(self, said: str, code: int = 1) -> None:
        super().__init__(said)
        self.code = code


class NotFound(Trouble):
    """The cluster has no such object."""


class NoSuchKind(Trouble):
    """The cluster has no such kind of object."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl with the options a person gave; every method raises Trouble and nothing else."""

    context: str | None = None
    kubeconfig: str | None = None
    asked_namespace: str | None = None

    # --- Where ---

    @cached_property
    def namespace(self) -> str:
        """The one asked for, or the context's own."""
        if self.asked_namespace:
            return self.asked_namespace
        try:
            found = self.run("config", "view", "--minify", "-o", "jsonpath={..namespace}").strip()
        except Trouble:  # no context at all, as in a pod
            found = SERVICE_ACCOUNT_NAMESPACE.read_text().strip() if SERVICE_ACCOUNT_NAMESPACE.is_file() else ""
        return found or "default"

    @property
    def where(self) -> str:
        """The options that lead to this namespace again, for a command that a person is to type."""
        return self.where_in(self.namespace)

    def where_in(self, namespace: str) -> str:
        """The same for another namespace of this cluster."""
        cluster = (part for name, value in self._options() if value for part in (f"--{name}", value))
        return shlex.join(("-n", namespace, *cluster))

    # --- PinnDeployments ---

    def pinns(self, namespace: str | None) -> list[Object]:
        """All of a namespace, or of the cluster."""
        where = f"/namespaces/{quote(namespace)}" if namespace else ""
        try:
            return self.all_of(f"/apis/{GROUP}/{VERSION}{where}/{PLURAL}")
        except NoSuchKind:
            raise Trouble(NOT_INSTALLED) from None

    def pinn(self, name: str | None) -> Object:
        """The one of that name in the namespace; the only one there is, where no name is given."""
        if name is None:
            return _only(self.pinns(self.namespace), self.namespace)
        try:
            return self.raw(f"/apis/{GROUP}/{VERSION}/namespaces/{quote(self.namespace)}/{PLURAL}/{quote(name)}")
        except NotFound:
            raise NotFound(self._no_such(name)) from None
        except NoSuchKind:
            raise Trouble(NOT_INSTALLED) from None

    def patch(self, obj: Object, body: Object | list[Object]) -> Object:
        """The object as it is afterwards. A list is a JSON patch, a mapping a merge patch."""
        name, namespace = obj["metadata"]["name"], obj["metadata"]["namespace"]
        how = "json" if isinstance(body, list) else "merge"
        said = self.run(
            "patch", f"{PLURAL}.{VERSION}.{GROUP}", name, "-n", namespace, f"--type={how}", "-p", json.dumps(body),
            "-o", "json", f"--field-manager={FIELD_MANAGER}",
        )  # fmt: skip
        return dict(json.loads(said))

    def _no_such(self, name: str) -> str:
        said = f'there is no {KIND} "{name}" in namespace {self.namespace}'
        try:
            here = sorted(one["metadata"]["name"] for one in self.pinns(self.namespace))
        except Trouble:  # who may get one may not be allowed to list them
            return f"{said}; which there are cannot be listed: look at the name, or name another namespace with -n"
        if here:
            return f"{said}; there are: {', '.join(here[:20])}"
        return f"{said}, nor any other; {self._elsewhere()}"

    def _elsewhere(self) -> str:
        try:
            found = [f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in self.pinns(None)]
        except Trouble:  # not everybody may look everywhere
            found = []
        if found:
            return f"elsewhere there are: {', '.join(sorted(found)[:20])}; name the namespace with -n"
        return "kubectl apply makes one: see manifests/samples"

    # --- Anything ---

    def raw(self, path: str) -> Object:
        """What the API server answers under a path."""
        return dict(json.loads(self.text(path)))

    def text(self, path: str) -> str:
        """The same, as it was sent."""
        return self.run("get", "--raw", path)

    def all_of(self, path: str, **query: str) -> list[Object]:
        """All objects under a path, page by page, with their kind."""
        return list(self._pages(path, {name: value for name, value in query.items() if value}))

    def _pages(self, path: str, query: dict[str, str]) -> Iterator[Object]:
        token = ""
        while True:
            page = self.raw(f"{path}?{urlencode({**query, 'limit': PAGE, **({'continue': token} if token else {})})}")
            known = {"apiVersion": page["apiVersion"], "kind": page["kind"].removesuffix("List")}
            yield from ({**known, **item} for item in page["items"])
            token = page["metadata"].get("continue", "")
            if not token:
                return

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl prints."""
        program = shutil.which("kubectl")
        if program is None:
            raise Trouble("kubectl is not on the PATH; install it: everything here goes through it")
        options = [f"--{name}={value}" for name, value in self._options() if value]
        command = [program, *options, f"--request-timeout={CALL_SECONDS}s", *arguments]
        try:
            done = subprocess.run(
                command,
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=2 * CALL_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise Trouble(f"no answer within {2 * CALL_SECONDS} s; is the cluster reachable: kubectl version") from None
        if done.returncode:
            raise trouble_of(done.stderr.strip())
        return done.stdout

    def _options(self) -> tuple[tuple[str, str | None], ...]:
        return ("context", self.context), ("kubeconfig", self.kubeconfig)


def trouble_of(said: str) -> Trouble:
    """What kubectl complained about, and what to do."""
    lines = [line for line in said.splitlines() if not NO_COMPLAINT.match(line)]
    told = PREFIX.sub("", " ".join(" ".join(lines).split())) or "failed without a word"
    if any(sign in said for sign in NO_KIND):
        return NoSuchKind(told)
    if "(NotFound)" in said:
        return NotFound(told)
    if any(sign in said for sign in NO_CLUSTER):
        return Trouble(
            f"no cluster answers: {told}; name one with --context or KUBECONFIG (kubectl config get-contexts)"
        )
    if "(Forbidden)" in said:
        return Trouble(f"you may not do that here: {told}")
    if CHANGED in said:
        return Trouble(
            "the object has changed since it was read, and nothing was written; look again and repeat the command"
        )
    return Trouble(f"kubectl: {told}")


def _only(found: list[Object], namespace: str) -> Object:
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFound(
            f"there is no {KIND} in namespace {namespace}; name another one with -n, or look everywhere: status -A"
        )
    names = ", ".join(sorted(one["metadata"]["name"] for one in found)[:20])
    raise Trouble(f"which one? Namespace {namespace} has {names}", code=2)
