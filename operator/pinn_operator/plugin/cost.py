"""What serving costs: instances x price, before and after a rollout, and what the hit rate does to the evaluations. Pure.

An estimate, and it says by what: instances run all the time, and a price is for one. How many would do it does not say: that
takes what a request costs beside its evaluation, and the load (docs/concepts/cost.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pinn_operator.plugin.kubectl import Trouble
from pinn_operator.plugin.standing import HITS, Arm, Standing
from pinn_operator.plugin.words import columns

SMALLEST_MISS_SHARE: Final = 0.001


@dataclass(frozen=True, slots=True)
class Side:
    """One version: how many instances, which share of lookups the cache answers (None: nobody has counted), and the cost."""

    version: str
    instances: int
    hit_rate: float | None
    cost: float


@dataclass(frozen=True, slots=True)
class Together:
    """How long both versions ran, and by which setting."""

    hours: float
    said: str


@dataclass(frozen=True, slots=True)
class Cost:
    """Before and after. `work` is evaluations a request, after against before; `rollout` what both at once cost or did cost. None
    where it cannot be told."""

    price: float
    window_hours: float
    before: Side
    after: Side | None
    work: float | None
    rollout: float | None
    assumed: tuple[str, ...]


def cost_of(
    found: Standing, price: float, window_hours: float, last: Mapping[str, Any] | Trouble | None = None
) -> Cost:
    """From the status, and outside a rollout from the certificate of the last promotion; that may be why it cannot be read."""
    trouble, certificate = (last, None) if isinstance(last, Trouble) else (None, last)
    before, after, together = _versions(found, certificate)
    instances = found.stable.ready if found.autoscaled and found.stable else found.replicas
    sides = [_side(version, instances, rate, price, window_hours) for version, rate in (before, after) if version]
    first, second = sides[0], sides[1] if len(sides) > 1 else None
    return Cost(
        price=price,
        window_hours=window_hours,
        before=first,
        after=second,
        work=_work(first.hit_rate, second.hit_rate) if second else None,
        rollout=None if together is None else instances * price * together.hours,
        assumed=_assumptions(found, instances, together, trouble),
    )


def _versions(
    found: Standing, last: Mapping[str, Any] | None
) -> tuple[tuple[str, float | None], tuple[str, float | None], Together | None]:
    """(version, hit rate) before and after, and how long both ran."""
    nobody: tuple[str, float | None] = ("", None)
    stable = found.stable or Arm("stable", "", "none yet", None, None, 0, "")
    if found.canary:
        gate = next((gate for gate in found.gates if gate.name == HITS), None)
        return (stable.version, None), (found.canary.version, _from_percent(gate.observed if gate else "")), None
    if last is None:
        return (stable.version, None), nobody, None
    rates = _recorded(last)
    return (last["from"]["modelVersion"], rates[0]), (last["to"]["modelVersion"], rates[1]), _together(last)


def _together(document: Mapping[str, Any]) -> Together:
    """Where stable is not retained its servers go when the new version has all of the traffic."""
    hours, retained = document["seconds"] / 3600, document["rollout"].get("retainStable", "Full")
    all_of_it = next((entry["at"] for entry in document["timeline"] if entry["weight"] == 100), None)
    if retained != "None" or all_of_it is None:
        said = f"both versions ran side by side for the {hours:.2f} h of the rollout (retainStable: {retained})"
        return Together(hours, said)
    hours = (datetime.fromisoformat(all_of_it) - datetime.fromisoformat(document["began"])).total_seconds() / 3600
    said = f"both versions ran side by side for {hours:.2f} h, until the new one had all of the traffic (retainStable: None)"
    return Together(hours, said)


def _recorded(document: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Hit rates of the old and the new version in the last hour of the rollout; where that was not counted, in the gate."""
    gates = [gate for gate in document["evidence"] if gate["name"] == HITS]
    by_gate = (gates[-1].get("stable"), gates[-1].get("observed")) if gates else (None, None)
    counted = (_misses(document["minutes"], arm) for arm in ("stable", "canary"))
    misses = (gate if share is None else share for share, gate in zip(counted, by_gate, strict=True))
    old, new = (None if share is None or not 0 <= share <= 1 else 1 - share for share in misses)
    return old, new


def _misses(minutes: Iterable[Mapping[str, Any]], arm: str) -> float | None:
    """The share of lookups that missed, of users' where these are told apart; zeros are left out of a minute."""
    counts = [minute[arm] for minute in minutes]
    for of in ("live/", ""):
        lookups, missed = (sum(one.get(of + name) or 0 for one in counts) for name in ("lookups", "misses"))
        if lookups:
            return float(missed / lookups)
    return None


def _from_percent(misses: str) -> float | None:
    """The status shows the share of misses, as "12%"."""
    return 1 - float(misses.removesuffix("%")) / 100 if misses.endswith("%") else None


def _side(version: str, instances: int, hit_rate: float | None, price: float, hours: float) -> Side:
    return Side(version, instances, hit_rate, instances * price * hours)


def _work(before: float | None, after: float | None) -> float | None:
    if before is None or after is None:
        return None
    return max(1 - after, SMALLEST_MISS_SHARE) / max(1 - before, SMALLEST_MISS_SHARE)


def _assumptions(
    found: Standing, instances: int, together: Together | None, trouble: Trouble | None
) -> tuple[str, ...]:
    said = [
        f"{instances} instances all the time, {'as many as run now' if found.autoscaled else 'as spec.replicas says'}; "
        "the price is for one of them",
        "a miss takes one evaluation, and an answer from the cache none",
        "the hit rate is that of the rollout's evidence, at the traffic of then",
    ]
    if together is not None:
        said.append(together.said)
    if trouble is not None and not found.canary:
        said.append(f"nothing of the last rollout, as its figures are not known: {trouble}")
    if found.canary:
        said.append("the rollout is on its way: the old version's hit rate is in its report when it is over")
    return tuple(said)


# --- The page --------------------------------------------------------------------------------------------------------


def page(cost: Cost, what: str, window: str) -> str:
    """For a terminal."""
    sides = [("before" if cost.after else "now", cost.before), *([("after", cost.after)] if cost.after else [])]
    head = ("", "VERSION", "INSTANCES", "HIT RATE", f"COST IN {window}")
    rows = [
        (role, side.version, str(side.instances), _percent(side.hit_rate), f"{side.cost:,.2f}") for role, side in sides
    ]
    lines = [f"{what}, at {cost.price:g} an hour for an instance:", "", *columns([head, *rows]), ""]
    return "\n".join([*lines, *_notes(cost), "Assumed:", *(f"- {one}" for one in cost.assumed)])


def _notes(cost: Cost) -> list[str]:
    notes = []
    if cost.work is not None:
        notes.append(
            f"Evaluations a request: {cost.work:.2f} times those of before. What that saves depends on the model: "
            "docs/concepts/cost.md."
        )
    if cost.rollout is not None:
        notes.append(f"The rollout itself cost {cost.rollout:,.2f} more: two versions at once.")
    return [*notes, ""] if notes else []


def _percent(share: float | None) -> str:
    return "not known" if share is None else f"{100 * share:.1f} %"
