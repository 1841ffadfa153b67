"""Servers on GPUs: what their pods have that others have not, and which Deployment of a revision asks for how many."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pinn_operator.api.names import LABEL_OBJECT, LABEL_PLACEMENT, LABEL_REVISION
from pinn_operator.api.placement import SERVERS, Placed
from pinn_operator.api.revision import Revision
from pinn_operator.build import build
from pinn_operator.build.gpu import SCRATCH, image_for_gpus
from pinn_operator.build.pod import render
from pinn_operator.decide import decide
from tests.given import NOW, observed, resource, revision
from tests.golden import assert_golden

GOLDEN = Path(__file__).parent / "golden"
MIG: dict[str, Any] = {
    "policy": "Prefer",
    "resource": "nvidia.com/mig-1g.10gb",
    "count": 2,
    "runtimeClassName": "nvidia",
}
REQUIRE: dict[str, Any] = {"gpu": {"policy": "Require"}, "fallback": {"cpu": False}}


def rendered(**spec: Any) -> Revision:
    return render(revision("1.0.0", written_down=False, **spec), "pricer", resource("1.0.0", **spec).spec)


def server(template: Any) -> Any:
    return next(one for one in template["spec"]["containers"] if one["name"] == "server")


def env(template: Any) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in server(template)["env"]}


def children(kind: str, placed: Placed | None = None, **spec: Any) -> dict[str, Any]:
    """Those of a kind that are made for the first revision, by the end of their names."""
    seen = observed(resource("1.0.0", **spec))
    plan = decide(seen)
    if placed:
        plan = replace(plan, run=tuple(replace(run, placed=placed) for run in plan.run))
    found = [one for one in build(plan, seen) if one["kind"] == kind and LABEL_REVISION in one["metadata"]["labels"]]
    return {one["metadata"]["name"].removeprefix(f"pricer-{plan.wanted}"): one for one in found}


def test_the_pod_of_a_server_on_gpus() -> None:
    """Look at the resource, the toleration and the policy; everything else is as on CPUs."""
    assert_golden(GOLDEN / "gpu-pod.yaml", yaml.safe_dump(rendered(gpu=MIG).gpu_template, sort_keys=False, width=120))


def test_a_server_on_cpus_of_the_same_revision_asks_for_no_gpu_and_does_not_miss_one() -> None:
    made = rendered(gpu=MIG)
    plain = rendered()
    assert made.template is not None
    assert plain.template is not None
    assert env(made.template)["PINN_SERVER_GPU_POLICY"] == "never"
    assert made.template["metadata"]["labels"][LABEL_PLACEMENT] == "cpu"
    assert made.template["spec"]["containers"][0]["resources"] == plain.template["spec"]["containers"][0]["resources"]
    assert "tolerations" not in made.template["spec"]


def test_without_gpus_nothing_tells_that_there_could_be_any() -> None:
    made = rendered()
    assert (made.gpu_template, made.runs_on) == (None, ("CPU",))
    assert made.template
    assert LABEL_PLACEMENT not in made.template["metadata"]["labels"]
    assert "pinn.dev/placement" not in str(children("Deployment"))


def test_a_gpu_that_is_required_leaves_no_servers_on_cpus_and_the_server_is_told() -> None:
    made = rendered(**REQUIRE)
    assert (made.template, made.runs_on) == (None, ("GPU",))
    assert env(made.gpu_template)["PINN_SERVER_GPU_POLICY"] == "require"
    (suffix,) = children("Deployment", **REQUIRE)
    assert suffix == "-gpu"


def test_the_container_that_fetches_a_model_takes_no_gpu() -> None:
    model = {"name": "m", "version": "1.0.0", "uri": "https://models.example/m.tar", "digest": "sha256:" + "0" * 64}
    template = rendered(gpu=MIG, model=model).gpu_template
    assert template is not None
    (fetcher,) = template["spec"]["initContainers"]
    assert "nvidia.com" not in str(fetcher)
    assert fetcher["image"] == server(template)["image"]


def test_a_user_s_template_is_laid_over_both() -> None:
    made = rendered(gpu=MIG, template={"spec": {"priorityClassName": "high", "tolerations": []}})
    for template in (made.template, made.gpu_template):
        assert template is not None
        assert (template["spec"]["priorityClassName"], template["spec"]["tolerations"]) == ("high", [])


def test_a_server_on_a_gpu_has_one_folder_that_it_may_write_to() -> None:
    """Where XLA compiles; the root is read-only. No server on a CPU has it, nor the container that fetches a model."""
    model = {"name": "m", "version": "1.0.0", "uri": "https://models.example/m.tar", "digest": "sha256:" + "0" * 64}
    made = rendered(gpu=MIG, model=model)
    template = made.gpu_template
    assert template is not None
    (mount,) = [one for one in server(template)["volumeMounts"] if not one.get("readOnly")]
    assert mount["mountPath"] == f"/{SCRATCH}"
    (volume,) = [one for one in template["spec"]["volumes"] if one["name"] == mount["name"]]
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "256Mi"}
    assert len(template["spec"]["volumes"]) == 2, "the model's is there too"
    assert mount["name"] not in str(template["spec"]["initContainers"])
    assert mount["name"] not in str(made.template)


def test_a_user_may_put_a_volume_of_their_own_there_and_another_elsewhere() -> None:
    own = [{"name": "mine", "emptyDir": {"sizeLimit": "5Gi"}}]
    mounts = [{"name": "mine", "mountPath": path} for path in (f"/{SCRATCH}", "/var/dumps")]
    template = {"spec": {"volumes": own, "containers": [{"name": "server", "volumeMounts": mounts}]}}
    made = rendered(gpu=MIG, template=template).gpu_template
    assert made is not None
    assert server(made)["volumeMounts"] == mounts
    assert own[0] in made["spec"]["volumes"]


def test_a_server_that_is_not_ready_without_its_gpu_has_longer_to_start() -> None:
    patience = {
        policy: server(rendered(**spec).gpu_template)["startupProbe"]
        for policy, spec in {"Prefer": {"gpu": MIG}, "Require": REQUIRE}.items()
    }
    plain = rendered().template
    assert patience["Prefer"] == server(plain)["startupProbe"]
    assert patience["Require"] == {**patience["Prefer"], "failureThreshold": 300}


def test_an_image_of_the_user_s_own_serves_on_both_and_the_operator_s_has_a_tag_for_gpus() -> None:
    made = rendered(gpu=MIG)
    assert server(made.gpu_template)["image"] == "inference:1-gpu"
    assert server(made.template)["image"] == "inference:1"
    own = rendered(gpu=MIG, image="inference:1")
    assert server(own.gpu_template)["image"] == server(own.template)["image"] == "inference:1"


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("r.example:5000/inference:0.1.0", "r.example:5000/inference:0.1.0-gpu"),
        ("r.example:5000/inference", "r.example:5000/inference:latest-gpu"),
        ("inference:0.1.0@sha256:0123", "inference:0.1.0-gpu"),
        ("inference@sha256:0123", "inference@sha256:0123"),
    ],
)
def test_how_the_image_for_gpus_is_named(image: str, expected: str) -> None:
    assert image_for_gpus(image) == expected


def test_two_deployments_tell_their_pods_apart_and_one_service_selects_both() -> None:
    made = children("Deployment", Placed(cpu=2, gpu=1), gpu=MIG, replicas=2)
    assert {suffix: one["spec"]["replicas"] for suffix, one in made.items()} == {"": 2, "-gpu": 1}
    (service,) = children("Service", gpu=MIG).values()
    for where, one in (("cpu", made[""]), ("gpu", made["-gpu"])):
        selector = one["spec"]["selector"]["matchLabels"]
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert selector.items() <= labels.items()
        assert selector[LABEL_PLACEMENT] == where
        assert service["spec"]["selector"].items() <= labels.items()
    assert set(service["spec"]["selector"]) == {LABEL_OBJECT, LABEL_REVISION}


def test_a_server_that_waits_for_a_gpu_keeps_no_node_from_being_drained() -> None:
    (budget,) = children("PodDisruptionBudget", Placed(cpu=3, gpu=1), gpu=MIG, replicas=3).values()
    assert budget["spec"]["minAvailable"] == 2
    assert "maxUnavailable" not in budget["spec"]
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_the_longest_name_fits_a_dns_label() -> None:
    seen = observed(resource("1.0.0", gpu=MIG, metadata={"name": "a" * 45}))
    assert max(len(one["metadata"]["name"]) for one in build(decide(seen), seen)) <= 63


SCALED: dict[str, Any] = {"autoscaling": {"minReplicas": 2, "maxReplicas": 5}, "replicas": 3}


def test_an_autoscaler_counts_the_servers_on_gpus_where_they_are_required() -> None:
    (scaler,) = children("HorizontalPodAutoscaler", **REQUIRE, **SCALED).items()
    suffix, made = scaler
    (target,) = children("Deployment", **REQUIRE, **SCALED).values()
    assert suffix == ""
    assert made["spec"]["scaleTargetRef"]["name"] == target["metadata"]["name"]
    assert target["metadata"]["name"].endswith("-gpu")


def test_where_a_gpu_is_preferred_no_autoscaler_counts_and_both_deployments_note_how_many_there_are() -> None:
    assert children("HorizontalPodAutoscaler", gpu=MIG, **SCALED) == {}
    made = children("Deployment", gpu=MIG, **SCALED)
    assert {suffix: one["spec"]["replicas"] for suffix, one in made.items()} == {"-gpu": 3, "": 0}
    noted = {one["metadata"]["annotations"][SERVERS] for one in made.values()}
    assert noted == {f"3@{int(NOW.timestamp())}"}


@pytest.mark.parametrize(("replicas", "within"), [(1, 2), (3, 3), (8, 5)])
def test_where_a_gpu_is_preferred_there_are_as_many_as_replicas_says_within_the_bounds(
    replicas: int, within: int
) -> None:
    made = children("Deployment", gpu=MIG, autoscaling=SCALED["autoscaling"], replicas=replicas)
    assert made["-gpu"]["spec"]["replicas"] == within


def test_without_bounds_that_nothing_is_counted_is_noted_and_a_single_deployment_notes_nothing() -> None:
    """What is left out may stay on the live object."""
    both = children("Deployment", gpu=MIG, replicas=3)
    assert [one["metadata"]["annotations"] for one in both.values()] == [{SERVERS: ""}] * 2
    for single in (REQUIRE, {}):
        (alone,) = children("Deployment", **single, **SCALED).values()
        assert "annotations" not in alone["metadata"]
