"""Each command against an API server, through kubectl: what is written, what is printed, and how it ends."""

from __future__ import annotations

import io
import json
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from pinn_operator.plugin import looking, requests
from pinn_operator.plugin.diagnose import as_yaml
from pinn_operator.plugin.kubectl import trouble_of
from tests.plugin.conftest import Run
from tests.plugin.fake_api import PINNS, FakeApi
from tests.plugin.given_pinn import (
    ONE,
    TWO,
    pinn,
    records,
    report_of,
    revision_wanted,
    sent_back,
    settled,
    stepping,
)
from tests.report.finished import rolled_back

PRICER = f"{PINNS}/pricer"
CONFIG_MAPS = "/api/v1/namespaces/demo/configmaps"
RECORDS = "/apis/apps/v1/namespaces/demo/controllerrevisions"


# --- Looking ---------------------------------------------------------------------------------------------------------


def test_status_of_one_object_is_a_tree_and_of_several_a_table(api: FakeApi, run: Run) -> None:
    api.pinn(stepping())
    one = run("status")
    assert one.exit_code == 0
    assert "├── canary  2.0.0" in one.output
    other = settled()
    other["metadata"]["name"] = "other"
    api.pinn(other)
    several = run("status", "-A").output.splitlines()
    assert several[0].split() == ["NAMESPACE", "NAME", "READY", "STABLE", "CANARY", "WEIGHT", "STEP", "VERDICT", "SAYS"]
    assert sorted(line.split()[1] for line in several[1:]) == ["other", "pricer"]


def test_a_watched_status_shows_each_change_once_and_ends_with_ctrl_c(
    api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing here waits, and nothing depends on how the process that runs the tests treats signals."""
    changes = [stepping(), sent_back()]
    api.pinn(settled())

    def next_second(_seconds: float) -> None:
        if not changes:
            raise KeyboardInterrupt
        api.pinn(changes.pop(0))

    monkeypatch.setattr(looking, "time", SimpleNamespace(sleep=next_second))
    done = run("status", "pricer", "--watch")
    assert done.exit_code == 130
    heads = [line for line in done.output.splitlines() if line.startswith("demo/pricer")]
    assert heads == ["demo/pricer  Ready", "demo/pricer  Ready", "demo/pricer  not Ready: RolledBack"]


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_status_as_data_has_what_the_tree_shows(api: FakeApi, run: Run, output: str) -> None:
    api.pinn(stepping())
    done = run("status", "pricer", "-o", output)
    found = yaml.safe_load(done.output)  # of which JSON is a part
    assert found["arms"][1] | {"role": "canary", "weight": 10, "measured": 9} == found["arms"][1]
    assert [gate["verdict"] for gate in found["gates"]] == ["Undecided", "Passing", "NoTraffic", "Undecided"]


def test_explain_names_the_gate_and_the_remedy(api: FakeApi, run: Run) -> None:
    api.pinn(stepping())
    api.forbidden.add("/api/v1/pods")
    done = run("explain", "pricer")
    assert done.exit_code == 0
    assert "gate latencyP95: NoTraffic" in done.output
    assert "does anybody call the host of the route?" in done.output


def test_history_shows_rollouts_and_revisions(api: FakeApi, run: Run) -> None:
    api.pinn(sent_back())
    for one in records():
        api.put(RECORDS, one)
    done = run("history", "pricer", "-o", "json")
    found = json.loads(done.output)
    assert [one["outcome"] for one in found["rollouts"]] == ["RolledBack"]
    assert [one["name"] for one in found["revisions"]] == [ONE.name, TWO.name]
    assert "RolledBack" in run("history", "pricer").output


# --- Reports ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def reported(api: FakeApi) -> FakeApi:
    api.pinn(sent_back())
    api.put(CONFIG_MAPS, report_of(rolled_back()))
    return api


def test_the_report_is_the_page_for_a_person(reported: FakeApi, run: Run) -> None:
    done = run("report", "pricer")
    assert done.exit_code == 0
    assert done.output.startswith("# Rolled back: demo/pricer, version 2.0.0")
    assert json.loads(run("report", "pricer", "2.0.0", "--json").output)["outcome"] == "RolledBack"


def test_a_genuine_report_is_verified_and_one_that_was_changed_is_not(reported: FakeApi, run: Run) -> None:
    assert run("report", "pricer", "latest", "--verify").exit_code == 0
    found = report_of(rolled_back())
    found["data"]["certificate.json"] = found["data"]["certificate.json"].replace('"weight":10', '"weight":11', 1)
    reported.put(CONFIG_MAPS, found)
    done = run("report", "pricer", "latest", "--verify")
    assert done.exit_code == 1
    assert "one was changed" in done.output


def test_a_page_that_was_changed_is_not_genuine(reported: FakeApi, run: Run) -> None:
    found = report_of(rolled_back())
    found["data"]["report.md"] = found["data"]["report.md"].replace("Rolled back", "Promoted")
    reported.put(CONFIG_MAPS, found)
    done = run("report", "pricer", "--markdown", "--verify")
    assert done.exit_code == 1
    assert "data.report.md: it is not the page of this certificate" in done.output


@pytest.mark.parametrize("options", [("--verify",), ("--markdown", "--verify")])
def test_the_page_of_another_release_is_made_again_where_it_is_to_be_verified(
    reported: FakeApi, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    found = report_of(rolled_back())
    page = found["data"]["report.md"]
    found["data"]["report.md"] = "# All went well"
    reported.put(CONFIG_MAPS, found)
    monkeypatch.setattr("pinn_operator.verify.version", lambda _: "9.9.9", raising=False)
    assert run("report", "pricer").output.startswith("# All went well")
    done = run("report", "pricer", *options)
    assert done.exit_code == 0
    assert done.output.startswith(page)
    assert "page: not compared, written by release 0.1.0" in done.output
    assert run("report", "pricer", "--output", str(tmp_path), *options).exit_code == 0
    assert [file.read_text() for file in tmp_path.glob("*.md")] == [page]


def test_an_exported_report_can_be_checked_by_sha256sum_and_by_the_operator(
    reported: FakeApi, run: Run, tmp_path: Path
) -> None:
    import hashlib

    from pinn_operator.verify import Verdict, verify

    done = run("report", "pricer", "--output", str(tmp_path / "out"))
    assert done.exit_code == 0
    certificate, _, sums = (Path(line) for line in done.output.splitlines())
    said, name = sums.read_text().split()
    assert name == certificate.name
    assert hashlib.sha256(certificate.read_bytes()).hexdigest() == said
    assert all(line.verdict is Verdict.GENUINE for line in verify(str(certificate), said))


def test_a_report_that_is_not_there_is_told(api: FakeApi, run: Run) -> None:
    api.pinn(settled())
    assert "no rollout of demo/pricer is over yet" in run("report", "pricer").output
    api.pinn(sent_back())
    assert "somebody has deleted the ConfigMap" in run("report", "pricer").output
    done = run("report", "pricer", "0000000000")
    assert done.exit_code == 2
    assert "0a1b2c3d4e (2.0.0, RolledBack)" in done.output


# --- Saying ----------------------------------------------------------------------------------------------------------


def acts(verb: str) -> Any:
    """An operator that records a request at once."""

    def patched(obj: dict[str, Any]) -> None:
        value = obj["metadata"]["annotations"].get(f"pinn.dev/{verb}")
        obj["status"]["lastHandled"] = {verb: value}

    return patched


@pytest.mark.parametrize("verb", ["promote", "abort"])
def test_a_request_names_the_canary_and_is_waited_for(api: FakeApi, run: Run, verb: str) -> None:
    api.pinn(stepping())
    api.after_patch = acts(verb)
    done = run(verb, "pricer")
    assert done.exit_code == 0, done.output
    assert api.objects[PRICER]["metadata"]["annotations"][f"pinn.dev/{verb}"].startswith(f"{TWO.name}@")
    assert f"asked to {verb} revision {TWO.name}" in done.output
    assert "done: " in done.output


def test_two_requests_for_the_same_revision_are_two(api: FakeApi, run: Run) -> None:
    api.pinn(stepping())
    api.after_patch = acts("promote")
    values = set()
    for _ in range(2):
        run("promote", "pricer")
        values.add(api.objects[PRICER]["metadata"]["annotations"]["pinn.dev/promote"])
    assert len(values) == 2


def test_a_request_that_nobody_acts_upon_is_told_with_what_is_waited_for(
    api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "LOOK_SECONDS", 0.01)
    api.pinn(stepping())
    done = run("promote", "pricer", "--timeout", "0.05")
    assert done.exit_code == 1
    assert "waiting: step 1/3" in done.output
    assert "the request stays" in done.output
    assert run("promote", "pricer", "--timeout", "0").exit_code == 0, "not waited for"


def test_who_stops_waiting_is_told_that_the_request_stays(
    api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    clock = SimpleNamespace(monotonic=time.monotonic, time_ns=time.time_ns, sleep=interrupted)
    monkeypatch.setattr(requests, "time", clock)  # of this module alone: subprocess sleeps too
    api.pinn(stepping())
    done = run("promote", "pricer")
    assert done.exit_code == 130
    assert "the request stays" in done.output


def test_retry_names_the_revision_that_the_spec_asks_for(api: FakeApi, run: Run) -> None:
    api.pinn(sent_back())
    api.after_patch = acts("retry")
    assert run("retry", "pricer").exit_code == 0
    wanted = revision_wanted(sent_back())
    assert api.objects[PRICER]["metadata"]["annotations"]["pinn.dev/retry"].startswith(f"{wanted}@")


@pytest.mark.parametrize("verb", ["promote", "abort", "retry"])
def test_where_there_is_nothing_to_say_nothing_is_written(api: FakeApi, run: Run, verb: str) -> None:
    api.pinn(settled())
    done = run(verb, "pricer")
    assert done.exit_code == 1
    assert "version 1.0.0" in done.output
    assert api.writes == []


def test_pause_and_resume_write_the_one_field(api: FakeApi, run: Run) -> None:
    api.pinn(stepping())
    assert run("pause", "pricer").exit_code == 0
    assert api.objects[PRICER]["spec"]["rollout"] == {"paused": True}
    assert "already" in run("pause", "pricer").output
    assert run("resume", "pricer").exit_code == 0
    assert api.objects[PRICER]["spec"]["rollout"] == {"paused": False}
    assert len(api.writes) == 2


def test_a_person_is_warned_of_who_would_put_the_spec_back(api: FakeApi, run: Run) -> None:
    obj = stepping()
    obj["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/name"] = "apps"
    api.pinn(obj)
    assert "warning: Flux keeps this object" in run("pause", "pricer").output


# --- Undo ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def recorded(api: FakeApi) -> FakeApi:
    api.pinn(sent_back())
    for one in records():
        api.put(RECORDS, one)
    return api


def test_undo_returns_to_what_serves_and_shows_the_difference_first(recorded: FakeApi, run: Run) -> None:
    done = run("undo", "pricer", "--yes")
    assert done.exit_code == 0, done.output
    assert "-    version: 2.0.0\n+    version: 1.0.0" in done.output
    assert revision_wanted(recorded.objects[PRICER]) == ONE.name
    assert recorded.objects[PRICER]["spec"]["replicas"] == 2, "what rolls nothing out stays"


def test_undo_takes_away_what_the_revision_did_not_have(recorded: FakeApi, run: Run) -> None:
    obj = sent_back()
    obj["spec"] |= {"cache": {"size": 5}, "template": {"metadata": {"labels": {"a": "b"}}}}
    recorded.pinn(obj)
    assert run("undo", "pricer", "--to", TWO.name, "--yes").exit_code == 0
    assert revision_wanted(recorded.objects[PRICER]) == TWO.name
    assert "cache" not in recorded.objects[PRICER]["spec"]


def test_undo_from_what_serves_is_the_one_before(recorded: FakeApi, run: Run) -> None:
    recorded.pinn(settled())
    assert "back to revision " + TWO.name in run("undo", "pricer", "--yes").output


def test_undo_does_not_return_to_what_was_sent_back_unless_it_is_named(recorded: FakeApi, run: Run) -> None:
    recorded.pinn(settled(rejected=[{"revision": TWO.name}]))
    done = run("undo", "pricer", "--yes")
    assert done.exit_code == 1
    assert "name one with --to" in done.output
    assert run("undo", "pricer", "--yes", "--to", TWO.name).exit_code == 0


def test_undo_without_yes_and_without_a_terminal_changes_nothing(recorded: FakeApi, run: Run) -> None:
    done = run("undo", "pricer")
    assert done.exit_code == 2
    assert "--yes" in done.output
    assert recorded.writes == []


def test_undo_of_a_spec_that_changed_meanwhile_is_refused(recorded: FakeApi, run: Run) -> None:
    """What was shown is what is written, or nothing is."""
    from pinn_operator.plugin.undo import records as read_records
    from pinn_operator.plugin.undo import undo

    plan = undo(sent_back(), read_records(records()), None)
    recorded.objects[PRICER]["metadata"]["generation"] = 4
    status, _ = recorded.patch(PRICER, plan.patch)
    assert status == 422
    changed = "The request is invalid: the server rejected our request due to an error in our request"
    assert "has changed since it was read" in str(trouble_of(changed))


@pytest.mark.parametrize(("to", "said"), [("ffffffffff", "there are: "), (None, "nothing to undo")])
def test_undo_to_nowhere_is_told(recorded: FakeApi, run: Run, to: str | None, said: str) -> None:
    recorded.pinn(pinn("1.0.0", {"stable": {"revision": ONE.name}}))
    arguments = ["--to", to] if to else ["--to", ONE.name]
    done = run("undo", "pricer", "--yes", *arguments)
    assert done.exit_code == (2 if to else 1)
    assert said in done.output
    assert recorded.writes == []


# --- Around it -------------------------------------------------------------------------------------------------------


def test_validate_is_that_of_the_operator(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(yaml.safe_dump({**pinn("1.0.0"), "spec": {"model": {"name": "a", "version": "1"}, "replica": 2}}))
    done = run("validate", str(file))
    assert done.exit_code == 1
    assert "did you mean replicas?" in done.output


def test_an_archive_has_what_a_bug_report_needs_and_no_secret(api: FakeApi, run: Run, tmp_path: Path) -> None:
    obj = settled()
    obj["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = '{"password": "hunter22"}'
    api.pinn(obj)
    labels = {"pinn.dev/deployment": "pricer"}
    env = [{"name": "DB_PASSWORD", "value": "hunter22"}, {"name": "LEVEL", "value": "info"}]
    pod = {
        "metadata": {"name": "pricer-x", "namespace": "demo", "labels": labels},
        "spec": {"containers": [{"name": "server", "image": "i", "env": env, "args": ["--token", "hunter22"]}]},
        "status": {"containerStatuses": [{"name": "server", "restartCount": 1}]},
    }
    api.put("/api/v1/namespaces/demo/pods", pod)
    api.put(
        "/api/v1/namespaces/demo/secrets",
        {"metadata": {"name": "pricer-admin", "labels": labels}, "data": {"t": "hunter22"}},
    )
    api.texts["/api/v1/namespaces/demo/pods/pricer-x/log"] = "Authorization: Bearer hunter22\nserving\n"
    event = {
        "metadata": {"creationTimestamp": "2026-01-02T03:04:05Z", "name": "e"}, "type": "Normal", "reason": "Started",
        "note": "version 1.0.0 serves", "regarding": {"kind": "PinnDeployment", "name": "pricer"},
    }  # fmt: skip
    api.put("/apis/events.k8s.io/v1/namespaces/demo/events", event)
    api.forbidden.add("/apis/gateway.networking.k8s.io/v1/namespaces/demo/httproutes")
    target = tmp_path / "out.tar.gz"
    done = run("diagnose", "pricer", "-o", str(target))
    assert done.exit_code == 0, done.output
    assert target.stat().st_mode & 0o077 == 0
    with tarfile.open(target) as tar:
        texts = {name.partition("/")[2]: _text(tar, name) for name in tar.getnames()}
    assert {"object.yaml", "events.txt", "explain.txt", "versions.yaml", "children/pods.yaml"} < texts.keys()
    assert {"logs/pricer-x.server.log", "logs/pricer-x.server.previous.log"} < texts.keys()
    assert "hunter22" not in "".join(texts.values())
    assert "httproutes" in texts["missing.txt"]
    assert "serving" in texts["logs/pricer-x.server.log"]
    assert "version 1.0.0 serves" in texts["events.txt"]
    assert yaml.safe_load(texts["children/pods.yaml"])[0]["spec"]["containers"][0]["env"][1]["value"] == "info"
    assert not [path for _, path in api.requests if "secrets" in path], "Secrets are not even read"


@pytest.mark.parametrize(
    "told",
    [
        {"name": "API_TOKEN", "value": "hunter2\n"},
        {"name": "API_TOKEN", "value": "hunter2\nhunter2\n"},
        {"name": "API_TOKENS", "value": '["hunter2","x"]'},
        {"name": "API_TOKENS", "value": '\n {"name": "hunter2", "port": [1]}'},
        {"name": "SETTINGS", "value": '{"password": {"value": "hunter2"}, "tokens": ["hunter2"]}'},
        {"data": {"password": "hunter2\n"}},
        {"password": {"value": "hunter2"}},
        {"passwords": [{"of": {"bob": "hunter2"}}, {"name": "eve", "value": "hunter2"}]},
        {"name": "AZURE_STORAGE_KEY", "value": "hunter2"},
        {"name": "OPENAI_KEY", "value": "sk-proj-hunter2"},
        {"name": "STRIPE", "value": "sk_test_hunter2hunter2"},
        {"name": "DBPASS", "value": "hunter2"},
        {"name": "URL", "value": "https://h/x?key=hunter2"},
        {"name": "DB", "value": "user:hunter2@tcp(db)/x"},
        {"args": ["curl", "-u", "user:hunter2"]},
        {"args": ["sh", "-c", "curl -u user:hunter2 https://h"]},
    ],
)
def test_a_secret_leaves_an_object_by_its_name_and_by_how_it_looks(told: Any) -> None:
    assert "hunter2" not in as_yaml({"spec": {"things": [told]}})


@pytest.mark.parametrize(
    "told",
    [
        {"name": "T", "valueFrom": {"secretKeyRef": {"name": "pricer-admin", "key": "token", "optional": True}}},
        {"imagePullSecrets": [{"name": "registry"}], "credentials": {"secretName": "artefacts"}},
        {"secret": {"secretName": "pricer-admin", "items": [{"key": "token", "path": "token"}], "defaultMode": 420}},
        {"serviceAccountToken": {"audience": "s3", "expirationSeconds": 3607, "path": "token"}},
        {"name": "LEVEL", "value": "info\n", "automountServiceAccountToken": False, "topologyKey": "zone"},
        {"message": "all gates pass\nmonkey=banana", "cache_key": "0.1", "settings": '{"port": 1}'},
    ],
)
def test_what_only_says_where_a_secret_is_stays_in_an_object(told: Any) -> None:
    assert yaml.safe_load(as_yaml(told)) == told


def _text(tar: tarfile.TarFile, name: str) -> str:
    file = tar.extractfile(name)
    assert file is not None
    return io.TextIOWrapper(file).read()


# --- When it does not work -------------------------------------------------------------------------------------------


def test_a_name_that_is_wrong_is_answered_with_those_there_are(api: FakeApi, run: Run) -> None:
    api.pinn(settled())
    done = run("status", "pricr")
    assert done.exit_code == 1
    assert done.output == 'error: there is no PinnDeployment "pricr" in namespace demo; there are: pricer\n'


def test_a_namespace_that_is_wrong_is_answered_with_where_they_are(api: FakeApi, run: Run) -> None:
    api.pinn(settled())
    done = run("explain", "pricer", "-n", "prod")
    assert "elsewhere there are: demo/pricer; name the namespace with -n" in done.output
    assert "kubectl apply" not in done.output


def test_without_a_name_the_only_object_is_meant(api: FakeApi, run: Run) -> None:
    assert "there is no PinnDeployment in namespace demo" in run("explain").output
    assert "there is no PinnDeployment in namespace demo; look everywhere with -A" in run("status").output
    assert "there is no PinnDeployment in this cluster" in run("status", "-A").output
    api.pinn(settled())
    assert run("explain").exit_code == 0
    other = settled()
    other["metadata"]["name"] = "other"
    api.pinn(other)
    done = run("explain")
    assert done.exit_code == 2
    assert "which one? Namespace demo has other, pricer" in done.output


def test_a_cluster_without_the_definition_is_told_how_to_get_it(api: FakeApi, run: Run) -> None:
    api.installed = False
    done = run("status", "-A")
    assert done.exit_code == 1
    assert "install the operator: kubectl apply -k manifests/" in done.output


def test_who_may_not_look_is_told_so(api: FakeApi, run: Run) -> None:
    api.forbidden.add(PINNS)
    assert "you may not do that here" in run("status").output


def test_no_cluster_is_told_with_how_to_name_one(api: FakeApi, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "nowhere"
    file.write_text(Path(api.kubeconfig(tmp_path)).read_text().replace(str(api.port), "1"))
    done = run("status", "--kubeconfig", str(file))
    assert done.exit_code == 1
    assert "no cluster answers" in done.output
    assert "--context" in done.output


def test_a_context_that_does_not_exist_is_told_in_kubectls_words(api: FakeApi, run: Run) -> None:
    done = run("status", "--context", "prod")
    assert done.exit_code == 1
    assert '"prod"' in done.output


@pytest.mark.usefixtures("api")
def test_a_command_used_wrongly_ends_with_2(run: Run) -> None:
    assert run("status", "pricer", "-A").exit_code == 2
    assert run("promote").exit_code == 2
    assert run("report", "pricer", "--json", "--markdown").exit_code == 2
    assert run("cost", "--price", "1", "--window", "long").exit_code == 2
