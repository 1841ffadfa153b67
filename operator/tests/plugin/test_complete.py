"""What is suggested on the command line."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from pinn_operator.plugin.app import app
from pinn_operator.plugin.complete import SCRIPTS, suggested, takes_files
from typer.main import get_command

COMMANDS = getattr(get_command(app), "commands")  # noqa: B009 - typer's group has it, its declared type does not


def offered(*words: str) -> list[str]:
    return [line.partition("\t")[0] for line in suggested(words, COMMANDS, lambda: ["pricer", "swaptions"])]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["re"], ["report", "retry", "resume"]),
        (["promote", ""], ["pricer", "swaptions"]),
        (["promote", "sw"], ["swaptions"]),
        (["promote", "-n", "demo", ""], ["pricer", "swaptions"]),
        (["promote", "pricer", ""], []),
        (["status", "-o", "y"], ["yaml"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["undo", "--y"], ["--yes"]),
        (["nonsense", ""], []),
    ],
)
def test_what_may_come_next(words: list[str], found: list[str]) -> None:
    assert sorted(offered(*words)) == sorted(found)


def test_files_are_offered_where_one_is_meant() -> None:
    assert takes_files(["validate", ""])
    assert takes_files(["golive", "--tests", ""])
    assert not takes_files(["promote", ""])


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_script_of_a_shell_is_printed(shell: str, run: Any) -> None:
    done = run("completion", shell)
    assert done.exit_code == 0
    assert "kubectl_complete-pinn" in done.output


def test_bash_takes_its_script() -> None:
    subprocess.run(["bash", "-n"], input=SCRIPTS["bash"], text=True, check=True)
