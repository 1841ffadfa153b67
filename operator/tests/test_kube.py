"""What the API server answers, sorted by what can be done about it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio import client as k8s
from kubernetes.aio.client.exceptions import ApiException
from pinn_operator import kube as module
from pinn_operator.errors import ApiError, Conflict, Refused, Unavailable
from pinn_operator.kube import (
    BY_KIND,
    CALL_SECONDS,
    CUSTOM_METRICS,
    LEASE,
    PAGE,
    SERVICE,
    WRITE_SECONDS,
    WRITTEN,
    Kube,
    _sorted,
)

REFUSED_TEST = "the server rejected our request due to an error in our request"


def _answer(status: int, message: str = "", reason: str = "", headers: dict[str, str] | None = None) -> ApiException:
    error = ApiException(status=status, reason="From the status line")
    error.body = json.dumps({"kind": "Status", "reason": reason, "message": message})
    error.headers = headers
    return error


@pytest.mark.parametrize(
    ("status", "message", "branch"),
    [
        (400, "bad", Refused),
        (401, "token expired", Unavailable),
        (403, "exceeded quota", Refused),
        (404, "not found", ApiError),
        (405, "not allowed", Refused),
        (409, "the object has been modified", Conflict),
        (410, "too old resource version", ApiError),
        (415, "unsupported media type", Refused),
        (422, "spec.replicas: must be positive", Refused),
        (422, REFUSED_TEST, Conflict),
        (429, "slow down", Unavailable),
        (500, "failed to create typed patch object (demo/pricer)", Refused),
        (500, 'failed calling webhook "policy"', Refused),
        (500, "etcdserver: leader changed", Unavailable),
        (503, "busy", Unavailable),
        (504, "time-out", Unavailable),
    ],
)
def test_every_answer_is_on_the_branch_that_says_what_to_do(status: int, message: str, branch: type[ApiError]) -> None:
    error = _sorted(_answer(status, message, "Reason"))
    assert type(error) is branch
    assert (error.status, error.reason, error.message) == (status, "Reason", message)


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), (None, None), ("", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None)]
)
def test_the_time_a_busy_server_asks_for_is_kept(value: str | None, seconds: float | None) -> None:
    headers = {} if value is None else {"Retry-After": value}
    assert _sorted(_answer(429, "slow down", headers=headers)).retry_after == seconds
    assert _sorted(_answer(429, "slow down", headers=None)).retry_after is None


@pytest.mark.parametrize("body", ["404 page not found\n", b"404 page not found\n", "[1]", "", None])
def test_an_answer_that_is_no_status_is_told_in_its_own_words(body: Any) -> None:
    error = ApiException(status=404, reason="Not Found")
    error.body = body
    told = _sorted(error)
    assert told.reason == "Not Found"
    assert told.message in ("404 page not found", "[1]", "")


class _Dynamic:
    """In place of the library's client: the same answer to every call."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.calls: list[dict[str, Any]] = []

    def __getattr__(self, _verb: str) -> Any:
        async def call(*where: Any, **args: Any) -> Any:
            self.calls.append({"path": where[-1], **args})
            answer = self.answer.pop(0) if isinstance(self.answer, list) else self.answer
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def _kube(answer: Any) -> tuple[Kube, _Dynamic]:
    kube, dynamic = Kube.__new__(Kube), _Dynamic(answer)
    kube._dynamic = dynamic
    return kube, dynamic


@pytest.mark.parametrize(
    "error", [TimeoutError(), ConnectionResetError("reset"), aiohttp.ClientPayloadError("cut"), OSError("no route")]
)
async def test_no_answer_at_all_is_a_server_that_may_answer_later(error: Exception) -> None:
    kube, _ = _kube(error)
    with pytest.raises(Unavailable) as raised:
        await kube.create({"kind": "Lease"})
    assert raised.value.status == 0
    assert "create leases" in raised.value.message


async def test_every_call_has_a_limit_and_a_write_that_of_the_api_server() -> None:
    """It ends every write by itself after 34 s; to a webhook it gives 30 s at most."""
    kube, dynamic = _kube({"items": [], "metadata": {}})
    await kube.get(LEASE, "x", "demo")
    await kube.list_all(LEASE)
    await kube.apply({"kind": "Service"})
    await kube.create({"kind": "Service"})
    await kube.replace({"kind": "Service"})
    await kube.patch(SERVICE, "x", "demo", [])
    await kube.delete(SERVICE, "x", "demo", "uid")
    assert [call["_request_timeout"] for call in dynamic.calls] == [CALL_SECONDS] * 2 + [WRITE_SECONDS] * 5
    assert 0 < CALL_SECONDS <= 30 < 34 < WRITE_SECONDS < 60


HELD_UP = 'Internal error occurred: failed calling webhook "policy": context deadline exceeded'
READ_LIMIT = 0.2


@pytest.fixture
async def held_up(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kube]:
    """A client of an API server that is slower than a read may be, as it waits for an admission webhook that is silent."""

    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(2 * READ_LIMIT)
        return web.json_response({"kind": "Status", "reason": "InternalError", "message": HELD_UP}, status=500)

    monkeypatch.setattr(module, "CALL_SECONDS", READ_LIMIT)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with (
        TestServer(app) as server,
        k8s.ApiClient(k8s.Configuration(host=str(server.make_url("")).rstrip("/"))) as api,
    ):
        yield Kube(api)


OBJECT = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "namespace": "demo"}}
WRITES: list[Callable[[Kube], Awaitable[Any]]] = [
    lambda kube: kube.apply(OBJECT),
    lambda kube: kube.create(OBJECT),
    lambda kube: kube.replace(OBJECT),
    lambda kube: kube.patch(SERVICE, "x", "demo", []),
    lambda kube: kube.delete(SERVICE, "x", "demo", "uid"),
]


@pytest.mark.parametrize("write", WRITES, ids=["apply", "create", "replace", "patch", "delete"])
async def test_a_write_that_a_silent_webhook_holds_up_is_waited_for_and_refused(
    held_up: Kube, write: Callable[[Kube], Awaitable[Any]]
) -> None:
    """So that it is said which webhook, and the other children are written. Without its answer the pass would end here."""
    with pytest.raises(Refused, match='failed calling webhook "policy"'):
        await write(held_up)


async def test_a_read_is_not_waited_for_as_long(held_up: Kube) -> None:
    with pytest.raises(Unavailable) as raised:
        await held_up.get(SERVICE, "x", "demo")
    assert raised.value.status == 0


async def test_an_object_that_is_missing_is_none_and_its_deletion_no_error() -> None:
    kube, _ = _kube(_answer(404, "not found"))
    assert await kube.get(SERVICE, "x", "demo") is None
    await kube.delete(SERVICE, "x", "demo", "uid")


async def test_an_object_that_may_not_be_read_is_not_taken_for_missing() -> None:
    kube, _ = _kube(_answer(403, "forbidden"))
    with pytest.raises(Refused):
        await kube.get(SERVICE, "x", "demo")


async def test_a_deletion_names_the_very_object() -> None:
    kube, dynamic = _kube({})
    await kube.delete(SERVICE, "x", "demo", "uid-7")
    assert dynamic.calls[0]["body"]["preconditions"] == {"uid": "uid-7"}


async def test_a_list_is_read_to_its_last_page_and_every_item_knows_its_kind() -> None:
    pages = [
        {"items": [{"metadata": {"name": "a"}}], "metadata": {"continue": "next"}},
        {"items": [{"metadata": {"name": "b"}}], "metadata": {}},
    ]
    kube, dynamic = _kube(pages)
    found = await kube.list_all(SERVICE, "demo")
    assert [(obj["kind"], obj["apiVersion"], obj["metadata"]["name"]) for obj in found] == [
        ("Service", "v1", "a"),
        ("Service", "v1", "b"),
    ]
    assert [call["_continue"] for call in dynamic.calls] == [None, "next"]


async def test_a_page_is_read_when_the_one_before_it_is_done_with() -> None:
    pages = [{"items": [{"metadata": {"name": name}}], "metadata": {"continue": "next"}} for name in "abc"]
    kube, dynamic = _kube(pages)
    asked = kube.pages(SERVICE, "demo")
    for number in (1, 2, 3):
        page = await anext(asked)
        assert (len(page), page[0]["kind"], len(dynamic.calls)) == (1, "Service", number)
    assert {call["limit"] for call in dynamic.calls} == {PAGE}


async def test_a_status_that_an_older_definition_cannot_type_is_merged_instead() -> None:
    kube, dynamic = _kube([_answer(500, "failed to create typed patch object"), {"done": True}])
    assert await kube.apply_status({"kind": "PinnDeployment"}) == {"done": True}
    assert dynamic.calls[1]["content_type"] == "application/merge-patch+json"


@pytest.mark.parametrize("status", [403, 409, 422])
async def test_any_other_refusal_of_a_status_stands(status: int) -> None:
    kube, dynamic = _kube([_answer(status, "no"), {"done": True}])
    with pytest.raises(ApiError):
        await kube.apply_status({"kind": "PinnDeployment"})
    assert len(dynamic.calls) == 1


async def test_what_is_applied_is_forced_and_signed() -> None:
    kube, dynamic = _kube({})
    await kube.apply({"kind": "Service"}, dry_run=True)
    call = dynamic.calls[0]
    assert (call["field_manager"], call["force_conflicts"], call["dry_run"]) == ("pinn-operator", True, "All")


@pytest.mark.parametrize(("answer", "served"), [({}, True), (404, False), (403, False)])
async def test_whether_an_api_group_is_served_is_asked_by_discovery(answer: Any, served: bool) -> None:
    kube, dynamic = _kube(_answer(answer, "no") if isinstance(answer, int) else answer)
    assert await kube.serves(CUSTOM_METRICS) is served
    assert dynamic.calls[0]["path"] == "/apis/custom.metrics.k8s.io"
    assert 0 < dynamic.calls[0]["_request_timeout"] <= 30


@pytest.mark.parametrize("error", [TimeoutError(), OSError("no route")])
async def test_a_discovery_without_an_answer_says_nothing_about_the_group(error: Exception) -> None:
    kube, _ = _kube(error)
    with pytest.raises(Unavailable):
        await kube.serves(CUSTOM_METRICS)


def test_every_kind_that_is_written_can_be_found_by_its_name() -> None:
    assert {kind.kind for kind in WRITTEN} <= BY_KIND.keys()


async def test_a_kind_that_is_not_installed_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster without the Gateway API: a person has to install it, and no pass should be run again and again for it."""

    async def missing(*_: object, **__: object) -> dict[str, Any]:
        raise ApiError(404, "Not Found", "404 page not found")

    kube = Kube.__new__(Kube)  # nothing is sent
    monkeypatch.setattr(kube, "_call", missing)
    with pytest.raises(Refused, match="no HTTPRoute"):
        await kube.apply({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {}})
