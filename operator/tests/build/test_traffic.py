"""What divides the traffic: the Service that callers know, and the HTTPRoute of an object behind a gateway."""

from dataclasses import replace
from typing import Any

import pytest
from pinn_operator.api.names import LABEL_OBJECT, LABEL_REVISION, LABEL_SERVING
from pinn_operator.api.observed import ChildId, Observed
from pinn_operator.api.plan import Phase, Plan, Traffic
from pinn_operator.build import build
from pinn_operator.build.traffic import route, service
from tests.given import observed, ready, resource, revision

ONE, TWO = revision("1.0.0", 1), revision("2.0.0", 2)
GATEWAY = {"parentRefs": [{"name": "gw"}]}
PREVIEW = GATEWAY | {"preview": {"header": "x-pinn-preview"}}


def _seen(gateway: dict[str, Any] | None = None, *, up: int = 1) -> Observed:
    of = resource("2.0.0", traffic={"gateway": gateway} if gateway else {})
    return observed(of, revisions=[ONE, TWO], workloads={ONE.name: ready(1), TWO.name: ready(up, 1)})


def _traffic(weight: int) -> Traffic:
    weights = {ONE.name: 100 - weight, TWO.name: weight}
    return Traffic({name: share for name, share in weights.items() if share}, ONE.name)


def _plan(weight: int) -> Plan:
    return Plan(Phase.STEPPING, "", TWO.name, stable=ONE, canary=TWO, traffic=_traffic(weight))


def _spec(gateway: dict[str, Any], weight: int = 10, *, up: int = 1) -> dict[str, Any]:
    made = route(_plan(weight), _traffic(weight), _seen(gateway, up=up))
    assert made is not None
    spec: dict[str, Any] = made["spec"]
    return spec


def _weights(rule: dict[str, Any]) -> dict[str, int]:
    return {backend["name"]: backend["weight"] for backend in rule["backendRefs"]}


def _of(made: dict[str, Any]) -> Any:
    return made["spec"]["selector"]


def test_the_service_selects_the_revision_that_serves_alone() -> None:
    chosen = {LABEL_OBJECT: "pricer", LABEL_REVISION: ONE.name}
    assert _of(service(Traffic({ONE.name: 100}, ONE.name), _seen())) == chosen


def test_the_service_selects_servers_by_their_label_while_a_share_is_made_without_a_gateway() -> None:
    """Of this object alone: another one's servers carry the label, too."""
    split = Traffic({ONE.name: 90, TWO.name: 10}, None, frozenset({"a", "b"}))
    assert _of(service(split, _seen())) == {LABEL_OBJECT: "pricer", LABEL_SERVING: "true"}


@pytest.mark.parametrize(
    ("there", "names"),
    [
        ([{"name": "http", "port": 80, "protocol": "TCP"}], ["http"]),
        ([{"name": "web", "port": 80, "protocol": "TCP"}], ["web"]),
        ([{"name": "migrated-8000", "port": 8000, "protocol": "TCP"}], ["http", "migrated-8000"]),
        ([{"name": "http", "port": 8080, "protocol": "TCP"}], ["pinn-http", "http"]),
        ([{"port": 8080, "protocol": "TCP"}], ["http", "port-8080"]),
        (
            [{"name": "pinn-http", "port": 9, "protocol": "TCP"}, {"name": "http", "port": 8080, "protocol": "TCP"}],
            ["pinn-http-80", "pinn-http", "http"],
        ),
        ([], ["http"]),
    ],
)
def test_a_service_that_was_taken_over_keeps_the_ports_and_names_its_callers_know(
    there: list[dict[str, Any]], names: list[str]
) -> None:
    live = {ChildId("Service", "pricer"): {"spec": {"ports": there}}}
    made = service(Traffic({ONE.name: 100}, ONE.name), replace(_seen(), children=live))
    assert [port["name"] for port in made["spec"]["ports"]] == names
    assert made["spec"]["ports"][0]["port"] == 80
    assert [port["port"] for port in made["spec"]["ports"][1:]] == [
        port["port"] for port in there if port["port"] != 80
    ]


def test_ports_keep_their_places_so_that_nothing_is_written_again_and_again() -> None:
    there = [{"name": "x", "port": 9000, "protocol": "TCP"}, {"name": "http", "port": 80, "protocol": "TCP"}]
    live = {ChildId("Service", "pricer"): {"spec": {"ports": there}}}
    made = service(Traffic({ONE.name: 100}, ONE.name), replace(_seen(), children=live))
    assert [port["port"] for port in made["spec"]["ports"]] == [9000, 80]


def test_without_a_gateway_there_is_no_route() -> None:
    assert route(_plan(10), _traffic(10), _seen()) is None
    assert {obj["kind"] for obj in build(_plan(10), _seen())} == {"Service"}


def test_the_route_has_one_backend_for_each_revision_with_a_share() -> None:
    (rule,) = _spec(GATEWAY, 10)["rules"]
    assert _weights(rule) == {f"pricer-{ONE.name}": 90, f"pricer-{TWO.name}": 10}
    assert {backend["port"] for backend in rule["backendRefs"]} == {80}
    assert "matches" not in rule


@pytest.mark.parametrize(("weight", "whole"), [(0, ONE), (100, TWO)])
def test_a_revision_without_a_share_is_no_backend(weight: int, whole: Any) -> None:
    (rule,) = _spec(GATEWAY, weight)["rules"]
    assert _weights(rule) == {f"pricer-{whole.name}": 100}


def test_the_preview_comes_first_and_leads_to_the_canary_whatever_its_weight() -> None:
    for weight in (0, 10, 100):
        preview, everybody = _spec(PREVIEW, weight)["rules"]
        (match,) = preview["matches"]
        assert match["headers"] == [{"type": "Exact", "name": "x-pinn-preview", "value": "canary"}]
        assert _weights(preview) == {f"pricer-{TWO.name}": 1}
        assert _weights(everybody).get(f"pricer-{TWO.name}", 0) == weight


def test_there_is_no_preview_of_a_canary_that_nobody_could_answer_for() -> None:
    """A rule whose backend has no endpoints answers 500 to who asks for the preview, and may cost the route its ResolvedRefs."""
    assert len(_spec(PREVIEW, up=0)["rules"]) == 1


def test_there_is_no_preview_outside_a_rollout() -> None:
    alone = Plan(Phase.SERVING, "", TWO.name, stable=TWO, traffic=Traffic({TWO.name: 100}, TWO.name))
    assert alone.traffic is not None
    made = route(alone, alone.traffic, _seen(PREVIEW))
    assert made is not None
    assert len(made["spec"]["rules"]) == 1


def test_parents_and_hostnames_are_as_the_user_wrote_them_in_the_words_of_the_gateway_api() -> None:
    parents = [{"name": "gw", "namespace": "infra", "sectionName": "https", "port": 443}, {"name": "other"}]
    spec = _spec({"parentRefs": parents, "hostnames": ["a.example", "b.example"]})
    assert spec["parentRefs"] == parents
    assert spec["hostnames"] == ["a.example", "b.example"]


def test_what_the_user_did_not_say_is_not_in_the_route() -> None:
    assert _spec(GATEWAY).keys() == {"parentRefs", "rules"}
    assert None not in _leaves(_spec(PREVIEW))


def test_shares_are_written_after_what_is_known_and_after_the_workloads() -> None:
    """The route before the Service: at the beginning of a bake its callers follow those of the gateway."""
    seen = _seen(GATEWAY)
    kinds = [(obj["kind"], obj["metadata"]["name"]) for obj in build(_plan(10), seen)]
    assert kinds[-2:] == [("HTTPRoute", "pricer"), ("Service", "pricer")]


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [leaf for one in inner for leaf in _leaves(one)]
    return [value]
