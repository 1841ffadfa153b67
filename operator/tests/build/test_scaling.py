"""The autoscaler of a revision as an object, and a Deployment that leaves the number of servers to it."""

from __future__ import annotations

from typing import Any

import pytest
from pinn_operator.api.observed import Autoscaler, Observed
from pinn_operator.build import build
from pinn_operator.decide import decide
from tests.given import observed, ready, resource, revision

ONE = revision("1.0.0")
CHILD = f"pricer-{ONE.name}"


def _serving(asked: int, autoscaler: Autoscaler | None = None, **spec: Any) -> Observed:
    of = resource("1.0.0", status={"stable": {"revision": ONE.name}}, **spec)
    return observed(
        of,
        revisions=[ONE],
        workloads={ONE.name: ready(asked, asked=asked)},
        selected=ONE.name,
        endpoints=[ONE.name],
        autoscalers={ONE.name: autoscaler} if autoscaler else {},
        pod_metrics=True,
    )


def _built(seen: Observed) -> dict[str, dict[str, Any]]:
    """What carries the name of the revision, by kind."""
    return {obj["kind"]: obj for obj in build(decide(seen), seen) if obj["metadata"]["name"] == CHILD}


def test_the_autoscaler_of_a_revision_to_the_last_field() -> None:
    """Look at the CPU: that of the server's own container, which is what spec.resources is about."""
    found = _built(_serving(2, autoscaling={"minReplicas": 2, "targetInFlight": 16}))
    assert found["HorizontalPodAutoscaler"]["spec"] == {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": CHILD},
        "minReplicas": 2,
        "maxReplicas": 10,
        "metrics": [
            {
                "type": "ContainerResource",
                "containerResource": {
                    "name": "cpu",
                    "container": "server",
                    "target": {"type": "Utilization", "averageUtilization": 80},
                },
            },
            {
                "type": "Pods",
                "pods": {
                    "metric": {"name": "pinn_requests_in_flight"},
                    "target": {"type": "AverageValue", "averageValue": "16"},
                },
            },
        ],
    }
    assert found["HorizontalPodAutoscaler"]["metadata"] == found["Deployment"]["metadata"]


@pytest.mark.parametrize(("target", "written"), [(1000, "1k"), (1500, "1500"), (1_000_000, "1M")])
def test_a_target_is_written_as_the_api_server_writes_it_back(target: int, written: str) -> None:
    found = _built(_serving(2, autoscaling={"targetCPU": "Off", "targetInFlight": target}))
    (metric,) = found["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["pods"]["target"]["averageValue"] == written


def test_without_autoscaling_there_is_none() -> None:
    assert "HorizontalPodAutoscaler" not in _built(_serving(2, replicas=2))


def test_an_autoscaler_that_is_there_is_left_alone_with_the_number() -> None:
    assert "replicas" not in _built(_serving(6, Autoscaler(6), autoscaling={}))["Deployment"]["spec"]


@pytest.mark.parametrize(
    ("asked", "autoscaler", "replicas"),
    [
        pytest.param(6, None, 6, id="not made yet, or deleted by somebody: what is there stays"),
        pytest.param(0, None, 2, id="switched on again"),
        pytest.param(0, Autoscaler(6), 6, id="scaled to none by hand, which leads an autoscaler nowhere"),
    ],
)
def test_the_number_is_written_where_no_autoscaler_says_it(
    asked: int, autoscaler: Autoscaler | None, replicas: int
) -> None:
    found = _built(_serving(asked, autoscaler, autoscaling={"minReplicas": 2}))
    assert found["Deployment"]["spec"]["replicas"] == replicas


@pytest.mark.parametrize(("fewest", "most", "budgets"), [(1, 1, 0), (1, 10, 1), (2, 10, 1)])
def test_there_is_a_budget_where_there_may_be_two_servers(fewest: int, most: int, budgets: int) -> None:
    found = _built(_serving(1, autoscaling={"minReplicas": fewest, "maxReplicas": most}))
    assert ("PodDisruptionBudget" in found) is bool(budgets)
    if budgets:
        assert found["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1, "it blocks no drain, however few there are"


def test_what_is_on_record_is_not_rendered_anew_for_an_autoscaler() -> None:
    assert _built(_serving(2, autoscaling={}))["Deployment"]["spec"]["template"] == ONE.template
