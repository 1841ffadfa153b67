"""Whose request a log line is about."""

import io
import json
import logging
from typing import Any

import pytest
from pinn_inference import logs, tracing
from pinn_inference.api.http import Answer, App, Request, State, ok

from .wire import ask

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{PARENT}-01"


async def talkative(_: Request) -> Answer:
    logs.event("one")
    logs.event("two")
    return ok(None)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every line logged so far, as a collector would read it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs._Json())
    monkeypatch.setattr(logs.log, "handlers", [handler])
    monkeypatch.setattr(logs.log, "level", logging.INFO)
    logging.getLogger("pinn_server").manager._clear_cache()  # type: ignore[attr-defined]
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


async def told(**headers: str) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    await ask(App({"/echo": {"POST": talkative}}, State()), headers=named)


async def test_a_valid_trace_and_request_id_are_taken_over(lines: Any) -> None:
    await told(traceparent=GOOD, x_request_id="order-17")
    for line in lines():
        assert (line["trace_id"], line["parent_id"], line["request_id"]) == (TRACE, PARENT, "order-17")


@pytest.mark.parametrize(
    "bad",
    [
        "", "00", GOOD.upper(), f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-{PARENT}-01",
        f"{GOOD}-more", f"00-{TRACE[:-1]}-{PARENT}-01", f"00-{TRACE}-{PARENT}-1", f" {GOOD}", "\u0661" * 55,
    ],
)  # fmt: skip
async def test_an_invalid_trace_is_replaced_by_a_new_one(lines: Any, bad: str) -> None:
    await told(traceparent=bad)
    first, second = lines()
    assert first["trace_id"] != TRACE
    assert len(first["trace_id"]) == 32
    assert "parent_id" not in first
    assert second["trace_id"] == first["trace_id"]


async def test_a_later_version_of_the_header_is_read_as_the_standard_asks(lines: Any) -> None:
    await told(traceparent=f"01-{TRACE}-{PARENT}-01-whatever")
    assert lines()[0]["trace_id"] == TRACE


async def test_two_requests_are_told_apart(lines: Any) -> None:
    await told()
    tracing.current.set(None)
    await told()
    assert len({line["request_id"] for line in lines()}) == 2


async def test_a_line_outside_a_request_belongs_to_none(lines: Any) -> None:
    tracing.current.set(None)
    logs.event("started")
    assert lines()[0].keys() == {"time", "level", "event"}


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [("order-17", "order-17"), ("x" * 128, "x" * 128), ("x" * 129, None), ("a b", None), ("a\r\nset-cookie: b", None), ("", None),
     ("é", None)],
)  # fmt: skip
async def test_a_request_id_is_echoed_when_it_is_fit_to_be(sent: str, echoed: str | None) -> None:
    answer = await ask(App({"/echo": {"POST": talkative}}, State()), headers={"x-request-id": sent})
    assert answer.headers.get("x-request-id") == echoed


async def test_nothing_is_generated_for_a_request_nobody_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "_read", lambda _: pytest.fail("read for nothing"))

    async def silent(_: Request) -> Answer:
        return ok(None)

    assert (await ask(App({"/echo": {"POST": silent}}, State()))).status == 200


def test_what_callers_can_cause_is_logged_sparingly(lines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tracing.current.set(None)
    now = [1.0]
    monkeypatch.setattr("pinn_inference.logs.time.monotonic", lambda: now[0])
    sparing = logs.Sparing(most=3)
    for _ in range(10):
        sparing.event("refused")
    now[0] = 2.0
    sparing.event("refused")
    written = lines()
    assert len(written) == 4
    assert written[3]["left_out_before"] == 7


def test_a_caller_cannot_forge_a_line_at_a_terminal() -> None:
    record = logging.makeLogRecord({"msg": "there is no /\n\x1b[2Jerror: all is lost here", "levelno": logging.INFO})
    assert logs._Console().format(record) == r"there is no /\n\x1b[2Jerror: all is lost here"
