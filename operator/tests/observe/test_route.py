"""What a route says: the shares in it, and whether every gateway has taken them for this very generation."""

from typing import Any

import pytest
from pinn_operator.api.observed import Route
from pinn_operator.api.plan import Phase, Plan, Traffic
from pinn_operator.build.traffic import route
from pinn_operator.observe.route import route_of
from tests.given import observed, ready, resource, revision

ONE, TWO = revision("1.0.0", 1), revision("2.0.0", 2)
GENERATION = 4


def _conditions(**differing: Any) -> list[dict[str, Any]]:
    said = {"Accepted": "True", "ResolvedRefs": "True", **differing}
    return [
        {"type": name, "status": status, "observedGeneration": GENERATION, "message": f"as for {name}"}
        for name, status in said.items()
        if status
    ]


def _parent(name: str = "gw", conditions: list[dict[str, Any]] | None = None, **ref: Any) -> dict[str, Any]:
    return {"parentRef": {"name": name, **ref}, "conditions": _conditions() if conditions is None else conditions}


def _live(*parents: dict[str, Any], weight: int = 10, **gateway: Any) -> tuple[dict[str, Any], Any]:
    """A route as built, with what the gateways report; and the object it belongs to."""
    of = resource("2.0.0", traffic={"gateway": {"parentRefs": [{"name": "gw"}], **gateway}})
    shares = {name: share for name, share in {ONE.name: 100 - weight, TWO.name: weight}.items() if share}
    traffic = Traffic(shares, ONE.name)
    seen = observed(of, revisions=[ONE, TWO], workloads={TWO.name: ready(1)})
    made = route(Plan(Phase.STEPPING, "", TWO.name, stable=ONE, canary=TWO, traffic=traffic), traffic, seen)
    assert made is not None
    made["metadata"]["generation"] = GENERATION
    return made | {"status": {"parents": list(parents)}}, of


def _route(*parents: dict[str, Any], **more: Any) -> Route:
    live, of = _live(*parents, **more)
    found = route_of(live, "pricer", of)
    assert found is not None
    return found


def test_the_shares_that_were_built_are_read_back_with_and_without_a_preview() -> None:
    for gateway in ({}, {"preview": {"header": "x-pinn-preview"}}):
        assert _route(_parent(), **gateway).weights == {ONE.name: 90, TWO.name: 10}
        assert _route(_parent(), weight=100, **gateway).weights == {TWO.name: 100}


def test_a_backend_at_zero_gets_nothing_and_one_without_a_weight_gets_one_part() -> None:
    """As the Gateway API says of what a user has written by hand."""
    live, of = _live(_parent())
    live["spec"]["rules"] = [{"backendRefs": [{"name": "pricer-a", "weight": 0}, {"name": "pricer-b"}]}]
    found = route_of(live, "pricer", of)
    assert found is not None
    assert found.weights == {"b": 1}


@pytest.mark.parametrize("rules", [[], [{}], [{"backendRefs": None}]])
def test_a_route_that_leads_nowhere_has_no_shares(rules: Any) -> None:
    live, of = _live(_parent())
    live["spec"]["rules"] = rules
    found = route_of(live, "pricer", of)
    assert found is not None
    assert found.weights == {}


def test_there_is_no_route_without_one_or_without_a_gateway() -> None:
    live, of = _live(_parent())
    assert route_of(None, "pricer", of) is None
    assert route_of(live, "pricer", resource("2.0.0")) is None


def test_a_route_is_in_force_when_its_gateway_accepts_it_and_finds_its_backends() -> None:
    assert _route(_parent()) == Route({ONE.name: 90, TWO.name: 10}, in_force=True)


@pytest.mark.parametrize("condition", ["Accepted", "ResolvedRefs"])
@pytest.mark.parametrize("status", ["False", "Unknown", None])
def test_a_route_that_is_not_accepted_or_lacks_a_backend_is_not_in_force(condition: str, status: str | None) -> None:
    found = _route(_parent(conditions=_conditions(**{condition: status})))
    assert not found.in_force
    assert found.trouble.startswith(f"Gateway gw says {condition} is {(status or 'unknown')}: ")


def test_what_the_gateway_says_against_a_route_is_told_in_its_words() -> None:
    refused = {
        "type": "Accepted",
        "status": "False",
        "message": "no listener allows it",
        "observedGeneration": GENERATION,
    }
    assert _route(_parent(conditions=[refused])).trouble == "Gateway gw says Accepted is False: no listener allows it"


def test_what_was_said_of_an_earlier_generation_says_nothing_of_this_one() -> None:
    earlier = [one | {"observedGeneration": GENERATION - 1} for one in _conditions()]
    found = _route(_parent(conditions=earlier))
    assert (found.in_force, found.trouble) == (False, "Gateway gw has not seen the change of the HTTPRoute yet")


def test_a_gateway_that_names_no_generation_is_believed() -> None:
    """The field is optional in the Gateway API."""
    unnamed = [{name: said for name, said in one.items() if name != "observedGeneration"} for one in _conditions()]
    assert _route(_parent(conditions=unnamed)).in_force


@pytest.mark.parametrize("status", [{}, {"status": {}}, {"status": {"parents": []}}])
def test_a_route_that_no_gateway_has_spoken_of_is_not_in_force(status: Any) -> None:
    live, of = _live()
    del live["status"]
    found = route_of(live | status, "pricer", of)
    assert found is not None
    assert (found.in_force, found.trouble) == (False, "Gateway gw has not taken the HTTPRoute yet")


def test_every_gateway_has_to_take_the_route() -> None:
    refs = [{"name": "gw"}, {"name": "inner"}]
    assert not _route(_parent(), parentRefs=refs).in_force
    refused = _parent("inner", _conditions(Accepted="False"))
    assert not _route(_parent(), refused, parentRefs=refs).in_force
    assert _route(_parent(), _parent("inner"), parentRefs=refs).in_force


def test_a_gateway_that_nobody_named_has_no_say() -> None:
    assert _route(_parent(), _parent("stranger", _conditions(Accepted="False"))).in_force


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"sectionName": "http"}, {"sectionName": "https"}),
        ({"port": 80}, {"port": 443}),
        ({"namespace": "demo"}, {"namespace": "infra"}),
    ],
)
def test_two_listeners_of_a_gateway_and_two_gateways_of_a_name_are_told_apart(one: Any, two: Any) -> None:
    refs = [{"name": "gw", **one}, {"name": "gw", **two}]
    for refused in (0, 1):
        said = [_conditions(), _conditions()]
        said[refused] = _conditions(Accepted="False")
        parents = [_parent("gw", said[0], **one), _parent("gw", said[1], **two)]
        assert not _route(*parents, parentRefs=refs).in_force
    assert _route(_parent(**one), _parent(**two), parentRefs=refs).in_force
    assert not _route(_parent(**one), parentRefs=refs).in_force


def test_a_controller_may_fill_in_the_namespace_that_goes_without_saying() -> None:
    assert _route(_parent(namespace="demo")).in_force
    assert _route(_parent(), parentRefs=[{"name": "gw", "namespace": "demo"}]).in_force
    assert not _route(_parent(namespace="infra")).in_force


def test_a_controller_that_was_replaced_and_left_its_word_behind_does_not_hold_up_the_route() -> None:
    refused = _conditions(Accepted="False")
    for said in ((None, refused), (refused, None)):
        assert _route(*(_parent(conditions=conditions) for conditions in said)).in_force
    assert not _route(_parent(conditions=refused), _parent(conditions=refused)).in_force
