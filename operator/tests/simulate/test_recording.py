"""What was recorded is replayed as it was, or refused with a sentence that says what is missing."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pinn_operator.api.resource import PinnDeployment
from pinn_operator.decide.evidence.rules import rules_of
from pinn_operator.report.certificate import config_map
from pinn_operator.simulate import Story, Unusable, read_recording, scenario_of, story_of
from pinn_operator.simulate.world import drawn
from tests.given import GATEWAY, only, resource
from tests.report.finished import certified, rolled_back

STEPS = [{"weight": 10, "hold": "1m"}, {"weight": 100, "hold": "1m"}]
RULES = rules_of(resource(sla=only(errorRate="1%")).spec)


def spec(**more: Any) -> PinnDeployment:
    parts: dict[str, Any] = {"traffic": GATEWAY, "rollout": {"steps": STEPS}, "sla": only(errorRate="1%")}
    return resource("2.0.0", **{**parts, **more})


def rows(seconds: int, failing: float, rate: float = 100) -> list[dict[str, Any]]:
    """Counters of both arms each ten seconds, a tenth of the requests to the canary."""
    found = []
    for at in range(0, seconds + 1, 10):
        for arm, share, bad in (("canary", 0.1, failing), ("stable", 0.9, 0.001)):
            requests = rate * share * at
            counts = {"requests": requests, "errors": round(requests * bad), "slower_than_5": 0}
            found.append({"at": at, "arm": arm, **counts})
    return found


def replayed(tmp_path: Path, told: Any, of: PinnDeployment | None = None, **more: Any) -> Story:
    file = tmp_path / "told.json"
    file.write_text(json.dumps(told))
    wanted = of or spec()
    from dataclasses import replace

    return story_of(wanted, replace(read_recording(str(file), rules_of(wanted.spec)), **more))


def test_a_bad_version_that_was_recorded_is_rolled_back(tmp_path: Path) -> None:
    story = replayed(tmp_path, rows(600, 0.3))
    assert (story.outcome, story.reason) == ("RolledBack", "ErrorRate")
    assert story.requests > 0


def test_a_good_version_that_was_recorded_is_promoted(tmp_path: Path) -> None:
    assert replayed(tmp_path, rows(1200, 0.001)).outcome == "Promoted"


def test_where_the_recording_ends_the_story_ends_and_says_so_unless_it_is_repeated(tmp_path: Path) -> None:
    story = replayed(tmp_path, rows(30, 0.001))
    assert (story.outcome, story.reason) == ("NotOver", "RecordingEnded")
    assert story.sentence.startswith("the recording ends here; ")
    assert replayed(tmp_path, rows(30, 0.001), repeat=True).outcome == "Promoted"


def test_another_rate_than_the_recorded_one_takes_longer_or_less_long(tmp_path: Path) -> None:
    few, many = (replayed(tmp_path, rows(3000, 0.05), rate=rate) for rate in (20.0, 500.0))
    assert few.ended > many.ended


def test_csv_and_json_tell_the_same(tmp_path: Path) -> None:
    told = rows(300, 0.3)
    (tmp_path / "told.csv").write_text(as_csv(told))
    (tmp_path / "told.json").write_text(json.dumps(told))
    found = [read_recording(str(tmp_path / name), RULES) for name in ("told.csv", "told.json")]
    assert found[0].spans == found[1].spans
    assert found[0].seconds == 300


def as_csv(told: list[dict[str, Any]], mark: str = ",") -> str:
    return "\n".join([mark.join(told[0]), *(mark.join(str(value) for value in row.values()) for row in told)])


@pytest.mark.parametrize(("name", "encoding"), [("told.csv", "utf-8-sig"), ("told.CSV", "utf-8")])
def test_csv_is_read_as_others_write_it_too(tmp_path: Path, name: str, encoding: str) -> None:
    """Spreadsheets put a mark of the byte order before it."""
    (tmp_path / name).write_text(as_csv(rows(300, 0.3)), encoding=encoding)
    assert read_recording(str(tmp_path / name), RULES).seconds == 300


@pytest.mark.parametrize(("mark", "told"), [(";", '";"'), ("\t", r'"\t"')])
def test_csv_that_is_not_separated_by_commas_is_refused_with_what_it_is_separated_by(
    tmp_path: Path, mark: str, told: str
) -> None:
    (tmp_path / "told.csv").write_text(as_csv(rows(300, 0.3), mark))
    with pytest.raises(Unusable) as refused:
        read_recording(str(tmp_path / "told.csv"), RULES)
    assert str(refused.value).endswith(f"told.csv: columns are separated by {told}; separate them by commas")


def test_times_may_be_written_as_times(tmp_path: Path) -> None:
    told = [{**row, "at": f"2026-01-02T03:{row['at'] // 60:02}:{row['at'] % 60:02}Z"} for row in rows(300, 0.3)]
    (tmp_path / "told.json").write_text(json.dumps(told))
    assert read_recording(str(tmp_path / "told.json"), RULES).seconds == 300


def test_a_counter_that_begins_again_is_a_new_process_and_loses_nothing(tmp_path: Path) -> None:
    told = rows(40, 0.0)
    for row in told[-2:]:
        row["requests"] = row["errors"] = 5
    (tmp_path / "told.json").write_text(json.dumps(told))
    last = read_recording(str(tmp_path / "told.json"), RULES).spans[-1]
    assert (last.canary["requests"], last.canary["errors"]) == (5, 5)


@pytest.mark.parametrize("written", [json.dumps, yaml.safe_dump], ids=["json", "yaml"])
def test_the_minutes_of_a_certificate_are_replayed_from_its_config_map_or_alone(tmp_path: Path, written: Any) -> None:
    made = certified(rolled_back())
    for name, document in (("a", config_map(made, {"namespace": "demo"})), ("b", json.loads(made.text))):
        (tmp_path / name).write_text(written(document))
    found = [read_recording(str(tmp_path / name), RULES) for name in ("a", "b")]
    assert found[0].spans == found[1].spans
    assert found[0].at(70.0).canary["errors"] == pytest.approx(50 / 160)  # type: ignore[union-attr]  # it is within it


def test_a_minute_of_a_certificate_lasts_until_the_next_one_and_the_last_until_the_rollout_ended(
    tmp_path: Path,
) -> None:
    """12 seconds of users, not a minute of them; and ten minutes in which nothing could be read."""
    document = certified(rolled_back()).document
    first, last = document["minutes"]
    document["minutes"] = [{**first, "at": "2026-01-02T02:54:00.000Z"}, {**last, "at": "2026-01-02T03:04:00.000Z"}]
    (tmp_path / "told.json").write_text(json.dumps(document))
    assert [span.seconds for span in read_recording(str(tmp_path / "told.json"), RULES).spans] == [600, 57.75]


def test_a_gate_of_ones_own_is_replayed_whatever_its_queries_were(tmp_path: Path) -> None:
    custom = [{"name": "refunds", "bad": "a", "total": "b"}]
    told = [{**row, "custom/refunds/bad": 0, "custom/refunds/total": row["requests"]} for row in rows(300, 0.0)]
    (tmp_path / "told.json").write_text(json.dumps(told))
    rules = rules_of(resource(sla={**only(), "custom": custom}).spec)
    found = read_recording(str(tmp_path / "told.json"), rules)
    (total,) = (name for name in rules.counters if name.startswith("custom/") and name.endswith("/total"))
    assert found.spans[0].canary[total] == 100


def test_an_arm_that_counted_nothing_in_a_span_is_as_it_was_before_or_is_next(tmp_path: Path) -> None:
    told = rows(20, 0.5)
    told[2]["requests"] = told[2]["errors"] = 0
    (tmp_path / "told.json").write_text(json.dumps(told))
    found = read_recording(str(tmp_path / "told.json"), RULES)
    first = found.at(5.0)
    assert first is not None
    assert first.canary["errors"] == pytest.approx(0.5)


def broken(change: Mapping[str, Any]) -> list[dict[str, Any]]:
    told = rows(20, 0.0)
    told[0] = {**told[0], **change}
    return told


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ([], "nothing was counted in it"),
        (rows(0, 0.0), "nothing was counted in it"),
        (["row"], "row 1: needs at, arm (canary or stable), requests"),
        ([{"arm": "canary", "requests": 1}], "row 1: needs at, arm"),
        (broken({"arm": "blue"}), 'row 1: arm: "blue" is neither canary nor stable'),
        (broken({"at": "noon"}), 'row 1: at: "noon" is neither'),
        (broken({"requests": "many"}), 'row 1: requests: "many" is no count'),
        (broken({"errors": -1}), "is no count"),
        (broken({"errors": float("nan")}), "is no count"),
        (broken({"errors": 1}), "row 1: errors: 1 are more than the 0 requests that they are counted among"),
        (
            broken({"lookups": 4, "misses": 5}),
            "row 1: misses: 5 are more than the 4 lookups that they are counted among",
        ),
        (broken({"slower_than_5": 2}), "row 1: slower_than_5: 2 are more than the 0 requests"),
        ([*rows(20, 0.0), rows(20, 0.0)[2]], 'row 7: at: there is a row of canary at "10" already; remove one of them'),
        (rows(20, 0.0)[:-1], "at 20 there is a row of one arm only"),
        ({"kind": "RolloutCertificate"}, "minutes: the certificate has none"),
        ({"kind": "RolloutCertificate", "minutes": [{"canary": {}}]}, "minutes.stable: must be an object of counters"),
        ({"kind": "Secret"}, "is no RolloutCertificate"),
        ("text", "is no RolloutCertificate"),
    ],
)
def test_what_cannot_be_replayed_is_refused_with_the_remedy(tmp_path: Path, told: Any, said: str) -> None:
    (tmp_path / "told.json").write_text(json.dumps(told))
    with pytest.raises(Unusable) as refused:
        read_recording(str(tmp_path / "told.json"), RULES)
    assert said in str(refused.value)


def test_a_recording_that_does_not_tell_what_a_gate_is_judged_by_is_refused_with_the_gate(tmp_path: Path) -> None:
    (tmp_path / "told.json").write_text(json.dumps(rows(60, 0.0)))
    with pytest.raises(Unusable, match=r"does not tell lookups, by which cacheHitRate is judged; record it, or"):
        read_recording(str(tmp_path / "told.json"), rules_of(resource(sla=only(cacheHitRate="80%")).spec))


def test_a_certificate_of_other_limits_than_those_of_the_spec_is_refused_where_it_cannot_tell(tmp_path: Path) -> None:
    (tmp_path / "told.json").write_text(certified(rolled_back()).text)
    with pytest.raises(Unusable, match=r"does not tell slower_than_0.25, by which latencyP95 is judged"):
        read_recording(str(tmp_path / "told.json"), rules_of(resource(sla=only(latencyP95="250ms")).spec))


@pytest.mark.parametrize("events", [500, 100_000])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.5, 0.93, 1.0])
def test_what_is_drawn_has_the_mean_and_the_spread_of_independent_events(share: float, events: int) -> None:
    source = random.Random(7)
    found = [drawn(source, events, share) for _ in range(2000)]
    mean = sum(found) / len(found)
    spread = sum((one - mean) ** 2 for one in found) / len(found)
    assert 0 <= min(found) <= max(found) <= events
    assert mean == pytest.approx(events * share, abs=4 * (events * share * (1 - share) / 2000) ** 0.5 + 1e-9)
    assert spread == pytest.approx(events * share * (1 - share), rel=0.15, abs=1e-9)


class Counted(random.Random):
    """Counts what is asked of it."""

    asked = 0

    def random(self) -> float:
        self.asked += 1
        return super().random()


def test_of_many_events_only_their_number_is_drawn() -> None:
    """A million requests a second for a day are not counted one by one."""
    source = Counted(7)
    assert drawn(source, 10**9, 0.3) == pytest.approx(3 * 10**8, rel=1e-3)
    assert source.asked < 2000


def test_several_things_may_go_wrong_one_after_the_other() -> None:
    scenario = scenario_of("errors:5%@1m+1m, slow:800ms@3m", 12)
    found = [scenario.at(at) for at in (-1, 59, 60, 119, 120, 179, 180)]
    assert [one.canary["errors"] for one in found] == [0.001, 0.001, 0.05, 0.05, 0.001, 0.001, 0.001]
    assert [one.canary["slower_than_0.5"] for one in found] == [0.001] * 6 + [1.0]
    assert all(one.stable == found[0].stable for one in found)


@pytest.mark.parametrize("kind", ["errors", "fallbacks", "misses", "physics", "incident"])
def test_a_share_beyond_all_is_refused_as_the_resource_refuses_it(kind: str) -> None:
    with pytest.raises(ValueError, match=f'"{kind}:500%": "500%" is no percentage from 0% to 100%; write e.g. "1%"'):
        scenario_of(f"{kind}:500%", 1)
    assert scenario_of(f"{kind}:100%", 1)


def test_what_is_wrong_from_the_beginning_is_wrong_before_the_first_request_too() -> None:
    assert scenario_of("physics:2%", 1).at(-1).canary["violations"] == 0.02
