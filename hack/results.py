"""What became of each test of `make test-full`: kept line by line as it happens, so that a run can be divided and taken up again.

What did not run has not passed: a test has passed, failed or been skipped, or it was found and nothing is kept of it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["passed", "failed", "skipped"]
Test = tuple[str, str]
"""The part it belongs to and pytest's name for it: the fuzz tests run twice, with other numbers of cases."""

PARTS = ("lint", "docs", "unit", "fuzz", "nodes", "e2e")
LISTED = 50
"""Tests that a page names one by one."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One of so many parts of the tests, counted from 1."""

    number: int = 1
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, test: str) -> bool:
        """By the test's name alone, so that machines that find different tests agree about those that both of them find."""
        return int(hashlib.sha256(test.encode()).hexdigest(), 16) % self.of == self.number - 1


def shard_of(text: str) -> Shard:
    """What SHARD says. ValueError with the remedy."""
    number, _, of = (text or "1/1").partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise ValueError(f'SHARD is "{text}"; write e.g. SHARD=1/3: the first of three')
    return Shard(int(number), int(of))


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one test. `at` in seconds since 1970; `why` of one that was skipped."""

    part: str
    test: str
    outcome: Outcome
    seconds: float
    at: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """All that is known about one tree: the tests that were found, and the last result of each that ran."""

    found: frozenset[Test] = frozenset()
    results: Mapping[Test, Result] = field(default_factory=dict)

    def within(self, shard: Shard) -> Kept:
        """What is known about one shard."""
        return Kept(
            frozenset(test for test in self.found if shard.has(test[1])),
            {test: result for test, result in self.results.items() if shard.has(test[1])},
        )

    def of(self, outcome: Outcome) -> list[Result]:
        """The results that are so, in order."""
        return [self.results[test] for test in sorted(self.results) if self.results[test].outcome == outcome]

    def passed(self, part: str) -> frozenset[str]:
        """The tests of a part that need not run again."""
        return frozenset(one.test for one in self.of("passed") if one.part == part)

    @property
    def missing(self) -> list[Test]:
        """Found, and nothing is kept of them."""
        return sorted(self.found - set(self.results))

    @property
    def all_well(self) -> bool:
        """Something ran, nothing failed, and nothing is missing. What was skipped is named, not counted as passed."""
        return bool(self.found) and not self.missing and not self.of("failed")


def to_run(found: Collection[str], shard: Shard, passed: Collection[str]) -> frozenset[str]:
    """Of the tests that were found, those of the shard that have not passed yet."""
    return frozenset(test for test in found if shard.has(test) and test not in passed)


def is_done(kept: Kept, part: str, shard: Shard) -> bool:
    """Whether all of a part that the shard has, as it was found before on this tree, has passed."""
    found = [test for of, test in kept.found if of == part]
    return bool(found) and not to_run(found, shard, kept.passed(part))


# --- Kept in files ---------------------------------------------------------------------------------------------------


def keep(file: Path, line: Mapping[str, Any]) -> None:
    """One line more, written at once: who is killed has kept what was over."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def keep_found(file: Path, part: str, tests: Iterable[str]) -> None:
    """The tests of a part, whatever of it runs."""
    keep(file, {"part": part, "found": sorted(tests)})


def keep_result(file: Path, result: Result) -> None:
    """What became of a test."""
    keep(file, asdict(result))


def read(files: Iterable[Path]) -> Kept:
    """What they hold together; of two results of a test the later one holds. A line that was cut off by a kill is none."""
    found, results = set[Test](), dict[Test, Result]()
    for line in _lines(files):
        if "found" in line:
            found |= {(line["part"], test) for test in line["found"]}
            continue
        result = Result(**line)
        before = results.get((result.part, result.test))
        if before is None or before.at <= result.at:
            results[result.part, result.test] = result
    return Kept(frozenset(found | set(results)), results)


def _lines(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for file in sorted(file for file in files if file.exists()):
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


# --- Said ------------------------------------------------------------------------------------------------------------


def summary(kept: Kept, before: int = 0) -> str:
    """One line. `before` are those among the passed that did not have to run again."""
    passed, failed, skipped = (len(kept.of(outcome)) for outcome in ("passed", "failed", "skipped"))
    again = f" ({before} of them before, on this tree)" if before else ""
    return f"{passed} passed{again}, {failed} failed, {skipped} skipped, {len(kept.missing)} did not run"


def page(kept: Kept, facts: Mapping[str, str]) -> str:
    """The same for docs/: by part, the end-to-end tests by file, and by name all that has not passed."""
    files = sorted({_file(test) for part, test in kept.found if part == "e2e"})
    rows = [_row(part, kept, {test for test in kept.found if test[0] == part}) for part in PARTS]
    ends = [
        _row(f"`{file}`", kept, {test for test in kept.found if test[0] == "e2e" and _file(test[1]) == file})
        for file in files
    ]
    well = kept.all_well and {part for part, _ in kept.found} == set(PARTS)
    return "\n".join(
        [
            "# The last run of every test",
            "",
            "Written by `make test-full`; do not edit. "
            + "; ".join(f"{name}: {fact}" for name, fact in facts.items())
            + ". What needs a GPU is not in it: `make test-gpu`.",
            "",
            f"**{'All is well' if well else 'Not all is well'}**: {summary(kept)}.",
            "",
            *_table("part", rows),
            *(["", *_table("end-to-end tests", ends)] if ends else []),
            *_named("Failed", [(one.part, one.test, "") for one in kept.of("failed")]),
            *_named("Did not run", [(part, test, "") for part, test in kept.missing]),
            *_named("Skipped", [(one.part, one.test, one.why) for one in kept.of("skipped")]),
            "",
        ]
    )


def _file(test: str) -> str:
    return test.partition("::")[0].rpartition("/")[2]


def _row(name: str, kept: Kept, tests: Collection[Test]) -> str:
    some = [kept.results[test] for test in tests if test in kept.results]
    counts = Counter(one.outcome for one in some)
    missing = len(tests) - len(some) if tests else "all"
    minutes = sum(one.seconds for one in some) / 60
    return f"| {name} | {counts['passed']} | {counts['failed']} | {counts['skipped']} | {missing} | {minutes:.1f} |"


def _table(of: str, rows: list[str]) -> list[str]:
    return [f"| {of} | passed | failed | skipped | did not run | minutes |", "|---|---|---|---|---|---|", *rows]


def _named(title: str, tests: list[tuple[str, str, str]]) -> list[str]:
    if not tests:
        return []
    lines = [f"- {part}: `{test}`{f': {why}' if why else ''}" for part, test, why in tests[:LISTED]]
    more = [f"- and {len(tests) - LISTED} more"] if len(tests) > LISTED else []
    return ["", f"## {title}", "", *lines, *more]
