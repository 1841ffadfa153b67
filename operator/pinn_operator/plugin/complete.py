"""`kubectl_complete-pinn`: kubectl runs it for `kubectl pinn <TAB>` and reads one suggestion a line, then a directive."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Final

FILES: Final = ":0"
NO_FILES: Final = ":4"
"""cobra's ShellCompDirectiveDefault and ShellCompDirectiveNoFileComp."""


def suggested(words: Sequence[str]) -> Iterator[str]:
    """What may stand in place of the last word."""
    from click.shell_completion import ShellComplete

    from pinn_operator.plugin.app import app
    from pinn_operator.plugin.options import PROGRAM, VARIABLE

    *before, incomplete = words or [""]
    found = ShellComplete(app, {}, PROGRAM, VARIABLE).get_completions(before, incomplete)
    for one in found:
        if one.type == "plain":
            yield f"{one.value}\t{one.help}" if one.help else one.value
    yield FILES if any(one.type in ("file", "dir") for one in found) else NO_FILES


def main() -> None:
    """The entry point."""
    for line in suggested(sys.argv[1:]):
        print(line)
