"""Two replicas and one Lease, on a clock that only the event loop moves: an hour of it takes no time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from pinn_operator import lease as module
from pinn_operator.errors import ApiError, Conflict, LeaseLost, Refused, Unavailable
from pinn_operator.kube import CALL_SECONDS, LEASE, WRITE_SECONDS
from pinn_operator.lease import DEAF_SECONDS, Lease, Terms
from structlog.testing import capture_logs
from tests.clock import loop_clock
from tests.fake_kube import FakeKube

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

SECONDS = 15


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with capture_logs():
        yield


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "time", loop_clock())


def _lease(kube: FakeKube, identity: str) -> Lease:
    return Lease(kube, Terms("pinn-operator", "pinn-system", identity, SECONDS))


def _holder(kube: FakeKube) -> str:
    return str((kube.peek("Lease", "pinn-operator", "pinn-system") or {})["spec"]["holderIdentity"])


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _seconds_until(work: Awaitable[None], limit: float = 120.0) -> float:
    started = _now()
    await asyncio.wait_for(work, limit)
    return _now() - started


def _unreachable(during: Callable[[str], Awaitable[None]]) -> Callable[[str, str, str], Awaitable[None]]:
    async def before(verb: str, _kind: str, _name: str) -> None:
        await during(verb)

    return before


async def _refused_at_once(_verb: str) -> None:
    raise Unavailable(0, "NoAnswer", "connection refused")


async def _hanging(_verb: str) -> None:
    await asyncio.sleep(CALL_SECONDS)
    raise Unavailable(0, "NoAnswer", "time-out")


async def _fickle(verb: str) -> None:
    """Slow to read and silent to writes: each try takes as long as it can and fails."""
    await (asyncio.sleep(2.9) if verb == "get" else _hanging(verb))


async def _refused_then_hanging(_verb: str) -> None:
    """By the minute: refused in its first seconds, then silent."""
    if _now() % 60 < 6:
        raise Unavailable(0, "NoAnswer", "connection refused")
    await _hanging("")


async def _silent_to_writes(verb: str) -> None:
    if verb != "get":
        await asyncio.sleep(WRITE_SECONDS)
        raise Unavailable(0, "NoAnswer", "time-out")


FAULTS = [_refused_at_once, _hanging, _fickle, _refused_then_hanging, _silent_to_writes]


async def test_a_free_lease_is_taken_at_once() -> None:
    kube = FakeKube()
    assert await _seconds_until(_lease(kube, "a").acquire()) == 0
    assert _holder(kube) == "a"


async def test_a_lease_that_is_renewed_is_never_taken_over() -> None:
    kube = FakeKube()
    a, b = _lease(kube, "a"), _lease(kube, "b")
    await a.acquire()
    keeping = asyncio.create_task(a.keep())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(b.acquire(), 3600)
    assert _holder(kube) == "a"
    keeping.cancel()


async def test_a_lease_is_taken_over_when_its_holder_stops_renewing_and_not_before_its_time_is_over() -> None:
    kube = FakeKube()
    a, b = _lease(kube, "a"), _lease(kube, "b")
    await a.acquire()
    keeping = asyncio.create_task(a.keep())
    waiting = asyncio.create_task(b.acquire())
    await asyncio.sleep(61)
    last_renewal = 60.0
    keeping.cancel()
    await waiting
    assert SECONDS < _now() - last_renewal <= SECONDS + 2 * SECONDS / 3 + 1
    assert (_holder(kube), (kube.peek("Lease", "pinn-operator", "pinn-system") or {})["spec"]["leaseTransitions"]) == (
        "b",
        1,
    )


async def test_a_holder_that_starts_again_under_its_name_does_not_wait_for_itself() -> None:
    kube = FakeKube()
    await _lease(kube, "a").acquire()
    assert await _seconds_until(_lease(kube, "a").acquire()) == 0
    assert (kube.peek("Lease", "pinn-operator", "pinn-system") or {})["spec"]["leaseTransitions"] == 0


async def test_a_lease_that_is_given_back_lets_the_other_in_at_its_next_look() -> None:
    kube = FakeKube()
    a, b = _lease(kube, "a"), _lease(kube, "b")
    await a.acquire()
    waiting = asyncio.create_task(b.acquire())
    await asyncio.sleep(1)
    await a.release()
    assert await _seconds_until(waiting) <= SECONDS / 3
    assert _holder(kube) == "b"


async def test_giving_back_what_another_holds_takes_nothing_from_it() -> None:
    kube = FakeKube()
    await _lease(kube, "a").acquire()
    await _lease(kube, "b").release()
    assert _holder(kube) == "a"


async def test_that_the_lease_cannot_be_given_back_is_no_harm() -> None:
    kube = FakeKube()
    a = _lease(kube, "a")
    await a.acquire()
    kube.before = _unreachable(_refused_at_once)
    await a.release()
    assert _holder(kube) == "a"


async def test_a_lease_that_is_given_back_in_vain_does_not_hold_up_the_end() -> None:
    kube = FakeKube()
    a = _lease(kube, "a")
    await a.acquire()
    kube.before = _unreachable(_silent_to_writes)
    assert await _seconds_until(a.release()) <= SECONDS / 5


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_holder_that_cannot_reach_the_server_gives_up_before_its_time_is_over(
    fault: Callable[[str], Awaitable[None]],
) -> None:
    kube = FakeKube()
    a = _lease(kube, "a")
    await a.acquire()
    kube.before = _unreachable(fault)
    started = _now()
    with pytest.raises(LeaseLost):
        await asyncio.wait_for(a.keep(), 120)
    assert SECONDS / 3 < _now() - started < SECONDS


async def test_one_failed_renewal_is_not_the_end() -> None:
    kube = FakeKube()
    a = _lease(kube, "a")
    await a.acquire()
    keeping = asyncio.create_task(a.keep())
    for _ in range(5):
        kube.before = _unreachable(_refused_at_once)
        await asyncio.sleep(SECONDS / 3 + 0.5)
        kube.before = None
        await asyncio.sleep(2 * SECONDS)
    assert not keeping.done()
    keeping.cancel()


async def test_a_holder_that_finds_another_in_its_place_gives_up_at_its_next_look() -> None:
    kube = FakeKube()
    a = _lease(kube, "a")
    await a.acquire()
    live = kube.peek("Lease", "pinn-operator", "pinn-system") or {}
    kube.put({**live, "spec": {**live["spec"], "holderIdentity": "b"}})
    started = _now()
    with pytest.raises(LeaseLost, match="is held by b"):
        await asyncio.wait_for(a.keep(), SECONDS)
    assert _now() - started <= SECONDS / 5
    assert _holder(kube) == "b"


async def test_a_holder_that_lost_the_race_for_a_renewal_looks_again_before_it_gives_up() -> None:
    """Somebody may have put a label on the Lease."""
    kube = FakeKube()
    a = _lease(kube, "a")
    await a.acquire()

    async def before(verb: str, _kind: str, _name: str) -> None:
        if verb == "replace" and not labelled:
            labelled.append(_now())
            kube.put(kube.peek("Lease", "pinn-operator", "pinn-system") or {})

    labelled: list[float] = []
    kube.before = before
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(a.keep(), 60)
    assert (len(labelled), _holder(kube)) == (1, "a")


@pytest.mark.parametrize("verb", ["create", "replace"])
async def test_a_lost_race_is_a_no(verb: str) -> None:
    """The other one writes between our look and our write."""
    kube = FakeKube()
    if verb == "replace":
        await _lease(kube, "").acquire()

    async def before(asked: str, _kind: str, _name: str) -> None:
        if asked == verb:
            kube.before = None
            await _lease(kube, "b").acquire()

    kube.before = before
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(_lease(kube, "a").acquire(), SECONDS - 1)
    assert _holder(kube) == "b"


async def test_a_write_on_an_old_reading_is_refused_by_the_server() -> None:
    kube = FakeKube()
    await _lease(kube, "a").acquire()
    old = await kube.get(LEASE, "pinn-operator", "pinn-system")
    assert old is not None
    await kube.replace(old)
    with pytest.raises(Conflict):
        await kube.replace(old)


@pytest.mark.parametrize("fault", [_refused_at_once, _hanging, _refused_then_hanging])
async def test_a_standby_that_hears_nothing_of_the_server_ends_after_a_minute(
    fault: Callable[[str], Awaitable[None]],
) -> None:
    """The server has another certificate, say, of which only the next start of this replica knows."""
    kube = FakeKube()
    kube.before = _unreachable(fault)
    with pytest.raises(LeaseLost):
        await _seconds_until(_lease(kube, "b").acquire())
    assert DEAF_SECONDS <= _now() < DEAF_SECONDS + 3 * SECONDS / 5


@pytest.mark.parametrize(
    "answer",
    [Unavailable(503, "Busy", "busy"), Unavailable(401, "Unauthorized", "old"), Refused(403, "Forbidden", "no")],
)
async def test_a_standby_that_is_answered_whatever_it_is_stays(answer: ApiError) -> None:
    kube = FakeKube()

    async def before(*_: str) -> None:
        raise answer

    kube.before = before
    with pytest.raises(TimeoutError):
        await _seconds_until(_lease(kube, "b").acquire(), 3600)


async def test_a_standby_that_hears_something_within_the_minute_stays() -> None:
    kube = FakeKube()
    a, b = _lease(kube, "a"), _lease(kube, "b")
    await a.acquire()
    waiting = asyncio.create_task(b.acquire())
    keeping = asyncio.create_task(a.keep())
    for _ in range(10):
        keeping.cancel()
        kube.before = _unreachable(_refused_at_once)
        await asyncio.sleep(DEAF_SECONDS - SECONDS / 5)
        kube.before = None
        keeping = asyncio.create_task(a.keep())
        await asyncio.sleep(SECONDS / 2)
    assert not waiting.done()
    keeping.cancel()
    waiting.cancel()


@pytest.mark.parametrize("offset", [0.1, 2.4, 4.9])
@pytest.mark.parametrize("fault", FAULTS)
async def test_two_replicas_never_both_hold_it(offset: float, fault: Callable[[str], Awaitable[None]]) -> None:
    """For ten minutes each in turn loses the server for a minute; who holds it writes itself down when it begins and ends."""
    kube = FakeKube()
    cut_off: set[str] = set()
    holding: set[str] = set()
    held = []

    class Link(FakeKube):
        """The same store, over a connection of one's own."""

        def __init__(self, identity: str) -> None:
            super().__init__()
            self.objects, self._versions, self._identity = kube.objects, kube._versions, identity

        async def _asked(self, verb: str, kind: str, name: str) -> None:
            if self._identity in cut_off:
                await fault(verb)

    async def replica(identity: str, first: float) -> None:
        await asyncio.sleep(first)
        lease = Lease(Link(identity), Terms("pinn-operator", "pinn-system", identity, SECONDS))
        while True:
            await lease.acquire()
            holding.add(identity)
            held.append(identity)
            assert holding == {identity}
            try:
                await lease.keep()
            except LeaseLost:
                holding.discard(identity)

    replicas = [asyncio.create_task(replica("a", 0)), asyncio.create_task(replica("b", offset))]
    for turn in range(10):
        cut_off = {"ab"[turn % 2]}
        await asyncio.sleep(40 + turn)
        cut_off = set()
        await asyncio.sleep(20)
    assert not [one for one in replicas if one.done()]
    assert set(held) == {"a", "b"}
    assert len(held) >= 8
    for one in replicas:
        one.cancel()
