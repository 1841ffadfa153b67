"""A route that the user owns: two weights are written in it and nothing else, and no request is sent where it should not go."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pinn_operator.act import act
from pinn_operator.act.shares import weigh
from pinn_operator.api.journal import Arm, Journal
from pinn_operator.api.memory import Memory
from pinn_operator.api.names import FINALIZER, LABEL_REVISION
from pinn_operator.api.observed import ChildId, Key, Observed
from pinn_operator.api.outcome import Outcome
from pinn_operator.api.plan import Phase, Plan, Run, Traffic
from pinn_operator.build import build
from pinn_operator.build.traffic import canary_service, service
from pinn_operator.errors import Conflict, Refused
from pinn_operator.observe import observe
from pinn_operator.observe.route import read_referred, referred_route
from tests.fake_kube import FakeKube
from tests.given import NOW, UID, observed, ready, resource, revision, spec_of

Object = dict[str, Any]

ONE, TWO = revision("1.0.0", 1), revision("2.0.0", 2)
NAMES = {ONE.name: "one", TWO.name: "two"}
SPEC = spec_of("2.0.0", traffic={"routeRef": {"name": "mine"}})
METADATA = {"name": "pricer", "namespace": "demo", "uid": UID, "generation": 1, "finalizers": [FINALIZER]}
OBJECT = resource("2.0.0", traffic={"routeRef": {"name": "mine"}})
HEADER = {"headers": [{"name": "x-preview", "value": "yes"}]}


def backend(name: str, weight: int | None = None, **more: Any) -> Object:
    return {"name": name, "port": 80, **({} if weight is None else {"weight": weight}), **more}


def pair(stable: int | None, canary: int | None, **more: Any) -> Object:
    return {"backendRefs": [backend("pricer", stable), backend("pricer-canary", canary)], **more}


def user_route(*rules: Object, generation: int = 1, taken: int = 1) -> Object:
    conditions = [
        {"type": name, "status": "True", "observedGeneration": taken} for name in ("Accepted", "ResolvedRefs")
    ]
    metadata = {"name": "mine", "namespace": "demo", "generation": generation}
    spec = {"parentRefs": [{"name": "gw"}], "hostnames": ["a.example"], "rules": list(rules)}
    return {
        "kind": "HTTPRoute", "metadata": metadata, "spec": spec,
        "status": {"parents": [{"parentRef": {"name": "gw"}, "conditions": conditions}]},
    }  # fmt: skip


def children(stable: str | None, canary: str | None) -> dict[ChildId, Object]:
    selects = {"pricer": stable, "pricer-canary": canary}
    return {
        ChildId("Service", name): {"spec": {"selector": {LABEL_REVISION: chosen}}}
        for name, chosen in selects.items()
        if chosen
    }


def seen_with(
    live: Object | None, stable: str | None = ONE.name, canary: str | None = TWO.name, **more: Any
) -> Observed:
    """The two Services lead to these, and so do their endpoints unless it is said otherwise."""
    behind = more.pop("behind_canary", {canary} - {None})
    route = referred_route(live, OBJECT, children(stable, canary), behind)
    return observed(OBJECT, **{
        "revisions": [ONE, TWO], "workloads": {ONE.name: ready(1), TWO.name: ready(1)}, "selected": stable,
        "endpoints": {stable} - {None}, "route": route, **more,
    })  # fmt: skip


def planned(weight: int, phase: Phase = Phase.STEPPING, **more: Any) -> Plan:
    shares = {name: share for name, share in {ONE.name: 100 - weight, TWO.name: weight}.items() if share}
    traffic = Traffic(shares, TWO.name if weight == 100 else ONE.name)
    return Plan(phase, "", TWO.name, **{"stable": ONE, "canary": TWO, "traffic": traffic, **more})


BACK = planned(0, Phase.ROLLING_BACK)
PROMOTED = planned(100, Phase.SERVING, stable=TWO, canary=None)


async def written(live: Object, plan: Plan, seen: Observed | None = None) -> tuple[Object, Outcome]:
    """The route afterwards. The observation has it as the API server does, with a resourceVersion."""
    kube = FakeKube(live)
    stored = kube.peek("HTTPRoute", "mine")
    seen = seen or seen_with(stored)
    assert seen.route is not None
    outcome = await weigh(kube, plan, replace(seen, route=replace(seen.route, theirs=stored)))
    return kube.peek("HTTPRoute", "mine") or {}, outcome


def weights(route: Object) -> list[list[int | None]]:
    return [[one.get("weight") for one in rule["backendRefs"]] for rule in route["spec"]["rules"]]


# --- What is read ----------------------------------------------------------------------------------------------------


def test_shares_are_told_by_the_revisions_that_the_two_services_select() -> None:
    route = seen_with(user_route(pair(9, 1))).route
    assert route is not None
    assert (route.weights, route.in_force, route.trouble) == ({ONE.name: 90, TWO.name: 10}, True, "")


def test_while_both_services_lead_to_one_revision_it_has_everything() -> None:
    route = seen_with(user_route(pair(None, None)), TWO.name, TWO.name).route
    assert route is not None
    assert route.weights == {TWO.name: 100}


def test_a_share_below_one_percent_is_no_nothing() -> None:
    """Else NAME-canary would be turned to a canary while a thousandth of the users is sent through it."""
    route = seen_with(user_route(pair(999, 1))).route
    assert route is not None
    assert route.weights == {ONE.name: 99, TWO.name: 1}


def test_of_several_rules_the_one_with_most_for_the_canary_counts_and_they_are_in_force_when_they_agree() -> None:
    route = seen_with(user_route(pair(90, 10), pair(50, 50), {"backendRefs": [backend("pricer")]})).route
    assert route is not None
    assert (route.weights, route.in_force) == ({ONE.name: 50, TWO.name: 50}, False)


@pytest.mark.parametrize(
    ("live", "words"),
    [
        (None, "HTTPRoute mine, which spec.traffic.routeRef names, does not exist"),
        (user_route(), "HTTPRoute mine has no rule with the two Services pricer and pricer-canary as backends"),
        (user_route({"backendRefs": [backend("pricer")]}), "has no rule with the two Services"),
        (user_route({"backendRefs": [backend("pricer"), backend("pricer-canary", kind="Pool")]}), "has no rule with"),
        (user_route({"backendRefs": [backend("pricer"), backend("pricer-canary", namespace="x")]}), "has no rule"),
        (
            user_route({"backendRefs": [backend("pricer"), backend("pricer-canary"), backend("old")]}),
            "HTTPRoute mine has a rule with more backends than pricer and pricer-canary; give the others a rule of their own",
        ),
        (user_route(pair(100, 0), generation=2), "Gateway gw has not seen the change of the HTTPRoute yet"),
        (user_route(pair(100, 0)) | {"status": {}}, "Gateway gw has not taken the HTTPRoute yet"),
        (user_route(pair(100, 0)) | {"spec": {"rules": [pair(100, 0)]}}, "HTTPRoute mine names no Gateway"),
    ],
)
def test_a_route_in_which_no_share_can_be_made_says_why(live: Object | None, words: str) -> None:
    route = seen_with(live).route
    assert route is not None
    assert words in route.trouble
    assert not route.in_force


async def test_the_route_is_read_by_the_name_that_the_spec_gives() -> None:
    kube = FakeKube(user_route(pair(100, 0)))
    found = await read_referred(kube, OBJECT)
    assert found is not None
    assert found["metadata"]["name"] == "mine"
    assert await read_referred(kube, resource("2.0.0")) is None


# --- What is written -------------------------------------------------------------------------------------------------


async def test_the_weights_are_written_and_nothing_else() -> None:
    preview = {"matches": [HEADER], "backendRefs": [backend("pricer-canary")], "filters": [{"type": "X"}]}
    live = user_route(preview, pair(100, 0, timeouts={"request": "1s"}), pair(1, 0), {"backendRefs": [backend("web")]})
    before = copy.deepcopy(live)
    after, outcome = await written(live, planned(10))
    assert weights(after) == [[None], [90, 10], [90, 10], [None]]
    for rule, number in ((1, 100), (2, 1)):
        for one, weight in zip(after["spec"]["rules"][rule]["backendRefs"], (number, 0), strict=True):
            one["weight"] = weight
    assert after["spec"] == before["spec"]
    assert [(write.verb, write.child) for write in outcome.writes] == [("Updated", ChildId("HTTPRoute", "mine"))]


@pytest.mark.parametrize(("live", "weight"), [(pair(90, 10), 10), (pair(9, 1), 10), (pair(1, 0), 0)])
async def test_a_route_that_has_the_shares_already_is_left_alone_however_it_says_so(live: Object, weight: int) -> None:
    after, outcome = await written(user_route(live), planned(weight))
    assert (weights(after), outcome) == (weights(user_route(live)), Outcome())


async def test_weights_that_come_to_nothing_are_put_right() -> None:
    assert weights((await written(user_route(pair(0, 0)), planned(0)))[0]) == [[100, 0]]


async def test_somebody_who_wrote_meanwhile_ends_the_pass() -> None:
    kube = FakeKube(user_route(pair(100, 0)))
    seen = seen_with(kube.peek("HTTPRoute", "mine"))
    kube.put(user_route(pair(100, 0, matches=[HEADER])))
    with pytest.raises(Conflict):
        await weigh(kube, planned(10), seen)
    assert weights(kube.peek("HTTPRoute", "mine") or {}) == [[100, 0]]


async def test_a_route_that_was_deleted_meanwhile_ends_the_pass() -> None:
    seen = seen_with(FakeKube(user_route(pair(100, 0))).peek("HTTPRoute", "mine"))
    with pytest.raises(Conflict):
        await weigh(FakeKube(), planned(10), seen)


async def test_a_route_that_may_not_be_written_is_a_refusal_like_another_child_s() -> None:
    kube = FakeKube(user_route(pair(100, 0)))

    async def refuse(*_: str) -> None:
        raise Refused(403, "Forbidden", "a webhook says no")

    seen = seen_with(kube.peek("HTTPRoute", "mine"))
    kube.before = refuse
    outcome = await weigh(kube, planned(10), seen)
    assert [(one.child, one.reason) for one in outcome.refusals] == [(ChildId("HTTPRoute", "mine"), "Forbidden")]


@pytest.mark.parametrize("live", [None, user_route({"backendRefs": [backend("pricer")]})])
async def test_a_route_without_the_two_backends_is_not_written(live: Object | None) -> None:
    kube = FakeKube(*([live] if live else []))
    assert await weigh(kube, planned(10), seen_with(kube.peek("HTTPRoute", "mine"))) == Outcome()
    assert kube.writes() == []


async def test_without_a_route_of_the_user_s_nothing_is_done() -> None:
    kube = FakeKube()
    assert await weigh(kube, planned(10), observed(resource("2.0.0"))) == Outcome()
    assert canary_service(planned(10), planned(10).traffic or Traffic({}, ""), observed(resource("2.0.0"))) is None
    assert kube.requests == []


async def test_the_users_route_is_written_after_what_is_known_and_before_the_service() -> None:
    kube = FakeKube(user_route(pair(40, 60)), {"kind": "PinnDeployment", "metadata": METADATA, "spec": SPEC})
    seen = await observe(kube, Key("demo", "pricer"), now=NOW, server_image="i:1")
    assert seen is not None
    plan = replace(BACK, run=(Run(ONE, 1),), memory=Memory(Journal(Arm(TWO.name, "2"), Arm(ONE.name, "1"), 1.0)))
    outcome = await act(kube, plan, build(plan, seen), seen)
    assert outcome.refusals == ()
    told = [write[1:] for write in kube.writes() if write[1] in ("ConfigMap", "HTTPRoute") or write[2] == "pricer"]
    assert told == [("ConfigMap", "pricer-rollout"), ("HTTPRoute", "mine"), ("Service", "pricer")]
    assert ("apply", "Service", "pricer-canary") in kube.writes()


# --- In which order --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "plan", "now", "more", "after"),
    [
        ("a step", planned(10), (100, 0), {}, (90, 10)),
        ("a step, NAME-canary still leads to stable", planned(10), (100, 0), {"canary": ONE.name}, (100, 0)),
        ("a step, NAME-canary has no endpoints", planned(10), (100, 0), {"behind_canary": set()}, (100, 0)),
        ("a step, and one of stable's is still behind NAME-canary", planned(10), (80, 20),
         {"behind_canary": {ONE.name, TWO.name}}, (100, 0)),
        ("a higher step, not taken by the gateway", planned(60), (90, 10), {"generation": 2}, (90, 10)),
        ("a lower share, not taken by the gateway", planned(5), (90, 10), {"generation": 2}, (95, 5)),
        ("the bake begins", planned(100), (40, 60), {}, (0, 100)),
        ("the bake, NAME not turned yet", planned(100), (0, 100), {}, (0, 100)),
        ("the bake, NAME turned, stable still behind it", planned(100), (0, 100),
         {"stable": TWO.name, "endpoints": {ONE.name, TWO.name}}, (0, 100)),
        ("the bake, NAME leads to the canary, not taken", planned(100), (0, 100),
         {"stable": TWO.name, "generation": 2}, (0, 100)),
        ("the bake, NAME leads to the canary", planned(100), (0, 100), {"stable": TWO.name}, (100, 0)),
        ("promoted", PROMOTED, (0, 100), {"stable": TWO.name}, (100, 0)),
        ("promoted, not taken", PROMOTED, (100, 0), {"stable": TWO.name, "generation": 2}, (100, 0)),
        ("back from a step", BACK, (40, 60), {"generation": 2}, (100, 0)),
        ("back from the bake", BACK, (0, 100), {"stable": TWO.name, "generation": 2}, (100, 0)),
        ("back from the bake, the Services turn", BACK, (100, 0), {"canary": ONE.name, "endpoints": {TWO.name}}, (100, 0)),
        ("back, and NAME cannot be turned", BACK, (100, 0), {"stable": TWO.name, "canary": ONE.name}, (0, 100)),
    ],
)  # fmt: skip
async def test_weights_follow_where_the_services_lead(
    case: str, plan: Plan, now: tuple[int, int], more: dict[str, Any], after: tuple[int, int]
) -> None:
    live = user_route(pair(*now), generation=more.pop("generation", 1))
    route, _ = await written(live, plan, seen_with(live, **more))
    assert weights(route) == [[*after]], case


def leads_to(plan: Plan, seen: Observed) -> str:
    assert plan.traffic is not None
    made = canary_service(plan, plan.traffic, seen)
    assert made is not None
    assert made["metadata"]["name"] == "pricer-canary"
    return NAMES[made["spec"]["selector"][LABEL_REVISION]]


@pytest.mark.parametrize(
    ("case", "plan", "now", "more", "after"),
    [
        ("no rollout", planned(0, canary=None), (100, 0), {"canary": None}, "one"),
        ("the first start", planned(0, stable=None, canary=None), (50, 50), {"canary": None, "stable": None}, "one"),
        ("a canary that could answer", planned(0), (100, 0), {"canary": ONE.name}, "two"),
        ("one that could not", planned(0), (100, 0), {"canary": ONE.name, "behind": {}}, "one"),
        ("users are sent through it", planned(0), (90, 10), {"canary": ONE.name}, "one"),
        ("a thousandth of them", planned(0), (999, 1), {"canary": ONE.name}, "one"),
        ("the gateway has not taken it", planned(0), (100, 0), {"canary": ONE.name, "generation": 2}, "one"),
        (
            "NAME does not lead to stable again yet",
            planned(0),
            (100, 0),
            {"stable": TWO.name, "canary": ONE.name},
            "one",
        ),
        ("a step", planned(10), (90, 10), {"generation": 2}, "two"),
        ("a step, the Service was deleted", planned(10), (90, 10), {"canary": None}, "one"),
        ("a canary that has just lost its servers", planned(0), (90, 10), {"behind": {}}, "one"),
        ("the bake", planned(100), (0, 100), {"generation": 2}, "two"),
        ("the bake, the Service was deleted", planned(100), (0, 100), {"stable": TWO.name, "canary": None}, "two"),
        ("promoted", PROMOTED, (0, 100), {"stable": TWO.name}, "two"),
        ("rolling back", BACK, (90, 10), {"generation": 2}, "one"),
        ("another version is asked for", planned(0, Phase.DRAINING, canary=None), (90, 10), {}, "one"),
    ],
)
def test_name_canary_turns_to_a_canary_only_while_nothing_is_sent_through_it_and_to_stable_at_once(
    case: str, plan: Plan, now: tuple[int, int], more: dict[str, Any], after: str
) -> None:
    live = user_route(pair(*now), generation=more.pop("generation", 1))
    assert leads_to(plan, seen_with(live, **more)) == after, case


def test_without_the_route_name_canary_does_not_turn() -> None:
    assert leads_to(planned(0), seen_with(None, canary=ONE.name)) == "one"


# --- All of it, with a gateway and endpoints that lag ----------------------------------------------------------------


SETTLING = [("pass", 3), ("pricer", 0), ("pricer-canary", 0), ("gateway", 0)] * 4
EVENTS = st.lists(st.tuples(st.sampled_from(["pass", "pass", "gateway", "pricer", "pricer-canary"]), st.integers(0, 3)))


class World:
    """Two Services, their endpoints, a route, and a gateway that takes it when it likes."""

    def __init__(self) -> None:
        self.selects = {"pricer": ONE.name, "pricer-canary": ONE.name}
        self.leads = dict(self.selects)
        self.kube = FakeKube(user_route(pair(100, 0)))
        self.taken = [100, 0]

    @property
    def route(self) -> Object:
        return self.kube.peek("HTTPRoute", "mine") or {}

    def endpoints_follow(self, service: str) -> None:
        self.leads[service] = self.selects[service]

    def gateway_follows(self) -> None:
        ((stable, canary),) = weights(self.route)
        self.taken = [stable or 0, canary or 0]
        route = self.route
        for one in route["status"]["parents"][0]["conditions"]:
            one["observedGeneration"] = route["metadata"]["generation"]
        self.kube.put(route)

    async def passes(self, plan: Plan, cut_off_after: int) -> None:
        """One pass in the order of `act`, cut off after so many of its writes."""
        seen = seen_with(
            self.route, self.selects["pricer"], self.selects["pricer-canary"],
            endpoints={self.leads["pricer"]}, behind_canary={self.leads["pricer-canary"]},
        )  # fmt: skip
        assert plan.traffic is not None
        turned = canary_service(plan, plan.traffic, seen)
        flipped = service(plan.traffic, seen)
        if cut_off_after > 0 and turned:
            self.selects["pricer-canary"] = turned["spec"]["selector"][LABEL_REVISION]
        before = weights(self.route)
        if cut_off_after > 1:
            await weigh(self.kube, plan, seen)
        if weights(self.route) != before:
            route = self.route
            route["metadata"]["generation"] += 1
            self.kube.put(route)
        if cut_off_after > 2:
            self.selects["pricer"] = flipped["spec"]["selector"][LABEL_REVISION]

    async def lives_through(
        self, plan: Plan, events: list[tuple[str, int]], *, most: int = 100, least: int = 0, settles: bool = True
    ) -> None:
        """Passes with this plan while the gateway and the endpoints follow in any order. The canary's share never rises above
        what was asked for, nor falls below what it is sure of."""
        for event, cut_off_after in [*events, *(SETTLING if settles else ())]:
            before = self.sent_to(TWO.name)
            if event == "pass":
                await self.passes(plan, cut_off_after)
            elif event == "gateway":
                self.gateway_follows()
            else:
                self.endpoints_follow(event)
            now = self.sent_to(TWO.name)
            assert now <= max(most, before), f"{now} % to the canary after {event}"
            assert now >= min(least, before), f"{now} % to the canary after {event}"

    def sent_to(self, version: str) -> int:
        """Percent of the users' requests."""
        return sum(
            share for share, service in zip(self.taken, self.leads, strict=True) if self.leads[service] == version
        )


@settings(max_examples=400, deadline=None)
@given(EVENTS, EVENTS, EVENTS, EVENTS, EVENTS)
async def test_on_the_way_to_promotion_nobody_is_sent_to_a_wrong_revision(
    rising: Any, higher: Any, baking: Any, last: Any, after: Any
) -> None:
    """Whatever lags, and wherever a pass is cut off."""
    world = World()
    await world.lives_through(planned(0), rising, most=0)
    await world.lives_through(planned(20), higher, most=20)
    await world.lives_through(planned(100), baking, least=20)
    assert world.sent_to(TWO.name) == 100
    await world.lives_through(PROMOTED, last, least=100)
    await world.lives_through(PROMOTED, after, least=100)
    assert world.taken == [100, 0]


@settings(max_examples=400, deadline=None)
@given(EVENTS, EVENTS, EVENTS, EVENTS, st.sampled_from([20, 100]))
async def test_on_the_way_back_the_share_of_the_canary_only_falls_even_when_it_is_tried_again_at_once(
    higher: Any, back: Any, again: Any, after: Any, weight: int
) -> None:
    world = World()
    await world.lives_through(planned(0), [])
    await world.lives_through(planned(20), [])
    await world.lives_through(planned(weight), higher, most=weight)
    await world.lives_through(BACK, back, most=0, settles=False)
    await world.lives_through(planned(0), again, most=0, settles=False)
    await world.lives_through(planned(0), after, most=0)
    assert world.sent_to(TWO.name) == 0
    assert world.taken == [100, 0]
