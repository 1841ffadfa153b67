"""What a person says to an object: promote, abort, retry, pause, resume; and waiting until the operator has heard it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, Literal

from pinn_operator.api.names import ANNOTATION_ABORT, ANNOTATION_PROMOTE, ANNOTATION_RETRY, requested
from pinn_operator.plugin.kubectl import Kubectl, Object, Trouble
from pinn_operator.plugin.standing import Standing, kept_by, standing_of

Verb = Literal["promote", "abort", "retry"]

ANNOTATIONS: Final[dict[Verb, str]] = {
    "promote": ANNOTATION_PROMOTE,
    "abort": ANNOTATION_ABORT,
    "retry": ANNOTATION_RETRY,
}
COMES_TO: Final[Mapping[str, tuple[Verb, str]]] = {
    "Promoted": ("promote", "it was promoted"),
    "RolledBack": ("abort", "all traffic goes to stable"),
    "Superseded": ("abort", "it was given up for another spec"),
}
"""By the outcome of a rollout: the request of which it is what was asked for, and a sentence."""
LOOK_SECONDS: Final = 0.5


def living(kubectl: Kubectl, name: str) -> Object:
    """The object, to write to it. Trouble where it is being deleted: nobody acts upon what is said to it then."""
    obj = kubectl.pinn(name)
    if since := obj["metadata"].get("deletionTimestamp"):
        why = f"nothing that is said to it counts any more; what holds it: kubectl pinn explain {name} {kubectl.where}"
        raise Trouble(f"{kubectl.namespace}/{name} is being deleted, since {since}: {why}")
    return obj


def revision_for(verb: Verb, obj: Object) -> str:
    """The revision that the request has to name: the one on its way, or the one that was sent back."""
    found = standing_of(obj)
    if verb == "retry":
        return _sent_back(obj)
    if found.canary is None:
        raise Trouble(f"{found.namespace}/{found.name} has no rollout that one could {verb}: {found.says}")
    return found.canary.revision


def _sent_back(obj: Object) -> str:
    """What the spec asks for, if that is what was sent back."""
    from pinn_operator.plugin.wanted import revision_wanted

    found = standing_of(obj)
    stalled = found.conditions.get("Stalled")
    if stalled is None or stalled.reason != "RolledBack":
        raise Trouble(f"{found.namespace}/{found.name} has nothing to try again: {found.says}")
    return revision_wanted(obj)


def ask(kubectl: Kubectl, verb: Verb, obj: Object, revision: str) -> str:
    """Write the annotation; its value. The token makes it another request than the last one. A promote is for the step that the
    object was read in; before the first one, for that."""
    step = _number_of(standing_of(obj).step)
    about = f"{revision}/{max(1, step)}" if verb == "promote" and step is not None else revision
    value = f"{about}@{time.time_ns() // 1_000_000}"
    kubectl.patch(obj, {"metadata": {"annotations": {ANNOTATIONS[verb]: value}}})
    return value


def heard(kubectl: Kubectl, verb: Verb, value: str, before: Object, limit: float, tell: Callable[[str], None]) -> str:
    """What came of a request, once the operator has acted upon it; meanwhile its sentences are told. `before` is the object as it
    was when it was asked. Trouble where nothing came of it in time, or the rollout ended first and otherwise."""
    name, end, said = before["metadata"]["name"], time.monotonic() + limit, ""
    while True:
        obj = living(kubectl, name)
        now = standing_of(obj)
        if obj.get("status", {}).get("lastHandled", {}).get(verb) == value:
            return f"done: {now.says}"
        revision, step = requested(value)
        if verb != "retry" and (ending := _ending(verb, revision, standing_of(before), now)):
            return _told(verb, ending, now)
        if step and (_number_of(now.step) or 0) > int(step):
            again = f"to leave that one too: kubectl pinn promote {name} {kubectl.where}"
            raise Trouble(f"the step was over before the request was seen: it is in step {now.step} by now; {again}")
        if now.says != said:
            tell(f"waiting: {now.says}")
        said = now.says
        if time.monotonic() >= end:
            raise Trouble(
                f"not acted upon within {limit:.0f} s; the request stays and is carried out as soon as it can be. "
                f"Why: kubectl pinn explain {name} {kubectl.where}"
            )
        time.sleep(LOOK_SECONDS)


def _number_of(step: str) -> int | None:
    """1 of "1/3"; None where the status tells none."""
    number = step.partition("/")[0]
    return int(number) if number.isdecimal() else None


def _ending(verb: Verb, revision: str, before: Standing, now: Standing) -> str | None:
    """How the rollout of a revision has ended; None while it is on its way. One that is being sent back has ended for who
    wants to promote it."""
    ended = [one.outcome for one in now.history if one.revision == revision and one not in before.history]
    if ended:
        return ended[0]
    if now.canary and now.canary.revision == revision:
        going = now.conditions.get("Progressing")
        return "RolledBack" if verb == "promote" and going and going.reason == "RollingBack" else None
    return "ended in a way that the history does not tell"


def _told(verb: Verb, ending: str, now: Standing) -> str:
    wish, how = COMES_TO.get(ending, (None, f"it {ending}"))
    said = f"the rollout ended before the request to {verb} was seen: {how}. {now.says}"
    if wish != verb:
        raise Trouble(said)
    return said


def hold(kubectl: Kubectl, obj: Object, paused: bool) -> Object:
    """Set spec.rollout.paused."""
    return kubectl.patch(obj, {"spec": {"rollout": {"paused": paused}}})


def warning_about(obj: Object) -> str | None:
    """Who would put a change of the spec back; None where nobody is known to."""
    if tool := kept_by(obj):
        return f"{tool} keeps this object: it will put the spec back to what Git says. Change it there, or suspend it"
    return None
