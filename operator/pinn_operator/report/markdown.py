"""The certificate as a page for a person: after a rollback an incident report, to be read in a terminal at three in the morning.

What matters comes first, nothing is wider than 80 columns but commands and log lines, and every number is one of the document's.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

WIDTH: Final = 80
MOST_ROWS: Final = 10
MOST_EVENTS: Final = 40
MOST_LINES: Final = 12
MOST_PODS: Final = 4
LONGEST_LINE: Final = 160

IN_BYTES: Final = ("memory", "memoryGrowthPerHour")
"""Gates whose amounts are no shares."""

TITLES: Final = {"Promoted": "Promoted", "RolledBack": "Rolled back", "Superseded": "Given up for another version"}

Document = Mapping[str, Any]


def markdown(document: Document, name: str, sha256: str) -> str:
    """The page. `name` is that of the ConfigMap, `sha256` the hash of the document."""
    parts = [_head(document), _summary(document), _gates(document), _done(document)]
    parts += [_now(document), _next(document, name)] if document["outcome"] == "RolledBack" else [_limits(document)]
    parts += [_physics(document), _minutes(document), _logs(document), _foot(document, name, sha256)]
    texts = ("\n".join(part).strip("\n") for part in parts)
    return "\n\n".join(text for text in texts if text) + "\n"


# --- What happened ---------------------------------------------------------------------------------------------------


def _head(document: Document) -> Iterator[str]:
    about = document["object"]
    kind = "Incident report" if document["outcome"] == "RolledBack" else "Certificate"
    title = TITLES.get(document["outcome"], document["outcome"])
    yield f"# {title}: {about['namespace']}/{about['name']}, version {document['to']['modelVersion']}"
    yield ""
    yield f"{kind} of the rollout that ended on {_day(document['ended'])} at {_clock(document['ended'])} UTC."
    yield ""
    yield from _wrapped(document["sentence"], first="> ", rest="> ")


def _summary(document: Document) -> Iterator[str]:
    yield "## What happened"
    yield ""
    yield from _table(("what", "value"), _facts(document))
    yield ""
    for role, arm in (("from", document["from"]), ("to", document["to"])):
        digest = arm["modelDigest"] or "shipped with the image"
        yield from _item(f"{role} {arm['modelVersion']}: image {arm['image']}, model {digest}")
    yield from _item(f"Neighbours: {document['neighbours']['sentence']}.")


def _facts(document: Document) -> Iterator[tuple[str, str]]:
    exposed = document["exposure"]
    yield "from", _arm(document["from"])
    yield "to", _arm(document["to"])
    yield "began", f"{_day(document['began'])} {_clock(document['began'])} UTC"
    if first := _first_exposed(document):
        yield "first users on it", f"{_clock(first)}, {_span(_between(document['began'], first))} after it began"
    yield {"RolledBack": "noticed"}.get(document["outcome"], "ended"), _noticed(document)
    yield "users exposed", _exposed(exposed)
    if document["minutes"]:
        yield "their requests", _of_users(document["minutes"], "canary")
        yield "those to the old one", _of_users(document["minutes"], "stable")
        yield "requests judged", _requests(document["minutes"], "canary", "requests", "errors")
    yield "why", f"{_short(document['reason'], 30)}{', the version is blamed' if document['blamed'] else ''}"


def _noticed(document: Document) -> str:
    first = _first_exposed(document)
    if first and document["outcome"] == "RolledBack":
        after = f"{_span(_between(first, document['ended']))} after its first users"
    else:
        after = f"after {_span(document['seconds'])}"
    return f"{_clock(document['ended'])}, {after}"


def _first_exposed(document: Document) -> str | None:
    return next((str(entry["at"]) for entry in document["timeline"] if entry["weight"] > 0), None)


def _exposed(exposed: Document) -> str:
    if not exposed["byWeight"]:
        return "none: it never got a share of the traffic"
    parts = ", ".join(f"{_span(one['seconds'])} at {one['weight']} %" for one in exposed["byWeight"])
    return parts if len(parts) <= 50 else f"{_span(exposed['seconds'])}, at up to {exposed['highestWeight']} %"


def _of_users(minutes: Sequence[Document], arm: str) -> str:
    """Of the requests of users alone; without those that failed where a minute does not tell."""
    asked = sum(minute[arm].get("live", 0) for minute in minutes)
    failed = [_failed_of_users(minute[arm]) for minute in minutes]
    told = f", {_roughly(sum(one or 0 for one in failed))} failed" if None not in failed else ""
    return f"{_roughly(asked)} in the last hour{told}" if asked else "none in the last hour"


def _failed_of_users(counts: Document) -> float | None:
    """None where that is not known: the version before wrote down no more of users than how many requests were theirs. Zeros are
    left out of a minute."""
    asked, failed = counts.get("live", 0), counts.get("errors", 0)
    if not asked or not failed or any(name.startswith("live/") for name in counts):
        return float(counts.get("live/errors", 0))
    return float(failed) if asked >= counts.get("requests", 0) else None


def _requests(minutes: Sequence[Document], arm: str, *names: str) -> str:
    """How many there were and failed, by these counters, in the minutes that are kept: the last hour. What is judged may count
    requests that the operator replayed itself as well."""
    counted, failed = (sum(minute[arm].get(name, 0) for minute in minutes) for name in names)
    return f"{_roughly(counted)} in the last hour, {_roughly(failed)} failed" if counted else "none in the last hour"


# --- Evidence --------------------------------------------------------------------------------------------------------


def _gates(document: Document) -> Iterator[str]:
    """Of the last step; those before it have passed."""
    last = max((gate["step"] for gate in document["evidence"]), default=0)
    gates = [gate for gate in document["evidence"] if gate["step"] == last]
    yield "## The gates"
    yield ""
    if not gates:
        yield "No gate had anything to judge yet."
        return
    gates.sort(key=lambda gate: gate["verdict"] != "Failing")
    yield from _wrapped(f"Step {last}, the last one. Shares are of what is bad: for cacheHitRate, of misses.")
    yield ""
    yield from _table(("gate", "verdict", "new", "old", "limit", "events"), (_gate(gate) for gate in gates))
    failing = [gate for gate in gates if gate["verdict"] == "Failing"]
    for gate in failing:
        yield ""
        evidence = f"evidence {gate['evidence']:.3g}, needed {gate['needed']:.3g}"
        yield from _item(f"{gate['sentence'] or gate['name']} ({evidence})")


def _gate(gate: Document) -> tuple[str, ...]:
    amount = _mebibytes if gate["name"] in IN_BYTES else _share
    return (
        _short(gate["name"], 20),
        gate["verdict"],
        amount(gate["observed"]),
        amount(gate["stable"]),
        _short(gate["limit"].replace(" an hour", "/h"), 13),
        _roughly(gate["events"]),
    )


def _physics(document: Document) -> Iterator[str]:
    if not document["shadow"]:
        return
    yield "## Physics: the same inputs through both"
    yield ""
    rows = [(_role(document, name), *_counts(found)) for name, found in sorted(document["shadow"].items())]
    yield from _table(("version", "checked", "violations", "compared", "wrong"), rows)
    for found in document["shadow"].values():
        if found["said"]:
            yield ""
            yield from _item(found["said"])


def _role(document: Document, revision: str) -> str:
    known = {document[role]["revision"]: document[role]["modelVersion"] for role in ("from", "to")}
    return _short(known.get(revision, revision), 20)


def _counts(found: Document) -> tuple[str, ...]:
    return tuple(_number(found[name]) for name in ("checked", "violations", "compared", "wrong"))


def _limits(document: Document) -> Iterator[str]:
    yield "## Steps and limits it was judged by"
    yield ""
    steps = ", ".join(f"{step['weight']} % for {step['hold']}" for step in document["rollout"].get("steps", ()))
    yield from _item(f"steps: {steps}")
    for name in ("promote", "abort"):
        limits = ", ".join(f"{gate} {limit}" for gate, limit in document["limits"].get(name, {}).items())
        yield from _item(f"{name}: {limits}")
    yield from _item("the rest, sla.rollback and custom gates, in certificate.json under `limits`")


def _minutes(document: Document) -> Iterator[str]:
    minutes = document["minutes"][-MOST_ROWS:]
    if not minutes:
        return
    yield f"## The last {f'{len(minutes)} minutes' if len(minutes) > 1 else 'minute'} with traffic"
    yield ""
    header = ("minute", "new", "failed", "fallback", "old", "failed", "fallback")
    yield from _table(header, ((_clock(minute["at"])[:5], *_minute(minute)) for minute in minutes))


def _minute(minute: Document) -> Iterator[str]:
    for arm in ("canary", "stable"):
        yield from (_roughly(minute[arm].get(name, 0)) for name in ("requests", "errors", "fallbacks"))


# --- What was done, and what to do -----------------------------------------------------------------------------------


def _done(document: Document) -> Iterator[str]:
    events = document["timeline"]
    skipped = max(0, len(events) - MOST_EVENTS)
    yield "## What was done"
    yield ""
    yield from (line for entry in events[: MOST_EVENTS // 4] for line in _entry(entry))
    if skipped:
        yield f"- ... {skipped} more, in certificate.json"
    yield from (line for entry in events[MOST_EVENTS // 4 + skipped :] for line in _entry(entry))
    if not events:
        yield "Nothing was written down."


def _entry(entry: Document) -> Iterator[str]:
    yield from _item(f"{_clock(entry['at'])} **{entry['what']}**, {entry['weight']} %: {entry['sentence']}")


def _now(document: Document) -> Iterator[str]:
    stable = document["from"]
    yield "## How it is now"
    yield ""
    yield from _item(f"Version {stable['modelVersion']} (revision {stable['revision']}) has all of the traffic.")
    yield from _item(f"Smoke test of it after the rollback: {document['smokeTest'] or 'none was made'}.")
    refused = f"The spec still asks for {document['to']['modelVersion']}. It is not tried again until the spec changes"
    yield from _item(
        f"{refused} or somebody says retry." if document["blamed"] else "The version is not held to be at fault."
    )


def _next(document: Document, name: str) -> Iterator[str]:
    about, old, new = document["object"], document["from"], document["to"]
    kubectl = f"kubectl -n {about['namespace']}"
    yield "## What to do"
    yield ""
    steps = (
        ("See how it stands:", f"{kubectl} describe pinn {about['name']}"),
        (
            "Make the spec say what serves: apply the manifest of before, or look what it was:",
            f"{kubectl} get controllerrevision {about['name']}-{old['revision']} -o jsonpath='{{.data.content}}'",
        ),
        (
            "If the cause was elsewhere and is gone, try the same version again:",
            f"{kubectl} annotate pinn {about['name']} --overwrite pinn.dev/retry={new['revision']}@$(date +%s)",
        ),
        (
            "All the evidence, each minute and the logs:",
            f"{kubectl} get configmap {name} -o jsonpath='{{.data.certificate\\.json}}'",
        ),
    )
    for number, (why, command) in enumerate(steps, 1):
        yield from _wrapped(why, first=f"{number}. ", rest="   ")
        yield ""
        yield f"       {command}"
        yield ""


def _logs(document: Document) -> Iterator[str]:
    pods = sorted(pod for pod, text in document["logs"].items() if text.strip())
    if not pods:
        return
    yield "## The last lines of the logs"
    yield ""
    for pod in pods[:MOST_PODS]:
        yield f"{_short(pod, 76)}:"
        yield ""
        lines = document["logs"][pod].strip().splitlines()[-MOST_LINES:]
        yield from (f"    {_short(line, LONGEST_LINE)}" for line in lines)
        yield ""
    yield from _wrapped("More of them in certificate.json. What looked like a secret is [redacted].")


def _foot(document: Document, name: str, sha256: str) -> Iterator[str]:
    yield "## Whether this is genuine"
    yield ""
    if document["cut"]:
        cut = ", ".join(f"{one['field']} ({_number(one['kept'])} of {_number(one['of'])})" for one in document["cut"])
        yield from _wrapped(f"Cut, to stay within 512 KiB: {cut}.")
        yield ""
    yield from _wrapped(
        "The hash is of certificate.json; this page is made from it. It is also in the object's status:"
    )
    yield ""
    yield f"    {sha256}"
    yield f"    kubectl -n {document['object']['namespace']} get configmap {name} -o json | pinn-operator verify -"
    if release := document["operator"]["release"]:
        yield ""
        yield f"Written by pinn-operator {release}."


# --- Words and columns -----------------------------------------------------------------------------------------------


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Without bars at its sides: they cost four columns."""
    cells = [[_cell(one) for one in row] for row in (header, *rows)]
    widths = [max(3, *(len(row[at]) for row in cells)) for at in range(len(header))]
    lines = [" | ".join(one.ljust(width) for one, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    yield lines[0]
    yield "-|-".join("-" * width for width in widths)
    yield from lines[1:]


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def _wrapped(text: str, first: str = "", rest: str = "") -> list[str]:
    words = " ".join(text.split()).replace(" %", "\xa0%")
    wrapped = textwrap.wrap(
        words, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace("\xa0%", " %") for line in wrapped] or [first.rstrip()]


def _item(text: str) -> list[str]:
    return _wrapped(text, first="- ", rest="  ")


def _arm(arm: Document) -> str:
    return f"{_short(arm['modelVersion'], 30)}, revision {_short(arm['revision'], 12)}"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _number(amount: float | None) -> str:
    return "-" if amount is None else f"{amount:,.0f}"


def _roughly(amount: float | None) -> str:
    """In six columns."""
    for letter, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if amount is not None and amount >= size:
            return f"{amount / (1000 if letter == 'k' else size):.1f}{letter}"
    return _number(amount)


def _share(share: float | None) -> str:
    """In seven."""
    if share is None:
        return "-"
    return "<0.01 %" if 0 < share < 0.0001 else f"{100 * share:.{2 if share < 0.01 else 3}g} %"


def _mebibytes(amount: float | None) -> str:
    return "-" if amount is None else f"{amount / 2**20:.3g} MiB"


def _day(at: str) -> str:
    return at[:10]


def _clock(at: str) -> str:
    return at[11:19]


def _between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def _span(seconds: float) -> str:
    """As a person says it: 12 s, 3 min 20 s, 25 h 30 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{max(seconds, 0):.3g} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    minutes = whole // 60
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
