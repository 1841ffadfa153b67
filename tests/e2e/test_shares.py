"""Shares that the operator does not make with a route of its own: by labelled servers, and in a route that the user owns."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.e2e.gateway.install import Gateway
from tests.e2e.kubectl import Object, apply, eventually, find, patch, running
from tests.e2e.steps import Service, only

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("operator"), pytest.mark.timeout(400)]

BY_LABELS = [{"weight": 25, "hold": "10s"}, {"weight": 50, "hold": "10s"}, {"weight": 100, "hold": "5s"}]
SERVING = "pinn.dev/serving"


@pytest.fixture
def service(namespace: str) -> Service:
    """Asked by its own name in the cluster: no gateway is between."""
    return Service(namespace, Gateway(address="http://pricer"))


def serving(service: Service) -> Counter[str]:
    """How many servers of each revision carry the label."""
    pods = running(service.namespace, f"{SERVING}=true")
    return Counter(pod["metadata"]["labels"]["pinn.dev/revision"] for pod in pods)


def actual(service: Service) -> int:
    """The share of the canary that was measured; -1 where none is told."""
    return int(service.status.get("canary", {}).get("actualWeight", -1))


def test_without_a_gateway_shares_are_made_by_how_many_servers_carry_the_label(service: Service) -> None:
    old = service.starts(replicas=3, traffic={}, rollout={"steps": BY_LABELS}, sla=only(errorRate="5%"))
    with service.under_load(50, 100) as load:  # its connections are kept: stable has to close them
        service.rolls_out("2.0.0")
        for weight, of_stable, of_canary in ((25, 3, 1), (50, 3, 3)):
            service.until_weight(weight)
            new = service.status["canary"]["revision"]
            wanted = Counter({old: of_stable, new: of_canary})
            eventually(lambda wanted=wanted: serving(service) == wanted, 20, why=lambda: serving(service))  # type: ignore[misc]
            eventually(lambda least=weight // 2: actual(service) >= least, 20, why=lambda: service.status)  # type: ignore[misc]
        service.until_promoted("2.0.0")
    assert load.failed == 0, load.report
    assert load.answered("2.0.0") > 0
    assert load.answered("1.0.0") > 0


@pytest.mark.full
def test_a_share_that_so_few_servers_cannot_make_is_said_and_made_when_a_person_allows_it(service: Service) -> None:
    steps = [{"weight": 10, "hold": "5s"}, {"weight": 100, "hold": "5s"}]
    old = service.starts(traffic={}, rollout={"steps": steps}, sla=only(errorRate="5%"))
    with service.under_load(50, 60) as load:
        service.rolls_out("2.0.0")
        said = service.until_said("TooCoarse")
        assert "no share nearer to 10 % than 50 %" in said
        assert serving(service) == Counter()
        service.change(traffic={"allowCoarse": True})
        new = service.status["canary"]["revision"]
        eventually(lambda: serving(service) == Counter({old: 1, new: 1}), 30, why=lambda: service.status)
        service.until_promoted("2.0.0")
    assert load.failed == 0, load.report


# --- A route that the user owns --------------------------------------------------------------------------------------


def users_route(gateway: Gateway, host: str) -> Object:
    backends = [{"name": "pricer", "port": 80, "weight": 1}, {"name": "pricer-canary", "port": 80, "weight": 0}]
    match = [{"path": {"type": "PathPrefix", "value": "/"}}]
    spec = {"parentRefs": [gateway.parent()], "hostnames": [host]}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "mine"},
        "spec": {**spec, "rules": [{"matches": match, "timeouts": {"request": "5s"}, "backendRefs": backends}]},
    }


def route_weights(namespace: str) -> tuple[int, ...]:
    (rule,) = (find("httproute", "mine", namespace) or {})["spec"]["rules"]
    return tuple(one["weight"] for one in rule["backendRefs"])


@pytest.mark.full
def test_in_a_route_that_the_user_owns_nothing_but_the_weights_is_changed_and_nobody_notices(
    namespace: str, gateway: Gateway
) -> None:
    service = Service(namespace, gateway)
    apply(users_route(gateway, service.host), namespace)
    before = (find("httproute", "mine", namespace) or {})["spec"]
    service.starts(replicas=2, traffic={"routeRef": {"name": "mine"}}, sla=only(errorRate="5%"))
    assert route_weights(namespace) == (1, 0), "it says already that all goes to stable"
    with service.under_load(100, 100) as load:
        service.rolls_out("2.0.0")
        for weight in (20, 60):
            service.until_weight(weight)
            eventually(lambda share=weight: route_weights(namespace) == (100 - share, share))  # type: ignore[misc]
        service.until_promoted("2.0.0")
        eventually(lambda: route_weights(namespace) == (100, 0))
        eventually(lambda: len(service.pods(service.status["stable"]["revision"])) == len(running(namespace)))
    assert load.failed == 0, load.report
    assert load.answered("2.0.0") > 0
    after = (find("httproute", "mine", namespace) or {})["spec"]
    for one, weight in zip(after["rules"][0]["backendRefs"], (1, 0), strict=True):
        one["weight"] = weight
    assert after == before


@pytest.mark.full
def test_a_rollout_waits_for_the_route_that_its_user_has_yet_to_make(namespace: str, gateway: Gateway) -> None:
    service = Service(namespace, gateway)
    route = users_route(gateway, service.host)
    apply(route, namespace)
    service.starts(traffic={"routeRef": {"name": "mine"}}, sla=only(errorRate="5%"))
    patch("httproute", "mine", namespace, [{"op": "remove", "path": "/spec/rules/0/backendRefs/1"}])
    service.rolls_out("2.0.0")
    service.until_said("HTTPRoute mine has no rule with the two Services pricer and pricer-canary as backends")
    assert route_weights(namespace) == (1,)
    apply(route, namespace)
    with service.under_load(50, 60) as load:
        service.until_promoted("2.0.0")
    assert load.failed == 0, load.report
