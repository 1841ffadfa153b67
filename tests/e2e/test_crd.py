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
from pinn_operator.api.schema import UNSEEN, VALIDATIONS
from pinn_operator.validate import Verdict, validate

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
    group = definition["spec"]["group"]
    wait_until(lambda: server.get(f"/apis/{group}/{names.VERSION}/{names.PLURAL}").is_success)


def established(server: httpx.Client, name: str) -> bool:
    conditions = server.get(f"{CRDS}/{name}").json().get("status", {}).get("conditions") or []
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


@pytest.mark.parametrize("name", cases.released())
def test_a_manifest_of_every_release_is_accepted(server: httpx.Client, name: str) -> None:
    assert complaints(tried(server, cases.released()[name])) == {}


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


# --- What kubectl shows ----------------------------------------------------------------------------------------------


def kubectl(*arguments: str, text: str = "") -> str:
    done = subprocess.run(["kubectl", *arguments], input=text, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of the schema that has fields of its own, by path."""
    node = node.get("items", node)
    if "properties" in node:
        yield path, node
        for name, child in node["properties"].items():
            yield from objects(child, f"{path}.{name}")


@pytest.mark.parametrize("part", ["spec", "status"])
def test_explain_reads_as_documentation(server: httpx.Client, part: str) -> None:
    """Every field is explained by its description, with its default."""
    for path, node in objects(whole_schema()["properties"][part], f"pinn.{part}"):
        explained = " ".join(kubectl("explain", path).split())
        silent = [name for name, field in node["properties"].items() if spoken(field) not in explained]
        assert not silent, f"kubectl explain {path}"


def spoken(field: dict[str, Any]) -> str:
    return " ".join(field.get("description", "").split())


@pytest.mark.parametrize("case", [case for case in cases.refused() if case.says][::7], ids=lambda case: case.title)
def test_a_person_who_applies_a_wrong_manifest_reads_the_field_and_the_remedy(
    server: httpx.Client, case: cases.Case
) -> None:
    command = ["kubectl", "apply", "--dry-run=server", "-f", "-"]
    done = subprocess.run(
        command, input=json.dumps(case.manifest), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert case.says in done.stderr
    assert case.field in plainly(done.stderr)


SCALARS = ["1.0", "1e3", "0x10", "010", "0o10", "0b1", "1_000", "+1", ".5", "1.", "2.0", "-0", "12:30:00", "1:30"]
SCALARS += [
    "2026-01-01",
    "2026-01-01T00:00:00Z",
    "yes",
    "No",
    "on",
    "Off",
    "y",
    "n",
    "~",
    "null",
    "true",
    "True",
    ".inf",
]
SCALARS += ["1e400", "99999999999999999999", "abc", "0.1e1", "1E3", "0777", "08", "0x", "_1", "1__0", "!!str 1", "'1'"]


@pytest.mark.parametrize("field", ["version: 1.0.0", "replicas: 1"])
def test_yaml_is_read_as_kubectl_reads_it(server: httpx.Client, tmp_path: Path, field: str) -> None:
    """One file for each scalar, all in one call: kubectl goes on after a file that is refused."""
    text = (cases.HERE / "valid" / "minimal.yaml").read_text() + "  replicas: 1\n"
    for index, scalar in enumerate(SCALARS):
        put = text.replace(field, f"{field.partition(':')[0]}: {scalar}")
        (tmp_path / f"{index}.yaml").write_text(put.replace("option-pricer", f"scalar-{index}"))
    command = ["kubectl", "create", "--dry-run=server", "-f", str(tmp_path)]
    created = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    accepted = {scalar for index, scalar in enumerate(SCALARS) if f"/scalar-{index} created" in created}
    offline = {scalar for index, scalar in enumerate(SCALARS) if accepts(tmp_path / f"{index}.yaml")}
    assert accepted
    assert offline == accepted


def accepts(file: Path) -> bool:
    return all(line.verdict == Verdict.ACCEPTED for line in validate([str(file)]))


# --- Objects that stay: in a group of their own, so that no operator touches them -------------------------------------


@pytest.fixture(scope="module")
def separate(server: httpx.Client) -> Iterator[Callable[[bool], None]]:
    """The same resource under another group; called with False it has no rules yet, as in a release before them."""
    yield lambda strict: install(server, in_separate_group(strict))
    server.delete(f"{CRDS}/{names.PLURAL}.{SEPARATE_GROUP}")


def in_separate_group(strict: bool) -> Any:
    definition: Any = copy.deepcopy(crd())
    definition["metadata"]["name"] = f"{names.PLURAL}.{SEPARATE_GROUP}"
    definition["spec"]["group"] = SEPARATE_GROUP
    definition["spec"]["names"] |= {"shortNames": ["ratchetpinn"], "categories": []}
    return definition if strict else without_rules(definition)


def without_rules(node: Any) -> Any:
    if isinstance(node, list):
        return [without_rules(item) for item in node]
    if isinstance(node, dict):
        return {key: without_rules(item) for key, item in node.items() if key != VALIDATIONS}
    return node


def elsewhere(manifest: cases.Manifest, name: str) -> Any:
    return cases.patched(manifest, {"apiVersion": f"{SEPARATE_GROUP}/{names.VERSION}", "metadata": {"name": name}})


def merged(server: httpx.Client, path: str, patch: dict[str, Any]) -> httpx.Response:
    return server.patch(path, content=json.dumps(patch), headers={"content-type": "application/merge-patch+json"})


def until_rules_hold(server: httpx.Client, path: str, manifest: cases.Manifest) -> None:
    """A changed definition is obeyed a moment later; until then a wrong object is accepted."""
    wait_until(lambda: server.post(path, params={"dryRun": "All"}, json=manifest).status_code == 422)


LONG_NAME = "option-pricer-from-before-there-was-a-limit-on-the-length"
VIOLATION = {"spec": {"sla": {"abort": {"errorRate": "50%"}}, "rollout": {"progressDeadline": "10 minutes"}}}


@pytest.fixture(scope="module")
def old_violator(server: httpx.Client, namespace: str, separate: Callable[[bool], None]) -> str:
    """The path of an object from before the rules, which breaks three of them now."""
    separate(False)
    path = collection(namespace, SEPARATE_GROUP)
    manifest = elsewhere(cases.patched(cases.minimal(), VIOLATION), LONG_NAME)
    manifest["metadata"]["finalizers"] = [names.FINALIZER]
    created = server.post(path, json=manifest)
    assert created.is_success, created.text
    separate(True)
    until_rules_hold(server, path, elsewhere(cases.minimal(), LONG_NAME + "-new"))
    return f"{path}/{LONG_NAME}"


def test_an_old_object_that_breaks_new_rules_still_takes_a_status(server: httpx.Client, old_violator: str) -> None:
    written = merged(server, f"{old_violator}/status", {"status": {"observedGeneration": 1, "replicas": 1}})
    assert written.is_success, written.text


def test_an_old_object_that_breaks_new_rules_may_change_elsewhere(server: httpx.Client, old_violator: str) -> None:
    written = merged(server, old_violator, {"spec": {"replicas": 2}, "metadata": {"labels": {"a": "b"}}})
    assert written.is_success, written.text


def test_an_old_object_may_not_break_a_new_rule_anew(server: httpx.Client, old_violator: str) -> None:
    written = merged(server, old_violator, {"spec": {"rollout": {"progressDeadline": "11 minutes"}}})
    assert list(complaints(written)) == ["spec.rollout.progressDeadline"]


def test_an_old_object_that_breaks_new_rules_lets_go_of_its_finalizer(server: httpx.Client, old_violator: str) -> None:
    server.delete(old_violator).raise_for_status()
    released = merged(server, old_violator, {"metadata": {"finalizers": []}})
    assert released.is_success, released.text
    assert server.get(old_violator).status_code == 404


@pytest.mark.parametrize("how", [["--server-side"], []], ids=["server-side", "client-side"])
@pytest.mark.parametrize("name", ["everything", "option-pricer", "on-my-route", "equal-limits"])
def test_applying_twice_changes_nothing(
    server: httpx.Client, namespace: str, separate: Callable[[bool], None], name: str, how: list[str]
) -> None:
    separate(True)
    manifest = elsewhere(cases.valid()[name], f"{name}-{len(how)}")
    kubectl("apply", "-n", namespace, *how, "-f", "-", text=json.dumps(manifest))
    path = f"{collection(namespace, SEPARATE_GROUP)}/{manifest['metadata']['name']}"
    # As an operator does at once. The default of the whole status is stored with the first write after the creation.
    merged(server, f"{path}/status", {"status": {"observedGeneration": 1}}).raise_for_status()
    first = server.get(path).json()["metadata"]
    kubectl("apply", "-n", namespace, *how, "-f", "-", text=json.dumps(manifest))
    second = server.get(path).json()["metadata"]
    assert (second["generation"], second["resourceVersion"]) == (1, first["resourceVersion"])


STATUS = {
    "observedGeneration": 1,
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "reason": "StableReady",
            "message": "the stable revision is ready",
        }
    ],
    "replicas": 2,
    "readyReplicas": 2,
    "selector": "pinn.dev/deployment=told",
    "notYetActedUpon": ["spec.autoscaling"],
    "stable": {"revision": "abc", "modelVersion": "1.0.0", "weight": 90, "readyReplicas": 1, "placement": "CPU"},
    "canary": {"revision": "def", "modelVersion": "1.1.0", "weight": 10, "actualWeight": 11, "placement": "GPU"},
    "rollout": {
        "step": "1/3",
        "stepStartedAt": "2026-01-01T00:00:00Z",
        "verdict": "Undecided",
        "gates": [
            {"name": "errorRate", "limit": "1%", "observed": "0.2%", "events": 440, "evidence": "12 of 20"},
            {"name": "errorRate", "limit": "5%", "verdict": "Passing"},
        ],
    },
    "rejected": [{"revision": "bad", "modelVersion": "0.9.0", "reason": "errors", "at": "2026-01-01T00:00:00Z"}],
    "history": [{"revision": "abc", "outcome": "Promoted", "at": "2026-01-01T00:00:00Z", "report": "r", "sha256": "0"}],
    "lastHandled": {"promote": "abc@1"},
}


def test_an_object_that_no_operator_has_seen_says_so(
    server: httpx.Client, namespace: str, separate: Callable[[bool], None]
) -> None:
    """By a default of the whole status, as a status that is sent along is thrown away; kstatus would call it Current else."""
    separate(True)
    path = collection(namespace, SEPARATE_GROUP)
    server.post(path, json=elsewhere(cases.minimal(), "unseen")).raise_for_status()
    assert server.get(f"{path}/unseen").json()["status"] == UNSEEN
    sent = elsewhere(cases.minimal(), "unseen-with-status") | {"status": {"observedGeneration": 1}}
    server.post(path, json=sent).raise_for_status()
    assert server.get(f"{path}/unseen-with-status").json()["status"] == UNSEEN


@pytest.fixture(scope="module")
def told(server: httpx.Client, namespace: str, separate: Callable[[bool], None]) -> str:
    """The path of an object with a status, written as the operator writes it."""
    separate(True)
    manifest = elsewhere(cases.minimal(), "told")
    server.post(collection(namespace, SEPARATE_GROUP), json=manifest).raise_for_status()
    path = f"{collection(namespace, SEPARATE_GROUP)}/told"
    status = PinnDeployment.model_validate(manifest | {"status": STATUS}).status
    written = merged(
        server, f"{path}/status", {"status": status.model_dump(mode="json", by_alias=True, exclude_none=True)}
    )
    assert written.is_success, written.text
    return path


def test_a_status_is_kept_whole(server: httpx.Client, told: str) -> None:
    kept = server.get(told).json()
    assert kept["status"] == STATUS
    assert PinnDeployment.model_validate(kept).status.rollout is not None


def test_the_columns_tell_where_a_rollout_stands(server: httpx.Client, told: str) -> None:
    table = server.get(told, headers={"accept": "application/json;as=Table;g=meta.k8s.io;v=v1"}).json()
    cells = dict(zip([column["name"] for column in table["columnDefinitions"]], table["rows"][0]["cells"], strict=True))
    shown = {name: cells[name] for name in ("Ready", "Stable", "Canary", "Weight", "Step", "Verdict")}
    assert shown == {
        "Ready": "True",
        "Stable": "1.0.0",
        "Canary": "1.1.0",
        "Weight": 10,
        "Step": "1/3",
        "Verdict": "Undecided",
    }
    assert "Age" in cells


def test_the_scale_subresource_reads_and_sets_the_replicas(server: httpx.Client, told: str) -> None:
    assert merged(server, f"{told}/scale", {"spec": {"replicas": 4}}).is_success
    scale = server.get(f"{told}/scale").json()
    assert (scale["spec"], scale["status"]) == ({"replicas": 4}, {"replicas": 2, "selector": STATUS["selector"]})


def test_objects_can_be_selected_by_their_model(server: httpx.Client, told: str) -> None:
    found = server.get(told.rpartition("/")[0], params={"fieldSelector": "spec.model.name=black-scholes"}).json()
    assert "told" in [item["metadata"]["name"] for item in found["items"]]


def test_the_short_name_and_the_category_find_it(server: httpx.Client) -> None:
    resources = server.get(f"/apis/{names.GROUP}/{names.VERSION}").json()["resources"]
    main = next(resource for resource in resources if resource["name"] == names.PLURAL)
    assert (main["shortNames"], main["categories"]) == ([names.SHORT_NAME], [names.CATEGORY])
