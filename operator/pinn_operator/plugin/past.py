"""What was: rollouts that are over, and the revisions on record, as two tables. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pinn_operator.plugin.standing import Standing
from pinn_operator.plugin.undo import Record
from pinn_operator.plugin.words import columns

ROLLOUTS = ("ENDED", "VERSION", "REVISION", "OUTCOME", "REPORT")
REVISIONS = ("NUMBER", "VERSION", "REVISION", "MADE", "ROLE")


def past(found: Standing, known: Sequence[Record]) -> str:
    """The page."""
    rollouts = [(_day(one.at), one.version, one.revision, one.outcome, one.report or "-") for one in found.history]
    revisions = [(str(one.number), one.version, one.name, _day(one.created), _role(one, found)) for one in known]
    parts = ["Rollouts that are over:", *columns([ROLLOUTS, *rollouts])] if rollouts else ["No rollout is over yet."]
    return "\n".join([*parts, "", *_revisions(revisions)])


def _revisions(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "Revisions on record, for `undo --to REVISION`:"
    yield from columns([REVISIONS, *rows])


def _role(record: Record, found: Standing) -> str:
    return next((arm.role for arm in found.arms if arm.revision == record.name), "-")


def _day(at: str) -> str:
    return at.replace("T", " ").removesuffix("Z")
