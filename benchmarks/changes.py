"""What moved beyond the noise between two results of one measurement: the figures on record and those just made.

A figure's name says which way is better, as its unit stands at the end. Its noise is what its repeats scatter by, and never
less than a floor: two quiet runs of one build on a shared machine differ by that.
"""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NEVER = ("failed", "beyond_bound", "violations", "unexpected", "lost", "wrong", "false_aborts")
"""Of these each one more is worse, whatever the noise."""
LOWER = ("_s", "_ms", "_us", "_MiB", "_mib", "_MiB_max", "_s_median", "exposed_s.median", "share_of_the_best_peers_p99")
HIGHER = (
    "per_second",
    "per_cpu_second",
    "hit_rate",
    "times_the_best_peers_rate",
    "times_the_best_peers_rate_per_cpu_second",
)
RATIOS = ("times_the_best_peers_rate", "times_the_best_peers_rate_per_cpu_second", "share_of_the_best_peers_p99")
"""What two machines agree about: both sides were measured in one run."""
FLOORS = {"MiB": 0.05, "mib": 0.05}
FLOOR = 0.2
MACHINE = ("cores", "python")


@dataclass(frozen=True)
class Change:
    """One figure that moved; `noise` is the relative change that would have meant nothing."""

    figure: str
    before: float
    after: float
    noise: float
    worse: bool

    def __str__(self) -> str:
        word = "worse" if self.worse else "better"
        if self.before == 0:
            return f"{self.figure}: {self.before:g} -> {self.after:g}, {word}"
        by = (self.after - self.before) / self.before
        return f"{self.figure}: {self.before:g} -> {self.after:g} ({by:+.0%}, noise {self.noise:.0%}), {word}"


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """The figures that both results have and that differ by more than noise. Of two machines only ratios are compared, and
    what must never happen."""
    same_machine = all(before.get(key) == after.get(key) for key in MACHINE)
    old, new = dict(_figures(before)), dict(_figures(after))
    found = []
    for name in sorted(old.keys() & new.keys()):
        if not (same_machine or name.endswith(NEVER) or name in RATIOS):
            continue
        if change := _change(name, old[name], new[name]):
            found.append(change)
    return found


def on_record(name: str, reference: str) -> dict[str, Any] | None:
    """The result of that name as the git reference has it; None where it has none."""
    shown = subprocess.run(
        ["git", "show", f"{reference}:benchmarks/results/{name}.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(shown.stdout) if shown.returncode == 0 else None


def told(name: str, before: dict[str, Any] | None, after: dict[str, Any], reference: str) -> list[str]:
    """What a person is told of one measurement."""
    if before is None:
        return [f"{name}: {reference} has no figures of it"]
    moved = [f"{name}: {change}" for change in changes(before, after)]
    if moved and (load := after.get("load_average", 0.0)) > max(
        2 * after["cores"], 2 * before.get("load_average", 0.0)
    ):
        moved.append(f"{name}: {load:g} processes were waiting for {after['cores']} cores, so times may tell of those")
    return moved or [f"{name}: nothing moved beyond the noise since {reference} ({before.get('at')})"]


def _change(name: str, before: list[float], after: list[float]) -> Change | None:
    old, new = statistics.median(before), statistics.median(after)
    if name.endswith(NEVER):
        return None if new == old else Change(name, old, new, 0.0, worse=new > old)
    higher, lower = name.endswith(HIGHER), name.endswith(LOWER)
    if not (higher or lower) or old == 0:
        return None
    noise = max(_floor(name), _scatter(before), _scatter(after))
    if abs(new - old) <= noise * abs(old):
        return None
    return Change(name, old, new, noise, worse=(new < old) if higher else (new > old))


def _floor(name: str) -> float:
    return next((floor for unit, floor in FLOORS.items() if unit in name.rsplit(".", 1)[-1]), FLOOR)


def _scatter(repeats: list[float]) -> float:
    """How far the repeats lie apart, as a share of their median; of one reading nothing is known."""
    middle = statistics.median(repeats)
    return (max(repeats) - min(repeats)) / abs(middle) if len(repeats) > 1 and middle else 0.0


def _figures(result: Any, path: str = "") -> Iterator[tuple[str, list[float]]]:
    """Every number by its path, with its repeats: `{"median": …, "all": […]}`, or `NAME` beside `NAME_all`."""
    if not isinstance(result, dict):
        return
    for key, value in result.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, dict):
            if "median" in value and isinstance(value.get("all"), list):
                yield f"{name}.median", [float(one) for one in value["all"]] or [float(value["median"])]
            else:
                yield from _figures(value, name)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, [float(one) for one in result.get(f"{key}_all", [value])]
