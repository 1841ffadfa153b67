"""What is wrong with a version is found by its gates, and the traffic is back on stable before many have noticed."""

from __future__ import annotations

import pytest

from tests.e2e.faults import broken
from tests.e2e.gateway.install import Gateway
from tests.e2e.kubectl import Object, eventually, holds
from tests.e2e.steps import Service, only

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("operator"), pytest.mark.timeout(400)]


@pytest.fixture
def service(namespace: str, gateway: Gateway) -> Service:
    return Service(namespace, gateway)


def sent_back(service: Service, old: str, pods: set[str]) -> Object:
    """Expect that nothing is left of the canary but its report; the report."""
    obj = service.obj
    assert holds(obj, "Available")
    assert not holds(obj, "Ready"), "the object is not what its spec asks for, and should say so"
    assert obj["status"]["stable"]["revision"] == old
    assert service.weights() == {f"pricer-{old}": 100}
    assert service.pods(old) == pods, "a pod of stable was made anew"
    rejected = obj["status"]["rejected"][-1]
    eventually(lambda: not service.pods(rejected["revision"]), why=lambda: service.status)
    assert service.history()[-1] == ("2.0.0", "RolledBack")
    report = service.report()
    assert report["outcome"] == "RolledBack"
    assert report["smokeTest"]
    return report


@pytest.mark.parametrize(
    ("fault", "gate", "limits"),
    [
        ("errors:0.3", "errorRate", {"errorRate": "1%"}),
        pytest.param("slow:0.8", "latencyP95", {"latencyP95": "500ms"}, marks=pytest.mark.full),
        pytest.param("fallback", "fallbackRate", {"fallbackRate": "10%"}, marks=pytest.mark.full),
    ],
)
def test_a_bad_version_is_sent_back_by_the_gate_that_sees_it(
    service: Service, fault: str, gate: str, limits: dict[str, str]
) -> None:
    old = service.starts(replicas=1, sla=only(**limits))
    pods = service.pods(old)
    with service.under_load(100, 60) as load:
        service.rolls_out("2.0.0", template=broken(fault))
        said = service.until_rolled_back()
    assert gate in said
    report = sent_back(service, old, pods)
    assert report["blamed"]
    assert load.failed <= 150, load.report["failures"]
    assert len(service.told("RolledBack")) == 1


def test_a_version_that_dies_under_load_is_out_of_the_traffic_at_once_and_then_for_good(service: Service) -> None:
    old = service.starts(replicas=1, sla=only(errorRate="1%"))
    pods = service.pods(old)
    with service.under_load(100, 90) as load:
        service.rolls_out("2.0.0", template=broken("crash:50"))
        service.until_weight(20)
        service.until_weight(0)
        said = service.until_rolled_back()
    assert "restarted" in said
    sent_back(service, old, pods)
    assert load.failed <= 40, load.report["failures"]


def test_what_was_sent_back_is_not_tried_again_until_a_person_says_so(service: Service) -> None:
    service.starts(replicas=1, sla=only(errorRate="1%"))
    with service.under_load(100, 25):
        service.rolls_out("2.0.0", template=broken("errors:0.5"))
        service.until_rolled_back()
        service.change(replicas=2)  # no new revision, so no new try
        eventually(lambda: service.status.get("readyReplicas") == 2, why=lambda: service.status)
        assert "canary" not in service.status
    service.says("retry")
    eventually(lambda: service.status.get("canary"), why=lambda: service.status)
    service.says("abort")
    assert "a person asked for it" in service.until_rolled_back()
    assert service.history() == [("2.0.0", "RolledBack"), ("2.0.0", "RolledBack")]


@pytest.mark.full
def test_a_version_that_is_no_worse_than_stable_is_not_blamed_for_what_both_suffer(service: Service) -> None:
    sick = broken("errors:0.2")
    service.starts(replicas=1, template=sick, sla=only(errorRate="1%"))
    with service.under_load(100, 60):
        service.rolls_out("2.0.0", template=sick)
        service.until_weight(20)
        service.until_said("nobody is blamed")
    assert service.status["canary"]["weight"] == 20
    assert not service.status.get("rejected")
