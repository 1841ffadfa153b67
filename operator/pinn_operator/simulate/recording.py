"""What was counted in a rollout that happened: the minutes of a certificate, or counters by time and arm as CSV or JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from pinn_operator.api.spec import Spec
from pinn_operator.decide.evidence.counters import CUSTOM, LIVE, increments
from pinn_operator.decide.evidence.gates import as_read
from pinn_operator.decide.evidence.rules import Rules, rules_of
from pinn_operator.report.certificate import CERTIFICATE, KIND
from pinn_operator.simulate.scenario import Moment, Shares

Counts = Mapping[str, float]
MINUTE: Final = 60.0
"""For the last one of a certificate that ended as it began."""
LARGEST: Final = 64 * 2**20
OWN: Final = ("checked", "violations")
"""Of the operator's own questions; a recording without them is of a version whose physics is right."""
ARMS: Final = ("canary", "stable")
DELIMITERS: Final = (";", "\t", "|")
"""That others write for commas."""
PARTS: Final = ("errors", "fallbacks", "misses", "violations", "slower_than_")
"""How the counters begin of which each event is also one of those that they are counted among."""


class Unusable(ValueError):
    """A file that nothing can be replayed from; the sentence names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Span:
    """What each arm counted in so many seconds."""

    seconds: float
    canary: Counts
    stable: Counts

    @property
    def rate(self) -> float:
        """Requests of users a second. Where those are not told apart, all."""
        return (
            sum(counts.get(LIVE, counts.get("requests", 0.0)) for counts in (self.canary, self.stable)) / self.seconds
        )


@dataclass(frozen=True, slots=True)
class Recording:
    """Spans in order. `counters` are those that would be in it, had anything been counted by them; `repeat` begins it again when
    it is over, `rate` takes the place of the recorded one."""

    file: str
    spans: tuple[Span, ...]
    counters: frozenset[str]
    repeat: bool = False
    rate: float | None = None

    @property
    def name(self) -> str:
        users = "requests as recorded" if self.rate is None else f"{self.rate:g} requests/s"
        return f"as recorded in {self.file}, {users}"

    @property
    def seconds(self) -> float:
        return sum(span.seconds for span in self.spans)

    def at(self, since_first_request: float) -> Moment | None:
        """The rates of that time. An arm that counted nothing then is as it was before, or as it is next."""
        since = max(0.0, since_first_request)
        if since >= self.seconds:
            if not self.repeat:
                return None
            since %= self.seconds
        index = self._index(since)
        rate = self.spans[index].rate if self.rate is None else self.rate
        return Moment(rate, self._shares(index, "canary"), self._shares(index, "stable"))

    def _index(self, since: float) -> int:
        ends = 0.0
        for index, span in enumerate(self.spans):
            ends += span.seconds
            if since < ends:
                return index
        return len(self.spans) - 1

    def _shares(self, index: int, arm: str) -> Shares:
        near = (*range(index, -1, -1), *range(index + 1, len(self.spans)))
        told: Iterable[Counts] = (getattr(self.spans[one], arm) for one in near)
        return shares_of(next((one for one in told if one.get("requests")), {}), self.counters)


def shares_of(counts: Counts, counters: Iterable[str]) -> Shares:
    """What part each counter was of what it is counted among. What was not counted is 0."""
    found = {"lookups": 0.0, "timed": 0.0, "violations": 0.0}
    for name in sorted(name for name in {*counters, *counts} - {"requests", "checked"} if not is_of_users(name)):
        whole = counts.get(counted_among(name), 0.0)
        found[name] = min(1.0, counts.get(name, 0.0) / whole) if whole else 0.0
    return found


def is_of_users(counter: str) -> bool:
    """Whether it counts users' requests alone; a recording may do without those."""
    return counter.partition("/")[0] == LIVE


def counted_among(counter: str) -> str:
    """The counter of which another one is a part."""
    if counter == "misses":
        return "lookups"
    if counter == "violations":
        return "checked"
    if counter.startswith(CUSTOM):
        return f"{counter.rpartition('/')[0]}/total" if counter.endswith("/bad") else "requests"
    return "timed" if counter.startswith("slower_than_") else "requests"


def read_recording(path: str, rules: Rules) -> Recording:
    """What a file holds. Raises Unusable, also where it cannot tell what the rules ask for."""
    text = _text(path)
    is_csv = path.lower().endswith(".csv")
    found = _of_rows(path, _csv(path, text)) if is_csv else _of_document(path, _parsed(path, text))
    found = _by_name(found, rules)
    if not found.spans or found.seconds <= 0:
        raise Unusable(f"{path}: nothing was counted in it: two times at least are needed, or one minute")
    needed = (name for name in rules.counters if name not in OWN and not is_of_users(name))
    missing = [name for name in needed if name not in found.counters]
    if missing:
        gate = next((gate.name for gate in rules.gates if missing[0] in gate.counters), "a hard limit")
        how = 'record it, or switch that off in spec.sla ("Off")'
        raise Unusable(f"{path}: does not tell {as_read(missing[0])}, by which {gate} is judged; {how}")
    return found


def _by_name(found: Recording, rules: Rules) -> Recording:
    """With the gates of one's own by the names that the rules have for them: whatever their queries were, they are asked here."""
    names = {as_read(name): name for name in rules.counters}

    def called(counts: Counts) -> Counts:
        return {names.get(as_read(name), name): count for name, count in counts.items()}

    spans = tuple(replace(span, canary=called(span.canary), stable=called(span.stable)) for span in found.spans)
    return replace(found, spans=spans, counters=frozenset(called(dict.fromkeys(found.counters, 0.0))))


def _text(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise Unusable(f"{path}: larger than {LARGEST // 2**20} MiB; leave out what is not needed")
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise Unusable(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Unusable(f"{path}: cannot be read: no UTF-8 text") from None


def _parsed(path: str, text: str) -> Any:
    try:
        return json.loads(text) if text.lstrip().startswith(("{", "[")) else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise Unusable(f"{path}: neither CSV, JSON nor YAML: {' '.join(str(error).split())[:200]}") from None


def _of_document(path: str, document: Any) -> Recording:
    if isinstance(document, dict) and isinstance(document.get("data"), dict):
        document = _parsed(path, str(document["data"].get(CERTIFICATE, "")))
    if isinstance(document, dict) and document.get("kind") == KIND:
        return _of_certificate(path, document)
    if isinstance(document, list):
        return _of_rows(path, document)
    raise Unusable(f"{path}: is no {KIND} (or its ConfigMap), and no list of counters with at and arm")


# --- A certificate ---------------------------------------------------------------------------------------------------


def _of_certificate(path: str, document: Mapping[str, Any]) -> Recording:
    """Counters that are left out of its minutes are 0; which ones those can be, its limits tell. A minute lasts until the next
    one that something was counted in, the last one until the rollout ended."""
    minutes = document.get("minutes")
    if not isinstance(minutes, list):
        raise Unusable(f"{path}: minutes: the certificate has none")
    counted = [[_counts(path, f"minutes.{arm}", one, arm) for arm in ARMS] for one in minutes]
    began = [_moment(path, "minutes.at", one.get("at")) for one in minutes]
    lengths = [later - earlier for earlier, later in pairwise([*began, _moment(path, "ended", document.get("ended"))])]
    spans = tuple(Span(length if length > 0 else MINUTE, *arms) for length, arms in zip(lengths, counted, strict=True))
    seen = {name for span in spans for counts in (span.canary, span.stable) for name in counts}
    return Recording(path, spans, frozenset({*_judged_by(document), *seen}))


def _judged_by(document: Mapping[str, Any]) -> tuple[str, ...]:
    model = {"name": "recorded", "version": "recorded"}
    try:
        return rules_of(Spec.model_validate({"model": model, "sla": document.get("limits") or {}})).counters
    except (ValidationError, ValueError):
        return ()


def _counts(path: str, field: str, of: Any, arm: str) -> Counts:
    found = of.get(arm) if isinstance(of, dict) else None
    if not isinstance(found, dict):
        raise Unusable(f"{path}: {field}: must be an object of counters")
    return {str(name): _number(path, f"{field}.{name}", value) for name, value in found.items()}


# --- Rows ------------------------------------------------------------------------------------------------------------


def _csv(path: str, text: str) -> list[dict[str, Any]]:
    lines = text.splitlines()
    for mark in DELIMITERS if lines and "," not in lines[0] else ():
        if mark in lines[0]:
            raise Unusable(f"{path}: columns are separated by {json.dumps(mark)}; separate them by commas")
    try:
        return list(csv.DictReader(lines))
    except csv.Error as error:
        raise Unusable(f"{path}: no CSV: {error}") from None


def _of_rows(path: str, rows: Sequence[Any]) -> Recording:
    """Counters as servers have them: they only grow, and begin at 0 again when a process is a new one."""
    read: dict[str, dict[float, Counts]] = {arm: {} for arm in ARMS}
    for number, row in enumerate(rows, 1):
        at, arm, counts = _row(path, number, row)
        if at in read[arm]:
            raise Unusable(
                f'{path}: row {number}: at: there is a row of {arm} at "{row["at"]}" already; remove one of them'
            )
        read[arm][at] = counts
    times = sorted(read["canary"])
    if odd := sorted(set(read["canary"]) ^ set(read["stable"])):
        raise Unusable(f"{path}: at {odd[0]:g} there is a row of one arm only; give one of canary and one of stable")
    spans = tuple(
        Span(later - earlier, *(increments(read[arm][earlier], read[arm][later]) for arm in ARMS))
        for earlier, later in pairwise(times)
    )
    return Recording(path, spans, frozenset({name for by in read.values() for one in by.values() for name in one}))


def _row(path: str, number: int, row: Any) -> tuple[float, str, Counts]:
    if not isinstance(row, dict) or not {"at", "arm", "requests"} <= row.keys():
        raise Unusable(f"{path}: row {number}: needs at, arm (canary or stable), requests and the other counters")
    if row["arm"] not in ARMS:
        raise Unusable(f'{path}: row {number}: arm: "{row["arm"]}" is neither canary nor stable')
    told = {str(name): value for name, value in row.items() if name not in ("at", "arm")}
    counts = {name: _number(path, f"row {number}: {name}", value) for name, value in told.items()}
    counts = {"timed": counts["requests"], **counts}
    for name in (name for name in counts if name.startswith(PARTS)):
        whole = counted_among(name)
        if whole in counts and counts[name] > counts[whole]:
            said = f"{counts[name]:g} are more than the {counts[whole]:g} {whole if whole in told else 'requests'}"
            raise Unusable(f"{path}: row {number}: {name}: {said} that they are counted among")
    return _moment(path, f"row {number}: at", row["at"]), str(row["arm"]), counts


def _moment(path: str, field: str, at: Any) -> float:
    """Seconds, or a time as RFC 3339 has it."""
    try:
        return float(at)
    except (TypeError, ValueError):
        pass
    try:
        return datetime.fromisoformat(str(at)).timestamp()
    except ValueError:
        raise Unusable(f'{path}: {field}: "{at}" is neither a number of seconds nor a time') from None


def _number(path: str, field: str, value: Any) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = -1.0
    if not 0 <= found < float("inf"):
        raise Unusable(f'{path}: {field}: "{value}" is no count')
    return found
