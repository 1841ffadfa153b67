"""How many servers of a revision run on GPUs and how many on CPUs, from what is seen alone.

With gpu.policy Prefer a lack of GPUs is no outage: after `patience` servers on CPUs stand in, one for each that is short, and a
single pending server is the probe for a GPU that becomes free. That CPU servers are asked for is the memory of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pinn_operator.api.observed import Observed
from pinn_operator.api.placement import Place, Placed
from pinn_operator.api.plan import Plan, Run
from pinn_operator.api.revision import Revision
from pinn_operator.api.units import seconds
from pinn_operator.decide.looks import called, half_minute

SOON: Final = 1.0
"""Endpoints are not watched."""


def with_places(seen: Observed, plan: Plan) -> Plan:
    """The plan with where the servers of each revision run, for those that may run on GPUs."""
    runs = tuple(_with_place(seen, run) for run in plan.run)
    waits = [wait for run in runs if (wait := _look_again(seen, run)) is not None]
    again = min([*waits, *([] if plan.look_again is None else [plan.look_again])], default=None)
    return replace(plan, run=runs, look_again=again)


def place(seen: Observed, revision: Revision, asked: int) -> Placed:
    """Where so many servers are to run. Those on CPUs leave one by one, each when a server on a GPU is behind every Service."""
    gpu, cpu = seen.place(revision.name, "GPU"), seen.place(revision.name, "CPU")
    if "CPU" not in revision.runs_on or not (cpu.asked or _patience_is_over(seen, revision, gpu)):
        return _told(revision, gpu, asked, Placed(cpu=0, gpu=asked))
    standing_in = asked - min(asked, gpu.behind)
    if seen.split:  # one that carries the label must not be taken away: by their number the shares are made
        standing_in = max(standing_in, min(cpu.asked, asked))
    return _told(revision, gpu, asked, Placed(cpu=standing_in, gpu=min(asked, gpu.on_nodes + 1)))


def has_no_gpu(seen: Observed, revision: Revision) -> bool:
    """A server of it finds no GPU, and none on a CPU may stand in, or does yet."""
    stands_in = "CPU" in revision.runs_on and seen.place(revision.name, "CPU").asked > 0
    return "GPU" in revision.runs_on and bool(seen.place(revision.name, "GPU").lacking) and not stands_in


def starves(seen: Observed, stable: Revision, canary: Revision) -> str:
    """Why stable, which needs GPUs and has been short of one for as long as patience lasts, should have that of the canary;
    nothing while it has its own. Else the canary could keep it from coming back."""
    gpu = seen.place(stable.name, "GPU")
    if canary.runs_on != ("GPU",) or stable.runs_on != ("GPU",) or not _patience_is_over(seen, stable, gpu):
        return ""
    return f"{called(stable)} has been short of a GPU for {stable.gpu.patience}, and needs it first; {gpu.lacking}"


def remedy(revision: Revision) -> str:
    """What a person can do where the servers of a revision find no GPU."""
    gpu = revision.gpu
    wanted = f"free {gpu.count} {gpu.resource} for each server"
    if gpu.policy == "Require":
        return f"a rollout takes GPUs for both revisions: {wanted}, or set spec.gpu.policy: Prefer"
    return f"{wanted}, or make spec.gpu.patience ({gpu.patience}) shorter than spec.rollout.progressDeadline"


def comes_back_after(revision: Revision) -> float | None:
    """Seconds that it may take a revision whose servers were let go to find a place again; None where nothing bounds it."""
    if "GPU" not in revision.runs_on:
        return 0.0
    return seconds(revision.gpu.patience) if "CPU" in revision.runs_on else None


def _with_place(seen: Observed, run: Run) -> Run:
    if "GPU" not in run.revision.runs_on:
        return run
    refused = seen.place(run.revision.name, "GPU").lacking.startswith("refused")
    return replace(
        run,
        placed=place(seen, run.revision, run.replicas),
        nudge=run.nudge or (half_minute(seen) if refused else None),
    )


def _patience_is_over(seen: Observed, revision: Revision, gpu: Place) -> bool:
    left = _patience_left(seen, revision, gpu)
    return left is not None and left <= 0


def _patience_left(seen: Observed, revision: Revision, gpu: Place) -> float | None:
    """Seconds; None where no server lacks a GPU."""
    if not gpu.lacking or gpu.since is None:
        return None
    return seconds(revision.gpu.patience) - (seen.now - gpu.since).total_seconds()


def _look_again(seen: Observed, run: Run) -> float | None:
    """When something is due that nothing wakes the operator for."""
    if run.placed is None or "CPU" not in run.revision.runs_on:
        return None
    gpu = seen.place(run.revision.name, "GPU")
    if run.placed.cpu == 0:
        left = _patience_left(seen, run.revision, gpu)
        return None if left is None else max(0.0, left) + 0.1
    return SOON if gpu.ready > gpu.behind and not seen.split else None


def _told(revision: Revision, gpu: Place, asked: int, placed: Placed) -> Placed:
    """With the sentence about it."""
    count = f"{min(asked, gpu.ready)} of {asked} servers"
    if placed.cpu:
        why = gpu.lacking or gpu.trouble or "the others start"
        said = f"{called(revision)} is served on CPUs, {count} are on GPUs; {why}"
        return replace(placed, satisfied=False, reason="OnCpus", said=said)
    if gpu.ready >= asked:
        return replace(placed, reason="OnGpus", said=f"every server of {called(revision)} has its GPU, {count}")
    if gpu.lacking:
        said = f"{called(revision)} lacks GPUs, {count} are ready; {gpu.lacking}"
        reason = "Unschedulable" if gpu.lacking.startswith("Unschedulable") else "Refused"
        return replace(placed, satisfied=False, reason=reason, said=f"{said}{_outlook(revision)}")
    trouble = f": {gpu.trouble}" if gpu.trouble else ""
    return replace(
        placed,
        satisfied=False,
        reason="Starting",
        said=f"{called(revision)} starts on GPUs, {count} are ready{trouble}",
    )


def _outlook(revision: Revision) -> str:
    if "CPU" not in revision.runs_on:
        return ""
    return f"; servers on CPUs stand in when that has lasted for spec.gpu.patience ({revision.gpu.patience})"
