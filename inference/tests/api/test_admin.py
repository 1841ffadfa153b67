"""The admin port: what anyone inside the cluster may read, and what needs the token."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from pinn_inference.api import admin as admin_module
from pinn_inference.api.admin import Admin
from pinn_inference.api.http import App, State

from ..turns import Turns, each_turn  # noqa: TID252 - the tests are no package with a name of their own
from .wire import Wire, ask

TOKEN = "s3cret"
CLOSED = [
    ("GET", "/cache/hottest"), ("GET", "/samples"), ("POST", "/cache/warm"), ("POST", "/shadow"), ("POST", "/reload"),
]  # fmt: skip


def admin(token: str = TOKEN) -> App:
    def hottest(count: int) -> Sequence[Mapping[str, Any]]:
        return [{"x": i} for i in range(min(count, 3))]

    async def samples(count: int, seed: int) -> Sequence[Mapping[str, Any]]:
        return [{"x": seed + i} for i in range(min(count, 3))]

    async def warm(items: list[object]) -> int:
        return len(items) - 1

    async def shadow(items: list[object], solver: bool) -> Mapping[str, Any]:
        return {"items": len(items), "solver": solver}

    async def reload() -> Mapping[str, Any]:
        return {"name": "m", "version": "2"}

    parts = Admin(
        lambda: b"metrics 1\n", lambda: {"name": "m"}, hottest, samples, warm, shadow, reload, token, max_batch=3
    )
    return App(parts.routes(), State(ready=True))


async def send(method: str, path: str, body: object = None, query: str = "", token: str | None = TOKEN) -> Wire:
    content = b"" if body is None else msgspec.json.encode(body)
    head = {"authorization": f"Bearer {token}"} if token is not None else {}
    return await ask(admin(), wire=Wire(content), method=method, path=path, query_string=query, headers=head)


async def test_metrics_and_the_model_are_open() -> None:
    metrics = await send("GET", "/metrics", token=None)
    assert metrics.body == b"metrics 1\n"
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert (await send("GET", "/model", token=None)).json == {"name": "m"}


@pytest.mark.parametrize(("method", "path"), CLOSED)
@pytest.mark.parametrize("token", [None, "", "s3cre", "s3cret ", "S3CRET", "é"])
async def test_without_the_right_token_the_rest_is_refused(method: str, path: str, token: str | None) -> None:
    answer = await send(method, path, token=token)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "authorization: Bearer" in answer.json["error"]


@pytest.mark.parametrize(("method", "path"), CLOSED)
async def test_without_a_configured_token_it_is_closed_and_says_how_to_open_it(method: str, path: str) -> None:
    answer = await ask(admin(token=""), method=method, path=path, headers={"authorization": "Bearer "})
    assert answer.status == 403
    assert "PINN_SERVER_ADMIN_TOKEN" in answer.json["error"]


async def test_keys_that_take_a_while_to_find_hold_nobody_up() -> None:
    """They are found, and written, with others served in between."""
    turns = Turns()

    async def found(count: int) -> Sequence[Mapping[str, Any]]:
        await asyncio.sleep(0)
        return [{"x": i} for i in range(count)]

    routes = Admin(bytes, dict, found, _nothing, _none, _never, _never, TOKEN).routes()
    head = {"authorization": f"Bearer {TOKEN}"}
    async with each_turn(turns.take):
        answer = await ask(
            App(routes, State()), method="GET", path="/cache/hottest", query_string="keys=9999", headers=head
        )
    assert answer.json == {"keys": [{"x": i} for i in range(9999)]}
    assert turns.count >= 1 + 9999 // admin_module.PORTION


async def _nothing(*_: object) -> Sequence[Mapping[str, Any]]:
    raise AssertionError("nobody asked for it")


async def _none(*_: object) -> int:
    raise AssertionError("nobody asked for it")


async def _never(*_: object) -> Mapping[str, Any]:
    raise AssertionError("nobody asked for it")


async def test_as_many_hot_keys_are_given_as_asked_for() -> None:
    assert (await send("GET", "/cache/hottest", query="keys=2")).json == {"keys": [{"x": 0}, {"x": 1}]}
    assert len((await send("GET", "/cache/hottest")).json["keys"]) == 3


@pytest.mark.parametrize(
    "query", ["keys=0", "keys=-1", "keys=", "keys=1e3", "keys=100001", "keys=٣", "count=3", "keys=" + "9" * 5000]
)
async def test_a_number_of_keys_that_is_none_is_refused_by_name(query: str) -> None:
    answer = await send("GET", "/cache/hottest", query=query)
    assert answer.status == 400
    assert "keys" in answer.json["error"]


async def test_samples_are_given_for_the_seed_asked_for() -> None:
    assert (await send("GET", "/samples", query="keys=2&seed=40")).json == {"keys": [{"x": 40}, {"x": 41}]}
    assert (await send("GET", "/samples")).json == {"keys": [{"x": 0}, {"x": 1}, {"x": 2}]}


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("keys=0", "keys"), ("keys=100001", "keys"), ("seed=-1", "seed"), ("seed=4294967296", "seed"),
        ("seed=", "seed"), ("seed=1.5", "seed"), ("kind=call", "keys and seed"),
    ],
)  # fmt: skip
async def test_a_number_or_seed_of_samples_that_is_none_is_refused_by_name(query: str, word: str) -> None:
    answer = await send("GET", "/samples", query=query)
    assert answer.status == 400
    assert word in answer.json["error"]


async def test_the_largest_seed_is_one() -> None:
    assert (await send("GET", "/samples", query="seed=4294967295")).status == 200


async def test_warming_says_how_many_of_the_items_are_in_the_cache() -> None:
    assert (await send("POST", "/cache/warm", {"items": [1, 2, 3]})).json == {"warmed": 2}


@pytest.mark.parametrize(
    ("body", "status"),
    [([], 400), ({}, 400), ({"items": []}, 400), ({"items": 3}, 400), ({"items": [1], "solver": True}, 400),
     ({"items": [1] * 4}, 413)],
)  # fmt: skip
async def test_warming_with_what_is_no_list_is_refused(body: object, status: int) -> None:
    answer = await send("POST", "/cache/warm", body)
    assert answer.status == status
    assert "items" in answer.json["error"]


async def test_shadow_passes_the_items_and_whether_to_solve_them() -> None:
    assert (await send("POST", "/shadow", {"items": [1, 2]})).json == {"items": 2, "solver": False}
    assert (await send("POST", "/shadow", {"items": [1], "solver": True})).json == {"items": 1, "solver": True}


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ([], 400, "items"), ({}, 400, "items"), ({"items": []}, 400, "items"), ({"items": {}}, 400, "items"),
        ({"items": [1], "solver": 1}, 400, "solver"),
        ({"items": [1], "more": 1}, 400, "items"), ({"items": [1] * 4}, 413, "items"),
    ],
)  # fmt: skip
async def test_a_shadow_request_that_is_none_is_refused_by_field(body: object, status: int, word: str) -> None:
    answer = await send("POST", "/shadow", body)
    assert answer.status == status
    assert word in answer.json["error"]


async def test_who_sends_the_items_too_slowly_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_module, "BODY_SECONDS", 0.05)
    head = {"authorization": f"Bearer {TOKEN}"}
    answer = await ask(admin(), wire=Wire(b"{}", arrived=asyncio.Event()), path="/shadow", headers=head)
    assert answer.status == 408
    assert "0.05 s" in answer.json["error"]


async def test_reload_says_which_model_is_served_now() -> None:
    assert (await send("POST", "/reload")).json == {"name": "m", "version": "2"}
