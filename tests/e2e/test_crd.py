"""A real API server accepts and refuses what `pinn-operator validate` says it does, and keeps old objects alive.

The manifests are tests/manifests; nearly all is tried by a server-side dry run, so nothing is left behind.
"""

import base64
import copy
import json
import os
import random
import re
import ssl
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from pinn_operator.api import PinnDeployment, names
from pinn_operator.api.check import problems, whole_schema, with_defaults
from pinn_operator.api.generate import CRD_FILE, ROOT, crd
from pinn_operator.api.schema import VALIDATIONS
from tests.manifests import cases

pytestmark = pytest.mark.e2e

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ANYTHING: tuple[Any, ...] = (
    *(None, 0, -1, 1, 7, 50, 100, 1.5, True, False, "", "x", "Off", "None", [], {}),
    *("0%", "1%", "99.5%", "150%", "0s", "5s", "1m", "300ms", "1d", "3d", "1w", "10Mi", "1Gi", "-1", "1e3", "0.01"),
    *([{"weight": 100, "hold": "1h"}], {"name": "a"}, {"a": 0, "b": "1%"}, {"url": "http://p"}, {"for": "1m"}),
)
SEPARATE_GROUP = f"ratchet.{names.GROUP}"


# --- The API server --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The API server that KUBECONFIG names, with the resource installed."""
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    folder = tmp_path_factory.mktemp("client")
    files = {}
    for name, encoded in (("cert", user["client-certificate-data"]), ("key", user["client-key-data"])):
        files[name] = folder / name
        files[name].write_bytes(base64.b64decode(encoded))
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    context.load_cert_chain(files["cert"], files["key"])
    with httpx.Client(base_url=cluster["server"], verify=context, timeout=30, trust_env=False) as client:
        install(client, yaml.safe_load((ROOT / CRD_FILE).read_text()))
        yield client


@pytest.fixture(scope="module")
def namespace(server: httpx.Client) -> Iterator[str]:
    """A namespace of this module's own."""
    name = f"crd-{uuid.uuid4().hex[:8]}"
    server.post("/api/v1/namespaces", json={"metadata": {"name": name}}).raise_for_status()
    yield name
    server.delete(f"/api/v1/namespaces/{name}")


def install(server: httpx.Client, definition: dict[str, Any]) -> None:
    """Applies a definition and waits until the server knows its rules."""
    applied = server.patch(
        f"{CRDS}/{definition['metadata']['name']}",
        params={"fieldManager": "test-crd", "force": "true"},
        content=json.dumps(definition),
        headers={"content-type": "application/apply-patch+yaml"},
    )
    assert applied.is_success, applied.text
    wait_until(lambda: established(server, definition["metadata"]["name"]))


def established(server: httpx.Client, name: str) -> bool:
    conditions = server.get(f"{CRDS}/{name}").json().get("status", {}).get("conditions", [])
    return any(condition["type"] == "Established" and condition["status"] == "True" for condition in conditions)


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def collection(namespace: str, group: str = names.GROUP) -> str:
    return f"/apis/{group}/{names.VERSION}/namespaces/{namespace}/{names.PLURAL}"


def tried(server: httpx.Client, manifest: cases.Manifest) -> httpx.Response:
    """What the server says to a manifest, which it then forgets."""
    strictly = {"dryRun": "All", "fieldValidation": "Strict"}
    return server.post(collection("default"), params=strictly, json=manifest)


def complaints(response: httpx.Response) -> dict[str, list[str]]:
    """Sentences of a refusal by field; empty when accepted."""
    if response.is_success:
        return {}
    status = response.json()
    assert response.status_code in (400, 422), status
    found: dict[str, list[str]] = {}
    for cause in status.get("details", {}).get("causes", ()):
        if not cause["field"].startswith("."):  # the scale subresource says it once more
            found.setdefault(plainly(cause["field"]), []).append(cause["message"])
    for field in re.findall(r'unknown field "([^"]+)"', status["message"]):
        found.setdefault(field, []).append(f'unknown field "{field}"')
    found.pop("<nil>", None)
    return found


def plainly(field: str) -> str:
    """A key of a map is written [key] or .key, as it comes."""
    return re.sub(r"\[([^\]0-9][^\]]*)\]", r".\1", field)


# --- The same answers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cases.valid())
def test_a_right_manifest_is_accepted(server: httpx.Client, name: str) -> None:
    assert complaints(tried(server, cases.valid()[name])) == {}


@pytest.mark.parametrize("case", cases.refused(), ids=lambda case: case.title)
def test_a_wrong_manifest_is_refused_with_the_field_and_the_remedy(server: httpx.Client, case: cases.Case) -> None:
    found = complaints(tried(server, case.manifest))
    assert any(case.says in message for message in found.get(case.field, ())), found


@pytest.mark.parametrize("case", cases.wrong_types(), ids=lambda case: case.title)
def test_a_value_of_the_wrong_type_is_refused_by_name(server: httpx.Client, case: cases.Case) -> None:
    assert list(complaints(tried(server, case.manifest))) == [case.field]


@pytest.mark.parametrize("case", cases.refused(), ids=lambda case: case.title)
def test_the_offline_check_names_the_same_fields(server: httpx.Client, case: cases.Case) -> None:
    assert {problem.path for problem in problems(case.manifest)} == set(complaints(tried(server, case.manifest)))


@pytest.mark.parametrize("name", cases.valid())
def test_the_offline_defaults_are_the_servers(server: httpx.Client, name: str) -> None:
    manifest = cases.valid()[name]
    stored = tried(server, manifest).json()
    assert stored["spec"] == with_defaults(manifest, whole_schema())["spec"]


def mutations(seed: int, count: int) -> Iterator[tuple[str, cases.Manifest]]:
    """Manifests with one to three fields put at random to something, right or wrong, and what was put where."""
    chance = random.Random(seed)
    places = [case.path for case in cases.wrong_types()]
    for _ in range(count):
        name = chance.choice(["everything", "on-my-route", "option-pricer"])
        changes = [(path, chance.choice(ANYTHING)) for path in chance.sample(places, chance.choice([1, 1, 2, 3]))]
        manifest = copy.deepcopy(cases.valid()[name])
        for path, value in changes:
            cases.put(manifest, path, copy.deepcopy(value))
        yield f"{name} with {[(cases.dotted(path), value) for path, value in changes]}", manifest


@pytest.mark.parametrize("seed", range(8))
def test_of_whatever_is_written_both_say_the_same(server: httpx.Client, seed: int) -> None:
    """Both refuse the same manifests, and complain of the same fields unless the server stops at unknown ones."""
    for what, manifest in mutations(seed, 75):
        found = complaints(tried(server, manifest))
        offline = {problem.path for problem in problems(manifest)}
        stopped = any("unknown field" in message for messages in found.values() for message in messages)
        same = all(field.startswith(tuple(offline)) for field in found) if stopped else set(found) == offline
        assert same, f"{what}: {found}"


def test_the_operator_reads_the_servers_defaults_as_it_reads_the_bare_manifest(server: httpx.Client) -> None:
    stored = PinnDeployment.model_validate(tried(server, cases.minimal()).json())
    assert stored.spec == PinnDeployment.model_validate(cases.minimal()).spec
