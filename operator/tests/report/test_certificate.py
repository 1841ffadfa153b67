"""The certificate of a finished rollout: the same however often it is made, within its size, and without secrets."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pinn_operator.api.journal import Arm, Entry, GateRecord, Journal, Minute
from pinn_operator.api.memory import Memory
from pinn_operator.api.readings import Checked
from pinn_operator.api.status import Finished
from pinn_operator.report.certificate import (
    LARGEST,
    Certificate,
    certificate,
    config_map,
    digest,
    exposure,
    forgotten,
    name_of,
)
from tests.given import NOW, observed, resource
from tests.golden import assert_golden
from tests.report.finished import BEGAN, CANARY, answers, certified, gate, promoted, rolled_back, seen

GOLDEN = Path(__file__).parent / "golden"
METADATA = {"name": "x", "namespace": "demo", "labels": {"pinn.dev/deployment": "pricer"}, "ownerReferences": [{}]}


def wire(certificate: Certificate) -> int:
    return len(json.dumps(config_map(certificate, METADATA)).encode())


def test_the_whole_document() -> None:
    """Look at the exposure, at the limits with their defaults, and at the log line that lost its token."""
    made = certified(rolled_back())
    assert_golden(GOLDEN / "rolled-back.json", json.dumps(made.document, indent=1, ensure_ascii=False) + "\n")


# --- Those who stay with stable --------------------------------------------------------------------------------------


def neighbours(before: object, during: object) -> dict[str, Any]:
    memory = Memory(ledger={"neighbours": {"before": before, "during": during}})
    found: dict[str, Any] = certificate(seen(memory=memory), promoted(), {}).document["neighbours"]
    return found


def test_what_the_rollout_did_to_stables_users_is_a_sentence_with_both_numbers_and_the_change() -> None:
    """The slowest twentieth begins 50 of 100 into the answers between 10 and 25 ms, and 12.5 of 50."""
    found = neighbours(answers(900, 100), answers(700, 50))
    assert (found["p95Before"], found["p95During"]) == (pytest.approx(0.0175), pytest.approx(0.01375))
    assert (found["answersBefore"], found["answersDuring"]) == (1000, 750)
    assert found["sentence"] == (
        "95 of 100 answers of stable to users took at most 17.5 ms before the rollout (1,000, since its servers started) and at "
        "most 13.8 ms during it (750): 21 % faster, within the 5 % that neighbours may feel"
    )


@pytest.mark.parametrize(
    ("slow", "within", "said"),
    [(103, True, "1.2 % slower, within the 5 %"), (115, False, "5.6 % slower, more than the 5 %")],
)
def test_a_rollout_that_slows_its_neighbours_by_more_than_five_percent_is_told(
    slow: float, within: bool, said: str
) -> None:
    found = neighbours(answers(900, 100), answers(1000 - slow, slow))
    assert (found["within"], found["change"] > 0.05) == (within, not within)
    assert said in found["sentence"]


@pytest.mark.parametrize(("before", "during"), [(99, 5000), (5000, 99)])
def test_too_few_answers_tell_nothing_about_neighbours(before: float, during: float) -> None:
    found = neighbours(answers(before, 0), answers(during, 0))
    assert (found["change"], found["within"]) == (None, None)
    said = f"stable answered {before:,} questions of users before and {during:,} during the rollout"
    assert found["sentence"] == f"{said}: too few to tell what it did to them"


@pytest.mark.parametrize("memory", [None, Memory(), Memory(ledger={"neighbours": "damaged"})])
def test_where_nothing_was_counted_of_neighbours_that_is_said(memory: Memory | None) -> None:
    found = certificate(seen(memory=memory), promoted(), {}).document["neighbours"]
    assert found["sentence"] == "how quickly stable answered its users was not counted"
    assert found["within"] is None
    assert neighbours({"timed": "many", "slower_than_": 1}, [])["sentence"] == found["sentence"]
    assert neighbours(answers(0, 0), answers(0, 0))["sentence"] == found["sentence"]


def test_answers_beyond_the_last_bound_have_no_number_and_no_change() -> None:
    slow = dict.fromkeys(answers(0, 0), 1000)
    found = neighbours(answers(1000, 0), slow)
    assert (found["p95During"], found["change"]) == (None, None)
    assert "more than the histogram tells during it (1,000)" in found["sentence"]


# --- The text and its hash -------------------------------------------------------------------------------------------


def test_the_text_is_canonical_and_the_hash_is_of_it() -> None:
    made = certified(rolled_back())
    assert json.loads(made.text) == made.document
    assert made.text == json.dumps(made.document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert made.sha256 == digest(made.text)
    assert re.fullmatch(r"[0-9a-f]{64}", made.sha256)


def test_the_same_ended_rollout_gives_the_same_object_however_much_later() -> None:
    later = certificate(seen(now=datetime(2027, 1, 1, tzinfo=UTC)), rolled_back(), {})
    assert later == certificate(seen(), rolled_back(), {})


def test_a_rollout_tried_again_has_another_name() -> None:
    first, second = certified(rolled_back()), certified(rolled_back(began=BEGAN + 1, ended=BEGAN + 60))
    assert first.name.rpartition("-")[0] == second.name.rpartition("-")[0] == "pricer-0a1b2c3d4e"
    assert first.name != second.name


@pytest.mark.parametrize("name", ["a", "a" * 45, "a" * 44 + "-" + "b" * 200, "UPPER.case"])
def test_the_name_is_a_dns_label(name: str) -> None:
    made = certificate(observed(resource(metadata={"name": name})), rolled_back(), {})
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", made.name)
    assert made.name == name_of(made.document)


def test_a_rollout_that_is_not_over_has_none() -> None:
    with pytest.raises(ValueError, match="not over"):
        certified(replace(rolled_back(), ending="", ended=None))


def test_the_config_map_is_immutable_and_has_the_hash_and_the_labels_of_its_siblings() -> None:
    made = certified(rolled_back())
    found = config_map(made, METADATA)
    assert found["immutable"] is True
    assert found["metadata"] == METADATA | {
        "name": made.name,
        "labels": {"pinn.dev/deployment": "pricer", "pinn.dev/report": "true"},
    }
    assert found["data"] == {"certificate.json": made.text, "report.md": made.markdown, "sha256": made.sha256}
    assert METADATA["labels"] == {"pinn.dev/deployment": "pricer"}


def test_how_long_users_were_exposed_is_counted_by_weight() -> None:
    at = [datetime.fromtimestamp(BEGAN + seconds, UTC) for seconds in (0, 10, 15, 20, 26, 30.5)]
    weights = (0, 10, 0, 10, 50)
    assert exposure(list(zip(at, weights, strict=False)), at[-1]) == {
        "seconds": 15.5,
        "highestWeight": 50,
        "byWeight": [{"weight": 10, "seconds": 11.0}, {"weight": 50, "seconds": 4.5}],
    }


def test_numbers_that_json_cannot_say_are_left_out() -> None:
    made = certified(rolled_back(gates=(gate("errorRate", observed=float("nan"), evidence=float("inf")),)))
    assert made.document["evidence"][0]["observed"] is None
    assert made.document["evidence"][0]["evidence"] is None
    assert "NaN" not in made.text


def test_sentences_are_redacted_too() -> None:
    made = certified(rolled_back(smoke="the server said token=abcdef", sentence="x" * 9999))
    assert made.document["smokeTest"] == "the server said token=[redacted]"
    assert len(made.document["sentence"]) == 2000


def lines(count: int) -> str:
    return "".join(f"line {number}\n" for number in range(count))


def test_logs_keep_their_end_and_what_is_missing_is_said() -> None:
    made = certified(rolled_back(), {"a": lines(10_000), "b": "short\n"})
    kept = made.document["logs"]
    assert kept["b"] == "short\n"
    assert kept["a"].endswith("line 9999\n")
    assert kept["a"].startswith("line ")
    assert made.document["cut"] == [
        {"field": "logs", "kept": len(kept["a"]) + 6, "of": len(lines(10_000)) + 6},
    ]


def test_what_was_only_redacted_is_not_said_to_be_cut() -> None:
    assert certified(rolled_back(), {"a": f"token={'x' * 500}\n"}).document["cut"] == []


def much(**more: Any) -> Journal:
    said = '"\\' * 1000
    journal = rolled_back(
        timeline=tuple(Entry(BEGAN + n, "Step", f"{n} {said}", 10) for n in range(200)),
        minutes=tuple(Minute(BEGAN + 60 * n, {f"counter{i}": 0.1 * i for i in range(9)}) for n in range(60)),
        gates=tuple(gate("errorRate", step=n, sentence=said) for n in range(20)),
    )
    return replace(journal, **more)


def test_logs_go_first_then_minutes_then_the_middle_of_the_time_line() -> None:
    made = certified(much(), {f"pod-{n}": '"' * 60 + "\n" + '"\n' * 9999 for n in range(50)})
    assert wire(made) < LARGEST
    assert [one["field"] for one in made.document["cut"]] == ["logs", "minutes", "timeline"]
    kept = [entry["at"] for entry in made.document["timeline"]]
    assert kept[0] == "2026-01-02T03:04:05.000Z"
    assert kept[-1] == "2026-01-02T03:07:24.000Z"
    assert len(made.document["evidence"]) == 20


def test_logs_alone_that_are_too_much_cost_nothing_else() -> None:
    made = certified(rolled_back(), {f"pod-{n}": "\\\n" * 99_999 for n in range(20)})
    assert wire(made) < LARGEST
    assert [one["field"] for one in made.document["cut"]] == ["logs"]
    assert made.document["logs"]


NUMBERS = st.floats() | st.floats(0, 1e6)
SHORT = st.text(max_size=30)
LONG = st.builds(lambda text, times: text * times, SHORT, st.integers(0, 400))
COUNTS = st.dictionaries(SHORT, NUMBERS, max_size=5)
ENTRIES = st.builds(Entry, NUMBERS, SHORT, LONG, st.integers(0, 100))
MINUTES = st.builds(Minute, NUMBERS, COUNTS, COUNTS)
GATES = st.builds(
    GateRecord, st.integers(0, 20), SHORT, SHORT, SHORT, st.none() | NUMBERS, st.none() | NUMBERS, NUMBERS, NUMBERS,
    NUMBERS, LONG,
)  # fmt: skip
ARMS = st.builds(Arm, LONG, LONG, st.none() | LONG, LONG)


def many(kind: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.builds(lambda some, times: tuple(some * times), st.lists(kind, max_size=4), st.integers(1, 60))


JOURNALS = st.builds(
    Journal, canary=ARMS, stable=ARMS, began=NUMBERS, ended=NUMBERS, timeline=many(ENTRIES), minutes=many(MINUTES),
    gates=many(GATES), ending=st.sampled_from(["Promoted", "RolledBack", "Superseded"]), sentence=LONG, smoke=LONG,
    shadow=st.dictionaries(SHORT, st.builds(Checked, said=LONG), max_size=3),
)  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(journal=JOURNALS, logs=st.dictionaries(SHORT, LONG, max_size=30))
def test_whatever_goes_in_there_is_a_certificate_within_its_size(journal: Journal, logs: dict[str, str]) -> None:
    made = certificate(seen(), journal, logs)
    assert wire(made) < LARGEST
    assert json.loads(made.text) == made.document
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", made.name)


def test_reports_beyond_the_last_ten_are_forgotten_in_whatever_order_they_come() -> None:
    times = [datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 14)]
    history = [Finished(revision="r", at=at, report=f"report-{at.day}") for at in times]
    assert set(forgotten(history)) == {"report-1", "report-2", "report-3"}
    assert set(forgotten(history[::-1])) == {"report-1", "report-2", "report-3"}
    assert forgotten(history[:10]) == ()


def test_a_report_that_a_kept_entry_names_too_is_not_forgotten() -> None:
    history = [Finished(revision="r", at=NOW, report="same") for _ in range(11)]
    assert forgotten([*history, Finished(revision="r", report=None)]) == ()
    assert CANARY.revision in certified(promoted()).name
