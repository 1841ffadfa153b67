"""The Open Inference Protocol v2 under requests nobody means, over HTTP and gRPC: an answer, or a refusal with a sentence."""

import json
import struct
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hpack import Encoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pinn_inference.api.grpc import prefixed
from pinn_inference.api.http2 import PREFACE, frame
from pinn_inference.oip import messages
from pinn_inference.oip.rpc import INFER as INFER_RPC

from ..oip.asked import HEADER, INFER, OPTION, binary, inputs, raw  # noqa: TID252 - the tests are no package with a name
from ..oip.calls import Caller, Refused, question  # noqa: TID252 - as above
from ..oip.conftest import free_port  # noqa: TID252 - as above
from ..process import ServerProcess  # noqa: TID252 - as above
from .client import SHARE, Client, Got, finite
from .client import raw as sent
from .conftest import TIMEOUT, Target
from .test_values import anything

once = settings(max_examples=SHARE // 4, deadline=None, database=None, suppress_health_check=list(HealthCheck))
MEANT = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}


@pytest.fixture(scope="module")
def protocol() -> Iterator[Target]:
    """One server process for all of it; at the end it must be alive, well and silent about bugs."""
    with ServerProcess.started(timeout=f"{TIMEOUT:g}s", drain="0", grpc_port=str(free_port())) as server:
        found = Target(server)
        thread = found.listen()
        yield found
        assert server.process.poll() is None, "the server has died"
        server.terminate()
        assert server.wait() == 0
        thread.join(10)
        assert [line for line in found.lines if "exception" in line or line["level"] == "error"] == []


@pytest.fixture(scope="module")
def client(protocol: Target) -> Client:
    return Client(protocol.server.port)


@pytest.fixture(scope="module")
def caller(protocol: Target) -> Iterator[Caller]:
    with Caller(protocol.server.log[-1]["grpc"]) as found:
        yield found


def proper(got: Got) -> Got:
    """What every answer over HTTP must be."""
    assert got.status in (200, 400, 413), got
    if got.status != 200:
        assert got.sentence
        assert len(got.sentence) < 1000
    return got


def well(answer: Any) -> Any:
    """The same over gRPC."""
    if isinstance(answer, Refused):
        assert answer.code in MEANT, answer
        assert 0 < len(answer.sentence) < 1000
    else:
        assert answer.outputs
    return answer


names = st.sampled_from([*OPTION, "dividend_yield", "skew", ""]) | st.text(max_size=8)
kinds = st.sampled_from(["FP64", "FP32", "FP16", "BF16", "INT64", "INT8", "UINT64", "BOOL", "BYTES", "", "fp64"])
sizes = st.integers(-2, 4) | st.integers()
numbers = st.floats() | st.integers() | st.floats(0, 200)
elements = st.lists(numbers | st.text(max_size=5) | st.none() | st.booleans(), max_size=4) | anything
changes = st.fixed_dictionaries(
    {}, optional={"name": names, "datatype": kinds, "shape": st.lists(sizes, max_size=3) | anything, "data": elements,
                  "parameters": anything},
)  # fmt: skip
wishes = st.fixed_dictionaries(
    {},
    optional={
        "id": anything,
        "parameters": anything | st.dictionaries(st.sampled_from(["exact", "binary_data_output"]), st.booleans()),
        "outputs": st.lists(st.fixed_dictionaries({"name": names}, optional={"parameters": anything}), max_size=3),
    },
)


@once
@given(tensors=st.lists(st.tuples(st.integers(0, 5), changes), max_size=3), wished=wishes)
def test_any_tensors(client: Client, tensors: list[tuple[int, dict[str, Any]]], wished: dict[str, Any]) -> None:
    asked = inputs(2)
    for place, changed in tensors:
        asked[place] = {**asked[place], **changed}
    got = proper(client.send("POST", INFER, json.dumps({"inputs": asked, **wished}).encode("utf-8", "surrogatepass")))
    if got.status == 200 and got.body.endswith(b"}"):
        assert finite(got.json)


@once
@given(document=anything)
def test_any_document(client: Client, document: object) -> None:
    for body in (document, {"inputs": document}, {"inputs": [document]}, {"inputs": inputs(), "outputs": document}):
        proper(client.send("POST", INFER, json.dumps(body).encode("utf-8", "surrogatepass")))


TEXT, BEHIND = binary({"inputs": inputs(2), "parameters": {"binary_data_output": True}})


@once
@given(data=st.data())
def test_a_binary_request_damaged_anywhere(client: Client, data: st.DataObject) -> None:
    body = TEXT + BEHIND
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, min(len(body), start + 9)))
    length = data.draw(st.just(len(TEXT)) | st.integers(-3, len(body) + 3) | st.integers())
    damaged = body[:start] + data.draw(st.binary(max_size=6)) + body[end:]
    proper(client.send("POST", INFER, damaged, **{HEADER: str(length)}))


@once
@given(content=st.binary(max_size=40), size=st.none() | sizes, shape=st.lists(sizes, max_size=3), kind=kinds)
def test_any_bytes_behind_the_json(
    client: Client, content: bytes, size: int | None, shape: list[int], kind: str
) -> None:
    stated = len(content) if size is None else size
    for name in ("spot", "kind"):
        asked = [each for each in inputs(2) if each["name"] != name]
        changed = {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": stated}}
        text = json.dumps({"inputs": [changed, *asked]}).encode()
        proper(client.send("POST", INFER, text + content, **{HEADER: str(len(text))}))


@once
@given(values=st.lists(st.floats(), min_size=1, max_size=3))
def test_any_numbers_as_bytes_are_answered_finite_or_refused(client: Client, values: list[float]) -> None:
    text, behind = binary({"inputs": inputs(len(values), volatility=values)}, "volatility")
    got = proper(client.send("POST", INFER, text + behind, **{HEADER: str(len(text))}))
    if got.status == 200:
        assert finite(got.json)
    else:
        assert "volatility" in got.sentence


QUESTIONS = [question(2).SerializeToString(), question(2, ["price", "method"], as_bytes=True).SerializeToString()]


@once
@given(message=st.binary(max_size=200))
def test_any_bytes_as_a_message(caller: Caller, message: bytes) -> None:
    well(caller.infer(message))


@once
@given(data=st.data(), message=st.sampled_from(QUESTIONS))
def test_a_message_damaged_anywhere(caller: Caller, data: st.DataObject, message: bytes) -> None:
    start = data.draw(st.integers(0, len(message)))
    end = data.draw(st.integers(start, min(len(message), start + 9)))
    well(caller.infer(message[:start] + data.draw(st.binary(max_size=6)) + message[end:]))


contents = st.fixed_dictionaries(
    {},
    optional={
        "fp64_contents": st.lists(st.floats(), max_size=3),
        "fp32_contents": st.lists(st.floats(width=32), max_size=3),
        "int_contents": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
        "int64_contents": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
        "uint64_contents": st.lists(st.integers(0, 2**64 - 1), max_size=3),
        "bool_contents": st.lists(st.booleans(), max_size=3),
        "bytes_contents": st.lists(st.binary(max_size=5) | st.sampled_from([b"put", b"call"]), max_size=3),
    },
)


@once
@given(
    place=st.integers(0, 5), name=st.none() | names, kind=st.none() | kinds, held=st.none() | contents,
    shape=st.none() | st.lists(st.integers(-2, 4) | st.integers(-(2**63), 2**63 - 1), max_size=3),
    raws=st.none() | st.lists(st.binary(max_size=20), max_size=7), outputs=st.lists(names, max_size=3),
    model=st.sampled_from(["black-scholes", "", "other"]), parameter=names,
)  # fmt: skip
def test_any_message_of_the_right_kind(
    caller: Caller, place: int, name: str | None, kind: str | None, held: dict[str, Any] | None, shape: list[int] | None,
    raws: list[bytes] | None, outputs: list[str], model: str, parameter: str,
) -> None:  # fmt: skip
    message = question(2)
    message.model_name = model
    tensor = message.inputs[place]
    tensor.name, tensor.datatype = name or tensor.name, kind or tensor.datatype
    if held is not None:
        tensor.contents.CopyFrom(messages.ModelInferRequest.InferInputTensor(contents=held).contents)
    if shape is not None:
        tensor.shape[:] = shape
    message.raw_input_contents.extend(raws or ())
    message.parameters[parameter].double_param = 1.0
    for output in outputs:
        message.outputs.add(name=output).parameters[parameter].SetInParent()
    well(caller.infer(message))


@once
@given(strings=st.binary(max_size=30))
def test_any_strings(caller: Caller, strings: bytes) -> None:
    message = question(2, as_bytes=True)
    message.raw_input_contents[-1] = strings
    answer = well(caller.infer(message))
    if strings != raw("BYTES", ["put", "put"]) and isinstance(answer, Refused):
        assert "kind" in answer.sentence


GARBAGE = [
    b"", b"GET / HTTP/1.1\r\nhost: pinn\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\0" * 5000,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">I", 2**24)[1:] + b"\4\0\0\0\0\0", b"\xff" * 70_000,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0" + b"\0\0\1\1\5\0\0\0\1\xff",
]  # fmt: skip


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_what_is_no_grpc_ends_its_own_connection_and_nothing_else(
    protocol: Target, caller: Caller, garbage: bytes
) -> None:
    port = int(protocol.server.log[-1]["grpc"].rpartition(":")[2])
    sent(port, garbage, half_close=True)
    assert not isinstance(well(caller.infer(question())), Refused)


KINDS = st.integers(0, 10)
flags = st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x2D]) | st.integers(0, 255)
streams = st.sampled_from([0, 1, 3, 2, 7]) | st.integers(0, 2**32 - 1)
HEAD = Encoder().encode(
    [(":method", "POST"), (":scheme", "http"), (":path", INFER_RPC), ("content-type", "application/grpc")]
)
payloads = st.binary(max_size=30) | st.sampled_from([HEAD, prefixed(QUESTIONS[0]), bytes(4), bytes(8), bytes(6)])
frames = st.tuples(KINDS, flags, streams, payloads)


@once
@given(sent_frames=st.lists(frames, max_size=8), whole=st.booleans())
def test_any_frames_end_their_own_connection_at_most(
    protocol: Target, caller: Caller, sent_frames: list[tuple[int, int, int, bytes]], whole: bool
) -> None:
    port = int(protocol.server.log[-1]["grpc"].rpartition(":")[2])
    begun = [frame(4, 0, 0)] if whole else []
    told = b"".join([PREFACE, *begun, *(frame(*each) for each in sent_frames)])
    sent(port, told, half_close=True)
    assert not isinstance(well(caller.infer(question())), Refused)


@once
@given(data=st.data())
def test_a_call_damaged_anywhere_on_the_wire(protocol: Target, caller: Caller, data: st.DataObject) -> None:
    port = int(protocol.server.log[-1]["grpc"].rpartition(":")[2])
    call = b"".join((frame(4, 0, 0), frame(1, 4, 1, HEAD), frame(0, 1, 1, prefixed(QUESTIONS[0]))))
    start = data.draw(st.integers(0, len(call)))
    end = data.draw(st.integers(start, min(len(call), start + 9)))
    sent(port, PREFACE + call[:start] + data.draw(st.binary(max_size=6)) + call[end:], half_close=True)
    assert not isinstance(well(caller.infer(question())), Refused)
