"""A pytest plugin for `make test-full`: of all tests only a shard, without those that have passed on this tree; results are kept.

Loaded by hack/full.py with `-p hack.sharding`; without `--kept` it does nothing.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from hack.results import Outcome, Result, keep_found, keep_result, read, shard_of, to_run


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("make test-full")
    group.addoption("--kept", type=Path, help="file to which results are appended")
    group.addoption("--part", default="", help="name under which they are kept")
    group.addoption("--shard", default="", help="which tests: 1/3 is the first of three shards")
    group.addoption("--only-file", default="", help="the part is this file's tests")
    group.addoption("--but-file", default="", help="the part is the others' tests: this one's are another part's")
    group.addoption("--passed-in", action="append", type=Path, default=[], help="leave out what passed in this file")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("kept"):
        config.pluginmanager.register(Sharding(config), "pinn-sharding")


class Sharding:
    """One run of pytest."""

    def __init__(self, config: pytest.Config) -> None:
        self.file: Path = config.getoption("kept")
        self.part: str = config.getoption("part")
        self.only: str = config.getoption("only_file")
        self.but: str = config.getoption("but_file")
        self.shard = shard_of(config.getoption("shard"))
        self.passed = read(config.getoption("passed_in")).passed(self.part)
        self.names: dict[str, list[str]] = defaultdict(list)
        self.reports: dict[str, list[pytest.TestReport]] = defaultdict(list)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Before -k and -m: what they leave out was found, and did not run."""
        mine = [item for item in items if self.has(item)]
        found = dict(zip(names_of([item.nodeid for item in mine]), mine, strict=True))
        keep_found(self.file, self.part, found)
        chosen = to_run(found, self.shard, self.passed)
        kept = [item for name, item in found.items() if name in chosen]
        others = set(items).difference(kept)
        config.hook.pytest_deselected(items=[item for item in items if item in others])
        items[:] = kept
        for name, item in found.items():
            if name in chosen:
                self.names[item.nodeid].append(name)

    def has(self, item: pytest.Item) -> bool:
        """Whether it belongs to this part at all; what needs a GPU belongs to `make test-gpu`."""
        file = item.nodeid.partition("::")[0]
        return self.only in ("", file) and file != self.but and item.get_closest_marker("gpu") is None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.reports[report.nodeid].append(report)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Over, with its teardown. A test that is interrupted never comes here."""
        reports = self.reports.pop(nodeid, [])
        seconds = round(sum(report.duration for report in reports), 3)
        why = next((_reason(report) for report in reports if report.skipped), "")
        keep_result(
            self.file, Result(self.part, self.names[nodeid].pop(0), outcome_of(reports), seconds, time.time(), why)
        )

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """A shard may have nothing left to run."""
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK


def names_of(tests: Sequence[str]) -> list[str]:
    """Each test's own name: a test that is made from a description may be there many times under one (schemathesis)."""
    seen = Counter[str]()
    names = []
    for test in tests:
        seen[test] += 1
        names.append(test if seen[test] == 1 else f"{test} ({seen[test]})")
    return names


def outcome_of(reports: Sequence[pytest.TestReport]) -> Outcome:
    """Passed is what was set up, run and taken down without a complaint."""
    if any(report.failed for report in reports):
        return "failed"
    ran = any(report.when == "call" and report.passed for report in reports)
    return "passed" if ran and all(report.passed for report in reports) else "skipped"


def _reason(report: pytest.TestReport) -> str:
    told = report.longrepr
    return str(told[2]).removeprefix("Skipped: ") if isinstance(told, tuple) else "expected to fail"
