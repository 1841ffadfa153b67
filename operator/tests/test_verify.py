"""`pinn-operator verify` finds every change of a certificate, names the field, and reads anything without falling over."""

import json
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pinn_operator import verify as verifying
from pinn_operator.cli import app
from pinn_operator.report.certificate import Certificate, canonical, certificate, config_map, digest
from tests.decide.tiny_cluster import serving
from tests.given import only
from tests.report.finished import certified, promoted, rolled_back
from typer.testing import CliRunner

Document = dict[str, Any]
PROMOTED, ROLLED_BACK = certified(promoted()), certified(rolled_back())
BOTH = pytest.mark.parametrize("made", [PROMOTED, ROLLED_BACK], ids=["promoted", "rolled back"])


def run(text: str | bytes, *arguments: str) -> tuple[int, list[str]]:
    done = CliRunner().invoke(app, ["verify", "-", *arguments], input=text)
    assert not isinstance(done.exception, Exception)
    return done.exit_code, [line.removeprefix("standard input: ") for line in done.output.splitlines()]


def kept(made: Certificate) -> Document:
    return config_map(made, {"namespace": "demo", "labels": {}})


def forged(change: Callable[[Document], Any], made: Certificate = ROLLED_BACK) -> str:
    """A ConfigMap with another document, and the hash of that one."""
    document = json.loads(made.text)
    change(document)
    text = canonical(document)
    found = kept(made)
    found["data"] |= {"certificate.json": text, "sha256": digest(text)}
    with suppress(ValueError):  # of what is no certificate any more there is no page
        found["data"]["report.md"] = verifying.page_of(document)
    return json.dumps(found)


@BOTH
@pytest.mark.parametrize("written", [json.dumps, yaml.safe_dump], ids=["json", "yaml"])
def test_a_config_map_as_kubectl_prints_it_is_genuine(made: Certificate, written: Callable[[Any], str]) -> None:
    assert run(written(kept(made)), "--sha256", made.sha256) == (
        0,
        [
            f"sha256: ok, {made.sha256} is stored with it",
            f"sha256: ok, {made.sha256} is the one asked for",
            "metadata: ok",
            "page: ok",
            "times: ok",
            "weights: ok",
            "exposure: ok",
            "promotion: ok",
            "evidence: ok",
            "blame: ok",
            "cut: ok",
        ],
    )


@BOTH
def test_a_file_of_its_own_says_its_hash_and_with_what_to_compare_it(made: Certificate, tmp_path: Path) -> None:
    file = tmp_path / "certificate.json"
    file.write_text(json.dumps(made.document, indent=2))
    done = CliRunner().invoke(app, ["verify", str(file)])
    assert done.exit_code == 0
    assert done.output.startswith(
        f"{file}: sha256: {made.sha256}, compared with nothing; compare it with status.history"
    )


@BOTH
@pytest.mark.parametrize("gone", [False, True], ids=["changed", "missing"])
def test_a_page_that_is_not_that_of_the_certificate_is_not_genuine(made: Certificate, gone: bool) -> None:
    found = kept(made)
    page = found["data"].pop("report.md")
    found["data"] |= {} if gone else {"report.md": page.replace("2.0.0", "3.0.0")}
    code, lines = run(json.dumps(found), "--sha256", made.sha256)
    assert code == 1
    assert "data.report.md: it is not the page of this certificate: it was changed, or is missing" in lines


@pytest.mark.parametrize(("release", "said"), [("0.2.0", "0.2.0"), ("", "unknown"), ("\x1b[0m", "\\u001b[0m")])
def test_the_page_of_another_release_is_not_compared_and_that_is_said(release: str, said: str) -> None:
    found = json.loads(forged(lambda document: document["operator"].update(release=release)))
    found["data"]["report.md"] = "in other words"
    code, lines = run(json.dumps(found))
    assert (code, lines[2]) == (0, f"page: not compared, written by release {said}")


def test_a_certificate_of_which_no_page_can_be_made_is_a_complaint() -> None:
    code, lines = run(forged(lambda document: document.pop("neighbours")))
    assert code == 1
    assert "page: no page can be made of the document: KeyError" in lines


@BOTH
def test_a_change_of_the_document_is_found_by_the_hash(made: Certificate) -> None:
    found = kept(made)
    found["data"]["certificate.json"] = found["data"]["certificate.json"].replace('"blamed":', '"blamed" :', 1)
    assert run(json.dumps(found))[0] == 0, "white space is no change"
    found["data"]["certificate.json"] = found["data"]["certificate.json"].replace('"weight":10', '"weight":11', 1)
    code, lines = run(json.dumps(found))
    assert code == 1
    assert lines[0].startswith(f'data.sha256: "{made.sha256}" is stored, the document\'s is ')


def test_a_hash_that_was_changed_as_well_is_found_by_the_one_from_the_status() -> None:
    text = forged(lambda document: document.update(smokeTest="all went well"))
    assert run(text)[0] == 0
    code, lines = run(text, "--sha256", ROLLED_BACK.sha256)
    assert code == 1
    assert f"sha256: {ROLLED_BACK.sha256} was asked for" in lines[1]


def test_a_hash_may_be_written_in_capitals_or_with_its_kind() -> None:
    assert run(ROLLED_BACK.text, "--sha256", f"sha256:{ROLLED_BACK.sha256.upper()}")[0] == 0


def test_a_certificate_without_its_hash_is_not_genuine() -> None:
    found = kept(ROLLED_BACK)
    del found["data"]["sha256"]
    assert run(json.dumps(found))[0] == 1


def test_a_version_that_took_over_where_no_servers_are_asked_for_was_promoted_without_a_step() -> None:
    began, *_, ended = promoted().timeline
    made = certified(promoted(timeline=(began, ended), step=0, gates=(), minutes=()))
    code, lines = run(json.dumps(kept(made)))
    assert (code, "promotion: ok" in lines) == (0, True), lines


def test_a_promotion_with_evidence_had_a_step_at_100() -> None:
    began, *_, ended = promoted().timeline
    code, lines = run(json.dumps(kept(certified(promoted(timeline=(began, ended))))))
    assert code == 1
    assert any("outcome: Promoted, but the time line has no step at 100 %" in line for line in lines)


def entry(document: Document, number: int, **more: Any) -> None:
    document["timeline"][number].update(more)


def passing(document: Document, **more: Any) -> None:
    document["evidence"][2].update(more)


@pytest.mark.parametrize(
    ("made", "change", "complaint"),
    [
        (ROLLED_BACK, lambda d: d.update(ended="2026-01-02T03:04:04.000Z"), "ended: before it began"),
        (ROLLED_BACK, lambda d: d.update(seconds=5), "seconds: 5, but from began to ended are 0:00:52.750000"),
        (ROLLED_BACK, lambda d: entry(d, 0, at="2025-01-02T03:04:05.000Z"), "timeline[0].at: before the rollout began"),
        (
            ROLLED_BACK,
            lambda d: entry(d, 1, at="2027-01-02T03:04:05.000Z"),
            "timeline[2].at: before the entry before it",
        ),
        (ROLLED_BACK, lambda d: d["minutes"].reverse(), "minutes[1].at: before the entry before it"),
        (ROLLED_BACK, lambda d: entry(d, 1, weight=101), "timeline[1].weight: 101 is no percentage"),
        (ROLLED_BACK, lambda d: entry(d, 1, weight=-1), "timeline[1].weight: -1 is no percentage"),
        (ROLLED_BACK, lambda d: entry(d, 2, weight=10), "timeline[2].weight: above 0, but it ended RolledBack"),
        (ROLLED_BACK, lambda d: d["rollout"]["steps"].reverse(), "rollout.steps: weights must rise"),
        (ROLLED_BACK, lambda d: d["exposure"].update(seconds=1), "exposure.seconds: 1, by the time line 12.0"),
        (ROLLED_BACK, lambda d: d["exposure"].pop("byWeight"), "exposure.byWeight: null, by the time line"),
        (PROMOTED, lambda d: entry(d, 2, weight=50), "outcome: Promoted, but the time line has no step at 100 %"),
        (PROMOTED, lambda d: d["to"].update(d["from"]), "to.revision: the same as from.revision"),
        (PROMOTED, lambda d: passing(d, verdict="Failing"), 'evidence[2].verdict: "errorRate" was failing'),
        (PROMOTED, lambda d: d.update(blamed=True), "blamed: true, but it ended Promoted"),
        (
            ROLLED_BACK,
            lambda d: passing(d, evidence=19.5),
            'evidence[2].evidence: 19.5, but "cacheHitRate" passes at 20',
        ),
        (
            ROLLED_BACK,
            lambda d: passing(d, evidence=-1, needed=None),
            'evidence[2].evidence: -1, but "cacheHitRate" passes at 0',
        ),
        (ROLLED_BACK, lambda d: passing(d, evidence=None), 'evidence[2].evidence: 0, but "cacheHitRate" passes at 20'),
        (
            ROLLED_BACK,
            lambda d: d.update(reason="", evidence=d["evidence"][2:]),
            "blamed: true, without a reason and without a gate that was failing",
        ),
        (
            ROLLED_BACK,
            lambda d: d["object"].update(namespace="prod"),
            'metadata.namespace: "demo", but the certificate',
        ),
        (ROLLED_BACK, lambda d: d["object"].update(uid="other"), "metadata.name: "),
        (
            ROLLED_BACK,
            lambda d: d.update(ended="yesterday"),
            'ended: must be a time such as "2026-01-02T03:04:05.000Z"',
        ),
        (ROLLED_BACK, lambda d: d.update(ended="2026-02-31T03:04:05.000Z"), "ended: day "),
        (ROLLED_BACK, lambda d: d.pop("timeline"), "timeline: field required"),
        (ROLLED_BACK, lambda d: d.update(outcome="Fine"), "outcome: input should be 'Promoted'"),
        (ROLLED_BACK, lambda d: entry(d, 1, weight="10"), "timeline[1].weight: input should be a valid integer"),
        (ROLLED_BACK, lambda d: d["to"].update(modelDigest="sha256:1"), "to.modelDigest: string should match"),
        (ROLLED_BACK, lambda d: d["logs"].update({"\x1b[0m": 5}), "logs.\\u001b[0m: input should be a valid string"),
    ],
)
def test_what_does_not_agree_is_a_complaint_that_names_the_field(
    made: Certificate, change: Callable[[Document], Any], complaint: str
) -> None:
    code, lines = run(forged(change, made))
    assert code == 1
    assert any(line.startswith(complaint) for line in lines), lines


def test_what_was_cut_is_said_and_is_no_mistake() -> None:
    def cut(document: Document) -> None:
        document["timeline"] = document["timeline"][:1]
        document["cut"] = [{"field": "timeline", "kept": 1, "of": 4}]

    code, lines = run(forged(cut, PROMOTED))
    assert "exposure: not computed again, the time line was cut" in lines
    assert "cut: timeline (1 of 4 kept)" in lines
    assert code == 0


def test_a_newer_release_may_have_written_more() -> None:
    assert run(forged(lambda document: document.update(more={"new": 1})))[0] == 0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no certificate: it has no kind"),
        ("just words", "no certificate: it has no kind"),
        ("[1, 2]", "no certificate: it has no kind"),
        ('{"kind": 5}', "no certificate: its kind is 5"),
        ("kind: Secret", 'no certificate: its kind is "Secret"; give certificate.json, or the ConfigMap'),
        ("kind: ConfigMap", "no certificate: the ConfigMap has no data.certificate.json"),
        ("kind: ConfigMap\ndata: [1]", "no certificate: the ConfigMap has no data.certificate.json"),
        ("kind: ConfigMap\ndata: {certificate.json: '[]'}", "no certificate: data.certificate.json is no"),
        ("{kind: ConfigMap", "no JSON: "),
        ('{"kind": "RolloutCertificate"}', "no certificate that can be checked: apiVersion is null"),
        ('{"kind": "a", "kind": "b"}', 'no JSON: "kind" is there twice'),
        ('{"kind": NaN}', "no JSON: NaN is no number"),
        ('{"kind": ' + "9" * 5000 + "}", "no JSON: "),
        ("{" + '"a":{' * 100_000, "nested beyond reading"),
        ("- " * 100_000 + "x", "nested beyond reading"),
        ("kind: a\nkind: b", "neither JSON nor YAML: a key is there twice"),
        ("a: [1", "neither JSON nor YAML: "),
        ("&a [*a]", "neither JSON nor YAML: found unconstructable recursive node"),
        (
            "a: &a [x]\n" + "".join(f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in pairwise("abcdefgh")),
            "neither JSON nor YAML: aliases stand for more than 100,000 values",
        ),
        ("a: !!python/object/apply:os.system [x]", 'neither JSON nor YAML: tag "tag:yaml.org,2002:python/object'),
        ("a: !!int ''", 'neither JSON nor YAML: tag "tag:yaml.org,2002:int"'),
        (b"\xff\xfe", "cannot be read: no UTF-8 text"),
        (b"a" * (4 * 1024 * 1024 + 1), "larger than 4 MiB: no certificate is"),
    ],
    ids=lambda value: repr(value[:24]),
)
def test_what_is_no_certificate_is_told_and_never_a_traceback(text: str | bytes, complaint: str) -> None:
    code, lines = run(text)
    assert (code, len(lines)) == (2, 1)
    assert lines[0].startswith(complaint)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "data.certificate.json: no JSON: "),
        ("[" * 100_000, "data.certificate.json: nested beyond reading"),
        (
            '{"kind":"RolloutCertificate","apiVersion":"pinn.dev/v1alpha1","a":1e999}',
            "the document holds what JSON cannot",
        ),
        (
            '{"kind":"RolloutCertificate","apiVersion":"pinn.dev/v1alpha1","a":"\\ud800"}',
            "the document holds what JSON ",
        ),
    ],
)
def test_a_damaged_certificate_is_told(text: str, complaint: str) -> None:
    found = kept(ROLLED_BACK)
    found["data"]["certificate.json"] = text
    code, lines = run(json.dumps(found))
    assert code == 1
    assert lines[0].startswith(complaint)


def test_a_file_that_is_not_there_and_a_folder_cannot_be_read(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none.json", "No such file or directory"), (tmp_path, "Is a directory")):
        done = CliRunner().invoke(app, ["verify", str(path)])
        assert (done.exit_code, done.output) == (2, f"{path}: cannot be read: {said}\n")


def test_a_hash_that_is_none_is_told() -> None:
    assert run(ROLLED_BACK.text, "--sha256", "abc") == (
        2,
        ['--sha256: "abc" is no SHA-256; write 64 hexadecimal digits'],
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(data=st.data(), value=JSON)
def test_whatever_stands_in_a_field_there_is_an_answer(data: st.DataObject, value: Any) -> None:
    document = json.loads(ROLLED_BACK.text)
    at = document
    while isinstance(at, dict | list) and at:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if data.draw(st.booleans()) or not isinstance(at[key], dict | list):
            at[key] = value
            break
        at = at[key]
    code, lines = run(json.dumps(document, allow_nan=True))
    assert code in (0, 1, 2)
    assert lines
    assert all(len(line) < 1000 for line in lines)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_make_it_fall_over(raw: bytes) -> None:
    assert run(raw)[0] == 2


def test_every_kind_of_certificate_passes_its_own_checks() -> None:
    for journal in (rolled_back(blamed=False), rolled_back(ending="Superseded", blamed=False), rolled_back(gates=())):
        assert run(certified(journal).text)[0] == 0


@pytest.mark.parametrize(
    ("outcome", "case"),
    [
        ("Promoted", {}),
        ("RolledBack", {"bad": {"2.0.0": 0.3}}),
        ("RolledBack", {"broken": frozenset({"2.0.0"})}),
        ("RolledBack", {"violating": {"2.0.0": 0.3}, "sla": only(physicsViolationRate="0.1%")}),
    ],
    ids=["promoted", "fails requests", "never ready", "breaks the equation"],
)
def test_the_certificate_of_a_rollout_that_was_decided_pass_by_pass_agrees_with_itself(
    outcome: str, case: dict[str, Any]
) -> None:
    cluster = serving(**case)
    cluster.version = "2.0.0"
    journal = cluster.until(lambda plan: plan.finished is not None).finished
    assert journal is not None
    made = certificate(cluster.observe(), journal, {}, release="0.1.0")
    assert (made.document["outcome"], run(made.text)[0]) == (outcome, 0)
    assert "page: ok" in run(json.dumps(kept(made)))[1]


def test_help_teaches() -> None:
    done = CliRunner().invoke(app, ["verify", "--help"])
    told = " ".join(done.output.split())
    assert done.exit_code == 0
    assert "kubectl get configmap NAME -o json | pinn-operator verify - --sha256 HEX" in told
    assert "Exit code 0: all is well. 1: something is not. 2: there is no certificate in the file." in told
    assert verifying.LARGEST_FILE > 2**20
