"""The second half of `make demo`: rollouts through a gateway under load; the first should be promoted, the others sent back.

Runs where the cluster is reachable, when the first half has an object that serves. Exit code 1 when a rollout ends otherwise.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from hack import broken_model
from hack.install import ROOT, say, step
from hack.live import Look, Row
from tests.e2e.faults import broken
from tests.e2e.gateway.install import Gateway
from tests.e2e.gateway.install import install as install_gateway
from tests.e2e.kubectl import KubectlError, apply, client_pod, create, delete, kubectl, patch

NAMESPACE, NAME = "pinn-demo", "option-pricer"
HOST = "option-pricer.example"
SAMPLE = ROOT / "manifests/samples/rollout.yaml"
RATE = 100
SECONDS_EACH = 150.0
LAST_SECONDS = 1.5
"""For what callers still wait for."""
LIFETIME = 1200
"""Seconds after which the requests end, whatever became of who looks on."""

GOOD, WRONG, UNTRIED, SLOW = "2.0.0", "2.1.0", "2.1.1", "2.2.0"
FAULT = "slow:0.8"
MODEL = "black-scholes-wrong"


@dataclass(frozen=True)
class Act:
    """A change of the spec, and how it should end."""

    title: str
    version: str
    ends: str
    spec: dict[str, Any]
    models: dict[str, dict[str, Any]] = field(default_factory=dict)


def acts() -> list[Act]:
    wrong = broken_model.broken()
    stored = {MODEL: broken_model.config_map(MODEL, wrong)}
    digest = str(json.loads((broken_model.WHOLE / "manifest.json").read_text())["digest"])
    slow = {"name": "black-scholes", "version": SLOW, "uri": "file:///models/black-scholes/2.0.0", "digest": digest}
    return [
        Act(f"{GOOD}, a good version", GOOD, "Promoted", {"model": {"version": GOOD}}),
        Act(
            f"{WRONG}, one weight of the last layer 5 % off, every digest right: its own server refuses to serve it",
            WRONG,
            "RolledBack",
            {"model": broken_model.model(WRONG, MODEL, wrong)},
            stored,
        ),
        Act(
            f"{UNTRIED}, the same on a server that does not try its model: the operator checks its equation before traffic",
            UNTRIED,
            "RolledBack",
            {"model": broken_model.model(UNTRIED, MODEL, wrong), "template": broken_model.untried()},
            stored,
        ),
        Act(
            f"{SLOW}, every answer 0.8 s late: only callers' requests can show that",
            SLOW,
            "RolledBack",
            {"model": slow, "template": broken(FAULT)},
        ),
    ]


def main() -> int:
    try:
        gateway = ready()
        with step(f"callers: {RATE} requests/s through the gateway, all the time"):
            callers(gateway)
        with Look(NAMESPACE, NAME) as look:
            look.until(lambda: look.traffic.get("sent", 0) > RATE and bool(look.obj), 60)
            done = [(act, *played(look, act)) for act in acts()]
            look.until(lambda: False, LAST_SECONDS)
        told(look, done)
        return 0 if all(right for _, _, right in done) and not look.failed else 1
    except KubectlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def ready() -> Gateway:
    """The gateway, and the object behind it."""
    with step("a gateway (Traefik), and the sample behind it: kubectl apply -f manifests/samples/rollout.yaml"):
        gateway = install_gateway()
        kubectl("-n", NAMESPACE, "apply", "-f", str(SAMPLE))
        kubectl("-n", NAMESPACE, "wait", f"pinn/{NAME}", "--for=condition=Ready", "--timeout=60s")
    return gateway


def callers(gateway: Gateway) -> None:
    delete("pod", "load", NAMESPACE, wait=True)
    scripts = [(ROOT / part).read_text() for part in ("hack/traffic.py", "tests/e2e/load.py")]
    pod = client_pod("load", "-c", *scripts, gateway.url(), str(RATE), HOST)
    pod["spec"]["activeDeadlineSeconds"] = LIFETIME
    create(pod, NAMESPACE)
    kubectl("-n", NAMESPACE, "wait", "pod/load", "--for=condition=Ready", "--timeout=60s")


def played(look: Look, act: Act) -> tuple[Row, bool]:
    """The rollout, and whether it ended as it should."""
    say(act.title)
    for model in act.models.values():
        apply(model, NAMESPACE)
    row = look.rollout(act.version)
    patch("pinndeployment", NAME, NAMESPACE, {"spec": act.spec})
    look.until(lambda: outcome(look, act.version) != "" and "canary" not in look.status, SECONDS_EACH)
    ended = outcome(look, act.version) or "not over"
    look.ends(row, ended)
    return row, ended == act.ends


def outcome(look: Look, version: str) -> str:
    """How the rollout of a version ended, by the history of the object; empty before."""
    return next((str(one["outcome"]) for one in look.status.get("history", ()) if one["modelVersion"] == version), "")


def told(look: Look, done: list[tuple[Act, Row, bool]]) -> None:
    """What it all came to."""
    print(flush=True)
    for act, row, right in done:
        seconds = (row.ended or time.monotonic()) - row.began
        wanted = "" if right else f"   NOT as it should: {act.ends}"
        print(f"  {act.version}  {row.cells[4]:12} {seconds:4.0f} s   {met(look, act)}{wanted}")
    print(f"\n  {look.traffic.get('sent', 0)} requests, {look.failed} failed")
    for failure in look.traffic.get("failures", ())[:5]:
        print(f"  {failure}")
    print("\n  reports:")
    for one in look.status.get("history", ()):
        print(f"  {one['modelVersion']}  {one['outcome']:12} configmap/{one.get('report', '(none)')}")
    print(flush=True)


def met(look: Look, act: Act) -> str:
    """What callers had of a version."""
    count = look.answered(act.version)
    if act.ends == "Promoted" or not count:
        return f"{count} answers to callers"
    return f"{count} answers to callers, over {look.exposed(act.version):.1f} s"


if __name__ == "__main__":
    sys.exit(main())
