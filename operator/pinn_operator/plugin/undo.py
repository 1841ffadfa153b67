"""Back to an earlier revision: what would change in the spec, and the patch that does it. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from pinn_operator.api.resource import PinnDeployment
from pinn_operator.api.revision import SECTIONS, content_of, from_stored, name_of
from pinn_operator.plugin.kubectl import Trouble

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
    """Back to the revision named, or to the one before. Trouble where there is none."""
    spec = PinnDeployment.model_validate(obj).spec
    now = content_of(spec)
    target, why = _target(obj, known, name_of(now), to)
    if target.name == name_of(now):
        raise Trouble(f"the spec asks for revision {target.name} (version {target.version}) already: nothing to undo")
    return Undo(target, why, _diff(now, target.content, name_of(now), target.name), _patch(obj, target))


def _target(obj: Object, known: Sequence[Record], now: str, to: str | None) -> tuple[Record, str]:
    by_name = {record.name: record for record in known}
    if to is not None:
        if to in by_name:
            return by_name[to], "as asked"
        there = ", ".join(f"{record.name} ({record.version})" for record in known) or "none"
        raise Trouble(f"there is no revision {to} on record; there are: {there}", code=2)
    stable = obj.get("status", {}).get("stable", {}).get("revision")
    if stable != now and stable in by_name:
        return by_name[stable], "it is the one that serves"
    rejected = {one["revision"] for one in obj.get("status", {}).get("rejected", ())}
    before = [record for record in known if record.name != now and record.name not in rejected]
    if not before:
        raise Trouble("there is no earlier revision on record that was not sent back; name one with --to")
    return before[-1], "it is the newest of the others"


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
