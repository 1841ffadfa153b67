"""What is written for a plan: whole objects in golden/*.yaml, and what must not change them."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pinn_operator.api.names import LABEL_OBJECT, LABEL_REVISION
from pinn_operator.api.observed import Observed
from pinn_operator.api.plan import Plan
from pinn_operator.build import build
from pinn_operator.build.children import NUDGE
from pinn_operator.decide import decide
from pinn_operator.kube import NAMED, WRITTEN
from tests.given import observed, ready, resource, revision
from tests.golden import assert_golden

GOLDEN = Path(__file__).parent / "golden"

OVERLAY = {
    "metadata": {"annotations": {"team": "pricing"}},
    "spec": {
        "priorityClassName": "high",
        "containers": [
            {"name": "server", "env": [{"name": "PINN_SERVER_DRAIN", "value": "9s"}, {"name": "EXTRA", "value": "1"}]},
            {"name": "proxy", "image": "proxy:1"},
        ],
        "topologySpreadConstraints": None,
    },
}


def _first(**spec: Any) -> Observed:
    return observed(resource("1.0.0", **spec))


def _built(seen: Observed, plan: Plan | None = None) -> tuple[dict[str, Any], ...]:
    return build(plan or decide(seen), seen)


def _yaml(objects: tuple[dict[str, Any], ...]) -> str:
    """Without anchors, so that each object can be read by itself."""
    return "---\n".join(yaml.safe_dump(copy.deepcopy(obj), sort_keys=False, width=120) for obj in _plain(objects))


def _plain(value: Any) -> Any:
    """Nothing in two places, or YAML would write it once and refer to it."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _one(objects: tuple[dict[str, Any], ...], kind: str, name: str | None = None) -> dict[str, Any]:
    (found,) = [obj for obj in objects if obj["kind"] == kind and name in (None, obj["metadata"]["name"])]
    return found


def test_the_children_of_an_object_with_two_replicas() -> None:
    """Look at the last Service: its selector alone says who serves. And at the pod: non-root, read-only, its token by
    reference. The Secret is empty here: a token is made up where it is written."""
    assert_golden(GOLDEN / "two-replicas.yaml", _yaml(_built(_first(replicas=2))))


def test_the_children_of_an_object_with_a_template() -> None:
    """Look at `env`: one variable is changed, one is added, none is lost; and at the second container."""
    assert_golden(GOLDEN / "template.yaml", _yaml(_built(_first(template=OVERLAY))))


def test_building_twice_gives_the_same_bytes() -> None:
    seen = _first(replicas=2, template=OVERLAY)
    before = copy.deepcopy(OVERLAY)
    assert _yaml(_built(seen)) == _yaml(_built(seen))
    assert before == OVERLAY


def test_records_come_before_workloads_and_the_service_that_callers_know_comes_last() -> None:
    stable, wanted = revision("1.0.0", 1), revision("2.0.0", 2)
    of = resource("2.0.0", replicas=2, status={"stable": {"revision": stable.name}})
    objects = _built(observed(of, revisions=[stable], workloads={stable.name: ready(2)}, selected=stable.name))
    order = [(obj["kind"], obj["metadata"]["name"]) for obj in objects]
    for name in (f"pricer-{stable.name}", f"pricer-{wanted.name}"):
        kinds = [kind for kind, of_revision in order if of_revision == name]
        assert kinds == ["ControllerRevision", "Deployment", "Service", "PodDisruptionBudget"]
    assert order[0] == ("ServiceAccount", "pricer-server")
    assert order[-1] == ("Service", "pricer")
    assert objects[-1]["spec"]["selector"] == {LABEL_OBJECT: "pricer", LABEL_REVISION: stable.name}


def test_every_child_is_of_a_kind_that_is_read_and_is_found_again_by_label_and_owner() -> None:
    seen = _first(replicas=2)
    for obj in _built(seen):
        assert obj["kind"] in {kind.kind for kind in (*WRITTEN, *NAMED)}
        assert obj["metadata"]["labels"][LABEL_OBJECT] == "pricer"
        assert obj["metadata"]["namespace"] == "demo"
        (owner,) = obj["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (seen.uid, True)


def test_pods_carry_no_role_so_a_change_of_role_restarts_nothing() -> None:
    """The same revision as canary, then as stable: its Deployment is the same to the last field."""
    stable, wanted = revision("1.0.0", 1), revision("2.0.0", 2)
    of = resource("2.0.0", status={"stable": {"revision": stable.name}})
    coming = observed(of, revisions=[stable, wanted], workloads={stable.name: ready(1)}, selected=stable.name)
    of = resource("2.0.0", status={"stable": {"revision": wanted.name}})
    over = observed(of, revisions=[stable, wanted], workloads={wanted.name: ready(1)}, selected=wanted.name)
    assert decide(coming).canary == decide(over).stable == wanted
    name = f"pricer-{wanted.name}"
    assert _one(_built(coming), "Deployment", name) == _one(_built(over), "Deployment", name)


def test_a_recorded_template_is_used_as_it_is_whatever_the_operator_would_render_now() -> None:
    known = revision("1.0.0")
    seen = observed(resource("1.0.0"), revisions=[known], server_image="inference:2")
    objects = _built(seen)
    assert _one(objects, "Deployment")["spec"]["template"] == known.template
    assert _one(objects, "ControllerRevision")["data"]["template"] == known.template
    assert _one(objects, "ControllerRevision")["data"]["image"] == known.image


def test_the_record_holds_the_very_template_of_the_deployment() -> None:
    objects = _built(_first(template=OVERLAY))
    assert _one(objects, "ControllerRevision")["data"]["template"] == _one(objects, "Deployment")["spec"]["template"]


def test_a_deployment_selects_its_own_pods_and_no_others() -> None:
    objects = _built(_first())
    deployment = _one(objects, "Deployment")
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert LABEL_REVISION in selector
    assert _one(objects, "Service", deployment["metadata"]["name"])["spec"]["selector"] == selector


@pytest.mark.parametrize(("replicas", "budgets"), [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_a_disruption_budget_is_made_only_where_it_cannot_block_a_drain(replicas: int, budgets: int) -> None:
    objects = _built(_first(replicas=replicas))
    assert [obj["kind"] for obj in objects].count("PodDisruptionBudget") == budgets
    assert _one(objects, "Deployment")["spec"]["replicas"] == replicas


def test_servers_of_which_none_is_ready_keep_no_node_from_being_drained() -> None:
    """By default a budget that is not kept lets nothing go that runs."""
    budget = _one(_built(_first(replicas=2)), "PodDisruptionBudget")
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize(("deadline", "seconds"), [("10m", 600), ("1h30m", 5400), ("500ms", 1)])
def test_the_deadline_of_the_rollout_is_that_of_the_deployment_in_whole_seconds(deadline: str, seconds: int) -> None:
    objects = _built(_first(rollout={"progressDeadline": deadline}))
    assert _one(objects, "Deployment")["spec"]["progressDeadlineSeconds"] == seconds


def test_a_nudge_changes_the_deployment_and_not_its_pods() -> None:
    seen = _first()
    plan = decide(seen)
    nudged = replace(plan, run=tuple(replace(run, nudge="2026-01-02T03:04:00+00:00") for run in plan.run))
    without, with_nudge = _one(_built(seen), "Deployment"), _one(_built(seen, nudged), "Deployment")
    assert with_nudge["metadata"].pop("annotations") == {NUDGE: "2026-01-02T03:04:00+00:00"}
    assert with_nudge == without


def test_nothing_is_built_for_an_object_that_goes() -> None:
    of = resource("1.0.0", metadata={"deletionTimestamp": "2026-01-02T03:04:00Z"})
    assert _built(observed(of, revisions=[revision("1.0.0")])) == ()


def test_a_child_of_the_longest_name_fits_a_dns_label() -> None:
    objects = _built(observed(resource("1.0.0", replicas=2, metadata={"name": "a" * 45})))
    assert max(len(obj["metadata"]["name"]) for obj in objects) <= 63
