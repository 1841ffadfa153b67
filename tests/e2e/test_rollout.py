"""Rollouts through a real gateway, with real traffic: what is promoted, what is sent back, and what users notice of it."""

from __future__ import annotations

import pytest

from tests.e2e.gateway.install import Gateway
from tests.e2e.kubectl import Object
from tests.e2e.steps import Service, only

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("operator"), pytest.mark.timeout(400)]


@pytest.fixture
def service(namespace: str, gateway: Gateway) -> Service:
    return Service(namespace, gateway)


def test_a_good_version_is_promoted_step_by_step_and_nobody_notices(service: Service) -> None:
    old = service.starts(replicas=2, sla=only(errorRate="2%", physicsViolationRate="1%"))
    with service.under_load(100, 75) as load:
        service.rolls_out("2.0.0")
        service.until_weight(20)
        new = service.status["canary"]["revision"]
        assert service.weights() == {f"pricer-{old}": 80, f"pricer-{new}": 20}
        before = service.pods(new)
        service.until_weight(60)
        service.until_weight(100)
        service.until_promoted("2.0.0")
    assert load.failed == 0, load.report
    assert load.answered("2.0.0") > 0
    assert service.pods(new) == before, "a pod was made anew on the way"
    assert service.history() == [("2.0.0", "Promoted")]
    assert service.report()["outcome"] == "Promoted"
    assert len(service.told("Promoted")) == 1


def test_a_version_that_nobody_asks_is_judged_by_replayed_requests(service: Service) -> None:
    steps = [{"weight": 50, "hold": "5s"}, {"weight": 100, "hold": "5s"}]
    service.starts(replicas=1, sla={"promote": {"memoryGrowthPerHour": "Off"}}, rollout={"steps": steps})
    service.rolls_out("2.0.0")
    service.until_promoted("2.0.0")
    gates = {gate["name"]: gate for gate in service.report()["evidence"] if gate["step"] == 2}
    assert gates["errorRate"]["verdict"] == "Passing"
    assert gates["physicsViolationRate"]["verdict"] == "Passing"
    assert gates["errorRate"]["events"] > 100


def test_a_person_pauses_approves_and_changes_their_mind(service: Service) -> None:
    steps: list[Object] = [{"weight": 20, "hold": "1s", "approval": "Required"}, {"weight": 100, "hold": "30m"}]
    old = service.starts(replicas=1, sla=only(), rollout={"steps": steps})
    with service.under_load(50, 100) as load:
        service.change(rollout={"paused": True}, model={"version": "2.0.0"})
        service.until_said("spec.rollout.paused is true")
        assert service.weights() == {f"pricer-{old}": 100}
        service.change(rollout={"paused": False})
        service.until_said("waits for a person")
        assert service.status["canary"]["weight"] == 20
        service.says("promote")
        service.until_weight(100)
        service.change(model={"version": "1.0.0"})
        service.until_promoted("1.0.0")
    assert load.failed == 0, load.report
    assert service.weights() == {f"pricer-{old}": 100}
    assert service.history() == [("2.0.0", "Superseded")]


@pytest.mark.full
def test_a_third_version_in_the_middle_starts_from_the_old_stable(service: Service) -> None:
    old = service.starts(replicas=1, sla=only())
    with service.under_load(100, 60) as load:
        service.rolls_out("2.0.0")
        service.until_weight(20)
        service.rolls_out("2.0.0", cache={"size": 1000})
        service.until_promoted("2.0.0")
    assert load.failed == 0, load.report
    assert service.history() == [("2.0.0", "Superseded"), ("2.0.0", "Promoted")]
    assert f"pricer-{old}" not in service.weights()
