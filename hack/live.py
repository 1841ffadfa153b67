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

from rich.box import SIMPLE
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

Object = dict[str, Any]

OPERATOR = "pinn.dev/pinn-operator"
GATE = "gate that decides"
COLUMNS = ("time", "version", "stable", "canary", "weight", "step", "verdict", GATE, "failed")
SENT_BACK = " is rolled back: "
REFRESHED = 4
AGAIN_SECONDS = 0.5
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
    _over: bool = False
    _live: Live | None = None

    def __enter__(self) -> Look:
        if self.console.is_terminal:
            self._live = Live(console=self.console, get_renderable=self._table, refresh_per_second=REFRESHED)
            self._live.start()
        whole = ["-o", 'jsonpath={@}{"\\n"}', "--watch"]
        self._watch(self._see_object, "get", "pinndeployment", self.name, *whole)
        self._watch(self._see_event, "get", "events.events.k8s.io", *whole, "--watch-only")
        self._watch(self._see_traffic, "logs", "--follow", "--tail=1", "pod/load")
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        for watch in self._watches:
            watch.terminate()
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
            row.cells = (*row.cells[:4], outcome, why, *row.cells[6:])
        self._tell(row)

    # --- What comes in ---

    def _watch(self, see: Callable[[Object], None], *arguments: str) -> None:
        Thread(target=self._watched, args=(see, ["kubectl", "-n", self.namespace, *arguments]), daemon=True).start()

    def _watched(self, see: Callable[[Object], None], command: list[str]) -> None:
        """To the end of it all: an API server may close a watch at any time."""
        while not self._over:
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as watch:
                self._watches.append(watch)
                self._read(watch, see)
            time.sleep(AGAIN_SECONDS)

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
        table = Table(box=SIMPLE, expand=True, padding=(0, 1, 0, 0))
        for column in COLUMNS:
            # A reason is cut off where the terminal ends: its Event has all of it.
            table.add_column(column, no_wrap=True, overflow="ellipsis", ratio=1 if column == GATE else None)
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


def clock() -> str:
    return time.strftime("%H:%M:%S")
