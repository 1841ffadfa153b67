"""The pictures in docs/how-to/command-line.md are what the commands print: `UPDATE_GOLDEN=1 pytest FILE` makes them anew."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pinn_operator.plugin.explain import explained, page
from pinn_operator.plugin.standing import standing_of
from pinn_operator.plugin.tree import table, tree
from rich.console import Console
from tests.golden import assert_golden
from tests.plugin.given_pinn import NOW, pinn, sent_back, settled, stepping

SCREENS = Path(__file__).parents[3] / "docs/screens"
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""They would come from elsewhere; the page of the documents asks nobody for anything."""

NAMES = ("risk-desk", "option-pricer", "heat-sink")


def status(obj: dict[str, Any]) -> Sequence[Any]:
    return [tree(standing_of(obj), NOW)]


def explain(obj: dict[str, Any]) -> Sequence[Any]:
    found = standing_of(obj)
    return [page(found, explained(found, NOW), NOW)]


def statuses() -> Sequence[Any]:
    objects = [settled(), stepping(), pinn("1.0.0") | {"status": {}}]
    return table(
        [
            standing_of(obj | {"metadata": obj["metadata"] | {"name": name}})
            for obj, name in zip(objects, NAMES, strict=True)
        ]
    )


CASES = {
    "status": ("kubectl pinn status pricer", 120, status(stepping())),
    "status-of-all": ("kubectl pinn status", 175, statuses()),
    "explain": ("kubectl pinn explain pricer", 120, explain(sent_back())),
}


@pytest.mark.parametrize("name", CASES)
def test_a_screen_of_the_documents_is_what_the_command_prints(name: str) -> None:
    command, width, parts = CASES[name]
    console = Console(file=io.StringIO(), record=True, width=width, highlight=False, force_terminal=True)
    for part in parts:
        console.print(part)
    svg = FONTS.sub("", console.export_svg(title=command, unique_id=name))
    assert "url(http" not in svg.replace('"', ""), "a picture that asks somebody for something"
    assert_golden(SCREENS / f"{name}.svg", "\n".join(line.rstrip() for line in svg.splitlines()) + "\n")
