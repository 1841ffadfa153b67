"""What a person says to an object: promote, abort, retry, pause, resume; and waiting until the operator has heard it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal

from pinn_operator.api.names import ANNOTATION_ABORT, ANNOTATION_PROMOTE, ANNOTATION_RETRY
from pinn_operator.plugin.kubectl import Kubectl, Object, Trouble
from pinn_operator.plugin.standing import kept_by, standing_of

Verb = Literal["promote", "abort", "retry"]

ANNOTATIONS: Final[dict[Verb, str]] = {
    "promote": ANNOTATION_PROMOTE,
    "abort": ANNOTATION_ABORT,
    "retry": ANNOTATION_RETRY,
}
LOOK_SECONDS: Final = 0.5


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
    """Write the annotation; its value. The token makes it another request than the last one."""
    value = f"{revision}@{time.time_ns() // 1_000_000}"
    kubectl.patch(obj, {"metadata": {"annotations": {ANNOTATIONS[verb]: value}}})
    return value


def heard(kubectl: Kubectl, verb: Verb, value: str, name: str, limit: float, tell: Callable[[str], None]) -> Object:
    """The object once the operator has acted upon the request; meanwhile its sentences are told."""
    end = time.monotonic() + limit
    said = ""
    while True:
        obj = kubectl.pinn(name)
        if obj.get("status", {}).get("lastHandled", {}).get(verb) == value:
            return obj
        now = standing_of(obj).says
        if now != said:
            tell(f"waiting: {now}")
        said = now
        if time.monotonic() >= end:
            raise Trouble(
                f"not acted upon within {limit:.0f} s; the request stays and is carried out as soon as it can be. "
                f"Why: kubectl pinn explain {name} -n {obj['metadata']['namespace']}"
            )
        time.sleep(LOOK_SECONDS)


def hold(kubectl: Kubectl, obj: Object, paused: bool) -> Object:
    """Set spec.rollout.paused."""
    return kubectl.patch(obj, {"spec": {"rollout": {"paused": paused}}})


def warning_about(obj: Object) -> str | None:
    """Who would put a change of the spec back; None where nobody is known to."""
    if tool := kept_by(obj):
        return f"{tool} keeps this object: it will put the spec back to what Git says. Change it there, or suspend it"
    return None
