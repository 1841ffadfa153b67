"""One task per object. Hours pass here without waiting: the loop's clock jumps to whatever is due next."""

import asyncio
import gc
import itertools
import weakref
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from pinn_operator.api.names import API_VERSION, KIND, LABEL_OBJECT
from pinn_operator.api.observed import ChildId, Key
from pinn_operator.decide import decide
from pinn_operator.errors import ApiError, Conflict, NotUnderstood, Refused, Unavailable
from pinn_operator.kube import AUTOSCALER, CUSTOM_METRICS, NAMED, WRITTEN, Kind, Kube
from pinn_operator.monitoring import Monitoring
from pinn_operator.reconcile import REFUSED_AGAIN, Context, Pass, reconcile
from pinn_operator.wakeups import (
    COALESCE_SECONDS,
    HEAL_SECONDS,
    HEALS,
    LONGEST_PAUSE,
    PASS_SECONDS,
    REFUSED_SECONDS,
    Wakeups,
)
from prometheus_client import generate_latest
from structlog.testing import capture_logs
from tests.fake_kube import FakeKube
from tests.given import observed, resource, spec_of

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

KEY, OTHER = Key("demo", "pricer"), Key("demo", "other")
Answer = Pass | None | Exception

MOST = 22
"""Passes in ten minutes of errors, each pause as short as its scatter makes it: seven that grow to 44 s, then 42 s each."""


def _now() -> float:
    return asyncio.get_running_loop().time()


def _pass(look_again: float | None = None, key: Key = KEY, versions: dict[ChildId, str] | None = None) -> Pass:
    children = {child: {"metadata": {"resourceVersion": version}} for child, version in (versions or {}).items()}
    seen = observed(resource(metadata={"name": key.name, "namespace": key.namespace}), children=children)
    return Pass(seen, decide(seen), look_again)


class Passes:
    """Answers in turn, the last one for ever; when each pass began."""

    def __init__(self, *answers: Answer, lasting: float = 0.0) -> None:
        self.answers = list(answers)
        self.lasting = lasting
        self.began: list[tuple[Key, float]] = []
        self.running = self.most = 0

    async def __call__(self, key: Key) -> Pass | None:
        self.began.append((key, _now()))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.lasting)
        finally:
            self.running -= 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def pauses(self) -> list[float]:
        times = [time for _, time in self.began]
        return [later - earlier - COALESCE_SECONDS for earlier, later in itertools.pairwise(times)]


@pytest.fixture
def monitoring() -> Monitoring:
    return Monitoring()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Tracebacks are rendered in colour otherwise, which takes longer than all these hours."""
    with capture_logs():
        yield


@pytest.fixture
def wakeups_of(monitoring: Monitoring) -> Callable[..., Wakeups]:
    def make(run: Callable[[Key], Awaitable[Pass | None]], at_once: int = 8) -> Wakeups:
        return Wakeups(lambda key, contested: run(key), monitoring, at_once)

    return make


Make = Callable[..., Wakeups]


async def test_a_burst_of_events_is_one_pass(wakeups_of: Make) -> None:
    passes = Passes(_pass())
    wakeups = wakeups_of(passes)
    for _ in range(6):
        wakeups.wake(KEY)
        await asyncio.sleep(COALESCE_SECONDS / 10)
    await asyncio.sleep(60)
    assert len(passes.began) == 1


async def test_an_event_during_a_pass_leads_to_another(wakeups_of: Make) -> None:
    passes = Passes(_pass(), lasting=5)
    wakeups = wakeups_of(passes)
    wakeups.wake(KEY)
    await asyncio.sleep(2)
    wakeups.wake(KEY)
    await asyncio.sleep(60)
    assert len(passes.began) == 2
    assert passes.most == 1


async def test_without_an_event_the_next_pass_is_when_the_last_one_said(wakeups_of: Make) -> None:
    passes = Passes(_pass(30), _pass(1), _pass(None))
    wakeups_of(passes).wake(KEY)
    await asyncio.sleep(3600)
    assert passes.pauses() == pytest.approx([30, 1])


async def test_an_event_does_not_wait_for_that_time(wakeups_of: Make) -> None:
    passes = Passes(_pass(30))
    wakeups = wakeups_of(passes)
    wakeups.wake(KEY)
    await asyncio.sleep(5)
    wakeups.wake(KEY)
    await asyncio.sleep(1)
    assert len(passes.began) == 2


@pytest.mark.parametrize(
    "error", [Unavailable(503, "Busy", "busy"), Refused(403, "Forbidden", "no"), ValueError("a bug")]
)
async def test_pauses_after_errors_grow_and_are_bounded(wakeups_of: Make, error: Exception) -> None:
    passes = Passes(error)
    wakeups_of(passes).wake(KEY)
    await asyncio.sleep(600)
    pauses = passes.pauses()
    for number, pause in enumerate(pauses):
        grown = min(LONGEST_PAUSE, 0.5 * 2**number)
        assert 0.7 * grown - 0.001 <= pause <= grown + 0.001
    assert pauses[-1] >= 0.7 * LONGEST_PAUSE
    assert len(pauses) <= MOST


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (Unavailable(503, "Busy", "busy"), "pass_again"),
        (Refused(403, "Forbidden", "no"), "pass_refused"),
        (ValueError("a bug"), "pass_failed"),
        (NotUnderstood({}, "spec.gpu", "no such policy"), "not_understood"),
    ],
)
async def test_the_log_names_the_object_whose_pass_ended_with_an_error(
    wakeups_of: Make, error: Exception, event: str
) -> None:
    with capture_logs() as logs:
        wakeups_of(Passes(error)).wake(KEY)
        await asyncio.sleep(1)
    assert {(line["event"], line["object"]) for line in logs} == {(event, str(KEY))}


async def test_events_do_not_shorten_the_pause_after_an_error(wakeups_of: Make) -> None:
    """A busy server with many events would otherwise be asked the more, the less it can answer."""
    passes = Passes(Unavailable(503, "Busy", "busy"))
    wakeups = wakeups_of(passes)
    for _ in range(600):
        wakeups.wake(KEY)
        await asyncio.sleep(1)
    assert len(passes.began) <= MOST


async def test_a_conflict_is_tried_again_at_the_event_that_explains_it(wakeups_of: Make) -> None:
    passes = Passes(*[Conflict(409, "Conflict", "changed")] * 5, _pass())
    wakeups = wakeups_of(passes)
    wakeups.wake(KEY)
    for _ in range(5):
        await asyncio.sleep(COALESCE_SECONDS + 0.01)
        wakeups.wake(KEY)
    await asyncio.sleep(COALESCE_SECONDS + 0.01)
    assert len(passes.began) == 6


async def test_a_conflict_that_no_event_explains_is_tried_again_all_the_same(wakeups_of: Make) -> None:
    passes = Passes(Conflict(409, "Conflict", "changed"), _pass())
    wakeups_of(passes).wake(KEY)
    await asyncio.sleep(10)
    assert len(passes.began) == 2


async def test_after_a_success_pauses_are_short_again(wakeups_of: Make) -> None:
    busy = Unavailable(503, "Busy", "busy")
    passes = Passes(*[busy] * 6, _pass(1), busy, _pass(None))
    wakeups_of(passes).wake(KEY)
    await asyncio.sleep(600)
    assert passes.pauses()[5] > 10
    assert passes.pauses()[7] < 1


async def test_a_server_that_asks_for_time_gets_it(wakeups_of: Make) -> None:
    passes = Passes(Unavailable(429, "TooManyRequests", "slow down", 45), _pass())
    wakeups_of(passes).wake(KEY)
    await asyncio.sleep(600)
    assert passes.pauses() == pytest.approx([45])


async def test_a_server_that_asks_for_too_much_is_asked_again_all_the_same(wakeups_of: Make) -> None:
    passes = Passes(Unavailable(429, "TooManyRequests", "slow down", 86_400), _pass())
    wakeups_of(passes).wake(KEY)
    await asyncio.sleep(600)
    assert passes.pauses() == pytest.approx([LONGEST_PAUSE])


async def test_a_pass_that_hangs_is_cut_off_and_tried_again(wakeups_of: Make) -> None:
    passes = Passes(_pass(), lasting=3600)
    wakeups_of(passes).wake(KEY)
    await asyncio.sleep(PASS_SECONDS + 2)
    assert len(passes.began) == 2


async def test_one_objects_bug_does_not_stop_the_others(wakeups_of: Make) -> None:
    async def run(key: Key) -> Pass:
        if key == OTHER:
            raise ValueError("a bug")
        done.append(key)
        return _pass()

    done: list[Key] = []
    wakeups = wakeups_of(run)
    wakeups.wake(OTHER)
    wakeups.wake(KEY)
    await asyncio.sleep(1)
    assert done == [KEY]


async def test_an_object_that_is_gone_ends_its_task_and_its_gauges(wakeups_of: Make, monitoring: Monitoring) -> None:
    status = {"stable": {"weight": 100}}
    seen = observed(resource(status=status))
    passes = Passes(Pass(seen, decide(seen), 1), None)
    wakeups = wakeups_of(passes)
    wakeups.wake(KEY)
    await asyncio.sleep(1)
    assert wakeups.serving == 1
    assert b'pinndeployment="pricer"' in generate_latest(monitoring.registry)
    await asyncio.sleep(5)
    assert wakeups.serving == 0
    assert b'pinndeployment="pricer"' not in generate_latest(monitoring.registry)
    assert [task for task in asyncio.all_tasks() if task.get_name() == str(KEY)] == []


async def test_an_object_made_anew_while_its_end_is_noticed_is_served(wakeups_of: Make) -> None:
    passes = Passes(None, _pass(), lasting=1)
    wakeups = wakeups_of(passes)
    wakeups.wake(KEY)
    await asyncio.sleep(0.5)
    wakeups.wake(KEY)
    await asyncio.sleep(10)
    assert (len(passes.began), wakeups.serving) == (2, 1)


@pytest.mark.parametrize("at_once", [1, 3])
async def test_so_many_passes_run_at_once_and_no_more(wakeups_of: Make, at_once: int) -> None:
    passes = Passes(_pass(), lasting=1)
    wakeups = wakeups_of(passes, at_once)
    for number in range(12):
        wakeups.wake(Key("demo", str(number)))
    await asyncio.sleep(60)
    assert (passes.most, len(passes.began)) == (at_once, 12)


async def test_an_object_that_waits_after_an_error_takes_no_turn(wakeups_of: Make) -> None:
    async def run(key: Key) -> Pass:
        done.append(key)
        if key == OTHER:
            raise Unavailable(429, "TooManyRequests", "slow down", 3600)
        return _pass()

    done: list[Key] = []
    wakeups = wakeups_of(run, at_once=1)
    wakeups.wake(OTHER)
    await asyncio.sleep(1)
    wakeups.wake(KEY)
    await asyncio.sleep(1)
    assert done == [OTHER, KEY]


async def test_whoever_undoes_every_mending_gets_a_bounded_number_of_writes_in_return(wakeups_of: Make) -> None:
    """Each mending is undone at once, and each undoing is an event."""
    mended = replace(_pass(), healed=True)
    passes = Passes(mended)
    wakeups = wakeups_of(passes)
    for _ in range(6000):
        wakeups.wake(KEY)
        await asyncio.sleep(0.1)
    assert len(passes.began) <= HEALS * (600 / HEAL_SECONDS + 1)
    assert len(passes.began) >= HEALS * (600 / HEAL_SECONDS - 1)


async def test_a_pass_is_told_that_somebody_undoes_the_mendings_and_that_it_is_over(monitoring: Monitoring) -> None:
    """Undone for five minutes; then nobody changes anything, and nothing wakes the object."""
    told: list[tuple[float, bool]] = []

    async def run(key: Key, contested: bool) -> Pass:
        told.append((_now(), contested))
        return replace(_pass(), healed=_now() < 300)

    wakeups = Wakeups(run, monitoring, 8)
    while _now() < 300:
        wakeups.wake(KEY)
        await asyncio.sleep(0.1)
    assert [contested for _, contested in told[:HEALS]] == [False] * HEALS
    assert all(contested for at, contested in told[HEALS:] if at < 300)
    await asyncio.sleep(600)
    assert told[-1][1] is False
    assert len([at for at, _ in told if at > 300]) <= 4


async def test_mendings_now_and_then_are_no_fight(monitoring: Monitoring) -> None:
    told: list[bool] = []

    async def run(key: Key, contested: bool) -> Pass:
        told.append(contested)
        return replace(_pass(), healed=True)

    wakeups = Wakeups(run, monitoring, 8)
    for _ in range(100):
        wakeups.wake(KEY)
        await asyncio.sleep(20)
    assert len(told) == 100
    assert not any(told)


async def test_a_refusal_in_other_words_each_time_does_not_wake_its_own_object_without_end(
    monitoring: Monitoring,
) -> None:
    """Whole passes: each writes the new words into the status, and that is an event."""
    kube = FakeKube(_idle("pricer"))
    context = Context(kube, "inference:1", "test")
    wakeups = Wakeups(lambda key, contested: reconcile(context, key, contested), monitoring, 8)
    tries = itertools.count(1)
    told = 0

    async def before(verb: str, kind: str, _name: str) -> None:
        nonlocal told
        if (verb, kind) == ("apply", "ServiceAccount"):
            raise Refused(403, "Forbidden", f"a policy is in the way, says request {next(tries)}")
        if verb == "apply_status":
            told += 1
            asyncio.get_running_loop().call_later(0.01, wakeups.wake, KEY)

    kube.before = before
    wakeups.wake(KEY)
    await asyncio.sleep(60)
    await wakeups.stop()
    assert 60 / (REFUSED_SECONDS + 2 * COALESCE_SECONDS) - 2 <= told <= 60 / REFUSED_SECONDS + 1


async def test_a_change_gets_through_to_an_object_that_was_refused_and_only_then_at_once(wakeups_of: Make) -> None:
    passes = Passes(replace(_pass(REFUSED_AGAIN), refused=True), _pass(REFUSED_AGAIN), _pass(None))
    wakeups = wakeups_of(passes)
    wakeups.wake(KEY)
    await asyncio.sleep(1)
    wakeups.wake(KEY)
    await asyncio.sleep(10)
    wakeups.wake(KEY)
    await asyncio.sleep(60)
    assert passes.pauses() == pytest.approx([REFUSED_SECONDS, 11 - REFUSED_SECONDS - 2 * COALESCE_SECONDS])


async def test_what_was_refused_is_tried_again_when_the_pass_said_though_nothing_happens(wakeups_of: Make) -> None:
    passes = Passes(replace(_pass(REFUSED_AGAIN), refused=True), replace(_pass(1), refused=True), _pass(None))
    wakeups_of(passes).wake(KEY)
    await asyncio.sleep(600)
    assert passes.pauses() == pytest.approx([REFUSED_AGAIN, REFUSED_SECONDS])


async def test_stop_cancels_every_task_even_in_the_middle_of_a_pass(wakeups_of: Make) -> None:
    passes = Passes(_pass(), lasting=60)
    wakeups = wakeups_of(passes, at_once=1)
    wakeups.wake(KEY)
    wakeups.wake(OTHER)
    await asyncio.sleep(1)
    await asyncio.wait_for(wakeups.stop(), 5)
    assert (passes.running, wakeups.serving) == (0, 0)
    await asyncio.sleep(3600)
    assert len(passes.began) == 1


async def test_a_child_wakes_the_object_that_its_label_names(wakeups_of: Make) -> None:
    passes = Passes(_pass())
    wakeups = wakeups_of(passes)
    wakeups.wake_owner({"metadata": {"name": "x", "namespace": "demo", "labels": {LABEL_OBJECT: "pricer"}}})
    wakeups.wake_owner({"metadata": {"name": "y", "namespace": "demo", "labels": {"app": "z"}}})
    wakeups.wake_owner({"metadata": {"name": "z", "namespace": "demo"}})
    await asyncio.sleep(1)
    assert [key for key, _ in passes.began] == [KEY]


# --- The full list every ten minutes ---------------------------------------------------------------------------------


def _stored(name: str, kind: str = "PinnDeployment", of: str | None = None) -> dict[str, Any]:
    labels = {LABEL_OBJECT: of} if of else {}
    return {"kind": kind, "metadata": {"name": name, "namespace": "demo", "labels": labels}}


async def _settled(wakeups_of: Make, waiting: str = "") -> tuple[FakeKube, Wakeups, Passes]:
    """Two objects, each with a Service and with what is read by its name, both just seen by a pass; one may wait for metrics."""
    kube = FakeKube(_stored("pricer"), _stored("other"))
    for name in ("pricer", "other"):
        for kind in ("Service", *(kind.kind for kind in NAMED)):
            kube.put(_stored(f"{name}-1", kind, name))

    async def run(key: Key) -> Pass | None:
        passes.began.append((key, _now()))
        own = kube.peek("PinnDeployment", key.name)
        if own is None:
            return None
        children = {
            ChildId(kind, n): obj
            for (kind, _, n), obj in kube.objects.items()
            if kind != "PinnDeployment" and key.name in n
        }
        metadata = {"name": key.name, "resourceVersion": own["metadata"]["resourceVersion"]}
        metrics = CUSTOM_METRICS in kube.groups if key.name == waiting else None
        seen = observed(resource(metadata=metadata), children=children, pod_metrics=metrics)
        return Pass(seen, decide(seen), None)

    passes = Passes(None)
    wakeups = wakeups_of(run)
    wakeups.wake(KEY)
    wakeups.wake(OTHER)
    await asyncio.sleep(1)
    passes.began.clear()
    return kube, wakeups, passes


async def _woken_by_resync(kube: FakeKube, wakeups: Wakeups, passes: Passes) -> set[str]:
    await wakeups.resync(kube, (None,))
    await asyncio.sleep(1)
    return {key.name for key, _ in passes.began}


async def test_the_list_wakes_nobody_when_nothing_was_missed(wakeups_of: Make) -> None:
    assert await _woken_by_resync(*await _settled(wakeups_of)) == set()


async def test_the_list_wakes_the_object_that_changed(wakeups_of: Make) -> None:
    kube, wakeups, passes = await _settled(wakeups_of)
    kube.put(kube.peek("PinnDeployment", "pricer") or {})
    assert await _woken_by_resync(kube, wakeups, passes) == {"pricer"}


async def test_the_list_wakes_the_object_whose_child_changed_or_went_or_came(wakeups_of: Make) -> None:
    kube, wakeups, passes = await _settled(wakeups_of)
    kube.put(kube.peek("Service", "pricer-1") or {})
    assert await _woken_by_resync(kube, wakeups, passes) == {"pricer"}
    passes.began.clear()
    del kube.objects["Service", "demo", "pricer-1"]
    assert await _woken_by_resync(kube, wakeups, passes) == {"pricer"}
    passes.began.clear()
    kube.put(_stored("other-2", "Service", "other"))
    assert await _woken_by_resync(kube, wakeups, passes) == {"other"}


async def test_the_list_finds_an_object_that_no_event_told_of_and_one_that_is_gone(wakeups_of: Make) -> None:
    kube, wakeups, passes = await _settled(wakeups_of)
    kube.put(_stored("new"))
    del kube.objects["PinnDeployment", "demo", "pricer"]
    del kube.objects["Service", "demo", "pricer-1"]
    assert await _woken_by_resync(kube, wakeups, passes) == {"new", "pricer"}
    assert wakeups.serving == 2


async def test_the_list_wakes_who_waits_for_metrics_of_pods_when_they_have_come_or_gone(wakeups_of: Make) -> None:
    """No event tells, and nobody looks again and again."""
    kube, wakeups, passes = await _settled(wakeups_of, waiting="pricer")
    assert await _woken_by_resync(kube, wakeups, passes) == set()
    kube.groups = {CUSTOM_METRICS}
    assert await _woken_by_resync(kube, wakeups, passes) == {"pricer"}
    passes.began.clear()
    kube.requests.clear()
    assert await _woken_by_resync(kube, wakeups, passes) == set()
    assert [request for request in kube.requests if request[0] == "serves"] == [("serves", "APIGroup", CUSTOM_METRICS)]


async def test_where_nobody_waits_for_metrics_the_list_does_not_ask_for_them(wakeups_of: Make) -> None:
    kube, wakeups, _ = await _settled(wakeups_of)
    kube.requests.clear()
    await wakeups.resync(kube, (None,))
    assert not [request for request in kube.requests if request[0] == "serves"]


def _scaler(**change: Any) -> dict[str, Any]:
    return {**_stored("pricer-2", AUTOSCALER.kind, "pricer"), "spec": {"maxReplicas": 10}, **change}


async def test_an_autoscaler_that_tells_what_it_has_measured_wakes_nobody(wakeups_of: Make) -> None:
    """It does four times a minute. Its bounds are the operator's, and its absence too."""
    kube, wakeups, passes = await _settled(wakeups_of)
    known = kube.put(_scaler())
    wakeups.wake_owner(known)
    await asyncio.sleep(60)
    assert len(passes.began) == 1, "it is new"
    for number in range(20):
        wakeups.wake_owner(kube.put({**known, "status": {"desiredReplicas": number}}))
        await asyncio.sleep(15)
    assert await _woken_by_resync(kube, wakeups, passes) == {"pricer"}
    assert len(passes.began) == 1
    wakeups.wake_owner(kube.put({**known, "spec": {"maxReplicas": 11}}))
    await asyncio.sleep(60)
    assert len(passes.began) == 2
    wakeups.wake_owner(kube.peek(AUTOSCALER.kind, "pricer-2") or {}, gone=True)
    await asyncio.sleep(60)
    assert len(passes.began) == 3


class _Part(dict[str, Any]):
    """A part of an object, of which can be asked whether it is still there."""


class _Paged(Kube):
    """Five pages of each kind; how much of the pages before was still there when one was read."""

    def __init__(self) -> None:
        self.given: list[weakref.ref[_Part]] = []
        self.alive: list[int] = []

    async def _call(self, verb: str, kind: Kind, **args: Any) -> dict[str, Any]:
        self.alive.append(sum(part() is not None for part in self.given))
        number = int(args["_continue"] or 0) + 1
        items = [{"metadata": self._part(f"{number}-{place}")} for place in range(10)]
        return {"items": items, "metadata": {"continue": str(number) if number < 5 else ""}}

    def _part(self, name: str) -> _Part:
        labels = {LABEL_OBJECT: "pricer"}
        part = _Part(name=name, namespace="demo", resourceVersion="1", labels=labels)
        self.given.append(weakref.ref(part))
        return part


@pytest.mark.parametrize("error", [None, Unavailable, Conflict])
async def test_what_a_pass_has_seen_is_not_kept_until_the_next(
    monitoring: Monitoring, error: type[ApiError] | None
) -> None:
    """Ten records of each of 400 objects are more than the operator has memory for."""
    known: list[weakref.ref[_Part]] = []

    async def run(key: Key, contested: bool) -> Pass:
        child = _Part(metadata={"resourceVersion": "1"})
        known.append(weakref.ref(child))
        seen = observed(resource(), children={ChildId("ControllerRevision", "pricer-1"): child})
        if error is not None:
            raise error(0, "Any", "whatever")
        return Pass(seen, decide(seen), None)

    wakeups = Wakeups(run, monitoring, 8)
    wakeups.wake(KEY)
    await asyncio.sleep(COALESCE_SECONDS + 0.01)
    gc.collect()
    assert [part() for part in known] == [None]
    await wakeups.stop()


async def test_of_a_full_list_one_page_is_in_memory_at_a_time(wakeups_of: Make) -> None:
    kube = _Paged()
    await wakeups_of(Passes(None)).resync(kube, (None,))
    assert kube.alive == [0] * 5 * (1 + len(WRITTEN))


async def test_a_list_that_fails_wakes_nobody(wakeups_of: Make) -> None:
    kube, wakeups, passes = await _settled(wakeups_of)

    async def before(_verb: str, kind: str, _name: str) -> None:
        if kind == "Service":
            raise ApiError(410, "Expired", "too old")

    kube.before = before
    with pytest.raises(ApiError):
        await wakeups.resync(kube, (None,))
    await asyncio.sleep(1)
    assert passes.began == []


async def test_an_event_after_the_stop_wakes_nobody(wakeups_of: Make) -> None:
    """The watches end later than the passes do, and another replica may lead by then."""
    passes = Passes(_pass())
    wakeups = wakeups_of(passes)
    await wakeups.stop()
    wakeups.wake(KEY)
    await asyncio.sleep(60)
    assert passes.began == []


async def test_idle_objects_however_many_cost_a_list_of_each_kind_in_ten_minutes_and_nothing_else(
    monitoring: Monitoring,
) -> None:
    """Whole passes, against an API server in a dict; the watches are kopf's."""
    names = [f"pricer-{number}" for number in range(20)]
    kube = FakeKube(*(_idle(name) for name in names))
    context = Context(kube, "inference:1", "test")
    wakeups = Wakeups(lambda key, contested: reconcile(context, key, contested), monitoring, 8)
    for _ in range(3):
        for name in names:
            wakeups.wake(Key("demo", name))
        await asyncio.sleep(60)
    kube.requests.clear()
    for _ in range(6):
        await asyncio.sleep(600)
        await wakeups.resync(kube, (None,))
    await asyncio.sleep(60)
    assert {verb for verb, *_ in kube.requests} == {"list_all"}
    assert len(kube.requests) == 6 * (1 + len(WRITTEN))
    await wakeups.stop()


def _idle(name: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "demo", "uid": name, "generation": 1}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec_of("1.0.0", replicas=0)}
