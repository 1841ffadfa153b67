"""`pinn-operator validate` tells of every document in every file, and its exit code is for programs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pinn_operator.cli import app
from typer.testing import CliRunner

from tests.manifests import cases

VALID = cases.HERE / "valid"
WRONG = yaml.safe_dump(cases.patched(cases.minimal(), {"spec": {"replica": 2}}))


def run(*arguments: str, text: str = "") -> tuple[int, list[str]]:
    done = CliRunner().invoke(app, ["validate", *arguments], input=text)
    return done.exit_code, done.output.splitlines()


def written(folder: Path, text: str, name: str = "a.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_right_manifest_is_ok() -> None:
    file = str(VALID / "minimal.yaml")
    assert run(file) == (0, [f"{file}: PinnDeployment/option-pricer: ok"])


def test_a_wrong_manifest_gets_a_line_for_each_problem(tmp_path: Path) -> None:
    file = written(tmp_path, WRONG.replace("1.0.0", "1.0"))
    assert run(file) == (
        1,
        [
            f"{file}: PinnDeployment/option-pricer: spec.model.version: must be a string, not an integer; put it in quotes",
            f'{file}: PinnDeployment/option-pricer: spec.replica: unknown field "replica"; did you mean replicas?',
        ],
    )


def test_standard_input_is_read() -> None:
    code, lines = run("-", text=WRONG)
    assert code == 1
    assert lines[0].startswith("standard input: PinnDeployment/option-pricer: spec.replica: ")


@pytest.mark.parametrize("text", ["", "# nothing\n---\n"])
def test_nothing_on_standard_input_is_a_mistake(text: str) -> None:
    """Whoever was to write there has failed."""
    assert run("-", text=text) == (2, ["standard input: no document in it, nothing to validate"])


def test_standard_input_that_is_no_text_cannot_be_read() -> None:
    done = CliRunner().invoke(app, ["validate", "-"], input=b"\xff\xfe")
    assert (done.exit_code, done.output) == (2, "standard input: cannot be read: no UTF-8 text\n")


def test_a_folder_is_searched_for_manifests(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    written(tmp_path, (VALID / "minimal.yaml").read_text())
    written(tmp_path / "deep", WRONG, "b.yml")
    written(tmp_path / "deep", json.dumps(cases.minimal()), "c.json")
    written(tmp_path, "not: [a manifest", "notes.txt")
    code, lines = run(str(tmp_path))
    assert code == 1
    assert [line.split(": ")[0].removeprefix(f"{tmp_path}/") for line in lines] == [
        "a.yaml",
        "deep/b.yml",
        "deep/c.json",
    ]


@pytest.mark.parametrize("text", ["- 1", "{a: 1}", "{kind: null}", '{"panels": []}'])
def test_a_document_of_a_folder_without_a_kind_is_skipped_with_a_note(tmp_path: Path, text: str) -> None:
    """Dashboards, rules and patches lie among manifests."""
    file = written(tmp_path, text)
    done = CliRunner().invoke(app, ["validate", str(tmp_path)])
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"{file}: skipped, a document without a kind\n"


@pytest.mark.parametrize("text", ["kind: 7", "apiVersion: pinn.dev/v1alpha1\nmetadata: {name: a}"])
def test_a_document_of_a_folder_that_should_be_ours_is_refused_all_the_same(tmp_path: Path, text: str) -> None:
    written(tmp_path, text)
    code, lines = run(str(tmp_path))
    assert (code, "no Kubernetes object" in lines[0]) == (1, True)


def test_all_manifests_of_the_project_would_be_accepted() -> None:
    """As the help says it: dashboards and rules are among them."""
    assert run(str(Path(__file__).parents[3] / "manifests"))[0] == 0


def test_a_folder_without_manifests_is_a_mistake(tmp_path: Path) -> None:
    assert run(str(tmp_path))[0] == 2


def test_other_kinds_are_skipped_with_a_note(tmp_path: Path) -> None:
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n---\n"
    code, lines = run(written(tmp_path, service + (VALID / "minimal.yaml").read_text()))
    assert code == 0
    assert [line.split(": ", 1)[1] for line in lines] == [
        "Service/web: skipped, not a PinnDeployment",
        "PinnDeployment/option-pricer: ok",
    ]


def test_a_misspelt_kind_is_not_skipped(tmp_path: Path) -> None:
    file = written(tmp_path, "apiVersion: pinn.dev/v1alpha1\nkind: PinDeployment\nmetadata: {name: a}")
    code, lines = run(file)
    assert (code, "did you mean PinnDeployment?" in lines[0]) == (1, True)


def test_the_items_of_a_list_are_validated(tmp_path: Path) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [cases.minimal(), yaml.safe_load(WRONG)]}
    code, lines = run(written(tmp_path, json.dumps(listed)))
    assert (code, len(lines)) == (1, 2)


@pytest.mark.parametrize(
    "text", ["a: [1", "a: b: c", "\tx", "kind: A\nkind: B", "? [a]\n: b", "a: !!python/name:os.system"]
)
def test_what_is_no_yaml_cannot_be_read(tmp_path: Path, text: str) -> None:
    code, lines = run(written(tmp_path, text))
    assert (code, len(lines)) == (2, 1)
    assert "no YAML" in lines[0]


def test_a_key_that_stands_twice_is_named(tmp_path: Path) -> None:
    code, lines = run(written(tmp_path, "spec: {replicas: 1, replicas: 2}"))
    assert (code, 'key "replicas" is there twice' in lines[0]) == (2, True)


def test_a_key_that_is_no_string_is_an_unknown_field(tmp_path: Path) -> None:
    code, lines = run(written(tmp_path, (VALID / "minimal.yaml").read_text() + "  2: a\n  yes: b\n"))
    assert code == 1
    assert [line.split(": ")[2] for line in lines] == ["spec.2", "spec.true"]


def test_merge_keys_are_followed(tmp_path: Path) -> None:
    text = (VALID / "minimal.yaml").read_text()
    merging = text.replace("  model:\n", "  model: &m\n") + "  cache: {<<: {size: 5}, warmUp: {<<: {keys: 7}}}\n"
    assert run(written(tmp_path, merging))[0] == 0


def test_a_document_that_holds_itself_cannot_be_read(tmp_path: Path) -> None:
    code, lines = run(written(tmp_path, (VALID / "minimal.yaml").read_text() + "  cache: &a {binWidths: *a}\n"))
    assert (code, "holds itself" in lines[0]) == (2, True)


def nested(levels: int, of: int, merged: bool = False) -> str:
    """A manifest in which each level is the one before it, so many times."""
    entries = ["l0: &l0 {a: 1}"]
    for level in range(1, levels + 1):
        again = ", ".join([f"*l{level - 1}"] * of)
        entries.append(f"l{level}: &l{level} {{<<: [{again}]}}" if merged else f"l{level}: &l{level} [{again}]")
    template = "".join(f"      {entry}\n" for entry in entries)
    return f"{(VALID / 'minimal.yaml').read_text()}  template:\n    spec:\n{template}"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("merged", [False, True], ids=["lists", "merge keys"])
def test_aliases_that_stand_for_too_much_are_no_yaml(tmp_path: Path, merged: bool) -> None:
    """A few hundred bytes would keep it busy for hours."""
    code, lines = run(written(tmp_path, nested(8, 10, merged)))
    assert (code, len(lines)) == (2, 1)
    assert "no YAML: aliases stand for more than 100,000 values; write out what is meant in " in lines[0]


@pytest.mark.parametrize("merged", [False, True], ids=["lists", "merge keys"])
def test_aliases_that_stand_for_what_a_person_would_write_are_followed(tmp_path: Path, merged: bool) -> None:
    assert run(written(tmp_path, nested(3, 10, merged)))[0] == 0


@pytest.mark.parametrize("name", ["a.yaml", "a.json"])
def test_a_document_that_is_nested_beyond_reading_cannot_be_read(tmp_path: Path, name: str) -> None:
    code, lines = run(written(tmp_path, "[" * 5000 + "]" * 5000, name))
    assert (code, lines) == (2, [f"{tmp_path / name}: no YAML: nested beyond reading"])


def test_a_name_that_is_generated_is_accepted_and_apply_is_warned_of(tmp_path: Path) -> None:
    file = written(tmp_path, (VALID / "minimal.yaml").read_text().replace("name: option-pricer", "generateName: desk-"))
    assert run(file) == (0, [f"{file}: PinnDeployment/desk-: ok, to be created: apply needs a name"])


def test_a_full_disk_is_a_sentence_and_1() -> None:
    for command in (["validate", str(VALID / "minimal.yaml")], ["--help"]):
        for unbuffered in ("", "1"):
            with Path("/dev/full").open("w") as full:
                done = subprocess.run(
                    [sys.executable, "-m", "pinn_operator", *command],
                    env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
                    stdout=full,
                    stderr=subprocess.PIPE,
                    text=True,
                    check=False,
                )
            said = "error: standard output cannot be written: No space left on device\n"
            assert (done.returncode, done.stderr) == (1, said)


def test_a_missing_file_does_not_keep_the_others_from_being_read(tmp_path: Path) -> None:
    code, lines = run(str(tmp_path / "nowhere.yaml"), str(VALID / "minimal.yaml"))
    assert code == 2
    assert lines[0].endswith("cannot be read: No such file or directory")
    assert lines[1].endswith(": ok")


def test_text_that_is_not_utf8_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    assert run(str(tmp_path / "a.yaml"))[0] == 2


@pytest.mark.parametrize("text", ["", "---\n---\n", "# nothing here\n"])
def test_an_empty_file_is_said_to_be_empty(tmp_path: Path, text: str) -> None:
    code, lines = run(written(tmp_path, text))
    assert (code, "no document" in lines[0]) == (0, True)


@pytest.mark.parametrize("text", ["- 1", "just words", "{a: 1}", "kind: 7"])
def test_what_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    code, lines = run(written(tmp_path, text))
    assert (code, "no Kubernetes object" in lines[0]) == (1, True)


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        ("2026-01-01", "ok"),
        ("12:30:00", 'spec.model.version: "12:30:00" is no version label'),
        ("1e3", "spec.model.version: must be a string, not an integer"),
        ("0x10", "spec.model.version: must be a string, not an integer"),
        ("yes", "spec.model.version: must be a string, not a boolean"),
        ("~", "spec.model.version: required"),
    ],
)
def test_yaml_is_read_as_kubectl_reads_it(tmp_path: Path, version: str, problem: str) -> None:
    text = (VALID / "minimal.yaml").read_text().replace("version: 1.0.0", f"version: {version}")
    _, lines = run(written(tmp_path, text))
    assert lines[0].split(": ", 2)[2].startswith(problem)


def test_help_teaches() -> None:
    code, lines = run("--help")
    told = " ".join(" ".join(lines).split())
    assert code == 0
    assert "pinn-operator validate pinndeployment.yaml" in told
    assert "Exit code 0: all would be accepted. 1: something would be refused. 2: a file could not be read" in told
