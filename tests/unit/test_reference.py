"""The page of the commands says what the commands say."""

from __future__ import annotations

from pathlib import Path

from hack import reference


def test_the_page_of_the_commands_is_up_to_date() -> None:
    assert reference.is_current(), f"run: {reference.AGAIN}"


def test_a_page_that_was_edited_or_is_missing_is_out_of_date(tmp_path: Path) -> None:
    assert not reference.is_current(tmp_path)
    file = tmp_path / reference.FILE
    file.parent.mkdir(parents=True)
    file.write_text(reference.page().replace("Do not ask.", "Ask."))
    assert not reference.is_current(tmp_path)


def test_every_program_and_its_commands_are_on_it() -> None:
    page = reference.page()
    for command in (
        "kubectl pinn undo",
        "pinn-operator verify",
        "pinn-server models fetch",
        "pinn-train black-scholes",
    ):
        assert f"\n### {command}\n" in page
    assert "`--yes, -y`" in page
    assert "`--output, -o text\\|json\\|yaml`" in page
