"""A report is written once, and its hash is that of what is stored."""

from typing import Any

import pytest
from pinn_operator.act.reports import file_report
from pinn_operator.errors import Conflict, Refused, Unavailable
from tests.fake_kube import FakeKube

OWNER = [{"kind": "PinnDeployment", "name": "pricer", "uid": "1"}]


def report(name: str = "pricer-2", sha256: str = "aa", owner: Any = None) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "demo", "ownerReferences": owner or OWNER}
    return {"kind": "ConfigMap", "metadata": metadata, "data": {"sha256": sha256}, "immutable": True}


async def test_a_report_that_is_there_already_stays_and_tells_its_own_hash() -> None:
    kube = FakeKube(report(sha256="first"))
    stored = await file_report(kube, report(sha256="second"), ())
    assert stored is not None
    assert stored["data"]["sha256"] == "first"


async def test_a_conflict_over_a_quota_has_the_pass_run_again() -> None:
    """An API server answers 409 as well where a quota was counted anew meanwhile; the name is nobody's."""
    kube = FakeKube()

    async def before(verb: str, _kind: str, _name: str) -> None:
        if verb == "create":
            raise Conflict(409, "Conflict", 'Operation cannot be fulfilled on resourcequotas "q"')

    kube.before = before
    with pytest.raises(Conflict):
        await file_report(kube, report(), ())
    kube.before = None
    assert await file_report(kube, report(), ()) is not None


async def test_an_object_of_somebody_else_under_that_name_is_no_report() -> None:
    assert await file_report(FakeKube(report(owner=[{"uid": "2"}])), report(), ()) is None


async def test_the_oldest_ones_go_but_only_ours() -> None:
    kube = FakeKube(report("old"), report("theirs", owner=[{"uid": "2"}]))
    assert await file_report(kube, report(), ["old", "theirs", "gone"]) is not None
    assert [request for request in kube.writes() if request[0] == "delete"] == [("delete", "ConfigMap", "old")]


@pytest.mark.parametrize("error", [Refused(403, "Forbidden", "exceeded quota"), None])
async def test_a_report_that_is_refused_keeps_no_rollout_from_ending(error: Refused | None) -> None:
    kube = FakeKube()

    async def before(verb: str, _kind: str, _name: str) -> None:
        if verb == "create" and error:
            raise error

    kube.before = before
    assert (await file_report(kube, report(), ()) is None) is (error is not None)


@pytest.mark.parametrize("busy", ["create", "get", "delete"])
async def test_a_busy_server_has_the_pass_run_again(busy: str) -> None:
    """What is not removed now is never: the status forgets its name."""
    kube = FakeKube(report("old"))

    async def before(verb: str, _kind: str, _name: str) -> None:
        if verb == busy:
            raise Unavailable(503, "Busy", verb)

    kube.before = before
    with pytest.raises(Unavailable):
        await file_report(kube, report(), ["old"])
    kube.before = None
    assert await file_report(kube, report(), ["old"]) is not None
    assert kube.peek("ConfigMap", "old") is None


async def test_in_a_full_quota_the_oldest_one_makes_room() -> None:
    kube = FakeKube(report("old"))

    async def before(verb: str, _kind: str, _name: str) -> None:
        if verb == "create" and kube.peek("ConfigMap", "old"):
            raise Refused(403, "Forbidden", "exceeded quota")

    kube.before = before
    assert await file_report(kube, report(), ["old"]) is not None
    assert kube.peek("ConfigMap", "pricer-2") is not None


async def test_one_that_may_not_be_removed_keeps_no_report_from_being_filed() -> None:
    kube = FakeKube(report("old"))

    async def before(verb: str, _kind: str, _name: str) -> None:
        if verb == "delete":
            raise Refused(403, "Forbidden", "a policy")

    kube.before = before
    assert await file_report(kube, report(), ["old"]) is not None
