"""The page for troubled users knows every reason that an object can give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pinn_operator.api.plan import Phase
from pinn_operator.plugin.explain import ELSEWHERE, REASONS

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
