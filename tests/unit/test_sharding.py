"""`make test-full` in shards and taken up again: who runs what, what is kept, and what is never called passed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hack import full
from hack.results import (
    PARTS,
    Kept,
    Result,
    Shard,
    is_done,
    keep_found,
    keep_result,
    page,
    read,
    shard_of,
    summary,
    to_run,
)
from hack.sharding import names_of

ROOT = Path(__file__).resolve().parents[2]
TESTS = [f"tests/test_a.py::test_{number}" for number in range(60)]
THREE = [Shard(number, 3) for number in (1, 2, 3)]

SOME = """
import pytest

def test_good(): pass
def test_bad(): assert False
def test_other(): pass
@pytest.mark.skip(reason="no GPU")
def test_gpu(): pass
@pytest.fixture
def broken():
    yield
    raise RuntimeError
def test_not_taken_down(broken): pass
def test_interrupted():
    import os
    if "INTERRUPT" in os.environ: raise KeyboardInterrupt
"""


TWICE = """
import pytest

def pytest_pycollect_makeitem(collector, name, obj):
    if name == "test_once":
        return [pytest.Function.from_parent(collector, name=name, callobj=obj) for _ in range(2)]
"""
ONCE = """
ran = []

def test_once():
    ran.append(1)
    assert len(ran) > 1
"""


def result(test: str, outcome: str = "passed", at: float = 1.0, part: str = "unit") -> Result:
    return Result(part, test, outcome, 60.0, at, "no GPU" if outcome == "skipped" else "")  # type: ignore[arg-type]


def test_every_test_is_in_one_shard_and_always_in_the_same() -> None:
    chosen = [to_run(TESTS, shard, ()) for shard in THREE]
    assert sorted(test for some in chosen for test in some) == sorted(TESTS)
    assert [to_run(TESTS[::-1], shard, ()) for shard in THREE] == chosen
    assert all(some for some in chosen)


def test_a_test_that_only_one_machine_finds_moves_no_other_to_another_shard() -> None:
    for shard in THREE:
        assert to_run([*TESTS, "tests/test_a.py::test_more"], shard, ()) >= to_run(TESTS, shard, ())


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3", "1/3/5"])
def test_a_shard_that_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"write e\.g\. SHARD=1/3"):
        shard_of(text)


def test_without_a_shard_everything_runs() -> None:
    assert to_run(TESTS, shard_of(""), ()) == set(TESTS)


def test_only_what_passed_is_left_out() -> None:
    kept = Kept(
        results={("unit", one.test): one for one in [result("a"), result("b", "failed"), result("c", "skipped")]}
    )
    assert to_run(["a", "b", "c", "d"], Shard(), kept.passed("unit")) == {"b", "c", "d"}


def test_a_test_that_passed_in_one_part_has_not_passed_in_another(tmp_path: Path) -> None:
    keep_result(tmp_path / "a.jsonl", result("fuzz", part="unit"))
    assert not read([tmp_path / "a.jsonl"]).passed("fuzz")


def test_the_later_result_holds_whichever_file_it_is_in(tmp_path: Path) -> None:
    files = [tmp_path / "1of2.jsonl", tmp_path / "2of2.jsonl"]
    keep_result(files[0], result("a", "failed", at=2))
    keep_result(files[1], result("a", "passed", at=1))
    assert not read(files).passed("unit")
    keep_result(files[1], result("a", "passed", at=3))
    assert read(files).passed("unit") == {"a"}


def test_a_line_that_was_cut_off_by_a_kill_is_no_result(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    keep_result(file, result("a"))
    line = file.read_text()
    file.write_text(line + line.replace('"a"', '"b"')[:-20])
    assert read([file]).passed("unit") == {"a"}


def test_a_part_is_done_when_all_of_it_passed_and_not_when_nothing_of_it_was_found() -> None:
    found = frozenset({("e2e", "a"), ("e2e", "b")})
    done = {("e2e", name): result(name, part="e2e") for name in "ab"}
    assert is_done(Kept(found, done), "e2e", Shard())
    assert not is_done(Kept(found, {("e2e", "a"): done["e2e", "a"]}), "e2e", Shard())
    assert not is_done(Kept(), "e2e", Shard())


def test_what_did_not_run_is_said_and_is_not_well() -> None:
    kept = Kept(frozenset({("unit", "a"), ("unit", "b")}), {("unit", "a"): result("a")})
    assert summary(kept, before=1) == "1 passed (1 of them before, on this tree), 0 failed, 0 skipped, 1 did not run"
    assert not kept.all_well
    assert not Kept().all_well


def test_the_page_names_all_that_has_not_passed_and_a_part_of_which_nothing_was_found(tmp_path: Path) -> None:
    some = [result("a.py::a"), result("a.py::b", "failed"), result("a.py::c", "skipped")]
    kept = Kept(
        frozenset({("unit", one.test) for one in some} | {("unit", "a.py::d")}),
        {("unit", one.test): one for one in some},
    )
    text = page(kept, {"Python": "3.11"})
    assert "**Not all is well**: 1 passed, 1 failed, 1 skipped, 1 did not run." in text
    assert "| unit | 1 | 1 | 1 | 1 | 3.0 |" in text
    assert "| e2e | 0 | 0 | 0 | all | 0.0 |" in text
    assert "- unit: `a.py::b`" in text
    assert "- unit: `a.py::d`" in text
    assert "- unit: `a.py::c`: no GPU" in text


def test_a_page_is_well_only_with_all_parts() -> None:
    parts = PARTS
    results = {(part, "a"): result("a", part=part) for part in parts}
    assert "**All is well**" in page(Kept(frozenset(results), results), {})
    del results["e2e", "a"]
    assert "**Not all is well**" in page(Kept(frozenset(results), results), {})


def test_tests_under_one_name_are_told_apart_in_order() -> None:
    assert names_of(["a", "b", "a", "a"]) == ["a", "b", "a (2)", "a (3)"]


@pytest.fixture
def run(tmp_path: Path):  # type: ignore[no-untyped-def]
    """pytest with the plugin on a few tests of its own; returns its exit code and its words."""
    (tmp_path / "test_some.py").write_text(SOME)

    def once(*options: str, **environment: str) -> tuple[int, str]:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "hack.sharding",
            "-p",
            "no:cacheprovider",
            "--part=unit",
            *options,
        ]
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTEST_ADDOPTS": "",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            **environment,
        }
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return once


def test_a_run_keeps_what_became_of_each_test_and_one_that_is_taken_up_again_runs_the_rest(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "kept.jsonl"
    code, _ = run(f"--kept={file}", INTERRUPT="1")
    assert code == pytest.ExitCode.INTERRUPTED
    kept = read([file])
    assert {one.test.partition("::")[2] for one in kept.of("passed")} == {"test_good", "test_other"}
    assert {one.test.partition("::")[2] for one in kept.of("failed")} == {"test_bad", "test_not_taken_down"}
    assert [(one.test.partition("::")[2], one.why) for one in kept.of("skipped")] == [("test_gpu", "no GPU")]
    assert [test.partition("::")[2] for _, test in kept.missing] == ["test_interrupted"]

    code, said = run(f"--kept={file}", f"--passed-in={file}")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "2 deselected" in said
    assert not read([file]).missing


def test_a_shard_of_which_all_has_passed_is_no_failure(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "kept.jsonl"
    for name in ("good", "bad", "other", "gpu", "not_taken_down", "interrupted"):
        keep_result(file, result(f"test_some.py::test_{name}"))
    code, said = run(f"--kept={tmp_path / 'new.jsonl'}", f"--passed-in={file}")
    assert code == pytest.ExitCode.OK, said
    assert "6 deselected" in said


def test_a_failure_is_not_hidden_by_a_test_of_the_same_name_that_passed(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "conftest.py").write_text(TWICE)
    (tmp_path / "test_some.py").write_text(ONCE)
    file = tmp_path / "kept.jsonl"
    run(f"--kept={file}")
    kept = read([file])
    assert [one.test for one in kept.of("failed")] == ["test_some.py::test_once"]
    assert [one.test for one in kept.of("passed")] == ["test_some.py::test_once (2)"]


def test_what_an_option_leaves_out_was_found_and_did_not_run(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "kept.jsonl"
    code, said = run(f"--kept={file}", "-k", "test_good")
    assert code == pytest.ExitCode.OK, said
    assert len(read([file]).missing) == 5


OTHERS = """
import pytest

def test_on_nodes(): pass
@pytest.mark.gpu
def test_on_a_gpu(): pass
"""


@pytest.mark.parametrize("option", ["--only-file=test_nodes.py", "--but-file=test_some.py"])
def test_what_belongs_to_another_part_is_not_found_in_this_one(run, tmp_path: Path, option: str) -> None:  # type: ignore[no-untyped-def]
    """Else a run in which everything passed would never be well."""
    (tmp_path / "test_nodes.py").write_text(OTHERS)
    file = tmp_path / "kept.jsonl"
    code, said = run(f"--kept={file}", option, "-W", "ignore")
    assert code == pytest.ExitCode.OK, said
    kept = read([file])
    assert [test.partition("::")[2] for _, test in kept.found] == ["test_on_nodes"]
    assert kept.all_well


def test_without_a_file_to_keep_results_in_the_plugin_changes_nothing(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    _, said = run("--shard=1/3", "-k", "good or bad or other")
    assert "2 passed" in said
    assert "1 failed" in said
    assert [file.name for file in tmp_path.iterdir() if file.suffix == ".jsonl"] == []


# --- The whole of it -------------------------------------------------------------------------------------------------


PASSES = "import sys; from pathlib import Path; from hack.results import Result, keep_found, keep_result\n"
PASSES += "file = next(Path(one.removeprefix('--kept=')) for one in sys.argv if one.startswith('--kept='))\n"
PASSES += "keep_found(file, 'unit', ['a'])\n"
PASSES += "keep_result(file, Result('unit', 'a', 'passed', 1, 1))\n"


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """hack.full with one part, whose only test passes, and a lint that is fine."""
    monkeypatch.setattr(full, "FOLDER", tmp_path / "kept")
    monkeypatch.setattr(full, "ROOT", tmp_path)
    monkeypatch.setattr(full, "tree", lambda: "0123456789abcdef")
    monkeypatch.setattr(full, "CHECKS", {})
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    part = full.Part("unit", [sys.executable, "-c", PASSES])
    monkeypatch.setattr(full, "PARTS", (part,))
    return tmp_path / "kept"


def test_a_run_in_which_everything_passed_ends_well_and_the_next_one_has_nothing_to_do(
    whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert full.run(Shard(), "0123456789abcdef", resume=False) == 0
    monkeypatch.setattr(full, "PARTS", (full.Part("unit", ["false"]),))
    assert full.run(Shard(), "0123456789abcdef", resume=True) == 0
    assert "1 passed (1 of them before, on this tree), 0 failed, 0 skipped, 0 did not run" in capsys.readouterr().err
    assert full.run(Shard(), "0123456789abcdef", resume=False) == 1


def test_a_part_that_did_not_begin_is_no_success(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full, "PARTS", (*full.PARTS, full.Part("e2e", ["false"])))
    assert full.run(Shard(), "0123456789abcdef", resume=False) == 1
    assert "| e2e | 0 | 0 | 0 | all |" in (whole / "results.md").read_text()


@pytest.mark.parametrize(("command", "code"), [("true", 0), ("false", 1)])
def test_a_check_is_one_test_more(whole: Path, monkeypatch: pytest.MonkeyPatch, command: str, code: int) -> None:
    monkeypatch.setattr(full, "CHECKS", {"lint": [command]})
    assert full.run(Shard(), "0123456789abcdef", resume=False) == code
    assert ("lint", command) in read(whole.glob("*.jsonl")).found
    assert full.run(Shard(), "0123456789abcdef", resume=True) == code


def test_results_of_another_tree_are_none(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert full.run(Shard(), "0123456789abcdef", resume=False) == 0
    monkeypatch.setattr(full, "PARTS", (full.Part("unit", ["false"]),))
    monkeypatch.setattr(full, "tree", lambda: "fedcba9876543210")
    assert full.run(Shard(), "fedcba9876543210", resume=True) == 1


def test_a_tree_that_changes_meanwhile_has_no_results(whole: Path) -> None:
    assert full.run(Shard(), "fedcba9876543210", resume=False) == 1
    assert not list(whole.glob("*.jsonl"))


def test_the_tree_has_another_name_when_a_file_is_added_changed_or_not_committed_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full, "ROOT", tmp_path)

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "one")
    names = [full.tree()]
    (tmp_path / "b").write_text("2")
    names.append(full.tree())
    (tmp_path / "a").write_text("3")
    names.append(full.tree())
    assert len(set(names)) == 3
    git("add", "--all")
    git("commit", "-m", "two")
    assert full.tree() == names[-1]


def test_outside_a_checkout_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full, "ROOT", tmp_path)
    with pytest.raises(RuntimeError, match="git's name for the tree"):
        full.tree()


def test_the_tests_that_were_found_are_kept_though_nothing_of_them_runs(tmp_path: Path) -> None:
    keep_found(tmp_path / "a.jsonl", "e2e", ["b", "a"])
    assert json.loads((tmp_path / "a.jsonl").read_text()) == {"part": "e2e", "found": ["a", "b"]}
    assert read([tmp_path / "a.jsonl"]).missing == [("e2e", "a"), ("e2e", "b")]
