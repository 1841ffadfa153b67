"""Whether an object is fit to go live: the criteria that a cluster can show, each with a verdict and a sentence. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from pinn_operator.plugin.kubectl import Trouble
from pinn_operator.plugin.standing import Standing
from pinn_operator.plugin.words import columns

TESTS_PASS: Final = 0.95
OFF: Final = "Off"
EXERCISED: Final = ("RolledBack",)
UNEXPOSED: Final[Mapping[str, Any]] = {"exposure": {"highestWeight": 0}}
"""What is known of a rollout without a genuine report."""


@dataclass(frozen=True, slots=True)
class Check:
    """One criterion. `said` has what was found and, where it is not met, the remedy."""

    name: str
    met: bool
    said: str


@dataclass(frozen=True, slots=True)
class Tests:
    """What a JUnit file says: skipped ones count as neither."""

    passed: int
    run: int


def checks(
    found: Standing,
    obj: Mapping[str, Any],
    *,
    certificates: Sequence[tuple[str, bool, str]],
    documents: Mapping[str, Mapping[str, Any]],
    last: Mapping[str, Any] | Trouble | None,
    budgets: Iterable[Mapping[str, Any]],
    operators: int | None,
    tests: Tests | None,
) -> tuple[Check, ...]:
    """All of them. `certificates` are (name, genuine, complaint), `documents` the genuine ones by name; `last` is that of the
    last promotion, or why it cannot be read; `operators` the ready pods of the operator, None where they are not known."""
    return (
        _ready(found),
        _settled(found),
        _servers(found, obj),
        _budget(found, budgets),
        _gates(obj),
        _levels(last),
        _exercised(found, documents),
        _certificates(certificates),
        _operator(operators),
        *([_tests(tests)] if tests else []),
    )


def _ready(found: Standing) -> Check:
    if found.deleting:
        return Check("Ready", False, f"it is being deleted, since {found.deleting}")
    if found.outdated:
        return Check("Ready", False, f"the operator has not looked at generation {found.generation} of the spec yet")
    condition = found.conditions.get("Ready")
    return Check("Ready", found.ready, condition.message if condition else "there is no condition Ready")


def _settled(found: Standing) -> Check:
    wrong = [name for name in ("Stalled", "Reconciling") if name in found.conditions]
    if wrong:
        return Check("Nothing under way", False, f"{wrong[0]}: {found.conditions[wrong[0]].message}")
    if found.canary:
        return Check("Nothing under way", False, f"a rollout of {found.canary.version} is not over: step {found.step}")
    return Check("Nothing under way", True, "no rollout, nothing being mended")


def _servers(found: Standing, obj: Mapping[str, Any]) -> Check:
    ready = found.stable.ready if found.stable else 0
    field, fewest = _fewest(obj.get("spec", {}))
    if fewest < 2:
        return Check("Two servers or more", False, f"{field} is {fewest}: one node less is an outage; ask for 2")
    return Check("Two servers or more", ready >= fewest, f"{ready} of {fewest} are ready")


def _fewest(spec: Mapping[str, Any]) -> tuple[str, int]:
    """The field that says how few servers there may be, and what it says. An autoscaler goes by its own, unless there are to be
    none at all."""
    replicas: int = spec.get("replicas", 1)
    scaling: Mapping[str, Any] | None = spec.get("autoscaling")
    if scaling is None or not replicas:
        return "spec.replicas", replicas
    return "spec.autoscaling.minReplicas", scaling.get("minReplicas", 1)


def _budget(found: Standing, budgets: Iterable[Mapping[str, Any]]) -> Check:
    revision = found.stable.revision if found.stable else ""
    wanted = f"{found.name}-{revision}"
    there = any(one["metadata"]["name"] == wanted for one in budgets)
    said = (
        f"PodDisruptionBudget {wanted}" if there else f"no PodDisruptionBudget {wanted}; one is made from 2 replicas on"
    )
    return Check("A disruption budget", there, said)


def _gates(obj: Mapping[str, Any]) -> Check:
    """Off is a choice, if somebody has made it: it is named, and not all may be."""
    limits = list(_limits(obj.get("spec", {})))
    off = [name for name, limit in limits if limit == OFF]
    if limits and len(off) == len(limits):
        return Check(
            "Service levels gate rollouts", False, "every gate is Off: any version would be promoted; see spec.sla"
        )
    said = f"Off by choice: {', '.join(off)}" if off else "every gate is on"
    return Check("Service levels gate rollouts", True, said)


def _limits(spec: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each gate and its limit, as the API server keeps them: with the defaults. Without a cache there is no gate of its hits."""
    sla = spec.get("sla", {})
    off = {"promote.cacheHitRate"} if spec.get("cache", {}).get("size") == 0 else set()
    for kind in ("promote", "abort"):
        limits = ((f"{kind}.{name}", limit) for name, limit in sla.get(kind, {}).items())
        yield from ((name, OFF if name in off else limit) for name, limit in limits)
        yield from ((f"custom.{gate['name']}.{kind}", gate.get(kind)) for gate in sla.get("custom", ()))
    for name, rule in sla.get("rollback", {}).items():
        yield f"rollback.{name}", OFF if OFF in rule.values() else rule


def _levels(last: Mapping[str, Any] | Trouble | None) -> Check:
    name = "Service levels were met in full"
    if isinstance(last, Trouble):
        return Check(name, False, f"what the last promotion was judged by is not known: {last}")
    if last is None:
        return Check(
            name,
            False,
            "no version has been promoted by a rollout yet: roll one out, the same with another label will do",
        )
    version, step = last["to"]["modelVersion"], _last_step(last)
    judged = [gate for gate in last["evidence"] if gate["step"] == step]
    if not judged:
        why = f"no gate was judged in step {step}, the last: with spec.replicas: 0 or every gate Off there is nothing to judge"
        return Check(name, False, f"{version} was promoted without evidence: {why}; roll one out that gets requests")
    missed = sorted({f"{gate['name']} ({gate['verdict']})" for gate in judged if gate["verdict"] != "Passing"})
    if missed:
        return Check(name, False, f"{version} was promoted, but not every gate had passed: {', '.join(missed)}")
    return Check(name, True, f"{version} was promoted with every gate passed")


def _last_step(document: Mapping[str, Any]) -> int:
    """Its number, by the steps of the rollout: gates that were judged in an earlier one say nothing of it."""
    return len(document["rollout"]["steps"])


def _exercised(found: Standing, documents: Mapping[str, Mapping[str, Any]]) -> Check:
    """By one that had users to take away from it: a version that was stopped before its first share has shown nothing."""
    name, how = "A rollback was exercised", "begin a rollout and, in its first step, say: kubectl pinn abort"
    sent_back = [one for one in found.history if one.outcome in EXERCISED]
    if not sent_back:
        return Check(name, False, f"none among the last {len(found.history)} rollouts; {how}")
    exposed = [one for one in sent_back if documents.get(one.report, UNEXPOSED)["exposure"]["highestWeight"] > 0]
    if not exposed:
        why = (
            f"{sent_back[-1].version} was sent back, but no genuine report says that it ever had a share of the traffic"
        )
        return Check(name, False, f"{why}; {how}")
    one = exposed[-1]
    return Check(name, True, f"{one.version}, revision {one.revision}, on {one.at[:10]}")


def _certificates(certificates: Sequence[tuple[str, bool, str]]) -> Check:
    wrong = [f"{name}: {complaint}" for name, genuine, complaint in certificates if not genuine]
    if wrong:
        return Check("Certificates are genuine", False, wrong[0])
    if not certificates:
        return Check("Certificates are genuine", False, "there is none yet: no rollout is over")
    return Check("Certificates are genuine", True, f"all {len(certificates)}, by the hashes in the status")


def _operator(ready: int | None) -> Check:
    if ready is None:
        said = "its pods are not known: you may not look at them, or it runs out of this cluster; ask who runs it"
        return Check("Two operators", False, said)
    return Check("Two operators", ready >= 2, f"{ready} ready; one leads, one stands by")


def _tests(tests: Tests) -> Check:
    share = tests.passed / tests.run if tests.run else 0.0
    said = f"{tests.passed:,} of {tests.run:,} passed ({100 * share:.1f} %, more than {100 * TESTS_PASS:.0f} % are asked for)"
    return Check("Integration tests pass", share > TESTS_PASS, said)


def counted_in(file: Path) -> Tests:
    """Counted by test case: the totals of suites are written differently by different tools."""
    try:
        root = ElementTree.parse(file).getroot()  # noqa: S314 - a file of the caller's own
    except OSError as error:
        raise Trouble(f"--tests: {file} cannot be read: {error.strerror}", code=2) from None
    except ElementTree.ParseError as error:
        raise Trouble(f"--tests: {file} is no JUnit XML: {error}", code=2) from None
    cases = [case for case in root.iter("testcase") if case.find("skipped") is None]
    if not cases:
        raise Trouble(f"--tests: {file} has no test case that was run", code=2)
    failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
    return Tests(len(cases) - failed, len(cases))


def page(what: str, verdicts: Sequence[Check]) -> str:
    """The table, and the verdict under it."""
    rows = [("met" if one.met else "NOT MET", one.name, one.said) for one in verdicts]
    missed = sum(not one.met for one in verdicts)
    verdict = f"{missed} of {len(verdicts)} criteria are not met: do not go live yet" if missed else "fit to go live"
    return "\n".join([*columns(rows), "", f"{what}: {verdict}"])
