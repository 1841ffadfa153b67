"""An API server on a port of this machine, so that the plugin is tried with a real kubectl and real requests.

It knows PinnDeployments by discovery, keeps any object by its path, and takes JSON and merge patches.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

Object = dict[str, Any]

DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
PINNS = "/apis/pinn.dev/v1alpha1/namespaces/demo/pinndeployments"
OURS: Object = {
    "metadata": {"name": "pinn.dev"},
    "versions": [
        {
            "version": "v1alpha1",
            "resources": [
                {
                    "resource": "pinndeployments",
                    "responseKind": {"group": "pinn.dev", "version": "v1alpha1", "kind": "PinnDeployment"},
                    "scope": "Namespaced",
                    "singularResource": "pinndeployment",
                    "verbs": ["get", "list", "patch"],
                }
            ],
        }
    ],
}


class FakeApi:
    """`objects` by path; `texts` are answered as they are; `after_patch` may change an object, as an operator would."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.texts: dict[str, str] = {}
        self.installed = True
        self.forbidden: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        self.after_patch: Callable[[Object], None] = lambda obj: None
        self.port = 0

    def put(self, path: str, obj: Object) -> None:
        self.objects[f"{path}/{obj['metadata']['name']}"] = obj

    def pinn(self, obj: Object) -> None:
        self.put(PINNS, obj)

    @property
    def writes(self) -> list[str]:
        return [path for verb, path in self.requests if verb == "PATCH"]

    def kubeconfig(self, folder: Path) -> Path:
        """One context, whose namespace is `demo`."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "fake", "user": {}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake", "namespace": "demo"}}],
        }
        file = folder / "kubeconfig"
        file.write_text(json.dumps(config))
        return file

    # --- Answers ---

    def get(self, path: str, query: dict[str, list[str]]) -> tuple[int, Object | str]:
        if path in ("/api", "/apis"):
            groups = [OURS] if path == "/apis" and self.installed else []
            return 200, {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": groups}
        if path in self.forbidden:
            return 403, _refusal(403, "Forbidden", f"{path} is forbidden: you cannot list it")
        if "pinn.dev" in path and not self.installed:
            return 404, _refusal(404, "NotFound", "the server could not find the requested resource")
        if path == "/version":
            return 200, {"gitVersion": "v1.37.1"}
        if path in self.texts:
            return 200, self.texts[path]
        if path in self.objects:
            return 200, self.objects[path]
        kind, last = path.rsplit("/", 2)[-2:]
        if not last.endswith("s"):
            return 404, _refusal(404, "NotFound", f'{kind}.pinn.dev "{last}" not found')
        return 200, self._list(path, query.get("labelSelector", [""])[0])

    def _list(self, path: str, selector: str) -> Object:
        found = [obj for key, obj in self.objects.items() if _is_in(key, path)]
        for part in filter(None, selector.split(",")):
            found = [obj for obj in found if _is_selected(part, obj["metadata"].get("labels", {}))]
        return {"kind": "SomethingList", "apiVersion": "v1", "metadata": {}, "items": found}

    def patch(self, path: str, body: Any) -> tuple[int, Object]:
        obj = copy.deepcopy(self.objects[path])
        if isinstance(body, dict):
            obj = _merged(obj, body)
        else:
            for one in body:
                node: Any = obj
                *way, last = one["path"].strip("/").split("/")
                for part in way:
                    node = node[part]
                if one["op"] == "test" and node.get(last) != one["value"]:
                    said = "the server rejected our request due to an error in our request"
                    return 422, _refusal(422, "Invalid", said)
                if one["op"] == "add":
                    node[last] = one["value"]
                elif one["op"] == "remove":
                    del node[last]
        self.after_patch(obj)
        self.objects[path] = obj
        return 200, obj


def _is_in(key: str, path: str) -> bool:
    """Whether an object is among those of a list, which may be one of all namespaces."""
    folder = key.rpartition("/")[0]
    before, _, rest = folder.partition("/namespaces/")
    return path in (folder, f"{before}/{rest.partition('/')[2]}")


def _is_selected(part: str, labels: Object) -> bool:
    """By one part of a selector: name=value, or !name."""
    name, _, value = part.partition("=")
    return name.removeprefix("!") not in labels if name.startswith("!") else labels.get(name) == value


def _refusal(code: int, reason: str, message: str) -> Object:
    return {
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
    }  # fmt: skip


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**old, **{key: _merged(old.get(key, {}), value) for key, value in new.items()}}


@contextmanager
def serving() -> Iterator[FakeApi]:
    """It, while the block runs."""
    api = FakeApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            api.requests.append(("GET", parts.path))
            code, body = api.get(parts.path, parse_qs(parts.query))
            self._answer(code, body, DISCOVERY if parts.path in ("/api", "/apis") else "application/json")

        def do_PATCH(self) -> None:
            path = urlsplit(self.path).path
            api.requests.append(("PATCH", path))
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(*api.patch(path, body), "application/json")

        def _answer(self, code: int, body: Object | str, kind: str) -> None:
            text = body if isinstance(body, str) else json.dumps(body)
            data = text.encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if isinstance(body, str) else kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Quietly."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
