"""Why an object is not ready or not promoting: what it waits for, which evidence is missing, and what a person can do. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Final

from pinn_operator.api.names import FINALIZER
from pinn_operator.plugin.standing import Gate, Standing, head_of, seen
from pinn_operator.plugin.words import moment, paragraph, since, span, until


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a person should know: what is, in the operator's words and in general, and what to do about it. `needs` says
    whether it takes a person."""

    title: str
    why: str
    means: str
    do: tuple[str, ...]
    needs: bool


@dataclass(frozen=True, slots=True)
class Remedy:
    """What a reason means and what to do. No `do`: it takes no person. `{name}` and the fields of Where are filled in."""

    means: str
    do: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Where:
    """Options of kubectl for the commands that a person is to type: those that lead to the object, and to the operator's pods."""

    where: str
    operators: str


OPERATORS: Final = "pinn-system"
"""The namespace of the operator, where its pods do not tell."""

PROMOTE: Final = "kubectl pinn promote {name} {where}"
ABORT: Final = "kubectl pinn abort {name} {where}"
UNDO: Final = "kubectl pinn undo {name} {where}"
PODS: Final = "kubectl {where} get pods -l pinn.dev/deployment={name} -L pinn.dev/revision"
OPERATOR_LOGS: Final = "kubectl {operators} logs -l app.kubernetes.io/part-of=pinn-operator --tail=50"
GPU_OR_CPU: Final = "or let CPUs stand in: spec.gpu.policy: Prefer"
LOGS: Final = "kubectl {where} logs -l pinn.dev/deployment={name} -c server --tail=50"

REASONS: Final[Mapping[str, Remedy]] = {
    # Why it is not ready, or stuck.
    "ChildRefused": Remedy(
        "the API server refuses a child; it is tried again every 30 s, so this heals when the cause is gone",
        ("raise the quota, correct spec.template, or free the name: whatever the sentence names", UNDO),
    ),
    "PodsRefused": Remedy(
        "Kubernetes may not create the pods; a rollout needs room for twice as many",
        ("raise the quota, or change spec.resources or spec.template as the sentence says", UNDO),
    ),
    "PodsNotStarting": Remedy("a pod was created and does not start", (PODS, LOGS, UNDO)),
    "ProgressDeadlineExceeded": Remedy(
        "the servers were not ready in time, and there is nothing to go back to; the operator goes on trying",
        (PODS, LOGS, "if they only need longer: raise spec.rollout.progressDeadline", UNDO),
    ),
    "NotSupported": Remedy(
        "the spec asks for what this release cannot do; nothing new is made", ("correct the field it names", UNDO)
    ),
    "RolledBack": Remedy(
        "the version was sent back and is not tried again by itself; the stable one serves",
        (
            "kubectl pinn report {name} {where}    # why, with the evidence",
            f"{UNDO}    # make the spec say what serves",
            "kubectl pinn retry {name} {where}    # if the cause was elsewhere and is gone",
        ),
    ),
    "NotUnderstood": Remedy(
        "the object holds what this release of the operator does not know; nothing is changed until it can be read",
        ("upgrade the operator, or set the field it names to what this release knows",),
    ),
    "ChildChanged": Remedy(
        "somebody changes a child again and again, and the operator puts it back",
        ("take the child out of the tool that it names, or say in spec what it should be",),
    ),
    "Unavailable": Remedy(
        "no server of the stable revision is ready: callers get no answer",
        (PODS, LOGS, "with two replicas and nodes to spread over, one node less is no outage"),
    ),
    # Why it stands still.
    "Paused": Remedy("spec.rollout.paused holds the weight; gates still protect", (
        "kubectl pinn resume {name} {where}",
    )),
    "Undecided": Remedy(
        "the step had its time without a verdict; it goes on by itself when the evidence comes, a person can decide earlier",
        (PROMOTE, ABORT, "or give it more traffic, or looser limits in spec.sla.promote"),
    ),
    "WaitingForApproval": Remedy(
        "every gate has passed and the step asks for a person (approval: Required)", (PROMOTE, ABORT)
    ),
    "TooCoarse": Remedy(
        "so few pods cannot make so small a share",
        ("name a gateway in spec.traffic, raise spec.replicas, or set spec.traffic.allowCoarse",),
    ),
    # What takes nobody.
    "Starting": Remedy("the first revision is coming up"),
    "NotYet": Remedy("no revision has been ready yet"),
    "Step": Remedy("a new revision is on its way"),
    "Baking": Remedy("the new revision has all of the traffic; it is promoted at the end of the hold, if nothing breaks"),
    "Draining": Remedy("the traffic changes over"),
    "RollingBack": Remedy("all traffic goes back to stable; then the report is written"),
    "Serving": Remedy("the stable revision serves"),
    "Deleting": Remedy("the children are being removed"),
    "NoStatus": Remedy(
        "the operator has written nothing about it: does it run, and does it look after this namespace?",
        ("kubectl {operators} get pods,lease", OPERATOR_LOGS),
    ),
}  # fmt: skip
"""By the reason of a condition."""

ELSEWHERE: Final[Mapping[tuple[str, str], Remedy]] = {
    ("Ready", "RollingBack"): Remedy(
        "the rollback takes longer than spec.rollout.rollbackWithin: callers may still meet the version that is sent back",
        (PODS, "docs/runbooks/PINNRollbackStuck.md has what to do by hand"),
    ),
    ("GpuSatisfied", "OnCpus"): Remedy("servers on CPUs stand in, and go when a GPU is free"),
    ("GpuSatisfied", "Starting"): Remedy("servers start on their GPUs"),
    ("GpuSatisfied", "Unschedulable"): Remedy("a server finds no GPU", ("free a GPU or add a node", GPU_OR_CPU)),
    ("GpuSatisfied", "Refused"): Remedy("servers with a GPU may not be created", ("raise the quota it names", GPU_OR_CPU)),
}  # fmt: skip
"""By condition and reason, where the reason alone says something else or nothing."""

VERDICTS: Final[Mapping[str, Remedy]] = {
    "Failing": Remedy("a limit is broken, proven; the traffic goes back to stable"),
    "Undecided": Remedy("it takes more evidence", ("wait; more traffic to the new version gives it sooner",)),
    "NoTraffic": Remedy(
        "the new version has had no requests in this step",
        ("does anybody call the host of the route?", "sla.evidence: LiveOrShadow lets replayed requests count"),
    ),
    "NoMetrics": Remedy(
        "the metrics cannot be read; the weight stays until they can",
        (
            "a network policy between the operator and port 8081 of the servers? a Prometheus that does not answer?",
            OPERATOR_LOGS,
        ),
    ),
    "Frozen": Remedy(
        "stable is no better, so nobody is blamed and nothing moves: something both depend on is ill",
        ("look at what they share: nodes, network, callers",),
    ),
    "Passing": Remedy("the evidence suffices"),
}
"""By the verdict of a gate."""
TROUBLE: Final = {
    "Stalled": True,
    "Ready": False,
    "Available": False,
    "Progressing": False,
    "GpuSatisfied": False,
    "Contested": True,
}
"""What a condition says where there is something to explain."""
UNKNOWN: Final = Remedy("", ("kubectl {where} describe pinn {name}",))
BY_TIME: Final = Remedy("it is judged over time, not by events: nothing but waiting gives it sooner")


def explained(
    found: Standing, now: datetime, operators: int | None = None, where: Where | None = None
) -> tuple[Finding, ...]:
    """What there is to say, the most pressing first. `operators` is how many of its pods are ready; None: nobody knows. Without
    `where` the current context is meant."""
    findings = (
        *_operator(found, operators),
        *_deletion(found, now, operators),
        *_conditions(found),
        *_step(found, now),
        *_gates(found, now),
    )
    values = {"name": found.name, **asdict(where or Where(f"-n {found.namespace}", f"-n {OPERATORS}"))}
    filled = (replace(one, do=tuple(line.format(**values) for line in one.do)) for one in findings)
    return tuple(sorted(filled, key=lambda finding: not finding.needs))


def _operator(found: Standing, operators: int | None) -> Iterator[Finding]:
    do = REASONS["NoStatus"].do
    if operators == 0:
        means = "nothing moves and nothing is healed; what serves goes on serving"
        yield Finding("the operator does not run", "none of its pods is ready", means, do, True)
    elif found.outdated and found.unseen:
        yield Finding("the operator has not looked at this spec yet", "", REASONS["NoStatus"].means, do, True)
    elif found.outdated:
        why = f"the spec is at generation {found.generation}, the status speaks of {found.seen}"
        yield Finding("the operator has not looked at this spec yet", why, "", do, False)


def _deletion(found: Standing, now: datetime, operators: int | None) -> Iterator[Finding]:
    """What still holds an object that is being deleted. The operator's own finalizer takes nobody, if it runs."""
    at = moment(found.deleting)
    if at is None:
        return
    others, means = [one for one in found.finalizers if one != FINALIZER], []
    do: tuple[str, ...] = ()
    if FINALIZER in found.finalizers:
        runs = ", but it does not run" if operators == 0 else ""
        means.append(f"the operator removes the children, then takes {FINALIZER} off{runs}")
        do = REASONS["NoStatus"].do if operators is None else ()
    if others:
        means.append(f"{', '.join(others)}: whoever set it has to take it off")
    why = f"{since(at, now)}; what still holds it: {', '.join(found.finalizers) or 'nothing'}"
    yield Finding("it is being deleted", why, "; ".join(means), do, bool(others))


def _conditions(found: Standing) -> Iterator[Finding]:
    """Ready where it is not, and what holds the rollout; a reason that two conditions share is told once."""
    told = {"Deleting"} if found.deleting else set()
    if not found.conditions and not found.outdated:
        yield _finding("not Ready: NoStatus", "", REASONS["NoStatus"])
    for name, wrong in TROUBLE.items():
        condition = found.conditions.get(name)
        if condition is None or condition.holds is not wrong or condition.reason in told:
            continue
        told.add(condition.reason)
        remedy = ELSEWHERE.get((name, condition.reason)) or REASONS.get(condition.reason, UNKNOWN)
        title = f"{name}: {condition.reason}" if wrong else f"not {name}: {condition.reason}"
        yield _finding(title, condition.message, remedy)


def _step(found: Standing, now: datetime) -> Iterator[Finding]:
    """What the step waits for, where nothing is wrong."""
    going = found.conditions.get("Progressing")
    if going is None or not going.holds:
        return
    leaves = moment(found.promote_not_before)
    why = going.message
    if leaves and leaves > now:
        why += f"; the hold of this step ends at {until(leaves, now)}"
    title = f"on its way: step {found.step}" if found.step else "on its way"
    yield Finding(title, why, "", (), False)


def _gates(found: Standing, now: datetime) -> Iterator[Finding]:
    for gate in found.gates:
        if gate.verdict == "Passing":
            continue
        remedy = VERDICTS.get(gate.verdict, VERDICTS["Undecided"])
        if gate.verdict == "Undecided" and gate.progress is None:
            remedy = BY_TIME
        yield _finding(f"gate {gate.name}: {gate.verdict}", _missing(gate, found, now), remedy)


def _missing(gate: Gate, found: Standing, now: datetime) -> str:
    """What was seen and what is needed, in one sentence."""
    said = f"{seen(gate) or 'nothing'} observed"
    said += f" in {gate.events:,} events" if gate.events else ""
    said += f", limit {gate.limit}" if gate.limit else ""
    if gate.progress is not None:
        said += f"; evidence {gate.evidence}, {100 * gate.progress:.0f} % of the way"
    expected = moment(found.verdict_expected_at)
    if gate.verdict in ("Undecided", "NoTraffic") and expected and expected > now:
        said += f"; all verdicts are expected in {span((expected - now).total_seconds())}"
    return said


def _finding(title: str, said: str, remedy: Remedy) -> Finding:
    needs = bool(remedy.do) and not title.startswith("gate ")
    return Finding(title, said, remedy.means, remedy.do, needs)


def page(found: Standing, findings: tuple[Finding, ...], now: datetime) -> str:
    """The findings for a terminal."""
    state = head_of(found, now) if found.deleting else "Ready" if found.ready else "not Ready"
    parts = [f"{found.namespace}/{found.name}: {state}"]
    if not findings:
        parts.append(paragraph(found.says, "  "))
        parts.append("  Nothing is waited for.")
    for finding in findings:
        lines = [f"{'!' if finding.needs else '-'} {finding.title}"]
        lines += [paragraph(text, "  ") for text in (finding.why, finding.means) if text]
        lines += [f"    {line}" for line in finding.do]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
