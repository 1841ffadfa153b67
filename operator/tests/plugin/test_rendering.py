"""What a person reads, in full: the tree, the table, the explanations. Look at whether you would understand it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, get_args

import pytest
from pinn_operator.api.plan import Phase
from pinn_operator.api.status import Verdict
from pinn_operator.plugin.explain import REASONS, VERDICTS, explained, page
from pinn_operator.plugin.past import past
from pinn_operator.plugin.standing import standing_of
from pinn_operator.plugin.tree import table, tree
from pinn_operator.plugin.undo import records as read_records
from rich.console import Console
from tests.golden import assert_golden
from tests.plugin.given_pinn import NOW, condition, deleted, ended, gate, pinn, records, sent_back, settled, stepping
from tests.report.finished import promoted, rolled_back

GOLDEN = Path(__file__).parent / "golden"

CASES = {
    "settled": settled(history=[ended(promoted())]),
    "stepping": stepping(),
    "rolled-back": sent_back(),
    "no-status": pinn("1.0.0") | {"status": {}},
    "outdated": settled(observedGeneration=2),
    "deleting": deleted(settled(), "pinn.dev/finalizer", "example.com/backup"),
}


def shown(*parts: Any, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    for part in parts:
        console.print(part)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]  # it is the StringIO above
    return "\n".join(line.rstrip() for line in lines) + "\n"


@pytest.mark.parametrize("name", CASES)
def test_an_object_as_a_tree_and_what_there_is_to_explain(name: str) -> None:
    found = standing_of(CASES[name])
    text = shown(tree(found, NOW)) + "\n" + page(found, explained(found, NOW), NOW) + "\n"
    assert_golden(GOLDEN / f"{name}.txt", text)


def test_several_objects_are_a_table_with_a_line_each() -> None:
    assert_golden(GOLDEN / "table.txt", shown(*table([standing_of(obj) for obj in CASES.values()]), width=200))


def test_the_history_has_what_ended_and_what_can_be_returned_to() -> None:
    obj = sent_back(history=[ended(promoted()), ended(rolled_back())])
    assert_golden(GOLDEN / "history.txt", past(standing_of(obj), read_records(records())) + "\n")


def test_a_cluster_without_a_running_operator_is_the_first_thing_to_hear() -> None:
    found = standing_of(stepping())
    assert explained(found, NOW, operators=0)[0].title == "the operator does not run"
    assert all(finding.title != "the operator does not run" for finding in explained(found, NOW, operators=None))


def test_an_object_that_no_operator_has_looked_at_is_told_so_without_a_number() -> None:
    """The definition's default says -1."""
    found = standing_of(pinn("1.0.0", {"observedGeneration": -1}))
    (finding,) = explained(found, NOW)
    assert (finding.title, finding.why, finding.needs) == ("the operator has not looked at this spec yet", "", True)
    assert finding.means.startswith("the operator has written nothing about it")
    assert "-1" not in shown(tree(found, NOW))


@pytest.mark.parametrize(
    ("finalizers", "operators", "needs", "said"),
    [
        (("pinn.dev/finalizer",), 2, False, "then takes pinn.dev/finalizer off"),
        (("pinn.dev/finalizer",), 0, True, "off, but it does not run"),
        (("pinn.dev/finalizer", "a/b"), 2, True, "a/b: whoever set it has to take it off"),
        ((), 2, False, "what still holds it: nothing"),
    ],
)
def test_what_holds_an_object_that_is_being_deleted_is_told(
    finalizers: tuple[str, ...], operators: int, needs: bool, said: str
) -> None:
    found = explained(standing_of(deleted(settled(), *finalizers)), NOW, operators)
    (one,) = [finding for finding in found if finding.title == "it is being deleted"]
    assert said in f"{one.why}; {one.means}"
    assert found[0].needs is needs


def test_the_condition_of_an_object_that_is_being_deleted_is_not_told_twice() -> None:
    obj = deleted(pinn("1.0.0", {"conditions": [condition("Ready", False, "Deleting", "removing 3 children")]}))
    assert [one.title for one in explained(standing_of(obj), NOW)] == ["it is being deleted"]


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_of_the_operator_is_explained(phase: Phase) -> None:
    assert REASONS[phase.value].means


@pytest.mark.parametrize(
    "reason",
    [
        "ChildRefused",
        "PodsRefused",
        "PodsNotStarting",
        "ProgressDeadlineExceeded",
        "Unavailable",
        "NotUnderstood",
        "RollingBack",
    ],
)
def test_every_trouble_has_something_to_do(reason: str) -> None:
    obj = pinn("1.0.0", {"conditions": [condition("Ready", False, reason, "because of this")]})
    found = explained(standing_of(obj), NOW)
    assert found[0].needs
    assert found[0].do
    assert "because of this" in found[0].why
    assert "{" not in "".join(found[0].do), "a placeholder was left"


@pytest.mark.parametrize(
    ("name", "holds", "reason"),
    [("Contested", True, "ChildChanged"), ("GpuSatisfied", False, "Unschedulable"), ("GpuSatisfied", False, "Refused")],
)
def test_what_a_person_has_to_end_is_explained_though_the_object_is_ready(name: str, holds: bool, reason: str) -> None:
    said = [condition("Ready", True, "Serving", ""), condition(name, holds, reason, "by whom")]
    obj = pinn("1.0.0", {"conditions": said})
    (found, *_) = explained(standing_of(obj), NOW)
    assert found.needs
    assert "by whom" in found.why


@pytest.mark.parametrize("reason", ["OnCpus", "Starting"])
def test_gpus_that_are_waited_for_need_nobody(reason: str) -> None:
    said = [condition("Ready", True, "Serving", ""), condition("GpuSatisfied", False, reason, "2 of 3")]
    obj = pinn("1.0.0", {"conditions": said})
    (found, *_) = explained(standing_of(obj), NOW)
    assert not found.needs
    assert "first revision" not in found.means


@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_every_verdict_is_explained(verdict: str) -> None:
    assert VERDICTS[verdict].means


def test_a_reason_of_a_newer_operator_is_still_told() -> None:
    obj = pinn("1.0.0", {"conditions": [condition("Ready", False, "QuiteNew", "the moon is in the way")]})
    found = explained(standing_of(obj), NOW)
    assert "the moon is in the way" in found[0].why
    assert found[0].do == ("kubectl -n demo describe pinn pricer",)


def test_the_bar_of_a_gate_that_failed_is_full_and_that_of_one_judged_by_time_is_none() -> None:
    status = stepping()["status"]
    status["rollout"]["gates"] = [gate("errorRate", "Failing", "300 of 222"), gate("memory", "Undecided", "0 of 0")]
    lines = shown(tree(standing_of(stepping(**status)), NOW)).splitlines()
    assert "████████████" in next(line for line in lines if "errorRate " in line and "Failing" in line)
    assert "█" not in next(line for line in lines if "memory" in line)
