"""Each command against an API server, through kubectl: what is written, what is printed, and how it ends."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from pinn_operator.plugin import looking, requests
from pinn_operator.plugin.diagnose import archive, as_yaml
from pinn_operator.plugin.kubectl import Kubectl, trouble_of
from pinn_operator.plugin.migration import Migration
from tests.plugin.conftest import Run
from tests.plugin.fake_api import PINNS, FakeApi
from tests.plugin.given_pinn import (
    ONE,
    TWO,
    condition,
    deleted,
    ended,
    pinn,
    records,
    report_of,
    revision_wanted,
    sent_back,
    settled,
    stepping,
)
from tests.report.finished import promoted, rolled_back

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


def test_a_watched_status_in_a_pipe_goes_on_after_a_moment_without_an_answer(
    api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(range(4))

    def next_second(_seconds: float) -> None:
        at = next(seconds, None)
        if at is None:
            raise KeyboardInterrupt
        api.forbidden = {PRICER} if at < 2 else set()
        api.pinn(sent_back())

    monkeypatch.setattr(looking, "time", SimpleNamespace(sleep=next_second))
    api.pinn(settled())
    done = run("status", "pricer", "--watch")
    assert done.exit_code == 130
    assert done.stderr.count("you may not do that here") == 1, "once, however long it lasts"
    heads = [line for line in done.stdout.splitlines() if line.startswith("demo/pricer")]
    assert heads == ["demo/pricer  Ready", "demo/pricer  not Ready: RolledBack"]


def test_what_is_watched_is_text_and_a_program_is_told_what_to_use(run: Run) -> None:
    done = run("status", "--watch", "-o", "json")
    assert done.exit_code == 2
    assert "kubectl get pinn --watch --output json" in done.output


def test_an_object_that_is_being_deleted_is_shown_so(api: FakeApi, run: Run) -> None:
    api.pinn(deleted(settled(), "pinn.dev/finalizer"))
    assert run("status", "pricer").output.startswith("demo/pricer  being deleted since ")
    assert json.loads(run("status", "pricer", "-o", "json").output)["deleting"] == "2026-01-02T03:09:05Z"
    assert "it is being deleted" in run("explain", "pricer").output


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


def test_commands_that_explain_names_lead_to_the_same_cluster(api: FakeApi, run: Run, tmp_path: Path) -> None:
    """Without a pod of the operator it is looked for where the manifests put it."""
    api.pinn(sent_back())
    kubeconfig = str(api.kubeconfig(tmp_path))
    there = f"--context fake --kubeconfig {kubeconfig}"
    done = run("explain", "pricer", "--context", "fake", "--kubeconfig", kubeconfig)
    assert f"    kubectl pinn undo pricer -n demo {there}    # make the spec say what serves\n" in done.output
    api.pinn(pinn() | {"status": {}})
    done = run("explain", "pricer", "--context", "fake", "--kubeconfig", kubeconfig)
    assert f"    kubectl -n pinn-system {there} get pods,lease\n" in done.output


def test_the_operator_is_looked_for_in_the_namespace_of_its_pods(api: FakeApi, run: Run) -> None:
    api.pinn(pinn() | {"status": {}})
    put_server(api)
    put_operator(api, "a", namespace="rollouts")
    commands = [line.strip() for line in run("explain", "pricer").output.splitlines() if "kubectl" in line]
    assert commands == [
        "kubectl -n rollouts get pods,lease",
        "kubectl -n rollouts logs -l app.kubernetes.io/part-of=pinn-operator --tail=50",
    ]


def put_operator(api: FakeApi, name: str, ready: bool = True, namespace: str = "pinn-system") -> None:
    """A pod of the operator, as Helm names it by nameOverride."""
    labels = {"app.kubernetes.io/name": "rollouts", "app.kubernetes.io/part-of": "pinn-operator"}
    status = {"conditions": [{"type": "Ready", "status": str(ready)}]}
    api.put(
        f"/api/v1/namespaces/{namespace}/pods",
        {"metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": {}, "status": status},
    )


def put_server(api: FakeApi) -> None:
    """A pod of a model server, which is ready."""
    labels = {"app.kubernetes.io/part-of": "pinn-operator", "pinn.dev/deployment": "pricer"}
    pod = {"name": "pricer-x", "namespace": "demo", "labels": labels}
    status = {"conditions": [{"type": "Ready", "status": "True"}]}
    api.put("/api/v1/namespaces/demo/pods", {"metadata": pod, "spec": {}, "status": status})


def test_an_operator_that_is_there_and_not_ready_does_not_run_whatever_helm_calls_it(api: FakeApi, run: Run) -> None:
    api.pinn(settled())
    put_server(api)
    put_operator(api, "a", ready=False)
    assert "the operator does not run" in run("explain", "pricer").output
    put_operator(api, "a", ready=True)
    assert "the operator does not run" not in run("explain", "pricer").output


def test_an_operator_without_a_pod_may_run_out_of_the_cluster(api: FakeApi, run: Run) -> None:
    api.pinn(settled())
    put_server(api)
    assert "the operator does not run" not in run("explain", "pricer").output


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


def test_the_check_is_told_beside_what_is_printed(reported: FakeApi, run: Run, tmp_path: Path) -> None:
    """So that standard output is the certificate, the page or the files, and nothing else."""
    checked = run("report", "pricer", "--verify")
    assert (checked.exit_code, checked.stderr) == (0, "")
    for options in (("--json",), ("--markdown",), ("--output", str(tmp_path))):
        bare, both = run("report", "pricer", *options), run("report", "pricer", *options, "--verify")
        assert both.exit_code == 0
        assert (both.stdout, both.stderr) == (bare.stdout, checked.stdout)


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


DAMAGED = {
    "nothing": {},
    "no certificate": {"report.md": "# All went well\n", "sha256": "0"},
    "no JSON": {"certificate.json": "{", "sha256": "0"},
    "a list": {"certificate.json": "[1]", "sha256": "0"},
    "a text": {"certificate.json": '"all went well"', "sha256": "0"},
    "nothing in it": {"certificate.json": "{}"},
    "deep": {"certificate.json": "[" * 100_000},
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("options", [(), ("--json",), ("--markdown", "--verify"), ("--output",)], ids=str)
def test_a_damaged_report_is_a_sentence_and_no_traceback(
    reported: FakeApi, run: Run, tmp_path: Path, damage: str, options: tuple[str, ...]
) -> None:
    reported.put(CONFIG_MAPS, report_of(rolled_back()) | {"data": DAMAGED[damage]})
    done = run("report", "pricer", *options, *([str(tmp_path)] if options == ("--output",) else []))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.output
    if options == ("--markdown", "--verify"):
        assert done.exit_code == 1


def test_a_report_without_its_certificate_names_the_check(reported: FakeApi, run: Run) -> None:
    reported.put(CONFIG_MAPS, report_of(rolled_back()) | {"data": {"report.md": "# All went well"}})
    done = run("report", "pricer", "--json")
    assert done.exit_code == 1
    assert "is damaged or of another release" in done.output
    assert f"kubectl pinn report NAME {rolled_back().canary.revision} --verify" in done.output


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
    about = f"{TWO.name}/1@" if verb == "promote" else f"{TWO.name}@"
    assert api.objects[PRICER]["metadata"]["annotations"][f"pinn.dev/{verb}"].startswith(about)
    assert f"asked to {verb} revision {TWO.name}" in done.output
    assert "done: " in done.output


@pytest.mark.parametrize(
    ("rollout", "about"),
    [({"step": "0/3"}, f"{TWO.name}/1@"), ({"step": "12/20"}, f"{TWO.name}/12@"), ({}, f"{TWO.name}@")],
)
def test_a_promote_is_for_the_step_that_it_was_said_in_or_for_the_first(
    api: FakeApi, run: Run, rollout: dict[str, Any], about: str
) -> None:
    """Of none where the status does not tell."""
    api.pinn(stepping(rollout=rollout))
    assert run("promote", "pricer", "--timeout", "0").exit_code == 0
    assert api.objects[PRICER]["metadata"]["annotations"]["pinn.dev/promote"].startswith(about)


def test_a_promote_whose_step_was_over_before_it_was_seen_is_told_with_what_to_do(api: FakeApi, run: Run) -> None:
    api.pinn(stepping())
    api.after_patch = ends_first(stepping(rollout={"step": "2/3"}))
    done = run("promote", "pricer", "--timeout", "2")
    assert done.exit_code == 1
    assert "the step was over before the request was seen: it is in step 2/3 by now" in done.output
    assert "to leave that one too: kubectl pinn promote pricer -n demo" in done.output


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


def ends_first(obj: dict[str, Any]) -> Any:
    """An operator that was quicker: the object is so by the time the request is there."""

    def patched(found: dict[str, Any]) -> None:
        found["status"] = obj["status"]

    return patched


def over(outcome: str, **status: Any) -> dict[str, Any]:
    """Nothing is on its way, and the rollout of TWO came to this."""
    return settled(
        history=[ended(rolled_back()), {**ended(promoted()), "revision": TWO.name, "outcome": outcome}], **status
    )


@pytest.mark.parametrize(
    ("verb", "after", "code", "said"),
    [
        ("promote", over("Promoted"), 0, "it was promoted"),
        ("promote", over("RolledBack"), 1, "all traffic goes to stable"),
        ("promote", over("Superseded"), 1, "it was given up for another spec"),
        ("promote", over("Superseded", canary={"revision": "ffffffffff"}), 1, "it was given up for another spec"),
        ("abort", over("RolledBack"), 0, "all traffic goes to stable"),
        ("abort", over("RolledBack", canary=stepping()["status"]["canary"]), 0, "all traffic goes to stable"),
        ("abort", over("Superseded"), 0, "it was given up for another spec"),
        ("abort", over("Promoted"), 1, "it was promoted"),
        ("abort", settled(), 1, "in a way that the history does not tell"),
    ],
)
def test_a_rollout_that_ends_before_the_request_is_seen_is_told_at_once_with_how(
    api: FakeApi, run: Run, verb: str, after: dict[str, Any], code: int, said: str
) -> None:
    """Exit code 0 where it came to what was asked for."""
    api.pinn(stepping())
    api.after_patch = ends_first(after)
    done = run(verb, "pricer", "--timeout", "2")
    assert done.exit_code == code, done.output
    assert f"the rollout ended before the request to {verb} was seen" in done.output
    assert said in done.output
    assert "carried out as soon as it can be" not in done.output


def test_an_earlier_rollout_of_the_same_revision_is_not_the_one_that_ended(api: FakeApi, run: Run) -> None:
    before = [{**ended(rolled_back()), "revision": TWO.name}]
    api.pinn(stepping(history=before))
    api.after_patch = ends_first(settled(history=before))
    assert "in a way that the history does not tell" in run("abort", "pricer", "--timeout", "2").output


def test_what_is_being_sent_back_is_not_promoted_any_more(api: FakeApi, run: Run) -> None:
    going_back = stepping(conditions=[condition("Progressing", False, "RollingBack", "errorRate: 9 % failed")])
    api.pinn(stepping())
    api.after_patch = ends_first(going_back)
    done = run("promote", "pricer", "--timeout", "2")
    assert done.exit_code == 1
    assert "all traffic goes to stable. errorRate: 9 % failed" in done.output


@pytest.mark.parametrize("words", ["promote", "abort", "retry", "pause", "resume", "undo --yes", "migrate --model a"])
def test_nothing_is_said_to_an_object_that_is_being_deleted(api: FakeApi, run: Run, words: str) -> None:
    verb, *options = words.split()
    api.pinn(deleted(sent_back() if verb in ("retry", "undo") else stepping(), "pinn.dev/finalizer"))
    service = {"metadata": {"name": "pricer"}, "spec": {"selector": {"a": "b"}, "ports": []}}
    api.put("/api/v1/namespaces/demo/services", service)
    done = run(verb, "pricer", *options, *(["--version", "1"] if verb == "migrate" else []))
    assert done.exit_code == 1
    assert "demo/pricer is being deleted, since 2026-01-02T03:09:05Z" in done.output
    assert "kubectl pinn explain pricer -n demo" in done.output
    assert api.writes == []


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
    file.write_text("groups: []\n")  # rules lie among manifests: a note, for standard error
    done = run("validate", str(tmp_path))
    assert (done.exit_code, done.stdout) == (0, "")
    assert "skipped, a document without a kind" in done.stderr


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


def test_an_archive_over_a_file_that_others_may_read_is_its_owners_alone(tmp_path: Path) -> None:
    target = tmp_path / "out.tar.gz"
    target.touch(0o644)
    archive({"a": "b"}, target, "folder")
    assert target.stat().st_mode & 0o777 == 0o600


def test_an_archive_without_the_operators_logs_says_so(api: FakeApi, run: Run, tmp_path: Path) -> None:
    api.pinn(settled())
    said = "operator pods: there are none in this cluster with the labels app.kubernetes.io/part-of=pinn-operator"
    assert said in run("diagnose", "pricer", "-o", str(tmp_path / "a.tar.gz")).output
    put_operator(api, "a")
    assert "operator pods" not in run("diagnose", "pricer", "-o", str(tmp_path / "a.tar.gz")).output


def test_a_webhook_in_a_log_is_taken_out(api: FakeApi, run: Run, tmp_path: Path) -> None:
    api.pinn(settled())
    pod = {
        "metadata": {"name": "pricer-x", "namespace": "demo", "labels": {"pinn.dev/deployment": "pricer"}},
        "spec": {"containers": []},
        "status": {"containerStatuses": [{"name": "server"}]},
    }
    api.put("/api/v1/namespaces/demo/pods", pod)
    api.texts["/api/v1/namespaces/demo/pods/pricer-x/log"] = "to https://hooks.slack.com/services/T0/B0/hunter2 sent"
    assert run("diagnose", "pricer", "-o", str(tmp_path / "a.tar.gz")).exit_code == 0
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        (name,) = [one for one in tar.getnames() if one.endswith("server.log")]
        assert _text(tar, name) == "to https://hooks.slack.com/services/[redacted] sent"


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
        {"args": ["mysql", "-p", "hunter2"]},
        {"name": "REDIS_PW", "value": "hunter2"},
        {"name": "KEY", "value": "hunter2"},
        {"name": "LICENSE", "value": "hunter2"},
        {"data": {"REDIS_PW": "hunter2"}},
        {"name": "NOTIFY", "value": "https://hooks.slack.com/services/T0/B0/hunter2"},
        {"args": ["sh", "-c", "curl -u user:hunter2 https://h"]},
        {"name": "GITHUB_PAT", "value": "hunter2"},
        {"name": "SALT", "value": "hunter2"},
        {"data": {"ci.githubPat": "hunter2"}},
        {"name": "HOOK", "value": "https://h/x?code=hunter2"},
        {"name": "HOOK", "value": "HTTPS://bob@h:8080/x?a='b'&access=hunter2#c"},
        {"model": {"uri": "https://h/x.tar?a=1&access=hunter2"}},
        {"args": ["--uri=https://h/x?code=hunter2"]},
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
        {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]},
        {"PATH": "/bin", "compat": "v1", "name": "COBALT_BASALT", "value": "grey", "path": "/healthz?full"},
        {"uri": "https://h/x.tar", "said": "is it there? https://h/x is"},
    ],
)
def test_what_only_says_where_a_secret_is_stays_in_an_object(told: Any) -> None:
    assert yaml.safe_load(as_yaml(told)) == told


def test_of_an_address_everything_but_its_query_stays() -> None:
    assert as_yaml({"uri": "https://h:8080/x?code=a%20b&c='d'"}) == "uri: https://h:8080/x?[redacted]\n"


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


def test_who_may_get_and_not_list_is_told_that_there_is_no_such_object(api: FakeApi, run: Run) -> None:
    api.pinn(settled())
    api.forbidden.add(PINNS)
    assert run("status", "pricer").exit_code == 0
    done = run("status", "pricr")
    assert done.exit_code == 1
    assert 'there is no PinnDeployment "pricr" in namespace demo' in done.output
    assert "you may not" not in done.output


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
    assert run("cost", "--price", "nan").exit_code == 2
    assert run("cost", "--price", "inf").exit_code == 2


def test_a_full_disk_is_a_sentence_and_1(api: FakeApi) -> None:
    api.pinn(settled())
    for command in (["explain", "pricer"], ["status", "pricer"], ["--help"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-c", "from pinn_operator.plugin.app import main; main()", *command],
                env={**os.environ, "PYTHONUNBUFFERED": ""},
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        said = "error: standard output cannot be written: No space left on device\n"
        assert (done.returncode, done.stderr) == (1, said), command


# --- Ways back -------------------------------------------------------------------------------------------------------


def test_a_command_to_type_leads_to_the_same_cluster_and_namespace() -> None:
    assert Kubectl(asked_namespace="demo").where == "-n demo"
    assert Kubectl("prod", "/a b", "demo").where == "-n demo --context prod --kubeconfig '/a b'"


@pytest.mark.usefixtures("api")
def test_the_way_back_of_a_migration_is_said_with_its_namespace_and_context(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Migration, "run", lambda *_: None)
    done = run("migrate", "pricer", "--model", "black-scholes", "--version", "1.0.0", "-n", "desk", "--context", "fake")
    assert done.exit_code == 0
    assert "Back: kubectl pinn migrate pricer -n desk --context fake --undo" in done.output


@pytest.mark.parametrize("option", ["--model", "--version", "--uri", "--digest"])
def test_what_a_file_says_is_not_said_beside_it(api: FakeApi, run: Run, tmp_path: Path, option: str) -> None:
    file = tmp_path / "pricer.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in pinn().items() if key != "status"}))
    done = run("migrate", "pricer", "-f", str(file), option, "builtin://")
    assert done.exit_code == 2
    assert f"-f and {option} exclude each other" in done.output
    assert api.requests == []
