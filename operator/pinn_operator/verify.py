"""`pinn-operator verify`: whether a certificate is what was written, and whether its parts agree with one another.

The hash tells a change of the document; where the hash could have been changed as well, it is compared with the one in the
object's status. What can be computed again from the document is computed again, the page that people read as well. The file may
be anything.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from pinn_operator.api.names import API_VERSION
from pinn_operator.api.spec import Abort, Promote
from pinn_operator.report.certificate import CERTIFICATE, HASH, KIND, PAGE, canonical, digest, exposure, name_of
from pinn_operator.report.markdown import markdown
from pinn_operator.validate import BoundedAliases

LARGEST_FILE: Final = 4 * 1024 * 1024
MOST_COMPLAINTS: Final = 20
ORDER: Final[Mapping[str, tuple[str, ...]]] = {
    name: tuple(to_camel(field) for field in part.model_fields)
    for name, part in (("promote", Promote), ("abort", Abort))
}
"""Of the limits that the page tells."""


class Verdict(IntEnum):
    """What came out of it; the worst one is the exit code."""

    GENUINE = 0
    WRONG = 1
    UNREADABLE = 2


@dataclass(frozen=True)
class Line:
    """One line of the output, and what it means for the exit code."""

    text: str
    verdict: Verdict = Verdict.GENUINE


class Unreadable(Exception):
    """There is no certificate in it."""


class Damaged(Exception):
    """There was one."""


def verify(path: str, expected: str | None = None) -> Iterator[Line]:
    """One line for each check, or for each complaint of one. `expected` is the hash from somewhere else, in hex."""
    yield from _verified("standard input" if path == "-" else path, lambda: _text(path), expected)


def verify_text(source: str, text: str, expected: str | None = None) -> Iterator[Line]:
    """The same of a text that was read already; `source` is what to call it."""
    yield from _verified(source, lambda: text, expected)


def _verified(source: str, read: Callable[[], str], expected: str | None) -> Iterator[Line]:
    try:
        wanted = _as_hash(expected)
        found = _found(_parsed(read()))
        yield from (Line(f"{source}: {line.text}", line.verdict) for line in _of_found(found, wanted))
    except Unreadable as problem:
        yield Line(f"{source}: {problem}", Verdict.UNREADABLE)
    except Damaged as problem:
        yield Line(f"{source}: {problem}", Verdict.WRONG)


def _of_found(found: Found, wanted: str | None) -> Iterator[Line]:
    yield from _of_hash(found, wanted)
    try:
        form = Form.model_validate(found.document)
    except ValidationError as error:
        yield from (_complaint(complaint) for complaint in _of_form(error))
        return
    yield from _or_ok("metadata", _config_map(found, form))
    yield from _or_ok("page", _page(found))
    for name, check in CHECKS:
        yield from _or_ok(name, check(form))


def _or_ok(name: str, said: Iterable[Line]) -> Iterable[Line]:
    return tuple(said) or (Line(f"{name}: ok"),)


# --- Reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """A certificate, and what the ConfigMap around it says; that is None where there was none."""

    document: dict[str, Any]
    stored: str | None = None
    config_map: dict[str, Any] | None = None


def _text(path: str) -> str:
    try:
        if path == "-":
            raw = sys.stdin.buffer.read(LARGEST_FILE + 1)
        else:
            with Path(path).open("rb") as file:
                raw = file.read(LARGEST_FILE + 1)
        if len(raw) > LARGEST_FILE:
            raise Unreadable(f"larger than {LARGEST_FILE // 2**20} MiB: no certificate is")
        return raw.decode()
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise Unreadable("cannot be read: no UTF-8 text") from None


def _parsed(text: str) -> Any:
    """JSON where it begins like JSON, else YAML."""
    if text.lstrip().startswith("{"):
        return _json(text, Unreadable)
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - of the base loader: texts, lists and mappings
    except (yaml.YAMLError, ValueError) as error:
        raise Unreadable(f"neither JSON nor YAML: {' '.join(str(error).split())[:200]}") from None
    except RecursionError:
        raise Unreadable("nested beyond reading") from None


def _json(text: str, problem: Callable[[str], Exception]) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_not_json)
    except ValueError as error:
        raise problem(f"no JSON: {error}") from None
    except RecursionError:
        raise problem("nested beyond reading") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for at, (key, _) in enumerate(pairs) if key in dict(pairs[:at]))
        raise ValueError(f"{_shown(twice)} is there twice")
    return found


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


class _Loader(BoundedAliases, yaml.BaseLoader):
    """Every scalar is a text; tags and a key that stands twice are refused."""

    PLAIN = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag not in self.PLAIN:
            raise yaml.constructor.ConstructorError(None, None, f"tag {_shown(node.tag)}", node.start_mark)
        return super().construct_object(node, deep)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found = super().construct_mapping(node, deep)
        if len(found) != len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key is there twice", node.start_mark)
        return found


def _found(read: Any) -> Found:
    kind = read.get("kind") if isinstance(read, dict) else None
    if kind == KIND:
        return Found(_known(read))
    if kind != "ConfigMap":
        what = f"its kind is {_shown(kind)}" if kind else "it has no kind"
        raise Unreadable(f"no certificate: {what}; give certificate.json, or the ConfigMap as kubectl prints it")
    data = read.get("data")
    text = data.get(CERTIFICATE) if isinstance(data, dict) else None
    if not isinstance(text, str):
        raise Unreadable(f"no certificate: the ConfigMap has no data.{CERTIFICATE}")
    document = _json(text, lambda said: Damaged(f"data.{CERTIFICATE}: {said}"))
    return Found(_known(document), str(data.get(HASH, "")), read)


def _known(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise Unreadable(f"no certificate: data.{CERTIFICATE} is no {KIND}")
    if document.get("apiVersion") != API_VERSION:
        said = f"apiVersion is {_shown(document.get('apiVersion'))}, and this release knows {API_VERSION}"
        raise Unreadable(f"no certificate that can be checked: {said}")
    return document


# --- The hash --------------------------------------------------------------------------------------------------------


def _as_hash(text: str | None) -> str | None:
    if text is None:
        return None
    plain = text.strip().lower().removeprefix("sha256:")
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise Unreadable(f"--sha256: {_shown(text)} is no SHA-256; write 64 hexadecimal digits")
    return plain


def _of_hash(found: Found, wanted: str | None) -> Iterator[Line]:
    try:
        actual = digest(canonical(found.document))
    except (ValueError, RecursionError):
        raise Damaged("the document holds what JSON cannot say: an infinite number, half a character") from None
    if found.stored is not None and found.stored != actual:
        yield _complaint(f"data.{HASH}: {_shown(found.stored)} is stored, the document's is {actual}: one was changed")
    elif found.stored is not None:
        yield Line(f"{HASH}: ok, {actual} is stored with it")
    if wanted is not None and wanted != actual:
        yield _complaint(f"{HASH}: {wanted} was asked for, the document's is {actual}: it is not that certificate")
    elif wanted is not None:
        yield Line(f"{HASH}: ok, {actual} is the one asked for")
    if found.stored is None and wanted is None:
        yield Line(f"{HASH}: {actual}, compared with nothing; compare it with status.history, or give --sha256")


# --- The form --------------------------------------------------------------------------------------------------------


def _moment(value: Any) -> datetime:
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value):
        raise ValueError('must be a time such as "2026-01-02T03:04:05.000Z"')
    return datetime.fromisoformat(value)


Moment = Annotated[datetime, BeforeValidator(_moment)]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class Part(BaseModel):
    """Of a part of the document what is looked at; a newer release may have written more."""

    model_config = ConfigDict(strict=True, frozen=True, alias_generator=to_camel, extra="ignore", allow_inf_nan=False)


class AboutForm(Part):
    """Which PinnDeployment."""

    namespace: str
    name: str
    uid: str
    generation: int


class ArmForm(Part):
    """Who took part."""

    revision: str
    model_version: str
    model_digest: Digest | None
    image: str


class EntryForm(Part):
    """What happened, and the weight of the new revision from then on."""

    at: Moment
    what: str
    weight: int
    sentence: str


class GateForm(Part):
    """How a gate stood. Numbers that JSON cannot say are null."""

    step: int
    name: str
    verdict: Literal["Passing", "Failing", "Undecided", "NoTraffic", "NoMetrics", "Frozen"]
    evidence: float | None
    needed: float | None
    observed: float | None = None
    stable: float | None = None


class MinuteForm(Part):
    """What was counted in a minute."""

    at: Moment
    canary: dict[str, float | None]
    stable: dict[str, float | None]


class StepForm(Part):
    """A step that was asked for."""

    weight: int


class RolloutForm(Part):
    """What was asked for."""

    steps: list[StepForm]
    retain_stable: str = "Full"


class CutForm(Part):
    """What was left out to stay within the size."""

    field: str
    kept: int
    of: int


class Form(Part):
    """The document."""

    object: AboutForm
    outcome: Literal["Promoted", "RolledBack", "Superseded"]
    reason: str
    sentence: str
    blamed: bool
    from_: ArmForm = Field(alias="from")
    to: ArmForm
    began: Moment
    ended: Moment
    seconds: float
    exposure: dict[str, Any]
    rollout: RolloutForm
    limits: dict[str, Any]
    evidence: list[GateForm]
    shadow: dict[str, Any]
    timeline: list[EntryForm]
    minutes: list[MinuteForm]
    smoke_test: str
    logs: dict[str, str]
    cut: list[CutForm]

    def is_cut(self, field: str) -> bool:
        return any(one.field == field for one in self.cut)


def is_of_the_form(document: dict[str, Any]) -> bool:
    """Whether it has what this release looks at, so that it can be read without falling over."""
    try:
        Form.model_validate(document)
    except ValidationError:
        return False
    return True


def _of_form(error: ValidationError) -> Iterator[str]:
    problems = error.errors(include_url=False, include_context=False)
    for problem in problems[:MOST_COMPLAINTS]:
        said = problem["msg"].removeprefix("Value error, ")
        yield f"{_path(problem['loc'])}: {said[:1].lower()}{said[1:]}"
    if len(problems) > MOST_COMPLAINTS:
        yield f"and {len(problems) - MOST_COMPLAINTS} more of these"


def _path(loc: tuple[int | str, ...]) -> str:
    path = "".join(f"[{one}]" if isinstance(one, int) else f".{_plain(one)}" for one in loc)
    return path.removeprefix(".")


# --- What can be computed again --------------------------------------------------------------------------------------


def _config_map(found: Found, form: Form) -> Iterator[Line]:
    """What is around it is the ConfigMap that was written for it."""
    if found.config_map is None:
        yield Line("metadata: none, it is not in its ConfigMap")
        return
    metadata = found.config_map.get("metadata")
    said = metadata if isinstance(metadata, dict) else {}
    for field, want in (("name", name_of(found.document)), ("namespace", form.object.namespace)):
        if said.get(field) != want:
            yield _complaint(f"metadata.{field}: {_shown(said.get(field))}, but the certificate is of {_shown(want)}")


def page_of(document: dict[str, Any]) -> str:
    """The page of a certificate, made again. ValueError where the document is not what this release writes."""
    return _pages(document)[0]


def _pages(document: dict[str, Any]) -> list[str]:
    """Those that may belong to it. It was made before the keys were sorted: limits are in the order of the spec, of the two
    versions that were tried either may be first."""
    try:
        name, sha256 = name_of(document), digest(canonical(document))
        limits = {key: _in_order(one, ORDER.get(key, ())) for key, one in document["limits"].items()}
        orders = (sorted(document["shadow"].items(), reverse=reverse) for reverse in (False, True))
        return [markdown(document | {"limits": limits, "shadow": dict(shadow)}, name, sha256) for shadow in orders]
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"no page can be made of the document: {type(error).__name__}") from None


def _in_order(found: Any, names: Sequence[str]) -> Any:
    if not isinstance(found, dict):
        return found
    return {name: found[name] for name in (*names, *sorted(found)) if name in found}


def is_of_this_release(document: dict[str, Any]) -> bool:
    """Whether this release, that knows no other's words, can tell which page belongs to it."""
    return bool(_release(document) == version("pinn-operator"))


def _release(document: dict[str, Any]) -> Any:
    told = document.get("operator")
    return told.get("release") if isinstance(told, dict) else None


def _page(found: Found) -> Iterator[Line]:
    """The page is what people read, and has no hash of its own."""
    if found.config_map is None:
        yield Line("page: none, it is not in its ConfigMap")
        return
    if not is_of_this_release(found.document):
        yield Line(f"page: not compared, written by release {_plain(str(_release(found.document) or 'unknown'))}")
        return
    try:
        made = _pages(found.document)
    except ValueError as problem:
        yield _complaint(f"page: {problem}")
        return
    if found.config_map["data"].get(PAGE) not in made:
        yield _complaint(f"data.{PAGE}: it is not the page of this certificate: it was changed, or is missing")


def _times(form: Form) -> Iterator[Line]:
    if form.ended < form.began:
        yield _complaint("ended: before it began")
    if abs((form.ended - form.began).total_seconds() - form.seconds) > 0.001:
        yield _complaint(f"seconds: {form.seconds:g}, but from began to ended are {form.ended - form.began}")
    if form.timeline and form.timeline[0].at < form.began:
        yield _complaint("timeline[0].at: before the rollout began")
    moments = {"timeline": [one.at for one in form.timeline], "minutes": [one.at for one in form.minutes]}
    for name, times in moments.items():
        for number, (earlier, later) in enumerate(pairwise(times), 1):
            if later < earlier:
                yield _complaint(f"{name}[{number}].at: before the entry before it")


def _weights(form: Form) -> Iterator[Line]:
    for number, entry in enumerate(form.timeline):
        if not 0 <= entry.weight <= 100:
            yield _complaint(f"timeline[{number}].weight: {_shown(entry.weight)} is no percentage")
    weights = [step.weight for step in form.rollout.steps]
    if any(not 0 < weight <= 100 for weight in weights) or any(b <= a for a, b in pairwise(weights)):
        yield _complaint(f"rollout.steps: weights must rise and lie between 1 and 100, not {_shown(weights)}")
    if form.outcome != "Promoted" and form.timeline and form.timeline[-1].weight:
        yield _complaint(f"timeline[{len(form.timeline) - 1}].weight: above 0, but it ended {form.outcome}")


def _exposed(form: Form) -> Iterator[Line]:
    if form.is_cut("timeline"):
        yield Line("exposure: not computed again, the time line was cut")
        return
    want = exposure([(entry.at, entry.weight) for entry in form.timeline], form.ended)
    for field, value in want.items():
        if form.exposure.get(field) != value:
            yield _complaint(f"exposure.{field}: {_shown(form.exposure.get(field))}, by the time line {_shown(value)}")


def _promotion(form: Form) -> Iterator[Line]:
    """Only after a step at 100, and with nothing against it. Where no servers are asked for there is neither a step nor evidence:
    the version takes over as it is."""
    if form.outcome != "Promoted":
        return
    stepped = bool(form.evidence) or any(entry.what == "Step" for entry in form.timeline)
    at_100 = any(entry.weight == 100 and entry.what != "Promoted" for entry in form.timeline)
    if stepped and not at_100 and not form.is_cut("timeline"):
        yield _complaint("outcome: Promoted, but the time line has no step at 100 %")
    if form.from_.revision == form.to.revision:
        yield _complaint("to.revision: the same as from.revision")
    for number, gate in enumerate(form.evidence):
        if gate.verdict == "Failing":
            yield _complaint(f"evidence[{number}].verdict: {_shown(gate.name)} was failing, but it ended Promoted")


def _evidence(form: Form) -> Iterator[Line]:
    """Evidence is kept in full, so that what passed can be compared exactly."""
    for number, gate in enumerate(form.evidence):
        if gate.verdict == "Passing" and (gate.evidence or 0.0) < (gate.needed or 0.0):
            said = f"{gate.evidence or 0:g}, but {_shown(gate.name)} passes at {gate.needed or 0:g}"
            yield _complaint(f"evidence[{number}].evidence: {said}")


def _blame(form: Form) -> Iterator[Line]:
    if form.blamed and form.outcome != "RolledBack":
        yield _complaint(f"blamed: true, but it ended {form.outcome}")
    if form.blamed and not form.reason and not any(gate.verdict == "Failing" for gate in form.evidence):
        yield _complaint("blamed: true, without a reason and without a gate that was failing")


def _cuts(form: Form) -> Iterator[Line]:
    if form.cut:
        yield Line(
            "cut: "
            + ", ".join(f"{_plain(one.field)} ({_shown(one.kept)} of {_shown(one.of)} kept)" for one in form.cut)
        )


CHECKS: Final[tuple[tuple[str, Callable[[Form], Iterator[Line]]], ...]] = (
    ("times", _times),
    ("weights", _weights),
    ("exposure", _exposed),
    ("promotion", _promotion),
    ("evidence", _evidence),
    ("blame", _blame),
    ("cut", _cuts),
)


# --- Words -----------------------------------------------------------------------------------------------------------


def _complaint(text: str) -> Line:
    return Line(text, Verdict.WRONG)


def _shown(value: Any) -> str:
    """For a terminal: in quotes, in ASCII, not too long."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 100 else text[:97] + "..."


def _plain(text: str) -> str:
    return _shown(text)[1:-1]
