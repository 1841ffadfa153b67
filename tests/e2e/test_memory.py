"""A version that takes ever more memory is sent back: by the ceiling on what servers hold, or the limit on how they grow."""

from __future__ import annotations

import pytest

from tests.e2e.faults import broken
from tests.e2e.gateway.install import Gateway
from tests.e2e.kubectl import Object
from tests.e2e.steps import Service, only

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("operator"), pytest.mark.timeout(400)]

BLOCK_SECONDS = 300
"""Growth is told from minima of so many seconds by the clock, when they are over: at the second full five minutes of the hour, or
at the third when the leak had hardly begun at the first."""


@pytest.fixture
def service(namespace: str, gateway: Gateway) -> Service:
    return Service(namespace, gateway)


def sent_back(service: Service, old: str, pods: set[str]) -> Object:
    """Expect all traffic on the stable that was there before; the report."""
    assert service.weights() == {f"pricer-{old}": 100}
    assert service.pods(old) == pods, "a pod of stable was made anew"
    assert service.history() == [("2.0.0", "RolledBack")]
    report = service.report()
    assert report["blamed"]
    return report


@pytest.mark.full
def test_a_version_whose_servers_come_to_hold_too_much_is_sent_back_in_its_next_step(service: Service) -> None:
    old = service.starts(replicas=1, sla=only(memory="140Mi"))
    pods = service.pods(old)
    with service.under_load(100, 120) as load:
        service.rolls_out("2.0.0", template=broken("leak:0.5"))
        said = service.until_rolled_back()
    assert "memory: a server never held less than" in said
    assert "limit 140 MiB" in said
    report = sent_back(service, old, pods)
    gates = [(one["name"], one["step"], one["verdict"]) for one in report["evidence"]]
    assert gates == [("memory", 1, "Passing"), ("memory", 2, "Failing")]
    assert load.failed == 0, load.report


@pytest.mark.full
def test_a_version_that_holds_no_more_than_it_may_is_promoted(service: Service) -> None:
    service.starts(replicas=1, sla=only(memory="140Mi"))
    with service.under_load(100, 120) as load:
        service.rolls_out("2.0.0", template=broken("leak:0"))
        service.until_promoted("2.0.0")
    assert load.failed == 0, load.report
    assert {(one["name"], one["verdict"]) for one in service.report()["evidence"]} == {("memory", "Passing")}


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_a_leak_is_found_by_the_hard_limit_on_growth(service: Service) -> None:
    limits = {**only(), "rollback": {"memoryGrowth": {"above": "20Mi", "for": "5m"}}}
    steps = [{"weight": 50, "hold": "15m"}, {"weight": 100, "hold": "15m"}]
    old = service.starts(replicas=1, sla=limits, rollout={"steps": steps})
    pods = service.pods(old)
    with service.under_load(100, 3 * BLOCK_SECONDS + 100) as load:
        service.rolls_out("2.0.0", template=broken("leak:0.01"))
        said = service.until_rolled_back(3 * BLOCK_SECONDS + 60)
    assert "the memory of a server grew by" in said
    sent_back(service, old, pods)
    assert load.failed == 0, load.report
