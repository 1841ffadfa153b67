"""What users and servers do in a rollout that is made up: how many requests there are, and which share of them goes how."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from pinn_operator.api.rules import PERCENTAGE
from pinn_operator.api.units import bytes_of, fraction, seconds
from pinn_operator.decide.evidence.gates import BUCKETS, slower_than

Shares = Mapping[str, float]
"""By counter: of what it is counted among (errors of requests, misses of lookups, slower answers of all that were timed)."""

SLOWER: Final = dict(
    zip(BUCKETS, (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 8e-4, 3e-4, 1e-4, 0.0), strict=True)
)
"""Of a healthy server: which share of the answers is slower than each bound of the histogram."""
HEALTHY: Final[Shares] = {
    "errors": 0.001,
    "fallbacks": 0.002,
    "lookups": 1.0,
    "misses": 0.08,
    "timed": 1.0,
    "violations": 0.0,
    **{slower_than(bound): share for bound, share in SLOWER.items()},
}


@dataclass(frozen=True, slots=True)
class Moment:
    """How things are at a time. `rate` is the users' requests a second, to both versions together; `grows` the bytes an hour of a
    server of the new version, `dies_after` the requests after which one dies, `trouble` why no metrics can be read."""

    rate: float
    canary: Shares = field(default_factory=lambda: dict(HEALTHY))
    stable: Shares = field(default_factory=lambda: dict(HEALTHY))
    grows: float = 0.0
    dies_after: int | None = None
    comes_up: bool = True
    trouble: str = ""


class Source(Protocol):
    """Where moments come from. `name` is how it is spoken of."""

    @property
    def name(self) -> str: ...

    def at(self, since_first_request: float) -> Moment | None:
        """How things are then; before the first request it is below 0. None: nobody knows."""


Change = Callable[[Moment], Moment]


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that goes wrong, from a time on and for so long (seconds since the first request to the new version)."""

    change: Change
    begins: float = 0.0
    lasts: float | None = None

    def is_on(self, since: float) -> bool:
        """What is wrong from the beginning is wrong in the trial before the first request as well."""
        begun = since >= self.begins or not self.begins
        return begun and (self.lasts is None or since < self.begins + self.lasts)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Healthy versions, and what goes wrong."""

    what: str
    rate: float
    parts: tuple[Part, ...] = ()

    @property
    def name(self) -> str:
        return f"scenario {self.what}, {self.rate:g} requests/s"

    def at(self, since_first_request: float) -> Moment:
        moment = Moment(self.rate)
        for part in self.parts:
            moment = part.change(moment) if part.is_on(since_first_request) else moment
        return moment


def scenario_of(text: str, rate: float) -> Scenario:
    """What `--scenario` says: one or several of `KIND[:AMOUNT][@FROM][+FOR]`, with commas between. ValueError with the remedy."""
    return Scenario(text, rate, tuple(_part(one.strip()) for one in text.split(",")))


def _part(text: str) -> Part:
    found = re.fullmatch(r"(?P<kind>[a-z]+)(:(?P<amount>[^@+]+))?(@(?P<begins>[^+]+))?(\+(?P<lasts>.+))?", text)
    if found is None or found["kind"] not in KINDS:
        raise ValueError(
            f'--scenario: "{text}" is none of {", ".join(KINDS)}; write e.g. errors:5% or errors:5%@10m+5m'
        )
    usual, change = KINDS[found["kind"]]
    try:
        begins = seconds(found["begins"]) if found["begins"] else 0.0
        lasts = seconds(found["lasts"]) if found["lasts"] else None
        return Part(change(found["amount"] or usual), begins, lasts)
    except ValueError as error:
        raise ValueError(f'--scenario: "{text}": {error}') from None


def _worse(counter: str, *, both: bool = False) -> Callable[[str], Change]:
    """The new version, or both, with that share of a counter."""

    def change(amount: str) -> Change:
        if not PERCENTAGE.holds(amount):
            raise ValueError(PERCENTAGE.said_of(amount))
        more = {counter: fraction(amount)}
        return lambda now: replace(
            now, canary={**now.canary, **more}, stable={**now.stable, **more} if both else now.stable
        )

    return change


def _slow(amount: str) -> Change:
    """Every answer of the new version takes so long at least."""
    least = seconds(amount)
    more = {slower_than(bound): 1.0 for bound in BUCKETS if bound < least}
    return lambda now: replace(now, canary={**now.canary, **more})


def _crash(amount: str) -> Change:
    if not amount.isdecimal() or int(amount) < 1:
        raise ValueError(f'"{amount}" is no number of requests; write e.g. crash:50')
    return lambda now: replace(now, dies_after=int(amount))


def _growing(amount: str) -> Change:
    grows = float(bytes_of(amount))
    return lambda now: replace(now, grows=grows)


KINDS: Final[Mapping[str, tuple[str, Callable[[str], Change]]]] = {
    "healthy": ("", lambda _: lambda now: now),
    "errors": ("5%", _worse("errors")),
    "slow": ("800ms", _slow),
    "fallbacks": ("30%", _worse("fallbacks")),
    "misses": ("60%", _worse("misses")),
    "physics": ("2%", _worse("violations")),
    "leak": ("50Mi", _growing),
    "crash": ("50", _crash),
    "unready": ("", lambda _: lambda now: replace(now, comes_up=False)),
    "incident": ("15%", _worse("errors", both=True)),
    "quiet": ("", lambda _: lambda now: replace(now, rate=0.0)),
    "blind": ("", lambda _: lambda now: replace(now, trouble="nobody answers on the admin port")),
}
"""By name: the usual amount, and what it changes."""
