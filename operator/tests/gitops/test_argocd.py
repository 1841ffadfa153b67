"""The Lua that Argo CD is given, run as Argo CD runs it: Lua 5.1 with few libraries, over every state the operator reports."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaError, LuaRuntime, lua_type
from pinn_operator.api.check import problems
from pinn_operator.api.plan import Phase
from pinn_operator.api.resource import PinnDeployment
from pinn_operator.decide import decide
from pinn_operator.decide.requests import Verb, asked
from tests.decide.tiny_cluster import TinyCluster, rolling
from tests.gitops.states import VERDICTS, Object, as_text, reported, states
from tests.given import observed, only
from tests.golden import assert_golden

FILE = Path(__file__).parents[3] / "manifests/gitops/argocd/argocd-cm.yaml"
DATA = yaml.safe_load(FILE.read_text())["data"]
HEALTH = DATA["resource.customizations.health.pinn.dev_PinnDeployment"]
ACTIONS = yaml.safe_load(DATA["resource.customizations.actions.pinn.dev_PinnDeployment"])
ACTION = {one["name"]: one["action.lua"] for one in ACTIONS["definitions"]}
STATES = states()
CLOSED = """
for _, name in ipairs({"string", "math", "io", "debug", "coroutine", "dofile", "loadfile"}) do _G[name] = nil end
local safe = {time = os.time, date = os.date}
os = nil
package.loaded = {}
package.preload = {os = function() return safe end}
"""


def run(script: str, obj: Object) -> Any:
    """What a script makes of an object."""
    lua = LuaRuntime(unpack_returned_tuples=True)
    lua.execute(CLOSED)
    lua.globals()["obj"] = lua.table_from(copy.deepcopy(obj), recursive=True)
    return plain(lua.execute(script), obj)


def plain(value: Any, was: Any) -> Any:
    """A table of Lua as JSON. An empty one may be a list or a map: it is what it was, as Argo CD has it."""
    if lua_type(value) != "table":
        return value
    if len(value) or (not len(list(value)) and not isinstance(was, dict)):
        old = was if isinstance(was, list) else []
        return [plain(item, old[at] if at < len(old) else None) for at, item in enumerate(value.values())]
    return {key: plain(item, was.get(key) if isinstance(was, dict) else None) for key, item in value.items()}


def changed(before: Any, after: Any) -> Any:
    """The difference as a merge patch."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return after
    return {
        key: changed(before.get(key), after.get(key))
        for key in before.keys() | after.keys()
        if before.get(key) != after.get(key)
    }


@pytest.mark.parametrize("state", STATES)
def test_the_health_of_every_state(state: str | Phase) -> None:
    assert run(HEALTH, STATES[state])["status"] == VERDICTS[state][0]


def test_every_state_has_a_verdict_and_every_verdict_a_state() -> None:
    assert STATES.keys() == VERDICTS.keys()


def test_the_states_are_written_down_for_kstatus() -> None:
    """tests/e2e/test_gitops.py hands them to Flux's own library. Look at the verdicts."""
    assert_golden(Path(__file__).parent / "states.json", as_text())


def test_the_health_comes_with_the_operators_sentence() -> None:
    assert run(HEALTH, STATES[Phase.ROLLED_BACK])["message"] == "because"
    assert run(HEALTH, STATES[Phase.APPROVAL])["message"] == "because"


@pytest.mark.parametrize("status", [None, {}, {"conditions": []}, {"observedGeneration": 3}])
def test_a_status_that_says_little_is_never_healthy(status: Object | None) -> None:
    obj = copy.deepcopy(STATES["serving"]) | {"status": status}
    assert run(HEALTH, obj)["status"] in ("Progressing", "Degraded")


def test_what_is_stalled_is_degraded_though_an_older_revision_serves() -> None:
    obj = copy.deepcopy(STATES["serving"])
    obj["status"]["conditions"].append({"type": "Stalled", "status": "True", "message": "why"})
    assert run(HEALTH, obj) == {"status": "Degraded", "message": "why"}


def offered(obj: Object) -> set[str]:
    return {name for name, about in run(ACTIONS["discovery.lua"], obj).items() if not about["disabled"]}


OFFERED = {
    "serving": {"pause"},
    "no operator has seen it": {"pause"},
    Phase.STEPPING: {"promote", "abort", "pause"},
    Phase.APPROVAL: {"promote", "abort", "pause"},
    "new revision ready and held": {"promote", "abort", "resume"},
    Phase.ROLLED_BACK: {"retry", "pause"},
}


@pytest.mark.parametrize("state", OFFERED)
def test_the_actions_offered(state: str | Phase) -> None:
    assert offered(STATES[state]) == OFFERED[state]


def test_every_action_offered_is_defined() -> None:
    assert run(ACTIONS["discovery.lua"], STATES["serving"]).keys() == ACTION.keys()


@pytest.mark.parametrize(("action", "state"), [("promote", Phase.STEPPING), ("abort", Phase.STEPPING)])
def test_a_request_is_one_that_the_operator_understands_and_changes_nothing_else(
    action: Verb, state: str | Phase
) -> None:
    before = STATES[state]
    after = run(ACTION[action], before)
    ((where, what),) = changed(before, after).items()
    assert (where, list(what["annotations"])) == ("metadata", [f"pinn.dev/{action}"])
    seen = observed(PinnDeployment.model_validate(after))
    assert asked(seen, action, before["status"]["canary"]["revision"])
    assert problems(after) == []


def sent_back(cluster: TinyCluster) -> Object:
    """The object when what its spec asks for was sent back, with the versions that only a real history has."""
    cluster.until(lambda plan: plan.phase is Phase.ROLLED_BACK)
    seen = cluster.observe()
    obj = reported(seen, decide(seen))
    for one in obj["status"]["history"]:
        one["modelVersion"] = cluster.versions[one["revision"]]
    return obj


def retried(obj: Object) -> str:
    """The revision that the action names."""
    annotations = run(ACTION["retry"], obj)["metadata"]["annotations"]
    return str(annotations["pinn.dev/retry"]).partition("@")[0]


def test_a_retry_is_one_that_the_operator_acts_upon() -> None:
    cluster = rolling(step=2)
    cluster.bad["2.0.0"] = 0.5
    before = sent_back(cluster)
    after = run(ACTION["retry"], before)
    assert list(changed(before, after)) == ["metadata"]
    assert problems(after) == []
    cluster.annotations = after["metadata"]["annotations"]
    assert cluster.until(lambda plan: plan.canary is not None).wanted == cluster.named("2.0.0")


def test_a_version_that_was_sent_back_without_blame_can_be_tried_again() -> None:
    """Nobody is rejected where stable was no better."""
    sla = {**only(errorRate="1%"), "rollback": {"errorRate": {"above": "10%", "for": "1m"}}}
    cluster = rolling(step=2, sla=sla)
    cluster.bad = {"1.0.0": 0.3, "2.0.0": 0.3}
    obj = sent_back(cluster)
    assert "rejected" not in obj["status"]
    assert retried(obj) == cluster.named("2.0.0")


def test_a_retry_is_about_what_the_spec_asks_for_and_not_about_what_was_rejected_last() -> None:
    """The commit of 3.0.0 was reverted, and Git asks for 2.0.0 again."""
    cluster = rolling(step=2)
    cluster.bad = {"2.0.0": 0.5, "3.0.0": 0.5}
    sent_back(cluster)
    cluster.version = "3.0.0"
    cluster.until(lambda plan: plan.canary is not None)
    assert retried(sent_back(cluster)) == cluster.named("3.0.0")
    cluster.version = "2.0.0"
    cluster.go_on()
    obj = sent_back(cluster)
    assert [one["modelVersion"] for one in obj["status"]["rejected"]] == ["2.0.0", "3.0.0"]
    assert retried(obj) == cluster.named("2.0.0")
    obj["status"]["history"] = []  # more than ten rollouts later
    assert retried(obj) == cluster.named("2.0.0")


def in_words(message: str, *revisions: str) -> Object:
    """2.0.0 was sent back in each of these revisions, and the sentence is this."""
    obj = copy.deepcopy(STATES[Phase.ROLLED_BACK])
    (stalled,) = [one for one in obj["status"]["conditions"] if one["type"] == "Stalled"]
    stalled["message"] = message
    history = [{"revision": name, "modelVersion": "2.0.0", "outcome": "RolledBack"} for name in revisions]
    promoted = {"revision": "cccc", "modelVersion": "2.0.0", "outcome": "Promoted"}
    obj["status"]["history"] = [
        *history,
        promoted,
        {"revision": "dddd", "modelVersion": "3.0.0", "outcome": "RolledBack"},
    ]
    return obj


def test_of_two_revisions_of_one_version_the_sentence_says_which() -> None:
    """An image was changed, and changed back."""
    assert retried(in_words("version 2.0.0 (revision aaaa) was rolled back before: why", "aaaa", "bbbb")) == "aaaa"
    assert retried(in_words("version 2.0.0 (revision bbbb) is rolled back: why", "aaaa", "bbbb")) == "bbbb"


def test_where_the_sentence_says_nothing_the_last_of_that_version_is_tried_again() -> None:
    assert retried(in_words("because", "aaaa", "bbbb")) == "bbbb"


def test_where_nothing_is_known_a_retry_says_what_to_do() -> None:
    with pytest.raises(LuaError, match="kubectl pinn retry pricer"):
        retried(in_words("because"))


def test_pause_and_resume_change_one_field() -> None:
    before = STATES[Phase.STEPPING]
    paused = run(ACTION["pause"], before)
    assert changed(before, paused) == {"spec": {"rollout": {"paused": True}}}
    assert run(ACTION["resume"], paused)["spec"]["rollout"]["paused"] is False


def test_annotations_of_others_are_kept() -> None:
    before = copy.deepcopy(STATES[Phase.STEPPING])
    before["metadata"]["annotations"] = {"team": "desk"}
    assert run(ACTION["promote"], before)["metadata"]["annotations"]["team"] == "desk"
