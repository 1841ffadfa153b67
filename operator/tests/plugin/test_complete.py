"""What is suggested on the command line."""

from __future__ import annotations

import pytest
from pinn_operator.plugin.complete import FILES, NO_FILES, suggested
from tests.plugin.conftest import Run
from tests.plugin.fake_api import FakeApi
from tests.plugin.given_pinn import settled


def offered(*words: str) -> list[str]:
    return [line.partition("\t")[0] for line in suggested(words)]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["re"], ["report", "resume", "retry", NO_FILES]),
        (["status", "-o", "y"], ["yaml", NO_FILES]),
        (["completion", ""], ["bash", "zsh", "fish", NO_FILES]),
        (["undo", "--y"], ["--yes", NO_FILES]),
        (["golive", "--tests", ""], [FILES]),
    ],
)
def test_what_may_come_next(words: list[str], found: list[str]) -> None:
    assert sorted(offered(*words)) == sorted(found)


def test_objects_of_the_cluster_are_offered_by_name(api: FakeApi) -> None:
    api.pinn(settled())
    assert offered("promote", "pr") == ["pricer", NO_FILES]
    assert offered("promote", "-n", "prod", "") == [NO_FILES]
    api.installed = False
    assert offered("promote", "") == [NO_FILES], "no cluster is no error while somebody types"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_printed(shell: str, run: Run) -> None:
    done = run("completion", shell)
    assert done.exit_code == 0
    assert "_KUBECTL_PINN_COMPLETE" in done.output
