"""What the operator asks servers itself: that a canary is warm and keeps its equation, and requests where users send none.

A server that cannot be asked is a reason to wait and never a verdict: the reason is told, and nothing is raised.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan
from typing import Any, Final, TypeVar

from pinn_operator.api.readings import Checked, Measured, Server
from pinn_operator.errors import ServerTrouble
from pinn_operator.servers import Item, Servers

T = TypeVar("T")

CHECKED: Final = 1000
"""Inputs through each revision in one check."""
SOLVED: Final = 100
"""Those of them that the reference solver answers too, as far as there is time: each may take it milliseconds or minutes."""
TRIAL_SECONDS: Final = 4.0
"""For the solver's answers in a trial."""
CHECK_SECONDS: Final = 1.0
"""For those in a check: the counters are read after it."""
PORTION: Final = 300
"""Items in one call without the solver: a fraction of a second for a server."""

WARMED_WITH: Final = 200
"""Questions a cache is warmed with, and replays are drawn from, when users ask fewer."""
WARM_SEED: Final = 1
"""One for all, so that what is replayed has been warmed."""
MOST_HOT: Final = 20_000
"""Keys that one server is asked for: what fits its answer, with room."""
WARM_SECONDS: Final = 10.0
"""For a server to be warmed: what it was not told by then it is told by its users."""
WARM_FIRST: Final = 10

CALL_SECONDS: Final = 4.0
"""For one call of several items: less than the client waits, so that what ends it is that there is no more time."""
MOST_AT_ONCE: Final = 1000

IN_FLIGHT: Final = 8
SMOKED: Final = 8
LONGEST: Final = 30.0
"""Seconds for all of it: a pass has other things to do."""
REPLAY_SECONDS: Final = 10.0

BROKEN: Final = ("physics_violation", "non_finite")
"""Reasons that say the model's own answer was none."""
ABOUT: Final = frozenset({"method", "engine", "reason", "error_bound", "model"})
"""What an answer says beside its outputs."""
ROUNDING: Final = 1e-12
"""Of a number that went through JSON and two ways of computing it."""


async def preflight(
    servers: Servers,
    stable: Sequence[Server],
    canary: Sequence[Server],
    token: str,
    *,
    keys: int,
    seed: int,
    physics: bool = True,
) -> Measured:
    """Warms every server of the canary with what stable is asked most, then checks the physics of both on that and more, unless
    nothing is judged by them."""
    return await _told(_preflight(servers, _ready(stable), _ready(canary), token, keys, seed, physics))


async def check(
    servers: Servers, stable: Sequence[Server], canary: Sequence[Server], token: str, *, seed: int, solver: bool = True
) -> Measured:
    """Checks the physics of both revisions on inputs drawn anew, with the reference solver or without it."""
    return await _told(_check(servers, _ready(stable), _ready(canary), token, seed, CHECK_SECONDS if solver else 0.0))


async def replay(
    servers: Servers, stable: Sequence[Server], canary: Sequence[Server], token: str, *, requests: int, seed: int
) -> str:
    """Sends the same requests to both revisions, as callers would, counted apart; why it could not, or nothing.

    Cut short by its time limit it has not failed: what a slow server did with them shows in its counters.
    """
    asked, beside = _ready(canary), _ready(stable)
    if not asked:
        return NO_CANARY
    try:
        known = await _known(servers, beside, asked, token, WARMED_WITH, seed)
        drawn = random.Random(seed).choices(known[:WARMED_WITH], k=requests)  # noqa: S311 - a sample, not a secret
        async with asyncio.timeout(REPLAY_SECONDS):
            troubles = await _together(*_sent(servers, beside, drawn), *_sent(servers, asked, drawn))
    except ServerTrouble as error:
        return str(error)
    except TimeoutError:
        return ""
    return next(filter(None, troubles), "")


async def renew(servers: Servers, of: Sequence[Server], token: str) -> str:
    """Have those who keep connections to these servers choose anew; the trouble, or nothing."""

    async def one(server: Server) -> str:
        try:
            await servers.renew(server, token)
        except ServerTrouble as error:
            return str(error)
        return ""

    return next(filter(None, await asyncio.gather(*(one(server) for server in _ready(of)))), "")


async def smoke(servers: Servers, stable: Sequence[Server], token: str) -> tuple[bool, str]:
    """Whether every ready server of stable answers, with numbers; and in which words."""
    ready = _ready(stable)
    if not ready:
        return False, "no server of the stable revision is ready"
    try:
        questions = await servers.samples(ready[0], token, SMOKED, WARM_SEED)
        complaints = await _together(*(_smoked(servers, server, questions) for server in ready))
    except ServerTrouble as error:
        return False, str(error)
    if wrong := [complaint for complaint in complaints if complaint]:
        return False, wrong[0]
    count, each = len(questions), f"each of {len(ready)} servers" if len(ready) > 1 else "the server"
    return True, f"{count} of {count} questions answered by {each} of revision {ready[0].revision}"


# --- Before and during -----------------------------------------------------------------------------------------------

NO_CANARY: Final = "no server of the canary is ready to be asked"


async def _told(work: Coroutine[Any, Any, Measured]) -> Measured:
    try:
        async with asyncio.timeout(LONGEST):
            return await work
    except ServerTrouble as error:
        return Measured(trouble=str(error))
    except TimeoutError:
        return Measured(trouble=f"the servers took more than {LONGEST:g} s to answer all they were asked")


async def _preflight(
    servers: Servers,
    stable: Sequence[Server],
    canary: Sequence[Server],
    token: str,
    keys: int,
    seed: int,
    physics: bool,
) -> Measured:
    if not canary:
        return Measured(trouble=NO_CANARY)
    known = await _known(servers, stable, canary, token, keys, seed)
    warmed = min(await _together(*(_warm(servers, server, token, known) for server in canary)))
    if not physics:
        return Measured(warmed=warmed)
    more = await _samples(servers, _one(canary, seed), token, CHECKED - len(known), seed)
    items = _distinct([*known, *more])[:CHECKED]
    shadow, trouble = await _physics(servers, stable, canary, token, items, seed, TRIAL_SECONDS)
    return Measured(shadow=shadow, warmed=warmed, trouble=trouble)


async def _check(
    servers: Servers, stable: Sequence[Server], canary: Sequence[Server], token: str, seed: int, solving: float
) -> Measured:
    if not canary:
        return Measured(trouble=NO_CANARY)
    items = await _samples(servers, _one(canary, seed), token, CHECKED, seed)
    shadow, trouble = await _physics(servers, stable, canary, token, _distinct(items), seed, solving)
    return Measured(shadow=shadow, trouble=trouble)


async def _known(
    servers: Servers, stable: Sequence[Server], canary: Sequence[Server], token: str, keys: int, seed: int
) -> list[Item]:
    """What stable is asked most, filled up with samples that are the same every time."""
    most = min(keys, MOST_HOT)
    hot = await servers.hottest(_one(stable, seed), token, most) if stable and most else []
    return hot + await _samples(servers, _one(canary, seed), token, WARMED_WITH - len(hot), WARM_SEED)


async def _samples(servers: Servers, server: Server, token: str, count: int, seed: int) -> list[Item]:
    return await servers.samples(server, token, count, seed) if count > 0 else []


async def _warm(servers: Servers, server: Server, token: str, items: Sequence[Item]) -> int:
    """As well as it can be done: one that is slow with some of them is not quicker the next time."""

    async def warm(part: Sequence[Item]) -> int:
        return await servers.warm(server, token, part)

    return sum(await _in_time(warm, items, WARM_SECONDS, first=WARM_FIRST))


async def _in_time(
    ask: Callable[[Sequence[Item]], Awaitable[T]], items: Sequence[Item], seconds: float, *, first: int
) -> list[T]:
    """What is said of the items, portion by portion, as far as there is time: of few at first, as nothing tells how long each
    takes, then of no more than should be done in half of what is left, or of one while that should be done."""
    loop, said, done, size = asyncio.get_running_loop(), list[T](), 0, first if seconds else 0
    over = loop.time() + seconds
    while size and done < len(items):
        part, began = items[done : done + size], loop.time()
        try:
            async with asyncio.timeout_at(min(over, began + CALL_SECONDS)):
                said.append(await ask(part))
        except TimeoutError:
            break
        done, now = done + len(part), loop.time()
        each, left = max(now - began, 1e-6) / len(part), min(over - now, CALL_SECONDS)
        size = min(2 * size, MOST_AT_ONCE, int(left / 2 / each) or int(left > each))
    return said


# --- Physics ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Shadowed:
    """One input past the cache: the answer, the reference solver's where it was asked, and which invariant is broken."""

    item: Item
    answer: Mapping[str, Any]
    solved: Mapping[str, Any] | None
    detail: str

    @property
    def broken(self) -> bool:
        return self.answer.get("reason") in BROKEN


async def _physics(
    servers: Servers,
    stable: Sequence[Server],
    canary: Sequence[Server],
    token: str,
    items: Sequence[Item],
    seed: int,
    solving: float,
) -> tuple[dict[str, Checked], str]:
    """By revision, the same inputs through one server of each; and why a revision is missing, or nothing. `solving` are the
    seconds for the solver's answers."""
    arms = [_one(of, seed) for of in (canary, stable) if of]
    done = await _together(*(_arm(servers, server, token, items, solving) for server in arms))
    found = {server.revision: made for server, made in zip(arms, done, strict=True) if isinstance(made, Checked)}
    return found, next((made for made in done if isinstance(made, str)), "")


async def _arm(servers: Servers, server: Server, token: str, items: Sequence[Item], solving: float) -> Checked | str:
    try:
        answers = await _solved(servers, server, token, items[:SOLVED], solving)
        answers += await _shadow(servers, server, token, items[len(answers) :], False)
        facts = await _repeated(servers, server, token, answers)
    except ServerTrouble as error:
        return str(error)
    compared = [one for one in answers if _is_comparable(one)]
    wrong = sorted((one for one in compared if _worst(one)[0] > 1), key=lambda one: -_worst(one)[0])
    return Checked(
        checked=sum(one.answer.get("reason") != "out_of_domain" for one in answers),
        violations=len(facts),
        compared=len(compared),
        wrong=len(wrong),
        said=_violation(facts) if facts else _difference(wrong[0]) if wrong else "",
    )


async def _solved(
    servers: Servers, server: Server, token: str, items: Sequence[Item], seconds: float
) -> list[_Shadowed]:
    """As many of the first items as the solver has answered in that time."""

    async def solve(part: Sequence[Item]) -> list[_Shadowed]:
        return await _shadow(servers, server, token, part, True)

    return [one for part in await _in_time(solve, items, seconds, first=1) for one in part]


async def _repeated(servers: Servers, server: Server, token: str, answers: Sequence[_Shadowed]) -> list[_Shadowed]:
    """The violations that are there again when asked once more: the model is deterministic, so they are facts."""
    suspects = [one.item for one in answers if one.broken]
    return [one for one in await _shadow(servers, server, token, suspects, False) if one.broken]


async def _shadow(servers: Servers, server: Server, token: str, items: Sequence[Item], solver: bool) -> list[_Shadowed]:
    found: list[_Shadowed] = []
    for part in _portions(items, PORTION):
        said = await servers.shadow(server, token, part, solver)
        details = {str(entry.get("item")): str(entry.get("detail", "")) for entry in said["violations"]}
        solved = said["solver"] or [None] * len(part)
        triples = enumerate(zip(part, said["answers"], solved, strict=True))
        found += [_Shadowed(item, answer, true, details.get(str(place), "")) for place, (item, answer, true) in triples]
    return found


def _is_comparable(one: _Shadowed) -> bool:
    """The solver against itself tells nothing, and neither does an answer that states no bound."""
    return one.solved is not None and one.answer.get("method") != "solver" and isinstance(_bounds(one.answer), dict)


def _worst(one: _Shadowed) -> tuple[float, str]:
    """The output farthest from the solver's, and how far, as a multiple of what the answer itself allows."""
    names = (one.solved or {}).keys() - ABOUT
    return max(((_distance(one, name), name) for name in sorted(names)), default=(0.0, ""))


def _distance(one: _Shadowed, name: str) -> float:
    solved = one.solved or {}
    value, true = _number(one.answer.get(name)), _number(solved.get(name))
    allowed = _number((_bounds(one.answer) or {}).get(name)) + ROUNDING * abs(true)
    allowed += _number((_bounds(solved) or {}).get(name, 0.0))
    apart = abs(value - true) / allowed if allowed else inf
    return apart if isfinite(apart) else inf


def _bounds(answer: Mapping[str, Any]) -> dict[str, Any] | None:
    bounds = answer.get("error_bound")
    return bounds if isinstance(bounds, dict) else None


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else nan


# --- Requests as callers send them -----------------------------------------------------------------------------------


def _sent(servers: Servers, of: Sequence[Server], items: Sequence[Item]) -> Iterator[Coroutine[Any, Any, str]]:
    """Items dealt out to servers, and to a few who ask each at a time."""
    for place, server in enumerate(of):
        mine = iter(items[place :: len(of)])
        yield from (_ask(servers, server, mine) for _ in range(IN_FLIGHT))


async def _ask(servers: Servers, server: Server, items: Iterator[Item]) -> str:
    """Why there was no answer. An error that is answered has been counted by the server."""
    try:
        for item in items:
            await servers.predict(server, item, "shadow")
    except ServerTrouble as error:
        return str(error)
    return ""


async def _smoked(servers: Servers, server: Server, questions: Sequence[Item]) -> str:
    """What is wrong with the first answer that is; empty when none is."""
    for item in questions:
        status, answer, _ = await servers.predict(server, item, "probe")
        if status != 200 or answer is None:
            said = f": {answer['error']}" if answer and isinstance(answer.get("error"), str) else ""
            return f"pod {server.pod} answers {status} at {_at(item)}{said}"
        outputs = answer.keys() - ABOUT
        if missing := [name for name in sorted(outputs) if not isfinite(_number(answer[name]))]:
            return f"pod {server.pod} has no number for {missing[0]} at {_at(item)}"
        if not outputs:
            return f"pod {server.pod} answers without any output at {_at(item)}"
    return ""


async def _together(*works: Coroutine[Any, Any, T]) -> list[T]:
    """All at once. When one fails, or time is up, none of the others goes on alone."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# --- Servers, items and words ----------------------------------------------------------------------------------------


def _ready(of: Sequence[Server]) -> list[Server]:
    return [server for server in of if server.ready and server.address is not None]


def _one(of: Sequence[Server], seed: int) -> Server:
    """Another one with another seed, so that one bad pod is neither asked for ever nor never."""
    return of[seed % len(of)]


def _portions(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _distinct(items: Sequence[Item]) -> list[Item]:
    return list({json.dumps(item, sort_keys=True): item for item in items}.values())


def _violation(facts: Sequence[_Shadowed]) -> str:
    """Of the one asked most: they come in that order."""
    first = facts[0]
    why = first.detail or f"the model's answer is refused by its own server ({first.answer.get('reason')})"
    more = f"; {len(facts)} of the inputs do so, each twice" if len(facts) > 1 else ", twice"
    return f"{why} at {_at(first.item)}{more}"


def _difference(one: _Shadowed) -> str:
    _, name = _worst(one)
    value, bound = one.answer.get(name), (_bounds(one.answer) or {}).get(name)
    word = f"by its own word within {_number(bound):.2g} of the truth"
    true = _number((one.solved or {}).get(name))
    return f"{name} is {_number(value):.9g} at {_at(one.item)}, {word}, and the reference solver finds {true:.9g}"


def _at(item: Item) -> str:
    return ", ".join(
        f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}" for name, value in item.items()
    )
