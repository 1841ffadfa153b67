"""Three nodes, one of them lost in the middle of a rollout, with its servers of both revisions and the operator that led.

Needs a kind cluster of three nodes, whose containers the engine that made them can end and start again.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from shutil import which

import pytest

from tests.e2e.cluster.proc import succeeds
from tests.e2e.faults import broken
from tests.e2e.gateway.install import NAMESPACE as GATEWAY
from tests.e2e.gateway.install import Gateway
from tests.e2e.kubectl import SYSTEM, Object, eventually, find, get, items, kubectl, running
from tests.e2e.steps import Load, Service, only

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.full,
    pytest.mark.usefixtures("operator"),
    pytest.mark.timeout(900),
]

ENGINE_SECONDS = 60
BACK_SECONDS = 180
LOAD_SECONDS = 480
PROMOTED_SECONDS = 300
QUIET_SECONDS = 20
LATE_SECONDS = 10
"""For what callers still wait for."""
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
NOTICED_SECONDS = 90
"""Until no request goes to a lost node: Kubernetes calls it NotReady 50 s after its last word, and looks every 5 s. Until then
its servers are endpoints."""

SOON_REPLACED: Object = {
    "spec": {
        "tolerations": [
            {"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 10}
            for what in ("unreachable", "not-ready")
        ]
    }
}
"""By default pods of a lost node are replaced after five minutes: a test does not have the time."""


@dataclass(frozen=True)
class Nodes:
    """The nodes by name, the one with the API server first."""

    names: tuple[str, ...]

    def without(self, *names: str) -> str:
        """A node that may be lost: a worker, and none of these."""
        return next(name for name in self.names[1:] if name not in names)

    @contextmanager
    def closed(self, name: str) -> Iterator[None]:
        """Nothing new is put there."""
        kubectl("cordon", name)
        try:
            yield
        finally:
            kubectl("uncordon", name)

    def lose(self, name: str) -> float:
        """As when its power is cut; when that was."""
        engine("kill", name)
        return time.time()

    def bring_back(self) -> None:
        """All that were lost, ready again."""
        engine("start", *self.names)
        kubectl("wait", "node", "--all", "--for=condition=Ready", f"--timeout={BACK_SECONDS}s", limit=BACK_SECONDS + 10)


def are_containers(names: Sequence[str]) -> bool:
    """Whether an engine that can be asked here runs these nodes."""
    return which("docker") is not None and succeeds(["docker", "inspect", *names])


def engine(*arguments: str) -> None:
    subprocess.run(["docker", *arguments], check=True, capture_output=True, timeout=ENGINE_SECONDS)


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """Three that take pods; all of them are back when the test is over."""
    found = sorted(items("nodes", "default"), key=lambda node: CONTROL_PLANE not in node["metadata"]["labels"])
    names = tuple(node["metadata"]["name"] for node in found)
    if len(names) < 3 or not are_containers(names):
        pytest.skip("needs a kind cluster of three nodes: one of them is lost")
    three = Nodes(names)
    three.bring_back()
    taint = f"{CONTROL_PLANE}:NoSchedule"
    tainted = any(one["key"] == CONTROL_PLANE for one in found[0]["spec"].get("taints", ()))
    if tainted:
        kubectl("taint", "node", names[0], f"{taint}-")
    yield three
    three.bring_back()
    if tainted:
        kubectl("taint", "node", names[0], taint)


@pytest.fixture
def service(namespace: str, gateway: Gateway) -> Service:
    return Service(namespace, gateway)


def where(namespace: str, selector: str) -> set[str]:
    """The nodes of such pods."""
    return {pod["spec"]["nodeName"] for pod in running(namespace, selector)}


def leader() -> str:
    """The pod that acts."""
    return str((find("lease", "pinn-operator", SYSTEM) or {}).get("spec", {}).get("holderIdentity") or "")


def new_leader(before: str) -> str:
    """The pod that acts when that one does no longer: between two leaders there is none."""
    eventually(lambda: leader() not in ("", before), 60, why=leader)
    return leader()


def leads_from(node: str, name: str) -> bool:
    pod = find("pod", name, SYSTEM)
    return pod is not None and "deletionTimestamp" not in pod["metadata"] and pod["spec"].get("nodeName") == node


def let_lead(node: str) -> None:
    """The operator's replica on this node leads: the others make way until it does."""
    leads = ""
    for _ in range(4):
        leads = new_leader(leads)
        if leads_from(node, leads):
            return
        kubectl("-n", SYSTEM, "delete", "pod", leads, "--timeout=60s")
        kubectl("-n", SYSTEM, "rollout", "status", "deployment/pinn-operator", "--timeout=120s")
    raise AssertionError(f"no replica of the operator on {node} came to lead, but {leader()}")


def last_failure(load: Load) -> float:
    """In seconds since 1970; 0 when there was none."""
    seconds = [second for second, _, _, failed in load.report["by_second"] if failed]
    return float(load.report["began"] + max(seconds)) if seconds else 0.0


def is_lost(node: str) -> bool:
    conditions = get("node", node, "default")["status"]["conditions"]
    return any(one["type"] == "Ready" and one["status"] == "Unknown" for one in conditions)


def loses_a_node(service: Service, nodes: Nodes, fault: str = "") -> tuple[Load, float]:
    """A rollout under load whose canary has its first share when a node goes for good, with a server of each revision and the
    operator that leads. The load's report, and from when on no request had any reason to fail."""
    steps = [{"weight": 30, "hold": "20s"}, {"weight": 60, "hold": "20s"}, {"weight": 100, "hold": "20s"}]
    old = service.starts(replicas=3, template=SOON_REPLACED, sla=only(errorRate="5%"), rollout={"steps": steps})
    assert where(service.namespace, f"pinn.dev/revision={old}") == set(nodes.names)
    lost = nodes.without(*where(GATEWAY, ""))
    let_lead(lost)
    with ExitStack() as until_the_end:
        with nodes.closed(lost):
            load = until_the_end.enter_context(service.under_load(50, LOAD_SECONDS))
        service.rolls_out("2.0.0", template=broken(fault) if fault else {})
        service.until_weight(30)
        new = service.status["canary"]["revision"]
        assert lost in where(service.namespace, f"pinn.dev/revision={new}")
        went = nodes.lose(lost)
        eventually(lambda: is_lost(lost), NOTICED_SECONDS, why=lambda: get("node", lost, "default")["status"])
        if fault:
            service.until_rolled_back()
        else:
            service.until_promoted("2.0.0", PROMOTED_SECONDS)
        calm = max(went + NOTICED_SECONDS, time.time() + LATE_SECONDS)
        serving = service.status["stable"]["revision"]
        eventually(lambda: ready(service, serving) == 3, NOTICED_SECONDS, why=lambda: service.status)
        eventually(lambda: time.time() > calm + QUIET_SECONDS, NOTICED_SECONDS + QUIET_SECONDS)
    return load, calm


def ready(service: Service, revision: str) -> int:
    """How many of its servers are, by the API server."""
    found = find("deployment", f"{service.name}-{revision}", service.namespace) or {}
    return int(found.get("status", {}).get("readyReplicas", 0))


def test_a_good_version_is_promoted_though_a_node_is_lost_in_the_middle(service: Service, nodes: Nodes) -> None:
    load, calm = loses_a_node(service, nodes)
    assert service.history() == [("2.0.0", "Promoted")]
    assert service.report()["outcome"] == "Promoted"
    assert service.weights() == {f"pricer-{service.status['stable']['revision']}": 100}
    assert load.answered("2.0.0") > 0
    assert last_failure(load) < calm, load.report


def test_a_bad_version_is_sent_back_though_the_node_with_the_leader_is_lost(service: Service, nodes: Nodes) -> None:
    load, calm = loses_a_node(service, nodes, "errors:0.3")
    assert service.history() == [("2.0.0", "RolledBack")]
    assert service.weights() == {f"pricer-{service.status['stable']['revision']}": 100}
    assert service.status["stable"]["modelVersion"] == "1.0.0"
    assert last_failure(load) < calm, load.report
