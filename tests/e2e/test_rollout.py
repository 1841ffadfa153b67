"""Rollouts through a real gateway, with real traffic: what is promoted, what is sent back, and what users notice of it."""

from __future__ import annotations

import pytest

from tests.e2e.gateway.install import Gateway
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
