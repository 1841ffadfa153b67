"""How an object stands, for a terminal: one as a tree, several as a table. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from rich.text import Text
from rich.tree import Tree

from pinn_operator.plugin.standing import Arm, Ended, Gate, Standing, head_of, seen
from pinn_operator.plugin.words import BAR, FULL, bar, clock, moment, since, span, until

COLOURS: Final = {
    "Passing": "green",
    "Failing": "red",
    "Frozen": "yellow",
    "NoTraffic": "yellow",
    "NoMetrics": "yellow",
    "Promoted": "green",
    "RolledBack": "red",
}
NOT_OF_EVENTS: Final = " " * BAR
"""In place of a bar, where a gate is judged by time."""
LONGEST: Final = 100
HEAD: Final = ("NAMESPACE", "NAME", "READY", "STABLE", "CANARY", "WEIGHT", "STEP", "VERDICT", "SAYS")


def tree(found: Standing, now: datetime) -> Tree:
    """The object, its revisions, the step with its gates, what is waited for, and how the last rollout ended."""
    root = Tree(_head(found, now))
    widths = _widths([_cells(arm, found) for arm in found.arms])
    for arm in found.arms:
        root.add(Text(_columns(_cells(arm, found), widths)))
    if found.step:
        _add_step(root, found, now)
    root.add(_waits(found, now))
    if found.history:
        root.add(_last(found.history[-1], now))
    return root


def table(standings: Sequence[Standing]) -> list[Text]:
    """One line an object. The sentence is cut: one object at a time has it whole."""
    rows = [_row(one) for one in standings]
    widths = _widths([HEAD, *rows])
    lines = [Text(_columns(HEAD, widths), style="bold", no_wrap=True)]
    for found, row in zip(standings, rows, strict=True):
        line = Text(_columns(row, widths), no_wrap=True, overflow="ellipsis")
        line.highlight_words([found.verdict] if found.verdict else [], COLOURS.get(found.verdict, "default"))
        line.highlight_words(["False"] if not found.ready else [], "red")
        lines.append(line)
    return lines


# --- Parts of the tree -----------------------------------------------------------------------------------------------


def _head(found: Standing, now: datetime) -> Text:
    state = (head_of(found, now), "green" if found.ready else "red")
    return Text.assemble((f"{found.namespace}/{found.name}", "bold"), "  ", state)


def _cells(arm: Arm, found: Standing) -> tuple[str, ...]:
    measured = "not measured" if arm.measured is None else f"{arm.measured} % measured"
    return (
        arm.role,
        arm.version,
        arm.revision,
        f"{arm.weight or 0} % meant, {measured}" if found.canary else f"{arm.weight or 0} %",
        f"{arm.ready} ready" if found.autoscaled else f"{arm.ready} of {found.replicas} ready",
        arm.placement,
    )


def _add_step(root: Tree, found: Standing, now: datetime) -> None:
    started, leaves = moment(found.step_started_at), moment(found.promote_not_before)
    number, _, count = found.step.partition("/")
    if number == "0":
        said = f"comes up, before step 1 of {count}"
    else:
        said = f"step {number} of {count}{', the bake' if number == count else ''}"
        said += f", {since(started, now)}" if started else ", its traffic is not in place yet"
    if leaves:
        said += f"; held until {until(leaves, now)}"
    branch = root.add(Text(said))
    widths = _widths([_gate_cells(gate) for gate in found.gates])
    for gate in found.gates:
        branch.add(_gate(gate, widths))


def _gate(gate: Gate, widths: Sequence[int]) -> Text:
    colour = COLOURS.get(gate.verdict, "default")
    name, verdict, *rest = _gate_cells(gate)
    line = Text.assemble(
        (verdict.ljust(widths[1]), colour), "  ", name.ljust(widths[0]), "  ", (_bar(gate), colour), "  "
    )
    line.append(_columns(rest, widths[2:]))
    line.rstrip()
    return line


def _gate_cells(gate: Gate) -> tuple[str, ...]:
    counted = f"{seen(gate) or 'nothing'} of {gate.events:,}" if gate.events else seen(gate) or "nothing yet"
    evidence = f"evidence {gate.evidence}" if gate.progress is not None else "judged over time"
    return gate.name, gate.verdict, counted, f"limit {gate.limit}" if gate.limit else "", evidence


def _bar(gate: Gate) -> str:
    if gate.verdict == "Failing":
        return FULL * BAR
    return NOT_OF_EVENTS if gate.progress is None else bar(gate.progress)


def _waits(found: Standing, now: datetime) -> Text:
    said = found.says
    expected = moment(found.verdict_expected_at)
    if found.outdated and not found.unseen:
        said = f"the operator has not looked at this spec yet (generation {found.generation}, it knows {found.seen}); {said}"
    if expected and found.verdict in ("Undecided", "NoTraffic") and expected > now:
        said += f"; a verdict is expected at {until(expected, now)}"
    return Text(said, style="" if found.ready or found.canary else "red")


def _last(ended: Ended, now: datetime) -> Text:
    at = moment(ended.at)
    when = f", {clock(at, now)}, {span((now - at).total_seconds())} ago" if at else ""
    report = f", report {ended.report}" if ended.report else ""
    return Text.assemble(
        f"last rollout: {ended.version} ", (ended.outcome, COLOURS.get(ended.outcome, "default")), when, report
    )


# --- Columns ---------------------------------------------------------------------------------------------------------


def _row(found: Standing) -> tuple[str, ...]:
    stable, canary = found.stable, found.canary
    said = f"being deleted; {found.says}" if found.deleting else found.says
    said = said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"
    return (
        found.namespace,
        found.name,
        str(found.ready),
        stable.version if stable else "-",
        canary.version if canary else "-",
        f"{canary.weight or 0} %" if canary else "-",
        found.step or "-",
        found.verdict or "-",
        said.replace("\n", " "),
    )


def _widths(rows: Iterable[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(_padded(cells, widths)).rstrip()


def _padded(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    return (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
