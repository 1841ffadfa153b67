"""What is wrong with a version is found by its gates, and the traffic is back on stable before many have noticed."""

from __future__ import annotations

import pytest

from hack import broken_model
from tests.e2e.faults import broken
from tests.e2e.gateway.install import Gateway
from tests.e2e.kubectl import SYSTEM, Object, apply, eventually, find, holds, kubectl
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


@pytest.mark.parametrize(
    "untried", [pytest.param(False, marks=pytest.mark.full), True], ids=["by the server itself", "by the operator"]
)
def test_a_model_with_one_weight_off_is_stopped_by_physics_before_its_first_user(
    service: Service, untried: bool
) -> None:
    old = service.starts(replicas=1, sla=only(physicsViolationRate="0.1%"))
    pods = service.pods(old)
    files = broken_model.broken()
    apply(broken_model.config_map("broken", files), service.namespace)
    template = broken_model.untried() if untried else {}
    with service.under_load(50, 120) as load:
        service.change(model=broken_model.model("2.0.0", "broken", files), template=template)
        said = service.until_rolled_back()
    assert (
        ("further from the solver" in said or "break the equation" in said) if untried else "failed its trial" in said
    )
    sent_back(service, old, pods)
    assert load.failed == 0, load.report
    assert load.answered("2.0.0") == 0


@pytest.mark.full
def test_a_version_whose_cache_never_hits_is_sent_back(service: Service) -> None:
    old = service.starts(replicas=1, sla=only(cacheHitRate="80%"))
    pods = service.pods(old)
    with service.under_load(100, 120, noise=0.01) as load:
        service.rolls_out("2.0.0", cache={"binWidths": {"volatility": "0.00001%", "rate": "0.00001%"}})
        said = service.until_rolled_back()
    assert "cacheHitRate" in said
    sent_back(service, old, pods)
    assert load.failed == 0, load.report


@pytest.mark.full
def test_a_version_that_goes_bad_in_the_bake_is_sent_back_to_stable_which_stood_by(service: Service) -> None:
    bake = {"steps": [{"weight": 100, "hold": "10m"}]}
    old = service.starts(replicas=1, sla=only(errorRate="1%"), rollout=bake)
    pods = service.pods(old)
    with service.under_load(100, 60) as load:
        service.rolls_out("2.0.0", template=broken("errors:0.03"))
        service.until_rolled_back()
    sent_back(service, old, pods)
    assert load.answered("1.0.0") > 0


@pytest.mark.full
def test_a_hard_limit_needs_no_gate(service: Service) -> None:
    limits = {**only(), "rollback": {"errorRate": {"above": "10%", "for": "20s"}}}
    old = service.starts(
        replicas=1, sla=limits, rollout={"steps": [{"weight": 50, "hold": "5m"}, {"weight": 100, "hold": "5m"}]}
    )
    pods = service.pods(old)
    with service.under_load(50, 90):
        service.rolls_out("2.0.0", template=broken("errors:0.3"))
        assert "rollback.errorRate" in service.until_rolled_back()
    sent_back(service, old, pods)


@pytest.mark.full
def test_an_image_that_nobody_has_is_given_up_at_the_deadline(service: Service) -> None:
    quick = {"steps": [{"weight": 100, "hold": "0s"}], "progressDeadline": "15s"}
    old = service.starts(replicas=1, rollout=quick)
    pods = service.pods(old)
    service.rolls_out("2.0.0", image="pinn-operator/no-such-image:1")
    said = service.until_rolled_back()
    assert "progressDeadline (15s)" in said
    assert "no-such-image" in said
    sent_back(service, old, pods)


@pytest.mark.full
def test_two_objects_roll_out_at_once_and_neither_minds_the_other(service: Service) -> None:
    other = Service(service.namespace, service.gateway, "other")
    for each in (service, other):
        each.starts(replicas=1, sla=only(errorRate="1%"))
    with service.under_load(100, 120):
        service.rolls_out("2.0.0", template=broken("errors:0.3"))
        other.rolls_out("2.0.0")
        service.until_rolled_back()
        other.until_promoted("2.0.0")
    assert not other.status.get("rejected")


@pytest.mark.full
def test_a_bad_version_is_sent_back_by_the_standby_when_the_leader_is_lost(service: Service) -> None:
    old = service.starts(replicas=1, sla=only(errorRate="1%"))
    pods = service.pods(old)
    with service.under_load(100, 90):
        service.rolls_out("2.0.0", template=broken("errors:0.3"))
        service.until_weight(20)
        leader = (find("lease", "pinn-operator", SYSTEM) or {})["spec"]["holderIdentity"]
        kubectl("-n", SYSTEM, "delete", "pod", leader, "--grace-period=0", "--force")
        service.until_rolled_back()
    sent_back(service, old, pods)


@pytest.mark.full
def test_an_object_that_is_deleted_in_the_middle_leaves_nothing(service: Service) -> None:
    service.starts(replicas=1, sla=only())
    service.rolls_out("2.0.0")
    service.until_weight(20)
    kubectl("-n", service.namespace, "delete", "pinndeployment", service.name, "--timeout=60s")
    kinds = "deployments,services,httproutes,configmaps,secrets,pods,controllerrevisions"
    left = ["get", kinds, "-l", "pinn.dev/deployment", "-o", "name"]
    eventually(lambda: not kubectl("-n", service.namespace, *left).strip(), 60)
