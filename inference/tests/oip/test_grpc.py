"""The protocol over gRPC, corner by corner, against a server process."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import grpc
import httpx
import numpy as np
import pytest
from pinn_inference.oip import messages
from pinn_inference.oip.rpc import AGE, age

from ..drain_load import ready  # noqa: TID252 - the tests are no package with a name of its own
from ..process import ServerProcess, eventually, run  # noqa: TID252 - as above
from .asked import INFER, MODEL, OPTION, OUTPUTS, PRICE, request, tensor
from .calls import FIELDS, Caller, Refused, column, question
from .conftest import free_port

STATUS = grpc.StatusCode


def address(server: ServerProcess) -> str:
    return str(server.log[-1]["grpc"])


@pytest.fixture(scope="module")
def caller(both: ServerProcess) -> Iterator[Caller]:
    with Caller(address(both)) as found:
        yield found


def refused(answer: Any, code: grpc.StatusCode = STATUS.INVALID_ARGUMENT) -> str:
    assert isinstance(answer, Refused), answer
    assert answer.code is code, answer
    return answer.sentence


def test_the_server_and_its_model_describe_themselves_as_over_http(both: ServerProcess, caller: Caller) -> None:
    with both.client() as client:
        server, model = client.get("/v2").json(), client.get(MODEL).json()
    told = caller("ServerMetadata", messages.ServerMetadataRequest())
    assert (told.name, told.version) == (server["name"], server["version"])
    for version in ("", "2.0.0"):
        told = caller("ModelMetadata", messages.ModelMetadataRequest(name="black-scholes", version=version))
        assert (told.name, list(told.versions), told.platform) == (model["name"], model["versions"], model["platform"])
        for mine, theirs in ((told.inputs, model["inputs"]), (told.outputs, model["outputs"])):
            found = [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in mine]
            assert found == theirs


def test_the_server_and_its_model_are_live_and_ready(caller: Caller) -> None:
    assert caller("ServerLive", messages.ServerLiveRequest()).live
    assert caller("ServerReady", messages.ServerReadyRequest()).ready
    for version in ("", "2.0.0"):
        assert caller("ModelReady", messages.ModelReadyRequest(name="black-scholes", version=version)).ready


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata"])
def test_another_model_or_version_is_said_not_to_be_here(caller: Caller, method: str) -> None:
    kind = getattr(messages, f"{method}Request")
    words = refused(caller(method, kind(name="other")), STATUS.NOT_FOUND)
    assert words == "there is no model 'other' here; this server has 'black-scholes' version '2.0.0'"
    assert "'9'" in refused(caller(method, kind(name="black-scholes", version="9")), STATUS.NOT_FOUND)


def test_nothing_is_inferred_with_another_model_or_version(caller: Caller) -> None:
    for name, version, words in (("other", "", "'other'"), ("", "", "''"), ("black-scholes", "9", "'9'")):
        message = question()
        message.model_name, message.model_version = name, version
        assert words in refused(caller.infer(message), STATUS.NOT_FOUND)


def test_what_the_service_does_not_have_is_unimplemented(caller: Caller) -> None:
    refused(caller("RepositoryIndex", b""), STATUS.UNIMPLEMENTED)


def test_an_option_is_priced_as_over_http_and_the_answer_says_how(both: ServerProcess, caller: Caller) -> None:
    message = question(spot=[97.53])
    message.id, message.model_version = "a question", "2.0.0"
    answer = caller.infer(message)
    assert (answer.model_name, answer.model_version, answer.id) == ("black-scholes", "2.0.0", "a question")
    assert {name: value.string_param for name, value in answer.parameters.items()} == {
        "method": "model", "engine": "litert",
    }  # fmt: skip
    assert [(o.name, o.datatype, list(o.shape)) for o in answer.outputs] == [(name, "FP64", [1]) for name in OUTPUTS]
    with both.client() as client:
        plain = client.post("/predict", json={**OPTION, "spot": 97.53}).json()
    assert {name: column(answer, name) for name in OUTPUTS} == {name: [plain[name]] for name in OUTPUTS}
    assert not answer.raw_output_contents
    assert caller.infer(message).parameters["method"].string_param == "cache"


def test_the_usual_question_is_answered_as_any_other(caller: Caller) -> None:
    """Put together of what is always alike it is the same message, but for the id of the question."""
    for wanted in (None, ["rho", "price"], ["error_bound.price"], ["price", "method"]):
        usual, other = question(outputs=wanted, spot=[96.5]), question(outputs=wanted, spot=[96.5])
        caller.infer(usual)  # now it is in the cache for both
        other.id = "another"
        first, second = caller.infer(usual), caller.infer(other)
        assert second.id == "another"
        second.id = ""
        assert first == second
        assert first.outputs[0].name == (wanted or OUTPUTS)[0]


def test_what_comes_raw_is_answered_raw_and_the_same(caller: Caller) -> None:
    changed: dict[str, Any] = {"spot": [100.0, 101.0, 102.0], "volatility": [0.2, 0.9, 0.2]}
    wanted = ["rho", "reason", "price"]
    typed = caller.infer(question(3, wanted, **changed))
    raw = caller.infer(question(3, wanted, as_bytes=True, **changed))
    assert [output.name for output in raw.outputs] == wanted
    assert not any(output.HasField("contents") for output in raw.outputs)
    rho, reason, price = raw.raw_output_contents
    for name, content in (("rho", rho), ("price", price)):
        assert np.frombuffer(content, "<f8").tolist() == column(typed, name)
    assert reason == b"\0\0\0\0" + b"\r\0\0\0out_of_domain" + b"\0\0\0\0"
    assert column(typed, "reason") == [b"", b"out_of_domain", b""]


def test_ten_thousand_options_go_there_and_back_raw(caller: Caller) -> None:
    answer = caller.infer(question(10_000, as_bytes=True, spot=list(np.linspace(60, 200, 10_000))))
    prices = np.frombuffer(answer.raw_output_contents[0], "<f8")
    assert len(prices) == 10_000
    assert np.all(np.diff(prices) <= 0)


def test_exact_goes_past_the_cache(caller: Caller) -> None:
    message = question(outputs=["method"])
    caller.infer(message)
    message.parameters["exact"].bool_param = True
    assert column(caller.infer(message), "method") == [b"model"]
    message.parameters["exact"].string_param = "true"
    assert "exact must be true or false" in refused(caller.infer(message))
    message.parameters["exact"].Clear()
    assert "exact must be true or false" in refused(caller.infer(message))


def test_what_is_absent_has_its_default_and_other_parameters_change_nothing(caller: Caller) -> None:
    message = question(kind=None)
    message.parameters["priority"].int64_param = 3
    message.parameters["share"].double_param = 0.5
    message.parameters["large"].uint64_param = 2**64 - 1
    call = column(caller.infer(message), "price")
    assert call == column(caller.infer(question(kind=["call"], dividend_yield=[0.0])), "price")


@pytest.mark.parametrize("datatype", [each for each in FIELDS if each != "BYTES"])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_number_may_be_of_any_datatype_of_numbers(caller: Caller, datatype: str, as_bytes: bool) -> None:
    spots = tensor("spot", [100, 101], datatype, [2, 1])
    same = question(2, ["price"], as_bytes, spot=[100.0, 101.0])
    caller.infer(same)  # now both are in the cache, whichever test was first
    assert caller.infer(question(2, ["price"], as_bytes, spot=spots)) == caller.infer(same)


def test_half_precision_comes_raw_only(caller: Caller) -> None:
    spot = tensor("spot", [100.0], "FP16")
    assert column_raw(caller.infer(question(1, ["price"], True, spot=spot))) == pytest.approx([PRICE], abs=1e-4)
    assert "FP16 has no typed contents" in refused(caller.infer(question(1, ["price"], False, spot=spot)))


def column_raw(answer: Any) -> list[float]:
    found: list[float] = np.frombuffer(answer.raw_output_contents[0], "<f8").tolist()
    return found


def with_other(message: Any) -> None:
    message.inputs[0].contents.int64_contents.append(100)


def with_wrong(message: Any) -> None:
    del message.inputs[0].contents.fp64_contents[:]
    message.inputs[0].contents.fp32_contents.append(100)


def without(message: Any) -> None:
    message.inputs[0].ClearField("contents")


def unnamed(message: Any) -> None:
    message.inputs.add(name="", datatype="FP64", shape=[1])


def twice(message: Any) -> None:
    message.inputs.add().CopyFrom(message.inputs[0])


def nothing(message: Any) -> None:
    del message.inputs[:]


def skewed(message: Any) -> None:
    message.inputs[0].name = "skew"


def shared(message: Any) -> None:
    message.inputs[0].parameters["shared_memory_region"].string_param = "x"


def classes(message: Any) -> None:
    message.outputs.add(name="price").parameters["classification"].int64_param = 3


def vanna(message: Any) -> None:
    message.outputs.add(name="vanna")


def price_twice(message: Any) -> None:
    message.outputs.add(name="price")
    message.outputs.add(name="price")


def no_shape(message: Any) -> None:
    del message.inputs[0].shape[:]


def long_shape(message: Any) -> None:
    message.inputs[0].shape[0] = 2**62


def no_text(message: Any) -> None:
    message.inputs[-1].contents.bytes_contents[0] = b"\xff"


TYPED: dict[str, tuple[Callable[[Any], None], str]] = {
    "in two fields": (with_other, "spot has int64_contents; the elements of FP64 belong into fp64_contents"),
    "in another field": (with_wrong, "spot has fp32_contents; the elements of FP64 belong into fp64_contents"),
    "no contents": (without, "spot has 0 elements; its shape is [1]"),
    "no name": (unnamed, "'' is no input of black-scholes"),
    "twice": (twice, "spot is given more than once"),
    "no inputs": (nothing, "inputs is empty"),
    "an input of another": (skewed, "'skew' is no input of black-scholes"),
    "memory of its own": (shared, "'spot' has the parameter shared_memory_region"),
    "classes": (classes, "'price' has the parameter classification"),
    "an output of another": (vanna, "'vanna' is no output of black-scholes; there are price"),
    "an output twice": (price_twice, "price is asked for more than once"),
    "no shape": (no_shape, "spot has the shape []"),
    "more than fits": (long_shape, "strike has 1 elements, spot has 4611686018427387904"),
    "no text": (no_text, "kind has an element that is no UTF-8 text"),
}


@pytest.mark.parametrize(("change", "words"), TYPED.values(), ids=TYPED.keys())
def test_a_request_that_cannot_be_answered_is_refused_with_the_reason(
    caller: Caller, change: Callable[[Any], None], words: str
) -> None:
    message = question()
    change(message)
    assert words in refused(caller.infer(message))


def test_a_value_that_cannot_be_read_is_refused_by_its_name(caller: Caller) -> None:
    def said(**changed: Any) -> str:
        return refused(caller.infer(question(**changed)))

    assert "rate is missing" in said(rate=None)
    assert "spot has an integer outside INT8" in said(spot=tensor("spot", [300], "INT8"))
    assert "spot has the datatype 'BOOL'; send FP64" in said(spot=tensor("spot", [1.0], "BOOL"))
    assert "kind has the datatype 'FP64'; send BYTES" in said(kind=tensor("kind", [1.0], "FP64"))
    assert "kind: element 0 is 'straddle'" in said(kind=["straddle"])
    assert "spot is nan, which is not finite" in said(spot=[float("nan")])
    assert "item 1: spot is -1.0" in said(count=2, spot=[100.0, -1.0])


RAW: dict[str, tuple[int, bytes | None, str]] = {
    "one too few": (0, None, "raw_input_contents has 5 elements for 6 inputs; one for each"),
    "cut short": (0, b"\0" * 7, "spot has 7 bytes; 1 of FP64 are 8"),
    "too long": (0, b"\0" * 9, "spot has 9 bytes"),
    "empty": (0, b"", "spot has 0 bytes"),
    "not a number": (0, b"\0\0\0\0\0\0\xf8\x7f", "spot is nan, which is not finite"),
    "half a length": (5, b"\3\0", "kind ends within the length of element 0"),
    "half a word": (5, b"\3\0\0\0pu", "kind: element 0 states 3 bytes, and 2 are left"),
    "two words": (5, b"\3\0\0\0put" * 2, "kind has 2 elements; its shape is [1]"),
    "no text": (5, b"\1\0\0\0\xff", "kind has an element that is no UTF-8 text"),
}


@pytest.mark.parametrize(("place", "content", "words"), RAW.values(), ids=RAW.keys())
def test_raw_contents_that_are_not_as_they_should_be_are_refused(
    caller: Caller, place: int, content: bytes | None, words: str
) -> None:
    message = question(as_bytes=True)
    if content is None:
        del message.raw_input_contents[place]
    else:
        message.raw_input_contents[place] = content
    assert words in refused(caller.infer(message))


def test_raw_and_typed_contents_at_once_are_refused(caller: Caller) -> None:
    message = question(as_bytes=True)
    message.inputs[0].contents.fp64_contents.append(100.0)
    assert "spot has contents, and there are raw_input_contents" in refused(caller.infer(message))


@pytest.mark.parametrize("message", [b"\xff", b"\x0a\xff", b"\x2a\x02\x0a", b"GET / HTTP/1.1", b"\x0a\x01\xff"])
def test_bytes_that_are_no_message_are_refused(caller: Caller, message: bytes) -> None:
    assert "no ModelInferRequest" in refused(caller.infer(message))
    assert "no ModelReadyRequest" in refused(caller("ModelReady", message))


def test_the_limits_are_those_of_predict(caller: Caller) -> None:
    assert "10001 items; at most 10000" in refused(caller.infer(question(10_001, as_bytes=True)))
    refused(caller.infer(b"\x0a" + b"x" * (4 * 1024 * 1024)), STATUS.RESOURCE_EXHAUSTED)


def test_a_compressed_bomb_is_never_inflated(both: ServerProcess) -> None:
    """Four million zeros in four thousand bytes, sixteen times: within the limit of a message, and yet refused."""
    before = both.resident_mib()
    packed = grpc.insecure_channel(address(both), compression=grpc.Compression.Gzip)
    asking = packed.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    calls = [asking.future(b"\0" * 4_000_000, timeout=30) for _ in range(16)]
    assert {call.code() for call in calls} == {STATUS.UNIMPLEMENTED}
    assert both.resident_mib() < before + 20
    packed.close()


def test_one_call_is_one_event_however_many_items_it_carries(both: ServerProcess, caller: Caller) -> None:
    def counted() -> list[float]:
        metrics = both.metrics()
        calls = [("ok", "live"), ("refused", "live"), ("error", "live"), ("ok", "probe")]
        names = [f'pinn_requests_total{{outcome="{outcome}",source="{source}"}}' for outcome, source in calls]
        items = [f'pinn_predictions_total{{method="{method}",source="live"}}' for method in ("cache", "model")]
        return [*(metrics[name] for name in names), sum(metrics[name] for name in items)]

    before = counted()
    caller.infer(question(300))
    refused(caller.infer(question(spot=None)))
    caller.infer(question(), **{"pinn-source": "probe"})
    caller("ServerReady", messages.ServerReadyRequest())
    assert [after - b for after, b in zip(counted(), before, strict=True)] == [1, 1, 0, 1, 300]


def test_an_overloaded_server_says_when_to_come_back_however_it_is_asked() -> None:
    """One set of limits for all ways in: with it taken by lists over HTTP, a call is told to wait; who only asks is answered."""
    with ServerProcess.started(concurrency="1", queue="0", timeout="20s", grpc_port=str(free_port())) as server:
        done = threading.Event()

        def keep() -> None:
            with server.client() as busy:
                while not done.is_set():
                    busy.post("/predict", json=[OPTION] * 10_000)

        thread = threading.Thread(target=keep)
        thread.start()
        try:
            with Caller(address(server), ("grpc.enable_retries", 0)) as caller:
                answers = (caller.infer(question()) for _ in range(5000))
                late = next(answer for answer in answers if isinstance(answer, Refused))
                assert caller("ServerReady", messages.ServerReadyRequest()).ready
        finally:
            done.set()
            thread.join()
        assert "busy with 1 requests" in refused(late, STATUS.RESOURCE_EXHAUSTED)
        assert (late.trailing["retry-after"], late.trailing["grpc-retry-pushback-ms"]) == ("1", "1000")


@pytest.mark.parametrize("method", ["ModelInfer", "ServerLive", "ModelMetadata"])
def test_who_never_sends_what_was_announced_is_cut_off(method: str) -> None:
    with ServerProcess.started(timeout="500ms", grpc_port=str(free_port())) as server:
        over = threading.Event()

        def silent() -> Iterator[bytes]:
            over.wait(60)
            yield from ()

        with Caller(address(server)) as caller:
            asking = caller.channel.stream_unary(f"/inference.GRPCInferenceService/{method}")
            with pytest.raises(grpc.RpcError) as caught:
                asking(silent(), timeout=30)
            over.set()
            assert caught.value.code() is STATUS.DEADLINE_EXCEEDED
            assert "the body did not arrive within" in caught.value.details()
            refused(caller.infer(question(spot=[-1.0])))
            assert column(caller.infer(question()), "price") == pytest.approx([PRICE], abs=1e-4)
            with pytest.raises(grpc.RpcError) as caught:
                asking(iter(()), timeout=30)
            assert "ends without a message" in caught.value.details()


def test_a_caller_who_gives_up_does_no_harm(both: ServerProcess, caller: Caller) -> None:
    asking = caller.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    long = question(10_000, as_bytes=True).SerializeToString()
    for pause in (0.0, 0.001, 0.003, 0.01):
        future = asking.future(long)
        time.sleep(pause)  # so that it is given up at one point or another of its way
        future.cancel()
    assert column(caller.infer(question()), "price") == pytest.approx([PRICE], abs=1e-4)
    assert both.process.poll() is None


def test_a_call_is_counted_though_its_caller_gives_up(both: ServerProcess, caller: Caller) -> None:
    def counted() -> float:
        names = [f'pinn_requests_total{{outcome="{outcome}",source="shadow"}}' for outcome in ("ok", "refused")]
        return sum(both.metrics()[name] for name in names)

    caller.infer(question())
    so_far, before = counted(), both.cpu_seconds()
    asking = caller.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    long = question(10_000, as_bytes=True, maturity=[5.0] * 10_000)  # for the solver: it takes longer than the model
    future = asking.future(long.SerializeToString(), metadata=(("pinn-source", "shadow"),))
    eventually(lambda: both.cpu_seconds() > before + 0.02)
    future.cancel()
    eventually(lambda: counted() == so_far + 1)


# ------------------------------------------------------------------------------------------ the port's life


def test_a_server_that_drains_answers_and_is_not_ready() -> None:
    with ServerProcess.started(drain="30s", grpc_port=str(free_port())) as server, Caller(address(server)) as caller:
        assert caller("ServerReady", messages.ServerReadyRequest()).ready
        server.terminate()
        eventually(lambda: not caller("ServerReady", messages.ServerReadyRequest()).ready)
        assert not caller("ModelReady", messages.ModelReadyRequest(name="black-scholes")).ready
        assert caller("ServerLive", messages.ServerLiveRequest()).live
        assert column(caller.infer(question()), "price") == pytest.approx([PRICE], abs=1e-4)


def test_a_server_that_is_gone_is_unavailable() -> None:
    with ServerProcess.started(drain="0", grpc_port=str(free_port())) as server, Caller(address(server)) as caller:
        caller.infer(question())
        server.terminate()
        assert server.wait() == 0
        refused(caller.infer(question()), STATUS.UNAVAILABLE)


def test_what_is_in_flight_is_finished_even_without_a_drain() -> None:
    with ServerProcess.started(drain="0", grpc_port=str(free_port())) as server, Caller(address(server)) as caller:
        caller.infer(question())
        before = server.cpu_seconds()
        asking = caller.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        future = asking.future(question(10_000, as_bytes=True).SerializeToString(), timeout=30)
        eventually(lambda: server.cpu_seconds() > before + 0.02)
        server.terminate()
        answer = messages.ModelInferResponse.FromString(future.result())
        assert len(answer.raw_output_contents[0]) == 80_000
        assert server.wait() == 0


class Service:
    """As a Service does: a new connection goes to a server that is ready, in turns; an old one stays where it is."""

    def __init__(self, *servers: ServerProcess) -> None:
        self._servers, self.port, self.connections = itertools.cycle(servers), 0, 0
        self._opened, self._over = threading.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._opened.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with await asyncio.start_server(self._carry, "127.0.0.1", 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            self._opened.set()
            await self._over.wait()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not await ready((server := next(self._servers)).port):
            pass
        host, _, port = address(server).rpartition(":")
        there, back = await asyncio.open_connection(host, int(port))
        self.connections += 1
        await asyncio.gather(self._copy(reader, back), self._copy(there, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
        writer.close()


class Clients:
    """Callers of a Service, each over a connection of its own while that lives.

    As they come: what gRPC's library had not sent yet when it heard that a connection ends, it sends over the next one. What
    has been sent it asks no second time.
    """

    def __init__(self, port: int) -> None:
        self._port, self.done = port, threading.Event()
        self.lost: list[Refused] = []
        self.answered = 0

    def run(self) -> None:
        with Caller(f"127.0.0.1:{self._port}", ("grpc.use_local_subchannel_pool", 1)) as caller:
            while not self.done.is_set():
                answer = caller.infer(question())
                if isinstance(answer, Refused):
                    self.lost.append(answer)
                else:
                    self.answered += 1


def calls(server: ServerProcess) -> float:
    """How many it has answered."""
    return server.metrics()['pinn_requests_total{outcome="ok",source="live"}']


def test_a_rolling_update_loses_no_call() -> None:
    with (
        ServerProcess.started(drain="2s", grpc_port=str(free_port())) as old,
        ServerProcess.started(drain="2s", grpc_port=str(free_port())) as new,
        Service(old, new) as service,
    ):
        clients = Clients(service.port)
        threads = [threading.Thread(target=clients.run) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            eventually(lambda: min(calls(old), calls(new)) > 20, 60)
            old.terminate()
            assert old.wait() == 0
            so_far = calls(new)
            eventually(lambda: calls(new) > so_far + 100, 60)
        finally:
            clients.done.set()
            for thread in threads:
                thread.join()
        assert clients.lost == []
        assert clients.answered > 100
        assert service.connections > len(threads)


def test_every_connection_has_been_told_to_end_before_a_drain_does() -> None:
    assert [age(drain) for drain in (0.0, 1.0, 5.0, 60.0)] == [AGE, 0.8, AGE, AGE]


def test_a_server_with_everything_on_is_small(both: ServerProcess, caller: Caller) -> None:
    caller.infer(question())
    assert both.resident_mib() < 120


def test_a_server_without_grpc_does_without_its_library(server: ServerProcess, both: ServerProcess) -> None:
    httpx.post(f"{server.url}{INFER}", json=request(), trust_env=False)
    loaded = [Path(f"/proc/{each.process.pid}/maps").read_text() for each in (server, both)]
    assert ["_upb" in each for each in loaded] == [False, True]
    assert "grpc" not in server.log[-1]


def test_a_port_that_is_taken_is_one_sentence(both: ServerProcess) -> None:
    port = address(both).rpartition(":")[2]
    ended = run("serve", "--host", "127.0.0.1", "--port", "0", "--admin-port", "0", PINN_SERVER_GRPC_PORT=port)
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: address already in use" in ended.stderr
