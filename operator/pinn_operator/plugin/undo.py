"""Back to an earlier revision: what would change in the spec, and the patch that does it. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from pinn_operator.api.revision import SECTIONS, from_stored, name_of
from pinn_operator.plugin.kubectl import Trouble
from pinn_operator.plugin.wanted import content_wanted
from pinn_operator.report.certificate import KEPT

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """A revision on record: what one can go back to."""

    name: str
    number: int
    version: str
    created: str
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Undo:
    """What it would do. `diff` is from the spec as it is; `patch` is a JSON patch that fails if the spec has
    changed since."""

    to: Record
    why: str
    diff: str
    patch: list[dict[str, Any]]


def records(found: Iterable[Object]) -> list[Record]:
    """The ControllerRevisions of an object, oldest first; those that somebody else made are left out."""
    read = []
    for one in found:
        try:
            revision = from_stored(one)
            read.append(
                Record(
                    revision.name, revision.number, revision.model_version, one["metadata"]["creationTimestamp"],
                    revision.content,
                )
            )  # fmt: skip
        except (KeyError, TypeError, ValueError):
            continue
    return sorted(read, key=lambda record: record.number)


def undo(obj: Object, known: Sequence[Record], to: str | None) -> Undo:
    """Back to the revision named, or to the one that served before. Trouble where there is none, or nothing tells which."""
    now = content_wanted(obj)
    target, why = _target(obj, known, name_of(now), to)
    if target.name == name_of(now):
        raise Trouble(f"the spec asks for revision {target.name} (version {target.version}) already: nothing to undo")
    return Undo(target, why, _diff(now, target.content, name_of(now), target.name), _patch(obj, target))


def _target(obj: Object, known: Sequence[Record], now: str, to: str | None) -> tuple[Record, str]:
    by_name = {record.name: record for record in known}
    if to is not None:
        if to in by_name:
            return by_name[to], "as asked"
        raise Trouble(f"there is no revision {to} on record; there are: {_listed(known)}", code=2)
    stable = _name_in(obj, "stable")
    if stable != now and stable in by_name:
        return by_name[stable], "it is the one that serves"
    status = obj.get("status", {})
    left_out = {now, stable, *(one.get("revision") for one in status.get("rejected", ()))}
    others = [record for record in known if record.name not in left_out]
    history = status.get("history", ())
    if promoted := _promoted_last(others, history):
        return promoted, "of the others it was promoted last"
    if first := _first([record for record in others if record.name != _name_in(obj, "canary")], history):
        return first, "it is the first one, which had no rollout"
    there = _listed([record for record in known if record.name != now])
    raise Trouble(f"no other revision on record is known to have served; name one with --to. There are: {there}")


def _promoted_last(known: Sequence[Record], history: Sequence[Object]) -> Record | None:
    by_name = {record.name: record for record in known}
    promoted = [
        one["revision"] for one in history if one.get("outcome") == "Promoted" and one.get("revision") in by_name
    ]
    return by_name[promoted[-1]] if promoted else None


def _first(known: Sequence[Record], history: Sequence[Object]) -> Record | None:
    """The revision that began to serve without a rollout. None where nothing tells: several were asked for before one served, or
    the rollout of this one may have been forgotten: a history that is full has lost some."""
    tried = {one.get("revision") for one in history}
    without = [record for record in known if record.name not in tried]
    certain = len(without) == 1 and (len(history) < KEPT or without[0].number <= 1)
    return without[0] if certain else None


def _name_in(obj: Object, role: str) -> str | None:
    """The revision that the status has in this role."""
    name: str | None = obj.get("status", {}).get(role, {}).get("revision")
    return name


def _listed(known: Sequence[Record]) -> str:
    return ", ".join(f"{record.name} ({record.version})" for record in known) or "none"


def _patch(obj: Object, target: Record) -> list[dict[str, Any]]:
    """Each section as the revision has it; what it leaves out returns to its default."""
    spec = obj["spec"]
    changes: list[dict[str, Any]] = [
        {"op": "test", "path": "/metadata/generation", "value": obj["metadata"]["generation"]}
    ]
    for section in sorted(SECTIONS):
        path = f"/spec/{section}"
        if section in target.content:
            changes.append({"op": "add", "path": path, "value": target.content[section]})
        elif section in spec:
            changes.append({"op": "remove", "path": path})
    return changes


def _diff(before: Mapping[str, Any], after: Mapping[str, Any], old: str, new: str) -> str:
    """As `diff -u` shows it, without what has its default on both sides."""
    one, other = (yaml.safe_dump({"spec": dict(content)}).splitlines() for content in (before, after))
    heads = {"fromfile": f"spec now (revision {old})", "tofile": f"revision {new}"}
    return "\n".join(difflib.unified_diff(one, other, lineterm="", n=99, **heads))
