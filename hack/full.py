"""`make test-full`: lint, documents, unit tests, 100,000 generated requests, all tests on the cluster; in shards, resumable.

SHARD=1/3 runs the first third of it. RESUME=1 leaves out what has passed on this very tree (committed or not) and this Python.
Results are in build/test-full/, a file for each shard, with a page of all there are; files of other machines may be put beside.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from hack.results import Kept, Outcome, Result, Shard, is_done, keep_found, keep_result, page, read, shard_of, summary

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "test-full"
CHECKS = {"lint": ["hack/lint"], "docs": ["make", "docs"]}
"""Each is one test, as far as shards and results go."""


@dataclass(frozen=True, slots=True)
class Part:
    """One command that runs tests; `plugin` are pytest's options of this program's own."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


PYTEST = [sys.executable, "-m", "pytest"]
CHOSEN = shlex.split(os.environ.get("PYTEST_ARGS", ""))
NODES = "tests/e2e/test_nodes.py"
"""These need three nodes, and the others are quicker on one."""
FUZZED = ("inference/tests/fuzz", "inference/tests/formats/test_refusals.py")
PARTS = (
    Part("unit", [*PYTEST, *CHOSEN]),
    Part("fuzz", [*PYTEST, "--timeout", "0", *FUZZED, *CHOSEN], {"PINN_FUZZ_CASES": "100000"}),
    Part("nodes", [sys.executable, "-m", "hack.e2e", f"--only-file={NODES}"], {"FULL": "1", "NODES": "3"}),
    Part("e2e", [sys.executable, "-m", "hack.e2e", f"--but-file={NODES}"], {"FULL": "1"}),
)


def main(arguments: list[str]) -> int:
    """Exit code 0: of this shard everything ran, and nothing failed."""
    try:
        shard, before = shard_of(os.environ.get("SHARD", "")), tree()
    except (ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments == ["page"]:
        print(page(read(files_of(before)), facts(before)), end="")
        return 0
    return run(shard, before, resume=bool(os.environ.get("RESUME")))


def run(shard: Shard, before: str, *, resume: bool) -> int:
    """The parts, one after the other: a failure in one of them is no reason not to know about the others."""
    file = FOLDER / f"{name_of(before)}-{shard.number}of{shard.of}.jsonl"
    earlier = files_of(before) if resume else []
    known = read(earlier).within(shard)
    if resume:
        say(f"shard {shard}: {len(known.of('passed'))} tests passed before on this tree and are left out")
    else:
        file.unlink(missing_ok=True)
    ok = []
    try:
        ok = [check(name, command, file, shard, known) for name, command in CHECKS.items()]
        ok += [run_part(part, file, shard, known, earlier) for part in PARTS]
    except KeyboardInterrupt:
        say("interrupted; RESUME=1 make test-full goes on from here")
    if tree() != before:
        file.unlink(missing_ok=True)
        say("files were changed while the tests ran: nobody knows what they were about, and no result is kept")
        return 1
    kept = read({file, *earlier}).within(shard)
    (FOLDER / "results.md").write_text(page(read(files_of(before)), facts(before)))
    say(f"shard {shard}: {summary(kept, len(known.of('passed')))}")
    say(f"all shards that are kept here: {FOLDER.relative_to(ROOT)}/results.md")
    return 0 if ok and all(ok) and kept.all_well else 1


def check(name: str, command: list[str], file: Path, shard: Shard, known: Kept) -> bool:
    """Run it, unless another shard does or it has passed."""
    test = " ".join(command)
    keep_found(file, name, [test])
    if not shard.has(test) or test in known.passed(name):
        return True
    began = time.time()
    passed = subprocess.run(command, check=False, cwd=ROOT).returncode == 0
    outcome: Outcome = "passed" if passed else "failed"
    keep_result(file, Result(name, test, outcome, round(time.time() - began, 1), time.time()))
    return passed


def run_part(part: Part, file: Path, shard: Shard, known: Kept, earlier: list[Path]) -> bool:
    """One part, unless all of it has passed: the end-to-end tests bring up a cluster before they know."""
    if is_done(known, part.name, shard):
        say(f"{part.name}: everything in this shard has passed before on this tree")
        return True
    say(part.name)
    options = ["-p", "hack.sharding", f"--part={part.name}", f"--shard={shard}", f"--kept={file}"]
    options += [f"--passed-in={one}" for one in earlier]
    done = subprocess.run([*part.command, *options], check=False, cwd=ROOT, env=os.environ | part.environment)
    if done.returncode:
        say(f"{part.name}: ended with exit code {done.returncode}")
    return done.returncode == 0


def files_of(of_tree: str) -> list[Path]:
    """All that is kept about a tree, of this Python."""
    return sorted(FOLDER.glob(f"{name_of(of_tree)}-*.jsonl"))


def name_of(of_tree: str) -> str:
    """What passed on one Python has not on another."""
    return f"{of_tree[:12]}-py{sys.version_info.major}.{sys.version_info.minor}"


def tree() -> str:
    """Git's name for the files as they are, committed or not, but for those that it ignores. RuntimeError outside a checkout."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"GIT_INDEX_FILE": f"{folder}/index"}
        for command in (["read-tree", "HEAD"], ["add", "--all"], ["write-tree"]):
            done = subprocess.run(
                ["git", *command], cwd=ROOT, env=environment, check=False, capture_output=True, text=True
            )
            if done.returncode:
                raise RuntimeError(
                    f"results are kept by git's name for the tree: git {command[0]}: {done.stderr.strip()}"
                )
    return done.stdout.strip()


def facts(of_tree: str) -> dict[str, str]:
    """What a reader must know to judge the figures."""
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": head.stdout.strip(),
        "tree": of_tree[:12],
        "Python": platform.python_version(),
        "cores": f"{os.cpu_count()}",
        "load": f"{os.getloadavg()[0]:.0f}",
    }


def say(text: str) -> None:
    print(f"==> {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
