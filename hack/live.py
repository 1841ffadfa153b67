"""What a rollout looks like while it runs: the object, its Events and the callers' answers, in a table that stays up to date.

Everything is watched and nothing polled, so looking on costs the cluster next to nothing. Where there is no terminal, one line is
printed a change.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

Object = dict[str, Any]

OPERATOR = "pinn.dev/pinn-operator"
COLUMNS = ("time", "version", "stable", "canary", "weight", "step", "verdict", "gate that decides", "failed")
SENT_BACK = " is rolled back: "
REFRESHED = 4
LONGEST = 120
"""Characters of a reason in the table: its Event has all of it."""

COLOURS = {"Promoted": "green", "Passing": "green", "RolledBack": "red", "Failing": "red"}


@dataclass
class Row:
    """One rollout: as it stands, or how it ended."""

    version: str
    began: float
    cells: tuple[str, ...] = ()
    ended: float | None = None

    def shown(self, now: float) -> tuple[str, ...]:
        return (f"{(self.ended or now) - self.began:.0f} s", self.version, *self.cells)


@dataclass
class Look:
    """Looks on at one object. `until` waits for what is seen; `rollout` begins a row."""

    namespace: str
    name: str
    console: Console = field(default_factory=Console)
    obj: Object = field(default_factory=dict)
    traffic: Object = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    _changed: Condition = field(default_factory=Condition)
    _watches: list[subprocess.Popen[str]] = field(default_factory=list)
    _live: Live | None = None

    def __enter__(self) -> Look:
        if self.console.is_terminal:
            self._live = Live(console=self.console, get_renderable=self._table, refresh_per_second=REFRESHED)
            self._live.start()
        whole = ["-o", 'jsonpath={@}{"\\n"}', "--watch"]
        self._watch(self._see_object, "get", "pinndeployment", self.name, *whole)
        self._watch(self._see_event, "get", "events.events.k8s.io", *whole, "--watch-only")
        self._watch(self._see_traffic, "logs", "--follow", "pod/load")
        return self

    def __exit__(self, *_: object) -> None:
        for watch in self._watches:
            watch.terminate()
        for watch in self._watches:
            watch.wait()
        if self._live:
            self._live.stop()

    # --- What the demo asks ---

    @property
    def status(self) -> Object:
        return dict(self.obj.get("status", {}))

    @property
    def failed(self) -> int:
        return int(self.traffic.get("failed", 0))

    def answered(self, version: str) -> int:
        """How many answers callers got from a version, since the beginning."""
        return int(self.traffic.get("versions", {}).get(version, 0))

    def exposed(self, version: str) -> float:
        """Seconds between its first and its last answer to a caller."""
        first, last = (self.traffic.get(which, {}).get(version, 0.0) for which in ("first", "last"))
        return float(last - first)

    def rollout(self, version: str) -> Row:
        """A new row: what is seen from now on is of this version."""
        with self._changed:
            self.rows.append(Row(version, time.monotonic()))
            return self.rows[-1]

    def until(self, what: Callable[[], bool], seconds: float) -> bool:
        """Whether it came true in time."""
        with self._changed:
            return self._changed.wait_for(what, seconds)

    def ends(self, row: Row, outcome: str) -> None:
        """The row stays as it is, with how it ended and, where it was sent back, why."""
        rejected = {one.get("modelVersion"): str(one.get("reason", "")) for one in self.status.get("rejected", ())}
        why = rejected.get(row.version, "").rpartition(SENT_BACK)[2] if outcome == "RolledBack" else ""
        with self._changed:
            row.ended = time.monotonic()
            row.cells = (*row.cells[:4], outcome, clipped(why), *row.cells[6:])
        self._tell(row)

    # --- What comes in ---

    def _watch(self, see: Callable[[Object], None], *arguments: str) -> None:
        command = ["kubectl", "-n", self.namespace, *arguments]
        watch = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._watches.append(watch)
        Thread(target=self._read, args=(watch, see), daemon=True).start()

    def _read(self, watch: subprocess.Popen[str], see: Callable[[Object], None]) -> None:
        assert watch.stdout is not None
        for line in watch.stdout:
            if line.startswith("{"):
                with self._changed:
                    see(json.loads(line))
                    self._changed.notify_all()

    def _see_object(self, obj: Object) -> None:
        self.obj = obj
        self._update()

    def _see_traffic(self, told: Object) -> None:
        self.traffic = told
        if self.rows and self.rows[-1].cells and self.rows[-1].ended is None:
            self.rows[-1].cells = (*self.rows[-1].cells[:-1], str(self.failed))

    def _see_event(self, event: Object) -> None:
        if event.get("reportingController") == OPERATOR and event.get("regarding", {}).get("name") == self.name:
            self._say(f"{clock()}  {event['reason']}: {event['note']}", COLOURS.get(event["reason"], ""))

    # --- What is shown ---

    def _update(self) -> None:
        if not self.rows or self.rows[-1].ended is not None:
            return
        row = self.rows[-1]
        before, row.cells = row.cells, (*cells(self.status), str(self.failed))
        if before[:-1] != row.cells[:-1]:
            self._tell(row)

    def _tell(self, row: Row) -> None:
        """For who has no table."""
        if self._live is None and row.cells:
            shown = zip(COLUMNS, row.shown(time.monotonic()), strict=True)
            self._say(f"{clock()}  " + "  ".join(f"{name} {cell}" for name, cell in shown if cell))

    def _say(self, sentence: str, colour: str = "") -> None:
        self.console.print(Text(sentence, style=colour), soft_wrap=self._live is None)

    def _table(self) -> Table:
        table = Table(*COLUMNS, expand=True)
        for row in self.rows:
            cells = row.shown(time.monotonic()) if row.cells else ("", row.version, *[""] * (len(COLUMNS) - 2))
            table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in cells))
        return table


def cells(status: Object) -> tuple[str, ...]:
    """Stable, canary, weight, step, verdict and the gate that decides, as the status says them."""
    stable, canary, rollout = (status.get(part, {}) for part in ("stable", "canary", "rollout"))
    return (
        stable.get("modelVersion", ""),
        canary.get("modelVersion", ""),
        f"{canary['weight']} %" if "weight" in canary else "",
        rollout.get("step", ""),
        rollout.get("verdict", ""),
        deciding(rollout.get("gates", ())),
    )


def deciding(gates: Any) -> str:
    """The gate that fails, or the one that is waited for; empty when all have passed."""
    for verdict in ("Failing", "Frozen", "NoMetrics", "NoTraffic", "Undecided"):
        for gate in gates:
            if gate.get("verdict") == verdict:
                return f"{gate['name']}: {gate.get('observed', 'nothing yet')} (limit {gate.get('limit', 'none')})"
    return ""


def clipped(sentence: str) -> str:
    return sentence if len(sentence) <= LONGEST else f"{sentence[:LONGEST]}..."


def clock() -> str:
    return time.strftime("%H:%M:%S")
