"""Which revision `undo` goes back to by itself: one that has served, and never one that has not."""

from __future__ import annotations

from typing import Any

import pytest
from pinn_operator.plugin.kubectl import Trouble
from pinn_operator.plugin.requests import revision_for
from pinn_operator.plugin.undo import Record, undo
from tests.given import revision
from tests.plugin.given_pinn import TWO, pinn, sent_back

Object = dict[str, Any]


def record(version: int, number: int | None = None) -> Record:
    one = revision(f"{version}.0.0")
    return Record(one.name, number or version, one.model_version, "2026-01-02T03:00:00Z", one.content)


RECORDS = [record(version) for version in range(1, 5)]
NAMES = {version: record(version).name for version in range(1, 20)}


def serving(version: int, *history: tuple[int, str], wanted: int | None = None, **status: Any) -> Object:
    """An object whose stable revision is of that version, after these rollouts."""
    rows = [{"revision": NAMES[one], "outcome": outcome} for one, outcome in history]
    return pinn(f"{wanted or version}.0.0", {"stable": {"revision": NAMES[version]}, "history": rows, **status})


def back_to(obj: Object, known: list[Record]) -> str:
    return undo(obj, known, None).to.version


@pytest.mark.parametrize(
    ("obj", "known", "version"),
    [
        pytest.param(serving(3, (2, "Superseded"), (3, "Promoted")), RECORDS[:3], "1.0.0", id="2 was given up at 10 %"),
        pytest.param(
            serving(3, (2, "Promoted"), (1, "Promoted"), (3, "Promoted")),
            RECORDS[:3],
            "1.0.0",
            id="2 was undone before",
        ),
        pytest.param(serving(2, (2, "Promoted")), RECORDS[:2], "1.0.0", id="the first had no rollout"),
        pytest.param(serving(3, (2, "Promoted"), (3, "Promoted")), RECORDS[:3], "2.0.0", id="one after the other"),
        pytest.param(
            serving(2, (2, "Promoted"), (3, "RolledBack"), (4, "RolledBack")), RECORDS, "1.0.0", id="two were sent back"
        ),
        pytest.param(
            serving(3, (2, "Promoted"), (3, "Promoted"), (2, "Superseded")),
            RECORDS[:3],
            "2.0.0",
            id="2 has served, though it was given up later",
        ),
        pytest.param(
            serving(3, (1, "Promoted"), (2, "Promoted"), (3, "Promoted")),
            [RECORDS[0], RECORDS[2]],
            "1.0.0",
            id="2 is no longer on record",
        ),
        pytest.param(
            serving(3, (2, "Promoted"), (3, "Promoted"), rejected=[{"revision": NAMES[2]}]),
            RECORDS[:3],
            "1.0.0",
            id="2 was sent back later and would be again",
        ),
        pytest.param(
            serving(2, (2, "Promoted"), wanted=3, canary={"revision": NAMES[3]}), RECORDS[:3], "2.0.0", id="on its way"
        ),
        pytest.param(
            serving(2, (2, "Promoted"), canary={"revision": NAMES[3]}), RECORDS[:3], "1.0.0", id="just called back"
        ),
        pytest.param(
            serving(2, *[(3, "RolledBack")] * 10), RECORDS[:3], "1.0.0", id="a full history, and the first of all"
        ),
    ],
)
def test_undo_goes_back_to_what_served_before(obj: Object, known: list[Record], version: str) -> None:
    assert back_to(obj, known) == version


@pytest.mark.parametrize(
    ("obj", "known"),
    [
        pytest.param(serving(1, (2, "Superseded"), (3, "RolledBack")), RECORDS[:3], id="no other one has served"),
        pytest.param(
            serving(3, (3, "Promoted")), RECORDS[:3], id="1 was corrected to 2 before either served, or was it"
        ),
        pytest.param(
            serving(4, *[(4, "RolledBack")] * 10), RECORDS[2:], id="a full history has forgotten what became of 3"
        ),
    ],
)
def test_where_nothing_tells_what_served_a_person_is_asked_with_the_list(obj: Object, known: list[Record]) -> None:
    with pytest.raises(Trouble, match="name one with --to") as refused:
        undo(obj, known, None)
    there = str(refused.value).partition("There are: ")[2]
    now = obj["spec"]["model"]["version"]
    assert there == ", ".join(f"{one.name} ({one.version})" for one in known if one.version != now)


def of_a_newer_release(obj: Object) -> Object:
    """With words in the status that this release does not know."""
    obj["status"]["stable"] = obj["status"]["stable"] | {"placement": "TPU"}
    obj["status"]["conditions"][0]["status"] = "Perhaps"
    return obj


def test_a_status_of_a_newer_release_does_not_end_undo() -> None:
    assert back_to(of_a_newer_release(sent_back()), RECORDS[:2]) == "1.0.0"


def test_a_status_of_a_newer_release_does_not_end_retry() -> None:
    assert revision_for("retry", of_a_newer_release(sent_back())) == TWO.name


def test_a_spec_that_this_release_does_not_understand_is_told_by_its_field() -> None:
    with pytest.raises(Trouble, match=r"spec\.gpu\.policy: .*the kubectl pinn of the operator's release"):
        undo(pinn(gpu={"policy": "Share"}), RECORDS, None)
