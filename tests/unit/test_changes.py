"""What `make bench` says of figures that moved: not what scatters, and of two machines only what both agree about."""

from __future__ import annotations

from typing import Any

from benchmarks.changes import changes, told

HERE = {"at": "2026-11-22", "cores": 2, "python": "3.11.7"}


def _said(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [str(change) for change in changes(HERE | before, HERE | after)]


def test_a_figure_that_moved_further_than_it_scatters_is_told_with_both_values_and_the_noise() -> None:
    before = {"start_to_ready_s_median": 0.35, "start_to_ready_s_median_all": [0.34, 0.35, 0.36]}
    after = {"start_to_ready_s_median": 0.6, "start_to_ready_s_median_all": [0.59, 0.6, 0.61]}
    assert _said(before, after) == ["start_to_ready_s_median: 0.35 -> 0.6 (+71%, noise 20%), worse"]


def test_a_figure_whose_repeats_lie_further_apart_than_it_moved_is_not_told() -> None:
    before = {"exposed_s": {"median": 3.0, "all": [2.0, 3.0, 6.0]}}
    assert _said(before, {"exposed_s": {"median": 4.0, "all": [4.0]}}) == []


def test_more_is_better_of_a_rate_and_worse_of_a_time() -> None:
    before = {"medians": {"ours": {"per_second": 14000.0, "p99_ms": 12.0}}}
    after = {"medians": {"ours": {"per_second": 28000.0, "p99_ms": 24.0}}}
    assert _said(before, after) == [
        "medians.ours.p99_ms: 12 -> 24 (+100%, noise 20%), worse",
        "medians.ours.per_second: 14000 -> 28000 (+100%, noise 20%), better",
    ]


def test_one_failed_request_is_told_however_noisy_the_machine() -> None:
    assert _said({"switch_under_load_failed": 0}, {"switch_under_load_failed": 1}) == [
        "switch_under_load_failed: 0 -> 1, worse"
    ]


def test_memory_is_told_from_a_twentieth_on() -> None:
    assert _said({"resident_MiB": 100.0}, {"resident_MiB": 104.0}) == []
    assert len(_said({"resident_MiB": 100.0}, {"resident_MiB": 106.0})) == 1


def test_figures_of_another_machine_are_not_compared_but_for_ratios_and_what_must_never_happen() -> None:
    before = HERE | {"p99_ms": 1.0, "share_of_the_best_peers_p99": 0.5, "failed": 0}
    after = HERE | {"cores": 64, "p99_ms": 9.0, "share_of_the_best_peers_p99": 2.0, "failed": 2}
    assert [change.figure for change in changes(before, after)] == ["failed", "share_of_the_best_peers_p99"]


def test_it_is_said_when_nothing_moved_and_when_there_is_nothing_to_compare_with() -> None:
    assert told("idle", None, HERE, "v0.1.0") == ["idle: v0.1.0 has no figures of it"]
    assert told("idle", HERE, HERE, "HEAD") == ["idle: nothing moved beyond the noise since HEAD (2026-11-22)"]


def test_a_busy_machine_is_said_beside_what_moved() -> None:
    before, after = HERE | {"load_average": 1.2, "p99_ms": 1.0}, HERE | {"load_average": 11.0, "p99_ms": 9.0}
    assert told("server", before, after, "HEAD")[-1] == (
        "server: 11 processes were waiting for 2 cores, so times may tell of those"
    )
