"""Times, spans and bars as a person reads them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

BAR: Final = 12
FULL, EMPTY = "█", "░"


def moment(text: str | None) -> datetime | None:
    """A time as Kubernetes writes it; None where there is none."""
    return datetime.fromisoformat(text) if text else None


def span(seconds: float) -> str:
    """12 s, 3 min 20 s, 25 h 30 min, 3 d 4 h."""
    whole = max(0, round(seconds))
    for big, size, small, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= (2 * size if big == "d" else size):
            rest = whole % size // part
            return f"{whole // size} {big} {rest} {small}" if rest else f"{whole // size} {big}"
    return f"{whole} s"


def since(at: datetime, now: datetime) -> str:
    return f"since {clock(at, now)} ({span((now - at).total_seconds())})"


def until(at: datetime, now: datetime) -> str:
    left = (at - now).total_seconds()
    return f"{clock(at, now)} ({f'in {span(left)}' if left > 0 else 'now due'})"


def clock(at: datetime, now: datetime) -> str:
    """The time of day, with the day where it is another one."""
    at, now = at.astimezone(UTC), now.astimezone(UTC)
    return f"{at:%H:%M:%S} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M} UTC"


def share_of(evidence: str | None) -> float | None:
    """How far the evidence is towards what is needed, from 0 to 1; None where the text is not "8.1 of 20". Evidence is a factor,
    and what adds up event by event is its logarithm."""
    have, _, need = (evidence or "").partition(" of ")
    try:
        found, needed = float(have), float(need)
    except ValueError:
        return None
    if needed <= 1 or math.isnan(found) or math.isnan(needed):
        return None
    return min(1.0, max(0.0, math.log(found) / math.log(needed))) if found > 0 else 0.0


def bar(share: float) -> str:
    """As many blocks as the share fills whole."""
    full = int(share * BAR + 1e-9)
    return FULL * full + EMPTY * (BAR - full)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of equal length, aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def paragraph(text: str, indent: str = "", width: int = 100) -> str:
    """Wrapped at words; what cannot be broken stays whole."""
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
