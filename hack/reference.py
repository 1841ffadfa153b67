"""docs/reference/cli.md from the commands themselves: `python -m hack.reference` writes it, `--check` says whether it is current.

The parsers are walked and not their help printed: that differs between versions of Python and of the libraries.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import typer
from pinn_inference.cli import _parser as server_parser
from pinn_inference.training.cli import app as train
from pinn_operator.cli import app as operator
from pinn_operator.plugin.app import app as plugin

ROOT: Final = Path(__file__).parents[1]
FILE: Final = Path("docs/reference/cli.md")
AGAIN: Final = "python -m hack.reference"

HEAD: Final = f"""# The commands

<!-- Generated from the commands by `{AGAIN}`; do not edit. -->

`COMMAND --help` says the same at a terminal. How `kubectl pinn` is used: [the command line](../how-to/command-line.md);
the settings of the server: [pinn-server](server.md).
"""


@dataclass(frozen=True)
class Option:
    """An option or an argument as it is written, and what it is for."""

    written: str
    said: str


@dataclass(frozen=True)
class Command:
    """One command with its options; `arguments` as they stand in its usage."""

    name: str
    said: str
    arguments: tuple[str, ...]
    options: tuple[Option, ...]


def page() -> str:
    """The whole page."""
    programs: tuple[tuple[str, Iterator[Command]], ...] = (
        ("kubectl pinn", _of_click("kubectl pinn", plugin)),
        ("pinn-operator", _of_click("pinn-operator", typer.main.get_command(operator))),
        ("pinn-server", _of_argparse("pinn-server", server_parser(), "A model server for PINNs.")),
        ("pinn-train", _of_click("pinn-train", typer.main.get_command(train))),
    )
    return HEAD + "".join(_section(command) for _, commands in programs for command in commands)


def _section(command: Command) -> str:
    level = "##" if command.name in ("kubectl pinn", "pinn-operator", "pinn-server", "pinn-train") else "###"
    usage = " ".join([command.name, *command.arguments, *(["[OPTIONS]"] if command.options else [])])
    said = command.said.strip()
    parts = [f"\n{level} {command.name}\n", f"\n{said[:1].upper()}{said[1:]}\n"]
    if level == "###":
        parts.append(f"\n```\n{usage}\n```\n")
    if command.options:
        rows = (f"| `{one.written}` | {one.said} |\n" for one in command.options)
        parts.append("\n| option | meaning |\n|---|---|\n" + "".join(rows))
    return "".join(parts)


# --- click, and typer, which is much the same ------------------------------------------------------------------------


def _of_click(name: str, command: Any) -> Iterator[Command]:
    arguments = tuple(_argument(one) for one in command.params if one.param_type_name == "argument")
    options = (one for one in command.params if one.param_type_name == "option" and one.name != "help")
    said = inspect.cleandoc(command.help or "")
    yield Command(name, said, arguments, tuple(_option(one) for one in options))
    for below, child in getattr(command, "commands", {}).items():
        yield from _of_click(f"{name} {below}", child)


def _argument(param: Any) -> str:
    return str(param.metavar or param.name.upper())


def _option(param: Any) -> Option:
    value = "" if param.is_flag else f" {_value(param)}"
    said = _cell(param.help or "")
    if not param.is_flag and isinstance(param.default, str | int | float) and param.default != "":
        said = f"{said} Default: `{param.default}`."
    return Option(", ".join(sorted(param.opts, key=len, reverse=True)) + value, said)


def _value(param: Any) -> str:
    choices = getattr(getattr(param, "type", None), "choices", None)
    return str(param.metavar or ("\\|".join(choices) if choices else param.name.upper()))


# --- argparse --------------------------------------------------------------------------------------------------------


def _of_argparse(name: str, parser: argparse.ArgumentParser, said: str) -> Iterator[Command]:
    actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    below = [action for action in actions if isinstance(action, argparse._SubParsersAction)]
    rest = [action for action in actions if action not in below]
    arguments = tuple(f"[{one.dest.upper()}]" for one in rest if not one.option_strings)
    yield Command(name, parser.description or said, arguments, tuple(_from(one) for one in rest if one.option_strings))
    for group in below:
        told = {one.dest: one.help or "" for one in group._choices_actions}
        for child, command in group.choices.items():
            yield from _of_argparse(f"{name} {child}", command, told.get(child, ""))


def _from(action: argparse.Action) -> Option:
    takes = action.nargs != 0
    value = f" {action.metavar or '|'.join(action.choices or ()) or action.dest.upper()}" if takes else ""
    said = (action.help or "").replace("%%", "%")
    return Option(", ".join(action.option_strings) + value.replace("|", "\\|"), _cell(said))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# --- The command -----------------------------------------------------------------------------------------------------


def is_current(root: Path = ROOT) -> bool:
    return (root / FILE).is_file() and (root / FILE).read_text() == page()


def main(arguments: list[str]) -> int:
    """Exit code 1 when `--check` finds the page out of date."""
    if "--check" not in arguments:
        (ROOT / FILE).write_text(page())
        return 0
    if is_current():
        return 0
    print(f"{FILE} is out of date; run: {AGAIN}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
