"""`pinn-operator simulate`: what would happen, told in full, by the operator's own decisions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pinn_operator.cli import app
from tests.given import ALL_OFF, GATEWAY, only
from tests.golden import assert_golden
from typer.testing import CliRunner

Simulate = Callable[..., tuple[int, str]]
GOLDEN = Path(__file__).parent / "golden"
STEPS = [{"weight": 10, "hold": "2m"}, {"weight": 50, "hold": "2m"}, {"weight": 100, "hold": "5m"}]

LONG = [{"weight": 10, "hold": "1m"}, {"weight": 100, "hold": "1h"}]


@pytest.fixture
def simulate(tmp_path: Path) -> Simulate:
    """The command, on a manifest made of the default one; returns its exit code and its output."""

    def once(*options: str, **spec: Any) -> tuple[int, str]:
        whole = {
            "model": {"name": "black-scholes", "version": "2.0.0"},
            "traffic": GATEWAY,
            "rollout": {"steps": STEPS},
        }
        manifest = {
            "apiVersion": "pinn.dev/v1alpha1",
            "kind": "PinnDeployment",
            "metadata": {"name": "pricer"},
            "spec": {**whole, "sla": only(errorRate="1%"), **spec},
        }
        file = tmp_path / "pricer.yaml"
        file.write_text(yaml.safe_dump(manifest))
        done = CliRunner().invoke(app, ["simulate", str(file), *options])
        assert not isinstance(done.exception, Exception)
        return done.exit_code, done.output.replace(str(tmp_path), "DIR")

    return once


@pytest.mark.parametrize(
    ("name", "options", "spec"),
    [
        ("healthy", (), {"sla": {}}),
        ("errors", ("--scenario", "errors:5%"), {}),
        ("errors-in-the-bake", ("--scenario", "errors:5%@6m"), {}),
        ("slow", ("--scenario", "slow"), {"sla": only(latencyP95="500ms")}),
        ("physics", ("--scenario", "physics:5%"), {"sla": only(physicsViolationRate="0.1%")}),
        ("leak", ("--scenario", "leak:200Mi"), {"sla": only(memoryGrowthPerHour="10Mi"), "rollout": {"steps": LONG}}),
        ("crash", ("--scenario", "crash:50"), {}),
        ("unready", ("--scenario", "unready"), {}),
        ("incident", ("--scenario", "incident:15%@1m+1m", "--rate", "100/s"), {}),
        ("quiet", ("--scenario", "quiet"), {}),
        ("quiet-and-live-only", ("--scenario", "quiet"), {"sla": {**only(errorRate="1%"), "evidence": "Live"}}),
        ("blind", ("--scenario", "blind@1m+1m"), {}),
        ("without-a-gateway", (), {"traffic": {}}),
        ("by-labels", (), {"traffic": {}, "replicas": 9}),
        ("every-gate-off", (), {"sla": ALL_OFF}),
        ("approval", (), {"rollout": {"steps": [{**STEPS[0], "approval": "Required"}, *STEPS[1:]]}}),
        ("approved", ("--approve",), {"rollout": {"steps": [{**STEPS[0], "approval": "Required"}, *STEPS[1:]]}}),
        ("paused", (), {"rollout": {"steps": STEPS, "paused": True}}),
        (
            "rolled-back-when-undecided",
            ("--rate", "1/s"),
            {
                "rollout": {"steps": STEPS, "whenUndecided": "RollBack"},
                "sla": {**only(errorRate="1%"), "evidence": "Live"},
            },
        ),
    ],
)
def test_the_story_is_told_in_full(
    simulate: Simulate, name: str, options: tuple[str, ...], spec: dict[str, Any]
) -> None:
    rate = () if "--rate" in options else ("--rate", "50/s")
    code, output = simulate(*rate, *options, **spec)
    assert code == 0
    assert_golden(GOLDEN / f"{name}.txt", output)


def test_for_programs_there_is_all_of_it_as_json(simulate: Simulate) -> None:
    code, output = simulate("--scenario", "errors:5%", "--rate", "50/s", "-o", "json")
    assert code == 0
    found = json.loads(output)
    assert (found["outcome"], found["reason"]) == ("RolledBack", "ErrorRate")
    assert [step["then"] for step in found["steps"]] == ["rolled back", "not reached", "not reached"]
    assert_golden(GOLDEN / "errors.json", output)


@pytest.mark.parametrize(
    "spec",
    [
        {"autoscaling": {"minReplicas": 2, "maxReplicas": 4}},
        {"autoscaling": {"minReplicas": 1, "maxReplicas": 10}, "replicas": 8},
        {"autoscaling": {"minReplicas": 9, "maxReplicas": 12}, "traffic": {}},
    ],
    ids=["more than replicas says", "more with each step", "by labels"],
)
def test_an_autoscaled_version_has_the_servers_that_its_rollout_needs(simulate: Simulate, spec: dict[str, Any]) -> None:
    _, fixed = simulate("--rate", "50/s", "-o", "json")
    _, output = simulate("--rate", "50/s", "-o", "json", **spec)
    found = json.loads(output)
    assert found["outcome"] == "Promoted"
    assert found["ended"] < json.loads(fixed)["ended"] + 5, "next to no time is lost until they are there"


def test_an_autoscaled_version_that_never_becomes_ready_is_still_told_so(simulate: Simulate) -> None:
    _, output = simulate("--scenario", "unready", autoscaling={"minReplicas": 2, "maxReplicas": 4})
    assert "reason ProgressDeadlineExceeded" in output


def test_where_nothing_serves_a_version_is_promoted_as_the_operator_does(simulate: Simulate) -> None:
    code, output = simulate("--expect", "Promoted", replicas=0)
    assert code == 0, output
    assert "nothing serves, spec.replicas is 0" in output


def test_an_undecided_step_goes_on_by_itself_when_the_evidence_comes(simulate: Simulate) -> None:
    live = {**only(errorRate="1%"), "evidence": "Live"}
    code, output = simulate("--scenario", "quiet+20m", "--rate", "50/s", "-o", "json", sla=live)
    found = json.loads(output)
    assert code == 0
    assert (found["outcome"], [step["then"] for step in found["steps"]]) == (
        "Promoted",
        ["passed", "passed", "promoted"],
    )
    noted = [one for one in found["timeline"] if one["sentence"].startswith("no verdict within 480 s")]
    assert (noted[0]["what"], noted[0]["step"], int(noted[0]["at"])) == ("Undecided", 1, 486)
    assert found["steps"][0]["ended"] > 1200


def test_what_is_undecided_when_a_recording_ends_is_told_so(simulate: Simulate, tmp_path: Path) -> None:
    rows = [f"{at},{arm},{at},0,0" for at in (0, 600) for arm in ("canary", "stable")]
    (tmp_path / "a.csv").write_text("\n".join(["at,arm,requests,errors,slower_than_5", *rows]))
    live = {**only(errorRate="1%"), "evidence": "Live"}
    code, output = simulate("--metrics", str(tmp_path / "a.csv"), "--expect", "Undecided", sla=live)
    assert code == 0, output
    assert "Still undecided after 0:10:" in output
    assert "goes on by itself" in output


def test_a_step_that_nothing_comes_of_is_not_followed_for_ever(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four weeks, which the bake may take after it, were a quarter of an hour of computing."""
    monkeypatch.setattr("pinn_operator.simulate.story.PATIENCE", 3600.0, raising=False)
    steps = [{"weight": 10, "hold": "1m"}, {"weight": 100, "hold": "7d"}]
    live = {**only(errorRate="1%"), "evidence": "Live"}
    _, output = simulate("--scenario", "quiet", "-o", "json", sla=live, rollout={"steps": steps})
    found = json.loads(output)
    assert found["outcome"] == "Undecided"
    assert 3600 < found["ended"] < 3600 + 600


def test_the_same_seed_tells_the_same_story_and_another_one_another(simulate: Simulate) -> None:
    options = ("--scenario", "errors:5%", "--rate", "50/s", "-o", "json")
    assert simulate(*options, "--seed", "1") == simulate(*options, "--seed", "1")
    assert simulate(*options, "--seed", "1") != simulate(*options, "--seed", "2")


@pytest.mark.parametrize(("expected", "code"), [("RolledBack", 0), ("Promoted", 1)])
def test_the_exit_code_says_whether_it_came_to_what_was_expected(simulate: Simulate, expected: str, code: int) -> None:
    assert simulate("--scenario", "errors:30%", "--expect", expected)[0] == code


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--scenario", "typhoon"), '--scenario: "typhoon" is none of healthy, errors,'),
        (("--scenario", "errors:five"), '"five" is no percentage from 0% to 100%; write e.g. "1%"'),
        (("--scenario", "errors:500%"), '"500%" is no percentage from 0% to 100%; write e.g. "1%"'),
        (("--scenario", "crash:0"), "write e.g. crash:50"),
        (("--scenario", "errors@soon"), '"soon" is no duration'),
        (("--rate", "fast"), '--rate: "fast" is no rate; write e.g. 12/s'),
        (("--metrics", "a", "--scenario", "slow"), "choose one of the two"),
        (("--metrics", "/nowhere.csv"), "/nowhere.csv: cannot be read"),
        (("--repeat",), "only a recording can be repeated"),
        (("--output", "xml"), "neither text nor json"),
        (("--expect", "promoted"), "is none of Promoted, RolledBack"),
    ],
)
def test_an_option_that_is_no_use_is_refused_with_the_remedy(
    simulate: Simulate, options: tuple[str, ...], said: str
) -> None:
    code, output = simulate(*options)
    assert code == 2
    assert said in output


def test_a_manifest_whose_name_is_generated_is_told_by_such_a_name(tmp_path: Path) -> None:
    file = tmp_path / "pricer.yaml"
    spec = {"model": {"name": "black-scholes", "version": "2.0.0"}, "replicas": 0}
    metadata = {"generateName": "desk-"}
    whole = {"apiVersion": "pinn.dev/v1alpha1", "kind": "PinnDeployment", "metadata": metadata, "spec": spec}
    file.write_text(yaml.safe_dump(whole))
    done = CliRunner().invoke(app, ["simulate", str(file)])
    assert (done.exit_code, done.output.split(",")[0]) == (0, "desk-xxxxx")


def test_a_manifest_that_an_api_server_would_refuse_is_refused_in_its_words(simulate: Simulate) -> None:
    code, output = simulate(rollout={"steps": [{"weight": 50, "hold": "1m"}]})
    assert code == 2
    assert "spec.rollout.steps" in output


@pytest.mark.parametrize(("text", "said"), [("", "0 objects of kind PinnDeployment"), ("a: [", "no YAML")])
def test_a_file_without_one_object_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    done = CliRunner().invoke(app, ["simulate", str(tmp_path / "a.yaml")])
    assert done.exit_code == 2
    assert said in done.output
