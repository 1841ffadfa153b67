"""A story as a page for people, and as JSON for programs."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from typing import Any, Final

from pinn_operator.simulate.story import Row, Story

WIDTH: Final = 118
MOST_LINES: Final = 40
ENDINGS: Final = {
    "Promoted": "Promoted after {at}.",
    "RolledBack": "Rolled back after {at}, reason {reason}.",
    "Undecided": "Still undecided after {at}: it goes on by itself when every gate passes; a person can decide earlier.",
    "Paused": "Held after {at}: spec.rollout.paused is true.",
    "WaitingForApproval": "Waiting for a person after {at} (--approve goes on here).",
    "Held": "Held after {at}.",
    "NotOver": "Not over after {at}.",
}


def as_text(story: Story) -> str:
    """The time line, the steps, and how it ended."""
    return "\n".join(
        [
            f"{story.name}, version {story.version}: {story.source}",
            "",
            *_table(["AT", "STEP", "WEIGHT", "", ""], [_line(story, one) for one in _shown(story)]),
            "",
            *_table(
                ["STEP", "WEIGHT", "FROM", "PROVEN", "UNTIL", "REQUESTS", "FAILED", ""],
                [_row(story, row) for row in story.steps],
            ),
            "",
            ENDINGS[story.outcome].format(at=clock(story.ended), reason=story.reason),
            *([] if _is_told(story) else textwrap.wrap(story.sentence, WIDTH)),
            _exposure(story),
        ]
    )


def as_document(story: Story) -> dict[str, Any]:
    """The same for programs; times are seconds since the rollout began."""
    found: dict[str, Any] = asdict(story)
    return found


def clock(seconds: float | None) -> str:
    """Of a time since the rollout began."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _is_told(story: Story) -> bool:
    """The last line of the time line says it already."""
    return bool(story.timeline) and story.timeline[-1].sentence == story.sentence


def _exposure(story: Story) -> str:
    if not story.steps or story.steps[0].began is None:
        return "No request of a user reached the new version."
    return (
        f"It was to get requests for {clock(story.exposed)}: {story.requests} of users, of which {story.errors} failed."
    )


def _shown(story: Story) -> list[Any]:
    lines = list(story.timeline)
    if len(lines) <= MOST_LINES:
        return lines
    half = MOST_LINES // 2
    return [*lines[:half], None, *lines[-half:]]


def _line(story: Story, one: Any) -> list[str]:
    if one is None:
        return ["...", "", "", "", f"{len(story.timeline) - MOST_LINES} lines left out; -o json has them"]
    return [clock(one.at), _step(story, one.step), f"{one.weight} %", one.what, one.sentence]


def _row(story: Story, row: Row) -> list[str]:
    reached = row.began is not None
    counts = [str(row.requests), str(row.errors)] if reached else ["-", "-"]
    times = [clock(row.began), clock(row.proven), clock(row.ended)]
    return [_step(story, row.number), f"{row.weight} %", *times, *counts, row.then]


def _step(story: Story, number: int) -> str:
    return f"{number}/{len(story.steps)}"


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Columns as wide as they need; the last one wraps below itself."""
    widths = [max(len(cells[column]) for cells in [heads, *rows]) for column in range(len(heads) - 1)]
    left = sum(widths) + 2 * len(widths)
    found = []
    for cells in [heads, *rows]:
        first = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=False))
        last = textwrap.wrap(cells[-1], max(40, WIDTH - left)) or [""]
        found += [f"{first}  {last[0]}".rstrip(), *(" " * left + more for more in last[1:])]
    return found
