"""The certificate of a finished rollout: what was decided, on which evidence, by which limits, under one hash.

A function of what was observed and of the journal alone, so a pass that was cut off says the same again. It has no time of its
own and no name drawn at random.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pinn_operator.api.journal import MOST_MINUTES, Arm, Entry, GateRecord, Journal, Minute
from pinn_operator.api.names import API_VERSION, GROUP, MAX_NAME
from pinn_operator.api.observed import Observed
from pinn_operator.api.status import Finished
from pinn_operator.report.markdown import markdown
from pinn_operator.report.redaction import redacted, shortened, tail

KIND: Final = "RolloutCertificate"
LABEL_REPORT: Final = f"{GROUP}/report"
KEPT: Final = 10
CERTIFICATE, PAGE, HASH = "certificate.json", "report.md", "sha256"
"""The keys of the ConfigMap."""

LARGEST: Final = 512 * 1024
METADATA: Final = 8 * 1024
"""Room for what the API server adds."""
MOST_LOGS: Final = 256 * 1024
LONGEST_LOG: Final = 32 * 1024
LONGEST_SENTENCE: Final = 2000
LONGEST_TEXT: Final = 4096
CUTS: Final = ("logs", "minutes", "timeline", "evidence", "shadow")
"""What is cut when it is too much, in this order."""
LATEST: Final = 253402300799.0

IMPACT: Final = 0.05
"""How much slower a rollout may make the answers of those who stay with stable, as a share of what they were."""
FEWEST_ANSWERS: Final = 100
"""Fewer say nothing of their slowest twentieth."""
SLOWER: Final = re.compile(r"slower_than_([0-9]+(?:[.][0-9]+)?)")
"""Counters of answers beyond a bound of the histogram, in seconds."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Certificate:
    """`text` is the document in canonical JSON, `sha256` its hash in hex, `markdown` the same as a page."""

    name: str
    document: Document
    text: str
    sha256: str
    markdown: str


def certificate(seen: Observed, journal: Journal, logs: Mapping[str, str], *, release: str = "") -> Certificate:
    """The certificate of a rollout that is over. `logs` are the last lines of each pod, `release` is the operator's.

    ValueError: it is not over.
    """
    if not journal.ending or journal.ended is None:
        raise ValueError("a rollout that is not over has no certificate")
    tails = _tails(logs)
    document = _document(seen, journal, release) | {"logs": {pod: redacted(text) for pod, text in tails.items()}}
    return _fitting(document, dropped=_size(dict(logs)) - _size(tails))


def config_map(certificate: Certificate, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The object that keeps it; the metadata is that of any child of its name."""
    labels = {**metadata.get("labels", {}), LABEL_REPORT: "true"}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {**metadata, "name": certificate.name, "labels": labels},
        "immutable": True,
        "data": {CERTIFICATE: certificate.text, PAGE: certificate.markdown, HASH: certificate.sha256},
    }


def forgotten(history: Sequence[Finished]) -> tuple[str, ...]:
    """The names of the reports that are older than the last ten, whatever the order of the history."""
    newest_first = sorted(history, key=lambda one: one.at.timestamp() if one.at else 0.0, reverse=True)
    kept = {one.report for one in newest_first[:KEPT]}
    return tuple(one.report for one in newest_first[KEPT:] if one.report and one.report not in kept)


def canonical(document: Any) -> str:
    """JSON in the one form that is hashed: sorted keys, no spaces, UTF-8. ValueError for NaN and infinity."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(text: str) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def name_of(document: Mapping[str, Any]) -> str:
    """A DNS label, the same for the same rollout: the object, the revision, and six digits of what tells its rollouts apart."""
    about = document["object"]
    which = canonical([about["uid"], document["from"]["revision"], document["began"], document["ended"]])
    readable = f"{about['name'][:MAX_NAME]}-{document['to']['revision'][:10]}-{digest(which)[:6]}"
    return re.sub(r"[^a-z0-9-]", "-", readable.lower()).strip("-")


def exposure(timeline: Sequence[tuple[datetime, int]], ended: datetime) -> Document:
    """How long the new revision was to get which share of the traffic, from the weights of the time line."""
    ends = [*(at for at, _ in timeline[1:]), ended]
    spans = [(weight, max(0.0, (end - at).total_seconds())) for (at, weight), end in zip(timeline, ends, strict=False)]
    weights = sorted({weight for weight, _ in spans if weight > 0})
    by_weight = [
        {"weight": weight, "seconds": round(sum(span for one, span in spans if one == weight), 3)} for weight in weights
    ]
    return {
        "seconds": round(sum(span for weight, span in spans if weight > 0), 3),
        "highestWeight": max(weights, default=0),
        "byWeight": by_weight,
    }


# --- The document ----------------------------------------------------------------------------------------------------


def _document(seen: Observed, journal: Journal, release: str) -> Document:
    began, ended = _time(journal.began), _time(journal.ended or 0.0)
    timeline = [_entry(entry) for entry in journal.timeline]
    document = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "object": {
            "namespace": seen.key.namespace,
            "name": seen.key.name,
            "uid": seen.uid,
            "generation": seen.resource.metadata.generation,
        },
        "outcome": journal.ending,
        "reason": _said(journal.reason),
        "sentence": _said(journal.sentence),
        "blamed": journal.blamed,
        "from": _arm(journal.stable),
        "to": _arm(journal.canary),
        "began": began,
        "ended": ended,
        "seconds": round((datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds(), 3),
        "exposure": exposure(
            [(datetime.fromisoformat(one["at"]), one["weight"]) for one in timeline], datetime.fromisoformat(ended)
        ),
        "rollout": _as_written(seen.resource.spec.rollout),
        "limits": _as_written(seen.resource.spec.sla),
        "evidence": [_gate(gate) for gate in journal.gates],
        "shadow": {name: {**asdict(found), "said": _said(found.said)} for name, found in journal.shadow.items()},
        "warmedKeys": journal.warmed,
        "neighbours": _neighbours(seen),
        "timeline": timeline,
        "minutes": [_minute(minute) for minute in journal.minutes[-MOST_MINUTES:]],
        "smokeTest": _said(journal.smoke),
        "operator": {"release": release},
        "cut": [],
    }
    plain: Document = _plain(document)
    return plain


def _arm(arm: Arm) -> Document:
    return {
        "revision": arm.revision,
        "modelVersion": arm.model_version,
        "modelDigest": arm.model_digest,
        "image": arm.image,
    }


def _entry(entry: Entry) -> Document:
    return {"at": _time(entry.at), "what": entry.what, "weight": entry.weight, "sentence": _said(entry.sentence)}


def _gate(gate: GateRecord) -> Document:
    return {**asdict(gate), "sentence": _said(gate.sentence)}


def _minute(minute: Minute) -> Document:
    return {"at": _time(minute.at), "canary": dict(minute.canary), "stable": dict(minute.stable)}


def _as_written(part: Any) -> Document:
    """In the words of the resource, with its defaults."""
    written: Document = part.model_dump(mode="json", by_alias=True, exclude_none=True)
    return written


def _tails(logs: Mapping[str, str]) -> dict[str, str]:
    """Of each pod the last lines, so many that all have room."""
    most = min(LONGEST_LOG, MOST_LOGS // max(1, len(logs)))
    return {pod: tail(text, most) for pod, text in logs.items()}


def _said(text: str) -> str:
    """A sentence may quote what a container said last."""
    return shortened(redacted(text), LONGEST_SENTENCE)


def _time(at: float) -> str:
    whole = min(max(at, 0.0), LATEST) if math.isfinite(at) else 0.0
    return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _plain(value: Any) -> Any:
    """What JSON can say and any reader gives back alike: no NaN, no infinity, whole numbers without a point."""
    if isinstance(value, dict):
        return {_text(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return None if not math.isfinite(value) else int(value) if value.is_integer() and abs(value) < 2**53 else value
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    return shortened(text.encode("utf-8", "replace").decode(), LONGEST_TEXT)


# --- Those who stay with stable --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answers:
    """How many there were, and how many of them came within each bound of the histogram, in seconds."""

    count: float
    within: tuple[tuple[float, float], ...]

    @property
    def p95(self) -> float | None:
        """Seconds within which 95 of 100 came, on a line between the two bounds that it lies between, as Prometheus'
        histogram_quantile has it. None without an answer, and beyond the last bound."""
        wanted, lower, fewer = 0.95 * self.count, 0.0, 0.0
        for bound, within in self.within:
            if within >= wanted > fewer:
                return lower + (bound - lower) * (wanted - fewer) / (within - fewer)
            lower, fewer = bound, within
        return None


def _neighbours(seen: Observed) -> Document:
    """How quickly stable answered users before the new revision had a share and since, from the evidence as it is stored."""
    stored = (seen.memory.ledger if seen.memory else {}).get("neighbours")
    before, during = (_answers(stored.get(arm) if isinstance(stored, dict) else None) for arm in ("before", "during"))
    enough = min(before.count, during.count) >= FEWEST_ANSWERS
    change = during.p95 / before.p95 - 1 if enough and before.p95 and during.p95 else None
    return {
        "p95Before": before.p95,
        "p95During": during.p95,
        "answersBefore": before.count,
        "answersDuring": during.count,
        "change": change,
        "limit": IMPACT,
        "within": None if change is None else change <= IMPACT,
        "sentence": _impact(before, during, change) if enough else _too_few(before, during),
    }


def _answers(stored: Any) -> _Answers:
    """As they were counted; of evidence that is damaged, what can be read."""
    found = stored if isinstance(stored, dict) else {}
    counts = {name: float(count) for name, count in found.items() if isinstance(count, int | float)}
    count = counts.get("timed", 0.0)
    bounds = {name: match[1] for name in counts if (match := SLOWER.fullmatch(name))}
    return _Answers(count, tuple(sorted((float(bound), count - counts[name]) for name, bound in bounds.items())))


def _impact(before: _Answers, during: _Answers, change: float | None) -> str:
    said = (
        f"95 of 100 answers of stable to users took {_quickly(before.p95)} before the rollout ({before.count:,.0f}, since its "
        f"servers started) and {_quickly(during.p95)} during it ({during.count:,.0f})"
    )
    if change is None:
        return said
    percent, allowed = 100 * abs(change), f"{100 * IMPACT:.0f} %"
    felt = f"{percent:,.{0 if percent >= 10 else 1}f} % {'slower' if change > 0 else 'faster'}"
    return f"{said}: {felt}, {'within' if change <= IMPACT else 'more than'} the {allowed} that neighbours may feel"


def _too_few(before: _Answers, during: _Answers) -> str:
    if not before.count + during.count:
        return "how quickly stable answered its users was not counted"
    said = f"stable answered {before.count:,.0f} questions of users before and {during.count:,.0f} during the rollout"
    return f"{said}: too few to tell what it did to them"


def _quickly(seconds: float | None) -> str:
    if seconds is None:
        return "more than the histogram tells"
    return f"at most {seconds:.3g} s" if seconds >= 1 else f"at most {1000 * seconds:.3g} ms"


# --- Within the size -------------------------------------------------------------------------------------------------


def _fitting(document: Document, dropped: int) -> Certificate:
    """Cut until it fits, the least missed first; the document says what was cut, and what was dropped of the logs before."""
    sizes = {name: _size(document[name]) for name in CUTS}
    sizes["logs"] += dropped
    document = _telling(document, sizes)
    written = _written(document)
    for name in CUTS:
        while _bytes(written) > LARGEST - METADATA and document[name]:
            document = _telling({**document, name: _less(name, document[name])}, sizes)
            written = _written(document)
    return written


def _written(document: Document) -> Certificate:
    text, name = canonical(document), name_of(document)
    return Certificate(name, document, text, digest(text), markdown(document, name, digest(text)))


def _bytes(written: Certificate) -> int:
    """As a client sends it: JSON within JSON, in ASCII."""
    return len(json.dumps([written.text, written.markdown]))


def _telling(document: Document, sizes: Mapping[str, int]) -> Document:
    """With what is missing of it: entries, or characters of the logs."""
    kept = {name: _size(document[name]) for name in CUTS}
    cut = [{"field": name, "kept": kept[name], "of": sizes[name]} for name in CUTS if kept[name] < sizes[name]]
    return {**document, "cut": cut}


def _size(value: Any) -> int:
    """Characters of texts, or the number of entries."""
    if isinstance(value, dict) and all(isinstance(one, str) for one in value.values()):
        return sum(len(text) for text in value.values())
    return len(value)


def _less(name: str, value: Any) -> Any:
    """Half of it: the last lines and minutes, of the time line the beginning and the end."""
    half = len(value) // 2
    if name == "logs":
        shorter = {pod: tail(text, len(text) // 2) for pod, text in value.items()}
        return {pod: text for pod, text in shorter.items() if text}
    if name == "shadow":
        return {}
    if name == "timeline":
        return value[: half // 2] + value[len(value) - (half - half // 2) :] if half else []
    return value[len(value) - half :]
