"""The page for troubled users knows every reason that an object can give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pinn_operator.api.plan import Phase
from pinn_operator.plugin.explain import ELSEWHERE, REASONS

from tests.unit.documents import lines

HOW_TO = Path(__file__).parents[2] / "docs/how-to"
PAGE = HOW_TO / "troubleshoot.md"
NO_REASONS = {"NoStatus"}
"""Of the command line alone: there is no condition yet."""


@pytest.mark.parametrize("reason", sorted({*(phase.value for phase in Phase), *REASONS} - NO_REASONS))
def test_a_reason_of_a_condition_is_explained(reason: str) -> None:
    page = PAGE.read_text()
    headed = any(reason in title.split(", ") for title in re.findall(r"^### (.+)$", page, re.MULTILINE))
    assert headed or f"| `{reason}` |" in page, (
        f"docs/how-to/troubleshoot.md has neither a section nor a row for {reason}"
    )


@pytest.mark.parametrize("reason", sorted(reason for name, reason in ELSEWHERE if name == "GpuSatisfied"))
def test_a_reason_of_gpus_is_explained(reason: str) -> None:
    assert re.search(rf"^\| (?:True|False) \| .*`{reason}`", (HOW_TO / "gpu.md").read_text(), re.MULTILINE)


def test_who_only_takes_finalizers_off_is_told_no_command_that_deletes_or_is_about_every_object() -> None:
    """Three pages lead to this section, two of them people who want to keep their objects."""
    _, _, section = (HOW_TO / "install.md").read_text().partition("\n### If the operator was not running\n")
    kept, _, removed = section.partition("\n#### Only if you are removing everything\n")
    told, all_gone = lines(kept), lines(removed)
    assert told
    assert not [line for line in told if " delete " in line or " -A" in line or " --all" in line]
    assert any(line.startswith("kubectl delete -k") for line in all_gone)


def test_one_object_that_does_not_go_away_has_a_command_of_its_own() -> None:
    _, _, section = PAGE.read_text().partition("does not go away\n")
    (line,) = lines(section)
    assert line.startswith("kubectl -n NS patch pinn NAME ")
