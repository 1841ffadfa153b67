"""What is said of GPUs: a condition that quotes the scheduler, an event when it changes, where each arm runs."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from pinn_operator.api.observed import Observed, Workload
from pinn_operator.api.outcome import Outcome
from pinn_operator.api.placement import Place
from pinn_operator.decide import decide
from pinn_operator.report import happenings, status_of
from tests.given import NOW, observed, ready, resource, revision

WORDS = "Unschedulable: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
UP, LACKS = Place(1, 1, 1, 1), Place(asked=1, lacking=WORDS, since=NOW - timedelta(minutes=3))
PREFER: dict[str, Any] = {"gpu": {"policy": "Prefer"}}
REQUIRE: dict[str, Any] = {"gpu": {"policy": "Require"}, "fallback": {"cpu": False}}


def seen_with(gpu: Place, cpu: Place, spec: dict[str, Any], status: dict[str, Any] | None = None) -> Observed:
    made = replace(revision("1.0.0", **spec), gpu_template={})
    one = made if spec is PREFER else replace(made, template=None)
    count = gpu.ready + cpu.ready
    trouble = gpu.lacking if spec is REQUIRE else None
    return observed(
        resource("1.0.0", status=status or {"stable": {"revision": one.name}}, **spec),
        revisions=[one],
        workloads={one.name: Workload(count, count, not_starting=trouble or None)},
        places={one.name: {"GPU": gpu, "CPU": cpu}},
        selected=one.name,
        endpoints=[one.name] if count else [],
    )


def status(seen: Observed) -> dict[str, Any]:
    return status_of(seen, decide(seen), Outcome())


def condition(seen: Observed, kind: str) -> dict[str, Any]:
    return next((one for one in status(seen)["conditions"] if one["type"] == kind), {})


def told(seen: Observed) -> list[tuple[str, bool]]:
    return [(one.reason, one.warning) for one in happenings(seen, decide(seen), Outcome())]


def test_servers_that_have_their_gpus_are_satisfied_and_said_to_be_on_gpus() -> None:
    seen = seen_with(UP, Place(), PREFER)
    assert (condition(seen, "GpuSatisfied")["status"], condition(seen, "GpuSatisfied")["reason"]) == ("True", "OnGpus")
    assert status(seen)["stable"]["placement"] == "GPU"


def test_cpus_that_stand_in_serve_and_the_object_is_ready_though_its_wish_is_not_met() -> None:
    seen = seen_with(replace(LACKS, asked=1), UP, PREFER)
    found = condition(seen, "GpuSatisfied")
    assert (found["status"], found["reason"]) == ("False", "OnCpus")
    assert WORDS in found["message"]
    assert status(seen)["stable"]["placement"] == "CPU"
    assert condition(seen, "Ready")["status"] == "True"
    assert condition(seen, "Available")["status"] == "True"
    assert not condition(seen, "Reconciling")


def test_servers_on_both_are_not_said_to_be_on_gpus() -> None:
    assert status(seen_with(UP, UP, PREFER))["stable"]["placement"] == "CPU"


def test_a_gpu_that_is_required_and_not_there_is_in_every_condition_with_the_scheduler_s_reason() -> None:
    seen = seen_with(LACKS, Place(), REQUIRE)
    assert condition(seen, "GpuSatisfied")["reason"] == "Unschedulable"
    for kind in ("GpuSatisfied", "Ready", "Reconciling", "Available"):
        assert WORDS in condition(seen, kind)["message"], kind
    assert condition(seen, "Available")["status"] == "False"
    assert status(seen)["stable"]["placement"] == "GPU"


def test_without_gpus_in_the_spec_and_without_servers_nothing_is_said() -> None:
    plain = revision("1.0.0")
    seen = observed(resource("1.0.0"), revisions=[plain], workloads={plain.name: ready(1)}, selected=plain.name)
    assert not condition(seen, "GpuSatisfied")
    none = seen_with(Place(), Place(), PREFER)
    none = replace(none, resource=resource("1.0.0", replicas=0, **PREFER))
    assert not condition(none, "GpuSatisfied")


def test_an_event_says_that_cpus_stand_in_and_another_that_gpus_are_back_each_once() -> None:
    short = seen_with(LACKS, UP, PREFER)
    assert ("OnCpus", True) in told(short)
    again = replace(short, resource=short.resource.model_copy(update={"status": _status(short)}))
    assert told(again) == []
    back = replace(seen_with(UP, Place(), PREFER), resource=again.resource)
    assert told(back) == [("OnGpus", False)]


def test_that_servers_start_on_gpus_is_no_event() -> None:
    assert told(seen_with(Place(asked=1, on_nodes=1), Place(), PREFER)) == []


def _status(seen: Observed) -> Any:
    return type(seen.resource.status).model_validate(status(seen))
